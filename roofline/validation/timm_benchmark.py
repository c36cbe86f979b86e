"""A timm model as timm's own benchmark runs it: re-parameterised for inference, in a memory layout, with its fast norms.

The published tables were measured so: branches of RepVGG-like nets are fused, and under autocast timm's own norm layers
(not torch's) stay in half precision. Imports torch and timm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import _get_current_dispatch_mode

from roofline import compat
from roofline.errors import RooflineError, SourceError
from roofline.records import Trace
from roofline.sources import build
from roofline.sources.timm import TIMM
from roofline.sources.timm import size as image_size
from roofline.tracing import composites, trace
from roofline.tracing.arguments import IMPLICIT
from roofline.tracing.recorder import Recorder
from roofline.tracing.ways import Way
from roofline.validation import older

aten = torch.ops.aten


def make(name: str, size: int, millions: float | None = None, training: bool = False) -> nn.Module:
    """The model on meta, for square inputs of `size`, in eval mode or as it trains; SourceError where timm cannot build it.

    `millions` is the table's parameter count: it tells whether the model was timed re-parameterised or as it trains.
    """
    if training:
        return _build(name, size)
    with compat.fast_norms(_half):
        module = _build(name, size)
        plain = _millions(module)
        try:
            with torch.inference_mode(False), torch.no_grad(), torch.device("meta"):
                fused: nn.Module = compat.reparameterized(module).eval()
        except (RuntimeError, NotImplementedError):  # it reads its weights: fuse real ones
            module = _build(name, size, real=True)
            with torch.no_grad():
                fused = compat.reparameterized(module).to("meta").eval()
        if millions is None or abs(_millions(fused) - millions) <= abs(plain - millions):
            return fused
        return _build(name, size)


def default_size(name: str) -> int:
    """Pixels of an edge of the images that the model takes where nobody says a size: what `analyze` takes too."""
    return int(image_size(name)[-1])


def _millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def record(
    module: nn.Module,
    name: str,
    size: int,
    batch: int,
    *,
    dtype: str,
    kind: str,
    layout: str,
    training: bool = False,
    version: tuple[int, int] = older.LATEST,
) -> Trace:
    """Trace one batch. `kind` is the device's ("gpu", "cpu"), `layout` "nchw" or "nhwc" (channels last).

    A training step is one of SGD, without the fast norms, which the benchmark takes for inference alone. `version` is that of
    the PyTorch that ran it.
    """
    channels = getattr(module, "in_chans", None) or 3
    x = torch.empty((batch, channels, size, size), device="meta")
    step = "sgd" if training else ""
    norms = nullcontext() if training else compat.fast_norms(_half)
    with norms, _attention(version, kind == "gpu") if version < older.THREE_DIMENSIONS else nullcontext():
        return trace.trace(
            module,
            [x],
            name=name,
            source="timm",
            dtype=dtype,
            device_kind=kind,
            batch=batch,
            optimizer=step,
            way=Way(early=training and version < older.FUSED_ATTENTION),
            channels_last=layout == "nhwc",
        )


def _build(name: str, size: int, real: bool = False) -> nn.Module:
    """Some models fix their input size when they are built, others refuse the argument."""
    default = default_size(name)
    attempts: list[dict[str, Any]] = [{}] if size == default else [{"img_size": size}, {}]
    for args in attempts:
        try:
            return build.build(TIMM.source(name, args), real=real)
        except RooflineError as error:
            failure = error
    raise SourceError(str(failure))


@contextmanager
def _attention(version: tuple[int, int], gpu: bool) -> Iterator[None]:
    """Attention as that PyTorch runs it: where no fused kernel takes it, in its own dtype with a plain softmax until 2.4, and
    three dimensions are no image of a batch until 2.9."""
    whole = functional.scaled_dot_product_attention

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if composites.fused(gpu, q, k, v, mask, 0.0, False, False):
            return whole(q, k, v, mask)
        if version < older.ATTENTION_IN_FP32:
            # each operand takes the root of the scale, so that no product of halves is too large
            root = q.shape[-1] ** -0.25
            scores = (q * root) @ (k.transpose(-2, -1) * root)
            return torch.softmax(scores if mask is None else scores.add_(mask), -1) @ v
        parts: torch.Tensor = aten._scaled_dot_product_attention_math.default._op_dk(IMPLICIT, q, k, v, mask)[0]
        return parts

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        mask = kwargs.get("attn_mask")
        other = version < older.ATTENTION_IN_FP32 or q.dim() == 3
        more = args or any(value for name, value in kwargs.items() if name != "attn_mask")
        if not other or more or (mask is not None and mask.dtype == torch.bool):
            return whole(q, k, v, *args, **kwargs)
        return _half(run)(q, k, v, mask)

    functional.scaled_dot_product_attention = attention  # type: ignore[assignment]  # whatever it is called with
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = whole


def _half(plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`plain` with its tensors in autocast's dtype and autocast off, where autocast is on."""

    def norm(*args: Any, **kwargs: Any) -> torch.Tensor:
        recorder = _get_current_dispatch_mode()
        if not isinstance(recorder, Recorder) or recorder.policy is None:
            return plain(*args, **kwargs)
        policy, recorder.policy = recorder.policy, None
        try:
            cast = [a.to(recorder.casts.dtype) if isinstance(a, torch.Tensor) else a for a in args]
            return plain(*cast, **kwargs)
        finally:
            recorder.policy = policy

    return norm
