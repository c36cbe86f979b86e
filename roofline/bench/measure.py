"""Run a model on this machine and time every kernel: measured beside predicted.

The model runs with random weights. First whole and untimed, then with a dispatch mode that times each operator as the tracer
sees it, so that the operators timed are those of the trace. Timing costs something itself, and the model's Python
between operators belongs to the whole: the difference between the sum of the operators and the untimed whole is spread evenly
over the kernels, so that they add up to the whole.

On a CPU that others use too, only runs and operators count in which no thread waited for a core (see `sampling`). Where no
whole run was left alone, the whole is the sum of the operators, less what timing costs (measured on a chain of small ones).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from difflib import SequenceMatcher
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from roofline import pipeline, units
from roofline.bench import sampling
from roofline.bench.calibration import TooBusy
from roofline.bench.sampling import Sample
from roofline.devices.device import Device
from roofline.devices.threads import working
from roofline.errors import ModelError, UsageError
from roofline.isolation import failures, supervision
from roofline.records import Analysis, Gap, KernelRow, Measurement, Trace, above
from roofline.request import Request
from roofline.sources.alone import alone

if TYPE_CHECKING:
    import torch
    from torch import nn

    from roofline.sources.calls import Example
    from roofline.sources.values import Input

# Seconds of running, about; runs that are thrown away first.
SECONDS = 6.0
WARM_UP = 2
# Runs of each kind: at least, and enough.
LEAST, ENOUGH = 3, 25
# A whole whose quartiles are further apart than this fraction of it says that the machine was busy.
LIMIT = 0.25
# An operator keeps at least this fraction of what the stopwatch showed.
FLOOR = 0.2

Report = Callable[[str], None]


class Timed(Struct, frozen=True):
    """What the clock said: the whole without a stopwatch inside, and each operator of the trace."""

    whole: Sample
    ops: tuple[Sample, ...]
    # seconds that the stopwatch adds to an operator
    cost: float
    threads: int
    notes: tuple[str, ...] = ()


def measure(
    request: Request, *, threads: int | None = None, seconds: float = SECONDS, hold: bool = False, force: bool = False
) -> Analysis:
    """The analysis of a model with what it takes here beside it: `measurement`, and `measured_s` of every row.

    Predicted is eager inference on the request's device, which has to be of this machine: "cpu", "gpu", or a device made from
    its file; on a CPU with as many of its cores as threads run. Raises ModelError where the model cannot run, TooBusy where the
    runs differ by more than LIMIT and `force` is not set.
    """
    from roofline.kernels import build as kernels
    from roofline.sources import build
    from roofline.sources.resolve import resolve

    request = _working(request, threads)
    target, progress = pipeline.target_of(request.place), request.progress
    _here(target)
    found = resolve(request.ask)
    if not found.kind.torch:
        raise UsageError(f"{found.name} is {found.kind.title}: it can be analysed, but PyTorch cannot run it")
    # torch is imported, and nothing of a model has run: its threads are harmless to a fork
    supervision.begun()
    with alone(found):
        trace, predicted = pipeline.with_trace(found, request)
        progress(f"building {found.name} with random weights")
        module = build.build(found, real=True)
        if request.what.fold_bn:
            from roofline.kernels import folding

            unfolded = replace(request, what=replace(request.what, fold_bn=False))
            fold(module, folding.pairs(pipeline.with_trace(found, unfolded)[0]))
        timed = run(
            module,
            build.inputs(found, module),
            trace,
            target,
            request.what.dtype,
            channels_last=request.what.channels_last,
            threads=threads,
            seconds=seconds,
            hold=hold,
            progress=progress,
        )
    if (timed.whole.clean < 2 and timed.whole.spread > LIMIT and _unsure(timed.ops) > len(timed.ops) / 4) and not force:
        raise TooBusy(
            f"this machine is too busy to measure {found.name}: its runs spread by {units.share(timed.whole.spread)} "
            f"(limit {units.share(LIMIT)}), and in {timed.whole.clean} of {timed.whole.taken} "
            "no thread had to wait for a core\n"
            "stop what else runs here, give it longer with --seconds, or use --force"
        )
    launched = kernels.build(trace, "eager", target.kind)
    return attach(predicted, [k.ops for k in launched], timed)


def _working(request: Request, threads: int | None) -> Request:
    """The same on the cores of a CPU that work here: one for each thread, PyTorch's own number of them without `threads`."""
    import torch

    target, run = pipeline.target_of(request.place), threads or torch.get_num_threads()
    if target.kind == "gpu" or "@" in target.name or run >= target.units.value:
        return request
    return replace(request, place=replace(request.place, device=working(target, run)))


