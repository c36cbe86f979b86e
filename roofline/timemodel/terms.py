"""What formulas derive from the sizes of one product (features.py): numbers or arrays of them.

A test holds `macs` to that of the shape that the sizes are from.
"""

from __future__ import annotations

from typing import Any


def pixels(f: Any) -> Any:
    """Pixels of the result (of a transposed convolution: of the image) that meet the whole kernel, over the batch."""
    inside = (f.transposed > 0) * one(f.d) * f.h * f.w + (f.transposed == 0) * one(f.z) * f.p * f.q
    return f.n * inside


def taps(f: Any) -> Any:
    """Elements of a convolution's kernel. A plane has no depth: 0 stands for 1."""
    return one(f.t) * f.r * f.s


def macs(klass: str, f: Any) -> Any:
    """Multiply-accumulates of a product (or an array of them) of a class of kernel; `times` over is for the caller."""
    if klass == "gemm":
        return f.b * f.m * f.n * f.k
    if klass == "attention":
        # whole attention layers hold the products of their projections too, which have no heads
        return f.b * f.m * f.n * f.k + f.b * f.h * f.l * f.s * (one(f.products_e) * f.e + one(f.products_v) * f.v)
    if klass == "rnn":
        return f.rows * f.weights
    return pixels(f) * f.c * f.o * taps(f) // one(f.g)


def one(n: Any) -> Any:
    """A size that is 1 where it was not given."""
    return n + (n == 0)


# Queries and keys that fused attention works on at a time.
BLOCK = 64


def met(f: Any, xp: Any) -> Any:
    """Share of the blocks of scores that attention computes: it skips those above the diagonal, which a causal mask hides."""
    rows, columns = xp.ceil(f.l / BLOCK), xp.ceil(f.s / BLOCK)
    corner = xp.minimum(rows, columns)
    seen = corner * (corner + 1) / 2 + (rows - corner) * columns
    hidden = (f.causal > 0) & (f.l > 1)
    return xp.where(hidden, seen / xp.maximum(rows * columns, 1), 1.0)
