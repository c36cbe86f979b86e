"""The roofline in a terminal: plain characters, as wide as the terminal, 80 columns where there is none."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from roofline.errors import safe
from roofline.records import Analysis
from roofline.units import percent, seconds, si
from roofline.views.points import Frame, bubbles, frame, silent, time_of
from roofline.views.style import class_style, kept, roofs, slopes

HIGH = 18
# What stands for a class; one without a letter of its own is "x".
LETTERS = {
    "conv": "c", "depthwise_conv": "d", "grouped_conv": "g", "gemm": "m", "attention": "a", "rnn": "r", "pointwise": "e",
    "norm": "n", "softmax": "s", "reduction": "u", "pool": "p", "fft": "f", "layout": "l", "gather": "i", "sort": "o",
    "host": "h",
}  # fmt: skip
LEFT = 7


class Canvas:
    """Characters on the plane of a roofline; the strip of kernels without arithmetic is its first columns."""

    def __init__(self, at: Frame, wide: int) -> None:
        self.at, self.wide = at, wide
        self.cells = [[" "] * wide for _ in range(HIGH)]

    def column(self, x: float) -> int:
        part = math.log(x / self.at.edge) / math.log(self.at.right / self.at.edge)
        return min(max(round(part * (self.wide - 1)), 0), self.wide - 1)

    def row(self, y: float) -> int:
        part = math.log(y / self.at.low) / math.log(self.at.high / self.at.low)
        return min(max(HIGH - 1 - round(part * (HIGH - 1)), 0), HIGH - 1)

    def put(self, x: float, y: float, sign: str) -> None:
        self.cells[self.row(y)][self.column(x)] = sign

    def words(self, row: int, column: int, text: str) -> None:
        """Over blanks and roofs only: a point is never covered."""
        cells = self.cells[row]
        if column >= 0 and column + len(text) <= self.wide and all(c in " ./-" for c in cells[column : column + len(text)]):
            cells[column : column + len(text)] = list(text)


def render(a: Analysis, wide: int = 80) -> str:
    """The picture, no line longer than `wide`; ASCII, so that every terminal can show it."""
    spots = bubbles(a.kernels)
    at = frame([a], spots)
    canvas = Canvas(at, max(wide - LEFT - 1, 30))
    _roofs(canvas, a)
    _kernels(canvas, a)
    t = a.totals
    if t.flops and t.bytes and t.time_s:
        canvas.put(t.intensity, max(t.flops / time_of(a), at.bottom), "*")
    named = safe(a.device.title or a.device.name)
    lines = [
        f"{safe(a.model.name)} on {named}, {seconds(time_of(a))} {'measured' if a.measurement else 'predicted'}"[:wide],
        "FLOP/s",
    ]
    decades = {canvas.row(10.0**n): f"{si(10.0**n).replace(' ', '')}" for n in range(3, 18) if at.low <= 10.0**n <= at.high}
    lines += [f"{decades.get(i, ''):>{LEFT - 1}}|{''.join(cells)}".rstrip() for i, cells in enumerate(canvas.cells)]
    return "\n".join([*lines, *_axis(canvas, a), *_legend(a, wide)])


def _roofs(canvas: Canvas, a: Analysis) -> None:
    at, part = canvas.at, kept(a.device)
    peak = a.device.peak_flops * part
    highest = (
        max(v for _, v in roofs(a.device.peaks, a.setting.dtype, {k.dtype for k in a.kernels}, a.device.peak_flops)) * part
    )
    levels = slopes(a.device)
    for level in levels:
        last = level is levels[-1]
        top = peak if last else highest
        for c in range(canvas.wide):
            x = at.edge * (at.right / at.edge) ** (c / (canvas.wide - 1))
            y = level.reached * max(x, at.left)
            if y <= top and y >= at.low:
                canvas.put(x, y, "/" if last else ".")
            elif last and y > top:
                canvas.put(x, peak, "-")
    words = f"{a.device.peak_dtype or a.setting.dtype} {si(peak, 'FLOP/s', 3)}"
    canvas.words(max(canvas.row(peak) - 1, 0), canvas.wide - len(words) - 1, words)
    words = f"{levels[-1].name} {si(levels[-1].reached, 'B/s', 3)}"
    middle = math.sqrt(at.left * min(peak / levels[-1].reached, at.right))
    canvas.words(max(canvas.row(levels[-1].reached * middle) - 1, 0), canvas.column(middle) - len(words) - 2, words)


def _kernels(canvas: Canvas, a: Analysis) -> None:
    """In every cell the class that takes most of its time."""
    at = canvas.at
    cells: dict[tuple[int, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for b in bubbles(a.kernels):
        cells[canvas.row(max(b.reached or b.y, at.bottom)), canvas.column(b.x)][b.klass] += b.time_s
    for b in silent(a.kernels):
        cells[canvas.row(max((b.reached or b.y) * at.left, at.bottom)), canvas.column(at.strip)][b.klass] += b.time_s
    for (row, column), times in cells.items():
        canvas.cells[row][column] = LETTERS.get(max(times, key=lambda k: times[k]), "x")


def _axis(canvas: Canvas, a: Analysis) -> Iterable[str]:
    at = canvas.at
    line, ticks = ["-"] * canvas.wide, [" "] * (canvas.wide + 8)
    taken = -1
    for n in range(-6, 10):
        if at.left <= 10.0**n <= at.right:
            c = canvas.column(10.0**n)
            line[c] = "+"
            text = f"{10.0**n:g}" if n < 4 else si(10.0**n).replace(" ", "")
            start = max(c - len(text) // 2, 0)
            if start > taken and start + len(text) <= canvas.wide:
                ticks[start : start + len(text)] = list(text)
                taken = start + len(text)
    if at.left < a.device.ridge < at.right:
        line[canvas.column(a.device.ridge)] = "^"
    yield " " * (LEFT - 1) + "+" + "".join(line)
    yield (" " * LEFT + "".join(ticks)).rstrip()
    yield " " * LEFT + f"FLOP per byte, ^ ridge {si(a.device.ridge, digits=3)}"
    if at.edge < at.left:
        yield " " * LEFT + "first columns: no arithmetic, by bytes per second"


def _legend(a: Analysis, wide: int) -> list[str]:
    """The classes that are there with their share of the time, most first."""
    times: dict[str, float] = defaultdict(float)
    for k in a.kernels:
        times[k.klass] += k.measured_s or k.time_s
    parts = ["* whole model"]
    parts += [
        f"{LETTERS.get(klass, 'x')} {class_style(klass).title} {percent(took, time_of(a))}"
        for klass, took in sorted(times.items(), key=lambda item: -item[1])
    ]
    lines, line = list[str](), ""
    for part in parts:
        if line and len(line) + 3 + len(part) > wide:
            lines.append(line)
            line = ""
        line += ("   " if line else "") + part
    return [*lines, line]
