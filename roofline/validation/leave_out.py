"""Predict each device with constants that were fitted without it: `roofline validate --leave-out`.

The fit of each starts from round values: every fraction is 0.8, and what is no fraction, or less than a fifth, has one
significant digit, so nothing is left of the shipped ones, which have seen these tables, but their order of magnitude. That
PyTorch's depthwise kernels do a tenth of the peak and less follows from what they execute and is no result of a fit; a board
on which they wait for memory would leave them at 0.8, eight times too fast for a device on which they do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import exp, log
from pathlib import Path
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.timemodel import constants
from roofline.timemodel.constants import Constants, Family
from roofline.validation import accuracy, fit, model_tables, operator_tables, validate
from roofline.validation.accuracy import Errors, Prediction
from roofline.validation.model_tables import AS_NAMED, Reading
from roofline.validation.spread import Left

FRACTION, _FIFTH = 0.8, 0.2
# Fits, each from where the one before stopped: the first ends early from so far away.
ROUNDS = 2
Say = Callable[[str], None]


class LeftOut(Struct, frozen=True, kw_only=True):
    """One table of a device that the constants had not seen. Errors are fractions of the measured time."""

    table: str
    device: str
    runtime: str
    dtype: str
    rows: int
    skipped: int
    ours: Errors
    # what is left of the median error once the device has one factor of its own, the median of predicted / measured
    one_factor_ape: float
    # of the rows, those within the 80 % interval; and the median of its half width, as a fraction of the prediction
    within: float
    half_width: float
    baselines: dict[str, Errors]


class Group(Struct, frozen=True, kw_only=True):
    """Rows that share something."""

    name: str
    rows: int
    median_ape: float
    median_ratio: float


class Clusters(Struct, frozen=True, kw_only=True):
    """How errors gather by one property of the rows: the fraction of their variance (of logarithms) that lies between the
    groups, beyond what as many random groups would show; and the groups, largest first.
    """

    explained: float
    groups: list[Group]


class Report(Struct, frozen=True, kw_only=True):
    """What `roofline validate --leave-out --json` prints."""

    left_out: list[LeftOut]
    # by "device", "class" (the kind of kernel with most of the time) and "family" (of models)
    clusters: dict[str, Clusters]
    # tables that were fitted on only, or could not be left out, and why
    notes: list[str]


def run(
    pairs: Sequence[tuple[Path, Device]], say: Say, given: Reading = AS_NAMED, *, cache: bool = True
) -> tuple[Report, list[Left]]:
    """Each device of the tables left out in turn: errors, and the rows. Raises UsageError where none can be."""
    found: list[tuple[LeftOut, list[Prediction]]] = []
    tables = []
    notes = []
    for name in dict.fromkeys(device.name for _, device in pairs):
        mine = [(path, d) for path, d in pairs if d.name == name and not operator_tables.recognise(path)]
        for kind in dict.fromkeys(fit.family([pair], given) for pair in mine):
            rest = _learnt([(p, d) for p, d in pairs if d.name != name and fit.family([(p, d)], given) == kind], given)
            if not rest:
                notes.append(f"{name}: no table of another device to fit [{kind}] on, so it cannot be left out")
                continue
            say(f"{name}: fitting [{kind}] without it, on {len(rest)} {'table' if len(rest) == 1 else 'tables'}")
            numbers = fitted(rest, kind, say, given, cache=cache)
            for path, target in (pair for pair in mine if fit.family([pair], given) == kind):
                # in this process: a fit leaves threads behind, and processes that are forked then may wait for them for ever
                parts = validate.run(path, target, given, cache=cache, jobs=1, progress=say, constants=numbers)
                found += [(left_out(result, rows), rows) for result, rows in parts]
                tables += [Left(target, result.runtime, result.mode == "training", rows) for result, rows in parts]
    if not found:
        raise UsageError("\n".join(["no device can be left out: tables of models of two devices of a kind are needed", *notes]))
    return Report(left_out=[one for one, _ in found], clusters=_clusters(found), notes=notes), tables


def _learnt(pairs: list[tuple[Path, Device]], given: Reading) -> list[tuple[Path, Device]]:
    """The tables to fit on. Those of training steps are predicted alone, as by the shipped constants: gradients have none of
    their own, and what a step's tell of them would go into forwards. Where there is nothing else they are fitted on."""
    forward = [(p, d) for p, d in pairs if operator_tables.recognise(p) or not _steps(p, given)]
    return forward or pairs


