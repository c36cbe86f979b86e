"""The one table from operator to rule, and what every family of rules needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod as product
from typing import Any

from msgspec import Struct

from roofline.errors import UsageError
from roofline.records import OpSpec, TensorSpec, Work

# What a rule returns: FLOPs, or Work where multiply-accumulates are part of it, or None where shapes do not tell.
Count = int | Work | None
Counter = Callable[..., Count]
Dims = dict[str, int]
Sizer = Callable[..., Dims]
# The products that a call is made of, each by its sizes: a gradient of a convolution is two of them
Products = Callable[..., list[Dims]]
# Bytes read per input and written per output, as `roofline.cost.traffic` returns them
Traffic = tuple[list[int], list[int]]
# An integer or a list of them, as PyTorch's `int[2]` arguments arrive
Ints = int | list[int]


class Rule(Struct, frozen=True):
    """How one operator is counted: `flops`, `dims` and `products` are called as `f(*args, out=..., **kwargs)`.

    `products` is for operators that are not the one product that `dims` describes. The multiply-accumulates of the products are
    those that `flops` counts: a test holds every rule to it.
    """

    flops: Counter
    klass: str
    dims: Sizer | None = None
    products: Products | None = None


RULES: dict[str, Rule] = {}
BYTES: dict[str, Callable[[OpSpec, Traffic], None]] = {}
# Names that installed packages brought rules for: these stay for the life of the process.
INSTALLED: dict[str, Rule] = {}
# What others have worked out from the table, to be forgotten when it changes.
MEMOS: list[dict[Any, Any]] = []


def changed() -> None:
    """The table is not what it was: forget what was worked out from it."""
    for memo in MEMOS:
        memo.clear()


ZERO = Work(0, 0)


def qualified(name: str) -> str:
    """`mm` -> `aten.mm`, `mylib::op` -> `mylib.op`."""
    name = name.replace("::", ".")
    return name if "." in name else "aten." + name


def add(names: Iterable[str], rule: Rule) -> None:
    """Enter one rule under several names. Raises UsageError where a name is taken."""
    for name in map(qualified, names):
        if name in RULES:
            raise UsageError(f"a FLOP rule for {name} is registered already: an operator has one rule")
        RULES[name] = rule
    changed()


def rule(*names: str, klass: str, dims: Sizer | None = None, products: Products | None = None) -> Callable[[Counter], Counter]:
    """Decorator: the function counts the operators `names` (namespace aten where none is given)."""

    def enter(count: Counter) -> Counter:
        add(names, Rule(count, klass, dims, products))
        return count

    return enter


def prod(sizes: Iterable[int]) -> int:
    """The product of some sizes."""
    return product(sizes)


def first(out: TensorSpec | tuple[TensorSpec, ...]) -> TensorSpec:
    """The first of an operator's outputs."""
    return out if isinstance(out, TensorSpec) else out[0]


def total(tensors: Any) -> int:
    """Elements of a tensor, or of all tensors in a (nested) list; what is no tensor has none."""
    if isinstance(tensors, TensorSpec):
        return tensors.numel
    if isinstance(tensors, list | tuple):
        return sum(total(t) for t in tensors)
    return 0


def many(value: Ints | None, n: int) -> list[int]:
    """An `int[n]` argument as a list of n: one number stands for all."""
    if isinstance(value, int):
        return [value] * n
    values = list(value or ())
    return values * n if len(values) == 1 else values


def is_complex(t: TensorSpec) -> bool:
    return t.dtype.startswith("complex")


def matmul_work(macs: int, like: TensorSpec, extra: int = 0) -> Work:
    """Work of `macs` multiply-accumulates in the dtype of `like`, and `extra` FLOPs around them.

    A complex multiply-accumulate is four real ones.
    """
    if is_complex(like):
        macs *= 4
    return Work(2 * macs + extra, macs)


__all__ = [
    "BYTES", "INSTALLED", "MEMOS", "RULES", "ZERO", "Count", "Counter", "Dims", "Ints", "Products", "Rule", "Sizer",
    "Traffic", "add", "changed", "first", "is_complex", "many", "matmul_work", "prod", "qualified", "rule", "total",
]  # fmt: skip