def _here(target: Device) -> None:
    if target.kind == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("no CUDA device is here to run the model on; `roofline analyze` predicts without one")


def fold(module: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Puts each batch norm into the layer before it, by torch's own functions; `pairs` are paths of layer and norm.

    Raises UsageError for modules that those functions do not take.
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
    from torch.nn.utils import fusion

    for one, other in pairs:
        layer, norm = module.get_submodule(one), module.get_submodule(other)
        if isinstance(norm, _BatchNorm) and type(norm).forward is _BatchNorm.forward and isinstance(layer, nn.Linear):
            made: nn.Module = fusion.fuse_linear_bn_eval(layer, norm)
        elif isinstance(norm, _BatchNorm) and type(norm).forward is _BatchNorm.forward and isinstance(layer, _ConvNd):
            made = fusion.fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, _ConvTransposeNd))
        else:
            raise UsageError(
                f"{other} ({type(norm).__name__}) after {one} ({type(layer).__name__}): torch's fusion takes plain batch norms "
                "after convolutions and linear layers, so this model cannot be run with its norms folded\n"
                "`roofline analyze --fold-bn` predicts what that would take; leave --fold-bn out to measure it as it is"
            )
        new = {layer: made, norm: nn.Identity()}
        # a module may stand in several places
        for path, child in [*module.named_modules(remove_duplicate=False)]:
            if child in new:
                holder, _, name = path.rpartition(".")
                setattr(module.get_submodule(holder), name, new[child])


def attach(predicted: Analysis, ops: Sequence[Sequence[int]], timed: Timed) -> Analysis:
    """Put what was timed into the rows; `ops` holds the trace's operators of each kernel."""
    shown = [sum(timed.ops[i].median for i in own) for own in ops]
    direct = timed.whole.clean > 1
    added = sum(max(s.median - timed.cost, FLOOR * s.median) for s in timed.ops)
    # a disturbed run is never faster than an undisturbed one
    whole = timed.whole.median if direct else min(added, timed.whole.median)
    times = shares(shown, whole)
    rows = [replace(row, measured_s=t) for row, t in zip(predicted.kernels, times, strict=True)]
    by_layer: dict[str, float] = dict.fromkeys((layer.path for layer in predicted.layers), 0.0)
    by_op: dict[tuple[str, str], float] = {}
    for row, t in zip(rows, times, strict=True):
        for path in [row.layer, *above(row.layer)]:
            if path in by_layer:
                by_layer[path] += t
        by_op[row.op, row.klass] = by_op.get((row.op, row.klass), 0.0) + t
    unsure = sum(any(timed.ops[i].disturbed for i in own) for own in ops)
    notes = [*timed.notes]
    if not direct:
        notes.append("Hardly a run of the whole model was left alone by other programs: measured is the sum of its operators.")
    if unsure:
        notes.append(f"{unsure} of {len(rows)} kernels were disturbed in every run; the faster of those runs stand for them.")
    return replace(
        predicted,
        setting=replace(predicted.setting, tier="measured"),
        kernels=rows,
        layers=[replace(layer, measured_s=by_layer[layer.path]) for layer in predicted.layers],
        ops=[replace(op, measured_s=by_op[op.op, op.klass]) for op in predicted.ops],
        measurement=Measurement(
            time_s=whole,
            throughput=predicted.setting.batch / whole,
            spread=timed.whole.spread if direct else 0.0,
            runs=timed.whole.taken,
            undisturbed=timed.whole.clean,
            whole=direct,
            threads=timed.threads,
            unsure_kernels=unsure,
            gap=gaps(rows),
        ),
        notes=[*notes, *predicted.notes],
    )


def shares(shown: Sequence[float], whole: float) -> list[float]:
    """Each kernel's part of the whole: what the stopwatch showed, less (or plus) the same for each, never below FLOOR of it.

    A kernel that did not run keeps none.
    """
    ran = sum(t > 0 for t in shown)
    if not ran:
        return [0.0 for _ in shown]
    each = (sum(shown) - whole) / ran
    parts = [max(t - each, FLOOR * t) if t else 0.0 for t in shown]
    scale = whole / sum(parts)
    return [p * scale for p in parts]


