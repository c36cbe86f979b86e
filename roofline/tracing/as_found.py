"""What a pass may change in a model, noted before it and put back after it, whether it failed or not.

That is the attributes of every module (parameters, buffers, hooks, the training flag), what hangs on them (containers, plain
objects, modules that are no children, random generators, arrays) however deep, what a TorchScript module holds in C++, and the
attributes of the model's own classes, and of the Python modules that those are from the tensors, tables and functools' caches.
Tensors that a pass writes to are the recorder's (`Recorder.spare`).
"""

from __future__ import annotations

import enum
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from roofline.records import identity
from roofline.tracing.arguments import tensors_in
from roofline.tracing.functions import Function

_ATOMS = frozenset({
    int, float, complex, bool, str, bytes, type(None), type(Ellipsis), range, type, torch.Tensor, nn.Parameter, torch.Size,
    torch.dtype, torch.device, torch.layout, torch.memory_format, types.FunctionType, types.BuiltinFunctionType,
    types.MethodType, types.ModuleType,
})  # fmt: skip
_TENSORS_AND_CHILDREN = frozenset({"_parameters", "_buffers", "_modules"})
_CONTAINERS = frozenset({dict, list, set, OrderedDict, defaultdict, deque})
_TABLES = (dict, OrderedDict, defaultdict)
# A container of more is noted and not looked into: nobody keeps state by the ten thousand but data. Bytes of an array, and what
# is looked at in all.
_MOST_ITEMS, _MOST_BYTES, _MOST_SEEN = 10_000, 2**24, 100_000
# Classes whose objects hold nothing of a model's own, by the package that they are from.
_FOREIGN = ("torch", "builtins", "functools", "weakref", "threading", "_thread", "logging", "re", "pathlib")
# ... but for these of torch's.
_STEPS = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler)
_MISSING = object()
_CACHED = type(lru_cache(lambda: None))


