"""The roofline picture: PNG, SVG or PDF, drawn by matplotlib without a display.

One analysis fills a picture with its kernels (or layers); several on one device are compared in one picture; each
device has its own.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from roofline.analysis.explain import compare, facts, reason
from roofline.analysis.explain import label as distinct_name
from roofline.records import Analysis, DeviceInfo, KernelRow, LayerRow
from roofline.units import percent, si
from roofline.views.ink import FAINT, GRID, INK, SERIES, SOFT, darker, halo, printable
from roofline.views.labels import Label, place
from roofline.views.points import Bubble, blocks, bubbles, time_of
from roofline.views.side import side_many, side_one
from roofline.views.style import BOUND_COLOUR, ClassStyle, class_style, kept, of_nominal, roofs, slopes

By = Literal["kernel", "layer"]
Format = Literal["png", "svg", "pdf"]

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "svg.hashsalt": "roofline",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
NOMINAL: Any = {"color": SOFT, "linewidth": 1.2, "linestyle": (0, (4, 3)), "zorder": 1.8}
# Waiting that takes a kernel to less than this share of the FLOP/s of its work is drawn.
APART = 0.8
# A kernel further below the peak than this is drawn on the lower edge: one cast must not squash the picture.
DECADES = 5.5
WIDTH, HEIGHT = 12.6, 7.4
DPI = 150


def draw(analyses: Sequence[Analysis], path: str | Path, *, by: By = "kernel") -> None:
    """Writes the picture to `path`; its suffix (.png, .svg, .pdf) is the format. OSError where it cannot be written."""
    path = Path(path)
    form: Any = path.suffix[1:].lower()
    path.write_bytes(picture(analyses, form, by=by))


def picture(analyses: Sequence[Analysis], form: Format = "png", *, by: By = "kernel") -> bytes:
    """The picture as a file's content. The same analyses give the same bytes."""
    panels: dict[tuple[str, float], list[Analysis]] = defaultdict(list)
    for a in analyses:
        panels[a.device.name, a.device.peak_flops].append(a)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(panels)), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        parts = figure.subfigures(len(panels), 1, squeeze=False)[:, 0]
        for part, group in zip(parts, panels.values(), strict=True):
            _panel(part, group, by)
        out = io.BytesIO()
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
        figure.savefig(out, format=form, metadata=metadata)
    return out.getvalue()


class Frame(NamedTuple):
    """The limits of the axes."""

    left: float
    right: float
    low: float
    high: float


def _rows(a: Analysis, by: By) -> Sequence[KernelRow] | Sequence[LayerRow]:
    return blocks(a.layers) if by == "layer" else a.kernels


def _panel(part: SubFigure, group: Sequence[Analysis], by: By) -> None:
    first = group[0]
    device = first.device
    frame = _frame(group, device, by)
    main: Axes = part.add_axes((0.068, 0.125, 0.62, 0.695))
    _axes(main, frame)
    spots = [b for a in group for b in bubbles(_rows(a, by))]
    lines = _roofs(main, frame, device, first.setting.dtype, {k.dtype for a in group for k in a.kernels}, spots)
    if len(group) == 1:
        sentence = printable(reason(first))
        _title(part, printable(first.model.name), device, " · ".join(facts(first)), sentence)
        labels = _kernels(main, frame, first, by)
        side_one(part, first)
    else:
        _title(part, f"{len(group)} models" if len({a.model.name for a in group}) > 1 else printable(first.model.name),
               device, _shared(group), printable(compare(group)))  # fmt: skip
        labels = _compare(main, frame, group)
        side_many(part, group)
    place(main, lines, _marks(main, frame, device, labels, spots), labels)
    tool = first.tool
    part.text(0.985, 0.018, f"roofline {tool.roofline}, torch {tool.torch}", ha="right", fontsize=8, color=FAINT)


def _shared(group: Sequence[Analysis]) -> str:
    """The settings that all have in common."""
    settings = [facts(a) for a in group]
    return " · ".join(fact[0] for fact in zip(*settings, strict=True) if len(set(fact)) == 1)


