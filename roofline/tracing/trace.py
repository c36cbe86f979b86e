"""From a module and its inputs to a Trace: the model is run once on meta tensors and left as it was found."""

from __future__ import annotations

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
from roofline.errors import ModelError, RooflineError, UsageError
from roofline.isolation import failures
from roofline.records import InputInfo, Layer, ModelInfo, Op, Storage, Trace
from roofline.tracing import built, drawn, higher, lazy, regions, subclasses
from roofline.tracing.arguments import elements, packed_in, tensors_in
from roofline.tracing.as_found import AsFound, interpreted, set_mode
from roofline.tracing.functions import Function
from roofline.tracing.given import Call, kept
from roofline.tracing.recorder import META, Recorder
from roofline.tracing.ways import NeedsValues as NeedsValues
from roofline.tracing.ways import Stopped, Way, said, surroundings

if TYPE_CHECKING:
    from roofline.tracing.training import Step

# Torch's words where a value is asked of a tensor that has none: they choose the words of our message and nothing else.
_NO_VALUE = (
    "data-independent",
    "meta tensor",
    "on meta",
    "'meta' device",
    "'Meta' backend",
    "with arguments from the 'Meta'",
    "data-dependent",
    "no fake impl or Meta kernel",
)
# a note: the model caught an error, so on a device it may go another way
REFUSED = "the model went on where an operator failed that had no values: on a device it may take another way"
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
) -> Trace:
    """Run `module(*args, **kwargs)` once and record it.

    Inputs are anything that holds tensors, real or meta; only their metadata is used, and the model gets copies. Parameters,
    buffers and floating inputs take the dtype that `dtype` stands for, and keep their own where it is None (the inputs may then
    be taken in `floats`); "amp" applies autocast's own lists for `device_kind` ("gpu" or "cpu"). `real=True` runs on real CPU
    tensors, for models whose shapes depend on data (inputs that have values keep them; else they are drawn with seed 0, see
    `drawn`); `way` says how else to trace it. With an `optimizer` (sgd, adam, adamw) the pass is a training step, in training
    mode: forward, backward, update. `before` gets the keyword arguments of the pass, runs the module for what the pass finds in
    them, and is not recorded. Raises ModelError, with the module's path and its input shapes, where the model itself fails; its
    subclass Stopped where another way may do, and NeedsValues where meta tensors are not enough.
    """
    compat.needs("torch")
    if dtype is not None and dtype not in FLOATS:
        raise UsageError(f"dtype {dtype!r} cannot be applied to a floating-point model; use one of {', '.join(FLOATS)}")
    amp = ("cuda" if device_kind == "gpu" else "cpu") if dtype == "amp" else None
    way = way or Way(real=real)
    step: Step | None = None
    recorder: Any = _recorder(way, bool(optimizer), amp, device_kind == "gpu")
    if optimizer:  # imported for the passes that need it: a first trace is quick to start
        from roofline.tracing import training as steps
    recorder.exact = dtype is None
    if type(module).__name__ == "OptimizedModule":  # what torch.compile made of it
        module = cast(nn.Module, module._orig_mod)
    try:
        modules = _Modules(module, recorder)
    except lazy.Unknown:
        module = lazy.woken(module, Call(module, args, kwargs or {}), way)
        modules = _Modules(module, recorder)
    training = [m.training for _, m in modules.named]
    fixed: list[str] = []
    with ExitStack() as stack:
        stack.callback(recorder.close)
        stack.callback(AsFound(m for _, m in modules.named).restore)
        stack.enter_context(interpreted())
        stack.enter_context(torch.enable_grad() if optimizer else torch.inference_mode())
        swap = _Swap(None if way.real else META, FLOATS[dtype] if dtype else None, bool(optimizer), way.values)
        params, buffers = swap.module(modules)
        recorder.swapped.update(swap.done)  # for a model that holds a parameter in another place too
        packed = [(path, recorder.adopt_packed(p, path)) for path, p in ((modules.paths[i][0], p) for i, p in modules.packed)]
        swap.dtype = swap.dtype or floats
        call = Call(module, args, kwargs or {})
        run_args, run_kwargs = call.standing_in(swap.tensor, way)
        for path, p in params:
            recorder.adopt(p, "parameter", path)
        for path, b in buffers:
            recorder.adopt(b, "buffer", path)
        inputs = list(call.inputs)
        for path, t in inputs:
            recorder.adopt(t, "input", path)
        if optimizer or (any(training) and not isinstance(module, Function)):  # a function has its modes as it sets them
            fixed = set_mode(module, bool(optimizer))
        if optimizer:
            step = steps.Step(recorder, params, optimizer, isinstance(module, Function))
            step.prepare(modules.owners())
            stack.enter_context(steps.whole(recorder))
            stack.enter_context(steps.gradients_left(m.__dict__ for _, m in modules.named))
        stack.enter_context(_uncompiled())
        stack.enter_context(regions.honoured(recorder, way.real))
        stack.enter_context(subclasses.made(device_kind == "gpu"))
        asked = stack.enter_context(surroundings(way))
        stack.enter_context(higher.at_hand(recorder, (m for _, m in modules.named), None if way.real else META))
        try:
            if before is not None:
                with Recorder(amp, device_kind == "gpu") as aside:
                    stack.callback(aside.close)
                    before(run_kwargs)
            stack.enter_context(modules.tracked())
            with recorder:
                output = module(*run_args, **run_kwargs)
                loss = step.run(output) if step else None
        except RooflineError:
            raise
        except BaseException as error:
            if failures.interrupted(error):
                raise
            raise failures.ended(name or type(module).__name__, error) or modules.failure(error, way, inputs, asked) from error
        deaths = dict(recorder.deaths)  # while the output is still held
    del output, loss
    for path, parts in packed:
        params += [(f"{path}.weight", t) for t in parts[:2] if t is not None]
        buffers += [(f"{path}.scale", t) for t in parts[2:] if t is not None]
    storages = tuple(
        Storage(nbytes, kind, label, born, deaths.get(i, -1)) for i, (nbytes, kind, label, born) in enumerate(recorder.storages)
    )
    info = ModelInfo(
        name=name or type(module).__name__,
        source=source or type(module).__module__,
        params=sum(elements(t) for _, t in params),
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
        *(note for note in (call.note, REFUSED if recorder.refused and not way.real else "") if note),
    ]
    notes += dict.fromkeys(recorder.notes)
    used, own = (dtype, "") if dtype else built.setting((t for _, t in params), (t for _, t in inputs))
    layers, ops = modules.layers(recorder.ops)
    return Trace(info, layers, tuple(recorder.specs), ops, storages, batch, used, mode, tuple(notes), own)


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
    higher.ready()
    compiles = torch.compile  # what is wrapped meanwhile: set_stance would import dynamo
    plain: Any = lambda model=None, **_: model if model is not None else lambda function: function  # noqa: E731
    torch.compile = plain
    try:
        with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
            yield
    finally:
        torch.compile = compiles


