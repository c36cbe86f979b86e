"""Passes on many devices at once: the times that `roof.place` gives, without a Point for each kernel.

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
from roofline.records import BOUNDS, Kernel, bound_of_component, identity
from roofline.shapes import Access, Loop
from roofline.timemodel import columns, cpu_eager, energy, features, fleet, models, sizes
from roofline.timemodel.columns import Columns, Mixed, plain, roofs
from roofline.timemodel.constants import Constants
from roofline.timemodel.features import NUMBERS, Features, Formula
from roofline.timemodel.fleet import Fleet, Target
from roofline.timemodel.uncertainty import CLOCK, HOST, MEMORY, Mix, Vector, number_of

# Whole numbers beyond it are no floats.
EXACT = 2**53


# What a time is made of, as far as a row tells: a bound, and what of the device that part rests on (`uncertainty.number_of`).
PARTS = (
    ("compute", CLOCK),
    ("instructions", CLOCK),
    ("memory", CLOCK),
    ("memory", MEMORY),
    ("overhead", HOST),
    ("overhead", None),
)


class Timed(NamedTuple):
    """A pass on one device: seconds; those under each of BOUNDS; how much of them clock, memory and host make; those by class
    of kernel, and the sum of the kernels' squares; joules, and those that would grow with the time: 0 where the device's power
    is not known."""

    time: float
    bounds: tuple[float, ...]
    rests: Vector
    mix: Mix
    joules: float = 0.0
    standing: float = 0.0


def divided(split: Any) -> tuple[list[tuple[float, ...]], list[Vector]]:
    """Of seconds [part, pass] by PARTS: `bounds` and `rests` of each pass."""
    bounds, rests = np.zeros((len(BOUNDS), split.shape[1])), np.zeros((HOST + 1, split.shape[1]))
    for (bound, number), part in zip(PARTS, split, strict=True):
        bounds[BOUNDS.index(bound)] += part
        if number is not None:
            rests[number] += part
    whole = split.sum(axis=0)
    rests /= np.where(whole == 0, 1.0, whole)
    return list(zip(*bounds.tolist(), strict=True)), list(zip(*rests.tolist(), strict=True))


def part_of(component: str, device_kind: str) -> int:
    """Which of PARTS a component belongs to."""
    return PARTS.index((bound_of_component(component), number_of(component, device_kind)))


class _Products:
    """The products of the kernels of a group, kernel by kernel: of each kind of sizes which of them, and the kernels around."""

    def __init__(self, of: list[tuple[sizes.Sizes, Features, Any]], owner: Any, kernels: int) -> None:
        self.of, self.owner, self.kernels = of, owner, kernels
        # the number of each product among those of its kernel: they are added up in that order
        first = np.searchsorted(owner, owner)
        self.rank = np.arange(len(owner)) - first
        # one kind of product, and one of it in every kernel
        self.single = len(of) == 1 and len(owner) == kernels and not self.rank.any()

    def total(self, around: Features, formula: Formula) -> Any:
        if not self.of:
            return 0.0
        found = [(formula(p, f) * p.times, at) for p, f, at in self.of]
        if self.single:
            return found[0][0]
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
    # their numbers, which follow each other; the pass of each
    at: slice
    passes: Any
    features: Features


class _Unique(Struct, frozen=True):
    """A kernel, or several of a pass that are alike."""

    kernel: Kernel
    features: Features
    passed: int


class Passes:
    """The kernels of passes, those alike in one of them once."""

    def __init__(self, passes: Sequence[Sequence[Kernel]]) -> None:
        self.found: list[_Unique] = []
        # whether floats hold all of its whole numbers
        self.exact = True
        # of each pass, the number of every kernel among those that are found
        self.numbers = [np.array(self._entered(kernels, i), dtype=int) for i, kernels in enumerate(passes)]

    def _entered(self, kernels: Sequence[Kernel], passed: int) -> list[int]:
        found = self.found
        before = list(accumulate([kernel.bytes for kernel in kernels], initial=0))
        self.exact = self.exact and before[-1] < EXACT and all([k.flops < EXACT and 2 * k.macs < EXACT for k in kernels])
        # the calls of an operator share their records: most that are alike are so by identity, which is told at once
        same, alike = dict[tuple[Any, ...], int](), dict[tuple[Any, ...], int]()
        numbers = []
        for i, kernel in enumerate(kernels):
            moved = features.moved(kernel, before, i)
            what = kernel.klass, kernel.op, kernel.phase, kernel.dtype, kernel.flops, kernel.macs, *moved[:3], *moved.reads
            records = kernel.whole, kernel.products, kernel.access, kernel.loop
            key = (*what, *map(identity, records))
            number = same.get(key)
            if number is None:
                number = same[key] = alike.setdefault((*what, *records), len(found))
                if number == len(found):
                    found.append(_Unique(kernel, features.of(kernel, moved, 0), passed))
            numbers.append(number)
        return numbers


class Batch:
    """Passes ready for any device of a kind."""

    def __init__(self, passes: Passes, kind: str) -> None:
        self.gpu = kind == "gpu"
        found = passes.found
        self.kernels = len(found)
        self.groups: list[_Group] = []
        place = np.zeros(len(found), int)
        start = 0
        for these, reads in _alike(found, self.gpu):
            at = slice(start, start := start + len(these))
            place[these] = range(at.start, at.stop)
            self.groups.append(_group([found[i] for i in these], reads, self.gpu, at))
        # the class of each kernel that is found; of each pass, the number of every kernel, group after group
        self.classes = np.array(
            [group.klass for group in self.groups for _ in range(group.at.start, group.at.stop)], dtype=object
        )
        self.inverse = [place[numbers] for numbers in passes.numbers]

    def times(
        self, devices: Sequence[Device], footprints: Sequence[Sequence[int]], setting: str, runtime: str, constants: Constants
    ) -> list[list[Timed | UsageError]]:
        """Of each pass on each device, with the bytes that are alive at its peak there; or why it cannot be said."""
        found: list[list[Timed | UsageError | None]] = [[None] * len(devices) for _ in self.inverse]
        able: list[int] = []
        targets = []
        for i, device in enumerate(devices):
            target = fleet.target(device, setting, runtime, constants.of(device, runtime))
            try:
                for group in self.groups:
                    target.top(group.kernel)
            except UsageError as error:
                for each in found:
                    each[i] = error
                continue
            able.append(i)
            targets.append(target)
        with np.errstate(all="ignore"):
            timed = self._timed(targets, [[each[i] for i in able] for each in footprints])
        for each, some in zip(found, timed, strict=True):
            for i, one in zip(able, some, strict=True):
                each[i] = one
        return [[one for one in each if one is not None] for each in found]

    def _timed(self, targets: Sequence[Target], footprints: Sequence[Sequence[int]]) -> list[list[Timed]]:
        parts = fleet.parts(targets)
        while True:
            # those that formulas take together stand one after the other
            order = [i for these in parts for i in these]
            costs, alive = _Costs(len(targets), self.kernels, self.gpu), np.array(footprints, dtype=float).T[order]
            start = 0
            for number, these in enumerate(parts):
                rows = slice(start, start := start + len(these))
                try:
                    self._enter(costs, rows, fleet.fleet([targets[i] for i in these]), alive[rows])
                except Mixed as mixed:
                    ways = mixed.ways or [2 * i // len(these) for i in range(len(these))]
                    divided = [[i for i, way in zip(these, ways, strict=True) if way == one] for one in dict.fromkeys(ways)]
                    parts[number : number + 1] = divided
                    break
            else:
                break
        split = costs.parts([costs.of_work, costs.of_start], costs.work + costs.start)
        place = [order.index(i) for i in range(len(order))]
        costs.power(fleet.boards([targets[i] for i in order]))
        timed = (_queued if self.gpu else _alone)(costs, split, self.inverse, self.classes)
        return [[each[i] for i in place] for each in timed]

    def _enter(self, costs: _Costs, rows: slice, devices: Fleet, alive: Any) -> None:
        """The costs of all kernels on some of the devices."""
        model = models.of(devices.targets[0].family)
        for group in self.groups:
            tops = devices.tops(group.kernel)
            machine = devices.at(tops) if group.klass in MATRIX else devices.machine
            f = replace(group.features, footprint=alive[:, group.passes])
            work = model.work(group.klass, f, devices.table, machine, Columns)
            over = model.overhead(group.klass, f, devices.table, machine, Columns)
            done = model.executed(group.klass, f, devices.table, machine, Columns)
            costs.enter((rows, group.at), group, work, over, fleet.row(tops), plain(done), self.gpu)


# ------------------------------------------------------------------------------------------------ kernels as arrays


def _alike(found: Sequence[_Unique], gpu: bool) -> Iterator[tuple[list[int], int]]:
    """The numbers of those that go through the formulas together, and how many reads each has room for."""
    by: dict[tuple[str, str, str, int], list[int]] = {}
    for i, one in enumerate(found):
        rooms = (max(len(one.features.reads), 2) - 1).bit_length()
        by.setdefault((one.kernel.klass, _kind(one.kernel, gpu), one.kernel.dtype, rooms), []).append(i)
    for at in by.values():
        yield at, max(len(found[i].features.reads) for i in at)


def _kind(kernel: Kernel, gpu: bool) -> str:
    """What a rate is looked up by beside the class."""
    return "" if gpu else cpu_eager.kind(kernel.op)


def _group(found: Sequence[_Unique], reads: int, gpu: bool, at: slice) -> _Group:
    kernel, these = found[0].kernel, [one.features for one in found]
    passes = np.array([one.passed for one in found])
    if (passes == passes[0]).all():
        passes = passes[:1]
    return _Group(kernel.klass, kernel, at, passes, _many(kernel.klass, _kind(kernel, gpu), these, reads))


def _many(klass: str, kind: str, these: list[Features], reads: int) -> Features:
    whole = _arrays(klass, kind, these, reads)
    told = [(place, p) for place, f in enumerate(these) for p in f.products.of]  # type: ignore[attr-defined]  # they are Listed
    of = []
    for record in dict.fromkeys(type(p) for _, p in told):
        at = [i for i, (_, p) in enumerate(told) if type(p) is record]
        places = [told[i][0] for i in at]
        around = whole if places == list(range(len(these))) else _arrays(klass, kind, [these[i] for i in places], reads)
        of.append((_row([told[i][1] for i in at]), around, np.array(at)))
    return replace(whole, products=_Products(of, np.array([place for place, _ in told], dtype=int), len(these)))


def _arrays(klass: str, kind: str, these: list[Features], reads: int) -> Features:
    """All but their products."""
    padded = [[*f.reads, *[(0, 0)] * (reads - len(f.reads))] for f in these]
    return Features(
        op=kind,
        reads=[(_line([r[i][0] for r in padded]), _line([r[i][1] for r in padded])) for i in range(reads)],
        access=_row([f.access for f in these], Access),
        loop=_row([f.loop for f in these], Loop),
        shape=_row([f.shape for f in these]) if klass in sizes.OF_CLASS else None,
        products=_Products([], np.zeros(0, int), len(these)),
        **{name: _line([getattr(f, name) for f in these]) for name in NUMBERS},
    )


def _row(records: Sequence[Any], kind: type[Any] | None = None) -> Any:
    """Records of one type as one, an array in each field."""
    kind = kind or type(records[0])
    each = zip(*(astuple(r) for r in records), strict=True)
    return kind(**{name: _line(values) for name, values in zip(kind.__struct_fields__, each, strict=True)})


def _line(values: Sequence[Any]) -> Any:
    """An array; one number where it is the same for all: what hangs on it alone is worked out once."""
    first = values[0]
    return float(first) if values.count(first) == len(values) else np.array(values, dtype=float)


# ------------------------------------------------------------------------------------------------ times


class _Costs:
    """Seconds of each kernel on each device by itself, with what they rest on: as roof._Cost."""

    def __init__(self, devices: int, kernels: int, gpu: bool) -> None:
        self.shape, self.gpu = (devices, kernels), gpu
        self.work, self.start, self.step, self.arithmetic, self.memory = (np.zeros(self.shape) for _ in range(5))
        self.of_work: dict[str, Any] = {}
        self.of_start: dict[str, Any] = {}

    def enter(self, at: Any, group: _Group, work: Any, over: Any, top: Any, executed: Any, gpu: bool) -> None:
        start, step = over if gpu else (over.start + over.step, 0.0)
        self.work[at], self.start[at], self.step[at] = plain(work.seconds), plain(start), plain(step)
        self.memory[at] = plain(work.memory)
        self.arithmetic[at] = np.where(plain(work.compute) > 0, group.features.flops * executed / top, 0.0)
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
        if name not in into:
            into[name] = np.zeros(self.shape)
        into[name][at] += part

    def power(self, boards: energy.Boards) -> None:
        """What the kernels take, once all costs are there."""
        self.boards, self.own = boards, self.work if self.gpu else self.work + self.start
        self.working = boards.working(self.own, self.arithmetic, self.memory)

    def spent(self, time: Any, inverse: Any) -> tuple[Any, Any]:
        """Joules of a pass on each device, and those that would grow with its time."""
        counts = np.bincount(inverse, minlength=self.shape[1])
        return self.boards.passes(time, self.own @ counts, self.working @ counts)

    def parts(self, parts: Sequence[dict[str, Any]], time: Any) -> Any:
        """[part, device, kernel]: components that add up to a time, as roof._point makes them, by PARTS."""
        names = list(dict.fromkeys(name for each in parts for name in each))
        out = np.zeros((len(PARTS), *time.shape))
        if not names:
            return out
        all_parts = np.stack([sum(each[name] for each in parts if name in each) for name in names])
        all_parts = np.where(all_parts > 1e-12 * time, all_parts, 0.0)
        largest = all_parts.argmax(axis=0)
        rest = time - all_parts.sum(axis=0)
        for i, name in enumerate(names):
            out[part_of(name, "gpu" if self.gpu else "cpu")] += all_parts[i] + np.where(largest == i, rest, 0.0)
        return out


def _alone(costs: _Costs, split: Any, passes: Sequence[Any], classes: Any) -> list[list[Timed]]:
    found = []
    for inverse in passes:
        each = (costs.work + costs.start)[:, inverse]
        # one after the other, as they are launched: another order has another last digit
        whole = np.cumsum(each, axis=1)[:, -1] if each.shape[1] else np.zeros(len(each))
        counts = np.bincount(inverse, minlength=costs.shape[1])
        parts = (split * counts).sum(axis=2)
        found.append(_timed(whole, parts, each, classes[inverse], costs.spent(whole, inverse)))
    return found


def _queued(costs: _Costs, split: Any, passes: Sequence[Any], classes: Any) -> list[list[Timed]]:
    """As roof._queued: the host issues, the device executes."""
    found: dict[int, list[Timed]] = {}
    for count in {len(inverse) for inverse in passes}:
        # those of as many kernels side by side: no step hangs on another pass
        these = [i for i, inverse in enumerate(passes) if len(inverse) == count]
        found.update(zip(these, _issued(costs, split, [passes[i] for i in these], classes), strict=True))
    return [found[i] for i in range(len(passes))]


def _issued(costs: _Costs, split: Any, passes: Sequence[Any], classes: Any) -> Iterator[list[Timed]]:
    """Passes of as many kernels."""
    count, n = len(passes[0]), costs.shape[0] * len(passes)
    work, start, step = (
        np.concatenate([each.T[inverse] for inverse in passes], axis=1) for each in (costs.work, costs.start, costs.step)
    )
    # after each kernel: when the host has issued it, when the device is done with it
    issued, done, ready = np.cumsum(step, axis=0), np.zeros((count + 1, n)), np.empty((count, n))
    for at, before, after, *parts in zip(ready, done[:-1], done[1:], start, issued, work, strict=True):
        np.add(before, parts[0], out=at)
        np.maximum(at, parts[1], out=after)
        np.add(after, parts[2], out=after)
    waits, added = issued > ready, np.diff(done, axis=0)
    whole = np.concatenate([np.zeros((1, n)), np.cumsum(added, axis=0)])
    waited = np.where(waits.any(axis=0), count - 1 - waits[::-1].argmax(axis=0), -1) if count else np.full(n, -1)
    for i, inverse in enumerate(passes):
        at = slice(i * costs.shape[0], (i + 1) * costs.shape[0])
        parts = _split(costs, split, inverse, whole[:, at], waited[at], added[:, at])
        yield _timed(whole[-1, at], parts, added[:, at].T, classes[inverse], costs.spent(whole[-1, at], inverse))


def _split(costs: _Costs, split: Any, inverse: Any, whole: Any, waited: Any, added: Any) -> Any:
    """[part, device]: of a pass, by PARTS. The host makes what came before the last kernel that the device waited for."""
    n = costs.shape[0]
    found, rows = np.empty((len(PARTS), n)), np.arange(n)
    for at in np.unique(waited):
        these, counts = waited == at, np.bincount(inverse[at + 1 :], minlength=costs.shape[1])
        found[:, these] = (split[:, these] * counts).sum(axis=2)
    if len(inverse):
        last = inverse[np.maximum(waited, 0)]
        at = {name: part[rows, last].reshape(-1, 1) for name, part in costs.of_work.items()}
        busy = costs.work[rows, last].reshape(-1, 1)
        met = waited >= 0
        found += np.where(met, costs.parts([at], busy)[:, :, 0], 0.0)
        hidden, own = whole[waited, rows], added[waited, rows]
        found[PARTS.index(("overhead", HOST))] += np.where(met, hidden + own - busy[:, 0], 0.0)
    return found


def _timed(whole: Any, split: Any, each: Any, classes: Any, spent: tuple[Any, Any]) -> list[Timed]:
    """`each` has the seconds that every launch adds, on each device; `classes` what it is."""
    names = list(dict.fromkeys(classes))
    by_class = [each[:, classes == klass].sum(axis=1).tolist() for klass in names]
    seconds = zip(*by_class, strict=True) if names else [()] * len(whole)
    squares = np.einsum("ij,ij->i", each, each).tolist()
    joules = [np.broadcast_to(part, whole.shape).tolist() for part in spent]
    return [
        Timed(time, bounds, rests, Mix(dict(zip(names, of, strict=True)), square), *energy)
        for time, bounds, rests, of, square, *energy in zip(
            whole.tolist(), *divided(split), seconds, squares, *joules, strict=True
        )
    ]
