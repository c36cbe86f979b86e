"""JSON, CSV and Markdown. The JSON is the record itself; the other two are for spreadsheets and pull requests."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from roofline.advice import brief
from roofline.analysis.explain import ceilings, totals
from roofline.errors import safe
from roofline.records import BOUNDS, Analysis, KernelRow, LayerRow, OpRow
from roofline.units import count, percent, seconds, si
from roofline.views.columns import NAMES, By, Column, Row

R = TypeVar("R", LayerRow, OpRow, KernelRow)


def to_json(found: object) -> bytes:
    """An analysis (schema 1), or another answer, as one JSON document, indented by two spaces, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def many_to_json(analyses: Sequence[Analysis]) -> bytes:
    """One document as it is; several under "analyses"."""
    return to_json(analyses[0] if len(analyses) == 1 else {"analyses": analyses})


def to_csv(analysis: Analysis, by: By = "kernel", columns: Sequence[Column] = ()) -> str:
    """One line per kernel (or layer, or operator) in base units: FLOP, byte, second. Columns are the record's fields, or what
    the row is and the `columns` that were asked for, under the names of their fields.

    The seconds that a time is divided into have a column each: "time_by_component.memory:DRAM".

    A cell that a spreadsheet would run as a formula is written with a quote mark before it.
    """
    tables: dict[By, tuple[type[Row], Sequence[Row]]] = {
        "kernel": (KernelRow, analysis.kernels),
        "layer": (LayerRow, analysis.layers),
        "op": (OpRow, analysis.ops),
    }
    kind, rows = tables[by]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if columns:
        own = NAMES[by]
        shown = [c for c in columns if c.field != own]
        writer.writerow([own, *(c.field for c in shown)])
        writer.writerows([cell(getattr(row, own)), *(cell(c.value(row, analysis)) for c in shown)] for row in rows)
        return out.getvalue()
    ran = analysis.measurement is not None
    names = [f.encode_name for f in msgspec.structs.fields(kind) if ran or f.name != "measured_s"]
    cells = [_flat(msgspec.to_builtins(row)) for row in rows]
    split = [f"{name}.{key}" for name, keys in _SPLIT.items() for key in keys(analysis) if name in names]
    writer.writerow([n for n in names if n not in _SPLIT] + split)
    for row in cells:
        writer.writerow([cell(row[n]) for n in names if n not in _SPLIT] + [row.get(n, 0.0) for n in split])
    return out.getvalue()


# fields that are a dictionary of seconds, and its keys in an analysis
_SPLIT: dict[str, Callable[[Analysis], Sequence[str]]] = {
    "time_by_bound": lambda a: BOUNDS,
    "time_by_component": lambda a: list(a.totals.time_by_component),
}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    inside = {f"{name}.{key}": v for name in _SPLIT if name in row for key, v in row[name].items()}
    return row | inside


def cell(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def to_markdown(  # long: a page in its order
    analysis: Analysis, depth: int | None = 2, top: int = 20, by: By = "layer", columns: Sequence[Column] = ()
) -> str:
    """Title, verdict, totals, layers to `depth`, operators and the `top` longest kernels, as GitHub shows them.

    The rows of `by` have the `columns` that were asked for, where some were.
    """
    s, t = analysis.setting, analysis.totals
    device = analysis.device.title or analysis.device.name
    parts = [
        f"# {escape(analysis.model.name)} on {escape(device)}",
        f"Batch {s.batch}, {s.numbers}, {s.runtime}, {s.mode}; {ceilings(analysis)}. "
        f"Model: {escape(analysis.model.source)}.",
        *(escape(sentence) for sentence in brief.said(analysis)),
        grid(["", "Value", ""], "lrl", [[name, value, escape(meaning)] for name, value, meaning in totals(analysis)]),
        "## Time by bound",
        grid(["Bound", "Time", "Share"], "lrr",
              [[b, seconds(v), percent(v, t.time_s)] for b, v in sorted(t.time_by_bound.items(), key=lambda kv: -kv[1])]),
        "## Layers",
        _rows("Layer", [r for r in analysis.layers if depth is None or _level(r.path) <= depth], t.time_s,
              lambda r: f"`{_code(r.path)}`" if r.path else f"**{escape(analysis.model.name)}**",
              _asked(analysis, columns if by == "layer" else ())),
        "## Operators",
        _rows("Operator", sorted(analysis.ops, key=lambda r: -r.time_s), t.time_s,
              lambda r: f"`{_code(r.op)}` ({r.klass}), {r.kernels} x", _asked(analysis, columns if by == "op" else ())),
        "## Longest kernels",
        _rows("Kernel", sorted(analysis.kernels, key=lambda r: -r.time_s)[:top], t.time_s,
              lambda r: f"`{_code(r.layer)}` {escape(r.op)}" if r.layer else escape(r.op),
              _asked(analysis, columns if by == "kernel" else ())),
    ]  # fmt: skip
    caveats = [f"FLOPs unknown: {u.op} x {u.count}" for u in analysis.coverage.unknown_ops]
    notes = [*caveats, *analysis.notes, *analysis.device.notes]
    if notes:
        parts += ["## Notes", "\n".join(f"- {escape(note)}" for note in notes)]
    tool = analysis.tool
    parts.append(f"Made by roofline {tool.roofline} with torch {tool.torch}. 1 MAC is 2 FLOPs; traffic in units of 1000.")
    return "\n\n".join(parts) + "\n"


def _level(path: str) -> int:
    return path.count(".") + 1 if path else 0


class _Asked(NamedTuple):
    """Columns that were asked for, and whose they are."""

    columns: Sequence[Column]
    analysis: Analysis


def _asked(analysis: Analysis, columns: Sequence[Column]) -> _Asked | None:
    return _Asked(columns, analysis) if columns else None


def _rows(title: str, rows: Sequence[R], whole: float, name: Callable[[R], str], asked: _Asked | None = None) -> str:
    if asked is not None:
        return _chosen(title, rows, [name(r) for r in rows], asked)
    head = [title, "MACs", "FLOPs", "Traffic", "FLOP/B", "Time", "Share", "Bound"]
    body = [
        [
            name(r),
            count(r.macs),
            count(r.flops),
            si(r.bytes, "B", 3),
            si(r.intensity, digits=3),
            seconds(r.time_s),
            percent(r.time_s, whole),
            r.bound,
        ]
        for r in rows
    ]
    if any(r.measured_s is not None for r in rows):
        head.append("Measured")
        for cells, r in zip(body, rows, strict=True):
            cells.append(seconds(r.measured_s or 0.0))
        return grid(head, "lrrrrrrlr", body)
    return grid(head, "lrrrrrrl", body)


def _chosen(title: str, rows: Sequence[Row], names: Sequence[str], asked: _Asked) -> str:
    body = [[name, *(escape(c.cell(r, asked.analysis)) for c in asked.columns)] for r, name in zip(rows, names, strict=True)]
    align = "".join("l" if c.words else "r" for c in asked.columns)
    return grid([title, *(c.title for c in asked.columns)], f"l{align}", body)


def grid(head: Sequence[str], align: str, rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if a == "r" else "---" for a in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def escape(text: str) -> str:
    """A name stays one line of plain text in Markdown. Underscores inside a word do no harm and stay readable."""
    text = _line(text)
    for sign in "\\`*[]<>|#":
        text = text.replace(sign, "\\" + sign)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _code(text: str) -> str:
    """Text inside a code span of a table cell: the two signs that would end it are replaced."""
    return _line(text).replace("`", "'").replace("|", "\\|")


def _line(text: str) -> str:
    return safe(" ".join(text.split()))
