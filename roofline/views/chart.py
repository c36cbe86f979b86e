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
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from roofline.records import Analysis, DeviceInfo, KernelRow, LayerRow
from roofline.units import binary, count, si
from roofline.units import seconds as plain_seconds
from roofline.verdict import compare, facts, rate, verdict
from roofline.verdict import label as distinct_name
from roofline.views.style import BOUND_COLOUR, ClassStyle, class_style, fullest, percent, roofs

By = Literal["kernel", "layer"]
Format = Literal["png", "svg", "pdf"]

INK, SOFT, FAINT, GRID = "#16202e", "#566173", "#9aa4b2", "#e7eaef"
# models in a comparison
SERIES = ("#2f6fde", "#f08a00", "#14955f", "#d83a8f", "#7a4fd0", "#13a5c8", "#8a5a2b", "#b8a100")
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
# A kernel further below the peak than this is drawn on the lower edge: one cast must not squash the picture.
DECADES = 5.5
LONGEST_NAME = 26
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


def printable(text: str) -> str:
    """`text` on one line, each character that the font lacks replaced by "?"."""
    has = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    return "".join(c if ord(c) in has and c.isprintable() else "?" for c in " ".join(text.split()))


def seconds(value: float) -> str:
    """A picture can carry the sign that a terminal may not."""
    return plain_seconds(value).replace("us", "µs")


def _halo() -> list[withStroke]:
    """A white rim that keeps text readable on lines and points."""
    return [withStroke(linewidth=2.8, foreground="white")]


def _darker(colour: str) -> str:
    """The colour for text: mixed with ink until it reads on white."""
    (r, g, b), (r0, g0, b0) = to_rgb(colour), to_rgb(INK)
    return to_hex((0.62 * r + 0.38 * r0, 0.62 * g + 0.38 * g0, 0.62 * b + 0.38 * b0))


class Bubble(NamedTuple):
    """Rows that would be drawn on one spot: how many, their seconds together, and what they are.

    `klass` is the class of kernels, the bound of layers.
    """

    x: float
    y: float
    time_s: float
    number: int
    name: str
    klass: str
    # FLOP/s that the same rows reached where the model was run; 0: it was not
    reached: float = 0.0


class Frame(NamedTuple):
    """The limits of the axes."""

    left: float
    right: float
    low: float
    high: float


def bubbles(rows: Sequence[KernelRow] | Sequence[LayerRow]) -> list[Bubble]:
    """Rows with arithmetic and time, those of one kind on one spot (within 2 %) together, longest last."""
    spots: dict[tuple[str, int, int], list[KernelRow | LayerRow]] = defaultdict(list)
    for r in rows:
        if r.flops and r.bytes and r.time_s:
            spot = (round(115 * math.log10(r.intensity)), round(115 * math.log10(r.flops / r.time_s)))
            spots[r.klass if isinstance(r, KernelRow) else r.type, *spot].append(r)
    out = []
    for group in spots.values():
        first = max(group, key=lambda r: r.time_s)
        name = _name(first) if len(group) == 1 else _kind(first)
        klass = first.klass if isinstance(first, KernelRow) else first.bound
        took = sum(r.measured_s or 0.0 for r in group)
        reached = sum(r.flops for r in group) / took if took else 0.0
        whole = took or sum(r.time_s for r in group)
        out.append(Bubble(first.intensity, first.flops / first.time_s, whole, len(group), name, klass, reached))
    return sorted(out, key=lambda b: b.time_s)


def blocks(layers: Sequence[LayerRow], share: float = 0.12) -> list[LayerRow]:
    """Layers that split the model between them: a layer with more than `share` of the time gives way to its children."""
    ran = {r.path: r for r in layers if r.kernels}
    below: dict[str, list[LayerRow]] = defaultdict(list)
    for path, r in ran.items():
        above = path
        while above:
            above = above.rpartition(".")[0]
            if above in ran:
                below[above].append(r)
                break
    out, open_ = [], [ran[""]] if "" in ran else []
    while open_:
        r = open_.pop()
        if below[r.path] and (r.time_s > share * layers[0].time_s or not r.path):
            open_ += below[r.path]
        else:
            out.append(r)
    return out


