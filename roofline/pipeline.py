"""The stages in order: source -> trace -> kernels -> roof -> analysis, with what the cache can answer in between."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import cache as memoized
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from roofline import analysis, device, source, units
from roofline.cache import Cache, digest
from roofline.device import Device
from roofline.records import RUNTIMES, Analysis, ModelError, ToolInfo, Trace, UsageError

if TYPE_CHECKING:
    from torch import nn

# A model whose shapes depend on data has to run: up to this many bytes of parameters.
REAL_LIMIT = 4 * 2**30
OPTIMIZERS = ("sgd", "adam", "adamw")
DTYPES = ("fp32", "tf32", "fp16", "bf16", "amp", "fp64")


class Request(NamedTuple):
    """What analyze() was asked for, as given."""

    device: str | Device
    batch: int | None
    inputs: tuple[str, ...]
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    resolution: int | None
    dtype: str
    runtime: str
    training: bool
    settings: dict[str, str]
    cache: bool
    progress: Callable[[str], None]
    optimizer: str = "adam"
    prefill: int | None = None
    decode: int | None = None
    # of the machine around a GPU: "10 us", or seconds
    host: str | float | None = None

    @property
    def what(self) -> Pass:
        return Pass(self.dtype, self.optimizer.lower() if self.training else "", self.prefill, self.decode)


class Pass(NamedTuple):
    """Which pass of a model is traced, and in which dtype."""

    dtype: str = "fp32"
    # of a training step; empty for inference
    optimizer: str = ""
    # tokens of a language model's prompt, or in its cache before one more
    prefill: int | None = None
    decode: int | None = None

    def key(self, target: Device) -> str:
        """What a trace depends on; some passes are not the same on a GPU and a CPU."""
        return repr((*self, target.kind if self.dtype == "amp" or self.optimizer else ""))


FORWARD = Pass()


def run(model: str | nn.Module, request: Request) -> Analysis:
    """Answer a request, from the cache where it can."""
    # With torch loaded, a garbage collection costs more than the work between two of them, and our records hold no cycles.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _answer(model, request)
    finally:
        if collects:
            gc.enable()


def _answer(model: str | nn.Module, request: Request) -> Analysis:
    target = request.device if isinstance(request.device, Device) else device.lookup(request.device)
    _check(request)
    (target,) = device.with_host([target], request.host, request.runtime)
    if not isinstance(model, str):
        return _analyse(_trace_module(model, request, target), target, request)
    found = source.resolve(
        model, settings=request.settings, inputs=request.inputs, batch=request.batch, resolution=request.resolution
    )
    store = Cache(enabled=request.cache)
    key = digest(program(), found.key, request.what.key(target))
    whole = digest(key, request.runtime, msgspec.json.encode(target))
    saved = store.load("analysis", whole)
    if saved is not None:
        return analysis.from_json(saved)
    trace, files = _trace_source(found, key, store, target, request)
    result = _analyse(trace, target, request)
    if files is not None:
        store.store("analysis", whole, analysis.to_json(result), files)
    return result


def traced(found: source.Source, request: Request) -> tuple[Trace, Analysis]:
    """A model by name, uncached: its trace, and the analysis made of it. The request's device is a Device."""
    assert isinstance(request.device, Device)
    _check(request)
    trace = trace_source(found, request.device, request.what, request.progress)
    return trace, _analyse(trace, request.device, request)


