"""A processor of which fewer cores work than it has: `--threads N`, or a device named `i9-10940x@4`.

One thread has a core for itself. Its units, its share of the caches' bandwidth and its own caches come with the core; the last
cache is all cores' and stays. Few cores cannot draw all of DRAM's bandwidth. Where `roofline calibrate` measured what so many
threads reach, that is taken. The clock stays that of all cores at work, so what a turbo gives a few is not in it. What the
socket takes with idle cores nobody says: its power is not known then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from roofline.devices.device import Cores, Device, Level, Number, Peak
from roofline.errors import UsageError

# Bytes that a core draws from DRAM in a cycle, at most: some 12 GB/s on a Skylake server at 3.3 GHz, 20 on a desktop at 5 GHz.
DRAWN = 4.0
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
    last = len(device.levels) - 1
    levels = tuple(_level(x, threads / cores, i < last - 1) for i, x in enumerate(device.levels[:-1]))
    far = device.levels[-1]
    drawn = min(far.bandwidth * dram, threads * clock * DRAWN) if not device.scaling else far.bandwidth * dram
    note = f"{threads} of its {cores} cores work, a thread each, at the clock that all of them keep."
    return replace(
        device,
        name=f"{device.name}@{threads}",
        title=f"{device.title}, {threads} of {cores} cores",
        aliases=(),
        units=_number(float(threads), device.units),
        clock=_number(clock, device.clock),
        threads=threads,
        cores=kinds,
        vector=_peaks(device.vector, fp32),
        tensor=_peaks(device.tensor, fp32),
        levels=(*levels, replace(far, bandwidth=drawn, nominal=far.bandwidth, source=_SOURCE)),
        # alone, it starts no others
        launch=device.launch if threads > 1 else _number(0.0, device.launch),
        flops={name: _number(x.value * fp32, x) for name, x in device.flops.items()},
        bytes={name: _number(x.value * fp32, x) for name, x in device.bytes.items()},
        tdp=None,
        notes=(note, *device.notes),
        sources={
            **device.sources,
            _SOURCE: f"{threads} of {cores} cores: their share of what all have (roofline/devices/threads.py)",
        },
    )


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


def _level(level: Level, share: float, own: bool) -> Level:
    """A cache: its bandwidth comes with the cores, its size too where each has its own."""
    size = int(level.size * share) if own else level.size
    return replace(level, bandwidth=level.bandwidth * share, size=size, nominal=level.bandwidth, source=_SOURCE)


def _peaks(table: dict[str, Peak], share: float) -> dict[str, Peak]:
    return {name: replace(p, value=p.value * share, nominal=p.value, source=_SOURCE) for name, p in table.items()}


def _number(value: float, before: Number) -> Number:
    return replace(before, value=value, source=_SOURCE, nominal=before.value)
