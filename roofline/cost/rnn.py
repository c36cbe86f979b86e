"""Recurrent layers: every time step of every sequence meets each weight matrix once, whatever kernel runs it."""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import Count, Dims, first, matmul_work, prod, rule
from roofline.records import TensorSpec, Work

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
# FLOPs per hidden unit and step around the two products:
# lstm: 4 gate sums, 3 sigmoids (3 each), tanh, c = f c + i g (3), h = o tanh(c) (2)
# gru: 2 gate sums, 2 sigmoids (3 each), r * hn and its sum (2), tanh, h = n + z (h - n) (3)
# rnn: a sum and tanh or relu
CELL = {"lstm": 4 + 9 + 1 + 3 + 2, "gru": 2 + 6 + 2 + 1 + 3, "rnn_tanh": 2, "rnn_relu": 2}
# cuDNN's `mode`
MODES = ("rnn_relu", "rnn_tanh", "lstm", "gru")


def _work(kind: str, rows: int, x: T, weights: list[T]) -> Work:
    """`rows` is steps times sequences. Matrices: [gates * h, i], [gates * h, h], projected also [p, h]; biases: [gates * h]."""
    matrices = [w for w in weights if len(w.shape) == 2]
    biases = sum(w.numel for w in weights if len(w.shape) == 1)
    # the two matrices of a layer have the same gates * h rows; a projection [p, h] comes third and has none
    tall = max((w.shape[0] for w in matrices), default=0)
    hidden = sum(w.shape[0] for w in matrices if w.shape[0] == tall) // (2 * GATES[kind])
    return matmul_work(rows * sum(w.numel for w in matrices), x, rows * (biases + CELL[kind] * hidden))


def _dims(rows: int, batch: int, x: T, weights: list[T], layers: int, bidirectional: bool, kind: str) -> Dims:
    return {
        "t": rows // max(batch, 1),
        "b": batch,
        "i": x.shape[-1],
        "h": weights[0].shape[0] // GATES[kind],
        "layers": layers,
        "directions": 1 + bool(bidirectional),
    }


def _steps(rows: int, batch: int, weights: list[T], kind: str, layers: int = 1, times: int = 1) -> list[Dims]:
    """All products of a layer: `weights` multiply-accumulates for each of `rows` (steps x sequences), `times` over.

    Each of `t` steps waits for the one before, in every layer; directions go side by side.
    """
    matrices = [w for w in weights if len(w.shape) == 2]
    if not matrices:
        return []
    return [{
        "t": rows // max(batch, 1), "b": batch, "i": matrices[0].shape[1], "h": matrices[0].shape[0] // GATES[kind],
        "layers": layers, "rows": rows, "weights": sum(w.numel for w in matrices), "times": times,
    }]  # fmt: skip


