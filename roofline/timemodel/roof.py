"""Kernels on a device: bound, time and efficiency of each.

work = (arithmetic^p + memory^p)^(1/p): the larger of the two, rounded where they are close (p = `overlap`)
arithmetic = what the shape really costs on the units that run it (gpu.py, cpu_compiled.py), at the sustained clock
memory = max over levels of what the nearer levels do not hold, over the bandwidth that the class of kernel reaches

A read is served by the nearest level that still holds it: what has moved since the tensor was written has to fit.
Parameters are read again in every pass, so they stay in a cache only if the whole footprint does.

On a GPU the host issues kernels while the device executes them; a kernel whose work is shorter than the host's step waits
for the host. On a CPU the host is the device, so dispatch adds up. What eager mode does on a CPU is in cpu_eager.py.

What a kernel adds to the whole time is divided into components (records.Point) by what a faster roof would save: see shares.py
and, for the two queues of a GPU, `_queued`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roofline.classes import MATRIX
from roofline.devices.device import Device
from roofline.dtypes import SHORT
from roofline.records import Kernel, Point, bound_of
from roofline.timemodel import features, formulas, models, shares
from roofline.timemodel.constants import Constants, Family, shared, shipped


def dtype_key(kernel: Kernel, setting: str) -> str:
    """The device's name for the dtype a kernel computes in; integer and boolean arithmetic goes by fp32's rate."""
    key = SHORT.get(kernel.dtype, "fp32")
    return "tf32" if key == "fp32" and setting == "tf32" and kernel.klass in MATRIX else key


def peak(device: Device, kernel: Kernel, setting: str) -> float:
    """FLOP/s of the unit that runs this kernel. Raises UsageError where a matrix-kind dtype is missing on the device."""
    key = dtype_key(kernel, setting)
    # where halves are slower than fp32 (Pascal: 1/64) or not there, libraries convert them and compute in fp32
    single = device.peak("fp32", "vector") if key in ("fp16", "bf16") else 0.0
    if kernel.klass in MATRIX:
        return max(device.peak(key, "best"), single)
    return max(device.peak(key if device.has(key, "vector") else "fp32", "vector"), single)


def reached(
    device: Device, top: float, setting: str, runtime: str, constants: Constants | None = None
) -> tuple[float, list[float]]:
    """(FLOP/s, B/s of each level) that times rest on: the peak `top` at the clock kept under load, what a stream reaches.

    By the constants that are given, or ours.
    """
    bandwidths = [level.bandwidth for level in device.levels]
    if runtime == "ideal":
        return top, bandwidths
    c = (constants or shipped()).of(device, runtime)
    return models.of(c).reached(top, bandwidths, c, formulas.Machine.of(device, setting, runtime))


class _Known:
    """What kernels cost on one device under one setting, each kind of kernel worked out once."""

    def __init__(self, device: Device, setting: str, runtime: str, footprint: int, numbers: Family) -> None:
        self.given = device, setting, runtime, footprint, numbers
        self.device, self.setting, self.footprint, self.numbers = device, setting, footprint, numbers
        self.names = [level.name for level in device.levels]
        self.model = models.of(numbers)
        self.machine = formulas.Machine.of(device, setting, runtime).shared(self.names)
        self.table = shared(numbers)
        self.units: dict[tuple[str, bool], tuple[float, formulas.Machine]] = {}
        self.costs: dict[tuple[Any, ...], _Cost] = {}

    def cost(self, kernel: Kernel, moved: features.Moved) -> _Cost:
        # blocks repeat, and with them what their kernels move and cost
        what = kernel.klass, kernel.op, kernel.dtype, kernel.flops, kernel.macs, kernel.whole, kernel.products
        key = *what, kernel.phase, kernel.access, kernel.loop, *moved[:3], *moved.reads
        found = self.costs.get(key)
        if found is None:
            top, machine = self._unit(kernel)
            f = features.of(kernel, moved, self.footprint)
            work = self.model.work(kernel.klass, f, self.table, machine, formulas.Plain)
            over = self.model.overhead(kernel.klass, f, self.table, machine, formulas.Plain)
            executed = self.model.executed(kernel.klass, f, self.table, machine, formulas.Plain)
            found = self.costs[key] = _cost(kernel, work, over, float(executed), top, machine.gpu, self.names)
        return found

    def _unit(self, kernel: Kernel) -> tuple[float, formulas.Machine]:
        """The peak of what runs the kernel, and the machine at that peak, in numbers that remember their roof."""
        matrix = kernel.klass in MATRIX
        found = self.units.get((kernel.dtype, matrix))
        if found is None:
            top = peak(self.device, kernel, self.setting)
            machine = self.machine.at(top) if matrix else self.machine
            found = self.units[kernel.dtype, matrix] = (top, machine)
        return found


# The last that were asked for, so many of so many kinds of kernels at most.
_known: list[_Known] = []
_KEPT, _KINDS = 4, 8192


def _knowing(device: Device, setting: str, runtime: str, footprint: int, numbers: Family) -> _Known:
    given = device, setting, runtime, footprint, numbers
    for i, known in enumerate(_known):
        if known.given == given:
            found = _known.pop(i)
            break
    else:
        found = _Known(*given)
    if len(found.costs) > _KINDS:
        found.costs.clear()
    _known.insert(0, found)
    del _known[_KEPT:]
    return found


def place(
    kernels: Sequence[Kernel],
    device: Device,
    *,
    setting: str = "fp32",
    runtime: str = "eager",
    footprint: int = 0,
    constants: Constants | None = None,
) -> list[Point]:
    """One Point per kernel, by the constants that are given, or ours.

    `setting` is the analysis' dtype, `footprint` the bytes alive at the peak.
    """
    if runtime == "ideal":
        return [_ideal(kernel, device, setting) for kernel in kernels]
    known = _knowing(device, setting, runtime, footprint, (constants or shipped()).of(device, runtime))
    before = list(accumulate((kernel.bytes for kernel in kernels), initial=0))
    costs = [known.cost(kernel, features.moved(kernel, before, index)) for index, kernel in enumerate(kernels)]
    return _queued(costs) if known.machine.gpu else [_alone(cost) for cost in costs]


class _Cost(Struct):
    """One kernel by itself. Seconds."""

    # with what they rest on: its work, and what starting it takes (on a GPU: on the device)
    work: float
    start: float
    # on a GPU: of the host, to issue it
    step: float
    compute: float
    memory: float
    level: str
    efficiency: float
    executed: float
    # what its vector units' time is called: "compute" or "instructions"
    vector: str
    # worked out where they are asked for
    split: dict[str, float] | None = None
    point: Point | None = None


def _cost(
    kernel: Kernel, work: formulas.Work, over: formulas.Overhead, executed: float, top: float, gpu: bool, names: list[str]
) -> _Cost:
    # where the device is its own host, one follows the other
    start, step = over if gpu else (over.start + over.step, 0.0)
    seconds, compute, memory, levels = work
    used = kernel.flops * executed / (top * float(compute)) if compute and kernel.flops else 1.0
    if kernel.klass in MATRIX:
        vector = "instructions" if gpu else "compute"
    else:
        # FLOPs that would take longer than the bytes even at the peak are arithmetic; else it is what else its loop executes
        vector = "compute" if kernel.flops / top >= memory and kernel.flops else "instructions"
    level = names[levels.index(max(levels))]
    return _Cost(seconds, start, step, float(compute), float(memory), level, used, executed, vector)


def _split(cost: _Cost) -> dict[str, float]:
    """The components of a kernel's own time: work and start."""
    if cost.split is not None:
        return cost.split
    own = {"matrix": "compute", "vector": cost.vector, "loop": "instructions"}
    found: dict[str, float] = {}
    for name, part in (*shares.parts(cost.work).items(), *shares.parts(cost.start).items()):
        name = own.get(name, name)
        found[name] = found.get(name, 0.0) + part
    cost.split = found
    return found


