"""ONNX operators by the names of their ATen counterparts, where they mean the same: one table of cost rules serves both.

What has no counterpart keeps a name of its own (`onnx.X`), which no rule knows. Imports neither torch nor onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from roofline.records import TensorSpec

# Element by element: ONNX name -> ATen name.
POINTWISE = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Mod": "remainder", "Max": "maximum",
    "Min": "minimum", "Neg": "neg", "Abs": "abs", "Sign": "sign", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Exp": "exp",
    "Log": "log", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh",
    "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Tanh": "tanh", "Erf": "erf", "Floor": "floor",
    "Ceil": "ceil", "Round": "round", "Relu": "relu", "Sigmoid": "sigmoid", "LeakyRelu": "leaky_relu", "PRelu": "prelu",
    "Elu": "elu", "Selu": "selu", "Celu": "celu", "Gelu": "gelu", "Mish": "mish", "HardSwish": "hardswish",
    "HardSigmoid": "hardsigmoid", "Softplus": "softplus", "Softsign": "softsign", "ThresholdedRelu": "threshold",
    "Clip": "clamp", "Swish": "silu", "Where": "where", "Not": "logical_not", "And": "logical_and", "Or": "logical_or",
    "Xor": "logical_xor", "Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge",
    "IsNaN": "isnan", "IsInf": "isinf", "BitShift": "bitwise_left_shift", "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor", "BitwiseNot": "bitwise_not",
}  # fmt: skip
_REDUCE = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "amax",
    "ReduceMin": "amin",
    "ReduceProd": "prod",
    "ReduceL1": "norm",
    "ReduceL2": "linalg_vector_norm",
    "ReduceLogSumExp": "logsumexp",
    "ArgMax": "argmax",
    "ArgMin": "argmin",
}
# The result is the input under another shape: no byte moves.
VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Size", "ExpandDims", "BitCast"}
# Inputs that say how, and are no weights, though they may be tensors of floating numbers.
SAID: dict[str, tuple[int, ...]] = {
    "Resize": (1, 2, 3),
    "Upsample": (1, 2),
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "OneHot": (1, 2),
    "Range": (0, 1, 2),
    "NonMaxSuppression": (2, 3, 4),
    "Dropout": (1, 2),
    "TopK": (1,),
    "Expand": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
}
# They move what they are given: ONNX tensors are row-major, so a transpose is a copy.
_COPIES = {
    "Transpose": "permute_copy", "Slice": "slice_copy", "Split": "split_copy", "Expand": "expand_copy", "Tile": "repeat",
    "Pad": "constant_pad_nd", "Cast": "_to_copy", "CastLike": "_to_copy", "Concat": "cat",
    "SpaceToDepth": "pixel_unshuffle", "DepthToSpace": "pixel_shuffle", "Trilu": "tril", "ReverseSequence": "flip",
    "ConstantOfShape": "full", "Range": "arange", "OneHot": "one_hot", "EyeLike": "eye", "Compress": "masked_select",
    "NonZero": "nonzero", "Col2Im": "col2im", "CenterCropPad": "slice_copy", "CumProd": "cumprod", "Det": "det",
    "RandomNormal": "randn", "RandomNormalLike": "randn_like", "RandomUniform": "rand", "RandomUniformLike": "rand_like",
}  # fmt: skip


class Call(NamedTuple):
    """A node as its translation sees it."""

    kind: str
    attributes: dict[str, Any]
    inputs: list[TensorSpec | None]
    outputs: list[TensorSpec]

    def given(self, i: int) -> TensorSpec | None:
        return self.inputs[i] if i < len(self.inputs) else None


# ATen's name and positional arguments
Translation = tuple[str, list[Any]]


def translate(call: Call) -> Translation:
    """ATen's name and arguments for a node, or a name of its own (`onnx.X`), which no rule knows."""
    special = _SPECIAL.get(call.kind)
    if special is not None:
        return special(call)
    for table in (POINTWISE, _COPIES):
        if call.kind in table:
            if call.kind == "Concat":
                return "aten.cat", [list(call.inputs)]
            return f"aten.{table[call.kind]}", list(call.inputs)
    if call.kind in _REDUCE:
        return f"aten.{_REDUCE[call.kind]}", [call.inputs[0]]
    if call.kind in VIEWS:
        return "aten.view", [call.inputs[0]]
    return f"onnx.{call.kind}", list(call.inputs)


def _shape(t: TensorSpec | None) -> tuple[int, ...]:
    return t.shape if t is not None else ()


def _conv(call: Call) -> Translation:
    n, a = len(call.outputs[0].shape) - 2, call.attributes
    geometry = [a.get("strides", [1] * n), a.get("pads", [0] * 2 * n)[:n]]
    groups, dilations = a.get("group", 1), a.get("dilations", [1] * n)
    x, w, bias = call.inputs[0], call.inputs[1], call.given(2)
    if call.kind == "ConvTranspose":
        return f"aten.conv_transpose{n}d", [x, w, bias, *geometry, [0] * n, groups, dilations]
    return f"aten.conv{n}d", [x, w, bias, *geometry, dilations, groups]


