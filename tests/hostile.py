"""Files that a stranger may have written: real small ones, edited; and seeded damage to them."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from roofline import pipeline, source
from roofline.device import lookup
from roofline.records import RooflineError, Trace


def traced(model: str, **asked: Any) -> Trace:
    return pipeline.trace_source(source.resolve(model, **asked), lookup("t4"))


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
            holder[key] = random_.choice(_ODD)


def refused_or_fine(model: str, what: object, **asked: Any) -> str:
    """The refusal of a file, empty where it was read: exit code 2 and lines that a person can read, never another exception."""
    try:
        traced(model, **asked)
        return ""
    except RooflineError as error:
        refusal = error
    text = str(refusal)
    assert refusal.exit_code == 2, (what, text)
    assert text.count("\n") <= 1, (what, text)
    assert all(len(line) < 1000 for line in text.split("\n")), (what, text)
    return text