def _alone(cost: _Cost) -> Point:
    """Where nothing runs beside it, and nothing waits."""
    if cost.point is None:
        cost.point = _point(cost, cost.work + cost.start, _split(cost))
    return cost.point


def _point(cost: _Cost, time: float, split: dict[str, float]) -> Point:
    """A kernel's Point; its components are made to add up to its time to the last digit."""
    split = {name: part for name, part in split.items() if part > 1e-12 * time}
    time = float(time)
    if split:
        largest = max(split, key=lambda name: split[name])
        split[largest] += time - sum(split.values())
    rest = time - float(cost.work)
    bound, step = bound_of(split), float(cost.step)
    return Point(time, bound, cost.level, cost.compute, cost.memory, rest, cost.efficiency, split, cost.executed, step)


def _queued(costs: Sequence[_Cost]) -> list[Point]:
    """The host issues, the device executes: a kernel starts when it is issued and the one before is done.

    What a kernel adds to the whole is the time from the end of the one before to its own. What that time rests on follows from
    the end of the pass backwards: as long as the device was busy with the kernel before, on work and launch. At the last
    kernel that the device waited for, on the host, whose steps reach back to the start; whatever the device worked up to
    there was hidden behind them.
    """
    issued = done = 0.0
    added, waited = [], -1
    for i, cost in enumerate(costs):
        issued += float(cost.step)
        before, ready = done, done + float(cost.start)
        if issued > ready:
            waited, ready = i, issued
        done = ready + float(cost.work)
        added.append(done - before)
    points = []
    for i, (cost, time) in enumerate(zip(costs, added, strict=True)):
        if i < waited:
            split = {"host": time}
        elif i > waited:
            split = _split(cost)
        else:
            split = _split(replace(cost, start=0.0, split=None)) | {"host": time - float(cost.work)}
        points.append(_point(cost, time, split))
    return points


def _ideal(kernel: Kernel, device: Device, setting: str) -> Point:
    """The textbook roofline: peak and DRAM bandwidth, nothing lost."""
    compute = kernel.flops / peak(device, kernel, setting)
    memory = kernel.bytes / device.bandwidth
    level = device.levels[-1].name
    time = max(compute, memory)
    split = {"compute" if compute > memory else f"memory:{level}": time} if time else {}
    return Point(time, bound_of(split), level, compute, memory, 0.0, 1.0, split)
