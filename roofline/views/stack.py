"""Where the time goes, layer by layer in the order of the model: a bar each, split by what bounds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from roofline.analysis.explain import pace, reason
from roofline.records import Analysis
from roofline.units import percent
from roofline.views.ink import printable, seconds
from roofline.views.points import blocks
from roofline.views.sheet import (
    Format,
    Mode,
    Sheet,
    Size,
    columns_of,
    content,
    footer,
    header,
    keys,
    roomy,
    shared,
    sheet,
    shrink,
    tool,
    wrapped,
)
from roofline.views.style import BOUND_COLOUR, fullest

# Inches that a bar takes at least; what is shorter than the bars that have room is summed up in one.
LEAST = 0.19
# Devices beside each other; in a paper's column they stand one under another.
ACROSS = 3


class Bar(NamedTuple):
    """A layer: its path and type, seconds on each device by bound."""

    name: str
    times: tuple[dict[str, float], ...]

    def of(self, i: int) -> float:
        return sum(self.times[i].values())


def bars(analyses: Sequence[Analysis], most: int) -> list[Bar]:
    """The parts of the model that split its time on the first device, in its order; on each device they add up to the whole.
    `most` is how many have room."""
    first = analyses[0]
    order = {row.path: i for i, row in enumerate(first.layers)}
    parts = sorted(blocks(first.layers), key=lambda row: order[row.path])
    chosen = {row.path for row in sorted(parts, key=lambda row: -row.time_s)[: most - 1]}
    found: list[Bar] = []
    rest = [dict(a.totals.time_by_bound) for a in analyses]
    for row in parts:
        if row.path not in chosen:
            continue
        times = tuple(next((dict(r.time_by_bound) for r in a.layers if r.path == row.path), {}) for a in analyses)
        for whole, own in zip(rest, times, strict=True):
            for bound, value in own.items():
                whole[bound] = whole.get(bound, 0.0) - value
        found.append(Bar(f"{row.path or 'the model itself'}  {row.type}", times))
    left = tuple({bound: max(value, 0.0) for bound, value in each.items()} for each in rest)
    other = Bar("elsewhere", left)
    small = all(other.of(i) <= 1e-9 * a.totals.time_s for i, a in enumerate(analyses))
    return found if small else [*found, other]


def picture(analyses: Sequence[Analysis], form: Format, *, size: Size, mode: Mode) -> bytes:
    """The picture as a file's content; of several analyses the first three, side by side or one under another."""
    shown = list(analyses[:ACROSS])
    first = shown[0]
    words = printable(" ".join([first.model.name, *(a.device.title for a in shown), *(r.path + r.type for r in first.layers)]))
    across, down = (1, len(shown)) if size.narrow else (len(shown), 1)
    with sheet(size, mode, words, high=down) as made:
        wide, high = made.inches
        same = len(shown) == 1
        where = printable(first.device.title or first.device.name) if same else f"{len(shown)} devices"
        lines = [(wrapped(shared(shown), 200, 1), made.theme.soft)]
        if same and not made.narrow:
            lines.append((wrapped(printable(reason(first)), columns_of(0.94 * wide)), made.theme.ink))
        header(made, f"{printable(first.model.name)[:44]} on {where}: time by layer", lines, room=0.95)
        top, bottom, left = (1.0 if made.narrow else 1.55) / high, 0.85 / high, (1.55 if made.narrow else 2.75) / wide
        # below the first, a panel's title stands in its own cell
        cell, over = ((1 - left - 0.02) / across, (1 - top - bottom) / down), 0.38 / high
        tall = (cell[1] - (over if down > 1 else 0)) * high
        roomy(made, tall, 4 * LEAST, len(shown))
        rows = bars(shown, int(tall / LEAST))
        for i, a in enumerate(shown):
            low = 1 - top - cell[1] * (i // across + 1)
            up = cell[1] - (over if i // across else 0)
            ax = made.figure.add_axes((left + i % across * cell[0], low, cell[0] - 0.1 / wide, up))
            _bars(ax, made, rows, i, a, names=i % across == 0, title=not same)
        footer(made, [_legend(shown)], tool(first))
        keys(made, (0.16 if made.narrow else 2.75) / wide, 0.48 / high, BOUND_COLOUR)
        return content(made, form, f"{printable(first.model.name)} on {where}: time by layer")


def _legend(shown: Sequence[Analysis]) -> str:
    if len(shown) > 1:
        return "the bars of a device add up to its time"
    return f"{seconds(shown[0].totals.time_s)} in all, {pace(shown[0])}; the bars add up to it"


def _bars(ax: Axes, made: Sheet, rows: Sequence[Bar], i: int, a: Analysis, *, names: bool, title: bool) -> None:
    theme = made.theme
    ax.set_ylim(len(rows) - 0.4, -0.6)
    longest = max((row.of(i) for row in rows), default=0.0) or 1.0
    # room for the words at the end of the longest bar
    room = ax.get_window_extent().width / made.figure.dpi
    ax.set_xlim(0, longest * room / max(room - 1.15, 0.4 * room))
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ("top", "right", "bottom"):
        ax.spines[side].set_visible(False)
    size = min(9.5, 0.62 * ax.get_window_extent().height / made.figure.dpi * 72 / max(len(rows), 1))
    for y, row in enumerate(rows):
        at = 0.0
        for bound, value in fullest(row.times[i]):
            ax.barh(y, value, 0.72, left=at, color=theme.mark(BOUND_COLOUR.get(bound, theme.faint)))
            at += value
        ax.annotate(
            f"{seconds(row.of(i))}  {percent(row.of(i), a.totals.time_s)}",
            (at, y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=theme.soft,
            annotation_clip=False,
        )
        if names:
            text = ax.annotate(
                printable(row.name),
                (0, y),
                (-6, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=size,
                annotation_clip=False,
            )
            shrink(text, (1.45 if made.narrow else 2.6) / made.inches[0], made.figure)
    if title:
        whole = f"{printable(a.device.title or a.device.name)}: {seconds(a.totals.time_s)}, {pace(a)}"
        heading = ax.set_title(whole, loc="left", fontsize=11 if made.narrow else 12, fontweight="bold", color=theme.ink)
        shrink(heading, ax.get_position().width, made.figure)
