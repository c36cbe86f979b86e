"""The textbook memory traffic of a model, worked out without any part of roofline.

Every parameter and buffer is read once, and every fresh output of a layer is written once. Leaf modules are counted
by forward hooks from the table below, operations between them (residual adds, gates, concatenations) by a function
mode. A module type that the table does not know raises: a test must not pass because something was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

# These always write a tensor of their own.
_FRESH = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)
# These do unless they work in place.
_ACTIVATION = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU)
_ACTIVATION_FRESH = (nn.GELU, nn.Sigmoid, nn.Tanh)
# In evaluation mode these hand their input on.
_NOTHING = (nn.Dropout, nn.Identity, nn.Flatten)


def _tensors(value: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Between(TorchFunctionMode):
    """Counts what functions called outside leaf modules write: results whose storage none of their arguments has."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        self.nbytes = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.inside:
            known = {_storage(t) for t in _tensors((args, kwargs or {}))}
            for tensor in _tensors(result):
                if _storage(tensor) not in known:
                    known.add(_storage(tensor))
                    self.nbytes += _nbytes(tensor)
        return result


def _written(module: nn.Module, output: object) -> int:
    if isinstance(module, _NOTHING):
        return 0
    if isinstance(module, _ACTIVATION) and module.inplace:
        return 0
    if isinstance(module, _FRESH + _ACTIVATION + _ACTIVATION_FRESH):
        return sum(_nbytes(t) for t in _tensors(output))
    raise NotImplementedError(f"ideal_bytes does not know {type(module).__name__}")


def ideal_bytes(module: nn.Module, *inputs: Any) -> int:
    """Bytes of the parameters and buffers once, plus those of every fresh output, of one forward pass in eval mode.

    Tied parameters count once. BatchNorm's `num_batches_tracked` is a counter of training that inference never reads,
    so it is left out. The module is put back as it was.
    """
    weights = {id(t): _nbytes(t) for t in module.parameters()}
    weights |= {id(t): _nbytes(t) for name, t in module.named_buffers() if not name.endswith("num_batches_tracked")}
    written = 0
    mode = _Between()

    def enter(leaf: nn.Module, args: Any) -> None:
        mode.inside += 1

    def leave(leaf: nn.Module, args: Any, output: Any) -> None:
        nonlocal written
        mode.inside -= 1
        written += _written(leaf, output)

    training = {m: m.training for m in module.modules()}
    with ExitStack() as stack:
        for leaf in module.modules():
            # A module without children that is none of torch's own is somebody's functional code: look inside.
            if not any(leaf.children()) and type(leaf).__module__.startswith("torch.nn."):
                if isinstance(leaf, nn.Sequential):
                    continue
                stack.callback(leaf.register_forward_pre_hook(enter).remove)
                stack.callback(leaf.register_forward_hook(leave).remove)
        module.eval()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(mode)
        module(*inputs)
    for m, flag in training.items():
        m.training = flag
    return sum(weights.values()) + written + mode.nbytes
