"""The constants of the time model, declared: what each of them means, its unit and its range. The values are in constants.toml.

One set for all GPUs, one for compiled code on all CPUs and one for eager mode on them; none is for a model or a table. A
person's own come from a file with the same tables, which hold as few as are to differ. What has no such name, or a value out
of its range, is refused with what was meant.
"""

# no `from __future__ import annotations`: msgspec reads those of these records at every start, and would evaluate each text
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, ValidationError
from msgspec.structs import asdict, fields, replace

from roofline import files
from roofline.devices.device import Device
from roofline.errors import UsageError, nearest
from roofline.fingerprints import constants_file
from roofline.paths import CONSTANTS
from roofline.timemodel import shares

# Nothing is zero, which many formulas divide by, nor so far off that a time of a real model would not be a number any more.
LEAST, MOST = 1e-6, 1e6
_ANY = {"ge": LEAST, "le": MOST}

# More than all of what the device has would hide a wrong count or a wrong rate.
Fraction = Annotated[float, Meta(ge=LEAST, le=1, description="a fraction", extra={"unit": ""})]
# Of something else of the same kind.
Ratio = Annotated[float, Meta(**_ANY, description="a ratio", extra={"unit": ""})]
# Elements, rows, steps of an inner dimension, tiles, taps: not whole where a fit found them so.
Count = Annotated[float, Meta(**_ANY, description="a number of elements", extra={"unit": "elements"})]
Cycles = Annotated[float, Meta(**_ANY, description="a number of cycles", extra={"unit": "cycles"})]
FlopPerCycle = Annotated[float, Meta(**_ANY, description="FLOP in a cycle", extra={"unit": "FLOP/cycle"})]
BytesPerCycle = Annotated[float, Meta(**_ANY, description="bytes in a cycle", extra={"unit": "B/cycle"})]
BytesPerFlop = Annotated[float, Meta(**_ANY, description="bytes for a FLOP", extra={"unit": "B/FLOP"})]
Microseconds = Annotated[float, Meta(**_ANY, description="microseconds", extra={"unit": "us"})]
# Of the host, as long as one eager operator of a GPU takes it (Device.host).
Dispatches = Annotated[float, Meta(**_ANY, description="a number of dispatch steps", extra={"unit": "Device.host"})]
# Of a CPU's cores (Device.launch).
Regions = Annotated[float, Meta(**_ANY, description="a number of parallel regions", extra={"unit": "Device.launch"})]
# What a time rests on by itself is a roof of its own (shares.py): pages, a loop, filling and emptying the device.
PageRate = Annotated[float, Meta(**_ANY, description="GB/s", extra={"unit": "GB/s", "roof": "pages"})]
LoopRate = Annotated[float, Meta(**_ANY, description="GB/s", extra={"unit": "GB/s", "roof": "loop"})]
LoopTime = Annotated[float, Meta(**_ANY, description="microseconds", extra={"unit": "us", "roof": "loop"})]
DrainTime = Annotated[float, Meta(**_ANY, description="microseconds", extra={"unit": "us", "roof": "drain"})]
# (a^p + b^p)^(1/p) is never more than a + b, and what is much larger is their maximum.
Exponent = Annotated[float, Meta(ge=1, le=16, description="an exponent", extra={"unit": ""})]


class Gpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kernels on a GPU (gpu.py)."""

    # where they are from
    source: str

    # --- caches and DRAM
    # share of a cache in which the next kernel still finds what one wrote
    residency: Fraction
    # of a cache's bandwidth that is reached
    cache: Fraction
    # of the DRAM bandwidth that a copy reaches, where it is not known (Device.reached)
    stream: Fraction
    # of what a copy reaches: convolutions; products and attention; norms; the gradient of cuDNN's BatchNorm on row-major images
    # (chosen); reductions, and those that torch.compile generates; softmax; pooling without windows (gradients, resizing);
    # concatenations, pads and other copies; copies whose input lies in runs of less than 32 bytes; gathers and the rest
    stream_conv: Fraction
    stream_gemm: Fraction
    norm: Fraction
    norm_back: Fraction
    reduction: Fraction
    reduction_generated: Fraction
    softmax: Fraction
    pool: Fraction
    layout: Fraction
    scattered: Fraction
    gather: Fraction

    # --- products and convolutions on matrix units
    # of the peak at the sustained clock
    gemm: Fraction
    conv: Fraction
    # start-up of a tile, in steps of the inner dimension; what an SM waits for it at least
    start_k: Count
    tile_wait: LoopTime
    # rows and columns that a tile is padded to
    tile_m: Count
    tile_n: Count
    # times of one 128 x 128 tile at the end of a kernel
    tail: Count
    # how often its activations are copied around a row-major half-precision convolution; around a grouped one
    copy_kxk: Ratio
    copy_grouped: Ratio
    # of half precision in an SM: products whose rows start at odd halves, at 4 or 8 bytes (in fp32 half of it)
    narrow_2: FlopPerCycle
    narrow_4: FlopPerCycle
    # of the peak: grouped convolutions, row-major and channels-last
    grouped_conv: Fraction
    grouped_last: Fraction
    # input and output channels that a group is padded to
    group_tile_c: Count
    group_tile_o: Count
    # to spread an element over groups of another width, channels-last; times so much where the copy into channels-last does it
    group_pad: Cycles
    group_spread: Fraction
    # of the fp32 peak: products of one row, which use each weight once (chosen)
    gemv: Fraction
    # of the peak: fused attention, and with an additive mask
    attention: Fraction
    attention_mask: Fraction
    # vector operations for one exponential, in sixteens
    attention_exp: Count
    # that an SM waits for a block of queries to start and to end
    block_wait: LoopTime

    # --- fp32 products and convolutions on vector units
    # of the fp32 peak: products in tiles of 128 x 128
    simt_gemm: Fraction
    # elements of a tile's edge that cost as much as loading it
    simt_edge: Count
    # start-up of a tile, in steps of the inner dimension
    simt_start_k: Count
    # of the fp32 peak: Winograd's products inside one kernel
    simt_winograd: Fraction

    # --- vector units
    # of the fp32 peak: depthwise convolutions with 1, 3 or 5 taps a side, row-major; with another number of taps;
    # channels-last; channels-last with more than 7 taps a side
    depthwise_conv: Fraction
    depthwise_loop: Fraction
    depthwise_last: Fraction
    depthwise_wide: Fraction
    # a result of PyTorch's own row-major depthwise kernel, and each of its taps
    depthwise_own: Cycles
    depthwise_tap: Cycles
    # a pixel, in the sum that is the gradient of one element of the weight, there
    depthwise_pixel: Cycles
    # of the fp32 peak, by counted FLOPs: everything else
    vector: Fraction

    # --- the pace of loops, in an SM
    # an element whose address is worked out by itself
    element: Cycles
    # one of a loop that torch.compile generates; of its reductions, which add up what each thread found
    generated: Cycles
    generated_sum: Cycles
    # times that of `element`, where it lies in a sector of its own
    sectors: Ratio
    # one that is loaded 16 bytes at a time, in LayerNorm
    packed: Cycles
    # such a load, in LayerNorm
    wide: Cycles
    # one of a softmax, which is an exponential too
    soft: Cycles
    # a row of LayerNorm, which is a block of threads
    row: Cycles
    # a plane of BatchNorm
    plane: Cycles
    # a result of a reduction along a row
    reduced: Cycles
    # an element of BatchNorm's statistics, one block for a channel
    channel: Cycles
    # cuDNN's BatchNorm in training, whose blocks take a channel each, row-major: a thousand elements for a block alone on its
    # SM, which waits for DRAM (of other types: devices/power.py, LATENCY); an element for each of several (both as an H200 ran
    # them, benchmarks/measured/h200-kernels.csv)
    taken: LoopTime
    crowded: Cycles
    # a result of a pool; an element of its window; both, times so much, channels-last
    window: Cycles
    tap: Cycles
    window_last: Ratio

    # --- both
    # that a thread waits for DRAM
    latency: LoopTime
    # joins arithmetic and memory time
    overlap: Exponent
    # in which a kernel fills and empties the device
    drain: DrainTime

    # --- what the host does to issue them, one operator of a module being a step
    # a cast, which autocast calls without the model's Python; an operator of a backward pass or an optimizer, with what goes
    # on around it without a kernel (two library calls of a convolution's gradients, accumulation, hooks)
    call_cast: Dispatches
    call_later: Dispatches

    # --- tables of single operators (validation/operator_tables.py)
    # between the events around one call, beside the kernel: about what the shortest calls take; of a product; of a convolution,
    # for which cuDNN looks up plans and workspace
    event: Microseconds
    event_gemm: Microseconds
    event_conv: Microseconds
    # after which a power cap takes hold
    cap: Microseconds


class Cpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compiled code on a CPU (cpu_compiled.py)."""

    # where they are from
    source: str

    # --- caches and DRAM
    # share of all caches in which the next kernel still finds what one wrote
    residency: Fraction
    # of the last cache's bandwidth, at which cores exchange what they wrote
    cache: Fraction
    # of the DRAM bandwidth that is reached, where the device does not say (Device.reached)
    stream: Fraction
    # that one core alone draws from DRAM, from the last cache
    core_dram: BytesPerCycle
    core_cache: BytesPerCycle
    # passes over a row-major image and its result that oneDNN brings into blocks and back
    turned: Ratio
    # rows from which MKL packs a product's weights
    few_rows: Count
    # at which pages of buffers above 32 MiB are faulted in
    fault_rate: PageRate

    # --- arithmetic
    # of the vector peak: convolutions in oneDNN and in the Arm Compute Library, depthwise ones, products, fused attention,
    # recurrent layers
    conv: Fraction
    conv_acl: Fraction
    depthwise_conv: Fraction
    gemm: Fraction
    attention: Fraction
    rnn: Fraction
    # of the vector peak: generated code, by counted FLOPs; gathers, sorts and other loops that do not vectorise; windows of
    # a pool
    vector: Fraction
    scalar: Fraction
    pool: Fraction
    # input channels that a convolution block takes at least
    conv_depth: Count
    # rows that a product is padded to; its start-up, in steps of the inner dimension
    gemm_rows: Count
    gemm_depth: Count
    # of a core: an element of a product's operand whose rows evict each other from the nearest cache
    aliased: Cycles
    # of a core: one step of a running mean and variance, each waiting for the one before; exp, erf and the like, for a register
    # full of elements
    welford: Cycles
    special: Cycles

    # --- overheads
    # elements that Inductor gives a thread at least (min_chunk_size: 4096 in PyTorch 2.4, 512 in 2.15)
    chunk: Count
    # one beside other work, in empty ones
    region: Regions
    # a convolution in oneDNN, in the Arm Compute Library, one in PyTorch itself, other library calls, a generated kernel
    call_conv: Dispatches
    call_conv_acl: Dispatches
    call_own: Dispatches
    call_gemm: Dispatches
    generated: Dispatches

    # --- both
    # joins arithmetic and memory time
    overlap: Exponent