def _rows(a: Analysis, by: By) -> Sequence[KernelRow] | Sequence[LayerRow]:
    return blocks(a.layers) if by == "layer" else a.kernels


def _name(row: KernelRow | LayerRow) -> str:
    """The path, cut from the left at a dot where it is long, and the operator of a kernel."""
    path = row.path if isinstance(row, LayerRow) else row.layer
    short = path
    while len(short) > LONGEST_NAME and "." in short:
        short = short.partition(".")[2]
    short = ("…" if short != path else "") + short
    if isinstance(row, LayerRow):
        return short or "whole model"
    return f"{short} {row.op}".strip()


def _kind(row: KernelRow | LayerRow) -> str:
    """What rows on one spot have in common."""
    if isinstance(row, LayerRow):
        return row.type
    return f"depthwise {row.op}" if row.klass == "depthwise_conv" else row.op


def _panel(part: SubFigure, group: Sequence[Analysis], by: By) -> None:
    first = group[0]
    device = first.device
    frame = _frame(group, device, by)
    main: Axes = part.add_axes((0.068, 0.125, 0.62, 0.695))
    _axes(main, frame)
    spots = [b for a in group for b in bubbles(_rows(a, by))]
    lines = _roofs(main, frame, device, first.setting.dtype, {k.dtype for a in group for k in a.kernels}, spots)
    if len(group) == 1:
        sentence = printable(verdict(first)[1]) if first.kernels else ""
        _title(part, printable(first.model.name), device, " · ".join(facts(first)), sentence)
        labels = _kernels(main, frame, first, by)
        _side_one(part, first)
    else:
        _title(part, f"{len(group)} models" if len({a.model.name for a in group}) > 1 else printable(first.model.name),
               device, _shared(group), printable(compare(group)))  # fmt: skip
        labels = _compare(main, frame, group)
        _side_many(part, group)
    _place(main, lines, _marks(main, frame, device, labels, spots), labels)
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
    ys = [y for b in spots for y in (b.y, b.reached) if y] or [peak]
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
    peak, ridge = device.peak_flops, device.ridge
    compute = roofs(device.peaks, dtype, dtypes, peak)
    highest = max(v for _, v in compute)
    slopes = [(lv.name, lv.bandwidth) for lv in device.levels if lv.bandwidth > 0] or [("DRAM", device.bandwidth)]
    # the two regions under the bold roof
    knee = min(max(ridge, frame.left), frame.right)
    at_left, at_knee = device.bandwidth * frame.left, device.bandwidth * knee
    ax.fill([frame.left, knee, knee, frame.left], [at_left, at_knee, frame.low, frame.low],
            color=BOUND_COLOUR["memory"], alpha=0.055, linewidth=0, zorder=0.5)  # fmt: skip
    ax.fill([knee, frame.right, frame.right, knee], [peak, peak, frame.low, frame.low],
            color=BOUND_COLOUR["compute"], alpha=0.055, linewidth=0, zorder=0.5)  # fmt: skip
    taken = []
    for name, bandwidth in slopes:
        bold = bandwidth == device.bandwidth
        meet = peak if bold else highest
        ax.plot([frame.left, meet / bandwidth], [bandwidth * frame.left, meet], color=INK if bold else FAINT,
                linewidth=2.2 if bold else 1.2, solid_capstyle="round", zorder=2)  # fmt: skip
        taken.append(_slope_label(ax, frame, f"{name}  {si(bandwidth, 'B/s', 3)}", bandwidth, meet, bold))
    fastest = max(b for _, b in slopes)
    for name, value in compute:
        bold = abs(value - peak) <= 0.03 * peak
        ax.plot([value / (device.bandwidth if bold else fastest), frame.right], [value, value], color=INK if bold else FAINT,
                linewidth=2.2 if bold else 1.2, linestyle="-" if bold else (0, (5, 2)), zorder=2)  # fmt: skip
        if bold:
            ax.plot([value / fastest, value / device.bandwidth], [value, value], color=FAINT, linewidth=1.2, zorder=2)
        # above the line, unless kernels sit there
        under = not bold and any(b.x > frame.right / 30 and value < b.y < 1.4 * value for b in spots)
        text = ax.annotate(f"{name}  {si(value, 'FLOP/s', 3)}", (frame.right, value), (-4, -3 if under else 3), zorder=6,
                           textcoords="offset points", ha="right", va="top" if under else "bottom", fontsize=9.5,
                           color=INK if bold else SOFT,
                           fontweight="bold" if bold else "normal", path_effects=_halo())  # fmt: skip
        taken.append(text.get_window_extent())
    if frame.left < ridge < frame.right:
        ax.plot([ridge, ridge], [frame.low, peak], color=FAINT, linewidth=1, linestyle=(0, (2, 3)), zorder=1.5)
        for words, side, ha in (("memory-bound  ", ridge, "right"), ("  compute-bound", ridge, "left")):
            colour = BOUND_COLOUR["memory" if ha == "right" else "compute"]
            text = ax.annotate(words, (side, frame.low), (0, 6), textcoords="offset points", ha=ha, va="bottom", fontsize=9.5,
                               color=_darker(colour), zorder=6)  # fmt: skip
            taken.append(text.get_window_extent())
        ax.plot([ridge], [peak], marker="o", markersize=6, color="white", markeredgecolor=INK, markeredgewidth=1.6, zorder=5)
        text = ax.annotate(f"ridge {si(ridge, digits=3)} FLOP/B", (ridge, frame.low), (0, 21), textcoords="offset points",
                           ha="center", va="bottom", fontsize=9, color=SOFT, zorder=6,
                           path_effects=_halo())  # fmt: skip
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
                       path_effects=_halo())  # fmt: skip
    return text.get_window_extent()


