"""Attention, counted from its shapes whatever kernel runs it: shapes.Attention, and what stands around its products."""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec.structs import replace

from roofline.cost.norm import SOFTMAX
from roofline.cost.registry import Cost, Rule, add, first, prod, rule
from roofline.records import TensorSpec
from roofline.shapes import Attention, Gemm

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def _of(query: T, key: T, value: T, rows: int, *, heads_last: bool = False, causal: bool = False) -> Attention:
    """The shape of fused attention; `rows` are all queries of all heads. Heads come before the length, or last."""
    heads, length = (-2, -3) if heads_last else (-3, -2)
    h = query.shape[heads] if len(query.shape) > 2 else 1
    length_q = query.shape[length] if len(query.shape) > 2 or not heads_last else 1
    kv_heads = key.shape[heads] if len(key.shape) > 2 else 1
    b = rows // max(h * length_q, 1)
    return Attention(b, h, kv_heads, length_q, key.shape[length], query.shape[-1], value.shape[-1], bool(causal))


def around(a: Attention, masked: bool, dropout: float) -> int:
    """FLOPs beside the products: a score is scaled (1) and put through softmax; a mask adds 1, dropout 2."""
    return a.scores * (1 + SOFTMAX + masked + 2 * (dropout > 0))


def _forward(a: Attention, masked: bool, dropout: float) -> Cost:
    return Cost.of(a, extra=around(a, masked, dropout))


def _rows(t: T) -> int:
    return prod(t.shape[:-1])


@rule(
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_fused_attention_overrideable",
    klass="attention",
)
def scaled_dot_product_attention(
    query: T,
    key: T,
    value: T,
    attn_mask: T | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *_: Any,
    out: Out,
    **__: Any,
) -> Cost:
    # q [*b, h, l, e], k [*b, h_kv, s, e], v [*b, h_kv, s, v] -> [*b, h, l, v]
    return _forward(_of(query, key, value, _rows(first(out)), causal=is_causal), attn_mask is not None, dropout_p)


@rule("_scaled_dot_product_flash_attention", "_triton_scaled_dot_attention", klass="attention")
def flash(query: T, key: T, value: T, *args: Any, out: Out, **kwargs: Any) -> Cost:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> [b, h, l, v]; the first float is dropout, the first bool causal
    dropout = kwargs.get("dropout_p", next((a for a in args if isinstance(a, float)), 0.0))
    return _forward(_of(query, key, value, _rows(first(out)), causal=_causal(args, kwargs)), False, dropout)


@rule("_scaled_dot_product_flash_attention_for_cpu", klass="attention")
def flash_for_cpu(
    query: T,
    key: T,
    value: T,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: T | None = None,
    out: Out,
    **_: Any,
) -> Cost:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> [b, h, l, v]
    return _forward(_of(query, key, value, _rows(first(out)), causal=is_causal), attn_mask is not None, dropout_p)


@rule("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention", klass="attention")
def efficient(
    query: T,
    key: T,
    value: T,
    attn_bias: T | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *_: Any,
    out: Out,
    **__: Any,
) -> Cost:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> [b, h, l, v]
    return _forward(_of(query, key, value, _rows(first(out)), causal=is_causal), attn_bias is not None, dropout_p)


@rule("higher_order.flex_attention", klass="attention")
def flex_attention(query: T, key: T, value: T, weight: int = 0, *_: Any, out: Out, **__: Any) -> Cost:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> [b, h, l, v]; the model's own function takes `weight` per score
    a = _of(query, key, value, _rows(first(out)))
    return Cost.of(a, extra=around(a, False, 0.0) + weight * a.scores)


