"""Devices as formulas take them: each in a setting, and those of one form together. A process keeps them from pass to pass."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace

from roofline.classes import MATRIX
from roofline.devices.device import Device
from roofline.records import Kernel, identity
from roofline.timemodel import energy, roof
from roofline.timemodel.columns import stacked
from roofline.timemodel.constants import CpuEager, Family, Gpu, shared
from roofline.timemodel.formulas import Machine
from roofline.timemodel.shares import rate
from roofline.timemodel.uncertainty import Sure

T = TypeVar("T")


class Target:
    """A device in a setting under a runtime, by the constants of a time model."""

    def __init__(self, device: Device, setting: str, runtime: str, family: Family) -> None:
        self.device, self.setting, self.family = device, setting, family
        machine = Machine.of(device, setting, runtime)
        if not machine.reached:
            # the constant that stands in for a share of DRAM's bandwidth that is not known: fewer devices differ in form
            machine = replace(machine, reached=getattr(family, "stream", 0.0))
        # all its caches are one roof, as far as a row tells
        self.machine = machine.shared([*[""] * (len(device.levels) - 1), "DRAM"])
        tables = tuple(tuple(sorted(t)) for t in (device.fixed, device.flops, device.bytes))
        caches = min(len(device.levels) - 1, 1) if isinstance(family, _ALIKE) else len(device.levels) - 1
        # what formulas ask of a device before they work anything out
        self.form = caches, machine.matrix, machine.tf32, machine.measured, tables
        self.board = board(device)
        self._tops: dict[tuple[str, bool], float] = {}

    def top(self, kernel: Kernel) -> float:
        """FLOP/s of the unit that runs a kernel. Raises UsageError where it has none."""
        unit = kernel.dtype, kernel.klass in MATRIX
        if unit not in self._tops:
            self._tops[unit] = roof.peak(self.device, kernel, self.setting)
        return self._tops[unit]


# Constants of formulas to which each cache is like the next: one more, of the size of the last, that nobody waits for changes
# no time. (Generated code on a CPU asks which cache is the last.)
_ALIKE = (Gpu, CpuEager)
# B/s of a level that nobody waits for
_AT_ONCE = 1e300


def _with_levels(machine: Machine, count: int) -> Machine:
    """The same machine with so many levels."""
    *caches, dram = machine.levels
    more = [(caches[-1][0], rate(_AT_ONCE, "memory:"))] * (count - len(machine.levels)) if caches else []
    return replace(machine, levels=(*caches, *more, dram))


class Fleet:
    """Targets of one form, in arrays with a row for each."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self.table = stacked([shared(targets[0].family)])
        most = max(len(target.machine.levels) for target in targets)
        self.machine: Machine = stacked([_with_levels(target.machine, most) for target in targets])
        self._at: dict[tuple[float, ...], Machine] = {}
        self._tops: dict[tuple[str, bool], tuple[float, ...]] = {}

    def tops(self, kernel: Kernel) -> tuple[float, ...]:
        """FLOP/s of the units that run a kernel."""
        unit = kernel.dtype, kernel.klass in MATRIX
        if unit not in self._tops:
            self._tops[unit] = tuple(target.top(kernel) for target in self.targets)
        return self._tops[unit]

    def at(self, tops: tuple[float, ...]) -> Machine:
        """The machines with one rate each for every matrix type."""
        found = self._at.get(tops)
        if found is None:
            unit = "matrix" if self.machine.gpu else "vector"
            found = self._at[tops] = self.machine.at(stacked([rate(top, unit) for top in tops]))
        return found


class _Kept:
    """The last so many that were made, each beside the objects whose identities are its key, so that no other takes them."""

    def __init__(self, most: int) -> None:
        self.most, self.known = most, OrderedDict[Hashable, tuple[Any, Any]]()

    def get(self, key: Hashable, held: Any, make: Callable[[], T]) -> T:
        if key in self.known:
            self.known.move_to_end(key)
        else:
            self.known[key] = held, make()
            if len(self.known) > self.most:
                self.known.popitem(last=False)
        found: T = self.known[key][1]
        return found


_targets, _sures, _fleets, _parts, _board, _boards = (_Kept(n) for n in (2048, 2048, 64, 64, 2048, 64))


def target(device: Device, setting: str, runtime: str, family: Family) -> Target:
    key = identity(device), setting, runtime, identity(family)
    return _targets.get(key, (device, family), lambda: Target(device, setting, runtime, family))


def sure(device: Device, runtime: str, training: bool) -> Sure:
    """How sure times on a device are."""
    return _sures.get((identity(device), runtime, training), device, lambda: Sure.of(device, runtime, training))


def fleet(targets: Sequence[Target]) -> Fleet:
    return _fleets.get(tuple(map(identity, targets)), targets, lambda: Fleet(targets))


def board(device: Device) -> energy.Board | None:
    """Its power; None where that is not known."""
    return _board.get(identity(device), device, lambda: None if energy.unknown(device, "") else energy.board(device))


def boards(targets: Sequence[Target]) -> energy.Boards:
    """Their power."""
    return _boards.get(tuple(map(identity, targets)), targets, lambda: energy.Boards([target.board for target in targets]))


def parts(targets: Sequence[Target]) -> list[list[int]]:
    """Numbers of those that formulas take together. Whoever finds that some differ after all divides them there."""

    def alike() -> list[list[int]]:
        found: dict[tuple[Any, ...], list[int]] = {}
        for i, each in enumerate(targets):
            found.setdefault(each.form, []).append(i)
        return list(found.values())

    return _parts.get(tuple(map(identity, targets)), targets, alike)


def row(values: Sequence[float]) -> Any:
    """A number of each device, in the form of an array whose columns are kernels."""
    return np.array(values, dtype=float).reshape(-1, 1)
