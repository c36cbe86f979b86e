"""Physics checks of a device: peak = units x clock x rate, bandwidth = bus x rate, no sparse peaks, a plausible ridge."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from roofline.devices import power
from roofline.devices.device import Declared, Device, Peak, declared
from roofline.units import seconds, si

# Vendors round their peaks and clocks to about 1 %; more than 3 % apart is another number.
TOLERANCE = 0.03
# FLOP/B over DRAM; the least is a phone's scalar unit beside its memory, the most an fp8 tensor core beside GDDR.
RIDGE = (0.2, 3000.0)
OVERHEAD = (0.0, 1e-3)


# A level that was measured may come out a little slower than the one behind it.
_SLOWER = 0.5


def impossible(device: Device) -> list[str]:
    """ "field: what is wrong" for each number of a file that no device has; those of `check` are only implausible."""
    found = [line for at, value, of in _declared(device) if (line := _beyond(at, value, of))]
    for i, (near, far) in enumerate(zip(device.levels, device.levels[1:], strict=False), 1):
        if near.bandwidth < _SLOWER * far.bandwidth:
            rates = f"{si(near.bandwidth, 'B/s')}, but {far.name} behind it has {si(far.bandwidth, 'B/s')}"
            found.append(f"level[{i}].bandwidth: {near.name} has {rates}; a nearer level is the faster one")
    return found


def _declared(device: Device) -> Iterator[tuple[str, float, Declared]]:
    """(field, value, what is known of it) of each number of a device."""
    for name, of in declared(Device).items():
        value = getattr(device, name)
        if isinstance(value, dict):
            yield from ((f"{name}.{key}.value", number.value, of) for key, number in value.items())
        elif value is not None:
            yield name, getattr(value, "value", value), of
    rows: list[tuple[str, Struct]] = []
    for kind, peaks in (("tensor", device.tensor), ("vector", device.vector)):
        rows += [(f"{kind}.{key}", peak) for key, peak in peaks.items()]
    for kind, given in (("level", device.levels), ("cores", device.cores), ("scaling", device.scaling)):
        rows += [(f"{kind}[{i}]", row) for i, row in enumerate(given, 1)]
    rows += [("known", device.known)] if device.known else []
    for at, row in rows:
        yield from ((f"{at}.{name}", getattr(row, name), of) for name, of in declared(type(row)).items())


def _beyond(at: str, value: float, of: Declared) -> str:
    if of.least <= value <= of.most:
        return ""
    # a rate of pins is in transfers
    unit = "" if of.unit == "1" else "T/s" if at.endswith(".rate") else of.unit
    # a file may hold a whole number of more digits than a float has
    shown = f"{value:g}" if abs(value) < 1e300 else f"a number of {len(str(value))} digits"
    return f"{at}: {shown} {unit}".rstrip() + f" cannot be; expected {of.least:g} to {of.most:g} {unit}".rstrip()


def check(device: Device) -> list[str]:
    """One sentence for each number that cannot be right; empty for a sound device."""
    return [*_peaks(device), *_order(device), *_memory(device), *_overheads(device)]


def _far(value: float, expected: float) -> bool:
    return abs(value - expected) > TOLERANCE * expected


def _peaks(device: Device) -> Iterator[str]:
    rates = power.architecture(device.arch)
    for kind, table in (("tensor", device.tensor), ("vector", device.vector)):
        for key, peak in table.items():
            known = rates.get(kind, {}).get(key, 0.0)
            if peak.per_clock and known and _far(peak.per_clock, known):
                yield (
                    f"{kind} {key}: {peak.per_clock:g} FLOP per unit and cycle, but {device.arch} does {known:g} dense"
                    f"{_sparse(peak.per_clock, known)}"
                )
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
