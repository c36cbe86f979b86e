"""The plane of a roofline picture: its limits, the roofs that times rest on, the floor of starting, the strip at the left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from roofline.records import Analysis, DeviceInfo
from roofline.units import si
from roofline.views.ink import Theme, behind, seconds
from roofline.views.labels import along, meets
from roofline.views.points import Bubble, Frame, bubbles
from roofline.views.style import BOUND_COLOUR, Slope, kept, of_nominal, roofs, slopes

# Waiting and starting that take less than this share of the time make no floor worth a line.
FLOOR = 0.2


def axes(ax: Axes, theme: Theme, at: Frame, *, first: bool = True, narrow: bool = False) -> None:
    """Scales, ticks, grid and their names; the strip, where there is one. `first`: of a row, it names its FLOP/s."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(at.edge, at.right)
    ax.set_ylim(at.low, at.high)
    size = 9 if narrow else 11
    ax.set_xlabel("FLOP per byte moved" if narrow else "arithmetic intensity (FLOP per byte moved)", fontsize=size)
    if first:
        ax.set_ylabel("FLOP/s", fontsize=size)
    ax.xaxis.set_major_locator(FixedLocator([10.0**n for n in range(-6, 10) if at.left <= 10.0**n <= at.right]))
    ax.xaxis.set_minor_locator(
        FixedLocator([m * 10.0**n for n in range(-6, 10) for m in range(2, 10) if at.left <= m * 10.0**n <= at.right])
    )
    ax.yaxis.set_major_locator(LogLocator(10, numticks=12))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v < 1e4 else si(v)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: si(v).replace(" ", "")))
    ax.grid(True, which="major", color=theme.grid, linewidth=0.8, zorder=0)
    ax.tick_params(which="minor", length=2, color=theme.grid)
    ax.tick_params(which="major", length=4, color=theme.faint, labelsize=8.5 if narrow else 10)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if at.edge < at.left:
        ax.axvspan(at.edge, at.left, color=theme.grid, alpha=0.55, linewidth=0, zorder=0.4)
        ax.annotate(
            "no\narithmetic,\nby B/s",
            (at.strip, 0),
            (0, -7),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7 if narrow else 8,
            color=theme.soft,
            annotation_clip=False,
            linespacing=1.15,
        )


