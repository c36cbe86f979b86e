"""Recurrent layers: every time step of every sequence meets each weight matrix once, whatever kernel runs it."""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import Cost, Count, first, prod, rule
from roofline.records import TensorSpec
from roofline.shapes import Recurrent

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


def _run(kind: str, x: T, batch: int, weights: list[T], layers: int = 1, times: int = 1) -> Cost:
    """A recurrent layer over `x` [*, i]: its leading sizes are steps times sequences (packed: the sum of all lengths).

    Matrices are [gates * h, i], [gates * h, h], projected also [p, h]; biases [gates * h]. A backward is the forward twice
    (`times`): gradients of the inputs and of the weights pair what it paired.
    """
    rows = prod(x.shape[:-1])
    matrices = [w for w in weights if len(w.shape) == 2]
    biases = sum(w.numel for w in weights if len(w.shape) == 1)
    # the two matrices of a layer have the same gates * h rows; a projection [p, h] comes third and has none
    tall = max((w.shape[0] for w in matrices), default=0)
    hidden = sum(w.shape[0] for w in matrices if w.shape[0] == tall) // (2 * GATES[kind])
    extra = times * rows * (biases + CELL[kind] * hidden)
    if not matrices:
        return Cost.of(extra=extra)
    every = sum(w.numel for w in matrices)
    i, h = matrices[0].shape[1], matrices[0].shape[0] // GATES[kind]
    return Cost.of(Recurrent(rows // max(batch, 1), batch, i, h, layers, rows, every, times=times), extra=extra)


def _layers(state: T, output: T) -> int:
    """Layers of a stack, whose states are stacked by direction too, and whose results are put side by side."""
    directions = max(output.shape[-1] // max(state.shape[-1], 1), 1)
    return max(state.shape[0] // directions, 1) if len(state.shape) == 3 else 1


def _packed(args: tuple[Any, ...]) -> bool:
    """The `.data` overloads start with data [sum of lengths, i], batch_sizes, hx, params; `.input` with input, hx, params."""
    return isinstance(args[3], list)


def _layer(kind: str) -> None:
    @rule(kind, klass="rnn")
    def layer(*args: Any, out: Out, **_: Any) -> Cost:
        # [t, b, i] (any order), or packed [sum of lengths, i]; weights of all layers and directions
        hx = args[2] if _packed(args) else args[1]
        state = hx[0] if isinstance(hx, list) else hx
        params, _has_biases, layers = (args[3:] if _packed(args) else args[2:])[:3]
        return _run(kind, args[0], state.shape[1] if len(state.shape) == 3 else 1, params, layers)

    @rule(f"{kind}_cell", klass="rnn")
    def cell(input: T, hx: Any, w_ih: T, w_hh: T, b_ih: T | None = None, b_hh: T | None = None, *, out: Out, **_: Any) -> Cost:
        # [b, i], [b, h] -> [b, h]
        return _run(kind, input, prod(input.shape[:-1]), [w for w in (w_ih, w_hh, b_ih, b_hh) if w is not None])


for _kind in GATES:
    _layer(_kind)


# --- library kernels


@rule("_cudnn_rnn", klass="rnn")
def cudnn_rnn(  # long: the operator's own arguments
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
    *_: Any,
    out: Out,
    **__: Any,
) -> Cost:
    # [t, b, i] or packed [sum of lengths, i]
    return _run(MODES[mode], input, hx.shape[1], weight, num_layers)


@rule("miopen_rnn", klass="rnn")
def miopen_rnn(input: T, weight: list[T], stride0: int, hx: T, cx: T | None, mode: int, *_: Any, out: Out, **__: Any) -> Cost:
    # [t, b, i] or packed [sum of lengths, i]
    return _run(MODES[mode], input, hx.shape[1], weight, _layers(hx, first(out)))


@rule("_cudnn_rnn_backward", "miopen_rnn_backward", klass="rnn")
def rnn_backward(  # long: the operator's own arguments
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
) -> Cost:
    # as the forward, twice
    return _run(MODES[mode], input, hx.shape[1], weight, _layers(hx, output), times=2)


@rule("mkldnn_rnn_layer", klass="rnn")
def mkldnn_rnn_layer(  # long: the operator's own arguments
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
) -> Cost:
    # one layer, one direction: [t, b, i]; without biases weight2 and weight3 are zeros that nobody adds
    weights = [weight0, weight1, weight2, weight3] if has_biases else [weight0, weight1]
    return _run(MODES[mode], input, prod(hx_.shape[:-1]), weights)


@rule("mkldnn_rnn_layer_backward", klass="rnn")
def mkldnn_rnn_layer_backward(  # long: the operator's own arguments
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
) -> Cost:
    # as the forward, twice
    weights = [weight1, weight2, weight3, weight4] if has_biases else [weight1, weight2]
    return _run(MODES[mode], input, prod(hx_.shape[:-1]), weights, times=2)


@rule("_thnn_fused_lstm_cell", klass="pointwise")
def fused_lstm_cell(
    input_gates: T, hidden_gates: T, cx: T, input_bias: T | None = None, hidden_bias: T | None = None, *, out: Out, **_: Any
) -> int:
    # gates [b, 4h], c [b, h]: what stands around the two products
    biases = (input_bias is not None) + (hidden_bias is not None)
    return cx.numel * CELL["lstm"] + biases * input_gates.numel


@rule("_thnn_fused_gru_cell", klass="pointwise")
def fused_gru_cell(
    input_gates: T, hidden_gates: T, hx: T, input_bias: T | None = None, hidden_bias: T | None = None, *, out: Out, **_: Any
) -> int:
    # gates [b, 3h], h [b, h]
    biases = (input_bias is not None) + (hidden_bias is not None)
    return hx.numel * CELL["gru"] + biases * input_gates.numel


@rule("_thnn_fused_lstm_cell_backward", "_thnn_fused_lstm_cell_backward_impl", klass="pointwise")
def fused_lstm_cell_backward(grad_hy: T | None, grad_cy: T | None, cx: T, *_: Any, out: Out, **__: Any) -> int:
    # tanh(c) again 1; do 1; dc = dh o (1 - t^2) + dc' 5; df, di, dg, dc_prev 4; three sigmoids' slopes (3) and a tanh's (3): 12
    return cx.numel * (1 + 1 + 5 + 4 + 12)


@rule("_thnn_fused_gru_cell_backward", klass="pointwise")
def fused_gru_cell_backward(grad_hy: T, *_: Any, out: Out, **__: Any) -> int:
    # dz = dh (h - n) z (1 - z) 5; dn = dh (1 - z) (1 - n^2) 5; dr = dn hn r (1 - r) 4; d hn = dn r 1; dh = dh z 1
    return grad_hy.numel * 16


# --- int8: the products as above, weights packed beside their scales


def _matrices(params: Any) -> list[T]:
    if isinstance(params, T):
        return [params]
    return [w for p in params or () for w in _matrices(p)] if isinstance(params, list | tuple) else []


def _quantized_layer(kind: str) -> None:
    @rule(f"quantized_{kind}", klass="rnn")
    def layer(*args: Any, out: Out, **_: Any) -> Count:
        # as `lstm`; None where the packed weights cannot be seen
        weights = _matrices(args[3] if _packed(args) else args[2])
        hx = _matrices(args[2] if _packed(args) else args[1])
        state = hx[0].shape if hx else (1, 1, 1)
        batch, layers = state[1] if len(state) == 3 else 1, _layers(hx[0], first(out)) if hx else 1
        return _run(kind, args[0], batch, weights, layers) if weights else None


for _kind in ("lstm", "gru"):
    _quantized_layer(_kind)


def _quantized_cell(kind: str) -> None:
    @rule(f"quantized_{kind}_cell", f"quantized.quantized_{kind}_cell_dynamic", klass="rnn")
    def cell(input: T, hx: Any, w_ih: Any, w_hh: Any, *biases: Any, out: Out, **_: Any) -> Count:
        # [b, i], [b, h] -> [b, h]
        weights = [w for w in (*_matrices(w_ih), *_matrices(w_hh)) if len(w.shape) == 2][:2]
        if len(weights) < 2:
            return None
        given = [b for b in biases[:2] if isinstance(b, T) and len(b.shape) == 1]
        return _run(kind, input, prod(input.shape[:-1]), weights + given)


for _kind in GATES:
    _quantized_cell(_kind)
