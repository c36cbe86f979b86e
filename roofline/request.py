"""What was asked: a model and its inputs (`Ask`), a pass of it (`Pass`), a place to run it (`Place`); and what cannot be asked.

The command line, `roofline.analyze()`, a budget file and a saved analysis all name the same options. `made` turns such
names and values into the one `Request` that every stage takes, and `check` refuses what would have no effect beside the
rest, with the reason and what to do.
"""

from __future__ import annotations

import ast
import operator
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from roofline.devices.device import Device
from roofline.dtypes import NOT_INT8, SETTINGS
from roofline.errors import UsageError, nearest
from roofline.records import RUNTIMES

OPTIMIZERS = ("sgd", "adam", "adamw")
# The one of a training step where nothing is said.
DEFAULT_OPTIMIZER = "adam"


class Ask(Struct, frozen=True):
    """Which model, made and called how."""

    # what the command line takes ("resnet50", "net.py:Net"), an nn.Module, or a function to call
    model: Any
    # shapes as text: "1,3,224,224", "ids=1,128:int64"
    inputs: tuple[str, ...] = ()
    # rows; none: the model's own
    batch: int | None = None
    # pixels of an edge of the images
    resolution: int | None = None
    # arguments of the constructor of a model by name; text is given its type by the source
    settings: dict[str, Any] = {}
    # the whole call of a module, instead of inputs
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None

    @property
    def sizes(self) -> tuple[tuple[str, ...], int | None, int | None]:
        """What was said about the inputs: shapes, batch, resolution."""
        return self.inputs, self.batch, self.resolution


class Pass(Struct, frozen=True):
    """Which pass of the model, and in which dtype."""

    # none: as the model is built
    dtype: str | None = None
    # forward, backward and an update, instead of inference
    training: bool = False
    # as given; of a training step alone
    optimizer: str | None = None
    # tokens of a language model's prompt, or in its cache before one more
    prefill: int | None = None
    decode: int | None = None
    # of each loop where data decide how often it turns; none: one, and a note says so
    turns: int | None = None
    # parameters, buffers and inputs that are images or volumes lie channels-last
    channels_last: bool = False
    # batch norms are folded into the layers before them, once it is traced
    fold_bn: bool = False

    @property
    def update(self) -> str:
        """The optimizer of the training step; empty for inference."""
        return (self.optimizer or DEFAULT_OPTIMIZER).lower() if self.training else ""

    def key(self, target: Device) -> str:
        """What a trace depends on: an operator is not always the same kernels on a GPU and a CPU. Norms are folded after it."""
        return repr((self.dtype, self.update, self.prefill, self.decode, self.turns, self.channels_last, target.kind))


class Place(Struct, frozen=True):
    """Where it runs, and how operators become kernels."""

    # a name, a file, or the device itself
    device: str | Device = "cpu"
    runtime: str = "eager"
    # what the machine around a GPU needs to issue an operator, "10 us" or seconds; none: the device file's
    host: str | float | None = None


def _silent(text: str) -> None:
    pass


class Request(Struct, frozen=True):
    """All of it, as given, and how to answer."""

    ask: Ask
    what: Pass = Pass()
    place: Place = Place()
    # results are kept on disk and taken from there
    cache: bool = True
    # is told what is being done, a line at a time
    progress: Callable[[str], None] = _silent


FORWARD = Pass()
# The refusal of `turns` where they would change nothing.
NO_LOOP = "turns: data decide of no loop of this pass how often it turns, so there is nothing to set: leave --turns out"
# The refusal of `channels_last` where it would change nothing.
NO_IMAGES = (
    "channels_last: no parameter, buffer or input of floats here is an image (4 dimensions) or a volume (5), so nothing would "
    "lie otherwise: leave --channels-last out"
)
# The options that are whole numbers of at least 1, and those of a few words.
SIZES = ("batch", "resolution", "prefill", "decode", "turns")
WORDS = {"dtype": SETTINGS, "runtime": RUNTIMES, "optimizer": OPTIMIZERS}
_PARTS: dict[str, type[Struct]] = {"ask": Ask, "what": Pass, "place": Place}
_PART_OF = {name: part for part, kind in _PARTS.items() for name in kind.__struct_fields__}
# The options by name: fields of the three parts, apart from the model.
OPTIONS = tuple(name for name in _PART_OF if name != "model")


