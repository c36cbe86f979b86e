"""A training step on meta tensors: forward, backward, one step of the optimizer.

The backward pass is autograd's own. With gradients on, composite operators fall apart before a dispatch mode sees them,
into the operators that have a derivative: `convolution`, `addmm`, `native_batch_norm`, as on a real device. Where a real
device would keep one kernel and meta tensors would not (attention, recurrent layers, dropout on a GPU), the composite is
caught at the autograd key of meta tensors and given the operators of the target.

What differs from inference in the bookkeeping: autograd keeps tensors alive behind Python's back, so a storage's record
hangs on the storage itself; and a backward op belongs to the layer whose forward op made its autograd node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch.library import Library
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd
from torch.utils._python_dispatch import _disable_current_modes

from roofline import compat
from roofline.errors import UsageError
from roofline.records import OpSpec, identity
from roofline.tracing.arguments import IMPLICIT, tensors_in
from roofline.tracing.autocast import POLICIES
from roofline.tracing.composites import attention, recurrent
from roofline.tracing.given import tensors_of
from roofline.tracing.memo import Store, meta_of
from roofline.tracing.operators import switched_off
from roofline.tracing.recorder import Recorder, plain

aten = torch.ops.aten
NOTE = "training step: loss is the sum of the model's floating outputs; {} with its state in place before the step"
OWN = "training step: loss is what the function returns; {} with its state in place before the step"
# What a gradient is added to or placed in, where autograd holds it alone: it then works in place, which it does not do (ATen's
# isTensorSubclassLike) while a dispatch mode is on. With each the C++ references to the tensor, seen from the dispatch mode,
# that stand for one holder: of a value passed on, and of a variable of index_backward.
_IN_PLACE = {
    aten.add.Tensor: (aten.add_.Tensor, 4),
    aten.scatter.src: (aten.scatter_.src, 4),
    aten.scatter_add.default: (aten.scatter_add_.default, 4),
    aten.index_put.default: (aten._index_put_impl_.default, 5),
}
# Nodes of autograd that a thread may be ahead of another by and still be caught up with.
_NODES = 10**5
# ... and those to its storage.
_SOLE_STORAGE = 2


class TrainingRecorder(Recorder):  # type: ignore[no-untyped-call]  # torch's own
    """The recorder for a pass with gradients."""

    trains = True

    def __init__(self, amp: str | None, gpu: bool) -> None:
        super().__init__(amp, gpu)
        # autocast works above autograd (see `whole`), not in the dispatch mode
        self.policy = None
        # has autocast's operators caught there, once one is needed
        self.catch: Callable[[], None] = lambda: None
        # the autograd node within which a module's forward began last
        self.node = -1
        # whether an operator that autocast has dealt with is running
        self.casting = False
        # autograd node (by its sequence number) -> layer that was running when it was made
        self.node_layer: dict[int, int] = {}
        # parameter by id, and storages of parameters, gradients and optimizer state -> the layer that owns it
        self.param_layer: dict[int, int] = {}
        self.storage_layer: dict[int, int] = {}

    # ---------------------------------------------------------------- tensors

    def _mark(self, t: torch.Tensor, meta: Any, store: Store) -> None:
        t._roofline = (meta, store)  # type: ignore[attr-defined]  # our mark on torch's object
        t.untyped_storage()._roofline = store  # type: ignore[attr-defined]  # our mark on torch's object

    def _tag(self, t: torch.Tensor) -> tuple[Any, Store]:
        tag: tuple[Any, Store] | None = getattr(t, "_roofline", None)
        if tag is not None and tag[1].recorder is self:
            return tag
        if identity(t) not in self.known:
            # a tensor that autograd made or unpacked: the storage tells
            store: Store | None = getattr(t.untyped_storage(), "_roofline", None)
            if store is not None and store.recorder is self:
                tag = (meta_of(tuple(t.shape), t.stride(), t.dtype), store)
                t._roofline = tag  # type: ignore[attr-defined]  # our mark on torch's object
                return tag
        return super()._tag(t)

    def store_of(self, t: torch.Tensor) -> int:
        """Index of a tensor's storage in the trace."""
        return int(self._tag(t)[1].id)

    def emit(self, name: str, args: list[Any], results: Sequence[torch.Tensor]) -> None:
        """Record an operator that is not called: a library kernel that meta tensors do not have."""
        inputs = [self._tag(t) for t in tensors_in(args)]
        spec = OpSpec(
            name,
            "",
            [plain(self, a) for a in args],
            {},
            tuple(tag[0].spec for tag in inputs),
            tuple(self._tag(t)[0].spec for t in results),
        )
        self.kept.append(spec)  # spec_index goes by id
        self._record(spec, inputs, tuple(self.store_of(t) for t in results))

    def rename(self, storage: int, kind: str, name: str, layer: int) -> None:
        """Say what a storage has turned out to be."""
        nbytes, _kind, _name, born = self.storages[storage]
        self.storages[storage] = (nbytes, kind, name, born)
        self.storage_layer[storage] = layer

    # ---------------------------------------------------------------- dispatch

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.phase == "backward" and func in _IN_PLACE and not kwargs and _sole(args[0], _IN_PLACE[func][1]):
            func = _IN_PLACE[func][0]
        elif self.gpu and self.phase == "optimizer" and _on_host(args):
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _record(self, spec: OpSpec, tags: list[Any], outputs: tuple[int, ...]) -> None:
        if self.phase == "forward":
            node = torch.autograd._get_sequence_nr() - 1  # type: ignore[attr-defined]  # torch's own
            self.node_layer.setdefault(node, self.layer)
        elif self.phase == "backward":
            self.layer = self._backward_layer()
        else:
            owners = {self.storage_layer[tag[1].id] for tag in tags if tag[1].id in self.storage_layer}
            self.layer = owners.pop() if len(owners) == 1 else 0 if owners else self.layer
        super()._record(spec, tags, outputs)

    def autocast(self, policy: dict[str, str] | None) -> None:
        self.under = policy
        if policy is not None:
            self.catch()

    def entered(self) -> None:
        if self.phase == "backward":
            self.node = _node_number(torch._C._current_autograd_node())

    def renumber(self) -> None:
        """Threads number autograd's nodes each from 0: those that this one makes shall have numbers of their own."""
        now = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]  # torch's own
        missing = max((n + 1 - now for n in list(self.node_layer) if n - now < _NODES), default=0)
        if missing > 0:
            with _disable_current_modes(), torch.inference_mode(False), torch.enable_grad():
                number = torch.zeros((), requires_grad=True)
                for _ in range(missing):
                    number.view(())

    def _backward_layer(self) -> int:
        node = torch._C._current_autograd_node()
        number = _node_number(node)
        if self.stack:  # a forward pass within the backward one: recomputed activations
            if number == self.node:
                return self.layer
            self.stack.clear()  # it stops in the middle, when all that is needed is there
        variable = getattr(node, "variable", None)
        if variable is not None:
            return self.param_layer.get(identity(variable), 0)
        return self._layer_of(number)

    def _layer_of(self, number: int) -> int:
        while number >= 0 and number not in self.node_layer:
            number -= 1
        # without a node it is the first gradient; what ran before the first node of a process stands under -1
        return self.node_layer.get(number, 0) if number >= 0 else 0

    def _call(self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.phase == "backward":  # should it fail
            self.layer = self._backward_layer()
        return super()._call(func, args, kwargs)

    def failed_in(self, error: BaseException) -> int:
        """The layer whose gradient failed: of the autograd function that the error passed through, else of the last kernel."""
        tb, found = error.__traceback__, self.layer
        while self.phase == "backward" and tb is not None:
            node: Any = tb.tb_frame.f_locals.get("self")
            if isinstance(node, torch.autograd.graph.Node):
                found = self._layer_of(_node_number(node))
            tb = tb.tb_next
        return found


def _node_number(node: Any) -> int:
    return int(node._sequence_nr()) if node is not None else -1


def _sole(t: torch.Tensor, holders: int) -> bool:
    """Whether autograd's buffer is the only holder of a gradient, so that it would add to it in place."""
    return compat.holders(t) == (holders, _SOLE_STORAGE) and bool(torch.ops.aten.is_non_overlapping_and_dense(t))


def _on_host(args: tuple[Any, ...]) -> bool:
    """Step counters: numbers on the host, whatever the device."""
    found = list(tensors_in(args))
    return bool(found) and all(not t.is_meta and t.dim() == 0 for t in found)


# ------------------------------------------------------------------------------------------------ the step


class Step:
    """What surrounds the forward pass: the optimizer's state before it, backward and the update after it."""

    def __init__(
        self,
        recorder: TrainingRecorder,
        params: Sequence[tuple[str, torch.Tensor]],
        optimizer: str,
        loss: bool = False,
        early: bool = False,
    ) -> None:
        self.recorder, self.optimizer = recorder, optimizer
        # see Way.early
        self.early = early
        # whether what is returned may be the loss itself
        self.loss = loss
        self.note = NOTE.format(optimizer)
        self.params = [(path, p) for path, p in params if p.requires_grad]
        if not self.params:
            raise UsageError("nothing to train: no parameter of the model requires a gradient")
        self.state: dict[str, list[torch.Tensor]] = {}

    def prepare(self, owners: dict[int, int]) -> None:
        """Make the optimizer's state, as it stands after earlier steps; `owners` says which layer has a parameter."""
        recorder = self.recorder
        recorder.param_layer = owners
        kept = ("gradient",) if self.early else ()
        for key in ("momentum_buffer", *kept) if self.optimizer == "sgd" else ("exp_avg", "exp_avg_sq"):
            self.state[key] = []
            for path, p in self.params:
                t = torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device=p.device)
                if not t.is_meta:
                    t.zero_()
                recorder.adopt(t, "state", f"{path}.{key}")
                recorder.storage_layer[recorder.store_of(t)] = owners.get(identity(p), 0)
                self.state[key].append(t)
        for path, p in self.params:
            recorder.storage_layer[recorder.store_of(p)] = owners.get(identity(p), 0)
            if self.optimizer != "sgd":
                counter = torch.ones(())  # on the host, a number that the update reads
                recorder.adopt(counter, "state", f"{path}.step")
                recorder.storage_layer[recorder.store_of(counter)] = owners.get(identity(p), 0)
                self.state.setdefault("step", []).append(counter)

    def run(self, output: Any) -> torch.Tensor:
        """Backward and the optimizer's step; returns the loss, which stays alive as it does in a training loop."""
        recorder = self.recorder
        recorder.layer = 0
        # in what tuples and dicts hold, else wherever an output's class has its tensors
        floats = [t for t in tensors_in(output) if t.requires_grad]
        floats = floats or [t for _, t in tensors_of(output) if t.requires_grad]
        if any(p.grad is not None for _, p in self.params):
            raise UsageError(
                "it calls backward() itself, which is a training step already: leave training out\n"
                "its pass then holds the gradients that it takes and the optimizer that it calls"
            )
        if not floats:
            raise UsageError("nothing to train: no floating output of the model depends on its parameters")
        if self.loss and len(floats) == 1 and not floats[0].dim():
            loss, self.note = floats[0], OWN.format(self.optimizer)
        else:
            parts = [(torch.view_as_real(t) if t.is_complex() else t).sum() for t in floats]
            loss = parts[0]
            for part in parts[1:]:
                loss = loss + part
        recorder.phase = "backward"
        recorder.casts.weights.clear()  # autocast forgets its casts where the forward pass ends
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        recorder.phase, recorder.layer = "optimizer", 0
        for path, p in self.params:
            if p.grad is not None:
                recorder.rename(recorder.store_of(p.grad), "gradient", path, recorder.param_layer.get(identity(p), 0))
        with torch.no_grad():
            self._update()
        return loss

    def _update(self) -> None:
        """Torch's own update, a loop over the parameters on a CPU, multi-tensor kernels on a GPU: the defaults there."""
        at = [i for i, (_, p) in enumerate(self.params) if p.grad is not None]
        params = [self.params[i][1] for i in at]
        grads = [p.grad for p in params if p.grad is not None]
        state = {key: [tensors[i] for i in at] for key, tensors in self.state.items()}
        if self.optimizer == "sgd":
            if self.early:
                grads = [kept.add_(grad) for kept, grad in zip(state["gradient"], grads, strict=True)]
            sgd(
                params,
                grads,
                [*state["momentum_buffer"]],
                foreach=self.recorder.gpu and not self.early,
                fused=False,
                weight_decay=0.0,
                momentum=0.9,
                lr=0.1,
                dampening=0.0,
                nesterov=self.early,
                maximize=False,
            )
            return
        decoupled = self.optimizer == "adamw"
        (adamw if decoupled else adam)(
            params,
            grads,
            state["exp_avg"],
            state["exp_avg_sq"],
            [],
            state["step"],
            foreach=self.recorder.gpu,
            fused=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=0.001,
            weight_decay=0.01 if decoupled else 0.0,
            eps=1e-8,
            maximize=False,
        )


