"""The stages in order: source -> trace -> kernels -> roof -> analysis, with what the cache can answer in between."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from roofline import compat
from roofline.cache import digest
from roofline.devices import library
from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.fingerprints import constants, constants_digest, device_digest, program
from roofline.isolation import accelerator
from roofline.records import Analysis, ToolInfo, Trace
from roofline.request import Pass, Place, Request, check
from roofline.sources import alone, traced

if TYPE_CHECKING:
    from roofline.analysis.memory import Timeline
    from roofline.cache.dependencies import Record
    from roofline.cache.store import Cache
    from roofline.sources.kept import Kept
    from roofline.sources.source import Source

T = TypeVar("T")


def run(request: Request) -> Analysis:
    """Answer a request, from the cache where it can."""
    # With torch loaded, a garbage collection costs more than the work between two of them, and our records hold no cycles:
    # with collections a first analysis takes 5 % longer.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _answer(request)
    finally:
        if collects:
            gc.enable()


def target_of(place: Place) -> Device:
    """The device, with the machine around it. Raises UnknownNameError, UsageError for a host that cannot be."""
    target = place.device if isinstance(place.device, Device) else library.lookup(place.device)
    (target,) = library.with_host([target], place.host, place.runtime)
    return target


def _answer(request: Request) -> Analysis:
    check(request)
    target = target_of(request.place)
    answer = _by_name if isinstance(request.ask.model, str) else _of_module
    return _as_asked(answer(request, target), target, request)


def _of_module(request: Request, target: Device) -> Analysis:
    """The analysis of the caller's own module: nothing of it is kept."""
    ask = request.ask
    name = type(ask.model).__name__
    with alone.guarded(name):
        result = _analyse(_passed(traced.trace_module(request, target), request.what), target, request)

    def other(batch: int) -> Analysis | None:
        if ask.args is not None or ask.kwargs is not None:
            return None
        with alone.guarded(name):
            trace = traced.trace_module(replace(request, ask=replace(ask, batch=batch)), target)
            return _analyse(_passed(trace, request.what), target, request)

    return _fitted(result, other)


def _by_name(request: Request, target: Device) -> Analysis:
    """The analysis of a model by name, from the cache where it can be."""
    # here and not above: a module that is given needs none of it, and its first analysis would wait for them
    from roofline.analysis import document
    from roofline.cache.store import Cache
    from roofline.sources.resolve import resolve

    ask = request.ask
    found = resolve(ask)
    store = Cache(enabled=request.cache)
    key, whole = _keys(found, request, target)
    saved = None if alone.rules_added() else store.load("analysis", whole, alone.still(found))
    if saved is not None:
        return document.from_json(saved)

    def use(trace: Trace) -> Analysis:
        return _analyse(trace, target, request)

    result, record = _made(found, target, request, store, key, use)

    def again(batch: int) -> Analysis:
        other = resolve(replace(ask, batch=batch))
        return _made(other, target, request, store, digest(program(), other.key, request.what.key(target)), use)[0]

    result = _fitted(result, again)
    if record is not None:
        store.store("analysis", whole, document.to_json(result), record=record)
    return result


def _keys(found: Source, request: Request, target: Device) -> tuple[str, str]:
    """Those of its trace and of its analysis."""
    key = digest(program(), found.key, request.what.key(target))
    return key, digest(key, request.place.runtime, constants(), msgspec.json.encode(target), str(request.what.fold_bn))


def known(request: Request) -> Analysis | None:
    """The answer for a model by name where the cache has it. Raises what `run` raises before the model's own code."""
    from roofline.analysis import document
    from roofline.cache.store import Cache
    from roofline.sources.resolve import resolve

    check(request)
    target = target_of(request.place)
    if not request.cache or alone.rules_added():
        return None
    found = resolve(request.ask)
    saved = Cache().load("analysis", _keys(found, request, target)[1], alone.still(found))
    return None if saved is None else _as_asked(document.from_json(saved), target, request)


def _as_asked(result: Analysis, target: Device, request: Request) -> Analysis:
    """With how it was asked for, so that it can be asked for again: one answer of the cache serves several questions."""
    ask = request.ask
    texts = {name: value if isinstance(value, str) else repr(value) for name, value in ask.settings.items()}
    setting = msgspec.structs.replace(
        result.setting,
        asked=True,
        asked_batch=ask.batch,
        inputs=ask.inputs,
        resolution=ask.resolution,
        set=texts,
        turns=request.what.turns,
        channels_last=request.what.channels_last,
        fold_bn=request.what.fold_bn,
        constants=constants_digest(),
    )
    known = msgspec.structs.replace(result.device, fingerprint=device_digest(target))
    model = result.model
    if isinstance(ask.model, str):
        model = msgspec.structs.replace(model, source=as_written(model.source, ask.model))
    return msgspec.structs.replace(result, setting=setting, device=known, model=model)


def as_written(source: str, model: str) -> str:
    """Where a model is from, a file as the text that names the model has it: the same in every checkout."""
    if os.path.isabs(source):
        for written in (model, model.rpartition(":")[0], model.partition(":")[2]):
            if written and os.path.realpath(os.path.expanduser(written)) == source:
                return os.path.normpath(written).replace(os.sep, "/")
    return source


