"""What analyze() may be asked for together: every option has an effect, or is refused here with the reason and what to do."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.pipeline import Request

_PASSES = ("batch", "resolution", "prefill", "decode")


def request(model: Any, **given: Any) -> Request:
    """The request as analyze() got it, with every value of the type that it should have. Raises UsageError."""
    named = _named(model)
    for name in _PASSES:
        given[name] = _whole(name, given[name])
    for name in ("training", "cache"):
        if not isinstance(given[name], bool):
            raise UsageError(f"{name} is True or False, not {given[name]!r}")
    for name in ("dtype", "runtime", "optimizer"):
        if given[name] is not None and not isinstance(given[name], str):
            raise UsageError(f"{name} is text, such as {_EXAMPLES[name]!r}, not {_short(given[name])}")
    if not isinstance(given["device"], (str, os.PathLike, Device)):
        raise UsageError(f"device is one name, file or Device, not {_short(given['device'])}; call analyze() for each")
    if given["progress"] is not None and not callable(given["progress"]):
        raise UsageError(f"progress is a function that takes a text, not {_short(given['progress'])}")
    given["inputs"] = _inputs(given["inputs"])
    given["settings"] = _mapping("settings", given["settings"], "{'width_mult': 0.5}") or {}
    _call(given)
    _together(named, given)
    given["optimizer"] = given["optimizer"] or "adam"
    given["progress"] = given["progress"] or _silent
    return Request(**given)


_EXAMPLES = {"dtype": "fp16", "runtime": "eager", "optimizer": "adam"}


def _silent(text: str) -> None:
    pass


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _named(model: Any) -> bool:
    """Whether the model is given by name. Raises UsageError for what is neither a name nor a module."""
    if isinstance(model, str):
        return True
    torch = sys.modules.get("torch")  # whoever has a module has imported it
    if torch is not None and isinstance(model, torch.nn.Module):
        return False
    if isinstance(model, type):
        raise UsageError(f"the model is the class {model.__name__}: give an instance of it, {model.__name__}(...)")
    if callable(model):
        raise UsageError(f"the model is a function or another callable ({_short(model)}): give the nn.Module that it makes")
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


def _inputs(value: Any) -> tuple[str, ...]:
    example = 'a list of shapes as text: inputs=["1,3,224,224"] or inputs=["ids=1,128:int64"]'
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"inputs is {example}, not {_short(value)}")
    for shape in value:
        if not isinstance(shape, str):
            tensor = "; tensors go into args=[...] or kwargs={...}" if hasattr(shape, "shape") else ""
            raise UsageError(f"inputs is {example}, and {_short(shape)} is no text{tensor}")
    return tuple(value)


def _mapping(name: str, value: Any, example: str) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name} is a dict by name, such as {example}, not {_short(value)}")
    return dict(value)


def _call(given: dict[str, Any]) -> None:
    """args and kwargs, of a type that can be a call."""
    args = given["args"]
    if args is not None and (isinstance(args, (str, bytes)) or not isinstance(args, Sequence)):
        raise UsageError(f"args is a list of the call's arguments: args=[x] for module(x), not a bare {type(args).__name__}")
    given["kwargs"] = _mapping("kwargs", given["kwargs"], "{'input_ids': ids}")


def _together(named: bool, given: dict[str, Any]) -> None:
    """Raise UsageError for what would have no effect beside the rest."""
    called = [name for name in ("args", "kwargs") if given[name] is not None]
    asked = [name for name in ("batch", "resolution", "inputs", "prefill", "decode") if given[name] not in (None, ())]
    if called and named:
        raise UsageError(f"{called[0]}: a model by name takes inputs=[...]; give the nn.Module to call it with {called[0]}")
    if called and asked:
        if asked[0] in ("prefill", "decode"):
            raise UsageError(f"{asked[0]} beside {called[0]}: {asked[0]} makes the call itself; leave one out")
        raise UsageError(f"{asked[0]} beside {called[0]}: {called[0]} is the whole call, and says all sizes; leave one out")
    if given["settings"] and not named:
        names = ", ".join(given["settings"])
        raise UsageError(f"settings ({names}): they are arguments of a model's constructor, and a module is built already")
    if given["optimizer"] is not None and not given["training"]:
        raise UsageError(f"optimizer {given['optimizer']!r} is that of a training step: ask for training too (--training)")
    for mode in ("prefill", "decode"):
        if given[mode] is not None and (other := [n for n in ("inputs", "resolution") if given[n] not in (None, ())]):
            option = {"inputs": "--input"}.get(other[0], f"--{other[0]}")
            raise UsageError(f"{other[0]} ({option}) beside {mode}: {mode} says how many tokens go in, --batch how many rows")
