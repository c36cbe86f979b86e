"""A validation in words and as a scatter plot of predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from roofline import units
from roofline.units import seconds
from roofline.validation.accuracy import Prediction, Validation
from roofline.views.style import BOUND_COLOUR


def text(v: Validation) -> str:
    """The whole result in plain lines, at most about 128 columns."""
    lines = [
        f"{v.table} on {v.device} ({v.tier} tier): {v.dtype}, {v.layout}, {v.runtime}{', training' * (v.mode == 'training')}",
        f"{v.rows} rows predicted, {len(v.skipped)} skipped",
        "",
        f"{'':24}{'median':>9}{'mean':>9}{'90th pct':>10}{'Spearman':>10}{'pred/meas':>11}",
        _line("this model", v.median_ape, v.mean_ape, v.p90_ape, v.spearman, v.median_ratio),
    ]
    for name, label in (("roofline", "plain roofline"), ("flops", "FLOPs over peak")):
        e = v.baselines[name]
        lines.append(_line(label, e.median_ape, e.mean_ape, e.p90_ape, e.spearman, e.median_ratio))
    lines += ["", "where a class of kernel takes a quarter of the time or more:"]
    lines += [
        f"  {klass:<22}{int(e['rows']):>6} rows{units.share(e['median_ape'], 1):>9}   pred/meas {e['median_ratio']:.2f}"
        for klass, e in sorted(v.by_class.items(), key=lambda item: -item[1]["rows"])
    ]
    lines += ["", "worst rows, predicted / measured, and what the prediction is made of:"]
    for w in v.worst:
        row = f"{w['model'][:36]:<37}{w['size'] or '':>5} b{w['batch']:<5}{seconds(w['measured_s']):>10}"
        lines.append(f"  {row}  x{w['ratio']:.2f}  {w['why'].removeprefix('predicted as ')}")
    if v.impossible:
        lines += ["", "measured faster than the device's peak allows (wrong table, wrong device, or another model):"]
        lines += [f"  {w['model']:<40} {w['times_peak']:.2f} times the peak" for w in v.impossible[:10]]
    if v.skipped:
        lines += ["", "skipped:"] + [f"  {s['model'] or '?'}: {s['why']}" for s in v.skipped[:10]]
        if len(v.skipped) > 10:
            lines.append(f"  and {len(v.skipped) - 10} more (--json has them all)")
    lines += [f"note: {note}" for note in v.notes]
    return "\n".join(lines) + "\n"


def _line(label: str, median: float, mean: float, p90: float, spearman: float | None, ratio: float) -> str:
    errors = f"{units.share(median, 1):>8} {units.share(mean, 1):>8} {units.share(p90, 1):>9}"
    return f"  {label:<22} {errors} {_rank(spearman, 4):>9} {ratio:>10.2f}"


def _rank(spearman: float | None, digits: int) -> str:
    return "n/a" if spearman is None else f"{spearman:.{digits}f}"


def scatter(v: Validation, found: Sequence[Prediction], path: Path, *, dark: bool = False) -> bytes:
    """Predicted against measured time, log-log, coloured by what bounds the prediction; PNG, SVG or PDF by suffix."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from roofline.views import ink, sheet

    form = cast(sheet.Format, path.suffix[1:].lower())
    how = f"{v.device}, {v.dtype}, {v.layout}, {v.runtime}"
    with sheet.sheet(sheet.Size(6.4, 6.0), "dark" if dark else "light", "") as made:
        theme = made.theme
        wide, high = made.inches
        lines = [
            (how, theme.soft),
            (f"median error {units.share(v.median_ape, 1)}, Spearman {_rank(v.spearman, 3)}", theme.ink),
        ]
        sheet.header(made, f"Predicted beside measured: {v.table}", lines, room=0.95)
        axes = made.figure.add_axes((0.85 / wide, 0.85 / high, 0.95 - 0.85 / wide, 1 - 1.95 / high))
        for bound, colour in BOUND_COLOUR.items():
            if chosen := [p for p in found if p.bound == bound]:
                axes.scatter(
                    [p.measured_s for p in chosen],
                    [p.predicted_s for p in chosen],
                    s=14,
                    alpha=0.65,
                    color=theme.mark(colour),
                    edgecolors="none",
                    label=f"{bound}-bound ({len(chosen)})",
                )
        times = [t for p in found for t in (p.measured_s, p.predicted_s)]
        ends = [min(times) * 0.8, max(times) * 1.25]
        axes.plot(ends, ends, color=theme.ink, linewidth=0.8)
        for factor in (1.25, 0.8):
            axes.plot(ends, [e * factor for e in ends], color=theme.faint, linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured", ylabel="predicted")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda v, _: ink.seconds(v)))
            axis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False, fontsize=9, loc="upper left", labelcolor=theme.soft)
        axes.grid(color=theme.grid, linewidth=0.6)
        axes.tick_params(labelsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        sheet.footer(made, ["dotted: 25 % too long, 20 % too short"], "")
        return sheet.content(made, form, f"{v.table} on {v.device}: predicted beside measured")
