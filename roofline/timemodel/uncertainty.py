"""How sure a predicted time is: what is not known of a device's numbers, and how far the model is off beside them.

log(measured / predicted) is taken as two parts. One comes from the device: the clock that it keeps, the share of its memory's
bandwidth that it delivers, and what its host needs for an operator are known only so well (by their status in the device
file), and each moves a time as much as the time rests on it. It is common to all models on that device. The other is the
model's own. Known times narrow the first (validation/known.py). All numbers are standard deviations of a logarithm, and stand
in uncertainty.toml with what they were taken from.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from functools import cache

import msgspec
from msgspec import Struct

from roofline.devices.device import Device
from roofline.paths import UNCERTAINTY
from roofline.records import Interval

# One number for each part of a device that known times can say something of: clock, memory, host.
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


class Doubt(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of uncertainty.toml."""

    source: str
    # of a device's number, by its status
    clock: dict[str, float]
    memory: dict[str, float]
    host: dict[str, float]
    # correlation of clock and memory: what holds a part down holds down both
    together: float
    # how many times less is known of a CPU: its constants rest on one
    extrapolated: float
    # of the model itself: by kind of device and runtime, and of a training step
    model: dict[str, float]


@cache
def shipped() -> Doubt:
    """Ours."""
    return msgspec.convert(tomllib.loads(UNCERTAINTY.read_text(encoding="utf-8")), Doubt)


def rests(components: Mapping[str, float], device_kind: str) -> Vector:
    """How much of a time clock, memory and host make: minus its derivative by the logarithm of the clock and of the share of
    memory, and its derivative by that of the host's time. `components` are those of Point or Totals, in seconds.

    Caches run at the clock. On a CPU the host is the device, and starting its threads belongs to it.
    """
    total = sum(components.values()) or 1.0
    clock = memory = host = 0.0
    for name, part in components.items():
        kind, _, level = name.partition(":")
        if level == "DRAM":
            memory += part
        elif kind in ("compute", "instructions", "memory"):
            clock += part
        elif kind == "host" or (kind == "launch" and device_kind == "cpu"):
            host += part
    return clock / total, memory / total, host / total


def covariance(device: Device) -> Matrix:
    """Of the logarithms of what clock, memory and host cost (a slower clock costs more): by the status of the device's
    numbers, or as known times left them."""
    known = device.known
    if known is not None:
        c, m, h = known.clock, known.memory, known.host
        cm, ch, mh = known.clock_memory * c * m, known.clock_host * c * h, known.memory_host * m * h
        return (c * c, cm, ch), (cm, m * m, mh), (ch, mh, h * h)
    doubt = shipped()
    gpu = device.kind == "gpu"
    clocks = [device.sustained.status] if gpu else [device.clock.status, device.vector["fp32"].status]
    memory = device.reached.status if gpu else device.levels[-1].status
    times = 1.0 if gpu or device.tier == "calibrated" else doubt.extrapolated
    c, m = times * max(doubt.clock[status] for status in clocks), times * doubt.memory[memory]
    h = times * doubt.host[device.host.status]
    both = doubt.together * c * m
    return (c * c, both, 0.0), (both, m * m, 0.0), (0.0, 0.0, h * h)


# Of a normal distribution, eight tenths lie within so many standard deviations.
_EIGHT_TENTHS = 1.2816


def parts(components: Mapping[str, float], device: Device) -> Vector:
    """Standard deviations of the logarithm of a time by what is not known of the device, in three parts that have nothing to do
    with each other: the first moves the clock (and what goes with it), the second the memory besides, the third the host.
    """
    along = rests(components, device.kind)
    low = _root(covariance(device))
    first, second, third = (sum(along[i] * low[i][j] for i in range(3)) for j in range(3))
    return first, second, third


def _root(of: Matrix) -> list[list[float]]:
    """The lower triangle whose product with its own transpose is `of` (Cholesky)."""
    low = [[0.0] * 3 for _ in range(3)]
    for i in range(3):
        for j in range(i + 1):
            rest = of[i][j] - sum(low[i][k] * low[j][k] for k in range(j))
            low[i][j] = math.sqrt(max(rest, 0.0)) if i == j else rest / low[j][j] if low[j][j] else 0.0
    return low


def bounds(value: float, sd: float) -> tuple[float, float]:
    """The interval around a value whose logarithm has that standard deviation."""
    factor = math.exp(_EIGHT_TENTHS * sd)
    return value / factor, value * factor


def interval(seconds: float, components: Mapping[str, float], device: Device, runtime: str, training: bool) -> Interval:
    """Where a measured time lies in eight of ten cases."""
    common, alone = parts(components, device), own(device.kind, runtime, training)
    low, high = bounds(seconds, math.hypot(*common, alone))
    return Interval(low_s=low, high_s=high, own=alone, common=common)


def ratio(one: Interval, other: Interval, same_device: bool) -> float:
    """Standard deviation of the logarithm of the ratio of two times: what both rest on alike on one device cancels."""
    if same_device:
        return math.hypot(*(a - b for a, b in zip(one.common, other.common, strict=True)), one.own, other.own)
    return math.hypot(*one.common, *other.common, one.own, other.own)


def own(device_kind: str, runtime: str, training: bool) -> float:
    """Of the model's own part."""
    model = shipped().model
    found = model[f"{device_kind}_{runtime}"]
    return max(found, model["training"]) if training else found