class CpuEager(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Eager mode on a CPU (cpu_eager.py). A calibrated device's own numbers come first."""

    # where they are from
    source: str

    # --- caches and DRAM
    # share of a cache in which the next kernel still finds what one wrote
    residency: Fraction
    # of a cache's bandwidth, of the DRAM bandwidth that is reached, where they were not measured
    cache: Fraction
    stream: Fraction
    # at which pages of buffers above 32 MiB are faulted in
    fault_rate: PageRate

    # --- arithmetic
    # of the vector peak: convolutions, padded to blocks, in oneDNN and in the Arm Compute Library; grouped ones, output
    # channels padded to blocks; depthwise ones; products and fused attention, where not measured; gathers and other loops
    # that do not vectorise
    conv: Fraction
    conv_acl: Fraction
    grouped_conv: Fraction
    depthwise_conv: Fraction
    gemm: Fraction
    attention: Fraction
    scalar: Fraction
    # rows that a product is padded to; its start-up, in steps of the inner dimension
    gemm_rows: Count
    gemm_depth: Count
    # rows below which a product spends its time on the weights
    few_rows: Count
    # at which windows are unfolded
    unfold: LoopRate

    # --- loops on operands in cache, of the vector peak, where not measured
    bytes_pointwise: BytesPerFlop
    bytes_norm: BytesPerFlop
    bytes_layer_norm: BytesPerFlop
    bytes_softmax: BytesPerFlop
    bytes_gelu: BytesPerFlop
    bytes_hardswish: BytesPerFlop
    bytes_layout: BytesPerFlop
    bytes_adaptive_avg_pool2d: BytesPerFlop
    bytes_pool: BytesPerFlop
    # taps that a pooling window costs beside its own
    window: Count
    # an average pool, beside a maximum over values that differ
    average: Ratio

    # --- overheads, where not measured
    # a convolution in oneDNN, in the Arm Compute Library, one in PyTorch itself, other library calls, norms
    call_conv: Dispatches
    call_conv_acl: Dispatches
    call_conv_small: Dispatches
    call_library: Dispatches
    call_norm: Dispatches
    # for each kernel
    region: Regions

    # --- overheads on any device
    # the model's own Python between two operators
    between: Dispatches

    # --- both
    # joins arithmetic and memory time
    overlap: Exponent


Family = Gpu | Cpu | CpuEager


class Constants(Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, by the name of their table in a file."""

    gpu: Gpu
    cpu: Cpu
    cpu_eager: CpuEager

    def of(self, device: Device, runtime: str) -> Family:
        """Those that a device's kernels cost by."""
        found: Family = getattr(self, family(device, runtime))
        return found


def family(device: Device, runtime: str) -> str:
    """The table of constants: "gpu", "cpu" (compiled code) or "cpu_eager"."""
    return "cpu_eager" if device.kind == "cpu" and runtime == "eager" else device.kind


@cache
def shipped() -> Constants:
    """Ours."""
    return msgspec.convert(tomllib.loads(CONSTANTS.read_text(encoding="utf-8")), Constants)


def asked() -> Constants:
    """Ours, or those of the file that ROOFLINE_CONSTANTS names. Raises UsageError."""
    path = constants_file()
    return read(path) if path else shipped()


def read(path: str | Path) -> Constants:
    """Ours, with those of a file in their place. Raises UsageError with the table, the name and what was expected there."""
    try:
        tables = files.toml(files.text(path, files.TOML))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the constants in {path}: {error}") from error
    known = Constants.__struct_fields__
    whole: dict[str, Any] = {name: asdict(getattr(shipped(), name)) for name in known}
    for name, table in tables.items():
        if name not in known or not isinstance(table, dict):
            raise UsageError(f"{path}: {name!r} is no table of constants{nearest(name, known)}. Known: {', '.join(known)}")
        whole[name] |= {"source": str(path)} | table
    try:
        return msgspec.convert(whole, Constants)
    except ValidationError:
        raise UsageError("\n".join(_wrong(path, tables))) from None


def _wrong(path: str | Path, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each constant of a file that cannot be one."""
    kinds = {field.name: field.type for field in fields(Constants)}
    for kind, table in tables.items():
        known = {field.name: field.type for field in fields(kinds[kind])}
        for name, value in table.items():
            if name not in known:
                others = [other for other, of in kinds.items() if name in of.__struct_fields__]
                hint = f"; it is one of [{'] and ['.join(others)}]" if others else nearest(name, known, n=2, cutoff=0.6)
                yield f"{path} [{kind}] has unknown constants: {name}{hint}"
                continue
            try:
                msgspec.convert(value, known[name])
            except ValidationError:
                yield f"{path} [{kind}] {name}: expected {_words(known[name])}, got {value!r}"


def _words(declared: Any) -> str:
    if declared is str:
        return "a text"
    least, most = _range(declared)
    return f"a number from {least:g} to {most:g} ({declared.__metadata__[0].description})"


def _range(declared: Any) -> tuple[float, float]:
    meta = declared.__metadata__[0]
    return meta.ge, meta.le


def ranges(of: Family) -> dict[str, tuple[float, float]]:
    """The least and the largest value of each constant of a family."""
    return {field.name: _range(field.type) for field in fields(of) if field.type is not str}


@cache
def _roofs(of: type[Family]) -> dict[str, Callable[[float], float]]:
    """What makes a roof of each constant that is one."""
    found: dict[str, Callable[[float], float]] = {}
    for field in fields(of):
        extra = {} if field.type is str else field.type.__metadata__[0].extra
        if "roof" in extra:
            found[field.name] = partial(shares.seconds if extra["unit"] == "us" else shares.rate, name=extra["roof"])
    return found


def shared(found: Family) -> Family:
    """The same constants, those that a time rests on by themselves in numbers that remember it."""
    return replace(found, **{name: made(getattr(found, name)) for name, made in _roofs(type(found)).items()})


def text(kind: str, found: Family, source: str) -> str:
    """A family as a table of a file, with four digits of each."""
    lines = [f"{name} = {value:.4g}" for name, value in asdict(found).items() if name != "source"]
    return "\n".join([f"[{kind}]", f"source = {msgspec.json.encode(source).decode()}", *lines]) + "\n"
