"""Tables of single operators: convolutions, products, elementwise operators, norms; one kernel a row, no model.

Known by their columns: `Cin`, `Cout`, `k`, `HW_in` (square convolutions); `op` with `B`, `M`, `N`, `K` (bmm: [b, m, n] x
[b, n, k]; linear: m rows of n features to k); `op` with `B`, `H` (elementwise on [b, h]; an op that ends in u has a number
as its other operand). Times in `ms`; fp32, row-major; rows of other devices are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from roofline.devices import library
from roofline.devices.device import Device, Number
from roofline.errors import RooflineError, UsageError
from roofline.kernels.facts import Facts
from roofline.records import Kernel, Operand, OpSpec, TensorSpec, by_bound
from roofline.timemodel import roof
from roofline.timemodel.constants import Constants, Gpu, shipped
from roofline.validation import accuracy, model_tables
from roofline.validation.model_tables import Row, Setting

HOW = Setting("fp32", "nchw", "eager")
# a shorter time is mostly launch
SHORTEST_S = 1e-4


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
    rows, skipped = rows_of(name, records, target, limit, seed)
    found = [_predict(row, kernel, target, constants or shipped()) for row, kernel in rows]
    return accuracy.summarise(name, HOW, target, found, skipped), found


def rows_of(
    name: str, records: Sequence[model_tables.Record], target: Device, limit: int | None, seed: int
) -> tuple[list[tuple[Row, Kernel]], list[tuple[str, str]]]:
    """The rows of one device, each with its kernel, and (operator, why) of those that cannot be used. Raises UsageError."""
    rows: list[Row] = []
    launched: dict[int, Kernel] = {}
    skipped: list[tuple[str, str]] = []
    for record in records:
        if not _is(record.get("device", ""), target):
            continue
        try:
            took = float(record["ms"]) * 1e-3
            if not 0 < took < float("inf"):
                raise ValueError(f"a time of {took:g} s cannot be")
            if took < SHORTEST_S:
                continue
            launched[record.line] = operator(record)
        except KeyError as error:
            raise UsageError(f"{name} has no column {error.args[0]!r}, which its operators need") from None
        except (ValueError, OverflowError, UsageError) as error:
            skipped.append((_label(record), f"line {record.line}: {error}"))
            continue
        rows.append(Row(f"{_label(record)} line {record.line}", 0, 1, took, 0.0, record.line))
    if not rows and not skipped:
        known = sorted({r.get("device", "") for r in records})
        raise UsageError(f"{name} has no rows over {SHORTEST_S * 1e3:g} ms for {target.name}; it has {', '.join(known)}")
    return [(row, launched[row.line]) for row in model_tables.sample(rows, limit, seed)], skipped


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
