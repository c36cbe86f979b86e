"""A training step on real tensors: the operators that a CPU runs, in order, with the dtypes of their results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

# nothing runs: memory is reserved, metadata asked for, or a view made
SILENT = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "_local_scalar_dense", "detach_")


# torch registers one implementation of them for all backends, which calls several kernels
WRITTEN_ONCE = {
    "_safe_softmax": "CompositeExplicitAutograd",
    "select_backward": "CompositeExplicitAutogradNonFunctional",
    "slice_backward": "CompositeExplicitAutograd",
}


class Log(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch
    """Names and result dtypes of the operators that real tensors run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of torch
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        if name in WRITTEN_ONCE:
            with self:
                return func._op_dk(getattr(torch._C.DispatchKey, WRITTEN_ONCE[name]), *args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if name not in SILENT and not name.startswith("_record_function") and not is_view(func, args, result):
            self.seen.append(line(name, result))
        return result


def is_view(func: Any, args: Any, result: Any) -> bool:
    if func._schema.is_mutable or not isinstance(result, (Tensor, list)) or (isinstance(result, list) and not result):
        return False
    first = result if isinstance(result, Tensor) else result[0]
    inputs = [a for a in args if isinstance(a, Tensor)]
    return any(a.untyped_storage()._cdata == first.untyped_storage()._cdata for a in inputs)


def line(name: str, result: Any) -> str:
    # a dispatch mode keeps autograd from adding gradients in place, so both are one to this comparison
    several = result if isinstance(result, (list, tuple)) else [result]
    first = next((t for t in several if isinstance(t, Tensor)), None)
    return f"{'add' if name == 'add_' else name} {str(first.dtype)[6:] if first is not None else ''}"


def real_step(module: nn.Module, inputs: list[Tensor], amp: bool = False) -> list[str]:
    """Forward and backward of the sum of the floating results."""
    module.train()
    with Log() as log:
        with torch.autocast("cpu", enabled=amp):
            out = module(*inputs)
        floats = [t for t in (out if isinstance(out, tuple) else (out,)) if t.requires_grad]
        loss = floats[0].sum()
        for t in floats[1:]:
            loss = loss + t.sum()
        loss.backward()
    found: list[str] = log.seen
    return found
