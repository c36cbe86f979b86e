"""Eager PyTorch on a CPU: one library call or loop after the other, through the dispatcher, each result in fresh memory.

What `roofline calibrate` measured stands in for constants where the device has it: the fixed cost, FLOP/s and B/s of a kind of
operator (KINDS), else of its class. Measured bandwidths and peaks are what is reached, so no efficiency comes on top.

Formulas take numbers or arrays, as in formulas.py. Constants are [cpu_eager] of constants.toml.
"""

from __future__ import annotations

from typing import Any

from roofline.classes import CONVS, LIBRARY, PRODUCTS
from roofline.timemodel import terms
from roofline.timemodel.constants import CpuEager
from roofline.timemodel.formulas import Machine, Value, faults, join, missed, own_conv, resident, up

# Operators whose rate is not that of their class -> whose it is: names that `roofline calibrate` measures.
KINDS = {
    "layer_norm": "layer_norm", "native_layer_norm": "layer_norm", "group_norm": "layer_norm", "rms_norm": "layer_norm",
    "gelu": "gelu", "erf": "gelu", "mish": "gelu", "hardswish": "hardswish", "silu": "hardswish", "sigmoid": "hardswish",
    "tanh": "hardswish", "exp": "hardswish", "elu": "hardswish", "adaptive_avg_pool2d": "adaptive_avg_pool2d", "cat": "cat",
    "max_pool2d": "max_pool2d",
}  # fmt: skip
# channels of a oneDNN block, on any vector width
BLOCK = 16
# elements that PyTorch gives to one thread before it starts another
GRAIN = 32768


def kind(op: str) -> str:
    """The name that a calibrated CPU's numbers are looked up by before the class'; empty: by the class alone."""
    return KINDS.get(op.rstrip("_"), "")


