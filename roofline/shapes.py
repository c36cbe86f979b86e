"""Shapes that own their work: what a kernel multiplies, by its sizes, and how many multiply-accumulates that is.

A rule (roofline.cost) says which shapes a call is made of; its FLOPs are two for each of their multiply-accumulates and what
stands around them. The time model reads the same shapes, so that what is timed is what was counted. Sizes are in elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from msgspec import Struct
from msgspec.structs import replace

# What a convolution is the gradient of.
OF_IMAGE, OF_WEIGHT = 1, 2


class Shape(Struct, frozen=True, kw_only=True, gc=False):
    """So much work of one kind. A shape without multiply-accumulates says what else a kernel's speed depends on."""

    # so often over: four for complex numbers, two for backward through time
    times: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, `times` over."""
        return 0


class Gemm(Shape, frozen=True, gc=False):
    """[b, m, k] @ [b, k, n] -> [b, m, n]: every result sums k products."""

    b: int
    m: int
    n: int
    k: int

    @property
    def macs(self) -> int:
        return self.times * self.b * self.m * self.n * self.k


class Conv(Shape, frozen=True, gc=False):
    """[n, c, *image], [o, c/groups, *kernel] -> [n, o, *out]; transposed, the weight is [c, o/groups, *kernel].

    Every element of the result (of a transposed convolution: of the image) meets the whole kernel of its group. Padding counts
    as any other input, as in papers and fvcore.
    """

    n: int
    c: int
    o: int
    groups: int
    # one size for each dimension of space
    image: tuple[int, ...]
    out: tuple[int, ...]
    kernel: tuple[int, ...]
    # along the last dimension; of dilations the widest
    stride: int = 1
    dilation: int = 1
    transposed: bool = False
    # OF_IMAGE or OF_WEIGHT in a backward
    gradient: int = 0

    @property
    def macs(self) -> int:
        pixels = prod(self.image if self.transposed else self.out)
        return self.times * (self.n * pixels * self.c * self.o * prod(self.kernel) // max(self.groups, 1))

    @property
    def klass(self) -> str:
        """The class of kernel that its groups make it."""
        if self.groups == 1:
            return "conv"
        return "depthwise_conv" if self.groups == self.c else "grouped_conv"

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the kernel; one row where there is one dimension."""
        return rows_columns(self.kernel)

    def gradients(self, wanted: Sequence[object] = (True, True)) -> tuple[Conv, ...]:
        """The products of a backward: the gradients of the image and of the weight, those that are wanted.

        Each pairs the same elements of image, weight and result as the forward does, so each costs one forward. The image's is
        a convolution back from the result to the image: a transposed one where the forward is none. The weight's sums over
        all pixels of the batch.
        """
        image = replace(
            self, c=self.o, o=self.c, image=self.out, out=self.image, transposed=not self.transposed, gradient=OF_IMAGE
        )
        both = (image, replace(self, gradient=OF_WEIGHT))
        return tuple(product for product, yes in zip(both, wanted, strict=False) if yes)


class Attention(Shape, frozen=True, gc=False):
    """q [b, h, l, e], k [b, kv_heads, s, e], v [b, kv_heads, s, v] -> [b, h, l, v].

    Every query meets every key, in a product e wide for its score and one v wide for its value. A causal mask does not lower
    the count: it is a property of a kernel whether it leaves out what the mask hides.
    """

    b: int
    h: int
    kv_heads: int
    l: int  # noqa: E741
    s: int
    e: int
    v: int
    causal: bool = False
    # how many products over the scores are e and how many v wide
    products_e: int = 1
    products_v: int = 1

    @property
    def scores(self) -> int:
        """Query-key pairs over all heads: the elements of the score matrix [b, h, l, s]."""
        return self.b * self.h * self.l * self.s

    @property
    def macs(self) -> int:
        return self.times * self.scores * (self.products_e * self.e + self.products_v * self.v)

    @property
    def backward(self) -> Attention:
        """The gradients of fused attention, which keeps no scores and computes them again: five products per pair.

        The scores q k^T (e), dP = dO v^T (v), dV = P^T dO (v), dQ = dS k (e), dK = dS^T q (e): with e = v, 2.5 forwards.
        """
        return replace(self, products_e=3, products_v=2)


