"""Small files of weights, written by hand as their formats say."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


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
