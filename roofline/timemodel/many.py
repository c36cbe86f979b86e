"""One pass on many devices at once: the times that `roof.place` gives, without a Point for each kernel.

Kernels of a class, operator and dtype go through the formulas together on all devices (columns.py). A test holds the times to
those of `roof.place` to the last digit, and the shares to the last but a few: there they are added up in another order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple, replace

from roofline.classes import MATRIX
from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.records import BOUNDS, Kernel, bound_of_component
from roofline.shapes import Access, Loop
from roofline.timemodel import columns, cpu_eager, features, models, sizes
from roofline.timemodel.columns import Columns, Mixed, plain, roofs, stacked
from roofline.timemodel.constants import Constants, Family, shared
from roofline.timemodel.features import NUMBERS, Features, Formula
from roofline.timemodel.formulas import Machine
from roofline.timemodel.roof import peak

# Whole numbers beyond it are no floats.
EXACT = 2**53


class Timed(NamedTuple):
    """A pass on one device: seconds, and those under each of BOUNDS."""

    time: float
    split: tuple[float, ...]


class _Products:
    """The products of the kernels of a group, kernel by kernel: of each kind of sizes which of them, and the kernels around."""

    def __init__(self, of: list[tuple[sizes.Sizes, Features, Any]], owner: Any, kernels: int) -> None:
        self.of, self.owner, self.kernels = of, owner, kernels
        # the number of each product among those of its kernel: they are added up in that order
        first = np.searchsorted(owner, owner)
        self.rank = np.arange(len(owner)) - first

    def total(self, around: Features, formula: Formula) -> Any:
        if not self.of:
            return 0.0
        found = [(formula(p, f) * p.times, at) for p, f, at in self.of]
        value = self._summed([(plain(v), at) for v, at in found])
        names = dict.fromkeys(name for v, _ in found for name in roofs(v))
        if not names:
            return value
        return columns.Column(value, {n: self._summed([(roofs(v).get(n, 0.0), at) for v, at in found]) for n in names})

    def _summed(self, parts: list[tuple[Any, Any]]) -> Any:
        rows = max(np.shape(v)[0] if np.ndim(v) == 2 else 1 for v, _ in parts)
        flat = np.zeros((rows, len(self.owner)))
        for v, at in parts:
            flat[:, at] = v
        out = np.zeros((rows, self.kernels))
        for rank in range(int(self.rank.max()) + 1):
            these = self.rank == rank
            out[:, self.owner[these]] += flat[:, these]
        return out


class _Group(Struct):
    """Kernels of one class, operator and dtype."""

    klass: str
    kernel: Kernel
    at: Any
    features: Features


class Batch:
    """The kernels of a pass, ready for any device of their kind."""

    def __init__(self, kernels: Sequence[Kernel], kind: str) -> None:
        self.gpu = kind == "gpu"
        before = list(accumulate((kernel.bytes for kernel in kernels), initial=0))
        self.inverse, found = [], list[tuple[Kernel, Features]]()
        # the calls of an operator share their records: most that are alike are so by identity, which is told at once
        same, alike = dict[tuple[Any, ...], int](), dict[tuple[Any, ...], int]()
        for i, kernel in enumerate(kernels):
            moved = features.moved(kernel, before, i)
            what = kernel.klass, kernel.op, kernel.dtype, kernel.flops, kernel.macs, *moved[:3], *moved.reads
            records = kernel.whole, kernel.products, kernel.access, kernel.loop
            number = same.get((*what, *map(id, records)))
            if number is None:
                number = alike.setdefault((*what, *records), len(found))
                same[*what, *map(id, records)] = number
                if number == len(found):
                    found.append((kernel, features.of(kernel, moved, 0)))
            self.inverse.append(number)
        self.kernels = len(found)
        # whether floats hold all of its whole numbers
        self.exact = before[-1] < EXACT and all(max(k.flops, 2 * k.macs) < EXACT for k in kernels)
        self.groups = list(_groups(found))

    def times(
        self, devices: Sequence[Device], footprints: Sequence[int], setting: str, runtime: str, constants: Constants
    ) -> list[Timed | UsageError]:
        """On each device, with the bytes that are alive at its peak; or why it cannot be said."""
        found: list[Timed | UsageError | None] = [None] * len(devices)
        alike: dict[tuple[Any, ...], list[int]] = {}
        tops: list[list[float]] = []
        for i, device in enumerate(devices):
            try:
                tops.append(self._tops(device, setting))
            except UsageError as error:
                tops.append([])
                found[i] = error
                continue
            alike.setdefault(_form(device), []).append(i)
        todo = list(alike.values())
        while todo:
            these = todo.pop()
            try:
                with np.errstate(all="ignore"):
                    some = self._some(
                        [devices[i] for i in these],
                        [footprints[i] for i in these],
                        [tops[i] for i in these],
                        setting,
                        runtime,
                        constants,
                    )
            except Mixed as mixed:
                ways = mixed.ways or [2 * at // len(these) for at in range(len(these))]
                todo += [[i for i, way in zip(these, ways, strict=True) if way == one] for one in dict.fromkeys(ways)]
                continue
            for i, timed in zip(these, some, strict=True):
                found[i] = timed
        return [timed for timed in found if timed is not None]

    def _tops(self, device: Device, setting: str) -> list[float]:
        """The peak of what runs the kernels of each group. Raises UsageError where the device has none."""
        known: dict[tuple[str, bool], float] = {}
        for group in self.groups:
            unit = group.kernel.dtype, group.klass in MATRIX
            if unit not in known:
                known[unit] = peak(device, group.kernel, setting)
        return [known[group.kernel.dtype, group.klass in MATRIX] for group in self.groups]

    def _some(
        self,
        devices: list[Device],
        footprints: list[int],
        tops: list[list[float]],
        setting: str,
        runtime: str,
        constants: Constants,
    ) -> list[Timed]:
        family: Family = constants.of(devices[0], runtime)
        model, table = models.of(family), stacked([shared(family)])
        # all of them are memory, whatever a device calls them
        names = [str(number) for number in range(len(devices[0].levels))]
        machines = [_machine(device, setting, runtime, family).shared(names) for device in devices]
        common = stacked(machines)
        costs = _Costs(len(devices), self.kernels)
        footprint = columns.Column(np.array(footprints, dtype=float).reshape(-1, 1), {})
        for number, group in enumerate(self.groups):
            top = [each[number] for each in tops]
            machine = stacked([m.at(t) for m, t in zip(machines, top, strict=True)]) if group.klass in MATRIX else common
            f = replace(group.features, footprint=footprint)
            work = model.work(group.klass, f, table, machine, Columns)
            over = model.overhead(group.klass, f, table, machine, Columns)
            costs.enter(group, work, over, np.array(top).reshape(-1, 1), self.gpu)
        return (_queued if self.gpu else _alone)(costs, np.array(self.inverse, dtype=int))


def _machine(device: Device, setting: str, runtime: str, family: Family) -> Machine:
    """With the constant that stands in for a share of DRAM's bandwidth that is not known: fewer devices differ in form."""
    machine = Machine.of(device, setting, runtime)
    return machine if machine.reached else replace(machine, reached=getattr(family, "stream", 0.0))


