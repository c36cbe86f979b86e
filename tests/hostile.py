"""Files that a stranger may have written: real small ones, edited; and seeded damage to them."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import roofline
from roofline.analysis import document as document_
from roofline.devices.library import lookup
from roofline.errors import RooflineError
from roofline.records import Trace
from roofline.request import Ask
from roofline.sources.resolve import resolve
from roofline.sources.traced import trace_source


def traced(model: str, **asked: Any) -> Trace:
    return trace_source(resolve(Ask(model, **asked)), lookup("t4"))


def rewritten(archive: Path, target: Path, change: Callable[[str, bytes], bytes]) -> str:
    """A copy of a zip archive, whole, with its members changed."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            new.writestr(item.filename, change(item.filename, old.read(item)))
    return str(target)


def edited(archive: Path, target: Path, change: Callable[[dict[str, Any]], None], member: str = "models/model.json") -> str:
    """A copy of a .pt2 with one of its JSON documents changed."""

    def one(name: str, data: bytes) -> bytes:
        if not name.endswith(member):
            return data
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return rewritten(archive, target, one)


def damaged(data: bytes, random_: random.Random) -> bytes:
    """Cut, or with a few bits flipped."""
    if random_.random() < 0.3:
        return data[: random_.randrange(len(data))]
    out = bytearray(data)
    for _ in range(random_.choice((1, 1, 3, 20))):
        out[random_.randrange(len(out))] ^= 1 << random_.randrange(8)
    return bytes(out)


_ODD: list[Any] = [
    None, True, -1, 0, 3, 2**31, 2**53, 2**63, 10**400, 1.5, float("inf"), "", "x", "\ud800", "a\x00b", "y" * 5000, [], {},
    [[]], [1, 2], {"as_int": -5}, {"as_tensor": {"name": "nowhere"}}, {"as_none": True}, {"as_sym_int": {"as_name": "s77"}},
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from places(inner)


def wrong(document: Any, random_: random.Random) -> None:
    """One to three values of a document replaced, moved or removed."""
    for _ in range(random_.choice((1, 1, 2, 3))):
        found = list(places(document))
        if not found:
            return
        holder, key = random_.choice(found)
        deed = random_.random()
        if deed < 0.2:
            del holder[key]
        elif deed < 0.4:
            other, from_ = random_.choice(found)
            holder[key] = json.loads(json.dumps(other[from_]))
        else:
            holder[key] = copy.deepcopy(random_.choice(_ODD))


_KINDS = ("Range", "Tile", "Expand", "Einsum", "If", "Attention", "Nothing", "")
_ODD_SIZES = (0, -1, -(2**63), 1, 7, 2**31, 2**53, 2**62, 2**63 - 1)


def wrong_graph(model: Any, random_: random.Random) -> None:
    """One to three things of an ONNX model changed: an operator, an attribute, a size, who reads what."""
    graph = model.graph
    for _ in range(random_.choice((1, 1, 2, 3))):
        deed, node, other = random_.random(), random_.choice(graph.node), random_.choice(graph.node)
        attributes, held = list(node.attribute), random_.choice(graph.initializer)
        if deed < 0.15:
            node.op_type = random_.choice([other.op_type, *_KINDS])
        elif deed < 0.3 and node.input:
            node.input[random_.randrange(len(node.input))] = random_.choice([*other.output, *other.input, "nowhere", ""])
        elif deed < 0.4 and node.input:
            del node.input[random_.randrange(len(node.input))]
        elif deed < 0.45:
            node.output[random_.randrange(len(node.output))] = random_.choice([*other.output, ""])
        elif deed < 0.65 and attributes:
            a = random_.choice(attributes)
            a.i = random_.choice(_ODD_SIZES)
            if a.ints:
                a.ints[random_.randrange(len(a.ints))] = random_.choice(_ODD_SIZES)
        elif deed < 0.7 and attributes:
            node.attribute.remove(random_.choice(attributes))
        elif deed < 0.8 and held.dims:
            held.dims[random_.randrange(len(held.dims))] = random_.choice(_ODD_SIZES)
        elif deed < 0.85:
            held.data_type = random_.choice([0, 1, 7, 8, 10, 16, 22, 99])
        elif deed < 0.9 and held.data_type == 7 and held.raw_data:
            values = random_.choices(_ODD_SIZES, k=len(held.raw_data) // 8)
            held.raw_data = b"".join(v.to_bytes(8, "little", signed=True) for v in values)
        else:
            dims = random_.choice(graph.input).type.tensor_type.shape.dim
            if dims:
                random_.choice(dims).dim_value = random_.choice(_ODD_SIZES)


def refused_or_fine(model: str, what: object, codes: tuple[int, ...] = (2,), **asked: Any) -> str:
    """The refusal of a model's file, empty where it was read and analysed."""
    return refusal_of(lambda: document_.to_json(roofline.analyze(model, device="t4", cache=False, **asked)), what, codes)


def refusal_of(ask: Callable[[], Any], what: object, codes: tuple[int, ...] = (2,)) -> str:
    """The refusal of what is asked, empty where it was done: lines that a person can read, never another exception."""
    try:
        ask()
        return ""
    except RooflineError as error:
        refusal = error
    text = str(refusal)
    assert refusal.exit_code in codes, (what, text)
    assert text.count("\n") <= 1, (what, text)
    assert all(len(line) < 1000 for line in text.split("\n")), (what, text)
    return text


def damage(path: Path, write: Callable[[random.Random], None], count: int = 100) -> int:
    """Writes seeded damage to a model's file so often, each read or refused in words; how many were refused."""
    refused = 0
    for seed in range(count):
        write(random.Random(seed))
        refused += bool(refused_or_fine(str(path), seed))
    return refused
