"""Output metadata of whole recurrent layers: see `meta.py`. Torch's own meta kernel goes through them step by step, which for a
sequence of hundreds of steps takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from roofline.tracing.meta import Meta, Rule, contiguous

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def _layer(
    kind: str,
    x: torch.Tensor,
    states: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    directions: int,
    rows: int,
) -> tuple[int, list[Meta]] | None:
    """Width of the output, and the final states; None for what torch refuses, which it shall say itself. `rows`: sequences."""
    wide = states[0].shape[-1]  # of the hidden state; a projection makes it less wide than the cells
    cells = states[-1].shape[-1]
    each = (4 if has_biases else 2) + (wide != cells)
    if len(states) != (2 if kind == "lstm" else 1) or len(params) != each * directions * num_layers or not x.numel():
        return None
    if any(t.dtype != x.dtype for t in (*states, *params)) or not x.dtype.is_floating_point:
        return None
    if any(tuple(t.shape) != (num_layers * directions, rows, t.shape[-1]) for t in states):
        return None
    tall = GATES[kind] * cells
    for at in range(num_layers * directions):
        width = x.shape[-1] if at < directions else wide * directions
        wanted = [(tall, width), (tall, wide), *([(tall,)] * (2 if has_biases else 0)), *([(wide, cells)] * (wide != cells))]
        if [tuple(w.shape) for w in params[at * each : (at + 1) * each]] != wanted:
            return None
    return wide * directions, [(tuple(t.shape), contiguous(t.shape), x.dtype) for t in states]


def _padded(kind: str) -> Rule:
    def rule(
        x: torch.Tensor,
        hx: Any,
        params: Any,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> list[Meta] | None:
        if x.dim() != 3:
            return None
        # [t, b, i], or [b, t, i]: worked on as [t, b, i], and what comes out is turned back
        steps, rows = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
        found = _layer(kind, x, _states(hx), params, has_biases, num_layers, 1 + bidirectional, rows)
        if found is None:
            return None
        wide, states = found
        if batch_first:
            return [((rows, steps, wide), (wide, rows * wide, 1), x.dtype), *states]
        return [((steps, rows, wide), contiguous((steps, rows, wide)), x.dtype), *states]

    return rule


def _packed(kind: str) -> Rule:
    def rule(
        data: torch.Tensor,
        batch_sizes: torch.Tensor,
        hx: Any,
        params: Any,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> list[Meta] | None:
        states = _states(hx)
        if data.dim() != 2 or states[0].dim() != 3:
            return None
        # [sum of lengths, i]
        found = _layer(kind, data, states, params, has_biases, num_layers, 1 + bidirectional, states[0].shape[1])
        if found is None:
            return None
        wide, finals = found
        return [((data.shape[0], wide), (wide, 1), data.dtype), *finals]

    return rule


def _states(hx: Any) -> list[torch.Tensor]:
    return [hx] if isinstance(hx, torch.Tensor) else list(hx)


RULES: dict[str, Rule] = {
    **{f"aten.{kind}.input": _padded(kind) for kind in GATES},
    **{f"aten.{kind}.data": _packed(kind) for kind in GATES},
}
