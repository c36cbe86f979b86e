"""The picture of models by two of their numbers: a colour for each device, its front as a line, intervals as whiskers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from roofline.views import labels
from roofline.views.ink import Theme, printable
from roofline.views.labels import Label
from roofline.views.scatter import Mark, Scatter
from roofline.views.sheet import Format, Mode, Sheet, Size, columns_of, content, footer, header, sheet, wrapped
from roofline.views.style import SERIES

# Groups that share a colour differ in their marker.
MARKERS = ("o", "s", "D", "^", "v", "P")
# Rows of names under the title; groups without room there are counted.
KEY_ROWS = 3
# Marks with a name at most, those on a front first; characters of a name.
NAMED, NAME = 50, 34
# Points of a mark, and around it.
SIZE, RADIUS = 6.5, 4.0
# Marks that names keep off, at most.
MOST_AVOIDED = 300

Point = tuple[float, float]


def picture(found: Scatter, form: Format, *, size: Size, mode: Mode) -> bytes:
    """The picture as a file's content."""
    words = " ".join([found.title, *(axis.name for axis in found.axes), *found.groups, *(mark.name for mark in found.marks)])
    with sheet(size, mode, printable(words)) as made:
        wide, high = made.inches
        title = f"{printable(found.title)[:70]}: {found.named_axes()}"
        lines = [(wrapped(printable(note), columns_of(0.94 * wide), 1), made.theme.soft) for note in found.notes[:1]]
        header(made, title, lines, room=0.95)
        under = _keys(made, found, high - (0.62 if made.narrow else 0.72) - 0.3 * len(lines))
        bottom, left = (0.95 if made.narrow else 0.92) / high, (0.86 if made.narrow else 1.0) / wide
        ax = made.figure.add_axes((left, bottom, 1 - left - 0.3 / wide, under / high - 0.12 / high - bottom))
        _plane(ax, made, found)
        tool = f"roofline {found.tool.roofline}" + (f", torch {found.tool.torch}" if found.tool.torch else "")
        footer(made, [_legend(found)], tool)
        return content(made, form, title)


def _legend(found: Scatter) -> str:
    parts = []
    if found.line:
        parts.append("filled: no other model there beats it in both; the line joins these; hollow: beaten")
    elif any(mark.front is not None for mark in found.marks):
        parts.append("filled: no other model there beats it in all that was asked for; hollow: beaten")
    if any(_whiskers(mark) for mark in found.marks):
        parts.append("whiskers: 8 of 10 cases")
    if not all(mark.fits for mark in found.marks):
        parts.append("cross: does not fit into memory")
    return " · ".join(["predicted", *parts])