def _title(part: SubFigure, name: str, device: DeviceInfo, setting: str, sentence: str) -> None:
    name = name if len(name) <= 44 else name[:43] + "…"
    words = f"{name} on {printable(device.title or device.name)}"
    title = part.text(0.02, 0.955, words, fontsize=17, fontweight="bold", va="center")
    room = 0.69 * part.bbox.width
    if (wide := title.get_window_extent().width) > room:
        title.set_fontsize(17 * room / wide)
    part.text(0.02, 0.912, setting, fontsize=10.5, color=SOFT, va="center")
    lines = textwrap.wrap(re.sub(r"\bus\b", "µs", sentence), 108)
    part.text(0.02, 0.889, "\n".join(lines[:2]), fontsize=10.5, color=INK, va="top", linespacing=1.35)


def _frame(group: Sequence[Analysis], device: DeviceInfo, by: By) -> Frame:
    spots = [b for a in group for b in bubbles(_rows(a, by))]
    ridge, peak = device.ridge or 1.0, device.peak_flops
    xs = [b.x for b in spots] or [ridge]
    ys = [y for b in spots for y in (b.y, b.reached, b.alone) if y] or [peak]
    top = max(peak, *device.peaks.values()) if device.peaks else peak
    shown = max(v for _, v in roofs(device.peaks, group[0].setting.dtype, {k.dtype for a in group for k in a.kernels}, peak))
    high = max(min(top, shown), max(ys)) * 2.6
    low = max(min(ys) / 2.5, high / 10**DECADES)
    return Frame(min(min(xs) / 1.8, ridge / 30), max(max(xs) * 2.2, ridge * 12), min(low, peak / 300), high)


def _axes(ax: Axes, frame: Frame) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(frame.left, frame.right)
    ax.set_ylim(frame.low, frame.high)
    ax.set_xlabel("arithmetic intensity (FLOP per byte moved)", fontsize=11)
    ax.set_ylabel("FLOP/s", fontsize=11)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(10, numticks=12))
        axis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v < 1e4 else si(v)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: si(v).replace(" ", "")))
    ax.grid(True, which="major", color=GRID, linewidth=0.8, zorder=0)
    ax.tick_params(which="minor", length=2, color=GRID)
    ax.tick_params(which="major", length=4, color=FAINT)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _roofs(ax: Axes, frame: Frame, device: DeviceInfo, dtype: str, dtypes: set[str],
           spots: Sequence[Bubble]) -> list[Bbox]:  # fmt: skip
    """Draws the roofs; gives back the boxes (in pixels) that no label may cover."""
    part = kept(device)
    peak, nominal, ridge = device.peak_flops * part, device.peak_flops, device.ridge
    compute = roofs(device.peaks, dtype, dtypes, nominal)
    highest = max(v for _, v in compute) * part
    levels = slopes(device)
    dram = levels[-1].reached
    # the two regions under the bold roof
    knee, split = (min(max(x, frame.left), frame.right) for x in (peak / dram, ridge))
    first, last, under = min(knee, split), max(knee, split), min(peak, dram * split)
    ax.fill([frame.left, first, split, split, frame.left], [dram * frame.left, dram * first, under, frame.low, frame.low],
            color=BOUND_COLOUR["memory"], alpha=0.055, linewidth=0, zorder=0.5)  # fmt: skip
    ax.fill([split, last, frame.right, frame.right, split], [under, peak, peak, frame.low, frame.low],
            color=BOUND_COLOUR["compute"], alpha=0.055, linewidth=0, zorder=0.5)  # fmt: skip
    taken = []
    for level in levels:
        bold, bandwidth = level is levels[-1], level.reached
        meet = peak if bold else highest
        ax.plot([frame.left, meet / bandwidth], [bandwidth * frame.left, meet], color=INK if bold else FAINT,
                linewidth=2.2 if bold else 1.2, solid_capstyle="round", zorder=2)  # fmt: skip
        words = f"{level.name}  {of_nominal(bandwidth, level.nominal, 'B/s')}"
        taken.append(_slope_label(ax, frame, words, bandwidth, meet, bold))
    # what the data sheet says, dashed, where it is not what is reached
    if level.nominal > 1.03 * dram:
        ax.plot([frame.left, nominal / level.nominal], [level.nominal * frame.left, nominal], **NOMINAL)
    if nominal > 1.03 * peak:
        ax.plot([nominal / level.nominal, frame.right], [nominal, nominal], **NOMINAL)
    fastest = max(level.reached for level in levels)
    for name, full in compute:
        value = full * part
        bold = abs(value - peak) <= 0.03 * peak
        ax.plot([value / (dram if bold else fastest), frame.right], [value, value], color=INK if bold else FAINT,
                linewidth=2.2 if bold else 1.2, zorder=2)  # fmt: skip
        if bold:
            ax.plot([value / fastest, value / dram], [value, value], color=FAINT, linewidth=1.2, zorder=2)
        # above the line, unless kernels sit there
        under = not bold and any(b.x > frame.right / 30 and value < b.y < 1.4 * value for b in spots)
        words = f"{name}  {of_nominal(value, full, 'FLOP/s')}"
        text = ax.annotate(words, (frame.right, value), (-4, -3 if under else 3), zorder=6,
                           textcoords="offset points", ha="right", va="top" if under else "bottom", fontsize=9.5,
                           color=INK if bold else SOFT,
                           fontweight="bold" if bold else "normal", path_effects=halo())  # fmt: skip
        taken.append(text.get_window_extent())
    if frame.left < ridge < frame.right:
        ax.plot([ridge, ridge], [frame.low, nominal], color=FAINT, linewidth=1, linestyle=(0, (2, 3)), zorder=1.5)
        for words, side, ha in (("bytes take longer  ", ridge, "right"), ("  FLOPs take longer", ridge, "left")):
            colour = BOUND_COLOUR["memory" if ha == "right" else "compute"]
            text = ax.annotate(words, (side, frame.low), (0, 6), textcoords="offset points", ha=ha, va="bottom", fontsize=9.5,
                               color=darker(colour), zorder=6)  # fmt: skip
            taken.append(text.get_window_extent())
        ax.plot([ridge], [nominal], marker="o", markersize=6, color="white", markeredgecolor=INK, markeredgewidth=1.6, zorder=5)
        text = ax.annotate(f"ridge {si(ridge, digits=3)} FLOP/B", (ridge, frame.low), (0, 21), textcoords="offset points",
                           ha="center", va="bottom", fontsize=9, color=SOFT, zorder=6,
                           path_effects=halo())  # fmt: skip
        taken.append(text.get_window_extent())
    return taken


