"""Convolutions: every output (of a transposed one: every input) meets the whole kernel of its group.

Padding is counted as any other input, as papers and fvcore do.
"""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import Dims, Ints, first, many, matmul_work, prod, rule
from roofline.records import TensorSpec, Work

Out = TensorSpec | tuple[TensorSpec, ...]
T = TensorSpec


def _per_point(weight: T) -> int:
    """Multiply-accumulates for each output element (transposed: each input element): weight [o, c/g, *k]."""
    return prod(weight.shape[1:])


def _forward(x: T, weight: T, out: T, transposed: bool) -> int:
    # weight [o, c/g, *k]: each of out's n*o*p*q elements sums c/g*r*s products
    # transposed, weight [c, o/g, *k]: each of x's n*c*h*w elements is spread over o/g*r*s outputs
    return (x if transposed else out).numel * _per_point(weight)


def _dims(x: T, weight: T, out: T, stride: Ints | None, groups: int, transposed: bool) -> Dims:
    spatial = len(weight.shape) - 2
    kernel, image, result = weight.shape[2:], x.shape[-spatial:], out.shape[-spatial:]
    batched = len(x.shape) == spatial + 2
    step = many(stride, spatial) or [1] * spatial
    dims = {
        "n": x.shape[0] if batched else 1,
        "c": x.shape[-spatial - 1],
        "o": out.shape[-spatial - 1],
        "g": groups,
        "h": image[-2] if spatial > 1 else 1,
        "w": image[-1],
        "p": result[-2] if spatial > 1 else 1,
        "q": result[-1],
        "r": kernel[-2] if spatial > 1 else 1,
        "s": kernel[-1],
        "stride": step[-1],
        "transposed": int(transposed),
    }
    if spatial == 3:
        dims |= {"d": image[0], "z": result[0], "t": kernel[0]}
    return dims


def _bias(bias: T | None, out: T) -> int:
    return out.numel if bias is not None else 0


# --- as modules and functions call them


def _conv_dims(
    input: T,
    weight: T,
    bias: T | None = None,
    stride: Ints = 1,
    padding: Any = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    out: Out,
    **_: Any,
) -> Dims:
    return _dims(input, weight, first(out), stride, groups, False)


@rule("conv1d", "conv2d", "conv3d", "mkldnn_convolution", klass="conv", dims=_conv_dims)
def conv(input: T, weight: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]
    y = first(out)
    return matmul_work(_forward(input, weight, y, False), input, _bias(bias, y))


def _conv_transpose_dims(
    input: T,
    weight: T,
    bias: T | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    out: Out,
    **_: Any,
) -> Dims:
    return _dims(input, weight, first(out), stride, groups, True)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", klass="conv", dims=_conv_transpose_dims)
def conv_transpose(input: T, weight: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [c, o/g, *k] -> [n, o, *j]
    return matmul_work(_forward(input, weight, first(out), True), input, _bias(bias, first(out)))


# --- as they are dispatched


def _convolution_dims(
    input: T,
    weight: T,
    bias: T | None,
    stride: Ints,
    padding: Any,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    *_: Any,
    out: Out,
    **__: Any,
) -> Dims:
    return _dims(input, weight, first(out), stride, groups, transposed)


@rule("convolution", "_convolution", "convolution_overrideable", klass="conv", dims=_convolution_dims)
def convolution(
    input: T,
    weight: T,
    bias: T | None,
    stride: Ints,
    padding: Any,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    *_: Any,
    out: Out,
    **__: Any,
) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]; transposed: [n, c, *i], [c, o/g, *k] -> [n, o, *j]
    y = first(out)
    return matmul_work(_forward(input, weight, y, transposed), input, _bias(bias, y))


def _mode_dims(
    input: T, weight: T, bias: T | None, stride: Ints, padding: str, dilation: Ints, groups: int, *, out: Out, **_: Any
) -> Dims:
    return _dims(input, weight, first(out), stride, groups, False)


