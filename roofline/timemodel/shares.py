"""Numbers that remember which roofs they rest on, so that a time can be divided among them.

A time model says `n / rate`, `a + b`, `max(a, b)`, `(a**p + m**p) ** (1/p)`. Every such time is homogeneous in the times of its
roofs: twice as slow roofs take twice as long. So by Euler's theorem it is the sum of its derivatives by the logarithm of each
roof, and that derivative is what a share of the time should mean: by which part of itself the time falls when the roof
gets a little better. `Shared` carries these derivatives through the formulas as they stand, and nothing is divided by hand.
"""

from __future__ import annotations

from typing import Any, Self


class Shared(float):
    """A float, and by name of each roof: minus its derivative by the logarithm of the roof's rate."""

    __slots__ = ("on",)
    on: dict[str, float]

    @classmethod
    def of(cls, value: float, on: dict[str, float]) -> Self:
        self = _new(cls, value)
        self.on = on
        return self

    # every kernel goes through these some forty times: so they say more by themselves than they would have to

    def __add__(self, other: float) -> Shared:
        out = _new(Shared, _add(self, other))
        out.on = _sum(self.on, other.on, 1.0) if type(other) is Shared else self.on
        return out

    __radd__ = __add__

    def __sub__(self, other: float) -> Shared:
        return Shared.of(float.__sub__(self, other), _sum(self.on, other.on, -1.0) if isinstance(other, Shared) else self.on)

    def __rsub__(self, other: float) -> Shared:
        return -1.0 * self + other

    def __mul__(self, other: float) -> Shared:
        out = _new(Shared, _mul(self, other))
        on = {name: part * other for name, part in self.on.items()} if type(other) is not Shared else _times(self, other)
        out.on = on
        return out

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Shared:
        value, by = float.__truediv__(self, other), 1.0 / float(other)
        on = {name: part * by for name, part in self.on.items()}
        return Shared.of(value, _sum(on, other.on, -value * by) if isinstance(other, Shared) else on)

    def __rtruediv__(self, other: float) -> Shared:
        value = _over(self, other)
        by = -value / float(self)
        out = _new(Shared, value)
        out.on = {name: part * by for name, part in self.on.items()}
        return out

    def __pow__(self, other: Any, mod: None = None) -> Any:
        if not self:
            return Shared.of(float.__pow__(self, other), {})
        by = other * float(self) ** (other - 1)
        return Shared.of(float.__pow__(self, other), {name: part * by for name, part in self.on.items()})


_new, _add, _mul, _over = float.__new__, float.__add__, float.__mul__, float.__rtruediv__


def _times(a: Shared, b: Shared) -> dict[str, float]:
    return _sum({name: part * float(b) for name, part in a.on.items()}, b.on, float(a))


def _sum(a: dict[str, float], b: dict[str, float], times: float) -> dict[str, float]:
    out = a.copy()
    for name, part in b.items():
        out[name] = out.get(name, 0.0) + times * part
    return out


def rate(value: float, name: str) -> Shared:
    """A roof: so many FLOP/s or B/s."""
    return Shared.of(value, {name: -value})


def seconds(value: float, name: str) -> Shared:
    """A roof that is a time itself: a step of the host, a launch."""
    return Shared.of(value, {name: value})


def parts(value: float) -> dict[str, float]:
    """What a time rests on, in its own unit; nothing of a plain number."""
    return value.on if isinstance(value, Shared) else {}
