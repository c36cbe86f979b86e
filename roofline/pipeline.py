"""The stages in order: source -> trace -> kernels -> roof -> analysis, with what the cache can answer in between."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from roofline import compat, units
from roofline.analysis import document, summary
from roofline.cache import dependencies, places
from roofline.cache.dependencies import Record
from roofline.cache.store import Cache, digest
from roofline.devices import library
from roofline.devices.device import Device
from roofline.errors import ModelError, UsageError
from roofline.fingerprints import constants, constants_digest, device_digest, program
from roofline.records import Analysis, ToolInfo, Trace
from roofline.request import FORWARD, Pass, Place, Request, check
from roofline.sources.inputs import Input, default_image
from roofline.sources.resolve import also_known, resolve
from roofline.sources.source import Source

if TYPE_CHECKING:
    from torch import nn

# A model whose shapes depend on data has to run: up to this many bytes of parameters.
REAL_LIMIT = 4 * 2**30


def run(request: Request) -> Analysis:
    """Answer a request, from the cache where it can."""
    # With torch loaded, a garbage collection costs more than the work between two of them, and our records hold no cycles.
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
    ask = request.ask
    target = target_of(request.place)
    if not isinstance(ask.model, str):
        name = type(ask.model).__name__
        with guarded(name):
            result = _analyse(_trace_module(request, target), target, request)
        shaped = ask.args is None and ask.kwargs is None

        def other(batch: int) -> Analysis | None:
            if not shaped:
                return None
            with guarded(name):
                return _analyse(_trace_module(replace(request, ask=replace(ask, batch=batch)), target), target, request)

        return _as_asked(_fitted(result, other), target, request)
    found = resolve(ask)
    store = Cache(enabled=request.cache)
    key = digest(program(), found.key, request.what.key(target))
    whole = digest(key, request.place.runtime, constants(), msgspec.json.encode(target))
    saved = None if _rules_added() else store.load("analysis", whole, _still(found))
    if saved is not None:
        return _as_asked(document.from_json(saved), target, request)
    result, record = _made(found, target, request, store, key)

    def again(batch: int) -> Analysis:
        other = resolve(replace(ask, batch=batch))
        return _made(other, target, request, store, digest(program(), other.key, request.what.key(target)))[0]

    result = _fitted(result, again)
    if record is not None:
        store.store("analysis", whole, document.to_json(result), record=record)
    return _as_asked(result, target, request)


def _as_asked(result: Analysis, target: Device, request: Request) -> Analysis:
    """With how it was asked for, so that it can be asked for again: one answer of the cache serves several questions."""
    ask = request.ask
    texts = {name: value if isinstance(value, str) else repr(value) for name, value in ask.settings.items()}
    setting = msgspec.structs.replace(
        result.setting, asked=True, asked_batch=ask.batch, inputs=ask.inputs, resolution=ask.resolution,
        set=texts, constants=constants_digest(),
    )  # fmt: skip
    known = msgspec.structs.replace(result.device, fingerprint=device_digest(target))
    return msgspec.structs.replace(result, setting=setting, device=known)


def _made(found: Source, target: Device, request: Request, store: Cache, key: str) -> tuple[Analysis, Record | None]:
    """The analysis, of a trace that is known or of a new one; and what it depends on (None: it must not be kept)."""
    known = store.load("trace", key, _still(found))
    if known is None:
        return _first(found, target, request, store, key)
    record, trace = msgspec.msgpack.decode(known, type=tuple[Record, Trace])
    result = _analyse(trace, target, request)
    return result, None if _rules_missing(record) or _rules_added() else record


def _fitted(result: Analysis, again: Callable[[int], Analysis | None]) -> Analysis:
    """The analysis, with the largest batch that fits where this one does not; `again` asks about another batch."""
    from roofline.analysis import capacity

    def peak(batch: int) -> int:
        other = again(batch)
        if other is None or other.setting.batch != batch:
            raise UsageError("its batch is fixed")
        return other.totals.peak_memory_bytes

    return capacity.checked(result, peak)


def _first(found: Source, target: Device, request: Request, store: Cache, key: str) -> tuple[Analysis, Record | None]:
    """Build, trace and analyse; the trace is kept with all that it depends on, where that can be known."""
    if found.kind.torch:
        request.progress("importing torch")
    with alone(found) as run:
        trace = run.watch(lambda: trace_source(found, target, request.what, request.progress))
        rules = _rules_added()
        result = _analyse(trace, target, request)
        record = run.record() if request.cache else None
        # rules that the model's own file enters are not there when its trace is read back
        if record is not None and not (rules - run.rules):
            store.store("trace", key, msgspec.msgpack.encode((record, trace)), record=record)
    return result, None if run.rules else record


class Run:
    """One model's code at work, apart from everything else in this process: see `alone`."""

    def __init__(self, found: Source, loaded: Any) -> None:
        self.found, self.loaded, self.rules = found, loaded, _rules_added()
        self.seen: Any = None

    def watch(self, work: Callable[[], Trace]) -> Trace:
        from roofline.isolation import watching

        with watching.watched() as self.seen:
            return work()

    def record(self) -> Record | None:
        """What the result depends on; None where that cannot be known, or has changed meanwhile."""
        from roofline import cost
        from roofline.isolation import watching

        code = self.found.kind.code != "package"
        try:
            return watching.record(self.seen, self.loaded, self.found.files, code=code, rules=cost.asked_packages())
        except (watching.Changed, OSError):
            return None


