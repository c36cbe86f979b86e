"""Products on a GPU: the seconds of arithmetic of one, in tiles of matrix units or of vector units, by its kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from roofline.timemodel.constants import Gpu
from roofline.timemodel.features import Features
from roofline.timemodel.formulas import Machine, once, streamed, up
from roofline.timemodel.sizes import (
    BLOCK,
    AttentionSizes,
    ConvSizes,
    DepthwiseSizes,
    GemmSizes,
    GroupedSizes,
    RecurrentSizes,
    Sizes,
    Value,
    one,
)

Tiles = tuple[tuple[int, int], ...]


class Products(Struct, frozen=True):
    """(rows, columns) of the fp32 kernels that the libraries have for vector units."""

    # cuBLAS for a single product, for a batch; cuDNN: implicit products, those of Winograd's transform
    one: Tiles
    many: Tiles
    direct: Tiles
    winograd: Tiles
    # (images, rows, columns) of the pixels that a block of Winograd's algorithm inside one kernel takes
    patches: tuple[tuple[int, int, int], ...]


# as profiles of fp32 operators show them: from Volta on, and before (no tensor cores)
VOLTA = Products(
    ((64, 128), (128, 128), (128, 32), (32, 128), (32, 64), (64, 64)),
    ((64, 64), (128, 32), (64, 128)),
    ((128, 128), (128, 64), (128, 32)),
    ((64, 64), (128, 64), (128, 32), (32, 128)),
    ((1, 8, 16),),
)
PASCAL = Products(
    ((128, 32), (64, 64), (32, 128)),
    ((64, 128),),
    ((128, 128), (128, 64), (128, 32)),
    ((64, 64), (128, 32), (32, 128)),
    ((1, 8, 16), (2, 8, 8), (4, 4, 8), (4, 2, 16)),
)

# bytes of the widest load of a thread
LOAD = 16
# rows that a block of fused attention takes, and keys of its tiles where groups of warps take turns
QUERIES = 128
# FLOP of half precision in an SM's cycle from which on kernels run apart what is no product (Hopper)
APART = 3000
# ... FLOP of vector units that a score takes the time of: an exponential is 16; its scale, its maximum, its sum and half of a
# conversion are instructions of 2 each
SCORE = 23.0
# ... and how much the shorter of products and exponentials hides behind the longer (1: nothing, infinity: all), by what cuDNN
# and FlashAttention-3 reach on an H100 with heads of 64, 128 and 256 (Shah et al., arXiv:2407.08608, figures 5 and 6)
HIDDEN = 1.5


def _products(machine: Machine) -> Products:
    return VOLTA if machine.matrix else PASCAL


class Rate(NamedTuple):
    """FLOP/s of the units that run a product, and whether they are vector units (fp32 without TF32)."""

    peak: Value
    simt: Value


def peak_of(f: Features, machine: Machine, xp: Any) -> Rate:
    peak = xp.where(f.bits <= 16, machine.half, xp.where(f.bits == 64, machine.double, machine.single))
    simt = (peak <= machine.vector) & ((f.bits != 32) | (not machine.tf32))
    return Rate(peak * xp.where(simt, machine.sustained_vector, machine.sustained), simt)


def unhurried(machine: Machine, xp: Any) -> Value:
    """Cycles a second of all SMs in kernels that wait more than they compute: they draw too little power to lose any clock."""
    return machine.units * machine.clock * xp.maximum(machine.sustained, 1.0)


def vector_of(f: Features, machine: Machine, xp: Any) -> Value:
    """FLOP/s of the vector units, in doubles where the kernel computes in them.

    A clock follows its power over many kernels: it is that of all of them.
    """
    return xp.where(f.double > 0, xp.minimum(machine.vector, machine.double), machine.vector) * machine.sustained


def _gemm(p: GemmSizes, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]: in tiles, or for one row or one column by a matrix-vector kernel."""
    peak, simt = peak_of(f, machine, xp)
    seconds = _tiles(p.m, p.n, p.k, p.b, c, peak * c.gemm, machine, xp)
    narrow = (f.access.aligned > 0) & (f.access.aligned < LOAD) & (simt == 0)
    if xp.any(narrow):
        rate = xp.minimum(peak, narrow_rate(f.access.aligned, f.bits, c, machine, xp))
        work = 2 * p.b * up(p.m, 64, xp) * up(p.n, 64, xp) * (up(p.k, 8, xp) + c.start_k)
        seconds = xp.where(narrow, xp.maximum(seconds, work / rate), seconds)
    if xp.any(simt):
        of = _products(machine)
        alone, many = (_simt(p.m, p.n, p.k, p.b, tiles, c, peak, machine, xp) for tiles in (of.one, of.many))
        seconds = xp.where(simt, xp.where(p.b > 1, many, alone), seconds)
    # it streams the matrix past the vector units, which use each element once: nothing is padded
    vector = 2 * p.b * p.m * p.n * p.k / (vector_of(f, machine, xp) * c.gemv)
    return xp.where((p.m == 1) | (p.n == 1), xp.minimum(seconds, xp.maximum(vector, 2 * p.b * p.m * p.n * p.k / peak)), seconds)