# ------------------------------------------------------------------------------------------------ options -> request


def made(model: Any, given: Mapping[str, Any], *, cache: bool = True, progress: Callable[[str], None] | None = None) -> Request:
    """The request for a model with options by their names, each of the type that it should have.

    Raises UsageError for a name that is no option and for a value of a wrong type; `check` looks at the rest.
    """
    values = dict(given)
    model = _of_program(model, values)
    for name in values:
        if name not in OPTIONS:
            raise UsageError(f"unknown option {name!r}{nearest(name, OPTIONS)}; use one of {', '.join(OPTIONS)}")
    _named(model)
    for name in (name for name in _TYPED if name in values):
        values[name] = _TYPED[name](name, values[name])
    if not isinstance(cache, bool):
        raise UsageError(f"cache is True or False, not {cache!r}")
    if progress is not None and not callable(progress):
        raise UsageError(f"progress is a function that takes a text, not {_short(progress)}")
    parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for name, value in values.items():
        parts[_PART_OF[name]][name] = value
    return Request(
        Ask(model, **parts["ask"]), Pass(**parts["what"]), Place(**parts["place"]), cache=cache, progress=progress or _silent
    )


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _of_program(model: Any, values: dict[str, Any]) -> Any:
    """The module of a program of torch.export in memory, called as it was exported where nobody says otherwise."""
    export = sys.modules.get("torch.export")
    if export is None or not isinstance(model, export.ExportedProgram):
        return model
    said = any(values.get(name) for name in ("inputs", "args", "kwargs", "batch", "resolution"))
    if not said and model.example_inputs is not None:
        values["args"], values["kwargs"] = model.example_inputs
    return model.module()


def _named(model: Any) -> bool:
    """Whether the model is given by name. Raises UsageError for what is neither a name, a module nor a function."""
    if isinstance(model, str):
        return True
    torch = sys.modules.get("torch")  # whoever has a module has imported it
    if torch is not None and isinstance(model, torch.nn.Module):
        return False
    if isinstance(model, type):
        raise UsageError(f"the model is the class {model.__name__}: give an instance of it, {model.__name__}(...)")
    if torch is not None and callable(model):
        return False
    raise UsageError(f"the model is a {type(model).__name__}: give a name such as 'resnet50' or 'net.py:Net', or an nn.Module")


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name} is a whole number, not {_short(value)}") from None


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name} is True or False, not {value!r}")
    return value


_EXAMPLES = {"dtype": "fp16", "runtime": "eager", "optimizer": "adam"}


def _word(name: str, value: Any) -> str | None:
    if not isinstance(value, str) and (value is not None or name == "runtime"):
        raise UsageError(f"{name} is text, such as {_EXAMPLES[name]!r}, not {_short(value)}")
    return value


def _device(name: str, value: Any) -> str | Device:
    if not isinstance(value, (str, os.PathLike, Device)):
        raise UsageError(f"{name} is one name, file or Device, not {_short(value)}; call analyze() for each")
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _inputs(name: str, value: Any) -> tuple[str, ...]:
    example = f'a list of shapes as text: {name}=["1,3,224,224"] or {name}=["ids=1,128:int64"]'
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{name} is {example}, not {_short(value)}")
    for shape in value:
        if not isinstance(shape, str):
            tensor = "; tensors go into args=[...] or kwargs={...}" if hasattr(shape, "shape") else ""
            raise UsageError(f"{name} is {example}, and {_short(shape)} is no text{tensor}")
    return tuple(value)


def _mapping(name: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        example = "{'width_mult': 0.5}" if name == "settings" else "{'input_ids': ids}"
        raise UsageError(f"{name} is a dict by name, such as {example}, not {_short(value)}")
    return dict(value)


def _args(name: str, value: Any) -> Sequence[Any] | None:
    if value is not None and (isinstance(value, (str, bytes)) or not isinstance(value, Sequence)):
        bare = type(value).__name__
        raise UsageError(f"{name} is a list of the call's arguments: {name}=[x] for module(x), not a bare {bare}")
    return value


# What an option's value is made by; `host` is read by `device.with_host`, which knows the units.
_TYPED: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(SIZES, _whole),
    "training": _flag,
    "channels_last": _flag,
    "fold_bn": _flag,
    **dict.fromkeys(WORDS, _word),
    "device": _device,
    "inputs": _inputs,
    "settings": lambda name, value: _mapping(name, value) or {},
    "kwargs": _mapping,
    "args": _args,
}