def gaps(rows: Sequence[KernelRow]) -> list[Gap]:
    """Predicted and measured by class of kernel, the largest difference first."""
    sums: dict[str, tuple[int, float, float]] = {}
    for row in rows:
        n, predicted, measured = sums.get(row.klass, (0, 0.0, 0.0))
        sums[row.klass] = n + 1, predicted + row.time_s, measured + (row.measured_s or 0.0)
    found = [Gap(klass=c, kernels=n, predicted_s=p, measured_s=m) for c, (n, p, m) in sums.items()]
    return sorted(found, key=lambda g: -abs(g.measured_s - g.predicted_s))


def _unsure(ops: Sequence[Sample]) -> int:
    return sum(s.disturbed for s in ops)


# ------------------------------------------------------------------------------------------------ running it


def run(
    module: nn.Module,
    inputs: Sequence[Input] | Example,
    trace: Trace,
    target: Device,
    dtype: str | None = None,
    *,
    channels_last: bool = False,
    threads: int | None = None,
    seconds: float = SECONDS,
    hold: bool = False,
    progress: Report = lambda text: None,
) -> Timed:
    """Time a module that was built with weights. Its dtype and layout are changed to those asked for; it goes to the GPU for a
    GPU."""
    import torch
    from torch.nn import MultiheadAttention, TransformerEncoderLayer

    from roofline.bench.op_timer import CudaClock, HostClock

    gpu = target.kind == "gpu"
    place = torch.device("cuda" if gpu else "cpu")
    before = torch.get_num_threads()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.callback(torch.set_num_threads, before)
        if threads is not None:
            torch.set_num_threads(threads)
        # the tracer's meta tensors do not take this path, and operators have to be the same
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        call = _call(module, inputs, dtype, channels_last, place, stack)
        waiting = stack.enter_context(sampling.Waiting())
        progress("warming up")
        _first(call)
        if not gpu:
            stack.enter_context(sampling.pinned(torch.get_num_threads(), call, waiting, hold))
        clock = CudaClock(call) if gpu else HostClock(call, waiting)
        for _ in range(WARM_UP):
            clock.whole()
        start = time.perf_counter()
        whole = _whole(clock.whole, 0.4 * seconds, waiting, progress)
        ops, differ = _ops(clock.ops, trace, start + seconds - time.perf_counter(), waiting, progress)
        attention = any(isinstance(m, (MultiheadAttention, TransformerEncoderLayer)) for m in module.modules())
        notes = ("Run without torch's fused path for nn.MultiheadAttention, as it is predicted.",) if attention else ()
        return Timed(whole, ops, clock.cost(), torch.get_num_threads(), (*notes, *differ))


def _call(
    module: nn.Module,
    inputs: Sequence[Input] | Example,
    dtype: str | None,
    channels_last: bool,
    place: torch.device,
    stack: ExitStack,
) -> Callable[[], object]:
    """The model on random inputs: floats uniform, integers zero."""
    import torch

    from roofline.sources import build
    from roofline.tracing.trace import FLOATS, channels_last_form

    try:
        module = module.to(place, FLOATS[dtype] if dtype else None)
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(f"the model cannot be put on {place}: {failures.said(error)}") from error
    generator = torch.Generator().manual_seed(0)

    def laid(t: torch.Tensor) -> torch.Tensor:
        form = channels_last_form(t) if channels_last else None
        return t if form is None else t.contiguous(memory_format=form)

    for own in chain(module.parameters(), module.buffers()) if channels_last else ():
        own.data = laid(own.data)

    def real(t: Any) -> Any:
        if isinstance(t, torch.Tensor):
            if not t.is_meta:  # its values were said
                return laid(t.to(place, FLOATS[dtype] if dtype else t.dtype)) if t.dtype.is_floating_point else t.to(place)
            if not t.dtype.is_floating_point:
                return torch.zeros(t.shape, dtype=t.dtype, device=place)
            return laid(torch.rand(t.shape, generator=generator).to(place, FLOATS[dtype] if dtype else t.dtype))
        if isinstance(t, dict):
            return {name: real(v) for name, v in t.items()}
        return type(t)(map(real, t)) if isinstance(t, (list, tuple)) else t

    args, kwargs = build.call_with(module, inputs)
    args, kwargs = real(args), {k: real(v) for k, v in kwargs.items()}
    if place.type == "cuda" and dtype in (None, "fp32", "tf32"):
        # left alone, torch computes fp32 products exactly and fp32 convolutions in TF32: neither of the two that are predicted
        precision, convs = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        stack.callback(torch.set_float32_matmul_precision, precision)
        stack.callback(setattr, torch.backends.cudnn, "allow_tf32", convs)
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    auto: Callable[[], AbstractContextManager[Any]] = nullcontext
    if dtype == "amp":
        auto = lambda: torch.autocast(place.type)  # noqa: E731  # one line, beside its other form

    def call() -> object:
        with auto():
            return module(*args, **kwargs)

    return call


