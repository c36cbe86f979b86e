"""Kernels on a device: bound, time and efficiency of each.

work = (arithmetic^p + memory^p)^(1/p): the larger of the two, rounded where they are close (p = `overlap`)
arithmetic = what the shape really costs on the units that run it (gpu.py, cpu_compiled.py), at the sustained clock
memory = max over levels of what the nearer levels do not hold, over the bandwidth that the class of kernel reaches

A read is served by the nearest level that still holds it: what has moved since the tensor was written has to fit.
Parameters are read again in every pass, so they stay in a cache only if the whole footprint does.

On a GPU the host issues kernels while the device executes them; a kernel whose work is shorter than the host's step waits
for the host, and that wait is its overhead. On a CPU the host is the device, so dispatch adds up. What eager mode does on a
CPU is in cpu_eager.py.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from roofline import cpu_eager, efficiency, formulas
from roofline.device import Device, nearest
from roofline.records import DTYPE_BITS, Kernel, Point, UsageError

# Classes that run on matrix units where the device has them for the dtype.
MATRIX = frozenset({"gemm", "conv", "grouped_conv", "attention", "rnn"})
_NAMES = {
    "float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8",
    "qint8": "int8", "quint8": "int8", "float8_e4m3fn": "fp8", "float8_e5m2": "fp8",
}  # fmt: skip
FAMILIES = ("gpu", "cpu", "cpu_eager")
# environment variable that names a file of constants to use instead of the shipped ones
_ELSEWHERE = "ROOFLINE_CONSTANTS"
_ZEROS = dict.fromkeys(formulas.DIMS, 0) | {"g": 1, "b": 1}


def family(device: Device, runtime: str) -> str:
    """The set of constants: "gpu", "cpu" (compiled code) or "cpu_eager"."""
    return "cpu_eager" if device.kind == "cpu" and runtime == "eager" else device.kind


def constants(kind: str) -> dict[str, float]:
    """The constants of a family: the shipped ones, or those of `use`."""
    return _read(os.environ.get(_ELSEWHERE, ""), kind)


@cache
def _read(path: str, kind: str) -> dict[str, float]:
    text = Path(__file__).with_name("constants.toml").read_text(encoding="utf-8")
    # only the table that is asked for: parsing all of them would be a part of a first analysis that shows
    chunk = next(c for c in re.split(r"^(?=\[)", text, flags=re.MULTILINE) if c.startswith(f"[{kind}]"))
    table = shipped = tomllib.loads(chunk)[kind]
    if path:
        table = table | _given(path, kind, shipped)
    return {name: float(value) for name, value in table.items() if name != "source"}


def _given(path: str, kind: str, shipped: Mapping[str, Any]) -> dict[str, Any]:
    """The constants of a family in a file of somebody's own. Raises UsageError for what cannot be one."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the constants in {path}: {error}") from error
    for name, table in tables.items():
        if name not in FAMILIES or not isinstance(table, dict):
            raise UsageError(
                f"{path}: {name!r} is no table of constants{nearest(name, FAMILIES)}. Known: {', '.join(FAMILIES)}"
            )
    found: dict[str, Any] = tables.get(kind, {})
    for name, value in found.items():
        if name not in shipped:
            raise UsageError(f"{path} [{kind}] has unknown constants: {name}{nearest(name, shipped)}")
        if name != "source" and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf):
            raise UsageError(f"{path} [{kind}] {name}: expected a number above 0, got {value!r}")
    return found


def use(path: Path) -> None:
    """Take constants from another file, in this process and those that it starts."""
    os.environ[_ELSEWHERE] = str(path.resolve())
    for kind in FAMILIES:
        constants(kind)


def fingerprint() -> str:
    """The constants in use, as text to key caches by."""
    return repr([sorted(constants(kind).items()) for kind in FAMILIES])


