"""The rules of the matmul kind beside loops that count every multiply-accumulate one by one (oracles.loops)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opspecs import op, t
from oracles import loops
from oracles.loops import spaces

from roofline.cost import count, work
from roofline.records import OpSpec, Work

few = settings(max_examples=25, deadline=None)
small = st.integers(1, 4)


def counted(spec: OpSpec) -> Work:
    """The count of a call, of which the products that the time model multiplies hold every multiply-accumulate."""
    result = work(spec)
    assert result is not None
    found = count(spec)
    assert found is not None
    assert sum(p.macs for p in found.products) == result.macs
    return result


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.sampled_from((1, 1, 2, 2, 3)))
    groups = draw(st.integers(1, 3))
    top = 3 if rank == 3 else 5
    c = {
        "rank": rank,
        "groups": groups,
        "n": draw(st.integers(1, 2)),
        "c": groups * draw(st.integers(1, 2)),
        "o": groups * draw(st.integers(1, 2)),
        "kernel": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)),
        "stride": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)),
        "padding": draw(st.lists(st.integers(0, 2), min_size=rank, max_size=rank)),
        "dilation": draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)),
        "bias": draw(st.booleans()),
    }
    reach = [d * (k - 1) + 1 for d, k in zip(c["dilation"], c["kernel"], strict=True)]
    c["image"] = [draw(st.integers(max(1, r - 2 * p), r + top)) for r, p in zip(reach, c["padding"], strict=True)]
    return c


@few
@given(convolutions())
def test_convolution_and_its_gradients(c: dict[str, Any]) -> None:
    n, groups, rank = c["n"], c["groups"], c["rank"]
    places = loops.places(c["image"], c["kernel"], c["stride"], c["padding"], c["dilation"])
    macs = loops.convolution(n, c["c"], c["o"], groups, c["kernel"], places)
    bias_adds = sum(1 for _ in spaces(n, c["o"], *places))
    x, w, y = t(n, c["c"], *c["image"]), t(c["o"], c["c"] // groups, *c["kernel"]), t(n, c["o"], *places)
    b = t(c["o"]) if c["bias"] else None
    want = Work(2 * macs + (bias_adds if c["bias"] else 0), macs)
    low = [c["stride"], c["padding"], c["dilation"]]
    assert counted(op(f"conv{rank}d", x, w, b, *low, groups, out=y)) == want
    assert counted(op("convolution", x, w, b, *low, False, [0] * rank, groups, out=y)) == want
    assert counted(op("_convolution", x, w, b, *low, False, [0] * rank, groups, False, False, True, True, out=y)) == want
    for mask in itertools.product((True, False), repeat=3):
        gradients = [s for s, m in zip((x, w, t(c["o"])), mask, strict=True) if m]
        spec = op("convolution_backward", y, x, w, [c["o"]], *low, False, [0] * rank, groups, list(mask), out=gradients)
        # dx: each of those triples carries y's gradient back to x once; dw: to w once
        assert counted(spec) == Work(2 * macs * (mask[0] + mask[1]) + bias_adds * mask[2], macs * (mask[0] + mask[1]))


@few
@given(convolutions(), st.integers(0, 1))
def test_transposed_convolution_and_its_gradients(c: dict[str, Any], extra: int) -> None:
    n, groups, rank = c["n"], c["groups"], c["rank"]
    extra = min(extra, *(s - 1 for s in c["stride"]))
    macs = loops.transposed(n, c["c"], c["o"], groups, c["kernel"], c["image"])
    sizes = [
        (i - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for i, k, s, p, d in zip(c["image"], c["kernel"], c["stride"], c["padding"], c["dilation"], strict=True)
    ]
    if min(sizes) < 1:
        return
    x, w, y = t(n, c["c"], *c["image"]), t(c["c"], c["o"] // groups, *c["kernel"]), t(n, c["o"], *sizes)
    added = [extra] * rank
    spec = op(f"conv_transpose{rank}d", x, w, None, c["stride"], c["padding"], added, groups, c["dilation"], out=y)
    assert counted(spec) == Work(2 * macs, macs)
    low = [c["stride"], c["padding"], c["dilation"]]
    assert counted(op("convolution", x, w, t(c["o"]), *low, True, added, groups, out=y)) == Work(2 * macs + y.numel, macs)
    for mask in ([True, True, True], [False, True, False], [True, False, False]):
        wanted = mask[0] + mask[1]
        spec = op("convolution_backward", y, x, w, [c["o"]], *low, True, added, groups, mask, out=[x, w, t(c["o"])])
        assert counted(spec) == Work(2 * macs * wanted + y.numel * mask[2], macs * wanted)


@few
@given(st.data())
def test_matmul(data: st.DataObject) -> None:
    m, n, k = (data.draw(small) for _ in range(3))
    full = data.draw(st.lists(st.integers(1, 3), max_size=2))
    left = [s if data.draw(st.booleans()) else 1 for s in full][data.draw(st.integers(0, len(full))) :]
    right = [s if data.draw(st.booleans()) else 1 for s in full][data.draw(st.integers(0, len(full))) :]
    batch = [
        max([*left[-i : len(left) - i + 1], *right[-i : len(right) - i + 1]], default=1)
        for i in range(max(len(left), len(right)), 0, -1)
    ]
    row, column = (not left and data.draw(st.booleans())), (not right and data.draw(st.booleans()))
    macs = sum(1 for _ in spaces(*batch, 1 if row else m, 1 if column else n, k))
    a, b = t(*left, *([] if row else [m]), k), t(*right, k, *([] if column else [n]))
    out = t(*batch, *([] if row else [m]), *([] if column else [n]))
    assert counted(op("matmul", a, b, out=out)) == Work(2 * macs, macs)


@few
@given(st.lists(small, min_size=1, max_size=3), small, small, st.booleans())
def test_linear(rows: list[int], k: int, n: int, bias: bool) -> None:
    macs = adds = 0
    for _row in spaces(*rows):
        for _column in range(n):
            for _step in range(k):
                macs += 1
            adds += 1
    x, w, b, y = t(*rows, k), t(n, k), t(n), t(*rows, n)
    assert counted(op("linear", x, w, *([b] if bias else []), out=y)) == Work(2 * macs + (adds if bias else 0), macs)
    assert counted(op("linear_backward", x, y, w, [True, True, bias], out=[x, w, b])).macs == 2 * macs
    if len(rows) == 1:
        assert counted(op("addmm", b, x, t(k, n), out=y)) == Work(2 * macs + adds, macs)
        assert counted(op("mm", x, t(k, n), out=y)) == Work(2 * macs, macs)


@few
@given(st.data())
def test_einsum_of_two(data: st.DataObject) -> None:
    letters = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    size = {c: data.draw(st.integers(2, 3)) for c in letters}
    first = [c for c in letters if data.draw(st.booleans())]
    second = [c for c in letters if c not in first or data.draw(st.booleans())]
    # an index that one operand alone has stays, so the loop nest is over all of them and nothing is summed beforehand
    result = [c for c in letters if (c in first) != (c in second) or data.draw(st.booleans())]
    products = sum(1 for _ in spaces(*(size[c] for c in letters)))
    summed = any(c not in result for c in letters)
    spec = op(
        "einsum",
        f"{''.join(first)},{''.join(second)}->{''.join(result)}",
        [t(*(size[c] for c in first)), t(*(size[c] for c in second))],
        out=t(*(size[c] for c in result)),
    )
    assert counted(spec) == (Work(2 * products, products) if summed else Work(products, 0))


@few
@given(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), small, small, small, small, st.booleans())
def test_attention(b: int, kv: int, repeat: int, length: int, s: int, e: int, v: int, masked: bool) -> None:
    h = kv * repeat
    macs, scores = loops.attention(b, h, kv, length, s, e, v)
    per_score = scores * (1 + 1 + 1 + 1 + 1 + 1 + masked)  # scale, softmax (maximum, subtract, exp, add, divide), mask
    q, key, value, y = t(b, h, length, e), t(b, kv, s, e), t(b, kv, s, v), t(b, h, length, v)
    mask = t(length, s) if masked else None
    want = Work(2 * macs + per_score, macs)
    assert counted(op("scaled_dot_product_attention", q, key, value, mask, enable_gqa=True, out=y)) == want
    assert counted(op("_scaled_dot_product_efficient_attention", q, key, value, mask, True, out=[y, t(b, h, length)])) == want
    assert (
        counted(op("_scaled_dot_product_flash_attention_for_cpu", q, key, value, attn_mask=mask, out=[y, t(b, h, length)]))
        == want
    )
    last = [t(b, length, h, e), t(b, s, kv, e), t(b, s, kv, v)]
    assert (
        counted(op("_efficient_attention_forward", *last, mask, None, None, None, None, 0.0, 0, out=[t(b, length, h, v)]))
        == want
    )
    # backward: the scores again (e), dP = dO V^T (v), dV (v), dQ (e), dK (e)
    back = sum(1 for _ in spaces(b, h, length, s, 3 * e + 2 * v))
    spec = op(
        "_scaled_dot_product_flash_attention_backward",
        y,
        q,
        key,
        value,
        y,
        t(b, h, length),
        None,
        None,
        length,
        s,
        0.0,
        False,
        t(2),
        t(),
        out=[q, key, value],
    )
    assert counted(spec).macs == back
    if e == v:
        assert 2 * back == 5 * macs


@few
@given(
    st.sampled_from(["lstm", "gru", "rnn_tanh", "rnn_relu"]),
    st.integers(1, 3),
    st.integers(1, 3),
    small,
    st.integers(2, 4),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_recurrent(
    kind: str, steps: int, batch: int, i: int, h: int, layers: int, both: bool, bias: bool, projected: bool
) -> None:
    projected = projected and kind == "lstm"
    gates = {"lstm": 4, "gru": 3}.get(kind, 1)
    state = h - 1 if projected else h
    macs = loops.recurrent(gates, steps, batch, i, h, layers, both, state)
    params: list[Any] = []
    for layer in range(layers):
        width = i if layer == 0 else state * (1 + both)
        for _direction in range(1 + both):
            params += [t(gates * h, width), t(gates * h, state), *([t(gates * h), t(gates * h)] if bias else [])]
            params += [t(state, h)] if projected else []
    hx = t(layers * (1 + both), batch, state)
    out = t(steps, batch, state * (1 + both))
    state_arg = [hx, t(layers * (1 + both), batch, h)] if kind == "lstm" else hx
    spec = op(
        kind, t(steps, batch, i), state_arg, params, bias, layers, 0.0, False, both, False, out=[out, hx], overload="input"
    )
    assert counted(spec).macs == macs
    packed = op(
        kind,
        t(steps * batch, i),
        t(steps, dtype="int64"),
        state_arg,
        params,
        bias,
        layers,
        0.0,
        False,
        both,
        out=[t(steps * batch, state * (1 + both)), hx],
        overload="data",
    )
    assert counted(packed) == counted(spec)
    mode = ["rnn_relu", "rnn_tanh", "lstm", "gru"].index(kind)
    cudnn = op(
        "_cudnn_rnn",
        t(steps, batch, i),
        params,
        4,
        None,
        hx,
        hx if kind == "lstm" else None,
        mode,
        h,
        state if projected else 0,
        layers,
        False,
        0.0,
        False,
        both,
        [],
        None,
        out=[out, hx],
    )
    assert counted(cudnn) == counted(spec)


@pytest.mark.parametrize(("size", "bins"), [(7, 7), (7, 1), (10, 3), (5, 7), (6, 2), (13, 5)])
def test_adaptive_pooling_windows(size: int, bins: int) -> None:
    touched = loops.windows(size, bins)
    assert counted(op("adaptive_avg_pool2d", t(2, 3, size, 1), [bins, 1], out=t(2, 3, bins, 1))) == Work(2 * 3 * touched, 0)


@few
@given(small, small, small, st.booleans())
def test_a_weight_of_two_in_each_four_multiplies_what_is_stored(m: int, n: int, fours: int, bias: bool) -> None:
    """[m, k] with two of each four weights kept, here the first and the last, times [k, n]."""
    k = 4 * fours
    macs = sum(1 for _row, _column, i in spaces(m, n, k) if i % 4 in (0, 3))
    adds = sum(1 for _ in spaces(m, n)) if bias else 0
    vector = t(m) if bias else None
    y = t(m, n)
    assert counted(op("_cslt_sparse_mm", t(m, k // 2 + 1), t(k, n), vector, out=y)) == Work(2 * macs + adds, macs)
    assert counted(op("_cslt_sparse_mm", t(m, k // 2 + 1), t(k, n), vector, transpose_result=True, out=t(n, m))).macs == macs
    linear = op("_sparse_semi_structured_linear", t(n, k), t(m, k // 2), t(m, 1), bias=vector, out=t(n, m))
    assert counted(linear) == Work(2 * macs + adds, macs)
    assert counted(op("_sparse_semi_structured_mm", t(m, k // 2), t(m, 1), t(k, n), out=y)).macs == macs
    if bias:
        added = op("_sparse_semi_structured_addmm", vector, t(m, k // 2), t(m, 1), t(k, n), out=y)
        assert counted(added) == Work(2 * macs + adds, macs)


@few
@given(small, small, small)
def test_reflectors_are_a_product_and_what_is_subtracted(m: int, n: int, k: int) -> None:
    """The j-th is m - j long; each of n columns: multiplied and summed with it, and it taken off again."""
    k = min(k, m)
    flops = sum(2 + 2 for j in range(k) for _column, _row in spaces(n, m - j))
    assert counted(op("ormqr", t(m, k), t(k), t(m, n), out=t(m, n))).flops == flops
    assert counted(op("ormqr", t(m, k), t(k), t(n, m), False, out=t(n, m))).flops == flops


@few
@given(st.integers(2, 5), small)
def test_gradients_of_distances_within_a_set(n: int, m: int) -> None:
    """Of each pair and coordinate: the difference, its scale, a sum into either row."""
    flops = sum(4 for a, b, _coordinate in spaces(n, n, m) if a < b)
    assert counted(op("_pdist_backward", t(n * (n - 1) // 2), t(n, m), 2.0, t(n * (n - 1) // 2), out=t(n, m))).flops == flops


@few
@given(st.lists(st.tuples(small, small), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_sequences_in_one_row_meet_their_own_keys_alone(lengths: list[tuple[int, int]], known: bool, causal: bool) -> None:
    """Where nobody knows their lengths the longest of each tell them, if the row is as long as so many of those."""
    queries, keys = (sum(pair[i] for pair in lengths) for i in (0, 1))
    longest = [max(pair[i] for pair in lengths) for i in (0, 1)]
    parts = [loops.attention(1, 4, 2, *pair, 3, 5) for pair in lengths]
    q, k, v, y = t(queries, 4, 3), t(keys, 2, 3), t(keys, 2, 5), t(queries, 4, 5)
    more = {"lengths": [list(pair) for pair in lengths]} if known else {}
    call = op("torch_attn._varlen_attn", q, k, v, t(len(lengths) + 1), None, *longest, causal, out=[y], **more)
    if known or len(set(lengths)) == 1:
        assert counted(call).macs == sum(macs for macs, _ in parts)
    else:
        assert work(call) is None