def _gemm(call: Call) -> Translation:
    def turned(t: TensorSpec | None, flag: str) -> TensorSpec | None:
        if t is None or not call.attributes.get(flag):
            return t
        return TensorSpec((t.shape[1], t.shape[0]), t.dtype, (1, t.shape[1]))

    a, b, c = turned(call.inputs[0], "transA"), turned(call.inputs[1], "transB"), call.given(2)
    return ("aten.mm", [a, b]) if c is None else ("aten.addmm", [c, a, b])


def _pool(name: str) -> Callable[[Call], Translation]:
    def renamed(call: Call) -> Translation:
        n, a = len(call.outputs[0].shape) - 2, call.attributes
        return f"aten.{name}{n}d", [call.inputs[0], a.get("kernel_shape", [1] * n), a.get("strides", [1] * n)]

    return renamed


def _global(name: str) -> Callable[[Call], Translation]:
    def renamed(call: Call) -> Translation:
        n = len(call.outputs[0].shape) - 2
        return f"aten.{name}{n}d", [call.inputs[0], [1] * n]

    return renamed


def _layer_norm(call: Call) -> Translation:
    x = _shape(call.inputs[0])
    width = list(x[call.attributes.get("axis", -1) :])
    name = "aten.rms_norm" if call.kind in ("RMSNormalization", "SimplifiedLayerNormalization") else "aten.layer_norm"
    return name, [call.inputs[0], width, call.given(1), *([call.given(2)] if name == "aten.layer_norm" else [])]


