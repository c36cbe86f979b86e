"""The inputs that a person said -> the arguments of module(...). Imports torch.

A tensor said by its shape has no values: it is on meta. One whose values were said (written out, drawn from a range, read from
a file) is real.
"""

from __future__ import annotations

import inspect
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from msgspec import Struct
from torch import nn

from roofline import units
from roofline.errors import BuildError, ModelError, UsageError, nearest
from roofline.isolation import failures
from roofline.sources.values import Array, Group, Input, Plain, Stored, Table
from roofline.tracing import built

if TYPE_CHECKING:
    from roofline.sources.source import Source

META = torch.device("meta")
# Bytes that a file of values may unpack to, and elements drawn from a range.
_LARGEST_FILE, _MOST_DRAWN = 4 * 2**30, 2**28


class Example(Struct, frozen=True):
    """What an example() gave: the arguments of forward(), (arguments, keywords), or a dict by name."""

    value: Any


def made_by(example: Callable[..., Any], source: Source) -> Example:
    """What the function beside a model gives. Raises UsageError where it does not take a size that was asked for, SourceError
    with its own words where it fails."""
    sizes = {n: v for n in ("batch", "resolution") if (v := getattr(source.asked, n)) is not None}
    for name in sizes:
        if name not in inspect.signature(example).parameters:
            where = failures.shown(source.where)
            raise UsageError(f"--{name}: example() of {where} says the inputs: give it a parameter {name}, or use --input")
    try:
        return Example(example(**sizes))
    except Exception as error:
        words = f"{failures.said(error)}{failures.place(error)}"
        raise BuildError(f"the model failed: example() of {failures.shown(source.where)}: {words}") from error


def _from_example(value: Any, parameters: Mapping[str, inspect.Parameter]) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (list, tuple)) and isinstance(value[1], dict):
        return list(value[0]), dict(value[1])
    if isinstance(value, Mapping):
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        by_name = all(isinstance(n, str) and (anything or n in parameters) for n in value)
        return ([], dict(value)) if by_name else ([value], {})
    return list(value) if isinstance(value, (list, tuple)) else [value], {}


def call_with(module: nn.Module, inputs: Sequence[Input] | Example) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of module(...): an input whose name forward() does not know goes by position; several names that it does
    not know are the dict that its one argument is. A floating tensor of which no more is said has the dtype of the module.

    Raises UsageError where forward() cannot take them, or a file of values cannot be read.
    """
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(module.forward).parameters
    except ValueError:  # a forward() of TorchScript's tells no names
        parameters = {}
    if isinstance(inputs, Example):
        return _from_example(inputs.value, parameters)
    said = list(_spread(inputs, built.own(module)))
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if (holder := _holder(said, parameters)) and not anything:
        said = [(holder, {name: value for name, value, _ in said}, True)]
    args, kwargs = [], {}
    for name, value, named in said:
        if named and parameters and not anything and name not in parameters:
            raise UsageError(
                f"--input {name}: forward() of {type(module).__name__} has no input of that name: "
                + _known(name, parameters, len(said))
            )
        by_name = name in parameters and parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY
        if by_name or (anything and named):
            kwargs[name] = value
        else:
            args.append(value)
    _whole(module, parameters, args, kwargs)
    return args, kwargs


def takes_nothing(called: Callable[..., Any]) -> bool:
    """Whether a forward() or a function is called without arguments."""
    try:
        return not inspect.signature(called).parameters
    except (TypeError, ValueError):  # TorchScript's and C's tell nothing
        return False


def remarks(inputs: Sequence[Input] | Example) -> tuple[str, ...]:
    """What a person should know of how their inputs were read."""
    if isinstance(inputs, Example):
        return ("inputs: as the example() beside the model gives them",)
    return tuple(
        f"--input {i.name} is the number {i.value.value}; a tensor of {i.value.value} elements is {i.name}={i.value.value},"
        for i in inputs
        if isinstance(i.value, Plain) and type(i.value.value) is int and i.value.value > 0
    )


def missing(error: ModelError, inputs: Sequence[Input] | Example) -> str:
    """A line for a model that looked for a key in the dict that was said, and did not find it; else nothing."""
    cause = error.__cause__
    key = cause.args[0] if isinstance(cause, KeyError) and cause.args else None
    said = [] if isinstance(inputs, Example) else [i for i in inputs if i.named]
    if not isinstance(key, str) or not key.isidentifier() or not said or any(i.name == key for i in said):
        return ""
    return f"\n{key!r} is not among the inputs that were said: add --input {key}=0.5 for a number, {key}=1,16 for a tensor"


def _spread(inputs: Sequence[Input], own: torch.dtype) -> Iterator[tuple[str, Any, bool]]:
    """(name, value, whether a person gave the name) of each; what an unnamed file holds, by its names."""
    drawn = torch.Generator().manual_seed(0)
    for i in inputs:
        value = _value(i, own, drawn)
        if i.named or not isinstance(i.value, Stored):
            yield i.name, value, i.named
        elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            yield from ((key, v, True) for key, v in value.items())
        elif isinstance(value, (list, tuple)):
            yield from ((str(at), v, False) for at, v in enumerate(value))
        else:
            yield i.name, value, False


def _holder(said: Sequence[tuple[str, Any, bool]], parameters: Mapping[str, inspect.Parameter]) -> str:
    """The one argument of a forward(batch), where several inputs were named and it knows none of the names; else nothing."""
    own = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    needed = [n for n in own if parameters[n].default is inspect.Parameter.empty]
    names = [name for name, _, named in said if named]
    if len(names) < max(len(said), 2) or (len(needed) != 1 and len(own) != 1) or any(n in parameters for n in names):
        return ""
    return (needed or own)[0]


def _known(name: str, parameters: Mapping[str, inspect.Parameter], given: int) -> str:
    known = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    meant = nearest(name, known, cutoff=0.6, lead="", show=str)
    if not meant and given == 1 and len(known) == 1:
        return f"it takes {known[0]}; where that is a dict, write {known[0]}={{{name}=1,3,8,8}}"
    return meant or f"it takes {', '.join(known) or 'its inputs by position'}"


def _whole(module: nn.Module, parameters: Mapping[str, inspect.Parameter], args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raise UsageError where forward() takes more than was said."""
    by_place = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {*by_place[: len(args)], *kwargs}
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    missing = [n for n, p in parameters.items() if p.kind in kinds and p.default is inspect.Parameter.empty and n not in taken]
    if missing and parameters:
        raise UsageError(
            f"forward() of {type(module).__name__} also takes {' and '.join(missing)}, of which nothing was said"
            f"\ngive it: --input {missing[0]}=1,16 is a tensor of that shape, {missing[0]}=5 a number, "
            f"{missing[0]}=[5,3,2] a tensor of values"
        )


