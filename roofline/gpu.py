"""Kernels on a GPU: arithmetic and bytes that their shape really costs, by class. Constants are [gpu] of constants.toml."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from roofline.formulas import Constants, Machine, Value, join, missed, resident, up

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

# threads of one SM or CU that run at the same time, about
RESIDENT = 1024


def _products(machine: Machine) -> Products:
    return VOLTA if machine.matrix else PASCAL


# ------------------------------------------------------------------------------------------------ arithmetic


def _gemm(f: Any, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]: padded to tiles, a start-up per tile, one tile's time at the end."""
    k = up(f.k, 8, xp) + c["start_k"]
    m, n = up(f.m, c["tile_m"], xp), up(f.n, c["tile_n"], xp)
    rate = peak * c["gemm"]
    # where the tiles are too few to fill the device, the inner dimension is split among its units
    depth = xp.minimum(k, xp.maximum(256.0, k * f.b * m * n / (128 * 128 * machine.units)))
    matrix = 2 * f.b * m * n * k / rate + _tail(depth, rate, c["tail"], machine.units)
    if not xp.any(f.simt):
        return matrix
    one, many = (_simt(f.m, f.n, f.k, f.b, tiles, c, peak, machine, xp) for tiles in _products(machine)[:2])
    return xp.where(f.simt, xp.where(f.b > 1, many, one), matrix)


def _tail(k: Value, rate: Value, tiles: Value, units: float) -> Value:
    """The last tiles of a kernel leave other units idle: the time of so many 128 x 128 tiles on one unit."""
    return tiles * 2 * 128 * 128 * k * units / rate


