"""How close a kernel comes to the roofs: arithmetic and bytes that its shape really costs, by class of kernel.

Every formula is written once and takes plain numbers (roof.py: one kernel) or numpy arrays (fit.py: all kernels of a table at
once); `xp` brings `ceil`, `maximum`, `minimum` and `where` for either. Constants come from constants.toml.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from roofline.device import Device

# numbers or arrays of them
Value = Any
Constants = dict[str, float]
_NOTHING: Mapping[str, float] = MappingProxyType({})

# Sizes of Kernel.dims that the formulas read; those that a class does not have are 0 (groups: 1).
DIMS = (
    "b", "m", "n", "k", "c", "o", "g", "h", "w", "p", "q", "r", "s", "stride", "transposed", "last", "bias", "run", "passes",
    "copied", "generated", "mask", "misaligned", "math", "l", "e", "v", "t", "layers",
)  # fmt: skip


CONVS = frozenset({"conv", "grouped_conv", "depthwise_conv"})
LIBRARY = frozenset({"gemm", "attention", "rnn", "sort", "fft", "other"})


class Plain:
    """The few array functions that the formulas use, for plain numbers."""

    ceil = staticmethod(math.ceil)
    maximum = staticmethod(max)
    minimum = staticmethod(min)

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        return yes if condition else no


class Machine(NamedTuple):
    """What the formulas need of a device. FLOP/s, B/s, bytes, seconds."""

    gpu: bool
    # matrix units by operand bits: half, single, double; and the vector units in fp32
    half: float
    single: float
    double: float
    vector: float
    # SMs, CUs, cores; fp32 lanes of a SIMD register
    units: float
    lanes: float
    # fraction of the clock kept under a full matrix load
    sustained: float
    # nearest first: bytes, B/s
    levels: tuple[tuple[float, float], ...]
    launch: float
    host: float
    # a CPU that runs operators one by one, through the dispatcher (cpu_eager.py)
    eager: bool = False
    # peaks and bandwidths are measured, that is, reached; and what else `roofline calibrate` measured, by kind or class
    measured: bool = False
    fixed: Mapping[str, float] = _NOTHING
    flops: Mapping[str, float] = _NOTHING
    rates: Mapping[str, float] = _NOTHING

    @classmethod
    def of(cls, device: Device, setting: str = "amp", runtime: str = "eager") -> Machine:
        """The rates that a dtype setting uses: "tf32" lets fp32 products run on tensor cores."""
        vector = device.peak("fp32", "vector")

        def rate(*names: str) -> float:
            return next((device.peak(n, "best") for n in names if device.has(n)), vector)

        half = ("bf16", "fp16") if setting == "bf16" else ("fp16", "bf16")
        return cls(
            device.kind == "gpu", rate(*half), rate("tf32") if setting == "tf32" else vector,
            rate("fp64") if device.has("fp64") else vector / 2, vector, device.units.value, max(device.simd_bits // 32, 1),
            device.sustained.value, tuple((float(x.size), x.bandwidth) for x in device.levels), device.launch.value,
            device.host.value, device.kind == "cpu" and runtime == "eager", device.levels[-1].status == "measured",
            *({name: number.value for name, number in t.items()} for t in (device.fixed, device.flops, device.bytes)),
        )  # fmt: skip

    def at(self, peak: float) -> Machine:
        """The same machine with one rate for every matrix type."""
        return self._replace(half=peak, single=peak, double=peak)


def up(x: Value, tile: float, xp: Any) -> Value:
    """`x` rounded up to whole tiles."""
    return xp.ceil(x / tile) * tile


# ------------------------------------------------------------------------------------------------ GPU, arithmetic


def gpu_gemm(f: Any, c: Constants, peak: Value, units: float, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]: padded to tiles, a start-up per tile, one tile's time at the end.

    Vector units (fp32 without TF32) have smaller tiles and no alignment to keep.
    """
    vector = f.bits > 16
    k = xp.where(vector, f.k, up(f.k, 8, xp)) + xp.where(vector, c["simt_start_k"], c["start_k"])
    m = up(f.m, xp.where(vector, c["simt_tile_m"], c["tile_m"]), xp)
    n = up(f.n, xp.where(vector, c["simt_tile_n"], c["tile_n"]), xp)
    rate = peak * xp.where(vector, c["simt_gemm"], c["gemm"])
    # where the tiles are too few to fill the device, the inner dimension is split among its units
    depth = xp.minimum(k, xp.maximum(256.0, k * f.b * m * n / (128 * 128 * units)))
    return 2 * f.b * m * n * k / rate + tail(depth, rate, xp.where(vector, c["simt_tail"], c["tail"]), units)


