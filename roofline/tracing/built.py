"""The dtypes that a model was built in: its own, which it is analysed in where no other is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from roofline.dtypes import SETTINGS, SHORT
from roofline.tracing.arguments import tensors_in

# Products and convolutions, which refuse operands of different floating types; everything else promotes or casts.
_ONE_DTYPE = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution linear addmm mm addmv mv bmm baddbmm
    dot scaled_dot_product_attention lstm gru rnn_tanh rnn_relu
"""
ONE_DTYPE = frozenset(f"aten.{name}" for name in _ONE_DTYPE.split())


def _short(dtype: torch.dtype) -> str:
    name = str(dtype)[6:]
    return SHORT.get(name, name)


def floats(tensors: Iterable[torch.Tensor]) -> dict[torch.dtype, int]:
    """Bytes of the floating tensors by dtype, the most first; what weights are stored as in few bits is not computed in."""
    found: dict[torch.dtype, int] = {}
    for t in tensors:
        if t.dtype.is_floating_point and not is_lazy(t) and not hasattr(t, "_roofline_elements"):
            found[t.dtype] = found.get(t.dtype, 0) + t.numel() * t.dtype.itemsize
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def setting(parameters: Iterable[torch.Tensor], inputs: Iterable[torch.Tensor]) -> tuple[str, str]:
    """The dtype that an analysis of a model as built is one in, and all of the model's in words ("bf16 and fp32").

    They are those of the parameters, of the floating inputs where it has none, else fp32.
    """
    found = [_short(dtype) for dtype in floats(parameters) or floats(inputs)] or ["fp32"]
    return next((name for name in found if name in SETTINGS), "fp32"), " and ".join(found)


def own(module: torch.nn.Module) -> torch.dtype:
    """What a floating input is in where nothing is said: the dtype of all floating parameters, else float32."""
    found = wide(module)
    return found[0] if len(found) == 1 else torch.float32


def wide(module: torch.nn.Module) -> list[torch.dtype]:
    """The dtypes of at least two bytes of a module's parameters, most bytes first: those that it may compute in."""
    return [dtype for dtype in floats(module.parameters()) if dtype.itemsize >= 2]


def mismatch(name: str, tensors: Iterable[torch.Tensor]) -> str:
    """What a real device says of operands in different floating types; empty where it takes them."""
    found = {str(t.dtype)[6:] for t in tensors if t.dtype.is_floating_point} if name in ONE_DTYPE else set()
    return f"{name} needs operands of one floating dtype, and got {' and '.join(sorted(found))}" if len(found) > 1 else ""


def others(module: torch.nn.Module, call: Any) -> list[torch.dtype]:
    """In which floating dtypes a call may be meant that the module does not take as it is: those of the module."""
    have = list(floats(tensors_in(call)))
    return [dtype for dtype in wide(module) if have and have != [dtype]]
