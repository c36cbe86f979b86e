"""The terminal view: the verdict in words, the totals, and a table by layer, operator or kernel.

On a colour terminal it is coloured; in a pipe it is plain text no wider than the console (80 columns by default).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import StringIO
from shutil import get_terminal_size
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roofline.advice import brief
from roofline.analysis.explain import facts, totals
from roofline.errors import safe
from roofline.records import Analysis, KernelRow, OpRow, above
from roofline.units import percent, seconds
from roofline.views.columns import (
    CLASS,
    FLOPS,
    INTENSITY,
    KERNEL,
    KERNELS,
    MACS,
    MEMORY,
    OP,
    OUTPUT,
    PARAMS,
    SHAPE,
    TIME,
    TRAFFIC,
    By,
    Column,
    Row,
    share_of,
    took,
)
from roofline.views.style import BOUND_SIGN, BOUND_STYLE, class_style, fullest


class Glyphs(NamedTuple):
    """The signs that the table is drawn with: box characters where the output can carry them."""

    branch: str
    last: str
    pipe: str
    gap: str
    bars: str
    dot: str


_UNICODE = Glyphs("├ ", "└ ", "│ ", "  ", " ▏▎▍▌▋▊▉█", "·")
_ASCII = Glyphs("|-", "`-", "| ", "  ", " #", "-")

_FIGURES = (MACS, FLOPS, TRAFFIC, INTENSITY, TIME)
# of those above, what is left where more columns are shown
_KEPT = (FLOPS, TRAFFIC)
_EXTRA: dict[By, tuple[Column, ...]] = {
    "layer": (OUTPUT, KERNEL, PARAMS, MEMORY),
    "op": (CLASS._replace(text=lambda klass: class_style(klass).title, need=104, words=False), KERNELS),
    "kernel": (OP._replace(text=safe, words=False), SHAPE),
}
# where the model was run: predicted and measured side by side, and their ratio
_BESIDE = (
    TIME._replace(title="Predicted"),
    Column("Measured", "measured_s", seconds),
    Column("P/M", "ratio", str, worked_out=lambda r, a: f"{r.time_s / r.measured_s:.2f}" if r.measured_s else ""),
)


def render(
    analysis: Analysis,
    console: Console,
    by: By = "layer",
    depth: int | None = 2,
    top: int | None = None,
    columns: Sequence[Column] = (),
) -> None:
    """Prints the whole analysis on `console`.

    `depth` is the deepest module level shown by layer (None: all); `top` keeps the rows that take the most time; `columns` are
    shown instead of those that fit.
    """
    if not console.options.ascii_only:
        _render(analysis, console, by, depth, top, _UNICODE, columns)
        return
    # a name may hold what the output cannot carry, and rich itself writes an ellipsis
    with console.capture() as captured:
        _render(analysis, console, by, depth, top, _ASCII, columns)
    console.file.write(captured.get().replace("…", "~").encode("ascii", "replace").decode("ascii"))


def text(analysis: Analysis, width: int | None = None) -> str:
    """The table by layer in plain text, `width` columns wide (None: as the terminal, 80 where there is none)."""
    console = Console(
        file=StringIO(),
        width=width or get_terminal_size((80, 24)).columns,
        color_system=None,
        force_terminal=False,
        legacy_windows=False,
    )
    render(analysis, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # a StringIO
    return "\n".join(line.rstrip() for line in lines)


def html(analysis: Analysis) -> str:
    """The same for a notebook: a block of text, its names escaped."""
    from html import escape

    return f'<pre style="line-height: 1.2">{escape(text(analysis, 100))}</pre>'


def _render(
    analysis: Analysis, console: Console, by: By, depth: int | None, top: int | None, glyphs: Glyphs, columns: Sequence[Column]
) -> None:
    heading(analysis, console, glyphs)
    if columns:
        table, hidden = _chosen(analysis, console, glyphs, by, depth, top, columns)
        console.print(table, crop=False)
    else:
        table, hidden = _table(analysis, console, glyphs, by, depth, top)
        console.print(table)
    if hidden:
        console.print(Text(hidden, style="dim"))
    gaps(analysis, console)
    footer(analysis, console)


def heading(analysis: Analysis, console: Console, glyphs: Glyphs = _UNICODE) -> None:
    """Title, verdict and totals."""
    title = Text(safe(analysis.model.name), style="bold", overflow="fold")
    title.append(f" on {safe(analysis.device.title or analysis.device.name)}")
    console.print(title)
    console.print(Text(f" {glyphs.dot} ".join(facts(analysis)), style="dim"))
    console.print()
    for sentence in brief.said(analysis):
        console.print(Text(safe(sentence)), soft_wrap=False)
    console.print()
    _totals(analysis, console)
    _bounds(analysis, console, glyphs)
    console.print()


def gaps(analysis: Analysis, console: Console) -> None:
    """By class of kernel: predicted, measured, and what the class adds to the difference."""
    if analysis.measurement is None:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Where the gap is", no_wrap=True)
    for title in ("Kernels", "Predicted", "Measured", "P/M", "Gap"):
        table.add_column(title, justify="right", no_wrap=True)
    for g in analysis.measurement.gap:
        off = g.measured_s - g.predicted_s
        ratio = f"{g.predicted_s / g.measured_s:.2f}" if g.measured_s else ""
        table.add_row(
            class_style(g.klass).title,
            f"{g.kernels:,}",
            seconds(g.predicted_s),
            seconds(g.measured_s),
            ratio,
            f"{'+' if off >= 0 else '-'}{seconds(abs(off))}",
        )
    console.print()
    console.print(table)


def footer(analysis: Analysis, console: Console) -> None:
    """What the reader must know to trust the numbers."""
    for u in analysis.coverage.unknown_ops:
        layers = ", ".join(u.layers[:2]) + (" ..." if len(u.layers) > 2 else "")
        console.print(Text(safe(f"FLOPs unknown: {u.op} x{u.count} in {layers}"), style="yellow"))
    for note in [*analysis.notes, *analysis.device.notes]:
        console.print(Text(safe(f"note: {note}"), style="dim"))


def _totals(analysis: Analysis, console: Console) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(justify="right", style="bold", no_wrap=True)
    grid.add_column(style="dim", overflow="fold")
    for name, value, meaning in totals(analysis):
        grid.add_row(name, value, meaning)
    console.print(grid)


def _bounds(analysis: Analysis, console: Console, glyphs: Glyphs) -> None:
    t = analysis.totals
    parts = fullest(t.time_by_bound)
    if not parts or t.time_s <= 0:
        return
    width = min(console.width, 78)
    full = glyphs.bars[-1]
    bar, words = Text(), Text()
    coloured = console.color_system is not None and not console.no_color
    ends, passed = 0, 0.0
    for bound, value in parts:
        passed += value
        end = round(width * passed / t.time_s)
        style = BOUND_STYLE.get(bound, "white")
        # in plain text the shares are told apart by their signs
        sign = full if coloured else BOUND_SIGN.get(bound, "?") or full
        bar.append(sign * (end - ends), style=style)
        ends = end
        words.append(f"{sign} ", style=style)
        words.append(f"{bound} {percent(value, t.time_s)}   ")
    words.rstrip()
    console.print()
    console.print(bar)
    console.print(words)


def _table(
    analysis: Analysis, console: Console, glyphs: Glyphs, by: By, depth: int | None, top: int | None
) -> tuple[Table, str]:
    """The table, and a line about the rows that it leaves out."""
    labelled, hidden = _rows(analysis, console, glyphs, by, depth, top)
    figures = (*_KEPT, *_BESIDE) if analysis.measurement else _FIGURES
    columns = [c for c in (*_EXTRA[by], *figures) if console.width >= c.need]
    if by == "kernel" and console.width < 100:
        columns = [c for c in columns if c is not MACS]
    # headings and cells fit 80 columns: the name takes what the figures leave
    bar = max(4, min(16, console.width // 13))
    table = _headed(by, columns, console.width)
    table.add_column("Share", justify="right", no_wrap=True)
    table.add_column("", width=bar, no_wrap=True)
    table.add_column("Bound", no_wrap=True)
    for name, row in labelled:
        style = BOUND_STYLE.get(row.bound, "white")
        share = share_of(row, analysis)
        table.add_row(
            name,
            *(column.cell(row, analysis) for column in columns),
            percent(share, 1.0) if took(row) else "",
            Text(_bar(share, bar, glyphs), style=style),
            Text(_bound_name(row) if row.time_s else "", style=style),
        )
    return table, hidden


def _headed(by: By, columns: Sequence[Column], width: int) -> Table:
    """A table without rows: the name of each, which takes what the columns leave, and these columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", width=width)
    table.add_column({"layer": "Layer", "op": "Operator", "kernel": "Kernel"}[by], no_wrap=True, ratio=1, overflow="ellipsis")
    for column in columns:
        table.add_column(column.title, justify="left" if column.words else "right", no_wrap=True)
    return table


