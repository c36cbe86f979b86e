"""What only the values of small tensors tell of an operator's work: how long packed sequences are, how large boxes.

A rule of `cost` sees shapes. Where the values are there, what they mean goes along as a further keyword argument of the call;
where they are not, the model is run in another way if it can be. Where it cannot, boxes are as large as the image, and of
anything else the count is unknown. And what an operator gives that runs on no CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from roofline.cost.pool import AS_LARGE
from roofline.tracing.arguments import map_tensors

# of a tensor: its values, None where nobody knows them
Values = Callable[[torch.Tensor | None], torch.Tensor | None]
META = torch.device("meta")
NOTHING: dict[str, Any] = {}
# Elements of a tensor of floats that is looked into later: boxes.
FEW = 2**14


def _lengths(values: Values, q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, *_: Any, **__: Any) -> dict[str, Any] | None:
    """`torch_attn::_varlen_attn`: (queries, keys) of each sequence."""
    ends = values(cu_q), values(cu_k if cu_k is not None else cu_q)
    if ends[0] is None or ends[1] is None:
        return None
    queries, keys = (e.diff().tolist() for e in ends if e is not None)
    return {"lengths": [list(pair) for pair in zip(queries, keys, strict=False)]}


def _lengths_backward(values: Values, *args: Any, **_: Any) -> dict[str, Any] | None:
    # gradient, q, k, v, result, logsumexp, ends
    return _lengths(values, *args[1:4], *args[6:8])


def _adaptive(
    values: Values, x: Any, rois: torch.Tensor, scale: float, height: int, width: int, ratio: int, aligned: bool = False
) -> dict[str, Any] | None:
    """`roi_align` with as many samples a side of a bin as the box is large: samples of all boxes in a channel."""
    if ratio > 0:
        return {}
    boxes = values(rois)
    if boxes is None:
        return None
    x1, y1, x2, y2 = (boxes[:, 1:5].double() * scale).unbind(1)
    wide, high = x2 - x1, y2 - y1
    if not aligned:
        wide, high = wide.clamp(min=1.0), high.clamp(min=1.0)
    samples = (high / height).ceil().clamp(min=0) * (wide / width).ceil().clamp(min=0)
    return {"samples": int(samples.sum()) * height * width}


def _adaptive_by_position(
    values: Values, x: Any, rois: torch.Tensor, scale: float, height: int, width: int, ratio: int
) -> dict[str, Any] | None:
    """The same of `ps_roi_align`, whose boxes are aligned."""
    return _adaptive(values, x, rois, scale, height, width, ratio, True)


def _adaptive_backward(
    values: Values, grad: Any, rois: torch.Tensor, scale: float, height: int, width: int, *rest: Any
) -> dict[str, Any] | None:
    """Of the gradient of `roi_align`; the rest: batch, channels and sizes of the image, ratio, whether aligned."""
    return _adaptive(values, grad, rois, scale, height, width, *rest[4:6])


def _adaptive_by_position_backward(
    values: Values, grad: Any, rois: torch.Tensor, channels: Any, scale: float, height: int, width: int, ratio: int, *_: Any
) -> dict[str, Any] | None:
    return _adaptive(values, grad, rois, scale, height, width, ratio, True)


def _windows(
    values: Values, x: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int, by_position: bool = False
) -> dict[str, Any] | None:
    """`roi_pool`, and `ps_roi_pool`: pixels of the windows of all boxes in a channel."""
    boxes = values(rois)
    if boxes is None:
        return None
    x1, y1, x2, y2 = _rounded(boxes[:, 1:5].double() * scale).unbind(1)
    # torchvision's: the one counts the last pixel of a box in, the other leaves the last row and column of the image out
    last, edge = (0, 1) if by_position else (1, 0)
    across = _pixels(x1, (x2 - x1 + last).clamp(min=1), width, x.shape[-1] - edge)
    down = _pixels(y1, (y2 - y1 + last).clamp(min=1), height, x.shape[-2] - edge)
    return {"pixels": int((across * down).sum())}


def _windows_by_position(
    values: Values, x: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int
) -> dict[str, Any] | None:
    return _windows(values, x, rois, scale, height, width, by_position=True)


def _rounded(t: torch.Tensor) -> torch.Tensor:
    """Half away from zero, as C rounds."""
    return t.sign() * (t.abs() + 0.5).floor()


def _pixels(start: torch.Tensor, size: torch.Tensor, bins: int, most: int) -> torch.Tensor:
    """Along one side, pixels of all windows of each box: bins overlap where they share one."""
    at = torch.arange(bins, dtype=torch.double)[None]
    step = (size / bins)[:, None]
    low = ((at * step).floor() + start[:, None]).clamp(0, most)
    high = (((at + 1) * step).ceil() + start[:, None]).clamp(0, most)
    return (high - low).clamp(min=0).sum(1)


def asked(recorder: Any, ask: Callable[..., dict[str, Any] | None], args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What values tell of an operator's work; where they are not there, a note."""

    def values(t: torch.Tensor | None) -> torch.Tensor | None:
        return t if t is None or not t.is_meta else recorder.contents.get(recorder._tag(t)[1].id)

    found = ask(values, *args, **kwargs)
    if found is None:
        recorder.notes += [NOTE] if ask in (_lengths, _lengths_backward) else [NOTE, AS_LARGE]
    return found or {}


def on_no_cpu(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operator of a library's that has kernels for an accelerator alone gives, by its own account of the shapes: zeros.
    None for one of torch's own, and where there is no such account."""
    if func.namespace in ("aten", "prims"):
        return None
    try:
        shapes = func(*map_tensors(_no_memory, args), **{k: map_tensors(_no_memory, v) for k, v in kwargs.items()})
    except Exception:  # the library's own
        return None
    return map_tensors(lambda t: torch.zeros(t.shape, dtype=t.dtype), shapes)


def _no_memory(t: torch.Tensor) -> torch.Tensor:
    return t.to(META)


# Notes: the first makes a pass one of which another way may know more.
NOTE = "how much an operator does depends on values that are not there"
ZEROS = "{} runs on no CPU: its result was zeros, of the shapes that it says itself"

TOLD: dict[str, Callable[..., dict[str, Any] | None]] = {
    "torch_attn._varlen_attn": _lengths,
    "torch_attn._varlen_attn_backward": _lengths_backward,
    "torchvision.roi_align": _adaptive,
    "torchvision.ps_roi_align": _adaptive_by_position,
    "torchvision._roi_align_backward": _adaptive_backward,
    "torchvision._ps_roi_align_backward": _adaptive_by_position_backward,
    "torchvision.roi_pool": _windows,
    "torchvision.ps_roi_pool": _windows_by_position,
}
