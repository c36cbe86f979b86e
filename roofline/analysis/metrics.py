"""The numbers of an analysis that budgets limit and diffs compare: unit, which way is worse, how to read and print each."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Literal, NamedTuple

from roofline import units
from roofline.errors import UsageError, nearest
from roofline.records import Analysis


class Metric(NamedTuple):
    """One number of an analysis that can be limited and compared."""

    name: str
    # of a budget and of --fail-on: "FLOP", "B", "s", "J", or "count" for what has no unit
    unit: Literal["FLOP", "B", "s", "J", "count"]
    # whether more of it is worse
    cost: bool
    # raises UsageError where an analysis does not have it
    of: Callable[[Analysis], float]
    # depends on the FLOPs of every op: wrong where an op has no rule
    needs_rules: bool = False
    # depends on the device's speed, and not on the model alone
    timed: bool = False
    # what may follow a number and its prefix, as a regular expression, where that is read as decimal text ("5.5 M params")
    noun: str = ""
    # its name in the JSON, which is understood too
    alias: str = ""
    # bytes that are in memory at one time, in units of 1024 as memory is sold; those that are moved are in units of 1000
    held: bool = False
    # what follows a number without unit
    per: str = ""

    @property
    def limit(self) -> str:
        """The key of a budget that limits it: "max_time"."""
        return f"{self.natural}_{self.name}"

    @property
    def natural(self) -> Literal["max", "min"]:
        """Which limit keeps it from being worse."""
        return "max" if self.cost else "min"


def _energy(a: Analysis) -> float:
    """Joules of a sample."""
    if a.totals.energy is None:
        raise UsageError(a.totals.no_energy or "there is no energy in it: nothing ran, or an older version wrote it")
    return a.totals.energy.per_sample_j


# Budgets, diffs, their views and the help of both read this alone. A new metric is a line here.
METRICS: tuple[Metric, ...] = (
    Metric("params", "count", True, lambda a: a.model.params, noun="params?|parameters?"),
    Metric("macs", "count", True, lambda a: a.totals.macs, needs_rules=True, noun="MACs?"),
    Metric("flops", "FLOP", True, lambda a: a.totals.flops, needs_rules=True, noun="FLOPs?"),
    Metric("bytes", "B", True, lambda a: a.totals.bytes),
    Metric("weight_bytes", "B", True, lambda a: a.totals.weight_bytes),
    Metric("intensity", "count", False, lambda a: a.totals.intensity, needs_rules=True, noun="FLOPs?/B(?:yte)?", per=" FLOP/B"),
    Metric("kernels", "count", True, lambda a: a.totals.kernels, noun="kernels?"),
    Metric("time", "s", True, lambda a: a.totals.time_s, needs_rules=True, timed=True, alias="time_s"),
    Metric(
        "throughput", "count", False, lambda a: a.totals.throughput, needs_rules=True, timed=True, noun="samples/s|/s", per="/s"
    ),
    Metric("peak_memory", "B", True, lambda a: a.totals.peak_memory_bytes, alias="peak_memory_bytes", held=True),
    Metric("energy", "J", True, _energy, needs_rules=True, timed=True),
)
BY_NAME = {m.name: m for m in METRICS}


def numbers(a: Analysis) -> dict[str, float]:
    """All that an analysis has, by name."""
    found = {}
    for m in BY_NAME.values():
        with suppress(UsageError):
            found[m.name] = m.of(a)
    return found


def by_limit() -> dict[str, Metric]:
    """Key of a budget -> its metric, in the order of METRICS."""
    return {m.limit: m for m in BY_NAME.values()}


def metric(name: str) -> Metric:
    """The metric of that name. Raises UsageError that lists the nearest."""
    found = BY_NAME.get(name) or next((m for m in BY_NAME.values() if m.alias and m.alias == name), None)
    if found is None:
        raise UsageError(f"no metric {name!r}{nearest(name, BY_NAME)}\nmetrics: {', '.join(BY_NAME)}")
    return found


def text(metric: Metric, value: float, digits: int = 4) -> str:
    """`value` as people read it, in every view: "216.6 M", "1.23 ms", "136 MB" moved, "28.47 MiB" held."""
    if metric.unit == "s":
        return units.seconds(value, digits)
    if metric.unit == "J":
        return units.joules(value, digits)
    if metric.held:
        return units.binary(value, digits)
    return units.si(value, "" if metric.unit == "count" else metric.unit, digits) + metric.per


_NUMBER = r"\s*((?:(?:\d{1,3}(?:[_,]\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?)\s*"
_EXPONENT = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15}


def parse(metric: Metric, value: str | float) -> float:
    """A limit as written ("1 GFLOP", "5.5 M", 250) in the base unit. Raises ValueError that says what was expected."""
    return float(exact(metric, value))


def exact(metric: Metric, value: str | float) -> Fraction:
    """The same to the last digit, so that "5.483032 M" is 5,483,032 and a value that meets its limit keeps it."""
    if metric.noun and isinstance(value, str):
        match = re.fullmatch(rf"{_NUMBER}([kKMGTP]?)\s*(?:{metric.noun})?\s*", value)
        if match is None:
            raise ValueError(f'expected a number like 250 or "5.5 M", got {value!r}')
        number = Fraction(match[1].replace(",", "").replace("_", "")) * Fraction(10) ** _EXPONENT[match[2]]
    else:
        number = units.exact(value, "1" if metric.unit == "count" else metric.unit)
    # a float is what the other side of a comparison is: nothing that it cannot hold
    if number < 0 or number > Fraction("1e300") or (number and not float(number)):
        raise ValueError(f"expected a number of at least 0{'' if number < 0 else ' that is in range'}, got {value!r}")
    return Fraction(number)


def signed(metric: Metric, delta: float) -> str:
    """A change as people read it: "+1.9 ms", "-20 k"."""
    return f"{'-' if delta < 0 else '+'}{text(metric, abs(delta))}"


def percent(relative: float | None) -> str:
    """A change as text: "+5.2 %", "=" for none, "new" where there was nothing before."""
    if relative is None:
        return "new"
    return units.change(relative) if relative else "="
