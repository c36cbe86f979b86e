"""What a roofline picture draws: kernels or layers as bubbles, rows on one spot together. No matplotlib."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from roofline.records import Analysis, KernelRow, LayerRow

LONGEST_NAME = 26


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
        work = first.time_s - first.overhead_s if isinstance(first, KernelRow) else 0.0
        alone = first.flops / work if work > 0 else 0.0
        out.append(Bubble(first.intensity, first.flops / first.time_s, whole, len(group), name, klass, reached, alone))
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


def time_of(a: Analysis) -> float:
    """Seconds of the whole: measured where the model was run, else predicted."""
    return a.measurement.time_s if a.measurement else a.totals.time_s