@contextmanager
def guarded(name: str, own_code: bool = True) -> Iterator[None]:
    """Around what runs a model's code: what it changes in this process is undone, what it raises is a ModelError of one line,
    and it cannot end the process. `own_code` False: it is a model of this project, which changes nothing."""
    from roofline.isolation import failures, leftovers

    before = frozenset(sys.modules)

    def goes(value: Any) -> bool:
        """Whether what took the place of something of torch's was the model's doing, and not a library's that stays."""
        module = sys.modules.get(getattr(value, "__module__", None) or "")
        libraries = any(
            n not in before and places.kind_of(places.origin(m)) == "installed" for n, m in list(sys.modules.items())
        )
        return not libraries or module is None or places.kind_of(places.origin(module)) == "own"

    with leftovers.undone(goes, own_code), failures.told(name):
        if own_code:
            with failures.no_way_out(name), leftovers.no_exit_handlers():
                yield
        else:
            yield


@contextmanager
def alone(found: Source) -> Iterator[Run]:
    """Around what builds and runs a model by name: as `guarded`, and its modules are its own, and it starts from torch's
    defaults."""
    from roofline.isolation import failures, leftovers, modules

    if found.kind.torch:
        import torch  # noqa: F401  # before anything is noted, so that what torch sets up is not undone

    own_code = found.kind.code != "ours"
    if own_code:
        failures.audited()
    with guarded(found.name, own_code), (modules.isolated if own_code else modules.ours)(found.places) as loaded:
        if found.kind.torch:
            leftovers.defaults(own_code)
        if found.kind.code == "person":
            sys.argv = [found.where]
        yield Run(found, loaded)


def _still(found: Source) -> Callable[[Any], bool]:
    """Whether what an entry of the cache depends on is as it was."""
    return lambda record: dependencies.holds(record, found.places)


def _rules_added() -> frozenset[str]:
    """Operators for which somebody registered a rule in this process: a function's answers cannot be a part of a key."""
    cost = sys.modules.get("roofline.cost")
    return frozenset(cost.added()) if cost else frozenset()


def _rules_missing(record: Record) -> bool:
    """Whether an operator without a rule of ours was met only now, which the record of its trace does not say."""
    cost = sys.modules.get("roofline.cost")
    return bool(cost and cost.asked_packages() and record.rules is None)


def traced(found: Source, request: Request) -> tuple[Trace, Analysis]:
    """A model by name, uncached: its trace, and the analysis made of it."""
    check(request)
    target = target_of(request.place)
    with alone(found):
        trace = trace_source(found, target, request.what, request.progress)
        result = _fitted(_analyse(trace, target, request), lambda batch: None)
        return trace, _as_asked(result, target, request)


def _analyse(trace: Trace, target: Device, request: Request) -> Analysis:
    # here and not above: a cached analysis needs none of it
    from roofline.analysis import language, memory, padding, physics
    from roofline.kernels import build as kernels
    from roofline.timemodel import roof

    what, runtime = request.what, request.place.runtime
    launched = kernels.build(trace, runtime, target.kind)
    peak = memory.peak(trace, target)
    points = roof.place(launched, target, setting=what.dtype, runtime=runtime, footprint=peak.total)
    from roofline.version import __version__

    tool = ToolInfo(__version__, compat.version("torch"))
    paths = [layer.path for layer in trace.layers]
    said = physics.notes(launched, points, target, paths)
    said += padding.notes(launched, points, target, paths, setting=what.dtype, runtime=runtime, footprint=peak.total)
    result = summary.summarise(trace, launched, points, target, peak, runtime=runtime, tool=tool, notes=said)
    if what.update:
        setting = msgspec.structs.replace(result.setting, optimizer=what.update)
        # in this count only fresh tensors move, and an update is made in place
        notes = ["ideal runtime: the optimizer's update in place moves no bytes"] if runtime == "ideal" else []
        result = msgspec.structs.replace(result, setting=setting, notes=[*result.notes, *notes])
    if what.prefill or what.decode:
        info = language.summary(trace, launched, result.totals.time_s, what.prefill, what.decode)
        result = msgspec.structs.replace(result, language=info, notes=[language.sentence(info), *result.notes])
    return result


def trace_source(
    found: Source, target: Device, what: Pass = FORWARD, progress: Callable[[str], None] = lambda text: None
) -> Trace:
    """Build the model and trace it; no cache, and nothing undone (see `alone`)."""
    if not found.kind.torch:
        return found.kind.checked(found, found.kind.trace(found, what, progress))
    compat.needs("torch")
    progress("importing torch")
    from roofline.sources import build

    progress(f"building {found.name}")
    builder = build.Builder(found)
    module = builder()
    progress(f"tracing {found.name}")
    inputs = build.inputs(found)
    result = _traced(module, inputs, found.name, found.label, target, what, progress, lambda: builder(real=True))
    result = found.kind.checked(found, result)
    return _noted(result, *found.notes, *builder.notes, *also_known(found))