def _steps(path: Path, given: Reading) -> bool:
    """Whether a table has training steps and nothing else."""
    return all(part.how.training for part in model_tables.parts(path, given))


def rounded(found: Family) -> Family:
    """Where a fit that is to know nothing starts."""
    start = {}
    for name, (_, most) in constants.ranges(found).items():
        value = getattr(found, name)
        start[name] = FRACTION if most == 1 and value >= _FIFTH else float(f"{value:.1g}")
    return replace(found, **start)


def fitted(pairs: Sequence[tuple[Path, Device]], kind: str, say: Say, given: Reading, *, cache: bool = True) -> Constants:
    """The constants fitted from round values."""
    start = found = replace(constants.shipped(), **{kind: rounded(getattr(constants.shipped(), kind))})
    for _ in range(ROUNDS):
        found = fit.constants_of(pairs, say, given, start=found, near=start, cache=cache)
    return found


def left_out(v: accuracy.Validation, rows: Sequence[Prediction]) -> LeftOut:
    """The errors of a table by constants that had not seen its device."""
    measured = [p.measured_s for p in rows]
    factor = median(p.ratio for p in rows)
    ours = Errors(v.median_ape, v.mean_ape, v.p90_ape, v.spearman, v.median_ratio)
    return LeftOut(
        table=v.table,
        device=v.device,
        runtime=v.runtime,
        dtype=v.dtype,
        rows=v.rows,
        skipped=len(v.skipped),
        ours=ours,
        one_factor_ape=accuracy.errors([p.predicted_s / factor for p in rows], measured).median_ape,
        within=sum(p.low_s <= p.measured_s <= p.high_s for p in rows) / len(rows),
        half_width=median((p.high_s - p.low_s) / 2 / p.predicted_s for p in rows),
        baselines=v.baselines,
    )


def family_of(model: str) -> str:
    """The family of a model: its name up to the first number or size ("resnet", "vit", "mobilenetv")."""
    found = re.match(r"[a-z]+", model.lower().rpartition(":")[2])
    return found[0] if found else model


def _clusters(found: Sequence[tuple[LeftOut, list[Prediction]]]) -> dict[str, Clusters]:
    rows = [(one, p) for one, predictions in found for p in predictions]
    named: dict[str, Callable[[LeftOut, Prediction], str]] = {
        "device": lambda one, p: one.device,
        "class": lambda one, p: next(iter(p.shares), ""),
        "family": lambda one, p: family_of(p.model),
    }
    return {what: clusters([(name(one, p), p) for one, p in rows]) for what, name in named.items()}


def clusters(rows: Sequence[tuple[str, Prediction]]) -> Clusters:
    """How the errors of rows gather by their names."""
    groups: dict[str, list[Prediction]] = {}
    for name, p in rows:
        groups.setdefault(name, []).append(p)
    logs = {name: [log(p.ratio) for p in members] for name, members in groups.items()}
    number = sum(map(len, logs.values()))
    mean = sum(map(sum, logs.values())) / number
    whole = sum((x - mean) ** 2 for xs in logs.values() for x in xs)
    inside = sum((x - sum(xs) / len(xs)) ** 2 for xs in logs.values() for x in xs)
    # adjusted: random groups explain (groups - 1) / (rows - 1) of it by themselves
    free = number - len(logs)
    explained = 1 - (inside / free) / (whole / (number - 1)) if free > 0 and whole > 0 else 0.0
    listed = [
        Group(
            name=name,
            rows=len(members),
            median_ape=median(abs(p.ratio - 1) for p in members),
            median_ratio=exp(median(logs[name])),
        )
        for name, members in groups.items()
    ]
    return Clusters(explained=max(explained, 0.0), groups=sorted(listed, key=lambda g: (-g.rows, g.name)))