def _style(theme: Theme, i: int) -> tuple[str, str]:
    """The colour and the marker of a group."""
    return theme.mark(SERIES[i % len(SERIES)]), MARKERS[i // len(SERIES) % len(MARKERS)]


def _keys(made: Sheet, found: Scatter, top: float) -> float:
    """The groups under the title, from `top` inches down; how high the picture may reach."""
    wide, high = made.inches
    left, row = (0.16 if made.narrow else 0.25), 0
    x = left
    for i, group in enumerate(found.groups):
        y = top - 0.24 * row
        text = made.figure.text((x + 0.16) / wide, y / high, printable(group)[:48], fontsize=9.5, va="center")
        length = 0.34 + text.get_window_extent().width / made.figure.dpi
        if x + length > 0.98 * wide and x > left:
            row, x, y = row + 1, left, y - 0.24
            text.set_position(((x + 0.16) / wide, y / high))
        if row == KEY_ROWS:
            text.set_text(f"and {len(found.groups) - i:,} more")
            break
        colour, marker = _style(made.theme, i)
        dot = Line2D([(x + 0.06) / wide], [y / high], marker=marker, markersize=SIZE, color=colour, linestyle="none")
        made.figure.add_artist(dot)
        x += length
    return top - 0.24 * row - 0.2


def _plane(ax: Axes, made: Sheet, found: Scatter) -> None:
    """Axes, whiskers, fronts, marks, and the names of those that have room."""
    theme = made.theme
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(True, which="major", color=theme.grid, linewidth=0.8)
    ax.tick_params(labelsize=8.5)
    for which in (0, 1):
        _scale(ax, found, which)
    # names are placed on the scales as they are now, so what is drawn may not move them
    ax.autoscale(False)
    for i in range(len(found.groups)):
        colour, marker = _style(theme, i)
        line = found.front_of(i)
        if len(line) > 1:
            ax.plot(
                *zip(*(m.at for m in line), strict=True),
                color=colour,
                linewidth=1.4,
                alpha=0.75,
                zorder=2,
                drawstyle="steps-post" if found.axes[0].least else "steps-pre",
            )
        _marks(ax, theme, found.named(i), colour, marker)
    _names(ax, made, found)


def _marks(ax: Axes, theme: Theme, marks: Sequence[Mark], colour: str, marker: str) -> None:
    """Those of a group: all that look alike at once, so that thousands cost little more than ten."""
    ends = [ends for mark in marks for ends in _whiskers(mark)]
    ax.add_collection(LineCollection(ends, colors=colour, linewidths=0.9, alpha=0.45, zorder=2.5, capstyle="butt"))
    looks: dict[tuple[bool, bool, bool], list[Point]] = {}
    for mark in marks:
        looks.setdefault((mark.fits, mark.front is False, mark.row is not None), []).append(mark.at)
    for (fits, beaten, named), points in looks.items():
        style: dict[str, Any] = {"marker": marker, "color": colour, "markersize": SIZE if named else 0.6 * SIZE, "zorder": 4}
        if not fits:
            style |= {"marker": "x", "markeredgewidth": 1.6}
        elif beaten:
            style |= {"markerfacecolor": theme.paper, "markeredgewidth": 1.1, "zorder": 3}
        ax.plot(*zip(*points, strict=True), linestyle="none", **style)


def _whiskers(mark: Mark) -> list[tuple[Point, Point]]:
    """The ends of each of its intervals; points without a name have none."""
    (x, y), (across, along) = mark.at, mark.between
    ends: list[tuple[Point, Point]] = [((across[0], y), (across[1], y))] if across else []
    ends += [((x, along[0]), (x, along[1]))] if along else []
    return ends if mark.row is not None else []


def _scale(ax: Axes, found: Scatter, which: int) -> None:
    """An axis with room around the points and their whiskers; which way is better stands in its title."""
    axis, at = found.axes[which], "xy"[which]
    values = [v for m in found.marks for v in (m.at[which], *(m.between[which] or ()))]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    one = (ax.xaxis, ax.yaxis)[which]
    if axis.log:
        getattr(ax, f"set_{at}scale")("log")
        room = max((high / low) ** 0.06, 1.15)
        one.set_view_interval(low / room, high * room, ignore=True)
        one.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 300 else (1.0,)))
        one.set_minor_formatter(NullFormatter())
    else:
        room = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
        one.set_view_interval(low - room, high + room, ignore=True)
    one.set_major_formatter(FuncFormatter(lambda value, _: axis.text(value).replace("us", "µs")))
    one.set_label_text(axis.title, fontsize=9.5)


def _names(ax: Axes, made: Sheet, found: Scatter) -> None:
    """Of those on a front first, then of the others where there is room; names that would cover others are left out."""
    scale = made.figure.dpi / 72
    worth = [m for m in found.marks if m.row is not None and not (made.narrow and m.front is False)]
    shown = sorted(worth, key=lambda m: m.front is False)[:NAMED]

    def box(one: Point, other: Point, around: float) -> Bbox:
        (x0, y0), (x1, y1) = ax.transData.transform((one, other))
        return Bbox.from_extents(min(x0, x1) - around, min(y0, y1) - around, max(x0, x1) + around, max(y0, y1) + around)

    taken = [box(m.at, m.at, RADIUS * scale) for m in found.marks[:MOST_AVOIDED]]
    for i in range(len(found.groups)):
        for one, other in pairwise(found.front_of(i)):
            corner = (other.at[0], one.at[1]) if found.axes[0].least else (one.at[0], other.at[1])
            taken += [box(one.at, corner, 0.7 * scale), box(corner, other.at, 0.7 * scale)]
    taken += [box(*ends, 0.5 * scale) for m in shown for ends in _whiskers(m)]
    wanted = [Label(*m.at, RADIUS, _short(m.name), SERIES[m.group % len(SERIES)]) for m in shown]
    labels.place(ax, made.theme, [], taken, wanted)


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME else f"{name[: NAME - 12]}…{name[-11:]}"
