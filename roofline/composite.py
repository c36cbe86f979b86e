"""Composite operators that a real device runs as one kernel and meta tensors would take apart, in a pass with gradients.

Attention goes to the kernel that torch chooses on the target. A recurrent layer is cuDNN's on a GPU, and oneDNN's (one
call for each layer and direction, LSTM only) on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from roofline.training import TrainingRecorder

aten = torch.ops.aten


# ------------------------------------------------------------------------------------------------ attention


def attention(gpu: bool) -> Callable[..., torch.Tensor]:
    choose = _gpu_attention if gpu else _cpu_attention

    def run(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        result = None
        if q.dim() == k.dim() == v.dim() == 4 and min(q.numel(), k.numel(), v.numel()) > 0:
            result = choose(q, k, v, attn_mask, dropout_p, is_causal, scale, enable_gqa)
        if result is None:
            whole_op = aten.scaled_dot_product_attention.default
            result = whole_op.decompose(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        return result

    return run


def _additive(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A boolean mask as the kernels take it: 0 where it is true, minus infinity elsewhere."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    zero, never = (torch.scalar_tensor(x, dtype=dtype, device=mask.device) for x in (0.0, float("-inf")))
    return torch.where(mask, zero, never)


def _cpu_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, dropout_p: float, causal: bool,
    scale: float | None, gqa: bool,
) -> torch.Tensor | None:  # fmt: skip
    """The CPU's flash kernel under the conditions of ATen's sdp_utils_cpp.cpp; None: the decomposition runs."""
    heads = q.shape[1] == k.shape[1] == v.shape[1] or (gqa and q.shape[1] % k.shape[1] == 0)
    width = q.shape[-1] == k.shape[-1] == v.shape[-1]
    fits = heads and width and all(t.stride(-1) == 1 for t in (q, k, v)) and not (causal and mask is not None)
    if dropout_p or not fits or (mask is not None and (mask.requires_grad or mask.dim() not in (2, 4))):
        return None
    result: torch.Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=_additive(mask, q.dtype), scale=scale
    )[0]
    return result


def _gpu_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, dropout_p: float, causal: bool,
    scale: float | None, gqa: bool,
) -> torch.Tensor | None:  # fmt: skip
    """Flash attention in half precision without a mask, else the memory-efficient kernel, as torch chooses on CUDA."""
    half = q.dtype in (torch.float16, torch.bfloat16)
    width = q.shape[-1]
    same = width == k.shape[-1] == v.shape[-1]
    if half and mask is None and same and width <= 256 and all(t.stride(-1) == 1 for t in (q, k, v)):
        scale = width**-0.5 if scale is None else scale
        short = -width % 8
        if short:
            q, k, v = (nn.functional.pad(t, (0, short)) for t in (q, k, v))
        result: torch.Tensor = aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, causal, False, scale=scale)[0]
        return result[..., :width] if short else result
    grouped = q.shape[1] != k.shape[1]
    aligned = 8 if half else 4
    if grouped or q.dtype == torch.float64 or (causal and mask is not None) or width % aligned or v.shape[-1] % aligned:
        return None
    bias = _additive(mask, q.dtype)
    if bias is not None:
        bias = bias.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    result = aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, dropout_p, causal, scale=scale)[0]
    return result


# ------------------------------------------------------------------------------------------------ recurrent layers

# cuDNN's and oneDNN's numbers for the kinds of layer, and gates of each
MODES = {"rnn_relu": (0, 1), "rnn_tanh": (1, 1), "lstm": (2, 4), "gru": (3, 3)}


def recurrent(recorder: TrainingRecorder) -> dict[torch._ops.OpOverload, Callable[..., Any]]:
    """What catches the recurrent layers of the target."""
    if not recorder.gpu:
        return {aten.lstm.input: _onednn_lstm}
    return {
        getattr(getattr(aten, kind), overload): _cudnn(recorder, kind, overload)
        for kind in MODES
        for overload in ("input", "data")
    }


def _cudnn(recorder: TrainingRecorder, kind: str, overload: str) -> Callable[..., Any]:
    func = getattr(getattr(aten, kind), overload)

    def layer(*args: Any) -> Any:
        packed = overload == "data"
        x, hx, params = args[0], args[2] if packed else args[1], args[3] if packed else args[2]
        state = list(hx) if isinstance(hx, (list, tuple)) else [hx]

        def forward(x: torch.Tensor, *rest: torch.Tensor) -> Any:
            states = list(rest[: len(state)])
            hidden = states if kind == "lstm" else states[0]
            middle = [args[1], hidden] if packed else [hidden]
            return func(x, *middle, list(rest[len(state) :]), *args[4 if packed else 3 :])

        return _Cudnn.apply(recorder, kind, forward, len(state), x, *state, *params)

    return layer


class _Cudnn(torch.autograd.Function):
    """One kernel forward, as in inference, and one backward. Between them cuDNN keeps the gates of every step."""

    @staticmethod
    def forward(ctx: Any, recorder: TrainingRecorder, kind: str, run: Any, states: int, *tensors: torch.Tensor) -> Any:
        mode, gates = MODES[kind]
        weights = tensors[1 + states :]
        with torch._C._AutoDispatchBelowAutograd():
            results = run(*tensors)
            steps = tensors[0].numel() // tensors[0].shape[-1]
            matrices = [w for w in weights if w.dim() == 2]
            tall = max(w.shape[0] for w in matrices)
            cells = sum(w.shape[0] for w in matrices if w.shape[0] == tall) // (2 * gates)
            kept = aten.empty([steps * cells * (gates + 1)], dtype=tensors[0].dtype, device=tensors[0].device)
        ctx.set_materialize_grads(False)
        ctx.recorder, ctx.mode, ctx.states = recorder, mode, states
        ctx.save_for_backward(kept, results[0], *tensors)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        kept, output, *tensors = ctx.saved_tensors
        x, states, weights = tensors[0], tensors[1 : 1 + ctx.states], tensors[1 + ctx.states :]
        results = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors]
        hx, cx = states[0], states[1] if len(states) > 1 else None
        grads = [*gradients, None, None][:3]
        ctx.recorder.emit(
            "aten._cudnn_rnn_backward", [x, list(weights), len(weights), kept, hx, cx, output, *grads, ctx.mode], results
        )
        return (None, None, None, None, *results)


def _onednn_lstm(
    x: torch.Tensor, hx: list[torch.Tensor], params: list[torch.Tensor], has_biases: bool, num_layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> Any:  # fmt: skip
    """ATen's native/mkldnn/RNN.cpp: a call for each layer and direction."""
    each = 4 if has_biases else 2
    directions = 2 if bidirectional else 1
    if x.dtype != torch.float32 or len(params) != each * directions * num_layers or not x.numel():
        whole = aten.lstm.input
        return whole.decompose(x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
    size = hx[0].shape[-1]
    hidden, cells = [], []
    out = x.transpose(0, 1) if batch_first else x
    for layer in range(num_layers):
        sides = []
        for side in range(directions):
            at = layer * directions + side
            w = params[at * each : (at + 1) * each]
            biases = w[2:] if has_biases else [torch.zeros(w[0].shape[0], device=x.device)] * 2
            y, h, c, _workspace = aten.mkldnn_rnn_layer(
                out, w[0], w[1], *biases, hx[0][at], hx[1][at], side == 1, [], 2, size, num_layers, has_biases, bidirectional,
                False, train,
            )  # fmt: skip
            sides.append(y)
            hidden.append(h)
            cells.append(c)
        out = sides[0] if directions == 1 else torch.cat(sides, -1)
        if dropout and train and layer < num_layers - 1:
            out = nn.functional.dropout(out, dropout, True)
    return (out.transpose(0, 1) if batch_first else out), torch.stack(hidden), torch.stack(cells)
