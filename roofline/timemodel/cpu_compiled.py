"""Compiled code on a CPU: what generated loops and library calls cost. Constants are [cpu] of constants.toml.

Eager mode is in cpu_eager.py.
"""

from __future__ import annotations

from typing import Any

from roofline.classes import CONVS, LIBRARY, PRODUCTS
from roofline.timemodel import terms
from roofline.timemodel.constants import Cpu
from roofline.timemodel.formulas import Machine, Value, faults, join, missed, own_conv, resident, up


def _shared(items: Value, units: float, xp: Any) -> Value:
    """Fraction of the cores that `items` equal pieces of work keep busy."""
    items = xp.maximum(xp.ceil(items), 1.0)
    return items / (xp.ceil(items / units) * units)


def _biased(f: Any) -> Value:
    """Whether a product adds a bias: PyTorch copies it into every row of the result beforehand."""
    return f.flops > 2 * f.macs


def _serial(f: Any, c: Cpu, machine: Machine, xp: Any) -> Value:
    """Whether a generated loop stays on one thread: Inductor gives each at least `chunk` elements (min_chunk_size)."""
    return xp.where(f.loop > 0, f.loop, f.write * 8 / f.bits) < c.chunk * machine.units


def _product(m: Value, n: Value, k: Value, b: Value, rate: Value, c: Cpu, lanes: float, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]; one row or one column is a matrix-vector product, which pads nothing."""
    full = up(m, c.gemm_rows, xp) * up(n, lanes, xp) * (k + c.gemm_depth)
    return 2 * b * xp.where((m == 1) | (n == 1), m * n * k, full) / (rate * c.gemm)


def _blocked(klass: str, f: Any, c: Cpu, xp: Any) -> Value:
    """Bytes brought into blocks: oneDNN blocks its weights in every call, row-major images and results too."""
    images = xp.where(f.viewed > 0, c.turned * (f.n * f.c * f.h * f.w + f.n * f.o * f.p * f.q) * f.bits / 8, 0.0)
    return xp.where(own_conv(klass, f), 0.0, f.o * (f.c / f.g) * terms.taps(f) * f.bits / 8 + images)


def _conv(klass: str, f: Any, c: Cpu, machine: Machine, rate: Value, xp: Any) -> Value:
    """Seconds of one convolution, forward or a gradient (whose blocks are those of its own result)."""
    inner, outer = f.c / f.g, f.o / f.g
    pixels, taps = terms.pixels(f), terms.taps(f)
    if klass == "depthwise_conv":
        return 2 * terms.macs(klass, f) / (rate * c.depthwise_conv)
    # blocks of four registers of output channels x one row of pixels are handed to the cores
    items = f.n * f.g * terms.one(f.z) * f.p * xp.ceil(outer / (4 * machine.lanes))
    full = 2 * f.g * up(outer, machine.lanes, xp) * pixels * xp.maximum(inner, c.conv_depth) * taps
    seconds = full / (rate * c.conv * _shared(items, machine.units, xp))
    alone = _product(pixels / f.n, f.o, f.c * taps, f.n, rate, c, machine.lanes, xp)
    return xp.where(own_conv(klass, f), alone, seconds)


def _attention(f: Any, c: Cpu, machine: Machine, rate: Value, xp: Any) -> Value:
    """Blocks of 32 to 256 queries of one head are handed to the cores."""
    block = xp.where(f.l >= 768, 256.0, xp.where(f.l >= 192, 64.0, 32.0))
    busy = _shared(f.b * f.h * xp.ceil(f.l / block), machine.units, xp)
    scores = f.b * f.h * f.l * f.s * xp.where(f.math > 0, 1.0, terms.met(f, xp))
    # each score is scaled and put through a softmax: 6
    work = scores * (2 * terms.one(f.products_e) * f.e + 2 * terms.one(f.products_v) * f.v + 6)
    return work / (rate * c.attention * busy)


def _seconds(klass: str, f: Any, c: Cpu, machine: Machine, rate: Value, xp: Any) -> Value:
    """Seconds of one product."""
    if klass in CONVS:
        return _conv(klass, f, c, machine, rate, xp)
    if klass == "gemm":
        return _product(f.m, f.n, f.k, f.b, rate, c, machine.lanes, xp)
    if klass == "attention":
        outside = _product(f.m, f.n, f.k, f.b, rate, c, machine.lanes, xp)
        return xp.where(f.m > 0, outside, _attention(f, c, machine, rate, xp))
    return 2 * terms.macs(klass, f) / (rate * c.rnn) + 2 * f.t * f.layers * machine.launch


def _loops(klass: str, f: Any, c: Cpu, machine: Machine, rate: Value, xp: Any) -> tuple[Value, Value]:
    """(seconds of arithmetic, fraction of the cores at work) of generated code."""
    lanes = machine.lanes
    # a reduction is shared out by its results: by rows, or by registers full of channels where it runs over pixels
    items = xp.where(f.outer > 1, xp.where(f.row > 0, f.outer, f.outer / lanes), f.loop / lanes)
    busy = xp.where(_serial(f, c, machine, xp), 1.0 / machine.units, _shared(items, machine.units, xp))
    # a running variance waits for itself at every step, which takes a register's worth of a row if the row is that long
    step = xp.where((f.row > 0) & (f.row < lanes), 1.0, lanes)
    cycles = f.welford / step * c.welford + f.special / lanes * c.special
    pace = c.scalar if klass in ("gather", "sort", "fft", "other") else c.vector
    seconds = f.flops / (rate * pace) + cycles / (machine.clock * machine.sustained * machine.units)
    if klass == "pool":  # windows overlap; a mean over all pixels is a reduction
        seconds = xp.where(f.outer > 0, seconds, f.flops / (rate * c.pool))
    return seconds / busy, busy


def _rate(f: Any, machine: Machine, xp: Any) -> Value:
    return machine.vector * machine.sustained * xp.where(f.bits > 32, 0.5, 1.0)


def _parts(klass: str, f: Any, c: Cpu, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes packed before the work, fraction of the cores at work)."""
    rate = _rate(f, machine, xp)
    if klass in PRODUCTS:
        seconds = f.total(lambda p: _seconds(klass, p, c, machine, _rate(p, machine, xp), xp))
        fraction = getattr(c, "conv" if klass == "grouped_conv" else klass)
        seconds = seconds + f.untold / (rate * fraction)
        if klass != "attention":  # what stands around the products runs on the same units
            seconds = seconds + xp.maximum(f.flops - 2 * f.macs, 0) / rate
        if klass in CONVS:
            # a second gradient reads the result's again
            return seconds + faults(f.static, c, xp), _blocked(klass, f, c, xp) + f.again / 2, 1.0
        # from some rows on MKL packs the weights; a bias is written into the result, which is then read
        packed = f.copied + xp.where(f.m >= c.few_rows, f.static, 0.0) + xp.where(_biased(f), f.write, 0.0)
        return seconds, packed if klass == "gemm" else 0.0, 1.0
    seconds, busy = _loops(klass, f, c, machine, rate, xp)
    return seconds + faults(f.write, c, xp), 0.0, busy


