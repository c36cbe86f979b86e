"""Predictions beside a table of measured times: errors, rank correlation, the worst rows and why, impossible measurements.

Every row is traced at its own batch and resolution, as timm's benchmark runs it, and goes through the same kernels and the
same time model as `analyze`. Traces and predictions are cached, so a second run answers in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from roofline import compat, fingerprints, pipeline
from roofline.analysis import memory
from roofline.cache.store import Cache, digest
from roofline.devices.device import Device
from roofline.dtypes import SETTINGS
from roofline.errors import RooflineError, UsageError
from roofline.kernels import build as kernels
from roofline.records import Trace, by_bound
from roofline.request import Ask, Pass
from roofline.sources.resolve import resolve
from roofline.sources.timm import TIMM
from roofline.timemodel import roof
from roofline.validation import accuracy, model_tables
from roofline.validation.model_tables import Row, Setting

# A measured rate this far above the peak cannot be.
_IMPOSSIBLE = 1.02
_WORST = 15
# A median of predicted / measured beyond this factor is a unit of time, not an error.
_UNLIKELY = 100.0


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
    rows: int
    skipped: list[dict[str, str]]
    median_ape: float
    mean_ape: float
    p90_ape: float
    # rank correlation; None for fewer than three rows, or where predictions or measurements are all the same
    spearman: float | None
    median_ratio: float
    baselines: dict[str, accuracy.Errors]
    worst: list[dict[str, Any]]
    # measurements that exceed the device's peak
    impossible: list[dict[str, Any]]
    # median of predicted / measured among the rows where a class takes at least a quarter of the time
    by_class: dict[str, dict[str, float]]
    # what was assumed of the table, or looks wrong in it; left out where there is nothing to say
    notes: list[str] = []


class _Job(Struct, frozen=True):
    row: Row
    setting: Setting
    device: Device
    cache: bool


Progress = Callable[[str], None]


def predict(
    rows: Sequence[Row],
    how: Setting,
    target: Device,
    *,
    cache: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[Prediction], list[tuple[str, str]]]:
    """Every row predicted, in order, and (model, why) for those that could not be."""
    show = progress or (lambda text: None)
    work = [_Job(row, how, target, cache) for row in rows]
    wanted = min(jobs or min(os.cpu_count() or 1, 4), max(len(work) // 20, 1))
    done, skipped = [], []
    pool = ProcessPoolExecutor(wanted) if wanted > 1 else nullcontext()
    with pool as executor:
        results: Iterator[Prediction | str] = executor.map(_predict, work, chunksize=8) if executor else map(_predict, work)
        for number, (row, result) in enumerate(zip(rows, results, strict=True), 1):
            if isinstance(result, str):
                skipped.append((row.model, result))
            else:
                done.append(result)
            show(f"{number} of {len(rows)} rows: {row.model}")
    return done, skipped


def _predict(job: _Job) -> Prediction | str:
    """One row, from the cache where it is there. A row that cannot be predicted is a sentence that says why."""
    row, how, target = job.row, job.setting, job.device
    asked = repr((row.model, row.size, row.batch, row.millions, how))
    # any other model may be a person's own file, which can change
    store = Cache(enabled=job.cache and TIMM.has(row.model))
    key = digest(fingerprints.program(), compat.version("timm"), roof.fingerprint(), asked, msgspec.json.encode(target))
    saved = store.load("prediction", key)
    if saved is None:
        try:
            t = trace(row, how, target, store)
            found = _place(t, how, target, row if row.size else msgspec.structs.replace(row, size=_size(t)))
        except RooflineError as error:
            return str(error).splitlines()[0]
        saved = msgspec.json.encode(found)
        store.store("prediction", key, saved)
    prediction = msgspec.json.decode(saved, type=Prediction)
    return msgspec.structs.replace(prediction, measured_s=row.seconds)


def trace(row: Row, how: Setting, target: Device, store: Cache) -> Trace:
    """The row's trace. Raises RooflineError where the model is unknown or cannot be built or run."""
    import zlib

    name = row.model.partition(".")[0]
    if not TIMM.has(name):
        return _trace_other(row, how, target)
    asked = repr((name, row.size, row.batch, row.millions, how.dtype, how.layout, target.kind))
    key = digest(fingerprints.tracing(), asked, compat.version("timm"), compat.place("timm"))
    saved = store.load("table-trace", key)
    if saved is not None:
        return msgspec.msgpack.decode(zlib.decompress(saved), type=Trace)
    from roofline.validation import timm_benchmark

    size = row.size or timm_benchmark.default_size(name)
    module = timm_benchmark.make(name, size, row.millions or None)
    result = timm_benchmark.record(module, name, size, row.batch, dtype=how.dtype, kind=target.kind, layout=how.layout)
    store.store("table-trace", key, zlib.compress(msgspec.msgpack.encode(result), 1))
    return result


