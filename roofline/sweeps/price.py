"""A trace on many devices: totals and times, without the rows of an analysis by layer and kernel."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from roofline.analysis import memory, workspace
from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.kernels import build as kernels
from roofline.records import BOUNDS, Kernel, Trace, by_bound, components_of
from roofline.timemodel import halves, roof
from roofline.timemodel.constants import Constants, asked
from roofline.timemodel.many import Batch, Timed


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
    """For each device, all of one kind, what the pass costs there, or why it cannot be said. `dtype` is the one asked for.

    What does not depend on the device is worked out once: kernels, their sums, and the peak of memory for each size of
    scratch memory.
    """
    if not devices:
        return []
    launched = kernels.build(trace, runtime, devices[0].kind)
    sums = _Sums.of(launched)
    numbers, setting = constants or asked(), dtype or trace.dtype
    found: list[Priced | RooflineError | None] = [None] * len(devices)
    targets: dict[int, Device] = {}
    used = halves.multiplied(launched) if trace.built else set[str]()
    for i, device in enumerate(devices):
        try:
            targets[i] = halves.converting(device, used)[0]
        except RooflineError as error:
            found[i] = error
    alive = peaks(trace, list(targets.values()))
    timed = _timed(launched, list(targets.values()), alive, setting, runtime, numbers)
    for i, peak, each in zip(targets, alive, timed, strict=True):
        found[i] = each if isinstance(each, RooflineError) else _priced(sums, each, peak)
    return [each for each in found if each is not None]


def peaks(trace: Trace, devices: Sequence[Device]) -> list[int]:
    """The most bytes alive on each device; worked out once for those with scratch memory of the same sizes."""
    before, *alive = memory.alive(trace)
    known: dict[tuple[int, ...], int] = {}
    found = []
    for device in devices:
        asked = workspace.asked(device)
        if asked not in known:
            scratch = [workspace.scratch(spec, device) for spec in trace.specs]
            known[asked] = max((now + scratch[op.spec] for now, op in zip(alive, trace.ops, strict=True)), default=before)
        found.append(max(before, known[asked]))
    return found


def _timed(
    launched: Sequence[Kernel], devices: Sequence[Device], peaks: Sequence[int], setting: str, runtime: str, numbers: Constants
) -> Sequence[Timed | RooflineError]:
    """On all devices together, where that is exact; else one by one."""
    if runtime != "ideal" and len(devices) > 1:
        batch = Batch([launched], devices[0].kind)
        if batch.exact:
            return batch.times(devices, [peaks], setting, runtime, numbers)[0]
    found: list[Timed | RooflineError] = []
    for device, peak in zip(devices, peaks, strict=True):
        try:
            points = roof.place(launched, device, setting=setting, runtime=runtime, footprint=peak, constants=numbers)
        except RooflineError as error:
            found.append(error)
            continue
        time = 0.0
        for point in points:  # as `Batch` adds up: sum() of newer Pythons rounds in another way
            time += point.time_s
        found.append(Timed(time, tuple(by_bound(components_of(points)).values())))
    return found


class _Sums(Struct, frozen=True):
    """Of all kernels, on any device of a kind."""

    flops: int
    macs: int
    bytes: int
    weight_bytes: int
    kernels: int
    flops_known: float

    @classmethod
    def of(cls, launched: Sequence[Kernel]) -> _Sums:
        known = sum(not k.known for k in launched)
        return cls(
            sum(k.flops for k in launched),
            sum(k.macs for k in launched),
            sum(k.bytes for k in launched),
            sum(k.weight_bytes for k in launched),
            len(launched),
            1 - known / len(launched) if launched else 1.0,
        )


def _priced(sums: _Sums, timed: Timed, peak: int) -> Priced:
    time, split = timed
    bound = max(BOUNDS, key=lambda name: split[BOUNDS.index(name)]) if any(split) else "memory"
    return Priced(
        sums.flops, sums.macs, sums.bytes, sums.weight_bytes, sums.kernels, sums.flops_known, peak, time,
        bound if sums.kernels else "", tuple(part / time if time else 0.0 for part in split),
    )  # fmt: skip
