"""OpSpecs by hand, for tests of the cost rules."""

from __future__ import annotations

from typing import Any

from roofline.records import OpSpec, TensorSpec


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
