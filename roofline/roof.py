"""Kernels on a device: bound, time and efficiency of each.

time = max(flops / (peak * efficiency), max over levels(bytes / (bandwidth * efficiency))) + overhead

A read is served by the nearest level that still holds it: what has moved since the tensor was written has to fit.
Parameters are read again in every pass, so they stay in a cache only if the whole footprint does.

On a GPU in eager mode the host issues kernels while the device executes them; a kernel whose work is shorter than the
host's step waits for the host, and that wait is its overhead. On a CPU the host is the device, so dispatch adds up.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from msgspec import Struct, convert

from roofline.device import Device
from roofline.records import Kernel, Operand, Point

# Classes that run on matrix units where the device has them for the dtype.
MATRIX = frozenset({"gemm", "conv", "grouped_conv", "attention", "rnn"})
_NAMES = {
    "float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8",
    "qint8": "int8", "quint8": "int8", "float8_e4m3fn": "fp8", "float8_e5m2": "fp8",
}  # fmt: skip


class Constants(Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of one kind of device: fractions of the roofs by kernel class."""

    source: str
    status: str
    residency: float
    compute: dict[str, float]
    memory: dict[str, float]

    def of(self, table: str, klass: str) -> float:
        values: dict[str, float] = getattr(self, table)
        return values.get(klass, values["default"])


@cache
def constants(kind: str) -> Constants:
    """The shipped constants for "gpu" or "cpu"."""
    text = resources.files("roofline").joinpath("constants.toml").read_text(encoding="utf-8")
    return convert(tomllib.loads(text)[kind], Constants)


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
    ideal = runtime == "ideal"
    table = constants(device.kind)
    levels = _Levels(kernels, device, table, footprint)
    clock = _Clock(device, ideal)
    points = []
    for index, kernel in enumerate(kernels):
        efficiency = 1.0 if ideal else table.of("compute", kernel.klass)
        compute = kernel.flops / (peak(device, kernel, setting) * efficiency * (1.0 if ideal else device.sustained.value))
        memory, level = levels.time(index, kernel, ideal)
        work = max(compute, memory)
        time = clock.run(work)
        overhead = time - work
        bound = "overhead" if overhead > work else "compute" if compute > memory else "memory"
        points.append(Point(time, bound, level, compute, memory, overhead, efficiency))
    return points


class _Clock:
    """Two queues on a GPU (host issues, device executes), one on a CPU."""

    def __init__(self, device: Device, ideal: bool) -> None:
        self.gpu, self.ideal = device.kind == "gpu", ideal
        self.host_step, self.launch = device.host.value, device.launch.value
        self.host = self.done = 0.0

    def run(self, work: float) -> float:
        """Advance by one kernel; returns the time it adds to the whole."""
        if self.ideal:
            return work
        if not self.gpu:
            return work + self.host_step + self.launch
        self.host += self.host_step
        before = self.done
        self.done = max(self.done + self.launch, self.host) + work
        return self.done - before


class _Levels:
    """Which memory level serves each operand, and the time of the slowest."""

    def __init__(self, kernels: Sequence[Kernel], device: Device, table: Constants, footprint: int) -> None:
        self.levels = device.levels
        self.table = table
        self.footprint = footprint
        self.moved = [0]
        for kernel in kernels:
            self.moved.append(self.moved[-1] + kernel.bytes)

    def time(self, index: int, kernel: Kernel, ideal: bool) -> tuple[float, str]:
        by_level = [0] * len(self.levels)
        for operand in kernel.operands:
            by_level[len(self.levels) - 1 if ideal else self._serves(index, operand)] += operand.bytes
        efficiency = 1.0 if ideal else self.table.of("memory", kernel.klass)
        # what an outer level delivers passes through the inner ones too
        worst, name, through = 0.0, self.levels[-1].name, 0
        for level, nbytes in reversed(list(zip(self.levels, by_level, strict=True))):
            through += nbytes
            seconds = through / (level.bandwidth * efficiency)
            if seconds > worst:
                worst, name = seconds, level.name
        return worst, name

    def _serves(self, index: int, operand: Operand) -> int:
        last = len(self.levels) - 1
        if operand.write:
            distance = operand.bytes
        elif operand.producer >= 0:
            distance = self.moved[index] - self.moved[operand.producer]
        else:
            distance = self.footprint
        for i, level in enumerate(self.levels[:-1]):
            if level.size and distance <= level.size * self.table.residency:
                return i
        return last
