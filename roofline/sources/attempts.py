"""One model, traced in the quickest way that goes through: on meta, with the values that are there, for real."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from roofline import units
from roofline.errors import ModelError, RooflineError, SourceError
from roofline.records import Trace

if TYPE_CHECKING:
    import torch
    from torch import nn

    from roofline.tracing.ways import Stopped, Way

    Run = Callable[[nn.Module, Way, torch.dtype | None], Trace]

# A model that asks for values has to run: up to this many bytes of parameters.
REAL_LIMIT = 4 * 2**30
# One that failed in another way may do better for real; it is tried where that is cheap: bytes of parameters, and of what it
# had made when it failed.
SMALL_MODEL, SMALL_PASS = 2**29, 2**30

# Of the note on a model that ran, on values of its own or random ones.
REAL = "traced on real tensors"
# Why it did, where another run may have other shapes.
DATA = "shapes depend on data"
TRACERS = "traced as torch.compile and torch.export do: parts that look at values are skipped, as the model has it"
GRADIENTS = "it takes gradients as it runs, or hooks to them: traced with autograd on, and what it keeps is in the peak memory"
HERE = "the accelerator that the model's code asks for is the host here: moves to it cost nothing"


def traced(
    run: Run,
    module: nn.Module,
    name: str,
    values: str,
    progress: Callable[[str], None],
    with_values: Callable[[], nn.Module],
    others: Callable[[], list[torch.dtype]],
) -> Trace:
    """`run(module, way, None)` in the first way that goes through; a note says which, where it is not the quick one.

    `values` says what values a real run has, `with_values` gives the module for one, and `others` in which dtypes its floating
    inputs may be meant where it does not take them as they are. Raises ModelError where no way goes through.
    """
    from roofline.tracing import ways

    first, found = _meta(run, module, None)
    floats: torch.dtype | None = None
    for dtype in others() if first is not None and found is None and not isinstance(first, ways.NeedsValues) else ():
        stopped, other = _meta(run, module, dtype)
        if stopped is None or other is not None or isinstance(stopped, ways.NeedsValues):
            said = f"floating inputs were taken in {str(dtype)[6:]}: as they are given the model fails ({_words(first)})"
            run, floats = _noting(run, said), dtype
            first, found = stopped, noted(other, said) if other is not None else None
            break
    if first is None:
        assert found is not None
        return found
    try:
        real = _with_values(module, first, found is not None, lambda: _begun(progress, name, with_values))
        way, result = _for_real(run, real, first, floats, found is not None)
    except (ModelError, SourceError):
        if found is not None:
            return found
        raise
    return noted(result, f"{_why(first)}: {REAL}, {values}", *_said(way), *_saw(result))


def _for_real(run: Run, real: nn.Module, first: Stopped, floats: torch.dtype | None, found: bool) -> tuple[Way, Trace]:
    """The way and the trace of a real run. Who asked on which device tensors lie is told the one that was asked for; where that
    does not go through, the truth, unless that is `found` already."""
    from roofline.tracing import ways

    way = ways.Way(real=True, here=first.asked.accelerator, limits=first.limits, gradients=first.asked.gradients)
    if first.asked.place:
        placed = replace(way, place=True)
        try:
            return placed, run(real, placed, floats)
        except ModelError:
            if found:
                raise
    return way, run(real, way, floats)


def _begun(progress: Callable[[str], None], name: str, with_values: Callable[[], nn.Module]) -> nn.Module:
    progress(f"{name} depends on data: running it once on real tensors")
    return with_values()


def _with_values(module: nn.Module, first: Stopped, swallowed: bool, with_values: Callable[[], nn.Module]) -> nn.Module:
    """The module for a real run. Raises what stopped the first pass, with why there is none, where it is too large for one or
    has no weights."""
    from torch.nn.parameter import is_lazy

    from roofline.tracing import looks, ways

    needs = isinstance(first, ways.NeedsValues)
    size = sum(t.numel() * t.element_size() for t in module.parameters() if not is_lazy(t))
    small = size <= SMALL_MODEL and first.made <= SMALL_PASS
    swallowed &= str(first) != looks.PLACE
    if size > REAL_LIMIT or not (needs or swallowed or small):
        why = f"its shapes depend on data, and {units.binary(size)} of parameters are too much to run for real"
        raise ModelError(f"{first}\n{why}") if needs else first
    try:
        real = with_values()
    except SourceError as error:
        why = f"its shapes depend on data, and it was not run for real: {str(error).splitlines()[-1]}"
        raise (ModelError(f"{first}\n{why}") if needs else first) from None
    if any(t.is_meta for t in real.parameters()):
        why = "its shapes depend on data, so it needs real weights: give a module that is not on meta"
        raise ModelError(f"{first}\n{why}") if needs else first
    return real


def on_meta(run: Run, module: nn.Module) -> Trace | None:
    """The trace where the pass goes through without a real run; None where it does not."""
    try:
        why, found = _meta(run, module, None)
    except RooflineError:
        return None
    return found if why is None else None


def _words(error: Exception | None) -> str:
    """Torch's words in a line."""
    return " ".join(str(error).rpartition("Error: ")[2].split())[:200]


