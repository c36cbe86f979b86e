"""The roofline picture: PNG, SVG or PDF, drawn by matplotlib without a display.

One analysis fills a picture with its kernels (or layers); several on one device are compared in one; several devices stand in
one row on the same axes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from roofline.analysis.explain import compare, facts, pace, reason
from roofline.analysis.explain import label as distinct_name
from roofline.records import Analysis, KernelRow, LayerRow
from roofline.units import percent, si
from roofline.views import plane
from roofline.views.ink import Theme, printable, seconds
from roofline.views.labels import Label, place
from roofline.views.plane import Roofs
from roofline.views.points import Bubble, Frame, blocks, bubbles, frame, silent, time_of
from roofline.views.sheet import (
    DEFAULT,
    WIDE,
    Format,
    Mode,
    Sheet,
    Size,
    columns_of,
    content,
    footer,
    header,
    roomy,
    shared,
    sheet,
    shrink,
    tool,
    wrapped,
)
from roofline.views.side import bound_bars, side_many, side_one
from roofline.views.style import BOUND_COLOUR, SERIES, ClassStyle, class_style, kept, slopes

By = Literal["kernel", "layer"]

# Waiting that takes a kernel to less than this share of the FLOP/s of its work is drawn.
APART = 0.8
# Kernels of less than this share of the time have no measured mark of their own, and no name.
SMALL, NAMED = 0.005, 0.02
# Devices in one row.
ROW = 4
# Spots in a decade, within which marks of one kind are one: on a small picture those that would cover each other.
FINE, COARSE = 115, 16


def draw(analyses: Sequence[Analysis], path: str | Path, *, by: By = "kernel") -> None:
    """Writes the picture to `path`; its suffix (.png, .svg, .pdf) is the format. OSError where it cannot be written."""
    path = Path(path)
    form: Any = path.suffix[1:].lower()
    path.write_bytes(picture(analyses, form, by=by))


def picture(
    analyses: Sequence[Analysis], form: Format = "png", *, by: By = "kernel", size: Size = DEFAULT, mode: Mode = "light"
) -> bytes:
    """The picture as a file's content. The same analyses give the same bytes."""
    panels: dict[tuple[str, float], list[Analysis]] = defaultdict(list)
    for a in analyses:
        panels[a.device.name, a.device.peak_flops].append(a)
    groups = list(panels.values())
    # in a paper's column they stand one under another
    across = 1 if size.narrow else min(len(groups), ROW)
    down = math.ceil(len(groups) / across)
    words = " ".join(text for a in analyses for text in (a.model.name, a.device.title, *(k.layer + k.op for k in a.kernels)))
    wide = 1.0 if across == 1 else max(1.0, 5.6 * across / WIDE)
    with sheet(size, mode, printable(words), wide=wide, high=down) as made:
        if len(groups) == 1:
            _panel(made, groups[0], by)
        else:
            _row(made, groups, across, down)
        return content(made, form, _name(analyses))


def _name(analyses: Sequence[Analysis]) -> str:
    """What the picture shows, as the title of the file."""
    first = analyses[0]
    models, devices = {a.model.name for a in analyses}, {a.device.name for a in analyses}
    what = printable(first.model.name) if len(models) == 1 else f"{len(models)} models"
    where = printable(first.device.title or first.device.name) if len(devices) == 1 else f"{len(devices)} devices"
    return f"{what} on {where}: roofline"


def _rows(a: Analysis, by: By) -> Sequence[KernelRow] | Sequence[LayerRow]:
    return blocks(a.layers) if by == "layer" else a.kernels


# ------------------------------------------------------------------------------------------------ layouts


