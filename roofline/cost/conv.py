"""Convolutions of any rank, forward and backward, deformable ones too: one shape (shapes.Conv) and what stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roofline.cost.registry import Cost, Ints, Rule, add, first, many, prod, rule
from roofline.records import TensorSpec
from roofline.shapes import Conv

Out = TensorSpec | tuple[TensorSpec, ...]
T = TensorSpec


def conv_of(
    x: T, weight: T, out: T, stride: Ints | None = 1, groups: int = 1, transposed: bool = False, dilation: Ints | None = 1
) -> Conv:
    """The shape of a convolution of any rank, batched or not: x [n, c, *i], out [n, o, *j], weight [o, c/g, *k] or, transposed,
    [c, o/g, *k]: then `x` is the small image and `out` the large one.
    """
    kernel = tuple(weight.shape[2:])
    rank = len(kernel)
    batch = x.shape[0] if len(x.shape) == rank + 2 else 1
    step, holes = many(stride, rank) or [1], many(dilation, 1) or [1]
    image, result = x.shape[len(x.shape) - rank :], out.shape[len(out.shape) - rank :]
    c, o = x.shape[-rank - 1], out.shape[-rank - 1]
    return Conv(batch, c, o, groups, image, result, kernel, step[-1], max(holes), bool(transposed))


# --- as modules, functions and libraries call them


def _forward(*names: str, arguments: str, transposed: bool = False, extra: int = 0) -> None:
    """Enter operators that take `arguments` in this order, image and weight first: x [n, c, *i], [o, c/g, *k] -> [n, o, *j].

    A bias adds 1 to each element of the result, what is done to it on the way `extra`.
    """
    order = arguments.split()

    def count(*args: Any, out: Out, **kwargs: Any) -> Cost:
        given = dict(zip(order, args, strict=False)) | kwargs
        stride, dilation, groups = given.get("stride", 1), given.get("dilation", 1), given.get("groups", 1)
        y, turned = first(out), given.get("transposed", transposed)
        around = y.numel * (extra + (given.get("bias") is not None))
        return Cost.of(conv_of(given[order[0]], given[order[1]], y, stride, groups, turned, dilation), extra=around)

    add(names, Rule(count, "conv"))


_forward(
    "conv1d",
    "conv2d",
    "conv3d",
    "_convolution_mode",
    arguments="input weight bias stride padding dilation groups",
)
_forward(
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    arguments="input weight bias stride padding output_padding groups dilation",
    transposed=True,
)
_forward(
    "convolution",
    "_convolution",
    "convolution_overrideable",
    arguments="input weight bias stride padding dilation transposed output_padding groups",
)
_forward("cudnn_convolution", arguments="self weight padding stride dilation groups")
_forward(
    "mkldnn_convolution",
    "miopen_convolution",
    "miopen_depthwise_convolution",
    arguments="self weight bias padding stride dilation groups",
)
_forward(
    "cudnn_convolution_transpose",
    arguments="self weight padding output_padding stride dilation groups",
    transposed=True,
)
_forward(
    "miopen_convolution_transpose",
    arguments="self weight bias padding output_padding stride dilation groups",
    transposed=True,
)
_forward("slow_conv_transpose2d", "slow_conv_transpose3d", arguments="self weight kernel_size bias stride", transposed=True)
# one compare for each element of the result; an add and a compare
_forward(
    "cudnn_convolution_relu",
    "miopen_convolution_relu",
    arguments="self weight bias stride padding dilation groups",
    extra=1,
)
_forward(
    "cudnn_convolution_add_relu",
    "miopen_convolution_add_relu",
    arguments="self weight z alpha bias stride padding dilation groups",
    extra=2,
)


@rule(
    "thnn_conv2d",
    "_slow_conv2d_forward",
    "slow_conv3d",
    "slow_conv3d_forward",
    "slow_conv_dilated2d",
    "slow_conv_dilated3d",
    "_conv_depthwise2d",
    "conv_depthwise3d",
    klass="conv",
)
def slow_conv(
    self: T, weight: T, kernel_size: Ints, bias: T | None = None, stride: Ints = 1, *_: Any, out: Out, **__: Any
) -> Cost:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]; the channels of the weight tell the groups
    y, groups = first(out), self.shape[1 - len(weight.shape)] // max(weight.shape[1], 1)
    return Cost.of(conv_of(self, weight, y, stride, groups), extra=0 if bias is None else y.numel)


def _tbc(input: T, weight: T, length: int) -> Conv:
    # time before batch before channels: [t, b, c], [k, c, o] -> [t', b, o]
    (t, b, c), (k, _c, o) = input.shape, weight.shape
    return Conv(b, c, o, 1, (t,), (length,), (k,))


@rule("conv_tbc", klass="conv")
def conv_tbc(self: T, weight: T, bias: T, pad: int = 0, *, out: Out, **_: Any) -> Cost:
    # [t, b, c], [k, c, o] -> [t', b, o]
    return Cost.of(_tbc(self, weight, first(out).shape[0]), extra=first(out).numel)


# --- gradients


def _backward(forward: Conv, grad_output: T, mask: Sequence[Any]) -> Cost:
    """The gradients of image and weight that `mask` asks for; that of a bias sums the result's."""
    return Cost.of(*forward.gradients(mask[:2]), extra=grad_output.numel if mask[2] else 0, whole=forward)


