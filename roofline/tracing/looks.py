"""Models that look whether their tensors have memory, which those of a first trace have not: they may go another way there."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any

from roofline.cache.places import kind_of

# a note, where nothing tells what they do on a device
NOTE = "its code asks whether tensors have memory, and here they had none: on a device it may take another way"
_ASK = frozenset({"is_meta", "data_ptr"})
# They build a model, on the meta device too.
_BUILDS = frozenset({"__init__", "reset_parameters", "init_weights", "_init_weights", "from_pretrained"})
_KNOWN = ("torch.", "torchvision.", "timm.", "transformers.", "roofline.")


def looks(classes: Iterable[type], functions: Iterable[types.FunctionType] = ()) -> bool:
    """Whether the code of classes of a person's own, or one of these functions, asks for it."""
    methods = (m for kind in classes if not kind.__module__.startswith(_KNOWN) for m in _methods(kind))
    return any(_asks(f.__code__) and kind_of(f.__code__.co_filename) == "own" for held in (methods, functions) for f in held)


def _methods(kind: type) -> Iterator[types.FunctionType]:
    for name, value in vars(kind).items():
        method: Any = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(method, types.FunctionType) and name not in _BUILDS:
            yield method


def _asks(code: types.CodeType) -> bool:
    if not _ASK.isdisjoint(code.co_names) or ("meta" in code.co_consts and "device" in code.co_names):
        return True
    return any(_asks(inner) for inner in code.co_consts if isinstance(inner, types.CodeType))
