"""Operators that ONNX Runtime adds (domain com.microsoft) and those of its own in ONNX's domain: the shapes of their results,
and their names and arguments for the cost rules (`roofline.cost.onnx`).

An operator of any other domain is the file's own, whatever it is called: no rule of ours is for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx

from roofline.errors import SourceError
from roofline.records import TensorSpec
from roofline.sources.onnx.known import Known

DOMAIN = "com.microsoft"
T = TensorSpec
Ins = Sequence[TensorSpec | None]
# Names that ONNX Runtime's own domain shares with ONNX's, with the same meaning.
SHARED = frozenset({
    "DequantizeLinear", "Gelu", "GridSample", "Irfft", "Pad", "Range", "Rfft", "Trilu", "QuantizeLinear", "Unique",
    "DynamicQuantizeLinear", "SimplifiedLayerNormalization", "LayerNormalization", "RMSNormalization", "Inverse", "ExpandDims",
    "QLinearConv", "MatMulInteger", "ConvInteger",
})  # fmt: skip
_ACTIVATIONS = {"": 0, "Relu": 1, "Sigmoid": 3, "Tanh": 1, "LeakyRelu": 2, "Clip": 2, "HardSigmoid": 4, "Gelu": 5}


class Node(NamedTuple):
    """A node as a rule here sees it."""

    kind: str
    attributes: dict[str, Any]
    inputs: Ins

    def given(self, i: int) -> T | None:
        return self.inputs[i] if i < len(self.inputs) else None

    def need(self, i: int) -> T:
        found = self.given(i)
        if found is None:
            raise LookupError(f"its input {i} is missing")
        return found


def shapes(node: onnx.NodeProto, known: Known) -> dict[str, T] | None:
    """What the node's results are, by name; None where it is not one of these. Raises SourceError for one that cannot be."""
    standard = node.domain in ("", "ai.onnx")
    if node.domain == DOMAIN and node.op_type == "FusedConv":
        plain = onnx.NodeProto(op_type="Conv", input=node.input[:3], output=node.output)
        plain.attribute.extend(node.attribute)
        return known.inferred(plain)
    rule = _ALIKE.get(node.op_type) if standard or node.domain == DOMAIN else None
    if rule is None and node.domain == DOMAIN:
        rule = _RULES.get(node.op_type)
    if rule is None:
        return None
    ins = [known.specs.get(n) for n in node.input]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    try:
        results = rule(Node(node.op_type, attributes, ins), [known.constants.get(n) for n in node.input])
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise SourceError(
            f"{known.where}: its shapes do not agree: node {node.name!r} ({node.op_type}): {type(error).__name__}: {error}"
        ) from error
    return {name: spec for name, spec in zip(node.output, results, strict=False) if name and spec is not None}


Results = Sequence[T | None]
Rule = Callable[[Node, Sequence[Any]], Results]


def _like(i: int = 0) -> Rule:
    return lambda n, _: [n.need(i)]


def _broadcast(*places: int) -> Rule:
    def rule(n: Node, _: Sequence[Any]) -> Results:
        return [T(np.broadcast_shapes(*(n.need(i).shape for i in places)), n.need(places[0]).dtype)]

    return rule


def _matmul(a: int, b: int, dtype: str = "") -> Rule:
    def rule(n: Node, _: Sequence[Any]) -> Results:
        x, w = _turned(n, a, "transA", "transBatchA"), _turned(n, b, "transB", "transBatchB")
        if len(x.shape) < 2 or len(w.shape) < 2 or x.shape[-1] != w.shape[-2]:
            raise ValueError(f"a product of {x.shape} and {w.shape}")
        batch = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
        return [T((*batch, x.shape[-2], w.shape[-1]), dtype or x.dtype)]

    return rule


def _turned(n: Node, i: int, flag: str, batch: str) -> T:
    t = n.need(i)
    if n.attributes.get(batch):  # the first axis comes before the last two
        t = T((*t.shape[1:-1], t.shape[0], t.shape[-1]), t.dtype)
    return T((*t.shape[:-2], t.shape[-1], t.shape[-2]), t.dtype) if n.attributes.get(flag) else t


def _skip_norm(n: Node, _: Sequence[Any]) -> Results:
    x = n.need(0)
    one = T((*x.shape[:-1], 1), "float32")
    return [x, one, one, x]


def _embed_norm(n: Node, _: Sequence[Any]) -> Results:
    ids, words = n.need(0), n.need(2)
    whole = T((*ids.shape, words.shape[-1]), words.dtype)
    return [whole, T(ids.shape[:1], "int32"), whole]


class Attended(NamedTuple):
    """What an attention kernel multiplies: [b, heads, length, width] each, the cache with the keys and values."""

    q: T
    k: T
    v: T
    # elements that get a bias before
    biases: int = 0


