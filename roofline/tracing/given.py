"""The arguments of a call: their tensors wherever they hang, and a copy of the whole with stand-ins in their place.

A call may hold anything: tuples, dicts of any class, dataclasses, caches, objects with tensors in their attributes. The
caller's own are never handed to the model: what it changes in them would stay.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from roofline.errors import UsageError
from roofline.isolation import failures
from roofline.tracing.ways import Way

# What holds no tensors of a call, or is not ours to look into and copy.
_CLOSED = (
    str,
    bytes,
    bytearray,
    int,
    float,
    complex,
    type(None),
    type,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.Generator,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    nn.Module,
)
_MOST = 200_000
# Elements of an integer input that keeps its values.
SMALL = 2**20
_PLACE = "argument "


def kept(t: torch.Tensor) -> bool:
    """Whether an input keeps its values in a pass that has those of integers and truths."""
    return not t.is_meta and whole(t) and t.numel() <= SMALL


def whole(t: torch.Tensor) -> bool:
    """Whether its values are integers or truths."""
    return not (t.dtype.is_floating_point or t.dtype.is_complex) and t.layout == torch.strided


class Call:
    """The arguments of module(...), and after `standing_in` what it is called with."""

    def __init__(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.module, self.args, self.kwargs = module, tuple(args), dict(kwargs)
        # (position or keyword, tensor) of what the pass gets, as often as it is given
        self.inputs: list[tuple[str, torch.Tensor]] = []
        # what was drawn
        self.note = ""

    def standing_in(self, stand_in: Callable[[torch.Tensor], torch.Tensor], way: Way) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with `stand_in(tensor)` for every tensor; with drawn values, where the pass needs some and has none."""
        filler = None
        if way.real or way.values:
            from roofline.tracing.drawn import Drawn  # the quick pass draws nothing

            filler = Drawn(self.module, self._named(), way.limits)

        def new(name: str, t: torch.Tensor) -> torch.Tensor:
            other = stand_in(t)
            if filler is None or not other.is_meta or not (way.real or (whole(t) and t.numel() <= SMALL)):
                return other
            return filler.tensor(name, t, other.dtype).requires_grad_(other.requires_grad)

        names = self._names()
        both = copied([dict(zip(names, self.args, strict=True)), self.kwargs], new)
        args, kwargs = tuple(both[0].values()), both[1]
        self.inputs = [(str(i), t) for i, value in enumerate(args) for _, t in tensors_of(value)]
        self.inputs += [(key, t) for key, value in kwargs.items() for _, t in tensors_of(value)]
        if filler is not None:
            self.note = filler.note
        return args, kwargs

    def _named(self) -> list[tuple[str, torch.Tensor]]:
        """Every tensor with the name of what it is, in the order of `inputs`."""
        by_name = [*zip(self._names(), self.args, strict=True), *self.kwargs.items()]
        return [found for name, value in by_name for found in tensors_of(value, name)]

    def _names(self) -> list[str]:
        """The parameters of forward() that the arguments by position are; by their place where it has no names for them."""
        try:
            known = list(inspect.signature(self.module.forward).parameters.values())
        except (TypeError, ValueError):
            known = []
        own = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return [own[i] if i < len(own) else f"{_PLACE}{i}" for i in range(len(self.args))]


def tensors_of(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of every tensor in a value, each once: the name is that of the key or attribute that holds it, else
    `name`."""
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [(name, value)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, torch.Tensor):
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value
        elif not isinstance(value, _CLOSED) and id(value) not in seen:
            seen.add(id(value))
            if len(seen) > _MOST:
                raise UsageError(f"an argument of the call holds more than {_MOST:,} objects")
            todo.extend(reversed([(key or name, v) for key, v in _inside(value)]))


def _inside(value: Any) -> list[tuple[str, Any]]:
    """What an object holds, with the names that it has there."""
    found: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        found += [(key if isinstance(key, str) else "", v) for key, v in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=False))
    elif isinstance(value, (list, tuple, set, frozenset)) or type(value).__name__ == "deque":
        found += [("", v) for v in value]
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict):
        found += list(own.items())
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                found.append((slot, getattr(value, slot)))
    return found


def copied(value: Any, stand_in: Callable[[str, torch.Tensor], torch.Tensor]) -> Any:
    """A copy of a call's arguments, with `stand_in(name, tensor)` for every tensor. Raises UsageError for what cannot be
    copied."""
    memo: dict[int, Any] = {}
    for name, t in tensors_of(value):
        memo[id(t)] = stand_in(name, t)
    return _copy(value, memo)


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    """As copy.deepcopy, without a look at what is closed; plain containers here, since most calls hold nothing else."""
    if isinstance(value, torch.Tensor):
        return memo[id(value)]
    if isinstance(value, _CLOSED):
        return value
    if id(value) in memo:
        return memo[id(value)]
    kind = type(value)
    if kind is tuple:
        return tuple(_copy(v, memo) for v in value)
    if kind is list or kind is dict:
        new: Any = kind()
        memo[id(value)] = new
        if kind is list:
            new.extend(_copy(v, memo) for v in value)
        else:
            new.update((k, _copy(v, memo)) for k, v in value.items())
        return new
    if isinstance(value, PackedSequence):  # its constructor wants some of its tensors on the CPU
        return tuple.__new__(kind, [_copy(v, memo) for v in value])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*(_copy(v, memo) for v in value))
    for _, closed in _closed_in(value):
        memo[id(closed)] = closed
    try:
        return copy.deepcopy(value, memo)
    except Exception as error:  # an object's own copying may raise anything
        if isinstance(value, dict) and type(value).__new__ is dict.__new__:  # a dict that gives its keys as attributes
            new = dict.__new__(kind)
            new.__dict__.update({k: _copy(v, memo) for k, v in getattr(value, "__dict__", {}).items()})
            dict.update(new, {k: _copy(v, memo) for k, v in value.items()})
            return new
        if kind is types.MappingProxyType:
            return types.MappingProxyType(_copy(dict(value), memo))
        if isinstance(value, Iterator):
            raise UsageError(
                f"an argument of the call is a {kind.__name__}, which can be read once, and a pass may run twice: "
                "give list(...) of it"
            ) from error
        raise UsageError(f"an argument of the call, a {kind.__name__}, cannot be copied: {failures.said(error)}") from error


def _closed_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Modules and other things within an object that a copy of it shares."""
    seen: set[int] = set()
    todo = [("", value)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, (nn.Module, torch.Generator, types.ModuleType)):
            yield name, value
        elif not isinstance(value, (torch.Tensor, *_CLOSED)) and id(value) not in seen:
            seen.add(id(value))
            todo.extend(_inside(value))