@contextmanager
def gradients_left(tables: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """Tensors that a module holds beside its parameters have the gradients afterwards that they had before."""
    held = [(t, t.grad) for table in tables for t in table.values() if isinstance(t, torch.Tensor) and t.requires_grad]
    try:
        yield
    finally:
        for t, grad in held:
            t.grad = grad


# ------------------------------------------------------------------------------------------------ kept whole


@contextmanager
def whole(recorder: TrainingRecorder) -> Iterator[None]:
    """Catch composite operators on meta tensors above autograd, for as long as the trace runs."""
    library = Library("aten", "IMPL")  # type: ignore[no-untyped-call]  # torch's own
    catch: dict[torch._ops.OpOverload, Callable[..., Any]] = {
        aten.scaled_dot_product_attention.default: attention(recorder.gpu),
        **recurrent(recorder),
        **{func: _below(func) for func in _kept()},
    }
    if recorder.gpu:
        catch[aten.dropout.default] = _dropout
    caught: set[torch._ops.OpOverload] = set()

    def call(func: torch._ops.OpOverload) -> Callable[..., Any]:
        return lambda *args, **kwargs: catch[func](*args, **kwargs)

    def register() -> None:
        for func in catch.keys() - caught:
            library.impl(func, call(func), "AutogradMeta")  # type: ignore[no-untyped-call]  # torch's own
        caught.update(catch)

    def casts() -> None:
        recorder.catch = lambda: None
        for name, cast in POLICIES["cuda" if recorder.gpu else "cpu"].items():
            for func in _overloads(name):
                catch[func] = _autocast(recorder, cast, func, catch.get(func) or _original(func))
        register()

    recorder.catch = casts
    try:
        casts() if recorder.under is not None else register()
        yield
    finally:
        recorder.catch = lambda: None
        library._destroy()  # type: ignore[no-untyped-call]  # torch's own


def _overloads(name: str) -> Iterator[torch._ops.OpOverload]:
    """The overloads of an operator that make new results; none where this torch does not have it."""
    packet = getattr(aten, name.partition(".")[2], None)
    for overload in packet.overloads() if packet is not None else ():
        func = getattr(packet, overload)
        known = torch._C._dispatch_has_kernel(func.name())  # some exist for TorchScript alone
        if known and not func._schema.is_mutable and all(a.alias_info is None for a in func._schema.arguments):
            yield func


def _original(func: torch._ops.OpOverload) -> Callable[..., Any]:
    """What an operator did at the autograd key of meta tensors before it was caught."""
    name = func.name()  # type: ignore[no-untyped-call]  # torch's own
    if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"):
        return partial(func._op_dk, IMPLICIT)
    # autograd's kernel is the same for every backend; asked for by the CPU's key it is the one that was not replaced
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradCPU) | torch._C.DispatchKeySet(torch._C.DispatchKey.Python)

    def original(*args: Any, **kwargs: Any) -> Any:
        return func.redispatch(keys, *args, **kwargs)

    return original


