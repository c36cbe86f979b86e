"""Output metadata of the operators that only a pass with gradients has: see `meta.py`, whose table this extends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from roofline.tracing.meta import (
    Meta,
    Rule,
    adaptive_average,
    as_images,
    average_pool2d,
    channels_innermost,
    contiguous,
    conv_transpose,
    max_pool2d,
    no_gaps,
    pointwise,
    reduce,
)
from roofline.tracing.meta import conv as conv_rule
from roofline.tracing.refusals import fits


def _like(t: torch.Tensor, dtype: torch.dtype | None = None) -> Meta:
    return (tuple(t.shape), contiguous(t.shape), dtype or t.dtype)


def _as_it_lies(t: torch.Tensor, dtype: torch.dtype | None = None) -> Meta | None:
    """One like a tensor that is dense, its dimensions stored in the same order; None of one with gaps."""
    if t.is_contiguous():
        return _like(t, dtype)
    return (tuple(t.shape), tuple(t.stride()), dtype or t.dtype) if no_gaps(t.shape, t.stride()) else None


def _as_image(x: torch.Tensor) -> Meta | None:
    """One like a tensor that is row-major or has its channels innermost."""
    found = [_like(x)] if x.is_contiguous() else as_images(tuple(x.shape), x)
    return found[0] if found else None


def convolution(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    _out: Any,
    groups: int,
) -> list[Meta] | None:
    return None if transposed else conv_rule(x, w, bias, stride, padding, dilation, groups)


def convolution_backward(  # long: the operator's own arguments
    gradient: torch.Tensor,
    x: torch.Tensor,
    w: torch.Tensor,
    biases: Sequence[int] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    extra: Any,
    groups: int,
    mask: Sequence[bool],
) -> list[Meta | None] | None:
    """Both gradients in the layout that the forward pass had, however the gradient that comes in is laid out."""
    if transposed:
        forward = conv_transpose(x, w, None, stride, padding, extra, groups, dilation)
    else:
        forward = conv_rule(x, w, None, stride, padding, dilation, groups)
    if forward is None or not x.numel() or gradient.dtype != x.dtype or forward[0][0] != tuple(gradient.shape):
        return None
    if mask[2] and biases is None:
        return None
    order = contiguous if x.is_contiguous() and w.is_contiguous() else channels_innermost
    found: list[Meta] = [(tuple(t.shape), order(t.shape), x.dtype) for t in (x, w)]
    found.append((tuple(biases or ()), contiguous(biases or ()), x.dtype))
    return [meta if asked else None for meta, asked in zip(found, mask, strict=True)]


def pool_backward(forward: Rule, gradient: torch.Tensor, x: torch.Tensor, *rest: Any) -> list[Meta] | None:
    """Like the input, where the gradient is of what the forward pass makes of it."""
    made = forward(x, *rest)
    fits_it = made and made[0] and made[0][0] == tuple(gradient.shape) and gradient.dtype == x.dtype
    # a dimension of 1 may have any stride, by which kernels differ
    like = as_images(tuple(x.shape), x) if fits_it else None
    return like if like and like[0][1] == x.stride() else None


def adaptive_backward(gradient: torch.Tensor, x: torch.Tensor) -> list[Meta] | None:
    return pool_backward(adaptive_average, gradient, x, gradient.shape[-2:]) if gradient.dim() == x.dim() == 4 else None


def dropout(x: torch.Tensor, p: float, train: bool | None) -> list[Meta] | None:
    """The result, and which elements are in it."""
    drops = train and 0 <= p <= 1 and x.numel() and x.dtype.is_floating_point
    like = _as_it_lies(x) if drops else None
    return [like, (*like[:2], torch.bool)] if like else None


def dropout_backward(gradient: torch.Tensor, mask: torch.Tensor, scale: float) -> list[Meta] | None:
    if gradient.shape != mask.shape or mask.dtype != torch.bool or not gradient.dtype.is_floating_point:
        return None
    plain = gradient.is_contiguous() and mask.is_contiguous()
    # the order is the gradient's, but of a dimension of 1, which may have any stride
    like = _as_it_lies(gradient) if plain or gradient.stride() == mask.stride() or 1 not in gradient.shape else None
    return [like] if like else None


def max_pool(x: torch.Tensor, *args: Any) -> list[Meta] | None:
    found = max_pool2d(x, *args)
    return found and [found[0], (*found[0][:2], torch.int64)]


def batch_norm(x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, train: bool, *_: Any) -> list[Meta] | None:
    like = _as_image(x) if x.dim() > 1 and fits(x.shape[1:2], weight, bias, mean, var) else None
    if like is None:
        return None
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    channels = (x.shape[1] if train else 0,)
    return [like, (channels, (1,), wide), (channels, (1,), wide)]


def batch_norm_backward(gradient: torch.Tensor, x: torch.Tensor, weight: Any, *rest: Any) -> list[Meta] | None:
    """The image's gradient lies as the image does, however the gradient that comes in is laid out."""
    if weight is None or list(rest[-1]) != [True, True, True] or gradient.shape != x.shape:
        return None
    # a dimension of 1 may have any stride, by which kernels differ
    like = None if x.is_contiguous() and not gradient.is_contiguous() else _as_image(x)
    return [like, _like(weight), _like(weight)] if like else None


