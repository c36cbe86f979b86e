"""Layers whose weight is stored in few bits, as tensors of integers: how many numbers each of their tensors stands for.

A library that quantises keeps the weight of a linear layer as whole words of several numbers each, in a parameter or a buffer
of its own shape, with scales and zero points beside it. What such a layer is follows from its sizes alone: it has `in_features`
and `out_features`, none of its floating tensors is a weight of that many numbers, and one of its integer tensors has the bits
for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

# How layers call their sizes.
_SIZES = (("in_features", "out_features"), ("infeatures", "outfeatures"))
# Bits of a number, the least and the most.
_BITS = 1, 16


def stands_for(m: nn.Module) -> dict[str, int]:
    """Of a layer with a packed weight, the numbers that each of its tensors stands for: all of the weight for the one that
    holds it, none for what belongs to it, its own for a bias. Empty for any other layer."""
    numbers = _numbers(m)
    if not numbers:
        return {}
    own = list(_own(m))
    words = {name: t for name, t in own if not t.dtype.is_floating_point and not t.dtype.is_complex and t.dtype != torch.bool}
    if not words or any(t.numel() == numbers for _, t in own):
        return {}
    packed = max(words, key=lambda name: words[name].numel() * words[name].itemsize)
    bits = words[packed].numel() * words[packed].itemsize * 8
    if not _BITS[0] * numbers <= bits <= _BITS[1] * numbers:
        return {}
    return {name: numbers if name == packed else t.numel() if name == "bias" else 0 for name, t in own}


def _numbers(m: nn.Module) -> int:
    """Of the weight of a linear layer; 0 for what is none."""
    for names in _SIZES:
        rows, columns = (m.__dict__.get(name) for name in names)
        if type(rows) is int and type(columns) is int:
            return rows * columns
    return 0


def _own(m: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for table in (m.__dict__.get("_parameters"), m.__dict__.get("_buffers")):
        for name, t in (table or {}).items():
            if t is not None and not is_lazy(t) and t.layout == torch.strided:
                yield name, t
