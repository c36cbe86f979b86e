"""Attention, counted from its shapes whatever kernel runs it.

Every query meets every key: a causal mask does not lower the count (it is a property of the kernel whether masked blocks
are skipped), and grouped-query attention counts the query heads. `dims` says `causal`, so a model of time may halve it.
"""

from __future__ import annotations

from typing import Any

from roofline.cost.norm import SOFTMAX
from roofline.cost.registry import Count, Dims, Rule, add, first, matmul_work, prod, rule
from roofline.records import TensorSpec, Work

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def _sizes(query: T, key: T, value: T, rows: int, *, heads_last: bool = False, causal: bool = False) -> Dims:
    heads, length = (-2, -3) if heads_last else (-3, -2)
    h = query.shape[heads] if len(query.shape) > 2 else 1
    length_q = query.shape[length] if len(query.shape) > 2 or not heads_last else 1
    return {
        "b": rows // max(h * length_q, 1),
        "h": h,
        "kv_heads": key.shape[heads] if len(key.shape) > 2 else 1,
        "l": length_q,
        "s": key.shape[length],
        "e": query.shape[-1],
        "v": value.shape[-1],
        "causal": int(causal),
    }


def _scores(d: Dims) -> int:
    """Query-key pairs, over all heads: the elements of the score matrix [b, h, l, s]."""
    return d["b"] * d["h"] * d["l"] * d["s"]


def _attention(d: Dims, query: T, masked: bool, dropout: float) -> Work:
    # q k^T: e multiply-accumulates per score; p v: v. A score is scaled (1) and put through softmax; a mask adds 1, dropout 2
    scores = _scores(d)
    return matmul_work(scores * (d["e"] + d["v"]), query, scores * (1 + SOFTMAX + masked + 2 * (dropout > 0)))


def _rows(t: T) -> int:
    return prod(t.shape[:-1])


def _sdpa_dims(
    query: T,
    key: T,
    value: T,
    attn_mask: T | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *_: Any,
    out: Out,
    **__: Any,
) -> Dims:
    return _sizes(query, key, value, _rows(first(out)), causal=is_causal)


@rule(
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_fused_attention_overrideable",
    klass="attention",
    dims=_sdpa_dims,
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
) -> Work:
    # q [*b, h, l, e], k [*b, h_kv, s, e], v [*b, h_kv, s, v] -> [*b, h, l, v]
    d = _sdpa_dims(query, key, value, out=out)
    return _attention(d, query, attn_mask is not None, dropout_p)


def _flash_dims(query: T, key: T, value: T, *args: Any, out: Out, **kwargs: Any) -> Dims:
    rest = [a for a in args if not isinstance(a, T)]
    flags = [a for a in rest if isinstance(a, bool)]
    return _sizes(query, key, value, _rows(first(out)), causal=bool(kwargs.get("is_causal", flags and flags[0])))


@rule("_scaled_dot_product_flash_attention", klass="attention", dims=_flash_dims)
def flash(query: T, key: T, value: T, *args: Any, out: Out, **kwargs: Any) -> Work:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> [b, h, l, v]
    dropout = kwargs.get("dropout_p", next((a for a in args if isinstance(a, float)), 0.0))
    return _attention(_flash_dims(query, key, value, out=out), query, False, dropout)


@rule("_scaled_dot_product_flash_attention_for_cpu", klass="attention", dims=_flash_dims)
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
) -> Work:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> [b, h, l, v]
    return _attention(_flash_dims(query, key, value, out=out), query, attn_mask is not None, dropout_p)


def _biased_dims(
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
) -> Dims:
    return _sizes(query, key, value, _rows(first(out)), causal=is_causal)


@rule("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention", klass="attention", dims=_biased_dims)
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
) -> Work:
    # q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> [b, h, l, v]
    return _attention(_sizes(query, key, value, _rows(first(out))), query, attn_bias is not None, dropout_p)


@rule("_triton_scaled_dot_attention", klass="attention", dims=_flash_dims)
def triton(q: T, k: T, v: T, dropout_p: float = 0.0, *, out: Out) -> Work:
    # q [b, h, l, e], k [b, h, s, e], v [b, h, s, v] -> [b, h, l, v]
    return _attention(_flash_dims(q, k, v, out=out), q, False, dropout_p)


