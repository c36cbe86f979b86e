"""A model -> its Trace: built, and called on tensors without storage, or for real where its shapes depend on data."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from roofline import compat
from roofline.devices.device import Device
from roofline.errors import ModelError
from roofline.isolation import accelerator
from roofline.records import Trace
from roofline.request import FORWARD, Pass, Request
from roofline.sources import attempts
from roofline.sources.attempts import noted

if TYPE_CHECKING:
    import torch
    from torch import nn

    from roofline.sources.calls import Example
    from roofline.sources.kept import Kept
    from roofline.sources.source import Source
    from roofline.sources.values import Input
    from roofline.tracing.ways import Way


QUANTIZED = "quantized kernels run on real tensors only: traced on them, random weights"


def trace_source(
    found: Source,
    target: Device,
    what: Pass = FORWARD,
    progress: Callable[[str], None] = lambda text: None,
    kept: Kept | None = None,
) -> Trace:
    """Build the model and trace it; no cache, and nothing undone (see `alone`). `kept` has it from an earlier pass."""
    if not found.kind.torch:
        return found.kind.checked(found, found.kind.trace(found, what, progress))
    with accelerator.board(target) as board:
        return _told(_source(found, target, what, progress, kept), board)


MISSED = "its code asks while it is built whether there is a GPU, and was told of none: with one it may be built in another way"


def _told(result: Trace, board: accelerator.Board) -> Trace:
    """The trace, with what its model was told of the GPU."""
    if board.device.kind != "gpu":
        return result
    if board.missed:
        result = noted(result, MISSED)
    if not board.asked:
        return result
    said = noted(result, f"its code asks which GPU it runs on: it was told of the {board.device.title}, by that device's data")
    return replace(said, board=board.key, anywhere=False)


def _source(found: Source, target: Device, what: Pass, progress: Callable[[str], None], kept: Kept | None) -> Trace:
    compat.needs("torch")
    progress("importing torch")
    from roofline.isolation import network
    from roofline.sources import build
    from roofline.sources.inputs import ASSUMED, assumed, given
    from roofline.sources.resolve import also_known

    progress(f"building {found.name}")
    builder, module = kept.built(found) if kept else build.made(found)
    progress(f"tracing {found.name}")
    language = what.prefill or what.decode
    guesses = found.kind.guesses and not language
    guessed = guesses and not found.asked.inputs
    try:
        calls = found.kind.calls(found, module) if guesses else iter(())
        inputs: Sequence[Input] | Example = next(calls) if guesses else build.inputs(found, module)
        more = chain([inputs], calls) if isinstance(inputs, tuple) and found.kind.guesses else ()
        real = partial(builder, real=True) if kept is None else kept.real(builder)
        result = _traced(module, inputs, found.name, found.label, target, what, progress, real, more)
    except ModelError as error:
        if not guessed:
            raise
        raise ModelError(f"{error}\n{found.kind.assumed(found)}") from error
    if found.asked.inputs and isinstance(inputs, Sequence):
        from roofline.sources.calls import call_with

        said = {i.name for i in given(found.asked.inputs)}
        result = _in_range(result, *call_with(module, inputs), said)
    if guessed:
        shapes = ", ".join(f"{i.name} {'x'.join(map(str, i.shape))}" for i in result.model.inputs)
        result = noted(result, f"inputs assumed: {shapes}; give others with --input NAME=SHAPE")
    result = found.kind.checked(found, result)
    notes = [note for note in found.notes if note != ASSUMED]
    if ASSUMED in found.notes and isinstance(inputs, Sequence) and inputs:
        notes.append(assumed(inputs))
    return noted(result, *notes, *builder.notes, *also_known(found), *network.notes())


def trace_module(request: Request, target: Device) -> Trace:
    with accelerator.board(target) as board:
        return _told(_module(request, target), board)


def _module(request: Request, target: Device) -> Trace:
    import torch

    from roofline.tracing import trace
    from roofline.tracing.arguments import is_quantized
    from roofline.tracing.given import tensors_of
    from roofline.tracing.subclasses import dense
    from roofline.tracing.ways import Way

    ask, what = request.ask, request.what
    module: nn.Module = ask.model
    name, source = type(module).__name__, ""
    if not isinstance(module, torch.nn.Module):
        from roofline.tracing.functions import Function

        module = Function(ask.model)
        name, source = module.title, str(getattr(ask.model, "__module__", ""))
    if ask.args is None and ask.kwargs is None:
        from roofline.sources.calls import takes_nothing  # not where the call was given
        from roofline.sources.inputs import default_image

        nothing = ask.batch is None and ask.resolution is None and not ask.inputs and takes_nothing(module.forward)
        inputs = () if nothing else default_image(ask)
        return _traced(module, inputs, name, "", target, what, request.progress, lambda: module)
    args, kwargs = list(ask.args or ()), dict(ask.kwargs or {})
    tensors = [dense(t) for _, t in tensors_of((args, kwargs))]
    batch = next((t.shape[0] for t in tensors if t.dim()), 1)

    def run_on(m: nn.Module, way: Way, floats: torch.dtype | None) -> Trace:
        return trace.trace(
            m,
            args,
            kwargs,
            name=name,
            source=source,
            dtype=what.dtype,
            floats=floats,
            device_kind=target.kind,
            batch=batch,
            optimizer=what.update,
            way=way,
            turns=what.turns,
            channels_last=what.channels_last,
        )

    if is_quantized(module):
        return noted(run_on(module, Way(real=True), None), QUANTIZED)
    values = "with the values given" if any(not t.is_meta for t in tensors) else "random inputs"
    others = partial(_others, module, lambda: (args, kwargs), what)
    result = attempts.traced(run_on, module, name, values, request.progress, lambda: module, others)
    return _in_range(result, args, kwargs)


def _in_range(result: Trace, args: Sequence[Any], kwargs: Mapping[str, Any], names: Container[str] | None = None) -> Trace:
    """The trace. Raises ModelError where an input of these names, or any, holds an index past what it is used for."""
    import torch

    call = {str(i): value for i, value in enumerate(args)} | dict(kwargs)
    given = {name: t for name, t in call.items() if isinstance(t, torch.Tensor) and (names is None or name in names)}
    if all(t.is_meta for t in given.values()):
        return result
    from roofline.tracing.ranges import in_range  # not for who gives shapes

    return in_range(result, given)


def _others(module: nn.Module, call: Callable[[], Any], what: Pass) -> list[torch.dtype]:
    """In which dtypes the floating inputs of a model as built may be meant that it does not take as they are."""
    from roofline.tracing import built

    return [] if what.dtype or what.prefill or what.decode else built.others(module, call())


def _traced(
    module: nn.Module,
    inputs: Sequence[Input] | Example,
    name: str,
    label: str,
    target: Device,
    what: Pass,
    progress: Callable[[str], None],
    with_values: Callable[[], nn.Module],
    more: Iterable[tuple[Input, ...]] = (),
) -> Trace:
    """Trace on meta tensors; a model whose shapes depend on data is run once on real ones, and the notes say so.

    `more` are inputs to choose from: the first that go through on meta; `inputs` tell why where none do.
    """
    from roofline.sources import calls  # not what builds models: a module is there
    from roofline.tracing import trace, ways
    from roofline.tracing.arguments import is_quantized

    def run_on(m: nn.Module, way: Way, floats: torch.dtype | None = None, inputs: Sequence[Input] | Example = inputs) -> Trace:
        notes: list[str] = []
        before = None
        if what.prefill or what.decode:
            args: list[Any] = []
            from roofline.tracing import language

            kwargs, notes, before = language.call(m, what.prefill, what.decode, _batch(inputs))
        else:
            args, kwargs = calls.call_with(m, inputs)
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
            way=way,
            optimizer=what.update,
            turns=what.turns,
            channels_last=what.channels_last,
            before=before,
        )
        return noted(result, *notes)

    if is_quantized(module):
        return noted(run_on(module, ways.Way(real=True)), QUANTIZED)
    others = partial(_others, module, lambda: calls.call_with(module, inputs), what)
    for other in more:
        if (found := attempts.on_meta(partial(run_on, inputs=other), module)) is not None:
            return noted(found, *calls.remarks(other))
    try:
        result = attempts.traced(run_on, module, name, "random weights, seed 0", progress, with_values, others)
    except ModelError as error:
        if not (hint := calls.missing(error, inputs)):
            raise
        raise type(error)(f"{error}{hint}") from error
    return noted(result, *calls.remarks(inputs))


def _batch(inputs: Sequence[Input] | Example, call: Any = ()) -> int:
    """Rows of a call: as its inputs were said, else as the first tensor among the arguments has them."""
    from roofline.sources.inputs import rows

    said = rows(inputs) if isinstance(inputs, Sequence) else None
    if said is not None:
        return said
    from roofline.tracing.given import tensors_of

    return next((t.shape[0] for _, t in tensors_of(call) if t.dim()), 1)