def _simt(m: Value, n: Value, k: Value, b: Value, tiles: Tiles, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of b products on vector units (fp32 without TF32): the best of the library's tiles, in whole waves.

    A small tile loads more for each product than a large one (`simt_edge`, in elements of an edge beside 128 x 128). Where the
    tiles of a single product are too few to fill the device, its inner dimension is split among the units.
    """
    best: Value = math.inf
    for rows, columns in tiles:
        count = b * xp.ceil(m / rows) * xp.ceil(n / columns)
        idle = xp.maximum(1.0, machine.units // xp.maximum(count, 1.0))
        parts = xp.where(b > 1, 1.0, xp.minimum(idle, xp.maximum(k // 256, 1.0)))
        waves = xp.ceil(count * parts / machine.units)
        rate = peak * c["simt_gemm"] / (1 + c["simt_edge"] * (1 / rows + 1 / columns - 1 / 64))
        depth = up(k / parts, 8, xp) + c["simt_start_k"]
        best = xp.minimum(best, 2 * rows * columns * depth * waves * machine.units / rate)
    return best


def _conv(f: Any, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
    """An implicit product: m = pixels of the batch, n = output channels, k = input channels x taps."""
    k = up(f.c, 8, xp) * f.r * f.s + c["start_k"]
    n = up(f.o, c["tile_n"], xp)
    m = f.n * xp.where(f.transposed > 0, f.h * f.w, f.p * f.q)
    rate = peak * c["conv"]
    matrix = 2 * m * n * k / rate + _tail(k, rate, c["tail"], machine.units)
    return xp.where(f.simt, _simt_conv(f, m, c, peak, machine, xp), matrix) if xp.any(f.simt) else matrix


def _simt_conv(f: Any, m: Value, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of a convolution on vector units: the implicit product, or for 3 x 3 with stride 1 the best of three.

    Winograd's F(2x2, 3x3) inside one kernel takes 16 products for every 36. F(4x4, 3x3) takes 36 for every 144, as 36 products
    of their own between transforms that go through memory (Lavin and Gray, arXiv:1509.09308).
    """
    products = _products(machine)
    direct = _simt(m, f.o, f.c * f.r * f.s, 1.0, products.direct, c, peak, machine, xp)
    small = f.n * xp.ceil(f.p / 2) * xp.ceil(f.q / 2)
    full = 2 * 16 * up(small, 32, xp) * up(f.o, 32, xp) * (up(f.c, 8, xp) + c["simt_start_k"])
    waves = small / 32 * xp.ceil(f.o / 32) / machine.units
    inside = full / (peak * c["simt_winograd"]) * xp.ceil(waves) / xp.maximum(waves, 1e-9)
    large = f.n * xp.ceil(f.p / 4) * xp.ceil(f.q / 4)
    apart = _simt(large, f.o, f.c, 36.0, products.winograd, c, peak, machine, xp)
    moved = f.bits / 8 * (f.n * f.c * f.h * f.w + 72 * large * (f.c + f.o) + f.n * f.o * f.p * f.q + 81 * f.c * f.o)
    apart = apart + moved / (machine.levels[-1][1] * (machine.reached or c["stream"])) + 3 * machine.launch
    winograd = (f.r == 3) & (f.s == 3) & (f.stride == 1) & (f.transposed == 0)
    return xp.where(winograd, xp.minimum(direct, xp.minimum(inside, apart)), direct)


def _grouped(f: Any, c: Constants, peak: Value, units: float, xp: Any) -> Value:
    """One narrow product per group, channels padded to the group kernel's tiles."""
    k = up(f.c / f.g, c["group_tile_c"], xp) * f.r * f.s
    n = f.g * up(f.o / f.g, c["group_tile_o"], xp)
    m = f.n * xp.where(f.transposed > 0, f.h * f.w, f.p * f.q)
    return 2 * m * n * k / (peak * xp.where(f.last > 0, c["grouped_last"], c["grouped_conv"]))


def _depthwise(f: Any, c: Constants, vector: Value, xp: Any) -> Value:
    """Each tap is a load and a multiply-add on the vector units; kernels of 1, 3 and 5 are unrolled, others loop.

    Channels-last they are cuDNN's (ATen/native/Convolution.cpp, use_cudnn_depthwise), which has fast ones to 7 x 7.
    """
    unrolled = (f.r == f.s) & (f.r <= 5)
    last = xp.where(xp.maximum(f.r, f.s) > 7, c["depthwise_wide"], c["depthwise_last"])
    rate = xp.where(f.last > 0, last, xp.where(unrolled, c["depthwise_conv"], c["depthwise_loop"]))
    return 2 * f.macs / (vector * rate)


def _attention(f: Any, c: Constants, peak: Value, vector: Value, xp: Any) -> Value:
    """Two products over tiles of queries and keys, and one exponential per score (a sixteenth of the vector rate)."""
    scores = f.b * f.h * up(f.l, 64, xp) * up(f.s, 64, xp)
    rate = peak * xp.where(f.mask > 0, c["attention_mask"], c["attention"])
    return 2 * scores * (up(f.e, 32, xp) + up(f.v, 32, xp)) / rate + scores * 16 * c["attention_exp"] / vector


def _rnn(f: Any, c: Constants, peak: Value, launch: float) -> Value:
    """Products of all gates, and a kernel pair for each step, layer and direction that has to wait for the one before."""
    return f.flops / (peak * c["gemm"]) + 2 * f.t * f.layers * launch


# ------------------------------------------------------------------------------------------------ bytes


def _conv_copies(f: Any, c: Constants, xp: Any) -> Value:
    """Bytes of the layout copies around a tensor-core convolution on row-major (NCHW) tensors."""
    one = (f.r * f.s == 1) & (f.stride == 1)
    copies = xp.where((f.last > 0) | f.simt, 0.0, xp.where(one, c["copy_1x1"], c["copy_kxk"])) * (f.read + f.write)
    return copies + _bias(f, xp)


def _grouped_copies(f: Any, c: Constants, xp: Any) -> Value:
    return xp.where((f.last > 0) | f.simt, 0.0, c["copy_grouped"]) * (f.read + f.write) + _bias(f, xp)


def _bias(f: Any, xp: Any) -> Value:
    """cuDNN's convolution has no bias: PyTorch adds it in place with a kernel of its own."""
    return xp.where(f.bias > 0, 2.0 * f.write, 0.0)


def _norm_passes(f: Any, xp: Any) -> Value:
    """GroupNorm reads its input once for the statistics and once more for the result."""
    return xp.where(f.passes > 1, f.read, 0.0)


def _attention_bytes(f: Any, c: Constants, xp: Any) -> Value:
    """A misaligned mask is copied. Without a fused kernel (operands that are not 4-d) everything goes to memory in fp32.

    Then each score is written and read by product, softmax, product (16 bytes), and each element of q, k and v is cast,
    scaled and read, and the result written and cast back (56 bytes for the four).
    """
    scores, elements = f.b * f.h * f.l * f.s, f.b * f.h * f.l * f.e
    return xp.where(f.misaligned > 0, 2.0 * f.mask, 0.0) + xp.where(f.math > 0, 16.0 * scores + 56.0 * elements, 0.0)


def _traffic(f: Any, c: Constants, machine: Machine, xp: Any) -> list[Value]:
    """Bytes that each memory level has to deliver, nearest first: what the nearer ones do not hold."""
    out: list[Value] = [f.read + f.write]
    for size, _ in machine.levels[:-1]:
        capacity = size * c["residency"]
        own = f.static * (1 - resident(f.footprint, capacity, xp)) + f.write * (1 - resident(f.write, capacity, xp))
        out.append(missed(own, f, capacity, xp))
    return out


# ------------------------------------------------------------------------------------------------ putting them together


def _parts(klass: str, f: Any, c: Constants, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes moved on top of the operands, fraction of a copy's bandwidth)."""
    matrix = xp.where(f.bits <= 16, machine.half, xp.where(f.bits == 64, machine.double, machine.single))
    # products that no matrix unit takes (fp32 without TF32)
    f.simt = (f.bits > 16) & (matrix <= machine.vector)
    matrix = matrix * xp.where(f.simt, machine.sustained_vector, machine.sustained)
    # a clock follows its power over many kernels: it is that of all of them
    vector = machine.vector * machine.sustained
    copies = 2.0 * f.copied / c["scattered"]
    if klass == "gemm":
        return _gemm(f, c, matrix, machine, xp), copies, c["stream_gemm"]
    if klass == "conv":
        return _conv(f, c, matrix, machine, xp), _conv_copies(f, c, xp), c["stream_conv"]
    if klass == "grouped_conv":
        return _grouped(f, c, matrix, machine.units, xp), _grouped_copies(f, c, xp), c["stream_conv"]
    if klass == "depthwise_conv":
        return _depthwise(f, c, vector, xp), xp.where(f.last > 0, _bias(f, xp), 0.0), c["stream_conv"]
    if klass == "attention":
        return _attention(f, c, matrix, vector, xp), _attention_bytes(f, c, xp), c["stream_gemm"]
    if klass == "rnn":
        return _rnn(f, c, matrix, machine.launch), 0.0, c["stream_gemm"]
    arithmetic = f.flops / (vector * c["vector"])
    if klass in ("pointwise", "layout"):
        scattered = xp.where((f.run > 0) & (f.run < 32), c["scattered"], 1.0 if klass == "pointwise" else c["layout"])
        return arithmetic, 0.0, scattered
    if klass == "norm":
        return arithmetic, copies + _norm_passes(f, xp), c["norm"]
    if klass == "pool":
        own = xp.where(f.last > 0, c["pool_last"], c["pool"])
        # threads that loop over images and channels wait for memory in every turn
        turns = xp.where(f.generated > 0, 0.0, f.serial * xp.ceil(f.threads / (machine.units * RESIDENT)))
        arithmetic = xp.maximum(arithmetic, turns * c["latency"] * 1e-6)
        return arithmetic, 0.0, xp.where(f.generated > 0, 1.0, own)
    if klass == "reduction":
        return arithmetic, 0.0, xp.where(f.generated > 0, c["reduction_generated"], c["reduction"])
    if klass == "softmax":
        return arithmetic, copies, c["softmax"]
    return arithmetic, 0.0, c["gather"]


def work(klass: str, f: Any, c: Constants, machine: Machine, xp: Any) -> tuple[Value, Value, Value, list[Value]]:
    """(seconds without overheads, of arithmetic, of memory, of each memory level) of a kernel or an array of kernels."""
    f.read = f.static + sum(n for n, _ in f.reads)
    compute, extra, fraction = _parts(klass, f, c, machine, xp)
    dram = fraction * (machine.reached or c["stream"])
    cache = c["cache"] * machine.sustained
    levels = [
        (moved + extra) / (bandwidth * (dram if i == len(machine.levels) - 1 else cache))
        for i, (moved, (_, bandwidth)) in enumerate(zip(_traffic(f, c, machine, xp), machine.levels, strict=True))
    ]
    seconds, memory = join(compute, levels, c["overlap"], xp)
    # filling and emptying the device; a kernel that never fills it pays no more than its own time
    return seconds + xp.minimum(c["drain"] * 1e-6, seconds), compute, memory, levels
