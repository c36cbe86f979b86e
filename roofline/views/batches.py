"""Throughput against the batch, with its knee, and what bounds it there."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from roofline.analysis.explain import facts, label
from roofline.records import BOUNDS, Analysis
from roofline.units import count
from roofline.views.ink import printable
from roofline.views.sheet import (
    Format,
    Mode,
    Sheet,
    Size,
    columns_of,
    content,
    footer,
    header,
    keys,
    sheet,
    shrink,
    tool,
    wrapped,
)
from roofline.views.style import BOUND_COLOUR, SERIES

# A batch is large enough where twice as many bring less than this share more.
KNEE = 0.10


def rate(a: Analysis) -> float:
    return a.language.tokens_per_s if a.language else a.totals.throughput


def knee(sweep: Sequence[Analysis]) -> int | None:
    """The place of the first batch from which on no larger one brings a tenth more; None where the last still does."""
    for i, a in enumerate(sweep[:-1]):
        if all(rate(later) < (1 + KNEE) * rate(a) for later in sweep[i + 1 :]):
            return i
    return None


def picture(sweeps: Sequence[Sequence[Analysis]], form: Format, *, size: Size, mode: Mode) -> bytes:
    """The picture as a file's content: a sweep is one model on one device at growing batches."""
    firsts = [sweep[0] for sweep in sweeps]
    names = [printable(label(a, firsts)) if len(firsts) > 1 else printable(a.device.title or a.device.name) for a in firsts]
    model = printable(firsts[0].model.name)[:44]
    where = names[0] if len(sweeps) == 1 else f"{len(sweeps)} devices"
    with sheet(size, mode, " ".join([model, *names])) as made:
        wide, high = made.inches
        said = wrapped(
            "; ".join(_said(sweep, name) for sweep, name in zip(sweeps, names, strict=True)), columns_of(0.94 * wide)
        )
        setting = " · ".join(facts(firsts[0])[1:4]) + " · predicted"
        lines = [(setting, made.theme.soft)] + ([] if made.narrow else [(said, made.theme.ink)])
        header(made, f"{model} on {where}: throughput by batch", lines, room=0.95)
        top, bottom, left = (0.95 if made.narrow else 1.6) / high, 0.85 / high, 0.8 / wide
        part = 1 - left - 0.16 / wide if made.narrow else 0.55
        ax = made.figure.add_axes((left, bottom, part, 1 - top - bottom))
        _rates(ax, made, sweeps, names)
        if not made.narrow:
            each = (1 - top - bottom) / len(sweeps)
            for i, (sweep, name) in enumerate(zip(sweeps, names, strict=True)):
                low = bottom + each * (len(sweeps) - 1 - i)
                box = (
                    left + part + 0.07,
                    low,
                    0.98 - left - part - 0.07,
                    each - ((0.62 if len(sweeps) > 1 else 0.4) if not i else 0.55) / high,
                )
                shown = made.figure.add_axes(box)
                _shares(shown, made, sweep, name, first=not i, last=i == len(sweeps) - 1)
                if not i:
                    keys(made, left + part + 0.07, low + box[3] + 0.09 / high, BOUND_COLOUR)
        notes = ["○ knee: from there on no larger batch brings 10 % more"] * any(knee(sweep) is not None for sweep in sweeps)
        notes += ["× does not fit into memory"] * any(sweep[-1].totals.fits is False for sweep in sweeps)
        footer(made, [" · ".join(notes)], tool(firsts[0]))
        return content(made, form, f"{model} on {where}: throughput by batch")


def _said(sweep: Sequence[Analysis], name: str) -> str:
    at = knee(sweep)
    if at is None:
        return f"{name} still gains at batch {sweep[-1].setting.batch:,}"
    more = rate(sweep[at]) / rate(sweep[0])
    gain = f", {more:.2g} times that of batch {sweep[0].setting.batch}" if at else ""
    least = min(sweep[at:], key=rate)
    falls = f", and {count(rate(least))}/s at {least.setting.batch:,}" if rate(least) < 0.9 * rate(sweep[at]) else ""
    return f"{name} is full at batch {sweep[at].setting.batch:,}: {count(rate(sweep[at]))}/s{gain}{falls}"


