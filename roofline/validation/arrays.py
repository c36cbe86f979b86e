"""All kernels of many traces as arrays, so that the constants of the time model can be fitted in minutes.

The arrays go through the same formulas (gpu.py, cpu_compiled.py, cpu_eager.py) as single kernels do in roof.py; a test holds
the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from msgspec.structs import astuple

from roofline import classes
from roofline.analysis import memory
from roofline.devices.device import Device
from roofline.records import Kernel, Trace
from roofline.shapes import Access, Loop
from roofline.timemodel import cpu_eager, features, models, sizes
from roofline.timemodel.constants import Family
from roofline.timemodel.features import NUMBERS, Features, Formula
from roofline.timemodel.formulas import Machine

KLASSES = tuple(sorted(classes.KLASSES))
# kinds of operator with rates of their own, by number; 0: none
KINDS = ("", *dict.fromkeys(cpu_eager.KINDS.values()))
READS = 4
# the sizes of any shape, in one order for all of them
_SIZES = tuple(dict.fromkeys(name for record in sizes.RECORDS for name in record.__struct_fields__))
_COLUMNS = (
    "model",
    "count",
    "klass",
    "kind",
    *NUMBERS,
    *(f"{what}{i}" for i in range(READS) for what in ("bytes", "apart")),
    *(f"access.{name}" for name in Access.__struct_fields__),
    *(f"loop.{name}" for name in Loop.__struct_fields__),
    *(f"shape.{name}" for name in _SIZES),
)


class _Products:
    """The products of many kernels: of each kind their sizes, the features around each, and the place of its kernel."""

    def __init__(self, kinds: list[tuple[sizes.Sizes, Features, Any]], kernels: int) -> None:
        self.kinds, self.kernels = kinds, kernels

    def total(self, around: Features, formula: Formula) -> Any:
        found = np.zeros(self.kernels)
        for p, of, place in self.kinds:
            found += np.bincount(place, formula(p, of) * p.times, self.kernels)
        return found


class Table:
    """Kernels of several traces: one array per column, equal kernels of one model merged.

    `products` are the sizes of all products, kernel by kernel, with the kind of each, and `owner` the kernel of each.
    """

    def __init__(self, columns: dict[str, Any], models: int, products: dict[str, Any], owner: Any) -> None:
        self.columns, self.models, self.products, self.owner = columns, models, products, owner
        # rows of one class and kind
        self.groups = [
            (klass, at, self.features(klass, kind, at))
            for i, klass in enumerate(KLASSES)
            for j, kind in enumerate(KINDS)
            if len(at := np.flatnonzero((columns["klass"] == i) & (columns["kind"] == j)))
        ]

    def features(self, klass: str, kind: str, at: Any) -> Features:
        """Some kernels of one class and kind (`at` ascends), with their products."""
        mine = np.flatnonzero(np.isin(self.owner, at))
        kinds = []
        for i, record in enumerate(sizes.RECORDS):
            these = mine[self.products["record"][mine] == i]
            if len(these):
                own = record(**{name: self.products[name][these] for name in record.__struct_fields__})
                around = self._features(klass, kind, self.owner[these], _Products([], len(these)))
                kinds.append((own, around, np.searchsorted(at, self.owner[these])))
        return self._features(klass, kind, at, _Products(kinds, len(at)))

    def _features(self, klass: str, kind: str, at: Any, products: _Products) -> Features:
        def taken(record: type[Any], prefix: str = "") -> Any:
            return record(**{name: self.columns[f"{prefix}{name}"][at] for name in record.__struct_fields__})

        shape = sizes.OF_CLASS.get(klass)
        return Features(
            op=kind,
            reads=[(self.columns[f"bytes{i}"][at], self.columns[f"apart{i}"][at]) for i in range(READS)],
            access=taken(Access, "access."),
            loop=taken(Loop, "loop."),
            shape=shape and taken(shape, "shape."),
            products=products,
            **{name: self.columns[name][at] for name in NUMBERS},
        )


# columns of one kernel, the last of them the sizes of its products
Row = tuple[Any, ...]


def rows(trace: Trace, launched: Sequence[Kernel], device: Device) -> dict[Row, int]:
    """Every different one of a trace's kernels (without its model's number) and how often it runs."""
    footprint = memory.peak(trace, device).total
    before = list(accumulate((kernel.bytes for kernel in launched), initial=0))
    found: dict[Row, int] = {}
    for i, kernel in enumerate(launched):
        key = row(kernel, before, i, footprint)
        found[key] = found.get(key, 0) + 1
    return found


def row(kernel: Kernel, before: Sequence[int], i: int, footprint: int) -> Row:
    f = features.of(kernel, features.moved(kernel, before, i), footprint)
    reads = sorted(f.reads, reverse=True)
    rest = sum(n for n, _ in reads[READS:])
    reads = [*reads, *[(0, 0)] * READS][:READS]
    reads[-1] = (reads[-1][0] + rest, reads[-1][1])
    told = features.products(kernel)
    return (
        float(KLASSES.index(kernel.klass)),
        KINDS.index(cpu_eager.kind(kernel.op)),
        *(getattr(f, name) for name in NUMBERS),
        *(x for pair in reads for x in pair),
        *astuple(f.access),
        *astuple(f.loop),
        *_flat(f.shape),
        tuple((sizes.RECORDS.index(type(p)), *_flat(p)) for p in told),
    )


def _flat(of: sizes.Sizes | None) -> tuple[int, ...]:
    return tuple(getattr(of, name, 0) for name in _SIZES)


def table(counted: Iterable[dict[Row, int]]) -> Table:
    """One Table of the rows of several traces."""
    data: list[Row] = []
    told: list[tuple[float, ...]] = []
    owner: list[int] = []
    models = 0
    for number, found in enumerate(counted):
        models = number + 1
        for row, count in found.items():
            *rest, mine = row
            told += mine
            owner += [len(data)] * len(mine)
            data.append((number, count, *rest))
    array = np.array(data, dtype=np.float64).reshape(-1, len(_COLUMNS))
    columns: dict[str, Any] = {name: np.ascontiguousarray(array[:, i]) for i, name in enumerate(_COLUMNS)}
    for name in ("model", "klass", "kind"):
        columns[name] = columns[name].astype(int)
    names = ("record", *_SIZES)
    products = np.array(told, dtype=np.float64).reshape(-1, len(names))
    each = {name: np.ascontiguousarray(products[:, i]) for i, name in enumerate(names)}
    return Table(columns, models, each, np.array(owner, dtype=int))


def work(t: Table, device: Device, constants: Family, *, setting: str = "amp", runtime: str = "eager") -> tuple[Any, Any, Any]:
    """Seconds of every kernel, (all, arithmetic, memory), without overheads."""
    n = len(t.columns["model"])
    times, compute, mem = np.zeros(n), np.zeros(n), np.zeros(n)
    model, machine = models.of(constants), Machine.of(device, setting, runtime)
    for klass, at, f in t.groups:
        times[at], compute[at], mem[at], _ = model.work(klass, f, constants, machine, np)
    return times, compute, mem


def totals(t: Table, device: Device, constants: Family, *, setting: str = "amp", runtime: str = "eager") -> Any:
    """Seconds of each model: the device's queue or the host's, whichever is longer (on a CPU their sum)."""
    times, _, _ = work(t, device, constants, setting=setting, runtime=runtime)
    count, number = t.columns["count"], t.columns["model"]
    model, machine = models.of(constants), Machine.of(device, setting, runtime)
    start, step = np.zeros(len(times)), np.zeros(len(times))
    for klass, at, f in t.groups:
        start[at], step[at] = model.overhead(klass, f, constants, machine, np)
    busy = np.bincount(number, (times + start) * count, t.models)
    issue = np.bincount(number, step * count, t.models)
    return np.maximum(busy, issue) if device.kind == "gpu" else busy + issue
