"""Eager PyTorch on a CPU: one library call or loop after the other, through the dispatcher, each result in fresh memory.

What `roofline calibrate` measured stands in for constants where the device has it: the fixed cost, FLOP/s and B/s of a kind of
operator (KINDS), else of its class. Measured bandwidths and peaks are what is reached, so no efficiency comes on top.

Formulas take numbers or arrays, as in formulas.py. Constants are [cpu_eager] of constants.toml.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roofline.classes import CONVS, LIBRARY, PRODUCTS
from roofline.timemodel.constants import CpuEager
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

_MAXIMA = [f"{way}max_pool{rank}d" for way in ("", "adaptive_") for rank in (1, 2, 3)]
_NEAREST = [f"{name}{rank}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for rank in (1, 2, 3)]
# Operators whose rate is not that of their class -> whose it is: names that `roofline calibrate` measures.
KINDS = {
    "layer_norm": "layer_norm", "native_layer_norm": "layer_norm", "group_norm": "layer_norm", "rms_norm": "layer_norm",
    "gelu": "gelu", "erf": "gelu", "mish": "gelu", "hardswish": "hardswish", "silu": "hardswish", "sigmoid": "hardswish",
    "exp": "hardswish", "elu": "hardswish", "adaptive_avg_pool2d": "adaptive_avg_pool2d", "cat": "cat",
    "tanh": "gelu", "sin": "gelu", "cos": "gelu",
    "embedding_bag": "summed", "_embedding_bag": "summed", "_embedding_bag_forward_only": "summed",
    **dict.fromkeys((f"{name}{more}" for name in _MAXIMA for more in ("", "_with_indices")), "max_pool2d"),
    **dict.fromkeys((
        "torchvision.roi_align", "torchvision.ps_roi_align", "torchvision.nms",
        "grid_sampler", "grid_sampler_2d", "grid_sampler_3d",
        "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d",
    ), "sampled"),
    **dict.fromkeys(_NEAREST, "nearest"),
    **dict.fromkeys(("argmax", "argmin", "max", "min"), "placed"),
    **dict.fromkeys((
        "im2col", "col2im", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
        "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp",
    ), "walked"),
}  # fmt: skip
# channels of a oneDNN block, on any vector width
BLOCK = 16
# elements that PyTorch gives to one thread before it starts another (ATen/TensorIterator.cpp)
GRAIN = 32768
# classes whose loops it shares among cores however short they are: over channels, rows or results
# (ATen/native/cpu/batch_norm_kernel.cpp, layer_norm_kernel.cpp, *Pool*.cpp)
SHARED = frozenset({"norm", "pool"})


def kind(op: str) -> str:
    """The name that a calibrated CPU's numbers are looked up by before the class'; empty: by the class alone."""
    return KINDS.get(op.rstrip("_"), "")


def overhead(klass: str, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Overhead:
    """A call on next to nothing: measured, else in dispatch steps, and of what is always shared with a parallel region.

    On top come the model's own Python, and the parallel region of a loop that is long enough for one.
    """
    name = kind(f.op)
    if klass == "conv":
        each = xp.where(own_conv(f.shape), _call(name, "conv_small", c, machine), _call(name, "conv", c, machine))
    else:
        each = _call(name, klass, c, machine)
    if klass in CONVS or klass in LIBRARY or (klass in SHARED and not machine.fixed):
        # what was measured holds its region
        return Overhead(0.0, each if machine.fixed else each + machine.launch * c.region)
    region = machine.launch * (1.0 if machine.fixed else c.region)
    # a reduction goes over what it reads
    worked = f.read if klass == "reduction" else f.write
    return Overhead(0.0, each + xp.where(worked > GRAIN * f.bits / 8, region, 0.0))


def _call(kind: str, name: str, c: CpuEager, machine: Machine) -> float:
    known = machine.fixed
    if known:
        own = known.get(kind) or known.get(name) or machine.host
    else:
        conv = either(c.call_conv, c.call_conv_acl, machine)
        steps = conv if name in CONVS else getattr(c, "call_" + name, c.call_library if name in LIBRARY else 1.0)
        own = machine.host * steps
    return own + machine.host * c.between


# ------------------------------------------------------------------------------------------------ arithmetic


def kept(machine: Machine) -> float:
    """FLOP/s of the vector units in fp32 at the clock that is kept."""
    return machine.vector * machine.sustained


def rate(kind: str, klass: str, c: CpuEager, machine: Machine) -> float:
    """B/s of a loop whose operands are in cache: measured, else by the vector units' speed."""
    known = machine.rates
    name = klass if hasattr(c, "bytes_" + klass) else "pointwise"
    return known.get(kind) or known.get(name) or kept(machine) * getattr(c, "bytes_" + kind, getattr(c, "bytes_" + name))


