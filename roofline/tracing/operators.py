"""What an operator's schema and its registered kernels say, worked out once for each.

What is one kernel in eager PyTorch is recorded as one op; here stands which operators those are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from roofline.tracing import meta, refusals
from roofline.tracing.arguments import tensors_in
from roofline.tracing.expansion import EXPANSIONS, EXPLICIT, WHOLE
from roofline.tracing.told import TOLD

if TYPE_CHECKING:
    from roofline.tracing.memo import Meta

# Operators that call others before any backend is asked, and yet end in one kernel (or one library call): recorded whole.
_ONE_KERNEL = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear batch_norm layer_norm group_norm
    softmax log_softmax scaled_dot_product_attention relu6 selu celu prelu max_pool1d max_pool2d
    max_pool3d avg_pool1d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d lstm gru rnn_tanh
    rnn_relu upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler
    embedding_bag pixel_shuffle pixel_unshuffle channel_shuffle std var std_mean var_mean nan_to_num tile
"""
ONE_KERNEL = frozenset(f"aten.{name}" for name in _ONE_KERNEL.split())
# ... and on a GPU alone
ONE_ON_GPU = frozenset({"aten.rms_norm", "aten._fused_rms_norm"})

# Dropout: where it is off, its input is its result. Torch's own decomposition copies it below 2.14.
_DROPOUT = frozenset(f"aten.{kind}dropout{end}" for kind in ("", "alpha_", "feature_", "feature_alpha_") for end in ("", "_"))

# What only some models have: the modules of its metadata rules are imported for them; a first trace is quick to start.
_RECURRENT = frozenset({"aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu"})
_GROUPED = frozenset({"aten._grouped_mm", "aten._scaled_grouped_mm"})

# Operators that only ask something of the tensor, or say something, never touching its data.
_QUERIES = {
    "prim.device",
    "prim.layout",
    "prim.dtype",
    "aten.sym_size",
    "aten.sym_stride",
    "aten.sym_numel",
    "aten.is_same_size",
    # record_function, which a profiler hears and no device
    "profiler._record_function_enter",
    "profiler._record_function_enter_new",
    "profiler._record_function_exit",
    "c10d.barrier",
}


class Func:
    """What an operator's schema says, worked out once."""

    __slots__ = (
        "composite",
        "dropout",
        "expand",
        "explicit",
        "infer",
        "mutates",
        "name",
        "overload",
        "pointwise",
        "query",
        "refuses",
        "told",
        "tracks",
    )

    def __init__(self, func: torch._ops.OpOverload) -> None:
        schema = func._schema
        self.name = str(func.overloadpacket)
        self.overload = func._overloadname
        functional = _functional(func) or func
        self.pointwise = torch.Tag.pointwise in functional.tags or str(functional.overloadpacket) in meta.UNTAGGED_POINTWISE
        self.query: Callable[..., Any] | None = _ask if self.name in _QUERIES else None
        self.dropout = self.name in _DROPOUT
        self.mutates = tuple(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write)
        full = func.name()  # type: ignore[no-untyped-call]  # torch's own
        self.composite = (
            self.name not in ONE_KERNEL
            and torch._C._dispatch_has_kernel_for_dispatch_key(full, "CompositeImplicitAutograd")
            and not torch._C._dispatch_has_kernel_for_dispatch_key(full, "CPU")  # silu_backward: whole on real devices
        )
        # one implementation for all backends, which may call several kernels: `falls_apart` looks
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        views = bool(schema.returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        # multi-tensor operators are kernels on GPUs
        # an operator of somebody's own (torch.library registers it under the same keys) is one call of theirs
        theirs = self.name.partition(".")[0] not in ("aten", "prims")
        known = theirs or self.name in WHOLE or self.name.startswith("aten._foreach_") or views or has(full, "CPU")
        key = None if known else next((k for k in EXPLICIT if has(full, k)), None)
        self.explicit = getattr(torch._C.DispatchKey, key) if key else None
        self.expand = EXPANSIONS.get(self.name)
        self.infer = meta.rule_for(func) or _gradient(func) or _later(func, self.name)
        self.refuses = refusals.RULES.get(self.name)
        # what the values of some of its tensors tell of its work
        self.told = TOLD.get(self.name)
        # a write to these can change the tensor's shape, strides or storage
        self.tracks = (
            torch.Tag.inplace_view in func.tags
            or self.name in ("aten.set_", "aten.resize_", "aten.set_data")
            or any(a.is_out for a in schema.arguments)
        )


class _Higher:
    """Of an operator that takes functions: only what the recorder does with it."""

    __slots__ = ("query",)

    def __init__(self, query: Callable[..., Any]) -> None:
        self.query = query


def _ask(recorder: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


def _functional(func: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """`aten.relu.default` for `aten.relu_.default`: torch does not tag the in-place twins."""
    name = func._schema.name.partition("::")[2]
    packet = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") and not name.endswith("__") else None
    return getattr(packet, func._overloadname, None) if packet is not None else None


def _gradient(func: torch._ops.OpOverload) -> meta.Rule | None:
    from roofline.tracing.meta_backward import GRADIENTS  # as below

    return GRADIENTS.get(str(func))


def _later(func: torch._ops.OpOverload, name: str) -> meta.Rule | None:
    rules: dict[str, meta.Rule] = {}
    if name in _RECURRENT:
        from roofline.tracing.meta_recurrent import RULES as rules
    elif name in _GROUPED:
        from roofline.tracing.meta_grouped import RULES as rules
    return rules.get(str(func))


_funcs: dict[torch._ops.OpOverload, Func] = {}


def func_of(func: torch._ops.OpOverload) -> Func:
    info = _funcs.get(func)
    if info is None:
        if isinstance(func, torch._ops.HigherOrderOperator):
            from roofline.tracing import higher

            info = cast(Func, _Higher(higher.handler(func)))  # nothing else of it is asked
        else:
            info = Func(func)
        _funcs[func] = info
    return info


def switched_off(x: torch.Tensor, p: float, train: bool) -> bool:
    """Whether a dropout does nothing, as ATen has it."""
    return not train or p == 0 or not x.numel()


def mutated(
    func: torch._ops.OpOverload, info: Func, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[torch.Tensor]
) -> tuple[int, ...]:
    """Which of the flattened tensor arguments the schema says are written."""
    named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
    written = {id(t) for name in info.mutates for t in tensors_in(named.get(name))}
    return tuple(i for i, t in enumerate(tensors) if id(t) in written)


def pointwise_in_place(info: Func, tensors: list[torch.Tensor], tags: Sequence[tuple[Meta, Any]]) -> bool:
    """`x.relu_()`, `x.add_(y)` on floats that surely keep x as it is: no need to ask torch's (Python) meta kernel."""
    return (
        info.pointwise
        and info.mutates == ("self",)
        and tensors[0].dtype.is_floating_point
        and all(tag[0].dtype == tags[0][0].dtype for tag in tags)
        and refusals.broadcast([tag[0].shape for tag in tags]) == tags[0][0].shape
    )
