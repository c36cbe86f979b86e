"""A comparison as an aligned table, CSV or Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from roofline.advice import doubt
from roofline.analysis.explain import with_interval
from roofline.analysis.reasons import listed
from roofline.records.comparison import Compared, Comparison
from roofline.units import binary, count, si
from roofline.views.explanation import wrapped
from roofline.views.listing import PLAIN, Painter, columns
from roofline.views.text import cell, escape, grid

# What CSV holds, in base units.
FIELDS = (
    "model", "device", "batch", "params", "macs", "flops", "bytes", "intensity", "time_s", "throughput", "speed_up",
    "peak_memory_bytes", "bound", "fits", "front",
)  # fmt: skip


def render(found: Comparison, paint: Painter = PLAIN) -> str:
    """The table, the sentences under it, and what failed."""
    head, rows = cells(found)
    text = columns(head, rows, _align(head), paint)
    lines = [f"- {s.text}" for s in found.sentences]
    reasons = dict.fromkeys((f.model, f.why) for f in found.failed)
    for model, why in reasons:
        where = dict.fromkeys(f.device for f in found.failed if (f.model, f.why) == (model, why))
        lines.append(f"- {model} on {listed(list(where))} could not be analysed: {why}")
    lines += [f"note: {note}" for note in found.notes]
    said = "".join(wrapped(line, rest="  ") for line in lines)
    return f"{text}\n{said}" if said else text


def _align(head: Sequence[str]) -> str:
    return "".join("l" if name in ("Model", "Device", "Bound", "Front") else "r" for name in head)


def _own(found: Comparison) -> list[str]:
    return list(dict.fromkeys(name for row in found.rows for name in row.own))


def cells(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """The table as text: its heads, and the cells of each row."""
    several = {"Device": len({r.device for r in found.rows}) > 1, "Batch": len({r.batch for r in found.rows}) > 1}
    own = _own(found)
    head = ["Model", *(n for n, shown in several.items() if shown), "Params", "MACs", "Traffic", "Time", "Rate", "Speed-up"]
    head += ["Memory", "Bound", *own, *(["Front"] if found.pareto else [])]
    return head, [_cells(row, several, own, bool(found.pareto)) for row in found.rows]


def _cells(row: Compared, several: dict[str, bool], own: Sequence[str], front: bool) -> list[str]:
    cells = [row.model]
    cells += [row.device] if several["Device"] else []
    cells += [str(row.batch)] if several["Batch"] else []
    cells += [
        count(row.params),
        count(row.macs),
        si(row.bytes, "B", 3),
        with_interval(row.time_s, row.interval),
        f"{count(row.throughput)}/s",
    ]
    unsure = " unsure" if doubt.swallowed(row.speed_up_between) else ""
    cells.append("" if row.speed_up is None else f"{si(row.speed_up, digits=3)}x{unsure}")
    cells += [binary(row.peak_memory_bytes) + ("" if row.fits is not False else " does not fit"), row.bound]
    cells += [f"{value:g}" if isinstance(value := row.own.get(name, ""), float) else value for name in own]
    return cells + ([{True: "yes", False: "", None: "?"}[row.front]] if front else [])


def to_csv(found: Comparison) -> str:
    """A line for each row, in base units; the caller's own columns come last."""
    own = _own(found)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FIELDS, *own])
    for row in found.rows:
        writer.writerow([cell(getattr(row, name)) for name in FIELDS] + [cell(row.own.get(name)) for name in own])
    return out.getvalue()


def to_markdown(found: Comparison) -> str:
    """The table, and the sentences as a list."""
    head, rows = cells(found)
    table = grid(head, _align(head), [[escape(name) for name in row] for row in rows])
    said = "\n".join(f"- {escape(s.text)}" for s in found.sentences)
    return f"{table}\n" + (f"\n{said}\n" if said else "")