def _trace_module(request: Request, target: Device) -> Trace:
    from roofline.tracing import trace
    from roofline.tracing.arguments import tensors_in

    ask, what = request.ask, request.what
    module: nn.Module = ask.model
    if ask.args is None and ask.kwargs is None:
        return _traced(module, default_image(ask), type(module).__name__, "", target, what, request.progress, lambda: module)
    args, kwargs = list(ask.args or ()), dict(ask.kwargs or {})
    batch = next((t.shape[0] for t in tensors_in((args, kwargs)) if t.dim()), 1)

    def run_on(m: nn.Module, real: bool) -> Trace:
        return trace.trace(
            m, args, kwargs, dtype=what.dtype, device_kind=target.kind, batch=batch, optimizer=what.update, real=real
        )

    given = [t for t in tensors_in((args, kwargs)) if not t.is_meta]
    values = "with the values given" if given else "random inputs"
    return _or_real(run_on, module, type(module).__name__, values, request.progress, lambda: module)


def _traced(
    module: nn.Module,
    inputs: Sequence[Input],
    name: str,
    label: str,
    target: Device,
    what: Pass,
    progress: Callable[[str], None],
    with_values: Callable[[], nn.Module],
) -> Trace:
    """Trace on meta tensors; a model whose shapes depend on data is run once on real ones, and the notes say so."""
    from roofline.sources import build
    from roofline.tracing import language, trace

    def run_on(m: nn.Module, real: bool) -> Trace:
        notes: list[str] = []
        if what.prefill or what.decode:
            args: list[Any] = []
            kwargs, notes = language.call(m, what.prefill, what.decode, _batch(inputs))
        else:
            args, kwargs = build.call_with(m, inputs)
        result = trace.trace(
            m,
            args,
            kwargs,
            name=name,
            source=label,
            dtype=what.dtype,
            device_kind=target.kind,
            batch=_batch(inputs),
            real=real,
            optimizer=what.update,
        )
        return _noted(result, *notes)

    if build.is_quantized(module):
        return _noted(run_on(module, True), "quantized kernels run on real tensors only: traced on them, random weights")
    result = _or_real(run_on, module, name, "random weights, seed 0", progress, with_values)
    real = any(" traced on real tensors" in note for note in result.notes)
    return _noted(result, "masks were taken as true everywhere") if real and _masks(inputs) else result


def _masks(inputs: Sequence[Input]) -> bool:
    return any(i.dtype == "bool" for i in inputs)


def _or_real(
    run_on: Callable[[nn.Module, bool], Trace],
    module: nn.Module,
    name: str,
    values: str,
    progress: Callable[[str], None],
    with_values: Callable[[], nn.Module],
) -> Trace:
    """`run_on(module, False)`; where that asks for values, once more on real tensors, and a note says with which values."""
    from roofline.tracing import trace

    try:
        return run_on(module, False)
    except trace.NeedsValues as error:
        nbytes = sum(t.numel() * t.element_size() for t in module.parameters())
        if nbytes > REAL_LIMIT:
            raise ModelError(
                f"{error}\nits shapes depend on data, and {units.binary(nbytes)} of parameters are too much to run for real"
            ) from error
        progress(f"{name} depends on data: running it once on real tensors")
        real = with_values()
        if any(t.is_meta for t in real.parameters()):
            raise ModelError(
                f"{error}\nits shapes depend on data, so it needs real weights: give a module that is not on meta"
            ) from error
        result = run_on(real, True)
        why = "an operator has no meta kernel" if "Meta kernel" in str(error) else "shapes depend on data"
        return _noted(result, f"{why}: traced on real tensors, {values}", *_saw(result))


def _noted(result: Trace, *notes: str) -> Trace:
    return msgspec.structs.replace(result, notes=(*result.notes, *notes))


def _saw(result: Trace) -> list[str]:
    """How many boxes a detector pooled and suppressed: its cost depends on them."""
    pooled: dict[str, int] = {}
    suppressed = 0
    for op in result.ops:
        spec = result.specs[op.spec]
        if spec.name == "torchvision.nms":
            suppressed += spec.inputs[0].shape[0]
        elif spec.name in ("torchvision.roi_align", "torchvision.roi_pool", "torchvision.ps_roi_align"):
            path = result.layers[op.layer].path
            pooled[path] = pooled.get(path, 0) + spec.inputs[1].shape[0]
    out = [f"{count:,} proposals pooled by {path}" for path, count in pooled.items()]
    return out + ([f"{suppressed:,} boxes went into non-maximum suppression"] if suppressed else [])


def _batch(inputs: Sequence[Input]) -> int:
    return inputs[0].shape[0] if inputs and inputs[0].shape else 1
