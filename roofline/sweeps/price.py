"""Traces on many devices: totals and times, without the rows of an analysis by layer and kernel."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

import numpy as np
from msgspec import Struct

from roofline.analysis import memory, workspace
from roofline.classes import MATRIX
from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.records import BOUNDS, Kernel, Trace, components_of, identity
from roofline.timemodel import energy, fleet, halves, roof
from roofline.timemodel.constants import Constants, asked
from roofline.timemodel.many import PARTS, Batch, Passes, Timed, divided, part_of
from roofline.timemodel.uncertainty import Mix, bounds


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
    # the ends of its 80 % interval; None where it has none
    between: tuple[float, float] | None
    # J of a sample, and the ends of their 80 % interval; None where the device's power is not known
    energy: tuple[float, float, float] | None
    bound: str
    shares: tuple[float, ...]


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
        unknown = sum(not k.known for k in launched)
        return cls(
            sum(k.flops for k in launched),
            sum(k.macs for k in launched),
            sum(k.bytes for k in launched),
            sum(k.weight_bytes for k in launched),
            len(launched),
            1 - unknown / len(launched) if launched else 1.0,
        )


class Ready(Struct, frozen=True):
    """A pass, worked out as far as that takes its trace: what is left is to time it."""

    kernels: Sequence[Kernel]
    runtime: str
    training: bool
    # samples of a pass
    batch: int
    # the dtype that was asked for, else the model's own
    setting: str
    # of all devices, the number of each that can run it, as it does; of the others why not
    targets: dict[int, Device]
    refused: dict[int, RooflineError]
    # the most bytes alive on each target
    peaks: list[int]
    sums: _Sums

    @classmethod
    def of(
        cls,
        trace: Trace,
        kernels: Sequence[Kernel],
        runtime: str,
        devices: Sequence[Device],
        dtype: str | None,
        like: Ready | None = None,
    ) -> Ready:
        """On devices of one kind, which the kernels were made for; `like` is the pass on others."""
        used = halves.multiplied(kernels) if trace.built else set[str]()
        targets, refused = dict[int, Device](), dict[int, RooflineError]()
        for i, device in enumerate(devices):
            try:
                targets[i] = halves.converting(device, used)[0]
            except RooflineError as error:
                refused[i] = error
        alive = peaks(trace, list(targets.values()))
        training, setting = trace.mode == "training", dtype or trace.dtype
        sums = like.sums if like is not None and like.kernels is kernels else _Sums.of(kernels)
        return cls(kernels, runtime, training, trace.batch, setting, targets, refused, alive, sums)


def priced(passes: Sequence[Ready], constants: Constants | None = None) -> list[list[Priced | RooflineError]]:
    """For each pass what it costs on each of its devices, in their order, or why that cannot be said."""
    numbers = constants or asked()
    timed: dict[int, Sequence[Timed | RooflineError]] = {}
    together: dict[tuple[object, ...], list[int]] = {}
    for number, one in enumerate(passes):
        if one.runtime != "ideal" and len(one.targets) > 1:
            # a device that lacks a unit refuses every pass of a batch: those that want others are in one of their own
            units = frozenset((k.dtype, k.klass in MATRIX) for k in one.kernels)
            together.setdefault((one.runtime, one.setting, units, *map(identity, one.targets.values())), []).append(number)
        else:
            timed[number] = _one_by_one(one, numbers)
    entered: dict[tuple[int, ...], Passes] = {}
    for at in together.values():
        some = [passes[i] for i in at]
        these = tuple(identity(one.kernels) for one in some)
        if these not in entered:
            entered[these] = Passes([one.kernels for one in some])
        timed.update(zip(at, _together(some, entered[these], numbers), strict=True))
    found = []
    for number, one in enumerate(passes):
        by = dict(zip(one.targets, zip(one.targets.values(), one.peaks, timed[number], strict=True), strict=True))
        found.append([_priced(one, *by[i]) if i in by else one.refused[i] for i in range(len(by) + len(one.refused))])
    return found


def peaks(trace: Trace, devices: Sequence[Device]) -> list[int]:
    """The most bytes alive on each device; worked out once for those with scratch memory of the same sizes."""
    before, *alive = memory.alive(trace)
    specs, of = [op.spec for op in trace.ops], [workspace.asked(device) for device in devices]
    most = {
        asked: max(map(add, alive, map(scratch.__getitem__, specs)), default=before)
        for asked, scratch in workspace.scratches(trace.specs, dict.fromkeys(of)).items()
    }
    return [max(before, most[asked]) for asked in of]


def _together(some: Sequence[Ready], entered: Passes, numbers: Constants) -> Sequence[Sequence[Timed | RooflineError]]:
    """Passes on the same devices at once, where that is exact."""
    if not entered.exact:
        return [_one_by_one(one, numbers) for one in some]
    first, devices = some[0], list(some[0].targets.values())
    batch = Batch(entered, devices[0].kind)
    return batch.times(devices, [one.peaks for one in some], first.setting, first.runtime, numbers)


def _one_by_one(one: Ready, numbers: Constants) -> list[Timed | RooflineError]:
    found: list[Timed | RooflineError] = []
    for device, peak in zip(one.targets.values(), one.peaks, strict=True):
        try:
            points = roof.place(
                one.kernels, device, setting=one.setting, runtime=one.runtime, footprint=peak, constants=numbers
            )
        except RooflineError as error:
            found.append(error)
            continue
        time = squares = 0.0
        split, classes = np.zeros((len(PARTS), 1)), dict[str, float]()
        for kernel, point in zip(one.kernels, points, strict=True):
            time += point.time_s  # as `Batch` adds up: sum() of newer Pythons rounds in another way
            squares += point.time_s**2
            classes[kernel.klass] = classes.get(kernel.klass, 0.0) + point.time_s
        for name, part in components_of(points).items():
            split[part_of(name, device.kind)] += part
        board = None if energy.unknown(device, one.runtime) else energy.board(device)
        spent = energy.of_points(board, one.kernels, points) if board else ()
        joules, standing = sum(each.joules for each in spent), sum(each.standing for each in spent)
        (bounds,), (rests,) = divided(split)
        found.append(Timed(time, bounds, rests, Mix(classes, squares), joules, standing))
    return found


def _priced(one: Ready, device: Device, peak: int, timed: Timed | RooflineError) -> Priced | RooflineError:
    if isinstance(timed, RooflineError):
        return timed
    time, split, sums = timed.time, timed.bounds, one.sums
    bound = BOUNDS[split.index(max(split))] if any(split) else "memory"
    # of the logarithm of the time; the ideal runtime is a definition
    sure = fleet.sure(device, one.runtime, one.training) if time and one.runtime != "ideal" else None
    sd = sure.sd(timed.rests, timed.mix) if sure else None
    return Priced(
        sums.flops,
        sums.macs,
        sums.bytes,
        sums.weight_bytes,
        sums.kernels,
        sums.flops_known,
        peak,
        time,
        bounds(time, sd) if sd is not None else None,
        _energy(one, device, timed, sd) if sd is not None else None,
        bound if sums.kernels else "",
        tuple(part / time if time else 0.0 for part in split),
    )


def _energy(one: Ready, device: Device, timed: Timed, sd: float) -> tuple[float, float, float] | None:
    """Of a sample, with its ends."""
    board = fleet.board(device)
    if board is None or not timed.joules:
        return None
    joules = timed.joules / max(one.batch, 1)
    return joules, *bounds(joules, energy.doubt(board, timed.joules, timed.standing, sd))
