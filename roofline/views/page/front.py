"""The page of models side by side: their points by two numbers, the table under them, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from roofline.records.comparison import Comparison
from roofline.sweeps.query import Found
from roofline.views import comparison, rows, scatter
from roofline.views.page import frame, micro
from roofline.views.scatter import Axis, Mark, Scatter
from roofline.views.style import LIGHTER, SERIES

SCRIPTS = ("words.js", "shared.js", "grid.js", "front.js")
# Rows of the table, and points without a row, at most.
MOST_ROWS, MOST_BEATEN = 2_000, 3_000


class Listing(NamedTuple):
    """The table: a name and "l" or "r" for each column, the cells as text, and what each is sorted by."""

    heads: list[tuple[str, str]]
    cells: Sequence[Sequence[str]]
    keys: Sequence[Sequence[Any]]
    markdown: str


def of_comparison(found: Comparison) -> str:
    """The page of a comparison with at least one row."""
    columns = comparison.table(found)
    listing = Listing(
        [(column.name, column.align) for column in columns],
        [[column.text(row) for column in columns] for row in found.rows],
        [[column.key(row) for column in columns] for row in found.rows],
        comparison.to_markdown(found),
    )
    return _page(
        scatter.of_comparison(found), listing, said=[s.text for s in found.sentences], failed=comparison.failures(found)
    )


def of_rows(found: Found) -> str:
    """The page of the rows of a sweep that meet a condition."""
    heads, cells, keys = rows.table(found)
    return _page(scatter.of_rows(found), Listing(heads, cells, keys, rows.to_markdown(found)), lead=f"{rows.said(found)}.")


def _page(found: Scatter, table: Listing, *, lead: str = "", said: Sequence[str] = (), failed: Sequence[str] = ()) -> str:
    more = len(table.cells) - MOST_ROWS
    notes = [*found.notes, *([f"{more:,} more rows are not on this page"] if more > 0 else [])]
    return frame(
        "front.html.j2",
        SCRIPTS,
        title=found.title,
        tool=found.tool,
        data=_document(found, table),
        lead=lead,
        said=[micro(text) for text in said],
        failed=[micro(text) for text in failed],
        notes=[micro(text) for text in notes],
        axes=found.named_axes(),
        heads=[name for name, _ in table.heads],
        cells=table.cells[:MOST_ROWS],
    )


def _document(found: Scatter, table: Listing) -> dict[str, Any]:
    """What the script draws from."""
    both = list(zip(table.cells, table.keys, strict=True))[:MOST_ROWS]
    rows = [{"cells": [micro(text) for text in cells], "keys": keys} for cells, keys in both]
    shown = [mark for mark in found.marks if mark.row is not None and mark.row < MOST_ROWS]
    beaten = [mark for mark in found.marks if mark.row is None]
    return {
        "axes": [_axis(axis) for axis in found.axes],
        "groups": found.groups,
        "series": SERIES,
        "lighter": LIGHTER,
        "line": found.line,
        "marks": [_mark(mark) for mark in [*shown, *beaten[:MOST_BEATEN]]],
        "heads": table.heads,
        "rows": rows,
        "markdown": table.markdown,
    }


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.words, "title": axis.title, "least": axis.least, "log": axis.log, "unit": axis.unit, "per": axis.per}


def _mark(mark: Mark) -> dict[str, Any]:
    """A mark without what it has not."""
    return {name: value for name, value in mark._asdict().items() if value not in (None, (None, None))}
