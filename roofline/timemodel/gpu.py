"""Kernels on a GPU: arithmetic and bytes that their shape really costs, by class. Constants are [gpu] of constants.toml."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from roofline.classes import CONVS, PRODUCTS
from roofline.timemodel import terms
from roofline.timemodel.constants import Gpu
from roofline.timemodel.formulas import Machine, Value, join, missed, resident, up

Tiles = tuple[tuple[int, int], ...]


class Products(NamedTuple):
    """(rows, columns) of the fp32 kernels that the libraries have for vector units."""

    # cuBLAS for a single product, for a batch; cuDNN: implicit products, those of Winograd's transform
    one: Tiles
    many: Tiles
    direct: Tiles
    winograd: Tiles


# as profiles of fp32 operators show them: from Volta on, and before (no tensor cores)
VOLTA = Products(
    ((64, 128), (128, 128), (128, 32), (32, 128), (32, 64), (64, 64)), ((64, 64), (128, 32), (64, 128)),
    ((128, 128), (128, 64), (128, 32)), ((64, 64), (128, 32), (64, 128)),
)  # fmt: skip
PASCAL = Products(((128, 32), (64, 64), (32, 128)), ((64, 128),), ((128, 128), (128, 64), (128, 32)), ((128, 32), (64, 64)))

# the constant that is a class' fraction of the peak, where it is not named like the class
_FRACTION = {"rnn": "gemm"}
# threads of one SM or CU that run at the same time, about
RESIDENT = 1024
# bytes of the widest load of a thread, and of what DRAM and caches deliver at least
LOAD, SECTOR = 16, 32
# blocks of 128 threads on an SM, about
BLOCKS = 16
# blocks of 512 threads that add as fast together as one of them alone
SHARED_BLOCKS = 3
# FLOP of half precision in an SM's cycle from which on kernels run apart what is no product (Hopper)
APART = 3000


def _products(machine: Machine) -> Products:
    return VOLTA if machine.matrix else PASCAL


# ------------------------------------------------------------------------------------------------ arithmetic


class Rate(NamedTuple):
    """FLOP/s of the units that run a product, and whether they are vector units (fp32 without TF32)."""

    peak: Value
    simt: Value


def _rate(f: Any, machine: Machine, xp: Any) -> Rate:
    peak = xp.where(f.bits <= 16, machine.half, xp.where(f.bits == 64, machine.double, machine.single))
    simt = peak <= machine.vector
    return Rate(peak * xp.where(simt, machine.sustained_vector, machine.sustained), simt)


def _vector(f: Any, machine: Machine, xp: Any) -> Value:
    """FLOP/s of the vector units, in doubles where the kernel computes in them.

    A clock follows its power over many kernels: it is that of all of them.
    """
    return xp.where(f.double > 0, xp.minimum(machine.vector, machine.double), machine.vector) * machine.sustained


def _gemm(f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]: in tiles, or for one row or one column by a matrix-vector kernel."""
    peak, simt = _rate(f, machine, xp)
    seconds = _tiles(f.m, f.n, f.k, f.b, c, peak * c.gemm, machine, xp)
    narrow = (f.aligned > 0) & (f.aligned < LOAD) & (simt == 0)
    if xp.any(narrow):
        rate = xp.minimum(peak, _narrow(f.aligned, f.bits, c, machine, xp))
        work = 2 * f.b * up(f.m, 64, xp) * up(f.n, 64, xp) * (up(f.k, 8, xp) + c.start_k)
        seconds = xp.where(narrow, xp.maximum(seconds, work / rate), seconds)
    if xp.any(simt):
        one, many = (_simt(f.m, f.n, f.k, f.b, tiles, c, peak, machine, xp) for tiles in _products(machine)[:2])
        seconds = xp.where(simt, xp.where(f.b > 1, many, one), seconds)
    # it streams the matrix past the vector units, which use each element once: nothing is padded
    vector = 2 * f.b * f.m * f.n * f.k / (_vector(f, machine, xp) * c.gemv)
    return xp.where((f.m == 1) | (f.n == 1), xp.minimum(seconds, xp.maximum(vector, 2 * f.b * f.m * f.n * f.k / peak)), seconds)