class AsFound:
    """The state of some modules: noted when it is made, put back by `restore`."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.modules = [(m, m.__dict__.copy()) for m in modules]
        self.empty: list[Any] = []
        self.containers: list[tuple[Any, Any]] = []
        self.objects: list[tuple[Any, dict[str, Any]]] = []
        self.others: list[Callable[[], Any]] = []
        self.seen = {identity(m) for m, _ in self.modules}
        self.classes: dict[type, dict[str, Any] | None] = {}
        self.spaces: dict[str, dict[str, Any]] = {}
        # those that a model or function holds
        self.optimizers: list[torch.optim.Optimizer] = []
        empty, containers, odd = self.empty, self.containers, []
        for m, attributes in self.modules:
            if type(m) not in self.classes:
                self._class(type(m))
            # in line: of the two dozen attributes of a module nearly all are empty tables of hooks and tables of tensors
            for key, value in attributes.items():
                kind = type(value)
                if kind in _ATOMS:
                    continue
                if kind not in _CONTAINERS:
                    odd.append(value)
                elif not value:
                    empty.append(value)
                elif key in _TENSORS_AND_CHILDREN:
                    containers.append((value, value.copy()))
                else:
                    odd.append(value)
        if any(issubclass(kind, torch.jit.ScriptModule) for kind in self.classes):
            for m, _ in self.modules:
                if isinstance(m, torch.jit.ScriptModule):
                    self._script(m)
        self._look(odd)
        if self.modules and isinstance(self.modules[0][0], Function):
            self.others.append(self.modules[0][0].rebound())

    def _look(self, values: Iterable[Any]) -> None:
        """Note what can change in these values, and in what they hold."""
        seen, open_ = self.seen, [v for v in values if type(v) not in _ATOMS]
        while open_ and len(seen) < _MOST_SEEN:
            value = open_.pop()
            if identity(value) in seen:
                continue
            seen.add(identity(value))
            kind = type(value)
            if kind in _CONTAINERS:
                self.containers.append((value, value.copy() if value else None))
                if not 0 < len(value) <= _MOST_ITEMS:
                    continue
                inside: Iterable[Any] = value.values() if kind in _TABLES else value
            else:
                inside = value if kind is tuple else self._object(value)
            open_ += [v for v in inside if type(v) not in _ATOMS]

    def _object(self, value: Any) -> Iterable[Any]:
        """Note an object that is no container; what it holds."""
        kind = type(value)
        package = kind.__module__.partition(".")[0]
        if isinstance(value, torch.Generator):
            state = value.get_state()
            self.others.append(partial(value.set_state, state))
        elif package == "numpy" and hasattr(value, "nbytes") and value.ndim and value.nbytes <= _MOST_BYTES:
            self.others.append(partial(value.__setitem__, ..., value.copy()) if value.flags.writeable else lambda: None)
        elif package != "torch" and (base := _base(value)) is not None:  # somebody's own kind of container
            held = _items(value, base)
            self.others.append(partial(_refilled, value, base, held))
            own = getattr(value, "__dict__", None)
            if type(own) is dict:
                self.objects.append((value, own.copy()))
            return [*_values(held, base), *(own or {}).values()]
        if isinstance(value, torch.optim.Optimizer):
            self.optimizers.append(value)
        if isinstance(value, (type, enum.Enum, torch.Tensor)) or (package in _FOREIGN and not isinstance(value, _STEPS)):
            return ()
        attributes = getattr(value, "__dict__", None)
        slots = self._slots(value)
        if type(attributes) is not dict:
            return slots
        self.objects.append((value, attributes.copy()))
        if isinstance(value, nn.Module):
            self._class(kind)
        return [*attributes.values(), *slots]

    def _slots(self, value: Any) -> list[Any]:
        """What an object holds in slots."""
        named = [vars(base).get("__slots__", ()) for base in type(value).__mro__]
        names = [n for slots in named for n in ((slots,) if isinstance(slots, str) else slots) if not n.startswith("__")]
        held = {name: getattr(value, name, _MISSING) for name in names}

        def again() -> None:
            for name, before in held.items():
                if getattr(value, name, _MISSING) is not before:
                    with suppress(AttributeError):  # frozen: then nobody changed it
                        delattr(value, name) if before is _MISSING else setattr(value, name, before)

        if held:
            self.others.append(again)
        return [v for v in held.values() if v is not _MISSING]

    def _class(self, kind: type) -> None:
        """The attributes of a class of the model's own, and what they hold."""
        for base in kind.__mro__:
            if base in self.classes:
                continue
            if base.__module__.partition(".")[0] in _FOREIGN:
                self.classes[base] = None
                continue
            own = {k: v for k, v in vars(base).items() if not (k.startswith("__") and k.endswith("__")) and k != "_abc_impl"}
            self.classes[base] = own
            self._look([v for v in own.values() if type(v) in _CONTAINERS])
            self._caches(own.values())
            if base.__module__ not in self.spaces:
                self._space(base.__module__)

    def _space(self, name: str) -> None:
        """Tensors, tables and caches that stand in a Python module of the model's own: what it keeps beside itself."""
        space = getattr(sys.modules.get(name), "__dict__", {})
        self.spaces[name] = {k: v for k, v in space.items() if v is None or isinstance(v, torch.Tensor)}
        for v in space.values():
            if type(v) in _CONTAINERS and len(v) <= _MOST_ITEMS and identity(v) not in self.seen:
                self.seen.add(identity(v))
                base = _base(v)
                self.others.append(partial(_without_tensors, v, base, _items(v, base)))
        self._caches(space.values())

    def _caches(self, values: Iterable[Any]) -> None:
        """Those of functools: one that has grown holds tensors of the pass, and begins anew."""
        for v in values:
            if type(v) is _CACHED and identity(v) not in self.seen:
                self.seen.add(identity(v))
                self.others.append(partial(_forgotten, v, v.cache_info().misses))

    def _script(self, m: Any) -> None:
        """What a TorchScript module holds in C++: tensors, the training flag, attributes. Lists and dicts come as copies."""
        # one that torch.jit.freeze made has no attributes left
        own = m._concrete_type.get_attributes() if hasattr(m, "_concrete_type") else ()
        names = [*own, *(n for n, _ in (*m._parameters.items(), *m._buffers.items()))]
        held = {}
        for name in dict.fromkeys(names):
            with suppress(RuntimeError):  # of a type that Python has no word for
                held[name] = m._c.getattr(name)

        def again() -> None:
            for name, value in held.items():
                with suppress(RuntimeError):
                    m._c.setattr(name, value)

        self.others.append(again)

    def restore(self) -> None:
        """Make it so again; what did not change is left alone."""
        for m, attributes in (*self.modules, *self.objects):
            now = m.__dict__
            now.clear()
            now.update(attributes)
        if any(self.empty):
            for value in self.empty:
                value.clear()
        for value, before in self.containers:
            if before or value:
                value.clear()
                if before:
                    value.update(before) if isinstance(value, (dict, set)) else value.extend(before)
        for again in self.others:
            again()
        for name, held in self.spaces.items():
            space = getattr(sys.modules.get(name), "__dict__", {})
            for k in [k for k, v in space.items() if isinstance(v, torch.Tensor) and held.get(k) is not v]:
                if k in held:
                    space[k] = held[k]
                else:
                    del space[k]
        for kind, own in self.classes.items():
            if own is None:  # not the model's
                continue
            now = {k: v for k, v in vars(kind).items() if k in own or not k.startswith("__")}
            for name in now.keys() | own.keys():
                if now.get(name, _MISSING) is not own.get(name, _MISSING) and name != "_abc_impl":
                    with suppress(AttributeError, TypeError):
                        setattr(kind, name, own[name]) if name in own else delattr(kind, name)