# --- heads last, and packed sequences


def _heads_last_dims(query: T, key: T, value: T, *_: Any, out: Out, **__: Any) -> Dims:
    return _sizes(query, key, value, _rows(query), heads_last=True)


@rule("_flash_attention_forward", klass="attention", dims=_heads_last_dims)
def flash_forward(
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
) -> Count:
    # q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> [b, l, h, v]
    if cum_seq_q is not None:  # sequences packed into one row: their lengths are data
        return None
    return _attention(_heads_last_dims(query, key, value, out=out), query, False, dropout_p)


@rule("_efficient_attention_forward", klass="attention", dims=_heads_last_dims)
def efficient_forward(
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
) -> Count:
    # q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> [b, l, h, v]
    if cu_seqlens_q is not None:
        return None
    return _attention(_heads_last_dims(query, key, value, out=out), query, bias is not None, dropout_p)


@rule("_cudnn_attention_forward", klass="attention", dims=_heads_last_dims)
def cudnn_forward(
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
) -> Count:
    # q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> [b, l, h, v]
    if cum_seq_q is not None:
        return None
    return _attention(_heads_last_dims(query, key, value, out=out), query, attn_bias is not None, dropout_p)


# --- gradients


def _backward(d: Dims, query: T) -> Work:
    """Gradients of fused attention, which keeps no scores and computes them again.

    Five products per query-key pair: the scores q k^T (e), dP = dO v^T (v), dV = P^T dO (v), dQ = dS k (e), dK = dS^T q (e).
    The forward has two, e + v, so with e = v this is 2.5 forwards. Around them, per score: scale, subtract the logsumexp,
    exp; dP - D and its product with P; the scale again: 6. D = rowsum(dO * O) costs 2 v per query.
    """
    scores = _scores(d)
    return matmul_work(scores * (3 * d["e"] + 2 * d["v"]), query, 6 * scores + 2 * d["b"] * d["h"] * d["l"] * d["v"])


def _five(d: Dims) -> list[Dims]:
    """The products of `_backward` over the scores: how many of them are `e` wide, and how many `v`."""
    return [d | {"products_e": 3, "products_v": 2}]