def _trace_other(row: Row, how: Setting, target: Device) -> Trace:
    """A model that is not timm's: anything that `analyze` takes, in row-major layout."""
    if how.layout != "nchw":
        compat.needs("timm", row.model)
        raise UsageError(f"{row.model} is not a timm model: channels-last is known for those alone")
    found = resolve(Ask(row.model, batch=row.batch, resolution=row.size or None))
    if found.kind.code == "person" and not row.own:
        raise UsageError(f"{row.model} is code, which a table does not run; give --own-models if the table is your own")
    with pipeline.alone(found):
        return pipeline.trace_source(found, target, Pass(how.dtype))


def _size(t: Trace) -> int:
    """Pixels of an edge of the first image that goes in; 0 where none does."""
    return next((i.shape[-1] for i in t.model.inputs if len(i.shape) >= 4), 0)


def _place(t: Trace, how: Setting, target: Device, row: Row) -> Prediction:
    launched = kernels.build(t, how.runtime, target.kind)
    points = roof.place(launched, target, setting=how.dtype, runtime=how.runtime, footprint=memory.peak(t, target).total)
    ideal = roof.place(launched, target, setting=how.dtype, runtime="ideal")
    total = sum(p.time_s for p in points)
    if not total > 0:
        raise UsageError(f"{row.model} launches no kernel at batch {row.batch}, so there is no time to compare")
    shares: dict[str, float] = {}
    bounds: dict[str, float] = {}
    for kernel, point in zip(launched, points, strict=True):
        shares[kernel.klass] = shares.get(kernel.klass, 0.0) + point.time_s / total
        for bound, part in by_bound(point.components).items():
            bounds[bound] = bounds.get(bound, 0.0) + part
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return Prediction(
        row.model, row.size, row.batch, row.seconds, total, sum(p.time_s for p in ideal), sum(p.compute_s for p in ideal),
        ordered, max(bounds, key=bounds.__getitem__),
    )  # fmt: skip


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
    ours = accuracy.errors([p.predicted_s for p in found], measured)
    worst = sorted(found, key=lambda p: -max(p.ratio, 1 / p.ratio))[:_WORST]
    impossible = [p for p in found if p.flops_s > _IMPOSSIBLE * p.measured_s]
    return Validation(
        table=name, device=target.name, tier=target.tier, runtime=how.runtime, dtype=how.dtype, layout=how.layout,
        rows=len(found),
        skipped=[{"model": model, "why": why} for model, why in skipped],
        median_ape=ours.median_ape, mean_ape=ours.mean_ape, p90_ape=ours.p90_ape, spearman=ours.spearman,
        median_ratio=ours.median_ratio,
        baselines={
            "roofline": accuracy.errors([p.roofline_s for p in found], measured),
            "flops": accuracy.errors([p.flops_s for p in found], measured),
        },
        worst=[_named(p) | {"why": _reason(p)} for p in worst],
        impossible=[_named(p) | {"times_peak": p.flops_s / p.measured_s} for p in impossible],
        by_class=_by_class(found),
        notes=[*notes, *_doubts(found, ours.median_ratio)],
    )  # fmt: skip


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
        "model": p.model, "size": p.size, "batch": p.batch, "measured_s": p.measured_s, "predicted_s": p.predicted_s,
        "ratio": p.ratio,
    }  # fmt: skip


def _reason(p: Prediction) -> str:
    """Which classes the predicted time is made of: where to look."""
    parts = [f"{share:.0%} {klass}" for klass, share in list(p.shares.items())[:3]]
    return f"predicted as {p.bound}-bound: {', '.join(parts)}"


