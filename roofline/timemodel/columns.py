"""Numbers of many devices at once, in the place of those of one: what formulas need to run on all of them together.

A `Column` is an array whose rows are devices and whose columns are kernels, either of which may be one; like a `Shared` it
carries its derivatives by its roofs (shares.py); numbers without a roof are plain arrays. Operations and their order are the
same, so its numbers are those of each device by itself to the last digit. Where a formula asks whether a number is so
(`known.get(kind) or machine.host`), all devices have to answer alike: `Mixed` is raised where they do not, and the caller takes
fewer at a time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from roofline.timemodel.formulas import Once
from roofline.timemodel.shares import Shared

_On = dict[str, Any]


class Mixed(Exception):
    """A formula goes another way on some of the devices: `ways` has a number for each, or is None where nobody knows."""

    def __init__(self, ways: Sequence[int] | None = None) -> None:
        super().__init__()
        self.ways = ways

    @classmethod
    def of(cls, answers: Any) -> Mixed:
        """Of answers, a row for each device."""
        rows = np.asarray(answers)
        if rows.ndim != 2 or len(rows) < 2 or (rows != rows[:, :1]).any():
            return cls()
        return cls([int(way) for way in rows[:, 0]])


class Column:
    """Values, and by name of each roof minus their derivatives by the logarithm of its rate."""

    __slots__ = ("on", "value")
    # an array on the left leaves the operation to this class
    __array_ufunc__ = None

    def __init__(self, value: Any, on: _On) -> None:
        self.value, self.on = value, on

    def __add__(self, other: Any) -> Column:
        if isinstance(other, Column):
            return Column(self.value + other.value, _sum(self.on, other.on, 1.0))
        return Column(self.value + other, self.on)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Column:
        if isinstance(other, Column):
            return Column(self.value - other.value, _sum(self.on, other.on, -1.0))
        return Column(self.value - other, self.on)

    def __rsub__(self, other: Any) -> Column:
        return Column(other - self.value, {name: -part for name, part in self.on.items()})

    def __mul__(self, other: Any) -> Column:
        if isinstance(other, Column):
            on = {name: part * other.value for name, part in self.on.items()}
            return Column(self.value * other.value, _sum(on, other.on, self.value) if other.on else on)
        return Column(self.value * other, {name: part * other for name, part in self.on.items()})

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Column:
        by = other.value if isinstance(other, Column) else other
        value = self.value / by
        on = {name: part / by for name, part in self.on.items()}
        return Column(value, _sum(on, other.on, value / -by) if isinstance(other, Column) and other.on else on)

    def __rtruediv__(self, other: Any) -> Column:
        value = other / self.value
        by = value / -self.value
        return Column(value, {name: part * by for name, part in self.on.items()})

    def __pow__(self, other: float) -> Column:
        if type(other) is float and other == 1.0:
            return self
        value = np.asarray(self.value)
        # C's pow, as of one number: np.power has ways of its own, which differ in the last digit
        found = np.float_power(value, other)
        by = other * (found / value if value.all() else np.divide(found, value, out=np.zeros(value.shape), where=value != 0))
        return Column(found, {name: part * by for name, part in self.on.items()})

    def __bool__(self) -> bool:
        return bool(_Answer.of(operator.ne, self, 0))

    def __float__(self) -> float:
        if np.size(self.value) != 1:
            raise Mixed
        return float(np.asarray(self.value).flat[0])

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> Any:
        return _Answer.of(operator.eq, self, other)

    def __ne__(self, other: object) -> Any:
        return _Answer.of(operator.ne, self, other)

    def __lt__(self, other: Any) -> Any:
        return _Answer.of(operator.lt, self, other)

    def __le__(self, other: Any) -> Any:
        return _Answer.of(operator.le, self, other)

    def __gt__(self, other: Any) -> Any:
        return _Answer.of(operator.gt, self, other)

    def __ge__(self, other: Any) -> Any:
        return _Answer.of(operator.ge, self, other)


class _Answer(np.ndarray[Any, Any]):
    """Whether it is so, for each: one answer where somebody asks for one, and all agree."""

    @staticmethod
    def of(compare: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        return np.asarray(compare(plain(a), plain(b))).view(_Answer)

    def __bool__(self) -> bool:
        each = np.asarray(self)
        if each.size and (each != each.flat[0]).any():
            raise Mixed.of(each)
        return bool(each.flat[0]) if each.size else False


def plain(value: Any) -> Any:
    """Its numbers alone."""
    return value.value if isinstance(value, Column) else value


def roofs(value: Any) -> _On:
    """What it rests on."""
    return value.on if isinstance(value, Column) else {}


def _sum(a: _On, b: _On, times: Any) -> _On:
    out = a.copy()
    for name, part in b.items():
        out[name] = out[name] + part * times if name in out else part * times
    return out


class Columns(Once):
    """The array functions that the formulas use (formulas.Plain)."""

    @staticmethod
    def ceil(x: Any) -> Any:
        return np.ceil(plain(x))

    @staticmethod
    def floor(x: Any) -> Any:
        return np.floor(plain(x))

    @staticmethod
    def any(x: Any) -> bool:
        return bool(np.any(np.asarray(x)))

    @staticmethod
    def maximum(a: Any, b: Any) -> Any:
        if type(a) is Column or type(b) is Column:
            return _picked(np.asarray(plain(b) > plain(a)), b, a)
        return np.maximum(a, b) if type(a) is np.ndarray or type(b) is np.ndarray else max(a, b)

    @staticmethod
    def minimum(a: Any, b: Any) -> Any:
        if type(a) is Column or type(b) is Column:
            return _picked(np.asarray(plain(b) < plain(a)), b, a)
        return np.minimum(a, b) if type(a) is np.ndarray or type(b) is np.ndarray else min(a, b)

    @staticmethod
    def where(condition: Any, yes: Any, no: Any) -> Any:
        # one answer for all: the other way is nobody's
        if type(condition) is bool:
            return yes if condition else no
        condition = np.asarray(condition, bool)
        if type(yes) is Column or type(no) is Column:
            return _picked(condition, yes, no)
        return np.where(condition, yes, no)


def _picked(condition: Any, yes: Any, no: Any) -> Column:
    a, b = roofs(yes), roofs(no)
    on: _On = {name: np.where(condition, part, b.get(name, 0.0)) for name, part in a.items()}
    for name, part in b.items():
        if name not in on:
            on[name] = np.where(condition, 0.0, part)
    return Column(np.where(condition, plain(yes), plain(no)), on)


# ------------------------------------------------------------------------------------------------ of records


def stacked(records: Sequence[Any]) -> Any:
    """The same of several devices (numbers, texts, tuples, mappings, records) as one, with columns where they differ.

    Raises Mixed where they are not of one form.
    """
    first = records[0]
    if isinstance(first, Shared) or any(isinstance(r, Shared) for r in records):
        names = dict.fromkeys(name for r in records for name in getattr(r, "on", ()))
        on = {name: _column([getattr(r, "on", {}).get(name, 0.0) for r in records]) for name in names}
        return Column(_column([float(r) for r in records]), on)
    if isinstance(first, Struct):
        return type(first)(**{name: stacked([getattr(r, name) for r in records]) for name in type(first).__struct_fields__})
    if isinstance(first, tuple):
        if any(len(r) != len(first) for r in records):
            raise Mixed([len(r) for r in records])
        return tuple(stacked(each) for each in zip(*records, strict=True))
    if isinstance(first, Mapping):
        if any(r.keys() != first.keys() for r in records):
            raise Mixed
        return {name: stacked([r[name] for r in records]) for name in first}
    if all(type(r) is type(first) and r == first for r in records):
        return first
    if isinstance(first, (bool, str)) or first is None:
        raise Mixed
    return _column([float(r) for r in records])


def _column(values: Sequence[float]) -> Any:
    return np.array(values, dtype=float).reshape(-1, 1)
