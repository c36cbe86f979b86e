"""What this program stands on while a person's code runs: Python's own functions, this package, and the table of modules.

A model's file may put None in the place of `len` or of a module. Nobody could then undo, or even say, what it did: so it is put
back at once, by code that calls nothing of it, and the file is refused. Functions in the place of others are left alone while
the model runs (programs do that to be quiet, or fast), and put back after it.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping
from operator import is_
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from roofline.cache.places import kind_of, origin

# Packages of which this program takes modules and functions by name; of the others only their modules stay.
_OURS = "roofline"
_TAKEN = frozenset({_OURS, "torch", "numpy", "msgspec", "typer"})
_STANDARD = frozenset(sys.stdlib_module_names)
# Of torch, modules whose functions are called by everything.
_TORCH = frozenset({"torch.utils._pytree", "torch.utils._python_dispatch"})
_callable, _list, _isinstance, _setattr, _len, _all, _map = callable, list, isinstance, setattr, len, all, map
# What was found replaced last, for who tells of a failure.
_found: list[str] = []
# (name of a module, its names, what they were, whether it is this package's)
Table = tuple[str, dict[str, Any], dict[str, Any], bool]
# (what it is called, a table that stays as it is, its entries, whether none of these may be another)
Entries = tuple[str, dict[Any, Any], dict[Any, Any], bool]
# modules of this package as they were when their own code had run, in the order in which they were imported meanwhile
_late: list[tuple[Table, list[Entries], list[tuple[type, dict[str, Any], bool]]]] = []
# Tables of which a model's file may change an entry, since it enters rules of its own; and those that fill as they are asked.
_OPEN = frozenset({"RULES", "BYTES"})
_GROWING = frozenset({"LATE", "INSTALLED", "HEARD"})
_MISSING = object()


def _same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether all that was there is there; there may be more."""
    return _len(before) <= _len(now) and _all(_map(is_, before.values(), now.values()))


def _gone(old: Any, new: Any) -> bool:
    """Whether a function, a class or a module is no more."""
    return (_callable(old) and not _callable(new)) or (_isinstance(old, ModuleType) and new is None)


def _changed(module: str, name: str, new: Any) -> bool:
    """Whether a name of this package's was given away: a module that was imported meanwhile takes its own."""
    return not (_isinstance(new, ModuleType) and new.__name__ == f"{module}.{name}")


def _within(held: Mapping[Any, Any], now: Mapping[Any, Any], fixed: bool) -> bool:
    """Whether all entries that a table held are in it; there may be more."""
    if fixed:
        return _all(_map(is_, held.values(), [now.get(key, _MISSING) for key in held]))
    return held.keys() <= now.keys()


def _constants(table: Table) -> list[Entries]:
    """Tables of this package that do not change, as their names say, or in which others only enter something."""
    module, names = table[:2]
    known = _names.get(module)
    if known is None:
        known = _names[module] = [n for n, v in names.items() if type(v) is dict and n.isupper() and n not in _GROWING]
    return [(f"{module}.{n}", names[n], names[n].copy(), n not in _OPEN) for n in known if type(names.get(n)) is dict]


# module -> names of such tables, and its classes
_names: dict[str, list[str]] = {}
_kinds: dict[str, list[type]] = {}


def _defined(table: Table) -> list[tuple[type, dict[str, Any], bool]]:
    """The classes of a module of this package, and what they have."""
    module, names = table[:2]
    known = _kinds.get(module)
    if known is None:
        known = _kinds[module] = [v for v in names.values() if _isinstance(v, type) and v.__module__ == module]
    return [(kind, kind.__dict__.copy(), True) for kind in known]


def noted(module: ModuleType) -> None:
    """A module of this package was imported while a person's code runs: it is to stay as it is now."""
    table: Table = (module.__name__, module.__dict__, module.__dict__.copy(), True)
    _late.append((table, _constants(table), _defined(table)))


