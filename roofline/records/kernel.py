"""What a pass costs: the work of an operator, kernels with the bytes that they move, and each on one device."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from msgspec import Struct

from roofline.shapes import Access, Loop, Shape

# How ops become kernels.
RUNTIMES = ("eager", "compiled", "ideal")


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
    # how it walks through memory
    access: Access = Access()
    # False: no rule knows this op's FLOPs
    known: bool = True
    phase: str = "forward"
    # what it multiplies; empty where it is no product, or nobody tells the sizes
    products: tuple[Shape, ...] = ()
    # the call as one shape: its one product, a backward's forward, the attention inside a layer, a window; None: it has none
    whole: Shape | None = None
    # of generated code: its loops
    loop: Loop | None = None

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
    # of the host of a GPU, to issue it: more or less than another, by what it is (timemodel/gpu.py)
    issue_s: float = 0.0


def components_of(points: Iterable[Point]) -> dict[str, float]:
    """Seconds of each component, over all points."""
    out: dict[str, float] = {}
    for point in points:
        for name, part in point.components.items():
            out[name] = out.get(name, 0.0) + part
    return out
