"""The records that pass between the stages.

Every record is frozen, holds SI base units (FLOP, byte, second, FLOP/s, B/s) and imports no torch: a trace or an
analysis read back from disk is as good as a fresh one. The records of one stage are made by that stage alone.

Those that come by the hundred are left out of garbage collection (`gc=False`): they hold no cycles, and a collection in
a process that has torch loaded costs more than making them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, NamedTuple

from msgspec import Struct, field

from roofline.dtypes import DTYPE_BITS

# How ops become kernels.
RUNTIMES = ("eager", "compiled", "ideal")


# ------------------------------------------------------------------------------------------------ trace


class TensorSpec(Struct, frozen=True, omit_defaults=True, gc=False):
    """One tensor's metadata, without its storage.

    `stride` is in elements; the empty tuple means contiguous (row-major).
    """

    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def distinct(self) -> int:
        """Elements that exist in memory: a dimension that is expanded (stride 0) counts once."""
        n = 1
        for s, st in zip(self.shape, self.stride or self.shape, strict=True):
            n *= 1 if self.stride and st == 0 and s else s
        return n

    @property
    def nbytes(self) -> int:
        """Bytes of its distinct elements."""
        return (self.distinct * DTYPE_BITS[self.dtype] + 7) // 8


# An operator's argument: a scalar, a tensor, or a list of them. Torch's enums (dtype, layout, memory format) are text.
Scalar = bool | int | float | str | None
Arg = Any  # Scalar | TensorSpec | list[Scalar | TensorSpec]; msgspec needs it spelled out, see OpSpec


# They reserve memory or ask a question; nothing runs on the device.
_NO_LAUNCH = frozenset({
    "aten.empty", "aten.empty_like", "aten.empty_strided", "aten.new_empty", "aten.new_empty_strided", "aten.empty_permuted",
    "aten.resize_", "aten.set_", "aten.lift", "aten.lift_fresh", "aten.detach", "aten.alias", "aten._unsafe_view",
})  # fmt: skip


class OpSpec(Struct, frozen=True, omit_defaults=True, gc=False):
    """What was called, with which shapes: all that a cost rule may see. Calls that agree share one OpSpec."""

    # "aten.conv2d": namespace and operator; the overload apart
    name: str
    overload: str
    # positional arguments by the operator's schema, tensors as TensorSpec in place
    args: list[bool | int | float | str | TensorSpec | list[bool | int | float | str | TensorSpec | None] | None]
    kwargs: dict[str, bool | int | float | str | TensorSpec | list[bool | int | float | str | TensorSpec | None] | None]
    # tensor arguments flattened in order (positional, then keyword by name), and tensor results
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    # torch.Tag.pointwise
    pointwise: bool = False
    # every output aliases an input and nothing is written (view, detach, a `reshape` that needs no copy)
    view: bool = False
    # indices into `inputs` that the operator writes in place
    mutates: tuple[int, ...] = ()

    @property
    def out(self) -> TensorSpec:
        """The first output."""
        return self.outputs[0]

    @property
    def launches(self) -> bool:
        """Whether anything runs on the device."""
        return not self.view and self.name not in _NO_LAUNCH


class Op(Struct, frozen=True, omit_defaults=True, gc=False):
    """One ATen operator call: an OpSpec, where it was called, and the storages that it touched."""

    # index into Trace.specs
    spec: int
    # index into Trace.layers: the innermost module that was running
    layer: int
    # storage ids, parallel to OpSpec.inputs and OpSpec.outputs
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    # "forward", "backward" or "optimizer"
    phase: str = "forward"


class Storage(Struct, frozen=True, omit_defaults=True, gc=False):
    """One block of memory. `born` and `died` are op indices; it is allocated by op `born` and freed before op `died`."""

    nbytes: int
    # "parameter", "buffer", "input", "activation", "constant", "gradient", "state" (of the optimizer) or "cache" (keys and
    # values of earlier tokens)
    kind: str
    # qualified name of the parameter or buffer, else empty
    name: str = ""
    # -1: before the first op
    born: int = -1
    # -1: lives to the end of the trace
    died: int = -1


class Layer(Struct, frozen=True, omit_defaults=True, gc=False):
    """One module. Parents come before their children; the root has the empty path."""

    path: str
    type: str
    # parameters owned by this module itself (not its children), a tied parameter at its first owner only
    params: int = 0
    # index of the parent in Trace.layers, -1 for the root
    parent: int = -1
    # how often it was called
    calls: int = 0


class InputInfo(Struct, frozen=True, omit_defaults=True):
    """One tensor input of the model; `name` is the keyword or the position."""

    shape: tuple[int, ...]
    dtype: str
    name: str = ""


class ModelInfo(Struct, frozen=True, omit_defaults=True):
    """The model that was traced. Sizes in elements and bytes; tied parameters count once."""

    name: str
    # where it came from: "models/mobilenet_v2.py", "torchvision 0.29.2", ...
    source: str
    params: int
    param_bytes: int
    # elements in buffers
    buffers: int
    buffer_bytes: int
    inputs: tuple[InputInfo, ...]


class Trace(Struct, frozen=True, omit_defaults=True):
    """One pass of a model: its ops in order, and the tables that they index."""

    model: ModelInfo
    layers: tuple[Layer, ...]
    specs: tuple[OpSpec, ...]
    ops: tuple[Op, ...]
    storages: tuple[Storage, ...]
    batch: int
    dtype: str
    # "inference" or "training"
    mode: str = "inference"
    # what a reader must know to trust the numbers: "traced on real tensors with seed 0; 1000 proposals seen"
    notes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ cost and kernels


class Work(NamedTuple):
    """The arithmetic of one op. `flops` counts everything, 2 FLOPs for each of its `macs`."""

    flops: int
    macs: int


class Operand(Struct, frozen=True, omit_defaults=True, gc=False):
    """One tensor that a kernel reads or writes."""

    # bytes moved for it by this kernel
    bytes: int
    storage: int
    # Storage.kind, and "weight" for what is computed from parameters alone
    role: str
    write: bool = False
    # index of the kernel that last wrote the storage, -1 if none did (parameters, inputs)
    producer: int = -1


class Kernel(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one launch executes: one op in eager mode, several in compiled mode."""

    # index into Trace.layers
    layer: int
    # "conv2d", or "batch_norm+relu" for a fused one
    op: str
    # "gemm", "conv", "grouped_conv", "depthwise_conv", "attention", "rnn", "pointwise", "reduction", "norm", "softmax",
    # "pool", "layout", "gather", "sort", "fft", "host", "other"
    klass: str
    # indices into Trace.ops
    ops: tuple[int, ...]
    # the dtype that the arithmetic runs in
    dtype: str
    # output shape
    shape: tuple[int, ...]
    flops: int
    macs: int
    operands: tuple[Operand, ...]
    # sizes that efficiency depends on: gemm b,m,n,k; conv n,c,o,g,h,w (input), p,q (output), r,s (kernel), stride
    dims: dict[str, int]
    # False: no rule knows this op's FLOPs
    known: bool = True
    phase: str = "forward"
    # sizes of each product inside (cost.products); empty: `dims` is the one
    products: tuple[dict[str, int], ...] = ()

    @property
    def bytes(self) -> int:
        total = 0
        for o in self.operands:
            total += o.bytes
        return total

    @property
    def weight_bytes(self) -> int:
        """Bytes of parameters and buffers, or of what is computed from them alone: they do not grow with the batch."""
        total = 0
        for o in self.operands:
            if o.role in ("parameter", "buffer", "weight"):
                total += o.bytes
        return total


