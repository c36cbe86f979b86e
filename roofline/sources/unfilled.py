"""While a model is built on meta tensors nothing is filled: they hold no values, and to ask torch for it is half of the time.

Torch's own `with device:` and a dispatch mode would be enough. But both are asked for every tensor and every step of an
initialiser, so that what is known to do nothing is answered before it reaches them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils._device import DeviceContext, _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
# Operators that fill a tensor.
_FILLS = {
    "uniform_",
    "normal_",
    "fill_",
    "zero_",
    "bernoulli_",
    "exponential_",
    "erfinv_",
    "clamp_",
    "mul_",
    "add_",
    "sub_",
    "div_",
    "copy_",
}
_ALLOCATES = {"empty", "empty_strided", "empty_like", "new_empty"}
# The same as methods, where all that they are given is numbers, which the operator would take.
_METHODS = frozenset(getattr(torch.Tensor, name) for name in _FILLS - {"copy_"})
_NUMBERS = frozenset({int, float, bool})
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones})
_ARGUMENTS = frozenset({"dtype", "device", "requires_grad"})
# Methods of torch's own layers that fill their parameters and buffers and do nothing else; one calls another, which a model may
# have in its own words.
_RESETS: tuple[tuple[type[nn.Module], str, str], ...] = (
    (nn.Linear, "reset_parameters", ""),
    (nn.modules.conv._ConvNd, "reset_parameters", ""),
    (nn.modules.batchnorm._NormBase, "reset_running_stats", ""),
    (nn.modules.batchnorm._NormBase, "reset_parameters", "reset_running_stats"),
    (nn.LayerNorm, "reset_parameters", ""),
    (nn.GroupNorm, "reset_parameters", ""),
    (nn.Embedding, "reset_parameters", ""),
)


class Unfilled(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """While a model is built: skip filling meta tensors; with `hybrid`, uninitialised tensors are meta, values are real."""

    def __init__(self, hybrid: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.hybrid = hybrid

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True imports torch._dynamo

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name in _FILLS and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return args[0]
        if self.hybrid:
            if name in _ALLOCATES and kwargs.get("device") in (None, torch.device("cpu")):
                kwargs = {**kwargs, "device": META}
            elif any(isinstance(a, torch.Tensor) and a.is_meta for a in args):
                args = tuple(a.to(META) if isinstance(a, torch.Tensor) else a for a in args)
        return func(*args, **kwargs)


class OnMeta(DeviceContext):
    """`with torch.device("meta"):` inside an `Unfilled`, for which it answers what needs no look at an operator."""

    def __init__(self) -> None:
        super().__init__(META)
        # a model may enter modes of its own, which then see what it makes
        self.depth = torch._C._len_torch_dispatch_stack()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _METHODS:
            if _does_nothing(args, kwargs):
                return args[0]
        elif func in _device_constructors() and kwargs.get("device") is None:
            kwargs["device"] = META
            if func in _FACTORIES and torch._C._len_torch_dispatch_stack() == self.depth and _plain(args, kwargs):
                with torch._C._DisableTorchDispatch():
                    return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


def _does_nothing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    tensor = args[0]
    if (kwargs and [*kwargs] != ["generator"]) or not all(type(a) in _NUMBERS for a in args[1:]):
        return False
    # torch refuses to fill what learns
    return bool(tensor.is_meta and not (tensor.requires_grad and torch.is_grad_enabled()))


def _plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a tensor is asked for by nothing but its sizes, its dtype and its device."""
    sizes = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
    return bool(args) and kwargs.keys() <= _ARGUMENTS and all(type(size) is int for size in sizes)


@contextmanager
def layers() -> Iterator[None]:
    """Torch's own layers leave their tensors as they are where those are meta. What a model puts in their place is called."""
    real = [(owner, name, vars(owner)[name]) for owner, name, _ in _RESETS]
    mine = [_unless_meta(function, calls) for (_, _, function), (_, _, calls) in zip(real, _RESETS, strict=True)]
    for (owner, name, _), function in zip(real, mine, strict=True):
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name, before), function in zip(real, mine, strict=True):
            if vars(owner).get(name) is function:
                setattr(owner, name, before)


def _unless_meta(real: Callable[[Any], None], calls: str) -> Callable[[Any], None]:
    def reset(module: Any) -> None:
        tensors = chain(module._parameters.values(), module._buffers.values())
        if not all(tensor is None or tensor.is_meta for tensor in tensors):
            real(module)
        elif calls:
            getattr(module, calls)()

    return reset
