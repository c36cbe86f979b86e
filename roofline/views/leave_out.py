"""A leave-out report as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roofline import units
from roofline.errors import safe
from roofline.views.listing import columns

if TYPE_CHECKING:
    from roofline.validation.leave_out import LeftOut, Report

_HEAD = ("LEFT OUT", "TABLE", "ROWS", "MEDIAN", "90TH", "RANK", "FACTOR", "AFTER IT", "IN 80 %", "HALF", "ROOFLINE", "FLOPS")
# groups of a property that are listed
_MOST = 12
FORMATS = (".json", ".csv", ".md")


def text(report: Report) -> str:
    """A line a table, and how the errors gather."""
    out = [columns(_HEAD, [_row(one) for one in report.left_out], "llrrrrrrrrrr").rstrip("\n"), ""]
    out.append(
        "factor: median of predicted / measured; after it: median error once the device has that factor; in 80 %, half: rows"
    )
    out.append("rows within the 80 % interval, and half its width; roofline: peak and bandwidth alone; FLOPs: FLOPs over peak")
    for what, found in report.clusters.items():
        out += ["", f"by {what}: {units.share(found.explained)} of the errors' variance lies between these"]
        out.append(columns(("", "ROWS", "MEDIAN", "FACTOR"), _groups(report, what), "lrrr").rstrip("\n"))
    return "\n".join([*out, *(f"note: {safe(note)}" for note in report.notes)]) + "\n"


def markdown(report: Report) -> str:
    """The same as tables."""
    out = _table([name.capitalize() for name in _HEAD], [_row(one) for one in report.left_out])
    for what, found in report.clusters.items():
        out += ["", f"By {what} ({units.share(found.explained)} of the errors' variance lies between these):", ""]
        out += _table([what.capitalize(), "Rows", "Median", "Factor"], _groups(report, what))
    return "\n".join([*out, *(f"\nNote: {note}" for note in report.notes)]) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    line = "| " + " | ".join("---" for _ in head) + " |"
    return [f"| {' | '.join(head)} |", line, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)]


def rows(report: Report) -> str:
    """CSV: a line a table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("median_ape", "mean_ape", "p90_ape", "spearman", "median_ratio")
    plain = ("device", "table", "runtime", "dtype", "rows", "skipped", "one_factor_ape", "within", "half_width")
    writer.writerow([*plain, *names, *(f"{base}_median_ape" for base in ("roofline", "flops"))])
    for one in report.left_out:
        bases = [one.baselines[base].median_ape for base in ("roofline", "flops")]
        writer.writerow([*(getattr(one, name) for name in plain), *(getattr(one.ours, name) for name in names), *bases])
    return out.getvalue()


def render(report: Report, path: Path) -> bytes:
    """The file of that suffix (one of FORMATS)."""
    import msgspec

    suffix = path.suffix.lower()
    if suffix == ".json":
        return msgspec.json.format(msgspec.json.encode(report)) + b"\n"
    return (rows(report) if suffix == ".csv" else markdown(report)).encode()


def _row(one: LeftOut) -> list[str]:
    rank = "n/a" if one.ours.spearman is None else f"{one.ours.spearman:.3f}"
    return [
        one.device,
        safe(one.table),
        str(one.rows),
        units.share(one.ours.median_ape, 1),
        units.share(one.ours.p90_ape, 1),
        rank,
        f"{one.ours.median_ratio:.2f}",
        units.share(one.one_factor_ape, 1),
        units.share(one.within),
        units.share(one.half_width),
        units.share(one.baselines["roofline"].median_ape),
        units.share(one.baselines["flops"].median_ape),
    ]


def _groups(report: Report, what: str) -> list[list[str]]:
    groups = report.clusters[what].groups
    found = [[safe(g.name), str(g.rows), units.share(g.median_ape, 1), f"{g.median_ratio:.2f}"] for g in groups[:_MOST]]
    return found + ([[f"and {len(groups) - _MOST} more", "", "", ""]] if len(groups) > _MOST else [])