# What the time is divided among. Components are finer: "memory:DRAM" and "memory:L2" are memory, and overhead is
# "host" (issuing a kernel: Python and PyTorch's dispatcher), "launch" (starting it: on a GPU the gap between kernels, on a CPU
# the threads), "drain" (filling and emptying a GPU) and "pages" (faulting in fresh memory).
BOUNDS = ("compute", "instructions", "memory", "overhead")


@cache
def bound_of_component(name: str) -> str:
    """The bound that a component belongs to."""
    name = name.partition(":")[0]
    return name if name in BOUNDS else "overhead"


def by_bound(components: dict[str, float]) -> dict[str, float]:
    """Seconds under each of BOUNDS."""
    out = dict.fromkeys(BOUNDS, 0.0)
    for name, part in components.items():
        out[bound_of_component(name)] += part
    return out


def bound_of(components: dict[str, float]) -> str:
    """The bound with the largest part; "memory" where there is no time."""
    split = by_bound(components)
    return max(split, key=lambda name: split[name]) if components else "memory"


class Point(Struct, frozen=True, omit_defaults=True, gc=False):
    """One kernel on one device. Seconds; `efficiency` is the fraction of the peak at which it does what it executes."""

    # what it adds to the whole
    time_s: float
    # the largest of BOUNDS
    bound: str
    # memory level that sets the memory time: "DRAM", "L3", "L2"
    level: str
    # what arithmetic and memory would take alone; and `time_s` less the kernel's own work: waiting for the host, starting
    compute_s: float
    memory_s: float
    overhead_s: float
    efficiency: float
    # what `time_s` rests on, adding up to it: "compute", "instructions", "memory:DRAM", "host", "launch", "drain", "pages"
    components: dict[str, float] = {}
    # fraction of the counted FLOPs that the algorithm executes: Winograd's convolutions and causal attention leave some out
    executed: float = 1.0


