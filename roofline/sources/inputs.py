"""What a model takes: as a person writes it (`grammar` reads that), as a file declares it, and sized as asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from roofline.dtypes import INTEGERS
from roofline.errors import UsageError
from roofline.request import Ask
from roofline.sources.values import Array, Group, Input, Plain, Stored, Table

DEFAULT_INPUT: dict[str, Any] = {"x": [1, 3, 224, 224]}


def _assumed(shape: Sequence[int]) -> str:
    return f"input not declared: {','.join(map(str, shape))} assumed; give --input to change it"


# a note: nobody said what the model takes
ASSUMED = _assumed(DEFAULT_INPUT["x"])


def assumed(inputs: Sequence[Input]) -> str:
    """The same of the image as it was sized."""
    return _assumed(inputs[0].shape)


def parsed(table: Mapping[str, Any]) -> tuple[Input, ...]:
    """Inputs from a table of name -> shape, as a list of sizes or as text with a dtype."""
    out = []
    for name, value in table.items():
        if isinstance(value, str):
            from roofline.sources import grammar  # where somebody wrote something

            out.append(replace(grammar.tensor(value), name=name))
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
    """The inputs that a person wrote out. Raises UsageError for text that is no input."""
    if not inputs:
        return ()
    from roofline.sources import grammar

    found = [grammar.read(text, i) for i, text in enumerate(inputs)]
    for name in (names := [i.name for i in found if not i.name.isdigit()]):
        if names.count(name) > 1:
            raise UsageError(
                f"--input {name}: given {names.count(name)} times, and it has one shape; a list is {name}=[3,20,30; 3,24,16]"
            )
    return tuple(replace(i, named=not i.name.isdigit()) for i in found)


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
    if resolution is not None and not any(map(_is_image, _tensors(inputs))):
        raise UsageError(f"--resolution is for images, and the input is {_shapes(inputs)}; give its shape with --input")
    if batch is not None and not any(i.shape for i in _tensors(inputs, images=False)):
        raise UsageError(f"--batch is the first size of an input, and the input is {_shapes(inputs)}; give it with --input")
    return tuple(_resized(i, batch, resolution) for i in inputs)


def _resized(i: Input, batch: int | None, resolution: int | None) -> Input:
    """An input of another batch and resolution. A list of images has as many as it has, what has values keeps them."""
    if isinstance(i.value, Table):
        return replace(i, value=Table(tuple(_resized(v, batch, resolution) for v in i.value.items)))
    if isinstance(i.value, Group):
        inside = None if _are_images(i.value) else batch
        return replace(i, value=replace(i.value, items=tuple(_resized(v, inside, resolution) for v in i.value.items)))
    shape = i.shape
    if resolution is not None and _is_image(i):
        shape = (*shape[:-2], resolution, resolution)
    if batch is not None and shape:
        shape = (batch, *shape[1:])
    return replace(i, shape=shape)


def _tensors(inputs: Sequence[Input], images: bool = True) -> Iterator[Input]:
    """The tensors that were said by their shape, those in lists and dicts too; without `images` no list of images."""
    for i in inputs:
        if isinstance(i.value, (Table, Group)):
            if images or not _are_images(i.value):
                yield from _tensors(i.value.items, images)
        elif i.value is None:
            yield i


def _are_images(value: Group | Table) -> bool:
    """Whether a list holds single images, each of its own size: its length is the batch."""
    return isinstance(value, Group) and all(i.value is None and len(i.shape) == 3 and _is_image(i) for i in value.items)


def rows(inputs: Sequence[Input]) -> int | None:
    """The batch: the first size of the first tensor, or how many images a list holds; None where only values can tell."""
    for i in inputs:
        if isinstance(i.value, (Table, Group)):
            found = len(i.value.items) if _are_images(i.value) else rows(i.value.items)
            if i.value.items:
                return found
        elif isinstance(i.value, Array):
            return max(len(i.value.values), 1)
        elif not isinstance(i.value, Plain):
            return None if isinstance(i.value, Stored) else i.shape[0] if i.shape else 1
    return 1


def stored(inputs: Sequence[Input]) -> Iterator[Stored]:
    """The files that inputs are read from."""
    for i in inputs:
        if isinstance(i.value, Stored):
            yield i.value
        elif isinstance(i.value, (Group, Table)):
            yield from stored(i.value.items)


def only_tensors(inputs: Sequence[Input], what: str) -> None:
    """Raise UsageError for inputs other than tensors by their shape: `what` has no use for values."""
    for i in inputs:
        if i.value is not None or i.between is not None:
            raise UsageError(f"--input {i.name}: {what} takes tensors by their shape, such as {i.name}=1,3,224,224")


def _is_image(i: Input) -> bool:
    """Whether its last two sizes are height and width: [n, c, h, w], a clip of frames, or one image without a batch."""
    return i.dtype not in INTEGERS - {"uint8"} and (len(i.shape) >= 4 or (len(i.shape) == 3 and i.shape[0] == 3))


def _shapes(inputs: Sequence[Input]) -> str:
    return " and ".join(_shown(i) for i in inputs) or "none"


_WORDS = {Plain: "a number", Array: "values", Stored: "a file", Group: "a list", Table: "a dict"}


def _shown(i: Input) -> str:
    what = f"[{', '.join(map(str, i.shape))}]" if i.value is None else _WORDS[type(i.value)]
    return f"{i.name} {what}"
