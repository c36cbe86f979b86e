"""Files of weights and of other programs: one true line each, and a configuration beside weights is the model."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
import torch
from checkpoints import gguf, safetensors
from hostile import damaged, traced
from torch import nn

from roofline.errors import RooflineError, SourceError, UsageError
from roofline.sources.checkpoints import headers

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 100,
}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("w.safetensors", r"2 tensors, 35 numbers, 76 B \(BF16, F32\)"),
        ("w.gguf", r"2 tensors, 132 numbers, 88 B \(Q4_0, F32\), of a 'llama'"),
    ],
)
def test_headers(tmp_path: Path, name: str, words: str) -> None:
    path = (gguf if name.endswith("gguf") else safetensors)(tmp_path / name)
    with pytest.raises(UsageError, match=f"holds weights and no model: {words}\nput the model's config.json beside it"):
        traced(str(path))
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    trace = traced(str(path), inputs=("input_ids=1,8:int64",))
    assert trace.model.params == 2 * 100 * 32 + 4 * 32 * 32 + 3 * 32 * 64 + 3 * 32
    said = words.replace("\\", "")
    assert f"{name} stores {said}; the model is the config.json beside it" in trace.notes


def test_headers_that_do_not_fit_their_file(tmp_path: Path) -> None:
    """A download that broke off, and bytes that are not those of the shape: 76 and 88 bytes of weights stand in whole ones."""
    for name, whole in (("w.safetensors", safetensors(tmp_path / "w.safetensors")), ("w.gguf", gguf(tmp_path / "w.gguf"))):
        data = whole.read_bytes()
        whole.write_bytes(data[:-1])
        with pytest.raises(
            SourceError, match=f"{name} is not a whole .*: its tensors end at byte {len(data)} of {len(data) - 1}"
        ):
            headers.read(whole)
    for place, words in (
        (b"[64, 99]", "'b' is 12 bytes by its shape and 35 by its place"),
        (b"[-9, -1]", "'b' lies at no place of a file"),
        (b'["a",""]', "'b' lies at no place of a file"),
        (b"[64,  7,", "its header is not as the format has it|Expecting value"),
    ):
        path = safetensors(tmp_path / "w.safetensors")
        path.write_bytes(path.read_bytes().replace(b"[64, 76]", place) + b"\0" * 99)
        with pytest.raises(SourceError, match=words):
            headers.read(path)


def test_an_index_of_several_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 2048}, "weight_map": {"a": "1", "b": "2", "c": "2"}}))
    with pytest.raises(UsageError, match="holds weights and no model: 3 tensors in 2 files, 2 KiB"):
        traced(str(path))
    path.write_text('{"metadata": []}')
    with pytest.raises(SourceError, match="is no list of files of weights"):
        traced(str(path))


def test_pickles_are_named_and_not_opened(tmp_path: Path) -> None:
    """A state dict, a whole model, a program of TorchScript, and a file that is none of these."""
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "weights.pt")
    torch.save(nn.Linear(3, 4), tmp_path / "model.pth")
    torch.jit.save(torch.jit.trace(nn.Linear(3, 4), torch.rand(1, 3)), str(tmp_path / "script.pt"))
    (tmp_path / "junk.bin").write_bytes(b"\x80\x02c")
    for name, words in (
        ("weights.pt", r"holds weights without a model \(a state dict\); to open a pickle is to run it"),
        ("model.pth", "holds a pickled torch.nn.modules.linear.Linear; to open a pickle is to run it"),
        ("script.pt", "is a program of TorchScript, which runs code when it is loaded"),
        ("junk.bin", "a pickled model runs code when it is loaded"),
        ("absent.pt", "no such file: .*absent.pt"),
    ):
        with pytest.raises(UsageError, match=words):
            traced(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m.tflite", "is a model of TensorFlow Lite, which is not read here\ngive the PyTorch model"),
        ("m.engine", "is an engine of TensorRT"),
        ("m.h5", "is a file of Keras"),
    ],
)
def test_models_of_other_programs(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=words):
        traced(str(tmp_path / name))


@pytest.mark.parametrize("name", ["bert-base-uncased", "meta-llama/Llama-3.1-8B", "google/vit-base-patch16-224"])
def test_names_of_the_hub(name: str) -> None:
    with pytest.raises(RooflineError, match=r"nothing is downloaded, so a model of the .* hub is given by .*hf:BertModel"):
        traced(name)


@pytest.mark.parametrize("name", ["w.safetensors", "w.gguf"])
def test_damaged_headers(tmp_path: Path, name: str) -> None:
    """Read, or refused in a line; nothing else."""
    whole = (gguf if name.endswith("gguf") else safetensors)(tmp_path / name).read_bytes()
    refused = 0
    for seed in range(300):
        (tmp_path / name).write_bytes(damaged(whole, random.Random(seed)))
        try:
            said = headers.read(tmp_path / name)
        except SourceError as error:
            refused += 1
            said = str(error)
        assert len(said) < 600, seed
        assert "\n" not in said, seed
    assert refused > 100
    (tmp_path / name).write_bytes((b"GGUF" + struct.pack("<I", 3) if name.endswith("gguf") else b"") + b"\xff" * 64)
    with pytest.raises(SourceError, match="is not a whole"):
        headers.read(tmp_path / name)
