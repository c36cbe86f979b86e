"""How far predictions are from measurements."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from msgspec import Struct


class Errors(Struct, frozen=True):
    """Absolute errors as fractions of the measured time; `spearman` is the rank correlation, None where it has no meaning."""

    median_ape: float
    mean_ape: float
    p90_ape: float
    spearman: float | None
    # predicted / measured
    median_ratio: float


def errors(predicted: Sequence[float], measured: Sequence[float]) -> Errors:
    """Raises ValueError without at least one pair."""
    if not predicted:
        raise ValueError("no rows to compare")
    ape = sorted(abs(p - m) / m for p, m in zip(predicted, measured, strict=True))
    return Errors(
        median(ape), fmean(ape), quantile(ape, 0.9), spearman(predicted, measured),
        median(p / m for p, m in zip(predicted, measured, strict=True)),
    )  # fmt: skip


def quantile(ordered: Sequence[float], q: float) -> float:
    """By linear interpolation between the ordered values."""
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation of the ranks, ties at their mean rank.

    None for fewer than three rows (any two are in one order or the other), and where one side does not vary.
    """
    if len(a) < 3:
        return None
    x, y = ranks(a), ranks(b)
    mx, my = fmean(x), fmean(y)
    xy = sum((i - mx) * (j - my) for i, j in zip(x, y, strict=True))
    xx, yy = sum((i - mx) ** 2 for i in x), sum((j - my) ** 2 for j in y)
    return float(xy / (xx * yy) ** 0.5) if xx and yy else None


def ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    out = [0.0] * len(values)
    i = 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and values[order[j + 1]] == values[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2
        i = j + 1
    return out