def _first(call: Callable[[], object]) -> None:
    """The first run: here the model shows whether it runs at all."""
    try:
        call()
    except Exception as error:
        raise ModelError(f"the model cannot run here: {failures.said(error)}{failures.place(error)}") from error


def _whole(once: Callable[[], tuple[float, bool]], seconds: float, waiting: sampling.Waiting, progress: Report) -> Sample:
    times: list[float] = []
    clean: list[float] = []
    end = time.perf_counter() + seconds
    # where none of a few runs was left alone, none will be: the time is better spent on the operators
    few, some = 2 * LEAST, time.perf_counter() + seconds / 3
    while len(times) < LEAST or (time.perf_counter() < end and len(clean) < ENOUGH):
        if not clean and len(times) >= few and time.perf_counter() > some:
            break
        took, alone = once()
        times.append(took)
        if alone:
            clean.append(took)
        if waiting.rest(took) and took < waiting.HELD:
            once()
        progress(f"running: {len(times)} times, {len(clean)} of them undisturbed")
    # a run is long: two that were left alone say more than all the others
    kept = sampling.summary(clean, clean) if len(clean) > 1 else sampling.summary(times, [])
    return replace(kept, taken=len(times), clean=len(clean))


def _ops(
    once: Callable[[], list[tuple[str, float, bool]]],
    trace: Trace,
    seconds: float,
    waiting: sampling.Waiting,
    progress: Report,
) -> tuple[tuple[Sample, ...], list[str]]:
    """Operators by their place in the trace, and what ran otherwise than there. Raises ModelError where no two runs agree."""
    first = once()
    ran = [name for name, _, _ in first]
    places, notes = matched([trace.specs[op.spec].name for op in trace.ops], ran)
    times: list[list[float]] = [[] for _ in ran]
    clean: list[list[float]] = [[] for _ in ran]
    end = time.perf_counter() + seconds
    runs = 0
    while runs < LEAST or (time.perf_counter() < end and runs < ENOUGH * 8 and any(len(c) < ENOUGH // 2 for c in clean)):
        seen = once()
        if [name for name, _, _ in seen] != ran:
            raise ModelError("two runs of the model took different operators: what was timed cannot be told apart")
        for i, (_, took, undisturbed) in enumerate(seen):
            times[i].append(took)
            if undisturbed:
                clean[i].append(took)
        runs += 1
        took = sum(t for _, t, _ in seen)
        if waiting.rest(took) and took < waiting.HELD:
            once()
        progress(f"timing kernels: run {runs}")
    samples = [sampling.summary(t, c) for t, c in zip(times, clean, strict=True)]
    return tuple(_together([samples[i] for i in own]) for own in places), notes


def matched(traced: Sequence[str], ran: Sequence[str]) -> tuple[list[list[int]], list[str]]:
    """For each operator of the trace the operators of the run that stand for it, and a note where the two differ.

    A layout that the trace takes for another shows as a copy more or less. What ran in place of some operators belongs to
    the first of them, what ran besides to the one before.
    """
    places: list[list[int]] = [[] for _ in traced]
    differ: dict[str, int] = {}
    for what, a, a_end, b, b_end in SequenceMatcher(None, traced, ran, autojunk=False).get_opcodes():
        if what == "equal":
            for i, j in zip(range(a, a_end), range(b, b_end), strict=True):
                places[i].append(j)
            continue
        if places:
            places[a if what == "replace" else max(a - 1, 0)].extend(range(b, b_end))
        old, new = (", ".join(n.removeprefix("aten.") for n in names) or "nothing" for names in (traced[a:a_end], ran[b:b_end]))
        differ[f"{new} in place of {old}"] = differ.get(f"{new} in place of {old}", 0) + 1
    shown = [f"{words} ({count} x)" for words, count in list(differ.items())[:3]] + (["..."] if len(differ) > 3 else [])
    return places, [f"Ran otherwise than predicted: {'; '.join(shown)}."] if differ else []


def _together(samples: Sequence[Sample]) -> Sample:
    """Operators one after the other; none at all takes no time."""
    if len(samples) == 1:
        return samples[0]
    total = sum(s.median for s in samples)
    return Sample(
        total,
        sum(s.spread * s.median for s in samples) / total if total else 0.0,
        min((s.taken for s in samples), default=0),
        min((s.clean for s in samples), default=0),
    )