def dtype_key(kernel: Kernel, setting: str) -> str:
    """The device's name for the dtype a kernel computes in; integer and boolean arithmetic goes by fp32's rate."""
    key = _NAMES.get(kernel.dtype, "fp32")
    return "tf32" if key == "fp32" and setting == "tf32" and kernel.klass in MATRIX else key


def peak(device: Device, kernel: Kernel, setting: str) -> float:
    """FLOP/s of the unit that runs this kernel. Raises UsageError where a matrix-kind dtype is missing on the device."""
    key = dtype_key(kernel, setting)
    if kernel.klass in MATRIX:
        return device.peak(key, "best")
    # an element-wise half on a device without half vector units is converted and computed in fp32
    return device.peak(key if device.has(key, "vector") else "fp32", "vector")


def place(
    kernels: Sequence[Kernel], device: Device, *, setting: str = "fp32", runtime: str = "eager", footprint: int = 0
) -> list[Point]:
    """One Point per kernel. `setting` is the analysis' dtype, `footprint` the bytes alive at the peak."""
    if runtime == "ideal":
        return [_ideal(kernel, device, setting) for kernel in kernels]
    machine = formulas.Machine.of(device, setting, runtime)
    table = constants(family(device, runtime))
    names = [level.name for level in device.levels]
    clock = _Clock(machine, table)
    before = list(accumulate((kernel.bytes for kernel in kernels), initial=0))
    points = []
    peaks: dict[tuple[str, bool], float] = {}
    for index, kernel in enumerate(kernels):
        unit = (kernel.dtype, kernel.klass in MATRIX)
        top = peaks.get(unit) or peaks.setdefault(unit, peak(device, kernel, setting))
        rated = machine.at(top) if kernel.klass in MATRIX else machine
        f = _features(kernel, before, index, footprint)
        if machine.eager:
            kind = cpu_eager.kind(kernel.op)
            work, compute, memory, levels = cpu_eager.work(kernel.klass, kind, f, table, rated, formulas.Plain)
            time = work + cpu_eager.fixed(kernel.klass, kind, f, table, machine, formulas.Plain)
        else:
            work, compute, memory, levels = efficiency.work(kernel.klass, f, table, rated, formulas.Plain)
            time = clock.run(kernel.klass, f, work)
        overhead = time - work
        bound = "overhead" if overhead > work else "compute" if compute > memory else "memory"
        used = kernel.flops / (top * compute) if compute and kernel.flops else 1.0
        points.append(Point(time, bound, names[levels.index(max(levels))], compute, memory, overhead, used))
    return points


def _ideal(kernel: Kernel, device: Device, setting: str) -> Point:
    """The textbook roofline: peak and DRAM bandwidth, nothing lost."""
    compute = kernel.flops / peak(device, kernel, setting)
    memory = kernel.bytes / device.bandwidth
    return Point(
        max(compute, memory), "compute" if compute > memory else "memory", device.levels[-1].name, compute, memory, 0.0, 1.0
    )


def _features(kernel: Kernel, before: Sequence[int], index: int, footprint: int) -> SimpleNamespace:
    """What the formulas read of a kernel."""
    f = SimpleNamespace(**_ZEROS)
    f.__dict__.update(kernel.dims)
    f.bits, f.flops, f.macs = DTYPE_BITS[kernel.dtype], kernel.flops, kernel.macs
    f.footprint = footprint
    f.static, f.write, f.fresh, f.reads = formulas.moved(kernel, before, index)
    return f


class _Clock:
    """Two queues on a GPU (host issues, device executes), one on a CPU."""

    def __init__(self, machine: formulas.Machine, table: dict[str, float]) -> None:
        self.machine, self.table = machine, table
        self.host = self.done = 0.0

    def run(self, klass: str, f: SimpleNamespace, work: float) -> float:
        """Advance by one kernel; returns the time it adds to the whole."""
        launch, step = efficiency.overheads(klass, f, self.table, self.machine, formulas.Plain)
        if not self.machine.gpu:
            return work + float(launch + step)
        self.host += step
        before = self.done
        self.done = max(self.done + launch, self.host) + work
        return self.done - before
