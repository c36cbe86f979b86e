"""Fit the constants of the time model to tables of measured times: `roofline validate --fit`.

Coordinate descent in factors, from the shipped constants. The loss is the mean over tables (small ones by their rows) of the
mean absolute error in log time, damped so that single models that are timed as something else do not lead, and a little for
every constant that goes far from where it started: what the tables do not tell stays (what a large cache holds, where all
devices have small ones). A constant stays in its declared range: a fraction of a peak or a bandwidth at or below 1, so that a
wrong count cannot hide behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from roofline.cache.store import Cache
from roofline.devices.device import Device
from roofline.errors import RooflineError, UsageError
from roofline.timemodel import constants
from roofline.timemodel.constants import Constants, Family
from roofline.validation import arrays, model_tables, operator_tables, validate
from roofline.validation.model_tables import AS_NAMED, Reading

# Rows drawn from each table: more moves no constant by more than the fit's own scatter.
SAMPLE = 400
ROUNDS = 8
_STEP = 0.2
# what a table of single operators counts beside one of models: it is one class of kernel
_OPERATORS = 0.2
# rows of models that make a whole table; eight tell less
_WHOLE = 40
# loss for a constant that is e times where it started, by the square of the logarithm
_PULL = 0.004

Say = Callable[[str], None]


class Measured(NamedTuple):
    """The kernels of a table's rows, and their times. `alone`: the class of a table of single operators, else empty."""

    table: arrays.Table
    seconds: Any
    device: Device
    how: model_tables.Setting
    alone: str = ""


def fit(
    pairs: Sequence[tuple[Path, Device]],
    say: Say,
    given: Reading = AS_NAMED,
    *,
    start: Constants | None = None,
    cache: bool = True,
) -> str:
    """The fitted constants as TOML, from ours or others to start with.

    Raises UsageError for tables of GPUs and CPUs (or of eager and compiled CPU runs) together, or without usable rows.
    """
    kind = family(pairs, given)
    found = getattr(constants_of(pairs, say, given, start=start, cache=cache), kind)
    names = ", ".join(f"{path.name} ({target.name})" for path, target in pairs)
    return constants.text(kind, found, f"roofline validate --fit on {names}")


def constants_of(
    pairs: Sequence[tuple[Path, Device]],
    say: Say,
    given: Reading = AS_NAMED,
    *,
    start: Constants | None = None,
    near: Constants | None = None,
    cache: bool = True,
) -> Constants:
    """The same as constants, the other families as they were. `near`: where constants that no row tells stay, if it is not
    where the descent starts. Raises as `fit` does."""
    kind = family(pairs, given)
    limit = given.limit or SAMPLE
    data = []
    for path, target in pairs:
        records = operator_tables.recognise(path)
        if records is not None:
            data.append(_operators(path.name, records, target, limit, given.seed))
            say(f"{path.name}: {len(data[-1].seconds)} rows")
            continue
        for part in model_tables.parts(path, replace(given, limit=limit)):
            say(f"{part.table.name}: {len(part.table.rows)} rows")
            data.append(_measured(part.table.rows, part.how, target, Cache(enabled=cache), say))
    begin = start or constants.shipped()
    found, loss = minimise(data, getattr(begin, kind), say, getattr(near or begin, kind))
    say(f"loss {loss:.4f}")
    return replace(begin, **{kind: found})


def family(pairs: Sequence[tuple[Path, Device]], given: Reading = AS_NAMED) -> str:
    """The set of constants that tables are of (constants.family). Raises UsageError where they are of several."""
    kinds = {constants.family(d, how) for path, d in pairs for how in _runtimes(path, given)}
    if len(kinds) != 1:
        raise UsageError("GPUs, CPUs and eager CPU runs have constants of their own: fit one kind at a time")
    return kinds.pop()


def _runtimes(path: Path, given: Reading) -> set[str]:
    if operator_tables.recognise(path):
        return {"eager"}
    return {part.how.runtime for part in model_tables.parts(path, given)}


def _measured(rows: Sequence[model_tables.Row], how: model_tables.Setting, target: Device, store: Cache, say: Say) -> Measured:
    counted, seconds = [], []
    for number, row in enumerate(rows, 1):
        try:
            asked = validate.asked(row, how, target)
            found = validate.trace(row, asked, store)
            counted.append(arrays.rows(found, validate.launched(found, asked), target))
        except RooflineError:
            continue
        seconds.append(row.seconds)
        say(f"{number} of {len(rows)} rows: {row.model}")
    if not counted:
        raise UsageError("no row of the table could be predicted")
    return Measured(arrays.table(counted), np.array(seconds), target, how)


def _operators(name: str, records: Sequence[model_tables.Record], target: Device, limit: int, seed: int) -> Measured:
    rows = operator_tables.rows_of(name, records, target, limit, seed).rows
    table = arrays.table([{arrays.row(k, [0], 0, 2 * k.bytes): 1} for _, k in rows])
    return Measured(table, np.array([row.seconds for row, _ in rows]), target, operator_tables.HOW, rows[0][1].klass)


def predicted(m: Measured, numbers: Any) -> Any:
    """Seconds of each row."""
    if not m.alone:
        return arrays.totals(m.table, m.device, numbers, setting=m.how.dtype, runtime=m.how.runtime)
    capped, free = (
        arrays.work(m.table, d, numbers, setting=m.how.dtype)[0] for d in (m.device, operator_tables.uncapped(m.device))
    )
    return operator_tables.seconds(m.alone, capped, free, m.device, numbers)


def loss(data: Sequence[Measured], numbers: Family) -> float:
    total = weights = 0.0
    for m in data:
        off = np.abs(np.log(predicted(m, numbers) / m.seconds))
        weight = _OPERATORS if m.alone else min(len(m.seconds) / _WHOLE, 1.0)
        total += weight * float(np.mean(off / (1 + 0.3 * off)))
        weights += weight
    return total / weights


def minimise(data: Sequence[Measured], start: Family, say: Say, near: Family) -> tuple[Family, float]:
    """Move one constant at a time by a factor that shrinks where nothing is won; what no row tells stays `near` its value."""

    def pulled(numbers: Family) -> float:
        pairs = ((getattr(numbers, name), getattr(near, name)) for name in ranges)
        return loss(data, numbers) + _PULL * sum(log(value / at) ** 2 for value, at in pairs if value > 0 < at)

    ranges = constants.ranges(start)
    best, score = start, pulled(start)
    steps = dict.fromkeys(ranges, _STEP)
    for turn in range(ROUNDS):
        for name, (least, most) in ranges.items():
            for factor in (1 + steps[name], 1 / (1 + steps[name])):
                value = min(max(getattr(best, name) * factor, least), most)
                if value == getattr(best, name):
                    continue
                tried = replace(best, **{name: value})
                now = pulled(tried)
                if now < score - 1e-6:
                    best, score = tried, now
                    steps[name] *= 1.25
                    break
            else:
                steps[name] *= 0.5
        say(f"round {turn + 1} of {ROUNDS}: loss {score:.4f}")
    return best, loss(data, best)