def _panel(made: Sheet, group: Sequence[Analysis], by: By) -> None:
    """One device fills the sheet."""
    theme, narrow = made.theme, made.narrow
    part = made.figure
    wide, high = made.inches
    first = group[0]
    spots = [b for a in group for b in bubbles(_rows(a, by), COARSE if narrow else FINE)]
    at = frame(group, spots)
    title = f"{_heading(group)} on {printable(first.device.title or first.device.name)}"
    sentence = printable(reason(first) if len(group) == 1 else compare(group))
    room = 0.94 if narrow else 0.69
    if narrow:
        brief = f"{seconds(time_of(first))} {_kind(first)} · {pace(first)}" if len(group) == 1 else shared(group)
        lines = [(brief, theme.soft)]
    else:
        setting = " · ".join(facts(first)) if len(group) == 1 else shared(group)
        lines = [(wrapped(setting, 200, 1), theme.soft), (wrapped(sentence, columns_of(room * wide)), theme.ink)]
    header(made, title, lines, room=room)
    box = (
        (0.66 / wide, 0.80 / high, 0.96 - 0.66 / wide, 1 - 1.62 / high)
        if narrow
        else (0.068, 0.94 / high, 0.62, 1 - 2.28 / high)
    )
    ax = part.add_axes(box)
    plane.axes(ax, theme, at, narrow=narrow)
    notes = _plot(ax, made, at, group, by, spots)
    if not narrow and len(group) == 1:
        side_one(part, theme, first)
    elif not narrow:
        side_many(part, theme, group)
    footer(made, _lines(notes), tool(first))


