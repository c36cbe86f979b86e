"""Tables of single operators: convolutions, products, elementwise operators, norms; one kernel a row, no model.

Known by their columns: `Cin`, `Cout`, `k`, `HW_in` (square convolutions); `op` with `B`, `M`, `N`, `K` (bmm: [b, m, n] x
[b, n, k]; linear: m rows of n features to k); `op` with `B`, `H` (elementwise on [b, h]; an op that ends in u has a number
as its other operand). Times in `ms`; fp32, row-major; rows of other devices are left out. Where calls take the host the longer
the later they stand in the table, that is taken off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from roofline.devices import library
from roofline.devices.device import Device, Number
from roofline.errors import RooflineError, UsageError
from roofline.kernels.facts import Facts
from roofline.records import Kernel, Operand, OpSpec, TensorSpec, by_bound
from roofline.timemodel import roof
from roofline.timemodel.constants import Constants, Gpu, shipped
from roofline.units import seconds as shown
from roofline.validation import accuracy, model_tables
from roofline.validation.model_tables import Row, Setting

HOW = Setting("fp32", "nchw", "eager")
# a shorter time is mostly launch
SHORTEST_S = 1e-4
# A call of which the kernel can do all by less than this share of its time shows the host's; so many in each quarter tell.
_HOSTS, _ENOUGH = 0.1, 5


class Rows(NamedTuple):
    """The rows of one device, each with its kernel; (operator, why) of those that cannot be used; what was taken off."""

    rows: list[tuple[Row, Kernel]]
    skipped: list[tuple[str, str]]
    notes: list[str]


def recognise(path: Path) -> list[model_tables.Record] | None:
    """The records, where it is a table of operators."""
    records = model_tables.lines(path)
    have = set(records[0])
    known = {"Cin", "Cout", "ms"} <= have or {"op", "B", "M", "N", "K", "ms"} <= have or {"op", "B", "H", "ms"} <= have
    return records if known else None


def run(
    name: str,
    records: Sequence[model_tables.Record],
    target: Device,
    *,
    limit: int | None = None,
    seed: int = 0,
    constants: Constants | None = None,
) -> tuple[accuracy.Validation, list[accuracy.Prediction]]:
    """Predict the rows of one device; those that cannot be are skipped. Raises UsageError where the table has none for it."""
    rows, skipped, notes = rows_of(name, records, target, limit, seed)
    found = [_predict(row, kernel, target, constants or shipped()) for row, kernel in rows]
    return accuracy.summarise(name, HOW, target, found, skipped, notes), found


def rows_of(name: str, records: Sequence[model_tables.Record], target: Device, limit: int | None, seed: int) -> Rows:
    """The rows of one device that are long enough. Raises UsageError where there is none, or a column is missing."""
    timed: list[tuple[model_tables.Record, Kernel, float]] = []
    skipped: list[tuple[str, str]] = []
    for record in records:
        if not _is(record.get("device", ""), target):
            continue
        try:
            took = float(record["ms"]) * 1e-3
            if not 0 < took < float("inf"):
                raise ValueError(f"a time of {took:g} s cannot be")
            timed.append((record, operator(record), took))
        except KeyError as error:
            raise UsageError(f"{name} has no column {error.args[0]!r}, which its operators need") from None
        except (ValueError, OverflowError, UsageError) as error:
            skipped.append((_label(record), f"line {record.line}: {error}"))
    later = _later([(_least(kernel, target), took) for _, kernel, took in timed])
    launched: dict[int, Kernel] = {}
    rows: list[Row] = []
    for before, (record, kernel, took) in enumerate(timed):
        if (alone := took - later * before) >= SHORTEST_S:
            launched[record.line] = kernel
            rows.append(Row(f"{_label(record)} line {record.line}", 0, 1, alone, 0.0, record.line))
    if not rows and not skipped:
        known = sorted({r.get("device", "") for r in records})
        raise UsageError(f"{name} has no rows over {SHORTEST_S * 1e3:g} ms for {target.name}; it has {', '.join(known)}")
    notes = [] if not later else [f"each call takes the host {shown(later)} longer than the one before it, which is taken off"]
    return Rows([(row, launched[row.line]) for row in model_tables.sample(rows, limit, seed)], skipped, notes)


def _least(kernel: Kernel, target: Device) -> float:
    """Seconds below which no kernel does the work of this one."""
    return max(kernel.flops / target.vector["fp32"].value, kernel.bytes / target.bandwidth)


def _later(calls: Sequence[tuple[float, float]]) -> float:
    """Seconds that the host needs more for each call of a table than for the one before, of (least, measured) seconds.

    A library that looks for the plan of a call among all that it made before takes the longer the more there are. It is the
    slope of a line under the times of calls whose kernels are next to nothing: of those that none of them is below, the one
    highest in the middle. None where they do not stand all over the table, as in one that is sorted by size.
    """
    short = [(i, took) for i, (least, took) in enumerate(calls) if least < _HOSTS * took]
    quarters = [4 * i // len(calls) for i, _ in short]
    if min(quarters.count(q) for q in range(4)) < _ENOUGH:
        return 0.0
    hull: list[tuple[int, float]] = []
    for x, y in short:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], (x, y)):
            hull.pop()
        hull.append((x, y))
    middle = len(calls) / 2
    under = next((pair for pair in pairwise(hull) if pair[1][0] >= middle), (hull[-2], hull[-1]))
    return max(_slope(*under), 0.0)


def _slope(one: tuple[int, float], other: tuple[int, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


_devices: dict[str, str] = {}


def _is(text: str, target: Device) -> bool:
    """Whether a table's name for a device is this one: "Tesla V100-PCIE-32GB" is v100-pcie."""
    if not text:
        return True
    if text not in _devices:
        words = text.replace("-16GB", "").replace("-32GB", "")
        try:
            _devices[text] = library.lookup(words).name
        except RooflineError:
            _devices[text] = ""
    return _devices[text] == target.name