def tail(k: Value, rate: Value, tiles: Value, units: float) -> Value:
    """The last tiles of a kernel leave other units idle: the time of so many 128 x 128 tiles on one unit."""
    return tiles * 2 * 128 * 128 * k * units / rate


def gpu_conv(f: Any, c: Constants, peak: Value, units: float, xp: Any) -> Value:
    """An implicit product: m = pixels of the batch, n = output channels, k = input channels x taps.

    On vector units a 3 x 3 kernel with stride 1 goes through Winograd's transform: 16 products for 36 (F(2x2, 3x3)).
    """
    vector = f.bits > 16
    k = xp.where(vector, f.c, up(f.c, 8, xp)) * f.r * f.s + xp.where(vector, c["simt_start_k"], c["start_k"])
    n = up(f.o, xp.where(vector, c["simt_tile_n"], c["tile_n"]), xp)
    m = f.n * xp.where(f.transposed > 0, f.h * f.w, f.p * f.q)
    winograd = vector & (f.r == 3) & (f.s == 3) & (f.stride == 1)
    rate = peak * xp.where(winograd, c["simt_winograd"], xp.where(vector, c["simt_conv"], c["conv"]))
    return 2 * m * n * k / rate + tail(k, rate, xp.where(vector, c["simt_conv_tail"], c["tail"]), units)


def gpu_grouped(f: Any, c: Constants, peak: Value, units: float, xp: Any) -> Value:
    """One narrow product per group, channels padded to the group kernel's tiles."""
    k = up(f.c / f.g, c["group_tile_c"], xp) * f.r * f.s
    n = f.g * up(f.o / f.g, c["group_tile_o"], xp)
    m = f.n * xp.where(f.transposed > 0, f.h * f.w, f.p * f.q)
    return 2 * m * n * k / (peak * xp.where(f.last > 0, c["grouped_last"], c["grouped_conv"]))


def gpu_depthwise(f: Any, c: Constants, vector: Value, xp: Any) -> Value:
    """Each tap is a load and a multiply-add on the vector units; kernels of 1, 3 and 5 are unrolled, others loop."""
    unrolled = (f.r == f.s) & (f.r <= 5)
    rate = xp.where(f.last > 0, c["depthwise_last"], xp.where(unrolled, c["depthwise_conv"], c["depthwise_loop"]))
    return 2 * f.macs / (vector * rate)


def gpu_attention(f: Any, c: Constants, peak: Value, vector: Value, xp: Any) -> Value:
    """Two products over tiles of queries and keys, and one exponential per score (a sixteenth of the vector rate)."""
    scores = f.b * f.h * up(f.l, 64, xp) * up(f.s, 64, xp)
    rate = peak * xp.where(f.mask > 0, c["attention_mask"], c["attention"])
    return 2 * scores * (up(f.e, 32, xp) + up(f.v, 32, xp)) / rate + scores * 16 * c["attention_exp"] / vector


def gpu_rnn(f: Any, c: Constants, peak: Value, launch: float) -> Value:
    """Products of all gates, and a kernel pair for each step, layer and direction that has to wait for the one before."""
    return f.flops / (peak * c["gemm"]) + 2 * f.t * f.layers * launch


# ------------------------------------------------------------------------------------------------ GPU, bytes


def gpu_conv_copies(f: Any, c: Constants, xp: Any) -> Value:
    """Bytes of the layout copies around a tensor-core convolution on row-major (NCHW) tensors."""
    one = (f.r * f.s == 1) & (f.stride == 1)
    copies = xp.where((f.last > 0) | (f.bits > 16), 0.0, xp.where(one, c["copy_1x1"], c["copy_kxk"])) * (f.read + f.write)
    return copies + gpu_bias(f, xp)