def _bytes(tensors: Sequence[tuple[str, torch.Tensor]]) -> int:
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for _, t in tensors}.values())


def _table(m: nn.Module, name: str) -> dict[str, Any]:
    """A module's own parameters or buffers; those of a TorchScript module lie in C++, behind something like a dict."""
    own = m.__dict__.get(name)
    table: dict[str, Any] = own if own is not None else getattr(m, name)
    return table


class _Swap:
    """Meta stand-ins: one for each tensor, over one for each storage, so ties and views survive."""

    def __init__(
        self, device: torch.device | None, dtype: torch.dtype | None, grad: bool = False, values: bool = False
    ) -> None:
        self.device, self.dtype = device, dtype
        # small integers and truths stay real
        self.values = values
        # a pass that writes to parameters and gives them gradients gets stand-ins for all
        self.grad = grad
        # identity of the original -> its stand-in; the originals are kept, or their identities would be given out again
        self.done: dict[int, torch.Tensor] = {}
        self.originals: list[torch.Tensor] = []
        self.storages: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def tensor(self, t: torch.Tensor) -> torch.Tensor:
        dtype = self.dtype if self.dtype and t.is_floating_point() and t.dtype.itemsize >= 2 else t.dtype
        if not self.grad and t.dtype == dtype and (t.is_meta or (self.device is None and isinstance(t, nn.Parameter))):
            return t
        new = self.done.get(id(t))
        if new is None:
            weights = isinstance(t, nn.Parameter)
            # what a pass may write to, a buffer or an input, is copied
            real = self.device is None or (self.values and not weights and kept(t))
            new = t.detach().to(dtype, copy=self.grad or not weights) if real else self._stand_in(t, dtype)
            if weights:
                new = nn.Parameter(new, requires_grad=self.grad and t.requires_grad)
                if (stands_for := getattr(t, "_roofline_elements", None)) is not None:
                    new._roofline_elements = stands_for  # type: ignore[attr-defined]  # our mark on torch's object
            self.done[id(t)] = new
            self.originals.append(t)
        return new

    def _stand_in(self, t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        storage = subclasses.dense(t).untyped_storage()
        key = (storage._cdata, dtype)
        base = self.storages.get(key)
        if base is None:
            base = self.storages[key] = torch.empty(storage.nbytes() // t.dtype.itemsize, dtype=dtype, device=META)
        return base.as_strided(t.shape, t.stride(), t.storage_offset())

    def module(self, modules: _Modules) -> tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]]:
        """Put the stand-ins in place; returns (qualified name, tensor) of the parameters and of the buffers, each once."""
        found: tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]] = ([], [])
        seen: set[int] = set()
        for path, m in modules.named:
            tables: list[tuple[dict[str, Any], list[tuple[str, torch.Tensor]]]]
            tables = [(_table(m, "_parameters"), found[0]), (_table(m, "_buffers"), found[1])]
            for table, out in tables:
                for key, t in table.items():
                    if t is None or (out is found[1] and t.layout != torch.strided):  # see `subclasses.left_out`
                        continue
                    new = self.tensor(t)
                    if new is not t:
                        table[key] = new
                    if id(new) not in seen:
                        seen.add(id(new))
                        out.append((f"{path}.{key}" if path else key, new))
        return found