class Label(NamedTuple):
    """What is written beside a point: the point in data units, its radius in points, the words."""

    x: float
    y: float
    radius: float
    words: str
    colour: str
    bold: bool = False


def _area(share: float) -> float:
    """Bubble area in square points."""
    return 22.0 + 1500.0 * share


def _kernels(ax: Axes, frame: Frame, a: Analysis, by: By) -> list[Label]:
    whole = _time(a)
    spots = bubbles(_rows(a, by))
    labels: list[Label] = []
    lost = 0
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
        ax.scatter([b.x], [y], s=_area(share), color=style.colour, marker=style.marker if y > frame.low * 1.12 else "v",
                   alpha=0.72, edgecolors="white", linewidths=0.7, zorder=3)  # fmt: skip
        if len(labels) < 8 and share >= 0.02:
            times = f" ×{b.number}" if b.number > 1 else ""
            words = f"{printable(b.name)}{times}  {percent(b.time_s, whole)}"
            labels.append(Label(b.x, y, math.sqrt(_area(share)) / 2, words, style.colour))
    _silent(ax, a, lost)
    return [*_whole(ax, frame, a, INK, "whole model"), *labels]


def _time(a: Analysis) -> float:
    """Seconds of the whole: measured where the model was run, else predicted."""
    return a.measurement.time_s if a.measurement else a.totals.time_s


def _silent(ax: Axes, a: Analysis, lost: int) -> None:
    """Says what a log scale cannot show."""
    silent = [k for k in a.kernels if not k.flops]
    lines = []
    if silent:
        took = percent(sum(k.measured_s or k.time_s for k in silent), _time(a))
        kind = "kernel does" if len(silent) == 1 else "kernels do"
        lines.append(f"Not drawn: {len(silent):,} {kind} no arithmetic ({took} of the time)")
    if a.measurement:
        lines.append("Bubbles: as measured. Dashes: as predicted")
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
    reached = t.flops / _time(a)
    y = max(reached, frame.low * 1.12)
    roof = min(a.device.peak_flops, a.device.bandwidth * t.intensity)
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


