"""What torch refuses on a device, and its meta kernels do not see: arguments that do not fit each other.

A rule gets the operator's arguments, and returns what is wrong with them in a line; an empty text where nothing is. It is asked
once for each operator and metadata, before anything else is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Rule = Callable[..., str]
# dtypes of indices that are masks
_MASKS = (torch.bool, torch.uint8)
_BITS = """
    bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift __lshift__ __rshift__
"""


def dim_of(x: torch.Tensor, dim: Any) -> str:
    """Whether there are such dimensions: one by number, or several."""
    n = max(x.dim(), 1)
    for d in (dim,) if isinstance(dim, int) else dim or ():
        if not -n <= d < n:
            return f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})"
    return ""


def _at(place: int, default: int) -> Rule:
    """Of an operator whose dimension is that argument."""

    def rule(x: torch.Tensor, *args: Any, dim: int | None = None, **_: Any) -> str:
        given = dim if dim is not None else args[place] if len(args) > place else default
        return dim_of(x, given) if isinstance(given, int) else ""

    return rule


def _least(name: str, values: Any, least: int) -> str:
    low = min([values] if isinstance(values, int) else values, default=least)
    return f"{name} must be at least {least}, and is {low}" if low < least else ""


def each(value: int | Sequence[int], n: int) -> list[int]:
    """A size for each of n dimensions, where one may have been given for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def _images(x: torch.Tensor, w: torch.Tensor) -> bool:
    """Whether there are images to convolve; torch's own rules say what is wrong where there are none."""
    return w.dim() > 2 and x.dim() in (w.dim(), w.dim() - 1)


