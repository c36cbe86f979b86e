"""What a pass costs in joules: the power of a device while each kernel runs.

energy of a kernel = limit x (idle x time + active x work + arithmetic x FLOPs / peak) + power of the memory x memory time,
at most the limit while it works and `idle` while it waits. `limit` is the board's power (a processor's), `work` the time in
which a GPU does not wait for its host. `idle` and `active` are shares of the limit, with their sources in energy.toml.
`arithmetic` is the device's own: a board that keeps less than its boost clock under large products would take more than its
limit at boost, by the power law of a clock (devices/power.py). Memory is what its type takes for a bit.

All of a kernel's terms grow with its work, so its energy does; that of a pass is the sum over kernels; and no average is above
the limit.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from roofline.devices.device import Device
from roofline.paths import ENERGY
from roofline.records import Energy, Interval, Kernel, Point
from roofline.timemodel.uncertainty import bounds


class Share(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a device's power limit."""

    value: float
    status: str
    source: str


class Shares(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of energy.toml."""

    idle: Share
    active: Share
    # standard deviations of the logarithm of the power: by kind of device, and by the status of its limit
    doubt: dict[str, float]
    limit: dict[str, float]


@cache
def shipped() -> Shares:
    """Ours."""
    return msgspec.convert(tomllib.loads(ENERGY.read_text(encoding="utf-8")), Shares)


class Board(Struct, frozen=True):
    """A device as a consumer of power. Watts."""

    limit: float
    idle: float
    # idle and active: while a kernel is at work
    busy: float
    # of arithmetic at the peak
    arithmetic: float
    # of its memory at full bandwidth; 0: it is not on the board (a processor's)
    memory: float
    # whether it waits while its kernels are issued; a processor issues them itself
    waits: bool
    # standard deviation of the logarithm of the power
    doubt: float


class Spent(Struct, frozen=True):
    """Joules of a kernel, and those that would grow with its time."""

    joules: float
    standing: float


def unknown(device: Device, runtime: str) -> str:
    """Why no energy can be said; empty where it can."""
    if runtime == "ideal":
        return "the ideal runtime is a definition: its times are no device's, and it has no energy"
    if device.tdp is None:
        return f"the power of {device.name} is not known (its device file has no tdp), so its energy cannot be said"
    return ""


def board(device: Device) -> Board:
    """Of a device whose power is known."""
    from roofline.devices import power  # of a device whose power is known

    assert device.tdp is not None, "ask `unknown` first"
    shares, limit = shipped(), device.tdp.value
    idle, busy = shares.idle.value * limit, (shares.idle.value + shares.active.value) * limit
    wanted = limit * max(1.0, device.sustained.value**-power.EXPONENT)
    memory = (power.memory(device) or 0.0) if device.kind == "gpu" else 0.0
    doubt = math.hypot(shares.doubt[device.kind], shares.limit[device.tdp.status])
    return Board(limit, idle, busy, wanted - busy, memory, device.kind == "gpu", doubt)


def spent(of: Board, time: float, waits: float, arithmetic: float, memory: float) -> Spent:
    """Joules of a kernel that adds `time` seconds, of which the device waits some, and whose arithmetic would take so many at
    the peak, its memory traffic so many alone."""
    work = max(time - waits, 0.0)
    standing = of.idle * (time - work) + of.busy * work
    most = of.idle * (time - work) + of.limit * work
    return Spent(min(standing + of.arithmetic * arithmetic + of.memory * memory, most), standing)


def of_points(of: Board, kernels: Iterable[Kernel], points: Iterable[Point]) -> list[Spent]:
    """Of each kernel of a pass."""
    return [
        # `efficiency` is what is executed, over the peak, by the time that the arithmetic takes
        spent(of, p.time_s, p.overhead_s if of.waits else 0.0, p.efficiency * p.compute_s if k.flops else 0.0, p.memory_s)
        for k, p in zip(kernels, points, strict=True)
    ]


class Boards:
    """Several, in columns with a row for each; None, whose power is not known, takes nothing."""

    def __init__(self, boards: Sequence[Board | None]) -> None:
        import numpy as np

        numbers = [(b.limit, b.idle, b.busy, b.arithmetic, b.memory) if b else (0.0,) * 5 for b in boards]
        self.limit, self.idle, self.busy, self.arithmetic, self.memory = np.array(numbers, dtype=float).T.reshape(5, -1, 1)

    def working(self, work: Any, arithmetic: Any, memory: Any) -> Any:
        """Joules of kernels while they work, as `spent` says."""
        import numpy as np

        return np.minimum(self.busy * work + self.arithmetic * arithmetic + self.memory * memory, self.limit * work)

    def passes(self, time: Any, work: Any, working: Any) -> tuple[Any, Any]:
        """Joules of a pass on each, and those that would grow with its time: of its seconds, and of those at work."""
        waits = self.idle[:, 0] * (time - work)
        return waits + working, waits + self.busy[:, 0] * work


def doubt(of: Board, joules: float, standing: float, time: float) -> float:
    """Standard deviation of the logarithm of the joules of a pass, where `time` is that of its time: a longer one costs what
    stands still in it; and the power is known only so well."""
    return math.hypot(of.doubt, min(standing / joules, 1.0) * time)


def summary(of: Board, each: Sequence[Spent], time: float, batch: int, sure: Interval | None) -> Energy | None:
    """Of the whole pass; None where nothing ran."""
    joules = sum(one.joules for one in each)
    if not time or not joules:
        return None
    sd = doubt(of, joules, sum(one.standing for one in each), math.hypot(sure.own, *sure.common) if sure else 0.0)
    low, high = bounds(joules, sd)
    return Energy(
        joules=joules,
        watts=joules / time,
        per_sample_j=joules / max(batch, 1),
        low_j=low,
        high_j=high,
        limit_w=of.limit,
        sd=sd,
    )