class Roofs:
    """Draws the roofs of one device, and gathers the boxes (in pixels) that no label may cover."""

    def __init__(
        self,
        ax: Axes,
        theme: Theme,
        at: Frame,
        device: DeviceInfo,
        spots: Sequence[Bubble],
        stars: Sequence[tuple[float, float]],
        *,
        narrow: bool = False,
    ) -> None:
        self.ax, self.theme, self.at, self.device, self.spots, self.narrow = ax, theme, at, device, spots, narrow
        self.taken: list[Bbox] = []
        heights = [(b.x, max(y, at.bottom)) for b in spots for y in dict.fromkeys((b.reached or b.y, b.alone)) if y]
        # the slopes as small boxes, and where marks are: in pixels
        self.lines: list[Bbox] = []
        self.points = ax.transData.transform(heights).tolist() if heights else []
        wide = 6 * ax.figure.dpi / 72
        spread = ax.transData.transform(stars).tolist() if stars else []
        self.stars = [Bbox.from_extents(x - wide, y - wide, x + wide, y + wide) for x, y in spread]
        self.size = 8.0 if narrow else 9.5

    def draw(self, dtype: str, dtypes: set[str]) -> list[Bbox]:
        """All of it; gives back those boxes."""
        device = self.device
        part = kept(device)
        compute = roofs(device.peaks, dtype, dtypes, device.peak_flops)
        levels = slopes(device)
        self._regions(device.peak_flops * part, levels[-1].reached, device.ridge)
        self._slopes(levels, device.peak_flops * part, max(v for _, v in compute) * part)
        self._nominal(levels[-1], device.peak_flops, part)
        self._flats(compute, device.peak_flops, part, levels)
        if self.at.left < device.ridge < self.at.right:
            self._ridge(device.ridge, device.peak_flops)
        return self.taken

    def _regions(self, peak: float, dram: float, ridge: float) -> None:
        """The two regions under the bold roof."""
        at = self.at
        knee, split = (min(max(x, at.left), at.right) for x in (peak / dram, ridge))
        first, last, under = min(knee, split), max(knee, split), min(peak, dram * split)
        self.ax.fill(
            [at.left, first, split, split, at.left],
            [dram * at.left, dram * first, under, at.low, at.low],
            color=BOUND_COLOUR["memory"],
            alpha=self.theme.tint,
            linewidth=0,
            zorder=0.5,
        )
        self.ax.fill(
            [split, last, at.right, at.right, split],
            [under, peak, peak, at.low, at.low],
            color=BOUND_COLOUR["compute"],
            alpha=self.theme.tint,
            linewidth=0,
            zorder=0.5,
        )

    def _line(self, xs: list[float], ys: list[float], bold: bool = False, **style: Any) -> None:
        theme = self.theme
        ink: dict[str, Any] = {
            "color": theme.ink if bold else theme.faint,
            "linewidth": 2.2 if bold else 1.2,
            "zorder": 2.0,
        } | style
        self.ax.plot(xs, ys, solid_capstyle="round", **ink)

    def _slopes(self, levels: Sequence[Slope], peak: float, highest: float) -> None:
        """The memory roofs, flat within the strip, where the height is bytes per second at the left edge."""
        at = self.at
        ends: list[tuple[float, float]] = []
        for level in reversed(levels):
            bold = level is levels[-1]
            meet = peak if bold else highest
            start = level.reached * at.left
            steps = [at.left * (meet / level.reached / at.left) ** (i / 120) for i in range(121)]
            pixels = self.ax.transData.transform([(x, level.reached * x) for x in steps])
            self.lines += [Bbox.from_extents(x - 1, y - 1, x + 1, y + 1) for x, y in pixels]
            self._line([at.edge, at.left, meet / level.reached], [start, start, meet], bold)
            short = f"{level.name}  {si(level.reached, 'B/s', 3)}"
            full = f"{level.name}  {of_nominal(level.reached, level.nominal, 'B/s')}"
            end = 0.0 if self.narrow else self._along(full, level.reached, meet, ends, bold=bold, needed=False)
            ends.append((level.reached, end or self._along(short, level.reached, meet, ends, bold=bold, needed=bold)))

    def _along(
        self, words: str, bandwidth: float, meet: float, others: Sequence[tuple[float, float]], *, bold: bool, needed: bool
    ) -> float:
        """Writes a bandwidth along its roof, near its left end, beyond another's words; where it ends (0: no room). What is
        needed covers a star where there is no other room."""
        ax, at = self.ax, self.at
        x = max(at.left, at.low / bandwidth)
        (x0, y0), (x1, y1) = ax.transData.transform([(x, bandwidth * x), (x * 10, bandwidth * x * 10)])
        x *= 10 ** (14 * ax.figure.dpi / 72 / (x1 - x0))
        angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
        scale = ax.figure.dpi / 72
        for other, end in others:
            apart = abs(math.log10(bandwidth / other)) * (y1 - y0) * math.cos(math.radians(angle)) / scale
            if apart < 1.75 * self.size and end > x:
                x = end * 10 ** (10 * scale / (x1 - x0))
        up = math.radians(angle)
        text = ax.annotate(
            words,
            (x, bandwidth * x),
            (-4 * math.sin(up), 4 * math.cos(up)),
            textcoords="offset points",
            rotation=angle,
            rotation_mode="anchor",
            ha="left",
            va="bottom",
            fontsize=self.size,
            color=self.theme.ink if bold else self.theme.soft,
            fontweight="bold" if bold else "normal",
            zorder=6,
            bbox=behind(self.theme),
        )
        boxes = self._off_marks(text, angle, x, bandwidth, meet, 10 ** (12 * scale / (x1 - x0)))
        x = text.xy[0]
        end = x * 10 ** ((boxes[-1].x1 - boxes[0].x0) / (x1 - x0))
        if (not bold and end > meet / bandwidth) or (not needed and any(meets(star, boxes) for star in self.stars)):
            text.remove()
            return 0.0
        self.taken += boxes
        return float(end)

    def _off_marks(self, text: Annotation, angle: float, x: float, bandwidth: float, meet: float, step: float) -> list[Bbox]:
        """The boxes of words along a roof, moved along it from `x` to where they cover the fewest marks."""
        best: tuple[int, float] | None = None
        found: dict[float, list[Bbox]] = {}
        at = x
        while at == x or at < meet / bandwidth:
            text.xy = (at, bandwidth * at)
            boxes = found[at] = along(text, angle)
            # not beside the names of the flat roofs
            if at > x and (boxes[-1].x1 > self.ax.transData.transform((meet / bandwidth / 8, 1.0))[0] or self._meets(boxes)):
                break
            covered = sum(self._covered(box) for box in boxes)
            if best is None or covered < best[0]:
                best = covered, at
            if not covered:
                break
            at *= step
        x = best[1] if best else x
        text.xy = (x, bandwidth * x)
        return found[x]

    def _meets(self, boxes: Sequence[Bbox]) -> bool:
        return any(meets(box, self.taken) for box in boxes)

    def _nominal(self, dram: Slope, peak: float, part: float) -> None:
        """What the data sheet says, dashed, where it is not what is reached."""
        at = self.at
        dashed: dict[str, Any] = {"color": self.theme.soft, "linewidth": 1.2, "linestyle": (0, (4, 3)), "zorder": 1.8}
        if abs(dram.nominal / dram.reached - 1) > 0.03:
            self._line([at.left, peak / dram.nominal], [dram.nominal * at.left, peak], **dashed)
        if abs(part - 1) > 0.03:
            self._line([peak / dram.nominal, at.right], [peak, peak], **dashed)

    def _flats(self, compute: Sequence[tuple[str, float]], nominal: float, part: float, levels: Sequence[Slope]) -> None:
        """The compute roofs; the one that bounds the analysis is bold and has its words first."""
        at, peak, dram = self.at, nominal * part, levels[-1].reached
        fastest = max(level.reached for level in levels)
        for name, full in sorted(compute, key=lambda line: abs(line[1] - nominal)):
            value = full * part
            bold = abs(value - peak) <= 0.03 * peak
            self._line([value / (dram if bold else fastest), at.right], [value, value], bold)
            if bold and fastest > dram:
                self._line([value / fastest, value / dram], [value, value])
            said = of_nominal(value, full, "FLOP/s") if bold and not self.narrow else si(value, "FLOP/s", 3)
            self._words(f"{name}  {said}", value, nominal if bold else 0.0, bold)

    def _words(self, words: str, value: float, dashed: float, bold: bool) -> None:
        """A name at the right end of a flat roof: above it or below, off the others and off the dashed line."""
        text = self._flat(words, value, bold)
        dram = dashed and dashed / slopes(self.device)[-1].nominal
        start, level = (
            self.ax.transData.transform((dram or 1.0, dashed or 1.0)) if dashed and abs(dashed / value - 1) > 0.03 else (0, 0)
        )
        tries = ((1, 1.0), (-1, 1.0), (1, 0.72), (1, 0.6), (-1, 0.72))
        # off the slopes too, where that can be
        for way, x, lines in [*((*one, True) for one in tries), *((*one, False) for one in tries)]:
            text.xy = (self.at.edge * (self.at.right / self.at.edge) ** x, value)
            text.set_position((-4, 3 * way))
            text.set_verticalalignment("bottom" if way > 0 else "top")
            box = text.get_window_extent()
            if (out := self.ax.get_window_extent().x0 - box.x0) > 0:
                text.set_position((out * 72 / self.ax.figure.dpi, 3 * way))
                box = text.get_window_extent()
            full = meets(box, self.taken) or (box.x1 > start and box.y0 < level < box.y1) or self._covers(box)
            full = full or (lines and meets(box, self.lines))
            if not full:
                break
        else:
            if not bold:
                text.remove()
                return
            text.xy = (self.at.right, value)
            text.set_position((-4, 3))
            text.set_verticalalignment("bottom")
        self.taken.append(text.get_window_extent())

    def _flat(self, words: str, value: float, bold: bool) -> Annotation:
        theme = self.theme
        return self.ax.annotate(
            words,
            (self.at.right, value),
            (-4, 3),
            zorder=6,
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=self.size,
            color=theme.ink if bold else theme.soft,
            fontweight="bold" if bold else "normal",
            bbox=behind(theme),
        )

    def _covers(self, box: Bbox) -> bool:
        """Whether kernels that take time lie under it."""
        return self._covered(box) > 0

    def _covered(self, box: Bbox) -> int:
        """How many marks lie under it, hollow ones too; a star is worth many."""
        marks = sum(1 for x, y in self.points if box.x0 < x < box.x1 and box.y0 < y < box.y1)
        return marks + 20 * meets(box, self.stars)

    def _ridge(self, ridge: float, peak: float) -> None:
        at, theme = self.at, self.theme
        self._line([ridge, ridge], [at.low, peak], linewidth=1, linestyle=(0, (2, 3)), zorder=1.5)
        words: list[tuple[str, str, int, str]] = [
            ("bytes take longer  ", "right", 6, theme.words(BOUND_COLOUR["memory"])),
            ("  FLOPs take longer", "left", 6, theme.words(BOUND_COLOUR["compute"])),
            (f"ridge {si(ridge, digits=3)} FLOP/B", "center", 21, theme.soft),
        ]
        self.ax.plot(
            [ridge],
            [peak],
            marker="o",
            markersize=6,
            color=theme.paper,
            markeredgecolor=theme.ink,
            markeredgewidth=1.6,
            zorder=5,
        )
        for text, ha, up, colour in words[2:] if self.narrow else words:
            shown = self.ax.annotate(
                text,
                (ridge, at.low),
                (0, 6 if self.narrow else up),
                textcoords="offset points",
                ha=ha,
                va="bottom",
                fontsize=self.size - 0.5,
                color=colour,
                zorder=6,
                bbox=behind(theme),
            )
            self.taken.append(shown.get_window_extent())