def relative(f: Features, machine: Machine, xp: Any) -> Value:
    """The peak for a kernel's operands in those of fp32, which class rates are measured in."""
    return xp.where(f.bits <= 16, machine.half, xp.where(f.bits == 64, machine.double, machine.vector)) / machine.vector


def flops(klass: str, c: CpuEager, machine: Machine) -> float:
    """FLOP/s of a well-shaped fp32 product: measured, else a fraction of the peak."""
    return machine.flops.get(klass) or kept(machine) * getattr(c, klass)


def product(m: Value, n: Value, k: Value, b: Value, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]; one row or one column is a matrix-vector product, which pads nothing."""
    full = 2 * b * up(m, c.gemm_rows, xp) * up(n, machine.lanes, xp) * (k + c.gemm_depth)
    full = xp.where((m == 1) | (n == 1), 2 * b * m * n * k, full)
    return full / flops("gemm", c, machine)


def _pace(klass: str, c: CpuEager, machine: Machine) -> float:
    """Of the vector peak what convolutions reach."""
    own: float = getattr(c, klass)
    return own if klass == "depthwise_conv" else either(own, c.conv_acl, machine)


def conv(p: ConvSizes, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of one convolution, forward or a gradient. PyTorch's own unfolds the windows (on one thread) and multiplies."""
    inner, outer, pixels, taps = p.c / p.g, p.o / p.g, p.pixels, p.taps
    # a transposed convolution spreads every input pixel instead of gathering every output pixel
    full = 2 * up(outer, BLOCK, xp) * xp.where(inner <= 4, inner, up(inner, BLOCK, xp)) * pixels * taps
    each = pixels / p.n
    unfolded = xp.where(taps > 1, p.c * taps * each * f.bits / 8, 0.0)
    alone = product(p.o, each, p.c * taps, p.n, c, machine, xp) + unfolded / (c.unfold * 1e9)
    return xp.where(own_conv(p), alone, full / (kept(machine) * _pace("conv", c, machine))) / relative(f, machine, xp)


