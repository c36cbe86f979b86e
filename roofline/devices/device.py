"""Devices: peaks, memory levels and overheads of a GPU or CPU, from a TOML file where every number has a source and a status.

`lookup("rtx 4090")` finds a shipped device, an alias, a file path, `cpu` (this machine) or `gpu` (the first CUDA device).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from roofline import errors, units
from roofline.dtypes import PEAK_BITS, PEAKS, SHORT, TENSOR_KEYS
from roofline.errors import UnknownNameError, UsageError
from roofline.paths import LIBRARY

# How far a number can be trusted, best first.
STATUSES = ("measured", "datasheet", "read", "derived", "estimated", "assumed", "memory")
TIERS = ("datasheet", "calibrated", "estimated")
LEVELS = ("L1", "L2", "L3", "SLC", "DRAM")

PeakUnit = Literal["tensor", "vector", "best"]


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

    value: float
    source: str = ""
    status: str = "assumed"
    # FLOP per unit (SM, CU, core) and clock cycle; 0: not given
    per_clock: float = 0.0
    # Hz, where the vendor quotes this peak at another clock than `Device.clock`; 0: at that clock
    clock: float = 0.0
    # as in Number
    nominal: float = 0.0
    spread: float = 0.0


class Level(Struct, frozen=True):
    """One memory level of the whole chip. `source` and `status` are those of the bandwidth."""

    name: str
    # bytes in total; 0: unknown
    size: int
    # B/s for the whole chip
    bandwidth: float
    source: str = ""
    status: str = "assumed"
    size_source: str = ""
    size_status: str = "assumed"
    # "GDDR6X", "DDR5", ...; bus width in bits and transfers per second and pin, 0 where not given
    type: str = ""
    bus_bits: int = 0
    rate: float = 0.0
    # as in Number: of the bandwidth, and of the size
    nominal: float = 0.0
    spread: float = 0.0
    size_nominal: int = 0


class Scaling(Struct, frozen=True):
    """What a number of threads reaches: fp32 GEMM in FLOP/s, copying in DRAM in B/s."""

    threads: int
    fp32: float
    dram: float


class Cores(Struct, frozen=True):
    """One kind of core of a hybrid CPU. `per_clock` is fp32 FLOP per core and cycle."""

    name: str
    count: int
    clock: float
    per_clock: float


class Device(Struct, frozen=True, kw_only=True):
    """One GPU or CPU."""

    name: str
    title: str
    # "gpu" or "cpu"
    kind: str
    vendor: str
    arch: str
    aliases: tuple[str, ...] = ()
    released: int | None = None
    # matrix units, "operand/accumulate" -> peak; SIMD units or CUDA cores, type -> peak
    tensor: dict[str, Peak]
    vector: dict[str, Peak]
    # nearest first, DRAM last
    levels: tuple[Level, ...]
    # SMs, CUs or cores; Hz: boost of a GPU, sustained all-core clock of a CPU
    units: Number
    clock: Number
    # CPU only: SIMD register width in bits, hardware threads, kinds of core where they differ
    simd_bits: int = 0
    threads: int = 0
    cores: tuple[Cores, ...] = ()
    # W
    tdp: Number | None = None
    # fraction of `clock` that is kept under load; above 1 where boards run beyond their rated boost
    sustained: Number = Number(1.0)
    # the same in large fp32 products on the vector units, where it differs
    sustained_vector: Number | None = None
    # fraction of the DRAM bandwidth that a copy reaches; 0: unknown, the time model's own
    reached: Number = Number(0.0)
    # s: GPU: gap between two kernels launched back to back; CPU: starting and ending a parallel region
    launch: Number
    # s: the host needs to issue one eager op
    host: Number
    # measured by `roofline calibrate`, empty elsewhere: what threads bring; by class of kernel, s to run one op on a few
    # elements (dispatch and the library's fixed cost), and FLOP/s or B/s of a well-shaped large one
    scaling: tuple[Scaling, ...] = ()
    fixed: dict[str, Number] = {}
    flops: dict[str, Number] = {}
    bytes: dict[str, Number] = {}
    # "datasheet", "calibrated" or "estimated"
    tier: str = "datasheet"
    notes: tuple[str, ...] = ()
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


def _nearest_dtype(dtype: str, have: list[str]) -> str:
    """The type with the nearest width, the wider one of two, then the one of the same family (fp or int)."""
    return min(
        have, key=lambda d: (abs(math.log2(PEAK_BITS[d] / PEAK_BITS[dtype])), -PEAK_BITS[d], d[0] != dtype[0]), default=""
    )


# ------------------------------------------------------------------------------------------------ looking one up

_VENDOR_WORDS = ("nvidia", "geforce", "tesla", "quadro", "amd", "instinct", "radeon", "intel", "core", "apple", "aws")
_ALIASES = re.compile(r"^aliases = \[(.*?)\]", re.MULTILINE | re.DOTALL)


def _key(name: str) -> str:
    """Case, spaces, hyphens and underscores do not count."""
    return re.sub(r"[\s_-]+", "", name).lower()


def _without_vendor(name: str) -> str:
    """ "NVIDIA GeForce RTX 4090" -> "rtx4090"."""
    return "".join(word for word in re.split(r"[\s_-]+", name.lower()) if word not in _VENDOR_WORDS)


def _files() -> list[Path]:
    """Shipped device files; a name that starts with `_` is a table for something else."""
    return sorted((path for path in LIBRARY.glob("*.toml") if not path.name.startswith("_")), key=lambda path: path.stem)


def names() -> list[str]:
    """Names of the shipped devices."""
    return [path.stem for path in _files()]


def library() -> list[Device]:
    """Every shipped device, by name."""
    return [_shipped(path) for path in _files()]


@cache
def _shipped(path: Path) -> Device:
    return load(path)


@cache
def _index() -> dict[str, Path]:
    """Names and aliases -> file, read without parsing the files."""
    files = _files()
    index = {
        _key(alias): path for path in files
        for found in _ALIASES.findall(path.read_text(encoding="utf-8")) for alias in re.findall(r'"([^"]*)"', found)
    }  # fmt: skip
    return index | {_key(path.stem): path for path in files}


def lookup(name: str | Path) -> Device:
    """The device of that name, alias or file path; `cpu` is this machine and `gpu` the first CUDA device.

    Raises UnknownNameError with the nearest names, or DeviceFileError for a file that does not hold a device.
    """
    text = os.fspath(name)
    if isinstance(name, Path) or text.endswith(".toml") or os.sep in text:
        return load(text)
    key = _key(text)
    if key == "cpu":
        return host()
    if key == "gpu":
        return _first_gpu()
    by_name = LIBRARY / f"{text}.toml"
    if not text.startswith(("_", ".")) and by_name.is_file():
        return _shipped(by_name)
    index = _index()
    # "NVIDIA B200 SXM (HGX)": what stands in brackets only explains
    bare = re.sub(r"\(.*?\)", "", text)
    path = next((path for t in (text, bare) for k in (_key(t), _without_vendor(t)) if (path := index.get(k))), None)
    if path is not None:
        return _shipped(path)
    near = errors.close(key, index, n=5)
    close = list(dict.fromkeys(index[k].stem for k in near))[:3]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UnknownNameError(
        f"unknown device {text!r}: {hint}`roofline devices` lists the names; `cpu`, `gpu` and a .toml file work too"
    )


def load(path: str | Path) -> Device:
    """The device in a TOML file. Raises DeviceFileError naming the file, the key and what was expected there."""
    from roofline.devices.file import read

    return read(path)


def lint(device: Device) -> list[str]:
    """What is physically implausible in a device, one sentence each: see `roofline.devices.lint`."""
    from roofline.devices.lint import check

    return check(device)


def host() -> Device:
    """This machine: the calibrated file if there is one, else what can be detected, with every estimate named in the notes."""
    from roofline.devices.host import calibrated_file

    path = calibrated_file()
    return load(path) if path is not None else _detected()


@cache
def _detected() -> Device:
    from roofline.devices.host import detect

    return detect()


# An operator takes microseconds to issue; what is far from that was meant in another unit.
_HOST_LEAST, _HOST_MOST = 1e-9, 10e-3


def with_host(devices: Sequence[Device], host: str | float | None, runtime: str) -> list[Device]:
    """The devices with the same machine around all their GPUs: `host` ("10 us", or seconds) is what it needs to issue an op.

    None leaves them as they are. A CPU is its own host. Raises UsageError for what is no such time, and where no host counts.
    """
    if host is None:
        return list(devices)
    if runtime == "ideal":
        raise UsageError("host (--host): the ideal runtime has no host, its kernels start at once; ask for eager or compiled")
    try:
        value = units.parse(host, "s")
    except ValueError as error:
        raise UsageError(f"host (--host): {error}".replace('"4.5 us"', '"10 us"')) from None
    if not _HOST_LEAST <= value <= _HOST_MOST:
        raise UsageError(
            f"host (--host): {host!r} is no time to issue an operator in: expected {units.seconds(_HOST_LEAST)} to "
            f"{units.seconds(_HOST_MOST)}, such as 10us"
        )
    if all(device.kind == "cpu" for device in devices):
        raise UsageError(
            f"host (--host) is the machine around a GPU, and {devices[0].name} is a CPU, which is its own host\n"
            "what it needs for an operator is `host` in its device file; `roofline calibrate` measures it"
        )
    given = Number(value, "given", "given")
    return [
        d if d.kind == "cpu" else replace(d, host=given, sources={**d.sources, "given": "asked for with host (--host)"})
        for d in devices
    ]


def _first_gpu() -> Device:
    """The first CUDA device that this process may see, matched to the library by the name that the driver gives it."""
    from roofline.devices.host import cuda_device_name

    found = cuda_device_name()
    if found is None:
        gpus = [d.name for d in library() if d.kind == "gpu"]
        raise UnknownNameError(f"no CUDA device was found here; name the GPU to predict for, e.g. {', '.join(gpus[:3])}\n"
                               "`roofline devices` lists all names")  # fmt: skip
    index = _index()
    path = index.get(_key(found)) or index.get(_without_vendor(found))
    if path is None:
        raise UnknownNameError(f"this machine's GPU {found!r} is not in the device library; give the nearest name "
                               "(`roofline devices` lists them) or a device file with -d FILE.toml")  # fmt: skip
    return _shipped(path)
