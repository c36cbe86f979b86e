"""A model -> its Trace: built, and called on tensors without storage, or for real where its shapes depend on data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from roofline import compat, units
from roofline.devices.device import Device
from roofline.errors import ModelError
from roofline.records import Trace
from roofline.request import FORWARD, Pass, Request
from roofline.sources.inputs import default_image, rows
from roofline.sources.resolve import also_known
from roofline.sources.source import Source
from roofline.sources.values import Input

if TYPE_CHECKING:
    import torch
    from torch import nn

# A model whose shapes depend on data has to run: up to this many bytes of parameters.
REAL_LIMIT = 4 * 2**30


def trace_source(
    found: Source, target: Device, what: Pass = FORWARD, progress: Callable[[str], None] = lambda text: None
) -> Trace:
    """Build the model and trace it; no cache, and nothing undone (see `alone`)."""
    if not found.kind.torch:
        return found.kind.checked(found, found.kind.trace(found, what, progress))
    compat.needs("torch")
    progress("importing torch")
    from roofline.sources import build
    from roofline.tracing import regions

    progress(f"building {found.name}")
    with regions.kept():
        builder = build.Builder(found)
        module = builder()
    progress(f"tracing {found.name}")
    inputs = build.inputs(found)
    result = _traced(module, inputs, found.name, found.label, target, what, progress, lambda: builder(real=True))
    result = found.kind.checked(found, result)
    return _noted(result, *found.notes, *builder.notes, *also_known(found))


def trace_module(request: Request, target: Device) -> Trace:
    from roofline.tracing import trace
    from roofline.tracing.arguments import tensors_in

    ask, what = request.ask, request.what
    module: nn.Module = ask.model
    if ask.args is None and ask.kwargs is None:
        return _traced(module, default_image(ask), type(module).__name__, "", target, what, request.progress, lambda: module)
    args, kwargs = list(ask.args or ()), dict(ask.kwargs or {})
    batch = next((t.shape[0] for t in tensors_in((args, kwargs)) if t.dim()), 1)

    def run_on(m: nn.Module, real: bool, floats: torch.dtype | None) -> Trace:
        return trace.trace(
            m, args, kwargs, dtype=what.dtype, floats=floats, device_kind=target.kind, batch=batch, optimizer=what.update,
            real=real,
        )  # fmt: skip

    given = [t for t in tensors_in((args, kwargs)) if not t.is_meta]
    values = "with the values given" if given else "random inputs"

    def answer(floats: torch.dtype | None) -> Trace:
        run = partial(run_on, floats=floats)
        return _or_real(run, module, type(module).__name__, values, request.progress, lambda: module)

    return _as_taken(answer, module, lambda: (args, kwargs), what)


def _as_taken(answer: Callable[[torch.dtype | None], Trace], module: nn.Module, call: Callable[[], Any], what: Pass) -> Trace:
    """`answer(None)`; where a model as built fails with its floating inputs, once more with them in a dtype of its own, and a
    note says so."""
    try:
        return answer(None)
    except ModelError as error:
        from roofline.tracing import built

        for dtype in built.others(module, call()) if what.dtype is None else ():
            try:
                result = answer(dtype)
            except ModelError:
                continue
            name = str(dtype)[6:]
            return _noted(result, f"floating inputs were taken in {name}: as they are given the model fails ({_why(error)})")
        raise


def _why(error: ModelError) -> str:
    """Torch's words in a line."""
    return " ".join(str(error).rpartition("Error: ")[2].split())[:200]


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
    from roofline.tracing import trace

    def run_on(m: nn.Module, real: bool, floats: torch.dtype | None = None) -> Trace:
        notes: list[str] = []
        before = None
        if what.prefill or what.decode:
            args: list[Any] = []
            from roofline.tracing import language

            kwargs, notes, before = language.call(m, what.prefill, what.decode, _batch(inputs))
        else:
            args, kwargs = build.call_with(m, inputs)
        result = trace.trace(
            m,
            args,
            kwargs,
            name=name,
            source=label,
            dtype=what.dtype,
            floats=floats,
            device_kind=target.kind,
            batch=_batch(inputs, (args, kwargs)),
            real=real,
            optimizer=what.update,
            before=before,
        )
        return _noted(result, *notes)

    if build.is_quantized(module):
        return _noted(run_on(module, True), "quantized kernels run on real tensors only: traced on them, random weights")

    def answer(floats: torch.dtype | None) -> Trace:
        return _or_real(partial(run_on, floats=floats), module, name, "random weights, seed 0", progress, with_values)

    def call() -> Any:
        return () if what.prefill or what.decode else build.call_with(module, inputs)

    result = _noted(_as_taken(answer, module, call, what), *build.remarks(inputs))
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


def _batch(inputs: Sequence[Input], call: Any = ()) -> int:
    """Rows of a call: as its inputs were said, else as the first tensor among the arguments has them."""
    said = rows(inputs)
    if said is not None:
        return said
    from roofline.tracing.arguments import tensors_in

    return next((t.shape[0] for t in tensors_in(call) if t.dim()), 1)
