"""The `compiled` runtime: which kernels torch.compile (Inductor) makes of a trace.

Convolutions, products, attention, recurrent layers, sorts and the like stay library calls. Everything else is generated
code: pointwise operators, copies, gathers, small pooling windows, reductions and norms. It comes about in two steps, as in
Inductor:

1. Lowering (torch/_inductor/graph.py, ir.py, lowering.py). The result of a pointwise operator is an expression. Whoever uses
   it computes it once more from what it reads, until it is worth a buffer: a library call or the caller wants it, several
   use it and it reads much or is dear, or it has grown long. Reductions have a buffer always; a norm is a reduction and an
   expression that uses its result.
2. Scheduling (torch/_inductor/scheduler.py, codegen/cpp.py). Kernels that share a buffer become one where their loops allow
   it and nothing in between has to run first, the pair with the most shared bytes first. What is produced and used inside
   one kernel moves no bytes.

On a GPU kernels are fused by their number of elements (codegen/simd.py), since loops there can be reordered; a C++ kernel
takes only loops that agree one by one.

Batch norm in eval mode is such a pointwise operator: without `freezing`, which is off by default, Inductor folds it into
no convolution.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import prod
from typing import NamedTuple

import msgspec

from roofline import sharing
from roofline.access import strides
from roofline.kernels import Facts, launches, roles_of
from roofline.records import DTYPE_BITS, Kernel, Op, Operand, OpSpec, TensorSpec, Trace, Work

LIBRARY = frozenset({"gemm", "conv", "grouped_conv", "depthwise_conv", "attention", "rnn", "sort", "fft", "host", "other"})
_CONVS = frozenset({"conv", "grouped_conv", "depthwise_conv"})
# the most telling class of a fused kernel, first
_ORDER = ("softmax", "norm", "reduction", "pool", "gather", "layout", "pointwise")

# Inductor unrolls a pooling window of up to this many taps; a larger one is a library call.
_MAX_WINDOW = 25
# A reduction of fewer elements than this is unrolled into a pointwise expression (unroll_reductions_threshold).
_UNROLLED = 8
# torch/_inductor/config.py: what several use is stored once it reads more tensors than this (realize_reads_threshold), ...
_REUSED_READS = 4
# ... anything once it reads more than this (realize_cpu_acc_reads_threshold, _realize_acc_reads_threshold_default) ...
_READS = {"cpu": 12, "gpu": 8}
# ... or takes more operations (realize_cpu_opcount_threshold, _realize_opcount_threshold_default)
_LENGTH = {"cpu": 50, "gpu": 30}
# A C++ kernel takes the variance of fewer elements than this in two steps (cpp.use_two_step_variance_threshold).
_TWO_STEP = 1024
# Kernels that lie further apart than this are not fused (scheduler.py, are_long_distant_nodes).
_DISTANT = 64
# most buffers made in one kernel (max_fusion_size), and tensors that `cat` reads in one on a GPU (max_pointwise_cat_inputs)
_MAX_FUSED = 64
_MAX_CAT = 8

# _Buffer.step of the copy that an op makes of its input: this and the op's number
_COPY = 10

# Operations of an operator's inner function, loads among them, where they are many; the others take about three.
_LENGTHS = {
    "batch_norm": 16, "layer_norm": 10, "group_norm": 10, "gelu": 9, "silu": 6, "hardswish": 9, "hardsigmoid": 6, "mish": 8,
    "softplus": 6, "elu": 7, "softmax": 4,
}  # fmt: skip
# ... and of each further tap of a window: its index, whether it lies inside, its load
_TAP = 6
# exp, log, sigmoid, tanh in it: a C++ kernel stores what several use (ir.py, should_realize_on_reuse)
_HEAVY = frozenset({
    "exp", "log", "log2", "log10", "log1p", "sigmoid", "tanh", "silu", "softplus", "mish", "log_sigmoid", "softmax",
})  # fmt: skip
# Operators whose decomposition names their input more than once.
_TWICE = frozenset({
    "layer_norm", "group_norm", "rms_norm", "instance_norm", "softmax", "log_softmax", "silu", "gelu", "hardswish", "mish",
    "softplus", "elu", "selu", "celu", "leaky_relu", "prelu", "log_sigmoid",
})  # fmt: skip
# Results at other places than what they are made from: no loop shares the index.
_MOVES = frozenset(
    {"cat", "stack", "constant_pad_nd", "pad", "reflection_pad2d", "replication_pad2d", "roll", "flip", "repeat"}
)


class _Loop(NamedTuple):
    """What a kernel with a reduction runs over: `outer` results, each from `reduced` elements."""

    outer: int
    reduced: int


class _Buffer(NamedTuple):
    """One version of a storage; `step` above 0 is what an operator keeps for itself (a mean, a copy)."""

    storage: int
    version: int
    step: int = 0


class _Read(NamedTuple):
    buffer: _Buffer
    # -1: all of it; else the op that reads a part
    part: int
    nbytes: int
    # distance of neighbours along each dimension of the expression, in elements; None: no linear index is known
    steps: tuple[int, ...] | None
    # how many elements go into each result (a pooling window, or a mean and a variance)
    taps: int = 1
    # the op that takes them from elsewhere than it writes, counted from 1; 0: none does
    moved: int = 0


class _Access(NamedTuple):
    nbytes: int = 0
    dense: bool = False
    walks: frozenset[tuple[tuple[int, ...] | None, int]] = frozenset()

    def __or__(self, other: _Access) -> _Access:
        return _Access(max(self.nbytes, other.nbytes), self.dense or other.dense, self.walks | other.walks)


class _Value:
    """The newest version of a storage: an expression, or a buffer once a kernel makes it (or it came from outside)."""

    __slots__ = ("buffer", "dims", "heavy", "length", "nbytes", "ops", "reads", "stored", "strides", "users")

    def __init__(self, buffer: _Buffer, dims: tuple[int, ...], strides: tuple[int, ...], nbytes: int) -> None:
        self.buffer, self.dims, self.strides, self.nbytes = buffer, dims, strides, nbytes
        self.reads: list[_Read] = []
        # what it is made by: indices into the list of launched ops
        self.ops: list[int] = []
        self.length, self.heavy, self.stored, self.users = 0, False, False, 0


class _Node:
    """One kernel in the making."""

    __slots__ = (
        "fusable", "into", "label", "last", "loops", "members", "needs", "number", "op", "order", "parts", "reads", "reduced",
        "shape", "total", "vars", "walk", "writes",
    )  # fmt: skip

    def __init__(self, number: int, op: int, fusable: bool) -> None:
        # place in the order of making, of its first and last part
        self.number = self.last = number
        # places of its parts in Inductor's own order
        self.order = (number, number)
        # the op that asked for it, and those that it computes first, as indices into the list of launched ops
        self.op = op
        self.members: list[int] = []
        self.fusable = fusable
        # what a kernel without an op of its own is called
        self.label = ""
        # bytes, whether it walks through them as it walks through its own results, and how it walks
        self.reads: dict[tuple[_Buffer, int], _Access] = {}
        self.writes: dict[_Buffer, int] = {}
        # elements that it runs over, and the reduction in it, if any
        self.total = 0
        self.loops: _Loop | None = None
        # sizes of its loops, outermost first, those that can be merged being merged; and of the reduction's
        self.vars: tuple[int, ...] = ()
        self.reduced: tuple[int, ...] = ()
        self.shape: tuple[int, ...] | None = ()
        # its loops before any was merged: dimensions from the outermost, and how each access walks along them
        self.walk: tuple[list[int], list[tuple[int, ...] | None]] = ([], [])
        self.parts = 1
        # kernels that it depends on
        self.needs: set[_Node] = set()
        # the kernel that it became part of
        self.into: _Node | None = None


class _Launch(NamedTuple):
    number: int
    op: Op
    facts: Facts


def build(trace: Trace, kind: str = "gpu") -> list[Kernel]:
    """The kernels of a trace under torch.compile on a kind of device ("gpu", "cpu"), in launch order."""
    launched = [_Launch(*found) for found in launches(trace)]
    last = _channels_last([la.facts for la in launched], kind)
    lowering = _Lowering(trace, launched, kind, last)
    for number in range(len(launched)):
        lowering.lower(number)
    lowering.finish()
    _schedule(lowering.nodes, lowering.made, kind)
    return _emit(trace, launched, lowering, last)


def _channels_last(facts: list[Facts], kind: str) -> bool:
    """Whether Inductor runs the convolutions channels-last: always on a CPU; on a GPU by a weighted sum of their FLOPs.

    The weights are those of torch/_inductor/graph.py, decide_layout_opt: grouped convolutions lose, the others gain.
    """
    convs = [f for f in facts if f.klass in _CONVS]
    if not convs or kind == "cpu":
        return bool(convs)
    if len(facts) >= 300 * len(convs):
        return False
    total = weighted = 0.0
    for f in convs:
        d, macs = f.dims, f.work.macs if f.work else 0
        inner = d.get("c", 1) // max(d.get("g", 1), 1)
        factor = 0.823
        if f.klass == "grouped_conv":
            factor = 1.358
        elif d.get("o", 0) <= 64 and inner <= 64:
            factor = 0.783
        elif 2 * d.get("o", 0) <= inner and d.get("r", 1) > 1:
            factor = 0.725
        total += macs
        weighted += macs * factor
    return weighted <= total


# ------------------------------------------------------------------------------------------------ 1. lowering


def _folded(spec: OpSpec) -> bool:
    """Batch norm with stored statistics: a scale and a shift."""
    return spec.name.endswith("batch_norm") and not (len(spec.args) > 5 and spec.args[5] is True)


def _averages_all(spec: OpSpec) -> bool:
    return spec.name == "aten.adaptive_avg_pool2d" and spec.out.shape[-2:] == (1, 1)


def _is_library(f: Facts) -> bool:
    if f.klass == "pool" and not _averages_all(f.spec):
        return _window(f) > _MAX_WINDOW
    return f.klass in LIBRARY


def _window(f: Facts) -> int:
    """Elements that go into one result of a pool; for adaptive ones as in lowering.py, _adaptive_avg_pool2d."""
    if not f.name.startswith("adaptive"):
        return f.dims.get("r", 1) * f.dims.get("s", 1)
    found = 1
    for n, bins in zip(f.spec.inputs[0].shape[2:], f.spec.out.shape[2:], strict=True):
        found *= n // bins if n % bins == 0 else -(-(n + bins - 1) // bins)
    return found


def _norm_axes(spec: OpSpec) -> list[int]:
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


def _reduced_axes(spec: OpSpec) -> list[int]:
    rank = len(spec.inputs[0].shape)
    if _averages_all(spec):
        return [rank - 2, rank - 1]
    axes = spec.args[1] if len(spec.args) > 1 else None
    if isinstance(axes, int) and not isinstance(axes, bool):
        axes = [axes]
    if not isinstance(axes, list) or not axes:
        return list(range(rank))
    return sorted({a % rank for a in axes if isinstance(a, int)}) if rank else []


def _dense(dims: Sequence[int], order: Iterable[int]) -> tuple[int, ...]:
    """Strides without gaps, `order` naming dimensions from the outermost to the innermost."""
    found, step = [1] * len(dims), 1
    for d in reversed(list(order)):
        found[d] = step
        step *= dims[d]
    return tuple(found)


def _merged(order: Iterable[int], dims: Sequence[int], accesses: Sequence[tuple[int, ...] | None]) -> tuple[int, ...]:
    """Sizes of loops in that order; two that every access walks as one are one (sizevars.py, _simplify_loops)."""
    sizes: list[int] = []
    before = -1
    for d in order:
        if dims[d] == 1:
            continue
        if sizes and all(a is not None and a[before] == a[d] * dims[d] for a in accesses):
            sizes[-1] *= dims[d]
        else:
            sizes.append(dims[d])
        before = d
    return tuple(sizes)


class _Lowering:
    """Which buffers there are, and the kernel that makes each from others."""

    def __init__(self, trace: Trace, launched: list[_Launch], kind: str, last: bool) -> None:
        self.trace, self.launched, self.kind, self.last = trace, launched, kind, last
        self.nodes: list[_Node] = []
        # operations so far as the scheduler counts them: kernels, copies of weights, the empty frame of a `cat`
        self.count = 0
        self.values: dict[int, _Value] = {}
        # by storage: strides as the trace has them -> as they are here, where the two differ, and the size of the dimension
        self.turned: dict[int, dict[int, tuple[int, int]]] = {}
        self.made: dict[_Buffer, list[_Node]] = {}
        # a buffer that is a part of another one (an input of `cat`)
        self.inside: dict[_Buffer, _Buffer] = {}
        # buffers that a library call reads: they stay as they are
        self.frozen: set[_Buffer] = set()
        # written in parts: all of them are needed
        self.kept: set[_Buffer] = set()
        self.assigned: set[int] = set()
        # Convolutions of one image that is a view of another operator's [height, width, channels]: it comes with a batch stride
        # of 0, which PyTorch does not take for channels-last.
        self.viewed: set[int] = set()
        self.users = self._users()
        # what comes after the last convolution keeps its layout (graph.py, find_nodes_prefer_channels_last)
        self.final = max((n for n, la in enumerate(launched) if la.facts.klass in _CONVS), default=0) if last else 0

    def _users(self) -> dict[tuple[int, int], list[int]]:
        """The launched ops that read each version of a storage, in order; twice where the operator names it twice."""
        version: dict[int, int] = {}
        users: dict[tuple[int, int], list[int]] = {}
        for number, (_, op, f) in enumerate(self.launched):
            for s in dict.fromkeys(s for s, n in zip(op.inputs, f.reads, strict=True) if n):
                times = 2 if op.inputs[0] == s and f.name.rstrip("_") in _TWICE else 1
                users.setdefault((s, version.get(s, 0)), []).extend([number] * times)
            for s in dict.fromkeys(op.outputs):
                version[s] = version.get(s, 0) + 1
        return users

    # -------------------------------------------------------------------------------- reading

    def _buffer(self, s: int) -> _Buffer:
        value = self.values.get(s)
        return value.buffer if value else _Buffer(s, 0)

    def _steps(self, s: int, t: TensorSpec, dims: Sequence[int]) -> tuple[int, ...] | None:
        """How far neighbours along `dims` lie apart in a storage read through this view; 0 where it is repeated."""
        ahead = len(dims) - len(t.shape)
        if ahead < 0:
            return None
        turned = self.turned.get(s)
        found = [0] * len(dims)
        for d, (n, step) in enumerate(zip(t.shape, strides(t), strict=True), ahead):
            if n == 1 or not step:
                continue
            if turned is not None:
                if step not in turned:
                    return None
                step, size = turned[step]
                at = strides(t)[d - ahead]
                while size < n:  # several dimensions as one, where they follow each other here too
                    after = turned.get(at * size)
                    if after is None or after[0] != step * size:
                        return None
                    size *= after[1]
            found[d] = step
        return tuple(found)

    def _read(self, number: int, s: int, nbytes: int, steps: tuple[int, ...] | None, taps: int, moved: int) -> Iterator[_Read]:
        """What a reader of a storage reads: its buffer, or what its expression reads."""
        value = self.values.get(s)
        size = self.trace.storages[s].nbytes
        whole = nbytes >= size
        if value is None or value.stored:
            yield _Read(self._buffer(s), -1 if whole else number, nbytes, steps, taps, moved)
            return
        for r in value.reads:
            inner: tuple[int, ...] | None = None
            if r.steps == value.strides:
                inner = steps
            elif steps is not None and r.steps is not None:
                inner = self._through(value, r.steps, steps)
            part, kept = (r.part, r.nbytes) if whole else (number, int(r.nbytes * nbytes / size))
            yield _Read(r.buffer, part, kept, inner, r.taps * taps, r.moved or moved)

    @staticmethod
    def _through(value: _Value, inner: tuple[int, ...], steps: tuple[int, ...]) -> tuple[int, ...] | None:
        """Steps of what an expression reads, along the dimensions of its reader."""
        at = {step: inner[d] for d, step in enumerate(value.strides) if value.dims[d] > 1}
        found = [0 if not step else at.get(step) for step in steps]
        return None if any(f is None for f in found) else tuple(f or 0 for f in found)

    def _reads(self, number: int, dims: Sequence[int], moved: bool = False, taps: int = 1) -> list[_Read]:
        """Everything that an op reads, each access once."""
        _, op, f = self.launched[number]
        found: dict[_Read, None] = {}
        for i, (s, nbytes, t) in enumerate(zip(op.inputs, f.reads, f.spec.inputs, strict=True)):
            if not nbytes:
                continue
            if f.spec.name.endswith("batch_norm") and i:
                steps: tuple[int, ...] | None = tuple(int(d == 1) for d in range(len(dims)))
            else:
                steps = None if moved else self._steps(s, t, dims)
            for r in self._read(number, s, nbytes, steps, taps if not i else 1, number + 1 if moved and not i else 0):
                found[r] = None
        return list(found)

    # -------------------------------------------------------------------------------- making

    def _result(self, number: int, at: int = 0) -> _Value:
        """A new version of an op's output, with its layout: that of the first input of the same rank, unless it is given."""
        _, op, f = self.launched[number]
        s, out = op.outputs[at], f.spec.outputs[at]
        eager = strides(out)
        order = sorted(range(len(out.shape)), key=lambda d: (-eager[d], d))
        if _is_library(f):
            if self.last and f.klass in _CONVS and len(out.shape) == 4:
                order = [0, 2, 3, 1]
        elif self.kind == "cpu" and f.name == "cat":
            if len(out.shape) == 4 and any(self._channels_inside(*i) for i in zip(op.inputs, f.spec.inputs, strict=True)):
                order = [0, 2, 3, 1]
        elif not ("clone" in f.name and "contiguous_format" in str(f.spec.kwargs)):
            for source, t in zip(op.inputs, f.spec.inputs, strict=True):
                steps = self._steps(source, t, t.shape) if len(t.shape) == len(out.shape) else None
                if steps and all(steps[d] for d in order if t.shape[d] > 1) and sum(n > 1 for n in t.shape) > 1:
                    order = self._filled(out.shape, steps, t.shape)
                    break
        inside = s in op.inputs and f.writes[at] < self.trace.storages[s].nbytes  # a part written in place: nothing moves
        own = eager if inside or out.distinct != out.numel else _dense(out.shape, order)
        if not inside:
            self.turned.pop(s, None)
        if own != eager:
            self.turned[s] = {e: (i, n) for e, i, n in zip(eager, own, out.shape, strict=True) if n > 1}
        before = self._buffer(s).version
        value = _Value(_Buffer(s, before + 1), out.shape, own, f.writes[at])
        value.users = len(self.users.get((s, before + 1), ()))
        self.values[s] = value
        return value

    def _channels_inside(self, s: int, t: TensorSpec) -> bool:
        """Whether an input makes a `cat` channels-last: its layout is fixed so (ir.py, ConcatKernel.create)."""
        own = _dense(t.shape, (0, 2, 3, 1))
        if all(a == b for a, b, n in zip(strides(t), own, t.shape, strict=True) if n > 1):
            return True
        value = self.values.get(s)
        fixed = value is not None and value.stored and not self._open(value.buffer)
        return fixed and self._steps(s, t, t.shape) == tuple(
            0 if n == 1 else step for n, step in zip(t.shape, own, strict=True)
        )

    @staticmethod
    def _filled(shape: Sequence[int], steps: tuple[int, ...], source: Sequence[int]) -> list[int]:
        """Dimensions from the outermost to the innermost, as a source of that rank has them."""
        known = sorted((d for d in range(len(shape)) if source[d] > 1), key=lambda d: -steps[d])
        free = [d for d in range(len(shape)) if source[d] == 1]
        return [*free, *known]

    def _node(self, op: int, reads: Iterable[_Read], members: Iterable[int], fusable: bool = True) -> _Node:
        node = _Node(len(self.nodes), op, fusable)
        self.nodes.append(node)
        node.order = (self.count, self.count)
        self.count += 1
        node.members = [m for m in dict.fromkeys(members) if m not in self.assigned]
        self.assigned.update(node.members)
        for r in reads:
            self._add(node, r, False)
        return node

    def _add(self, node: _Node, r: _Read, dense: bool) -> None:
        key = (r.buffer, r.part)
        known = r.steps is not None or r.moved
        walks = frozenset([(r.steps, r.moved)]) if known else frozenset()
        node.reads[key] = node.reads.get(key, _Access()) | _Access(r.nbytes, dense, walks)
        node.needs.update(self.made.get(r.buffer, ()))

    def _writes(self, node: _Node, buffer: _Buffer, nbytes: int) -> None:
        node.writes[buffer] = nbytes
        self.made.setdefault(buffer, []).append(node)

    def _generated(
        self,
        op: int,
        reads: list[_Read],
        dims: tuple[int, ...],
        own: tuple[int, ...],
        axes: Sequence[int] = (),
        members: Iterable[int] = (),
    ) -> _Node:
        """A loop nest over `dims`, laid out as `own`, that reduces over `axes`."""
        node = self._node(op, (), members)
        order = sorted(range(len(dims)), key=lambda d: (-own[d], d))
        accesses = [r.steps for r in reads]
        outer = [d for d in order if d not in axes]
        kept = [0 if d in axes else s for d, s in enumerate(_dense(dims, outer))]
        written = tuple(kept) if axes else own
        node.walk = (outer, accesses)
        node.vars = _merged(outer, dims, [*accesses, written])
        node.reduced = _merged([d for d in order if d in axes], dims, accesses)
        node.total = prod(dims)
        node.shape = dims
        if axes:
            size = prod(dims[d] for d in axes)
            node.loops = _Loop(node.total // max(size, 1), size)
        walk = [*outer, *(d for d in order if d in axes)]
        for r in reads:
            if self.kind == "gpu":  # loops can be reordered there (config.loop_ordering_after_fusion)
                dense = not r.moved
            else:
                seen = [d for d in walk if dims[d] > 1 and r.steps is not None and r.steps[d]]
                dense = r.steps is not None and not r.moved and r.part < 0
                dense = dense and tuple(r.steps[d] for d in seen) == tuple(_dense(dims, seen)[d] for d in seen)  # type: ignore[index]
            self._add(node, r, dense)
        return node

    def _store(self, s: int) -> None:
        """Give the newest version of a storage a buffer."""
        value = self.values.get(s)
        if value is None or value.stored:
            return
        value.stored = True
        node = self._generated(value.ops[-1], value.reads, value.dims, value.strides, (), value.ops)
        self._writes(node, value.buffer, value.nbytes)

    def _express(self, number: int, value: _Value, reads: Iterable[_Read], window: int = 1) -> None:
        """The result is an expression of these reads, stored if that is worth it (graph.py, run_node)."""
        f = self.launched[number].facts
        name = f.name.rstrip("_")
        value.reads = list(dict.fromkeys(reads))
        value.length, value.heavy = _LENGTHS.get(name, 3) + _TAP * (window - 1), name in _HEAVY
        # an in-place operator reads the version before, whose expression goes into this one
        for source in self.before:
            if not source.stored:
                value.ops += source.ops
                value.length += source.length
                value.heavy = value.heavy or source.heavy
        value.ops = [*dict.fromkeys(value.ops), number]
        taps = sum(r.taps for r in value.reads)
        long = value.length > _LENGTH[self.kind]
        reused = value.users > 1 and (taps > _REUSED_READS or long or self._dear(value))
        # a user that needs it stored lets the others read it too
        wanted = value.users > 1 and taps > 1 and any(_is_library(self.launched[u].facts) for u in self._users_of(value))
        if reused or wanted or taps > _READS[self.kind] or long:
            if (reused or taps > _READS[self.kind] or long) and len(value.dims) == 4 and number < self.final:
                self._turn(value)  # graph.py, maybe_apply_channels_last_stride_order
            self._store(value.buffer.storage)

    def _turn(self, value: _Value) -> None:
        """Lay an expression out channels-last as its first reader sees it; what it reads stays as it is."""
        s = value.buffer.storage
        # an expression of another rank, seen through a view, is only turned as that view asks
        own = _dense(value.dims, (0, 2, 3, 1)) if len(value.dims) == 4 else value.strides
        for number in self._users_of(value)[:1]:
            _, op, f = self.launched[number]
            seen = f.spec.inputs[op.inputs.index(s)]
            steps = self._steps(s, seen, seen.shape)
            at = {step: d for d, (step, n) in enumerate(zip(value.strides, value.dims, strict=True)) if n > 1}
            if steps is not None and len(steps) == 4 and all(not step or step in at for step in steps):
                order = [at[steps[d]] for d in (0, 2, 3, 1) if steps[d]]
                if len(order) == len(at):
                    own = _dense(value.dims, [*(d for d, n in enumerate(value.dims) if n == 1), *order])
        if own == value.strides:
            return
        turn = {old: (new, n) for old, new, n in zip(value.strides, own, value.dims, strict=True) if n > 1}
        before = self.turned.get(s)
        self.turned[s] = turn if before is None else {e: turn[step] for e, (step, _) in before.items() if step in turn}
        value.strides = own

    def _dear(self, value: _Value) -> bool:
        return value.heavy and self.kind == "cpu"

    def _users_of(self, value: _Value) -> list[int]:
        return self.users.get((value.buffer.storage, value.buffer.version), [])

    # -------------------------------------------------------------------------------- operators

    def lower(self, number: int) -> None:
        _, op, f = self.launched[number]
        self.before = [v for s in dict.fromkeys(op.inputs) if (v := self.values.get(s)) is not None]
        if _is_library(f):
            self._library(number)
        elif not op.outputs:
            self._node(number, self._reads(number, ()), [number])
        elif f.name == "group_norm" or (f.klass == "norm" and not _folded(f.spec)):
            self._norm(number)
        elif f.klass == "softmax":
            self._softmax(number)
        elif f.klass == "reduction" or _averages_all(f.spec):
            self._reduction(number)
        elif f.name.startswith("max_pool") and len(op.outputs) == 1 and _window(f) >= _UNROLLED:
            self._max_pool(number)
        elif f.name == "cat" and len(op.inputs) > 1 and not self._cat_at_once(number):
            self._cat(number)
        else:
            self._pointwise(number)

    def _pointwise(self, number: int) -> None:
        _, op, f = self.launched[number]
        window = _window(f) if f.klass == "pool" else 1
        moved = window > 1 or f.klass == "gather" or (f.name in _MOVES and len(op.inputs) + (f.name != "cat") > 1)
        if window > 1:
            self._read_often(number)
        for s, t in zip(op.inputs, f.spec.inputs, strict=True):
            # what is computed for one and used for many (lowering.py, expand)
            value = self.values.get(s)
            if value is not None and t.numel < f.spec.out.numel and (value.length > _LENGTH[self.kind] or self._dear(value)):
                self._store(s)
        before = self.values.get(op.outputs[0])
        partial = f.writes and f.writes[0] < self.trace.storages[op.outputs[0]].nbytes
        if partial and len(op.outputs) == 1 and op.outputs[0] in op.inputs and before is not None:
            self._slice(number, before)
            return
        if partial or len(op.outputs) > 1:
            self._at_once(number)
            return
        reads = self._reads(number, f.spec.out.shape, moved, window)
        self._express(number, self._result(number), reads, window)

    def _read_often(self, number: int) -> None:
        """A window reads its input several times: what takes more than one read is stored (lowering.py, realize_hint)."""
        for s in self.launched[number].op.inputs:
            value = self.values.get(s)
            if value is not None and sum(r.taps for r in value.reads) > 1:
                self._store(s)

    def _max_pool(self, number: int) -> None:
        """A reduction over the window, in code that is not unrolled (lowering.py, _max_pool_with_offsets)."""
        f = self.launched[number].facts
        self._read_often(number)
        window = _window(f)
        reads = self._reads(number, f.spec.out.shape, True, window)
        members = self._expressed(number)
        value = self._result(number)
        node = self._generated(number, reads, value.dims, value.strides, (), members)
        node.reduced = (window,)
        node.loops = _Loop(node.total, window)
        node.total *= window
        value.stored = True
        self._writes(node, value.buffer, value.nbytes)

    def _slice(self, number: int, before: _Value) -> None:
        """A part written in place: an expression for the whole, of what was there and what comes in (slice_scatter)."""
        _, op, f = self.launched[number]
        s = op.outputs[0]
        size = self.trace.storages[s].nbytes
        reads = list(before.reads) if not before.stored else [_Read(before.buffer, -1, size, before.strides)]
        for source, nbytes in zip(op.inputs, f.reads, strict=True):
            if nbytes and source != s:
                reads += self._read(number, source, nbytes, None, 1, number + 1)
        value = _Value(before.buffer._replace(version=before.buffer.version + 1), before.dims, before.strides, size)
        value.users = len(self.users.get((s, value.buffer.version), ()))
        self.values[s] = value
        self._express(number, value, reads)

    def _at_once(self, number: int) -> None:
        """Several results, or a part of a storage written in place: stored by a kernel of its own."""
        _, op, f = self.launched[number]
        for s in op.outputs:
            self._store(s)
        reads = self._reads(number, f.spec.out.shape)
        waits = [n for s in op.outputs for n in self.made.get(self._buffer(s), ())]
        node = self._generated(number, reads, f.spec.out.shape, strides(f.spec.out), (), [number])
        node.needs.update(waits)
        for at, s in enumerate(op.outputs):
            self.kept.add(self._buffer(s))
            value = self._result(number, at)
            value.stored = True
            self._writes(node, value.buffer, f.writes[at])
            self.kept.add(value.buffer)

    def _reduction(self, number: int) -> None:
        _, op, f = self.launched[number]
        x, axes = f.spec.inputs[0], _reduced_axes(f.spec)
        size = prod(x.shape[d] for d in axes)
        if size < _UNROLLED and len(op.outputs) == 1 and (self.kind == "gpu" or size < x.numel):
            reads = self._reads(number, x.shape, True, size)
            self._express(number, self._result(number), reads, size)
            return
        reads = self._reads(number, x.shape)
        node = self._generated(number, reads, x.shape, self._layout(op.inputs[0], x), axes, self._expressed(number))
        if f.name == "mean" or _averages_all(f.spec):  # a sum, and a division that is an expression
            value = self._result(number)
            kept = value.buffer._replace(step=1)
            self._writes(node, kept, value.nbytes)
            self._express(number, value, [_Read(kept, -1, value.nbytes, value.strides)])
            return
        for at in range(len(op.outputs)):
            value = self._result(number, at)
            value.stored = True
            self._writes(node, value.buffer, f.writes[at])

    def _expressed(self, number: int) -> list[int]:
        """The op and those whose expressions it computes."""
        return [m for v in self.before if not v.stored for m in v.ops] + [number]

    def _layout(self, s: int, t: TensorSpec) -> tuple[int, ...]:
        return self._steps(s, t, t.shape) or strides(t)

    def _norm(self, number: int) -> None:
        _, op, f = self.launched[number]
        x, axes = f.spec.inputs[0], _norm_axes(f.spec)
        layout = self._layout(op.inputs[0], x)
        members = self._expressed(number)
        every = self._reads(number, x.shape)
        params = {self._buffer(s) for s in op.inputs[1:]}
        data = [r for r in every if r.buffer not in params]
        groups = f.spec.args[1] if f.name == "group_norm" and isinstance(f.spec.args[1], int) else 1
        rows = _dense(x.shape, [d for d in sorted(range(len(x.shape)), key=lambda d: -layout[d]) if d not in axes])
        steps: tuple[int, ...] | None = tuple(0 if d in axes else step for d, step in enumerate(rows))
        stats = self._generated(number, data, x.shape, layout, axes, members)
        value = self._result(number)
        outer = prod(x.shape) // max(prod(x.shape[d] for d in axes), 1) * groups
        kept = _Buffer(value.buffer.storage, value.buffer.version, 1)
        if f.name == "group_norm":
            stats.loops = _Loop(outer, prod(x.shape) // outer)
            if self.kind == "cpu":
                # a mean of each group, then a scale and a shift of each channel (decompositions.py, native_group_norm)
                stats.vars, stats.reduced = (outer,) if outer > 1 else (), (-1,)
                every, per_channel = data, 8 * x.shape[0] * x.shape[1]
                if outer == 1:  # no loop outside of the reduction to share
                    self._writes(stats, kept, 8)
                    stats = self._node(number, [], [])
                    self._add(stats, _Read(kept, -1, 8, None), False)
                    kept = kept._replace(step=2)
                for s, nbytes in zip(op.inputs[1:], f.reads[1:], strict=True):
                    self._add(stats, _Read(self._buffer(s), -1, nbytes, None), False)
                self._writes(stats, kept, per_channel)
                channel = tuple(x.shape[1] if d == 0 else int(d == 1) for d in range(len(x.shape)))
                moved = number + 1 if groups > 1 or outer == 1 else 0
                self._express(number, value, [*every, _Read(kept, -1, per_channel, channel, 2, moved)])
                return
        if self.kind == "cpu" and f.name == "layer_norm" and prod(x.shape) // outer < _TWO_STEP:
            # the mean, divided; then the variance from it (lowering.py, use_two_step_variance)
            self._writes(stats, kept, 4 * outer)
            small = tuple(1 if d in axes else n for d, n in enumerate(x.shape))
            mean = self._generated(number, [_Read(kept, -1, 4 * outer, steps)], small, rows)
            self._writes(mean, kept._replace(step=2), 4 * outer)
            middle = _Read(kept._replace(step=2), -1, 4 * outer, steps)
            spread = self._generated(number, [*data, middle], x.shape, layout, axes)
            self._writes(spread, kept._replace(step=3), 4 * outer)
            self._express(number, value, [*every, middle, _Read(kept._replace(step=3), -1, 4 * outer, steps)])
            return
        self._writes(stats, kept, 8 * outer)
        self._express(number, value, [*every, _Read(kept, -1, 8 * outer, steps, 1 if f.name == "rms_norm" else 2)])

    def _softmax(self, number: int) -> None:
        _, op, f = self.launched[number]
        x = f.spec.inputs[0]
        dim = f.spec.args[1] if len(f.spec.args) > 1 and isinstance(f.spec.args[1], int) else -1
        axes = [dim % max(len(x.shape), 1)]
        reads, layout, members = self._reads(number, x.shape), self._layout(op.inputs[0], x), self._expressed(number)
        rows = _dense(x.shape, [d for d in sorted(range(len(x.shape)), key=lambda d: -layout[d]) if d not in axes])
        steps = tuple(0 if d in axes else step for d, step in enumerate(rows))
        top = self._generated(number, reads, x.shape, layout, axes, members)
        value = self._result(number)
        buffers = [_Buffer(value.buffer.storage, value.buffer.version, step) for step in (1, 2, 3)]
        small = max(value.nbytes // max(x.shape[axes[0]], 1), 1) if x.shape else value.nbytes
        self._writes(top, buffers[0], small)
        maximum = _Read(buffers[0], -1, small, steps)
        if self.kind == "cpu":  # the exponentials are used twice, so they have a buffer
            powers = self._generated(number, [*reads, maximum], x.shape, value.strides)
            self._writes(powers, buffers[1], value.nbytes)
            reads = [_Read(buffers[1], -1, value.nbytes, value.strides)]
            total = self._generated(number, reads, x.shape, value.strides, axes)
            self._writes(total, buffers[2], small)
            maximum = _Read(buffers[2], -1, small, steps)
        self._express(number, value, [*reads, maximum])

    def _cat_at_once(self, number: int) -> bool:
        """Whether one kernel reads all inputs: never on a CPU; by lowering.py, cat, on a GPU."""
        op = self.launched[number].op
        sources = list(dict.fromkeys(op.inputs))
        if self.kind == "cpu" or len(op.inputs) > _MAX_CAT:
            return False
        lowered = []
        for s in sources:
            value = self.values.get(s)
            users = [u for u in self._users_of(value) if u != number] if value else []
            pointwise = [u for u in users if self.launched[u].facts.klass == "pointwise"]
            if pointwise or (users and value is not None and not value.stored):
                return False
            lowered.append(value is None or not value.stored or not self._open(value.buffer))
        at = (op.outputs[0], self._buffer(op.outputs[0]).version + 1)
        uses = [self.launched[u].facts.klass for u in self.users.get(at, [])]
        return all(lowered) or (any(lowered) and all(klass == "pointwise" for klass in uses))

    def _open(self, buffer: _Buffer) -> bool:
        """Whether it can still be made inside of another buffer: by generated code, and no library call has read it."""
        makers = self.made.get(buffer, [])
        return buffer not in self.frozen and buffer not in self.inside and bool(makers) and all(n.fusable for n in makers)

    def _cat(self, number: int) -> None:
        """Every input is made, or copied, into its place by a kernel of its own (ir.py, ConcatKernel)."""
        _, op, f = self.launched[number]
        whole = [
            n >= self.trace.storages[s].nbytes and op.inputs.count(s) == 1 for s, n in zip(op.inputs, f.reads, strict=True)
        ]
        inputs = [(s, n, t, w) for s, n, t, w in zip(op.inputs, f.reads, f.spec.inputs, whole, strict=True) if n]
        taken = [(*i, list(self._read(number, *i[:2], self._steps(i[0], i[2], i[2].shape), 1, 0))) for i in inputs]
        result = self._result(number)
        result.stored = True
        makers: list[_Node] = []
        for s, nbytes, t, w, reads in taken:
            value = self.values.get(s)
            if w and value is not None:
                self._store(s)
                if self._open(value.buffer):
                    self.inside[value.buffer] = result.buffer
                    for node in self.made[value.buffer]:
                        makers.append(node)
                        if node.shape == t.shape and not node.reduced:  # it writes with gaps now
                            node.vars = _merged(node.walk[0], t.shape, [*node.walk[1], result.strides])
                    continue
                reads = list(self._read(number, s, nbytes, self._steps(s, t, t.shape), 1, 0))
            members = [number] if value is None or value.stored else [*value.ops, number]
            node = self._generated(number, reads, t.shape, result.strides, (), members)
            node.writes[result.buffer] = nbytes
            makers.append(node)
        self.made[result.buffer] = makers
        self.count += 1
        self.kept.add(result.buffer)
        self.frozen.add(result.buffer)
        if number not in self.assigned and makers:
            self.assigned.add(number)
            makers[-1].members.append(number)

    def _library(self, number: int) -> None:
        _, op, f = self.launched[number]
        node_reads = []
        for i, (s, nbytes, t) in enumerate(zip(op.inputs, f.reads, f.spec.inputs, strict=True)):
            image = i == 0 and f.klass in _CONVS and self.last and len(t.shape) == 4
            if image and self._is_expression(s, t):
                self._turn(self.values[s])
            if i == 1 and self._is_square(f) and self._is_expression(s, t):
                self._turn(self.values[s])
            self._store(s)
            if not nbytes:
                continue
            buffer = self._buffer(s)
            made = i == 1 and self._is_square(f) and len(t.shape) == 4 and buffer in self.made
            if made and not self._channels_last_weight(s, t):  # only a 4-d expression comes out channels-last by itself
                buffer = self._copied(number, s, t, nbytes, (0, 2, 3, 1), "channels_last")
            elif image:
                buffer = self._as_channels_last(number, s, t, nbytes)
            elif s in self.turned and self._steps(s, t, t.shape) is None:
                buffer = self._copied(number, s, t, nbytes)
            node_reads.append(_Read(buffer, -1 if nbytes >= self.trace.storages[s].nbytes else number, nbytes, None))
            self.frozen.add(buffer)
        waits = [n for s in op.outputs for n in self.made.get(self._buffer(s), ())]
        self.count += self._is_square(f)
        node = self._node(number, node_reads, [number], False)
        node.needs.update(waits)
        for at, s in enumerate(op.outputs):
            if s in op.inputs:
                self.kept.add(self._buffer(s))
            value = self._result(number, at)
            value.stored = True
            self._writes(node, value.buffer, f.writes[at])

    def _is_square(self, f: Facts) -> bool:
        """A convolution whose weight has a layout: more than one tap, and more than one channel a group."""
        if not self.last or f.klass not in ("conv", "grouped_conv") or f.dims.get("transposed"):
            return False
        return f.dims.get("r", 1) * f.dims.get("s", 1) > 1

    def _is_expression(self, s: int, t: TensorSpec) -> bool:
        value = self.values.get(s)
        return value is not None and not value.stored and value.dims == t.shape

    def _channels_last_weight(self, s: int, t: TensorSpec) -> bool:
        steps = self._steps(s, t, t.shape)
        return steps is not None and (t.shape[1] == 1 or steps[1] == 1)

    def _as_channels_last(self, number: int, s: int, t: TensorSpec, nbytes: int) -> _Buffer:
        """What a convolution reads: the tensor, or a copy where its channels are not innermost (an image)."""
        buffer = self._buffer(s)
        steps = self._steps(s, t, t.shape)
        ordered = steps is not None and (t.shape[1] == 1 or steps[1] == 1)
        value = self.values.get(s)
        if ordered or prod(t.shape[2:]) == 1 or t.shape[1] == 1:
            if t.shape[0] == 1 and value is not None and value.dims != t.shape:
                self.viewed.add(number)
            return buffer
        if value is not None and value.dims == t.shape and self._open(buffer):  # its layout is still to be chosen
            self._turn(value)
            for maker in self.made[buffer]:
                if maker.shape == t.shape:
                    inner: tuple[int, ...] = (0, 2, 3, 1)
                    order = [d for d in inner if d in maker.walk[0]]
                    maker.walk = (order, maker.walk[1])
                    maker.vars = _merged(order, t.shape, [*maker.walk[1], value.strides])
            return buffer
        return self._copied(number, s, t, nbytes, (0, 2, 3, 1), "channels_last")

    def _copied(
        self, number: int, s: int, t: TensorSpec, nbytes: int, order: Iterable[int] | None = None, label: str = "clone"
    ) -> _Buffer:
        """A copy of what a library call reads, in a layout that it takes."""
        kept = self._buffer(s)._replace(step=_COPY + number)
        reads = list(self._read(number, s, nbytes, self._steps(s, t, t.shape), 1, 0))
        copy = self._generated(number, reads, t.shape, _dense(t.shape, range(len(t.shape)) if order is None else order))
        copy.label = label
        self._writes(copy, kept, nbytes)
        return kept

    def finish(self) -> None:
        """What the caller gets is stored."""
        for s in list(self.values):
            if self.trace.storages[s].died < 0:
                self._store(s)


# ------------------------------------------------------------------------------------------------ 2. scheduling


def _root(node: _Node) -> _Node:
    """The kernel that a node was merged into."""
    while node.into is not None:
        node = node.into
    return node


def _schedule(nodes: list[_Node], made: dict[_Buffer, list[_Node]], kind: str) -> None:
    """Merge kernels that share buffers, those that share most first, until nothing more fits (scheduler.py, fuse_nodes)."""
    while True:
        sharing: dict[_Buffer, dict[_Node, None]] = {}
        for node in nodes:
            root = _root(node)
            if root.fusable:
                for buffer in (*(b for b, _ in node.reads), *node.writes):
                    sharing.setdefault(buffer, {})[root] = None
        heap: list[tuple[int, int, int, int]] = []
        seen: set[tuple[int, int]] = set()
        for users in sharing.values():
            if not 1 < len(users) <= _MAX_FUSED:
                continue
            for a, b in combinations(sorted(users, key=lambda n: n.number), 2):
                if (a.number, b.number) in seen:
                    continue
                seen.add((a.number, b.number))
                shared = _shared(a, b)
                if shared:
                    far = int(kind == "cpu" and bool(a.reduced) and not b.reduced)
                    heapq.heappush(heap, (far, -shared, a.number, b.number))
        merged = False
        while heap:
            _, _, i, j = heapq.heappop(heap)
            a, b = _root(nodes[i]), _root(nodes[j])
            if a is b:
                continue
            if b.number < a.number:
                a, b = b, a
            if _fits(a, b, kind) and not _cycle([a, b]):
                _merge(a, b)
                merged = True
        if not merged:
            return


def _shared(a: _Node, b: _Node) -> int:
    """Bytes that one kernel would move once less: what `b` reads of `a` at the same places, and what both read."""
    found = 0
    for (buffer, part), access in b.reads.items():
        if buffer in a.writes:
            if not access.dense:
                return 0
            found += access.nbytes
            continue
        other = a.reads.get((buffer, part))
        if part < 0 and other is not None and ((access.dense and other.dense) or access.walks & other.walks):
            found += access.nbytes
    return found


def _fits(a: _Node, b: _Node, kind: str) -> bool:
    if a.parts + b.parts > _MAX_FUSED or not _shared(a, b):
        return False
    if max(abs(a.order[0] - b.order[1]), abs(b.order[0] - a.order[1])) > _DISTANT:
        return False
    if kind == "gpu":
        return _fits_by_size(a, b)
    uses = any(buffer in a.writes for buffer, _ in b.reads)
    if uses and a.reduced:
        # what follows a reduction joins it in the loops that both have outside (codegen/cpp.py, can_fuse_vertical_outer_loop)
        depth = min(len(a.vars), len(b.vars))
        return depth > 0 and a.vars[:depth] == b.vars[:depth]
    if a.vars == b.vars and a.reduced == b.reduced:
        return True
    if not a.reduced and b.reduced:
        return a.vars == b.vars + b.reduced
    if not b.reduced and a.reduced:
        return not uses and b.vars == a.vars + a.reduced
    # a single loop over everything takes the loops of the other (codegen/cpp.py, _can_fuse_nodes_with_compatible_ranges)
    flat = a if len(a.vars) < len(b.vars) else b
    if not a.reduced and prod(a.vars) == prod(b.vars) and len(flat.vars) == 1:
        return flat.parts == 1 and a.shape == b.shape
    return False


def _fits_by_size(a: _Node, b: _Node) -> bool:
    """Whether they run over the same elements, with at most one kind of reduction."""
    loops = {p.loops for p in (a, b) if p.loops is not None}
    if len(loops) > 1:
        return False
    if not loops:
        return a.total == b.total
    loop = next(iter(loops))
    return {a.total, b.total} <= {loop.outer * loop.reduced, loop.outer}


def _merge(a: _Node, b: _Node) -> None:
    b.into = a
    a.members += b.members
    a.needs |= b.needs
    a.parts += b.parts
    a.last = max(a.last, b.last)
    a.order = (min(a.order[0], b.order[0]), max(a.order[1], b.order[1]))
    for key, access in b.reads.items():
        a.reads[key] = a.reads.get(key, _Access()) | access
    a.writes |= b.writes
    a.shape = a.shape if a.shape == b.shape else None
    if (b.reduced and not a.reduced) or (not a.reduced and len(b.vars) > len(a.vars)):
        a.vars, a.reduced = b.vars, b.reduced
    a.loops = a.loops or b.loops
    a.total = max(a.total, b.total)


def _cycle(parts: list[_Node]) -> bool:
    """Whether a kernel outside would have to run both after and before the merged one."""
    inside = set(parts)
    oldest = min(p.number for p in parts)
    stack = [n for p in parts for need in p.needs if (n := _root(need)) not in inside]
    seen = set(stack)
    while stack:
        n = stack.pop()
        if n.last < oldest:
            continue
        for before in map(_root, n.needs):
            if before in inside:
                return True
            if before not in seen:
                seen.add(before)
                stack.append(before)
    return False


# ------------------------------------------------------------------------------------------------ 3. from groups to kernels


def _emit(trace: Trace, launched: list[_Launch], lowering: _Lowering, last: bool) -> list[Kernel]:
    roles = roles_of(trace)
    roots = _sorted({id(r): r for r in map(_root, lowering.nodes)}.values())
    written = _written(trace, lowering, roots)
    place: dict[_Node, int] = {}
    done: list[Kernel] = []
    for node in roots:
        reads: dict[_Buffer, tuple[int, int]] = {}
        for (buffer, part), (nbytes, *_) in node.reads.items():
            makers = [_root(n) for n in lowering.made.get(buffer, ())]
            if nbytes and not (makers and all(m is node for m in makers)):
                before = reads.get(buffer, (0, -1))[0]
                size = max(trace.storages[buffer.storage].nbytes, nbytes)
                moved = max(before, nbytes) if part < 0 else min(before + nbytes, size)
                reads[buffer] = (moved, max((place.get(m, -1) for m in makers), default=-1))
        operands = [Operand(n, b.storage, roles[b.storage], False, producer) for b, (n, producer) in reads.items()]
        operands += [
            Operand(n, b.storage, roles[b.storage], True) for b, n in node.writes.items() if b in written or not node.fusable
        ]
        if node.fusable and not operands:
            continue
        members = [launched[m] for m in sorted(node.members)]
        again = [] if members else [launched[node.op]]
        kernel = _fused(members or again, tuple(operands)) if node.fusable else _library(members[0], tuple(operands))
        if node.fusable:
            outer = node.loops.outer if node.loops else 0
            shared = sharing.sizes(node.total, outer, [m.facts for m in members or again], last)
            kernel = msgspec.structs.replace(kernel, dims=kernel.dims | shared)
        if again:  # what it computes has been counted where it was computed first
            kernel = msgspec.structs.replace(kernel, op=node.label or kernel.op, klass=_again(kernel.klass), flops=0, macs=0)
            kernel = msgspec.structs.replace(kernel, dims=kernel.dims | {"welford": 0})
        if kernel.klass in _CONVS:  # the bias joins the generated kernel that follows
            if last:
                done += _weight_copy(kernel)
            kernel = msgspec.structs.replace(
                kernel, dims=kernel.dims | {"last": int(last), "bias": 0, "viewed": int(node.op in lowering.viewed)}
            )
        place[node] = len(done)
        done.append(kernel)
    return done


def _again(klass: str) -> str:
    return "layout" if klass in LIBRARY else klass


def _sorted(roots: Iterable[_Node]) -> list[_Node]:
    """Kernels in an order in which everything that one reads is there."""
    waiting: dict[_Node, set[_Node]] = {}
    after: dict[_Node, list[_Node]] = {}
    for node in roots:
        needs = {n for n in map(_root, node.needs) if n is not node}
        waiting[node] = needs
        for n in needs:
            after.setdefault(n, []).append(node)
    heap = [(n.last, n.number, n) for n, needs in waiting.items() if not needs]
    heapq.heapify(heap)
    order: list[_Node] = []
    while heap:
        _, _, node = heapq.heappop(heap)
        order.append(node)
        for n in after.get(node, ()):
            waiting[n].discard(node)
            if not waiting[n]:
                heapq.heappush(heap, (n.last, n.number, n))
    return order


def _written(trace: Trace, lowering: _Lowering, roots: list[_Node]) -> set[_Buffer]:
    """Buffers that are written to memory: some other kernel reads them, or the caller gets them."""
    found = set(lowering.kept)
    for node in roots:
        for buffer, _ in node.reads:
            if any(_root(n) is not node for n in lowering.made.get(buffer, ())):
                found.add(buffer)
    for s, value in lowering.values.items():
        if trace.storages[s].died < 0:
            found.add(value.buffer)
    return found | {inner for inner, outer in lowering.inside.items() if outer in found}


def _weight_copy(conv: Kernel) -> Iterator[Kernel]:
    """A row-major k x k weight is copied to channels-last before every call; one that a generated kernel made came out so."""
    d = conv.dims
    if d.get("r", 1) * d.get("s", 1) == 1 or d.get("c", 1) == d.get("g", 1) or d.get("transposed"):
        return
    weight = max((o for o in conv.operands if o.role == "parameter"), key=lambda o: o.bytes, default=None)
    if weight is not None and weight.producer < 0:
        copied = (Operand(weight.bytes, weight.storage, weight.role), Operand(weight.bytes, weight.storage, "weight", True))
        yield Kernel(
            conv.layer, "channels_last", "layout", conv.ops, conv.dtype, conv.shape, 0, 0, copied,
            {"generated": 1, "loop": weight.bytes * 8 // DTYPE_BITS[conv.dtype]}, phase=conv.phase,
        )  # fmt: skip


def _library(launch: _Launch, operands: tuple[Operand, ...]) -> Kernel:
    number, op, f = launch
    work = f.work or Work(0, 0)
    return Kernel(
        op.layer, f.name, f.klass, (number,), f.dtype, f.shape, work.flops, work.macs, operands, f.dims, f.work is not None,
        op.phase,
    )  # fmt: skip


def _fused(members: list[_Launch], operands: tuple[Operand, ...]) -> Kernel:
    facts = [m.facts for m in members]
    names = list(dict.fromkeys(f.name.rstrip("_") for f in facts))
    label = "+".join(names) if len(names) < 5 else "+".join([*names[:3], f"{len(names) - 3} more"])
    klasses = {"pointwise" if _folded(f.spec) else f.klass for f in facts}
    klass = next(k for k in (*_ORDER, *sorted(klasses)) if k in klasses)
    biggest = max(facts, key=lambda f: f.spec.outputs[0].numel if f.spec.outputs else 0)
    dtype = max((f.dtype for f in facts), key=DTYPE_BITS.__getitem__)
    flops, macs = (sum(counts) for counts in zip(*(f.work or Work(0, 0) for f in facts), strict=True))
    dims = (biggest.dims if len(facts) == 1 else {}) | {"generated": 1}
    return Kernel(
        members[0].op.layer, label, klass, tuple(m.number for m in members), dtype, biggest.shape, flops, macs, operands, dims,
        all(f.work is not None for f in facts), members[0].op.phase,
    )  # fmt: skip
