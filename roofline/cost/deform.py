"""Deformable convolution: bilinear samples at learned offsets, then a convolution over them."""

from __future__ import annotations

from typing import Any

from roofline.cost.conv import gradients
from roofline.cost.registry import Dims, first, prod, rule
from roofline.records import TensorSpec, Work

T = TensorSpec


def _work(input: T, weight: T, out: T, masked: bool) -> tuple[int, int]:
    """Multiply-accumulates of the convolution, and FLOPs of the sampling."""
    _o, per_group, r, s = weight.shape
    n, c = input.shape[:2]
    samples = n * c * r * s * prod(out.shape[2:])
    # a bilinear sample of 4 taps is 7, the mask multiplies
    return out.numel * per_group * r * s, samples * (7 + masked)


def _dims(
    input: T,
    weight: T,
    offset: T,
    mask: T,
    bias: T,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    *_: Any,
    out: Any,
    **__: Any,
) -> Dims:
    y = first(out)
    (n, c, h, w), (o, _i, r, s) = input.shape, weight.shape
    return {
        "n": n,
        "c": c,
        "o": o,
        "g": groups,
        "h": h,
        "w": w,
        "p": y.shape[2],
        "q": y.shape[3],
        "r": r,
        "s": s,
        "stride": stride_w,
        "transposed": 0,
    }


@rule("torchvision.deform_conv2d", klass="conv", dims=_dims)
def deform_conv2d(input: T, weight: T, offset: T, mask: T, bias: T, *args: Any, out: Any, **_: Any) -> Work:
    # [n, c, h, w], [o, c/g, r, s], offset [n, 2 g' r s, p, q] -> [n, o, p, q]; the last argument says whether the mask is used
    y = first(out)
    macs, sampling = _work(input, weight, y, bool(args and args[-1] is True))
    return Work(2 * macs + sampling + y.numel, macs)


def _backward_dims(grad: T, input: T, weight: T, offset: T, mask: T, bias: T, *args: Any, out: Any, **_: Any) -> Dims:
    return _dims(input, weight, offset, mask, bias, *args, out=grad)


def _backward_products(*args: Any, out: Any, **kwargs: Any) -> list[Dims]:
    return gradients(_backward_dims(*args, out=out, **kwargs), [True, True])


@rule("torchvision._deform_conv2d_backward", klass="conv", dims=_backward_dims, products=_backward_products)
def deform_conv2d_backward(grad: T, input: T, weight: T, offset: T, mask: T, bias: T, *args: Any, out: Any, **_: Any) -> Work:
    # columns' gradient and the weight's: one forward each. The samples are taken again, spread back, and their slopes taken: 3
    macs, sampling = _work(input, weight, grad, bool(args and args[-1] is True))
    return Work(4 * macs + 3 * sampling + grad.numel, 2 * macs)
