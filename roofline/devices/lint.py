"""Physics checks of a device: peak = units x clock x rate, bandwidth = bus x rate, no sparse peaks, a plausible ridge."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

from roofline.devices.device import Device, Peak
from roofline.paths import LIBRARY
from roofline.units import seconds, si

# Vendors round their peaks and clocks to about 1 %; more than 3 % apart is another number.
TOLERANCE = 0.03
# FLOP/B over DRAM; the least is a phone's scalar unit beside its memory, the most an fp8 tensor core beside GDDR.
RIDGE = (0.2, 3000.0)
OVERHEAD = (0.0, 1e-3)


@cache
def _architectures() -> dict[str, dict[str, dict[str, float]]]:
    data: dict[str, Any] = tomllib.loads((LIBRARY / "_architectures.toml").read_text(encoding="utf-8"))
    return data


# Beyond these no device is, whatever is measured on it: FLOP/s and B/s, bytes of a level, seconds of an overhead, Hz.
_MOST_RATE, _MOST_BYTES, _MOST_SECONDS, _MOST_CLOCK = 1e21, 2**60, 1.0, 1e12
# A level that was measured may come out a little slower than the one behind it.
_SLOWER = 0.5


def impossible(device: Device) -> list[str]:
    """ "field: what is wrong" for each number of a file that no device has; those of `check` are only implausible."""
    limits: list[tuple[str, float, str, float]] = [
        ("clock", device.clock.value, "Hz", _MOST_CLOCK), ("units", device.units.value, "", 1e7),
        ("host", device.host.value, "s", _MOST_SECONDS), ("launch", device.launch.value, "s", _MOST_SECONDS),
    ]  # fmt: skip
    for kind, peaks in (("tensor", device.tensor), ("vector", device.vector)):
        for key, peak in peaks.items():
            limits += [(f"{kind}.{key}.value", peak.value, "FLOP/s", _MOST_RATE),
                       (f"{kind}.{key}.per_clock", peak.per_clock, "", 1e9),
                       (f"{kind}.{key}.clock", peak.clock, "Hz", _MOST_CLOCK)]  # fmt: skip
    for i, level in enumerate(device.levels, 1):
        limits += [(f"level[{i}].bandwidth", level.bandwidth, "B/s", _MOST_RATE), (f"level[{i}].rate", level.rate, "T/s", 1e12),
                   (f"level[{i}].size", level.size, "B", _MOST_BYTES)]  # fmt: skip
    for i, core in enumerate(device.cores, 1):
        limits += [(f"cores[{i}].clock", core.clock, "Hz", _MOST_CLOCK), (f"cores[{i}].per_clock", core.per_clock, "", 1e9)]
    for table, numbers, unit, most in (
        ("fixed", device.fixed, "s", _MOST_SECONDS), ("flops", device.flops, "FLOP/s", _MOST_RATE),
        ("bytes", device.bytes, "B/s", _MOST_RATE),
    ):  # fmt: skip
        limits += [(f"{table}.{name}.value", number.value, unit, most) for name, number in numbers.items()]
    found = [
        f"{field}: {value:g} {unit}".rstrip() + f" cannot be; expected 0 to {most:g} {unit}".rstrip()
        for field, value, unit, most in limits
        if not 0 <= value <= most
    ]
    for i, (near, far) in enumerate(zip(device.levels, device.levels[1:], strict=False), 1):
        if near.bandwidth < _SLOWER * far.bandwidth:
            rates = f"{si(near.bandwidth, 'B/s')}, but {far.name} behind it has {si(far.bandwidth, 'B/s')}"
            found.append(f"level[{i}].bandwidth: {near.name} has {rates}; a nearer level is the faster one")
    return found


def check(device: Device) -> list[str]:
    """One sentence for each number that cannot be right; empty for a sound device."""
    return [*_peaks(device), *_order(device), *_memory(device), *_overheads(device)]


def _far(value: float, expected: float) -> bool:
    return abs(value - expected) > TOLERANCE * expected


def _peaks(device: Device) -> Iterator[str]:
    rates = _architectures().get(device.arch, {})
    for kind, table in (("tensor", device.tensor), ("vector", device.vector)):
        for key, peak in table.items():
            known = rates.get(kind, {}).get(key, 0.0)
            if peak.per_clock and known and _far(peak.per_clock, known):
                yield (f"{kind} {key}: {peak.per_clock:g} FLOP per unit and cycle, but {device.arch} does {known:g} dense"
                       f"{_sparse(peak.per_clock, known)}")  # fmt: skip
            elif (rate := peak.per_clock or known) and not device.cores:
                yield from _product(device, f"{kind} {key}", peak, rate)
    if device.cores:
        fp32 = sum(c.count * c.clock * c.per_clock for c in device.cores)
        peak = device.vector["fp32"]
        if _far(peak.value, fp32) and peak.status != "measured":
            yield f"vector fp32: {si(peak.value, 'FLOP/s')}, but its kinds of core add up to {si(fp32, 'FLOP/s')}"
        if sum(c.count for c in device.cores) != device.units.value:
            yield f"units: {device.units.value:g}, but its kinds of core add up to {sum(c.count for c in device.cores)}"


def _product(device: Device, what: str, peak: Peak, rate: float) -> Iterator[str]:
    clock = peak.clock or device.clock.value
    expected = device.units.value * clock * rate
    # A measured peak may lie below the product, never above it.
    if _far(peak.value, expected) and not (peak.status == "measured" and 0.5 * expected < peak.value < expected):
        product = f"{device.units.value:g} units at {si(clock, 'Hz')} and {rate:g} FLOP per cycle give {si(expected, 'FLOP/s')}"
        yield f"{what}: {si(peak.value, 'FLOP/s')}, but {product}{_sparse(peak.value, expected)}"


def _sparse(value: float, dense: float) -> str:
    return ": is it the figure with sparsity?" if not _far(value, 2 * dense) else ""


def _order(device: Device) -> Iterator[str]:
    """Wider types are never faster on the same unit."""
    for table, (wide, narrow) in (
        (device.vector, ("fp64", "fp32")),
        (device.tensor, ("tf32/fp32", "fp16/fp32")),
        (device.tensor, ("fp16/fp32", "fp8/fp32")),
        (device.tensor, ("fp16/fp32", "fp16/fp16")),
    ):
        if wide in table and narrow in table and table[wide].value > table[narrow].value * (1 + TOLERANCE):
            rates = f"{si(table[wide].value, 'FLOP/s')} and {si(table[narrow].value, 'FLOP/s')}"
            yield f"{wide} is faster than {narrow}: {rates}"


def _memory(device: Device) -> Iterator[str]:
    for level in device.levels:
        product = level.bus_bits / 8 * level.rate
        if product and _far(level.bandwidth, product):
            pins = f"{level.bus_bits} bits at {si(level.rate, 'T/s')} give {si(product, 'B/s')}"
            yield f"{level.name}: {si(level.bandwidth, 'B/s')}, but {pins}"
    for near, far in zip(device.levels, device.levels[1:], strict=False):
        if near.bandwidth < far.bandwidth:
            yield f"{near.name} is slower than {far.name}: {si(near.bandwidth, 'B/s')} and {si(far.bandwidth, 'B/s')}"
        # A CPU's private caches may well add up to more than its shared one.
        if device.kind == "gpu" and near.size and far.size and near.size > far.size:
            yield f"{near.name} is larger than {far.name}"
    for name, value in device.peaks().items():
        ridge = value / device.bandwidth
        if not RIDGE[0] <= ridge <= RIDGE[1]:
            yield f"{name}: a ridge of {ridge:.3g} FLOP/B is implausible (expected {RIDGE[0]:g} to {RIDGE[1]:g})"


def _overheads(device: Device) -> Iterator[str]:
    for name, number in (("launch", device.launch), ("host", device.host)):
        if not OVERHEAD[0] <= number.value <= OVERHEAD[1]:
            yield f"{name}: {seconds(number.value)} is implausible (expected up to {seconds(OVERHEAD[1])})"
