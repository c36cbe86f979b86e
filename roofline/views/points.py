"""What a roofline picture draws: kernels or layers as bubbles, rows on one spot together. No matplotlib."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from roofline.records import Analysis, KernelRow, LayerRow, around
from roofline.views.style import roofs

LONGEST_NAME = 26
# A kernel further below the peak than this is drawn on the lower edge: one cast must not squash the picture.
DECADES = 5.5
# Part of the width that the strip of kernels without arithmetic takes.
STRIP = 0.075


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
    # FLOP/s of their work without waiting and starting; 0: of a layer
    alone: float = 0.0
    # sizes of what the longest of them returns: "1x64x56x56"
    shape: str = ""


def silent(kernels: Sequence[KernelRow], grain: float = 23) -> list[Bubble]:
    """Kernels without arithmetic, those of one class at one speed together, longest last: `y`, `reached` and `alone` in B/s."""
    spots: dict[tuple[str, int], list[KernelRow]] = defaultdict(list)
    for k in kernels:
        if not k.flops and k.time_s:
            spots[k.klass, round(grain * math.log10(k.bytes / k.time_s)) if k.bytes else -1].append(k)
    out = []
    for (klass, _), group in spots.items():
        first = max(group, key=lambda k: k.time_s)
        took = sum(k.measured_s or 0.0 for k in group)
        work = first.time_s - first.overhead_s
        out.append(
            Bubble(
                0.0,
                first.bytes / first.time_s,
                took or sum(k.time_s for k in group),
                len(group),
                _name(first),
                klass,
                sum(k.bytes for k in group) / took if took else 0.0,
                first.bytes / work if work > 0 else 0.0,
                _shape(first),
            )
        )
    return sorted(out, key=lambda b: b.time_s)


def bubbles(rows: Sequence[KernelRow] | Sequence[LayerRow], grain: float = 115) -> list[Bubble]:
    """Rows with arithmetic and time, those of one kind on one spot (1/`grain` of a decade, 2 %) together, longest last."""
    spots: dict[tuple[str, int, int], list[KernelRow | LayerRow]] = defaultdict(list)
    for r in rows:
        if r.flops and r.bytes and r.time_s:
            spot = (round(grain * math.log10(r.intensity)), round(grain * math.log10(r.flops / r.time_s)))
            spots[r.klass if isinstance(r, KernelRow) else r.type, *spot].append(r)
    out = []
    for group in spots.values():
        first = max(group, key=lambda r: r.time_s)
        klass = first.klass if isinstance(first, KernelRow) else first.bound
        took = sum(r.measured_s or 0.0 for r in group)
        reached = sum(r.flops for r in group) / took if took else 0.0
        whole = took or sum(r.time_s for r in group)
        work = first.time_s - first.overhead_s if isinstance(first, KernelRow) else 0.0
        alone = first.flops / work if work > 0 else 0.0
        out.append(
            Bubble(
                first.intensity,
                first.flops / first.time_s,
                whole,
                len(group),
                _name(first),
                klass,
                reached,
                alone,
                _shape(first),
            )
        )
    return sorted(out, key=lambda b: b.time_s)


def blocks(layers: Sequence[LayerRow], share: float = 0.12) -> list[LayerRow]:
    """Layers that split the model between them: a layer with more than `share` of the time gives way to its children."""
    ran = {r.path: r for r in layers if r.kernels}
    below: dict[str, list[LayerRow]] = defaultdict(list)
    for path, r in ran.items():
        if (above := around(path, ran)) is not None:
            below[above].append(r)
    out, open_ = [], [ran[""]] if "" in ran else []
    while open_:
        r = open_.pop()
        if below[r.path] and (r.time_s > share * layers[0].time_s or not r.path):
            open_ += below[r.path]
        else:
            out.append(r)
    return out


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


def _shape(row: KernelRow | LayerRow) -> str:
    sizes = row.shape if isinstance(row, KernelRow) else row.output or ()
    return "×".join(map(str, sizes))


def time_of(a: Analysis) -> float:
    """Seconds of the whole: measured where the model was run, else predicted."""
    return a.measurement.time_s if a.measurement else a.totals.time_s


class Frame(NamedTuple):
    """The limits of the axes. Left of `left`, down to `edge`, lies the strip of kernels without arithmetic."""

    left: float
    right: float
    low: float
    high: float
    edge: float

    @property
    def strip(self) -> float:
        """The middle of the strip."""
        return math.sqrt(self.edge * self.left)

    @property
    def bottom(self) -> float:
        """What lies lower is drawn here."""
        return self.low * 1.12


def frame(analyses: Sequence[Analysis], spots: Sequence[Bubble]) -> Frame:
    """The limits that hold all points of `analyses` and all roofs of their devices."""
    peaks, tops, ridges, quiet = [], [], [], list[Bubble]()
    for a in analyses:
        device = a.device
        peaks.append(device.peak_flops)
        dtypes = {k.dtype for k in a.kernels}
        shown = max(v for _, v in roofs(device.peaks, a.setting.dtype, dtypes, device.peak_flops))
        tops.append(min(max(device.peak_flops, *device.peaks.values()) if device.peaks else device.peak_flops, shown))
        ridges.append(device.ridge or 1.0)
        quiet += silent(a.kernels)
    xs = [b.x for b in spots] or ridges
    ys = [y for b in spots for y in (b.y, b.reached, b.alone) if y] or peaks
    high = max(*tops, *ys) * 2.6
    low = min(max(min(ys) / 2.5, high / 10**DECADES), min(peaks) / 300)
    left, right = min(min(xs) / 1.8, min(ridges) / 30), max(max(xs) * 2.2, max(ridges) * 12)
    edge = left / (right / left) ** (STRIP / (1 - STRIP)) if quiet else left
    return Frame(left, right, low, high, edge)
