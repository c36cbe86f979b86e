"""The sizes that formulas read of a shape, one record for each kind of product, and what they derive from them.

The formulas of a product are chosen by the type of its record. A field is a number, or an array of them for the products of
many kernels at once (validation/arrays.py). A test holds `macs` to that of the shape that the sizes are from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from roofline.shapes import Attention, Conv, Gemm, Pool, Recurrent, Shape, rows_columns

# numbers or arrays of them
Value = Any
# Queries and keys that fused attention works on at a time.
BLOCK = 64


def one(n: Value) -> Value:
    """A size that is 1 where it was not given."""
    return n + (n == 0)


class Sizes(Struct, frozen=True, kw_only=True, gc=False):
    """Of a call, or of one product of a kernel, as often over as `times` says. All are 0 of a call that has no shape."""

    times: Value = 1


class GemmSizes(Sizes, frozen=True, gc=False):
    """[b, m, k] @ [b, k, n] -> [b, m, n]."""

    b: Value = 0
    m: Value = 0
    n: Value = 0
    k: Value = 0

    @property
    def macs(self) -> Value:
        """Multiply-accumulates; `times` over is for the caller, here and below."""
        return self.b * self.m * self.n * self.k


class ConvSizes(Sizes, frozen=True, gc=False):
    """[n, c, d, h, w], [o, c/g, t, r, s] -> [n, o, z, p, q]; a plane has no depth: d, z and t are 0 there, and stand for 1."""

    n: Value = 0
    c: Value = 0
    o: Value = 0
    g: Value = 1
    h: Value = 0
    w: Value = 0
    p: Value = 0
    q: Value = 0
    r: Value = 0
    s: Value = 0
    d: Value = 0
    z: Value = 0
    t: Value = 0
    stride: Value = 0
    # from 2 on
    dilation: Value = 0
    transposed: Value = 0
    # shapes.OF_IMAGE, OF_WEIGHT
    gradient: Value = 0

    @property
    def pixels(self) -> Value:
        """Pixels of the result (of a transposed convolution: of the image) that meet the whole kernel, over the batch."""
        image, result = one(self.d) * self.h * self.w, one(self.z) * self.p * self.q
        return self.n * ((self.transposed > 0) * image + (self.transposed == 0) * result)

    @property
    def taps(self) -> Value:
        """Elements of the kernel."""
        return one(self.t) * self.r * self.s

    @property
    def macs(self) -> Value:
        return self.pixels * self.c * self.o * self.taps // one(self.g)


class GroupedSizes(ConvSizes, frozen=True, gc=False):
    """Of a convolution whose groups have several channels."""


class DepthwiseSizes(ConvSizes, frozen=True, gc=False):
    """Of one with a group for each channel."""


class AttentionSizes(Sizes, frozen=True, gc=False):
    """q [b, h, l, e], k [b, ., s, e], v [b, ., s, v] -> [b, h, l, v]; so many products over the scores are e and v wide."""

    b: Value = 0
    h: Value = 0
    l: Value = 0  # noqa: E741
    s: Value = 0
    e: Value = 0
    v: Value = 0
    causal: Value = 0
    products_e: Value = 0
    products_v: Value = 0

    @property
    def macs(self) -> Value:
        return self.b * self.h * self.l * self.s * (one(self.products_e) * self.e + one(self.products_v) * self.v)

    def met(self, xp: Any, block: float = BLOCK) -> Value:
        """Share of the blocks of scores that are computed: those above the diagonal are skipped, which a causal mask hides."""
        rows, columns = xp.ceil(self.l / block), xp.ceil(self.s / block)
        corner = xp.minimum(rows, columns)
        seen = corner * (corner + 1) / 2 + (rows - corner) * columns
        hidden = (self.causal > 0) & (self.l > 1)
        return xp.where(hidden, seen / xp.maximum(rows * columns, 1), 1.0)


class RecurrentSizes(Sizes, frozen=True, gc=False):
    """[t, b, .] -> [t, b, h]: each row meets each weight, in t steps of each layer, which wait for each other."""

    t: Value = 0
    b: Value = 0
    h: Value = 0
    layers: Value = 0
    rows: Value = 0
    weights: Value = 0

    @property
    def macs(self) -> Value:
        return self.rows * self.weights


class PoolSizes(Sizes, frozen=True, gc=False):
    """Windows of r x s."""

    r: Value = 0
    s: Value = 0
    stride: Value = 0


# The record of a class of kernel, of those whose formulas read the call's own shape.
OF_CLASS: dict[str, type[Sizes]] = {
    "gemm": GemmSizes,
    "conv": ConvSizes,
    "grouped_conv": GroupedSizes,
    "depthwise_conv": DepthwiseSizes,
    "attention": AttentionSizes,
    "rnn": RecurrentSizes,
    "pool": PoolSizes,
}


def of(shape: Shape, klass: str) -> Sizes:
    """The sizes of a shape inside a kernel of a class, which says what kind a convolution is."""
    return _OF[type(shape)](shape, klass)


def _gemm(shape: Gemm, klass: str) -> Sizes:
    return GemmSizes(shape.b, shape.m, shape.n, shape.k, times=shape.times)


def _conv(shape: Conv, klass: str) -> Sizes:
    kind: Any = OF_CLASS[klass if klass.endswith("conv") else shape.klass]
    (h, w), (p, q), (r, s) = rows_columns(shape.image), rows_columns(shape.out), shape.window
    d, z, t = (shape.image[0], shape.out[0], shape.kernel[0]) if len(shape.kernel) == 3 else (0, 0, 0)
    dilation = shape.dilation if shape.dilation > 1 else 0
    made: Sizes = kind(
        shape.n,
        shape.c,
        shape.o,
        shape.groups,
        h,
        w,
        p,
        q,
        r,
        s,
        d,
        z,
        t,
        shape.stride,
        dilation,
        int(shape.transposed),
        shape.gradient,
        times=shape.times,
    )
    return made


def _attention(shape: Attention, klass: str) -> Sizes:
    return AttentionSizes(
        shape.b,
        shape.h,
        shape.l,
        shape.s,
        shape.e,
        shape.v,
        int(shape.causal),
        shape.products_e,
        shape.products_v,
        times=shape.times,
    )


def _recurrent(shape: Recurrent, klass: str) -> Sizes:
    return RecurrentSizes(shape.t, shape.b, shape.h, shape.layers, shape.rows, shape.weights, times=shape.times)


def _pool(shape: Pool, klass: str) -> Sizes:
    return PoolSizes(*shape.window, shape.stride)


_OF: dict[type[Shape], Callable[[Any, str], Sizes]] = {
    Gemm: _gemm,
    Conv: _conv,
    Attention: _attention,
    Recurrent: _recurrent,
    Pool: _pool,
}
# Every record that there is.
RECORDS = tuple(OF_CLASS.values())
