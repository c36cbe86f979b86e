"""Rows of sweeps as an aligned table, CSV, Markdown or JSON."""

from __future__ import annotations

import csv
import io
from typing import Any

from roofline import units
from roofline.analysis import metrics
from roofline.sweeps import where
from roofline.sweeps.query import Found
from roofline.views import text
from roofline.views.listing import PLAIN, Painter, columns
from roofline.views.text import cell, escape, grid

_SHARES = frozenset({"compute", "instructions", "memory", "overhead", "flops_known"})
_COUNTS = frozenset({"batch", "resolution", "tokens", "turns"})


def render(found: Found, paint: Painter = PLAIN, most: int | None = None) -> str:
    """The table, and what is to be said of it; no more than so many rows."""
    cells = _cells(found)
    text = columns(found.shown, cells[:most], _align(found), paint) if found.met else ""
    notes = [*found.notes]
    if most is not None and len(cells) > most:
        notes.append(f"--top N shows more of them, -o FILE.csv writes all {len(cells):,}")
    return f"{text}{said(found, most)}\n" + "".join(f"note: {note}\n" for note in notes)


def said(found: Found, most: int | None = None) -> str:
    """How many rows are left of how many, and how many of them are shown."""
    shown = len(next(iter(found.columns.values()), [])[:most])
    more = f", {shown:,} shown" if shown < found.met else ""
    return f"{found.met:,} of {found.rows:,} rows{more}"


def table(found: Found) -> tuple[list[tuple[str, str]], list[list[str]], list[list[Any]]]:
    """The table for a page: a name and "l" or "r" for each column, the cells of each row, and what each is sorted by."""
    keys = [list(row) for row in zip(*(found.columns[name] for name in found.shown), strict=True)]
    return list(zip(found.shown, _align(found), strict=True)), _cells(found), keys


def _cells(found: Found) -> list[list[str]]:
    return [
        list(row) for row in zip(*([_text(name, value) for value in found.columns[name]] for name in found.shown), strict=True)
    ]


def _align(found: Found) -> str:
    def right(values: list[Any]) -> bool:
        return all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values)

    return "".join("r" if right(found.columns[name]) else "l" for name in found.shown)


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or name in _COUNTS:
        return str(value)
    if name in _SHARES:
        return units.percent(value, 1.0)
    if name == "host":
        return units.seconds(value)
    known = where.metric(name)
    return metrics.text(known, value) if known else f"{value:g}"


def to_csv(found: Found) -> str:
    """A line for each row, in base units."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(found.columns)
    writer.writerows([cell(value) for value in row] for row in zip(*found.columns.values(), strict=True))
    return out.getvalue()


def to_markdown(found: Found) -> str:
    """The table as GitHub shows it."""
    rows = [[escape(text) for text in row] for row in _cells(found)]
    return grid([escape(name) for name in found.shown], _align(found), rows) + "\n"


def to_json(found: Found) -> bytes:
    """One document: the rows, and how many there were."""
    whole = {"rows": found.records(), "met": found.met, "of": found.rows, "notes": found.notes}
    return text.to_json(whole)
