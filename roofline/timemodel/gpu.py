"""Kernels on a GPU: arithmetic and bytes that their shape really costs, by class. Constants are constants.Gpu."""

from __future__ import annotations

from typing import Any

from roofline.classes import CONVS, PRODUCTS
from roofline.timemodel import gpu_products
from roofline.timemodel.constants import Gpu
from roofline.timemodel.features import Features
from roofline.timemodel.formulas import Machine, Overhead, Work, attended, join, missed, resident, streamed
from roofline.timemodel.gpu_products import FORMULAS, LOAD, narrow_rate, peak_of, unhurried, vector_of
from roofline.timemodel.sizes import DepthwiseSizes, GemmSizes, Value, one

# the constant that is a class' fraction of the peak, where it is not named like the class
_FRACTION = {"rnn": "gemm"}
# threads of one SM or CU that run at the same time, about
RESIDENT = 1024
# bytes that DRAM and caches deliver at least
SECTOR = 32
# blocks of 128 threads on an SM, about
BLOCKS = 16
# blocks of a generated loop over long rows on an SM: 512 threads each
LOOPS = 4
# blocks of 512 threads that add as fast together as one of them alone
SHARED_BLOCKS = 3

# loads of a block that wait for each other in a sum down columns: its own, and those of the signal that it is the last
WAITS = 30

# ------------------------------------------------------------------------------------------------ bytes


def _apart(elements: Value, nbytes: Value, launches: Value, c: Gpu, machine: Machine, xp: Any, run: Value = 0) -> Value:
    """Seconds of kernels of their own before and after an operator's, which go element by element through `nbytes`.

    They read half of them and write half. What they read was written last, and what they write is read next: what fits a
    cache is found there. `run`: bytes that they find in a row; 0 for many.
    """
    if not xp.any(elements):
        return 0.0
    alone = (run > 0) & (run < SECTOR)
    elements = elements * xp.where(alone, c.sectors, 1.0)
    slow = elements * c.element / (machine.units * machine.clock * machine.sustained)
    nearer = machine.levels[:-1]
    moved = [nbytes, *(nbytes * (1 - resident(nbytes / 2, size * c.residency, xp)) for size, _ in nearer)]
    seconds, _ = join(slow, _delivered(moved, xp.where(alone, c.scattered, 1.0), c, machine), c.overlap, xp)
    return seconds + xp.where(elements > 0, launches, 0) * machine.launch


