"""A pass on real tensors in half precision: the tensors are halves, and a CPU computes their products in fp32.

A CPU has few kernels for halves, and the slow ones of those; a GPU has all. Shapes, bytes and dtypes are those of the GPU's.
"""

from __future__ import annotations

from typing import Any

import torch

from roofline.tracing.arguments import map_tensors, tensors_in
from roofline.tracing.built import ONE_DTYPE
from roofline.tracing.recorder import Recorder

_HALVES = (torch.float16, torch.bfloat16)


class Halves(Recorder):  # type: ignore[no-untyped-call]  # torch's own
    """The recorder of such a pass; mixed into that of a training step too."""

    def _call(self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        half = next((t.dtype for t in (*tensors_in(args), *tensors_in(kwargs)) if t.dtype in _HALVES), None)
        if half is None or func._schema.is_mutable:
            return super()._call(func, args, kwargs)
        name = str(func.overloadpacket)
        if name not in ONE_DTYPE and not name.startswith("torchvision."):
            try:
                return func(*args, **kwargs)
            except NotImplementedError:  # "not implemented for 'Half'"
                pass
        args, kwargs = map_tensors(_wide, args), {k: map_tensors(_wide, v) for k, v in kwargs.items()}
        result = super()._call(func, args, kwargs)

        def narrow(t: torch.Tensor) -> torch.Tensor:
            return t.to(half) if t.dtype == torch.float32 else t

        return map_tensors(narrow, result)


def _wide(t: torch.Tensor) -> torch.Tensor:
    return t.float() if t.dtype in _HALVES else t
