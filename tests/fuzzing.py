"""Seeded mutants of the files that a person may hand over, and what must hold of every one of them: it is read and means
something, or it is refused in one or two lines with exit code 2; never another exception, never a number that cannot be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hostile import damaged, edited, refusal_of, refused_or_fine, rewritten, wrong, wrong_graph

import roofline
from roofline import paths
from roofline.analysis import document
from roofline.analysis.budgets import load_budgets

# What stands in place of a value of TOML.
_ODD = (
    "-1",
    "0",
    "-0.0",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "1e-300",
    "1e300",
    str(2**64),
    "9" * 400,
    '""',
    '"x"',
    '"1,2"',
    "true",
    "[]",
    "{}",
    "[[]]",
    "1979-05-27",
    '"\\u0000"',
    f'"{"y" * 2000}"',
    '"-5 GB/s"',
    '"1e20 s"',
    '"5483,032"',
    '"1e-400 ms"',
    '"½"',
    '"0 GB"',
    '"1e999 TFLOP/s"',
    '[1, "a"]',
    "{ value = -1 }",
    '"\\u001b[31mred"',
    '"::error::x"',
    "0x7fffffffffffffffffff",
)


def wrong_text(text: str, random: Random) -> str:
    """One to three lines of a TOML document with another value, another key, gone, twice or elsewhere."""
    lines = text.split("\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        i, deed = random.randrange(len(lines)), random.random()
        key, equals, _ = lines[i].partition("=")
        if equals and deed < 0.6:
            lines[i] = f"{key}= {random.choice(_ODD)}"
        elif equals and deed < 0.7:
            lines[i] = f"{key.strip()}{random.choice(['x', '.y', ' z', ''])} ={lines[i].partition('=')[2]}"
        elif deed < 0.8:
            del lines[i]
        elif deed < 0.9:
            lines.insert(random.randrange(len(lines) + 1), lines[i])
        else:
            lines.insert(i, random.choice(["[", "[[budget]]", "[x]", "=", '"', "x = [" * 80, "\x00", "a.b.c = 1"]))
        if not lines:
            return ""
    return "\n".join(lines)


class Target(NamedTuple):
    """A kind of file: writes the mutant of a Random into a folder, and judges it: its refusal, empty where it was read."""

    write: Callable[[Path, Random], Path]
    judge: Callable[[Path], str]


def _toml(source: str, name: str) -> Callable[[Path, Random], Path]:
    def write(folder: Path, random: Random) -> Path:
        path = folder / name
        if random.random() < 0.75:
            path.write_text(wrong_text(source, random), encoding="utf-8", newline="\n")
        else:
            path.write_bytes(damaged(source.encode(), random))
        return path

    return write


def device(names: tuple[str, ...] = ("rtx-4090", "i9-10940x")) -> Target:
    """A device file: what is read places a small net in a time that a machine may take."""
    import torch
    from torch import nn

    files = [next(paths.PACKAGE.rglob(f"{n}.toml")).read_text(encoding="utf-8") for n in names]
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)), torch.empty(2, 3, 8, 8)

    def write(folder: Path, random: Random) -> Path:
        return _toml(random.choice(files), "device.toml")(folder, random)

    def judge(path: Path) -> str:
        def ask() -> None:
            result = roofline.analyze(net, args=(x,), device=str(path), cache=False)
            times = [result.totals.time_s, *(k.time_s for k in result.kernels)]
            assert all(math.isfinite(t) and 0 <= t < 1e6 for t in times), times
            assert result.totals.time_s > 0
            document.to_json(result)

        return refusal_of(ask, path)

    return Target(write, judge)


BUDGETS = """
[[budget]]
model = "mobilenet_v1"
device = "t4"
batch = 8
dtype = "fp16"
max_time = "3.5 ms"
max_params = "4.3 M"
min_throughput = "100/s"
set = { width = 0.5 }

[[budget]]
name = "the head"
model = "net.py:Head"
inputs = ["x=1,3,8,8"]
training = true
optimizer = "sgd"
max_macs = 1000000
max_bytes = "2.5 MB"
allow_unknown = true
"""


def _sound(path: Path) -> None:
    for budget in load_budgets(path):
        assert budget.limits
        for limit in budget.limits:
            assert math.isfinite(limit.value), limit
            assert limit.value >= 0, limit


def budget() -> Target:
    """A budget file: every limit that is read is a number that a model can keep to."""
    return Target(_toml(BUDGETS, "roofline.toml"), lambda path: refusal_of(lambda: _sound(path), path))


def onnx(model: Any) -> Target:
    """An ONNX file, its bytes or its graph: read as a trace and analysed."""

    def write(folder: Path, random: Random) -> Path:
        path = folder / "damaged.onnx"
        if random.random() < 0.5:
            path.write_bytes(damaged(model.SerializeToString(), random))
        else:
            changed = type(model)()
            changed.CopyFrom(model)
            wrong_graph(changed, random)
            path.write_bytes(changed.SerializeToString())
        return path

    return Target(write, lambda path: refused_or_fine(str(path), path))


def program(archive: Path) -> Target:
    """A .pt2 of torch.export, its bytes, its graph as text or as a document: read as a trace and analysed."""

    def write(folder: Path, random: Random) -> Path:
        path, deed = folder / "damaged.pt2", random.random()
        if deed < 0.2:
            path.write_bytes(damaged(archive.read_bytes(), random))
        elif deed < 0.5:
            rewritten(archive, path, lambda name, data: damaged(data, random) if name.endswith("models/model.json") else data)
        else:
            member = random.choice(["models/model.json"] * 4 + ["model_weights_config.json"])
            edited(archive, path, lambda document: wrong(document, random), member)
        return path

    return Target(write, lambda path: refused_or_fine(str(path), path))


def weights(whole: Mapping[str, bytes]) -> Target:
    """Files of weights and pickles, by the name of each: never a model by themselves, so all are refused, in words."""

    def write(folder: Path, random: Random) -> Path:
        name = random.choice(sorted(whole))
        path, data = folder / name, whole[name]
        if name.endswith(".safetensors") and random.random() < 0.5:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            wrong(header, random)
            text = json.dumps(header).encode("utf-8", "surrogatepass")
            data = len(text).to_bytes(8, "little") + text
        path.write_bytes(damaged(data, random) if data == whole[name] else data)
        return path

    return Target(write, lambda path: refused_or_fine(str(path), path))


def saved(text: bytes) -> Target:
    """A saved analysis: what is read says in total what the whole one said."""
    whole = document.from_json(text).totals

    def write(folder: Path, random: Random) -> Path:
        path = folder / "saved.json"
        if random.random() < 0.3:
            path.write_bytes(damaged(text, random))
        else:
            changed = json.loads(text)
            wrong(changed, random)
            path.write_bytes(json.dumps(changed).encode("utf-8", "surrogatepass"))
        return path

    def judge(path: Path) -> str:
        def ask() -> None:
            found = document.load(path).totals
            for name in ("flops", "macs", "bytes", "time_s", "kernels"):
                assert getattr(found, name) == getattr(whole, name), name

        return refusal_of(ask, path)

    return Target(write, judge)
