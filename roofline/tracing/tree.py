"""The modules of a model: every path to each, who is running, whose parameters are whose; and what to say when one fails."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn
from torch.nn.parameter import is_lazy

from roofline import compat
from roofline.errors import ModelError
from roofline.isolation import failures
from roofline.records import Layer, Op, TensorSpec, around, identity
from roofline.tracing import lazy, packing
from roofline.tracing.arguments import elements, packed_in, tensors_in, unpacked
from roofline.tracing.recorder import Recorder
from roofline.tracing.ways import NeedsValues, Stopped, Way, said

# Characters of a module's path in a message.
_LONGEST = 200
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
# Torch's words where autograd is off and the code asks for its work, or Python's of a `grad_fn` that is None then.
_NO_AUTOGRAD = (  # a pattern, which is compiled where a pass failed
    r"nference tensor|(not|n't) require grad|can't retain_grad"
    r"|'NoneType' object has no attribute '(name|next_functions|register_(pre)?hook|metadata)'"
)


def table_of(m: nn.Module, name: str) -> dict[str, Any]:
    """A module's own parameters or buffers; those of a TorchScript module lie in C++, behind something like a dict."""
    own = m.__dict__.get(name)
    table: dict[str, Any] = own if own is not None else getattr(m, name)
    return table