def _slope_label(ax: Axes, frame: Frame, words: str, bandwidth: float, meet: float, bold: bool) -> Bbox:
    """Writes a bandwidth along its roof, near the left end."""
    start = max(frame.left, frame.low / bandwidth)
    at = start * (meet / bandwidth / start) ** 0.04
    p, q = ax.transData.transform([(at, bandwidth * at), (at * 10, bandwidth * at * 10)])
    angle = math.degrees(math.atan2(q[1] - p[1], q[0] - p[0]))
    radians = math.radians(angle)
    text = ax.annotate(words, (at, bandwidth * at), (-4 * math.sin(radians), 4 * math.cos(radians)), textcoords="offset points",
                       rotation=angle, rotation_mode="anchor", ha="left", va="bottom", fontsize=9.5,
                       color=INK if bold else SOFT, fontweight="bold" if bold else "normal", zorder=6,
                       path_effects=halo())  # fmt: skip
    return text.get_window_extent()


def _area(share: float) -> float:
    """Bubble area in square points."""
    return 22.0 + 1500.0 * share


def _kernels(ax: Axes, frame: Frame, a: Analysis, by: By) -> list[Label]:
    whole = time_of(a)
    spots = bubbles(_rows(a, by))
    labels: list[Label] = []
    lost = waits = 0
    for b in reversed(spots):
        share = b.time_s / whole
        style = class_style(b.klass)
        if by == "layer":
            style = ClassStyle(b.klass, BOUND_COLOUR.get(b.klass, FAINT), "o")
        y = max(b.reached or b.y, frame.low * 1.12)
        lost += (b.reached or b.y) < frame.low * 1.12
        if b.reached and share >= 0.005:
            expected = max(b.y, frame.low * 1.12)
            ax.plot([b.x, b.x], [expected, y], color=style.colour, linewidth=0.9, alpha=0.6, zorder=2.8)
            ax.scatter([b.x], [expected], s=26, marker="_", color=style.colour, linewidths=1.4, zorder=3.2)
        elif b.alone and b.y < APART * b.alone:
            # the work alone, hollow, joined to where waiting puts it
            waits += 1
            ax.plot([b.x, b.x], [b.alone, y], color=style.colour, linewidth=0.8, alpha=0.45, zorder=2.7)
            ax.scatter([b.x], [b.alone], s=0.5 * _area(share), marker=style.marker, facecolors="none",
                       edgecolors=style.colour, linewidths=1.1, zorder=2.9)  # fmt: skip
        ax.scatter([b.x], [y], s=_area(share), color=style.colour, marker=style.marker if y > frame.low * 1.12 else "v",
                   alpha=0.72, edgecolors="white", linewidths=0.7, zorder=3)  # fmt: skip
        if len(labels) < 8 and share >= 0.02:
            times = f" ×{b.number}" if b.number > 1 else ""
            words = f"{printable(b.name)}{times}  {percent(b.time_s, whole)}"
            labels.append(Label(b.x, y, math.sqrt(_area(share)) / 2, words, style.colour))
    _silent(ax, a, lost, waits)
    return [*_whole(ax, frame, a, INK, "whole model"), *labels]