# ------------------------------------------------------------------------------------------------ analysis (JSON schema 1)


class ToolInfo(Struct, frozen=True):
    roofline: str
    torch: str


class Setting(Struct, frozen=True, kw_only=True):
    batch: int
    dtype: str
    # "eager", "compiled" or "ideal"
    runtime: str
    # "inference" or "training"
    mode: str
    # "sgd", "adam" or "adamw"; empty for inference
    optimizer: str = ""
    device: str
    # "datasheet", "calibrated" or "measured"; "estimated" for a host that was only detected
    tier: str
    # s that the host needs to issue one eager op, and how that is known ("given": asked for); none where the runtime has
    # no host, and in documents of older versions
    host_s: float | None = None
    host_status: str = ""
    # how it was asked for, so that `diff` can ask again: shapes as text, image size, arguments of the model, and the batch
    # (None: the model's own). False: a document of an older version, which does not say
    asked: bool = False
    asked_batch: int | None = None
    inputs: tuple[str, ...] = ()
    resolution: int | None = None
    set: dict[str, str] = {}
    # digest of the constants of the time model; empty in documents of older versions
    constants: str = ""


class LevelInfo(Struct, frozen=True):
    """One memory level as used by this analysis: bytes and B/s."""

    name: str
    # 0: unbounded (DRAM of unknown size)
    size: int
    bandwidth: float
    # the bandwidth that times rest on: what a kernel that only streams reaches; 0: not known
    reached: float = 0.0


class DeviceInfo(Struct, frozen=True, kw_only=True):
    """The device as used by this analysis (its file holds the sources)."""

    name: str
    title: str
    # "gpu" or "cpu"
    kind: str
    # FLOP/s by unit and dtype ("tensor fp16/fp32", "vector fp32"), and the one that this analysis was bounded by
    peaks: dict[str, float]
    peak_flops: float
    # B/s of DRAM
    bandwidth: float
    # FLOP/B where the two meet
    ridge: float
    levels: list[LevelInfo]
    notes: list[str] = field(default_factory=list)
    # the type that `peak_flops` is of ("fp16"; of autocast's products), and what is left of it at the clock kept under load
    peak_dtype: str = ""
    reached_flops: float = 0.0
    # bytes that it has; 0: unknown
    memory: int = 0
    # digest of all numbers of the device: two files may describe different devices under one name
    fingerprint: str = ""


class Totals(Struct, frozen=True, kw_only=True):
    flops: int
    macs: int
    bytes: int
    weight_bytes: int
    # flops / bytes, 0 where no byte moves
    intensity: float
    kernels: int
    time_s: float
    # samples per second
    throughput: float
    # where most of the time goes
    bound: str
    # seconds under each of BOUNDS, and the same finer (Point.components); both add up to time_s
    time_by_bound: dict[str, float]
    peak_memory_bytes: int
    # the same at the peak: "parameters", "buffers", "inputs", "activations", ...
    peak_memory: dict[str, int]
    # path of the layer that runs at the peak
    peak_layer: str
    # flops / time_s
    achieved_flops: float
    time_by_component: dict[str, float] = {}
    # seconds in which the device does not work: it waits for the host, or starts a kernel
    waiting_s: float = 0.0
    # whether the peak fits into the device's memory (None: its size is not known); where it does not, the largest batch that
    # does (0: not one sample, None: not known)
    fits: bool | None = None
    largest_batch: int | None = None


class UnknownOp(Struct, frozen=True):
    op: str
    count: int
    layers: list[str]


