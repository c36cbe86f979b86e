"""Output metadata of the most common operators, without running anything.

Torch's own meta kernels are the fallback and, in the tests, the oracle. Many of them are Python references whose first
call imports `torch._dynamo` (more than a second); the rules here keep a first trace of a common model free of that.
A rule gets the operator's arguments and returns (shape, stride, dtype) per output, None for one that the call does not ask for;
or None to leave it to torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from roofline.tracing.refusals import broadcast, dim_of, each, fits

Meta = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
Rule = Callable[..., "Sequence[Meta | None] | None"]


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides, with torch's convention that an empty dimension counts as one."""
    stride, out = 1, []
    for s in reversed(shape):
        out.append(stride)
        stride *= max(s, 1)
    return tuple(reversed(out))


def _dense(t: torch.Tensor) -> bool:
    return t.is_contiguous()


def pointwise(*args: Any, **kwargs: Any) -> list[Meta] | None:
    """Broadcast, result type and TensorIterator's stride order, for floating tensors."""
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if not tensors or "out" in kwargs or "dtype" in kwargs:
        return None
    dtype = tensors[0].dtype
    if any(isinstance(a, (list, tuple, complex)) for a in args) or any(not t.dtype.is_floating_point for t in tensors):
        return None
    if len(tensors) > 1:
        for t in tensors[1:]:
            if t.dtype != dtype or (t.dim() == 0) != (tensors[0].dim() == 0):
                dtype = torch.result_type(tensors[0], tensors[1])
                if len(tensors) > 2:
                    return None
    shape = broadcast([tuple(t.shape) for t in tensors])
    if shape is None:
        return None
    if all([t.stride() == contiguous(t.shape) for t in tensors]):
        return [(shape, contiguous(shape), dtype)]
    return [(shape, _iterator_strides(shape, tensors), dtype)]


def _iterator_strides(shape: tuple[int, ...], tensors: Sequence[torch.Tensor]) -> tuple[int, ...]:
    """Strides of a fresh result as TensorIterator lays it out: its operands' own order of dimensions, dense.

    The insertion sort by strides over all operands (the first that tells two dimensions apart decides) is that of
    ATen/TensorIterator.cpp, reorder_dimensions; operands that all share one dense layout pass it on unsorted.
    """
    n = len(shape)
    strides = []
    for t in tensors:
        own = (0,) * (n - t.dim()) + tuple(
            0 if s == 1 and f != 1 else st for s, st, f in zip(t.shape, t.stride(), shape[n - t.dim() :], strict=True)
        )
        strides.append(own)
    if all(tuple(t.shape) == shape and st == strides[0] for t, st in zip(tensors, strides, strict=True)) and no_gaps(
        shape, strides[0]
    ):
        return strides[0]

    def later(a: int, b: int) -> int:
        for st in strides:
            if st[a] == 0 or st[b] == 0 or (st[a] == st[b] and shape[a] == shape[b]):
                continue
            if st[a] != st[b]:
                return 1 if st[a] > st[b] else -1
            return 1 if shape[a] > shape[b] else -1
        return 0

    order = list(range(n - 1, -1, -1))  # fastest first
    for i in range(1, n):
        at = i
        for j in range(i - 1, -1, -1):
            compared = later(order[j], order[at])
            if compared > 0:
                order[j], order[at] = order[at], order[j]
                at = j
            elif compared < 0:
                break
    out, step = [0] * n, 1
    for d in order:
        out[d] = step
        step *= max(shape[d], 1)
    return tuple(out)


