"""Layers and parameters that learn their sizes from a first input: a copy of the module that has seen one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from roofline.errors import ModelError
from roofline.isolation import failures
from roofline.tracing.given import Call
from roofline.tracing.ways import Stopped, Way, said

META = torch.device("meta")


class Unknown(Exception):
    """A layer has no sizes yet."""


def noted(shapeless: list[str]) -> list[str]:
    """A note on parameters and buffers, by their names, that such a call left as they were."""
    names = ", ".join(shapeless[:5]) + (" ..." if len(shapeless) > 5 else "")
    return [f"without a shape even after a first call, so not counted: {names}"] if names else []


def woken(module: nn.Module, call: Call, way: Way) -> nn.Module:
    """A copy of the module whose lazy layers have their sizes, from one call that is not recorded; on meta unless the way is
    real. Raises Stopped or ModelError where that call fails."""
    memo = {id(t): _alike(t, t.device if way.real else META) for m in module.modules() for t in _own(m) if _is_new(t, way)}
    found = copy.deepcopy(module, memo)
    modes = [m.training for m in found.modules()]
    try:
        with torch.no_grad():
            args, kwargs = call.standing_in(lambda t: t.detach().clone() if way.real else t.detach().to(META), way)
            found.eval()(*args, **kwargs)
    except BaseException as error:
        if failures.interrupted(error):
            raise
        words = f"{said(error)}{failures.place(error)}"
        kind = ModelError if way.real else Stopped
        raise kind(f"the model failed in its first call, which tells its lazy layers their sizes: {words}") from error
    for m, mode in zip(found.modules(), modes, strict=True):
        m.training = mode
    return found


def _own(m: nn.Module) -> list[torch.Tensor]:
    return [t for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]


def _is_new(t: torch.Tensor, way: Way) -> bool:
    """Whether a tensor of the copy is not a copy: on meta none is, and torch copies no buffers without a shape."""
    return not way.real or isinstance(t, UninitializedBuffer)


def _alike(t: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor like one of a module's, without a shape where that has none."""
    unknown: Any = UninitializedBuffer if isinstance(t, UninitializedBuffer) else UninitializedParameter
    if is_lazy(t):
        found: torch.Tensor = unknown(t.requires_grad, device, t.dtype)
        return found
    moved = t.detach().to(device)
    return nn.Parameter(moved, t.requires_grad) if isinstance(t, nn.Parameter) else moved