def _narrow(aligned: Value, bits: Value, c: Gpu, machine: Machine, xp: Any) -> Value:
    """FLOP/s of products whose rows do not start at multiples of 16 bytes, whatever the matrix units could do.

    Bulk copies into shared memory want 16 bytes; rows at 4 or 8 are loaded piece by piece (`cp.async` takes no less), odd
    halves go through registers: the kernels whose names end in align1, align2 and align4.
    """
    per_clock = xp.where(aligned < 4, c.narrow_2, c.narrow_4) * 16 / xp.maximum(bits, 16)
    return per_clock * machine.units * machine.clock * machine.sustained


def _tiles(m: Value, n: Value, k: Value, b: Value, c: Gpu, rate: Value, machine: Machine, xp: Any) -> Value:
    """Seconds on matrix units: padded to tiles, a start-up per tile, one tile's time at the end.

    Tiles of 16 rows (or columns) are there for thin products. They load more for each product: half the rate.
    """
    k = up(k, 8, xp) + c.start_k
    rows, columns = up(m, c.tile_m, xp), up(n, c.tile_n, xp)
    rows = xp.where(b == 1, xp.minimum(rows, 2 * up(m, 16, xp)), rows)
    columns = xp.where(b == 1, xp.minimum(columns, 2 * up(n, 16, xp)), columns)
    # where the tiles are too few to fill the device, the inner dimension is split among its units
    depth = xp.minimum(k, xp.maximum(256.0, k * b * rows * columns / (128 * 128 * machine.units)))
    return 2 * b * rows * columns * k / rate + _tail(depth, rate, c.tail, machine.units)


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
        idle = xp.maximum(1.0, machine.units // xp.maximum(count, 1.0))
        parts = xp.where(b > 1, 1.0, xp.minimum(idle, xp.maximum(k // 256, 1.0)))
        waves = xp.ceil(count * parts / machine.units)
        rate = c.simt_gemm / (1 + c.simt_edge * (1 / rows + 1 / columns - 1 / 64))
        depth = up(k / parts, 8, xp) + c.simt_start_k
        best = xp.minimum(best, 2 * rows * columns * depth * waves * machine.units / rate)
    return best / peak


def _conv(f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """An implicit product: m = pixels of the batch, n = output channels, k = input channels x taps.

    The gradient of a weight sums over the pixels: m = output channels, n = input channels x taps, k = pixels, which are split
    among the units as in any product whose tiles are few.
    """
    peak, simt = _rate(f, machine, xp)
    rate = peak * c.conv
    taps, pixels = terms.taps(f), terms.pixels(f)
    # pixels of a few channels, the first layer's, are less than one load. For the first layer of a ResNet cuDNN has a kernel
    first, known = f.c * f.bits < 8 * LOAD, (f.r == 7) & (f.stride == 2) & (f.c <= 4)
    pixel = xp.where(known & (f.bits <= 16), 8, 2)
    rate = xp.where(first & (f.gradient == 0), xp.minimum(rate, _narrow(pixel, f.bits, c, machine, xp)), rate)
    k = up(f.c, xp.where(first & (known | (f.bits > 16)), 4, 8), xp) * taps + c.start_k
    matrix = 2 * pixels * up(f.o, xp.where(first, 32, c.tile_n), xp) * k / rate + _tail(k, rate, c.tail, machine.units)
    # weights have as many rows as a tile wants, or the kernel takes a smaller tile
    rows, columns, depth = up(f.o, c.tile_n, xp), up(f.c * taps, c.tile_n, xp), up(pixels, 8, xp) + c.start_k
    split = xp.minimum(depth, xp.maximum(256.0, depth * rows * columns / (128 * 128 * machine.units)))
    summed = 2 * rows * columns * depth / rate + _tail(split, rate, c.tail, machine.units)
    matrix = xp.where(f.gradient == 2, summed, matrix)
    if not xp.any(simt):
        return matrix
    direct, inside, apart = _simt_conv(f, c, peak, machine, xp)
    return xp.where(simt, xp.minimum(direct, xp.minimum(inside, apart)), matrix)


def _simt_conv(f: Any, c: Gpu, peak: Value, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """Seconds of a convolution on vector units by three algorithms, infinite where there is none: the implicit product, and for
    3 x 3 with stride 1 Winograd's.

    F(2x2, 3x3) inside one kernel takes 16 products for every 36. F(4x4, 3x3) takes 36 for every 144, as 36 products of their
    own between transforms that go through memory (Lavin and Gray, arXiv:1509.09308). cuDNN has both for the gradient of the
    image and the second for that of the weight, none for doubles, volumes and kernels with holes.
    """
    products, pixels, taps = _products(machine), terms.pixels(f), terms.taps(f)
    weight = f.gradient == 2
    m, n, k = xp.where(weight, f.o, pixels), xp.where(weight, f.c * taps, f.o), xp.where(weight, pixels, f.c * taps)
    direct = _simt(m, n, k, 1.0, products.direct, c, peak, machine, xp)
    small, large = _patches(f, 2, xp), _patches(f, 4, xp)
    full = 2 * 16 * up(small, 32, xp) * up(f.o, 32, xp) * (up(f.c, 8, xp) + c.simt_start_k)
    waves = small / 32 * xp.ceil(f.o / 32) / machine.units
    inside = full / (peak * c.simt_winograd) * xp.ceil(waves) / xp.maximum(waves, 1e-9)
    m, n, k = xp.where(weight, f.o, large), xp.where(weight, f.c, f.o), xp.where(weight, large, f.c)
    apart = _simt(m, n, k, 36.0, products.winograd, c, peak, machine, xp)
    moved = f.bits / 8 * (f.n * f.c * f.h * f.w + 72 * large * (f.c + f.o) + f.n * f.o * f.p * f.q + 81 * f.c * f.o)
    apart = apart + moved / (machine.levels[-1][1] * (machine.reached or c.stream)) + 3 * machine.launch
    exists = _winograd(f)
    return direct, xp.where(exists & (f.gradient != 2), inside, math.inf), xp.where(exists, apart, math.inf)


def _winograd(f: Any) -> Value:
    back = (f.transposed == 0) | (f.gradient == 1)
    return (f.r == 3) & (f.s == 3) & (f.stride == 1) & (f.dilation <= 1) & (f.t == 0) & back & (f.bits <= 32)


def _patches(f: Any, side: int, xp: Any) -> Value:
    """Square pieces of all results."""
    return f.n * xp.ceil(f.p / side) * xp.ceil(f.q / side)


def executed(klass: str, f: Any, c: Gpu, machine: Machine, xp: Any) -> float:
    """Fraction of the counted FLOPs of one kernel that are executed: the algorithm with the fewest seconds is the one taken."""
    if klass != "conv" or not f.macs:
        return 1.0

    def done(p: Any) -> Value:
        macs = terms.macs(klass, p)
        peak, simt = _rate(p, machine, xp)
        if not simt:
            return macs
        direct, inside, apart = _simt_conv(p, c, peak, machine, xp)
        fastest = min(direct, inside, apart)
        if fastest == direct:
            return macs
        products = 16 * _patches(p, 2, xp) if fastest == inside else 36 * _patches(p, 4, xp)
        return min(products * p.c * p.o, macs)

    return float((f.total(done) + f.untold / 2) / f.macs)


def _grouped(f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """One narrow product per group, channels padded to the group kernel's tiles."""
    k = up(f.c / f.g, c.group_tile_c, xp) * terms.taps(f)
    n = f.g * up(f.o / f.g, c.group_tile_o, xp)
    rate = _rate(f, machine, xp).peak * xp.where(f.last > 0, c.grouped_last, c.grouped_conv)
    return 2 * terms.pixels(f) * n * k / rate


def _depthwise(f: Any, c: Gpu, vector: Value, xp: Any) -> Value:
    """Each tap is a load and a multiply-add on the vector units; kernels of 1, 3 and 5 are unrolled, others loop.

    Channels-last they are cuDNN's (ATen/native/Convolution.cpp, use_cudnn_depthwise), which has fast ones to 7 x 7.
    """
    unrolled = (f.r == f.s) & (f.r <= 5)
    last = xp.where(xp.maximum(f.r, f.s) > 7, c.depthwise_wide, c.depthwise_last)
    rate = xp.where(f.last > 0, last, xp.where(unrolled, c.depthwise_conv, c.depthwise_loop))
    return 2 * terms.macs("depthwise_conv", f) / (vector * rate)


def _attention(f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Products over tiles of queries and keys (two, in a backward five), and one exponential per score (a sixteenth of the
    vector rate).
    """
    scores = f.b * f.h * up(f.l, terms.BLOCK, xp) * up(f.s, terms.BLOCK, xp) * xp.where(f.math > 0, 1.0, terms.met(f, xp))
    rate = _rate(f, machine, xp).peak * xp.where(f.mask > 0, c.attention_mask, c.attention)
    widths = terms.one(f.products_e) * up(f.e, 32, xp) + terms.one(f.products_v) * up(f.v, 32, xp)
    products, rest = 2 * scores * widths / rate, scores * 16 * c.attention_exp / _vector(f, machine, xp)
    # a forward's kernel lets some warps take exponentials while others multiply
    beside = (rate / (machine.units * machine.clock) > APART * 0.5) & (f.bits <= 16) & (f.products_e <= 1)
    return xp.where(beside, (products**c.overlap + rest**c.overlap) ** (1 / c.overlap), products + rest)


def _rnn(f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Products of all gates, and a kernel pair for each step and layer that has to wait for the one before."""
    rate = _rate(f, machine, xp).peak * c.gemm
    return 2 * terms.macs("rnn", f) / rate + 2 * f.t * f.layers * machine.launch


# ------------------------------------------------------------------------------------------------ bytes


def _apart(elements: Value, nbytes: Value, launches: Value, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of kernels of their own before and after an operator's: they go element by element through `nbytes`."""
    slow = elements * c.element / (machine.units * machine.clock * machine.sustained)
    seconds, _ = join(slow, [nbytes / (machine.levels[-1][1] * (machine.reached or c.stream))], c.overlap, xp)
    return seconds + xp.where(elements > 0, launches, 0) * machine.launch


def _beside(klass: str, f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of the kernels around a convolution, one after the other: cuDNN's for matrix units want channels-last, so
    row-major images and results are brought into that order and back; and its convolutions have no bias.
    """
    _, simt = _rate(f, machine, xp)
    size = f.bits / 8
    biased = xp.where(f.bias > 0, f.write, 0.0)
    biases = _apart(biased / size, 2.0 * biased, 1, c, machine, xp)
    if klass == "depthwise_conv":
        return xp.where(f.last > 0, biases, 0.0)
    passed = (f.read + f.write + f.again) * (c.copy_grouped if klass == "grouped_conv" else c.copy_kxk)
    copied = xp.where((f.last > 0) | simt, 0.0, passed)
    if klass == "conv":
        # a row-major image is a product's operand as it lies where a pixel is a step; rows of odd planes are copied after all
        plain = (terms.taps(f) == 1) & (f.stride == 1) & (f.t == 0)
        copied = xp.where(plain & (f.p * f.q * size % LOAD == 0), 0.0, copied)
    copies = _apart(copied / size, 2.0 * copied, 2, c, machine, xp)
    if klass == "conv":
        odd = plain & (f.p * f.q * size % LOAD > 0)
        aligned = xp.where(f.p * f.q % 2 > 0, size, xp.minimum(2 * size, 8))
        slower = 2 * f.macs / _narrow(aligned, f.bits, c, machine, xp)
        copies = xp.where(odd, xp.minimum(copies, slower), copies)
    return copies + biases


def _gathered(klass: str, f: Any, xp: Any) -> Value:
    """Bytes that the nearest cache delivers on top: PyTorch's kernel for the gradient of a depthwise weight has a block of
    threads for each element of the weight, which goes through all images and gradients (ATen/native/cuda/DepthwiseConv2d.cu).
    """
    if klass != "depthwise_conv":
        return 0.0

    def passes(p: Any) -> Value:
        planes = p.n * p.c * terms.one(p.d) * p.h * p.w + p.n * p.o * terms.one(p.z) * p.p * p.q
        return xp.where((p.gradient == 2) & (p.last == 0), (terms.taps(p) - 1) * planes * p.bits / 8, 0.0)

    return f.total(passes)


def _norm_passes(f: Any, xp: Any) -> Value:
    """What a norm reads once for the statistics and once more for the result."""
    return xp.where(f.passes > 1, f.read, 0.0)


def _second_turn(f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Bytes of rows that their blocks read twice, for statistics and result, where those of all blocks at work do not fit the
    last cache.
    """
    row = f.read / xp.maximum(f.blocks, 1)
    size = machine.levels[-2][0] if len(machine.levels) > 1 else 0.0
    at_work = xp.minimum(machine.units * BLOCKS, f.blocks) * row
    return xp.where((f.blocks > 0) & (f.generated == 0), f.read * (1 - resident(at_work, size * c.residency, xp)), 0.0)


def _attention_bytes(f: Any, c: Gpu, xp: Any) -> Value:
    """A misaligned mask is copied. Without a fused kernel (operands that are not 4-d) everything goes to memory in fp32.

    Then each score is written and read by product, softmax, product (16 bytes), and each element of q, k and v is cast,
    scaled and read, and the result written and cast back (56 bytes for the four).
    """
    scores, elements = f.b * f.h * f.l * f.s, f.b * f.h * f.l * f.e
    return xp.where(f.misaligned > 0, 2.0 * f.mask, 0.0) + xp.where(f.math > 0, 16.0 * scores + 56.0 * elements, 0.0)


def _traffic(f: Any, c: Gpu, machine: Machine, xp: Any) -> list[Value]:
    """Bytes that each memory level has to deliver, nearest first: what the nearer ones do not hold."""
    out: list[Value] = [f.read + f.write]
    for size, _ in machine.levels[:-1]:
        capacity = size * c.residency
        own = f.static * (1 - resident(f.footprint, capacity, xp)) + f.write * (1 - resident(f.write, capacity, xp))
        out.append(missed(own, f, capacity, xp))
    return out


# ------------------------------------------------------------------------------------------------ putting them together


def _parts(klass: str, f: Any, c: Gpu, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes moved on top of the operands, fraction of a copy's bandwidth)."""
    vector = _vector(f, machine, xp)
    if klass in PRODUCTS:
        peak, _ = _rate(f, machine, xp)
        extra, fraction = _product_bytes(klass, f, c, xp)
        seconds = f.total(lambda p: _product(klass, p, c, machine, xp)) + f.untold / (
            peak * getattr(c, _FRACTION.get(klass, klass))
        )
        # what stands around the products runs on the vector units beside them
        return xp.maximum(seconds, xp.maximum(f.flops - 2 * f.macs, 0) / vector), extra, fraction
    arithmetic = xp.maximum(f.flops / (vector * c.vector), _pace(klass, f, c, machine, xp))
    if klass in ("pointwise", "layout"):
        scattered = xp.where((f.run > 0) & (f.run < SECTOR), c.scattered, 1.0 if klass == "pointwise" else c.layout)
        return arithmetic, 0.0, scattered
    if klass == "norm":
        return arithmetic, _norm_passes(f, xp) + _second_turn(f, c, machine, xp), c.norm
    if klass == "pool":
        own = xp.where(f.whole > 0, c.reduction, xp.where(f.r > 0, c.stream_conv, c.pool))
        # threads that loop over images and channels wait for memory in every turn
        turns = xp.where(f.generated > 0, 0.0, f.serial * xp.ceil(f.threads / (machine.units * RESIDENT)))
        arithmetic = xp.maximum(arithmetic, turns * c.latency * 1e-6)
        return arithmetic, 0.0, xp.where(f.generated > 0, 1.0, own)
    if klass == "reduction":
        return arithmetic, 0.0, xp.where(f.generated > 0, c.reduction_generated, c.reduction)
    if klass == "softmax":
        return arithmetic, _second_turn(f, c, machine, xp), c.softmax
    return arithmetic, 0.0, c.gather


def _product(klass: str, p: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of one product."""
    if klass == "gemm":
        return _gemm(p, c, machine, xp)
    if klass == "conv":
        return _conv(p, c, machine, xp)
    if klass == "grouped_conv":
        return _grouped(p, c, machine, xp)
    if klass == "depthwise_conv":
        return _depthwise(p, c, _vector(p, machine, xp), xp)
    if klass == "attention":
        return xp.where(p.m > 0, _gemm(p, c, machine, xp), _attention(p, c, machine, xp))
    return _rnn(p, c, machine, xp)


def _product_bytes(klass: str, f: Any, c: Gpu, xp: Any) -> tuple[Value, float]:
    """(bytes moved on top of the operands, fraction of a copy's bandwidth) of a kernel of products."""
    if klass in CONVS:
        # each gradient is a kernel of its own, which reads that of the result
        return f.again, c.stream_conv
    return (_attention_bytes(f, c, xp) if klass == "attention" else 0.0), c.stream_gemm


def _pace(klass: str, f: Any, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds that the threads of a loop take over its elements, however fast memory is: an SM has so many in flight, and
    each waits for its operands, works out its address, meets the others of its block. Generated code goes in wide loads.
    """
    # in runs shorter than a sector every element is a sector of its own
    single = f.single * xp.where((f.run > 0) & (f.run < SECTOR), c.sectors, 1.0)
    cycles = xp.maximum(single * c.element, f.planes * (c.plane if klass == "norm" else c.reduced))
    cycles = cycles + f.packed * c.packed + (f.blocks * c.row if klass == "norm" else 0.0)
    if klass == "pool":
        # a thread for each result, which looks at its window
        taps = f.r * f.s
        windows = f.flops * (c.window / xp.maximum(taps, 1) + c.tap)
        cycles = cycles + xp.where(taps > 0, windows * xp.where(f.last > 0, c.window_last, 1.0), 0.0)
    # one block adds up a channel, while SMs without one are idle; several on one SM share it
    cycles = cycles + f.channel * c.channel * xp.maximum(f.channels / SHARED_BLOCKS, machine.units * (f.channel > 0))
    return xp.where(f.generated > 0, 0.0, cycles) / (machine.units * machine.clock * machine.sustained)


def work(klass: str, f: Any, c: Gpu, machine: Machine, xp: Any) -> tuple[Value, Value, Value, list[Value]]:
    """(seconds without overheads, of arithmetic, of memory, of each memory level) of a kernel or an array of kernels."""
    f.read = f.static + sum(n for n, _ in f.reads)
    compute, extra, fraction = _parts(klass, f, c, machine, xp)
    dram = fraction * (machine.reached or c.stream)
    cache = c.cache * machine.sustained
    traffic = _traffic(f, c, machine, xp)
    if len(traffic) > 1:
        traffic[0] = traffic[0] + _gathered(klass, f, xp)
    levels = [
        (moved + extra) / (bandwidth * (dram if i == len(machine.levels) - 1 else cache))
        for i, (moved, (_, bandwidth)) in enumerate(zip(traffic, machine.levels, strict=True))
    ]
    seconds, memory = join(compute, levels, c.overlap, xp)
    beside = 0.0
    if klass in CONVS:
        beside = _beside(klass, f, c, machine, xp)
    elif klass in ("gemm", "norm", "softmax"):
        beside = _apart(f.copied * 8 / f.bits, 2.0 * f.copied, 1, c, machine, xp)
    seconds, memory = seconds + beside, memory + beside
    # filling and emptying the device; a kernel that never fills it pays no more than its own time
    return seconds + xp.minimum(c.drain * 1e-6, seconds), compute, memory, levels