def no_gaps(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Non-overlapping and dense in some order of its dimensions."""
    step = 1
    for st, s in sorted((st, s) for s, st in zip(shape, stride, strict=True) if s != 1):
        if st != step:
            return False
        step *= s
    return True


def same(x: torch.Tensor, *_: Any, **kwargs: Any) -> list[Meta] | None:
    """A result like the first argument, dense in the same order."""
    if kwargs or not _dense(x):
        return None
    return [(tuple(x.shape), tuple(x.stride()), x.dtype)]


def same_contiguous(x: torch.Tensor, *_: Any) -> list[Meta]:
    return [(tuple(x.shape), contiguous(x.shape), x.dtype)]


def _channels_last(t: torch.Tensor) -> bool:
    """torch's own test on strides of images and volumes (c10/core/MemoryFormat.h, is_channels_last_strides_2d and _3d)."""
    if t.dim() not in (4, 5) or t.stride(1) == 0:
        return False
    least = 0
    for d in (1, *range(t.dim() - 1, 1, -1), 0):
        step = t.stride(d)
        if t.shape[d] == 0 or step < least or (d == 0 and least == t.stride(1)):
            return False
        least = step * t.shape[d] if t.shape[d] > 1 else step
    return True


def channels_innermost(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of that shape with its channels innermost."""
    outer, *inner = contiguous((shape[0], *shape[2:], shape[1]))
    return (outer, inner[-1], *inner[:-1])


def as_images(shape: tuple[int, ...], *images: torch.Tensor) -> list[Meta] | None:
    """A result of that shape in the layout of what it is made of; None where that is neither row-major nor channels-last."""
    if all(_channels_last(x) and x.shape[1] > 1 for x in images):
        return [(shape, channels_innermost(shape), images[0].dtype)]
    return [(shape, contiguous(shape), images[0].dtype)] if all(map(_dense, images)) else None


def conv(
    x: torch.Tensor, w: torch.Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> list[Meta] | None:
    n = w.dim() - 2
    if x.dim() != n + 2 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups or x.dtype != w.dtype:
        return None
    strides, dilations = each(stride, n), each(dilation, n)
    if isinstance(padding, str):
        if padding == "same" and max(strides) > 1:
            return None  # torch refuses it
        around = [d * (k - 1) if padding == "same" else 0 for k, d in zip(w.shape[2:], dilations, strict=True)]
    else:
        around = [2 * p for p in each(padding, n)]
    size = [
        (i + p - d * (k - 1) - 1) // s + 1
        for i, k, s, p, d in zip(x.shape[2:], w.shape[2:], strides, around, dilations, strict=True)
    ]
    return _convolved(x, w, w.shape[0], size)


def conv_transpose(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> list[Meta] | None:
    n = w.dim() - 2
    strides, pads, extra, dilations = (each(v, n) for v in (stride, padding, output_padding, dilation))
    # torch refuses an output padding that no input size would give
    possible = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if x.dim() != n + 2 or x.shape[1] != w.shape[0] or w.shape[0] % groups or x.dtype != w.dtype or not possible:
        return None
    size = [
        (i - 1) * s - 2 * p + d * (k - 1) + e + 1
        for i, k, s, p, e, d in zip(x.shape[2:], w.shape[2:], strides, pads, extra, dilations, strict=True)
    ]
    return _convolved(x, w, w.shape[1] * groups, size)


def _convolved(x: torch.Tensor, w: torch.Tensor, channels: int, size: Sequence[int]) -> list[Meta] | None:
    """cuDNN and oneDNN answer in channels-last if the input or the weight is; torch's meta kernel does not know.

    Nor does PyTorch's own 3-d kernel on a CPU, which it takes for one small volume; that is left out.
    """
    if min(size) <= 0:
        return None
    shape = (x.shape[0], channels, *size)
    if _channels_last(x) or _channels_last(w):
        return [(shape, channels_innermost(shape), x.dtype)]
    if not (_dense(x) and _dense(w)):
        return None
    return [(shape, contiguous(shape), x.dtype)]


def max_pool2d(
    x: torch.Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> list[Meta] | None:
    if x.dim() != 4:
        return None
    kernels, pads, dilations = each(kernel, 2), each(padding, 2), each(dilation, 2)
    strides = each(stride, 2) if isinstance(stride, int) or len(stride) else kernels
    if min(*kernels, *dilations, *strides) < 1:
        return None
    size = []
    for i, k, s, p, d in zip(x.shape[2:], kernels, strides, pads, dilations, strict=True):
        n = (i + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        # a last window that would start behind the image and what is padded before it is none
        size.append(n - 1 if ceil_mode and (n - 1) * s >= i + p else n)
    if min(size) <= 0 or any(2 * p > k for p, k in zip(pads, kernels, strict=True)):
        return None
    return as_images((x.shape[0], x.shape[1], *size), x)


def average_pool2d(
    x: torch.Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    _padded: bool = True,
    divisor: int | None = None,
) -> list[Meta] | None:
    """Its windows are those of a maximum; torch's own rule imports sympy."""
    return max_pool2d(x, kernel, stride, padding, 1, ceil_mode) if x.dtype.is_floating_point and divisor != 0 else None


def linear(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None) -> list[Meta] | None:
    if x.shape[-1:] != w.shape[-1:] or w.dim() != 2 or x.dtype != w.dtype or x.dim() == 0:
        return None
    shape = (*x.shape[:-1], w.shape[0])
    if bias is not None and broadcast([tuple(bias.shape), shape]) != shape:
        return None
    return [(shape, contiguous(shape), x.dtype)]


def addmm(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, **_: Any) -> list[Meta] | None:
    found = None if bias.dtype != a.dtype else mm(a, b)
    return found if found and broadcast([tuple(bias.shape), found[0][0]]) == found[0][0] else None


def mm(a: torch.Tensor, b: torch.Tensor) -> list[Meta] | None:
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0] or a.dtype != b.dtype:
        return None
    shape = (a.shape[0], b.shape[1])
    return [(shape, contiguous(shape), a.dtype)]


def bmm(a: torch.Tensor, b: torch.Tensor) -> list[Meta] | None:
    if a.dim() != 3 or b.dim() != 3 or a.shape[2] != b.shape[1] or a.shape[0] != b.shape[0] or a.dtype != b.dtype:
        return None
    shape = (a.shape[0], a.shape[1], b.shape[2])
    return [(shape, contiguous(shape), a.dtype)]


def batch_norm(x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, *_: Any) -> list[Meta] | None:
    if x.dim() < 2 or not fits(x.shape[1:2], weight, bias, mean, var):
        return None
    if not (_dense(x) or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))):
        return None
    return [(tuple(x.shape), tuple(x.stride()), x.dtype)]


