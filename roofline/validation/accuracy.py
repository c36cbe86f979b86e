"""How far predictions are from measurements: one row, a whole table, and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from msgspec import Struct

from roofline import units
from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.validation.model_tables import Setting

# A measured rate this far above the peak cannot be.
_IMPOSSIBLE = 1.02
_WORST = 15
# A median of predicted / measured beyond this factor is a unit of time, not an error.
_UNLIKELY = 100.0


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
        median(ape),
        fmean(ape),
        quantile(ape, 0.9),
        spearman(predicted, measured),
        median(p / m for p, m in zip(predicted, measured, strict=True)),
    )


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


class Prediction(Struct, frozen=True):
    """One row: seconds predicted, by the plain roofline (peak and DRAM bandwidth) and by FLOPs over peak alone."""

    model: str
    size: int
    batch: int
    measured_s: float
    predicted_s: float
    roofline_s: float
    flops_s: float
    # share of the predicted time by class of kernel, largest first
    shares: dict[str, float]
    bound: str
    # the 80 % interval of the prediction; 0 where there is none
    low_s: float = 0.0
    high_s: float = 0.0
    # how much of the time rests on the device's clock, memory and host (uncertainty.rests)
    rests: tuple[float, float, float] = (0.0, 0.0, 0.0)
    # sum of the squares of the kernels' shares (uncertainty.Mix)
    single: float = 0.0

    @property
    def ratio(self) -> float:
        return self.predicted_s / self.measured_s


class Validation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `roofline validate --json` prints; errors are fractions of the measured time."""

    table: str
    device: str
    tier: str
    runtime: str
    dtype: str
    layout: str
    # left out for forwards
    mode: str = "inference"
    rows: int
    skipped: list[dict[str, str]]
    median_ape: float
    mean_ape: float
    p90_ape: float
    # rank correlation; None for fewer than three rows, or where predictions or measurements are all the same
    spearman: float | None
    median_ratio: float
    baselines: dict[str, Errors]
    worst: list[dict[str, Any]]
    # measurements that exceed the device's peak
    impossible: list[dict[str, Any]]
    # median of predicted / measured among the rows where a class takes at least a quarter of the time
    by_class: dict[str, dict[str, float]]
    # what was assumed of the table, or looks wrong in it; left out where there is nothing to say
    notes: list[str] = []


def summarise(
    name: str,
    how: Setting,
    target: Device,
    found: Sequence[Prediction],
    skipped: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
) -> Validation:
    """Errors over all rows. Raises UsageError where no row could be predicted."""
    if not found:
        # what a whole table fails of is not a single bad line, where there is another reason
        model, why = next((s for s in skipped if not s[1].startswith("line ")), skipped[0] if skipped else ("", ""))
        raise UsageError(f"{name}: no row could be predicted" + (f"; {model or '?'}: {why}" if why else ""))
    measured = [p.measured_s for p in found]
    ours = errors([p.predicted_s for p in found], measured)
    worst = sorted(found, key=lambda p: -max(p.ratio, 1 / p.ratio))[:_WORST]
    impossible = [p for p in found if p.flops_s > _IMPOSSIBLE * p.measured_s]
    return Validation(
        table=name,
        device=target.name,
        tier=target.tier,
        runtime=how.runtime,
        dtype=how.dtype,
        layout=how.layout,
        mode="training" if how.training else "inference",
        rows=len(found),
        skipped=[{"model": model, "why": why} for model, why in skipped],
        median_ape=ours.median_ape,
        mean_ape=ours.mean_ape,
        p90_ape=ours.p90_ape,
        spearman=ours.spearman,
        median_ratio=ours.median_ratio,
        baselines={
            "roofline": errors([p.roofline_s for p in found], measured),
            "flops": errors([p.flops_s for p in found], measured),
        },
        worst=[_named(p) | {"why": _reason(p)} for p in worst],
        impossible=[_named(p) | {"times_peak": p.flops_s / p.measured_s} for p in impossible],
        by_class=_by_class(found),
        notes=[*notes, *_doubts(found, ours.median_ratio)],
    )


def _doubts(found: Sequence[Prediction], ratio: float) -> list[str]:
    """What looks wrong in a table that can be read."""
    out = []
    distinct = len({(p.model, p.size, p.batch) for p in found})
    if distinct < len(found):
        out.append(f"{len(found) - distinct} rows repeat the model, size and batch of another; each counts")
    if not 1 / _UNLIKELY < ratio < _UNLIKELY:
        out.append(f"predictions are {ratio:.3g} times the measurements: is the time in another unit (--column s, ms, us)?")
    return out


def _named(p: Prediction) -> dict[str, Any]:
    return {
        "model": p.model,
        "size": p.size,
        "batch": p.batch,
        "measured_s": p.measured_s,
        "predicted_s": p.predicted_s,
        "ratio": p.ratio,
    }


def _reason(p: Prediction) -> str:
    """Which classes the predicted time is made of: where to look."""
    parts = [f"{units.share(share)} {klass}" for klass, share in list(p.shares.items())[:3]]
    return f"predicted as {p.bound}-bound: {', '.join(parts)}"


def _by_class(found: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    out = {}
    for klass in sorted({k for p in found for k in p.shares}):
        heavy = [p for p in found if p.shares.get(klass, 0.0) >= 0.25]
        if heavy:
            e = errors([p.predicted_s for p in heavy], [p.measured_s for p in heavy])
            out[klass] = {"rows": len(heavy), "median_ape": e.median_ape, "median_ratio": e.median_ratio}
    return out
