"""Composite operators that a real device runs as one kernel and meta tensors would take apart, in a pass with gradients.

Attention goes to the kernel that torch chooses on the target. A recurrent layer is cuDNN's on a GPU, and oneDNN's (one
call for each layer and direction, LSTM only) on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from roofline.tracing.arguments import IMPLICIT

aten = torch.ops.aten


# ------------------------------------------------------------------------------------------------ attention


def attention(gpu: bool) -> Callable[..., torch.Tensor]:
    """Attention as the target runs it, for a pass with gradients."""

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
        if as_images(q, k, v):
            return _of_one_image(run, q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if not fused(gpu, q, k, v, attn_mask, dropout_p, is_causal, enable_gqa):
            whole = aten.scaled_dot_product_attention.default
            return whole._op_dk(  # type: ignore[no-any-return]  # an operator of torch's
                IMPLICIT, q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        kernel = _gpu_attention if gpu else _cpu_attention
        return kernel(q, k, v, attn_mask, dropout_p, is_causal, scale)

    return run


def parts_of_attention(
    gpu: bool,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Callable[[], Any] | None:
    """For inference: None where one kernel takes it, as `expansion.py` wants it."""
    whole = aten.scaled_dot_product_attention.default
    if as_images(q, k, v):
        return partial(_of_one_image, whole, q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if fused(gpu, q, k, v, attn_mask, dropout_p, is_causal, enable_gqa):
        return None
    return partial(whole._op_dk, IMPLICIT, q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)


def _of_one_image(
    call: Callable[..., torch.Tensor],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    *rest: Any,
    **named: Any,
) -> torch.Tensor:
    """`call` on a batch of the one image, as torch does; a mask of two dimensions is for all heads and stays."""
    mask = mask.unsqueeze(0) if mask is not None and mask.dim() == 3 else mask
    return call(*(t.unsqueeze(0) for t in (q, k, v)), mask, *rest, **named).squeeze(0)


def as_images(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
    """Whether torch takes [heads, length, width] as one image of a batch."""
    return q.dim() == k.dim() == v.dim() == 3 and _takes_three_dimensions()


@cache
def _takes_three_dimensions() -> bool:
    """Newer versions of torch do: seen in what their own code calls first."""
    seen: list[str] = []

    class Look(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    x = torch.empty(1, 1, 8)
    with torch.inference_mode(), Look():  # type: ignore[no-untyped-call]  # torch's own
        aten.scaled_dot_product_attention.default._op_dk(IMPLICIT, x, x, x)
    return "unsqueeze" in seen[0]


def fused(
    gpu: bool,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    dropout_p: float,
    causal: bool,
    gqa: bool,
) -> bool:
    """Whether one kernel takes it, by torch's own conditions: sdp_utils_cpp.cpp of ATen and cuda/sdp_utils.cpp."""
    if not (q.dim() == k.dim() == v.dim() == 4) or min(q.numel(), k.numel(), v.numel()) == 0:
        return False
    rows = all(t.stride(-1) == 1 for t in (q, k, v))
    same = q.shape[-1] == k.shape[-1] == v.shape[-1]
    # heads of keys that are fewer are taken where they were asked to be (enable_gqa); else they, and batches, are broadcast
    heads = q.shape[1] == k.shape[1] == v.shape[1] or (gqa and q.shape[1] % k.shape[1] == 0 and k.shape[1] == v.shape[1])
    if gpu:
        batches = q.shape[0] == k.shape[0] == v.shape[0]
        return batches and ((heads and _flash(q, k, v, mask)) or _efficient(q, k, v, mask, causal))
    masked = mask is not None and (causal or mask.requires_grad or mask.dim() not in (2, 4))
    return heads and same and rows and not dropout_p and not masked


def _flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Half precision without a mask."""
    width = q.shape[-1]
    return (
        q.dtype in (torch.float16, torch.bfloat16)
        and mask is None
        and width == k.shape[-1] == v.shape[-1]
        and width <= 256
        and all(t.stride(-1) == 1 for t in (q, k, v))
    )


def _efficient(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> bool:
    aligned = 8 if q.dtype in (torch.float16, torch.bfloat16) else 4
    return (
        q.shape[1] == k.shape[1]
        and q.dtype != torch.float64
        and not (causal and mask is not None)
        and not q.shape[-1] % aligned
        and not v.shape[-1] % aligned
    )


def _additive(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A boolean mask as the kernels take it: 0 where it is true, minus infinity elsewhere."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    zero, never = (torch.scalar_tensor(x, dtype=dtype, device=mask.device) for x in (0.0, float("-inf")))
    return torch.where(mask, zero, never)


def _cpu_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    dropout_p: float,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """The CPU's flash kernel."""
    result: torch.Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=_additive(mask, q.dtype), scale=scale
    )[0]
    return result


def _gpu_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    dropout_p: float,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """Flash attention, else the memory-efficient kernel, as torch chooses on CUDA."""
    if _flash(q, k, v, mask):
        width = q.shape[-1]
        scale = width**-0.5 if scale is None else scale
        short = -width % 8
        if short:
            q, k, v = (nn.functional.pad(t, (0, short)) for t in (q, k, v))
        result: torch.Tensor = aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, causal, False, scale=scale)[0]
        return result[..., :width] if short else result
    bias = _additive(mask, q.dtype)
    if bias is not None:
        bias = bias.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    result = aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, dropout_p, causal, scale=scale)[0]
    return result


# ------------------------------------------------------------------------------------------------ recurrent layers

# cuDNN's and oneDNN's numbers for the kinds of layer, and gates of each
MODES = {"rnn_relu": (0, 1), "rnn_tanh": (1, 1), "lstm": (2, 4), "gru": (3, 3)}


class Recording(Protocol):
    """What records a pass with gradients."""

    @property
    def gpu(self) -> bool: ...

    def emit(self, name: str, args: list[Any], results: Sequence[torch.Tensor]) -> None: ...


def recurrent(recorder: Recording) -> dict[torch._ops.OpOverload, Callable[..., Any]]:
    """What catches the recurrent layers of the target."""
    if not recorder.gpu:
        return {aten.lstm.input: _onednn_lstm}
    return {
        getattr(getattr(aten, kind), overload): _cudnn(recorder, kind, overload)
        for kind in MODES
        for overload in ("input", "data")
    }


def _cudnn(recorder: Recording, kind: str, overload: str) -> Callable[..., Any]:
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
    def forward(ctx: Any, recorder: Recording, kind: str, run: Any, states: int, *tensors: torch.Tensor) -> Any:
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
    x: torch.Tensor,
    hx: list[torch.Tensor],
    params: list[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """ATen's native/mkldnn/RNN.cpp: a call for each layer and direction."""
    each = 4 if has_biases else 2
    directions = 2 if bidirectional else 1
    if x.dtype != torch.float32 or len(params) != each * directions * num_layers or not x.numel():
        whole = aten.lstm.input
        return whole._op_dk(IMPLICIT, x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
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
                out,
                w[0],
                w[1],
                *biases,
                hx[0][at],
                hx[1][at],
                side == 1,
                [],
                2,
                size,
                num_layers,
                has_biases,
                bidirectional,
                False,
                train,
            )
            sides.append(y)
            hidden.append(h)
            cells.append(c)
        out = sides[0] if directions == 1 else torch.cat(sides, -1)
        if dropout and train and layer < num_layers - 1:
            out = nn.functional.dropout(out, dropout, True)
    return (out.transpose(0, 1) if batch_first else out), torch.stack(hidden), torch.stack(cells)