def narrow_rate(aligned: Value, bits: Value, c: Gpu, machine: Machine, xp: Any) -> Value:
    """FLOP/s of products whose rows do not start at multiples of 16 bytes, whatever the matrix units could do.

    Bulk copies into shared memory want 16 bytes; rows at 4 or 8 are loaded piece by piece (`cp.async` takes no less), odd
    halves go through registers: the kernels whose names end in align1, align2 and align4.
    """
    per_clock = xp.where(aligned < 4, c.narrow_2, c.narrow_4) * 16 / xp.maximum(bits, 16)
    return per_clock * machine.units * machine.clock * machine.sustained


def _tiles(m: Value, n: Value, k: Value, b: Value, c: Gpu, rate: Value, machine: Machine, xp: Any) -> Value:
    """Seconds on matrix units: padded to tiles, a start-up per tile, one tile's time at the end.

    Tiles of 16 rows (or columns) are there for thin products, and for batches of the thinnest. They load more for each
    product: half the rate.
    """
    k = up(k, 8, xp)
    rows, columns = up(m, c.tile_m, xp), up(n, c.tile_n, xp)
    whole = b * rows * columns
    rows = xp.where((b == 1) | (m <= 16), xp.minimum(rows, 2 * up(m, 16, xp)), rows)
    columns = xp.where((b == 1) | (n <= 16), xp.minimum(columns, 2 * up(n, 16, xp)), columns)
    area = b * rows * columns
    # each product of a batch starts by itself, however little of its tile it fills
    starts = xp.where(b == 1, area, whole) * _start(c, rate, machine, xp)
    tail = _tail(_split(k + c.start_k, area, machine, xp), rate, c.tail, machine.units)
    return area * 2 * k / rate + starts + tail


def _split(depth: Value, area: Value, machine: Machine, xp: Any) -> Value:
    """Steps of the inner dimension in a tile: it is split among the units where the tiles are too few to fill the device."""
    return xp.minimum(xp.minimum(depth, LONG), xp.maximum(256.0, depth * area / (128 * 128 * machine.units)))


