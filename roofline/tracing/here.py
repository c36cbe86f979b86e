"""Devices that a model asks for and that are not here: the host stands for them."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")


class Here(TorchFunctionMode):
    """Sends what a model puts on an accelerator, or makes on meta out of values, to the host: no such device is needed, and the
    values stay."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _MOVES and args and isinstance(args[0], torch.Tensor):
            return args[0]
        kwargs.pop("pin_memory", None)
        device = kwargs.get("device")
        if name == "to" and args and isinstance(args[0], torch.Tensor):
            own = args[0].device
            args = (args[0], *(own if _elsewhere(a) else a for a in args[1:]))
            if _elsewhere(device):
                kwargs["device"] = own
        elif _elsewhere(device):
            del kwargs["device"]  # where everything else is made
        elif name in ("tensor", "as_tensor") and str(device) == "meta":
            kwargs["device"] = CPU
        return func(*args, **kwargs)


# Methods of a tensor that move it.
_MOVES = frozenset({"cuda", "xpu", "mps", "npu", "hpu", "pin_memory"})
_ACCELERATORS = frozenset({"cuda", "xpu", "mps", "npu", "hpu", "mtia", "xla", "hip"})


def _elsewhere(device: Any) -> bool:
    """Whether an argument names an accelerator: "cuda:0", torch.device("mps"), or its number."""
    if isinstance(device, torch.device):
        return device.type in _ACCELERATORS
    return type(device) is int or (isinstance(device, str) and device.partition(":")[0] in _ACCELERATORS)