# ------------------------------------------------------------------------------------------------ values


def _value(i: Input, own: torch.dtype, drawn: torch.Generator) -> Any:
    value = i.value
    if isinstance(value, Plain):
        return value.value
    if isinstance(value, Array):
        return torch.tensor(value.values, dtype=getattr(torch, value.dtype))
    if isinstance(value, Stored):
        return load(value)
    if isinstance(value, Group):
        items = [_value(v, own, drawn) for v in value.items]
        return items if value.kind == "list" else tuple(items)
    if isinstance(value, Table):
        return {v.name: _value(v, own, drawn) for v in value.items}
    dtype = getattr(torch, i.dtype) if i.dtype else own
    if i.between is None:
        return torch.empty(i.shape, dtype=dtype, device=META)
    if math.prod(i.shape) > _MOST_DRAWN:
        raise UsageError(f"--input {i.name}: {math.prod(i.shape):,} values are too many to draw; leave the range out")
    low, high = i.between
    if dtype.is_floating_point or dtype.is_complex:
        floats = torch.empty(i.shape, dtype=torch.float64).uniform_(low, high, generator=drawn)
        return floats.to(dtype)
    try:
        return torch.randint(int(low), int(high), i.shape, generator=drawn).to(dtype)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise UsageError(f"--input {i.name}: {i.dtype} has no values from {low} to {high}") from error


def load(stored: Stored) -> Any:
    """What a file of values holds; its code never runs. Raises UsageError for a file that cannot be read so."""
    from roofline.sources.source import file_at  # a module that is given has no source

    path = file_at(stored.file)
    try:
        found = _read(path)
    except UsageError:
        raise
    except Exception as error:  # a stranger's file: numpy and torch raise what they meet
        raise UsageError(f"{stored.file} cannot be read as tensors: {_why(path, error)}") from error
    if not stored.key:
        return next(iter(found.values())) if path.suffix.lower() == ".npz" and len(found) == 1 else found
    if not isinstance(found, Mapping) or stored.key not in found:
        names = ", ".join(map(str, found)) if isinstance(found, Mapping) else "one value and no names"
        raise UsageError(f"{stored.file} holds no {stored.key!r}: it has {names}")
    return found[stored.key]


def _why(path: Path, error: Exception) -> str:
    """Of what numpy and torch say the first sentence: the others advise to run the file's code."""
    from roofline.sources.checkpoints import headers

    what = headers.pickled(path)
    if what.startswith("a pickled"):
        return f"it holds {what}, and no code of a file is run\nsave the tensors alone: torch.save(tensor, FILE)"
    if isinstance(error, (pickle.UnpicklingError, EOFError)):
        return "it is no whole file that torch.save or numpy.save wrote"
    return failures.said(error).partition(". ")[0]


def _read(path: Path) -> Any:
    if path.suffix.lower() in (".pt", ".pth"):
        return torch.load(path, map_location="cpu", weights_only=True)
    import numpy as np

    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > _LARGEST_FILE:
            raise UsageError(f"{path}: it unpacks to {units.binary(size)}, and {units.binary(_LARGEST_FILE)} is the most")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}
    return torch.from_numpy(np.array(np.load(path, allow_pickle=False, mmap_mode="r")))