def _causal(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """`is_causal`, the only bool (or the first) among an operator's arguments; a mask of gradients is a list."""
    return bool(kwargs.get("is_causal", next((a for a in args if isinstance(a, bool)), False)))


# --- heads last, and packed sequences


def _packed(a: Attention, lengths: T | None, masked: bool, dropout: float) -> Cost:
    """Where sequences are packed into one row their lengths are data: nobody knows the count, at most that of the row."""
    return _forward(a, masked, dropout) if lengths is None else Cost((a,), known=False)


def _sequences(a: Attention, lengths: list[list[int]] | None, at: tuple[int, int, int]) -> tuple[Attention, ...] | None:
    """Attention within sequences in a row of queries and keys: `lengths` are the queries and keys of each, `at` how many there
    are and the most of each. None where nobody knows them."""
    many, longest, keys = at
    if lengths is None:  # as long as the longest, if the row is that long
        return (replace(a, b=many, l=longest, s=keys),) if many * longest == a.l and many * keys == a.s else None
    of = Counter(map(tuple, lengths))
    return tuple(replace(a, b=n, l=queries, s=keys) for (queries, keys), n in of.items())


def _one(parts: tuple[Attention, ...]) -> Attention | None:
    """What stands for sequences of several lengths in one kernel: none, where they have one length."""
    if len(parts) < 2:
        return None
    many = sum(a.b for a in parts)
    queries = max(sum(a.b * a.l for a in parts) // many, 1)
    return replace(parts[0], b=many, l=queries, s=max(sum(a.b * a.l * a.s for a in parts) // (many * queries), 1))


@rule("torch_attn._varlen_attn", klass="attention")
def varlen(  # long: the operator's own arguments
    query: T,
    key: T,
    value: T,
    cu_seq_q: T,
    cu_seq_k: T | None,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    *_: Any,
    out: Out,
    lengths: list[list[int]] | None = None,
    block_table: T | None = None,
    **__: Any,
) -> Cost:
    # q [l, h, e], k [s, h_kv, e], v [s, h_kv, v] -> [l, h, v]: sequences in one row; a window in front of each query is counted
    # as its whole sequence, as a causal mask is
    a = _of(query, key, value, _rows(query), heads_last=True, causal=is_causal)
    parts = None if block_table is not None else _sequences(a, lengths, (cu_seq_q.shape[0] - 1, max_q, max_k))
    if parts is None:
        return Cost((a,), known=False)
    return Cost.of(*parts, extra=sum(around(p, False, 0.0) for p in parts), whole=_one(parts))


@rule("torch_attn._varlen_attn_backward", klass="attention")
def varlen_backward(  # long: the operator's own arguments
    grad_out: T,
    query: T,
    key: T,
    value: T,
    output: T,
    lse: T,
    cu_seq_q: T,
    cu_seq_k: T,
    max_q: int,
    max_k: int,
    is_causal: bool,
    *_: Any,
    out: Out,
    lengths: list[list[int]] | None = None,
    **__: Any,
) -> Cost:
    # d[l, h, v] and the tensors of the forward -> dq, dk, dv
    a = _of(query, key, value, _rows(query), heads_last=True, causal=is_causal)
    parts = _sequences(a, lengths, (cu_seq_q.shape[0] - 1, max_q, max_k))
    if parts is None:
        return Cost((a.backward,), known=False)
    each = [_backward(p) for p in parts]
    one = _one(parts)
    return Cost.of(*[p for c in each for p in c.products], extra=sum(c.extra for c in each), whole=one and one.backward)


@rule("_flash_attention_forward", klass="attention")
def flash_forward(  # long: the operator's own arguments
    query: T,
    key: T,
    value: T,
    cum_seq_q: T | None,
    cum_seq_k: T | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    *_: Any,
    out: Out,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    **__: Any,
) -> Cost:
    # q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> [b, l, h, v]
    return _packed(_of(query, key, value, _rows(query), heads_last=True), cum_seq_q, False, dropout_p)


@rule("_efficient_attention_forward", klass="attention")
def efficient_forward(  # long: the operator's own arguments
    query: T,
    key: T,
    value: T,
    bias: T | None,
    cu_seqlens_q: T | None,
    cu_seqlens_k: T | None,
    max_seqlen_q: int | None,
    max_seqlen_k: int | None,
    dropout_p: float,
    *_: Any,
    out: Out,
    **__: Any,
) -> Cost:
    # q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> [b, l, h, v]
    return _packed(_of(query, key, value, _rows(query), heads_last=True), cu_seqlens_q, bias is not None, dropout_p)


@rule("_cudnn_attention_forward", klass="attention")
def cudnn_forward(  # long: the operator's own arguments
    query: T,
    key: T,
    value: T,
    attn_bias: T | None,
    cum_seq_q: T | None,
    cum_seq_k: T | None,
    max_q: int,
    max_k: int,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    *_: Any,
    out: Out,
    **__: Any,
) -> Cost:
    # q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> [b, l, h, v]
    return _packed(_of(query, key, value, _rows(query), heads_last=True), cum_seq_q, attn_bias is not None, dropout_p)


# --- gradients


def _backward(a: Attention) -> Cost:
    """Around the five products, per score: scale, subtract the logsumexp, exp; dP - D and its product with P; the scale
    again: 6. D = rowsum(dO * O) costs 2 v per query.
    """
    return Cost.of(a.backward, extra=6 * a.scores + 2 * a.b * a.h * a.l * a.v)


@rule(
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_scaled_dot_product_efficient_attention_backward",
    "_scaled_dot_product_cudnn_attention_backward",
    "_scaled_dot_product_fused_attention_overrideable_backward",
    "higher_order.flex_attention_backward",
    klass="attention",
)
def attention_backward(grad_out: T, query: T, key: T, value: T, *args: Any, out: Out, **kwargs: Any) -> Cost:
    # dO [b, h, l, v], q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> dq, dk, dv
    return _backward(_of(query, key, value, _rows(query), causal=_causal(args, kwargs)))


def _packed_backward(lengths_at: int, *names: str) -> None:
    def count(grad_out: T, query: T, key: T, value: T, *args: Any, out: Out, **_: Any) -> Cost:
        # dO [b, l, h, v], q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> dq, dk, dv
        a = _of(query, key, value, _rows(query), heads_last=True)
        if args[lengths_at - 4] is not None and len(query.shape) == 3:
            return Cost((a.backward,), known=False)
        return _backward(a)

    add(names, Rule(count, "attention"))


_packed_backward(6, "_flash_attention_backward", "_efficient_attention_backward")


# --- whole layers


def _heads(query: T, key: T, embed_dim: int, num_head: int) -> Attention:
    """The attention inside a layer: q [b, l, e], k [b, s, e] in heads of e / h."""
    b, length, _e = query.shape
    head = embed_dim // num_head
    return Attention(b, num_head, num_head, length, key.shape[1], head, head)


def _projected(query: T, key: T, value: T, width: int) -> list[Gemm]:
    """The four projections: of queries, keys and values, and of the result."""
    rows = _rows(query)
    return [Gemm(1, m, width, width) for m in (rows, _rows(key), _rows(value), rows)]


@rule("_native_multi_head_attention", "_triton_multi_head_attention", klass="attention")
def native_multi_head_attention(  # long: the operator's own arguments
    query: T,
    key: T,
    value: T,
    embed_dim: int,
    num_head: int,
    qkv_weight: T,
    qkv_bias: T,
    proj_weight: T,
    proj_bias: T,
    mask: T | None = None,
    *_: Any,
    out: Out,
    **__: Any,
) -> Cost:
    # q [b, l, e], k and v [b, s, e], W [3e, e] and [e, e] -> [b, l, e]: four projections around the attention, each with a bias
    inner, outer = _heads(query, key, embed_dim, num_head), _projected(query, key, value, embed_dim)
    biases = sum(g.m * g.n for g in outer)
    return Cost.of(inner, *outer, extra=around(inner, mask is not None, 0.0) + biases, whole=inner)


@rule("_transformer_encoder_layer_fwd", klass="attention")
def transformer_encoder_layer(  # long: the operator's own arguments
    src: T,
    embed_dim: int,
    num_heads: int,
    qkv_weight: T,
    qkv_bias: T,
    proj_weight: T,
    proj_bias: T,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: T,
    norm_bias_1: T,
    norm_weight_2: T,
    norm_bias_2: T,
    ffn_weight_1: T,
    ffn_bias_1: T,
    ffn_weight_2: T,
    ffn_bias_2: T,
    mask: T | None = None,
    mask_type: int | None = None,
    *,
    out: Out,
) -> Cost:
    # [b, l, e]: attention with its projections, two residual adds, two layer norms (8), a feed-forward net [f, e], [e, f]
    inner, outer = _heads(src, src, embed_dim, num_heads), _projected(src, src, src, embed_dim)
    rows, hidden = _rows(src), ffn_weight_1.shape[0]
    feed = [Gemm(1, rows, w.shape[0], w.shape[1]) for w in (ffn_weight_1, ffn_weight_2)]
    biases = sum(g.m * g.n for g in outer) + rows * (hidden + embed_dim)
    rest = rows * hidden * (5 if use_gelu else 1) + src.numel * (2 + 2 * 8)
    return Cost.of(inner, *outer, *feed, extra=around(inner, mask is not None, 0.0) + biases + rest, whole=inner)


@rule("_transform_bias_rescale_qkv", klass="pointwise")
def transform_bias_rescale_qkv(qkv: T, qkv_bias: T, num_heads: int, *, out: Out) -> int:
    # [b, l, 3e] + [3e], the query third scaled
    return qkv.numel + qkv.numel // 3


@rule("_fused_sdp_choice", klass="host")
def fused_sdp_choice(*_: Any, **__: Any) -> int:
    # picks a kernel
    return 0
