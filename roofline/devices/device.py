"""A GPU or CPU: peaks, memory levels and overheads, every number with a source and a status. `library` finds one by name.

A field says here what there is to know of it: its meaning above it, beside its type the unit, what no device has more of, and
what lists call it (Declared). What reads, writes, checks and lists devices goes by that.
"""

# no `from __future__ import annotations`: those of the records are read, and would be texts
import math
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Struct

from roofline import errors
from roofline.dtypes import PEAK_BITS, PEAKS, SHORT, TENSOR_KEYS
from roofline.errors import UsageError
from roofline.units import Unit

# How far a number can be trusted, best first.
STATUSES = ("measured", "datasheet", "fitted", "read", "derived", "estimated", "assumed", "memory")
ISAS = ("x86-64", "aarch64")
TIERS = ("datasheet", "calibrated", "fitted", "estimated")
LEVELS = ("L1", "L2", "L3", "SLC", "DRAM")

PeakUnit = Literal["tensor", "vector", "best"]


# Beyond these no device is, whatever is measured on it: FLOP/s and B/s, bytes of a level, seconds of an overhead, Hz, units or
# threads, FLOP of a unit in a cycle.
_RATE, _BYTES, _SECONDS, _CLOCK, _UNITS, _PER_CLOCK = 1e21, 2.0**60, 1.0, 1e12, 1e7, 1e9
# No board keeps more than this above its rated clock.
_SUSTAINED = 1.2


class Declared(NamedTuple):
    """What is known of a field beside its type."""

    unit: Unit = "1"
    # what no device has more of
    most: float = math.inf
    # whether it may be 0, where it is given
    zero: bool = False
    # a fraction: shown in per cent
    share: bool = False
    # what lists call it
    title: str = ""
    # what no device has less of
    least: float = 0.0


@cache
def declared(record: type[Struct]) -> dict[str, Declared]:
    """The fields of a record that are declared, in their order."""
    found: dict[str, Any] = record.__annotations__
    return {
        name: next(m for m in of.__metadata__ if isinstance(m, Declared))
        for name, of in found.items()
        if hasattr(of, "__metadata__")
    }


class Number(Struct, frozen=True):
    """A value in its SI base unit, and how it is known."""

    value: float
    source: str = ""
    status: str = "assumed"
    # of a measured value: what the data sheet or the detection said (0: nothing), and the distance between the quartiles
    # of its samples as a fraction of it
    nominal: float = 0.0
    spread: float = 0.0


class Peak(Struct, frozen=True):
    """A dense peak in FLOP/s (a multiply-accumulate is 2 FLOPs)."""

    value: Annotated[float, Declared("FLOP/s", _RATE)]
    source: str = ""
    status: str = "assumed"
    # FLOP per unit (SM, CU, core) and clock cycle; 0: not given
    per_clock: Annotated[float, Declared("1", _PER_CLOCK)] = 0.0
    # where the vendor quotes this peak at another clock than `Device.clock`; 0: at that clock
    clock: Annotated[float, Declared("Hz", _CLOCK)] = 0.0
    # as in Number
    nominal: float = 0.0
    spread: float = 0.0


class Level(Struct, frozen=True):
    """One memory level of the whole chip. `source` and `status` are those of the bandwidth."""

    name: str
    # in total; 0: unknown
    size: Annotated[int, Declared("B", _BYTES, zero=True)]
    # for the whole chip
    bandwidth: Annotated[float, Declared("B/s", _RATE)]
    source: str = ""
    status: str = "assumed"
    size_source: str = ""
    size_status: str = "assumed"
    # "GDDR6X", "DDR5", ...; bus width in bits and transfers per second and pin, 0 where not given
    type: str = ""
    bus_bits: Annotated[int, Declared(most=1e7)] = 0
    rate: Annotated[float, Declared("Hz", 1e12)] = 0.0
    # as in Number: of the bandwidth, and of the size
    nominal: float = 0.0
    spread: float = 0.0
    size_nominal: int = 0


class Scaling(Struct, frozen=True):
    """What a number of threads reaches: fp32 GEMM in FLOP/s, copying in DRAM in B/s."""

    threads: Annotated[int, Declared(most=_UNITS)]
    fp32: Annotated[float, Declared("FLOP/s", _RATE)]
    dram: Annotated[float, Declared("B/s", _RATE)]