class Recurrent(Shape, frozen=True, gc=False):
    """[t, b, i] -> [t, b, h]: each of `rows` steps of a sequence meets each of `weights` elements of all matrices once.

    The t steps wait for each other, in every layer; directions go side by side. Packed sequences have fewer rows than t x b.
    """

    t: int
    b: int
    i: int
    h: int
    layers: int
    rows: int
    weights: int

    @property
    def macs(self) -> int:
        return self.times * self.rows * self.weights


class Pool(Shape, frozen=True, gc=False):
    """[n, c, *i] -> [n, c, *o] by windows: no multiply-accumulates."""

    kernel: tuple[int, ...]
    # along the last dimension
    stride: int

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a window; one row where there is one dimension."""
        return rows_columns(self.kernel)


class Loop(Struct, frozen=True, gc=False):
    """The loops of a generated kernel, in elements: what the cores of a CPU share."""

    # that it runs over
    total: int = 0
    # of mathematical functions that are evaluated
    special: int = 0
    # of a reduction: its results; of one result, those that lie in a row of memory (0: it runs over pixels, channels side by
    # side); and those that go into running variances
    outer: int = 0
    row: int = 0
    welford: int = 0


class Access(Struct, frozen=True, gc=False):
    """How an operator walks through memory, as far as its speed depends on it. 0: no, or not of its class."""

    # convolutions, pools, norms: 1 where it works channels-last
    last: int = 0
    # convolutions: 1 with a bias; bytes that a backward's further gradients read once more, and those that the gradient of the
    # weight reads; 1 where an image is a view of a tensor that lies otherwise
    bias: int = 0
    again: int = 0
    summed: int = 0
    viewed: int = 0
    # depthwise convolutions on a GPU: 1 where they are PyTorch's own kernel
    own: int = 0
    # pointwise and layout: bytes in a row that the most scattered large input offers in the order of the result (0: all
    # stream); of others, that what they make contiguous offers
    run: int = 0
    # norms: how often it reads its input from memory
    passes: int = 0
    # norms, linear layers, softmax: bytes of an input that the operator makes contiguous for itself
    copied: int = 0
    # products: bytes, at most 16, that every row of the operands starts at a multiple of
    aligned: int = 0
    # 1 where rows of the first operand start at multiples of 2,048 bytes, 2 where those of the second do, 3 of both
    aliased: int = 0
    # products and convolutions: 1 where their weights were packed before the pass (TorchInductor's freezing)
    frozen: int = 0
    # attention: bytes of an additive mask; 1 where its rows are misaligned; 1 where no fused kernel takes the operands
    mask: int = 0
    misaligned: int = 0
    math: int = 0
    # steps on a GPU that wait for each other, and how many lines of them go side by side: a thread's of an interpolation, the
    # blocks' down a column of LayerNorm's gradients, the rows' down a column of a sum
    serial: int = 0
    abreast: int = 0
    # loops on a GPU: elements whose address is worked out for each
    single: int = 0
    # elements that are loaded 16 bytes at a time, rows padded to what their threads take
    packed: int = 0
    # rows that a block of threads takes by itself
    blocks: int = 0
    # rows or planes that a group of threads takes in turn
    planes: int = 0
    # elements that one block adds up; those of a channel that a block takes by itself, and how many tensors of them it reads;
    # how many such channels there are
    channel: int = 0
    taken: int = 0
    tensors: int = 0
    channels: int = 0
    # 1 for a pool over the whole plane
    whole: int = 0
    # a convolution's backward: bytes of the result's gradient that are added up to that of the bias
    biased: int = 0


def rows_columns(sizes: Sequence[int]) -> tuple[int, int]:
    """The last two sizes; a single one is a row, and none (a file may say so) a point."""
    rows, columns = (1, 1, *sizes)[-2:]
    return rows, columns
