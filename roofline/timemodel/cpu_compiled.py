"""Compiled code on a CPU: what generated loops and library calls cost. Constants are [cpu] of constants.toml.

Eager mode is in cpu_eager.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roofline.classes import CONVS, LIBRARY, PRODUCTS
from roofline.shapes import Access
from roofline.timemodel.constants import Cpu
from roofline.timemodel.features import Features
from roofline.timemodel.formulas import (
    Machine,
    Overhead,
    Work,
    attended,
    either,
    faults,
    join,
    missed,
    own_conv,
    resident,
    streamed,
    up,
)
from roofline.timemodel.sizes import (
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


def _shared(items: Value, units: float, xp: Any) -> Value:
    """Fraction of the cores that `items` equal pieces of work keep busy."""
    items = xp.maximum(xp.ceil(items), 1.0)
    return items / (xp.ceil(items / units) * units)


def _biased(f: Features) -> Value:
    """Whether a product adds a bias: PyTorch copies it into every row of the result beforehand."""
    return f.flops > 2 * f.macs


def _serial(f: Features, c: Cpu, machine: Machine, xp: Any) -> Value:
    """Whether a generated loop stays on one thread: Inductor gives each at least `chunk` elements (min_chunk_size)."""
    return xp.where(f.loop.total > 0, f.loop.total, f.write * 8 / f.bits) < c.chunk * machine.units


# Rows of pieces that the cores may cut a product into.
_GRIDS = (2, 3, 4, 6, 8)


def _product(p: GemmSizes, walked: Access | None, rate: Value, c: Cpu, machine: Machine, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]; one row or one column is a matrix-vector product, which pads nothing.

    Cores take products of a batch, or a grid of the rows and columns of one: as many of either as takes the least. `walked` is
    how the operands lie in memory, where they do not lie side by side.
    """
    piece = _piece(p, 1, walked, rate, c, machine, xp)
    for rows in _GRIDS:
        piece = xp.minimum(piece, _piece(p, rows, walked, rate, c, machine, xp))
    each = xp.ceil(p.b / machine.units) * piece
    return xp.where((p.m == 1) | (p.n == 1), 2 * p.macs / (rate * c.gemm), each)


def _piece(p: GemmSizes, rows: int, walked: Access | None, rate: Value, c: Cpu, machine: Machine, xp: Any) -> Value:
    """Seconds of the largest piece of a product that is cut into so many rows of pieces, on one core."""
    cores = xp.maximum(xp.floor(machine.units / xp.maximum(p.b, 1)), 1.0)
    columns = xp.maximum(xp.floor(cores / rows), 1.0)
    high, wide = p.m / xp.minimum(rows, cores), p.n / columns
    full = 2 * up(high, c.gemm_rows, xp) * up(wide, machine.lanes, xp) * (p.k + c.gemm_depth)
    seconds = full * machine.units / (rate * c.gemm)
    if walked is None:
        return seconds
    # rows that lie so evict each other from the nearest cache while a core reads several side by side, which it does to pack
    # them; of a few rows it reads each through
    first = xp.where(walked.aliased % 2 > 0, high, 0.0)
    second = xp.where((walked.aliased >= 2) & (walked.frozen == 0), wide, 0.0)
    cycles = xp.where(p.m >= c.gemm_rows, (first + second) * p.k * either(c.aliased, 0.0, machine), 0.0)
    return seconds + cycles / (machine.clock * machine.sustained)


def _blocked(f: Features, c: Cpu, xp: Any) -> Value:
    """Bytes brought into blocks: oneDNN blocks its weights in every call, row-major images and results too."""
    p = f.shape
    images = xp.where(f.access.viewed > 0, c.turned * (p.n * p.c * p.h * p.w + p.n * p.o * p.p * p.q) * f.bits / 8, 0.0)
    weights = xp.where(f.access.frozen > 0, 0.0, p.o * (p.c / p.g) * p.taps * f.bits / 8)
    return xp.where(own_conv(p), 0.0, weights + images)


def _conv(p: ConvSizes, f: Features, c: Cpu, machine: Machine, xp: Any) -> Value:
    """Seconds of one convolution, forward or a gradient (whose blocks are those of its own result)."""
    rate, inner, outer = _multiplying(f, machine, xp), p.c / p.g, p.o / p.g
    pixels, taps = p.pixels, p.taps
    # blocks of four registers of output channels x one row of pixels are handed to the cores
    items = p.n * p.g * one(p.z) * p.p * xp.ceil(outer / (4 * machine.lanes))
    full = 2 * p.g * up(outer, machine.lanes, xp) * pixels * xp.maximum(inner, c.conv_depth) * taps
    seconds = full / (rate * either(c.conv, c.conv_acl, machine) * _shared(items, machine.units, xp))
    alone = _product(GemmSizes(p.n, pixels / p.n, p.o, p.c * taps), None, rate, c, machine, xp)
    return xp.where(own_conv(p), alone, seconds)


