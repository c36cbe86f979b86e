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
        self = cls(value)
        self.on = on
        return self

    def __add__(self, other: float) -> Shared:
        return Shared.of(float.__add__(self, other), _sum(self.on, other.on, 1.0) if isinstance(other, Shared) else self.on)

    __radd__ = __add__

    def __sub__(self, other: float) -> Shared:
        return Shared.of(float.__sub__(self, other), _sum(self.on, other.on, -1.0) if isinstance(other, Shared) else self.on)

    def __rsub__(self, other: float) -> Shared:
        return -1.0 * self + other

    def __mul__(self, other: float) -> Shared:
        on = {name: part * float(other) for name, part in self.on.items()}
        return Shared.of(float.__mul__(self, other), _sum(on, other.on, float(self)) if isinstance(other, Shared) else on)

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Shared:
        value, by = float.__truediv__(self, other), 1.0 / float(other)
        on = {name: part * by for name, part in self.on.items()}
        return Shared.of(value, _sum(on, other.on, -value * by) if isinstance(other, Shared) else on)

    def __rtruediv__(self, other: float) -> Shared:
        value = float.__rtruediv__(self, other)
        by = -value / float(self)
        return Shared.of(value, {name: part * by for name, part in self.on.items()})

    def __pow__(self, other: Any, mod: None = None) -> Any:
        if not self:
            return Shared.of(float.__pow__(self, other), {})
        by = other * float(self) ** (other - 1)
        return Shared.of(float.__pow__(self, other), {name: part * by for name, part in self.on.items()})


def _sum(a: dict[str, float], b: dict[str, float], times: float) -> dict[str, float]:
    out = dict(a)
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