class Cores(Struct, frozen=True):
    """One kind of core of a hybrid CPU. `per_clock` is fp32 FLOP per core and cycle."""

    name: str
    count: Annotated[int, Declared(most=_UNITS)]
    clock: Annotated[float, Declared("Hz", _CLOCK)]
    per_clock: Annotated[float, Declared("1", _PER_CLOCK)]


class Known(Struct, frozen=True):
    """What known times left unknown of the numbers that were fitted to them (timemodel/uncertainty.py).

    Of what clock, memory and host cost a time: standard deviations of the logarithm, and how they go together, as
    correlations.
    """

    # how many times
    times: Annotated[int, Declared(most=1e4)]
    # standard deviation of the logarithm of predicted / known, after the fit
    off: Annotated[float, Declared(most=10.0, zero=True)]
    clock: Annotated[float, Declared(most=10.0, zero=True)]
    memory: Annotated[float, Declared(most=10.0, zero=True)]
    host: Annotated[float, Declared(most=10.0, zero=True)]
    clock_memory: Annotated[float, Declared(most=1.0, least=-1.0, zero=True)] = 0.0
    clock_host: Annotated[float, Declared(most=1.0, least=-1.0, zero=True)] = 0.0
    memory_host: Annotated[float, Declared(most=1.0, least=-1.0, zero=True)] = 0.0


