"""How sure a predicted time is: what is not known of a device's numbers, and how far the model is off beside them.

log(measured / predicted) is taken as two parts. One comes from the device: the clock that it keeps, the share of its memory's
bandwidth that it delivers, and what its host needs for an operator are known only so well (by their status in the device
file), and each moves a time as much as the time rests on it. It is common to all models on that device. The other is the
model's own: less for what is made of classes of kernel that it knows well, more for a part of a model than for the whole, in
which the errors of single kernels even out. Known times narrow the first (validation/known.py). All numbers are standard
deviations of a logarithm, and stand in uncertainty.toml with what they were taken from; `roofline validate --leave-out
--uncertainty FILE` sets them by devices that no constant had seen (validation/spread.py).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache

import msgspec
from msgspec import Struct

from roofline.devices.device import Device
from roofline.paths import UNCERTAINTY
from roofline.records import Interval

# One number for each part of a device that known times can say something of: clock, memory, host.
Vector = tuple[float, float, float]
CLOCK, MEMORY, HOST = range(3)
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
    # by kind of device: times all of the above, of the host not less than 1
    device: dict[str, float]
    # of the model itself: by kind of device and runtime, and of a training step
    model: dict[str, float]
    # by kind of device: of a single kernel, besides; and by class of kernel times `model`, 1 where it is not named
    kernel: dict[str, float]
    classes: dict[str, dict[str, float]]


@cache
def shipped() -> Doubt:
    """Ours."""
    return msgspec.convert(tomllib.loads(UNCERTAINTY.read_text(encoding="utf-8")), Doubt)


class Mix(Struct, frozen=True):
    """What a time is made of: seconds by class of kernel, and the sum of the squares of the kernels' seconds."""

    classes: Mapping[str, float] = {}
    squares: float = 0.0


UNKNOWN = Mix()


def rests(components: Mapping[str, float], device_kind: str) -> Vector:
    """How much of a time clock, memory and host make: minus its derivative by the logarithm of the clock and of the share of
    memory, and its derivative by that of the host's time. `components` are those of Point or Totals, in seconds.

    Caches run at the clock. On a CPU the host is the device, and starting its threads belongs to it.
    """
    return along([(number_of(name, device_kind), part) for name, part in components.items()])


def number_of(component: str, device_kind: str) -> int | None:
    """The place in a Vector of what a component rests on; None where it is none of those."""
    kind, _, level = component.partition(":")
    if level == "DRAM":
        return MEMORY
    if kind in ("compute", "instructions", "memory"):
        return CLOCK
    return HOST if kind == "host" or (kind == "launch" and device_kind == "cpu") else None


def along(parts: Sequence[tuple[int | None, float]]) -> Vector:
    """How much of a time its parts make that rest on clock, memory and host."""
    total, sums = sum([part for _, part in parts]) or 1.0, [0.0, 0.0, 0.0]
    for number, part in parts:
        if number is not None:
            sums[number] += part
    clock, memory, host = (one / total for one in sums)
    return clock, memory, host


def covariance(device: Device, least: float = 0.0) -> Matrix:
    """Of the logarithms of what clock, memory and host cost (a slower clock costs more): by the status of the device's
    numbers, or as known times left them. The factor of its kind counts as `least` at least."""
    known = device.known
    if known is not None:
        c, m, h = known.clock, known.memory, known.host
        cm, ch, mh = known.clock_memory * c * m, known.clock_host * c * h, known.memory_host * m * h
        return (c * c, cm, ch), (cm, m * m, mh), (ch, mh, h * h)
    doubt = shipped()
    gpu = device.kind == "gpu"
    clocks = [device.sustained.status] if gpu else [device.clock.status, device.vector["fp32"].status]
    memory = device.reached.status if gpu else device.levels[-1].status
    times = max(1.0 if device.tier == "calibrated" else doubt.device[device.kind], least)
    c, m = times * max(doubt.clock[status] for status in clocks), times * doubt.memory[memory]
    # hosts are not what a factor below 1 was told by: tables are of large batches
    h = max(times, 1.0) * doubt.host[device.host.status]
    both = doubt.together * c * m
    return (c * c, both, 0.0), (both, m * m, 0.0), (0.0, 0.0, h * h)


# Of a normal distribution, eight tenths lie within so many standard deviations.
_EIGHT_TENTHS = 1.2816


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
    try:
        factor = math.exp(_EIGHT_TENTHS * sd)
    except OverflowError:  # a number from a file
        factor = math.inf
    return value / factor, value * factor


class Sure(Struct, frozen=True):
    """How sure times on one device in one setting are."""

    device_kind: str
    # the lower triangle whose product with its own transpose is the covariance of clock, memory and host
    low: list[list[float]]
    # of the model itself; by class of kernel, times that; of a single kernel
    model: float
    classes: Mapping[str, float]
    kernel: float

    @classmethod
    def of(cls, device: Device, runtime: str, training: bool) -> Sure:
        doubt, kind = shipped(), device.kind
        found = own(kind, runtime, training)
        return cls(kind, _root(covariance(device)), found, doubt.classes.get(kind, {}), doubt.kernel[kind])

    def parts(self, components: Mapping[str, float]) -> Vector:
        """`of_device` of a time with these components."""
        return self.of_device(rests(components, self.device_kind))

    def of_device(self, along: Vector) -> Vector:
        """Standard deviations of the logarithm of a time by what is not known of the device, where it rests on that so far.

        In three parts that have nothing to do with each other: the first moves the clock (and what goes with it), the second
        the memory besides, the third the host.
        """
        low = self.low
        first, second, third = (along[0] * low[0][j] + along[1] * low[1][j] + along[2] * low[2][j] for j in range(3))
        return first, second, third

    def own(self, mix: Mix) -> float:
        """Of the model's own part: what its formulas miss in a time of that mix."""
        total = sum(mix.classes.values())
        if not total:
            return self.model
        mean = sum([part * self.classes.get(name, 1.0) ** 2 for name, part in mix.classes.items()]) / total
        return math.sqrt(self.model * self.model * mean + self.kernel**2 * mix.squares / (total * total))

    def between(self, seconds: float, components: Mapping[str, float], mix: Mix = UNKNOWN) -> tuple[float, float]:
        """The ends of the interval alone."""
        return self.ends(seconds, rests(components, self.device_kind), mix)

    def ends(self, seconds: float, along: Vector, mix: Mix) -> tuple[float, float]:
        """The same of a time of which it is known what it rests on."""
        return bounds(seconds, self.sd(along, mix))

    def sd(self, along: Vector, mix: Mix) -> float:
        """Standard deviation of the logarithm of such a time."""
        return math.hypot(*self.of_device(along), self.own(mix))

    def interval(self, seconds: float, components: Mapping[str, float], mix: Mix = UNKNOWN) -> Interval:
        """Where a measured time lies in eight of ten cases."""
        common, alone = self.parts(components), self.own(mix)
        low, high = bounds(seconds, math.hypot(*common, alone))
        return Interval(low_s=low, high_s=high, own=alone, common=common)


def ratio(one: Interval, other: Interval, same_device: bool) -> float:
    """Standard deviation of the logarithm of the ratio of two times: what both rest on alike on one device cancels."""
    if same_device:
        return math.hypot(*(a - b for a, b in zip(one.common, other.common, strict=True)), one.own, other.own)
    return math.hypot(*one.common, *other.common, one.own, other.own)


def own(device_kind: str, runtime: str, training: bool) -> float:
    """Of the model's own part, whatever the time is made of."""
    model = shipped().model
    found = model[f"{device_kind}_{runtime}"]
    return max(found, model["training"]) if training else found