def _row(made: Sheet, groups: Sequence[Sequence[Analysis]], across: int, down: int) -> None:
    """A panel for each device, all on the same axes."""
    theme = made.theme
    everything = [a for group in groups for a in group]
    wide, high = made.inches
    at = frame(everything, plane.spots_of(everything))
    same = len({a.model.name for a in everything}) == 1
    title = f"{_heading(everything)} on {len(groups)} devices"
    ranked = wrapped(printable(compare(everything)), columns_of(0.94 * wide), 3 if made.narrow else 2)
    lines = [(shared(everything), theme.soft), (ranked, theme.ink)]
    header(made, title, [line for line in lines if line[0]], room=0.95)
    notes: list[str] = []
    top, bottom, left = (
        (1.12 + 0.21 * max(ranked.count("\n") - 1, 0)) / high,
        0.42 / high,
        (0.74 if made.narrow else 0.62) / wide,
    )
    cell = (1 - left - 0.012) / across, (1 - top - bottom) / down
    roomy(made, cell[1] * high, 3.3, len(groups))
    for i, group in enumerate(groups):
        x, y = left + cell[0] * (i % across), 1 - top - cell[1] * (i // across + 1)
        bars = (0.30 + 0.34 * len(group)) / high
        named = 0.36 / high
        ax = made.figure.add_axes((x, y + bars + 0.55 / high, cell[0] - 0.25 / wide, cell[1] - bars - named - 0.58 / high))
        plane.axes(ax, theme, at, first=i % across == 0, narrow=True)
        if i % across:
            ax.tick_params(axis="y", labelleft=False)
        ax.set_title(
            printable(group[0].device.title or group[0].device.name),
            loc="left",
            fontsize=12,
            fontweight="bold",
            color=theme.ink,
            pad=6,
        )
        shrink(ax.title, cell[0] - 0.3 / wide, made.figure)
        found = _plot(ax, made._replace(narrow=True), at, group, "kernel", plane.spots_of(group))
        notes += [note for note in found if note not in notes]
        place_ = (x, y + 0.06 / high, cell[0] - 0.25 / wide, bars)
        bound_bars(made.figure, theme, place_, group, models=not same, longest=max(x.totals.time_s for x in group))
    footer(made, _lines(notes), tool(everything[0]))


def _kind(a: Analysis) -> str:
    return "measured" if a.measurement else "predicted"


def _heading(group: Sequence[Analysis]) -> str:
    names = {a.model.name for a in group}
    name = printable(group[0].model.name) if len(names) == 1 else f"{len(names)} models"
    return name if len(name) <= 44 else name[:43] + "…"


# ------------------------------------------------------------------------------------------------ marks


class Marks(NamedTuple):
    """Axes to draw kernels on."""

    ax: Axes
    theme: Theme
    at: Frame
    narrow: bool

    def height(self, y: float) -> float:
        return max(y, self.at.bottom)

    def area(self, share: float) -> float:
        """Bubble area in square points."""
        return (12.0 + 700.0 * share) if self.narrow else (22.0 + 1500.0 * share)


def _plot(ax: Axes, made: Sheet, at: Frame, group: Sequence[Analysis], by: By, spots: Sequence[Bubble]) -> list[str]:
    """Roofs, points and labels of analyses on one device; gives back what the marks mean."""
    first = group[0]
    theme = made.theme
    stars = [(a.totals.intensity, a.totals.achieved_flops) for a in group if a.totals.flops and a.totals.bytes]
    roofs = Roofs(ax, theme, at, first.device, spots, stars, narrow=made.narrow)
    taken = roofs.draw(first.setting.dtype, {k.dtype for a in group for k in a.kernels})
    marks = Marks(ax, theme, at, made.narrow)
    if len(group) == 1:
        plane.floor(ax, theme, at, first, taken, narrow=made.narrow)
        labels, notes = _kernels(marks, first, by, spots)
    else:
        labels, notes = _compare(marks, group)
    around = _around(marks, first, labels, spots)
    place(ax, theme, taken, around, labels, roofs.stars)
    return notes


def _kernels(m: Marks, a: Analysis, by: By, spots: Sequence[Bubble]) -> tuple[list[Label], list[str]]:
    """Every kernel (or layer) as a mark of its class; names for those that take the time."""
    whole = time_of(a)
    quiet = silent(a.kernels, COARSE / 2 if m.narrow else FINE / 5) if by == "kernel" else []
    # in the strip the height is B/s, at the left edge's intensity
    left = m.at.left
    moved = [b._replace(x=m.at.strip, y=b.y * left, reached=b.reached * left, alone=b.alone * left) for b in quiet]
    found = sorted([*spots, *moved], key=lambda b: b.time_s)
    labels: list[Label] = []
    lost = waits = measured = 0
    for b in reversed(found):
        share = b.time_s / whole
        style = ClassStyle(b.klass, BOUND_COLOUR.get(b.klass, m.theme.faint), "o") if by == "layer" else class_style(b.klass)
        y = m.height(b.y)
        lost += b.y < m.at.bottom
        colour = m.theme.mark(style.colour)
        waited = not a.measurement and b.y < APART * b.alone and (not m.narrow or share >= 2 * SMALL)
        other = b.reached if b.reached and share >= SMALL else b.alone if waited else 0.0
        if other:
            measured += bool(b.reached)
            waits += not b.reached
            m.ax.plot([b.x, b.x], [m.height(other), y], color=colour, linewidth=0.8, alpha=0.45, zorder=2.7)
            m.ax.scatter(
                [b.x],
                [m.height(other)],
                s=(1.0 if b.reached else 0.5) * m.area(share),
                marker=style.marker,
                facecolors="none",
                edgecolors=colour,
                linewidths=1.1,
                zorder=2.9,
            )
        m.ax.scatter(
            [b.x],
            [y],
            s=m.area(share),
            color=colour,
            marker=style.marker if b.y >= m.at.bottom else "v",
            alpha=0.72,
            edgecolors=m.theme.paper,
            linewidths=0.7,
            zorder=3,
        )
        if len(labels) < (3 if m.narrow else 8) and share >= NAMED:
            labels.append(Label(b.x, y, math.sqrt(m.area(share)) / 2, _words(b, whole, m.narrow), style.colour))
    return [*_whole(m, a, m.theme.ink, "whole model"), *labels], _notes(a, lost, waits, measured, m.narrow)


def _words(b: Bubble, whole: float, narrow: bool) -> str:
    """Which kernel, of what size, how many are like it, and their share of the time."""
    name = printable(b.name)
    if narrow:
        return f"{name}  {percent(b.time_s, whole)}"
    more = f"and {b.number - 1} like it, " if b.number > 1 else ""
    return f"{name} {b.shape}\n{more}{percent(b.time_s, whole)}"


def _lines(notes: Sequence[str]) -> list[str]:
    """Notes as lines, the first two in one."""
    return [" · ".join(notes[:2]), *notes[2:]] if notes else []


def _notes(a: Analysis, lost: int, waits: int, measured: int, narrow: bool) -> list[str]:
    """What the marks mean, and what a log scale cannot show; without numbers where they may be those of one panel of many."""
    notes = []
    if measured:
        notes.append("filled: predicted, hollow: measured")
    if waits:
        notes.append("filled: as predicted, hollow: the work alone, without waiting and starting")
    if lost:
        notes.append("▼ below this scale" if narrow else f"▼ {lost:,} lie below this scale")
    quiet = [k for k in a.kernels if not k.flops and k.time_s]
    if quiet and narrow:
        notes.append("grey strip: no arithmetic, by the bytes per second")
    elif quiet:
        took = percent(sum(k.measured_s or k.time_s for k in quiet), time_of(a))
        kind = "kernel does" if len(quiet) == 1 else "kernels do"
        notes.append(f"grey strip: {len(quiet):,} {kind} no arithmetic ({took} of the time), by the bytes per second")
    return notes


def _whole(m: Marks, a: Analysis, colour: str, name: str) -> list[Label]:
    """The model as one point, and how far it stays below its roof; hollow beside it where it was run."""
    t = a.totals
    if not (t.flops and t.bytes and t.achieved_flops):
        return []
    y = m.height(t.achieved_flops)
    roof = min(a.device.peak_flops * kept(a.device), slopes(a.device)[-1].reached * t.intensity)
    words = f"{name}: {si(t.intensity, digits=3)} FLOP/B, {si(t.achieved_flops, 'FLOP/s', 3)}"
    if m.narrow:
        words = f"{name}: {si(t.achieved_flops, 'FLOP/s', 3)}"
    if roof > 1.25 * t.achieved_flops:
        m.ax.plot([t.intensity, t.intensity], [y, roof], color=colour, linewidth=1.3, linestyle=(0, (1, 2)), zorder=4)
        words += f"\n{si(roof / t.achieved_flops, digits=2)}× below the roof"
    if a.measurement:
        reached = t.flops / a.measurement.time_s
        words += f"\nmeasured: {si(reached, 'FLOP/s', 3)}"
        m.ax.scatter(
            [t.intensity],
            [m.height(reached)],
            s=190,
            marker="*",
            facecolors=m.theme.paper,
            edgecolors=colour,
            linewidths=1.3,
            zorder=7,
        )
    size = 120 if m.narrow else 190
    m.ax.scatter([t.intensity], [y], s=size, marker="*", color=colour, edgecolors=m.theme.paper, linewidths=1.1, zorder=7.2)
    return [Label(t.intensity, y, 8, words, colour, bold=True)]


def _compare(m: Marks, group: Sequence[Analysis]) -> tuple[list[Label], list[str]]:
    labels: list[Label] = []
    for i, a in enumerate(group):
        colour = m.theme.mark(SERIES[i % len(SERIES)])
        spots = [b for b in bubbles(a.kernels) if b.y >= m.at.low]
        m.ax.scatter(
            [b.x for b in spots],
            [b.y for b in spots],
            s=[0.4 * m.area(b.time_s / time_of(a)) for b in spots],
            color=colour,
            alpha=0.28,
            linewidths=0,
            zorder=3,
        )
        labels += _whole(m, a, colour, printable(distinct_name(a, group)))
    seen = "★ whole model as predicted" + (", hollow as measured" if any(a.measurement for a in group) else "")
    return labels, [f"dots: kernels · {seen}"]


def _around(m: Marks, a: Analysis, labels: Sequence[Label], spots: Sequence[Bubble]) -> list[Bbox]:
    """Boxes around the points, and beads along the bold roof, that a label should leave free."""
    scale = m.ax.figure.dpi / 72
    around = [*plane.beads(m.at, a.device)]
    around += [(label.x, label.y, label.radius) for label in labels]
    around += [(b.x, m.height(y), 4.0) for b in spots for y in (b.y, b.alone or b.y)]
    boxes = []
    for (px, py), (_, _, radius) in zip(m.ax.transData.transform([(x, y) for x, y, _ in around]), around, strict=True):
        r = radius * scale * 0.8
        boxes.append(Bbox.from_extents(px - r, py - r, px + r, py + r))
    return boxes