def _depthwise(p: DepthwiseSizes, f: Features, c: Cpu, machine: Machine, xp: Any) -> Value:
    return 2 * p.macs / (_rate(f, machine, xp) * c.depthwise_conv)


def _gemm(p: GemmSizes, f: Features, c: Cpu, machine: Machine, xp: Any) -> Value:
    return _product(p, f.access, _multiplying(f, machine, xp), c, machine, xp)


def _attention(p: AttentionSizes, f: Features, c: Cpu, machine: Machine, xp: Any) -> Value:
    """Blocks of 32 to 256 queries of one head are handed to the cores."""
    block = xp.where(p.l >= 768, 256.0, xp.where(p.l >= 192, 64.0, 32.0))
    busy = _shared(p.b * p.h * xp.ceil(p.l / block), machine.units, xp)
    scores = p.b * p.h * p.l * p.s * xp.where(f.access.math > 0, 1.0, p.met(xp))
    # each score is scaled and put through a softmax: 6
    work = scores * (2 * one(p.products_e) * p.e + 2 * one(p.products_v) * p.v + 6)
    return work / (_multiplying(f, machine, xp) * c.attention * busy)


def _rnn(p: RecurrentSizes, f: Features, c: Cpu, machine: Machine, xp: Any) -> Value:
    """All gates, and a region for each step and layer."""
    return 2 * p.macs / (_multiplying(f, machine, xp) * c.rnn) + 2 * p.t * p.layers * machine.launch


# Seconds of one product.
_PRODUCTS: dict[type[Sizes], Callable[..., Value]] = {
    GemmSizes: _gemm,
    ConvSizes: _conv,
    GroupedSizes: _conv,
    DepthwiseSizes: _depthwise,
    AttentionSizes: _attention,
    RecurrentSizes: _rnn,
}


def _loops(klass: str, f: Features, c: Cpu, machine: Machine, rate: Value, xp: Any) -> tuple[Value, Value]:
    """(seconds of arithmetic, fraction of the cores at work) of generated code."""
    lanes = machine.lanes
    # a reduction is shared out by its results: by rows, or by registers full of channels where it runs over pixels
    items = xp.where(f.loop.outer > 1, xp.where(f.loop.row > 0, f.loop.outer, f.loop.outer / lanes), f.loop.total / lanes)
    busy = xp.where(_serial(f, c, machine, xp), 1.0 / machine.units, _shared(items, machine.units, xp))
    # a running variance waits for itself at every step, which takes a register's worth of a row if the row is that long
    step = xp.where((f.loop.row > 0) & (f.loop.row < lanes), 1.0, lanes)
    cycles = f.loop.welford / step * c.welford + f.loop.special / lanes * c.special
    pace = c.scalar if klass in ("gather", "sort", "fft", "other") else c.vector
    seconds = f.flops / (rate * pace) + cycles / (machine.clock * machine.sustained * machine.units)
    if klass == "pool":  # windows overlap; a mean over all pixels is a reduction
        seconds = xp.where(f.loop.outer > 0, seconds, f.flops / (rate * c.pool))
    return seconds / busy, busy


def _rate(f: Features, machine: Machine, xp: Any) -> Value:
    return machine.vector * machine.sustained * xp.where(f.bits > 32, 0.5, 1.0)


def _multiplying(f: Features, machine: Machine, xp: Any) -> Value:
    """The same of what multiplies: AMX, or the vector instructions for halves, where the device has them."""
    return xp.where(f.bits <= 16, machine.half * machine.sustained, _rate(f, machine, xp))


