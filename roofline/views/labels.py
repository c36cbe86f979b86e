"""Labels beside points, placed where they cover neither each other nor, where there is room, points and lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from roofline.views.ink import Theme, behind

# Directions from a point in which a label is tried, the right first.
_AROUND = [
    (math.cos(a * math.pi / 8), math.sin(a * math.pi / 8)) for a in (0, 8, 1, -1, 4, -4, 7, -7, 2, -2, 3, -3, 5, -5, 6, -6)
]


class Label(NamedTuple):
    """What is written beside a point: the point in data units, its radius in points, the words."""

    x: float
    y: float
    radius: float
    words: str
    colour: str
    bold: bool = False


def place(
    ax: Axes, theme: Theme, words: list[Bbox], marks: list[Bbox], labels: Sequence[Label], stars: Sequence[Bbox] = ()
) -> None:
    """Writes each label where it covers no other word, point or line; one without room is left out. What is bold, and the first
    of the others, covers points where there is no other room, but no star."""
    inside = ax.get_window_extent()
    scale = ax.figure.dpi / 72
    first = next((label for label in labels if not label.bold), None)
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
        room = _Room(inside, words, marks, scale)
        spot = room.free((x, y), label.radius, (width, height), rings=20)
        if spot is None and (label.bold or label is first):
            spot = room._replace(marks=stars).free((x, y), label.radius, (width, height), rings=16)
        if spot is None:
            text.remove()
            continue
        dx, dy, box = spot
        text.set_position((dx, dy))
        words.append(box)
        end = _end(dx, dy, width, height)
        if math.hypot(*end) > label.radius + 9:
            marks += room.beads((x, y), end)
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


def _end(dx: float, dy: float, width: float, height: float) -> tuple[float, float]:
    """Where a line from a point to a box beside it ends, all from the point."""
    return min(max(0.0, dx), dx + width), min(max(0.0, dy), dy + height)


class _Room(NamedTuple):
    """What a label finds: the axes, the words that none may cover, the marks that it should not; boxes in pixels."""

    inside: Bbox
    words: Sequence[Bbox]
    marks: Sequence[Bbox]
    scale: float

    def free(
        self, at: tuple[float, float], radius: float, size: tuple[float, float], rings: int
    ) -> tuple[float, float, Bbox] | None:
        """The nearest offset (in points) of a box around a point that stays inside the axes, off every taken box, and has a
        line to the point that runs under no words."""
        (width, height), scale = size, self.scale
        taken = [*self.words, *self.marks]
        for ring in range(rings):
            out = radius + 3.0 + 8.0 * ring
            for x, y in _AROUND:
                dx, dy = out * x + (x - 1) / 2 * width, out * y + (y - 1) / 2 * height
                left, low = (at[0] + dx) * scale, (at[1] + dy) * scale
                box = Bbox.from_extents(left - 2, low - 1, left + width * scale + 2, low + height * scale + 1)
                if box.x0 < self.inside.x0 or box.x1 > self.inside.x1 or box.y0 < self.inside.y0 or box.y1 > self.inside.y1:
                    continue
                if meets(box, taken):
                    continue
                if ring < 2 or not any(meets(bead, self.words) for bead in self.beads(at, _end(dx, dy, width, height))):
                    return dx, dy, box
        return None

    def beads(self, at: tuple[float, float], end: tuple[float, float]) -> list[Bbox]:
        """The line from a point to the end beside it, as small boxes."""
        number = max(2, int(math.hypot(*end) / 4))
        found = []
        for i in range(1, number):
            x, y = ((o + e * i / number) * self.scale for o, e in zip(at, end, strict=True))
            found.append(Bbox.from_extents(x - 1, y - 1, x + 1, y + 1))
        return found


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
