"""What an operator tells by itself: whether it stays a library call, what it reduces over, how long its code is."""

from __future__ import annotations

from math import prod

from roofline.classes import CALLS
from roofline.kernels.facts import Facts
from roofline.records import OpSpec
from roofline.shapes import Pool

# Inductor unrolls a pooling window of up to this many taps; a larger one is a library call.
_MAX_WINDOW = 25
# A reduction of fewer elements than this is unrolled into a pointwise expression (unroll_reductions_threshold).
UNROLLED = 8

# Operations of an operator's inner function, loads among them, where they are many; the others take about three.
LENGTHS = {
    "batch_norm": 16,
    "layer_norm": 10,
    "group_norm": 10,
    "gelu": 9,
    "silu": 6,
    "hardswish": 9,
    "hardsigmoid": 6,
    "mish": 8,
    "softplus": 6,
    "elu": 7,
    "softmax": 4,
}
# ... and of each further tap of a window: its index, whether it lies inside, its load
TAP = 6
# exp, log, sigmoid, tanh in it: a C++ kernel stores what several use (ir.py, should_realize_on_reuse)
HEAVY = frozenset({
    "exp", "log", "log2", "log10", "log1p", "sigmoid", "tanh", "silu", "softplus", "mish", "log_sigmoid", "softmax",
})  # fmt: skip
# Operators whose decomposition names their input more than once.
TWICE = frozenset({
    "layer_norm", "group_norm", "rms_norm", "instance_norm", "softmax", "log_softmax", "silu", "gelu", "hardswish", "mish",
    "softplus", "elu", "selu", "celu", "leaky_relu", "prelu", "log_sigmoid",
})  # fmt: skip
# Results at other places than what they are made from: no loop shares the index.
MOVES = frozenset({"cat", "stack", "constant_pad_nd", "pad", "reflection_pad2d", "replication_pad2d", "roll", "flip", "repeat"})


def folded(spec: OpSpec) -> bool:
    """Batch norm with stored statistics: a scale and a shift."""
    return spec.name.endswith("batch_norm") and not (len(spec.args) > 5 and spec.args[5] is True)


def averages_all(spec: OpSpec) -> bool:
    return spec.name == "aten.adaptive_avg_pool2d" and spec.out.shape[-2:] == (1, 1)


def is_library(f: Facts) -> bool:
    if f.klass == "pool" and not averages_all(f.spec):
        return window_size(f) > _MAX_WINDOW
    return f.klass in CALLS


def window_size(f: Facts) -> int:
    """Elements that go into one result of a pool; for adaptive ones as in lowering.py, _adaptive_avg_pool2d."""
    if not f.name.startswith("adaptive"):
        return prod(f.whole.window) if isinstance(f.whole, Pool) else 1
    found = 1
    for n, bins in zip(f.spec.inputs[0].shape[2:], f.spec.out.shape[2:], strict=True):
        found *= n // bins if n % bins == 0 else -(-(n + bins - 1) // bins)
    return found


def norm_axes(spec: OpSpec) -> list[int]:
    """Dimensions that share one mean and variance, those of a group apart."""
    x = spec.inputs[0]
    rank = len(x.shape)
    if spec.name == "aten.group_norm":
        return list(range(1, rank))
    if spec.name in ("aten.layer_norm", "aten.rms_norm") and isinstance(spec.args[1], list):
        return list(range(rank - len(spec.args[1]), rank))
    if spec.name.endswith("batch_norm"):
        return [d for d in range(rank) if d != 1]
    if spec.name == "aten.instance_norm":
        return list(range(2, rank))
    return [rank - 1]


def reduced_axes(spec: OpSpec) -> list[int]:
    rank = len(spec.inputs[0].shape)
    if averages_all(spec):
        return [rank - 2, rank - 1]
    axes = spec.args[1] if len(spec.args) > 1 else None
    if isinstance(axes, int) and not isinstance(axes, bool):
        axes = [axes]
    if not isinstance(axes, list) or not axes:
        return list(range(rank))
    return sorted({a % rank for a in axes if isinstance(a, int)}) if rank else []
