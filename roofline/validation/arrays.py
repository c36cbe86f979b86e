"""All kernels of many traces as arrays, so that the constants of the time model can be fitted in minutes.

The arrays go through the same formulas (gpu.py, cpu_compiled.py, cpu_eager.py) as single kernels do in roof.py; a test holds
the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import numpy as np

from roofline import classes
from roofline.analysis import memory
from roofline.devices.device import Device
from roofline.dtypes import DOUBLES, DTYPE_BITS
from roofline.kernels import build as kernels
from roofline.records import Kernel, Trace
from roofline.timemodel import cpu_eager, efficiency, features, formulas, terms

KLASSES = tuple(sorted(classes.KLASSES))
# kinds of operator with rates of their own, by number; 0: none
KINDS = ("", *dict.fromkeys(cpu_eager.KINDS.values()))
READS = 4
_COLUMNS = ("model", "count", "klass", "kind", "bits", "flops", "macs", "footprint", "static", "write", "fresh", "untold", *(
    f"{kind}{i}" for i in range(READS) for kind in ("bytes", "apart")
), *features.DIMS)  # fmt: skip


class Table:
    """Kernels of several traces: one array per column, equal kernels of one model merged.

    `products` are the sizes of all products, kernel by kernel, and `owner` the kernel of each.
    """

    def __init__(self, columns: dict[str, Any], models: int, products: dict[str, Any], owner: Any) -> None:
        self.columns, self.models, self.products, self.owner = columns, models, products, owner
        # rows of one class and kind
        self.groups = [
            (klass, kind, at, self.features(at))
            for i, klass in enumerate(KLASSES)
            for j, kind in enumerate(KINDS)
            if len(at := np.flatnonzero((columns["klass"] == i) & (columns["kind"] == j)))
        ]

    def features(self, at: Any) -> SimpleNamespace:
        """The columns of some kernels (`at` ascends), and what sums a formula over the products of each."""
        f = SimpleNamespace(**{name: column[at] for name, column in self.columns.items()})
        f.reads = [(getattr(f, f"bytes{i}"), getattr(f, f"apart{i}")) for i in range(READS)]
        mine = np.flatnonzero(np.isin(self.owner, at))
        place = np.searchsorted(at, self.owner[mine])
        own = {name: column[mine] for name, column in self.products.items()}
        parts = SimpleNamespace(**{name: column[self.owner[mine]] for name, column in self.columns.items()} | own)
        f.total = lambda seconds: np.bincount(place, seconds(parts) * terms.one(parts.times), len(at))
        return f


# columns of one kernel, the last of them the sizes of its products
Row = tuple[Any, ...]


def rows(trace: Trace, runtime: str, device: Device) -> dict[Row, int]:
    """Every different kernel of a trace (without its model's number) and how often it runs."""
    launched = kernels.build(trace, runtime, device.kind)
    footprint = memory.peak(trace, device).total
    before = list(accumulate((kernel.bytes for kernel in launched), initial=0))
    found: dict[Row, int] = {}
    for i, kernel in enumerate(launched):
        key = row(kernel, before, i, footprint)
        found[key] = found.get(key, 0) + 1
    return found


def row(kernel: Kernel, before: Sequence[int], i: int, footprint: int) -> Row:
    static, write, fresh, reads = formulas.moved(kernel, before, i)
    reads.sort(reverse=True)
    rest = sum(n for n, _ in reads[READS:])
    reads = [*reads, *[(0, 0)] * READS][:READS]
    reads[-1] = (reads[-1][0] + rest, reads[-1][1])
    dims = features.own(kernel) | {"double": int(kernel.dtype in DOUBLES)}
    told = [features.sizes(p) for p in kernel.products]
    return (
        float(KLASSES.index(kernel.klass)), KINDS.index(cpu_eager.kind(kernel.op)), DTYPE_BITS[kernel.dtype], kernel.flops,
        kernel.macs, footprint, static, write, fresh, features.untold(kernel),
        *(x for pair in reads for x in pair), *(dims.get(d, 1 if d == "g" else 0) for d in features.DIMS),
        tuple(tuple(sizes.get(name, 1 if name == "g" else 0) for name in features.SIZES) for sizes in told),
    )  # fmt: skip


def table(counted: Iterable[dict[Row, int]]) -> Table:
    """One Table of the rows of several traces."""
    data: list[Row] = []
    sizes: list[tuple[float, ...]] = []
    owner: list[int] = []
    models = 0
    for number, found in enumerate(counted):
        models = number + 1
        for row, count in found.items():
            *rest, told = row
            sizes += told
            owner += [len(data)] * len(told)
            data.append((number, count, *rest))
    array = np.array(data, dtype=np.float64).reshape(-1, len(_COLUMNS))
    columns: dict[str, Any] = {name: np.ascontiguousarray(array[:, i]) for i, name in enumerate(_COLUMNS)}
    for name in ("model", "klass", "kind"):
        columns[name] = columns[name].astype(int)
    products = np.array(sizes, dtype=np.float64).reshape(-1, len(features.SIZES))
    each = {name: np.ascontiguousarray(products[:, i]) for i, name in enumerate(features.SIZES)}
    return Table(columns, models, each, np.array(owner, dtype=int))


def work(t: Table, device: Device, constants: Any, *, setting: str = "amp", runtime: str = "eager") -> tuple[Any, Any, Any]:
    """Seconds of every kernel, (all, arithmetic, memory), without overheads."""
    n = len(t.columns["model"])
    times, compute, mem = np.zeros(n), np.zeros(n), np.zeros(n)
    machine = formulas.Machine.of(device, setting, runtime)
    for klass, kind, at, f in t.groups:
        if machine.eager:
            times[at], compute[at], mem[at], _ = cpu_eager.work(klass, kind, f, constants, machine, np)
        else:
            times[at], compute[at], mem[at], _ = efficiency.work(klass, f, constants, machine, np)
    return times, compute, mem


def totals(t: Table, device: Device, constants: Any, *, setting: str = "amp", runtime: str = "eager") -> Any:
    """Seconds of each model: the device's queue or the host's, whichever is longer (on a CPU their sum)."""
    times, _, _ = work(t, device, constants, setting=setting, runtime=runtime)
    count, model = t.columns["count"], t.columns["model"]
    machine = formulas.Machine.of(device, setting, runtime)
    launch, host = np.zeros(len(times)), np.zeros(len(times))
    for klass, kind, at, f in t.groups:
        if machine.eager:
            host[at] = cpu_eager.fixed(klass, kind, f, constants, machine, np)
        else:
            launch[at], host[at] = efficiency.overheads(klass, f, constants, machine, np)
    busy = np.bincount(model, (times + launch) * count, t.models)
    issue = np.bincount(model, host * count, t.models)
    return np.maximum(busy, issue) if device.kind == "gpu" else busy + issue
