"""Convolutions: every output (of a transposed one: every input) meets the whole kernel of its group.

Padding is counted as any other input, as papers and fvcore do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roofline.cost.registry import Count, Dims, Ints, Sizer, first, many, matmul_work, prod, rule
from roofline.records import TensorSpec, Work

Out = TensorSpec | tuple[TensorSpec, ...]
T = TensorSpec
Shape = Sequence[int]


def _per_point(weight: T) -> int:
    """Multiply-accumulates for each output element (transposed: each input element): weight [o, c/g, *k]."""
    return prod(weight.shape[1:])


def _forward(x: T, weight: T, out: T, transposed: bool) -> int:
    # weight [o, c/g, *k]: each of out's n*o*p*q elements sums c/g*r*s products
    # transposed, weight [c, o/g, *k]: each of x's n*c*h*w elements is spread over o/g*r*s outputs
    return (x if transposed else out).numel * _per_point(weight)


def sizes_of(x: T, weight: T, out: T, stride: Ints | None, groups: int, transposed: bool) -> Dims:
    """Sizes of a convolution of any rank; transposed, `x` is the small image and `out` the large one."""
    spatial = len(weight.shape) - 2
    batch = x.shape[0] if len(x.shape) == spatial + 2 else 1
    step = many(stride, spatial) or [1] * spatial
    channels, outputs = x.shape[-spatial - 1], out.shape[-spatial - 1]
    return _sizes(
        batch, channels, outputs, groups, x.shape[-spatial:], out.shape[-spatial:], weight.shape[2:], step[-1], transposed
    )


def _sizes(
    n: int, c: int, o: int, groups: int, image: Shape, result: Shape, kernel: Shape, stride: int, transposed: bool
) -> Dims:
    flat = len(kernel) == 1
    dims = {
        "n": n,
        "c": c,
        "o": o,
        "g": groups,
        "h": 1 if flat else image[-2],
        "w": image[-1],
        "p": 1 if flat else result[-2],
        "q": result[-1],
        "r": 1 if flat else kernel[-2],
        "s": kernel[-1],
        "stride": stride,
        "transposed": int(transposed),
    }
    if len(kernel) == 3:
        dims |= {"d": image[0], "z": result[0], "t": kernel[0]}
    return dims


_OTHER = {"c": "o", "o": "c", "d": "z", "z": "d", "h": "p", "p": "h", "w": "q", "q": "w"}


def gradients(dims: Dims, wanted: Sequence[Any]) -> list[Dims]:
    """The products of a backward, from the forward's sizes: `gradient` 1 for the image's, 2 for the weight's.

    The image's gradient is a convolution back from the result to the image: a transposed one where the forward is none. The
    weight's sums over all pixels of the batch.
    """
    back = {name: dims[_OTHER.get(name, name)] for name in dims}
    both = [back | {"transposed": 1 - dims["transposed"], "gradient": 1}, dims | {"gradient": 2}]
    return [product for product, yes in zip(both, wanted, strict=False) if yes]


def _sizer(arguments: str, transposed: bool = False) -> Sizer:
    """Sizes of an operator that takes `arguments` in this order, image and weight first."""
    names = arguments.split()

    def sizes(*args: Any, out: Out, **kwargs: Any) -> Dims:
        given = dict(zip(names, args, strict=False)) | kwargs
        stride, groups, turned = given.get("stride", 1), given.get("groups", 1), given.get("transposed", transposed)
        found = sizes_of(given[names[0]], given[names[1]], first(out), stride, groups, turned)
        return found | _holes(given.get("dilation", 1))

    return sizes


def _holes(dilation: Ints | None) -> Dims:
    """`dilation` of a kernel with holes."""
    widest = max(many(dilation, 1), default=1)
    return {"dilation": widest} if widest > 1 else {}


def _bias(bias: T | None, out: T) -> int:
    return out.numel if bias is not None else 0


# --- as modules and functions call them


@rule(
    "conv1d",
    "conv2d",
    "conv3d",
    klass="conv",
    dims=_sizer("input weight bias stride padding dilation groups"),
)
def conv(input: T, weight: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]
    y = first(out)
    return matmul_work(_forward(input, weight, y, False), input, _bias(bias, y))


@rule(
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    klass="conv",
    dims=_sizer("input weight bias stride padding output_padding groups dilation", transposed=True),
)
def conv_transpose(input: T, weight: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [c, o/g, *k] -> [n, o, *j]
    return matmul_work(_forward(input, weight, first(out), True), input, _bias(bias, first(out)))


# --- as they are dispatched


@rule(
    "convolution",
    "_convolution",
    "convolution_overrideable",
    klass="conv",
    dims=_sizer("input weight bias stride padding dilation transposed output_padding groups"),
)
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


rule("_convolution_mode", klass="conv", dims=_sizer("input weight bias stride padding dilation groups"))(conv)


@rule("cudnn_convolution", klass="conv", dims=_sizer("self weight padding stride dilation groups"))
def cudnn_convolution(self: T, weight: T, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]
    return matmul_work(_forward(self, weight, first(out), False), self)


rule(
    "mkldnn_convolution",
    "miopen_convolution",
    "miopen_depthwise_convolution",
    klass="conv",
    dims=_sizer("self weight bias padding stride dilation groups"),
)(conv)


@rule(
    "cudnn_convolution_transpose",
    klass="conv",
    dims=_sizer("self weight padding output_padding stride dilation groups", transposed=True),
)
def cudnn_convolution_transpose(self: T, weight: T, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [c, o/g, *k] -> [n, o, *j]
    return matmul_work(_forward(self, weight, first(out), True), self)


rule(
    "miopen_convolution_transpose",
    klass="conv",
    dims=_sizer("self weight bias padding output_padding stride dilation groups", transposed=True),
)(conv_transpose)


@rule(
    "cudnn_convolution_relu",
    "miopen_convolution_relu",
    klass="conv",
    dims=_sizer("self weight bias stride padding dilation groups"),
)
def convolution_relu(self: T, weight: T, bias: T | None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j], one compare per output
    y = first(out)
    return matmul_work(_forward(self, weight, y, False), self, _bias(bias, y) + y.numel)


@rule(
    "cudnn_convolution_add_relu",
    "miopen_convolution_add_relu",
    klass="conv",
    dims=_sizer("self weight z alpha bias stride padding dilation groups"),
)
def convolution_add_relu(self: T, weight: T, z: T, alpha: float | None, bias: T | None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [o, c/g, *k], z [n, o, *j] -> [n, o, *j], one add and one compare per output
    y = first(out)
    return matmul_work(_forward(self, weight, y, False), self, _bias(bias, y) + 2 * y.numel)


def _slow_dims(
    self: T, weight: T, kernel_size: Ints, bias: T | None = None, stride: Ints = 1, *_: Any, out: Out, **__: Any
) -> Dims:
    y = first(out)
    return sizes_of(self, weight, y, stride, self.shape[1 - len(weight.shape)] // max(weight.shape[1], 1), False)


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


@rule(
    "slow_conv_transpose2d",
    "slow_conv_transpose3d",
    klass="conv",
    dims=_sizer("self weight kernel_size bias stride", transposed=True),
)
def slow_conv_transpose(self: T, weight: T, kernel_size: Ints, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [n, c, *i], [c, o, *k] -> [n, o, *j]
    return matmul_work(_forward(self, weight, first(out), True), self, _bias(bias, first(out)))


def _tbc_dims(self: T, weight: T, bias: T, pad: int = 0, *, out: Out, **_: Any) -> Dims:
    (t, b, c), (k, _c, o) = self.shape, weight.shape
    return _sizes(b, c, o, 1, (t,), (first(out).shape[0],), (k,), 1, False)


@rule("conv_tbc", klass="conv", dims=_tbc_dims)
def conv_tbc(self: T, weight: T, bias: T, pad: int = 0, *, out: Out, **_: Any) -> Work:
    # [t, b, c], [k, c, o] -> [t', b, o]
    y = first(out)
    return matmul_work(y.numel * weight.shape[0] * weight.shape[1], self, y.numel)


def _tbc_gradients(self: T, input: T, weight: T, bias: T, pad: int, *, out: Out, **_: Any) -> list[Dims]:
    (t, b, c), (k, _c, o) = input.shape, weight.shape
    return gradients(_sizes(b, c, o, 1, (t,), (self.shape[0],), (k,), 1, False), [True, True])


@rule("conv_tbc_backward", klass="conv", products=_tbc_gradients)
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
    *_: Any,
    **__: Any,
) -> Dims:
    return sizes_of(input, weight, grad_output, stride, groups, transposed) | _holes(dilation)


def _backward_products(
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
) -> list[Dims]:
    return gradients(sizes_of(input, weight, grad_output, stride, groups, transposed) | _holes(dilation), output_mask)


@rule("convolution_backward", klass="conv", dims=_backward_dims, products=_backward_products)
def convolution_backward(grad_output: T, input: T, weight: T, bias_sizes: Any, *args: Any, out: Out, **kwargs: Any) -> Count:
    # dy [n, o, *j], x [n, c, *i], w [o, c/g, *k] -> dx, dw, db
    return convolution_backward_overrideable(grad_output, input, weight, *args, out=out, **kwargs)


def _overrideable_dims(grad_output: T, input: T, weight: T, *args: Any, out: Out, **kwargs: Any) -> Dims:
    return _backward_dims(grad_output, input, weight, None, *args, out=out, **kwargs)


def _overrideable_products(grad_output: T, input: T, weight: T, *args: Any, out: Out, **kwargs: Any) -> list[Dims]:
    return _backward_products(grad_output, input, weight, None, *args, out=out, **kwargs)


@rule("convolution_backward_overrideable", klass="conv", dims=_overrideable_dims, products=_overrideable_products)
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


def _slow_backward_dims(
    grad_output: T, self: T, weight: T, kernel_size: Ints, stride: Ints, padding: Ints, *_: Any, out: Out, **__: Any
) -> Dims:
    return sizes_of(self, weight, grad_output, stride, 1, False)


def _slow_backward_products(
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
) -> list[Dims]:
    mask = output_mask if isinstance(output_mask, list) else [True, True]
    return gradients(sizes_of(self, weight, grad_output, stride, 1, False), mask)


@rule("_slow_conv2d_backward", klass="conv", dims=_slow_backward_dims, products=_slow_backward_products)
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
    return _backward(grad_output, self, weight, False, mask)


# --- compiled CPU code (oneDNN)


def _pointwise_dims(x: T, *args: Any, out: Out, **_: Any) -> Dims:
    weight = _pointwise_weight(args)
    lists = [a for a in args if isinstance(a, list) and a and all(isinstance(i, int) for i in a)]
    ints = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    return sizes_of(x, weight, first(out), lists[1] if len(lists) > 1 else 1, ints[0] if ints else 1, False)


def _pointwise_weight(args: tuple[Any, ...]) -> T:
    # `.binary` puts the other summand before the weight
    weight: T = args[1] if len(args) > 1 and isinstance(args[1], T) and isinstance(args[3], list) else args[0]
    return weight


@rule("mkldnn._convolution_pointwise", "mkldnn._convolution_pointwise_", klass="conv", dims=_pointwise_dims)
def convolution_pointwise(x: T, *args: Any, out: Out, **_: Any) -> Work:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]
    weight = _pointwise_weight(args)
    return matmul_work(_forward(x, weight, first(out), False), x, first(out).numel)