def layer_norm(x: torch.Tensor, shape: Any, weight: Any = None, bias: Any = None, *_: Any) -> list[Meta] | None:
    if not fits(shape, weight, bias) or tuple(x.shape[x.dim() - len(shape) :]) != tuple(shape):
        return None
    if x.dtype in (torch.float16, torch.bfloat16):
        return None  # the statistics' dtype differs between devices
    rows = (*x.shape[: x.dim() - len(shape)], *(1 for _ in shape))
    return [_like(x), (rows, contiguous(rows), x.dtype), (rows, contiguous(rows), x.dtype)]


def layer_norm_backward(
    gradient: torch.Tensor, x: torch.Tensor, shape: Any, mean: Any, rstd: Any, weight: Any, bias: Any, mask: Any
) -> list[Meta] | None:
    if not x.is_contiguous() or weight is None or bias is None or list(mask) != [True, True, True]:
        return None
    return [_like(x), _like(weight), _like(bias)]


def foreach(tensors: Sequence[torch.Tensor], *_: Any) -> list[Meta] | None:
    found = [_as_it_lies(t) for t in tensors if t.dtype.is_floating_point]
    return [meta for meta in found if meta] if len(found) == len(tensors) and all(found) else None


def fresh(t: torch.Tensor, **kwargs: Any) -> list[Meta] | None:
    """`empty_like` and such of a dense tensor, where it is: torch's own imports sympy."""
    memory = kwargs.pop("memory_format", None)
    dtype = kwargs.pop("dtype", None)
    elsewhere = kwargs.pop("device", None) not in (None, t.device)
    kwargs.pop("pin_memory", None)
    if elsewhere or kwargs or memory not in (None, torch.preserve_format, torch.contiguous_format):
        return None
    like = _like(t, dtype) if memory is torch.contiguous_format else _as_it_lies(t, dtype)
    return [like] if like else None


def softmax(x: torch.Tensor, dim: int, wider: Any = None) -> list[Meta] | None:
    """Row-major, of which tensor ever; one that also changes the type is left to torch."""
    fitting = x.dim() and -x.dim() <= dim < x.dim() and x.dtype.is_floating_point
    return [_like(x)] if fitting and not wider else None


def softmax_backward(gradient: torch.Tensor, output: torch.Tensor, dim: int, dtype: torch.dtype) -> list[Meta] | None:
    return [_like(gradient, dtype)] if gradient.is_contiguous() and output.is_contiguous() else None


def cpu_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any, **__: Any) -> list[Meta] | None:
    """Like the queries, dense in their own order, and for each of them the logarithm of the sum of its exponentials."""
    b, h, length, width = q.shape if q.dim() == 4 else (0, 0, 0, 0)
    if not q.numel() or k.shape != v.shape or k.shape != (b, h, k.shape[-2], width) or not q.dtype == k.dtype == v.dtype:
        return None
    like = pointwise(q)
    wide = torch.float32 if q.dtype in (torch.float16, torch.bfloat16) else q.dtype
    return [*like, ((b, h, length), (h * length, 1, h), wide)] if like else None


def cpu_attention_backward(
    gradient: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any, **__: Any
) -> list[Meta] | None:
    """All three lie as [batch, length, head, width], however queries, keys and values do."""
    if cpu_attention(q, k, v) is None or gradient.shape != q.shape or gradient.dtype != q.dtype:
        return None
    return [((b, h, n, e), (h * n * e, e, h * e, 1), q.dtype) for b, h, n, e in (t.shape for t in (q, k, v))]


# Elementwise in the gradient and what was kept of the forward, but not all tagged so.
_POINTWISE = """
    threshold_backward hardswish_backward hardsigmoid_backward hardtanh_backward gelu_backward silu_backward sigmoid_backward
    tanh_backward leaky_relu_backward elu_backward softplus_backward mish_backward
"""

GRADIENTS: dict[str, Rule] = {
    "aten.convolution.default": convolution,
    "aten.max_pool2d_with_indices.default": max_pool,
    "aten.convolution_backward.default": convolution_backward,
    # without the places of the largest, the last argument
    "aten.max_pool2d_with_indices_backward.default": lambda g, x, *rest: pool_backward(max_pool2d, g, x, *rest[:-1]),
    "aten.avg_pool2d_backward.default": partial(pool_backward, average_pool2d),
    "aten._adaptive_avg_pool2d.default": adaptive_average,
    "aten._adaptive_avg_pool2d_backward.default": adaptive_backward,
    "aten.native_dropout.default": dropout,
    "aten.native_dropout_backward.default": dropout_backward,
    "aten.native_batch_norm.default": batch_norm,
    "aten.native_batch_norm_backward.default": batch_norm_backward,
    "aten.native_layer_norm.default": layer_norm,
    "aten.native_layer_norm_backward.default": layer_norm_backward,
    **{f"aten.{name}": softmax for name in ("softmax.int", "log_softmax.int", "_softmax.default", "_log_softmax.default")},
    "aten._softmax_backward_data.default": softmax_backward,
    "aten.sum.dim_IntList": reduce,
    "aten.sum.default": lambda x, **kw: reduce(x, None, False, **kw),
    "aten._scaled_dot_product_flash_attention_for_cpu.default": cpu_attention,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward.default": cpu_attention_backward,
    "aten._foreach_sqrt.default": foreach,
    "aten.empty_like.default": fresh,
    "aten.zeros_like.default": fresh,
    "aten.ones_like.default": fresh,
    **{f"aten.{name}.default": pointwise for name in _POINTWISE.split()},
}