def _causal(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """`is_causal` of a backward: the only bool among its arguments, beside a mask of gradients, which is a list."""
    return bool(kwargs.get("is_causal", next((a for a in args if isinstance(a, bool)), False)))


def _backward_dims(grad_out: T, query: T, key: T, value: T, *args: Any, out: Out, **kwargs: Any) -> Dims:
    return _sizes(query, key, value, _rows(query), causal=_causal(args, kwargs))


def _backward_products(*args: Any, out: Out, **kwargs: Any) -> list[Dims]:
    return _five(_backward_dims(*args, out=out, **kwargs))


@rule(
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_scaled_dot_product_efficient_attention_backward",
    "_scaled_dot_product_cudnn_attention_backward",
    "_scaled_dot_product_fused_attention_overrideable_backward",
    klass="attention",
    dims=_backward_dims,
    products=_backward_products,
)
def attention_backward(grad_out: T, query: T, key: T, value: T, *_: Any, out: Out, **__: Any) -> Work:
    # dO [b, h, l, v], q [b, h, l, e], k [b, h_kv, s, e], v [b, h_kv, s, v] -> dq, dk, dv
    return _backward(_backward_dims(grad_out, query, key, value, out=out), query)


def _heads_last_backward_dims(grad_out: T, query: T, key: T, value: T, *_: Any, out: Out, **__: Any) -> Dims:
    return _sizes(query, key, value, _rows(query), heads_last=True)


def _heads_last_products(grad_out: T, query: T, key: T, value: T, *_: Any, out: Out, **__: Any) -> list[Dims]:
    return _five(_heads_last_backward_dims(grad_out, query, key, value, out=out))


def _packed_backward(lengths_at: int, *names: str) -> None:
    def count(grad_out: T, query: T, key: T, value: T, *args: Any, out: Out, **_: Any) -> Count:
        # dO [b, l, h, v], q [b, l, h, e], k [b, s, h_kv, e], v [b, s, h_kv, v] -> dq, dk, dv
        if args[lengths_at - 4] is not None and len(query.shape) == 3:
            return None
        return _backward(_heads_last_backward_dims(grad_out, query, key, value, out=out), query)

    add(names, Rule(count, "attention", _heads_last_backward_dims, _heads_last_products))


_packed_backward(6, "_flash_attention_backward", "_efficient_attention_backward")


# --- whole layers


def _projection(x: T, weight: T) -> int:
    return _rows(x) * weight.numel


def _mha_dims(query: T, key: T, value: T, embed_dim: int, num_head: int, *_: Any, out: Out, **__: Any) -> Dims:
    b, length, _e = query.shape
    head = embed_dim // num_head
    return {"b": b, "h": num_head, "kv_heads": num_head, "l": length, "s": key.shape[1], "e": head, "v": head, "causal": 0}


def _projected(q_rows: int, key_rows: int, value_rows: int, width: int) -> list[Dims]:
    """The four projections: of queries, keys and values, and of the result."""
    rows = (q_rows, key_rows, value_rows, q_rows)
    return [{"b": 1, "m": m, "n": width, "k": width} for m in rows]


def _mha_products(query: T, key: T, value: T, embed_dim: int, num_head: int, *_: Any, out: Out, **__: Any) -> list[Dims]:
    inner = _mha_dims(query, key, value, embed_dim, num_head, out=out)
    return [inner, *_projected(_rows(query), _rows(key), _rows(value), embed_dim)]


@rule("_native_multi_head_attention", "_triton_multi_head_attention", klass="attention", dims=_mha_dims, products=_mha_products)
def native_multi_head_attention(
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
) -> Work:
    # q [b, l, e], k and v [b, s, e], W [3e, e] and [e, e] -> [b, l, e]: four projections around the attention
    d = _mha_dims(query, key, value, embed_dim, num_head, out=out)
    inner = _attention(d, query, mask is not None, 0.0)
    rows = (2 * _rows(query), _rows(key), _rows(value))
    outer = matmul_work(sum(rows) * embed_dim * embed_dim, query, sum(rows) * embed_dim)
    return Work(inner.flops + outer.flops, inner.macs + outer.macs)


def _encoder_dims(src: T, embed_dim: int, num_heads: int, *_: Any, out: Out, **__: Any) -> Dims:
    return _mha_dims(src, src, src, embed_dim, num_heads, out=out)


def _encoder_products(src: T, embed_dim: int, num_heads: int, *args: Any, out: Out, **_: Any) -> list[Dims]:
    rows, up, down = _rows(src), args[11], args[13]
    feed = [{"b": 1, "m": rows, "n": w.shape[0], "k": w.shape[1]} for w in (up, down)]
    return [*_mha_products(src, src, src, embed_dim, num_heads, out=out), *feed]


@rule("_transformer_encoder_layer_fwd", klass="attention", dims=_encoder_dims, products=_encoder_products)
def transformer_encoder_layer(
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
) -> Work:
    # [b, l, e]: attention with its projections, two residual adds, two layer norms (8), a feed-forward net [f, e], [e, f]
    attention = native_multi_head_attention(
        src, src, src, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, out=out
    )
    assert isinstance(attention, Work)
    rows, hidden = _rows(src), ffn_weight_1.shape[0]
    feed = matmul_work(_projection(src, ffn_weight_1) + _projection(src, ffn_weight_2), src, rows * (hidden + embed_dim))
    rest = rows * hidden * (5 if use_gelu else 1) + src.numel * (2 + 2 * 8)
    return Work(attention.flops + feed.flops + rest, attention.macs + feed.macs)


@rule("_transform_bias_rescale_qkv", klass="pointwise")
def transform_bias_rescale_qkv(qkv: T, qkv_bias: T, num_heads: int, *, out: Out) -> Work:
    # [b, l, 3e] + [3e], the query third scaled
    return Work(qkv.numel + qkv.numel // 3, 0)


@rule("_fused_sdp_choice", klass="host")
def fused_sdp_choice(*_: Any, **__: Any) -> Work:
    # picks a kernel
    return Work(0, 0)