def _place(ax: Axes, words: list[Bbox], marks: list[Bbox], labels: Sequence[Label]) -> None:
    """Writes each label where it covers no other, off points and lines where there is room; one without room is left out."""
    inside = ax.get_window_extent()
    scale = ax.figure.dpi / 72
    for label in labels:
        text = ax.annotate(label.words, (label.x, label.y), (0, 0), textcoords="offset points", va="bottom", linespacing=1.3,
                           fontsize=9.8 if label.bold else 9.2, color=INK if label.bold else _darker(label.colour), zorder=8,
                           fontweight="bold" if label.bold else "normal", path_effects=_halo())  # fmt: skip
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
            ax.annotate("", (label.x, label.y), end, textcoords="offset points", zorder=2.5,
                        arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.9, "shrinkA": 0,
                                    "shrinkB": label.radius * 0.7})  # fmt: skip


def _free(at: tuple[float, float], radius: float, size: tuple[float, float], inside: Bbox, taken: Sequence[Bbox], scale: float,
          rings: int) -> tuple[float, float, Bbox] | None:  # fmt: skip
    """The nearest offset (in points) of a box around a point that stays inside the axes and off every taken box."""
    width, height = size
    for ring in range(rings):
        out = radius + 3.0 + 8.0 * ring
        for dx, dy in (
            (out, -height / 2), (-out - width, -height / 2), (out * 0.8, out * 0.6), (out * 0.8, -out * 0.6 - height),
            (-width / 2, out), (-width / 2, -out - height),
            (-out * 0.8 - width, out * 0.6), (-out * 0.8 - width, -out * 0.6 - height),
        ):  # fmt: skip
            left, low = (at[0] + dx) * scale, (at[1] + dy) * scale
            box = Bbox.from_extents(left - 2, low - 1, left + width * scale + 2, low + height * scale + 1)
            if box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1:
                continue
            if not any(box.overlaps(other) for other in taken):
                return dx, dy, box
    return None


def _marks(ax: Axes, frame: Frame, device: DeviceInfo, labels: Sequence[Label], spots: Sequence[Bubble]) -> list[Bbox]:
    """Boxes around the points, and beads along the bold roof, that a label should leave free."""
    scale = ax.figure.dpi / 72
    beads = [(frame.left * (frame.right / frame.left) ** (i / 160), 3.0) for i in range(161)]
    around = [(x, min(device.peak_flops, device.bandwidth * x), r) for x, r in beads]
    around += [(label.x, label.y, label.radius) for label in labels] + [(b.x, max(b.y, frame.low), 4.0) for b in spots]
    boxes = []
    for x, y, radius in around:
        px, py = ax.transData.transform((x, y))
        r = radius * scale * 0.8
        boxes.append(Bbox.from_extents(px - r, py - r, px + r, py + r))
    return boxes


def _bare(part: SubFigure, box: tuple[float, float, float, float], title: str) -> Axes:
    ax: Axes = part.add_axes(box)
    ax.set_axis_off()
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=7)
    return ax