def _label(record: Mapping[str, str]) -> str:
    return record.get("op") or "conv2d"


def _predict(row: Row, kernel: Kernel, target: Device, constants: Constants) -> accuracy.Prediction:
    footprint = 2 * kernel.bytes
    capped, free = (
        roof.place([kernel], d, setting="fp32", runtime="eager", footprint=footprint, constants=constants)[0]
        for d in (target, uncapped(target))
    )
    (ideal,) = roof.place([kernel], target, setting="fp32", runtime="ideal")
    total = float(
        seconds(kernel.klass, capped.time_s - capped.overhead_s, free.time_s - free.overhead_s, target, constants.gpu)
    )
    split = by_bound(capped.components) | {"overhead": 0.0}
    bound = max(split, key=lambda name: split[name])
    return accuracy.Prediction(row.model, 0, 1, row.seconds, total, ideal.time_s, ideal.compute_s, {kernel.klass: 1.0}, bound)


def uncapped(target: Device) -> Device:
    """The device before its power cap takes hold: half way between its capped clock and its boost."""

    def half(number: Number) -> Number:
        return replace(number, value=max((1 + number.value) / 2, number.value))

    vector = target.sustained_vector
    return replace(target, sustained=half(target.sustained), sustained_vector=None if vector is None else half(vector))


def seconds(klass: str, capped: Any, free: Any, target: Device, c: Gpu) -> Any:
    """What events around one call of a kernel show, from its work (numbers or arrays) with and without the power cap.

    The host issues the call after the first event.
    """
    early = 1 / (1 + (free / (c.cap * 1e-6)) ** 2)
    call = getattr(c, f"event_{klass}", c.event) * 1e-6
    return 1 / (early / free + (1 - early) / capped) + target.launch.value + call


def operator(record: Mapping[str, str]) -> Kernel:
    """The kernel of one row."""
    if "Cin" in record:
        return _kernel(_conv(record))
    op = record["op"]
    if "M" in record:
        b, m, n, k = _sizes(record, *"BMNK")
        if op == "linear":
            return _kernel(_spec("aten.linear", [_t(b * m, n), _t(k, n), _t(k)], _t(b * m, k)))
        if op == "bmm":
            return _kernel(_spec("aten.bmm", [_t(b, m, n), _t(b, n, k)], _t(b, m, k)))
        raise UsageError(f"unknown operator {op!r} in the table; known: bmm, linear")
    return _kernel(_elementwise(op, _t(*_sizes(record, "B", "H"))))


def _sizes(record: Mapping[str, str], *names: str) -> list[int]:
    """Sizes of at least 1. Raises ValueError where one is not."""
    found = [int(record[name]) for name in names]
    if min(found) < 1:
        raise ValueError(f"sizes of {found} cannot be")
    return found


def _conv(record: Mapping[str, str]) -> OpSpec:
    n, c, o, k, size, stride = _sizes(record, "N", "Cin", "Cout", "k", "HW_in", "stride")
    pad = int(record["pad"])
    out = (size + 2 * pad - k) // stride + 1
    if out < 1:
        raise ValueError(f"a kernel of {k} does not fit into {size} pixels")
    args = [_t(n, c, size, size), _t(o, c, k, k), None, [stride, stride], [pad, pad], [1, 1], 1]
    return _spec("aten.conv2d", args, _t(n, o, out, out))


def _elementwise(op: str, x: TensorSpec) -> OpSpec:
    if op == "ln":
        width = _t(x.shape[-1])
        return _spec("aten.layer_norm", [x, [x.shape[-1]], width, width], x)
    if op == "softmax":
        return _spec("aten.softmax", [x, -1], x)
    names = {"add": "add", "div": "div", "mul": "mul", "pow": "pow", "relu": "relu", "gelu": "gelu", "tanh": "tanh"}
    base = op.removesuffix("u") if op.endswith("u") and op[:-1] in names else op
    if base not in names:
        raise UsageError(f"unknown operator {op!r} in the table; known: {', '.join(names)}, ln, softmax")
    two = base in ("add", "div", "mul", "pow") and op == base
    args: list[object] = [x, x] if two else [x, 2.0] if base in ("add", "div", "mul", "pow") else [x]
    return _spec(f"aten.{names[base]}", args, x, pointwise=True)


def _t(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float32")


def _spec(name: str, args: Sequence[object], out: TensorSpec, pointwise: bool = False) -> OpSpec:
    inputs = tuple(a for a in args if isinstance(a, TensorSpec))
    return OpSpec(name, "", list(args), {}, inputs, (out,), pointwise)  # type: ignore[arg-type]  # plain values


def _kernel(spec: OpSpec) -> Kernel:
    """The kernel alone: its operands come from DRAM, as after a flush (two operands are two tensors)."""
    f = Facts(spec)
    operands = [Operand(n, i, "input") for i, n in enumerate(f.reads)] + [Operand(n, 9, "activation", True) for n in f.writes]
    work = f.work
    return Kernel(
        0,
        f.name,
        f.klass,
        (0,),
        f.dtype,
        f.shape,
        work.flops if work else 0,
        work.macs if work else 0,
        tuple(operands),
        f.access,
        products=f.products,
        whole=f.whole,
    )