def _steps(area: Value, k: Value, c: Gpu, rate: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of so many elements of results, each a sum of k."""
    return area * (2 * k / rate + _start(c, rate, machine, xp))


def _start(c: Gpu, rate: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of an element of a tile that starts by loading and ends by storing: some steps of the inner dimension, but where
    matrix units are fast no less than it waits for memory.
    """
    return xp.maximum(2 * c.start_k / rate, c.tile_wait * 1e-6 / (128 * 128 * machine.units))


# steps of the inner dimension: libraries split longer sums among units, so that no tile at the end takes longer
LONG = 4096.0


def _tail(k: Value, rate: Value, tiles: Value, units: float) -> Value:
    """The last tiles of a kernel leave other units idle: the time of so many 128 x 128 tiles on one unit."""
    return tiles * 2 * 128 * 128 * k * units / rate


def _simt(m: Value, n: Value, k: Value, b: Value, tiles: Tiles, c: Gpu, peak: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of b products on vector units (fp32 without TF32): the best of the library's tiles, in whole waves.

    A small tile loads more for each product than a large one (`simt_edge`, in elements of an edge beside 128 x 128). Where the
    tiles of a single product are too few to fill the device, its inner dimension is split among the units.
    """
    best: Value = math.inf
    # divided by the peak once, after the comparison: with it every number is one that remembers its roof (shares.py)
    for rows, columns in tiles:
        count = b * xp.ceil(m / rows) * xp.ceil(n / columns)
        idle = xp.maximum(1.0, xp.floor(machine.units / xp.maximum(count, 1.0)))
        parts = xp.where(b > 1, 1.0, xp.minimum(idle, xp.maximum(xp.floor(k / 256), 1.0)))
        waves = xp.ceil(count * parts / machine.units)
        rate = c.simt_gemm / (1 + c.simt_edge * (1 / rows + 1 / columns - 1 / 64))
        depth = up(k / parts, 8, xp) + c.simt_start_k
        best = xp.minimum(best, 2 * rows * columns * depth * waves * machine.units / rate)
    return best / peak


def _conv(p: ConvSizes, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """An implicit product: m = pixels of the batch, n = output channels, k = input channels x taps.

    The gradient of a weight sums over the pixels: m = output channels, n = input channels x taps, k = pixels, which are split
    among the units as in any product whose tiles are few.
    """
    peak, simt = peak_of(f, machine, xp)
    if not xp.any(simt):
        return _on_matrix_units(p, f, peak, c, machine, xp)
    direct, inside, apart = once(xp, _simt_conv, p, f, c, machine)
    vector = xp.minimum(direct, xp.minimum(inside, apart))
    return xp.where(simt, vector, _on_matrix_units(p, f, peak, c, machine, xp)) if xp.any(simt == 0) else vector


def _on_matrix_units(p: ConvSizes, f: Features, peak: Value, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of the implicit product there."""
    rate = peak * c.conv
    taps, pixels = p.taps, _met(p, xp)
    # pixels of a few channels, the first layer's, are less than one load. For the first layer of a ResNet cuDNN has a kernel
    first, known = p.c * f.bits < 8 * LOAD, (p.r == 7) & (p.stride == 2) & (p.c <= 4)
    pixel = xp.where(known & (f.bits <= 16), 8, 2)
    rate = xp.where(first & (p.gradient == 0), xp.minimum(rate, narrow_rate(pixel, f.bits, c, machine, xp)), rate)
    k = up(p.c, xp.where(first & (known | (f.bits > 16)), 4, 8), xp) * taps
    area = pixels * up(p.o, xp.where(first, 32, c.tile_n), xp)
    matrix = _steps(area, k, c, rate, machine, xp) + _tail(k + c.start_k, rate, c.tail, machine.units)
    if not xp.any(p.gradient == 2):
        return matrix
    area, depth = _summed(p.o, p.c * taps, xp), up(pixels, 8, xp)
    split = _split(depth + c.start_k, area, machine, xp)
    summed = _steps(area, depth, c, rate, machine, xp) + _tail(split, rate, c.tail, machine.units)
    return xp.where(p.gradient == 2, summed, matrix)


# (rows, columns) of the kernels that sum over pixels: cuDNN has no smaller ones; of those that do it a group at a time
_SUMMED = ((128, 128), (256, 64), (64, 256))
_GROUP_SUMMED = (128, 64)


def _summed(rows: Value, columns: Value, xp: Any) -> Value:
    """Elements of the gradient of a weight, padded to the tiles that waste the least."""
    best: Value = math.inf
    for m, n in _SUMMED:
        best = xp.minimum(best, up(rows, m, xp) * up(columns, n, xp))
    return best


def _met(p: ConvSizes, xp: Any) -> Value:
    """Pixels that the kernel meets as a whole. The gradient of an image goes through the image's own pixels and all taps of
    each: with a stride most of them meet no result, and are multiplied all the same. Windows side by side are plain products.
    """
    spread = (p.gradient == 1) & (p.transposed > 0) & (xp.maximum(p.r, p.s) > p.stride)
    return xp.where(spread, xp.maximum(p.pixels, p.n * one(p.z) * p.p * p.q), p.pixels)


def _simt_conv(p: ConvSizes, f: Features, c: Gpu, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """Seconds of a convolution on vector units by three algorithms, infinite where there is none: the implicit product, and for
    3 x 3 with stride 1 Winograd's.

    F(2x2, 3x3) inside one kernel takes 16 products for every 36. F(4x4, 3x3) takes 36 for every 144, as 36 products of their
    own between transforms that go through memory (Lavin and Gray, arXiv:1509.09308). cuDNN has both for the gradient of the
    image and the second for that of the weight, none for doubles, volumes and kernels with holes.
    """
    peak, products, pixels, taps = peak_of(f, machine, xp).peak, _products(machine), p.pixels, p.taps
    weight = p.gradient == 2
    m, n, k = xp.where(weight, p.o, pixels), xp.where(weight, p.c * taps, p.o), xp.where(weight, pixels, p.c * taps)
    direct = _simt(m, n, k, 1.0, products.direct, c, peak, machine, xp)
    large = _patches(p, 4, xp)
    blocks: Value = math.inf
    for images, rows, columns in products.patches:
        blocks = xp.minimum(blocks, xp.ceil(p.n / images) * xp.ceil(p.p / rows) * xp.ceil(p.q / columns))
    # of 32 patches by 32 channels
    waves = xp.ceil(blocks * xp.ceil(p.o / 32) / machine.units)
    inside = 2 * 16 * 32 * 32 * (up(p.c, 8, xp) + c.simt_start_k) * waves * machine.units / (peak * c.simt_winograd)
    m, n, k = xp.where(weight, p.o, large), xp.where(weight, p.c, p.o), xp.where(weight, large, p.c)
    apart = _simt(m, n, k, 36.0, products.winograd, c, peak, machine, xp)
    moved = f.bits / 8 * (p.n * p.c * p.h * p.w + 72 * large * (p.c + p.o) + p.n * p.o * p.p * p.q + 81 * p.c * p.o)
    apart = apart + moved / (machine.levels[-1][1] * streamed(c, machine)) + 3 * machine.launch
    exists = _winograd(p, f)
    return direct, xp.where(exists & (p.gradient != 2), inside, math.inf), xp.where(exists, apart, math.inf)


def _winograd(p: ConvSizes, f: Features) -> Value:
    back = (p.transposed == 0) | (p.gradient == 1)
    return (p.r == 3) & (p.s == 3) & (p.stride == 1) & (p.dilation <= 1) & (p.t == 0) & back & (f.bits <= 32)


def _patches(p: ConvSizes, side: int, xp: Any) -> Value:
    """Square pieces of all results."""
    return p.n * xp.ceil(p.p / side) * xp.ceil(p.q / side)


def executed(p: Any, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Multiply-accumulates of one product that are executed: the algorithm with the fewest seconds is the one taken."""
    simt = peak_of(f, machine, xp).simt
    if type(p) is not ConvSizes or not xp.any(simt):
        return p.macs
    direct, inside, apart = once(xp, _simt_conv, p, f, c, machine)
    products = xp.where(inside <= apart, 16 * _patches(p, 2, xp), 36 * _patches(p, 4, xp))
    spared = (direct > xp.minimum(inside, apart)) & simt
    return xp.where(spared, xp.minimum(products * p.c * p.o, p.macs), p.macs)


def _grouped(p: GroupedSizes, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """One narrow product per group, channels padded to the group kernel's tiles."""
    k = up(p.c / p.g, c.group_tile_c, xp) * p.taps
    n = p.g * up(p.o / p.g, c.group_tile_o, xp)
    peak, simt = peak_of(f, machine, xp)
    tiled = 2 * _met(p, xp) * n * k / (peak * xp.where(f.access.last > 0, c.grouped_last, c.grouped_conv))
    if not xp.any(p.gradient):
        return tiled
    inner, outer = p.c / p.g, p.o / p.g
    special = (inner == outer) & ((inner == 4) | (inner == 8) | (inner == 16) | (inner % 32 == 0))
    direct = 2 * _met(p, xp) * p.o * inner * p.taps / (vector_of(f, machine, xp) * c.simt_gemm)
    # for the gradient of the weight each group is a sum over all pixels, in a tile that is wider than most groups
    area = p.g * up(outer, _GROUP_SUMMED[0], xp) * up(inner * p.taps, _GROUP_SUMMED[1], xp)
    summed = tiled * xp.maximum(p.pixels * area / xp.maximum(_met(p, xp) * n * k, 1), 1.0)
    wide = xp.where((p.gradient == 2) & special, summed, tiled)
    return xp.where((p.gradient == 0) | simt, tiled, xp.where(special, wide, xp.maximum(direct, tiled)))


def _depthwise(p: DepthwiseSizes, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Each tap is a load and a multiply-add on the vector units; kernels of 1, 3 and 5 are unrolled, others loop.

    Channels-last they are cuDNN's (ATen/native/Convolution.cpp, use_cudnn_depthwise), which has fast ones to 7 x 7 where a
    channel has one result (conv2d_c1_k1_nhwc).
    """
    unrolled = (p.r == p.s) & (p.r <= 5)
    last = xp.where((xp.maximum(p.r, p.s) > 7) | (p.o != p.c), c.depthwise_wide, c.depthwise_last)
    rate = xp.where(f.access.last > 0, last, xp.where(unrolled, c.depthwise_conv, c.depthwise_loop))
    # the kernel for the gradient of an image under a stride asks every tap of every pixel of it, PyTorch's and cuDNN's alike
    met = _met(p, xp) / xp.maximum(p.pixels, 1)
    rate = xp.where((f.access.last > 0) & (met > 1), xp.minimum(rate, c.depthwise_conv), rate)
    seconds = 2 * p.macs * met / (vector_of(f, machine, xp) * rate)
    if not xp.any(f.access.own):
        return seconds
    # its own kernels work out the address of every result and ask whether each tap is inside the image
    cycles = p.macs * met * (c.depthwise_own / xp.maximum(p.taps, 1) + c.depthwise_tap)
    # that for the gradient of a weight has a block for each of its elements, which goes through all pixels
    blocks = xp.maximum(p.o * p.taps, machine.units)
    cycles = xp.where(p.gradient == 2, c.depthwise_pixel * p.n * p.p * p.q * blocks, cycles)
    mine = cycles / unhurried(machine, xp)
    return xp.where((f.access.own > 0) & (f.access.last == 0), xp.maximum(seconds, mine), seconds)


def _attention(p: AttentionSizes, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Products over tiles of queries and keys (two, in a backward five), and one exponential per score (a sixteenth of the
    vector rate).
    """
    scores = p.b * p.h * up(p.l, BLOCK, xp) * up(p.s, BLOCK, xp) * xp.where(f.access.math > 0, 1.0, p.met(xp))
    # fp32 keeps its digits by three products of TF32 each (CUTLASS's fast fp32), whether TF32 is allowed or not
    peak = xp.where(f.bits == 32, machine.vector * machine.sustained_vector, peak_of(f, machine, xp).peak)
    rate = peak * xp.where(f.access.mask > 0, c.attention_mask, c.attention)
    widths = one(p.products_e) * up(p.e, 32, xp) + one(p.products_v) * up(p.v, 32, xp)
    products, rest = 2 * scores * widths / rate, scores * 16 * c.attention_exp / vector_of(f, machine, xp)
    # a block of queries waits for its first keys, and at the end for its sums
    blocks = one(p.products_e) * p.b * p.h * xp.ceil(p.l / QUERIES)
    waits = xp.where(f.access.math > 0, 0.0, blocks / machine.units) * (c.block_wait * 1e-6)
    # a forward's kernel lets some warps take exponentials while others multiply
    beside = (rate / (machine.units * machine.clock) > APART * 0.5) & (f.bits <= 16) & (p.products_e <= 1)
    if not xp.any(beside):
        return products + rest + waits
    masked = (products**c.overlap + rest**c.overlap) ** (1 / c.overlap)
    taken = xp.where((f.access.mask > 0) | (f.access.math > 0), masked, _in_turns(p, f, rate, c, machine, xp))
    return xp.where(beside, taken, products + rest) + waits


def _in_turns(p: AttentionSizes, f: Features, rate: Value, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of a forward whose groups of warps multiply and take exponentials in turns (cuDNN's kernels for Hopper, which
    PyTorch takes there; FlashAttention-3), over tiles of 128 keys and as many queries, or 64 where there are no more. Under a
    causal mask the blocks of queries that meet all keys end last, while other units are idle.
    """
    met = p.met(xp, QUERIES)
    scores = p.b * p.h * up(p.l, xp.where(p.l > BLOCK, QUERIES, BLOCK), xp) * up(p.s, QUERIES, xp) * met
    products = 2 * scores * (up(p.e, 32, xp) + up(p.v, 32, xp)) / rate
    seconds = (products**HIDDEN + (scores * SCORE / vector_of(f, machine, xp)) ** HIDDEN) ** (1 / HIDDEN)
    blocks = p.b * p.h * xp.ceil(p.l / QUERIES)
    last = c.tail * seconds / met * machine.units / xp.maximum(blocks, 1)
    return seconds + xp.where(met < 1, xp.minimum(last, seconds), 0.0)


def _rnn(p: RecurrentSizes, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Products of all gates, and a kernel pair for each step and layer that has to wait for the one before."""
    rate = peak_of(f, machine, xp).peak * c.gemm
    return 2 * p.macs / rate + 2 * p.t * p.layers * machine.launch


# Seconds of one product, by the type of its sizes.
FORMULAS: dict[type[Sizes], Callable[..., Value]] = {
    GemmSizes: _gemm,
    ConvSizes: _conv,
    GroupedSizes: _grouped,
    DepthwiseSizes: _depthwise,
    AttentionSizes: _attention,
    RecurrentSizes: _rnn,
}
