"""Operators of ONNX and of ONNX Runtime (domain com.microsoft) that PyTorch has no counterpart for. Names are `onnx.X` and
`onnxruntime.X`; sources/onnx translates a node to the arguments that stand in the signatures here.
"""

from __future__ import annotations

from typing import Any

from roofline.cost.attention import around
from roofline.cost.conv import conv_of
from roofline.cost.norm import STATISTICS
from roofline.cost.registry import Cost, first, prod, rule
from roofline.records import TensorSpec
from roofline.shapes import Attention, Gemm

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


@rule("onnx.LRN", klass="norm")
def lrn(x: T, size: int, *_: Any, out: Out, **__: Any) -> int:
    # [n, c, *]: square 1, a window of `size` channels added up, scale and shift 2, power 1, divide 1
    return x.numel * (size - 1 + 5)


@rule("onnx.MeanVarianceNormalization", klass="norm")
def mean_variance(x: T, *_: Any, out: Out, **__: Any) -> int:
    # mean and variance, subtract and divide
    return x.numel * (STATISTICS + 2)


@rule("onnx.LpNormalization", klass="norm")
def lp_normalization(x: T, *_: Any, out: Out, **__: Any) -> int:
    # power, add, divide
    return 3 * x.numel


@rule("onnx.ReduceSumSquare", klass="reduction")
def sum_square(x: T, *_: Any, out: Out, **__: Any) -> int:
    # square, add
    return 2 * x.numel


@rule("onnx.ReduceLogSum", klass="reduction")
def log_sum(x: T, *_: Any, out: Out, **__: Any) -> int:
    # add; a logarithm per result
    return x.numel + first(out).numel


@rule("onnx.Mean", klass="pointwise")
def mean(*tensors: T, out: Out, **_: Any) -> int:
    # the sum of n tensors and a division
    return first(out).numel * len(tensors)


@rule("onnx.Hardmax", klass="reduction")
def hardmax(x: T, *_: Any, out: Out, **__: Any) -> int:
    # the largest of a row, and each beside it
    return 2 * x.numel


@rule("onnx.LpPool", "onnx.GlobalLpPool", klass="pool")
def lp_pool(x: T, taps: int, *_: Any, out: Out, **__: Any) -> int:
    # a power and an add per tap, and a root
    return first(out).numel * (2 * taps + 1)