# Cells that the name of a row has at least, beside columns that were asked for.
_NAME = 24


def _chosen(
    analysis: Analysis, console: Console, glyphs: Glyphs, by: By, depth: int | None, top: int | None, columns: Sequence[Column]
) -> tuple[Table, str]:
    """The same with the columns that were asked for, all of them: wider than the console where it must be."""
    labelled, hidden = _rows(analysis, console, glyphs, by, depth, top)
    cells = [[safe(column.cell(row, analysis)) for column in columns] for _, row in labelled]
    widest = [max(len(c.title), *(len(line[i]) for line in cells)) + 1 for i, c in enumerate(columns)]
    table = _headed(by, columns, max(console.width, _NAME + sum(widest)))
    for (name, _), line in zip(labelled, cells, strict=True):
        table.add_row(name, *line)
    return table, hidden


def _bound_name(row: Row) -> str:
    if isinstance(row, KernelRow) and row.bound == "memory":
        return row.level
    return "instr." if row.bound == "instructions" else row.bound


def _bar(share: float, width: int, glyphs: Glyphs) -> str:
    """A bar of `share` of `width` cells, with eighths of a cell where the glyphs have them."""
    steps = len(glyphs.bars) - 1
    whole, part = divmod(round(min(max(share, 0.0), 1.0) * width * steps), steps)
    return glyphs.bars[-1] * whole + (glyphs.bars[part] if part else "")