def layer_norm(x: torch.Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, *_: Any) -> list[Meta] | None:
    own = tuple(x.shape[x.dim() - len(shape) :])
    return same_contiguous(x) if own == tuple(shape) and fits(own, weight, bias) else None


def rms_norm(x: torch.Tensor, shape: Sequence[int], weight: Any = None, *_: Any, **kwargs: Any) -> list[Meta] | None:
    own = tuple(x.shape[x.dim() - len(shape) :])
    return same(x, **kwargs) if own == tuple(shape) and fits(own, weight) else None


def group_norm(x: torch.Tensor, groups: int, weight: Any = None, bias: Any = None, *_: Any, **kwargs: Any) -> list[Meta] | None:
    whole = x.dim() > 1 and groups > 0 and x.shape[1] % groups == 0
    return same(x, **kwargs) if whole and fits(x.shape[1:2], weight, bias) else None


def instance_norm(
    x: torch.Tensor, weight: Any = None, bias: Any = None, mean: Any = None, var: Any = None, *_: Any, **kwargs: Any
) -> list[Meta] | None:
    return same(x, **kwargs) if x.dim() > 1 and fits(x.shape[1:2], weight, bias, mean, var) else None


def triangle(x: torch.Tensor, *_: Any, **kwargs: Any) -> list[Meta] | None:
    return same(x, **kwargs) if x.dim() > 1 else None


