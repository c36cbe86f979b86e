"""What a file of weights says of itself: how many numbers, in which dtypes, how many bytes. No weight is read."""

from __future__ import annotations

import json
import math
import os
import pickletools
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from roofline import files, units
from roofline.errors import SourceError

# Bytes of a header: of safetensors as its own readers have it, of GGUF with its vocabulary; and of a pickle's program.
HEADER, PICKLE = 100 * 2**20, 16 * 2**20
COUNT, DEPTH = 1_000_000, 8
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4, "C64": 64, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
# ggml's types: name, numbers in a block, bytes of a block
_GGML = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
# GGUF's types of values -> struct's letters
_VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read(path: Path) -> str:
    """What a file of safetensors or GGUF stores, in words. Raises SourceError where it is damaged."""
    try:
        with path.open("rb") as file:
            return _gguf(file) if path.suffix.lower() == ".gguf" else _safetensors(file)
    except (LookupError, TypeError, AttributeError, struct.error, RecursionError, OverflowError) as error:
        raise SourceError(f"{path} is not a whole {path.suffix[1:]} file: its header is not as the format has it") from error
    except ValueError as error:
        raise SourceError(f"{path} is not a whole {path.suffix[1:]} file: {' '.join(str(error).split())[:200]}") from error
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def index(path: Path) -> str:
    """What the list of a model's several files says. Raises SourceError where it is damaged."""
    try:
        table = json.loads(files.content(path, files.CONFIG))
        size, names = table["metadata"]["total_size"], table["weight_map"]
        return f"{len(names):,} tensors in {len(set(names.values())):,} files, {units.binary(int(size))}"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise SourceError(f"{path} is no list of files of weights: {' '.join(str(error).split())[:200]}") from error


def _said(tensors: Iterable[tuple[str, int, int]]) -> str:
    """(dtype, numbers, bytes) of tensors -> "201 tensors, 1,235,814,400 numbers, 2.3 GiB (BF16)"."""
    found = list(tensors)
    kinds = Counter[str]()
    for dtype, _, nbytes in found:
        kinds[dtype] += nbytes
    numbers, nbytes = sum(n for _, n, _ in found), sum(b for *_, b in found)
    if numbers > 2**60:
        raise ValueError("more than 2^60 numbers")
    dtypes = ", ".join(dtype for dtype, _ in kinds.most_common(4))
    return f"{len(found):,} tensors, {numbers:,} numbers, {units.binary(nbytes)}{f' ({dtypes})' if dtypes else ''}"


def _numel(dims: Any) -> int:
    if not isinstance(dims, list) or len(dims) > 64 or not all(type(d) is int and 0 <= d < 2**60 for d in dims):
        raise ValueError("a shape that no tensor has")
    return math.prod(dims)


def _safetensors(file: BinaryIO) -> str:
    head = file.read(8)
    if len(head) < 8:
        raise ValueError("its header is cut")
    (length,) = struct.unpack("<Q", head)
    if length > HEADER:
        raise ValueError(f"its header would be {length:,} bytes; the limit is {HEADER:,}")
    data = file.read(length)
    if len(data) < length:
        raise ValueError("its header is cut")
    table, tensors, last = json.loads(data), [], 0
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        numbers = _numel(entry["shape"])
        nbytes = numbers * _BITS[entry["dtype"]] // 8
        begin, end = entry["data_offsets"]
        if not (type(begin) is type(end) is int and 0 <= begin <= end):
            raise ValueError(f"{name[:80]!r} lies at no place of a file")
        if end - begin != nbytes:
            raise ValueError(f"{name[:80]!r} is {nbytes:,} bytes by its shape and {end - begin:,} by its place")
        tensors.append((entry["dtype"], numbers, nbytes))
        last = max(last, end)
    _reaches(file, 8 + length + last)
    return _said(tensors)


def _reaches(file: BinaryIO, end: int) -> None:
    """A file that is shorter than what its header says is one that was not fetched whole."""
    if (size := os.fstat(file.fileno()).st_size) < end:
        raise ValueError(f"its tensors end at byte {end:,} of {size:,}")


class _Reader:
    """Numbers and texts of a GGUF file, as long as its header may be."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left = file, HEADER

    def bytes(self, n: int) -> bytes:
        self.left -= n
        if self.left < 0:
            raise ValueError(f"its header passes {HEADER:,} bytes")
        data = self.file.read(n)
        if len(data) < n:
            raise ValueError("its header is cut")
        return data

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.bytes(struct.calcsize(f"<{letter}")))[0]

    def text(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.number("I"), self.number("Q")
            if depth > DEPTH or count > HEADER:
                raise ValueError("a list without end")
            if inner in _VALUES:
                return self.bytes(count * struct.calcsize(f"<{_VALUES[inner]}"))
            return [self.value(inner, depth + 1) for _ in range(count)]
        return self.number(_VALUES[kind])


def _gguf(file: BinaryIO) -> str:
    reader = _Reader(file)
    if reader.bytes(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    if (version := reader.number("I")) not in (2, 3):
        raise ValueError(f"version {version}; 2 and 3 are read here")
    count, pairs = reader.number("Q"), reader.number("Q")
    if max(count, pairs) > COUNT:
        raise ValueError("more tensors than any model has")
    fields = {reader.text(): reader.value(reader.number("I")) for _ in range(pairs)}
    tensors, last = [], 0
    for _ in range(count):
        reader.text()
        dims = [reader.number("Q") for _ in range(min(reader.number("I"), 65))]
        name, block, nbytes = _GGML[reader.number("I")]
        tensors.append((name, n := _numel(dims), size := -(-n // block) * nbytes))
        last = max(last, reader.number("Q") + size)
    _reaches(file, file.tell() + last)
    family = fields.get("general.architecture")
    return _said(tensors) + (f", of a {family[:40]!r}" if isinstance(family, str) else "")


# ------------------------------------------------------------------------------------------------ pickles

# What weights alone are made of.
_PLAIN = (
    "collections",
    "torch",
    "torch._utils",
    "torch.storage",
    "torch._tensor",
    "_codecs",
    "numpy",
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "torch.serialization",
    "builtins",
    "__builtin__",
)


def pickled(path: Path) -> str:
    """What stands in a pickled file, as far as its parts and the names of its classes tell; empty where they do not."""
    try:
        if not path.is_file():
            return ""
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(n.endswith("/constants.pkl") or "/code/" in n for n in names):
                return "TorchScript"
            inside = next(i for i in archive.infolist() if i.filename.endswith("data.pkl"))
            if inside.file_size > PICKLE:
                return ""
            classes = _classes(archive.read(inside))
    except Exception:  # an older format, or a damaged file: then the refusal says no more than that it is a pickle
        return ""
    own = [c for c in classes if c.rpartition(".")[0] not in _PLAIN]
    if own:
        return f"a pickled {own[0][:100]}"
    return "weights without a model (a state dict)" if classes else ""


def _classes(program: bytes) -> list[str]:
    """The names of classes and functions that a pickle's program asks for, in order."""
    found: list[str] = []
    texts: list[str] = []
    for code, value, _ in pickletools.genops(program):
        if code.name == "GLOBAL":
            found.append(str(value).replace(" ", "."))
        elif code.name == "STACK_GLOBAL":
            found.append(".".join(texts[-2:]))
        elif isinstance(value, str):
            texts.append(value)
    return found
