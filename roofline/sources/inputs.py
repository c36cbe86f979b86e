"""What a model takes: shapes as a person writes them, as a file declares them, and sized as asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roofline.dtypes import INPUTS, INTEGERS
from roofline.errors import UsageError, nearest
from roofline.request import Ask

DEFAULT_INPUT: dict[str, Any] = {"x": [1, 3, 224, 224]}
# a note: nobody said what the model takes
ASSUMED = "input not declared: 1,3,224,224 assumed; give --input to change it"


class Input(Struct, frozen=True):
    """One tensor input: `name` is the parameter of forward() that takes it, or its position."""

    name: str
    shape: tuple[int, ...]
    # empty: the analysis' floating dtype
    dtype: str = ""
    # a person wrote this name, so forward() has to have it; any other name may stand for a position
    named: bool = False


def parsed(table: Mapping[str, Any]) -> tuple[Input, ...]:
    """Inputs from a table of name -> shape, as a list of sizes or as text with a dtype."""
    out = []
    for name, value in table.items():
        if isinstance(value, str):
            out.append(_parse_input(f"{name}={value}", 0))
        else:
            out.append(Input(name, tuple(value)))
    return tuple(out)


def default_image(ask: Ask) -> tuple[Input, ...]:
    """The inputs of a module that nothing is known of: as given, else one image."""
    return sized(parsed(DEFAULT_INPUT), ask)


def sized(default: tuple[Input, ...], ask: Ask) -> tuple[Input, ...]:
    """The default inputs as a person asked for them. Raises UsageError for a shape that cannot be."""
    return _sized(_merged(default, given(ask.inputs)), ask.batch, ask.resolution)


def given(inputs: Sequence[str]) -> tuple[Input, ...]:
    """The inputs that a person wrote out. Raises UsageError for text that is no shape."""
    found = [_parse_input(text, i) for i, text in enumerate(inputs)]
    for name in (names := [i.name for i in found if not i.name.isdigit()]):
        if names.count(name) > 1:
            raise UsageError(f"--input {name}: given {names.count(name)} times, and it has one shape")
    return tuple(replace(i, named=not i.name.isdigit()) for i in found)


def _parse_input(text: str, position: int) -> Input:
    """`1,3,224,224`, `x=1,3,224,224`, `ids=1,128:int64`."""
    name, equals, rest = text.rpartition("=")
    shape, _, dtype = rest.partition(":")
    try:
        sizes = tuple(int(s) for s in re.split(r"[,x]", shape.strip()) if s.strip() or shape.strip())
    except ValueError:
        sizes = ()
    if (not sizes and shape.strip()) or any(s < 1 for s in sizes) or (equals and not name.strip().isidentifier()):
        raise UsageError(f"--input {text!r} is not a shape; write 1,3,224,224 or x=1,3,224,224 or ids=1,128:int64")
    dtype = dtype.strip()
    if dtype and dtype not in INPUTS:
        hint = nearest(dtype, sorted(INPUTS), cutoff=0.6, show=str) or f"; use one of {', '.join(sorted(INPUTS))}"
        raise UsageError(f"--input {text!r}: unknown dtype {dtype!r}{hint}")
    return Input(name.strip() or str(position), sizes, dtype)


def _merged(default: tuple[Input, ...], given: tuple[Input, ...]) -> tuple[Input, ...]:
    """Inputs as given; a named one replaces the default of that name and leaves the others."""
    if not given:
        return default
    if len(given) > 1 and default == parsed(DEFAULT_INPUT):
        return given  # the image that stands for what nothing is known of
    named = {i.name: i for i in given if not i.name.isdigit()}
    if named and len(named) == len(given) and {d.name for d in default} & set(named):
        # a declared name is taken as declared, whatever forward() calls it
        known = tuple(replace(named.pop(d.name), named=d.named) if d.name in named else d for d in default)
        return known + tuple(named.values())
    return given


def _sized(inputs: tuple[Input, ...], batch: int | None, resolution: int | None) -> tuple[Input, ...]:
    out = []
    for i in inputs:
        shape = i.shape
        if resolution is not None and _is_image(i):
            shape = (*shape[:-2], resolution, resolution)
        if batch is not None and shape:
            shape = (batch, *shape[1:])
        out.append(replace(i, shape=shape))
    if resolution is not None and not any(map(_is_image, inputs)):
        raise UsageError(f"--resolution is for images, and the input is {_shapes(inputs)}; give its shape with --input")
    if batch is not None and not any(i.shape for i in inputs):
        raise UsageError(f"--batch is the first size of an input, and the input is {_shapes(inputs)}; give it with --input")
    return tuple(out)


def _is_image(i: Input) -> bool:
    """Whether its last two sizes are height and width: [n, c, h, w], a clip of frames, or one image without a batch."""
    return i.dtype not in INTEGERS - {"uint8"} and (len(i.shape) >= 4 or (len(i.shape) == 3 and i.shape[0] == 3))


def _shapes(inputs: Sequence[Input]) -> str:
    return " and ".join(f"{i.name} [{', '.join(map(str, i.shape))}]" for i in inputs) or "none"
