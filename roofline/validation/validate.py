"""Predictions beside a table of measured times: errors, rank correlation, the worst rows and why, impossible measurements.

Every row is traced at its own batch and resolution, as timm's benchmark runs it, and goes through the same kernels and the
same time model as `analyze`. Traces and predictions are cached, so a second run answers in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from roofline import compat, fingerprints
from roofline.analysis import memory
from roofline.cache import digest
from roofline.cache.store import Cache
from roofline.devices.device import Device
from roofline.dtypes import SETTINGS
from roofline.errors import RooflineError, UsageError
from roofline.isolation.children import cores
from roofline.kernels import build as kernels
from roofline.kernels import folding
from roofline.records import Kernel, Trace, by_bound, components_of
from roofline.request import Ask, Pass, Place, Request
from roofline.sources.alone import alone
from roofline.sources.resolve import resolve
from roofline.sources.source import Source
from roofline.sources.timm import TIMM
from roofline.sources.traced import trace_source
from roofline.timemodel import roof, uncertainty
from roofline.timemodel.constants import Constants, shipped
from roofline.validation import model_tables, older
from roofline.validation.accuracy import Prediction, Validation, summarise
from roofline.validation.model_tables import AS_NAMED, Reading, Row, Setting


class Asked(Struct, frozen=True):
    """A row as a request, and what a request does not say: the layout of the images."""

    request: Request
    layout: str
    torch: tuple[int, int] = older.LATEST
    frozen: bool = False

    @property
    def device(self) -> Device:
        """The device itself, of which tables have more than a name."""
        assert isinstance(self.request.place.device, Device)
        return self.request.place.device


class _Job(Struct, frozen=True):
    """One row to predict."""

    row: Row
    asked: Asked
    constants: Constants


Progress = Callable[[str], None]


def predict(
    rows: Sequence[Row],
    how: Setting,
    target: Device,
    *,
    cache: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
    constants: Constants | None = None,
) -> tuple[list[Prediction], list[tuple[str, str]]]:
    """Every row predicted, in order, and (model, why) for those that could not be."""
    show = progress or (lambda text: None)
    work = [_Job(row, asked(row, how, target, cache=cache), constants or shipped()) for row in rows]
    wanted = min(jobs or min(cores(), 4), max(len(work) // 20, 1))
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
    row, request = job.row, job.asked.request
    measured = job.asked.layout, job.asked.torch, job.asked.frozen
    what = repr((row.model, row.size, row.batch, row.millions, request.what, request.place.runtime, *measured))
    # any other model may be a person's own file, which can change
    store = Cache(enabled=request.cache and TIMM.has(row.model))
    device = msgspec.json.encode(job.asked.device)
    key = digest(fingerprints.program(), compat.version("timm"), repr(job.constants), what, device)
    saved = store.load("prediction", key)
    if saved is None:
        try:
            t = trace(row, job.asked, store)
            found = _place(t, job, row if row.size else msgspec.structs.replace(row, size=_size(t)))
        except RooflineError as error:
            return str(error).splitlines()[0]
        saved = msgspec.json.encode(found)
        store.store("prediction", key, saved)
    prediction = msgspec.json.decode(saved, type=Prediction)
    return msgspec.structs.replace(prediction, measured_s=row.seconds)


def asked(row: Row, how: Setting, target: Device, *, cache: bool = True) -> Asked:
    """What a row of a table that was measured so asks for, on a device."""
    ask = Ask(row.model, batch=row.batch, resolution=row.size or None)
    step = Pass(how.dtype, training=True, optimizer="sgd") if how.training else Pass(how.dtype)
    return Asked(Request(ask, step, Place(target, how.runtime), cache=cache), how.layout, how.torch, how.frozen)


def launched(t: Trace, asked: Asked) -> Sequence[Kernel]:
    """The kernels of a row's trace on its device."""
    if asked.frozen:
        with suppress(UsageError):  # a model without norms that can be folded
            t = folding.folded(t)
    found: Sequence[Kernel] = kernels.build(t, asked.request.place.runtime, asked.device.kind)
    if asked.device.kind == "gpu":
        found = older.launched(found, asked.torch)
    return folding.frozen(found) if asked.frozen else found