def _check(request: Request) -> None:
    if request.dtype == "int8":
        raise UsageError(
            "int8 needs a quantized model, whose own ops are int8: name one (its dtype is then its own) and leave --dtype out"
        )
    if request.dtype not in DTYPES:
        raise UsageError(f"unknown dtype {request.dtype!r}; use one of {', '.join(DTYPES)}")
    if request.runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {request.runtime!r}; use one of {', '.join(RUNTIMES)}")
    if request.optimizer.lower() not in OPTIMIZERS:
        raise UsageError(f"unknown optimizer {request.optimizer!r}; use one of {', '.join(OPTIMIZERS)}")
    if (request.prefill is not None) + (request.decode is not None) + request.training > 1:
        raise UsageError("prefill, decode and training are three different passes; ask for one of them")
    for name in ("batch", "resolution", "prefill", "decode"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")


@memoized
def program() -> str:
    """This program and torch: versions, and the state of our own files (a checkout changes without a new version)."""
    here = Path(__file__).parent
    files = sorted(found for p in ("*.py", "cost/*.py", "inductor/*.py", "*.toml") for found in here.glob(p))
    state = ",".join(f"{f.name}:{(s := f.stat()).st_size}:{s.st_mtime_ns}" for f in files)
    return digest(state, source.package_version("torch"))


def _analyse(trace: Trace, target: Device, request: Request) -> Analysis:
    # here and not above: a cached analysis needs none of it
    from roofline import kernels, language, memory, roof

    launched = kernels.build(trace, request.runtime, target.kind)
    peak = memory.peak(trace, target)
    points = roof.place(launched, target, setting=request.dtype, runtime=request.runtime, footprint=peak.total)
    from roofline import __version__

    tool = ToolInfo(__version__, source.package_version("torch"))
    result = analysis.summarise(trace, launched, points, target, peak, runtime=request.runtime, tool=tool)
    if request.training:
        setting = msgspec.structs.replace(result.setting, optimizer=request.optimizer.lower())
        result = msgspec.structs.replace(result, setting=setting)
    if request.prefill or request.decode:
        info = language.summary(trace, launched, result.totals.time_s, request.prefill, request.decode)
        result = msgspec.structs.replace(result, language=info, notes=[language.sentence(info), *result.notes])
    return result


def _trace_source(
    found: source.Source, key: str, store: Cache, target: Device, request: Request
) -> tuple[Trace, Sequence[Path] | None]:
    """The trace, from the cache where it is there, and the files that it depends on (None: it must not be kept)."""
    saved = store.load("trace", key)
    if saved is not None:
        entry = msgspec.msgpack.decode(saved, type=tuple[list[str], Trace])
        return entry[1], [Path(f) for f in entry[0]]
    from roofline import dependencies

    with dependencies.watched() as opened:
        result = trace_source(found, target, request.what, request.progress)
    files = list(found.files)
    if found.kind in ("file", "module"):
        try:
            files += dependencies.own_files(opened, found.where if found.kind == "module" else "")
        except dependencies.Changed:
            return result, None
    store.store("trace", key, msgspec.msgpack.encode((list(map(str, files)), result)), files)
    return result, files


def trace_source(
    found: source.Source, target: Device, what: Pass = FORWARD, progress: Callable[[str], None] = lambda text: None
) -> Trace:
    """Build the model and trace it; no cache."""
    if found.kind == "onnx":
        progress(f"reading {found.name}")
        return _trace_onnx(found, what)
    progress("importing torch")
    from roofline import build

    progress(f"building {found.name}")
    builder = build.Builder(found)
    module = builder()
    progress(f"tracing {found.name}")
    inputs = build.inputs(found)
    result = _traced(module, inputs, found.name, found.label, target, what, progress, lambda: builder(real=True))
    return _noted(result, *found.notes, *source.also_known(found))


def _trace_onnx(found: source.Source, what: Pass) -> Trace:
    from roofline.onnx_graph import sized
    from roofline.onnx_trace import trace

    if found.args:
        raise UsageError(f"{found.name} is a finished graph: --set cannot change it")
    if found.asked.resolution is not None:
        raise UsageError(f"{found.name} is an ONNX graph: give its shape with --input instead of --resolution")
    if what.optimizer or what.prefill or what.decode:
        raise UsageError(f"{found.name} is an ONNX graph, which is one forward pass: no training, prefill or decode")
    if what.dtype not in ("fp32", "tf32"):
        raise UsageError(f"{found.name} is an ONNX graph, which fixes its dtypes: leave --dtype out")
    asked = [(i.name, i.shape, i.dtype) for i in source.given(found.asked)]
    return trace(found.where, found.name, sized(found.where, asked, found.asked.batch))


def _trace_module(module: nn.Module, request: Request, target: Device) -> Trace:
    from roofline import trace
    from roofline.recorder import tensors_in

    if request.args is None and request.kwargs is None:
        shapes = source.shapes(request.inputs, request.batch, request.resolution)
        return _traced(module, shapes, type(module).__name__, "", target, request.what, request.progress, lambda: module)
    args, kwargs = list(request.args or ()), dict(request.kwargs or {})
    batch = next((t.shape[0] for t in tensors_in((args, kwargs)) if t.dim()), 1)
    what = request.what
    return trace.trace(module, args, kwargs, dtype=what.dtype, device_kind=target.kind, batch=batch, optimizer=what.optimizer)


def _traced(
    module: nn.Module,
    inputs: Sequence[source.Input],
    name: str,
    label: str,
    target: Device,
    what: Pass,
    progress: Callable[[str], None],
    with_values: Callable[[], nn.Module],
) -> Trace:
    """Trace on meta tensors; a model whose shapes depend on data is run once on real ones, and the notes say so."""
    from roofline import build, language, trace

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
            optimizer=what.optimizer,
        )
        return _noted(result, *notes)

    if build.is_quantized(module):
        return _noted(run_on(module, True), "quantized kernels run on real tensors only: traced on them, random weights")
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
        return _noted(result, f"{why}: traced on real tensors, random weights, seed 0", *_saw(result))


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


def _batch(inputs: Sequence[source.Input]) -> int:
    return inputs[0].shape[0] if inputs and inputs[0].shape else 1
