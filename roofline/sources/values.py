"""What one input of a model may be: a tensor by its shape, or what stands there instead."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Plain(Struct, frozen=True):
    """A number, a truth, text or None, as Python has it."""

    value: bool | int | float | str | None


class Array(Struct, frozen=True):
    """A tensor of values that were written out: numbers, in tuples within tuples."""

    values: tuple[Any, ...]
    dtype: str


class Stored(Struct, frozen=True):
    """What a file holds; one entry of it where a key is given."""

    file: str
    key: str = ""


class Group(Struct, frozen=True):
    """A list or tuple; its parts have no names."""

    items: tuple[Input, ...]
    kind: Literal["list", "tuple"] = "list"


class Table(Struct, frozen=True):
    """A dict; its parts' names are the keys."""

    items: tuple[Input, ...]


Value = Plain | Array | Stored | Group | Table


class Input(Struct, frozen=True):
    """One input: `name` is the parameter of forward() that takes it, or its position. A tensor by its shape, or a value."""

    name: str
    shape: tuple[int, ...]
    # empty: the analysis' floating dtype
    dtype: str = ""
    # a person wrote this name, so forward() has to have it; any other name may stand for a position
    named: bool = False
    # the values of the tensor are drawn from here, the second not included; None: nothing was said of them
    between: tuple[float, float] | None = None
    # what stands here instead of a tensor of that shape
    value: Value | None = None
