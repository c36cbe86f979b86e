"""A device with another clock kept, another share of its memory's bandwidth, another host: what known times can tell of it."""

from __future__ import annotations

from msgspec.structs import replace

from roofline.devices.device import Device, Number, Peak
from roofline.timemodel.constants import Constants
from roofline.timemodel.uncertainty import Vector

# A CPU's clock is what its file says that all cores keep: its turbo is not much above.
_TURBO = 1.2
# A part that keeps less of its clock or its memory than this is not the one that its file describes.
_LEAST = 0.4
# Nobody's host needs less or more for an operator.
_HOST = 1e-7, 10e-3
SOURCE = "known"


def share(device: Device, constants: Constants) -> float:
    """Of the DRAM bandwidth that a copy reaches: the device's, else the time model's."""
    return device.reached.value or (constants.gpu if device.kind == "gpu" else constants.cpu).stream


def limits(device: Device, constants: Constants) -> tuple[Vector, Vector]:
    """The least and the largest factor of clock, memory and host that can be.

    No GPU keeps more than its boost (or than what its file says that its boards keep), no memory delivers more than its
    bandwidth.
    """
    kept = device.sustained.value
    clock = max(1.0, kept) / kept if device.kind == "gpu" else _TURBO
    reached = device.levels[-1].status == "measured" and device.kind == "cpu"
    memory = _TURBO if reached else 1 / share(device, constants)
    host = device.host.value or _HOST[0]
    return (_LEAST, _LEAST, min(_HOST[0] / host, 1.0)), (clock, memory, max(_HOST[1] / host, 1.0))


def adjusted(device: Device, by: Vector, constants: Constants) -> Device:
    """The device with its clock, its memory's share and its host's time multiplied, within its limits."""
    clock, memory, host = by
    least, most = limits(device, constants)
    clock, memory, host = (min(max(x, low), high) for x, low, high in zip(by, least, most, strict=True))
    if device.kind == "gpu":
        vector = device.sustained_vector
        return replace(
            device,
            sustained=_times(device.sustained, clock),
            sustained_vector=vector and _times(vector, clock),
            reached=_number(share(device, constants) * memory, device.reached),
            host=_times(device.host, host),
        )
    return _cpu(device, clock, memory, host)


def _cpu(device: Device, clock: float, memory: float, host: float) -> Device:
    """All that runs at the clock of the cores follows it: units, caches, and what was measured of operators."""

    def rates(table: dict[str, Number]) -> dict[str, Number]:
        return {name: _times(number, clock) for name, number in table.items()}

    *caches, dram = device.levels
    near = [replace(x, bandwidth=x.bandwidth * clock, nominal=x.bandwidth, source=SOURCE) for x in caches]
    # "measured" says that a bandwidth is a reached one, which stays so
    status = dram.status if dram.status == "measured" else "fitted"
    far = replace(dram, bandwidth=dram.bandwidth * memory, nominal=dram.bandwidth, source=SOURCE, status=status)
    return replace(
        device,
        clock=_times(device.clock, clock),
        cores=tuple(replace(kind, clock=kind.clock * clock) for kind in device.cores),
        tensor=_peaks(device.tensor, clock),
        vector=_peaks(device.vector, clock),
        levels=(*near, far),
        flops=rates(device.flops),
        bytes=rates(device.bytes),
        fixed={name: _times(number, host) for name, number in device.fixed.items()},
        host=_times(device.host, host),
        launch=_times(device.launch, host),
    )


def _peaks(table: dict[str, Peak], clock: float) -> dict[str, Peak]:
    return {
        name: replace(p, value=p.value * clock, clock=p.clock * clock, nominal=p.value, source=SOURCE, status="fitted")
        for name, p in table.items()
    }


def _times(number: Number, factor: float) -> Number:
    return _number(number.value * factor, number)


def _number(value: float, before: Number) -> Number:
    return Number(value, SOURCE, "fitted", before.value)
