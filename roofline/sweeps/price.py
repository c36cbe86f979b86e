"""A trace on many devices: totals and times, without the rows of an analysis by layer and kernel."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from roofline.analysis import memory
from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.kernels import build as kernels
from roofline.records import BOUNDS, Trace, by_bound
from roofline.timemodel import halves, roof
from roofline.timemodel.constants import Constants, asked


class Priced(Struct, frozen=True, gc=False):
    """A pass on one device. Base units; `shares` of the time, in the order of BOUNDS."""

    flops: int
    macs: int
    bytes: int
    weight_bytes: int
    kernels: int
    flops_known: float
    peak_memory: int
    time: float
    bound: str
    shares: tuple[float, ...]


def price(
    trace: Trace, runtime: str, devices: Sequence[Device], dtype: str | None = None, constants: Constants | None = None
) -> list[Priced | RooflineError]:
    """For each device what the pass costs there, or why it cannot be said. `dtype` is the one asked for."""
    numbers = constants or asked()
    found: list[Priced | RooflineError] = []
    for device in devices:
        try:
            found.append(_one(trace, runtime, device, dtype or trace.dtype, numbers))
        except RooflineError as error:
            found.append(error)
    return found


def _one(trace: Trace, runtime: str, device: Device, setting: str, numbers: Constants) -> Priced:
    launched = kernels.build(trace, runtime, device.kind)
    target = halves.converted(device, launched)[0] if trace.built else device
    peak = memory.peak(trace, target)
    points = roof.place(launched, target, setting=setting, runtime=runtime, footprint=peak.total, constants=numbers)
    time, components = 0.0, dict[str, float]()
    for point in points:
        time += point.time_s
        for name, part in point.components.items():
            components[name] = components.get(name, 0.0) + part
    split = by_bound(components)
    bound = max(split, key=split.__getitem__) if components else "memory"
    known = sum(k.known for k in launched)
    return Priced(
        sum(k.flops for k in launched), sum(k.macs for k in launched), sum(k.bytes for k in launched),
        sum(k.weight_bytes for k in launched), len(launched), known / len(launched) if launched else 1.0, peak.total, time,
        bound if launched else "", tuple(split[name] / time if time else 0.0 for name in BOUNDS),
    )  # fmt: skip
