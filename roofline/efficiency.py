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
    "viewed", "loop", "outer", "row", "special", "welford", "serial", "threads",
)  # fmt: skip


CONVS = frozenset({"conv", "grouped_conv", "depthwise_conv"})
LIBRARY = frozenset({"gemm", "attention", "rnn", "sort", "fft", "other"})


Tiles = tuple[tuple[int, int], ...]


# threads of one SM or CU that run at the same time, about
RESIDENT = 1024


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


class Plain:
    """The few array functions that the formulas use, for plain numbers."""

    ceil = staticmethod(math.ceil)
    any = staticmethod(bool)
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
    # fraction of the clock kept under load, and under full products on vector units; of the DRAM bandwidth that a copy
    # reaches (0: not known)
    sustained: float
    sustained_vector: float
    reached: float
    # nearest first: bytes, B/s
    levels: tuple[tuple[float, float], ...]
    launch: float
    host: float
    # cycles a second
    clock: float
    # a CPU that runs operators one by one, through the dispatcher (cpu_eager.py)
    eager: bool = False
    products: Products = VOLTA
    # peaks and bandwidths are measured, that is, reached; and what else `roofline calibrate` measured, by kind or class
    measured: bool = False
    fixed: Mapping[str, float] = _NOTHING
    flops: Mapping[str, float] = _NOTHING
    rates: Mapping[str, float] = _NOTHING

    @classmethod
    def of(cls, device: Device, setting: str = "amp", runtime: str = "eager") -> Machine:
        """The rates that a dtype setting uses: "tf32" lets fp32 products run on tensor cores."""
        vector, units, clock = device.peak("fp32", "vector"), device.units.value, device.clock.value
        if device.cores and runtime == "compiled":
            vector, units, clock = _together(device)

        def rate(*names: str) -> float:
            return next((device.peak(n, "best") for n in names if device.has(n)), vector)

        half = ("bf16", "fp16") if setting == "bf16" else ("fp16", "bf16")
        return cls(
            device.kind == "gpu", rate(*half), rate("tf32") if setting == "tf32" else vector,
            rate("fp64") if device.has("fp64") else vector / 2, vector, units, max(device.simd_bits // 32, 1),
            device.sustained.value, (device.sustained_vector or device.sustained).value, device.reached.value,
            tuple((float(x.size), x.bandwidth) for x in device.levels), device.launch.value, device.host.value, clock,
            device.kind == "cpu" and runtime == "eager", VOLTA if device.tensor else PASCAL,
            device.levels[-1].status == "measured",
            *({name: number.value for name, number in t.items()} for t in (device.fixed, device.flops, device.bytes)),
        )  # fmt: skip

    def at(self, peak: float) -> Machine:
        """The same machine with one rate for every matrix type."""
        return self._replace(half=peak, single=peak, double=peak)


def _together(device: Device) -> tuple[float, float, float]:
    """FLOP/s, number and clock of the cores that share a loop best: equal pieces end with the slowest core that takes part."""
    found, count = [], 0
    for kind in sorted(device.cores, key=lambda kind: -kind.clock * kind.per_clock):
        count += kind.count
        found.append((count * kind.clock * kind.per_clock, float(count), kind.clock))
    return max(found)


def up(x: Value, tile: float, xp: Any) -> Value:
    """`x` rounded up to whole tiles."""
    return xp.ceil(x / tile) * tile


# ------------------------------------------------------------------------------------------------ GPU, arithmetic


def gpu_gemm(f: Any, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of b products [m, k] x [k, n]: padded to tiles, a start-up per tile, one tile's time at the end."""
    k = up(f.k, 8, xp) + c["start_k"]
    m, n = up(f.m, c["tile_m"], xp), up(f.n, c["tile_n"], xp)
    rate = peak * c["gemm"]
    # where the tiles are too few to fill the device, the inner dimension is split among its units
    depth = xp.minimum(k, xp.maximum(256.0, k * f.b * m * n / (128 * 128 * machine.units)))
    matrix = 2 * f.b * m * n * k / rate + tail(depth, rate, c["tail"], machine.units)
    if not xp.any(f.simt):
        return matrix
    one, many = (simt(f.m, f.n, f.k, f.b, tiles, c, peak, machine, xp) for tiles in machine.products[:2])
    return xp.where(f.simt, xp.where(f.b > 1, many, one), matrix)


def tail(k: Value, rate: Value, tiles: Value, units: float) -> Value:
    """The last tiles of a kernel leave other units idle: the time of so many 128 x 128 tiles on one unit."""
    return tiles * 2 * 128 * 128 * k * units / rate


def simt(m: Value, n: Value, k: Value, b: Value, tiles: Tiles, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
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


def gpu_conv(f: Any, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
    """An implicit product: m = pixels of the batch, n = output channels, k = input channels x taps."""
    k = up(f.c, 8, xp) * f.r * f.s + c["start_k"]
    n = up(f.o, c["tile_n"], xp)
    m = f.n * xp.where(f.transposed > 0, f.h * f.w, f.p * f.q)
    rate = peak * c["conv"]
    matrix = 2 * m * n * k / rate + tail(k, rate, c["tail"], machine.units)
    return xp.where(f.simt, simt_conv(f, m, c, peak, machine, xp), matrix) if xp.any(f.simt) else matrix


def simt_conv(f: Any, m: Value, c: Constants, peak: Value, machine: Machine, xp: Any) -> Value:
    """Seconds of a convolution on vector units: the implicit product, or for 3 x 3 with stride 1 the best of three.

    Winograd's F(2x2, 3x3) inside one kernel takes 16 products for every 36. F(4x4, 3x3) takes 36 for every 144, as 36 products
    of their own between transforms that go through memory (Lavin and Gray, arXiv:1509.09308).
    """
    direct = simt(m, f.o, f.c * f.r * f.s, 1.0, machine.products.direct, c, peak, machine, xp)
    small = f.n * xp.ceil(f.p / 2) * xp.ceil(f.q / 2)
    full = 2 * 16 * up(small, 32, xp) * up(f.o, 32, xp) * (up(f.c, 8, xp) + c["simt_start_k"])
    waves = small / 32 * xp.ceil(f.o / 32) / machine.units
    inside = full / (peak * c["simt_winograd"]) * xp.ceil(waves) / xp.maximum(waves, 1e-9)
    large = f.n * xp.ceil(f.p / 4) * xp.ceil(f.q / 4)
    apart = simt(large, f.o, f.c, 36.0, machine.products.winograd, c, peak, machine, xp)
    moved = f.bits / 8 * (f.n * f.c * f.h * f.w + 72 * large * (f.c + f.o) + f.n * f.o * f.p * f.q + 81 * f.c * f.o)
    apart = apart + moved / (machine.levels[-1][1] * (machine.reached or c["stream"])) + 3 * machine.launch
    winograd = (f.r == 3) & (f.s == 3) & (f.stride == 1) & (f.transposed == 0)
    return xp.where(winograd, xp.minimum(direct, xp.minimum(inside, apart)), direct)


def gpu_grouped(f: Any, c: Constants, peak: Value, units: float, xp: Any) -> Value:
    """One narrow product per group, channels padded to the group kernel's tiles."""
    k = up(f.c / f.g, c["group_tile_c"], xp) * f.r * f.s
    n = f.g * up(f.o / f.g, c["group_tile_o"], xp)
    m = f.n * xp.where(f.transposed > 0, f.h * f.w, f.p * f.q)
    return 2 * m * n * k / (peak * xp.where(f.last > 0, c["grouped_last"], c["grouped_conv"]))


def gpu_depthwise(f: Any, c: Constants, vector: Value, xp: Any) -> Value:
    """Each tap is a load and a multiply-add on the vector units; kernels of 1, 3 and 5 are unrolled, others loop.

    Channels-last they are cuDNN's (ATen/native/Convolution.cpp, use_cudnn_depthwise), which has fast ones to 7 x 7.
    """
    unrolled = (f.r == f.s) & (f.r <= 5)
    last = xp.where(xp.maximum(f.r, f.s) > 7, c["depthwise_wide"], c["depthwise_last"])
    rate = xp.where(f.last > 0, last, xp.where(unrolled, c["depthwise_conv"], c["depthwise_loop"]))
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
    copies = xp.where((f.last > 0) | f.simt, 0.0, xp.where(one, c["copy_1x1"], c["copy_kxk"])) * (f.read + f.write)
    return copies + gpu_bias(f, xp)


def gpu_grouped_copies(f: Any, c: Constants, xp: Any) -> Value:
    return xp.where((f.last > 0) | f.simt, 0.0, c["copy_grouped"]) * (f.read + f.write) + gpu_bias(f, xp)


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
    items = xp.maximum(xp.ceil(items), 1.0)
    return items / (xp.ceil(items / units) * units)


def faults(nbytes: Value, c: Constants, xp: Any) -> Value:
    """Seconds to fault in the pages of a fresh buffer: glibc returns blocks above 32 MiB to the system at every free."""
    return xp.where(nbytes > 32 * 2**20, nbytes / (c["fault_rate"] * 1e9), 0.0)


def own_conv(klass: str, f: Any) -> Value:
    """Whether a convolution is PyTorch's own, a plain product, and not oneDNN's (ATen/native/Convolution.cpp, use_mkldnn)."""
    return (klass == "conv") & (f.n == 1) & (f.c * f.h * f.w <= 20480) & ((f.r <= 3) | (f.s <= 3)) & (f.transposed == 0)


def biased(f: Any) -> Value:
    """Whether a product adds a bias: PyTorch copies it into every row of the result beforehand."""
    return f.flops > 2 * f.macs


def serial(f: Any, c: Constants, machine: Machine, xp: Any) -> Value:
    """Whether a generated loop stays on one thread: Inductor gives each at least `chunk` elements (min_chunk_size)."""
    return xp.where(f.loop > 0, f.loop, f.write * 8 / f.bits) < c["chunk"] * machine.units


def _cpu_product(m: Value, n: Value, k: Value, b: Value, rate: Value, c: Constants, lanes: float, xp: Any) -> Value:
    return 2 * b * up(m, c["gemm_rows"], xp) * up(n, lanes, xp) * (k + c["gemm_depth"]) / (rate * c["gemm"])


def _cpu_conv(klass: str, f: Any, c: Constants, machine: Machine, rate: Value, xp: Any) -> tuple[Value, Value]:
    """(seconds, bytes brought into blocks): oneDNN blocks its weights in every call, row-major images and results too."""
    inner, outer = f.c / f.g, f.o / f.g
    small = own_conv(klass, f)
    images = xp.where(f.viewed > 0, c["turned"] * (f.n * f.c * f.h * f.w + f.n * f.o * f.p * f.q) * f.bits / 8, 0.0)
    blocked = xp.where(small, 0.0, f.o * inner * f.r * f.s * f.bits / 8 + images)
    if klass == "depthwise_conv":
        return 2 * f.macs / (rate * c["depthwise_conv"]), blocked
    # blocks of four registers of output channels x one row of pixels are handed to the cores
    items = f.n * f.g * f.p * xp.ceil(outer / (4 * machine.lanes))
    full = 2 * f.n * f.g * up(outer, machine.lanes, xp) * f.p * f.q * xp.maximum(inner, c["conv_depth"]) * f.r * f.s
    seconds = full / (rate * c["conv"] * shared(items, machine.units, xp))
    alone = _cpu_product(f.p * f.q, f.o, f.c * f.r * f.s, f.n, rate, c, machine.lanes, xp)
    return xp.where(small, alone, seconds), blocked


def _cpu_loops(klass: str, f: Any, c: Constants, machine: Machine, rate: Value, xp: Any) -> tuple[Value, Value]:
    """(seconds of arithmetic, fraction of the cores at work) of generated code."""
    lanes = machine.lanes
    # a reduction is shared out by its results: by rows, or by registers full of channels where it runs over pixels
    items = xp.where(f.outer > 1, xp.where(f.row > 0, f.outer, f.outer / lanes), f.loop / lanes)
    busy = xp.where(serial(f, c, machine, xp), 1.0 / machine.units, shared(items, machine.units, xp))
    # a running variance waits for itself at every step, which takes a register's worth of a row if the row is that long
    step = xp.where((f.row > 0) & (f.row < lanes), 1.0, lanes)
    cycles = f.welford / step * c["welford"] + f.special / lanes * c["special"]
    pace = c["scalar" if klass in ("gather", "sort", "fft", "other") else "vector"]
    seconds = f.flops / (rate * pace) + cycles / (machine.clock * machine.sustained * machine.units)
    if klass == "pool":  # windows overlap; a mean over all pixels is a reduction
        seconds = xp.where(f.outer > 0, seconds, f.flops / (rate * c["pool"]))
    return seconds / busy, busy


def _cpu(klass: str, f: Any, c: Constants, machine: Machine, xp: Any) -> tuple[Value, Value, Value]:
    """(seconds of arithmetic, bytes packed before the work, fraction of the cores at work)."""
    rate = machine.vector * machine.sustained * xp.where(f.bits > 32, 0.5, 1.0)
    if klass in CONVS:
        seconds, packed = _cpu_conv(klass, f, c, machine, rate, xp)
        return seconds + faults(f.static, c, xp), packed, 1.0
    if klass == "gemm":
        # from some rows on MKL packs the weights; a bias is written into the result, which is then read
        packed = f.copied + xp.where(f.m >= c["few_rows"], f.static, 0.0) + xp.where(biased(f), f.write, 0.0)
        return _cpu_product(f.m, f.n, f.k, f.b, rate, c, machine.lanes, xp), packed, 1.0
    if klass == "attention":
        # blocks of 32 to 256 queries of one head are handed to the cores
        block = xp.where(f.l >= 768, 256.0, xp.where(f.l >= 192, 64.0, 32.0))
        busy = shared(f.b * f.h * xp.ceil(f.l / block), machine.units, xp)
        return f.flops / (rate * c["attention"] * busy), 0.0, 1.0
    if klass == "rnn":
        return f.flops / (rate * c["rnn"]) + 2 * f.t * f.layers * machine.launch, 0.0, 1.0
    seconds, busy = _cpu_loops(klass, f, c, machine, rate, xp)
    return seconds + faults(f.write, c, xp), 0.0, busy


def _cpu_levels(f: Any, packed: Value, busy: Value, c: Constants, machine: Machine, xp: Any) -> list[Value]:
    """Seconds of each memory level, nearest first.

    What one core wrote another reads, so everything goes over the last cache; private ones add to its size. A line that is
    written is read first; what is packed is written and read again. A core draws up to `core` times its share.
    """
    out: list[Value] = []
    moved, held = f.read + f.write + 2 * packed, 0.0
    for i, (size, bandwidth) in enumerate(machine.levels):
        held += size
        if i < len(machine.levels) - 2:
            out.append(0.0 * moved)
            continue
        reach = c["cache"] if i < len(machine.levels) - 1 else machine.reached or c["stream"]
        out.append(moved / (bandwidth * reach * xp.minimum(busy * c["core"], 1.0)))
        capacity = held * c["residency"]
        moved = f.static * (1 - resident(f.footprint, capacity, xp)) + 2 * f.write * (1 - resident(f.write, capacity, xp))
        moved = moved + 3 * packed * (1 - resident(packed, capacity, xp))
        for n, apart in f.reads:
            moved = moved + n * (1 - resident(apart, capacity, xp))
    return out


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
    """(seconds of arithmetic, bytes moved on top of the operands, fraction of a copy's bandwidth)."""
    matrix = xp.where(f.bits <= 16, machine.half, xp.where(f.bits == 64, machine.double, machine.single))
    # products that no matrix unit takes (fp32 without TF32)
    f.simt = (f.bits > 16) & (matrix <= machine.vector)
    matrix = matrix * xp.where(f.simt, machine.sustained_vector, machine.sustained)
    # a clock follows its power over many kernels: it is that of all of them
    vector = machine.vector * machine.sustained
    copies = 2.0 * f.copied / c["scattered"]
    if klass == "gemm":
        return gpu_gemm(f, c, matrix, machine, xp), copies, c["stream_gemm"]
    if klass == "conv":
        return gpu_conv(f, c, matrix, machine, xp), gpu_conv_copies(f, c, xp), c["stream_conv"]
    if klass == "grouped_conv":
        return gpu_grouped(f, c, matrix, machine.units, xp), gpu_grouped_copies(f, c, xp), c["stream_conv"]
    if klass == "depthwise_conv":
        return gpu_depthwise(f, c, vector, xp), xp.where(f.last > 0, gpu_bias(f, xp), 0.0), c["stream_conv"]
    if klass == "attention":
        return gpu_attention(f, c, matrix, vector, xp), gpu_attention_bytes(f, c, xp), c["stream_gemm"]
    if klass == "rnn":
        return gpu_rnn(f, c, matrix, machine.launch), 0.0, c["stream_gemm"]
    arithmetic = f.flops / (vector * c["vector"])
    if klass in ("pointwise", "layout"):
        scattered = xp.where((f.run > 0) & (f.run < 32), c["scattered"], 1.0 if klass == "pointwise" else c["layout"])
        return arithmetic, 0.0, scattered
    if klass == "norm":
        return arithmetic, copies + gpu_norm_passes(f, xp), c["norm"]
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
    if not machine.gpu:
        compute, packed, busy = _cpu(klass, f, c, machine, xp)
        levels = _cpu_levels(f, packed, busy, c, machine, xp)
        memory = levels[0]
        for level in levels[1:]:
            memory = xp.maximum(memory, level)
        return (compute ** c["overlap"] + memory ** c["overlap"]) ** (1 / c["overlap"]), compute, memory, levels
    compute, extra, efficiency = _gpu(klass, f, c, machine, xp)
    cache = c["cache"]
    if machine.gpu:
        efficiency = efficiency * (machine.reached or c["stream"])
        cache = cache * machine.sustained
    levels = [
        (moved + extra) / (bandwidth * (efficiency if i == len(machine.levels) - 1 else cache))
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


def overheads(klass: str, f: Any, c: Constants, machine: Machine, xp: Any) -> tuple[Value, Value]:
    """Seconds that a kernel costs on top of its work: on the device, and on the host to issue it.

    On a CPU (here one that runs compiled code) both are the same cores: parallel regions to start and end, and the way into a
    library, which for a convolution in oneDNN is long. A loop that stays on one thread has no region.
    """
    if machine.gpu:
        return machine.launch, machine.host
    if klass in CONVS:
        small = own_conv(klass, f)
        steps, regions = xp.where(small, c["call_own"], c["call_conv"]), xp.where(small, 1.0, 2.0)
    elif klass in LIBRARY:
        steps, regions = c["call_gemm"], xp.where(biased(f), 2.0, 1.0) if klass == "gemm" else 1.0
    else:
        steps, regions = c["generated"], xp.where(serial(f, c, machine, xp), 0.0, 1.0)
    return machine.launch * c["region"] * regions, machine.host * steps