def _rates(ax: Axes, made: Sheet, sweeps: Sequence[Sequence[Analysis]], names: Sequence[str]) -> None:
    theme = made.theme
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    batches = sorted({a.setting.batch for sweep in sweeps for a in sweep})
    ax.xaxis.set_major_locator(FixedLocator(batches))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda v, _: ""))
    ax.set_xlabel("batch")
    ax.set_ylabel("tokens/s" if sweeps[0][0].language else "samples/s")
    ax.grid(True, which="major", color=theme.grid, linewidth=0.8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for i, (sweep, name) in enumerate(zip(sweeps, names, strict=True)):
        colour = theme.mark(SERIES[i % len(SERIES)])
        xs, ys = [a.setting.batch for a in sweep], [rate(a) for a in sweep]
        ax.plot(xs, ys, color=colour, marker="o", markersize=4.5, linewidth=1.8, zorder=3)
        at = knee(sweep)
        if at is not None:
            ax.plot(
                [xs[at]],
                [ys[at]],
                marker="o",
                markersize=13,
                markerfacecolor="none",
                markeredgecolor=colour,
                markeredgewidth=1.8,
                zorder=4,
            )
        if sweep[-1].totals.fits is False:
            ax.plot([xs[-1]], [ys[-1]], marker="x", markersize=11, color=colour, markeredgewidth=2.2, zorder=5)
        if len(sweeps) > 1:
            text = ax.annotate(
                name,
                (xs[-1], max(ys[-4:])),
                (0, 9),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=9.5,
                fontweight="bold",
                color=theme.words(SERIES[i % len(SERIES)]),
            )
            shrink(text, 0.4, made.figure)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * 1.6)


def _shares(ax: Axes, made: Sheet, sweep: Sequence[Analysis], name: str, *, first: bool, last: bool) -> None:
    """Shares of the time by bound, stacked, against the batch."""
    theme = made.theme
    xs = [a.setting.batch for a in sweep]
    parts = [[100 * a.totals.time_by_bound.get(b, 0.0) / a.totals.time_s for a in sweep] for b in BOUNDS]
    ax.set_xscale("log", base=2)
    ax.stackplot(xs, parts, colors=[theme.mark(BOUND_COLOUR[b]) for b in BOUNDS], linewidth=0)
    ax.set_xlim(xs[0], max(xs[-1], xs[0] + 1))
    ax.set_ylim(0, 100)
    ax.xaxis.set_major_locator(FixedLocator(xs[:: 1 if len(xs) < 6 else 2]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f} %"))
    ax.tick_params(labelsize=8.5)
    title = ax.set_title(
        f"What bounds it on {name}", loc="left", fontsize=10.5, fontweight="bold", color=theme.ink, pad=18 if first else 5
    )
    shrink(title, 0.36, made.figure)
    if last:
        ax.set_xlabel("batch", fontsize=9)
    for bound, values in zip(BOUNDS, parts, strict=True):
        # where it is thick on both sides
        wide = max(range(len(xs)), key=lambda i: values[i] + min(values[max(i - 1, 0)], values[min(i + 1, len(xs) - 1)]))
        if values[wide] > 12:
            under = sum(p[wide] for p in parts[: BOUNDS.index(bound)])
            ha = "left" if wide == 0 else "right" if wide == len(xs) - 1 else "center"
            ax.annotate(
                bound,
                (xs[wide], under + values[wide] / 2),
                ({"left": 5, "right": -5, "center": 0}[ha], 0),
                textcoords="offset points",
                ha=ha,
                va="center",
                fontsize=9,
                fontweight="bold",
                color="#16202e" if bound == "instructions" else "#ffffff",
            )
