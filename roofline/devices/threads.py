"""A processor of which fewer cores work than it has: `--threads N`, or a device named `i9-10940x@4`.

One thread has a core for itself. Its units, its share of the caches' bandwidth and its own caches come with the core; the last
cache is all cores' and stays. Few cores cannot draw all of DRAM's bandwidth, and start and end a parallel region sooner. They
share the power of all, so each keeps a higher clock, up to the turbo of one that works alone (`turbo` of the device). Where
`roofline calibrate` measured what so many threads reach, that is taken. What the socket takes with idle cores nobody says: its
power is not known then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log2

from msgspec.structs import replace

from roofline.devices import power
from roofline.devices.device import Cores, Device, Level, Number, Peak
from roofline.errors import UsageError
from roofline.units import si

# Bytes that a core draws from DRAM in a cycle, at most: some 12 GB/s on a Skylake server at 3.3 GHz, 20 on a desktop at 5 GHz.
DRAWN = 4.0
# Of DRAM's bandwidth what all cores reach, where the device does not say.
REACHED = 0.75
_SOURCE = "threads"
_NAME = re.compile(r"(.+)@(\d+)\Z")


def split(name: str) -> tuple[str, int | None]:
    """`i9-10940x@4` as the device and its threads; other names as they are."""
    found = _NAME.match(name)
    return (found[1], int(found[2])) if found else (name, None)


def with_threads(devices: Sequence[Device], threads: int | None) -> list[Device]:
    """The devices, of all CPUs among them so many cores at work. Raises UsageError where that cannot be."""
    if threads is None:
        return list(devices)
    if all(device.kind == "gpu" for device in devices):
        raise UsageError(f"threads (--threads) are a CPU's, and {devices[0].name} is a GPU: leave them out")
    return [d if d.kind == "gpu" else working(d, threads) for d in devices]


def working(device: Device, threads: int) -> Device:
    """A CPU with so many of its cores at work, one thread each. Raises UsageError for more than it has."""
    cores = int(device.units.value)
    if device.kind != "cpu":
        raise UsageError(f"{device.name} is a GPU, and has no threads to count: give its name alone")
    if "@" in device.name:
        raise UsageError(f"{device.name}: its threads are in its name already: leave threads (--threads) out")
    if not 1 <= threads <= cores:
        shared = (
            f": two of its {device.threads} hardware threads share a core, and what the second brings is not in the model"
            if cores < threads <= device.threads
            else ""
        )
        raise UsageError(
            f"{threads} threads: {device.name} has {cores} cores{shared}\ngive threads (--threads) from 1 to {cores}"
        )
    if threads == cores:
        return device
    kinds, clock = _kinds(device, threads)
    fp32, dram = _reached(device, kinds, threads)
    kept = None if device.scaling else _kept(device, kinds, threads)
    pace = kept or 1.0
    fp32, clock = fp32 * pace, clock * pace
    last = len(device.levels) - 1
    levels = tuple(_level(x, threads / cores, pace, i < last - 1) for i, x in enumerate(device.levels[:-1]))
    return replace(
        device,
        name=f"{device.name}@{threads}",
        title=f"{device.title}, {threads} of {cores} cores",
        aliases=(),
        units=_number(float(threads), device.units),
        clock=_number(clock, device.clock, "estimated" if kept else device.clock.status),
        sustained=_number(1.0, device.sustained) if kept else device.sustained,
        threads=threads,
        cores=tuple(replace(kind, clock=kind.clock * pace) for kind in kinds),
        vector=_peaks(device.vector, fp32),
        tensor=_peaks(device.tensor, fp32),
        levels=(*levels, _dram(device, threads, clock, dram)),
        # threads wake and wait for each other along a tree; one alone does neither
        launch=_number(device.launch.value * log2(threads) / log2(cores), device.launch),
        flops={name: _number(x.value * fp32, x) for name, x in device.flops.items()},
        bytes={name: _number(x.value * fp32, x) for name, x in device.bytes.items()},
        tdp=None,
        notes=(f"{threads} of its {cores} cores work, a thread each, at {_clock_of(device, clock, kept)}.", *device.notes),
        sources={
            **device.sources,
            _SOURCE: f"{threads} of {cores} cores: their share of what all have (roofline/devices/threads.py)",
        },
    )


def _clock_of(device: Device, clock: float, kept: float | None) -> str:
    """What the note says of it."""
    if kept:
        return f"{si(clock, 'Hz')}: what the power of all leaves them, up to the turbo of one"
    return "the clock that was measured" if device.scaling else "the clock that all of them keep"


def _kept(device: Device, kinds: Sequence[Cores], threads: int) -> float | None:
    """The clock that so many cores keep, beside what the file says of all; None where it does not say what one alone has.

    Power goes as clock^2.3 for each core. Of two kinds the fast ones share what they take among themselves, no more: equal
    pieces end with the slowest core, so with what idle slow ones leave, few threads would beat all of them.
    """
    if device.turbo is None:
        return None
    all_of_them, fast = device.units.value, device.clock.value
    if kinds:
        all_of_them, fast = sum(k.count for k in device.cores if k.name == kinds[0].name), kinds[0].clock
    shared = device.sustained.value * max(all_of_them / threads, 1.0) ** (1 / power.EXPONENT)
    return float(min(shared, max(device.turbo.value / fast, device.sustained.value)))


def _dram(device: Device, threads: int, clock: float, share: float) -> Level:
    """Memory as so many cores draw on it, of what all reach: no more comes through, however wide it is."""
    far = device.levels[-1]
    bandwidth = far.bandwidth * share
    if not device.scaling:
        bandwidth = min(bandwidth, threads * clock * DRAWN / (device.reached.value or REACHED))
    return replace(far, bandwidth=bandwidth, nominal=far.bandwidth, source=_SOURCE)


def _kinds(device: Device, threads: int) -> tuple[tuple[Cores, ...], float]:
    """The cores that work, the fast ones first, and their mean clock."""
    if not device.cores:
        return (), device.clock.value
    left, found = threads, []
    for kind in sorted(device.cores, key=lambda kind: -kind.clock * kind.per_clock):
        taken = min(kind.count, left)
        left -= taken
        if taken:
            found.append(replace(kind, count=taken))
    return tuple(found), sum(kind.count * kind.clock for kind in found) / threads


def _reached(device: Device, kinds: Sequence[Cores], threads: int) -> tuple[float, float]:
    """Of what all cores reach: arithmetic, and DRAM (1 where nobody measured it)."""
    if device.scaling:
        rows = sorted(device.scaling, key=lambda row: row.threads)
        most = rows[-1]
        below = max((row for row in rows if row.threads <= threads), key=lambda row: row.threads, default=None)
        above = next((row for row in rows if row.threads >= threads), most)
        if below is None or below.threads == above.threads:
            share = min(threads / above.threads, 1.0)
            return share * above.fp32 / most.fp32, share * above.dram / most.dram
        part = (threads - below.threads) / (above.threads - below.threads)
        fp32, dram = (getattr(below, n) + part * (getattr(above, n) - getattr(below, n)) for n in ("fp32", "dram"))
        return min(fp32 / most.fp32, 1.0), min(dram / most.dram, 1.0)
    if kinds:
        speed = [sum(kind.count * kind.clock * kind.per_clock for kind in each) for each in (kinds, device.cores)]
        return speed[0] / speed[1], 1.0
    return threads / device.units.value, 1.0


def _level(level: Level, share: float, pace: float, own: bool) -> Level:
    """A cache: its bandwidth comes with the cores and their clock, its size where each has its own."""
    size = int(level.size * share) if own else level.size
    return replace(level, bandwidth=level.bandwidth * share * pace, size=size, nominal=level.bandwidth, source=_SOURCE)


def _peaks(table: dict[str, Peak], share: float) -> dict[str, Peak]:
    return {name: replace(p, value=p.value * share, nominal=p.value, source=_SOURCE) for name, p in table.items()}


def _number(value: float, before: Number, status: str = "") -> Number:
    return replace(before, value=value, source=_SOURCE, nominal=before.value, status=status or before.status)
