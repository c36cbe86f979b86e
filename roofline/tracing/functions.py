"""A function as a module: what it calls are its parts, so a loop, a loss or a method of a model is traced like a model."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

# Objects looked at for modules, and how far from the function.
_MOST, _DEEPEST = 10_000, 6


class Function(nn.Module):
    """Calls `function`; the modules that it reaches by its closure, globals, defaults and object are parts of it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.__dict__["function"] = function
        self.title = getattr(function, "__name__", "") or type(function).__name__
        inside: set[int] = set()
        for name, module in _modules_of(function):
            if id(module) not in inside:
                inside.update(id(m) for m in module.modules())
                self._modules[self._free(name)] = module
        # what signature() and names of arguments go by
        self.__dict__["forward"] = function

    def _free(self, name: str) -> str:
        """A name that no other part has."""
        name = name.replace(".", "_") or "module"
        taken = {*self._modules, *self.__dict__}
        return next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _modules_of(function: Any) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of the modules that a function reaches, the nearest first."""
    seen: set[int] = set()
    todo: list[tuple[str, Any, int]] = [("", function, 0)]
    while todo and len(seen) < _MOST:
        name, value, depth = todo.pop(0)
        if id(value) in seen or depth > _DEEPEST:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield name, value
            continue
        todo += [(n or name, v, depth + 1) for n, v in _reached(value)]


def _reached(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, types.MethodType):
        yield getattr(value.__func__, "__name__", ""), value.__func__
        yield type(value.__self__).__name__.lower(), value.__self__
    elif isinstance(value, functools.partial):
        yield from (("", v) for v in (value.func, *value.args))
        yield from value.keywords.items()
    elif isinstance(value, types.FunctionType):
        code = value.__code__
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not bound yet
                continue
        yield from ((n, value.__globals__[n]) for n in code.co_names if n in value.__globals__)
        yield from (("", v) for v in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()))
        if (inner := getattr(value, "__wrapped__", None)) is not None:
            yield "", inner
    elif isinstance(value, dict):
        yield from ((k if isinstance(k, str) else "", v) for k, v in value.items())
    elif isinstance(value, (list, tuple)):
        yield from (("", v) for v in value)
    elif not isinstance(value, (type, types.ModuleType, str, bytes, int, float)) and type(value).__module__ != "builtins":
        own = getattr(value, "__dict__", None)
        yield from own.items() if isinstance(own, dict) else ()
        call = vars(type(value)).get("__call__")
        if isinstance(call, types.FunctionType):
            yield "", call