def roll(x: torch.Tensor, shifts: Any, dims: Any = ()) -> list[Meta] | None:
    return None if dim_of(x, dims) else same_contiguous(x)


def reduce(x: torch.Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> list[Meta] | None:
    if kwargs or not x.dtype.is_floating_point:
        return None
    dims = range(x.dim()) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    gone = {d % x.dim() for d in dims} if x.dim() else set()
    if dim_of(x, dims) or (len(gone) < len(dims) and x.dim()):
        return None  # torch refuses one that is not there, and one that is named twice
    # laid out in order whatever the input's order is: one that is expanded (a gradient often is) too
    shape = tuple(1 if i in gone else s for i, s in enumerate(x.shape) if keepdim or i not in gone)
    return [(shape, contiguous(shape), x.dtype)]


def vector_norm(x: torch.Tensor, order: Any = 2, *rest: Any, **kwargs: Any) -> list[Meta] | None:
    """Torch's own rule imports its symbolic shapes, and sympy with them: seconds."""
    return None if x.is_complex() or not x.numel() or not _dense(x) else reduce(x, *rest, **kwargs)


def adaptive_average(x: torch.Tensor, output_size: Sequence[int]) -> list[Meta] | None:
    size = [*output_size]
    if size != [1, 1] and (x.dim() != 4 or len(size) != 2 or min(*size, *x.shape[1:]) <= 0):
        return None
    return as_images((*x.shape[:-2], *size), x)


def cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> list[Meta] | None:
    first = tensors[0]
    # only images have other orders that a result may keep: a class token is expanded, and its rows with the patches' are not
    images = first.dim() in (4, 5)
    if any(t.dim() != first.dim() for t in tensors) or not -first.dim() <= dim < first.dim():
        return None
    dtypes = {t.dtype for t in tensors}  # under autocast a class token may be wider than the patches
    if len(dtypes) > 1 and not all(dtype.is_floating_point for dtype in dtypes):
        return None
    d = dim % first.dim()
    rest = [s for i, s in enumerate(first.shape) if i != d]
    if any([s for i, s in enumerate(t.shape) if i != d] != rest for t in tensors):
        return None
    shape = (*first.shape[:d], sum(t.shape[d] for t in tensors), *first.shape[d + 1 :])
    # channels innermost where they are in all, else in order (ATen/native/TensorShape.cpp, cat_compute_output_memory_format)
    order = channels_innermost if images and all(map(_channels_last, tensors)) else contiguous
    return [(shape, order(shape), functools.reduce(torch.promote_types, dtypes))]


def stack(tensors: Sequence[torch.Tensor], dim: int = 0) -> list[Meta] | None:
    first = tensors[0]
    n = first.dim()
    if any(t.shape != first.shape or t.dtype != first.dtype for t in tensors) or not -n - 1 <= dim <= n:
        return None
    d = dim % (n + 1)
    shape = (*first.shape[:d], len(tensors), *first.shape[d:])
    made = cat(tensors, d) if d < n else None  # torch splits what it has concatenated
    plain = made[0][1] == contiguous(made[0][0]) if made else all(map(_dense, tensors))
    return [(shape, contiguous(shape), first.dtype)] if plain else None


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None, *_: Any, **named: Any) -> list[Meta] | None:
    """Every fused kernel lays its output out as [b, l, h, e], so that the transpose behind it is free."""
    mask = named.get("attn_mask", mask)
    if q.dim() != 4 or k.dim() != 4 or v.dim() != 4 or q.shape[-1] != k.shape[-1] or not q.dtype == k.dtype == v.dtype:
        return None
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, q.dtype):
        return None
    if k.shape[:2] != v.shape[:2] or k.shape[0] not in (1, q.shape[0]) or q.shape[1] % k.shape[1]:
        return None
    b, h, length, _e = q.shape
    scores = (b, h, length, k.shape[-2])
    if mask is not None and broadcast([tuple(mask.shape), scores]) != scores:
        return None
    ev = v.shape[-1]
    if q.stride(-1) != 1 or q.shape[1] == 1 or q.is_contiguous():
        shape = (b, h, length, ev)
        return [(shape, contiguous(shape), q.dtype)]
    return [((b, h, length, ev), (length * h * ev, ev, h * ev, 1), q.dtype)]