def _by_class(found: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    out = {}
    for klass in sorted({k for p in found for k in p.shares}):
        heavy = [p for p in found if p.shares.get(klass, 0.0) >= 0.25]
        if heavy:
            e = accuracy.errors([p.predicted_s for p in heavy], [p.measured_s for p in heavy])
            out[klass] = {"rows": len(heavy), "median_ape": e.median_ape, "median_ratio": e.median_ratio}
    return out


def run(
    path: Path, target: Device, *, dtype: str | None = None, layout: str | None = None, runtime: str | None = None,
    columns: dict[str, str] | None = None, limit: int | None = None, seed: int = 0, cache: bool = True,
    jobs: int | None = None, progress: Progress | None = None, own: bool = False,
) -> tuple[Validation, list[Prediction]]:  # fmt: skip
    """Validate one table of models. Raises UsageError for a table or a setting that cannot be."""
    how = model_tables.setting(path.name, dtype, layout, runtime)
    table = model_tables.read(path, columns, own)
    _check(how, target)
    rows = model_tables.sample(table.rows, limit, seed)
    found, skipped = predict(rows, how, target, cache=cache, jobs=jobs, progress=progress)
    return summarise(table.name, how, target, found, [*table.skipped, *skipped], table.notes), found


def _check(how: Setting, target: Device) -> None:
    if how.dtype not in SETTINGS:
        raise UsageError(f"a model cannot be traced in {how.dtype!r}; use one of {', '.join(SETTINGS)}")
    if how.layout not in ("nchw", "nhwc"):
        raise UsageError(f"unknown layout {how.layout!r}; use nchw or nhwc")
    key = ("fp16" if target.kind == "gpu" else "bf16") if how.dtype == "amp" else how.dtype
    target.peak(key, "best")  # raises with the nearest dtype that there is


def command(
    paths: Sequence[Path],
    devices: Sequence[Device],
    *,
    fit: Path | None,
    constants: Path | None,
    plot: Path | None,
    json: bool,
    limit: int | None,
    seed: int | None,
    cache: bool,
    jobs: int | None,
    own: bool,
    **given: Any,
) -> None:
    """What the command line asks for."""
    from roofline.cli.terminal import note, out, out_json, progress
    from roofline.validation import operator_tables
    from roofline.views import files, validation

    if len(devices) not in (1, len(paths)):
        raise UsageError(f"{len(paths)} tables and {len(devices)} devices: give -d once, or once for each table in their order")
    if seed is not None and limit is None and fit is None:
        raise UsageError("--seed draws a sample, and without --limit all rows are taken: give --limit, or leave --seed out")
    if jobs is not None and fit is not None:
        raise UsageError("--jobs is for predicting, and --fit works in one process: leave one of them out")
    pairs = list(zip(paths, [*devices] * (len(paths) if len(devices) == 1 else 1), strict=True))
    _check_files(plot, fit, len(paths), json)
    if constants is not None:
        roof.use(constants)
    options: dict[str, Any] = {"limit": limit, "seed": seed or 0, "cache": cache}
    with progress() as show:
        if fit is not None:
            from roofline.validation import fit as fitting

            text = fitting.fit(pairs, show or note, **options, **given)
            files.write_all({fit: text.encode()})
            note(f"wrote {fit}: use it with --constants {fit}")
            return
        results = []
        for path, target in pairs:
            table = operator_tables.recognise(path)
            if table is not None:
                _check_operators(path, given | {"jobs": jobs})
                results.append(operator_tables.run(path.name, table, target, limit=limit, seed=seed or 0))
            else:
                results.append(run(path, target, jobs=jobs, progress=show, own=own, **options, **given))
    if plot is not None:
        chart = validation.scatter(results[0][0], results[0][1], plot)
        files.write_all({plot: chart})
    if json:
        found = [v for v, _ in results]
        out_json(found[0] if len(found) == 1 else {"validations": found})
    else:
        out("\n".join(validation.text(v) for v, _ in results))


def _check_files(plot: Path | None, fit: Path | None, tables: int, json: bool) -> None:
    """What is to be written, before time is spent on it."""
    from roofline.views import files

    if fit is not None and (json or plot is not None):
        raise UsageError("--fit writes constants and compares nothing: leave --json and -o to a run with --constants")
    if fit is not None and fit.suffix.lower() != ".toml":
        raise UsageError(f"--fit {fit}: constants are written to a .toml file")
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"-o {plot}: a plot ends in .png, .svg or .pdf")
    if plot is not None and tables != 1:
        raise UsageError("-o draws one table: give one")
    for file in (plot, fit):
        if file is not None:
            files.writable(file)


def _check_operators(path: Path, given: dict[str, Any]) -> None:
    """A table of operators says itself what was run."""
    fixed = {"dtype": "fp32", "layout": "nchw", "runtime": "eager"}
    for name, value in fixed.items():
        if given.get(name) not in (None, value):
            raise UsageError(f"{path.name} is a table of single operators, in {value}: --{name} {given[name]} cannot be")
    if given.get("jobs") is not None:
        raise UsageError(f"{path.name} is a table of single operators, predicted in no time: leave --jobs out")
    if given.get("columns"):
        raise UsageError(f"{path.name} is a table of single operators, known by its columns: leave --column out")