class Device(Struct, frozen=True, kw_only=True):
    """One GPU or CPU."""

    name: str
    title: str
    # "gpu" or "cpu"
    kind: str
    vendor: str
    arch: str
    aliases: tuple[str, ...] = ()
    released: Annotated[int | None, Declared(most=9999)] = None
    # matrix units, "operand/accumulate" -> peak; SIMD units or CUDA cores, type -> peak
    tensor: dict[str, Peak]
    vector: dict[str, Peak]
    # nearest first, DRAM last
    levels: tuple[Level, ...]
    # SMs, CUs or cores
    units: Annotated[Number, Declared("1", _UNITS, title="units")]
    # boost of a GPU, sustained all-core clock of a CPU
    clock: Annotated[Number, Declared("Hz", _CLOCK, title="clock")]
    # CPU only: instruction set, one of ISAS; SIMD register width in bits, hardware threads, kinds of core where they differ
    isa: str = "x86-64"
    simd_bits: Annotated[int, Declared(most=2**20)] = 0
    threads: Annotated[int, Declared(most=_UNITS)] = 0
    cores: tuple[Cores, ...] = ()
    tdp: Annotated[Number | None, Declared("W", 1e6, title="power")] = None
    # of `clock` that is kept under load; above 1 where boards run beyond their rated boost
    sustained: Annotated[Number, Declared("1", _SUSTAINED, share=True, title="sustained")] = Number(1.0)
    # the same in large fp32 products on the vector units, where it differs
    sustained_vector: Annotated[Number | None, Declared("1", _SUSTAINED, share=True, title="of vector units")] = None
    # CPU only: clock of one core that works alone; None: not known, or that of all
    turbo: Annotated[Number | None, Declared("Hz", _CLOCK, title="turbo")] = None
    # of the DRAM bandwidth that a copy reaches; 0: unknown, the time model's own
    reached: Annotated[Number, Declared("1", 1.0, share=True, title="DRAM reached")] = Number(0.0)
    # GPU: gap between two kernels launched back to back; CPU: starting and ending a parallel region
    launch: Annotated[Number, Declared("s", _SECONDS, zero=True, title="launch")]
    # the host needs to issue one eager op
    host: Annotated[Number, Declared("s", _SECONDS, zero=True, title="host per op")]
    # measured by `roofline calibrate`, empty elsewhere: what threads bring; by class of kernel, s to run one op on a few
    # elements (dispatch and the library's fixed cost), and FLOP/s or B/s of a well-shaped large one
    scaling: tuple[Scaling, ...] = ()
    fixed: Annotated[dict[str, Number], Declared("s", _SECONDS)] = {}
    flops: Annotated[dict[str, Number], Declared("FLOP/s", _RATE)] = {}
    bytes: Annotated[dict[str, Number], Declared("B/s", _RATE)] = {}
    # where numbers were fitted to known times (`roofline calibrate --from`)
    known: Known | None = None
    # one of TIERS
    tier: str = "datasheet"
    notes: tuple[str, ...] = ()
    # those on rates at precisions below fp32 alone: they change no number of an fp32 run
    notes_below_fp32: tuple[str, ...] = ()
    # id -> document, for every id that a number names
    sources: dict[str, str] = {}

    def peak(self, dtype: str, unit: PeakUnit = "best") -> float:
        """Dense FLOP/s for operands of `dtype` on the matrix units, the vector units, or the faster of the two.

        Raises UsageError where the device has no such unit or type; it never falls back to another type.
        """
        dtype = SHORT.get(dtype, dtype)
        if dtype not in PEAKS:
            raise UsageError(f"unknown dtype {dtype!r}{errors.nearest(dtype, PEAKS)}. Known: {', '.join(PEAKS)}")
        found = [
            p for kind in (("tensor", "vector") if unit == "best" else (unit,)) if (p := self._peak(dtype, kind)) is not None
        ]
        if not found:
            have = [
                d for d in PEAKS for kind in ("tensor", "vector") if unit in ("best", kind) and self._peak(d, kind) is not None
            ]
            where = "" if unit == "best" else f" on its {unit} units"
            near = _nearest_dtype(dtype, have)
            hint = (
                f"the nearest it has is {near} (all: {', '.join(dict.fromkeys(have))})" if have else f"it has no {unit} units"
            )
            raise UsageError(f"{self.name} has no {dtype} peak{where}: {hint}")
        return max(found)

    def _peak(self, dtype: str, unit: str) -> float | None:
        table, keys = (self.tensor, TENSOR_KEYS[dtype]) if unit == "tensor" else (self.vector, (dtype,))
        return next((table[key].value for key in keys if key in table), None)

    def has(self, dtype: str, unit: PeakUnit = "best") -> bool:
        """Whether `peak(dtype, unit)` has an answer."""
        dtype = SHORT.get(dtype, dtype)
        return dtype in PEAKS and any(self._peak(dtype, kind) for kind in ("tensor", "vector") if unit in ("best", kind))

    def peaks(self) -> dict[str, float]:
        """Every peak in FLOP/s: {"tensor fp16/fp32": ..., "vector fp32": ...}."""
        return {
            f"{kind} {key}": p.value
            for kind, table in (("tensor", self.tensor), ("vector", self.vector))
            for key, p in table.items()
        }

    @property
    def bandwidth(self) -> float:
        """B/s of DRAM."""
        return self.levels[-1].bandwidth

    def ridge(self, dtype: str, unit: PeakUnit = "best") -> float:
        """FLOP/B where the compute roof meets the DRAM roof."""
        return self.peak(dtype, unit) / self.bandwidth

    def level(self, name: str) -> Level:
        """The memory level of that name. Raises UsageError."""
        for level in self.levels:
            if level.name == name:
                return level
        raise UsageError(f"{self.name} has no memory level {name!r}: it has {', '.join(level.name for level in self.levels)}")


# What stands at the top of a file: its numbers with a source each, and the tables of such numbers by class of kernel.
# In lists the power is the last of them.
NUMBERS = {name: of for name, of in declared(Device).items() if of.title and name != "tdp"}
NUMBERS["tdp"] = declared(Device)["tdp"]
BY_CLASS = {name: declared(Device)[name] for name in ("fixed", "flops", "bytes")}


def numbers(device: Device) -> list[tuple[str, Declared, Number]]:
    """Those of NUMBERS that a device has: (name, what is known of it, number)."""
    all_of_them = [(name, of, getattr(device, name)) for name, of in NUMBERS.items()]
    return [(name, of, n) for name, of, n in all_of_them if n is not None and (n.value or of.zero)]


def _nearest_dtype(dtype: str, have: list[str]) -> str:
    """The type with the nearest width, the wider one of two, then the one of the same family (fp or int)."""
    return min(
        have, key=lambda d: (abs(math.log2(PEAK_BITS[d] / PEAK_BITS[dtype])), -PEAK_BITS[d], d[0] != dtype[0]), default=""
    )
