"""Memory over one pass: what is alive at each operator, the peak, and whose it is there."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from roofline.analysis.explain import facts
from roofline.analysis.memory import Timeline
from roofline.records import Analysis
from roofline.units import binary, percent
from roofline.views.ink import Theme, behind, printable
from roofline.views.sheet import Format, Mode, Sheet, Size, content, footer, header, keys, sheet, shrink, tool

# By kind, from the bottom: what stays, then what comes and goes.
COLOURS = {
    "parameters": "#2f5fc4",
    "buffers": "#13a5c8",
    "constants": "#8f7d76",
    "optimizer_state": "#7a4fd0",
    "gradients": "#14955f",
    "kv_cache": "#d83a8f",
    "inputs": "#6b7280",
    "activations": "#f08a00",
    "workspace": "#b8a100",
}
LEFT, WIDTH = 0.735, 0.25
# Layers that are named at the peak.
NAMED = 9


def picture(a: Analysis, alive: Timeline, form: Format, *, size: Size, mode: Mode) -> bytes:
    """The picture as a file's content."""
    words = printable(" ".join([a.model.name, a.device.title, *(path for path, _ in alive.owners)]))
    name, where = printable(a.model.name)[:44], printable(a.device.title or a.device.name)
    with sheet(size, mode, words) as made:
        wide, high = made.inches
        lines = [(f"{' · '.join(facts(a)[:4])} · counted from the trace, not measured", made.theme.soft)]
        if not made.narrow:
            lines.append((_said(alive), made.theme.ink))
        header(made, f"{name} on {where}: memory over one pass", lines, room=0.94 if made.narrow else 0.66)
        top, bottom, left = (0.95 if made.narrow else 1.3) / high, 0.9 / high, 0.95 / wide
        ax = made.figure.add_axes((left, bottom, (0.97 if made.narrow else 0.688) - left, 1 - top - bottom))
        kinds = [k for k in [*COLOURS, *alive.kinds] if any(alive.kinds.get(k, ()))]
        kinds = list(dict.fromkeys(kinds))
        _areas(ax, made, alive, kinds)
        if not made.narrow:
            _side(made, a, alive, kinds)
            footer(made, ["steps: operators in the order in which they run"], tool(a))
        else:
            keys(made, 0.03, 0.32 / high, {kind.replace("_", " "): COLOURS.get(kind, made.theme.faint) for kind in kinds}, 7.6)
        return content(made, form, f"{name} on {where}: memory over one pass")


def _said(alive: Timeline) -> str:
    at = alive.layers[alive.peak]
    where = printable(at) if at else "the model itself"
    most = max(alive.kinds, key=lambda kind: alive.kinds[kind][alive.peak])
    share = percent(alive.kinds[most][alive.peak], alive.total)
    return f"The peak of {binary(alive.total)} is in {where}; {most.replace('_', ' ')} are {share} of it."


def _colour(theme: Theme, kind: str) -> str:
    return theme.mark(COLOURS.get(kind, theme.faint))


def _areas(ax: Axes, made: Sheet, alive: Timeline, kinds: Sequence[str]) -> None:
    theme = made.theme
    steps = range(len(alive.layers))
    ax.stackplot(
        steps, [alive.kinds[kind] for kind in kinds], colors=[_colour(theme, kind) for kind in kinds], step="mid", linewidth=0
    )
    ax.set_xlim(0, max(len(alive.layers) - 1, 1))
    ax.set_ylim(0, alive.total * 1.16)
    ax.yaxis.set_major_locator(FixedLocator(_ticks(alive.total)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: binary(v) if v else "0"))
    ax.set_xlabel("operator")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(True, axis="y", color=theme.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    x = alive.peak
    ax.plot([x, x], [0, alive.total], color=theme.ink, linewidth=1.2, linestyle=(0, (2, 2)))
    ax.plot([x], [alive.total], marker="v", color=theme.ink, markersize=7)
    right = x > 0.6 * len(alive.layers)
    said = f"peak {binary(alive.total)}, operator {x:,}\n{printable(alive.layers[x]) or 'the model itself'}"
    text = ax.annotate(
        said,
        (x, alive.total),
        (-8 if right else 8, 4),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        fontsize=9.5,
        fontweight="bold",
        bbox=behind(theme),
        zorder=6,
    )
    inside, sheet_ = ax.get_window_extent(), made.figure.bbox
    left = float(ax.transData.transform((x, 0))[0])
    free = (left - inside.x0 if right else sheet_.x1 - left) - 12 * made.figure.dpi / 72
    shrink(text, free / sheet_.width, made.figure)


def _ticks(total: int) -> list[float]:
    """Four to eight round numbers of KiB, MiB or GiB."""
    unit = 1024 ** int(math.log(max(total, 1), 1024))
    step = next((n for n in (1, 2, 4, 5, 8, 10, 20, 25, 50, 100, 128, 200, 256) if total / (n * unit) <= 8), 256) * unit
    step = step if total / step >= 2 else step / 4
    return [i * step for i in range(math.ceil(total * 1.16 / step))]


def _side(made: Sheet, a: Analysis, alive: Timeline, kinds: Sequence[str]) -> None:
    """The peak by kind, and the layers that hold most of it."""
    part, theme = made.figure, made.theme
    big = part.text(LEFT, 0.945, binary(alive.total), fontsize=21, fontweight="bold", va="center")
    end = LEFT + big.get_window_extent().width / part.bbox.width
    part.text(end + 0.008, 0.939, "at the peak", fontsize=11, color=theme.soft, va="center")
    room = a.device.memory
    fits = f"{percent(alive.total, room)} of {binary(room)}" if room else "the device's memory is not known"
    part.text(
        LEFT,
        0.90,
        fits + (": does not fit" if room and alive.total > room else ""),
        fontsize=10.5,
        color=theme.soft,
        va="center",
    )
    y = 0.845
    for kind in reversed(kinds):
        value = alive.kinds[kind][alive.peak]
        part.text(LEFT, y, "■", color=_colour(theme, kind), fontsize=10, va="center")
        part.text(LEFT + 0.016, y, kind.replace("_", " "), fontsize=10, va="center")
        part.text(LEFT + WIDTH, y, f"{binary(value)}  {percent(value, alive.total)}", fontsize=10, va="center", ha="right")
        y -= 0.04
    y -= 0.03
    part.text(LEFT, y, "Whose it is at the peak", fontsize=11, fontweight="bold", va="center")
    for path, value in alive.owners[:NAMED]:
        y -= 0.045
        name = printable(path) or "the model itself"
        part.text(LEFT, y, name if len(name) < 31 else "…" + name[-30:], fontsize=9.5, va="center")
        part.text(LEFT + WIDTH, y, binary(value), fontsize=9.5, va="center", ha="right")
        part.add_axes((LEFT, y - 0.022, WIDTH * value / alive.owners[0][1], 0.006)).set_axis_off()
        part.axes[-1].barh(0, 1, color=theme.faint)
        part.axes[-1].set_xlim(0, 1)