def _rnn(name: str) -> Callable[[Call], Translation]:
    def renamed(call: Call) -> Translation:
        # ONNX stacks directions: W [d, gates h, i], R [d, gates h, h], B [d, 2 gates h]; x is [t, b, i] (layout 0)
        x, w, r, b = (*call.inputs, None, None)[:4]
        assert x is not None
        assert w is not None
        assert r is not None
        directions = w.shape[0]
        params = []
        for _ in range(directions):
            params += [TensorSpec(w.shape[1:], w.dtype), TensorSpec(r.shape[1:], r.dtype)]
            if b is not None:
                params += [TensorSpec((b.shape[1] // 2,), b.dtype)] * 2
        batch = x.shape[0] if call.attributes.get("layout") else x.shape[1]
        state = TensorSpec((directions, batch, r.shape[-1]), x.dtype)
        return f"aten.{name}", [x, [state], params, b is not None, 1, 0.0, False, directions == 2]

    return renamed


def _gather(call: Call) -> Translation:
    if call.kind == "GatherElements":
        return "aten.gather", [call.inputs[0], call.attributes.get("axis", 0), call.inputs[1]]
    return "aten.index_select", [call.inputs[0], call.attributes.get("axis", 0), call.inputs[1]]


def _resize(call: Call) -> Translation:
    n = len(call.outputs[0].shape) - 2
    mode = call.attributes.get("mode", b"nearest").decode()
    linear = {1: "upsample_linear", 2: "upsample_bilinear", 3: "upsample_trilinear"}
    names = {"nearest": "upsample_nearest", "linear": linear.get(n, ""), "cubic": "upsample_bicubic"}
    return f"aten.{names.get(mode, mode)}{n}d", [call.inputs[0], list(call.outputs[0].shape[2:])]


def _topk(call: Call) -> Translation:
    axis = call.attributes.get("axis", -1)
    return "aten.topk", [call.inputs[0], call.outputs[0].shape[axis], axis]


def _attention(call: Call) -> Translation:
    q, k, v = call.inputs[:3]
    heads = call.attributes.get("q_num_heads"), call.attributes.get("kv_num_heads")

    def split(t: TensorSpec | None, h: int | None) -> TensorSpec | None:
        if t is None or len(t.shape) == 4 or not h:
            return t
        b, length, width = t.shape
        return TensorSpec((b, h, length, width // h), t.dtype)

    return "aten.scaled_dot_product_attention", [split(q, heads[0]), split(k, heads[1]), split(v, heads[1]), call.given(3)]


def _quantized_conv(call: Call) -> Translation:
    # QLinearConv: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias; ConvInteger: x, w, x_zero, w_zero
    weight, bias = (call.inputs[3], call.given(8)) if call.kind == "QLinearConv" else (call.inputs[1], None)
    return f"quantized.conv{len(_shape(weight)) - 2}d", [call.inputs[0], [weight, bias]]


def _grid_sample(call: Call) -> Translation:
    modes = {b"linear": 0, b"bilinear": 0, b"nearest": 1, b"cubic": 2, b"bicubic": 2}
    return "aten.grid_sampler", [*call.inputs[:2], modes[call.attributes.get("mode", b"linear")]]


def _lp_pool(call: Call) -> Translation:
    window = call.attributes["kernel_shape"] if call.kind == "LpPool" else _shape(call.inputs[0])[2:]
    return f"onnx.{call.kind}", [call.inputs[0], math.prod(window)]


def _rotary(call: Call) -> Translation:
    (x, *_), part, heads = call.inputs, call.attributes.get("rotary_embedding_dim", 0), call.attributes.get("num_heads", 0)
    assert x is not None
    width = x.shape[-1] // heads if heads and len(x.shape) == 3 else x.shape[-1]
    return "onnx.RotaryEmbedding", [x, x.numel * part // width if part else x.numel]


def _deformed(call: Call) -> Translation:
    x, weight, offset, bias, mask = (*call.inputs, None, None)[:5]
    a, n = call.attributes, 2
    stride, dilation = a.get("strides", [1] * n), a.get("dilations", [1] * n)
    geometry = [*stride, *a.get("pads", [0] * 2 * n)[:n], *dilation, a.get("group", 1), a.get("offset_group", 1)]
    return "torchvision.deform_conv2d", [x, weight, offset, mask, bias, *geometry, mask is not None]


def _quantized_matmul(call: Call) -> Translation:
    return "quantized.matmul", [call.inputs[0], call.inputs[3] if call.kind == "QLinearMatMul" else call.inputs[1]]


_SPECIAL: dict[str, Callable[[Call], Translation]] = {
    "Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm,
    "MatMul": lambda c: ("aten.matmul", c.inputs[:2]),
    "Einsum": lambda c: ("aten.einsum", [c.attributes["equation"].decode(), list(c.inputs)]),
    "BatchNormalization": lambda c: ("aten.batch_norm", [*c.inputs[:5], False, 0.0, 1e-5, False]),
    "InstanceNormalization": lambda c: ("aten.instance_norm", [*c.inputs[:3], None, None, True, 0.0, 1e-5, False]),
    "GroupNormalization": lambda c: ("aten.group_norm", [c.inputs[0], c.attributes.get("num_groups", 1), *c.inputs[1:3]]),
    "LayerNormalization": _layer_norm, "RMSNormalization": _layer_norm, "SimplifiedLayerNormalization": _layer_norm,
    "MaxPool": _pool("max_pool"), "AveragePool": _pool("avg_pool"),
    "GlobalAveragePool": _global("adaptive_avg_pool"), "GlobalMaxPool": _global("adaptive_max_pool"),
    "Softmax": lambda c: ("aten.softmax", [c.inputs[0], c.attributes.get("axis", -1)]),
    "LogSoftmax": lambda c: ("aten.log_softmax", [c.inputs[0], c.attributes.get("axis", -1)]),
    "LSTM": _rnn("lstm"), "GRU": _rnn("gru"), "RNN": _rnn("rnn_tanh"),
    "Gather": _gather, "GatherElements": _gather,
    "GatherND": lambda c: ("aten.index", [c.inputs[0], [c.inputs[1]]]),
    "ScatterND": lambda c: ("aten.index_put", [c.inputs[0], [c.inputs[1]], c.inputs[2]]),
    "ScatterElements": lambda c: ("aten.scatter", [c.inputs[0], c.attributes.get("axis", 0), c.inputs[1], c.inputs[2]]),
    "Resize": _resize, "Upsample": _resize,
    "TopK": _topk,
    "CumSum": lambda c: ("aten.cumsum", [c.inputs[0], 0]),
    "Sum": lambda c: ("aten.sum", [c.inputs[0]]) if len(c.inputs) == 1 else ("aten.add", c.inputs),
    "Attention": _attention,
    "RoiAlign": lambda c: ("torchvision.roi_align", [c.inputs[0], c.inputs[1], c.attributes.get("spatial_scale", 1.0),
                           c.attributes.get("output_height", 1), c.attributes.get("output_width", 1),
                           c.attributes.get("sampling_ratio", 0), False]),
    "QuantizeLinear": lambda c: ("aten.quantize_per_tensor", c.inputs),
    "DequantizeLinear": lambda c: ("aten.dequantize", c.inputs),
    "QLinearConv": _quantized_conv, "ConvInteger": _quantized_conv, "QLinearMatMul": _quantized_matmul,
    "MatMulInteger": _quantized_matmul,
    "DynamicQuantizeLinear": lambda c: ("aten.quantize_per_tensor_dynamic", [c.inputs[0]]),
    "LRN": lambda c: ("onnx.LRN", [c.inputs[0], c.attributes["size"]]),
    "Shrink": lambda c: ("aten.softshrink", [c.inputs[0]]),
    "GridSample": _grid_sample, "LpPool": _lp_pool, "GlobalLpPool": _lp_pool, "RotaryEmbedding": _rotary,
    "DeformConv": _deformed,
    "AffineGrid": lambda c: ("aten.affine_grid_generator", [c.inputs[0], []]),
    "MaxUnpool": lambda c: (f"aten.max_unpool{len(c.outputs[0].shape) - 2}d", c.inputs[:2]),
    "Scatter": lambda c: ("aten.scatter", [c.inputs[0], c.attributes.get("axis", 0), c.inputs[1], c.inputs[2]]),
    "TensorScatter": lambda c: ("aten.index_put", [c.inputs[0], [], c.inputs[1]]),
    "Unique": lambda c: ("aten._unique2", c.inputs[:1]),
    "Inverse": lambda c: ("aten.linalg_inv", c.inputs[:1]),
}  # fmt: skip