def _beside(klass: str, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of the kernels around a convolution, one after the other: cuDNN's for matrix units want channels-last, so
    row-major images and results are brought into that order and back; and its convolutions have no bias.
    """
    _, simt = peak_of(f, machine, xp)
    size = f.bits / 8
    biased = xp.where(f.access.bias > 0, f.write, 0.0)
    biases = _apart(biased / size, 2.0 * biased, 1, c, machine, xp)
    if klass == "depthwise_conv":
        return xp.where(f.access.last > 0, biases, 0.0)
    passed = (f.read + f.write + f.access.again - f.access.biased) * (c.copy_grouped if klass == "grouped_conv" else c.copy_kxk)
    copied = xp.where((f.access.last > 0) | simt, 0.0, passed)
    if klass == "conv":
        # a row-major image is a product's operand as it lies where a pixel is a step; rows of odd planes are copied after all
        plain = (f.shape.taps == 1) & (f.shape.stride == 1) & (f.shape.t == 0)
        # ... and never one of the sum over all pixels that makes the gradient of the weight: its kernels want channels-last
        even = plain & (f.shape.p * f.shape.q * size % LOAD == 0)
        copied = xp.where(even & (copied > 0), f.access.summed, copied)
    copies = _apart(copied / size, 2.0 * copied, 2, c, machine, xp)
    if klass == "grouped_conv":
        copies = copies + _padded(f, simt, c, machine, xp)
    if klass == "conv":
        odd = plain & (f.shape.p * f.shape.q * size % LOAD > 0)
        slower = _piecemeal(f.shape.p * f.shape.q % 2 > 0, f, c, machine, xp)
        copies = xp.where(odd, xp.minimum(copies, slower), copies) + _uneven(f, simt, c, machine, xp)
    return copies + biases


def _uneven(f: Features, simt: Value, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds that a convolution takes longer where its pixels, channels-last, do not start at multiples of 16 bytes: those of
    53 channels in halves. A copy pads them (and cuts results), or they are loaded piece by piece, whichever is faster. What
    brings a row-major image into that order pads it on the way; the first layer's pixels are less than one load.
    """
    size, shape = f.bits / 8, f.shape
    inner, outer = shape.c * size % LOAD > 0, shape.o * size % LOAD > 0
    uneven = (inner | outer) & (f.access.last > 0) & (simt == 0) & (shape.c * size >= LOAD)
    if not xp.any(uneven):
        return 0.0
    back = f.access.again - f.access.biased
    padded = xp.where(inner, f.read, 0.0) + xp.where(outer, f.write, 0.0) + back
    padded = xp.where(uneven, padded, 0.0)
    copies = _apart(padded / size, 2.0 * padded, 1.0 * inner + 1.0 * outer, c, machine, xp)
    slower = _piecemeal((inner & (shape.c % 2 > 0)) | (outer & (shape.o % 2 > 0)), f, c, machine, xp)
    return xp.where(uneven, xp.minimum(copies, slower), 0.0)


def _piecemeal(odd: Value, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of a product whose rows are loaded piece by piece: an element where their lengths are odd, else two, at most 8
    bytes."""
    size = f.bits / 8
    return 2 * f.macs / narrow_rate(xp.where(odd, size, xp.minimum(2 * size, 8)), f.bits, c, machine, xp)


def _padded(f: Features, simt: Value, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds to bring groups to a width that cuDNN's kernels for matrix units have: those of 24 channels, of 40, 48, 56 or 112
    are spread over wider ones and gathered again by a general copy, element by element.
    """
    width = f.shape.c / xp.maximum(f.shape.g, 1)
    fits = (width % 32 == 0) | (width == 1) | (width == 2) | (width == 4) | (width == 8) | (width == 16)
    spread = xp.where(fits | simt, 0.0, f.read + f.write + f.access.again - f.access.biased)
    if not xp.any(spread):
        return 0.0
    times = xp.where(f.access.last > 0, 1.0, c.group_spread)
    cycles = spread * 8 / f.bits * c.group_pad * times
    return cycles / unhurried(machine, xp)


def _gathered(klass: str, f: Features, xp: Any) -> Value:
    """Bytes that the nearest cache delivers on top: PyTorch's kernel for the gradient of a depthwise weight has a block of
    threads for each element of the weight, which goes through all images and gradients (ATen/native/cuda/DepthwiseConv2d.cu);
    a weight that all products of a batch share, since `matmul` cannot lay their rows one after the other, is loaded for each.
    """
    each = {"gemm": _shared, "depthwise_conv": _by_tap}.get(klass)
    return f.total(lambda p, f: each(p, f, xp)) if each else 0.0


def _shared(p: Any, f: Features, xp: Any) -> Value:
    """The same of one product: what the products of a batch load beyond what is read of memory."""
    if not isinstance(p, GemmSizes):
        return 0.0 * f.bits
    loaded = p.b * (p.m * p.k + p.k * p.n) * f.bits / 8
    # one over numbers of two parts meets the same operands several times
    return xp.where(p.b > 1, xp.maximum(loaded - f.read, 0.0) / xp.maximum(p.times, 1), 0.0)


def _by_tap(p: Any, f: Features, xp: Any) -> Value:
    """The same of one product."""
    if not isinstance(p, DepthwiseSizes):
        return 0.0 * f.bits
    planes = p.n * p.c * one(p.d) * p.h * p.w + p.n * p.o * one(p.z) * p.p * p.q
    return xp.where((p.gradient == 2) & (f.access.last == 0), (p.taps - 1) * planes * f.bits / 8, 0.0)


def _gradients(klass: str, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of a convolution's backward that is asked for several gradients: each is a kernel of its own, one after another,
    so while one waits for memory the other does not multiply. That of a bias is a sum over the result's.
    """

    def each(p: Any, f: Features) -> Value:
        # image, weight and result meet in either
        again = f.access.again - f.access.biased
        share = xp.where(again > 0, 0.5, 1.0)
        traffic = [(n + again) * share for n in _traffic(f, c, machine, xp)]
        if len(traffic) > 1:
            traffic[0] = traffic[0] + _by_tap(p, f, xp)
        seconds = FORMULAS[type(p)](p, f, c, machine, xp)
        return join(seconds, _delivered(traffic, c.stream_conv, c, machine), c.overlap, xp)[0]

    bias = f.access.biased / (machine.levels[-1][1] * streamed(c, machine) * c.reduction)
    more = xp.where(f.access.again > f.access.biased, 1.0, 0.0) + xp.where(f.access.biased > 0, 1.0, 0.0)
    between = more * (machine.launch + c.drain * 1e-6)
    return f.total(each) + f.untold / (peak_of(f, machine, xp).peak * c.conv) + bias + between


def _norm_passes(f: Features, xp: Any) -> Value:
    """What a norm reads once for the statistics and once more for the result."""
    return xp.where(f.access.passes > 1, f.read, 0.0)


def _second_turn(f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Bytes of rows that their blocks read twice, for statistics and result, where those of all blocks at work do not fit the
    last cache. Generated code, too, goes through a long row in two loops, the second of which loads what is normalised.
    """
    blocks = xp.where(f.generated > 0, f.loop.outer, f.access.blocks)
    if not xp.any(blocks):
        return 0.0
    row = f.read / xp.maximum(blocks, 1)
    size = machine.levels[-2][0] if len(machine.levels) > 1 else 0.0
    many = xp.where(f.generated > 0, LOOPS, BLOCKS)
    at_work = xp.minimum(machine.units * many, blocks) * row
    turned = f.read
    if xp.any(f.generated):
        largest = f.static
        for n, _ in f.reads:
            largest = xp.maximum(largest, n)
        turned = xp.where(f.generated > 0, largest, f.read)
    return xp.where(blocks > 0, turned * (1 - resident(at_work, size * c.residency, xp)), 0.0)


def _attention_bytes(f: Features, c: Gpu, xp: Any) -> Value:
    """A misaligned mask is copied. Without a fused kernel (operands that are not 4-d) everything goes to memory in fp32.

    Then each score is written and read by product, softmax, product (16 bytes), and each element of q, k and v is cast,
    scaled and read, and the result written and cast back (56 bytes for the four).
    """
    p, access = f.shape, f.access
    scores, elements = p.b * p.h * p.l * p.s, p.b * p.h * p.l * p.e
    apart = xp.where(access.math > 0, 16.0 * scores + 56.0 * elements, 0.0)
    return xp.where(access.misaligned > 0, 2.0 * access.mask, 0.0) + apart


def _accumulated(f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds of what a backward of fused attention does beside its products: each block of keys adds to the gradients of all
    queries in fp32, in the nearest cache, after a kernel that multiplies result and gradient (Dao, arXiv:2307.08691, 3.1.2).
    """
    p = f.shape
    elements = p.b * p.h * p.l * p.e
    added = 8.0 * elements * xp.ceil(p.s / 64) * p.met(xp)
    seconds = added / (machine.levels[0][1] * c.cache * machine.sustained) + 10.0 * elements / (
        machine.levels[-1][1] * streamed(c, machine)
    )
    return xp.where((p.products_e > 1) & (f.access.math == 0), seconds + machine.launch, 0.0)


def _traffic(f: Features, c: Gpu, machine: Machine, xp: Any) -> list[Value]:
    """Bytes that each memory level has to deliver, nearest first: what the nearer ones do not hold."""
    out: list[Value] = [f.read + f.write]
    for size, _ in machine.levels[:-1]:
        capacity = size * c.residency
        own = f.static * (1 - resident(f.footprint, capacity, xp)) + f.write * (1 - resident(f.write, capacity, xp))
        out.append(missed(own, f, capacity, xp))
    return out


def _delivered(traffic: list[Value], fraction: Value, c: Gpu, machine: Machine) -> list[Value]:
    """Seconds of each memory level; `fraction` is what a kernel reaches of a copy's bandwidth."""
    dram = fraction * streamed(c, machine)
    cache = c.cache * machine.sustained
    last = len(machine.levels) - 1
    return [
        moved / (bandwidth * (dram if i == last else cache))
        for i, (moved, (_, bandwidth)) in enumerate(zip(traffic, machine.levels, strict=True))
    ]


# ------------------------------------------------------------------------------------------------ putting them together


def _parts(klass: str, f: Features, c: Gpu, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes moved on top of the operands, fraction of a copy's bandwidth)."""
    vector = vector_of(f, machine, xp)
    if klass in PRODUCTS:
        peak, _ = peak_of(f, machine, xp)
        extra, fraction = _product_bytes(klass, f, c, xp)
        untold = f.untold / (peak * getattr(c, _FRACTION.get(klass, klass)))
        seconds = f.total(lambda p, f: FORMULAS[type(p)](p, f, c, machine, xp)) + untold
        # what stands around the products runs on the vector units beside them
        return xp.maximum(seconds, xp.maximum(f.flops - 2 * f.macs, 0) / vector), extra, fraction
    arithmetic = xp.maximum(f.flops / (vector * c.vector), _pace(klass, f, c, machine, xp))
    if klass in ("pointwise", "layout"):
        streams = 1.0 if klass == "pointwise" else c.layout
        scattered = xp.where((f.access.run > 0) & (f.access.run < SECTOR), c.scattered, streams)
        return arithmetic, 0.0, scattered
    if klass == "norm":
        # blocks that take a channel each read two tensors and write one, plane after plane, for a gradient
        back = f.access.tensors > 1
        # the gradients of a LayerNorm's weights are a kernel of their own, whose blocks go down all rows
        arithmetic = arithmetic + f.access.serial * c.latency * 1e-6
        return arithmetic, _norm_passes(f, xp) + _second_turn(f, c, machine, xp), xp.where(back, c.norm_back, c.norm)
    if klass == "pool":
        own = xp.where(f.access.whole > 0, c.reduction, xp.where(f.shape.r > 0, c.stream_conv, c.pool))
        # threads that loop over images and channels wait for memory in every turn
        turns = xp.where(f.generated > 0, 0.0, f.access.serial * xp.ceil(f.access.abreast / (machine.units * RESIDENT)))
        arithmetic = xp.maximum(arithmetic, turns * c.latency * 1e-6)
        return arithmetic, 0.0, xp.where(f.generated > 0, 1.0, own)
    if klass == "reduction":
        arithmetic = arithmetic + _down(f, c, machine, xp)
        return arithmetic, 0.0, xp.where(f.generated > 0, c.reduction_generated, c.reduction)
    if klass == "softmax":
        return arithmetic, _second_turn(f, c, machine, xp), c.softmax
    return arithmetic, 0.0, c.gather


def _down(f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds that the last block of a sum down columns waits for what the others left in memory: so many blocks take parts of
    the rows of 128 columns that the device is full, and four threads add up what they found (ATen/native/cuda/Reduce.cuh).
    """
    columns = xp.ceil(f.access.abreast / 128)
    parts = xp.minimum(BLOCKS * machine.units / xp.maximum(columns, 1), f.access.serial / 64)
    turns = xp.where((f.access.serial > 0) & (f.generated == 0) & (parts > 1), parts / 4 + WAITS, 0.0)
    return turns * c.latency * 1e-6


def _product_bytes(klass: str, f: Features, c: Gpu, xp: Any) -> tuple[Value, float]:
    """(bytes moved on top of the operands, fraction of a copy's bandwidth) of a kernel of products."""
    if klass in CONVS:
        # each gradient is a kernel of its own, which reads that of the result
        return f.access.again, c.stream_conv
    return (_attention_bytes(f, c, xp) if klass == "attention" else 0.0), c.stream_gemm


def _pace(klass: str, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Seconds that the threads of a loop take over its elements, however fast memory is: an SM has so many in flight, and
    each waits for its operands, works out its address, meets the others of its block. Generated code is alike in all its loops.
    """
    a = f.access
    # in runs shorter than a sector every element is a sector of its own
    single = a.single * xp.where((a.run > 0) & (a.run < SECTOR), c.sectors, 1.0)
    cycles = xp.maximum(single * c.element, a.planes * (c.plane if klass == "norm" else c.reduced))
    cycles = cycles + a.packed * (c.soft if klass == "softmax" else c.packed)
    if klass == "norm":
        cycles = cycles + a.blocks * c.row + xp.where(a.blocks > 0, f.read / LOAD * c.wide, 0.0)
    if klass == "pool":
        # a thread for each result, which looks at its window
        taps = f.shape.r * f.shape.s
        windows = f.flops * (c.window / xp.maximum(taps, 1) + c.tap)
        cycles = cycles + xp.where(taps > 0, windows * xp.where(a.last > 0, c.window_last, 1.0), 0.0)
    if xp.any(a.channel):
        # one block adds up a channel, while SMs without one are idle; several on one SM share it
        cycles = cycles + a.channel * c.channel * xp.maximum(a.channels / SHARED_BLOCKS, machine.units * (a.channel > 0))
    waits: Value = 0.0
    if xp.any(a.taken):
        # one that takes a channel waits for what it reads, two tensors in a backward; several on one SM fill each other's waits
        beside = c.crowded * xp.ceil(a.channels / machine.units) * machine.units / unhurried(machine, xp)
        waits = a.taken * xp.maximum(c.taken * 1e-9 * machine.waits * a.tensors, beside)
    generated = c.generated_sum if klass == "reduction" else c.generated
    cycles = xp.where(f.generated > 0, f.loop.total * generated, cycles)
    return cycles / (machine.units * machine.clock * machine.sustained) + waits


def work(klass: str, f: Features, c: Gpu, machine: Machine, xp: Any) -> Work:
    """What a kernel takes by itself, or each of an array of kernels."""
    compute, extra, fraction = _parts(klass, f, c, machine, xp)
    traffic = [moved + extra for moved in _traffic(f, c, machine, xp)]
    if len(traffic) > 1:
        traffic[0] = traffic[0] + _gathered(klass, f, xp)
    levels = _delivered(traffic, fraction, c, machine)
    seconds, memory = join(compute, levels, c.overlap, xp)
    beside = 0.0
    if klass in CONVS:
        if xp.any(f.access.again > 0):
            seconds = xp.where(f.access.again > 0, _gradients(klass, f, c, machine, xp), seconds)
        beside = _beside(klass, f, c, machine, xp)
    elif klass == "attention":
        beside = _accumulated(f, c, machine, xp)
    elif klass in ("gemm", "norm", "softmax"):
        beside = _apart(f.access.copied * 8 / f.bits, 2.0 * f.access.copied, 1, c, machine, xp, run=f.access.run)
    seconds, memory = seconds + beside, memory + beside
    # filling and emptying the device; a kernel that never fills it pays no more than its own time
    return Work(seconds + xp.minimum(c.drain * 1e-6, seconds), compute, memory, levels)


def executed(klass: str, f: Features, c: Gpu, machine: Machine, xp: Any) -> Value:
    """Fraction of the counted FLOPs of a kernel that are executed: not those that a mask or Winograd's algorithm spares."""
    if klass == "attention":
        return attended(f, xp)
    if klass != "conv" or not xp.any(f.macs):
        return 1.0
    done = f.total(lambda p, f: gpu_products.executed(p, f, c, machine, xp))
    # what is untold may be arithmetic beside the products
    return xp.where(f.macs > 0, xp.minimum((done + f.untold / 2) / xp.maximum(f.macs, 1), 1.0), 1.0)


def overhead(klass: str, f: Features, c: Gpu, machine: Machine, xp: Any) -> Overhead:
    """The gap between two kernels, and the host's step to issue one: of a module's operator, of a cast, of a gradient."""
    steps = xp.where(f.cast > 0, c.call_cast, xp.where(f.later > 0, c.call_later, 1.0))
    return Overhead(machine.launch, machine.host * steps)


def reached(top: float, levels: list[float], c: Gpu, machine: Machine) -> tuple[float, list[float]]:
    """Peaks at the clock kept under load, and what a stream reaches."""
    clock = machine.sustained if top > machine.vector or (top == machine.single and machine.tf32) else machine.sustained_vector
    *caches, dram = levels
    return top * clock, [*(b * c.cache * machine.sustained for b in caches), dram * streamed(c, machine)]