def _parts(klass: str, f: Features, c: Cpu, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes packed before the work, fraction of the cores at work)."""
    rate = _rate(f, machine, xp)
    if klass in PRODUCTS:
        seconds = f.total(lambda p, f: _PRODUCTS[type(p)](p, f, c, machine, xp))
        fraction = either(c.conv, c.conv_acl, machine) if klass in ("conv", "grouped_conv") else getattr(c, klass)
        matrix = rate if klass == "depthwise_conv" else _multiplying(f, machine, xp)
        seconds = seconds + f.untold / (matrix * fraction)
        if klass != "attention":  # what stands around the products runs on the same units
            seconds = seconds + xp.maximum(f.flops - 2 * f.macs, 0) / rate
        if klass in CONVS:
            # a second gradient reads the result's again
            return seconds + faults(f.static, c, xp), _blocked(f, c, xp) + f.access.again / 2, 1.0
        if klass != "gemm":
            return seconds, 0.0, 1.0
        # from some rows on MKL packs the weights; a bias is written into the result, which is then read
        weights = xp.where((f.shape.m >= c.few_rows) & (f.access.frozen == 0), f.static, 0.0)
        return seconds, f.access.copied + weights + xp.where(_biased(f), f.write, 0.0), 1.0
    seconds, busy = _loops(klass, f, c, machine, rate, xp)
    return seconds + faults(f.write, c, xp), 0.0, busy


def _levels(f: Features, packed: Value, busy: Value, c: Cpu, machine: Machine, xp: Any) -> list[Value]:
    """Seconds of each memory level, nearest first.

    What one core wrote another reads, so that goes over the last cache; private ones add to its size. What a core wrote itself
    it finds in its own caches, or in the last one at the full rate: of n cores one n-th, alone all. A line that is written is
    read first; what is packed is written and read again. One core draws so many bytes a cycle and no more, however wide the
    memory behind it is. Caches go with the clock.
    """
    drawn, mine = busy * machine.units * machine.clock * machine.sustained, 1.0 / machine.units
    out: list[Value] = []
    moved, held = f.read + f.write + 2 * packed, 0.0
    for i, (size, bandwidth) in enumerate(machine.levels):
        held += size
        capacity = held * c.residency
        if i == len(machine.levels) - 1:
            # where the cores draw less than the level delivers, the time rests on their clock
            out.append(moved / xp.minimum(bandwidth * streamed(c, machine), drawn * c.core_dram))
        elif i == len(machine.levels) - 2:
            full = bandwidth * machine.sustained
            out.append(moved * (mine / (full * busy) + (1 - mine) / xp.minimum(full * c.cache, drawn * c.core_cache)))
            moved = f.static * (1 - resident(f.footprint, capacity, xp)) + 2 * f.write * (1 - resident(f.write, capacity, xp))
            moved = missed(moved + 3 * packed * (1 - resident(packed, capacity, xp)), f, capacity, xp)
        else:
            out.append(moved / (bandwidth * machine.sustained * busy))
            gone = f.static * (1 - resident(f.footprint, capacity, xp)) + f.write * (1 - resident(f.write, capacity, xp))
            gone = missed(gone + 2 * packed * (1 - resident(packed, capacity, xp)), f, capacity, xp)
            moved = (1 - mine) * moved + mine * gone
    return out


def work(klass: str, f: Features, c: Cpu, machine: Machine, xp: Any) -> Work:
    """What a kernel takes by itself, or each of an array of kernels."""
    compute, packed, busy = _parts(klass, f, c, machine, xp)
    levels = _levels(f, packed, busy, c, machine, xp)
    seconds, memory = join(compute, levels, c.overlap, xp)
    return Work(seconds, compute, memory, levels)


def overhead(klass: str, f: Features, c: Cpu, machine: Machine, xp: Any) -> Overhead:
    """Parallel regions to start and end, and the way into a library.

    That way is long for a convolution in oneDNN. A loop that stays on one thread has no region.
    """
    if klass in CONVS:
        small = own_conv(f.shape)
        steps, regions = xp.where(small, c.call_own, either(c.call_conv, c.call_conv_acl, machine)), xp.where(small, 1.0, 2.0)
    elif klass in LIBRARY:
        steps, regions = c.call_gemm, xp.where(_biased(f), 2.0, 1.0) if klass == "gemm" else 1.0
    else:
        steps, regions = c.generated, xp.where(_serial(f, c, machine, xp), 0.0, 1.0)
    return Overhead(machine.launch * c.region * regions, machine.host * steps)


def executed(klass: str, f: Features, c: Cpu, machine: Machine, xp: Any) -> Value:
    """All that is counted, but for what a causal mask hides."""
    return attended(f, xp) if klass == "attention" else 1.0


def reached(top: float, levels: list[float], c: Cpu, machine: Machine) -> tuple[float, list[float]]:
    """The peak at the clock kept under load, and what a stream reaches."""
    *caches, dram = levels
    return top * machine.sustained, [*(b * c.cache for b in caches), dram * streamed(c, machine)]