def _forgotten(cached: Any, misses: int) -> None:
    if cached.cache_info().misses != misses:
        cached.cache_clear()


def _base(value: Any) -> Any:
    """Python's own class of a container that somebody made a class of; None of anything else."""
    return next((kind for kind in (OrderedDict, dict, list, set, deque) if isinstance(value, kind)), None)


def _items(value: Any, base: Any) -> list[Any]:
    """What a container holds, of a table its pairs: past methods of its class, which may say something else."""
    return list(base.items(value)) if issubclass(base, dict) else list(base.__iter__(value))


def _values(items: list[Any], base: Any) -> list[Any]:
    """The same without the keys."""
    return [value for _, value in items] if issubclass(base, dict) else items


def _refilled(value: Any, base: Any, held: list[Any]) -> None:
    """Hold again what it held, if that is another now: past methods of its class, which may refuse or do more."""
    now = _items(value, base)
    if len(now) == len(held) and all(_alike(a, b) for a, b in zip(now, held, strict=True)):
        return
    base.clear(value)
    if issubclass(base, dict):
        for key, v in held:
            base.__setitem__(value, key, v)
    else:
        base.update(value, held) if base is set else base.extend(value, held)


def _without_tensors(value: Any, base: Any, held: list[Any]) -> None:
    """A table of a Python module holds again what it held, where the pass put tensors into it; what else came stays."""
    before = set(map(identity, _values(held, base)))
    came = [v for v in _values(_items(value, base), base) if identity(v) not in before]
    if next(tensors_in(came), None) is not None:
        _refilled(value, base, held)


def _alike(a: Any, b: Any) -> bool:
    """The same object, or the same pair of key and value."""
    return a is b or (type(a) is type(b) is tuple and len(a) == len(b) == 2 and a[0] is b[0] and a[1] is b[1])


def set_mode(module: nn.Module, training: bool) -> list[str]:
    """Set the training flags as `module.train()` does, and have gradients dense; notes on what is not as the module has it."""
    modules = module.modules() if training else ()
    tables = [m for m in modules if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.sparse]
    for table in tables:
        table.sparse = False
    notes = ["sparse gradients of embeddings are taken as dense ones, as large as their tables"] if tables else []
    try:
        module.train(training)
    except NotImplementedError:  # a program of torch.export's among them, which has the mode that it was exported in
        for m in module.modules():
            if "train" not in vars(m):
                m.training = training
        notes.append("a part of it is an exported program, which runs in the mode that it was exported in")
    return notes


@contextmanager
def interpreted() -> Iterator[None]:
    """TorchScript runs as it is written: what its optimiser learns from meta tensors would stay with the module."""
    before = torch._C._get_graph_executor_optimize()
    torch._C._set_graph_executor_optimize(False)
    try:
        yield
    finally:
        torch._C._set_graph_executor_optimize(before)
