"""What formulas read of a kernel: the one place where a kernel becomes numbers, its products the sizes of their shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from roofline.classes import CONVS, PRODUCTS
from roofline.dtypes import DOUBLES, DTYPE_BITS
from roofline.records import Kernel
from roofline.shapes import Access, Loop
from roofline.timemodel import sizes
from roofline.timemodel.sizes import Value

NO_LOOP = Loop()
# FLOPs for each result that a convolution does on the way out (bias, folded norm, activation), hidden behind its products.
EPILOGUE = 32
CAST = "_to_copy"


class Moved(NamedTuple):
    """Bytes of a kernel's operands: parameters and inputs, results, those of them in fresh memory; and of what other kernels
    wrote, each with the bytes that all kernels have moved since.
    """

    static: int
    write: int
    fresh: int
    reads: list[tuple[int, int]]


def moved(kernel: Kernel, before: Sequence[int], index: int) -> Moved:
    """`before[i]`: bytes that all kernels before number i move."""
    static = write = fresh = 0
    reads, old = [], []
    for o in kernel.operands:
        if o.write:
            write += o.bytes
            continue
        old.append(o.storage)
        if o.producer < 0:
            static += o.bytes
        else:
            reads.append((o.bytes, before[index] - before[o.producer]))
    for o in kernel.operands if write else ():
        if o.write and o.storage not in old:
            fresh += o.bytes
    return Moved(static, write, fresh, reads)


# Seconds of one product, of its sizes and those of the kernel around it.
Formula = Callable[[Any, "Features"], Value]


class Products(Protocol):
    """What a kernel multiplies, or what each kernel of an array does."""

    def total(self, around: Features, formula: Formula) -> Value:
        """A formula's sum over the products of each kernel."""


class Features(Struct, frozen=True, gc=False):
    """Of one kernel; of an array of kernels of one class and operator (validation/arrays.py), an array in each field."""

    # the operator, or the name that its rate goes by
    op: str
    bits: Value
    # 1: it computes in doubles
    double: Value
    flops: Value
    macs: Value
    # bytes alive at the peak
    footprint: Value
    # as in Moved; all that is read
    static: Value
    write: Value
    fresh: Value
    reads: Sequence[tuple[Value, Value]]
    read: Value
    # FLOPs of products that no sizes tell
    untold: Value
    access: Access
    # 1: generated code, whose loops these are
    generated: Value
    # 1: a cast by itself; work of a backward pass or an optimizer, as eager mode calls it
    cast: Value
    later: Value
    loop: Loop
    # the call as one shape, of the record of its class (sizes.OF_CLASS); zeros where it is none; None for other classes
    shape: Any
    products: Products

    def total(self, formula: Formula) -> Value:
        """A formula's sum over all products."""
        return self.products.total(self, formula)


# Those of its fields that are one number a kernel.
NUMBERS = (
    "bits",
    "double",
    "flops",
    "macs",
    "footprint",
    "static",
    "write",
    "fresh",
    "read",
    "untold",
    "generated",
    "cast",
    "later",
)


class Listed(Struct, frozen=True, gc=False):
    """The products of one kernel."""

    of: Sequence[sizes.Sizes]

    def total(self, around: Features, formula: Formula) -> Value:
        return sum([formula(p, around) * p.times for p in self.of])


def of(kernel: Kernel, moved: Moved, footprint: int) -> Features:
    """What formulas read of a kernel that moves so much, in a pass that keeps `footprint` bytes alive."""
    static, write, fresh, reads = moved
    return Features(
        kernel.op,
        DTYPE_BITS[kernel.dtype],
        int(kernel.dtype in DOUBLES),
        kernel.flops,
        kernel.macs,
        footprint,
        static,
        write,
        fresh,
        reads,
        static + sum([n for n, _ in reads]),
        untold(kernel),
        kernel.access,
        int(kernel.loop is not None),
        int(kernel.op == CAST),
        int(kernel.phase != "forward" and kernel.loop is None),
        kernel.loop or NO_LOOP,
        shape(kernel),
        Listed(products(kernel)),
    )


def products(kernel: Kernel) -> list[sizes.Sizes]:
    """The sizes of each product."""
    return [sizes.of(p, kernel.klass) for p in kernel.products]


def shape(kernel: Kernel) -> sizes.Sizes | None:
    """The sizes of the call as one shape, see Features."""
    wanted = sizes.OF_CLASS.get(kernel.klass)
    if wanted is None:
        return None
    whole = kernel.products[0] if len(kernel.products) == 1 else kernel.whole
    found = sizes.of(whole, kernel.klass) if whole is not None else None
    return found if type(found) is wanted else wanted()


def untold(kernel: Kernel) -> int:
    """FLOPs of products that no sizes tell, and those beside a convolution's products that are more than an epilogue (the
    samples that a deformable one draws): they run at the rate of their class, so that nothing is free."""
    if kernel.klass not in PRODUCTS:
        return 0
    if not kernel.products:
        return max(kernel.flops, 2 * kernel.macs)
    found = max(2 * (kernel.macs - sum([p.macs for p in kernel.products])), 0)
    if kernel.klass in CONVS:
        found += max(kernel.flops - 2 * kernel.macs - EPILOGUE * prod(kernel.shape), 0)
    return found
