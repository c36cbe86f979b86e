"""Answers as a notebook shows them: HTML with a table, and the picture of an analysis as SVG in it. Names are escaped.

Data frames for pandas, where it is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from typing import Any

import msgspec

from roofline.errors import UsageError, nearest
from roofline.records import BOUNDS, Analysis
from roofline.records.comparison import Comparison
from roofline.records.explanation import Explanation, Part
from roofline.views import comparison as compared_view
from roofline.views.style import BOUND_COLOUR, class_style

FRAMES = ("layer", "op", "kernel")
# Kernels above which the picture is left out: a notebook keeps every output that it showed.
MOST_DRAWN = 5000


def analysis(a: Analysis) -> str:
    """The roofline, and under it the table that the command line prints."""
    from roofline.views import chart, table

    drawn = _svg(chart.picture([a], "svg")) if 0 < len(a.kernels) <= MOST_DRAWN else ""
    return f"<div>{drawn}{table.html(a)}</div>"


def explanation(found: Explanation) -> str:
    """The sentences as lists, the parts of the time as a table with bars, what would help as a table."""
    names = list(found.devices)
    parts = [f"<h4>{escape(found.model)}: {escape(', '.join(found.devices.values()))}</h4>"]
    parts.append(_list(s.text for s in found.takes))
    parts.append(_table(["Kind of kernel", *names], [_part(part, names) for part in found.classes]))
    parts.append(_list(s.text for s in found.why))
    rows = [
        [
            escape(saving.name),
            escape(name),
            saving.before.text,
            saving.after.text,
            saving.times.text,
            escape(saving.effort),
        ]
        for name in names
        for saving in found.savings.get(name, [])
    ]
    if rows:
        parts.append(_table(["What would help", "on", "now", "then", "times", "effort"], rows))
    parts.append(_list(found.notes))
    return f"<div>{''.join(parts)}</div>"


def comparison(found: Comparison) -> str:
    """The table of the command line, with a bar for each time, and the sentences."""
    head, rows = compared_view.cells(found)
    longest = max((row.time_s / row.batch for row in found.rows), default=0.0) or 1.0
    shown = [
        [*(escape(cell) for cell in cells), _bar(row.time_s / row.batch / longest, BOUND_COLOUR.get(row.bound, "#6b7280"))]
        for cells, row in zip(rows, found.rows, strict=True)
    ]
    failed = [f"{f.model} on {f.device}: {f.why}" for f in found.failed]
    said = _list([*(s.text for s in found.sentences), *failed, *found.notes])
    return f"<div>{_table([*head, 'Time of a sample'], shown)}{said}</div>"


def frame(a: Analysis, by: str = "layer") -> Any:
    """A pandas.DataFrame of the rows, in base units; its `attrs` hold the model, the setting and the totals.

    Raises UsageError for other rows than "layer", "op" or "kernel", and where pandas is not installed.
    """
    if by not in FRAMES:
        raise UsageError(f"to_pandas({by!r}): no such rows{nearest(by, FRAMES)}\ngive one of {', '.join(FRAMES)}")
    try:
        pandas: Any = import_module("pandas")
    except ImportError:
        raise UsageError("to_pandas() needs pandas\ninstall it: pip install pandas") from None
    tables: dict[str, Sequence[msgspec.Struct]] = {"layer": a.layers, "op": a.ops, "kernel": a.kernels}
    rows = tables[by]
    found = pandas.DataFrame([_flat(msgspec.to_builtins(row)) for row in rows])
    found.attrs.update(model=a.model.name, setting=msgspec.to_builtins(a.setting), totals=msgspec.to_builtins(a.totals))
    return found


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """The seconds of a row by bound and by component in columns of their own: "time_by_bound.memory"."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            out.update({f"{name}.{key}": seconds for key, seconds in value.items()})
        else:
            out[name] = tuple(value) if isinstance(value, list) else value
    if "time_by_bound" in row:
        out |= {f"time_by_bound.{bound}": row["time_by_bound"].get(bound, 0.0) for bound in BOUNDS}
    return out


def _svg(raw: bytes) -> str:
    """An SVG for the inside of a page: without its prologue, as wide as there is room."""
    text = raw[raw.index(b"<svg") :].decode()
    return re.sub(r"<svg ", '<svg style="max-width: 100%; height: auto" role="img" ', text, count=1)


def _part(part: Part, names: Sequence[str]) -> list[str]:
    over = part.flops.over
    colour = class_style(over.where.get("class", "") if over else "").colour
    cells = [f"{escape(part.times[n].text)} {escape(part.shares[n].text)} {_bar(part.shares[n].value, colour)}" for n in names]
    return [escape(part.name), *cells]


def _bar(share: float, colour: str) -> str:
    return f'<div style="background: {colour}; height: 0.5em; width: {max(min(share, 1.0), 0.0) * 9:.2f}em"></div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """`rows` are HTML, `head` is text."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""
