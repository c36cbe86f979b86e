"""What the formulas of the time model share: the machine, numbers or arrays, sizes of kernels, what caches keep.

A formula takes plain numbers (roof.py: one kernel) or numpy arrays (validation/arrays.py: all of a table); `xp` brings
`ceil`, `floor`, `maximum`, `minimum`, `where` and `any` for either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import is_
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from roofline.devices import power
from roofline.timemodel.features import Features
from roofline.timemodel.shares import Shared, rate, seconds
from roofline.timemodel.sizes import AttentionSizes, ConvSizes, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roofline.devices.device import Device, Number
    from roofline.timemodel.constants import Cpu, CpuEager

_NOTHING: Mapping[str, float] = MappingProxyType({})
T = TypeVar("T")


class Once:
    """What formulas gave last, for whoever asks for the same right after: seconds and what is executed rest on one formula."""

    # more than the products of one kernel
    _most = 4
    _last: ClassVar[list[tuple[tuple[Any, ...], Any]]] = []

    @classmethod
    def once(cls, formula: Callable[..., T], *given: Any) -> T:
        asked = (formula, *given)
        for of, known in cls._last:
            if len(of) == len(asked) and all(map(is_, of, asked)):
                found: T = known
                return found
        found = formula(*given, cls)
        cls._last = [(asked, found), *cls._last[: cls._most - 1]]
        return found


class Plain(Once):
    """The few array functions that the formulas use, for plain numbers."""

    ceil = staticmethod(math.ceil)
    floor = staticmethod(math.floor)
    any = staticmethod(bool)
    maximum = staticmethod(max)
    minimum = staticmethod(min)

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        return yes if condition else no


def _values(numbers: Mapping[str, Number]) -> dict[str, float]:
    return {name: number.value for name, number in numbers.items()}


class Machine(Struct, frozen=True):
    """What the formulas need of a device. FLOP/s, B/s, bytes, seconds."""

    gpu: bool
    # matrix units by operand bits: half, single, double; and the vector units in fp32
    half: float
    single: float
    double: float
    vector: float
    # SMs, CUs, cores; fp32 lanes of a SIMD register
    units: float
    lanes: float
    # fraction of the clock kept under load, and under full products on vector units; of the DRAM bandwidth that a copy
    # reaches (0: not known)
    sustained: float
    sustained_vector: float
    reached: float
    # nearest first: bytes, B/s
    levels: tuple[tuple[float, float], ...]
    launch: float
    host: float
    # cycles a second
    clock: float
    # whether a GPU has matrix units: one without is older than Volta
    matrix: bool = True
    # peaks and bandwidths are measured, that is, reached; and what else `roofline calibrate` measured, by kind or class
    measured: bool = False
    fixed: Mapping[str, float] = _NOTHING
    flops: Mapping[str, float] = _NOTHING
    rates: Mapping[str, float] = _NOTHING
    # whether fp32 products run on matrix units, which on GeForce boards are no faster than the vector units
    tf32: bool = False
    # 1 where a CPU's convolutions are those of the Arm Compute Library: in PyTorch for Arm, but for Apple's
    acl: float = 0.0
    # how long a load waits for DRAM, in times that it does on an H100 or H200
    waits: float = 1.0

    @classmethod
    def of(cls, device: Device, setting: str = "amp", runtime: str = "eager") -> Machine:
        """The rates that a dtype setting uses: "tf32" lets fp32 products run on tensor cores."""
        vector, units, clock = device.peak("fp32", "vector"), device.units.value, device.clock.value
        if device.cores and runtime == "compiled":
            vector, units, clock = _together(device)

        def best(*names: str) -> float:
            return next((device.peak(n, "best") for n in names if device.has(n)), vector)

        half = ("bf16", "fp16") if setting == "bf16" else ("fp16", "bf16")
        return cls(
            device.kind == "gpu",
            max(best(*half), vector),
            best("tf32") if setting == "tf32" else vector,
            best("fp64") if device.has("fp64") else vector / 2,
            vector,
            units,
            max(device.simd_bits // 32, 1),
            device.sustained.value,
            (device.sustained_vector or device.sustained).value,
            device.reached.value,
            tuple((float(x.size), x.bandwidth) for x in device.levels),
            device.launch.value,
            device.host.value,
            clock,
            device.kind == "cpu" or bool(device.tensor),
            device.levels[-1].status == "measured",
            fixed=_values(device.fixed),
            flops=_values(device.flops),
            rates=_values(device.bytes),
            tf32=setting == "tf32" and device.has("tf32"),
            acl=float(device.isa == "aarch64" and device.vendor != "Apple"),
            waits=power.waited(device),
        )

    def shared(self, names: Sequence[str]) -> Machine:
        """The same machine in numbers that remember their roof (shares.py); `names` are those of the memory levels.

        "matrix" and "vector" units, one of which a CPU has; "loop" is the pace of its loops where it was measured.
        """
        unit = "matrix" if self.gpu else "vector"
        return replace(
            self,
            half=rate(self.half, unit),
            single=rate(self.single, unit),
            double=rate(self.double, unit),
            vector=rate(self.vector, "vector"),
            clock=rate(self.clock, "loop"),
            levels=tuple((size, rate(b, f"memory:{n}")) for (size, b), n in zip(self.levels, names, strict=True)),
            launch=seconds(self.launch, "launch"),
            host=seconds(self.host, "host"),
            fixed={k: seconds(v, "host") for k, v in self.fixed.items()},
            flops={k: rate(v, "vector") for k, v in self.flops.items()},
            rates={k: rate(v, "loop") for k, v in self.rates.items()},
        )

    def at(self, peak: float) -> Machine:
        """The same machine with one rate for every matrix type."""
        if isinstance(self.half, Shared):
            peak = rate(peak, "matrix" if self.gpu else "vector")
        return replace(self, half=peak, single=peak, double=peak)


def _together(device: Device) -> tuple[float, float, float]:
    """FLOP/s, number and clock of the cores that share a loop best: equal pieces end with the slowest core that takes part."""
    found, count = [], 0
    for kind in sorted(device.cores, key=lambda kind: -kind.clock * kind.per_clock):
        count += kind.count
        found.append((count * kind.clock * kind.per_clock, float(count), kind.clock))
    return max(found)


class Work(NamedTuple):
    """Seconds of a kernel, or of each of an array of them, without overheads; beside it those of arithmetic and of memory
    alone, and of each memory level, the nearest first.
    """

    seconds: Value
    compute: Value
    memory: Value
    levels: list[Value]


class Overhead(NamedTuple):
    """Seconds that a kernel costs on top of its work: of the device, to start it, and of the host, to issue it."""

    start: Value
    step: Value


class Model(Protocol):
    """A module of formulas: how one kind of device runs kernels (models.py). `klass` is the kernel's class; the formula of a
    product is chosen by the type of its sizes.
    """

    def work(self, klass: str, f: Features, c: Any, machine: Machine, xp: Any) -> Work:
        """What a kernel takes by itself, or each of an array of kernels of that class."""

    def overhead(self, klass: str, f: Features, c: Any, machine: Machine, xp: Any) -> Overhead:
        """What it costs on top."""

    def executed(self, klass: str, f: Features, c: Any, machine: Machine, xp: Any) -> Value:
        """Fraction of a kernel's counted FLOPs that its algorithm executes."""

    def reached(self, top: float, levels: list[float], c: Any, machine: Machine) -> tuple[float, list[float]]:
        """(FLOP/s, B/s of each memory level) that times rest on, of the peak `top` and nominal bandwidths."""


