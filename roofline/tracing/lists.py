"""Indices that a model's code writes as lists, or makes on the device of its tensors: `x[:, [0, 9]]`, `x[mask.tolist()]`,
`torch.tensor([0, 9], device=x.device)`.

Torch makes tensors of them before anybody sees what is in them, and where what they index has no memory, tensors without
values: nobody could tell whether they lie in range. A pass that met some is run once more with the values kept, to look at
them and at nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

_INDEXING = frozenset({"__getitem__", "__setitem__"})
_MAKING = frozenset({"tensor", "as_tensor", "new_tensor"})


class Kept(TorchFunctionMode):
    """Makes what indexes a tensor without memory, and tensors of whole numbers on meta, with their values, on the CPU.

    A mode, which is there for its own pass: a method set on torch.Tensor in its place would stay with the process, since torch
    takes a class that ever had such a method for a sequence.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _INDEXING and len(args) > 1 and args[0].is_meta:
            args = (args[0], _index(args[1]), *args[2:])
        elif name in _MAKING and args:
            own = args[0] if name == "new_tensor" else None
            data = args[-1]
            device = kwargs.get("device", own.device if own is not None else "cpu")
            whole = own is None or not (kwargs.get("dtype") or own.dtype).is_floating_point
            if str(device) == "meta" and whole and _whole(data):
                dtype = kwargs.get("dtype") or (own.dtype if own is not None else None)
                with _disable_current_modes():
                    return torch.tensor(data, dtype=dtype, device="cpu")
        return func(*args, **kwargs)


def _index(index: Any) -> Any:
    if type(index) is tuple:
        return tuple([_tensor(part) if _sequence(part) else part for part in index])
    # a list of lists may stand for a tuple
    return _tensor(index) if _sequence(index) and not any(map(_sequence, index)) else index


def _sequence(value: Any) -> bool:
    return type(value) in (list, tuple, range) or type(value).__name__ == "ndarray"


def _tensor(value: Any) -> Any:
    """The tensor that torch makes of an index; what holds anything but whole numbers and truths is left to torch."""
    value = list(value) if isinstance(value, range) else value
    if not _whole(value):
        return value
    try:
        with _disable_current_modes():
            made = torch.as_tensor(value, device="cpu")
            return made if made.dtype in (torch.bool, torch.uint8) else made.long()
    except (TypeError, ValueError, RuntimeError):  # rows of several lengths; torch says it of its own call
        return value


def _whole(value: Any) -> bool:
    """Whether it holds whole numbers and truths alone, whose values are there."""
    if isinstance(value, (list, tuple)):
        return all(map(_whole, value))
    if isinstance(value, torch.Tensor):
        return not (value.is_meta or value.is_floating_point() or value.is_complex())
    dtype = getattr(value, "dtype", None)
    return isinstance(value, int) if dtype is None else getattr(dtype, "kind", "") in ("i", "u", "b")
