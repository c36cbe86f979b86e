"""How sure a ratio of two predicted times is, and whether it may be called a difference."""

from __future__ import annotations

from roofline.records import Interval
from roofline.timemodel import uncertainty
from roofline.units import si

Between = tuple[float, float]


def times_between(times: float, one: Interval | None, other: Interval | None, *, same_device: bool) -> Between | None:
    """The 80 % interval of a ratio of two times; none where one of them has none."""
    if one is None or other is None:
        return None
    return uncertainty.bounds(times, uncertainty.ratio(one, other, same_device))


def swallowed(sure: Between | None) -> bool:
    """Whether the ratio may as well be 1."""
    return sure is not None and sure[0] <= 1 <= sure[1]


def said(sure: Between | None) -> str:
    """In words, after the ratio."""
    return f", {si(sure[0], digits=2)} to {si(sure[1], digits=2)} in 8 of 10 cases" if sure else ""


def beside(one: str, other: str, sure: Between | None) -> str:
    """What a sentence says of two by the names of their places in it; {times} is the ratio."""
    if swallowed(sure):
        return f"{{{one}}} and {{{other}}} cannot be told apart ({{{one}}} is {{times}} as fast{said(sure)})"
    return f"{{{one}}} is {{times}} as fast as {{{other}}}{said(sure)}"
