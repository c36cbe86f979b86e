"""The `compiled` runtime: which kernels torch.compile (Inductor) makes of a trace.

Convolutions, products, attention, recurrent layers, sorts and the like stay library calls. Everything else is generated
code: pointwise operators, copies, gathers, small pooling windows, reductions and norms. An operator joins the kernel that
produces its input, or one that reads the same tensor, where both run over the same elements (or one reduces over them) and
nothing in between has to run first. What is produced and used inside one kernel moves no bytes.

Batch norm in eval mode is such a pointwise operator: without `freezing`, which is off by default, Inductor folds it into
no convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from roofline.kernels import Facts, launches, roles_of
from roofline.records import DTYPE_BITS, Kernel, Op, Operand, OpSpec, Trace, Work

LIBRARY = frozenset({"gemm", "conv", "grouped_conv", "depthwise_conv", "attention", "rnn", "sort", "fft", "host", "other"})
# Inductor unrolls a pooling window of up to this many taps; a larger one is a library call.
_MAX_WINDOW = 25
# Reads its input more than once, so what produces the input is not computed inside it.
_REREADS = frozenset({"pool", "gather"})
_CONVS = frozenset({"conv", "grouped_conv", "depthwise_conv"})
# the most telling class of a fused kernel, first
_ORDER = ("softmax", "norm", "reduction", "pool", "gather", "layout", "pointwise")


class _Loop(NamedTuple):
    """What an operator runs over: `outer` results, each from `reduced` elements (1: pointwise)."""

    outer: int
    reduced: int


class _Node:
    """One kernel in the making."""

    __slots__ = ("first", "fusable", "into", "last", "loops", "members", "needs", "total")

    def __init__(self, index: int, fusable: bool) -> None:
        self.first = self.last = index
        # indices into the list of launched ops
        self.members = [index]
        self.fusable = fusable
        # elements that it runs over, and the reduction in it, if any
        self.total = 0
        self.loops: _Loop | None = None
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
    return _emit(trace, launched, _group(trace, launched), last)


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


def _loop(spec: OpSpec, klass: str) -> tuple[int, _Loop | None]:
    """Elements that a generated operator runs over, and its reduction."""
    out = spec.outputs[0].numel if spec.outputs else 0
    if klass == "norm" and not _folded(spec):
        return out, _Loop(out // max(_norm_size(spec), 1), _norm_size(spec))
    if klass == "softmax":
        dim = spec.args[1] if len(spec.args) > 1 and isinstance(spec.args[1], int) else -1
        size = spec.out.shape[dim] if spec.out.shape else 1
        return out, _Loop(out // max(size, 1), size)
    if klass == "reduction" or _averages_all(spec):
        total = max((t.numel for t in spec.inputs), default=out)
        return total, _Loop(out, total // max(out, 1))
    return out, None


def _folded(spec: OpSpec) -> bool:
    """Batch norm with stored statistics: a scale and a shift."""
    return spec.name.endswith("batch_norm") and not (len(spec.args) > 5 and spec.args[5] is True)


def _averages_all(spec: OpSpec) -> bool:
    return spec.name == "aten.adaptive_avg_pool2d" and spec.out.shape[-2:] == (1, 1)


def _norm_size(spec: OpSpec) -> int:
    """Elements that share one mean and variance."""
    x = spec.inputs[0]
    if spec.name == "aten.group_norm" and isinstance(spec.args[1], int):
        return x.numel // max(x.shape[0] * spec.args[1], 1)
    if spec.name in ("aten.layer_norm", "aten.rms_norm") and isinstance(spec.args[1], list):
        size = 1
        for n in spec.args[1]:
            size *= n if isinstance(n, int) else 1
        return size
    if spec.name == "aten.batch_norm":
        return x.numel // max(x.shape[1], 1)
    return x.shape[-1] if x.shape else 1


def _is_library(f: Facts) -> bool:
    if f.klass == "pool" and not _averages_all(f.spec):
        window = f.dims.get("r", 1) * f.dims.get("s", 1)
        return window > _MAX_WINDOW or f.name.startswith("adaptive")
    return f.klass in LIBRARY


def _root(node: _Node) -> _Node:
    """The kernel that a node was merged into."""
    while node.into is not None:
        node = node.into
    return node


def _group(trace: Trace, launched: list[_Launch]) -> list[_Node]:
    """Which launched ops share a kernel: one node per op, the same object where they do."""
    of: list[_Node] = []
    writer: dict[int, _Node] = {}
    version: dict[int, int] = {}
    readers: dict[tuple[int, int], list[_Node]] = {}
    for number, (_, op, f) in enumerate(launched):
        node = _Node(number, not _is_library(f))
        node.needs = {_root(writer[s]) for s in op.inputs if s in writer}
        if node.fusable:
            node.total, node.loops = _loop(f.spec, f.klass)
            sizes = zip(op.inputs, f.reads, strict=True)
            whole = [(s, version.get(s, 0)) for s, n in sizes if n >= trace.storages[s].nbytes > 0]
            rereads = f.klass in _REREADS and not _averages_all(f.spec)
            producers = [] if rereads else sorted(node.needs, key=lambda n: -n.last)
            node = _join(node, [*producers, *(n for key in whole for n in readers.get(key, ()))])
            for key in whole:
                readers.setdefault(key, []).append(node)
        of.append(node)
        for s in op.outputs:
            writer[s] = node
            version[s] = version.get(s, 0) + 1
    return [_root(n) for n in of]


def _join(node: _Node, candidates: list[_Node]) -> _Node:
    """Merge an op into the kernels that can take it; returns the kernel that it is part of."""
    chosen: list[_Node] = []
    for candidate in candidates:
        other = _root(candidate)
        if other.fusable and other not in chosen and _fits(node, other, chosen) and not _cycle([*chosen, other, node]):
            chosen.append(other)
    if not chosen:
        return node
    keep = min(chosen, key=lambda n: n.first)
    for other in [*chosen, node]:
        if other is not keep:
            other.into = keep
            keep.members += other.members
            keep.needs |= other.needs
            keep.loops = keep.loops or other.loops
            keep.total = max(keep.total, other.total)
    keep.last = node.last
    return keep


def _fits(node: _Node, other: _Node, chosen: list[_Node]) -> bool:
    """Whether they run over the same elements, with at most one kind of reduction."""
    parts = [node, other, *chosen]
    loops = {p.loops for p in parts if p.loops is not None}
    if len(loops) > 1:
        return False
    totals = {p.total for p in parts}
    if not loops:
        return len(totals) == 1
    loop = next(iter(loops))
    return totals <= {loop.outer * loop.reduced, loop.outer}


def _cycle(parts: list[_Node]) -> bool:
    """Whether a kernel outside would have to run both after and before the merged one."""
    inside = set(parts)
    oldest = min(p.first for p in parts)
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


# ------------------------------------------------------------------------------------------------ from groups to kernels


def _emit(trace: Trace, launched: list[_Launch], of: list[_Node], last: bool) -> list[Kernel]:
    roles = roles_of(trace)
    reads, writes = _outside(trace, launched, of)
    # a kernel runs once everything it reads is there: at its last member
    place: dict[int, int] = {}
    done: list[Kernel] = []
    for node in sorted({id(n): n for n in of}.values(), key=lambda n: n.last):
        operands = [
            Operand(nbytes, s, roles[s], False, place.get(id(made), -1)) for (s, _), (nbytes, made) in reads[id(node)].items()
        ]
        operands += [Operand(nbytes, s, roles[s], True) for s, nbytes in writes[id(node)].items()]
        members = [launched[m] for m in sorted(node.members)]
        if node.fusable and not operands:
            continue
        kernel = _fused(members, tuple(operands)) if node.fusable else _library(members[0], tuple(operands))
        if kernel.klass in _CONVS:  # the bias joins the generated kernel that follows
            if last:
                done += _weight_copy(kernel)
            kernel = msgspec.structs.replace(kernel, dims=kernel.dims | {"last": int(last), "bias": 0})
        place[id(node)] = len(done)
        done.append(kernel)
    return done


_Reads = dict[int, dict[tuple[int, int], tuple[int, "_Node | None"]]]


def _outside(trace: Trace, launched: list[_Launch], of: list[_Node]) -> tuple[_Reads, dict[int, dict[int, int]]]:
    """Bytes that each kernel reads from others (by storage and version) and writes for others or for the caller."""
    reads: _Reads = {id(n): {} for n in of}
    writes: dict[int, dict[int, int]] = {id(n): {} for n in of}
    made: dict[int, tuple[_Node, int]] = {}
    version: dict[int, int] = {}
    for (_, op, f), node in zip(launched, of, strict=True):
        for s, nbytes in zip(op.inputs, f.reads, strict=True):
            producer = made.get(s)
            if not nbytes or (producer is not None and producer[0] is node):
                continue
            key = (s, version.get(s, 0))
            before = reads[id(node)].get(key, (0, None))[0]
            reads[id(node)][key] = (max(before, nbytes), producer[0] if producer else None)
            if producer is not None:
                kept = writes[id(producer[0])]
                kept[s] = max(kept.get(s, 0), producer[1])
        for s, nbytes in zip(op.outputs, f.writes, strict=True):
            made[s] = (node, nbytes)
            version[s] = version.get(s, 0) + 1
    for s, (node, nbytes) in made.items():
        if trace.storages[s].died < 0 or not node.fusable:
            writes[id(node)][s] = max(writes[id(node)].get(s, 0), nbytes)
    return reads, writes


def _weight_copy(conv: Kernel) -> Iterator[Kernel]:
    """A row-major k x k weight is copied to channels-last before every call; one that a generated kernel made came out so."""
    d = conv.dims
    if d.get("r", 1) * d.get("s", 1) == 1 or d.get("c", 1) == d.get("g", 1) or d.get("transposed"):
        return
    weight = max((o for o in conv.operands if o.role == "parameter"), key=lambda o: o.bytes, default=None)
    if weight is not None and weight.producer < 0:
        copied = (Operand(weight.bytes, weight.storage, weight.role), Operand(weight.bytes, weight.storage, "weight", True))
        yield Kernel(
            conv.layer, "channels_last", "layout", conv.ops, conv.dtype, conv.shape, 0, 0, copied, {"generated": 1},
            phase=conv.phase,
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