def of_trace(request: Request, target: Device, use: Callable[[Trace], T], kept: Kept | None = None) -> tuple[T, Record | None]:
    """What `use` makes of the trace of a model by name on such a device, from the cache or new; and what the trace depends on
    (None: that cannot be known). `kept` has the model as it was built for another pass, where that may be.
    """
    from roofline.cache.store import Cache
    from roofline.sources.resolve import resolve

    check(request)
    found = resolve(request.ask)
    key = digest(program(), found.key, request.what.key(target))
    return _made(found, target, request, Cache(enabled=request.cache), key, use, kept)


def _made(
    found: Source,
    target: Device,
    request: Request,
    store: Cache,
    key: str,
    use: Callable[[Trace], T],
    kept: Kept | None = None,
) -> tuple[T, Record | None]:
    """What `use` makes of a trace that is known or of a new one; and what it depends on (None: it must not be kept)."""
    known = store.load("trace", key, alone.still(found))

    def used(trace: Trace) -> T:
        return use(_passed(trace, request.what))

    if known is None:
        return _first(found, target, request, store, key, used, kept)
    from roofline.cache.dependencies import Record

    record, trace = msgspec.msgpack.decode(known, type=tuple[Record, Trace])
    if trace.board and trace.board != accelerator.Board(target).key:  # its code went by what another GPU is
        return _first(found, target, request, store, key, used, kept)
    result = used(trace)
    return result, None if alone.rules_missing(record) or alone.rules_added() else record


def _fitted(result: Analysis, again: Callable[[int], Analysis | None]) -> Analysis:
    """The analysis, with the largest batch that fits where this one does not; `again` asks about another batch."""
    from roofline.analysis import capacity

    def peak(batch: int) -> int:
        other = again(batch)
        if other is None or other.setting.batch != batch:
            raise UsageError("its batch is fixed")
        return other.totals.peak_memory_bytes

    return capacity.checked(result, peak)


def _first(
    found: Source,
    target: Device,
    request: Request,
    store: Cache,
    key: str,
    use: Callable[[Trace], T],
    kept: Kept | None,
) -> tuple[T, Record | None]:
    """Build, trace and use; the trace is kept with all that it depends on, where that can be known."""
    if found.kind.torch:
        request.progress("importing torch")
    with alone.alone(found) as run:
        trace = run.watch(lambda: traced.trace_source(found, target, request.what, request.progress, kept))
        rules = alone.rules_added()
        result = use(trace)
        record = run.record() if request.cache else None
        # rules that the model's own file enters are not there when its trace is read back
        if record is not None and not (rules - run.rules):
            store.store("trace", key, msgspec.msgpack.encode((record, trace)), record=record)
    return result, None if run.rules else record


def with_trace(found: Source, request: Request) -> tuple[Trace, Analysis]:
    """A model by name, uncached: its trace, and the analysis made of it."""
    check(request)
    target = target_of(request.place)
    with alone.alone(found):
        trace = _passed(traced.trace_source(found, target, request.what, request.progress), request.what)
        result = _fitted(_analyse(trace, target, request), lambda batch: None)
        return trace, _as_asked(result, target, request)


def trace_of(request: Request) -> Trace:
    """The trace that answers a request for a model by name, from the cache where it can be."""
    return of_trace(request, target_of(request.place), lambda trace: trace)[0]


def alive(request: Request) -> Timeline:
    """What is alive at each op of a model by name."""
    from roofline.analysis import memory

    target = target_of(request.place)
    return of_trace(request, target, lambda trace: memory.timeline(trace, target))[0]


def _passed(trace: Trace, what: Pass) -> Trace:
    """The trace as it is used: what is done to a model once it is there needs no other trace of it."""
    if not what.fold_bn:
        return trace
    from roofline.kernels import folding  # few ask for it

    return folding.folded(trace)


def _analyse(trace: Trace, target: Device, request: Request) -> Analysis:
    # here and not above: a cached analysis needs none of it
    from roofline.analysis import memory, physics, summary
    from roofline.kernels import build as kernels
    from roofline.timemodel import roof
    from roofline.timemodel.constants import asked

    what, runtime = request.what, request.place.runtime
    dtype = what.dtype or trace.dtype
    launched = kernels.build(trace, runtime, target.kind)
    converts: list[str] = []
    if trace.built:
        from roofline.timemodel import halves

        target, converts = halves.converted(target, launched)
    peak = memory.peak(trace, target)
    numbers = asked()
    points = roof.place(launched, target, setting=dtype, runtime=runtime, footprint=peak.total, constants=numbers)
    from roofline.version import __version__

    tool = ToolInfo(__version__, compat.version("torch"))
    paths = [layer.path for layer in trace.layers]
    said = converts + physics.notes(launched, points, target, paths)
    if target.kind == "gpu":
        from roofline.analysis import padding  # only wide loads want it

        said += padding.notes(
            launched, points, target, paths, setting=dtype, runtime=runtime, footprint=peak.total, constants=numbers
        )
    result = summary.summarise(trace, launched, points, target, peak, runtime=runtime, tool=tool, notes=said, constants=numbers)
    if what.update:
        setting = msgspec.structs.replace(result.setting, optimizer=what.update)
        # in this count only fresh tensors move, and an update is made in place
        notes = ["ideal runtime: the optimizer's update in place moves no bytes"] if runtime == "ideal" else []
        result = msgspec.structs.replace(result, setting=setting, notes=[*result.notes, *notes])
    if what.prefill or what.decode:
        from roofline.analysis import language

        info = language.summary(trace, launched, result.totals.time_s, what.prefill, what.decode)
        result = msgspec.structs.replace(result, language=info, notes=[language.sentence(info), *result.notes])
    return result