def _layers(state: T, output: T) -> int:
    """Layers of a stack, whose states are stacked by direction too, and whose results are put side by side."""
    directions = max(output.shape[-1] // max(state.shape[-1], 1), 1)
    return max(state.shape[0] // directions, 1) if len(state.shape) == 3 else 1


def _packed(args: tuple[Any, ...]) -> bool:
    """The `.data` overloads start with data [sum of lengths, i], batch_sizes, hx, params; `.input` with input, hx, params."""
    return isinstance(args[3], list)


def _layer(kind: str) -> None:
    def parts(args: tuple[Any, ...]) -> tuple[int, int, T, list[T], int, bool]:
        x, hx = args[0], args[2] if _packed(args) else args[1]
        state = hx[0] if isinstance(hx, list) else hx
        params, _has_biases, layers, _dropout, _train, bidirectional = args[3:9] if _packed(args) else args[2:8]
        batch = state.shape[1] if len(state.shape) == 3 else 1
        return prod(x.shape[:-1]), batch, x, params, layers, bidirectional

    def dims(*args: Any, out: Out, **_: Any) -> Dims:
        rows, batch, x, params, layers, bidirectional = parts(args)
        return _dims(rows, batch, x, params, layers, bidirectional, kind)

    def products(*args: Any, out: Out, **_: Any) -> list[Dims]:
        rows, batch, _x, params, layers, _bidirectional = parts(args)
        return _steps(rows, batch, params, kind, layers)

    @rule(kind, klass="rnn", dims=dims, products=products)
    def layer(*args: Any, out: Out, **_: Any) -> Work:
        # [t, b, i] (any order), or packed [sum of lengths, i]; weights of all layers and directions
        rows, _batch, x, params, _layers, _bidirectional = parts(args)
        return _work(kind, rows, x, params)

    def one(input: T, hx: Any, w_ih: T, w_hh: T, *_: Any, out: Out, **__: Any) -> list[Dims]:
        rows = prod(input.shape[:-1])
        return _steps(rows, rows, [w_ih, w_hh], kind)

    @rule(f"{kind}_cell", klass="rnn", products=one)
    def cell(input: T, hx: Any, w_ih: T, w_hh: T, b_ih: T | None = None, b_hh: T | None = None, *, out: Out, **_: Any) -> Work:
        # [b, i], [b, h] -> [b, h]
        weights = [w for w in (w_ih, w_hh, b_ih, b_hh) if w is not None]
        return _work(kind, prod(input.shape[:-1]), input, weights)


for _kind in GATES:
    _layer(_kind)


# --- library kernels


def _cudnn_dims(
    input: T,
    weight: list[T],
    stride0: int,
    buffer: T | None,
    hx: T,
    cx: T | None,
    mode: int,
    hidden: int,
    proj: int,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    *_: Any,
    out: Out,
    **__: Any,
) -> Dims:
    return _dims(prod(input.shape[:-1]), hx.shape[1], input, weight, num_layers, bidirectional, MODES[mode])


def _cudnn_products(*args: Any, out: Out, **kwargs: Any) -> list[Dims]:
    d = _cudnn_dims(*args, out=out, **kwargs)
    weights, mode = args[1], args[6]
    return _steps(prod(args[0].shape[:-1]), d["b"], weights, MODES[mode], d["layers"])


@rule("_cudnn_rnn", klass="rnn", dims=_cudnn_dims, products=_cudnn_products)
def cudnn_rnn(
    input: T, weight: list[T], stride0: int, buffer: T | None, hx: T, cx: T | None, mode: int, *_: Any, out: Out, **__: Any
) -> Work:
    # [t, b, i] or packed [sum of lengths, i]
    return _work(MODES[mode], prod(input.shape[:-1]), input, weight)


def _miopen_products(
    input: T, weight: list[T], stride0: int, hx: T, cx: T | None, mode: int, *_: Any, out: Out, **__: Any
) -> list[Dims]:
    return _steps(prod(input.shape[:-1]), hx.shape[1], weight, MODES[mode], _layers(hx, first(out)))


@rule("miopen_rnn", klass="rnn", products=_miopen_products)
def miopen_rnn(input: T, weight: list[T], stride0: int, hx: T, cx: T | None, mode: int, *_: Any, out: Out, **__: Any) -> Work:
    # [t, b, i] or packed [sum of lengths, i]
    return _work(MODES[mode], prod(input.shape[:-1]), input, weight)


def _twice(work: Work) -> Work:
    """Backward through time: gradients of the inputs and of the weights pair what the forward paired, one forward each."""
    return Work(2 * work.flops, 2 * work.macs)


def _backward_products(
    input: T, weight: list[T], stride0: int, buffer: T, hx: T, cx: T | None, output: T, grad_output: T | None,
    grad_hy: T | None, grad_cy: T | None, mode: int, *_: Any, out: Out, **__: Any,
) -> list[Dims]:  # fmt: skip
    return _steps(prod(input.shape[:-1]), hx.shape[1], weight, MODES[mode], _layers(hx, output), times=2)


@rule("_cudnn_rnn_backward", "miopen_rnn_backward", klass="rnn", products=_backward_products)
def rnn_backward(
    input: T,
    weight: list[T],
    stride0: int,
    buffer: T,
    hx: T,
    cx: T | None,
    output: T,
    grad_output: T | None,
    grad_hy: T | None,
    grad_cy: T | None,
    mode: int,
    *_: Any,
    out: Out,
    **__: Any,
) -> Work:
    return _twice(_work(MODES[mode], prod(input.shape[:-1]), input, weight))


def _mkldnn_products(
    input: T, weight0: T, weight1: T, weight2: T, weight3: T, hx_: T, cx_: T, reverse: bool, batch_sizes: list[int], mode: int,
    *_: Any, out: Out, **__: Any,
) -> list[Dims]:  # fmt: skip
    return _steps(prod(input.shape[:-1]), prod(hx_.shape[:-1]), [weight0, weight1], MODES[mode])


@rule("mkldnn_rnn_layer", klass="rnn", products=_mkldnn_products)
def mkldnn_rnn_layer(
    input: T,
    weight0: T,
    weight1: T,
    weight2: T,
    weight3: T,
    hx_: T,
    cx_: T,
    reverse: bool,
    batch_sizes: list[int],
    mode: int,
    hidden_size: int,
    num_layers: int,
    has_biases: bool,
    *_: Any,
    out: Out,
    **__: Any,
) -> Work:
    # one layer, one direction: [t, b, i]; without biases weight2 and weight3 are zeros that nobody adds
    weights = [weight0, weight1, weight2, weight3] if has_biases else [weight0, weight1]
    return _work(MODES[mode], prod(input.shape[:-1]), input, weights)


def _mkldnn_backward_products(
    input: T, weight1: T, weight2: T, weight3: T, weight4: T, hx_: T, cx_tmp: T, output: T, hy_: T, cy_: T,
    grad_output: T | None, grad_hy: T | None, grad_cy: T | None, reverse: bool, mode: int, *_: Any, out: Out, **__: Any,
) -> list[Dims]:  # fmt: skip
    return _steps(prod(input.shape[:-1]), prod(hx_.shape[:-1]), [weight1, weight2], MODES[mode], times=2)


@rule("mkldnn_rnn_layer_backward", klass="rnn", products=_mkldnn_backward_products)
def mkldnn_rnn_layer_backward(
    input: T,
    weight1: T,
    weight2: T,
    weight3: T,
    weight4: T,
    hx_: T,
    cx_tmp: T,
    output: T,
    hy_: T,
    cy_: T,
    grad_output: T | None,
    grad_hy: T | None,
    grad_cy: T | None,
    reverse: bool,
    mode: int,
    hidden_size: int,
    num_layers: int,
    has_biases: bool,
    *_: Any,
    out: Out,
    **__: Any,
) -> Work:
    weights = [weight1, weight2, weight3, weight4] if has_biases else [weight1, weight2]
    return _twice(_work(MODES[mode], prod(input.shape[:-1]), input, weights))


@rule("_thnn_fused_lstm_cell", klass="pointwise")
def fused_lstm_cell(
    input_gates: T, hidden_gates: T, cx: T, input_bias: T | None = None, hidden_bias: T | None = None, *, out: Out, **_: Any
) -> Work:
    # gates [b, 4h], c [b, h]: what stands around the two products
    biases = (input_bias is not None) + (hidden_bias is not None)
    return Work(cx.numel * CELL["lstm"] + biases * input_gates.numel, 0)


@rule("_thnn_fused_gru_cell", klass="pointwise")
def fused_gru_cell(
    input_gates: T, hidden_gates: T, hx: T, input_bias: T | None = None, hidden_bias: T | None = None, *, out: Out, **_: Any
) -> Work:
    # gates [b, 3h], h [b, h]
    biases = (input_bias is not None) + (hidden_bias is not None)
    return Work(hx.numel * CELL["gru"] + biases * input_gates.numel, 0)


@rule("_thnn_fused_lstm_cell_backward", "_thnn_fused_lstm_cell_backward_impl", klass="pointwise")
def fused_lstm_cell_backward(grad_hy: T | None, grad_cy: T | None, cx: T, *_: Any, out: Out, **__: Any) -> Work:
    # tanh(c) again 1; do 1; dc = dh o (1 - t^2) + dc' 5; df, di, dg, dc_prev 4; three sigmoids' slopes (3) and a tanh's (3): 12
    return Work(cx.numel * (1 + 1 + 5 + 4 + 12), 0)


@rule("_thnn_fused_gru_cell_backward", klass="pointwise")
def fused_gru_cell_backward(grad_hy: T, *_: Any, out: Out, **__: Any) -> Work:
    # dz = dh (h - n) z (1 - z) 5; dn = dh (1 - z) (1 - n^2) 5; dr = dn hn r (1 - r) 4; d hn = dn r 1; dh = dh z 1
    return Work(grad_hy.numel * 16, 0)


# --- int8: the products as above, weights packed beside their scales


def _matrices(params: Any) -> list[T]:
    if isinstance(params, T):
        return [params]
    return [w for p in params or () for w in _matrices(p)] if isinstance(params, list | tuple) else []


def _quantized_layer(kind: str) -> None:
    def products(*args: Any, out: Out, **_: Any) -> list[Dims]:
        weights = _matrices(args[3] if isinstance(args[3], list) else args[2])
        rows = prod(args[0].shape[:-1])
        hx = _matrices(args[2] if isinstance(args[3], list) else args[1])
        state = hx[0].shape if hx else (1, 1, 1)
        return _steps(rows, state[1] if len(state) == 3 else 1, weights, kind, _layers(hx[0], first(out)) if hx else 1)

    @rule(f"quantized_{kind}", klass="rnn", products=products)
    def layer(*args: Any, out: Out, **_: Any) -> Count:
        # as `lstm`; None where the packed weights cannot be seen
        weights = _matrices(args[3] if isinstance(args[3], list) else args[2])
        return _work(kind, prod(args[0].shape[:-1]), args[0], weights) if weights else None


for _kind in ("lstm", "gru"):
    _quantized_layer(_kind)


def _quantized_cell(kind: str) -> None:
    def products(input: T, hx: Any, w_ih: Any, w_hh: Any, *_: Any, out: Out, **__: Any) -> list[Dims]:
        rows = first(input).shape[0] if input.shape else 1
        return _steps(rows, rows, [w for w in (*_matrices(w_ih), *_matrices(w_hh)) if len(w.shape) == 2][:2], kind)

    @rule(f"quantized_{kind}_cell", f"quantized.quantized_{kind}_cell_dynamic", klass="rnn", products=products)
    def cell(input: T, hx: Any, w_ih: Any, w_hh: Any, *biases: Any, out: Out, **_: Any) -> Count:
        # [b, i], [b, h] -> [b, h]
        weights = [w for w in (*_matrices(w_ih), *_matrices(w_hh)) if len(w.shape) == 2][:2]
        if len(weights) < 2:
            return None
        given = [b for b in biases[:2] if isinstance(b, T) and len(b.shape) == 1]
        return _work(kind, first(input).shape[0] if input.shape else 1, input, weights + given)


for _kind in GATES:
    _quantized_cell(_kind)
