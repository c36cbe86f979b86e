"""The one table from operator to rule, and what every family of rules needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod as product
from typing import Any, TypeVar

from msgspec import Struct

from roofline.errors import UsageError
from roofline.records import OpSpec, TensorSpec, Work
from roofline.shapes import Shape


class Cost(Struct, frozen=True, gc=False):
    """What one call takes: the shapes of its products, and what stands around them. `flops` is 2 * macs + extra."""

    # in the order in which they run; a backward has those of its gradients
    products: tuple[Shape, ...] = ()
    # FLOPs beside the products
    extra: int = 0
    # the call as a whole, where it is not its one product: a backward's forward, the attention inside a layer, a window
    whole: Shape | None = None
    # multiply-accumulates whose sizes nobody told: of a rule that returns FLOPs or Work; None: the shapes tell all
    untold: int | None = None
    # False: nobody knows the count; the products are the most that it can be
    known: bool = True

    @classmethod
    def of(cls, *products: Shape, extra: int = 0, whole: Shape | None = None) -> Cost:
        """The cost of a call that is these products, with `extra` FLOPs around them."""
        return cls(products, extra, whole)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum([p.macs for p in self.products], self.untold or 0)

    @property
    def work(self) -> Work:
        """FLOPs and multiply-accumulates."""
        macs = self.macs
        return Work(2 * macs + self.extra, macs)

    @property
    def shape(self) -> Shape | None:
        """The shape of the whole call; None where it has several products and no shape of its own, or none of either."""
        return self.whole if self.whole is not None or len(self.products) != 1 else self.products[0]


F = TypeVar("F", bound=Callable[..., Any])

# What a rule returns: FLOPs where nothing is multiplied and accumulated; a Cost with the shapes of the products; Work, where
# sizes are not told; or None where shapes do not tell.
Count = int | Cost | Work | None
Counter = Callable[..., Count]
# Bytes read per input and written per output, as `roofline.cost.traffic` returns them
Traffic = tuple[list[int], list[int]]
# An integer or a list of them, as PyTorch's `int[2]` arguments arrive
Ints = int | list[int]


class Rule(Struct, frozen=True):
    """How one operator is counted: `count` is called as `f(*args, out=..., **kwargs)`; `klass` is its class of kernel."""

    count: Counter
    klass: str


RULES: dict[str, Rule] = {}
BYTES: dict[str, Callable[[OpSpec, Traffic], None]] = {}
# Names that installed packages brought rules for: these stay for the life of the process.
INSTALLED: dict[str, Rule] = {}
# Rules of the families that are read late: these stay, too.
LATE: dict[str, Rule] = {}
# What others have worked out from the table, to be forgotten when it changes.
MEMOS: list[dict[Any, Any]] = []


def changed() -> None:
    """The table is not what it was: forget what was worked out from it."""
    for memo in MEMOS:
        memo.clear()


def qualified(name: str) -> str:
    """`mm` -> `aten.mm`, `mylib::op` -> `mylib.op`."""
    name = name.replace("::", ".")
    return name if "." in name else "aten." + name


def add(names: Iterable[str], rule: Rule, override: bool = False) -> None:
    """Enter one rule under several names. Raises UsageError where a name is taken, unless the rule may take its place."""
    for name in map(qualified, names):
        if name in RULES and not override:
            raise UsageError(
                f"a FLOP rule for {name} is registered already: an operator has one rule; override=True takes its place"
            )
        RULES[name] = rule
    changed()


def rule(*names: str, klass: str) -> Callable[[F], F]:
    """Decorator: the function counts the operators `names` (namespace aten where none is given)."""

    def enter(count: F) -> F:
        add(names, Rule(count, klass))
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


__all__ = [
    "BYTES", "INSTALLED", "LATE", "MEMOS", "RULES", "Cost", "Count", "Counter", "Ints", "Rule", "Traffic", "add", "changed",
    "first", "is_complex", "many", "prod", "qualified", "rule", "total",
]  # fmt: skip