def _levels(f: Any, packed: Value, busy: Value, c: Cpu, machine: Machine, xp: Any) -> list[Value]:
    """Seconds of each memory level, nearest first.

    What one core wrote another reads, so everything goes over the last cache; private ones add to its size. A line that is
    written is read first; what is packed is written and read again. One core draws so many bytes a cycle and no more, however
    wide the memory behind it is.
    """
    drawn = busy * machine.units * float(machine.clock) * machine.sustained
    out: list[Value] = []
    moved, held = f.read + f.write + 2 * packed, 0.0
    for i, (size, bandwidth) in enumerate(machine.levels):
        held += size
        if i < len(machine.levels) - 2:
            out.append(0.0 * moved)
            continue
        last = i == len(machine.levels) - 1
        reach, core = (machine.reached or c.stream, c.core_dram) if last else (c.cache, c.core_cache)
        out.append(moved / (bandwidth * reach * xp.minimum(drawn * core / (float(bandwidth) * reach), 1.0)))
        capacity = held * c.residency
        moved = f.static * (1 - resident(f.footprint, capacity, xp)) + 2 * f.write * (1 - resident(f.write, capacity, xp))
        moved = missed(moved + 3 * packed * (1 - resident(packed, capacity, xp)), f, capacity, xp)
    return out


def work(klass: str, f: Any, c: Cpu, machine: Machine, xp: Any) -> tuple[Value, Value, Value, list[Value]]:
    """(seconds without overheads, of arithmetic, of memory, of each memory level) of a kernel or an array of kernels."""
    f.read = f.static + sum(n for n, _ in f.reads)
    compute, packed, busy = _parts(klass, f, c, machine, xp)
    levels = _levels(f, packed, busy, c, machine, xp)
    seconds, memory = join(compute, levels, c.overlap, xp)
    return seconds, compute, memory, levels


def overheads(klass: str, f: Any, c: Cpu, machine: Machine, xp: Any) -> tuple[Value, Value]:
    """Seconds that a kernel costs on top of its work: parallel regions to start and end, and the way into a library.

    That way is long for a convolution in oneDNN. A loop that stays on one thread has no region.
    """
    if klass in CONVS:
        small = own_conv(klass, f)
        steps, regions = xp.where(small, c.call_own, c.call_conv), xp.where(small, 1.0, 2.0)
    elif klass in LIBRARY:
        steps, regions = c.call_gemm, xp.where(_biased(f), 2.0, 1.0) if klass == "gemm" else 1.0
    else:
        steps, regions = c.generated, xp.where(_serial(f, c, machine, xp), 0.0, 1.0)
    return machine.launch * c.region * regions, machine.host * steps
