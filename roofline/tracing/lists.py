"""Indices that a model's code writes as lists: `x[:, [0, 9]]`, `x[mask.tolist()]`.

Torch makes tensors of them where it sees them, and where what they index has no memory, tensors without values: nobody could
tell whether they lie in range, or how many places a mask has. Here they are made before, with their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

_base: Any = torch._C.TensorBase
_no_memory = _base.is_meta.__get__


@contextmanager
def as_tensors() -> Iterator[None]:
    """Meanwhile lists, tuples, ranges and arrays that index a tensor without memory are tensors with their values."""
    with ExitStack() as stack:
        for name in ("__getitem__", "__setitem__"):
            if name in vars(torch.Tensor):
                continue  # somebody's own
            setattr(torch.Tensor, name, _indexing(getattr(_base, name)))
            stack.callback(delattr, torch.Tensor, name)
        yield


def _indexing(real: Callable[..., Any]) -> Callable[..., Any]:
    def indexed(t: torch.Tensor, index: Any, *value: Any) -> Any:
        kind = type(index)
        if kind is tuple:
            for part in index:
                if _sequence(part):
                    index = tuple([_tensor(p) if _sequence(p) else p for p in index]) if _no_memory(t) else index
                    break
        # a list of lists may stand for a tuple
        elif kind is not int and kind is not slice and _sequence(index) and _no_memory(t) and not any(map(_sequence, index)):
            index = _tensor(index)
        return real(t, index, *value)

    return indexed


def _sequence(value: Any) -> bool:
    kind = type(value)
    return kind is list or kind is tuple or kind is range or kind.__name__ == "ndarray"


def _tensor(value: Any) -> Any:
    """The tensor that torch makes of an index; what holds anything but whole numbers and truths is left to torch."""
    if not isinstance(value, range) and not _whole(value):
        return value
    try:
        with _disable_current_modes():
            made = torch.as_tensor(list(value) if isinstance(value, range) else value, device="cpu")
            return made if made.dtype in (torch.bool, torch.uint8) else made.long()
    except (TypeError, ValueError, RuntimeError):  # rows of several lengths; torch says it of its own call
        return value


def _whole(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_whole, value))
    dtype = getattr(value, "dtype", None)
    return isinstance(value, int) if dtype is None else getattr(dtype, "kind", "") in ("i", "u", "b")
