"""A config.json is data: it names no code, no file and nothing on the hub, and asks for no more than a model can be."""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hostile import damaged, refused_or_fine, traced, wrong
from oracles import llama

from roofline.errors import SourceError, UsageError

LLAMA: dict[str, Any] = llama.CONFIG | {"num_hidden_layers": 2}
LLAVA: dict[str, Any] = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "text_config": {**LLAMA},
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 32, "num_hidden_layers": 2},
}
DETR: dict[str, Any] = {"model_type": "detr", "architectures": ["DetrModel"], "d_model": 32, "encoder_layers": 1}
TIMM: dict[str, Any] = {"model_type": "timm_wrapper", "architecture": "resnet18", "num_labels": 10}


@pytest.fixture(autouse=True)
def cut_off(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Connections that were tried; none succeeds."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        tried.append(arguments[-1:])
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def written(folder: Path, table: Any) -> str:
    path = folder / "config.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table), encoding="utf-8")
    return f"hf:{path}"


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("auto_map", LLAMA | {"auto_map": {"AutoModel": "evil.Model"}}, "`auto_map`.*is not run"),
    ("auto_map text", LLAMA | {"auto_map": "evil--evil.Model"}, "`auto_map`.*is not run"),
    ("inner auto_map", LLAVA | {"text_config": LLAMA | {"auto_map": {"AutoModel": "evil.Model"}}}, "remove text_config.auto"),
    ("inner of a list", LLAMA | {"parts": [{"auto_map": {"AutoModel": "evil.M"}}]}, "remove parts.0.auto_map"),
    ("trust", LLAMA | {"trust_remote_code": True}, "`trust_remote_code`.*is not done"),
    ("pipelines", LLAMA | {"custom_pipelines": {"x": {"impl": "evil.P"}}}, "`custom_pipelines`.*is not run"),
    ("kernel", LLAMA | {"_attn_implementation": "kernels-community/flash-attn"}, "a file may name eager, sdpa"),
    ("kernel at", LLAMA | {"attn_implementation": "evil/kernel@main:run"}, "fetched or imported"),
    ("kernel table", LLAVA | {"attn_implementation": {"text_config": "evil/kernel"}}, "fetched or imported"),
    ("inner kernel", LLAVA | {"vision_config": {"model_type": "clip_vision_model", "_attn_implementation": "a/b"}}, "fetched"),
    ("internal", LLAMA | {"_attn_implementation_internal": "flash_attention_2"}, "fetched or imported"),
    ("experts", LLAMA | {"_experts_implementation": "evil/experts"}, "fetched or imported"),
    ("dtype", LLAMA | {"torch_dtype": "os"}, "torch_dtype is 'os', which is no dtype"),
    ("dtype path", LLAMA | {"dtype": "torch.hub"}, "dtype is 'torch.hub', which is no dtype"),
    ("inner dtype", LLAVA | {"text_config": LLAMA | {"router_dtype": "load"}}, "router_dtype is 'load', which is no dtype"),
    ("function", LLAMA | {"architectures": ["pipeline"]}, "'pipeline', which is no model of transformers"),
    ("tokenizer", LLAMA | {"architectures": ["AutoTokenizer"]}, "'AutoTokenizer', which is no model"),
    ("module", LLAMA | {"architectures": ["utils"]}, "'utils', which is no model"),
    ("dunder", LLAMA | {"architectures": ["__loader__"]}, "'__loader__', which is no model"),
    ("config class", LLAMA | {"architectures": ["LlamaConfig"]}, "'LlamaConfig', which is no model"),
    ("near", LLAMA | {"architectures": ["LlamaForCausalML"]}, "did you mean LlamaForCausalLM"),
    ("no text", LLAMA | {"architectures": [{"a": 1}]}, "no list of names|rejects"),
    ("method", LLAMA | {"to_dict": "x"}, "to_dict is no field"),
    ("class", LLAMA | {"__class__": "x"}, "__class__ is no field"),
    ("hub backbone", DETR | {"backbone": "evil/backbone", "use_timm_backbone": False}, "and nothing elsewhere"),
    ("folder backbone", DETR | {"backbone": "./here", "use_timm_backbone": False}, "and nothing elsewhere"),
    ("timm hub", TIMM | {"architecture": "hf-hub:evil/model"}, "and nothing elsewhere"),
    ("timm folder", TIMM | {"architecture": "local-dir:/tmp"}, "and nothing elsewhere"),
    ("timm weights", TIMM | {"model_args": {"checkpoint_path": "w.pth"}}, "`checkpoint_path`.*is not done"),
    ("timm address", TIMM | {"model_args": {"pretrained_cfg_overlay": {"url": "http://x/w"}}}, "`pretrained_cfg_overlay`"),
    ("timm pretrained", TIMM | {"model_args": {"pretrained": True}}, "asks for weights"),
    ("layers", LLAMA | {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; the limit for it in a file is 10,000"),
    ("inner layers", LLAVA | {"vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 10**6}}, "is 10,000"),
    ("no layers", LLAMA | {"num_hidden_layers": -1}, "num_hidden_layers is -1, which is below zero"),
    ("labels", LLAMA | {"num_labels": 10**9}, "the limit for it in a file is 1,000,000"),
    ("digits", LLAMA | {"hidden_size": 10**400}, "a number of more than 40 digits; the limit for it"),
    ("many digits", LLAMA | {"hidden_size": 1}, "DIGITS"),
]


@pytest.mark.parametrize(("table", "words"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_nothing_is_run_fetched_or_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_off: list[Any], table: dict[str, Any], words: str
) -> None:
    """The folder beside it holds the code that it names, and weights that run code when they are unpickled."""
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Model: pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    text = json.dumps(table)
    if words == "DIGITS":
        text, words = text.replace('"hidden_size": 1', '"hidden_size": 1' + "0" * 5000), "not readable as JSON"
    with pytest.raises(SourceError, match=words) as caught:
        traced(written(tmp_path, text))
    assert caught.value.exit_code == 2
    assert all(len(line) < 1000 for line in str(caught.value).split("\n"))
    assert not mark.exists()
    assert "evil" not in sys.modules
    assert cut_off == []


def test_a_backbone_that_transformers_asks_the_hub_for(tmp_path: Path, cut_off: list[Any]) -> None:
    """A plain name is a request all the same: transformers looks whether the hub has it. It is stopped before it connects."""
    text = refused_or_fine(written(tmp_path, DETR | {"backbone": "resnet18", "use_timm_backbone": False}), "backbone")
    assert "rejects" in text or "could not be built" in text
    assert cut_off == []


def test_what_a_file_may_say(tmp_path: Path, cut_off: list[Any]) -> None:
    """The same values in their harmless form, labels that look like fields, and how weights are packed."""
    plain = LLAMA | {
        "_attn_implementation": "sdpa",
        "torch_dtype": "bfloat16",
        "auto_map": {},
        "trust_remote_code": False,
        "id2label": {"0": "auto_map", "1": "update"},
        "label2id": {"update": 1, "__class__": 0},
    }
    assert traced(written(tmp_path, plain), inputs=("input_ids=1,4:int64",)).model.params > 0
    del plain["architectures"]
    assert traced(written(tmp_path, plain), inputs=("input_ids=1,4:int64",)).model.params > 0


def test_files_that_have_no_end(tmp_path: Path) -> None:
    pipe = tmp_path / "config.json"
    os.mkfifo(pipe)
    begin = time.perf_counter()
    with pytest.raises(UsageError, match=r"no such file|not a file"):
        traced(f"hf:{pipe}")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"no such file|not a file"):
        traced(f"hf:{tmp_path / 'zero.json'}")
    (tmp_path / "large.json").write_bytes(b" " * (16 * 2**20 + 1))
    with pytest.raises(SourceError, match="larger than 16 MiB, the limit"):
        traced(f"hf:{tmp_path / 'large.json'}")
    assert time.perf_counter() - begin < 10


def test_depth_has_an_end(tmp_path: Path) -> None:
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    with pytest.raises(SourceError, match=r"not readable as JSON|nested more than 64 deep"):
        traced(written(tmp_path, deep))
    with pytest.raises(SourceError, match="nested more than 64 deep, the limit for a configuration"):
        traced(written(tmp_path, LLAMA | {"x": json.loads("[" * 100 + "]" * 100)}))


@pytest.mark.slow
def test_damage(tmp_path: Path, cut_off: list[Any]) -> None:
    """80 files, cut, flipped or with wrong values. One that transformers accepts may be of a model that fails: 3."""
    refused = 0
    for seed in range(80):
        r = random.Random(seed)
        table = json.loads(json.dumps(LLAMA))
        path = tmp_path / "config.json"
        if seed % 2:
            wrong(table, r)
            written(tmp_path, table)
        else:
            path.write_bytes(damaged(json.dumps(table).encode(), r))
        refused += bool(refused_or_fine(f"hf:{path}", seed, (2, 3), inputs=("input_ids=1,4:int64",)))
    assert refused > 50
    assert cut_off == []