def _autocast(
    recorder: TrainingRecorder, cast: str, func: torch._ops.OpOverload, original: Callable[..., Any]
) -> Callable[..., Any]:
    """`func` as torch.autocast has it: arguments cast, where the user calls it in the forward pass."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if recorder.under is None or recorder.casting or recorder.phase != "forward":
            return original(*args, **kwargs)
        recorder.casting = True
        try:
            args, kwargs = recorder.casts.arguments(cast, args, kwargs)
            return original(*args, **kwargs)
        finally:
            recorder.casting = False

    return run


@cache
def _kept() -> tuple[torch._ops.OpOverload, ...]:
    """Operators that torch takes apart for backends it does not know, and that are one kernel on its own (`mish_backward`)."""
    has, found = torch._C._dispatch_has_kernel_for_dispatch_key, []
    for full in torch._C._dispatch_get_all_op_names():
        if full.startswith("aten::") and has(full, "CPU") and has(full, "CompositeImplicitAutograd"):
            name, _, overload = full[6:].partition(".")
            found.append(getattr(getattr(aten, name), overload or "default"))
    return tuple(found)


def _below(func: torch._ops.OpOverload) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return func(*args, **kwargs)

    return run


def _dropout(x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    if switched_off(x, p, train):
        return x
    if p == 1.0:
        nothing: torch.Tensor = x * torch.zeros((), dtype=x.dtype, device=x.device)
        return nothing
    result: torch.Tensor = aten.native_dropout(x, p, train)[0]
    return result
