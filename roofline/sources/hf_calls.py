"""The call of a model of transformers: of the ways that `hf_inputs` knows, the one that goes through; with an image or a sound
that becomes tokens of a text, as many placeholders in the ids as it has features. Imports torch.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from roofline.errors import ModelError, UsageError
from roofline.sources import hf_inputs
from roofline.sources.calls import call_with
from roofline.sources.hf_inputs import IMAGE, SOUND, VIDEO, Sizes, layouts_of
from roofline.sources.values import Array, Input
from roofline.tracing import trace
from roofline.tracing.ways import Way

# Methods that turn an input into tokens of a text, and the field of the configuration that says which id stands for one.
_FEATURES = (
    ("get_image_features", IMAGE, ("image_token_id", "image_token_index")),
    ("get_video_features", VIDEO, ("video_token_id", "video_token_index")),
    ("get_audio_features", SOUND, ("audio_token_id", "audio_token_index")),
)


class Filled:
    """Calls of one model, with placeholders in the ids for the features of each image, clip and sound.

    What was found of an input serves every call. What a person said stays as it is.
    """

    def __init__(self, module: nn.Module, sizes: Sizes, said: frozenset[str]) -> None:
        self.module, self.sizes, self.said = module, sizes, said
        self.known = frozenset(inspect.signature(module.forward).parameters)
        # by input: the layout that its features can be had in, and how many they are; none and 0 where there is no such
        self.met: dict[str, tuple[tuple[Input, ...], int]] = {}

    def call(self, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
        """The call; an image, clip or sound whose features cannot be had is left out, since the text alone is a call too."""
        found = {i.name: i for i in inputs}
        ids = found.get("input_ids")
        if ids is None or "input_ids" in self.said or ids.value is not None or len(ids.shape) != 2:
            return inputs
        tokens: list[tuple[int, int]] = []
        for method, names, fields in _FEATURES:
            name = next((n for n in names if n in found), "")
            token = next((t for f in fields if isinstance(t := getattr(self.module.config, f, None), int)), None)
            if not name or token is None:
                continue
            ways = (
                [(found[name],)]
                if found[name].named
                else [hf_inputs.inputs(w) for w in layouts_of(name, self.known, self.sizes)]
            )
            for other in {i.name for way in ways for i in way}:
                if other in found and other not in self.said:
                    del found[other]
            if name not in self.met:
                self.met[name] = self._features(method, tuple(found.values()), ways)
            way, count = self.met[name]
            if count:
                found |= {i.name: i for i in way if i.name not in found}
                tokens.append((token, count // ids.shape[0]))
        if tokens:
            row, kinds = _row(self.module.config, tokens, ids.shape[1])
            found["input_ids"] = _repeated("input_ids", row, ids.shape[0])
            if "mm_token_type_ids" in self.known and "mm_token_type_ids" not in found:
                found["mm_token_type_ids"] = _repeated("mm_token_type_ids", kinds, ids.shape[0])
            elif "token_type_ids" in self.known and not hasattr(self.module.config, "type_vocab_size"):
                found.setdefault("token_type_ids", _repeated("token_type_ids", [int(k > 0) for k in kinds], ids.shape[0]))
        return tuple(found.values())

    def _features(
        self, method: str, others: tuple[Input, ...], ways: Sequence[tuple[Input, ...]]
    ) -> tuple[tuple[Input, ...], int]:
        for way in ways:
            names = {i.name for i in way}
            count = _features(self.module, method, (*(i for i in others if i.name not in names), *way))
            if count and count % self.sizes.batch == 0:
                return way, count
        return (), 0


def _repeated(name: str, row: Sequence[int], rows: int) -> Input:
    return Input(name, (), value=Array((tuple(row),) * rows, "int64"))


def _row(config: Any, tokens: Sequence[tuple[int, int]], text: int) -> tuple[list[int], list[int]]:
    """Ids of one sample, and which kind each is (0 text, 1 image, 2 video, 3 sound): text, the placeholders, text."""
    special = {v for name, v in vars(config).items() if name.endswith(("_id", "_index")) and isinstance(v, int)}
    plain = next(i for i in range(5, 1000) if i not in special)
    row, kinds = [plain], [0]
    order = {getattr(config, f, None): kind for kind, (_, _, fields) in enumerate(_FEATURES, 1) for f in fields}
    for token, count in tokens:
        name = {1: "vision", 2: "vision", 3: "audio"}[order[token]]
        first, last = (getattr(config, f"{name}_{end}_token_id", None) for end in ("start", "end"))
        row += [first if isinstance(first, int) else plain, *[token] * count, last if isinstance(last, int) else plain]
        kinds += [0, *[order[token]] * count, 0]
    return row + [plain] * (text - 1), kinds + [0] * (text - 1)


def _features(module: nn.Module, method: str, call: Sequence[Input]) -> int:
    """How many tokens the features of an image, clip or sound take, by running the model until it has them.

    0: it cannot take the input in this layout.
    """
    found: list[int] = []

    def until(inner: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            found.append(_rows(inner(*args, **kwargs)))
            raise _Enough

        return run

    owners = [m for m in module.modules() if hasattr(type(m), method)]
    for m in owners:
        m.__dict__[method] = until(getattr(m, method))
    try:
        args, kwargs = call_with(module, call)
        for tracers in (True, False):
            try:
                trace.trace(module, args, kwargs, way=Way(values=True, tracers=tracers))
            except ModelError as error:
                # a model without the method says it where it finds none of the tokens
                if not found and (said := re.search(r"tokens: 0, features:? (\d+)", str(error))):
                    found.append(int(said[1]))
            if found:
                break
    except UsageError:
        pass  # it does not take such a call at all
    finally:
        for m in owners:
            del m.__dict__[method]
    return found[0] if found else 0


class _Enough(Exception):
    """The features are there; the rest of the pass does not matter."""


def _rows(out: Any) -> int:
    """Vectors in what a features method returns: a tensor, several, or an output that holds them."""
    held = getattr(out, "pooler_output", None)
    if held is None:
        held = out if isinstance(out, (torch.Tensor, list, tuple)) else getattr(out, "last_hidden_state", None)
    if isinstance(held, torch.Tensor):
        return held.numel() // held.shape[-1] if held.dim() > 1 and held.shape[-1] else 0
    return sum(_rows(part) for part in held) if isinstance(held, (list, tuple)) else 0