def attended(f: Features, xp: Any) -> Value:
    """Fraction of an attention kernel's counted FLOPs that are executed: not those of blocks that a causal mask hides."""
    if not xp.any(f.shape.causal):
        return 1.0
    met = f.total(lambda p, f: p.macs * p.met(xp) if isinstance(p, AttentionSizes) else p.macs)
    return xp.where(f.shape.causal > 0, xp.minimum(met / xp.maximum(f.macs, 1), 1.0), 1.0)


def once(xp: Any, formula: Callable[..., T], *given: Any) -> T:
    """What a formula gives, worked out once for all who ask right after each other (`Once`; numpy remembers nothing)."""
    found: T = xp.once(formula, *given) if hasattr(xp, "once") else formula(*given, xp)
    return found


def up(x: Value, tile: float, xp: Any) -> Value:
    """`x` rounded up to whole tiles."""
    return xp.ceil(x / tile) * tile


def streamed(c: Any, machine: Machine) -> Value:
    """Of the DRAM bandwidth what a copy reaches: the machine's own share, or the constant where that is not known."""
    # the shares of many devices at once are all known (many.py)
    unknown = isinstance(machine.reached, (int, float)) and not machine.reached
    return c.stream if unknown else machine.reached


def resident(apart: Value, capacity: float, xp: Any) -> Value:
    """Share of a tensor that a cache still holds after `apart` bytes have moved since it was written."""
    return xp.minimum(xp.maximum(1.5 - apart / xp.maximum(capacity, 1.0), 0.0), 1.0)


def missed(own: Value, f: Features, capacity: float, xp: Any) -> Value:
    """`own` bytes and those of a kernel's reads that a cache no longer holds."""
    for n, apart in f.reads:
        own = own + n * (1 - resident(apart, capacity, xp))
    return own


def join(compute: Value, levels: list[Value], p: float, xp: Any) -> tuple[Value, Value]:
    """(seconds of both, of memory): the slowest level, and the larger of it and arithmetic, rounded where they are close."""
    memory = levels[0]
    for level in levels[1:]:
        memory = xp.maximum(memory, level)
    return (compute**p + memory**p) ** (1 / p), memory


# ------------------------------------------------------------------------------------------------ CPU, eager and compiled


def faults(nbytes: Value, c: Cpu | CpuEager, xp: Any) -> Value:
    """Seconds to fault in the pages of a fresh buffer: glibc returns blocks above 32 MiB to the system at every free."""
    return xp.where(nbytes > 32 * 2**20, nbytes / (c.fault_rate * 1e9), 0.0)


def either(onednn: float, acl: float, machine: Machine) -> float:
    """What holds of convolutions in oneDNN's own kernels, or in the Arm Compute Library's behind it."""
    return onednn + (acl - onednn) * machine.acl


def own_conv(p: ConvSizes) -> Value:
    """Whether a convolution is PyTorch's own, a plain product, and not oneDNN's (ATen/native/Convolution.cpp, use_mkldnn).

    It looks at the first four dimensions: of a volume at channels, depth and height.
    """
    volume = p.d > 0
    elements = p.c * (volume * p.d * p.h + (volume == 0) * p.h * p.w)
    small = (p.n == 1) & (elements <= 20480) & ((p.r <= 3) | (p.s <= 3)) & (p.transposed == 0)
    return (type(p) is ConvSizes) & small
