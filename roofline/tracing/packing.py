"""Layers whose weight is stored in few bits, as tensors of integers: how many numbers each of their tensors stands for.

A library that quantises keeps the weight of a layer as whole words of several numbers each, or as bytes, in a parameter or a
buffer of its own shape, with scales and zero points beside it. What such a layer is follows from its sizes alone: none of its
floating tensors is a weight of that many numbers, and one of its tensors of few bits has the room for them. How many they are
say `in_features` and `out_features`; where a layer has no such names, its bits, its scales and zero points do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from roofline.tracing.arguments import HALVES

# How layers call their sizes.
_SIZES = (("in_features", "out_features"), ("infeatures", "outfeatures"))
# Bits of a number, the least and the most.
_BITS = 1, 16
# How layers call the bits of a number, and numbers that a word holds.
_WIDTHS = ("bits", "nbits", "num_bits", "w_bit", "w_bits", "wbits", "weight_bits", "bit_width")
_IN_A_WORD = (2, 4, 8, 16)
# ... and how a tensor of words that is a weight is called
_WEIGHTS = ("weight", "packed")
# What holds a number, or a truth, in each element.
_WIDE = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool})
# What holds words or bytes of a weight; indices are int64.
_WORDS = (torch.int32, torch.int16, torch.uint8, torch.int8)


def stands_for(m: nn.Module) -> dict[str, int]:
    """Of a layer with a packed weight, the numbers that each of its tensors stands for: all of the weight for the one that
    holds it, none for what belongs to it, its own for a bias. Empty for any other layer."""
    return looked_at(m)[0]


def looked_at(m: nn.Module) -> tuple[dict[str, int], list[str]]:
    """What `stands_for` says, and the tensors of which nothing tells how many numbers an element holds."""
    if not _may_be_packed(m):
        return {}, []
    numbers = _numbers(m)
    return (_with_names(m, numbers), []) if numbers else _without_names(m)


def _may_be_packed(m: nn.Module) -> bool:
    """Whether a layer has any tensor but those of wide numbers and single ones: nearly none has, and is done with."""
    for table in (m.__dict__.get("_parameters"), m.__dict__.get("_buffers")):
        for t in table.values() if table else ():
            if t is not None and t.dtype not in _WIDE and t.dim():
                return True
    return False


def _with_names(m: nn.Module, numbers: int) -> dict[str, int]:
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


def unsure(names: Sequence[str]) -> list[str]:
    """A note for weights in bytes or words where nothing tells how many numbers one holds."""
    if not names:
        return []
    named = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    return [
        f"weights in bytes or words of which nothing tells how many numbers one holds: {named}; counted as one each, "
        "so the parameters are the least that they may be"
    ]


def _bytes_alone(m: nn.Module) -> list[str]:
    """Parameters of bytes, which are weights whatever stands beside them."""
    weights = m.__dict__.get("_parameters") or {}
    said = any(type(m.__dict__.get(name)) is int for name in _WIDTHS)
    return [name for name, t in weights.items() if t is not None and t.dtype == torch.uint8 and t.dim() > 1 and not said]


def _without_names(m: nn.Module) -> tuple[dict[str, int], list[str]]:
    """The same of a layer that does not say its sizes."""
    weights = m.__dict__.get("_parameters") or {}
    few = {n: t for n, t in _own(m) if t.dim() > 1 and (t.dtype in _WORDS or (t.is_floating_point() and t.itemsize == 1))}
    if not few:
        return {}, []
    own = dict(_own(m))
    packed = max(few, key=lambda name: (few[name].dtype == HALVES, few[name].numel() * few[name].itemsize))
    words = own.pop(packed)
    scales = [t for name, t in own.items() if name != "bias" and t.is_floating_point() and t.itemsize > 1]
    in_a_word, sure = (2, True) if words.dtype == HALVES else _in_a_word(m, words, list(own.values()), scales)
    if not in_a_word and scales and any(word in packed.lower() for word in _WEIGHTS):
        in_a_word, sure = 1, False
    numbers = words.numel() * in_a_word
    if not in_a_word or not (scales or words.dtype == HALVES) or any(t.numel() >= numbers for t in scales):
        return {}, _bytes_alone(m)
    guessed = [] if sure else [packed]
    if in_a_word == 1 and packed in weights:  # a parameter of as many numbers as it has elements is counted as any other
        return {}, guessed
    stand = {name: t.numel() if name == "bias" else 0 for name, t in own.items()}
    return {packed: numbers} | stand, guessed


def _in_a_word(m: nn.Module, words: torch.Tensor, others: list[torch.Tensor], scales: list[torch.Tensor]) -> tuple[int, bool]:
    """The numbers that an element of such a weight holds, 0 where nothing tells; whether that is sure."""
    width = words.itemsize * 8
    for bits in (m.__dict__.get(name) for name in _WIDTHS):
        if type(bits) is int and 0 < bits <= width:
            return width // bits, True
    zeros = [t for t in others if t.dtype == words.dtype and t.dim() > 1]
    for n in _IN_A_WORD:
        for scale in scales:
            # zero points in words as the weight, a scale for each; or a scale for each number along the words
            if any(t.dim() == scale.dim() and t.numel() * n == scale.numel() for t in zeros):
                return n, True
            if scale.dim() > 1 and scale.shape[-1] == words.shape[-1] * n and words.shape[0] % scale.shape[0] == 0:
                return n, True
        # the group of each row of the weight
        if any(t.dim() == 1 and t.shape[0] == words.shape[0] * n and t.dtype in (torch.int32, torch.int64) for t in others):
            return n, True
    if words.itemsize > 1:
        return 0, True
    # one scale for all, for each row or column, or for groups of a row; truths may be bytes too, with a number beside them
    least = 2 if words.dtype == torch.uint8 else 1
    ends = (1, words.shape[0], words.shape[-1])
    grouped = (t.numel() in ends or (t.dim() > 1 and t.shape[0] == words.shape[0]) for t in scales if t.numel() >= least)
    return (1, words.dtype != torch.uint8) if any(grouped) else (0, True)


def _own(m: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for table in (m.__dict__.get("_parameters"), m.__dict__.get("_buffers")):
        for name, t in (table or {}).items():
            if t is not None and not is_lazy(t) and t.layout == torch.strided:
                yield name, t