def trace(row: Row, asked: Asked, store: Cache) -> Trace:
    """The row's trace. Raises RooflineError where the model is unknown or cannot be built or run."""
    import zlib

    name = row.model.partition(".")[0]
    if not TIMM.has(name):
        return _trace_other(row, asked)
    dtype, kind = asked.request.what.dtype or "fp32", asked.device.kind
    training = asked.request.what.training
    what = repr((name, row.size, row.batch, row.millions, dtype, asked.layout, kind, training, asked.torch))
    key = digest(fingerprints.tracing(), what, compat.version("timm"), compat.place("timm"))
    saved = store.load("table-trace", key)
    if saved is not None:
        return msgspec.msgpack.decode(zlib.decompress(saved), type=Trace)
    from roofline.validation import timm_benchmark

    size = row.size or timm_benchmark.default_size(name)
    with compat.fused_attention(asked.torch >= older.FUSED_ATTENTION):
        module = timm_benchmark.make(name, size, row.millions or None, training)
    result = timm_benchmark.record(
        module,
        name,
        size,
        row.batch,
        dtype=dtype,
        kind=kind,
        layout=asked.layout,
        training=training,
        version=asked.torch,
    )
    store.store("table-trace", key, zlib.compress(msgspec.msgpack.encode(result), 1))
    return result


def _trace_other(row: Row, asked: Asked) -> Trace:
    """A model that is not timm's: anything that `analyze` takes."""
    found = named(row, asked.request)
    what = msgspec.structs.replace(asked.request.what, channels_last=asked.layout == "nhwc")
    with alone(found):
        return trace_source(found, asked.device, what)


def named(row: Row, request: Request) -> Source:
    """The source of a row's model. Raises UsageError for a person's own code, unless the table is theirs too."""
    found = resolve(request.ask)
    if found.kind.code == "person" and not row.own:
        raise UsageError(f"{row.model} is code, which a table does not run; give --own-models if the table is your own")
    return found


def _size(t: Trace) -> int:
    """Pixels of an edge of the first image that goes in; 0 where none does."""
    return next((i.shape[-1] for i in t.model.inputs if len(i.shape) >= 4), 0)


def _place(t: Trace, job: _Job, row: Row) -> Prediction:
    target, dtype, runtime = job.asked.device, job.asked.request.what.dtype or "fp32", job.asked.request.place.runtime
    found = launched(t, job.asked)
    footprint = memory.peak(t, target).total
    points = roof.place(found, target, setting=dtype, runtime=runtime, footprint=footprint, constants=job.constants)
    ideal = roof.place(found, target, setting=dtype, runtime="ideal")
    total = sum(p.time_s for p in points)
    if not total > 0:
        raise UsageError(f"{row.model} launches no kernel at batch {row.batch}, so there is no time to compare")
    shares: dict[str, float] = {}
    rests = components_of(points)
    bounds = by_bound(rests)
    for kernel, point in zip(found, points, strict=True):
        shares[kernel.klass] = shares.get(kernel.klass, 0.0) + point.time_s / total
    single = sum(p.time_s**2 for p in points) / total**2
    low = high = 0.0
    if runtime != "ideal":
        sure = uncertainty.Sure.of(target, runtime, job.asked.request.what.training)
        around = sure.interval(total, rests, uncertainty.Mix(shares, single))
        low, high = around.low_s, around.high_s
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return Prediction(
        row.model,
        row.size,
        row.batch,
        row.seconds,
        total,
        sum(p.time_s for p in ideal),
        sum(p.compute_s for p in ideal),
        ordered,
        max(bounds, key=bounds.__getitem__),
        low,
        high,
        uncertainty.rests(rests, target.kind),
        single,
    )


def run(
    path: Path,
    target: Device,
    how: Reading = AS_NAMED,
    *,
    cache: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
    constants: Constants | None = None,
) -> list[tuple[Validation, list[Prediction]]]:
    """Validate one table of models: for each way in which its rows were measured, errors and rows. Raises UsageError for a
    table or a setting that cannot be."""
    parts = model_tables.parts(path, how)
    for part in parts:
        _check(part.how, target)
    out = []
    for part in parts:
        measured, table = part.how, part.table
        found, skipped = predict(table.rows, measured, target, cache=cache, jobs=jobs, progress=progress, constants=constants)
        out.append((summarise(table.name, measured, target, found, [*table.skipped, *skipped], table.notes), found))
    return out


def _check(how: Setting, target: Device) -> None:
    if how.dtype not in SETTINGS:
        raise UsageError(f"a model cannot be traced in {how.dtype!r}; use one of {', '.join(SETTINGS)}")
    if how.layout not in model_tables.LAYOUTS:
        raise UsageError(f"unknown layout {how.layout!r}; use nchw or nhwc")
    key = ("fp16" if target.kind == "gpu" else "bf16") if how.dtype == "amp" else how.dtype
    target.peak(key, "best")  # raises with the nearest dtype that there is
