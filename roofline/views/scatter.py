"""Models as points by two of their numbers, each device (in one setting) with a colour and a front of its own.

What a picture (`front`) and a page (`page.front`) show of a comparison or of the rows of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from roofline.analysis import metrics
from roofline.records import ToolInfo
from roofline.records.comparison import Compared, Comparison
from roofline.sweeps.query import GROUP, Found
from roofline.version import __version__

# What is drawn where nobody asked for a front.
USUAL = ("time", "macs")
# An axis is logarithmic where its largest number is so many times its least.
DECADE = 5.0

Between = tuple[float, float] | None


class Axis(NamedTuple):
    """One of the two numbers."""

    name: str
    # whether less of it is better; None: nobody said
    least: bool | None
    log: bool

    @property
    def unit(self) -> str:
        """ "s", "B", "MiB" (bytes in units of 1024), "J", "FLOP", "count"; "" of a number of the caller's own."""
        known = metrics.BY_NAME.get(self.name)
        return ("MiB" if known.held else known.unit) if known else ""

    @property
    def per(self) -> str:
        """What follows a number without unit: "/s"."""
        known = metrics.BY_NAME.get(self.name)
        return known.per if known else ""

    @property
    def title(self) -> str:
        return self.words if self.least is None else f"{self.words} ({'less' if self.least else 'more'} is better)"

    @property
    def words(self) -> str:
        """Its name as people write it."""
        return {"macs": "MACs", "flops": "FLOPs"}.get(self.name, self.name.replace("_", " ")) if self.unit else self.name

    def text(self, value: float) -> str:
        """As people read it."""
        known = metrics.BY_NAME.get(self.name)
        return metrics.text(known, value, 3) if known else f"{value:.6g}"


class Mark(NamedTuple):
    """One model on one device."""

    name: str
    # its place in `Scatter.groups`
    group: int
    at: tuple[float, float]
    # the 80 % interval of each
    between: tuple[Between, Between]
    # whether no other of its group beats it; None: no front was asked for, or it does not fit into the device's memory
    front: bool | None
    fits: bool
    # its place in the table; None: not in it
    row: int | None


class Scatter(NamedTuple):
    """The points, and what is to be said of them."""

    title: str
    axes: tuple[Axis, Axis]
    # as a legend has them
    groups: list[str]
    marks: list[Mark]
    # whether the two axes are all that the front goes by, so that a line through it says the truth
    line: bool
    notes: list[str]
    tool: ToolInfo

    def named_axes(self) -> str:
        """Both numbers by their names."""
        return " and ".join(axis.words for axis in self.axes)

    def named(self, i: int) -> list[Mark]:
        """The marks of a group."""
        return [mark for mark in self.marks if mark.group == i]

    def front_of(self, i: int) -> list[Mark]:
        """The front of a group, from left to right."""
        return sorted((m for m in self.named(i) if m.front), key=lambda m: m.at) if self.line else []


def of_comparison(found: Comparison) -> Scatter:
    """Of a comparison with at least one row."""
    names = (found.pareto or USUAL)[:2]
    several = len({row.batch for row in found.rows}) > 1
    titles = [f"{row.device}, batch {row.batch}" if several else row.device for row in found.rows]
    groups = list(dict.fromkeys(titles))
    marks: list[Mark] = []
    lost: list[str] = []
    for i, (row, title) in enumerate(zip(found.rows, titles, strict=True)):
        numbers = [_of(row, name) for name in names]
        at = _pair(numbers)
        if at is None:
            lost.append(row.model)
            continue
        time = (row.time_s, row.interval.low_s, row.interval.high_s) if row.interval else None
        ends = _ends(names, at, time, row.energy_between)
        marks.append(Mark(row.model, groups.index(title), at, ends, row.front, row.fits is not False, i))
    assert found.tool is not None
    return _scatter(names, found.pareto, found.least, groups, marks, [*found.notes, *_missing(lost, names)], found.tool)


def _of(row: Compared, name: str) -> Any:
    """A number of a row: a column, or one that the front asked for."""
    usual: dict[str, Callable[[Compared], float]] = {"time": lambda r: r.time_s, "macs": lambda r: r.macs}
    if name in row.by:
        return row.by[name]
    # what launches nothing has no time
    return usual[name](row) if name in usual and row.time_s else None


