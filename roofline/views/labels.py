"""Labels beside points, placed where they cover neither each other nor, where there is room, points and lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from roofline.views.ink import Theme, behind


class Label(NamedTuple):
    """What is written beside a point: the point in data units, its radius in points, the words."""

    x: float
    y: float
    radius: float
    words: str
    colour: str
    bold: bool = False


def place(ax: Axes, theme: Theme, words: list[Bbox], marks: list[Bbox], labels: Sequence[Label]) -> None:
    """Writes each label where it covers no other, off points and lines where there is room; one without room is left out."""
    inside = ax.get_window_extent()
    scale = ax.figure.dpi / 72
    for label in labels:
        text = ax.annotate(
            label.words,
            (label.x, label.y),
            (0, 0),
            textcoords="offset points",
            va="bottom",
            linespacing=1.3,
            fontsize=9.6 if label.bold else 8.8,
            color=theme.ink if label.bold else theme.words(label.colour),
            zorder=8,
            fontweight="bold" if label.bold else "normal",
            bbox=behind(theme),
        )
        x, y = ax.transData.transform((label.x, label.y)) / scale
        size = text.get_window_extent()
        width, height = size.width / scale, size.height / scale
        spot = _free((x, y), label.radius, (width, height), inside, [*words, *marks], scale, rings=6) or _free(
            (x, y), label.radius, (width, height), inside, words, scale, rings=14
        )
        if spot is None:
            text.remove()
            continue
        dx, dy, box = spot
        text.set_position((dx, dy))
        words.append(box)
        end = min(max(0.0, dx), dx + width), min(max(0.0, dy), dy + height)
        if math.hypot(*end) > label.radius + 9:
            ax.annotate(
                "",
                (label.x, label.y),
                end,
                textcoords="offset points",
                zorder=7.5,
                arrowprops={
                    "arrowstyle": "-",
                    "color": theme.mark(label.colour),
                    "linewidth": 0.9,
                    "shrinkA": 0,
                    "shrinkB": label.radius * 0.7,
                },
            )


def _free(
    at: tuple[float, float],
    radius: float,
    size: tuple[float, float],
    inside: Bbox,
    taken: Sequence[Bbox],
    scale: float,
    rings: int,
) -> tuple[float, float, Bbox] | None:
    """The nearest offset (in points) of a box around a point that stays inside the axes and off every taken box."""
    width, height = size
    for ring in range(rings):
        out = radius + 3.0 + 8.0 * ring
        for dx, dy in (
            (out, -height / 2),
            (-out - width, -height / 2),
            (out * 0.8, out * 0.6),
            (out * 0.8, -out * 0.6 - height),
            (-width / 2, out),
            (-width / 2, -out - height),
            (-out * 0.8 - width, out * 0.6),
            (-out * 0.8 - width, -out * 0.6 - height),
        ):
            left, low = (at[0] + dx) * scale, (at[1] + dy) * scale
            box = Bbox.from_extents(left - 2, low - 1, left + width * scale + 2, low + height * scale + 1)
            if box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1:
                continue
            if not meets(box, taken):
                return dx, dy, box
    return None


def meets(box: Bbox, taken: Iterable[Bbox]) -> bool:
    return any(box.overlaps(other) for other in taken)


def along(text: Text, angle: float) -> list[Bbox]:
    """A rotated text as small boxes along it: the one box around it would be mostly empty."""
    text.set_rotation(0)
    flat = text.get_window_extent()
    text.set_rotation(angle)
    radians = math.radians(angle)
    way, up = (math.cos(radians), math.sin(radians)), (-math.sin(radians), math.cos(radians))
    x0, y0, high = flat.x0, flat.y0, flat.height
    steps = max(1, math.ceil(flat.width / high))
    boxes = []
    for i in range(steps):
        at = (i + 0.5) * flat.width / steps
        x, y = (o + at * w + 0.5 * high * u for o, w, u in zip((x0, y0), way, up, strict=True))
        boxes.append(Bbox.from_extents(x - 0.6 * high, y - 0.6 * high, x + 0.6 * high, y + 0.6 * high))
    return boxes