class Coverage(Struct, frozen=True, kw_only=True):
    # fraction of kernels whose FLOPs a rule knows, and of those whose bytes are known: all but operators that no rule knows and
    # that show no tensor of theirs
    flops_known: float
    bytes_known: float
    unknown_ops: list[UnknownOp]


class LayerRow(Struct, frozen=True, kw_only=True, gc=False):
    """One module with everything that ran inside it."""

    path: str
    type: str
    params: int
    flops: int
    macs: int
    bytes: int
    weight_bytes: int
    intensity: float
    time_s: float
    bound: str
    # number of kernels
    kernels: int
    # s, where the model was run (`roofline measure`)
    measured_s: float | None = None
    time_by_bound: dict[str, float] = {}


class OpRow(Struct, frozen=True, kw_only=True, gc=False):
    """All kernels of one operator and class (depthwise convolutions apart from the others)."""

    op: str
    klass: str = field(name="class")
    kernels: int
    flops: int
    macs: int
    bytes: int
    intensity: float
    time_s: float
    bound: str
    measured_s: float | None = None
    time_by_bound: dict[str, float] = {}


class KernelRow(Struct, frozen=True, kw_only=True, gc=False):
    """One kernel in launch order."""

    layer: str
    op: str
    klass: str = field(name="class")
    shape: tuple[int, ...]
    dtype: str
    flops: int
    macs: int
    bytes: int
    weight_bytes: int
    intensity: float
    time_s: float
    bound: str
    level: str
    efficiency: float
    compute_s: float
    memory_s: float
    overhead_s: float
    # False: no rule knows its FLOPs
    known: bool
    phase: str = "forward"
    measured_s: float | None = None
    # as in Point.components
    time_by_component: dict[str, float] = {}
    # fraction of the counted FLOPs that the algorithm executes: Winograd's convolutions and causal attention leave some out
    executed: float = 1.0


class LanguageInfo(Struct, frozen=True, kw_only=True):
    """One pass of a causal language model. Bytes are those of the whole pass unless they are per token."""

    # "prefill" or "decode"
    mode: str
    # sequences side by side, tokens computed in this pass over all of them, and tokens of one sequence after it
    sequences: int
    tokens: int
    context: int
    flops_per_token: int
    macs_per_token: int
    # bytes of weights that the pass reads
    weight_bytes: int
    # the KV cache after the pass, and its traffic
    cache_bytes: int
    cache_read_bytes: int
    cache_written_bytes: int
    cache_bytes_per_token: int
    tokens_per_s: float

    @property
    def asked(self) -> dict[str, int]:
        """The pass as it is asked for: {"prefill": tokens of the prompt} or {"decode": tokens in the cache before it}."""
        return {self.mode: self.context - (self.mode == "decode")}


class Gap(Struct, frozen=True, kw_only=True, gc=False):
    """What one class of kernel adds to the difference between measured and predicted time. Seconds."""

    klass: str = field(name="class")
    kernels: int
    predicted_s: float
    measured_s: float


class Measurement(Struct, frozen=True, kw_only=True):
    """A run of the model on this machine: the untimed whole, and how far it can be trusted. Seconds."""

    time_s: float
    # samples per second
    throughput: float
    # distance between the quartiles of the runs, as a fraction of their median
    spread: float
    # runs of the whole, and those in which no thread waited for a core
    runs: int
    undisturbed: int
    # False: no whole run was undisturbed, and `time_s` is the sum of its ops
    whole: bool
    threads: int
    # kernels of which every run was disturbed
    unsure_kernels: int
    # largest difference first
    gap: list[Gap]


class Analysis(Struct, frozen=True, kw_only=True):
    """One model on one device in one setting: the JSON document of `--json`, field by field.

    `layers` holds every module in call-tree order with its children included, so the first row (path "") equals the
    totals; `ops` groups the kernels by operator; `kernels` lists them in launch order.
    """

    SCHEMA: ClassVar[int] = 1

    schema: int
    tool: ToolInfo
    model: ModelInfo
    setting: Setting
    device: DeviceInfo
    totals: Totals
    coverage: Coverage
    layers: list[LayerRow]
    ops: list[OpRow]
    kernels: list[KernelRow]
    notes: list[str] = field(default_factory=list)
    # where the model was run; the rows' `measured_s` add up to its `time_s`
    measurement: Measurement | None = None
    # of a prefill or decode pass
    language: LanguageInfo | None = None
