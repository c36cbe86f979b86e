"""A few known times set a device: the clock it keeps, its share of the memory's bandwidth, its host's time for an operator.

The constants of the time model stay. What is looked for is the most likely factor of each of the three numbers. Beside the
known times counts how well the device's file knows them (timemodel/uncertainty.py), so what no time rests on stays as it was,
and limits of physics hold. What is left unknown goes into the device, and its intervals shrink by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from roofline import units
from roofline.devices.device import Device, Known
from roofline.errors import UsageError
from roofline.records import Kernel, components_of
from roofline.timemodel import adjusted, constants, halves, roof, uncertainty
from roofline.timemodel.constants import Constants
from roofline.units import seconds as shown
from roofline.units import si

# A time may be shorter than the arithmetic alone at the peak by what clocks and rounding leave, not by more.
_ABOVE = 1.02
# Standard deviations of the model's own part beyond which a time is of something else; of what the file says, those beyond
# which it counts less.
_CONTRARY, _FAR = 3.0, 1.2
# Most errors of the model are smaller than its standard deviation says, since a few are very large: this share of it, and
# what is further off counts less. Who gives a known time doubts the file: its clock, memory and host are so much less sure.
_CORE, _DOUBT = 0.9, np.array([1.5, 1.5, 1.0])
_STEPS = 40
# What all known times are off by at least is no measurement of this device; and how far contradictions widen what is left.
_ELSE, _EXCESS = 4.0, 25.0
# Two measurements of one question differ by this much at most.
_AGAIN = 1.1


class Timed(Struct, frozen=True):
    """A known time, and the kernels that took it."""

    # as it was given: "resnet50 -b 256 --dtype amp"
    what: str
    seconds: float
    kernels: Sequence[Kernel]
    setting: str
    runtime: str
    training: bool
    # bytes alive at the peak
    footprint: int
    # whether it is in the dtype that the model was built in, of which the device may have no units
    built: bool = False


class Row(Struct, frozen=True):
    """A known time beside the predictions before and after. Seconds."""

    what: str
    known_s: float
    before_s: float
    after_s: float


class Fitted(Struct, frozen=True):
    """The device by its known times; what was found of them, in sentences."""

    device: Device
    rows: list[Row]
    notes: list[str]


def fit(times: Sequence[Timed], device: Device, numbers: Constants | None = None) -> Fitted:
    """Raises UsageError for no time at all, and for one that is above the device's peak."""
    if not times:
        raise UsageError("no known time to go by: give one at least")
    c = numbers or constants.asked()
    for one in times:
        _possible(one, device, c)
    believed = np.linalg.inv(np.array(uncertainty.covariance(device)))
    # ... and what other boards say of how good files are does not hold it the firmer
    prior = np.linalg.inv(np.array(uncertainty.covariance(device, least=1.0)) * np.outer(_DOUBT, _DOUBT))
    sd = np.array([uncertainty.own(device.kind, one.runtime, one.training) for one in times])
    x, told = _most_likely(times, device, c, prior, sd)
    found = adjusted.adjusted(device, _factors(x), c)
    before = [_predicted(one, device, c)[0] for one in times]
    after = [_predicted(one, found, c)[0] for one in times]
    off = np.log(np.array([one.seconds for one in times]) / after)
    # times that agree less than the model lets them say that it is less sure here
    excess = min(max(1.0, float(np.mean((off / sd) ** 2))), _EXCESS)
    left = np.linalg.inv(believed * _weight(x, prior) + told) * excess
    _explained(times, after, device)
    rows = [Row(one.what, one.seconds, b, a) for one, b, a in zip(times, before, after, strict=True)]
    notes = [_said(found, device, len(times)), *_doubts(rows, sd, device.name), *_held(found, device, c, rows)]
    return Fitted(_named(found, device, _known(left, off, device), notes, rows), rows, notes)


def _factors(x: Any) -> uncertainty.Vector:
    """Of clock, memory and host, of the logarithms of what they cost."""
    clock, memory, host = (float(value) for value in x)
    return exp(-clock), exp(-memory), exp(host)


def _predicted(one: Timed, device: Device, c: Constants) -> tuple[float, uncertainty.Vector]:
    """Seconds, and what they rest on."""
    if one.built:
        device, _ = halves.converted(device, one.kernels)
    points = roof.place(one.kernels, device, setting=one.setting, runtime=one.runtime, footprint=one.footprint, constants=c)
    return sum(p.time_s for p in points), uncertainty.rests(components_of(points), device.kind)


