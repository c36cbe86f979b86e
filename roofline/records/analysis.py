"""The analysis, JSON schema 1: what `roofline analyze --json` writes and every view reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from msgspec import Struct, field

from roofline.records.trace import ModelInfo


class ToolInfo(Struct, frozen=True):
    roofline: str
    torch: str


class Setting(Struct, frozen=True, kw_only=True):
    batch: int
    # as asked; of a model as built that of most of its parameters
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
    # of loops where data decide how often they turn, where that was said
    turns: int | None = None
    # whether images and volumes among parameters, buffers and inputs lay channels-last
    channels_last: bool = False
    # whether batch norms were folded into the layers before them
    fold_bn: bool = False
    # digest of the constants of the time model; empty in documents of older versions
    constants: str = ""
    # the model's own floating dtypes, which it was analysed in: "fp32", "bf16 and fp32"; empty: in the dtype asked for, and
    # in documents of older versions
    built: str = ""

    @property
    def precision(self) -> str:
        """The dtype in words: "fp32", "bf16 as built", "mixed: bf16 and fp32"."""
        if self.built in ("", "fp32"):
            return self.dtype
        return f"mixed: {self.built}" if " " in self.built else f"{self.built} as built"

    @property
    def numbers(self) -> str:
        """The dtype in words, and what else was asked of the weights: "amp, channels-last", "fp32, norms folded"."""
        return f"{self.precision}{', channels-last' * self.channels_last}{', norms folded' * self.fold_bn}"


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


class Interval(Struct, frozen=True, kw_only=True):
    """Where the measured time lies in eight of ten cases, and what it is not known for (timemodel/uncertainty.py)."""

    # s
    low_s: float
    high_s: float
    # standard deviations of log time: of the model's own part, and of the device's, which is common to all models on it. That
    # is in three parts that have nothing to do with each other, the same three for every model on this device
    own: float
    common: tuple[float, float, float]


class Energy(Struct, frozen=True, kw_only=True):
    """What a pass takes from the board (of a CPU: from the socket), as timemodel/energy.py says."""

    # J of the whole pass, in which eight of ten measurements lie, and of a sample
    joules: float
    low_j: float
    high_j: float
    per_sample_j: float
    # W: on average, and the most that the device takes
    watts: float
    limit_w: float
    # standard deviation of the logarithm of `joules`
    sd: float


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
    # of time_s; none of the ideal runtime, which is a definition, and in documents of older versions
    interval: Interval | None = None
    # none where the device's power is not known, of the ideal runtime, and in documents of older versions; and why
    energy: Energy | None = None
    no_energy: str = ""


class UnknownOp(Struct, frozen=True):
    op: str
    count: int
    layers: list[str]


class IdlePart(Struct, frozen=True, kw_only=True):
    """A part of the model that the pass never ran, or (type "") a single parameter that it never read."""

    # module path; `blocks.*.experts.*` stands for `count` of them
    path: str
    type: str
    # elements, and as a fraction of the model's
    params: int
    share: float
    count: int = 1


class Coverage(Struct, frozen=True, kw_only=True):
    # fraction of kernels whose FLOPs a rule knows, and of those whose bytes are known: all but operators that no rule knows and
    # that show no tensor of theirs
    flops_known: float
    bytes_known: float
    unknown_ops: list[UnknownOp]
    # largest first
    never_ran: list[IdlePart] = []


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
    # how often the module was called; 0 also in documents of older versions
    calls: int = 0
    # those of `params` that require a gradient; None: nobody says
    trainable: int | None = None
    # shape of the first tensor that its first call returned, and the kernel of a convolution or a pool
    output: tuple[int, ...] | None = None
    kernel: tuple[int, ...] = ()
    # bytes of `totals.peak_memory_bytes` that it holds: its parameters and buffers, their gradients and state, and what it made
    memory_bytes: int = 0
    # J of the pass, here and in the other rows; None where there is no `totals.energy`
    energy_j: float | None = None
    # as in Interval; None where there is no `totals.interval`, or where nothing ran
    low_s: float | None = None
    high_s: float | None = None


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
    energy_j: float | None = None


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
    energy_j: float | None = None
    # s of the host of a GPU to issue it, beside what it adds to the whole; 0 in documents of older versions
    issue_s: float = 0.0


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


class MemoryCourse(Struct, frozen=True, kw_only=True, gc=False):
    """Bytes alive while a pass goes on: once `at[i]` operators of `ops` have begun, in `layers[i]`, `bytes[i]`, until the next.

    The most of them is the peak; of a long pass only some are there, each the most of those around it.
    """

    ops: int
    at: list[int]
    # paths
    layers: list[str]
    bytes: list[int]


class Shown(Struct, frozen=True):
    """A record that shows itself, as the command line prints it and in a notebook."""

    # "text" and "html": the package sets them for each class, since a record knows no view
    VIEWS: ClassVar[dict[str, Callable[[Any], str]]] = {}

    def __str__(self) -> str:
        """What the command line prints, in plain text."""
        view = self.VIEWS.get("text")
        return view(self) if view else repr(self)

    def _repr_html_(self) -> str:
        """The same in a notebook."""
        view = self.VIEWS.get("html")
        return view(self) if view else repr(self)


class Analysis(Shown, frozen=True, kw_only=True):
    """One model on one device in one setting: the JSON document of `--json`, field by field.

    `layers` holds every module in call-tree order with its children included, so the first row (path "") equals the
    totals; `ops` groups the kernels by operator; `kernels` lists them in launch order.
    """

    SCHEMA: ClassVar[int] = 1
    VIEWS: ClassVar[dict[str, Callable[[Any], str]]] = {}
    # as rows for pandas, by "layer", "op" or "kernel"
    FRAMES: ClassVar[list[Callable[[Analysis, str], Any]]] = []

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
    # none in documents of older versions
    memory: MemoryCourse | None = None

    def __repr__(self) -> str:
        """One line: all of it is as long as a book, and stands in `msgspec.to_builtins(analysis)`."""
        m, s, t = self.model, self.setting, self.totals
        return (
            f"<Analysis of {m.name!r} on {s.device}, batch {s.batch}, {s.numbers}, {s.runtime}, {s.mode}: "
            f"{t.macs:,} MACs, {t.flops:,} FLOPs, {t.bytes:,} B, {t.time_s:.3g} s; print() shows the table>"
        )

    def to_pandas(self, by: str = "layer") -> Any:
        """A pandas.DataFrame of the rows by "layer", "op" or "kernel", in base units (FLOP, byte, second).

        `attrs` of it holds the model, the setting and the totals. Raises UsageError for other rows, and without pandas.
        """
        if not self.FRAMES:
            raise RuntimeError("import roofline, which knows how")
        return self.FRAMES[0](self, by)
