"""What eager PyTorch launches for one operator, where that is more than one kernel.

Three kinds of operator are several kernels. Those that torch takes apart for every backend (CompositeImplicitAutograd) and
those that are written once in terms of others (CompositeExplicitAutograd) say so themselves: their own C++ runs on meta
tensors, and what it calls is recorded. A kernel of a backend that calls others inside is a black box there: the
functions below say what it calls, on a CPU and on a GPU.

A function here gets whether the target is a GPU, and the operator's arguments. It returns None where the operator is one
kernel, else what to run instead, which makes the same results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from roofline.records import Op, OpSpec
from roofline.tracing import memo
from roofline.tracing.arguments import IMPLICIT, alike, map_tensors
from roofline.tracing.refusals import broadcast

aten = torch.ops.aten
Parts = Callable[[], Any]
# Where torch keeps what is written in terms of others.
EXPLICIT = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")

# Written in terms of others, and recorded whole all the same: one kernel (each was seen to be; not looking again is quicker),
# or a library's call, which torch picks by backend.
_WHOLE = """
    convolution convolution_backward convolution_overrideable _convolution mkldnn_convolution conv_tbc _grouped_mm _scaled_mm
    _batch_norm_with_update _native_batch_norm_legit_no_training _native_batch_norm_legit_functional _chunk_cat copy_
    clone embedding stack mean sum zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full arange rand_like
    empty_like new_empty scalar_tensor constant_pad_nd rsub repeat randn rand randint eye linspace
"""
WHOLE = frozenset(f"aten.{name}" for name in _WHOLE.split())


def implicit(func: torch._ops.OpOverload, *args: Any, **kwargs: Any) -> Parts:
    return partial(func._op_dk, IMPLICIT, *args, **kwargs)


# ------------------------------------------------------------------------------------------------ losses

_MEAN, _SUM = 1, 2


def _loss(name: str, copied: bool = False, kept: bool = True) -> Callable[..., Parts | None]:
    """A loss whose kernel writes one number for each element: their mean or sum is a kernel of its own.

    The number that comes out keeps the memory that was made for all of them (`kept`: ATen's Loss.cpp shrinks its result and
    does not let go), or the mean is copied into it (`copied`).
    """

    def parts(gpu: bool, *args: Any, **kwargs: Any) -> Parts | None:
        func = getattr(aten, name).default
        named = dict(zip([a.name for a in func._schema.arguments], args, strict=False)) | kwargs
        reduction = named.get("reduction", _MEAN)
        if reduction not in (_MEAN, _SUM):
            return None

        def run() -> torch.Tensor:
            reduce = aten.mean if reduction == _MEAN else aten.sum
            x, target = named["self"], named["target"]
            if copied:
                each = func(**named | {"reduction": 0})
                return each.as_strided((), ()).copy_(reduce(each))  # type: ignore[no-any-return]  # an operator of torch's
            if not kept:
                return reduce(func(**named | {"reduction": 0}))  # type: ignore[no-any-return]  # an operator of torch's
            shape = broadcast([tuple(x.shape), tuple(target.shape)]) or x.shape
            whole = torch.empty(shape, dtype=torch.result_type(x, target), device=x.device)
            each = func(**named | {"reduction": 0})
            over = aten.mean.out if reduction == _MEAN else aten.sum.IntList_out
            dims = list(range(each.dim()))
            return over(each, dims, out=whole.as_strided((), ()))  # type: ignore[no-any-return]  # an operator of torch's

        return run

    return parts


# ------------------------------------------------------------------------------------------------ others


def _softmax(name: str) -> Callable[..., Parts | None]:
    def parts(gpu: bool, x: torch.Tensor, dim: Any, dtype: torch.dtype | None = None) -> Parts | None:
        # CUDA's kernel reads half precision and writes floats; every other conversion is a kernel of its own
        if dtype is None or dtype == x.dtype or (gpu and x.dtype == torch.float16 and dtype == torch.float32):
            return None
        return implicit(getattr(aten, name).int, x, dim, dtype)

    return parts


def _dropout_backward(gpu: bool, gradient: torch.Tensor, mask: torch.Tensor, scale: float) -> Parts | None:
    return None if gpu else lambda: gradient * (mask * scale)


def _linear(gpu: bool, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None) -> Parts | None:
    if x.dim() < 3 or x.is_contiguous():
        return None
    if not isinstance(w, nn.Parameter):
        return implicit(aten.linear.default, x, w, bias)

    def folded() -> torch.Tensor:
        # `matmul` lays the rows one after the other where the weight requires a gradient, the bias is added by itself
        out = aten.linear(x.reshape(-1, x.shape[-1]), w).view(*x.shape[:-1], w.shape[0])
        return out if bias is None else out.add_(bias)  # type: ignore[no-any-return]  # an operator of torch's

    return folded


def _attention(*args: Any, **kwargs: Any) -> Parts | None:
    from roofline.tracing.composites import parts_of_attention  # the first trace of a model without it does not wait

    return parts_of_attention(*args, **kwargs)


EXPANSIONS: dict[str, Callable[..., Parts | None]] = {
    "aten.mse_loss": _loss("mse_loss"),
    "aten.smooth_l1_loss": _loss("smooth_l1_loss"),
    "aten.huber_loss": _loss("huber_loss", kept=False),
    "aten.binary_cross_entropy": _loss("binary_cross_entropy", copied=True),
    "aten.scaled_dot_product_attention": _attention,
    "aten.linear": _linear,
    "aten.native_dropout_backward": _dropout_backward,
    "aten.softmax": _softmax("softmax"),
    "aten.log_softmax": _softmax("log_softmax"),
}


# ------------------------------------------------------------------------------------------------ by a trial


class Trial(Protocol):
    """A recorder of its own, to see what an operator does."""

    specs: list[OpSpec]
    ops: list[Op]
    kind_asked: bool

    def __enter__(self) -> Any: ...
    def __exit__(self, *error: Any) -> Any: ...
    def close(self) -> None: ...


# kind of device and call -> whether the operator is more than one kernel, and whether that hangs on the kind
_apart: dict[tuple[bool, tuple[Any, ...]], tuple[bool, bool]] = {}


def falls_apart(
    recorder: Callable[[None, bool], Trial],
    gpu: bool,
    func: torch._ops.OpOverload,
    where: torch._C.DispatchKey,
    key: tuple[Any, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[bool, bool]:
    """Whether an operator that is written in terms of others launches more than one kernel, by running it aside, and whether
    that hangs on the kind of device. `key` stands for the call."""
    found = _apart.get((gpu, key))
    if found is None:
        trial = recorder(None, gpu)
        try:
            with trial:
                func._op_dk(where, *map_tensors(alike, args), **{k: map_tensors(alike, v) for k, v in kwargs.items()})
            apart = sum(trial.specs[op.spec].launches for op in trial.ops) > 1
        except (RuntimeError, NotImplementedError):  # it looks at values, or at what meta tensors lack
            apart = False
        trial.close()
        if len(_apart) >= memo.LIMIT:
            _apart.clear()
        found = _apart[gpu, key] = apart, trial.kind_asked
    return found