def _form(device: Device) -> tuple[Any, ...]:
    """What formulas ask of a device before they work anything out."""
    tables = tuple(tuple(sorted(t)) for t in (device.fixed, device.flops, device.bytes))
    asked = bool(device.tensor), device.levels[-1].status == "measured"
    return len(device.levels), asked, tables


# ------------------------------------------------------------------------------------------------ kernels as arrays


def _groups(found: list[tuple[Kernel, Features]]) -> Iterator[_Group]:
    by: dict[tuple[Any, ...], list[int]] = {}
    for i, (kernel, f) in enumerate(found):
        reads = len(f.reads) if len(f.reads) <= 2 else 1 << (len(f.reads) - 1).bit_length()
        by.setdefault((kernel.klass, cpu_eager.kind(kernel.op), kernel.dtype, reads), []).append(i)
    for (klass, kind, _, reads), at in by.items():
        yield _Group(klass, found[at[0]][0], np.array(at), _many(klass, kind, [found[i][1] for i in at], reads))


def _many(klass: str, kind: str, these: list[Features], reads: int) -> Features:
    told = [(place, p) for place, f in enumerate(these) for p in f.products.of]  # type: ignore[attr-defined]  # they are Listed
    of = []
    for record in dict.fromkeys(type(p) for _, p in told):
        at = [i for i, (_, p) in enumerate(told) if type(p) is record]
        around = _arrays(klass, kind, [these[told[i][0]] for i in at], reads, _Products([], np.zeros(0, int), len(at)))
        of.append((_row([told[i][1] for i in at]), around, np.array(at)))
    owner = np.array([place for place, _ in told], dtype=int)
    return _arrays(klass, kind, these, reads, _Products(of, owner, len(these)))


def _arrays(klass: str, kind: str, these: list[Features], reads: int, products: _Products) -> Features:
    padded = [[*f.reads, *[(0, 0)] * (reads - len(f.reads))] for f in these]
    return Features(
        op=kind,
        reads=[(_line([r[i][0] for r in padded]), _line([r[i][1] for r in padded])) for i in range(reads)],
        access=_row([f.access for f in these], Access),
        loop=_row([f.loop for f in these], Loop),
        shape=_row([f.shape for f in these]) if klass in sizes.OF_CLASS else None,
        products=products,
        **{name: _line([getattr(f, name) for f in these]) for name in NUMBERS},
    )


def _row(records: Sequence[Any], kind: type[Any] | None = None) -> Any:
    """Records of one type as one, an array in each field."""
    kind = kind or type(records[0])
    each = zip(*(astuple(r) for r in records), strict=True)
    return kind(**{name: _line(values) for name, values in zip(kind.__struct_fields__, each, strict=True)})


