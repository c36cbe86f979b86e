"""Latency over the batch, predicted beside measured: where the flat, launch-bound part ends, and how high it lies.

    python benchmarks/batch_sweep.py TABLE -d t4 [--where framework=PyTorch ...] [--layout amp=nhwc ...]
                                     [--model THEIRS=OURS ...] [--column ms=latency_avg ...] [--size 224] [--json FILE]

TABLE is a CSV with one line for each model, precision and batch. A model is found in timm by its name without regard to
dashes, underscores and a trailing version ("se-resnext101-32x4d", "resnet50v1.5"); `--model` says so where that fails. What
cannot be predicted is listed and left out.

The flat part is the first batches, as long as they take at most 10 % more than batch 1; its level is their median. At large
batches (from an eighth of the largest on) the time grows with the batch. The knee is where the two meet: level / median time
per image. It is found in measured and in predicted times in the same way, each by itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from roofline import units
from roofline.devices import device, library
from roofline.errors import RooflineError, UsageError
from roofline.sources import zoo
from roofline.validation import model_tables, validate
from roofline.validation.model_tables import Row, Setting

# what this command calls a column -> the table's name for it; times are in ms, with or without the unit behind them
COLUMNS = {"model": "model", "batch": "batch", "dtype": "precision", "ms": "latency_avg"}
DTYPES = ("fp32", "tf32", "fp16", "bf16", "amp")
# a batch belongs to the flat part up to this much above batch 1
FLAT = 1.10
# "large": at least this share of the largest batch
LARGE = 1 / 8
# the bars: factor between the knees, error of each batch in the flat part
KNEE_BAR, FLAT_BAR = 2.0, 0.20


class Sweep(NamedTuple):
    """One model in one precision: batches in rising order, seconds for each."""

    model: str
    dtype: str
    layout: str
    batches: list[int]
    measured: list[float]
    predicted: list[float]
    # of the prediction: "overhead", "memory" or "compute", by the time in kernels of each
    bounds: list[str]

    @property
    def flat(self) -> int:
        """How many of the batches are in the measured flat part."""
        return flat(self.measured)

    @property
    def knees(self) -> tuple[float, float]:
        """Measured and predicted."""
        return knee(self.batches, self.measured), knee(self.batches, self.predicted)

    @property
    def ratio(self) -> float:
        seen, ours = self.knees
        return ours / seen

    @property
    def errors(self) -> list[float]:
        return [p / m - 1 for p, m in zip(self.predicted, self.measured, strict=True)]

    @property
    def level_error(self) -> float:
        """Of the level of the flat part, over the batches that are flat as measured."""
        return median(self.predicted[: self.flat]) / median(self.measured[: self.flat]) - 1

    @property
    def held(self) -> bool:
        return 1 / KNEE_BAR <= self.ratio <= KNEE_BAR and all(abs(e) <= FLAT_BAR for e in self.errors[: self.flat])


def flat(times: Sequence[float]) -> int:
    """How many times from the first on are at most FLAT times the first."""
    return next((i for i, t in enumerate(times) if t > FLAT * times[0]), len(times))


def knee(batches: Sequence[int], times: Sequence[float]) -> float:
    """The batch at which the flat level meets the line of the large batches."""
    level = median(times[: flat(times)])
    large = [t / b for b, t in zip(batches, times, strict=True) if b >= LARGE * batches[-1]]
    return level / median(large)


def timm_name(theirs: str) -> str:
    """timm's name for a model. Raises UsageError where it has none that reads like it."""
    known = {re.sub(r"[-_.]", "", name).lower(): name for name in zoo.names("timm")}
    for text in (theirs, re.sub(r"[-_ ]?v[\d.]+$", "", theirs)):
        found = known.get(re.sub(r"[-_. ]", "", text).lower())
        if found:
            return found
    raise UsageError(f"no model of timm reads like {theirs!r}: name one with --model {theirs}=OURS")


def read(
    path: Path, columns: dict[str, str], where: dict[str, str], models: dict[str, str], size: int
) -> tuple[dict[tuple[str, str], list[Row]], dict[str, str]]:
    """(model, dtype) -> its rows by batch, and what is left out, with the reason.

    Raises UsageError for a column that is not there, and for two times of the same model, precision and batch.
    """
    records = model_tables.lines(path)
    for name in [*columns.values(), *where]:
        if name not in records[0]:
            raise UsageError(f"{path.name} has no column {name!r} (it has {', '.join(records[0])})")
    found: dict[tuple[str, str], dict[int, Row]] = defaultdict(dict)
    out: dict[str, str] = {}
    for record in records:
        if any(record[name] != value for name, value in where.items()):
            continue
        theirs, dtype = record[columns["model"]], record[columns["dtype"]].lower()
        try:
            if dtype not in DTYPES:
                raise UsageError(f"precision {record[columns['dtype']]!r} is not one of {', '.join(DTYPES)}")
            ours = models.get(theirs) or timm_name(theirs)
            batch = int(float(record[columns["batch"]]))
            seconds = float(record[columns["ms"]].removesuffix("ms")) * 1e-3
        except (UsageError, ValueError) as error:
            out[f"{theirs} {record[columns['dtype']]}"] = str(error)
            continue
        rows = found[ours, dtype]
        if batch in rows:
            raise UsageError(
                f"{path.name}: {theirs} in {dtype} at batch {batch} is there twice: choose with --where COLUMN=VALUE"
            )
        rows[batch] = Row(ours, size, batch, seconds, 0.0, record.line)
    return {key: [rows[b] for b in sorted(rows)] for key, rows in found.items()}, out