def _side_one(part: SubFigure, a: Analysis) -> None:
    t = a.totals
    left, width = 0.735, 0.25
    part.text(left, 0.945, seconds(_time(a)), fontsize=21, fontweight="bold", va="center")
    words = rate(t.throughput)
    if a.measurement:
        words = f"{rate(a.measurement.throughput)} measured; predicted {seconds(t.time_s)}"
    part.text(left, 0.900, words, fontsize=10.5, color=SOFT, va="center")
    figures = [("FLOPs", si(t.flops)), ("MACs", si(t.macs)), ("kernels", f"{t.kernels:,}"), ("traffic", si(t.bytes, "B")),
               ("parameters", count(a.model.params)), ("peak memory", binary(t.peak_memory_bytes))]  # fmt: skip
    for i, (name, value) in enumerate(figures):
        x, y = left + 0.088 * (i % 3), 0.848 - 0.082 * (i // 3)
        part.text(x, y, name, fontsize=9, color=SOFT, va="center")
        part.text(x, y - 0.031, value, fontsize=11, fontweight="bold", va="center")
    by_bound = "Predicted time by bound" if a.measurement else "Time by bound"
    _bound_bar(_bare(part, (left, 0.585, width, 0.042), by_bound), t.time_by_bound, t.time_s)
    _class_bars(_bare(part, (left, 0.08, width, 0.385), "Time by kind of kernel"), a)


def _bound_bar(ax: Axes, by_bound: dict[str, float], whole: float) -> None:
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    at = 0.0
    legend: list[tuple[str, str]] = []
    for bound, value in fullest(by_bound):
        share = value / whole if whole else 0.0
        colour = BOUND_COLOUR.get(bound, FAINT)
        ax.barh(0.5, share, 1.0, left=at, color=colour, edgecolor="white", linewidth=1)
        if share > 0.13:
            ax.text(at + share / 2, 0.47, percent(value, whole), ha="center", va="center", color="white", fontsize=9.5,
                    fontweight="bold")  # fmt: skip
        legend.append((bound if share > 0.13 else f"{bound} {percent(value, whole)}", colour))
        at += share
    x = 0.0
    for words, colour in legend:
        ax.text(x, -0.3, "■", color=colour, fontsize=9, va="top")
        text = ax.text(x + 0.045, -0.3, words, color=SOFT, fontsize=9, va="top")
        x += 0.045 + text.get_window_extent().width / ax.get_window_extent().width + 0.035


def _class_bars(ax: Axes, a: Analysis) -> None:
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
        title = "the rest" if klass == "_rest" else style.title
        ax.scatter([0.02], [i + 0.27], s=44, color=style.colour, marker=style.marker, clip_on=False)
        ax.text(0.06, i + 0.29, f"{title}  ×{number[klass]:,}", fontsize=9.5, va="center")
        ax.text(1.0, i + 0.29, percent(time[klass], _time(a)), fontsize=9.5, va="center", ha="right", fontweight="bold")
        ax.barh(i + 0.69, 1.0, 0.13, color=GRID)
        ax.barh(i + 0.69, time[klass] / longest, 0.13, color=style.colour)
    ax.text(0, len(rows) + 0.3, "Bubble area: share of the time. ★ whole model.", fontsize=8.5, color=SOFT, va="center")


def _side_many(part: SubFigure, group: Sequence[Analysis]) -> None:
    """One bar of time per analysis, split by bound."""
    left, width = 0.735, 0.25
    slots = max(len(group), 6)
    ax = _bare(part, (left, 0.16, width, 0.665), "Time by bound")
    ax.set_xlim(0, 1)
    ax.set_ylim(slots, 0)
    longest = max(a.totals.time_s for a in group) or 1.0
    for i, a in enumerate(group):
        t = a.totals
        colour = SERIES[i % len(SERIES)]
        name = printable(distinct_name(a, group))
        ax.text(0, i + 0.2, "★", color=colour, fontsize=11, va="center")
        ax.text(0.065, i + 0.2, name if len(name) < 30 else name[:29] + "…", fontsize=10, fontweight="bold", va="center")
        ax.text(1, i + 0.2, seconds(t.time_s), fontsize=10, fontweight="bold", va="center", ha="right")
        at = 0.0
        for bound, value in fullest(t.time_by_bound):
            ax.barh(i + 0.48, value / longest, 0.2, left=at, color=BOUND_COLOUR.get(bound, FAINT))
            at += value / longest
        ax.text(0, i + 0.74, f"{si(t.flops, 'FLOP')} · {si(t.bytes, 'B')} · {count(a.model.params)} parameters", fontsize=8.5,
                color=SOFT, va="center")  # fmt: skip
    for i, (bound, colour) in enumerate(BOUND_COLOUR.items()):
        part.text(left + 0.085 * i, 0.105, "■", color=colour, fontsize=9)
        part.text(left + 0.085 * i + 0.013, 0.105, bound, color=SOFT, fontsize=9)
    part.text(left, 0.065, "Dots: kernels. ★ whole model.", fontsize=8.5, color=SOFT)
