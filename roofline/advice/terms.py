"""Numbers of sentences: each is a term of an analysis, or the ratio of two, and reads as people write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from roofline.analysis.explain import rate
from roofline.records import Analysis, KernelRow
from roofline.records.explanation import Check, Evidence, Number, Sentence, Term
from roofline.units import binary, count, percent, seconds, si


def _times(v: float) -> str:
    if 0.95 <= v < 1.05:  # "1 times" says of neither side that it is the faster
        return f"{v:.2f} times"
    return f"{si(v, digits=2)} times" if v < 100 else f"{float(f'{v:.3g}'):,.0f} times"


_TEXTS: dict[str, Callable[[float], str]] = {
    "s": seconds,
    "B": lambda v: si(v, "B", 3),
    "MiB": binary,
    "FLOP": lambda v: si(v, "FLOP"),
    "FLOP/s": lambda v: si(v, "FLOP/s", 3),
    "B/s": lambda v: si(v, "B/s", 3),
    "FLOP/B": lambda v: f"{si(v, digits=3)} FLOP/B",
    "count": lambda v: f"{v:,.0f}" if v < 1e5 else count(v),
    "times": _times,
    "share": lambda v: percent(v, 1.0),
    "samples/s": rate,
    "tokens/s": lambda v: rate(v, "tokens"),
}


class Pace(NamedTuple):
    """How a pass is paced: by samples, that of a language model by tokens."""

    # what one of them is called, the unit of their rate, and the paths of the rate and of their number in a pass
    each: str
    unit: str
    rate: str
    number: str


def pace_of(a: Analysis) -> Pace:
    if a.language:
        return Pace("token", "tokens/s", "language.tokens_per_s", "language.tokens")
    return Pace("sample", "samples/s", "totals.throughput", "setting.batch")


def keeps(row: KernelRow, where: Mapping[str, str]) -> bool:
    """Whether a kernel is among those that `where` names: "class" or "layer" with all inside (several with | between), "own"
    for a layer without what is inside, "level"."""
    for key, wanted in where.items():
        if key == "class":
            kept = row.klass in wanted.split("|")
        elif key == "own":
            kept = row.layer == wanted
        elif key == "level":
            kept = row.level == wanted
        else:
            kept = any(not one or row.layer == one or row.layer.startswith(f"{one}.") for one in wanted.split("|"))
        if not kept:
            return False
    return True


def _kept(rows: Sequence[KernelRow], where: Mapping[str, str]) -> Sequence[KernelRow]:
    """The kernels that `where` names; layers, which are asked for most, go quickly."""
    layers = where["layer"].split("|") if len(where) == 1 and where.get("layer") else []
    if all(layers) and layers:
        inside = tuple(f"{layer}." for layer in layers)
        return [row for row in rows if f"{row.layer}.".startswith(inside)]
    return [row for row in rows if keeps(row, where)] if where else rows


def value(analysis: Analysis, term: Term) -> float:
    """The number that a term names."""
    head, *rest = term.what.split(".", 1)
    if head == "kernels":
        rows = _kept(analysis.kernels, term.where)
        return sum(_at(row, rest[0]) for row in rows) if rest else float(len(rows))
    if head == "levels":
        name, what = rest[0].split(".", 1)
        return next((float(getattr(level, what)) for level in analysis.device.levels if level.name == name), 0.0)
    return _at(analysis, term.what)


def _at(record: Any, path: str) -> float:
    for i, name in enumerate(parts := path.split(".")):
        if isinstance(record, dict):
            return float(record.get(".".join(parts[i:]), 0.0))
        record = getattr(record, "klass" if name == "class" else name)
    return float(record or 0.0)


class Book:
    """The analyses that an answer rests on, by key, and the numbers that are read off them."""

    def __init__(self) -> None:
        self.runs: dict[str, Analysis] = {}

    def number(self, unit: str, over: Term, under: Term | None = None, by: Term | None = None) -> Number:
        found = value(self.runs[over.run], over)
        if by is not None:
            found *= value(self.runs[by.run], by)
        if under is not None:
            below = value(self.runs[under.run], under)
            found = found / below if below else 0.0
        return Number(found, unit, _TEXTS[unit](found), over, under, by)

    def of(self, run: str, unit: str, what: str, over: str = "", where: Mapping[str, str] | None = None) -> Number:
        """A number of one run: `what`, or `what` / `over`; `where` narrows the kernels of `what` alone."""
        return self.number(unit, Term(run, what, dict(where or {})), Term(run, over) if over else None)

    def ratio(self, unit: str, over: str, under: str, what: str, where: Mapping[str, str] | None = None) -> Number:
        """The same of two runs, the first over the second."""
        narrowed = dict(where or {})
        return self.number(unit, Term(over, what, narrowed), Term(under, what, narrowed))


def at_least(number: Number, limit: float) -> Check:
    return Check(number, ">=", limit)


def below(number: Number, limit: float) -> Check:
    return Check(number, "<", limit)


def holds(check: Check) -> bool:
    return check.number.value >= check.limit if check.relation == ">=" else check.number.value < check.limit


def say(
    template: str, *, when: tuple[Check, ...] = (), evidence: tuple[Evidence, ...] = (), **parts: Number | str
) -> list[Sentence]:
    """The sentence, its `{names}` filled with numbers and names; nothing where a condition does not hold."""
    if not all(map(holds, when)):
        return []
    numbers = {name: part for name, part in parts.items() if isinstance(part, Number) and f"{{{name}}}" in template}
    text = template.format(**{name: part.text if isinstance(part, Number) else part for name, part in parts.items()})
    return [Sentence(text, numbers, when, evidence)]