def of_rows(found: Found) -> Scatter:
    """Of the rows of a sweep, with those that the front left out as points without a name."""
    names = (found.front.names if found.front else USUAL)[:2]
    marks, lost, titles = list[Mark](), list[str](), dict[str, int]()
    both: list[tuple[Mapping[str, Sequence[Any]], bool]] = [(found.whole, True), (found.beaten, False)]
    differ = [name for name in GROUP if name == "device" or len({v for table, _ in both for v in table.get(name, ())}) > 1]
    for table, shown in both:
        for i, model in enumerate(table.get("model", ())):
            at = _pair([table[name][i] for name in names] if table["time"][i] else [])
            if at is None:
                lost.append(model)
                continue
            group = titles.setdefault(_group(table, i, differ), len(titles))
            front, fits = shown if found.front else None, table["fits"][i] is not False
            ends = _ends(names, at, _time(table, i), _pair([table[n][i] for n in _JOULES if n in table]))
            marks.append(Mark(model, group, at, ends, front, fits, i if shown else None))
    front_names, least = (found.front.names, found.front.least) if found.front else ((), ())
    notes = [*found.notes, *_missing(lost, names)]
    return _scatter(names, front_names, least, list(titles), marks, notes, _tool(found))


def _group(table: Mapping[str, Sequence[Any]], i: int, differ: Sequence[str]) -> str:
    """The device, and what else tells the rows of one group from those of another: "t4, batch 32"."""
    cells = [(name, table[name][i]) for name in sorted(differ, key=lambda name: name != "device")]
    words = [
        f"{name} {value}" if isinstance(value, (int, float)) else str(value) for name, value in cells if value not in (None, "")
    ]
    return ", ".join(words)


def _tool(found: Found) -> ToolInfo:
    """By what the rows were made, as they say."""
    torch = dict.fromkeys(v for table in (found.whole, found.beaten) for v in table.get("torch", ()))
    made = dict.fromkeys(v for table in (found.whole, found.beaten) for v in table.get("roofline", ()))
    return ToolInfo(", ".join(made) or __version__, ", ".join(torch))


def _time(table: Mapping[str, Sequence[Any]], i: int) -> tuple[float, float, float] | None:
    time, low, high = (table[name][i] if name in table else None for name in ("time", "time_low", "time_high"))
    return None if time is None or low is None or high is None else (time, low, high)


def _pair(numbers: Sequence[Any]) -> tuple[float, float] | None:
    known = [float(n) for n in numbers if isinstance(n, (int, float))]
    return (known[0], known[1]) if len(known) == 2 else None


# the ends of the interval of an energy
_JOULES = ("energy_low", "energy_high")
_Middle = tuple[float, float, float]


def _ends(names: Sequence[str], at: tuple[float, float], time: _Middle | None, energy: Between) -> tuple[Between, Between]:
    return _between(names[0], at[0], time, energy), _between(names[1], at[1], time, energy)


def _between(name: str, value: float, time: _Middle | None, energy: Between) -> Between:
    """The interval of a time, of a rate, which is the other way round, and of an energy; no other number has one."""
    if name == "energy":
        return energy
    if time is None or not time[0]:
        return None
    middle, low, high = time
    return {"time": (low, high), "throughput": (value * middle / high, value * middle / low)}.get(name)


def _missing(lost: Sequence[str], names: Sequence[str]) -> list[str]:
    models = list(dict.fromkeys(lost))
    some = ", ".join(models[:5]) + (f" and {len(models) - 5:,} more" if len(models) > 5 else "")
    return [f"without {' or '.join(names)}, and so not drawn: {some}"] if models else []


def _scatter(
    names: Sequence[str],
    asked: Sequence[str],
    least: Sequence[bool],
    groups: list[str],
    marks: list[Mark],
    notes: list[str],
    tool: ToolInfo,
) -> Scatter:
    models = list(dict.fromkeys(mark.name for mark in marks))
    if not marks:
        notes = [*notes, "there is nothing to draw"]
    what = models[0] if len(models) == 1 else f"{len(models):,} models"
    kinds = "devices and settings" if any(", " in group for group in groups) else "devices"
    where = groups[0] if len(groups) == 1 else f"{len(groups):,} {kinds}"
    ways = least if asked else (True, None)
    x, y = (Axis(name, ways[i], _log([mark.at[i] for mark in marks])) for i, name in enumerate(names))
    return Scatter(f"{what} on {where}", (x, y), groups, marks, len(asked) == 2, notes, tool)


def _log(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) >= DECADE * min(values)