def sweeps(
    rows: dict[tuple[str, str], list[Row]], target: device.Device, layouts: dict[str, str]
) -> tuple[list[Sweep], dict[str, str]]:
    """Every model and precision predicted; those with a batch that cannot be, or with fewer than four, are left out."""
    done, out = [], {}
    for (model, dtype), of in rows.items():
        layout = layouts.get(dtype, "nchw")
        found, skipped = validate.predict(of, Setting(dtype, layout, "eager"), target, jobs=1)
        if skipped or len(of) < 4:
            out[f"{model} {dtype}"] = skipped[0][1] if skipped else f"{len(of)} batches: too few for a knee"
            continue
        done.append(
            Sweep(
                model,
                dtype,
                layout,
                [p.batch for p in found],
                [p.measured_s for p in found],
                [p.predicted_s for p in found],
                [p.bound for p in found],
            )
        )
    return done, out


def report(found: Sequence[Sweep], out: dict[str, str], target: device.Device) -> str:
    """Markdown: a table of each sweep, and one of all of them."""
    lines = []
    for s in found:
        lines += [f"{s.model}, {s.dtype}, {s.layout}, on {target.title}", ""]
        lines += ["| batch | measured, ms | predicted, ms | error | predicted bound | measured, ms per image |"]
        lines += ["| ---: | ---: | ---: | ---: | --- | ---: |"]
        for i, (batch, seen, ours) in enumerate(zip(s.batches, s.measured, s.predicted, strict=True)):
            mark = " (flat)" if i < s.flat else ""
            lines.append(
                f"| {batch}{mark} | {seen * 1e3:.2f} | {ours * 1e3:.2f} | {units.change(s.errors[i], 0)} | {s.bounds[i]} "
                f"| {seen / batch * 1e3:.2f} |"
            )
        lines.append("")
    lines += ["| model | precision | knee measured | predicted | ratio | flat level, error | worst flat batch | held |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for s in found:
        seen, ours = s.knees
        worst = max(s.errors[: s.flat], key=abs)
        lines.append(
            f"| {s.model} | {s.dtype} | {seen:.1f} | {ours:.1f} | {s.ratio:.2f} | "
            f"{units.change(s.level_error, 0)} | {units.change(worst, 0)} | {'yes' if s.held else 'no'} |"
        )
    if out:
        lines += ["", "left out:", *(f"- {what}: {why}" for what, why in out.items())]
    return "\n".join(lines)


def as_json(s: Sweep) -> dict[str, object]:
    seen, ours = s.knees
    return s._asdict() | {
        "knee_measured": seen,
        "knee_predicted": ours,
        "ratio": s.ratio,
        "flat": s.batches[: s.flat],
        "level_error": s.level_error,
        "errors": s.errors,
        "held": s.held,
    }


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r}: expected NAME=VALUE")
        found[name] = value
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every sweep is within the bars; 1: one is not, or none was predicted; 2: the table or an option cannot be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("-d", "--device", required=True)
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only such lines of the table")
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", help=f"one of {', '.join(COLUMNS)}")
    parser.add_argument("--model", action="append", default=[], metavar="THEIRS=OURS", help="the name of a model here")
    parser.add_argument("--layout", action="append", default=[], metavar="DTYPE=LAYOUT", help="nchw (default) or nhwc")
    parser.add_argument("--size", type=int, default=224, help="of the square images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the sweeps there")
    args = parser.parse_args(arguments)
    try:
        columns = COLUMNS | _pairs(args.column)
        if unknown := set(columns) - set(COLUMNS):
            raise UsageError(f"--column {unknown.pop()}: use one of {', '.join(COLUMNS)}")
        layouts = _pairs(args.layout)
        if not set(layouts) <= set(DTYPES) or not set(layouts.values()) <= {"nchw", "nhwc"}:
            raise UsageError("--layout: give a precision and nchw or nhwc, as in --layout amp=nhwc")
        target = library.lookup(args.device)
        rows, out = read(args.table, columns, _pairs(args.where), _pairs(args.model), args.size)
        found, failed = sweeps(rows, target, layouts)
    except RooflineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(found, out | failed, target))
    if args.json:
        args.json.write_text(json.dumps([as_json(s) for s in found]), encoding="utf-8")
    return 0 if found and all(s.held for s in found) else 1


if __name__ == "__main__":
    sys.exit(main())