def grouped(p: GroupedSizes, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of one grouped convolution."""
    work = 2 * p.g * up(p.o / p.g, BLOCK, xp) * (p.c / p.g) * p.pixels * p.taps
    return work / (kept(machine) * _pace("grouped_conv", c, machine)) / relative(f, machine, xp)


def depthwise(p: DepthwiseSizes, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of one depthwise convolution: no matrix unit takes it."""
    slower = xp.where(f.bits == 64, machine.vector / machine.double, 1.0)
    return 2 * p.macs / (kept(machine) * c.depthwise_conv) * slower


def blocked(f: Features, xp: Any) -> Value:
    """Bytes written to fresh memory, and read back from there: oneDNN brings images and weights into blocks of 16 channels
    before, and the result back after, in every call.
    """
    p, size = f.shape, f.bits / 8
    # channels-last images stay as they are, and so do images of a few channels
    rows = f.access.last == 0
    into = xp.where(rows & (p.c > 4), p.n * up(p.c, BLOCK, xp) * one(p.d) * p.h * p.w * size, 0.0)
    out = xp.where(rows, p.n * up(p.o, BLOCK, xp) * one(p.z) * p.p * p.q * size, 0.0)
    weights = p.o * (p.c / p.g) * p.taps * size
    return xp.where(own_conv(p), 0.0, into + out + weights)


def attention(p: AttentionSizes, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of fused attention, in blocks of 32 queries and keys."""
    scores = p.b * p.h * up(p.l, 32, xp) * up(p.s, 32, xp) * xp.where(f.access.math > 0, 1.0, p.met(xp))
    widths = one(p.products_e) * p.e + one(p.products_v) * p.v
    return 2 * scores * widths / flops("attention", c, machine) / relative(f, machine, xp)


def gemm(p: GemmSizes, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of b products."""
    return product(p.m, p.n, p.k, p.b, c, machine, xp) / relative(f, machine, xp)


def rnn(p: RecurrentSizes, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Seconds of recurrent layers: all gates, and a call for each step and layer."""
    return 2 * p.macs / flops("gemm", c, machine) + p.t * p.layers * machine.host * c.call_library


# Seconds of one product of a library call.
_PRODUCTS: dict[type[Sizes], Callable[..., Value]] = {
    GemmSizes: gemm,
    ConvSizes: conv,
    GroupedSizes: grouped,
    DepthwiseSizes: depthwise,
    AttentionSizes: attention,
    RecurrentSizes: rnn,
}


def _tap(c: CpuEager, machine: Machine) -> float:
    """Seconds of a tap of a pool: calibrate's (a maximum over 3 x 3, stride 2) moves 20 bytes a result."""
    return 20.0 / rate("", "pool", c, machine) / (9 + c.window)


def _vectors(f: Features, c: CpuEager, machine: Machine) -> Value:
    """Seconds of FLOPs that are vectors side by side, channels or columns of a table."""
    return f.flops * f.bits / 8 / rate("", "pointwise", c, machine)


def _sampled(f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """A tap is a multiply and an add at a place that is worked out once for all channels (torchvision's roi_align_kernel.cpp,
    UpSampleKernel.cpp); channels-last a vector of them.
    """
    return xp.where(f.access.last > 0, _vectors(f, c, machine), f.flops / 2 * _tap(c, machine) * c.average)


def _nearest(f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """One tap a result, each copied by itself; channels-last a whole pixel is."""
    return xp.where(f.access.last > 0, 0.0, f.write * 8 / f.bits * _tap(c, machine) * c.average)


def _placed(f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """A maximum whose place is asked for branches on each element, as a pool's does; the one maximum of all goes by vectors
    (aten/native/cpu/TensorCompareKernel.cpp, ReduceAllOpsKernel.cpp)."""
    return xp.where(f.write * 8 <= f.bits, _vectors(f, c, machine), f.flops * _tap(c, machine))


def _walked(f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """Element by element, each with an address of its own on either side, or after the one before
    (aten/native/im2col.h, cpu/PixelShuffleKernel.cpp, cpu/ReduceOpsKernel.cpp)."""
    return xp.maximum(f.read, f.write) * 8 / f.bits * _tap(c, machine)


# Seconds of a kind of operator that runs by the tap and not by the byte: of an average pool's taps, which branch on nothing,
# or of a maximum's.
_TAPS: dict[str, Callable[..., Value]] = {
    "sampled": _sampled,
    "nearest": _nearest,
    "summed": lambda f, c, machine, xp: _vectors(f, c, machine),
    "placed": _placed,
    "walked": _walked,
}


def arithmetic(klass: str, kind: str, f: Features, c: CpuEager, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds, bytes written to fresh memory, bytes read back from there), on top of the operands."""
    if klass in PRODUCTS:
        library = "gemm" if klass == "rnn" else klass
        pace = kept(machine) * _pace(klass, c, machine) if klass in CONVS else flops(library, c, machine)
        untold = f.untold / (pace * (1.0 if klass == "depthwise_conv" else relative(f, machine, xp)))
        seconds = f.total(lambda p, f: _PRODUCTS[type(p)](p, f, c, machine, xp)) + untold
        if klass != "attention":  # what stands around the products runs on the same units
            seconds = seconds + xp.maximum(f.flops - 2 * f.macs, 0) / kept(machine)
        if klass in CONVS:
            moved = blocked(f, xp)
            # a second gradient reads the result's again
            return seconds, moved, moved + f.access.again
        if klass == "gemm":
            # one row reads the weights as they lie; for a few rows repacking them (a copy, read again) is most of the work
            packed = f.static * xp.maximum(1 - f.shape.m / c.few_rows, 0.0) * 2 / copying(c, machine)
            return seconds + xp.where(f.shape.m > 1, packed, 0.0), f.access.copied, f.access.copied
        return seconds, 0.0, 0.0
    if kind in _TAPS:
        return _TAPS[kind](f, c, machine, xp), 0.0, 0.0
    if klass == "pool":
        # what a window costs beside its taps; a maximum takes branches that no one can foresee, an average none; gradients have
        # no window to find the ends of
        size = f.shape.r * f.shape.s
        ends = xp.where(size > 0, c.window / xp.maximum(size, 1), 0.0)
        # channels-last a tap is a vector of channels (aten/native/cpu/*Pool*.cpp)
        taps = f.flops * _tap(c, machine) * (1.0 if kind == "max_pool2d" else c.average) * (1 + ends)
        windows = xp.where(f.access.last > 0, _vectors(f, c, machine), taps)
        if kind != "adaptive_avg_pool2d":
            return windows, 0.0, 0.0
        # one window is a mean
        return xp.where(f.access.whole > 0, (f.read + f.write) / rate(kind, klass, c, machine), windows), 0.0, 0.0
    if klass in ("gather", "sort", "fft", "other"):
        return f.flops / (kept(machine) * c.scalar), 0.0, 0.0
    moved = f.read + f.write
    if klass == "layout":
        # whole rows are copied as fast as anything; a transposition walks
        streams = rate("pointwise", "pointwise", c, machine)
        return moved / xp.where((f.access.run > 0) & (f.access.run < 64), rate(kind, klass, c, machine), streams), 0.0, 0.0
    copied = f.access.copied if klass == "norm" else 0.0
    # one number that stands for many (the gradient of a sum) is read once, and worked on as often
    return xp.maximum(moved / rate(kind, klass, c, machine), f.flops / kept(machine)), copied, copied


# ------------------------------------------------------------------------------------------------ memory


def copying(c: CpuEager, machine: Machine) -> float:
    """B/s, read and written, of a copy in DRAM: two thirds of what crosses the bus."""
    return machine.levels[-1][1] * (1.0 if machine.measured else streamed(c, machine) / 1.5)


def levels(f: Features, fresh: Value, again: Value, c: CpuEager, machine: Machine, xp: Any) -> list[Value]:
    """Seconds of each memory level, nearest first.

    Weights come from DRAM in every pass. What is written in place is where it was read. A fresh buffer is in no cache: DRAM
    delivers its lines and takes them back. For that reason a copy that is timed at B read and written moves 1.5 B.
    """
    within = f.write - f.fresh
    seconds = []
    moved = f.read + within + again
    for size, bandwidth in machine.levels[:-1]:
        seconds.append(moved / (bandwidth * (1.0 if machine.measured else c.cache)))
        capacity = size * c.residency
        moved = missed(f.static + within * (1 - resident(f.write, capacity, xp)), f, capacity, xp)
        moved = moved + again * (1 - resident(again, capacity, xp))
    dram = 1.5 * copying(c, machine)
    new = f.fresh + fresh
    return [*seconds, (moved + 2 * new) / dram + faults(new, c, xp)]


def work(klass: str, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Work:
    """What a kernel takes by itself, or each of an array of kernels."""
    compute, fresh, again = arithmetic(klass, kind(f.op), f, c, machine, xp)
    each = levels(f, fresh, again, c, machine, xp)
    # a library call does one thing after the other: blocks, multiplies, and brings the result back
    seconds, memory = join(compute, each, 1.0 if klass in LIBRARY or klass in CONVS else c.overlap, xp)
    return Work(seconds, compute, memory, each)


def executed(klass: str, f: Features, c: CpuEager, machine: Machine, xp: Any) -> Value:
    """All that is counted, but for what a causal mask hides."""
    return attended(f, xp) if klass == "attention" else 1.0


def reached(top: float, levels: list[float], c: CpuEager, machine: Machine) -> tuple[float, list[float]]:
    """The peak at the clock that is kept, and what a stream reaches: measured bandwidths are.

    A copy that is timed at B read and written moves 1.5 B.
    """
    cache, dram = (1.0, 1.5) if machine.measured else (c.cache, streamed(c, machine))
    return top * machine.sustained, [*(b * cache for b in levels[:-1]), levels[-1] * dram]