def attended(n: Node) -> Attended:
    """The operands of attention inside a node. Raises LookupError or ValueError for shapes that none has."""
    h = n.attributes.get("num_heads") or 1
    x = n.need(0)
    if n.kind in ("Attention", "QAttention", "DecoderMaskedSelfAttention"):
        b, length = x.shape[0], x.shape[1]
        sizes = n.attributes.get("qkv_hidden_sizes") or [n.need(1).shape[-1] // 3] * 3
        past = n.given({"Attention": 4, "QAttention": 8}.get(n.kind, 4))
        s = length + (past.shape[3] if past is not None and not n.attributes.get("past_present_share_buffer") else 0)
        q, k, v = (T((b, h, rows, size // h), x.dtype) for rows, size in zip((length, s, s), sizes, strict=True))
        return Attended(q, k, v)
    if n.kind == "GroupQueryAttention":
        kv = n.attributes.get("kv_num_heads") or h
        b, length, width = x.shape
        e = width // (h if n.given(1) is not None else h + 2 * kv)
        past = n.given(3)
        s = length + (past.shape[2] if past is not None else 0)
        cached = T((b, kv, s, e), x.dtype)
        return Attended(T((b, h, length, e), x.dtype), cached, cached)
    return _multi_head(n, x, h)


def _multi_head(n: Node, x: T, h: int) -> Attended:
    key, value, bias = n.given(1), n.given(2), n.given(3)
    if len(x.shape) == 5:  # [b, l, heads, 3, e]
        b, length, h, _, e = x.shape
        parts = [T((b, h, length, e), x.dtype)] * 3
    else:
        b, length, width = x.shape
        q = T((b, h, length, width // h), x.dtype)
        if key is None:
            raise LookupError("its key is missing")
        if len(key.shape) == 5:  # [b, s, heads, 2, e]
            k = v = T((b, h, key.shape[1], key.shape[-1]), x.dtype)
        else:
            k = key if len(key.shape) == 4 else T((b, h, key.shape[1], key.shape[2] // h), x.dtype)
            if value is None:
                raise LookupError("its value is missing")
            v = value if len(value.shape) == 4 else T((b, h, value.shape[1], value.shape[2] // h), x.dtype)
        parts = [q, k, v]
    biases = sum(p.numel for p in parts) if bias is not None else 0
    q, k, v = parts
    past = n.given(6) if n.kind == "MultiHeadAttention" else n.given(5)
    if past is not None:
        k, v = (T((p.shape[0], p.shape[1], p.shape[2] + past.shape[2], p.shape[3]), p.dtype) for p in (k, v))
    return Attended(q, k, v, biases)


def _attention(n: Node, _: Sequence[Any]) -> Results:
    a, x = attended(n), n.need(0)
    result = T((a.q.shape[0], a.q.shape[2], a.q.shape[1] * a.v.shape[3]), x.dtype)
    if n.kind in ("Attention", "QAttention", "DecoderMaskedSelfAttention"):
        return [result, T((2, *a.k.shape), x.dtype)]
    return [result, a.k, a.v]


def _packed(n: Node, _: Sequence[Any]) -> Results:
    x = n.need(0)
    return [T((*x.shape[:-1], n.attributes["N"]), x.dtype)]


def _gemm(dtype: str = "") -> Rule:
    def rule(n: Node, _: Sequence[Any]) -> Results:
        b = 3 if n.kind == "QGemm" else 1
        x, w = _turned(n, 0, "transA", ""), _turned(n, b, "transB", "")
        return [T((x.shape[0], w.shape[1]), dtype if n.kind == "QGemm" and n.given(8) is None else x.dtype)]

    return rule


def _pooled(n: Node, _: Sequence[Any]) -> Results:
    x, last = n.need(0), bool(n.attributes.get("channels_last"))
    size = x.shape[1:-1] if last else x.shape[2:]
    if n.kind == "QLinearGlobalAveragePool":
        out = [1] * len(size)
    else:
        a, d = n.attributes, len(size)
        pads, strides, kernel = a.get("pads", [0] * 2 * d), a.get("strides", [1] * d), a["kernel_shape"]
        if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
            return []
        up = a.get("ceil_mode", 0)
        out = [
            -(-(i + pads[j] + pads[j + d] - k) // s) + 1 if up else (i + pads[j] + pads[j + d] - k) // s + 1
            for j, (i, k, s) in enumerate(zip(size, kernel, strides, strict=True))
        ]
    return [T((x.shape[0], *out, x.shape[-1]) if last else (*x.shape[:2], *out), x.dtype)]


def _concat(n: Node, _: Sequence[Any]) -> Results:
    parts = [n.need(i) for i in range(2, len(n.inputs), 3)]
    axis = n.attributes["axis"] % len(parts[0].shape)
    size = sum(p.shape[axis] for p in parts)
    return [T((*parts[0].shape[:axis], size, *parts[0].shape[axis + 1 :]), parts[0].dtype)]


def _split_gelu(n: Node, _: Sequence[Any]) -> Results:
    x = n.need(0)
    return [T((*x.shape[:-1], x.shape[-1] // 2), x.dtype)]


def _expand_dims(n: Node, values: Sequence[Any]) -> Results:
    x = n.need(0)
    if values[1] is None:
        return []
    axis = int(np.ravel(values[1])[0]) % (len(x.shape) + 1)
    return [T((*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)]


def _gathered(n: Node, _: Sequence[Any]) -> Results:
    data, ids, scales = n.need(0), n.need(1), n.need(2)
    axis = n.attributes.get("gather_axis", 0) % len(data.shape)
    # two nibbles are one element of bytes
    each = 8 // n.attributes.get("bits", 4) if data.dtype == "uint8" else 1
    shape = [*data.shape[:-1], data.shape[-1] * each]
    return [T((*shape[:axis], *ids.shape, *shape[axis + 1 :]), scales.dtype)]


def _quantized(n: Node, _: Sequence[Any]) -> Results:
    x, zero = n.need(0), n.given(2)
    if n.kind == "DequantizeLinear":
        return [T(x.shape, n.need(1).dtype)]
    one = T((), "uint8")
    if n.kind == "DynamicQuantizeLinear":
        return [T(x.shape, "uint8"), T((), "float32"), one]
    return [T(x.shape, zero.dtype if zero is not None else "uint8")]


# Under these names in ONNX's domain too: onnx does not know them, or has no rule for their shapes.
_ALIKE: dict[str, Rule] = {
    "SimplifiedLayerNormalization": _like(),
    "GroupNormalization": _like(),
    "MeanVarianceNormalization": _like(),
}
_RULES: dict[str, Rule] = {
    "SkipLayerNormalization": _skip_norm, "SkipSimplifiedLayerNormalization": _skip_norm,
    "EmbedLayerNormalization": _embed_norm, "GroupNorm": _like(), "SkipGroupNorm": lambda n, _: [n.need(0)] * 2,
    "LayerNormalization": _like(), "RMSNormalization": _like(),
    "Gelu": _like(), "BiasGelu": _broadcast(0, 1), "FastGelu": _like(), "QuickGelu": _like(), "BiasSplitGelu": _split_gelu,
    "BiasAdd": _like(), "BiasDropout": _like(), "BiasSoftmax": _like(), "QLinearSoftmax": _like(), "Inverse": _like(),
    "Trilu": _like(), "ExpandDims": _expand_dims, "RotaryEmbedding": _like(),
    "FusedMatMul": _matmul(0, 1), "FusedMatMulActivation": _matmul(0, 1), "TransposeMatMul": _matmul(0, 1),
    "MatMulIntegerToFloat": lambda n, v: _matmul(0, 1, n.need(2).dtype)(n, v), "DynamicQuantizeMatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1, "int32"), "FusedGemm": _gemm(), "QGemm": _gemm("float32"), "GemmFastGelu": _matmul(0, 1),
    "MatMulNBits": _packed, "MatMulBnb4": _packed, "GatherBlockQuantized": _gathered,
    "Attention": _attention, "QAttention": _attention, "DecoderMaskedSelfAttention": _attention,
    "MultiHeadAttention": _attention, "DecoderMaskedMultiHeadAttention": _attention, "GroupQueryAttention": _attention,
    "MoE": _like(), "QMoE": _like(),
    "QLinearAdd": _broadcast(0, 3), "QLinearMul": _broadcast(0, 3), "QLinearSigmoid": _like(), "QLinearLeakyRelu": _like(),
    "QLinearConcat": _concat, "QLinearAveragePool": _pooled, "QLinearGlobalAveragePool": _pooled,
    "QuantizeLinear": _quantized, "DequantizeLinear": _quantized, "DynamicQuantizeLinear": _quantized,
}  # fmt: skip

# ------------------------------------------------------------------------------------------------ costs


def translate(n: Node, outputs: Sequence[T]) -> tuple[str, list[Any]] | None:
    """Name and arguments for the cost rules; None where there is no rule."""
    kind, ins = n.kind, list(n.inputs)
    name = f"onnxruntime.{kind}"
    if kind in _WEIGHTS:
        return name, [_WEIGHTS[kind](n), *ins]
    if kind in ("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"):
        extra = (n.attributes.get("alpha", 1.0) != 1.0) + _activation(n)
        name = "onnxruntime.FusedMatMul" if kind == "TransposeMatMul" else name
        return name, [_turned(n, 0, "transA", "transBatchA"), _turned(n, 1, "transB", "transBatchB"), extra]
    if kind == "FusedConv":
        extra = sum(n.given(i) is not None for i in (2, 3)) + _activation(n)
        w = n.need(1)
        strides = n.attributes.get("strides", [1] * (len(w.shape) - 2))
        return name, [n.need(0), w, strides, n.attributes.get("group", 1), extra]
    if kind in ("FusedGemm", "GemmFastGelu"):
        gelu = 9 if kind == "GemmFastGelu" else _activation(n)
        return name, [_turned(n, 0, "transA", ""), _turned(n, 1, "transB", ""), (n.given(2) is not None) + gelu]
    if kind == "QGemm":
        return name, [n.need(0), _turned(n, 3, "transB", ""), 5 + (n.given(6) is not None)]
    if kind == "MatMulIntegerToFloat":  # the product scaled
        return name, [n.need(0), n.need(1), 1 + (n.given(6) is not None)]
    if kind == "DynamicQuantizeMatMul":  # and x quantised before
        return name, [n.need(0), n.need(1), 1 + (n.given(4) is not None), 7]
    if kind in ("MatMulNBits", "MatMulBnb4"):
        k, width = n.attributes["K"], n.attributes["N"]
        return name, [n.need(0), k * width, k, width]
    if kind in ("QLinearAveragePool", "QLinearGlobalAveragePool"):
        return name, [n.need(0), 1 + 5]
    if kind == "RotaryEmbedding":
        x, part = n.need(0), n.attributes.get("rotary_embedding_dim") or 0
        heads = n.attributes.get("num_heads") or 0
        width = x.shape[-1] // heads if heads and len(x.shape) == 3 else x.shape[-1]
        return name, [x, x.numel * part // width if part else x.numel]
    if kind in ("MoE", "QMoE"):
        x, w = n.need(0), n.need(2)
        packed = 8 // n.attributes.get("expert_weight_bits", 4) if kind == "QMoE" else 1
        hidden = w.shape[-1] * packed if w.shape[1] == x.shape[-1] else w.shape[1]
        return name, [x, n.attributes.get("k", 1), x.shape[-1], hidden, 3 if n.given(6) is not None else 2]
    if kind in ("Attention", "QAttention", "DecoderMaskedSelfAttention"):
        a, mask = attended(n), n.given({"QAttention": 5}.get(kind, 3))
        return name, [n.need(0), n.need(1), a.q, a.k, a.v, mask is not None, bool(n.attributes.get("unidirectional"))]
    if kind in ("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", "GroupQueryAttention"):
        a = attended(n)
        grouped = kind == "GroupQueryAttention"
        masked = not grouped and (n.given(4) is not None or n.given(5) is not None)
        return name, [a.q, a.k, a.v, masked, a.biases, grouped or bool(n.attributes.get("unidirectional"))]
    if kind == "GatherBlockQuantized":
        return "quantized.embedding_4bit", [n.need(0), n.need(1)]
    return None


def _activation(n: Node) -> int:
    return _ACTIVATIONS.get(n.attributes.get("activation", b"").decode(), 1)


def _norm(n: Node) -> int:
    # what is added before; statistics and scaling as the plain norms have them; weight and bias
    plain = n.kind == "SkipLayerNormalization"
    weights = [n.given(2), n.given(3) if plain else None]
    return 1 + (n.given(4 if plain else 3) is not None) + (6 if plain else 3) + sum(w is not None for w in weights)


_WEIGHTS: dict[str, Callable[[Node], int]] = {
    "SkipLayerNormalization": _norm,
    "SkipSimplifiedLayerNormalization": _norm,
    "EmbedLayerNormalization": lambda n: 1 + (n.given(4) is not None) + 8,
    "GroupNorm": lambda n: 6 + 4 * bool(n.attributes.get("activation")),
    "SkipGroupNorm": lambda n: 7 + (n.given(4) is not None) + 4 * bool(n.attributes.get("activation")),
    "BiasGelu": lambda n: 1 + 5,
    "FastGelu": lambda n: 9 + (n.given(1) is not None),
    "QuickGelu": lambda n: 2 + 3,
    "BiasAdd": lambda n: 2,
    "BiasDropout": lambda n: 1 + (n.given(2) is not None),
    "BiasSplitGelu": lambda n: 2 + 5 + 1,
    "BiasSoftmax": lambda n: 1 + 5,
    "QLinearSoftmax": lambda n: 2 + 5 + 5,
    "QLinearAdd": lambda n: 4 + 1 + 5,
    "QLinearMul": lambda n: 4 + 1 + 5,
    "QLinearSigmoid": lambda n: 2 + 3 + 5,
    "QLinearLeakyRelu": lambda n: 2 + 2 + 5,
    "QLinearConcat": lambda n: 2 + 5,
}