class Modules:
    """The module tree: who is running, and what to say when it fails."""

    def __init__(self, root: nn.Module, recorder: Recorder, woken: bool = False) -> None:
        """Raises lazy.Unknown where a parameter or buffer has no shape yet, unless the module had its first call."""
        self.recorder = recorder
        # each module once, and every path that leads to one: a shared module has several
        self.named: list[tuple[str, nn.Module]] = list(root.named_modules())
        links = sum(child is not None for _, m in self.named for child in m._modules.values())
        self.paths = self.named if links == len(self.named) - 1 else list(_paths(root, len(self.named)))
        self.index: dict[int, list[int]] = {}
        for i, (_, m) in enumerate(self.paths):
            self.index.setdefault(identity(m), []).append(i)
        self.calls = [0] * len(self.paths)
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.stack = recorder.stack
        # packed weights of quantized modules: (index of the module, the object)
        self.packed: list[tuple[int, Any]] = [(self.index[identity(m)][0], v) for _, m in self.named for v in packed_in(m)]
        # of layers that hold their weight in few bits, what their tensors stand for: module by id -> name -> numbers
        self.in_words: dict[int, dict[str, int]] = {}
        # weights in bytes or words of which nothing tells how many numbers one holds
        self.unsure: list[str] = []
        for path, m in self.named:
            found, unsure = packing.looked_at(m)
            if found:
                self.in_words[identity(m)] = found
            self.unsure += [f"{path}.{name}".lstrip(".") for name in unsure]
        self.belonging = {
            f"{path}.{name}".lstrip(".")
            for path, m in (self.named if self.in_words else ())
            for name, numbers in self.in_words.get(identity(m), {}).items()
            if not numbers
        }
        # own parameters, and those of them that require a gradient
        self.trainable = [0] * len(self.paths)
        # names of parameters and buffers without a shape
        self.shapeless = [f"{path}.{name}".lstrip(".") for path, m in self.named for name in _shapeless(m)]
        if self.shapeless and not woken:
            raise lazy.Unknown
        self.owned = self._own_params()
        self.parents = self._parents()
        self.held = _held(self.named)

    def _own_params(self) -> list[int]:
        seen: set[int] = set()
        owned = [0] * len(self.paths)
        for _, m in self.named:
            own = 0
            for p in table_of(m, "_parameters").values():
                if p is not None and not is_lazy(p) and identity(p) not in seen:
                    seen.add(identity(p))
                    own += 0 if identity(m) in self.in_words else elements(p)
                    self.trainable[self.index[identity(m)][0]] += p.numel() if p.requires_grad else 0
            owned[self.index[identity(m)][0]] = own + sum(self.in_words.get(identity(m), {}).values())
        for i, packed in self.packed:
            owned[i] += sum(t.numel() for t in unpacked(packed)[0] if t is not None)
        return owned

    def made(self, root: nn.Module) -> list[str]:
        """A note on parameters that the model made while it ran: it has them from its second call on, and has now none."""
        if _held(self.named) == self.held:
            return []
        known = {path for path, _ in self.named}
        new = [(name, p.numel()) for name, p in root.named_parameters() if name.rpartition(".")[0] not in known]
        if not new:
            return []
        names = ", ".join(name for name, _ in new[:3]) + (" ..." if len(new) > 3 else "")
        return [
            f"made as it ran, so not among its parameters: {names} ({sum(n for _, n in new):,} numbers)"
            "; call the model once before, and they are"
        ]

    def owners(self) -> dict[int, int]:
        """The module that owns each parameter, a tied one its first: parameter by id -> index."""
        found: dict[int, int] = {}
        for _, m in self.named:
            for p in m._parameters.values():
                found.setdefault(identity(p), self.index[identity(m)][0])
        return found

    def _parents(self) -> list[int]:
        at = {path: i for i, (path, _) in enumerate(self.paths)}
        return [-1 if (above := around(path, at)) is None else at[above] for path, _ in self.paths]

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Follow module calls through torch's global hooks while the model runs."""
        recorder, stack, index, calls = self.recorder, self.stack, self.index, self.calls

        def enter(m: nn.Module, inputs: Any) -> None:
            places = index.get(identity(m))
            if places is not None:
                recorder.arrived()
                i = places[0] if len(places) == 1 else self._called_at(places)
                stack.append((recorder.layer, inputs))
                recorder.entered()
                recorder.layer = i
                calls[i] += 1

        def leave(m: nn.Module, inputs: Any, output: Any) -> None:
            places = index.get(identity(m))
            if places is not None:
                recorder.resumed()
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
        backward = recorder.phase == "backward"
        path, m = self.paths[recorder.failed_in(error)]
        if backward:
            shapes = _shown(self._first_inputs(path))
        else:
            shapes = _shown(tensors_in(self.stack[-1][1]) if self.stack else ()) or _shown(_arguments_of(m, error))
        short = path if len(path) <= _LONGEST else f"{path[: _LONGEST // 2]}...{path[-_LONGEST // 2 :]}"
        where = f"{short} ({type(m).__name__})" if path else type(m).__name__
        way_back = "the backward pass of " if backward else ""
        line = f"the model failed in {way_back}{where}{f' with input shapes [{shapes}]' if shapes else ''}: "
        line += f"{said(error, recorder.words)}{failures.place(error)}"
        if way.real:
            return ModelError(line)
        words = failures.text(error)
        from roofline.tracing import drawn  # a first trace that goes through need not wait for it

        stopped = (NeedsValues if any(w in words for w in _NO_VALUE) else Stopped)(line)
        asked.gradients |= bool(re.search(_NO_AUTOGRAD, words))
        stopped.asked = asked
        stopped.made = sum(nbytes for nbytes, kind, _, _ in recorder.storages if kind == "activation")
        stores = [recorder.known[identity(t)][1].id for _, t in inputs]
        stopped.limits = drawn.limits(recorder.ops, recorder.specs, stores)
        return stopped

    def _first_inputs(self, path: str) -> list[TensorSpec]:
        """What the first operator of a layer, or of one in it, was given that the pass had made or got."""
        recorder = self.recorder
        for op in recorder.ops:
            own = self.paths[op.layer][0]
            if op.phase == "forward" and (own == path or not path or own.startswith(f"{path}.")):
                specs = zip(op.inputs, recorder.specs[op.spec].inputs, strict=False)
                if found := [spec for store, spec in specs if recorder.storages[store][1] in ("input", "activation")]:
                    return found
        return []

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
            Layer(
                path,
                type(m).__name__,
                self.owned[i],
                place[self.parents[i]],
                self.calls[i],
                self.trainable[i],
                self.outputs.get(i),
                _kernel(m),
            )
            for i in sorted(kept)
            for path, m in (self.paths[i],)
        )
        if len(kept) == len(self.paths):
            return layers, tuple(ops)
        return layers, tuple([op if place[op.layer] == op.layer else replace(op, layer=place[op.layer]) for op in ops])


def _shown(tensors: Iterable[torch.Tensor | TensorSpec]) -> str:
    return ", ".join("x".join(map(str, t.shape)) or "scalar" for t in tensors)


def _held(named: Sequence[tuple[str, nn.Module]]) -> int:
    """Modules in modules, as they are now."""
    return sum(len(m.__dict__.get("_modules") or ()) for _, m in named)


def _shapeless(m: nn.Module) -> list[str]:
    tables = table_of(m, "_parameters"), table_of(m, "_buffers")
    return [name for table in tables for name, t in table.items() if is_lazy(t)]


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
        inside = above | {identity(m)}
        children = [
            (f"{path}.{n}" if path else n, c, inside)
            for n, c in m._modules.items()
            if c is not None and identity(c) not in inside
        ]
        open_ += reversed(children)
    return iter(found) if not open_ else root.named_modules()