def _most_likely(times: Sequence[Timed], device: Device, c: Constants, prior: Any, sd: Any) -> tuple[Any, Any]:
    """(logarithms of what clock, memory and host cost, over before; the information that the times give of them).

    Steps of Gauss and Newton, within the limits. What is far off counts less the further it is (Huber): one wrong time of
    several does not lead, one alone is not taken at its word, and a device that is another than its file says is believed.
    """
    (clock, memory, host), (clocks, memories, hosts) = adjusted.limits(device, c)
    least, most = np.log([1 / clocks, 1 / memories, host]), np.log([1 / clock, 1 / memory, hosts])
    measured = np.log(np.array([one.seconds for one in times]))
    x, told = np.zeros(3), np.zeros((3, 3))
    for _ in range(_STEPS):
        now = [_predicted(one, adjusted.adjusted(device, _factors(x), c), c) for one in times]
        off = measured - np.log(np.array([seconds for seconds, _ in now]))
        # of the logarithm of a time, by those of what clock, memory and host cost
        slopes = np.array([rests for _, rests in now])
        core = _CORE * sd
        counts = np.minimum(1.0, core / np.maximum(np.abs(off), 1e-12))
        weight = counts / core**2
        held = prior * _weight(x, prior)
        wanted = held @ x - (slopes * weight[:, None]).T @ off
        new = _within(x, held + (slopes * weight[:, None]).T @ slopes, wanted, least, most)
        # what is left unknown goes by standard deviations, as intervals do
        told = (slopes * (counts / sd**2)[:, None]).T @ slopes
        # the host's pace and the device's change places from one step to the next
        step = np.clip(new - x, -0.7, 0.7)
        x = x + step
        if float(np.max(np.abs(step))) < 1e-4:
            break
    return x, told


def _weight(x: Any, prior: Any) -> float:
    """Of what the file says, where the numbers are so far from it."""
    return float(min(1.0, _FAR / max(float(x @ prior @ x) ** 0.5, 1e-12)))


def _within(x: Any, information: Any, wanted: Any, least: Any, most: Any) -> Any:
    """The next x: where the quadratic has its least value, those held that would leave their limits."""
    free = np.ones(3, dtype=bool)
    new = x.copy()
    for _ in range(3):
        rest = wanted + information[:, ~free] @ (new - x)[~free]
        new[free] = x[free] - np.linalg.solve(information[np.ix_(free, free)], rest[free])
        out = free & ((new < least) | (new > most))
        if not out.any():
            break
        new[out] = np.clip(new[out], least[out], most[out])
        free &= ~out
        if not free.any():
            break
    return new


# ------------------------------------------------------------------------------------------------ what cannot be, what is odd


def _possible(one: Timed, device: Device, c: Constants) -> None:
    """Raises UsageError for a time that the peak forbids: all that is executed, at the highest clock that the device has."""
    points = roof.place(one.kernels, device, setting=one.setting, runtime=one.runtime, footprint=one.footprint, constants=c)
    _, (clock, _, _) = adjusted.limits(device, c)
    boost = clock * (device.sustained.value if device.kind == "gpu" else 1.0)
    work = sum(k.flops * p.executed for k, p in zip(one.kernels, points, strict=True))
    alone = sum(
        k.flops * p.executed / (roof.peak(device, k, one.setting) * max(boost, 1.0))
        for k, p in zip(one.kernels, points, strict=True)
        if k.flops
    )
    if one.seconds * _ABOVE < alone:
        raise UsageError(
            f"{one.what} = {shown(one.seconds)} is above the peak of {device.name}: its {si(work, 'FLOP', 3)} take "
            f"{shown(alone)} at the least\nis it another device, another batch or dtype, or another unit of time?"
        )


def _explained(times: Sequence[Timed], after: Sequence[float], device: Device) -> None:
    """Raises UsageError where no number that the device could have comes near any of the times."""
    off = [max(one.seconds / seconds, seconds / one.seconds) for one, seconds in zip(times, after, strict=True)]
    if min(off) > _ELSE:
        one, seconds = times[0], after[0]
        raise UsageError(
            f"{one.what} = {shown(one.seconds)} cannot be a time of {device.name}: {shown(seconds)} is as near as its clock, "
            "memory and host can be\nis it another device, another batch or dtype, or another unit of time?"
        )


