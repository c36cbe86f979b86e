"""OpSpecs by hand, for tests of the cost rules."""

from __future__ import annotations

from typing import Any

from roofline.records import OpSpec, TensorSpec
from roofline.shapes import Attention, Conv, Gemm, Pool, Recurrent, Shape


def t(*shape: int, dtype: str = "float32", stride: tuple[int, ...] = ()) -> TensorSpec:
    return TensorSpec(shape, dtype, stride)


def flat(value: Any) -> list[TensorSpec]:
    if isinstance(value, TensorSpec):
        return [value]
    return [x for v in value for x in flat(v)] if isinstance(value, list | tuple) else []


def op(
    name: str,
    *args: Any,
    out: Any,
    overload: str = "default",
    pointwise: bool = False,
    view: bool = False,
    mutates: tuple[int, ...] = (),
    **kwargs: Any,
) -> OpSpec:
    name = name if "." in name else f"aten.{name}"
    inputs = tuple(flat(list(args)) + flat(list(kwargs.values())))
    return OpSpec(name, overload, list(args), kwargs, inputs, tuple(flat(out)), pointwise, view, mutates)


def shape_of(klass: str) -> Shape | None:
    """A shape for each class of kernel that has one."""
    groups = {"conv": 1, "grouped_conv": 4, "depthwise_conv": 64}.get(klass)
    if groups is not None:
        return Conv(2, 64, 48 if groups < 64 else 64, groups, (14, 14), (7, 7), (3, 3), stride=1 if groups == 1 else 2)
    return {
        "gemm": Gemm(2, 100, 70, 33),
        "attention": Attention(2, 14, 14, 50, 3, 32, 32),
        "rnn": Recurrent(t=9, b=2, i=20, h=14, layers=2, rows=18, weights=4 * 14 * (20 + 14)),
        "pool": Pool((3, 3), 2),
    }.get(klass)