def gpu_grouped_copies(f: Any, c: Constants, xp: Any) -> Value:
    return xp.where((f.last > 0) | (f.bits > 16), 0.0, c["copy_grouped"]) * (f.read + f.write) + gpu_bias(f, xp)


def gpu_bias(f: Any, xp: Any) -> Value:
    """cuDNN's convolution has no bias: PyTorch adds it in place with a kernel of its own."""
    return xp.where(f.bias > 0, 2.0 * f.write, 0.0)


def gpu_norm_passes(f: Any, xp: Any) -> Value:
    """GroupNorm reads its input once for the statistics and once more for the result."""
    return xp.where(f.passes > 1, f.read, 0.0)


def gpu_attention_bytes(f: Any, c: Constants, xp: Any) -> Value:
    """A misaligned mask is copied. Without a fused kernel (operands that are not 4-d) everything goes to memory in fp32.

    Then each score is written and read by product, softmax, product (16 bytes), and each element of q, k and v is cast,
    scaled and read, and the result written and cast back (56 bytes for the four).
    """
    scores, elements = f.b * f.h * f.l * f.s, f.b * f.h * f.l * f.e
    return xp.where(f.misaligned > 0, 2.0 * f.mask, 0.0) + xp.where(f.math > 0, 16.0 * scores + 56.0 * elements, 0.0)


# ------------------------------------------------------------------------------------------------ CPU, compiled (cpu_eager.py)


def shared(items: Value, units: float, xp: Any) -> Value:
    """Fraction of the cores that `items` equal pieces of work keep busy."""
    return items / (xp.ceil(items / units) * units)


def faults(nbytes: Value, c: Constants, xp: Any) -> Value:
    """Seconds to fault in the pages of a fresh buffer: glibc returns blocks above 32 MiB to the system at every free."""
    return xp.where(nbytes > 32 * 2**20, nbytes / (c["fault_rate"] * 1e9), 0.0)


