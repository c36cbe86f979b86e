"""Files of weights and of other programs: one true line each, and a configuration beside weights is the model."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
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


def safetensors(path: Path) -> Path:
    """[4, 8] in bf16 and [3] in fp32: 35 numbers, 76 bytes."""
    table: dict[str, Any] = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]},
        "b": {"dtype": "F32", "shape": [3], "data_offsets": [64, 76]},
    }
    header = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 76)
    return path


def gguf(path: Path) -> Path:
    """[64, 2] in Q4_0, 18 bytes for each 32 numbers, and [4] in F32: 132 numbers, 88 bytes."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    fields = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<2f", 1, 2),
    ]
    tensors = [text("w") + struct.pack("<IQQIQ", 2, 64, 2, 2, 0), text("b") + struct.pack("<IQIQ", 1, 4, 0, 72)]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields)) + b"".join(fields + tensors) + b"\0" * 88)
    return path


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