def _doubts(rows: Sequence[Row], sd: Any, device: str) -> list[str]:
    """What contradicts the rest."""
    found = []
    asked: dict[str, list[float]] = {}
    for row in rows:
        asked.setdefault(row.what, []).append(row.known_s)
    for what, seconds in asked.items():
        if max(seconds) > _AGAIN * min(seconds):
            found.append(f"{len(seconds)} known times of {what} contradict each other: {_span(seconds)}")
    ratios = [row.known_s / row.after_s for row in rows]
    far = [abs(log(ratio)) / s for ratio, s in zip(ratios, sd, strict=True)]
    if max(far) > _CONTRARY:
        row = rows[far.index(max(far))]
        took = f"{row.what} ({shown(row.known_s)}, predicted {shown(row.after_s)})"
        spread = f"known over predicted is {min(ratios):.2f} to {max(ratios):.2f} with the best numbers"
        found.append(
            f"the known times contradict each other: {spread}; furthest off is {took}"
            if len(rows) > 1
            else f"the known time contradicts {device}: {took} is as near as its numbers can be"
        )
    return found


def _span(seconds: Sequence[float]) -> str:
    return f"{shown(min(seconds))} to {shown(max(seconds))}"


def _held(found: Device, before: Device, c: Constants, rows: Sequence[Row]) -> list[str]:
    """Numbers that ended at a limit of physics."""
    said = []
    _, (clock, memory, _) = adjusted.limits(before, c)
    kept, delivers = _kept(found, before), adjusted.share(found, c) / adjusted.share(before, c)
    if before.kind == "cpu":
        delivers = found.bandwidth / before.bandwidth
    faster = sum(row.known_s < row.after_s for row in rows) > len(rows) / 2
    if faster and kept >= clock * 0.999:
        said.append("the known times ask for a higher clock than the device has: it is held there")
    if faster and delivers >= memory * 0.999:
        said.append("the known times ask for more than the memory's bandwidth: all of it is taken, and no more")
    return said


def _kept(found: Device, before: Device) -> float:
    return found.sustained.value / before.sustained.value if before.kind == "gpu" else found.clock.value / before.clock.value


# ------------------------------------------------------------------------------------------------ the device


def _known(left: Any, off: Any, device: Device) -> Known:
    sd = np.sqrt(np.diag(left))
    together = left / np.outer(sd, sd)
    times = len(off) + (device.known.times if device.known else 0)
    clock, memory, host = (float(f"{value:.4g}") for value in sd)
    pairs = (float(f"{together[i, j]:.4g}") for i, j in ((0, 1), (0, 2), (1, 2)))
    return Known(times, float(f"{np.sqrt(np.mean(off**2)):.4g}"), clock, memory, host, *pairs)


def _said(found: Device, before: Device, times: int) -> str:
    """What the numbers are now, and were."""
    parts = []
    if before.kind == "gpu":
        parts.append(f"clock kept {units.share(found.sustained.value)} of boost ({units.share(before.sustained.value)} before)")
        was = f"{units.share(before.reached.value)} before" if before.reached.value else "not known before"
        parts.append(f"share of the memory's bandwidth {units.share(found.reached.value)} ({was})")
    else:
        parts.append(f"clock {si(found.clock.value, 'Hz', 3)} ({si(before.clock.value, 'Hz', 3)} before)")
        parts.append(f"DRAM {si(found.bandwidth, 'B/s', 3)} ({si(before.bandwidth, 'B/s', 3)} before)")
    parts.append(f"host {shown(found.host.value)} for an operator ({shown(before.host.value)} before)")
    count = "1 known time" if times == 1 else f"{times} known times"
    return f"fitted to {count}: {', '.join(parts)}"


def _named(found: Device, before: Device, known: Known, notes: Sequence[str], rows: Sequence[Row]) -> Device:
    """With what it rests on."""
    listed = "; ".join(f"{row.what} = {shown(row.known_s)}" for row in rows)
    sources = {**before.sources, adjusted.SOURCE: f"Fitted by roofline calibrate --from to known times: {listed}"}
    said = tuple(f"{note[0].upper()}{note[1:]}." for note in notes)
    return replace(found, known=known, tier="fitted", notes=(*said, *before.notes), sources=sources)