def _silent(ax: Axes, a: Analysis, lost: int, waits: int) -> None:
    """Says what a log scale cannot show."""
    silent = [k for k in a.kernels if not k.flops]
    lines = []
    if silent:
        took = percent(sum(k.measured_s or k.time_s for k in silent), time_of(a))
        kind = "kernel does" if len(silent) == 1 else "kernels do"
        lines.append(f"Not drawn: {len(silent):,} {kind} no arithmetic ({took} of the time)")
    if a.measurement:
        lines.append("Bubbles: as measured. Dashes: as predicted")
    if waits:
        lines.append("Hollow: the work alone. Filled: with waiting and starting")
    if lost:
        lines.append(f"▼ {lost:,} lie below this scale")
    if lines:
        ax.annotate("\n".join(lines), (0, 0), (0, -42), xycoords="axes fraction", textcoords="offset points", va="top",
                    fontsize=8.5, color=SOFT, annotation_clip=False)  # fmt: skip


def _whole(ax: Axes, frame: Frame, a: Analysis, colour: str, name: str) -> list[Label]:
    """The model as one point, and how far it stays below its roof."""
    t = a.totals
    if not (t.flops and t.bytes and t.achieved_flops):
        return []
    reached = t.flops / time_of(a)
    y = max(reached, frame.low * 1.12)
    roof = min(a.device.peak_flops * kept(a.device), slopes(a.device)[-1].reached * t.intensity)
    words = f"{name}: {si(t.intensity, digits=3)} FLOP/B, {si(reached, 'FLOP/s', 3)}"
    if roof > 1.25 * reached:
        ax.plot([t.intensity, t.intensity], [y, roof], color=colour, linewidth=1.3, linestyle=(0, (1, 2)), zorder=4)
        words += f"\n{si(roof / reached, digits=2)}× below the roof"
    ax.scatter([t.intensity], [y], s=190, marker="*", color=colour, edgecolors="white", linewidths=1.1, zorder=7)
    return [Label(t.intensity, y, 8, words, colour, bold=True)]


def _compare(ax: Axes, frame: Frame, group: Sequence[Analysis]) -> list[Label]:
    labels: list[Label] = []
    for i, a in enumerate(group):
        colour = SERIES[i % len(SERIES)]
        spots = [b for b in bubbles(a.kernels) if b.y >= frame.low]
        ax.scatter([b.x for b in spots], [b.y for b in spots], s=[0.4 * _area(b.time_s / a.totals.time_s) for b in spots],
                   color=colour, alpha=0.28, linewidths=0, zorder=3)  # fmt: skip
        labels += _whole(ax, frame, a, colour, printable(distinct_name(a, group)))
    return labels


def _marks(ax: Axes, frame: Frame, device: DeviceInfo, labels: Sequence[Label], spots: Sequence[Bubble]) -> list[Bbox]:
    """Boxes around the points, and beads along the bold roof, that a label should leave free."""
    scale = ax.figure.dpi / 72
    beads = [(frame.left * (frame.right / frame.left) ** (i / 160), 3.0) for i in range(161)]
    top, dram = device.peak_flops * kept(device), slopes(device)[-1].reached
    around = [(x, min(top, dram * x), r) for x, r in beads]
    around += [(label.x, label.y, label.radius) for label in labels]
    around += [(b.x, max(y, frame.low), 4.0) for b in spots for y in (b.y, b.alone or b.y)]
    boxes = []
    for x, y, radius in around:
        px, py = ax.transData.transform((x, y))
        r = radius * scale * 0.8
        boxes.append(Bbox.from_extents(px - r, py - r, px + r, py + r))
    return boxes