def typed(value: Any) -> Any:
    """An argument of a model from text: `0.75` -> float, `true` -> bool, `none` -> None, `[1,2]` -> list, else text."""
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with others over them, by name; a pass in `given` takes the place of the whole pass in `base`.

    Without that, a training step beside a saved `decode` would be two passes at once, and its optimizer one of no step.
    """
    rest = dict(base)
    if given.get("training"):
        dropped: tuple[str, ...] = ("prefill", "decode")
    elif given.get("prefill") or given.get("decode"):
        dropped = ("training", "optimizer", "prefill", "decode", "inputs", "resolution")
    else:
        dropped = ()
    for name in dropped:
        rest.pop(name, None)
    found = {**rest, **given}
    if not found.get("training") and "optimizer" not in given:
        found.pop("optimizer", None)
    return found


def turns_counted(turns: int, asked: int | None) -> str:
    """The note of a loop that was left after so many turns, without the name of the loop."""
    were = "1 turn was" if turns == 1 else f"{turns:,} turns were"
    how = ", as --turns says" if asked else "; --turns N counts N of them"
    return f"data decide how often it turns; {were} counted{how}"


# ------------------------------------------------------------------------------------------------ what cannot be asked


def check(request: Request) -> None:
    """Raise UsageError for a name that nobody knows, a size below 1, and what would have no effect beside the rest."""
    _together(request.ask, request.what)
    what = request.what
    if what.dtype == "int8":
        raise UsageError(NOT_INT8)
    for name, value in (("dtype", what.dtype), ("runtime", request.place.runtime), ("optimizer", what.update)):
        known = WORDS[name]
        if value and value not in known:
            raise UsageError(f"unknown {name} {value!r}{nearest(value, known)}; use one of {', '.join(known)}")
    if (what.prefill is not None) + (what.decode is not None) + what.training > 1:
        raise UsageError("prefill, decode and training are three different passes; ask for one of them")
    if what.fold_bn and what.training:
        raise UsageError(
            "fold_bn (--fold-bn) beside training: a training step takes statistics of its own batch, so no norm can be folded; "
            "leave one out"
        )
    for name in SIZES:
        size = getattr(getattr(request, _PART_OF[name]), name)
        if size is not None and size < 1:
            raise UsageError(f"{name} must be at least 1, not {size}")


def _together(ask: Ask, what: Pass) -> None:
    """Raise UsageError for what would have no effect beside the rest."""
    named = _named(ask.model)
    called = [name for name in ("args", "kwargs") if getattr(ask, name) is not None]
    asked = [name for name in ("batch", "resolution", "inputs") if getattr(ask, name) not in (None, ())]
    asked += [name for name in ("prefill", "decode") if getattr(what, name) is not None]
    if not called and not named and not hasattr(ask.model, "parameters"):
        raise UsageError(
            f"the model is a function ({_short(ask.model)}): give its call with args=[...] or kwargs={{...}}, or the nn.Module "
            "that it makes"
        )
    if called and named:
        raise UsageError(f"{called[0]}: a model by name takes inputs=[...]; give the nn.Module to call it with {called[0]}")
    if called and asked:
        if asked[0] in ("prefill", "decode"):
            raise UsageError(f"{asked[0]} beside {called[0]}: {asked[0]} makes the call itself; leave one out")
        raise UsageError(f"{asked[0]} beside {called[0]}: {called[0]} is the whole call, and says all sizes; leave one out")
    if ask.settings and not named:
        names = ", ".join(ask.settings)
        raise UsageError(f"settings ({names}): they are arguments of a model's constructor, and a module is built already")
    if what.optimizer is not None and not what.training:
        raise UsageError(f"optimizer {what.optimizer!r} is that of a training step: ask for training too (--training)")
    for mode in ("prefill", "decode"):
        if getattr(what, mode) is not None and (other := [name for name in asked if name in ("inputs", "resolution")]):
            name = "inputs" if "inputs" in other else other[0]
            option = {"inputs": "--input"}.get(name, f"--{name}")
            raise UsageError(f"{name} ({option}) beside {mode}: {mode} says how many tokens go in, --batch how many rows")
