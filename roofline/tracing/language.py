"""Causal language models of transformers: reading a prompt (prefill), and one token after a filled KV cache (decode).

The cache is that of transformers in size and layout (sliding windows included), but a new token is written into its
place: transformers' own growing cache copies all of it at every step, which no engine that serves a model does. A recurrent
layer keeps a state of fixed size, which only its own code knows: one token that is not recorded makes it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from roofline import compat
from roofline.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Call(NamedTuple):
    """Keyword arguments of the pass, what a reader must know of it, and what has to run before it, unrecorded."""

    kwargs: dict[str, Any]
    notes: list[str]
    before: Callable[[dict[str, Any]], None] | None


def call(module: nn.Module, prefill: int | None, decode: int | None, batch: int) -> Call:
    """The pass over a prompt, or over one token after so many.

    Raises UsageError where the module is no causal language model of transformers.
    """
    import torch

    parameters = inspect.signature(module.forward).parameters
    config, generates = getattr(module, "config", None), getattr(module, "can_generate", lambda: False)
    takes = compat.cache_argument(parameters)
    known = "input_ids" in parameters and takes
    if config is None or not known or not generates() or getattr(config, "is_encoder_decoder", False):
        asked = "prefill" if prefill else "decode"
        raise UsageError(
            f"{type(module).__name__} is not a causal language model of transformers with a KV cache, which {asked} needs"
            "\ngive one by class or configuration, such as hf:LlamaForCausalLM or hf:config.json"
        )
    past, tokens = decode or 0, prefill or 1
    longest = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    notes = []
    if longest is not None and past + tokens > longest:
        notes.append(f"{past + tokens:,} tokens are more than the {longest:,} positions that the configuration allows")
    kwargs: dict[str, Any] = {"input_ids": torch.empty((batch, tokens), dtype=torch.int64, device="meta")}
    begin: Callable[..., None] | None = None
    if takes == compat.STATES:
        begin = _begin_states
    elif (own := compat.own_cache(module, takes, partial(_layer, past))) is not None:
        kwargs[takes], begin = own, _begin_own
    else:
        kwargs[takes] = cache = _cache(config, past)
        begin = _begin if any(map(compat.is_recurrent, cache.layers)) else None
    if "use_cache" in parameters:
        kwargs["use_cache"] = True
    if "logits_to_keep" in parameters:
        kwargs["logits_to_keep"] = 1
        if prefill:
            notes.append("prefill: logits of the last position only, as generate() asks for")
    return Call(kwargs, notes, partial(begin, module, takes) if past and begin else None)


def _first(module: nn.Module, kwargs: dict[str, Any], **others: Any) -> Any:
    """What the model gives for a first token after nothing, in a call like the pass's with `others` in place of its own."""
    import torch

    place = next(module.parameters()).device
    token = torch.zeros(kwargs["input_ids"].shape, dtype=torch.int64, device=place)
    return module(**kwargs | {"input_ids": token} | others)


def _begin(module: nn.Module, takes: str, kwargs: dict[str, Any]) -> None:
    """Make the states of recurrent layers, by a first token."""
    cache, begun = kwargs[takes], _cache(module.config, 0)
    _first(module, kwargs, **{takes: begun})
    for layer, after in zip(cache.layers, begun.layers, strict=True):
        if compat.is_recurrent(layer):
            compat.take_state(layer, after, _kept)


def _begin_own(module: nn.Module, takes: str, kwargs: dict[str, Any]) -> None:
    """The same of a model with a cache class of its own: whatever that holds besides layers of keys and values is state."""
    from torch.utils import _pytree as pytree

    cache = kwargs[takes]
    begun = compat.own_cache(module, takes, partial(_layer, 0))
    _first(module, kwargs, **{takes: begun})
    for name, value in vars(begun).items():
        if name == "layers":
            cache.layers = [cache.layer_class_to_replicate() for _ in value]
        elif not callable(value):
            setattr(cache, name, pytree.tree_map(_kept, value))


def _begin_states(module: nn.Module, takes: str, kwargs: dict[str, Any]) -> None:
    """The same of a model that takes the states which it returned."""
    from torch.utils import _pytree as pytree

    kwargs[takes] = pytree.tree_map(_kept, getattr(_first(module, kwargs), takes))


def _kept(value: Any) -> Any:
    """A tensor of the cache like this one, there before the pass; anything else as it is."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes

    if not isinstance(value, torch.Tensor):
        return value
    with _disable_current_modes():
        cache = torch.zeros_like(value)
    cache._roofline_kind = "cache"  # type: ignore[attr-defined]  # our mark on torch's object
    return cache


def _cache(config: Any, past: int) -> Any:
    """transformers' cache for this configuration with `past` tokens in it."""
    cache = compat.growing_cache(config)
    found = [_filled(layer, past) for layer in cache.layers]
    if not any(found):  # states alone have no length, and some models ask for one all the same
        cache.get_seq_length, cache.get_mask_sizes = partial(_tokens, past), partial(_seen, past)
    return cache


def _layer(past: int) -> Any:
    """A layer of a cache with `past` tokens in it."""
    layer = compat.plain_layer()
    _filled(layer, past)
    return layer


def _filled(layer: Any, past: int) -> bool:
    """Put `past` tokens into a layer of a cache; whether it keeps keys and values."""
    keeps = compat.cache_layer(layer)
    if keeps == "window":
        layer.cumulative_length = past
        layer.update = partial(_update_window, layer)
    elif keeps:
        layer.update = partial(_update, layer, past)
        layer.get_seq_length = partial(_length, layer, past)
    return bool(keeps)


def _tokens(past: int, *_: Any, **__: Any) -> int:
    return past


def _seen(past: int, query: int, *_: Any, **__: Any) -> tuple[int, int]:
    """Keys that a mask is made for, and the first of them."""
    return past + query, 0


def _length(layer: Any, past: int) -> int:
    return layer.keys.shape[-2] if layer.is_initialized else past


def _update(layer: Any, past: int, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
    """Write the new tokens [b, h, n, e] behind the `past` ones; attention sees all."""
    kept = past if not layer.is_initialized else layer.keys.shape[-2]
    layer.keys, layer.values = _appended(keys, kept), _appended(values, kept)
    layer.is_initialized, layer.dtype, layer.device = True, keys.dtype, keys.device
    return layer.keys, layer.values


def _update_window(layer: Any, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
    """As `_update`, of a cache that keeps what the next token's window reaches back to."""
    room = layer.sliding_window - 1
    before = layer.cumulative_length
    layer.cumulative_length = before + keys.shape[-2]
    layer.is_initialized, layer.dtype, layer.device = True, keys.dtype, keys.device
    if before == 0 and keys.shape[-2] > room:  # a prompt longer than the window: attention sees it, its end is kept
        layer.keys, layer.values = (_appended(t[:, :, -room:], 0) for t in (keys, values))
        return keys, values
    seen = [_appended(t, min(before, room)) for t in (keys, values)]
    layer.keys, layer.values = (t[:, :, -room:] for t in seen)
    return seen[0], seen[1]


def _appended(new: torch.Tensor, past: int) -> torch.Tensor:
    """The cache [b, h, past + n, e], with `new` [b, h, n, e] written at its end."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes

    b, h, n, e = new.shape
    with _disable_current_modes():  # it is there before the pass: nothing allocates it
        cache = torch.empty((b, h, past + n, e), dtype=new.dtype, device=new.device)
    cache._roofline_kind = "cache"  # type: ignore[attr-defined]  # our mark on torch's object
    cache[:, :, past:].copy_(new)
    return cache
