"""From a module and its inputs to a Trace: the model is run once on meta tensors and left as it was found."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from msgspec.structs import replace
from torch import nn
from torch.nn.parameter import is_lazy

from roofline import compat
from roofline.dtypes import SETTINGS, TORCH
from roofline.errors import RooflineError, UsageError
from roofline.isolation import failures
from roofline.isolation.ground import FLOOR
from roofline.records import InputInfo, ModelInfo, Storage, Trace, identity
from roofline.request import NO_IMAGES, NO_LOOP
from roofline.tracing import built, lazy, looks, packing, regions, subclasses, threads, unfinished
from roofline.tracing.as_found import AsFound, interpreted, set_mode
from roofline.tracing.functions import Function
from roofline.tracing.given import Call, kept
from roofline.tracing.recorder import META, Recorder
from roofline.tracing.tree import Modules, table_of
from roofline.tracing.ways import NeedsValues as NeedsValues
from roofline.tracing.ways import Stopped, Way, surroundings

if TYPE_CHECKING:
    from roofline.tracing.training import Step

# a note: the model caught an error, so on a device it may go another way
REFUSED = "the model went on where an operator failed that had no values: on a device it may take another way"
GRADIENTS = "the model takes gradients as it runs"
FROZEN = "a part of it is frozen TorchScript: its weights are constants of its code, and not among the parameters"
SENT = "processes send each other tensors in it, and the way between devices takes no time here"
STRANGERS = "its code uses parameters that no part of it holds, {:,} numbers: they are not among its parameters"
HEARD = "hooks on gradients that are there (register_post_accumulate_grad_hook) were not run"
_SENT = ("c10d.", "_c10d_functional.", "c10d_functional.")
_INDICES = ("int64", "int32")
# as `module.to(memory_format=...)` takes them, by dimensions
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
FLOATS: dict[str, torch.dtype] = {name: getattr(torch, own) for name, own in TORCH.items() if name in SETTINGS}


def trace(  # long: one context inside the other, and what was recorded in them
    module: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    source: str = "",
    dtype: str | None = None,
    floats: torch.dtype | None = None,
    device_kind: str = "cpu",
    batch: int = 1,
    real: bool = False,
    optimizer: str = "",
    before: Callable[[dict[str, Any]], None] | None = None,
    way: Way | None = None,
    turns: int | None = None,
    channels_last: bool = False,
) -> Trace:
    """Run `module(*args, **kwargs)` once and record it.

    Inputs are anything that holds tensors, real or meta; only their metadata is used, and the model gets copies. Parameters,
    buffers and floating inputs take the dtype that `dtype` stands for, and keep their own where it is None (the inputs may then
    be taken in `floats`); "amp" applies autocast's own lists for `device_kind` ("gpu" or "cpu"). `real=True` runs on real CPU
    tensors, for models whose shapes depend on data (inputs that have values keep them; else they are drawn with seed 0, see
    `drawn`); `way` says how else to trace it. With an `optimizer` (sgd, adam, adamw) the pass is a training step, in training
    mode: forward, backward, update. `before` gets the keyword arguments of the pass, runs the module for what the pass finds in
    them, and is not recorded. `turns` are those of each loop where data decide how often it turns. With `channels_last` what is
    an image or a volume among parameters, buffers and inputs has its channels innermost in memory, as after
    `to(memory_format=torch.channels_last)`. Raises ModelError, with the module's path and its input shapes, where the model
    itself fails; its subclass Stopped where another way may do, and NeedsValues where meta tensors are not enough; UsageError
    for `turns` where there is no such loop, for `channels_last` where there is no image.
    """
    compat.needs("torch")
    if dtype is not None and dtype not in FLOATS:
        raise UsageError(f"dtype {dtype!r} cannot be applied to a floating-point model; use one of {', '.join(FLOATS)}")
    amp = ("cuda" if device_kind == "gpu" else "cpu") if dtype == "amp" else None
    way = way or Way(real=real)
    step: Step | None = None
    gradients = bool(optimizer) or way.gradients
    recorder: Any = _recorder(way, gradients, amp, device_kind == "gpu")
    if gradients:  # imported for the passes that need it: a first trace is quick to start
        from roofline.tracing import training as learning
    recorder.exact, recorder.turns = dtype is None, turns
    if type(module).__name__ == "OptimizedModule":  # what torch.compile made of it
        module = cast(nn.Module, module._orig_mod)
    try:
        modules = Modules(module, recorder)
    except lazy.Unknown:
        module = lazy.woken(module, Call(module, args, kwargs or {}), way)
        modules = Modules(module, recorder, woken=True)
    training = [getattr(m, "training", None) for _, m in modules.named]
    # what torch.jit.freeze made has no modes
    fixed: list[str] = [FROZEN] if None in training else []
    with ExitStack() as stack:
        stack.callback(recorder.close)
        found = AsFound(m for _, m in modules.named)
        stack.callback(found.restore)
        stack.enter_context(interpreted())
        # to follow a module takes a frame more than to call it: what is nested deep and runs elsewhere runs here
        stack.callback(sys.setrecursionlimit, sys.getrecursionlimit())
        sys.setrecursionlimit(2 * sys.getrecursionlimit())
        stack.enter_context(torch.enable_grad() if gradients else torch.inference_mode())
        swap = _Swap(None if way.real else META, FLOATS[dtype] if dtype else None, gradients, way.values, channels_last)
        params, buffers = swap.module(modules)
        if found.optimizers:
            from roofline.tracing import steps  # for the few that hold one

            steps.swapped(found.optimizers, swap.tensor)
        recorder.swapped.update(swap.done)  # for a model that holds a parameter in another place too
        packed = [(path, recorder.adopt_packed(p, path)) for path, p in ((modules.paths[i][0], p) for i, p in modules.packed)]
        swap.dtype = swap.dtype or floats
        call = Call(module, args, kwargs or {})
        run_args, run_kwargs = call.standing_in(swap.tensor, way)
        if channels_last and not swap.turned:
            raise UsageError(NO_IMAGES)
        for path, p in subclasses.stored(params):
            # scales and zero points of a weight in few bits lie among its bytes, and are no numbers of the model's
            recorder.adopt(p, "buffer" if path in modules.belonging else "parameter", path)
        for path, b in subclasses.stored(buffers):
            recorder.adopt(b, "buffer", path)
        _one_memory(recorder, swap)
        inputs = list(call.inputs)
        for path, t in inputs:
            recorder.adopt(t, "input", path)
        if optimizer or (any(training) and not isinstance(module, Function)):  # a function has its modes as it sets them
            fixed += set_mode(module, bool(optimizer))
        if swap.unheard:
            fixed.append(HEARD)
        fixed += lazy.noted(modules.shapeless)
        if optimizer:
            step = learning.Step(recorder, params, optimizer, isinstance(module, Function), way.early)
            step.prepare(modules.owners())
        if gradients:
            stack.enter_context(learning.whole(recorder))
            stack.enter_context(learning.gradients_left(m.__dict__ for _, m in modules.named))
        stack.enter_context(_uncompiled())
        stack.enter_context(regions.honoured(recorder, way.real))
        stack.enter_context(subclasses.made(recorder))
        asked = stack.enter_context(surroundings(way, device_kind == "gpu"))
        if compat.functions_imported():
            from roofline.tracing import higher  # for the models that may use it

            stack.enter_context(higher.at_hand(recorder, (m for _, m in modules.named), None if way.real else META))
        try:
            if before is not None:
                with Recorder(amp, device_kind == "gpu") as aside:
                    stack.callback(aside.close)
                    before(run_kwargs)
                recorder.kind_asked |= aside.kind_asked
            stack.enter_context(modules.tracked())
            with recorder, threads.followed(recorder, modules.index, threads.modes(way, gradients)), FLOOR:
                output = unfinished.finished(module(*run_args, **run_kwargs), recorder.notes.append)
                loss = step.run(output) if step else None
            if asked.gradients and not gradients:
                stopped = Stopped(GRADIENTS)
                stopped.asked = asked
                raise stopped
        except RooflineError:
            raise
        except BaseException as error:
            if failures.interrupted(error):
                raise
            raise failures.ended(name or type(module).__name__, error) or modules.failure(error, way, inputs, asked) from error
        fixed += modules.made(module)
        if turns and not recorder.undecided:
            raise UsageError(NO_LOOP)
        deaths = dict(recorder.deaths)  # while the output is still held
        indexed = not way.real and any(t.dtype in _INDICES for spec in recorder.specs for t in spec.inputs[1:])
        if indexed:  # of a real run torch itself looks
            from roofline.tracing import ranges  # a first trace without indices need not wait for it

            found_there = [
                (t, recorder.known.get(identity(swap.done[identity(t)]))) for t in swap.originals if not t.is_floating_point()
            ]
            # constants on the CPU, which may have gone to meta in one piece
            found_there += [(t, recorder.known.get(identity(t))) for t in recorder.kept if type(t) is torch.Tensor and kept(t)]
            integers = recorder.contents | {tag[1].id: t for t, tag in found_there if tag is not None}
            given = {recorder.known[identity(t)][1].id for _, t in inputs}  # of which the caller is told by their names
    del output, loss
    for path, (weights, scales) in packed:
        params += [(f"{path}.weight", t) for t in weights if t is not None]
        buffers += [(f"{path}.scale", t) for t in scales]
    storages = tuple(
        Storage(nbytes, kind, label, born, deaths.get(i, -1)) for i, (nbytes, kind, label, born) in enumerate(recorder.storages)
    )
    info = ModelInfo(
        name=name or type(module).__name__,
        source=source or type(module).__module__,
        params=sum(modules.owned),
        param_bytes=_bytes(params),
        buffers=sum(t.numel() for _, t in buffers),
        buffer_bytes=_bytes(buffers),
        inputs=tuple(InputInfo(tuple(t.shape), str(t.dtype)[6:], path) for path, t in inputs),
        trainable=sum(modules.trainable),
    )
    mode, notes = ("training", [step.note]) if step else ("inference", [])
    notes += [
        *fixed,
        *subclasses.left_out(modules.named),
        *packing.unsure(modules.unsure),
        *(note for note in (call.note, REFUSED if recorder.refused and not way.real else "") if note),
    ]
    called = module.called if isinstance(module, Function) else ()
    gpu = device_kind == "gpu"
    if asked.place and (gpu or way.place or not way.real):  # real tensors do lie on a CPU
        notes.append(looks.ANSWERED.format("GPU" if gpu else "CPU") if way.place else looks.PLACE)
    if not way.real and not way.place and looks.looks({type(m) for _, m in modules.named}, called):
        notes.append(looks.NOTE)
    if asked.arrays:
        notes.append(looks.ARRAYS)
    if recorder.strangers:
        notes.append(STRANGERS.format(recorder.strangers))
    if any(spec.name.startswith(_SENT) for spec in recorder.specs):
        notes.append(SENT)
    notes += dict.fromkeys(recorder.notes)
    used, own = (dtype, "") if dtype else built.setting((t for _, t in params), (t for _, t in inputs))
    layers, ops = modules.layers(recorder.ops)
    if indexed:
        ranges.own(ops, recorder.specs, layers, {store: t for store, t in integers.items() if store not in given})
        if not way.lists and ranges.unseen(ops, recorder.specs, storages, integers):
            options: dict[str, Any] = {
                "dtype": dtype, "floats": floats, "device_kind": device_kind, "optimizer": optimizer, "before": before,
                "turns": turns, "channels_last": channels_last,
            }  # fmt: skip
            try:
                trace(module, args, kwargs, way=replace(way, lists=True), **options)
            except ranges.OutOfRange:
                raise
            except RooflineError:
                pass  # it went through without them
    anywhere = not (recorder.kind_asked or asked.place)
    return Trace(info, layers, tuple(recorder.specs), ops, storages, batch, used, mode, tuple(notes), own, anywhere)


def channels_last_form(t: torch.Tensor) -> torch.memory_format | None:
    """How an image or a volume of floats lies with its channels last; None for anything else."""
    plain = not t.is_nested and t.layout == torch.strided and t.is_floating_point()
    return CHANNELS_LAST.get(t.dim()) if plain else None


def _last(t: torch.Tensor, dtype: torch.dtype, form: torch.memory_format) -> torch.Tensor:
    """One like it in that form. Strides tell: where a size is 1, torch calls both forms the same, and `to` makes the other."""
    return torch.empty(t.shape, dtype=dtype, device=META, memory_format=form)


def _recorder(way: Way, training: bool, amp: str | None, gpu: bool) -> Recorder:
    """The dispatch mode of a pass; what only some passes need is imported for them."""
    kind: type[Recorder] = Recorder
    if training:
        from roofline.tracing.training import TrainingRecorder as kind
    if way.values or way.real:
        from roofline.tracing.halves import Halves
        from roofline.tracing.values import Valued

        special = Halves if way.real else Valued
        kind = type("Recorder", (special, kind), {}) if training else special
    return kind(amp, gpu)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Runs what torch.compile wraps as it was written: kernels after fusion are a matter of the runtime."""
    if compat.FLEX in sys.modules:
        importlib.import_module("torch._dynamo")  # as the model would, while torch is as dynamo must find it
    compiles = torch.compile  # what is wrapped meanwhile: set_stance would import dynamo
    plain: Any = lambda model=None, **_: model if model is not None else lambda function: function  # noqa: E731
    torch.compile = plain
    try:
        with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
            yield
    finally:
        torch.compile = compiles


