"""The panel beside a roofline: totals and the time by bound and by kind of kernel, or the models that are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roofline.analysis.explain import label as distinct_name
from roofline.analysis.explain import pace, rate
from roofline.records import Analysis
from roofline.units import binary, count, percent, si
from roofline.views.ink import Theme, printable, seconds
from roofline.views.points import time_of
from roofline.views.sheet import shrink
from roofline.views.style import BOUND_COLOUR, BOUND_TEXT, SERIES, class_style, fullest

LEFT, WIDTH = 0.735, 0.25
# A bound with less than this share of the time is too short to be seen, and has no name.
SEEN = 0.001
Box = tuple[float, float, float, float]


def side_one(part: Figure, theme: Theme, a: Analysis) -> None:
    """Totals of one analysis, its time by bound and by kind of kernel."""
    t = a.totals
    big = part.text(LEFT, 0.945, seconds(time_of(a)), fontsize=21, fontweight="bold", va="center")
    end = LEFT + big.get_window_extent().width / part.bbox.width
    kind = "measured" if a.measurement else "predicted"
    part.text(end + 0.008, 0.939, kind, fontsize=11, color=theme.soft, va="center")
    words = pace(a)
    if a.measurement:
        words = f"{rate(a.measurement.throughput)} measured; predicted {seconds(t.time_s)}"
    part.text(LEFT, 0.900, words, fontsize=10.5, color=theme.soft, va="center")
    figures = [
        ("FLOPs", si(t.flops)),
        ("MACs", si(t.macs)),
        ("kernels", f"{t.kernels:,}"),
        ("traffic", si(t.bytes, "B")),
        ("parameters", count(a.model.params)),
        ("peak memory", binary(t.peak_memory_bytes)),
    ]
    for i, (name, value) in enumerate(figures):
        x, y = LEFT + 0.088 * (i % 3), 0.848 - 0.082 * (i // 3)
        part.text(x, y, name, fontsize=9, color=theme.soft, va="center")
        part.text(x, y - 0.031, value, fontsize=11, fontweight="bold", va="center")
    by_bound = "Predicted time by bound" if a.measurement else "Time by bound"
    _bound_bar(_bare(part, theme, (LEFT, 0.585, WIDTH, 0.042), by_bound), theme, t.time_by_bound, t.time_s)
    _class_bars(_bare(part, theme, (LEFT, 0.08, WIDTH, 0.385), "Time by kind of kernel"), theme, a)


def side_many(part: Figure, theme: Theme, group: Sequence[Analysis]) -> None:
    """One bar of time per analysis, split by bound."""
    slots = max(len(group), 6)
    ax = _bare(part, theme, (LEFT, 0.16, WIDTH, 0.665), "Predicted time by bound")
    ax.set_xlim(0, 1)
    ax.set_ylim(slots, 0)
    longest = max(a.totals.time_s for a in group) or 1.0
    for i, a in enumerate(group):
        t = a.totals
        colour = theme.mark(SERIES[i % len(SERIES)])
        name = printable(distinct_name(a, group))
        ax.text(0, i + 0.2, "★", color=colour, fontsize=11, va="center")
        ax.text(0.065, i + 0.2, name if len(name) < 30 else name[:29] + "…", fontsize=10, fontweight="bold", va="center")
        ax.text(1, i + 0.2, seconds(t.time_s), fontsize=10, fontweight="bold", va="center", ha="right")
        _split(ax, theme, i + 0.48, 0.2, t.time_by_bound, longest)
        said = f"{si(t.flops, 'FLOP')} · {si(t.bytes, 'B')} · {count(a.model.params)} parameters"
        ax.text(0, i + 0.74, said, fontsize=8.5, color=theme.soft, va="center")
    for at, (bound, colour) in zip((0.0, 0.062, 0.135, 0.191), BOUND_COLOUR.items(), strict=True):
        part.text(LEFT + at, 0.105, "■", color=theme.mark(colour), fontsize=8.2)
        part.text(LEFT + at + 0.011, 0.105, bound, color=theme.soft, fontsize=8.2)


def bound_bars(part: Figure, theme: Theme, box: Box, group: Sequence[Analysis], *, models: bool, longest: float) -> None:
    """Under one of several panels: the time of each analysis, split by bound, with the names of its bounds."""
    ax = part.add_axes(box)
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(len(group) + 0.85, 0)
    for i, a in enumerate(group):
        name = printable(distinct_name(a, group)) if models or len(group) > 1 else ""
        if name:
            ax.text(0, i + 0.25, "★", color=theme.mark(SERIES[i % len(SERIES)]), fontsize=9, va="center")
        said = ax.text(
            0.045 if name else 0, i + 0.25, f"{name if len(name) < 26 else name[:25] + '…'}", fontsize=9, va="center"
        )
        shrink(said, 0.5 * box[2], part)
        kind = "measured" if a.measurement else "predicted"
        ax.text(1, i + 0.25, f"{seconds(time_of(a))} {kind}, {pace(a)}", fontsize=9, fontweight="bold", va="center", ha="right")
        _split(ax, theme, i + 0.68, 0.3, a.totals.time_by_bound, longest or 1.0)
    shown = [b for b in BOUND_COLOUR if any(a.totals.time_by_bound.get(b, 0) >= SEEN * a.totals.time_s > 0 for a in group)]
    x, y = 0.0, len(group) + 0.45
    for bound in shown:
        for word, colour, room in (("■", theme.mark(BOUND_COLOUR[bound]), 0.012), (bound, theme.ink, 0.03)):
            text = ax.text(x, y, word, color=colour, fontsize=8.2, va="center")
            x += text.get_window_extent().width / ax.get_window_extent().width + room


def _split(ax: Axes, theme: Theme, y: float, high: float, by_bound: dict[str, float], longest: float) -> None:
    at = 0.0
    for bound, value in fullest(by_bound):
        ax.barh(y, value / longest, high, left=at, color=theme.mark(BOUND_COLOUR.get(bound, theme.faint)))
        at += value / longest


def _bare(part: Figure, theme: Theme, box: Box, title: str) -> Axes:
    ax: Axes = part.add_axes(box)
    ax.set_axis_off()
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=theme.ink, pad=7)
    return ax


def _bound_bar(ax: Axes, theme: Theme, by_bound: dict[str, float], whole: float) -> None:
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    at = 0.0
    legend: list[tuple[str, str]] = []
    for bound, value in fullest(by_bound):
        share = value / whole if whole else 0.0
        colour = BOUND_COLOUR.get(bound, theme.faint)
        ax.barh(0.5, share, 1.0, left=at, color=colour, edgecolor=theme.paper, linewidth=1)
        if share > 0.13:
            ax.text(
                at + share / 2,
                0.47,
                percent(value, whole),
                ha="center",
                va="center",
                color=BOUND_TEXT.get(bound, "white"),
                fontsize=9.5,
                fontweight="bold",
            )
        legend.append((bound if share > 0.13 else f"{bound} {percent(value, whole)}", colour))
        at += share
    x, y = 0.0, -0.3
    for words, colour in legend:
        text = ax.text(x + 0.045, y, words, color=theme.soft, fontsize=9, va="top")
        wide = 0.045 + text.get_window_extent().width / ax.get_window_extent().width
        if x + wide > 1.02:
            x, y = 0.0, y - 0.62
            text.set_position((0.045, y))
        ax.text(x, y, "■", color=theme.mark(colour), fontsize=9, va="top")
        x += wide + 0.035


def _class_bars(ax: Axes, theme: Theme, a: Analysis) -> None:
    """Bars that are the legend of the bubbles at the same time."""
    time: dict[str, float] = defaultdict(float)
    number: dict[str, int] = defaultdict(int)
    for k in a.kernels:
        time[k.klass] += k.time_s if k.measured_s is None else k.measured_s
        number[k.klass] += 1
    rows = sorted(time, key=lambda c: -time[c])
    slots = 8
    if len(rows) > slots:
        rest = rows[slots - 1 :]
        time["_rest"], number["_rest"] = sum(time[c] for c in rest), sum(number[c] for c in rest)
        rows = [*rows[: slots - 1], "_rest"]
    longest = max((time[c] for c in rows), default=0.0) or 1.0
    ax.set_xlim(0, 1)
    ax.set_ylim(slots, 0)
    for i, klass in enumerate(rows):
        style = class_style(klass)
        colour = theme.mark(style.colour)
        title = "the rest" if klass == "_rest" else style.title
        ax.scatter([0.02], [i + 0.27], s=44, color=colour, marker=style.marker, clip_on=False)
        ax.text(0.06, i + 0.29, f"{title}  ×{number[klass]:,}", fontsize=9.5, va="center")
        ax.text(1.0, i + 0.29, percent(time[klass], time_of(a)), fontsize=9.5, va="center", ha="right", fontweight="bold")
        ax.barh(i + 0.69, 1.0, 0.13, color=theme.grid)
        ax.barh(i + 0.69, time[klass] / longest, 0.13, color=colour)
    ax.text(0, len(rows) + 0.3, "Mark area: share of the time. ★ whole model.", fontsize=8.5, color=theme.soft, va="center")
