"""Integer operators (`quantized::`, oneDNN's int8 forms). Weights come packed: as the TensorSpec of the unpacked weight, or a
list [weight, bias or None, scales, ...] of them, where the trace could look inside; where it could not the count is unknown.

Around the product each output is scaled, rounded, shifted to the zero point and clamped on both sides: 5.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from roofline.cost.conv import conv_of
from roofline.cost.matmul import matmul, packed_mm
from roofline.cost.registry import Cost, Count, Rule, add, first, rule, total
from roofline.records import TensorSpec
from roofline.shapes import Conv

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]

REQUANTIZE = 5


def unpack(packed: Any) -> T | None:
    """The weight among packed parameters."""
    if isinstance(packed, T):
        return packed
    return next((p for p in packed if isinstance(p, T)), None) if isinstance(packed, list) else None


def _has_bias(packed: Any) -> bool:
    return isinstance(packed, list) and len(packed) > 1 and isinstance(packed[1], T)


def _conv_of(x: T, weight: T, y: T, transposed: bool = False) -> Conv:
    """The shape from those of the tensors alone: how a stride is packed is not told."""
    channels = (y if transposed else x).shape[1 - len(weight.shape)]
    stride = max(1, round(x.shape[-1] / max(y.shape[-1], 1)))
    return conv_of(x, weight, y, stride, channels // max(weight.shape[1], 1), transposed)


def _conv(extra: int, transposed: bool) -> Rule:
    def count(qx: T, packed: Any, *_: Any, out: Out, **__: Any) -> Count:
        # [n, c, *i] int8, [o, c/g, *k] int8 -> [n, o, *j] int8
        weight, y = unpack(packed), first(out)
        if weight is None:
            return None
        around = y.numel * (REQUANTIZE + extra + _has_bias(packed))
        return Cost.of(_conv_of(qx, weight, y, transposed), extra=around)

    return Rule(count, "conv")


# relu after requantisation is the lower clamp: it costs nothing more
for _n in ("1d", "2d", "3d"):
    add(
        (
            f"quantized.conv{_n}",
            f"quantized.conv{_n}_relu",
            f"quantized.conv{_n}_dynamic",
            f"_quantized.conv{_n}",
            f"_quantized.conv{_n}_relu",
        )
        if _n != "1d"
        else ("quantized.conv1d", "quantized.conv1d_relu", "quantized.conv1d_dynamic"),
        _conv(0, False),
    )
    add((f"quantized.conv_transpose{_n}", f"quantized.conv_transpose{_n}_dynamic"), _conv(0, True))


@rule("quantized.conv2d_add", "quantized.conv2d_add_relu", klass="conv")
def conv_add(qx: T, accum: T, packed: Any, *_: Any, out: Out, **__: Any) -> Count:
    # [n, c, *i] int8, summand [n, o, *j] int8, [o, c/g, *k] int8 -> [n, o, *j] int8
    return _conv(3, False).count(qx, packed, out=out)


@rule(
    "onednn.qconv1d_pointwise", "onednn.qconv2d_pointwise", "onednn.qconv3d_pointwise", "onednn.qconv_pointwise", klass="conv"
)
def onednn_conv(qx: T, x_scale: Any, x_zero_point: Any, qw: T, *args: Any, out: Out, **_: Any) -> Cost:
    # [n, c, *i] int8, [o, c/g, *k] int8 -> [n, o, *j]
    y = first(out)
    return Cost.of(_conv_of(qx, qw, y), extra=y.numel * (REQUANTIZE + 1))


@rule(
    "quantized.linear",
    "quantized.linear_relu",
    "quantized.linear_leaky_relu",
    "quantized.linear_tanh",
    "_quantized.linear",
    "quantized.linear_with_input_q_dq_qweight_dq_output_fp32",
    klass="gemm",
)
def linear(x: T, params: Any, *_: Any, out: Out, **__: Any) -> Cost:
    # [*m, k] int8 @ [n, k] int8 -> [*m, n] int8; the shapes of x and of the result say all
    return Cost.of(packed_mm(x, out), extra=first(out).numel * (REQUANTIZE + _has_bias(params)))


@rule("quantized.linear_dynamic", "quantized.linear_relu_dynamic", "_quantized.linear_dynamic", klass="gemm")
def linear_dynamic(x: T, params: Any, *_: Any, out: Out, **__: Any) -> Cost:
    # x is quantised here (its range 2, then 5), and the result is scaled back to float
    return Cost.of(packed_mm(x, out), extra=7 * x.numel + first(out).numel * (1 + _has_bias(params)))


@rule(
    "quantized.linear_dynamic_fp16",
    "quantized.linear_relu_dynamic_fp16",
    "onednn.linear_dynamic_fp16",
    "onednn.linear_relu_dynamic_fp16",
    "_quantized.wrapped_fbgemm_linear_fp16_weight",
    "fbgemm_linear_fp16_weight",
    "fbgemm_linear_fp16_weight_fp32_activation",
    "fbgemm_linear_int8_weight",
    "fbgemm_linear_int8_weight_fp32_activation",
    "_quantized.wrapped_quantized_linear",
    "_quantized._wrapped_quantized_linear_prepacked",
    "_wrapped_quantized_linear_prepacked",
    klass="gemm",
)
def linear_half(x: T, *args: Any, out: Out, **_: Any) -> Cost:
    # [*m, k] @ [n, k]^T (+ [n])
    return Cost.of(packed_mm(x, out), extra=first(out).numel)


@rule("onednn.qlinear_pointwise", klass="gemm")
def onednn_linear(qx: T, x_scale: Any, *_: Any, out: Out, **__: Any) -> Cost:
    # [*m, k] int8 @ [k, n] int8 -> [*m, n]
    return Cost.of(packed_mm(qx, out), extra=first(out).numel * (REQUANTIZE + 1))


@rule("quantized.matmul", klass="gemm")
def quantized_matmul(qa: T, qb: T, *_: Any, out: Out, **__: Any) -> Cost:
    # [*b, m, k] @ [*b, k, n]
    return Cost.of(matmul(qa, qb), extra=REQUANTIZE * first(out).numel)


# --- element by element: dequantise each operand (2), compute, requantise (5)

_ELEMENTWISE: dict[str, int] = {
    "add": 4 + 1,
    "add_relu": 4 + 1,
    "mul": 4 + 1,
    "mul_relu": 4 + 1,
    "add_out": 4 + 1,
    "add_relu_out": 4 + 1,
    "mul_out": 4 + 1,
    "mul_relu_out": 4 + 1,
    "add_scalar": 3,
    "add_scalar_relu": 3,
    "mul_scalar": 3,
    "mul_scalar_relu": 3,
    "add_scalar_out": 3,
    "mul_scalar_out": 3,
    "celu": 2 + 4,
    "elu": 2 + 3,
    "hardswish": 2 + 5,
    "leaky_relu": 2 + 2,
    "prelu": 2 + 2,
    "sigmoid": 2 + 3,
    "batch_norm": 2 + 2,
    "batch_norm1d": 2 + 2,
    "batch_norm2d": 2 + 2,
    "batch_norm3d": 2 + 2,
    "batch_norm_relu": 2 + 2,
    "batch_norm1d_relu": 2 + 2,
    "batch_norm2d_relu": 2 + 2,
    "batch_norm3d_relu": 2 + 2,
    "layer_norm": 2 + 8,
    "group_norm": 2 + 6,
    "instance_norm": 2 + 6,
    "softmax": 2 + 5,
}


def _elementwise(weight: int) -> Rule:
    def count(*_: Any, out: Out, **__: Any) -> int:
        # [*] int8 -> [*] int8
        return first(out).numel * (weight + REQUANTIZE)

    return Rule(count, "pointwise")


for _name, _weight in _ELEMENTWISE.items():
    _klass = "norm" if "norm" in _name else "softmax" if _name == "softmax" else "pointwise"
    add((f"quantized.{_name}",), replace(_elementwise(_weight), klass=_klass))
add(("onednn.qadd", "onednn.qadd_relu", "onednn.qmul", "_quantized.add"), _elementwise(5))
add(("onednn.qbatch_norm2d",), replace(_elementwise(4), klass="norm"))


@rule("quantized.clamp", "quantized.relu6", "quantized.threshold", klass="pointwise")
def clamp(*_: Any, out: Out, **__: Any) -> int:
    # on the integers: two compares
    return 2 * first(out).numel


@rule("quantized.cat_relu", klass="layout")
def cat_relu(qx: Any, *_: Any, out: Out, **__: Any) -> int:
    return first(out).numel


# --- tables of bytes or nibbles: each row is unpacked (scale, bias) and added


@rule("quantized.embedding_byte", "quantized.embedding_4bit", klass="gather")
def embedding(packed: Any, indices: T, *_: Any, out: Out, **__: Any) -> int:
    return 2 * first(out).numel


@rule(
    "quantized.embedding_bag_byte",
    "quantized.embedding_bag_4bit",
    "quantized.embedding_bag_byte_rowwise_offsets",
    "quantized.embedding_bag_4bit_rowwise_offsets",
    "quantized.embedding_bag_2bit_rowwise_offsets",
    klass="gather",
)
def embedding_bag(packed: Any, indices: T, *_: Any, out: Out, **__: Any) -> int:
    return 3 * total(indices) * first(out).shape[-1]


# --- weights stored in few bits (`sources/packed.py`): each number has its zero point taken off and is scaled


@rule("roofline.dequantize", klass="pointwise")
def dequantize(stored: list[T], *_: Any, out: Out, **__: Any) -> int:
    # packed [o, i], scales, zero points -> [o, i]
    return 2 * first(out).numel


@rule("roofline.packed_linear", klass="gemm")
def packed_linear(x: T, stored: list[T], bias: T | None, *_: Any, out: Out, **__: Any) -> Count:
    # [*m, k], packed [n, k] -> [*m, n]
    product = packed_mm(x, out)
    return Cost.of(product, extra=2 * product.n * product.k + (first(out).numel if bias else 0))


# --- operators of bitsandbytes and torchao, by the names that they enter with torch


@rule("bitsandbytes.gemm_4bit", "bitsandbytes.gemv_4bit", klass="gemm")
def linear_4bit(x: T, packed: T, shape: Any, *args: Any, out: Out, bias: Any = None, **__: Any) -> Count:
    # [*m, k], packed [n, k] -> [*m, n]: each weight is looked up (not counted) and scaled
    product = packed_mm(x, out)
    biased = bias if bias is not None else args[3] if len(args) > 3 else None
    return Cost.of(product, extra=product.n * product.k + (first(out).numel if isinstance(biased, T) else 0))


@rule("bitsandbytes.int8_linear_matmul", klass="gemm")
def linear_int8(x: T, weight: T, *_: Any, out: Out, **__: Any) -> Count:
    # [*m, k] int8 @ [n, k] int8 -> [*m, n] int32
    return Cost.of(packed_mm(x, out))


@rule("bitsandbytes.int8_scaled_mm", klass="gemm")
def scaled_int8(x: T, weight: T, rows: T, columns: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Count:
    # [*m, k] int8 @ [n, k] int8, a scale for each row of both -> [*m, n]
    return Cost.of(packed_mm(x, out), extra=first(out).numel * (2 + isinstance(bias, T)))


@rule("bitsandbytes.int8_mixed_scaled_mm", klass="gemm")
def mixed_int8(x: T, *_: Any, out: Out, **__: Any) -> Count:
    # as int8_scaled_mm; the columns that stay floating are not told, and count among the others
    return Cost.of(packed_mm(x, out), extra=2 * first(out).numel)


@rule("bitsandbytes.int8_mm_dequant", "bitsandbytes.int8_vectorwise_dequant", klass="pointwise")
def scaled_back(x: T, *_: Any, out: Out, **__: Any) -> int:
    return 2 * first(out).numel


@rule("bitsandbytes.int8_vectorwise_quant", "bitsandbytes.int8_double_quant", klass="reduction")
def rows_to_int8(x: T, *_: Any, out: Out, **__: Any) -> int:
    # the largest of each row (absolute, compared), then scaled and rounded
    return 4 * x.numel


@rule(
    "bitsandbytes.dequantize_4bit",
    "bitsandbytes.dequantize_blockwise",
    "torchao.dequantize_affine",
    "torchao.dequantize_affine_float8_non_decomposed",
    klass="pointwise",
)
def dequantize_blocks(x: T, *_: Any, out: Out, **__: Any) -> int:
    # the zero point off, scaled
    return 2 * first(out).numel


@rule(
    "bitsandbytes.quantize_4bit",
    "bitsandbytes.quantize_blockwise",
    "torchao.quantize_affine",
    "torchao.quantize_affine_float8_non_decomposed",
    klass="pointwise",
)
def quantize_blocks(x: T, *_: Any, out: Out, **__: Any) -> int:
    # scaled, rounded, shifted, clamped on both sides
    return REQUANTIZE * x.numel


@rule("torchao.choose_qparams_affine", "torchao.choose_scale_float8", klass="reduction")
def ranges(x: T, *_: Any, out: Out, **__: Any) -> int:
    # the least and the most of each block
    return 2 * x.numel