def _noting(run: Run, note: str) -> Run:
    return lambda module, way, floats: noted(run(module, way, floats), note)


def _meta(run: Run, module: nn.Module, floats: torch.dtype | None) -> tuple[Stopped | None, Trace | None]:
    """As `_passes`. Who asks on which device tensors lie is told the one that was asked for, where it goes through then."""
    from roofline.tracing import looks, ways

    why, found = _passes(run, module, floats)
    if not ((why is not None and why.asked.place) or (found is not None and looks.PLACE in found.notes)):
        return why, found
    stopped, placed = _passes(run, module, floats, place=True)
    if stopped is None:
        return None, placed
    if why is None:
        why = ways.Stopped(looks.PLACE)
    why.asked.place = True
    return why, found


def _passes(
    run: Run, module: nn.Module, floats: torch.dtype | None, place: bool = False
) -> tuple[Stopped | None, Trace | None]:
    """The trace on meta, in the first way that goes through; where that is none, why. Both, where the model went on after an
    operator failed."""
    from roofline.tracing import looks, told, trace, ways

    why: Stopped | None = None
    found: Trace | None = None
    way = ways.Way(place=place)
    while True:
        try:
            result = run(module, way, floats)
        except ways.Stopped as error:
            why, found = _joined(why, error), None
        else:
            unsure = next((note for note in (trace.REFUSED, looks.NOTE, told.NOTE) if note in result.notes), "")
            if not unsure:
                return None, noted(result, *_said(way))
            found = noted(result, *_said(way))
            why = why or ways.Stopped(unsure)
        if why.asked.gradients and not way.gradients:
            way = replace(way, gradients=True)
        elif not way.values:
            way = ways.Way(values=True, here=why.asked.accelerator, limits=why.limits, gradients=way.gradients, place=place)
        elif not way.tracers and why.asked.tracing:
            way = replace(way, tracers=True, here=why.asked.accelerator, limits=why.limits)
        else:
            return why, found


def _joined(first: Stopped | None, then: Stopped) -> Stopped:
    """What was learned in both passes; the words are those of the first."""
    if first is None:
        return then
    first.limits = {at: min(first.limits.get(at, size), size) for at, size in {**first.limits, **then.limits}.items()}
    first.made = max(first.made, then.made)
    first.asked.accelerator |= then.asked.accelerator
    first.asked.tracing |= then.asked.tracing
    first.asked.gradients |= then.asked.gradients
    first.asked.place |= then.asked.place
    return first


def _why(error: Stopped) -> str:
    from roofline.tracing import looks, told, ways

    if str(error) == looks.NOTE:
        return "its code asks whether tensors have memory"
    if str(error) == told.NOTE:
        return "how much an operator does depends on values"
    if str(error) == looks.PLACE:
        return "its code asks on which device tensors lie"
    if "Meta kernel" in str(error):
        return "an operator has no meta kernel"
    return DATA if isinstance(error, ways.NeedsValues) else "without values it does not go through"


def _said(way: Way) -> list[str]:
    return [TRACERS] * way.tracers + [HERE] * way.here + [GRADIENTS] * way.gradients


def noted(result: Trace, *notes: str) -> Trace:
    """The trace with more to know of it."""
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
    out = [f"{count:,} proposals pooled by {path or 'the model'}" for path, count in pooled.items()]
    return out + ([f"{suppressed:,} boxes went into non-maximum suppression"] if suppressed else [])
