"""A comparison as an aligned table, CSV or Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from roofline.advice import doubt
from roofline.analysis.explain import with_interval
from roofline.analysis.reasons import listed
from roofline.records.comparison import Compared, Comparison
from roofline.units import binary, count, joules, si
from roofline.views.explanation import wrapped
from roofline.views.listing import PLAIN, Painter, columns
from roofline.views.text import cell, escape, grid

# What CSV holds, in base units.
FIELDS = (
    "model",
    "device",
    "batch",
    "params",
    "macs",
    "flops",
    "bytes",
    "intensity",
    "time_s",
    "time_low",
    "time_high",
    "throughput",
    "speed_up",
    "peak_memory_bytes",
    "bound",
    "fits",
    "front",
    "energy_j",
    "energy_low",
    "energy_high",
)


class Column(NamedTuple):
    """A column of the table: its name, "l" or "r", the text of a row, and what rows are sorted by."""

    name: str
    align: str
    text: Callable[[Compared], str]
    key: Callable[[Compared], float | str | None]


def render(found: Comparison, paint: Painter = PLAIN) -> str:
    """The table, the sentences under it, and what failed."""
    head, rows = cells(found)
    text = columns(head, rows, _align(found), paint)
    lines = [f"- {text}" for text in (*(s.text for s in found.sentences), *failures(found))]
    lines += [f"note: {note}" for note in found.notes]
    said = "".join(wrapped(line, rest="  ") for line in lines)
    return f"{text}\n{said}" if said else text


def _own(found: Comparison) -> list[str]:
    return list(dict.fromkeys(name for row in found.rows for name in row.own))


def table(found: Comparison) -> list[Column]:
    """The columns: device and batch where there are several, the caller's own numbers, and the front that was asked for."""
    several = {"Device": len({r.device for r in found.rows}) > 1, "Batch": len({r.batch for r in found.rows}) > 1}
    where = [
        Column("Device", "l", lambda r: r.device, lambda r: r.device),
        Column("Batch", "r", lambda r: str(r.batch), lambda r: r.batch),
    ]
    own = [Column(name, "r", partial(_given, name), partial(_number, name)) for name in _own(found)]
    energy = Column("Energy", "r", lambda r: "unknown" if r.energy_j is None else joules(r.energy_j), lambda r: r.energy_j)
    front = Column("Front", "l", lambda r: {True: "yes", False: "", None: "?"}[r.front], lambda r: str(r.front is not True))
    return [
        Column("Model", "l", lambda r: r.model, lambda r: r.model),
        *(column for column in where if several[column.name]),
        Column("Params", "r", lambda r: count(r.params), lambda r: r.params),
        Column("MACs", "r", lambda r: count(r.macs), lambda r: r.macs),
        Column("Traffic", "r", lambda r: si(r.bytes, "B", 3), lambda r: r.bytes),
        Column("Time", "r", lambda r: with_interval(r.time_s, r.interval), lambda r: r.time_s),
        Column("Rate", "r", lambda r: f"{count(r.throughput)}/s", lambda r: r.throughput),
        Column("Speed-up", "r", _speed_up, lambda r: r.speed_up),
        Column("Memory", "r", _memory, lambda r: r.peak_memory_bytes),
        Column("Bound", "l", lambda r: r.bound, lambda r: r.bound),
        *([energy] if "energy" in found.pareto else []),
        *own,
        *([front] if found.pareto else []),
    ]


def _speed_up(row: Compared) -> str:
    unsure = " unsure" if doubt.swallowed(row.speed_up_between) else ""
    return "" if row.speed_up is None else f"{si(row.speed_up, digits=3)}x{unsure}"


def _memory(row: Compared) -> str:
    return binary(row.peak_memory_bytes) + ("" if row.fits is not False else " does not fit")


def _number(name: str, row: Compared) -> float | str | None:
    return row.own.get(name)


def _given(name: str, row: Compared) -> str:
    value = row.own.get(name, "")
    return f"{value:g}" if isinstance(value, float) else value


def cells(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """The table as text: its heads, and the cells of each row."""
    columns = table(found)
    return [column.name for column in columns], [[column.text(row) for column in columns] for row in found.rows]


def _align(found: Comparison) -> str:
    return "".join(column.align for column in table(found))


def failures(found: Comparison) -> list[str]:
    """What could not be analysed, and why, a sentence for each reason."""
    lines = []
    for model, why in dict.fromkeys((f.model, f.why) for f in found.failed):
        where = dict.fromkeys(f.device for f in found.failed if (f.model, f.why) == (model, why))
        lines.append(f"{model} on {listed(list(where))} could not be analysed: {why}")
    return lines


def _ends(row: Compared) -> dict[str, float | None]:
    """Of the 80 % intervals, in seconds and joules."""
    time = (row.interval.low_s, row.interval.high_s) if row.interval else (None, None)
    least, most = row.energy_between or (None, None)
    return {"time_low": time[0], "time_high": time[1], "energy_low": least, "energy_high": most}


def to_csv(found: Comparison) -> str:
    """A line for each row, in base units; the caller's own columns come last."""
    own = _own(found)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FIELDS, *own])
    for row in found.rows:
        cells = [_ends(row)[name] if name in _ends(row) else getattr(row, name) for name in FIELDS]
        writer.writerow([cell(value) for value in (*cells, *(row.own.get(name) for name in own))])
    return out.getvalue()


def to_markdown(found: Comparison) -> str:
    """The table, and the sentences as a list."""
    head, rows = cells(found)
    table = grid([escape(name) for name in head], _align(found), [[escape(name) for name in row] for row in rows])
    said = "\n".join(f"- {escape(s.text)}" for s in found.sentences)
    return f"{table}\n" + (f"\n{said}\n" if said else "")