def _line(values: Sequence[Any]) -> Any:
    return np.array(values, dtype=float)


# ------------------------------------------------------------------------------------------------ times


class _Costs:
    """Seconds of each kernel on each device by itself, with what they rest on: as roof._Cost."""

    def __init__(self, devices: int, kernels: int) -> None:
        self.shape = devices, kernels
        self.work, self.start, self.step = (np.zeros(self.shape) for _ in range(3))
        self.of_work: dict[str, Any] = {}
        self.of_start: dict[str, Any] = {}

    def enter(self, group: _Group, work: Any, over: Any, top: Any, gpu: bool) -> None:
        at = group.at
        start, step = over if gpu else (over.start + over.step, 0.0)
        self.work[:, at], self.start[:, at], self.step[:, at] = plain(work.seconds), plain(start), plain(step)
        if group.klass in MATRIX:
            arithmetic: Any = not gpu
        else:
            arithmetic = (group.features.flops / top >= plain(work.memory)) & (group.features.flops > 0)
        for into, on in ((self.of_work, roofs(work.seconds)), (self.of_start, roofs(start))):
            for name, part in on.items():
                if name == "vector":
                    self._part(into, "compute", at, np.where(arithmetic, part, 0.0))
                    self._part(into, "instructions", at, np.where(arithmetic, 0.0, part))
                else:
                    self._part(into, {"matrix": "compute", "loop": "instructions"}.get(name, name), at, part)

    def _part(self, into: dict[str, Any], name: str, at: Any, part: Any) -> None:
        into.setdefault(name, np.zeros(self.shape))[:, at] += part

    def bounds(self, parts: Sequence[dict[str, Any]], time: Any) -> Any:
        """[bound, device, kernel]: components that add up to a time, as roof._point makes them."""
        names = list(dict.fromkeys(name for each in parts for name in each))
        out = np.zeros((len(BOUNDS), *time.shape))
        if not names:
            return out
        all_parts = np.stack([sum(each[name] for each in parts if name in each) for name in names])
        all_parts = np.where(all_parts > 1e-12 * time, all_parts, 0.0)
        largest = all_parts.argmax(axis=0)
        rest = time - all_parts.sum(axis=0)
        for i, name in enumerate(names):
            out[BOUNDS.index(bound_of_component(name))] += all_parts[i] + np.where(largest == i, rest, 0.0)
        return out


def _alone(costs: _Costs, inverse: Any) -> list[Timed]:
    time = costs.work + costs.start
    split = costs.bounds([costs.of_work, costs.of_start], time)
    each = time[:, inverse]
    # one after the other, as they are launched: another order has another last digit
    whole = np.cumsum(each, axis=1)[:, -1] if each.shape[1] else np.zeros(len(each))
    counts = np.bincount(inverse, minlength=costs.shape[1])
    return _timed(whole, (split * counts).sum(axis=2))


def _queued(costs: _Costs, inverse: Any) -> list[Timed]:
    """As roof._queued: the host issues, the device executes."""
    n, count = costs.shape[0], len(inverse)
    work, start, step = (np.ascontiguousarray(each[:, inverse].T) for each in (costs.work, costs.start, costs.step))
    # after each kernel: when the host has issued it, when the device is done with it
    issued, done, ready = np.cumsum(step, axis=0), np.zeros((count + 1, n)), np.empty((count, n))
    for at, before, after, *parts in zip(ready, done[:-1], done[1:], start, issued, work, strict=True):
        np.add(before, parts[0], out=at)
        np.maximum(at, parts[1], out=after)
        np.add(after, parts[2], out=after)
    waits, added = issued > ready, np.diff(done, axis=0)
    whole = np.concatenate([np.zeros((1, n)), np.cumsum(added, axis=0)])
    waited = np.where(waits.any(axis=0), count - 1 - waits[::-1].argmax(axis=0), -1) if count else np.full(n, -1)
    split = costs.bounds([costs.of_work, costs.of_start], costs.work + costs.start)
    found, rows = np.empty((len(BOUNDS), n)), np.arange(n)
    for at in np.unique(waited):
        these, counts = waited == at, np.bincount(inverse[at + 1 :], minlength=costs.shape[1])
        found[:, these] = (split[:, these] * counts).sum(axis=2)
    if count:
        last = inverse[np.maximum(waited, 0)]
        at = {name: part[rows, last].reshape(-1, 1) for name, part in costs.of_work.items()}
        busy = costs.work[rows, last].reshape(-1, 1)
        met = waited >= 0
        found += np.where(met, costs.bounds([at], busy)[:, :, 0], 0.0)
        hidden, own = whole[waited, rows], added[waited, rows]
        found[BOUNDS.index("overhead")] += np.where(met, hidden + own - busy[:, 0], 0.0)
    return _timed(whole[-1], found)


def _timed(whole: Any, split: Any) -> list[Timed]:
    return [Timed(float(time), tuple(map(float, split[:, i]))) for i, time in enumerate(whole)]