def upsample2d(x: torch.Tensor, output_size: Any, *rest: Any) -> list[Meta] | None:
    scale = rest[-1] if rest else None
    if output_size is not None:
        size = list(output_size)
    elif scale is not None and isinstance(scale, (list, tuple)):
        size = [int(s * f) for s, f in zip(x.shape[2:], scale, strict=True)]
    else:
        return None
    if min(*size, *x.shape[1:]) < 1:
        return None
    return as_images((*x.shape[:2], *size), x)


# By name: to look up thirty operators of torch would be a part of a first trace that shows.
RULES: dict[str, Rule] = {
    "aten.conv1d.default": conv,
    "aten.conv2d.default": conv,
    "aten.conv3d.default": conv,
    "aten.conv1d.padding": conv,
    "aten.conv2d.padding": conv,
    "aten.conv3d.padding": conv,
    "aten.conv_transpose1d.default": conv_transpose,
    "aten.conv_transpose2d.input": conv_transpose,
    "aten.conv_transpose3d.input": conv_transpose,
    "aten.max_pool2d.default": max_pool2d,
    "aten.avg_pool2d.default": average_pool2d,
    "aten.linear.default": linear,
    "aten.addmm.default": addmm,
    "aten.mm.default": mm,
    "aten.bmm.default": bmm,
    "aten.batch_norm.default": batch_norm,
    "aten.layer_norm.default": layer_norm,
    "aten.group_norm.default": group_norm,
    "aten.instance_norm.default": instance_norm,
    "aten.rms_norm.default": rms_norm,
    "aten.mean.dim": reduce,
    "aten.mean.default": lambda x, **kw: reduce(x, None, False, **kw),
    "aten.amax.default": reduce,
    "aten.amin.default": reduce,
    "aten.linalg_vector_norm.default": vector_norm,
    "aten.adaptive_avg_pool2d.default": adaptive_average,
    "aten.cat.default": cat,
    "aten.stack.default": stack,
    "aten.scaled_dot_product_attention.default": attention,
    "aten.upsample_bilinear2d.vec": upsample2d,
    "aten.upsample_bicubic2d.vec": upsample2d,
    "aten.roll.default": roll,
    "aten.tril.default": triangle,
    "aten.triu.default": triangle,
}

# Pointwise by tag, but with a result that is not of the inputs' type, or more than one result.
_NOT_PLAIN = """
    eq ne lt le gt ge isnan isinf isfinite isposinf isneginf signbit logical_and logical_or logical_not logical_xor isreal
    frexp _to_copy to clone view_as_real complex polar isclose isin where heaviside bernoulli native_dropout
    native_dropout_backward
"""
NOT_PLAIN = frozenset(f"aten.{name}" for name in _NOT_PLAIN.split())

# Elementwise, but not tagged so by torch 2.15.
UNTAGGED_POINTWISE = {"aten.hardswish"}


def rule_for(func: torch._ops.OpOverload) -> Rule | None:
    """The rule for an operator, or None where torch's meta kernel has to answer."""
    rule = RULES.get(str(func))
    tagged = torch.Tag.pointwise in func.tags or str(func.overloadpacket) in UNTAGGED_POINTWISE
    if rule is None and tagged and str(func.overloadpacket) not in NOT_PLAIN:
        returns = func._schema.returns
        if len(returns) == 1 and returns[0].alias_info is None and str(returns[0].type) == "Tensor":
            return pointwise
    return rule