def _conv(
    x: torch.Tensor, w: torch.Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> str:
    if not _images(x, w) or groups < 1:
        return ""
    if w.shape[0] % groups:
        return f"a convolution in {groups} groups has a multiple of that of kernels, and the weight {_size(w)} has {w.shape[0]}"
    wrong = _least("kernel size", w.shape[2:], 1) or ("" if isinstance(padding, str) else _least("padding", padding, 0))
    return wrong or _windows(stride, dilation) or _biased(w, bias, w.shape[0])


def _windows(stride: Any, dilation: Any) -> str:
    return _least("stride", stride, 1) or _least("dilation", dilation, 1)


def _biased(w: torch.Tensor, bias: torch.Tensor | None, n: int) -> str:
    if bias is None or tuple(bias.shape) == (n,):
        return ""
    return f"given weight of size {_size(w)}, expected a bias of {n} elements, but got one of {_size(bias)}"


def _size(t: torch.Tensor) -> list[int]:
    return list(t.shape)


def _conv_transpose(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> str:
    if not _images(x, w) or groups < 1:
        return ""
    n = w.dim() - 2
    channels = x.shape[1] if x.dim() == w.dim() else x.shape[0]
    if channels != w.shape[0]:
        return f"given transposed=1, weight of size {_size(w)}, expected input {_size(x)} to have {w.shape[0]} channels"
    if w.shape[0] % groups:
        return f"a transposed convolution in {groups} groups takes a multiple of that of channels, not {w.shape[0]}"
    wrong = _least("padding", padding, 0) or _windows(stride, dilation)
    if not wrong and any(
        extra >= max(s, d) for extra, s, d in zip(each(output_padding, n), each(stride, n), each(dilation, n), strict=False)
    ):
        wrong = f"output padding must be smaller than either stride or dilation, and is {output_padding}"
    return wrong or _biased(w, bias, w.shape[1] * groups)


def _convolution(  # long: the operator's own arguments
    x: torch.Tensor,
    w: torch.Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *_: Any,
    **__: Any,
) -> str:
    if transposed:
        return _conv_transpose(x, w, bias, stride, padding, output_padding, groups, dilation)
    return _conv(x, w, bias, stride, padding, dilation, groups)


def _index_select(x: torch.Tensor, dim: int, index: torch.Tensor) -> str:
    return "index_select(): Index is supposed to be a vector" if index.dim() > 1 else dim_of(x, dim)


def _clamp(x: torch.Tensor, min: Any = None, max: Any = None, **_: Any) -> str:
    return "clamp: at least one of 'min' or 'max' must not be None" if min is None and max is None else ""


def _as_strided(
    x: torch.Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None, **_: Any
) -> str:
    at = x.storage_offset() if storage_offset is None else storage_offset
    if len(size) != len(stride) or 0 in size or min(stride, default=0) < 0:
        return ""
    last, there = (
        at + sum((n - 1) * step for n, step in zip(size, stride, strict=True)),
        x.untyped_storage().nbytes() // x.itemsize,
    )
    return (
        f"as_strided: sizes {list(size)}, strides {list(stride)} and offset {at} end past the {there} elements there are"
        if last >= there
        else ""
    )


def _masked(x: torch.Tensor, mask: torch.Tensor, *_: Any, **__: Any) -> str:
    wrong = isinstance(mask, torch.Tensor) and mask.dtype != torch.bool
    return f"masked_fill only supports boolean masks, but got mask with dtype {str(mask.dtype)[6:]}" if wrong else ""


def _bits(*args: Any, **_: Any) -> str:
    odd = next((a for a in args if isinstance(a, torch.Tensor) and (a.is_floating_point() or a.is_complex())), None)
    return "" if odd is None else f"bits are those of integers and truths, not of {str(odd.dtype)[6:]}"


def _no_truths(x: torch.Tensor, *_: Any, **__: Any) -> str:
    return "truths (bool) have no such activation" if x.dtype == torch.bool else ""


def _bucketize(x: Any, boundaries: torch.Tensor, **_: Any) -> str:
    return "" if boundaries.dim() == 1 else f"boundaries tensor must be 1 dimension, but got {boundaries.dim()}"


def _indexed(x: torch.Tensor, indices: Sequence[Any], *_: Any, **__: Any) -> str:
    at = 0
    for index in indices:
        if isinstance(index, torch.Tensor) and index.dtype in _MASKS:
            meant = x.shape[at : at + index.dim()]
            if index.shape != meant:
                return f"the shape of the mask {_size(index)} at dimension {at} does not match that of the tensor {_size(x)}"
            at += index.dim()
        else:
            at += 1
    return "" if at <= x.dim() else f"too many indices for tensor of dimension {x.dim()}"


def _put(x: torch.Tensor, indices: Sequence[Any], values: torch.Tensor, *_: Any, **__: Any) -> str:
    given = [i for i in indices if i is not None]
    whole = all(not i.dtype.is_floating_point and i.dtype not in _MASKS for i in given)
    if (wrong := _indexed(x, indices)) or not whole or not given:
        return wrong
    picked = broadcast([tuple(i.shape) for i in given])
    if picked is None:
        return f"indexing tensors of {', '.join(str(_size(i)) for i in given)} could not be broadcast together"
    places = [d for d, i in enumerate(indices) if i is not None]
    rest = [n for d, n in enumerate(x.shape) if d not in places]
    # indices side by side leave their dimensions where they are, others put them first
    start = places[0] if places[-1] - places[0] == len(places) - 1 else 0
    into = (*rest[:start], *picked, *rest[start:])
    if broadcast([tuple(values.shape), into]) == into or values.numel() == 1:
        return ""
    return f"values of shape {_size(values)} cannot be broadcast to the indexing result of shape {list(into)}"


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The common shape by torch's rules, None where there is none."""
    out = shapes[0]
    for shape in shapes[1:]:
        if shape == out:
            continue
        n = max(len(out), len(shape))
        a, b = (1,) * (n - len(out)) + out, (1,) * (n - len(shape)) + shape
        if any(i != j and i != 1 and j != 1 for i, j in zip(a, b, strict=True)):
            return None
        out = tuple(j if i == 1 else i for i, j in zip(a, b, strict=True))
    return out


RULES: dict[str, Rule] = {
    **dict.fromkeys((f"aten.conv{n}d" for n in (1, 2, 3)), _conv),
    **dict.fromkeys((f"aten.conv_transpose{n}d" for n in (1, 2, 3)), _conv_transpose),
    "aten.convolution": _convolution,
    **dict.fromkeys(("aten.softmax", "aten.log_softmax", "aten._softmax", "aten._log_softmax"), _at(0, -1)),
    **dict.fromkeys(("aten.sort", "aten.argsort"), _at(0, -1)),
    "aten.index_select": _index_select,
    "aten.index": _indexed,
    **dict.fromkeys(("aten.index_put", "aten.index_put_"), _put),
    "aten.bucketize": _bucketize,
    **dict.fromkeys(("aten.as_strided", "aten.as_strided_"), _as_strided),
    **dict.fromkeys((f"aten.{name}{end}" for name in _BITS.split() for end in ("", "_")), _bits),
    **dict.fromkeys(("aten.relu", "aten.relu_", "aten.threshold", "aten.threshold_"), _no_truths),
    **dict.fromkeys(("aten.clamp", "aten.clamp_", "aten.clip", "aten.clip_"), _clamp),
    **dict.fromkeys(("aten.masked_fill", "aten.masked_fill_"), _masked),
}


def fits(wanted: Sequence[int], *tensors: Any) -> bool:
    """Whether those of the tensors that are given have the shape."""
    return all(t is None or tuple(t.shape) == tuple(wanted) for t in tensors)