def _bytes(tensors: Sequence[tuple[str, torch.Tensor]]) -> int:
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for _, t in subclasses.stored(tensors)}.values())


def _one_memory(recorder: Recorder, swap: _Swap) -> None:
    """A view of a parameter, which a model may hold as a plain tensor, is over the memory of its stand-in."""
    for t in swap.originals:
        known = recorder.known.get(identity(swap.done[identity(t)]))
        if known is not None and t.layout == torch.strided and not t.is_nested:
            recorder.by_storage.setdefault(t.untyped_storage()._cdata, known[1])


class _Swap:
    """Meta stand-ins: one for each tensor, over one for each storage, so ties and views survive."""

    def __init__(
        self,
        device: torch.device | None,
        dtype: torch.dtype | None,
        grad: bool = False,
        values: bool = False,
        channels_last: bool = False,
    ) -> None:
        self.device, self.dtype = device, dtype
        # images and volumes lie channels-last; whether there was any
        self.channels_last, self.turned = channels_last, False
        # whether there are hooks that are not run
        self.unheard = False
        # small integers and truths stay real
        self.values = values
        # a pass that writes to parameters and gives them gradients gets stand-ins for all
        self.grad = grad
        # identity of the original -> its stand-in; the originals are kept, or their identities would be given out again
        self.done: dict[int, torch.Tensor] = {}
        self.originals: list[torch.Tensor] = []
        self.storages: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def tensor(self, t: torch.Tensor) -> torch.Tensor:
        if subclasses.holds_others(type(t)) and not t.is_nested:
            return self._of_parts(t)
        dtype = self.dtype if self.dtype and t.is_floating_point() and t.dtype.itemsize >= 2 else t.dtype
        form = self._form(t)
        as_it_is = t.dtype == dtype and (form is None or t.stride() == _last(t, dtype, form).stride())
        if not self.grad and as_it_is and (t.is_meta or (self.device is None and isinstance(t, nn.Parameter))):
            return t
        new = self.done.get(identity(t))
        if new is None:
            weights = isinstance(t, nn.Parameter)
            # what a pass may write to, a buffer or an input, is copied
            real = self.device is None or (self.values and not weights and kept(t))
            new = self._copy(t, dtype, form, self.grad or not weights) if real else self._stand_in(t, dtype, form)
            if weights:
                new = nn.Parameter(new, requires_grad=self.grad and t.requires_grad)
                if new.requires_grad:
                    self._hear(t, new)
                new.__dict__.update(t.__dict__)  # what a library hangs on a parameter, and our own mark
                if type(t) is not nn.Parameter and issubclass(type(t), nn.Parameter):
                    new.__class__ = type(t)  # type: ignore[assignment]  # a class of the library's own
            elif self.grad and t.requires_grad:  # an input of which the gradient is asked
                new = new.detach().requires_grad_()
            self.done[identity(t)] = new
            self.originals.append(t)
        return new

    def _hear(self, t: torch.Tensor, new: torch.Tensor) -> None:
        """What hears of the gradient of a parameter hears of that of its stand-in."""
        for hook in (t._backward_hooks or {}).values():
            new.register_hook(hook)  # type: ignore[no-untyped-call]  # torch's own
        # these get the parameter, which they may know by its identity
        self.unheard |= bool(getattr(t, "_post_accumulate_grad_hooks", None))

    def _form(self, t: torch.Tensor) -> torch.memory_format | None:
        """The form that it takes; None: the one that it has."""
        form = channels_last_form(t) if self.channels_last else None
        self.turned |= form is not None
        return form

    def _copy(self, t: torch.Tensor, dtype: torch.dtype, form: torch.memory_format | None, always: bool) -> torch.Tensor:
        return t.detach().to(dtype, copy=always, memory_format=form or torch.preserve_format)

    def _of_parts(self, t: torch.Tensor) -> torch.Tensor:
        """One of its class over stand-ins: in its own dtypes, since they are what it is stored in."""
        new = self.done.get(identity(t))
        if new is None:
            dtype, self.dtype = self.dtype, None
            new = subclasses.with_parts(t, self.tensor)
            self.dtype = dtype
            if isinstance(t, nn.Parameter):
                new = nn.Parameter(new, requires_grad=self.grad and t.requires_grad)
            self.done[identity(t)] = new
            self.originals.append(t)
        return new

    def _stand_in(self, t: torch.Tensor, dtype: torch.dtype, form: torch.memory_format | None) -> torch.Tensor:
        if form is not None and t.stride() != (last := _last(t, dtype, form)).stride():
            return last
        storage = subclasses.dense(t).untyped_storage()
        key = (storage._cdata, dtype)
        base = self.storages.get(key)
        if base is None:
            base = self.storages[key] = torch.empty(storage.nbytes() // t.dtype.itemsize, dtype=dtype, device=META)
        return base.as_strided(t.shape, t.stride(), t.storage_offset())

    def module(self, modules: Modules) -> tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]]:
        """Put the stand-ins in place; returns (qualified name, tensor) of the parameters and of the buffers, each once."""
        found: tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]] = ([], [])
        seen: set[int] = set()
        for path, m in modules.named:
            tables: list[tuple[dict[str, Any], list[tuple[str, torch.Tensor]]]]
            weights, others = table_of(m, "_parameters"), table_of(m, "_buffers")
            # a weight in few bits may be a buffer
            tables = [(weights, found[0]), (others, found[0] if identity(m) in modules.in_words else found[1])]
            for table, out in tables:
                for key, t in table.items():
                    if t is None or is_lazy(t) or (table is others and t.layout != torch.strided):  # see `subclasses.left_out`
                        continue
                    new = self.tensor(t)
                    if new is not t:
                        table[key] = new
                    if identity(new) not in seen:
                        seen.add(identity(new))
                        out.append((f"{path}.{key}" if path else key, new))
        return found
