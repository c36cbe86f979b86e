"""A function as a module: what it calls are its parts, so a loop, a loss or a method of a model is traced like a model."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

# Objects looked at for modules, and how far from the function.
_MOST, _DEEPEST = 10_000, 6
# What holds nothing that a pass may change.
_PLAIN = (type, types.ModuleType, types.MethodType, types.BuiltinFunctionType, str, bytes, int, float, type(None))


class Function(nn.Module):
    """Calls `function`; the modules that it reaches by its closure, globals, defaults and object are parts of it."""

    # what else it reaches, which a pass may change; and the functions among that
    reached: list[Any]
    called: list[types.FunctionType]

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.__dict__.update(function=function, reached=[], called=[])
        self.title = getattr(function, "__name__", "") or type(function).__name__
        inside: set[int] = set()
        for name, value in _reach(function):
            if isinstance(value, types.FunctionType):
                self.called.append(value)
            elif not isinstance(value, nn.Module):
                self.reached.append(value)
            elif id(value) not in inside:
                inside.update(id(m) for m in value.modules())
                self._modules[self._free(name)] = value
        # what signature() and names of arguments go by
        self.__dict__["forward"] = function

    def rebound(self) -> Callable[[], None]:
        """What puts the variables of its functions back, those of the functions around them and the global ones."""
        cells = [(cell, _content(cell)) for f in self.called for cell in f.__closure__ or ()]
        names = [(f.__globals__, n) for f in self.called for n in _globals(f.__code__) if n in f.__globals__]
        held = [(space, n, space[n]) for space, n in names]

        def again() -> None:
            for cell, value in cells:
                if _content(cell) is not value:
                    cell.cell_contents = value
            for space, n, value in held:
                if space.get(n) is not value:
                    space[n] = value

        return again

    def _free(self, name: str) -> str:
        """A name that no other part has."""
        name = name.replace(".", "_") or "module"
        taken = {*self._modules, *self.__dict__}
        return next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return cell


@functools.cache
def _globals(code: types.CodeType) -> tuple[str, ...]:
    """Global names that code reads or binds, and the functions within it: `co_names` has those of attributes too."""
    found = dict.fromkeys(i.argval for i in dis.get_instructions(code) if i.opname in _NAMED)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found.update(dict.fromkeys(_globals(inner)))
    return tuple(found)


@functools.cache
def _names(code: types.CodeType) -> frozenset[str]:
    """All names of the code and the functions within it, those of attributes among them."""
    return frozenset(code.co_names).union(*(_names(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _held(spaces: list[Any], names: frozenset[str]) -> Iterator[tuple[str, nn.Module]]:
    """Modules that classes and Python's modules hold by these names."""
    for space in spaces:  # grows
        for name in names & vars(space).keys():
            value = vars(space)[name]
            if isinstance(value, nn.Module):
                yield name, value
            elif isinstance(value, _SPACES) and len(spaces) < _MOST_SPACES and value not in spaces:
                spaces.append(value)


# What holds others by their names, and how many of these are looked into.
_SPACES, _MOST_SPACES = (type, types.ModuleType), 100
_NAMED = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})


def _reach(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of the modules, functions and objects that a function reaches, the nearest first."""
    seen: set[int] = set()
    todo: list[tuple[str, Any, int]] = [("", function, 0)]
    while todo and len(seen) < _MOST:
        name, value, depth = todo.pop(0)
        if id(value) in seen or depth > _DEEPEST:
            continue
        seen.add(id(value))
        if not isinstance(value, _PLAIN):
            yield name, value
        if isinstance(value, nn.Module):
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
            if (content := _content(cell)) is not cell:
                yield name, content
        known = {n: value.__globals__[n] for n in _globals(code) if n in value.__globals__}
        yield from known.items()
        yield from _held([v for v in known.values() if isinstance(v, _SPACES)], _names(code))
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