def fixed(klass: str, kind: str, f: Any, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of a call on next to nothing: measured, else in dispatch steps and with a parallel region.

    On top come the model's own Python, and the parallel region of a loop that is long enough for one.
    """
    if klass == "conv":
        each = xp.where(own_conv(klass, f), _call(kind, "conv_small", c, machine), _call(kind, "conv", c, machine))
    else:
        each = _call(kind, klass, c, machine)
    split = machine.fixed and klass not in CONVS and klass not in LIBRARY
    return each + xp.where(f.write > GRAIN * f.bits / 8, machine.launch, 0.0) if split else each


def _call(kind: str, name: str, c: CpuEager, machine: Machine) -> float:
    known = machine.fixed
    if known:
        own = known.get(kind) or known.get(name) or machine.host
    else:
        library = c.call_library if name in LIBRARY else c.call_conv if name in CONVS else 1.0
        own = machine.host * getattr(c, "call_" + name, library) + machine.launch * c.region
    return own + machine.host * c.between


# ------------------------------------------------------------------------------------------------ arithmetic


def rate(kind: str, klass: str, c: CpuEager, machine: Machine) -> float:
    """B/s of a loop whose operands are in cache: measured, else by the vector units' speed."""
    known = machine.rates
    name = klass if hasattr(c, "bytes_" + klass) else "pointwise"
    return known.get(kind) or known.get(name) or machine.vector * getattr(c, "bytes_" + kind, getattr(c, "bytes_" + name))


def relative(f: Any, machine: Machine, xp: Any) -> Value:
    """The peak for a kernel's operands in those of fp32, which class rates are measured in."""
    return xp.where(f.bits <= 16, machine.half, xp.where(f.bits == 64, machine.double, machine.vector)) / machine.vector


def flops(klass: str, c: CpuEager, machine: Machine) -> float:
    """FLOP/s of a well-shaped fp32 product: measured, else a fraction of the peak."""
    return machine.flops.get(klass) or machine.vector * getattr(c, klass)


def product(m: Value, n: Value, k: Value, b: Value, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]; one row or one column is a matrix-vector product, which pads nothing."""
    full = 2 * b * up(m, c.gemm_rows, xp) * up(n, machine.lanes, xp) * (k + c.gemm_depth)
    full = xp.where((m == 1) | (n == 1), 2 * b * m * n * k, full)
    return full / flops("gemm", c, machine)


def conv(klass: str, f: Any, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of one convolution, forward or a gradient. PyTorch's own unfolds the windows (on one thread) and multiplies."""
    inner, outer, pixels, taps = f.c / f.g, f.o / f.g, terms.pixels(f), terms.taps(f)
    if klass == "depthwise_conv":
        return 2 * terms.macs(klass, f) / (machine.vector * c.depthwise_conv)
    if klass == "grouped_conv":
        return 2 * f.g * up(outer, BLOCK, xp) * inner * pixels * taps / (machine.vector * c.grouped_conv)
    # a transposed convolution spreads every input pixel instead of gathering every output pixel
    full = 2 * up(outer, BLOCK, xp) * xp.where(inner <= 4, inner, up(inner, BLOCK, xp)) * pixels * taps
    each = pixels / f.n
    unfolded = xp.where(taps > 1, f.c * taps * each * f.bits / 8, 0.0)
    alone = product(f.o, each, f.c * taps, f.n, c, machine, xp) + unfolded / (c.unfold * 1e9)
    return xp.where(own_conv(klass, f), alone, full / (machine.vector * c.conv))


def blocked(klass: str, f: Any, xp: Any) -> Value:
    """Bytes written to fresh memory, and read back from there: oneDNN brings images and weights into blocks of 16 channels
    before, and the result back after, in every call.
    """
    size = f.bits / 8
    # channels-last images stay as they are, and so do images of a few channels
    rows = f.last == 0
    into = xp.where(rows & (f.c > 4), f.n * up(f.c, BLOCK, xp) * terms.one(f.d) * f.h * f.w * size, 0.0)
    out = xp.where(rows, f.n * up(f.o, BLOCK, xp) * terms.one(f.z) * f.p * f.q * size, 0.0)
    weights = f.o * (f.c / f.g) * terms.taps(f) * size
    return xp.where(own_conv(klass, f), 0.0, into + out + weights)


def attention(f: Any, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of fused attention, in blocks of 32 queries and keys."""
    scores = f.b * f.h * up(f.l, 32, xp) * up(f.s, 32, xp) * xp.where(f.math > 0, 1.0, terms.met(f, xp))
    widths = terms.one(f.products_e) * f.e + terms.one(f.products_v) * f.v
    return 2 * scores * widths / flops("attention", c, machine)


def one_product(klass: str, f: Any, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of one product of a library call."""
    if klass == "depthwise_conv":  # no matrix unit takes it
        return conv(klass, f, c, machine, xp) * xp.where(f.bits == 64, machine.vector / machine.double, 1.0)
    if klass in CONVS:
        return conv(klass, f, c, machine, xp) / relative(f, machine, xp)
    if klass == "gemm":
        return product(f.m, f.n, f.k, f.b, c, machine, xp) / relative(f, machine, xp)
    if klass == "attention":
        outside = product(f.m, f.n, f.k, f.b, c, machine, xp)
        return xp.where(f.m > 0, outside, attention(f, c, machine, xp)) / relative(f, machine, xp)
    return 2 * terms.macs(klass, f) / flops("gemm", c, machine) + f.t * f.layers * machine.host * c.call_library


def arithmetic(klass: str, kind: str, f: Any, c: CpuEager, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds, bytes written to fresh memory, bytes read back from there), on top of the operands."""
    if klass in PRODUCTS:
        library = "gemm" if klass == "rnn" else klass
        pace = machine.vector * getattr(c, klass) if klass in CONVS else flops(library, c, machine)
        untold = f.untold / (pace * (1.0 if klass == "depthwise_conv" else relative(f, machine, xp)))
        seconds = f.total(lambda p: one_product(klass, p, c, machine, xp)) + untold
        if klass != "attention":  # what stands around the products runs on the same units
            seconds = seconds + xp.maximum(f.flops - 2 * f.macs, 0) / machine.vector
        if klass in CONVS:
            moved = blocked(klass, f, xp)
            # a second gradient reads the result's again
            return seconds, moved, moved + f.again
        if klass == "gemm":
            # one row reads the weights as they lie; for a few rows repacking them (a copy, read again) is most of the work
            packed = f.static * xp.maximum(1 - f.m / c.few_rows, 0.0) * 2 / copying(c, machine)
            return seconds + xp.where(f.m > 1, packed, 0.0), f.copied, f.copied
        return seconds, 0.0, 0.0
    if klass == "pool" and kind != "adaptive_avg_pool2d":
        # what a window costs beside its taps: calibrate's (a maximum over 3 x 3, stride 2) moves 20 bytes a result; a maximum
        # takes branches that no one can foresee, an average none
        one = 20.0 / rate("", "pool", c, machine) / (9 + c.window)
        return f.flops * one * (1.0 if kind else c.average) * (1 + c.window / xp.maximum(f.r * f.s, 1)), 0.0, 0.0
    if klass in ("gather", "sort", "fft", "other"):
        return f.flops / (machine.vector * c.scalar), 0.0, 0.0
    moved = f.static + f.write + sum(n for n, _ in f.reads)
    if klass == "layout":
        # whole rows are copied as fast as anything; a transposition walks
        streams = rate("pointwise", "pointwise", c, machine)
        return moved / xp.where((f.run > 0) & (f.run < 64), rate(kind, klass, c, machine), streams), 0.0, 0.0
    copied = f.copied if klass == "norm" else 0.0
    return moved / rate(kind, klass, c, machine), copied, copied


# ------------------------------------------------------------------------------------------------ memory


def copying(c: CpuEager, machine: Machine) -> float:
    """B/s, read and written, of a copy in DRAM."""
    return machine.levels[-1][1] * (1.0 if machine.measured else c.stream)


def levels(f: Any, fresh: Value, again: Value, c: CpuEager, machine: Machine, xp: Any) -> list[Value]:
    """Seconds of each memory level, nearest first.

    Weights come from DRAM in every pass. What is written in place is where it was read. A fresh buffer is in no cache: DRAM
    delivers its lines and takes them back. For that reason a copy that is timed at B read and written moves 1.5 B.
    """
    within = f.write - f.fresh
    seconds = []
    moved = f.static + within + sum(n for n, _ in f.reads) + again
    for size, bandwidth in machine.levels[:-1]:
        seconds.append(moved / (bandwidth * (1.0 if machine.measured else c.cache)))
        capacity = size * c.residency
        moved = missed(f.static + within * (1 - resident(f.write, capacity, xp)), f, capacity, xp)
        moved = moved + again * (1 - resident(again, capacity, xp))
    dram = 1.5 * copying(c, machine)
    new = f.fresh + fresh
    return [*seconds, (moved + 2 * new) / dram + faults(new, c, xp)]


def work(klass: str, kind: str, f: Any, c: CpuEager, machine: Machine, xp: Any) -> tuple[Value, Value, Value, list[Value]]:
    """As efficiency.work: (seconds without overheads, of arithmetic, of memory, of each memory level)."""
    compute, fresh, again = arithmetic(klass, kind, f, c, machine, xp)
    each = levels(f, fresh, again, c, machine, xp)
    # a library call does one thing after the other: blocks, multiplies, and brings the result back
    seconds, memory = join(compute, each, 1.0 if klass in LIBRARY or klass in CONVS else c.overlap, xp)
    return seconds, compute, memory, each