rule("_convolution_mode", klass="conv", dims=_mode_dims)(conv)


def _library_dims(
    self: T, weight: T, padding: Ints, stride: Ints, dilation: Ints, groups: int, *_: Any, out: Out, **__: Any
) -> Dims:
    return _dims(self, weight, first(out), stride, groups, False)


@rule("cudnn_convolution", klass="conv", dims=_library_dims)
def cudnn_convolution(self: T, weight: T, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]
    return matmul_work(_forward(self, weight, first(out), False), self)


def _miopen_dims(
    self: T, weight: T, bias: T | None, padding: Ints, stride: Ints, dilation: Ints, groups: int, *_: Any, out: Out, **__: Any
) -> Dims:
    return _dims(self, weight, first(out), stride, groups, False)


rule("miopen_convolution", "miopen_depthwise_convolution", klass="conv", dims=_miopen_dims)(conv)


def _library_transpose_dims(
    self: T,
    weight: T,
    padding: Ints,
    output_padding: Ints,
    stride: Ints,
    dilation: Ints,
    groups: int,
    *_: Any,
    out: Out,
    **__: Any,
) -> Dims:
    return _dims(self, weight, first(out), stride, groups, True)


@rule("cudnn_convolution_transpose", klass="conv", dims=_library_transpose_dims)
def cudnn_convolution_transpose(self: T, weight: T, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [c, o/g, *k] -> [n, o, *j]
    return matmul_work(_forward(self, weight, first(out), True), self)


def _miopen_transpose_dims(
    self: T,
    weight: T,
    bias: T | None,
    padding: Ints,
    output_padding: Ints,
    stride: Ints,
    dilation: Ints,
    groups: int,
    *_: Any,
    out: Out,
    **__: Any,
) -> Dims:
    return _dims(self, weight, first(out), stride, groups, True)


rule("miopen_convolution_transpose", klass="conv", dims=_miopen_transpose_dims)(conv_transpose)


def _relu_dims(
    self: T, weight: T, bias: T | None, stride: Ints, padding: Ints, dilation: Ints, groups: int, *, out: Out, **_: Any
) -> Dims:
    return _dims(self, weight, first(out), stride, groups, False)


@rule("cudnn_convolution_relu", "miopen_convolution_relu", klass="conv", dims=_relu_dims)
def convolution_relu(self: T, weight: T, bias: T | None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j], one compare per output
    y = first(out)
    return matmul_work(_forward(self, weight, y, False), self, _bias(bias, y) + y.numel)


def _add_relu_dims(
    self: T,
    weight: T,
    z: T,
    alpha: float | None,
    bias: T | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    *,
    out: Out,
    **_: Any,
) -> Dims:
    return _dims(self, weight, first(out), stride, groups, False)


@rule("cudnn_convolution_add_relu", "miopen_convolution_add_relu", klass="conv", dims=_add_relu_dims)
def convolution_add_relu(self: T, weight: T, z: T, alpha: float | None, bias: T | None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k], z [n, o, *j] -> [n, o, *j], one add and one compare per output
    y = first(out)
    return matmul_work(_forward(self, weight, y, False), self, _bias(bias, y) + 2 * y.numel)


def _slow_dims(
    self: T, weight: T, kernel_size: Ints, bias: T | None = None, stride: Ints = 1, *_: Any, out: Out, **__: Any
) -> Dims:
    y = first(out)
    return _dims(self, weight, y, stride, self.shape[1 - len(weight.shape)] // max(weight.shape[1], 1), False)


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
    dims=_slow_dims,
)
def slow_conv(self: T, weight: T, kernel_size: Ints, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]
    y = first(out)
    return matmul_work(_forward(self, weight, y, False), self, _bias(bias, y))


def _slow_transpose_dims(
    self: T, weight: T, kernel_size: Ints, bias: T | None = None, stride: Ints = 1, *_: Any, out: Out, **__: Any
) -> Dims:
    return _dims(self, weight, first(out), stride, 1, True)


@rule("slow_conv_transpose2d", "slow_conv_transpose3d", klass="conv", dims=_slow_transpose_dims)
def slow_conv_transpose(self: T, weight: T, kernel_size: Ints, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [c, o, *k] -> [n, o, *j]
    return matmul_work(_forward(self, weight, first(out), True), self, _bias(bias, first(out)))


@rule("conv_tbc", klass="conv")
def conv_tbc(self: T, weight: T, bias: T, pad: int = 0, *, out: Out, **_: Any) -> Work:
    # [t, b, c], [k, c, o] -> [t', b, o]
    y = first(out)
    return matmul_work(y.numel * weight.shape[0] * weight.shape[1], self, y.numel)


@rule("conv_tbc_backward", klass="conv")
def conv_tbc_backward(self: T, input: T, weight: T, bias: T, pad: int, *, out: Out, **_: Any) -> Work:
    # grad [t', b, o] meets input and weight as the forward did, once for each gradient; the bias sums it
    return matmul_work(2 * self.numel * weight.shape[0] * weight.shape[1], self, self.numel)


# --- gradients


def _backward(grad_output: T, input: T, weight: T, transposed: bool, output_mask: list[bool]) -> Work:
    """The gradients of the input and of the weight each pair the same (input, weight, output) triples as the forward does:
    one multiply-accumulate per triple, so each costs one forward, grouped and transposed alike. The bias sums grad_output.
    """
    wanted = bool(output_mask[0]) + bool(output_mask[1])
    macs = wanted * _forward(input, weight, grad_output, transposed)
    return matmul_work(macs, input, grad_output.numel if output_mask[2] else 0)


def _backward_dims(
    grad_output: T,
    input: T,
    weight: T,
    bias_sizes: Any,
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
) -> Dims:
    return _dims(input, weight, grad_output, stride, groups, transposed)


@rule("convolution_backward", klass="conv", dims=_backward_dims)
def convolution_backward(
    grad_output: T,
    input: T,
    weight: T,
    bias_sizes: Any,
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
) -> Work:
    # dy [n, o, *j], x [n, c, *i], w [o, c/g, *k] -> dx, dw, db
    return _backward(grad_output, input, weight, transposed, output_mask)


@rule("convolution_backward_overrideable", klass="conv")
def convolution_backward_overrideable(
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
) -> Work:
    # as convolution_backward, without the bias sizes
    return _backward(grad_output, input, weight, transposed, output_mask)


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
) -> Work:
    # grad [n, o, p, q], [n, c, h, w], [o, c, r, s]; the out= overload gives all three gradients
    mask = output_mask if isinstance(output_mask, list) else [True, True, True]
    wanted = bool(mask[0]) + bool(mask[1])
    return matmul_work(_forward(self, weight, grad_output, False) * wanted, self, grad_output.numel if mask[2] else 0)


# --- compiled CPU code (oneDNN)


def _pointwise_dims(x: T, *args: Any, out: Out, **_: Any) -> Dims:
    weight, transposed = _pointwise_weight(args)
    lists = [a for a in args if isinstance(a, list) and a and all(isinstance(i, int) for i in a)]
    ints = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    return _dims(x, weight, first(out), lists[1] if len(lists) > 1 else 1, ints[0] if ints else 1, transposed)


def _pointwise_weight(args: tuple[Any, ...]) -> tuple[T, bool]:
    # `.binary` puts the other summand before the weight
    weight = args[1] if len(args) > 1 and isinstance(args[1], T) and isinstance(args[3], list) else args[0]
    return weight, False


@rule("mkldnn._convolution_pointwise", "mkldnn._convolution_pointwise_", klass="conv", dims=_pointwise_dims)
def convolution_pointwise(x: T, *args: Any, out: Out, **_: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]
    weight, _t = _pointwise_weight(args)
    return matmul_work(_forward(x, weight, first(out), False), x, first(out).numel)