def _cpu(klass: str, f: Any, c: Constants, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes moved on top of the operands, fraction of the DRAM bandwidth)."""
    lanes = machine.lanes
    rate = machine.vector * xp.where(f.bits > 32, 0.5, 1.0)
    if klass in ("conv", "grouped_conv"):
        # blocks of one SIMD register of output channels x one row of pixels are handed to the cores
        inner, outer = f.c / f.g, f.o / f.g
        items = f.n * f.g * f.p * xp.ceil(outer / (4 * lanes))
        full = 2 * f.n * f.g * up(outer, lanes, xp) * f.p * f.q * xp.maximum(inner, c["conv_depth"]) * f.r * f.s
        name = "conv" if klass == "conv" else "grouped_conv"
        compute = full / (rate * c[name] * shared(xp.maximum(items, 1), machine.units, xp))
        return compute + faults(f.static, c, xp), c["reorder"] * f.static, c["stream"]
    if klass == "depthwise_conv":
        return 2 * f.macs / (rate * c["depthwise_conv"]), 0.0, c["stream"]
    if klass == "gemm":
        full = 2 * f.b * up(f.m, c["gemm_rows"], xp) * up(f.n, lanes, xp) * (f.k + c["gemm_depth"])
        return full / (rate * c["gemm"]), f.copied * 2.0, c["stream"]
    if klass == "attention":
        return f.flops / (rate * c["attention"]), 0.0, c["stream"]
    if klass == "rnn":
        return f.flops / (rate * c["rnn"]) + 2 * f.t * f.layers * machine.launch, 0.0, c["stream"]
    slow = klass in ("gather", "sort", "fft", "other", "pool")
    return f.flops / (rate * c["scalar" if slow else "vector"]) + faults(f.write, c, xp), 0.0, c["stream"]


# ------------------------------------------------------------------------------------------------ putting them together


def resident(apart: Value, capacity: float, xp: Any) -> Value:
    """Share of a tensor that a cache still holds after `apart` bytes have moved since it was written."""
    return xp.minimum(xp.maximum(1.5 - apart / max(capacity, 1.0), 0.0), 1.0)


def traffic(f: Any, c: Constants, machine: Machine, xp: Any) -> list[Value]:
    """Bytes that each memory level has to deliver, nearest first: what the nearer ones do not hold."""
    out: list[Value] = [f.static + f.write + sum(n for n, _ in f.reads)]
    for size, _ in machine.levels[:-1]:
        capacity = size * c["residency"]
        missed = f.static * (1 - resident(f.footprint, capacity, xp)) + f.write * (1 - resident(f.write, capacity, xp))
        for n, apart in f.reads:
            missed = missed + n * (1 - resident(apart, capacity, xp))
        out.append(missed)
    return out


def _gpu(klass: str, f: Any, c: Constants, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes moved on top of the operands, fraction of the bandwidth)."""
    matrix = xp.where(f.bits <= 16, machine.half, xp.where(f.bits == 64, machine.double, machine.single)) * machine.sustained
    streams = c["stream"]
    copies = 2.0 * f.copied / c["scattered"] * streams
    if klass == "gemm":
        return gpu_gemm(f, c, matrix, machine.units, xp), copies, c["stream_gemm"]
    if klass == "conv":
        return gpu_conv(f, c, matrix, machine.units, xp), gpu_conv_copies(f, c, xp), c["stream_conv"]
    if klass == "grouped_conv":
        return gpu_grouped(f, c, matrix, machine.units, xp), gpu_grouped_copies(f, c, xp), c["stream_conv"]
    if klass == "depthwise_conv":
        return gpu_depthwise(f, c, machine.vector, xp), xp.where(f.last > 0, gpu_bias(f, xp), 0.0), c["stream_conv"]
    if klass == "attention":
        return gpu_attention(f, c, matrix, machine.vector, xp), gpu_attention_bytes(f, c, xp), c["stream_gemm"]
    if klass == "rnn":
        return gpu_rnn(f, c, matrix, machine.launch), 0.0, c["stream_gemm"]
    arithmetic = f.flops / (machine.vector * c["vector"])
    if klass in ("pointwise", "layout"):
        scattered = xp.where((f.run > 0) & (f.run < 32), c["scattered"], c["stream"] if klass == "pointwise" else c["layout"])
        return arithmetic, 0.0, scattered
    if klass == "norm":
        return arithmetic, copies + gpu_norm_passes(f, xp), c["norm"]
    if klass == "pool":
        own = xp.where(f.last > 0, c["pool_last"], c["pool"])
        return arithmetic, 0.0, xp.where(f.generated > 0, c["stream"], own)
    if klass == "reduction":
        return arithmetic, 0.0, xp.where(f.generated > 0, c["reduction_generated"], c["reduction"])
    return arithmetic, 0.0, c["softmax"] if klass == "softmax" else c["gather"]


def work(klass: str, f: Any, c: Constants, machine: Machine, xp: Any) -> tuple[Value, Value, Value, list[Value]]:
    """(seconds without overheads, of arithmetic, of memory, of each memory level) of a kernel or an array of kernels."""
    f.read = f.static + sum(n for n, _ in f.reads)
    compute, extra, efficiency = (_gpu if machine.gpu else _cpu)(klass, f, c, machine, xp)
    levels = [
        (moved + extra) / (bandwidth * (efficiency if i == len(machine.levels) - 1 else c["cache"]))
        for i, (moved, (_, bandwidth)) in enumerate(zip(traffic(f, c, machine, xp), machine.levels, strict=True))
    ]
    memory = levels[0]
    for level in levels[1:]:
        memory = xp.maximum(memory, level)
    p = c["overlap"]
    seconds = (compute**p + memory**p) ** (1 / p)
    if machine.gpu:  # filling and emptying the device; a kernel that never fills it pays no more than its own time
        seconds = seconds + xp.minimum(c["drain"] * 1e-6, seconds)
    return seconds, compute, memory, levels


def overheads(klass: str, machine: Machine, c: Constants) -> tuple[float, float]:
    """Seconds that a kernel costs on top of its work: on the device, and on the host to issue it.

    On a CPU (here one that runs compiled code) both are the same cores: a parallel region to start and end, and the way
    into a library, which for a convolution is long.
    """
    if machine.gpu:
        return machine.launch, machine.host
    library = c["call_conv"] if klass in CONVS else c["call_gemm"] if klass in LIBRARY else 0.0
    return machine.launch * c["region"], machine.host * (library + c["generated"])
