"""Output metadata of the operators that only a pass with gradients has: see `meta.py`, whose table this extends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from roofline.tracing.meta import Meta, Rule, contiguous, max_pool2d, pointwise, reduce
from roofline.tracing.meta import conv as conv_rule
from roofline.tracing.refusals import fits


def _like(t: torch.Tensor, dtype: torch.dtype | None = None) -> Meta:
    return (tuple(t.shape), contiguous(t.shape), dtype or t.dtype)


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


def max_pool(x: torch.Tensor, *args: Any) -> list[Meta] | None:
    found = max_pool2d(x, *args)
    return found and [found[0], (*found[0][:2], torch.int64)]


def batch_norm(x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, train: bool, *_: Any) -> list[Meta] | None:
    if not x.is_contiguous() or x.dim() < 2 or not fits(x.shape[1:2], weight, bias, mean, var):
        return None
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    channels = (x.shape[1] if train else 0,)
    return [_like(x), (channels, (1,), wide), (channels, (1,), wide)]


def batch_norm_backward(gradient: torch.Tensor, x: torch.Tensor, weight: Any, *rest: Any) -> list[Meta] | None:
    if not (x.is_contiguous() and gradient.is_contiguous()) or weight is None or list(rest[-1]) != [True, True, True]:
        return None
    return [_like(x), _like(weight), _like(weight)]


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
    if (
        not (x.is_contiguous() and gradient.is_contiguous())
        or weight is None
        or bias is None
        or list(mask) != [True, True, True]
    ):
        return None
    return [_like(x), _like(weight), _like(bias)]


def foreach(tensors: Sequence[torch.Tensor], *_: Any) -> list[Meta] | None:
    return [_like(t) for t in tensors] if all(t.is_contiguous() and t.dtype.is_floating_point for t in tensors) else None


def fresh(t: torch.Tensor, **kwargs: Any) -> list[Meta] | None:
    """`empty_like` and such of a contiguous tensor, where it is: torch's own imports sympy."""
    memory = kwargs.pop("memory_format", None)
    dtype = kwargs.pop("dtype", None)
    elsewhere = kwargs.pop("device", None) not in (None, t.device)
    kept = memory in (None, torch.preserve_format, torch.contiguous_format)
    kwargs.pop("pin_memory", None)
    return [_like(t, dtype)] if t.is_contiguous() and kept and not elsewhere and not kwargs else None


def softmax_backward(gradient: torch.Tensor, output: torch.Tensor, dim: int, dtype: torch.dtype) -> list[Meta] | None:
    return [_like(gradient, dtype)] if gradient.is_contiguous() and output.is_contiguous() else None


# Elementwise in the gradient and what was kept of the forward, but not all tagged so.
_POINTWISE = """
    threshold_backward hardswish_backward hardsigmoid_backward hardtanh_backward gelu_backward silu_backward sigmoid_backward
    tanh_backward leaky_relu_backward elu_backward softplus_backward mish_backward
"""

GRADIENTS: dict[str, Rule] = {
    "aten.convolution.default": convolution,
    "aten.max_pool2d_with_indices.default": max_pool,
    "aten.native_batch_norm.default": batch_norm,
    "aten.native_batch_norm_backward.default": batch_norm_backward,
    "aten.native_layer_norm.default": layer_norm,
    "aten.native_layer_norm_backward.default": layer_norm_backward,
    "aten._softmax_backward_data.default": softmax_backward,
    "aten.sum.dim_IntList": reduce,
    "aten.sum.default": lambda x, **kw: reduce(x, None, False, **kw),
    "aten._foreach_sqrt.default": foreach,
    "aten.empty_like.default": fresh,
    "aten.zeros_like.default": fresh,
    "aten.ones_like.default": fresh,
    **{f"aten.{name}.default": pointwise for name in _POINTWISE.split()},
}