def _rows(
    analysis: Analysis, console: Console, glyphs: Glyphs, by: By, depth: int | None, top: int | None
) -> tuple[Sequence[tuple[Text, Row]], str]:
    if by == "layer":
        return _layer_rows(analysis, glyphs, depth, top)
    rows: Sequence[OpRow | KernelRow]
    if by == "op":
        ranked = sorted(analysis.ops, key=lambda r: -took(r))
        rows = ranked[:top]
        hidden = len(ranked) - len(rows)
        shared = Counter(r.op for r in ranked)
        return [(_op_name(r, shared[r.op] > 1 and console.width < 104), r) for r in rows], _more(hidden, "operators")
    kept = _longest(analysis.kernels, top)
    return [(_kernel_name(r, r.known), r) for r in kept], _more(len(analysis.kernels) - len(kept), "kernels")


def _op_name(r: OpRow, ambiguous: bool) -> Text:
    """The operator, and its class where another row has the same operator and no column tells them apart."""
    name = Text(safe(r.op))
    return name.append(f" {r.klass}", style="dim") if ambiguous else name


def _kernel_name(r: KernelRow, known: bool) -> Text:
    return Text(safe(r.layer or "(root)") + ("" if known else " ?"))


def _more(hidden: int, what: str) -> str:
    return f"{hidden:,} more {what} not shown" if hidden > 0 else ""


def _longest(rows: Sequence[KernelRow], top: int | None) -> list[KernelRow]:
    """The `top` longest in their launch order."""
    if top is None or top >= len(rows):
        return list(rows)
    longest = sorted(range(len(rows)), key=lambda i: -took(rows[i]))[:top]
    return [rows[i] for i in sorted(longest)]


def _level(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _layer_rows(
    analysis: Analysis, glyphs: Glyphs, depth: int | None, top: int | None
) -> tuple[Sequence[tuple[Text, Row]], str]:
    """Layers to `depth`, the `top` longest leaves of them and all that holds those, with the lines of a tree."""
    deep = [r for r in analysis.layers if depth is None or _level(r.path) <= depth]
    # a module that never ran (an auxiliary head, say) has nothing to show
    ran = [r for r in deep if r.kernels or not r.path]
    kept = ran
    if top is not None and len(ran) > top:
        holders = {parent for r in ran for parent in above(r.path)}
        leaves = sorted((r for r in ran if r.path not in holders), key=lambda r: -took(r))[:top]
        wanted = {r.path for r in leaves} | {p for r in leaves for p in above(r.path)}
        kept = [r for r in ran if r.path in wanted]
    labels = _tree([r.path for r in kept], glyphs)
    rows: list[tuple[Text, Row]] = []
    for r, (guide, name) in zip(kept, labels, strict=True):
        label = Text().append(guide, style="dim").append(safe(name or analysis.model.name), style="" if r.path else "bold")
        rows.append((label.append(f" {safe(r.type)}", style="dim") if r.type else label, r))
    return rows, _more(len(ran) - len(kept), "layers") + (
        f"{' and ' if len(ran) > len(kept) else ''}{len(analysis.layers) - len(deep):,} deeper layers not shown"
        if len(deep) < len(analysis.layers)
        else ""
    )


def _tree(paths: Sequence[str], glyphs: Glyphs) -> list[tuple[str, str]]:
    """For each path its guide lines and the name below the nearest path above it that is also shown.

    Paths come parents first; a layer whose parent is not shown hangs on its nearest shown ancestor.
    """
    shown = set(paths)
    parent = {p: next((q for q in above(p) if q in shown), None) for p in paths}
    last: dict[str | None, str] = {parent[p]: p for p in paths if p}
    out = []
    for p in paths:
        holder = parent[p]
        if holder is None:
            out.append(("", p))
            continue
        guide = glyphs.last if last[holder] == p else glyphs.branch
        node = holder
        while (up := parent[node]) is not None:
            guide = (glyphs.gap if last[up] == node else glyphs.pipe) + guide
            node = up
        out.append((guide, p[len(holder) + 1 :] if holder else p))
    return out