class _Modules:
    """The module tree: who is running, and what to say when it fails."""

    def __init__(self, root: nn.Module, recorder: Recorder) -> None:
        self.recorder = recorder
        # each module once, and every path that leads to one: a shared module has several
        self.named: list[tuple[str, nn.Module]] = list(root.named_modules())
        links = sum(child is not None for _, m in self.named for child in m._modules.values())
        self.paths = self.named if links == len(self.named) - 1 else list(_paths(root, len(self.named)))
        self.index: dict[int, list[int]] = {}
        for i, (_, m) in enumerate(self.paths):
            self.index.setdefault(id(m), []).append(i)
        self.calls = [0] * len(self.paths)
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.stack = recorder.stack
        # packed weights of quantized modules: (index of the module, the object)
        self.packed: list[tuple[int, Any]] = [(self.index[id(m)][0], v) for _, m in self.named for v in packed_in(m)]
        # own parameters, and those of them that require a gradient
        self.trainable = [0] * len(self.paths)
        self.owned = self._own_params()
        self.parents = self._parents()

    def _own_params(self) -> list[int]:
        seen: set[int] = set()
        owned = [0] * len(self.paths)
        for path, m in self.named:
            own = 0
            if lazy.is_unknown(m):
                raise lazy.Unknown
            for key, p in _table(m, "_parameters").items():
                if is_lazy(p):
                    name = f"{path}.{key}" if path else key
                    raise UsageError(f"the lazy parameter {name} has no shape yet; call the model once on an example first")
                if p is not None and id(p) not in seen:
                    seen.add(id(p))
                    own += elements(p)
                    self.trainable[self.index[id(m)][0]] += p.numel() if p.requires_grad else 0
            owned[self.index[id(m)][0]] = own
        for i, packed in self.packed:
            owned[i] += sum(t.numel() for t in packed.unpack()[:2] if t is not None)
        return owned

    def owners(self) -> dict[int, int]:
        """The module that owns each parameter, a tied one its first: parameter by id -> index."""
        found: dict[int, int] = {}
        for _, m in self.named:
            for p in m._parameters.values():
                found.setdefault(id(p), self.index[id(m)][0])
        return found

    def _parents(self) -> list[int]:
        at = {path: i for i, (path, _) in enumerate(self.paths)}
        parents = []
        for path, _ in self.paths:
            above = path
            while above:
                above = above.rpartition(".")[0]
                if above in at:
                    break
            parents.append(at[above] if path else -1)
        return parents

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Follow module calls through torch's global hooks while the model runs."""
        recorder, stack, index, calls = self.recorder, self.stack, self.index, self.calls

        def enter(m: nn.Module, inputs: Any) -> None:
            places = index.get(id(m))
            if places is not None:
                i = places[0] if len(places) == 1 else self._called_at(places)
                stack.append((recorder.layer, inputs))
                recorder.entered()
                recorder.layer = i
                calls[i] += 1

        def leave(m: nn.Module, inputs: Any, output: Any) -> None:
            places = index.get(id(m))
            if places is not None:
                # a module that caught an exception of a child's has left it on the stack
                while recorder.layer not in places:
                    recorder.layer = stack.pop()[0]
                if calls[recorder.layer] == 1 and (t := next(tensors_in(output), None)) is not None:
                    self.outputs.setdefault(recorder.layer, tuple(t.shape))
                recorder.layer = stack.pop()[0]

        handles = [
            nn.modules.module.register_module_forward_pre_hook(enter),
            nn.modules.module.register_module_forward_hook(leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _called_at(self, places: list[int]) -> int:
        """Of the paths to a shared module, the one below the innermost module that is running, else the first."""
        running = [self.recorder.layer, *(layer for layer, _ in reversed(self.stack[1:]))]
        for layer in running:
            inside = f"{self.paths[layer][0]}." if layer else ""
            for i in places:
                if self.paths[i][0].startswith(inside):
                    return i
        return places[0]

    def failure(
        self, error: BaseException, way: Way, inputs: Sequence[tuple[str, torch.Tensor]], asked: compat.Asked
    ) -> ModelError:
        recorder = self.recorder
        path, m = self.paths[recorder.layer]
        given = tensors_in(self.stack[-1][1]) if self.stack else ()
        shapes = ", ".join("x".join(map(str, t.shape)) or "scalar" for t in given)
        shapes = shapes or ", ".join("x".join(map(str, t.shape)) or "scalar" for t in _arguments_of(m, error)) or "none"
        where = f"{path} ({type(m).__name__})" if path else type(m).__name__
        line = f"the model failed in {where} with input shapes [{shapes}]: {said(error)}{failures.place(error)}"
        if way.real:
            return ModelError(line)
        words = failures.text(error)
        stopped = (NeedsValues if any(w in words for w in _NO_VALUE) else Stopped)(line)
        stopped.asked = asked
        stopped.made = sum(nbytes for nbytes, kind, _, _ in recorder.storages if kind == "activation")
        stores = [recorder.known[id(t)][1].id for _, t in inputs]
        stopped.limits = drawn.limits(recorder.ops, recorder.specs, stores)
        return stopped

    def layers(self, ops: Sequence[Op]) -> tuple[tuple[Layer, ...], tuple[Op, ...]]:
        """The table of layers, and the ops that index it. A shared module's further paths stand there if they were called."""
        first = {places[0] for places in self.index.values()}
        kept = {i for i, n in enumerate(self.calls) if n or i in first}
        for i in [*kept]:  # what holds a layer stands above it
            above = self.parents[i]
            while above not in kept and above >= 0:
                kept.add(above)
                above = self.parents[above]
        place = {old: new for new, old in enumerate(sorted(kept))} | {-1: -1}
        layers = tuple(
            Layer(path, type(m).__name__, self.owned[i], place[self.parents[i]], self.calls[i], self.trainable[i],
                  self.outputs.get(i), _kernel(m))
            for i in sorted(kept) for path, m in (self.paths[i],)
        )  # fmt: skip
        if len(kept) == len(self.paths):
            return layers, tuple(ops)
        return layers, tuple([op if place[op.layer] == op.layer else replace(op, layer=place[op.layer]) for op in ops])


def _kernel(m: nn.Module) -> tuple[int, ...]:
    """The kernel of a convolution or a pool, whoever wrote it."""
    size: Any = m.__dict__.get("kernel_size", ())
    size = (size,) if type(size) is int else size
    return tuple(size) if type(size) in (list, tuple) and all(type(k) is int for k in size) else ()


def _arguments_of(m: nn.Module, error: BaseException) -> Iterator[torch.Tensor]:
    """The tensors that a module's forward() was called with, of the frame in which it failed: by keyword too."""
    tb = error.__traceback__
    while tb is not None:
        frame = tb.tb_frame
        code = frame.f_code
        if code.co_name == "forward" and frame.f_locals.get("self") is m:
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + 2]
            return tensors_in([frame.f_locals[n] for n in names if n in frame.f_locals])
        tb = tb.tb_next
    return iter(())


def _paths(root: nn.Module, modules: int) -> Iterator[tuple[str, nn.Module]]:
    """Every path to every module, parents first; of a model with many ways through it each module's first alone."""
    found: list[tuple[str, nn.Module]] = []
    open_: list[tuple[str, nn.Module, frozenset[int]]] = [("", root, frozenset())]
    most = 8 * modules
    while open_ and len(found) <= most:
        path, m, above = open_.pop()
        found.append((path, m))
        inside = above | {id(m)}
        children = [
            (f"{path}.{n}" if path else n, c, inside) for n, c in m._modules.items() if c is not None and id(c) not in inside
        ]
        open_ += reversed(children)
    return iter(found) if not open_ else root.named_modules()