def floor(ax: Axes, theme: Theme, at: Frame, a: Analysis, taken: list[Bbox], *, narrow: bool = False) -> None:
    """The FLOP/s that the model would reach if its work took no time at all: what waiting and starting leave."""
    t = a.totals
    spent = t.time_by_bound.get("overhead", 0.0)
    if not t.flops or spent < FLOOR * t.time_s:
        return
    value = t.flops / spent
    if not at.low < value < at.high:
        return
    colour = theme.mark(BOUND_COLOUR["overhead"])
    ax.plot([at.left, at.right], [value, value], color=colour, linewidth=1.3, linestyle=(0, (6, 2, 1, 2)), zorder=2.4)
    what = "waiting and starting" if a.device.kind == "gpu" else "dispatching and starting"
    words = f"{what} alone: {seconds(spent)}, at most {si(value, 'FLOP/s', 3)}"
    if narrow:
        words = f"starting alone: {si(value, 'FLOP/s', 2)}"
    for up, side, x in ((-3, "right", at.right), (3, "right", at.right), (3, "left", at.left), (-3, "left", at.left)):
        text = ax.annotate(
            words,
            (x, value),
            (-4 if side == "right" else 4, up),
            textcoords="offset points",
            ha=side,
            va="bottom" if up > 0 else "top",
            fontsize=7.6 if narrow else 8.8,
            color=theme.words(colour),
            zorder=6,
            bbox=behind(theme),
        )
        box = text.get_window_extent()
        if not meets(box, taken):
            taken.append(box)
            return
        text.remove()


def beads(at: Frame, device: DeviceInfo) -> Iterator[tuple[float, float, float]]:
    """Points along the bold roof that a label should leave free: FLOP/B, FLOP/s, radius in points."""
    top, dram = device.peak_flops * kept(device), slopes(device)[-1].reached
    for i in range(161):
        x = at.left * (at.right / at.left) ** (i / 160)
        yield x, min(top, dram * x), 3.0


def spots_of(analyses: Sequence[Analysis]) -> list[Bubble]:
    return [b for a in analyses for b in bubbles(a.kernels)]
