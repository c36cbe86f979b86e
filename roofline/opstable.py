"""Tables of single operators: convolutions, products, elementwise operators, norms; one kernel a row, no model.

Known by their columns: `Cin`, `Cout`, `k`, `HW_in` (square convolutions); `op` with `B`, `M`, `N`, `K` (bmm: [b, m, n] x
[b, n, k]; linear: m rows of n features to k); `op` with `B`, `H` (elementwise on [b, h]; an op that ends in u has a number
as its other operand). Times in `ms`; fp32, row-major; rows of other devices are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from roofline import device as devices
from roofline import roof, tables, validate
from roofline.device import Device
from roofline.kernels import Facts
from roofline.records import Kernel, Operand, OpSpec, RooflineError, TensorSpec, UsageError
from roofline.tables import Row, Setting

_HOW = Setting("fp32", "nchw", "eager")
# a shorter time is mostly launch
SHORTEST_S = 1e-4


def recognise(path: Path) -> list[dict[str, str]] | None:
    """The records, where it is a table of operators."""
    records = tables.lines(path)
    have = set(records[0])
    known = {"Cin", "Cout", "ms"} <= have or {"op", "B", "M", "N", "K", "ms"} <= have or {"op", "B", "H", "ms"} <= have
    return records if known else None


def run(
    name: str, records: Sequence[Mapping[str, str]], target: Device, *, limit: int | None = None, seed: int = 0
) -> tuple[validate.Validation, list[validate.Prediction]]:
    """Predict the rows of one device. Raises UsageError where the table has none for it."""
    rows: list[Row] = []
    chosen: list[Mapping[str, str]] = []
    for number, record in enumerate(records, 2):
        if not _is(record.get("device", ""), target):
            continue
        seconds = float(record["ms"]) * 1e-3
        if seconds >= SHORTEST_S:
            rows.append(Row(f"{_label(record)} line {number}", 0, 1, seconds, 0.0, len(chosen)))
            chosen.append(record)
    if not rows:
        known = sorted({r.get("device", "") for r in records})
        raise UsageError(f"{name} has no rows over {SHORTEST_S * 1e3:g} ms for {target.name}; it has {', '.join(known)}")
    found = [_predict(row, chosen[row.line], target) for row in tables.sample(rows, limit, seed)]
    return validate.summarise(name, _HOW, target, found, []), found


_devices: dict[str, str] = {}


def _is(text: str, target: Device) -> bool:
    """Whether a table's name for a device is this one: "Tesla V100-PCIE-32GB" is v100-pcie."""
    if not text:
        return True
    if text not in _devices:
        words = text.replace("-16GB", "").replace("-32GB", "")
        try:
            _devices[text] = devices.lookup(words).name
        except RooflineError:
            _devices[text] = ""
    return _devices[text] == target.name


def _label(record: Mapping[str, str]) -> str:
    return record.get("op") or "conv2d"


def _predict(row: Row, record: Mapping[str, str], target: Device) -> validate.Prediction:
    kernels = list(operators(record))
    points = roof.place(kernels, target, setting="fp32", runtime="eager", footprint=2 * max(k.bytes for k in kernels))
    ideal = roof.place(kernels, target, setting="fp32", runtime="ideal")
    total = sum(p.time_s - p.overhead_s for p in points)
    # events around one call see the kernel and its launch gap, not the host's step
    total += len(points) * target.launch.value
    return validate.Prediction(
        row.model, 0, 1, row.seconds, total, sum(p.time_s for p in ideal), sum(p.compute_s for p in ideal),
        {kernels[0].klass: 1.0}, points[0].bound,
    )  # fmt: skip


def operators(record: Mapping[str, str]) -> Iterator[Kernel]:
    """The kernels of one row."""
    if "Cin" in record:
        yield _kernel(_conv(record))
        return
    op = record["op"]
    if "M" in record:
        b, m, n, k = (int(record[x]) for x in "BMNK")
        if op == "linear":
            yield _kernel(_spec("aten.linear", [_t(b * m, n), _t(k, n), _t(k)], _t(b * m, k)))
        else:
            yield _kernel(_spec("aten.bmm", [_t(b, m, n), _t(b, n, k)], _t(b, m, k)))
        return
    yield _kernel(_elementwise(op, _t(int(record["B"]), int(record["H"]))))


def _conv(record: Mapping[str, str]) -> OpSpec:
    n, c, o, k, size, stride, pad = (int(record[x]) for x in ("N", "Cin", "Cout", "k", "HW_in", "stride", "pad"))
    out = (size + 2 * pad - k) // stride + 1
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
    return OpSpec(name, "", list(args), {}, inputs, (out,), pointwise)  # type: ignore[arg-type]


def _kernel(spec: OpSpec) -> Kernel:
    """The kernel alone: its operands come from DRAM, as after a flush (two operands are two tensors)."""
    f = Facts(spec)
    operands = [Operand(n, i, "input") for i, n in enumerate(f.reads)] + [Operand(n, 9, "activation", True) for n in f.writes]
    work = f.work
    return Kernel(
        0, f.name, f.klass, (0,), f.dtype, f.shape, work.flops if work else 0, work.macs if work else 0, tuple(operands), f.dims
    )