@rule("onnx.NonMaxSuppression", klass="sort")
def non_max_suppression(boxes: T, scores: T, *_: Any, out: Out, **__: Any) -> int:
    # [b, k, 4], [b, c, k]: at most every pair of a class is compared, 13 each as in torchvision's nms
    b, c, k = scores.shape
    return 13 * b * c * (k * (k - 1) // 2)


@rule("onnx.RotaryEmbedding", "onnxruntime.RotaryEmbedding", klass="pointwise")
def rotary(x: T, rotated: int, *_: Any, out: Out, **__: Any) -> int:
    # of each head `rotated` elements in pairs: x cos - y sin, y cos + x sin
    return 3 * rotated


# ------------------------------------------------------------------------------------------------ ONNX Runtime's


@rule("onnxruntime.FusedConv", klass="conv")
def fused_conv(x: T, w: T, stride: list[int], groups: int, weight: int, *_: Any, out: Out, **__: Any) -> Cost:
    # [n, c, *i], [o, c/g, *k] -> [n, o, *j]; a bias, a summand and an activation are `weight` FLOPs for each result
    y = first(out)
    return Cost.of(conv_of(x, w, y, stride, groups), extra=weight * y.numel)


@rule(
    "onnxruntime.BiasGelu",
    "onnxruntime.FastGelu",
    "onnxruntime.QuickGelu",
    "onnxruntime.BiasAdd",
    "onnxruntime.BiasDropout",
    "onnxruntime.BiasSplitGelu",
    "onnxruntime.QLinearAdd",
    "onnxruntime.QLinearMul",
    "onnxruntime.QLinearSigmoid",
    "onnxruntime.QLinearLeakyRelu",
    "onnxruntime.QLinearConcat",
    "onnxruntime.QLinearWhere",
    klass="pointwise",
)
def pointwise(weight: int, *_: Any, out: Out, **__: Any) -> int:
    # several element-wise operators in one kernel, of `weight` FLOPs together
    return first(out).numel * weight


@rule(
    "onnxruntime.SkipLayerNormalization",
    "onnxruntime.SkipSimplifiedLayerNormalization",
    "onnxruntime.EmbedLayerNormalization",
    "onnxruntime.GroupNorm",
    "onnxruntime.SkipGroupNorm",
    klass="norm",
)
def norm(weight: int, *_: Any, out: Out, **__: Any) -> int:
    # a norm with what is added before it
    return first(out).numel * weight


@rule("onnxruntime.BiasSoftmax", "onnxruntime.QLinearSoftmax", klass="softmax")
def softmax(weight: int, *_: Any, out: Out, **__: Any) -> int:
    return first(out).numel * weight


@rule("onnxruntime.QLinearAveragePool", "onnxruntime.QLinearGlobalAveragePool", "onnxruntime.QLinearReduceMean", klass="pool")
def pool(x: T, weight: int, *_: Any, out: Out, **__: Any) -> int:
    # an add for each element of a window, and `weight` FLOPs for each result
    return x.numel + first(out).numel * weight


@rule(
    "onnxruntime.FusedMatMul",
    "onnxruntime.FusedGemm",
    "onnxruntime.MatMulIntegerToFloat",
    "onnxruntime.DynamicQuantizeMatMul",
    "onnxruntime.QGemm",
    "onnxruntime.GemmFastGelu",
    "onnxruntime.FusedMatMulActivation",
    klass="gemm",
)
def product(x: T, w: T, weight: int, before: int = 0, *_: Any, out: Out, **__: Any) -> Cost:
    # [*b, m, k] @ [*b, k, n]; `weight` FLOPs for each result, `before` for each element of x
    y = first(out)
    b = prod(w.shape[:-2])
    rows = y.numel // max(y.shape[-1] * b, 1)
    return Cost.of(Gemm(b, rows, y.shape[-1], w.shape[-2]), extra=weight * y.numel + before * x.numel)


@rule("onnxruntime.MatMulNBits", "onnxruntime.MatMulBnb4", klass="gemm")
def packed_product(x: T, weights: int, k: int, n: int, *_: Any, out: Out, **__: Any) -> Cost:
    # [*m, k] @ blocks of low bits [n, k]; each of the weights is unpacked once: scale and zero point
    return Cost.of(Gemm(1, x.numel // max(k, 1), n, k), extra=2 * weights)


@rule(
    "onnxruntime.MultiHeadAttention",
    "onnxruntime.DecoderMaskedMultiHeadAttention",
    "onnxruntime.GroupQueryAttention",
    klass="attention",
)
def attention(q: T, k: T, v: T, masked: bool, biases: int, causal: bool, *_: Any, out: Out, **__: Any) -> Cost:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v], as the kernel sees them: with the cache, biases added
    a = _of(q, k, v, causal)
    return Cost.of(a, extra=around(a, masked, 0.0) + biases)


def _of(q: T, k: T, v: T, causal: bool) -> Attention:
    b, h, length, e = q.shape
    return Attention(b, h, k.shape[1], length, k.shape[2], e, v.shape[-1], causal)


@rule("onnxruntime.Attention", "onnxruntime.QAttention", "onnxruntime.DecoderMaskedSelfAttention", klass="attention")
def projected_attention(x: T, w: T, q: T, k: T, v: T, masked: bool, causal: bool, *_: Any, out: Out, **__: Any) -> Cost:
    # [b, l, d] @ [d, 3 h e] and a bias, then attention
    inner = _of(q, k, v, causal)
    rows = prod(x.shape[:-1])
    before = Gemm(1, rows, w.shape[1], w.shape[0])
    return Cost.of(inner, before, extra=around(inner, masked, 0.0) + rows * w.shape[1], whole=inner)


@rule("onnxruntime.MoE", "onnxruntime.QMoE", klass="gemm")
def experts(x: T, per_token: int, width: int, hidden: int, products: int, *_: Any, out: Out, **__: Any) -> Cost:
    # every token meets `per_token` experts: [h, f] once or twice, an activation, [f, h]; and their results weighed
    tokens = x.numel // max(width, 1)
    rows = tokens * per_token
    into, back = Gemm(1, rows, hidden, width), Gemm(1, rows, width, hidden)
    return Cost.of(*[into] * (products - 1), back, extra=rows * (4 * hidden + 2 * width))
