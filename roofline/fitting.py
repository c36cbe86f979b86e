"""Fit the constants of the time model to tables of measured times: `roofline validate --fit`.

Coordinate descent in factors, from the shipped constants. The loss is the mean over tables of the mean absolute error in
log time, damped so that single models that are timed as something else do not lead. A fraction of a bandwidth stays
below 0.95, so that a wrong count of bytes cannot hide behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from roofline import fit as arrays
from roofline import roof, tables, validate
from roofline.cache import Cache
from roofline.device import Device
from roofline.records import RooflineError, UsageError

# Rows drawn from each table: more moves no constant by more than the fit's own scatter.
SAMPLE = 400
ROUNDS = 8
_STEP = 0.2
_BANDWIDTHS = frozenset({
    "cache", "stream", "stream_conv", "stream_gemm", "norm", "reduction", "softmax", "pool", "pool_last", "layout", "scattered",
    "gather",
})  # fmt: skip
_CEILING = 0.95


Say = Callable[[str], None]


class Measured(NamedTuple):
    """The kernels of a table's rows, and their times."""

    table: arrays.Table
    seconds: Any
    device: Device
    how: tables.Setting


def fit(
    pairs: Sequence[tuple[Path, Device]],
    say: Say,
    *,
    limit: int | None = None,
    seed: int = 0,
    cache: bool = True,
    dtype: str | None = None,
    layout: str | None = None,
    runtime: str | None = None,
    columns: dict[str, str] | None = None,
) -> str:
    """The fitted constants as TOML.

    Raises UsageError for tables of GPUs and CPUs (or of eager and compiled CPU runs) together, or without usable rows.
    """
    kinds = {roof.family(d, tables.setting(path.name, dtype, layout, runtime).runtime) for path, d in pairs}
    if len(kinds) != 1:
        raise UsageError("GPUs, CPUs and eager CPU runs have constants of their own: fit one kind at a time")
    kind = kinds.pop()
    data = []
    for path, target in pairs:
        how = tables.setting(path.name, dtype, layout, runtime)
        rows = tables.sample(tables.read(path, columns).rows, limit or SAMPLE, seed)
        say(f"{path.name}: {len(rows)} rows")
        data.append(_measured(rows, how, target, Cache(enabled=cache), say))
    start = roof.constants(kind)
    found, loss = minimise(data, start, say)
    say(f"loss {loss:.4f}")
    names = ", ".join(f"{path.name} ({target.name})" for path, target in pairs)
    lines = [f"[{kind}]", f'source = "roofline validate --fit on {names}"']
    lines += [f"{name} = {value:.4g}" for name, value in found.items()]
    return "\n".join(lines) + "\n"


def _measured(rows: Sequence[tables.Row], how: tables.Setting, target: Device, store: Cache, say: Say) -> Measured:
    counted, seconds = [], []
    for number, row in enumerate(rows, 1):
        try:
            counted.append(arrays.rows(validate.trace(row, how, target, store), how.runtime, target))
        except RooflineError:
            continue
        seconds.append(row.seconds)
        say(f"{number} of {len(rows)} rows: {row.model}")
    if not counted:
        raise UsageError("no row of the table could be predicted")
    return Measured(arrays.table(counted), np.array(seconds), target, how)


def loss(data: Sequence[Measured], constants: Mapping[str, float]) -> float:
    total = 0.0
    for m in data:
        predicted = arrays.totals(m.table, m.device, dict(constants), setting=m.how.dtype, runtime=m.how.runtime)
        off = np.abs(np.log(predicted / m.seconds))
        total += float(np.mean(off / (1 + 0.3 * off)))
    return total / len(data)


def minimise(data: Sequence[Measured], start: Mapping[str, float], say: Say) -> tuple[dict[str, float], float]:
    """Move one constant at a time by a factor that shrinks where nothing is won."""
    best = dict(start)
    score = loss(data, best)
    steps = dict.fromkeys(best, _STEP)
    for turn in range(ROUNDS):
        for name in best:
            for factor in (1 + steps[name], 1 / (1 + steps[name])):
                value = best[name] * factor
                tried = best | {name: min(value, _CEILING) if name in _BANDWIDTHS else value}
                if tried[name] == best[name]:
                    continue
                now = loss(data, tried)
                if now < score - 1e-6:
                    best, score = tried, now
                    steps[name] *= 1.25
                    break
            else:
                steps[name] *= 0.5
        say(f"round {turn + 1} of {ROUNDS}: loss {score:.4f}")
    return best, score