class Ground:
    """How all that is now. `mend` puts back what nobody can stand on, `restore` every function and class."""

    def __init__(self) -> None:
        self.modules, self.meta_path, self.finders = sys.modules, sys.meta_path, sys.meta_path[:]
        self.path = sys.path
        self.held: dict[str, Any] = {}
        self.tables: list[Table] = []
        for name, module in sys.modules.copy().items():
            top = name.partition(".")[0]
            if top not in _STANDARD and top not in _TAKEN:
                continue
            self.held[name] = module
            if (top != "torch" or name in _TORCH) and name != "__main__" and type(module) is ModuleType:
                self.tables.append((name, module.__dict__, module.__dict__.copy(), top == _OURS))
        self.entries = [entry for table in self.tables if table[3] for entry in _constants(table)]
        self.late = len(_late)
        self.names = builtins.__dict__.copy()
        # of Python's own names, those that were gone
        self.lost: list[str] = []
        # those in which `mend` found something else
        self.odd: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.classes = [(kind, vars(kind).copy(), False) for kind in _classes()]
        self.classes += [found for table in self.tables if table[3] for found in _defined(table)]

    def mend(self, same: Any = _same, changed: Any = _changed, gone: Any = _gone, within: Any = _within) -> list[str]:
        """Put back what is gone, or None, or of this package; returns their names. Calls no function by a name that a person's
        code can reach."""
        found = self.floor()
        self.odd = []
        self._mend_modules(found)
        for module, table, before, ours in (*self.tables, *[late[0] for late in _late[self.late :]]):
            if same(before, table):
                continue
            self.odd.append((table, before))
            for name, old in before.items():
                new = table.get(name)
                if new is not old and (changed(module, name, new) if ours else gone(old, new)):
                    table[name] = old
                    found.append(f"{module}.{name}")
        entries = [*self.entries]
        for late in _late[self.late :]:
            entries += late[1]
        for label, entered, held, fixed in entries:
            if not within(held, entered, fixed):
                for key, old in held.items():
                    new = entered.get(key, _MISSING)
                    if new is _MISSING or (fixed and new is not old):
                        entered[key] = old
                        found.append(f"{label}[{key!r}]" if type(key) is str else label)
        for kind, own, ours in (*self.classes, *[found for late in _late[self.late :] for found in late[2]]):
            if same(own, kind.__dict__):
                continue
            for name, old in own.items():
                new = kind.__dict__.get(name)
                if (new is not old) if ours else (old is not None and new is None):
                    _setattr(kind, name, old)
                    found.append(f"{kind.__module__}.{kind.__name__}.{name}")
        _found[:] = found
        return found

    def floor(self) -> list[str]:
        """`mend` of Python's own names alone."""
        now = builtins.__dict__
        for name, old in self.names.items():
            if now.get(name) is not old and _callable(old) and not _callable(now.get(name)):
                now[name] = old
                self.lost.append(f"builtins.{name}")
        return self.lost[:]

    def _mend_modules(self, found: list[str]) -> None:
        if sys.modules is not self.modules:
            sys.modules = self.modules
            found.append("sys.modules")
        for name, module in self.held.items():
            if module is not None and self.modules.get(name) is None:
                self.modules[name] = module
                found.append(f"sys.modules[{name!r}]")
        if not _isinstance(sys.path, _list):
            sys.path = self.path
            found.append("sys.path")
        if sys.meta_path is not self.meta_path or not self.meta_path:
            sys.meta_path = self.meta_path
            self.meta_path[:] = self.finders
            found.append("sys.meta_path")

    def builtins(self) -> None:
        """Put back Python's own names: to tell of a failure takes them."""
        builtins.__dict__.update(self.names)

    def restore(self) -> None:
        """Put back every function and class of Python's and this package's in whose place something of a person's own is."""
        others = builtins.__dict__.copy()
        self.builtins()
        self.mend()
        for table, before, now in ((builtins.__dict__, self.names, others), *((*t, t[0]) for t in self.odd)):
            for name, old in before.items():
                new = now.get(name)
                if new is not old and (callable(old) or new is None):
                    table[name] = old if _own(new) else new


def _own(value: Any) -> bool:
    """Whether something is nobody's, or of a module of a person's own."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return module is None or kind_of(origin(module)) == "own"


def _classes() -> list[type]:
    """Classes whose methods this program and torch call at every step."""
    found: list[type] = [PurePath, Path]
    torch: Any = sys.modules.get("torch")
    modes: Any = sys.modules.get("torch.utils._python_dispatch")
    if torch is not None and hasattr(torch, "nn"):
        found += [torch.Tensor, torch.nn.Parameter, torch.nn.Module]
    if modes is not None:
        found.append(modes.TorchDispatchMode)
    return found


class held:
    """Around code of a person's: what it has left nobody to stand on is put back when it ends, however it ends."""

    def __enter__(self) -> None:
        self.ground = Ground()
        _held.append(self.ground)

    def __exit__(self, *_: object) -> None:
        self.ground.restore()
        _held.pop()


class _Floor:
    """Around each call into a model: what tidies up after it finds Python's own names."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if _held:
            _held[-1].floor()


FLOOR = _Floor()
_held: list[Ground] = []


def forget() -> None:
    """What code took away before is not the doing of what comes."""
    _found.clear()


def blamed(names: list[str] | None = None) -> str:
    """What code took away, in words: of these names, or of what the code that ran last did; empty where that is nothing."""
    names = _found if names is None else names
    if not names:
        return ""
    rest = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"it replaces {', '.join(names[:3])}{rest}, which Python, torch or this program needs"
