"""Optimizers that a model or function holds: in a pass they step what the model has then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


def swapped(optimizers: Iterable[torch.optim.Optimizer], stand_in: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Give them the stand-ins of their parameters and of their state. Who noted their tables puts them back.

    A state of one number, such as the steps so far, keeps its value: optimizers ask for it.
    """
    for optimizer in optimizers:
        state = [(stand_in(p), {k: _kept(v, stand_in) for k, v in held.items()}) for p, held in optimizer.state.items()]
        optimizer.state.clear()
        optimizer.state.update(state)
        for group in optimizer.param_groups:
            group["params"][:] = [stand_in(p) for p in group["params"]]


def _kept(value: Any, stand_in: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.clone() if value.numel() == 1 and not value.is_meta else stand_in(value)