@rule("conv_tbc_backward", klass="conv")
def conv_tbc_backward(self: T, input: T, weight: T, bias: T, pad: int, *, out: Out, **_: Any) -> Cost:
    # grad [t', b, o] meets input and weight as the forward did, once for each gradient; the bias sums it
    return _backward(_tbc(input, weight, self.shape[0]), self, (True, True, True))


@rule("convolution_backward_overrideable", klass="conv")
def convolution_backward_overrideable(  # long: the operator's own arguments
    grad_output: T,
    input: T,
    weight: T,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    output_mask: list[bool],
    *,
    out: Out,
    **_: Any,
) -> Cost:
    # dy [n, o, *j], x [n, c, *i], w [o, c/g, *k] -> dx, dw, db
    return _backward(conv_of(input, weight, grad_output, stride, groups, transposed, dilation), grad_output, output_mask)


@rule("convolution_backward", klass="conv")
def convolution_backward(grad_output: T, input: T, weight: T, bias_sizes: Any, *args: Any, out: Out, **kwargs: Any) -> Cost:
    # dy [n, o, *j], x [n, c, *i], w [o, c/g, *k] -> dx, dw, db
    return convolution_backward_overrideable(grad_output, input, weight, *args, out=out, **kwargs)


@rule("_slow_conv2d_backward", klass="conv")
def slow_conv2d_backward(
    grad_output: T,
    self: T,
    weight: T,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    output_mask: list[bool] | None = None,
    *_: Any,
    out: Out,
    **__: Any,
) -> Cost:
    # grad [n, o, p, q], [n, c, h, w], [o, c, r, s]; the out= overload gives all three gradients
    mask = output_mask if isinstance(output_mask, list) else [True, True, True]
    return _backward(conv_of(self, weight, grad_output, stride), grad_output, mask)


# --- compiled CPU code (oneDNN)


@rule("mkldnn._convolution_pointwise", "mkldnn._convolution_pointwise_", klass="conv")
def convolution_pointwise(x: T, *args: Any, out: Out, **_: Any) -> Cost:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j], and a bias or another summand
    # `.binary` puts the other summand before the weight
    weight: T = args[1] if len(args) > 1 and isinstance(args[1], T) and isinstance(args[3], list) else args[0]
    lists = [a for a in args if isinstance(a, list) and a and all(isinstance(i, int) for i in a)]
    ints = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    y, stride, groups = first(out), lists[1] if len(lists) > 1 else 1, ints[0] if ints else 1
    return Cost.of(conv_of(x, weight, y, stride, groups), extra=y.numel)


# --- deformable: bilinear samples at learned offsets, then a convolution over them


def _deformed(input: T, weight: T, out: T, args: Sequence[Any]) -> tuple[Conv, int]:
    """The convolution, and FLOPs of the sampling: a bilinear sample of 4 taps is 7, a mask (the last argument) multiplies."""
    stride, groups = (args[1], args[6]) if len(args) > 6 else (1, input.shape[1] // max(weight.shape[1], 1))
    n, c = input.shape[:2]
    samples = n * c * prod(weight.shape[2:]) * prod(out.shape[2:])
    return conv_of(input, weight, out, stride, groups), samples * (7 + bool(args and args[-1] is True))


@rule("torchvision.deform_conv2d", klass="conv")
def deform_conv2d(input: T, weight: T, offset: T, mask: T, bias: T, *args: Any, out: Out, **_: Any) -> Cost:
    # [n, c, h, w], [o, c/g, r, s], offset [n, 2 g' r s, p, q] -> [n, o, p, q]
    y = first(out)
    shape, sampling = _deformed(input, weight, y, args)
    return Cost.of(shape, extra=sampling + y.numel)


@rule("torchvision._deform_conv2d_backward", klass="conv")
def deform_conv2d_backward(grad: T, input: T, weight: T, offset: T, mask: T, bias: T, *args: Any, out: Out, **_: Any) -> Cost:
    # columns' gradient and the weight's: one forward each. The samples are taken again, spread back, and their slopes taken: 3
    forward, sampling = _deformed(input, weight, grad, args)
    return Cost.of(*forward.gradients(), extra=3 * sampling + grad.numel, whole=forward)
