"""Step 3: from groups to kernels: the order in which they run, what they move and what they are called."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from math import prod

import msgspec

from roofline.classes import CALLS, CONVS
from roofline.dtypes import DTYPE_BITS
from roofline.kernels.facts import kernel as kernel_of
from roofline.kernels.facts import roles_of
from roofline.kernels.inductor import sharing
from roofline.kernels.inductor.graph import Graph
from roofline.kernels.inductor.operators import folded
from roofline.kernels.inductor.parts import Buffer, Launch, Node, root
from roofline.records import Kernel, Operand, Work
from roofline.shapes import Access, Conv, Loop

# the most telling class of a fused kernel, first
_ORDER = ("softmax", "norm", "reduction", "pool", "gather", "layout", "pointwise")


def emit(graph: Graph) -> list[Kernel]:
    """The kernels in launch order."""
    roles = roles_of(graph.trace)
    roots = _in_order(node for node in graph.nodes if node.into is None)
    written = _written(graph, roots)
    # index of the kernel that each group became
    place: dict[Node, int] = {}
    done: list[Kernel] = []
    for node in roots:
        operands = [Operand(n, b.storage, roles[b.storage], False, producer) for b, n, producer in _moved(graph, node, place)]
        operands += [
            Operand(n, b.storage, roles[b.storage], True) for b, n in node.writes.items() if b in written or not node.fusable
        ]
        if node.fusable and not operands:
            continue
        kernel = _generated(graph, node, tuple(operands)) if node.fusable else _library(graph, node, tuple(operands))
        if graph.last and kernel.klass in CONVS:
            done += _weight_copy(kernel)
        place[node] = len(done)
        done.append(kernel)
    return done


def _moved(graph: Graph, node: Node, place: dict[Node, int]) -> Iterator[tuple[Buffer, int, int]]:
    """The buffers that a kernel reads from outside, with their bytes and the kernel that wrote them (-1: none did)."""
    found: dict[Buffer, tuple[int, int]] = {}
    for (buffer, part), (nbytes, *_) in node.reads.items():
        makers = [root(n) for n in graph.made.get(buffer, ())]
        if nbytes and not (makers and all(m is node for m in makers)):
            before = found.get(buffer, (0, -1))[0]
            size = max(graph.trace.storages[buffer.storage].nbytes, nbytes)
            moved = max(before, nbytes) if part < 0 else min(before + nbytes, size)
            found[buffer] = (moved, max((place.get(m, -1) for m in makers), default=-1))
    for buffer, (moved, producer) in found.items():
        yield buffer, moved, producer


def _in_order(roots: Iterable[Node]) -> list[Node]:
    """Kernels in an order in which everything that one reads is there."""
    waiting: dict[Node, set[Node]] = {}
    after: dict[Node, list[Node]] = {}
    for node in roots:
        needs = {n for n in map(root, node.needs) if n is not node}
        waiting[node] = needs
        for n in needs:
            after.setdefault(n, []).append(node)
    heap = [(n.last, n.number, n) for n, needs in waiting.items() if not needs]
    heapq.heapify(heap)
    order: list[Node] = []
    while heap:
        _, _, node = heapq.heappop(heap)
        order.append(node)
        for n in after.get(node, ()):
            waiting[n].discard(node)
            if not waiting[n]:
                heapq.heappush(heap, (n.last, n.number, n))
    return order


def _written(graph: Graph, roots: list[Node]) -> set[Buffer]:
    """Buffers that are written to memory: some other kernel reads them, or the caller gets them."""
    found = set(graph.kept)
    for node in roots:
        for buffer, _ in node.reads:
            if any(root(n) is not node for n in graph.made.get(buffer, ())):
                found.add(buffer)
    for s, value in graph.values.items():
        if graph.trace.storages[s].died < 0:
            found.add(value.buffer)
    return found | {inner for inner, outer in graph.inside.items() if outer in found}


def _weight_copy(conv: Kernel) -> Iterator[Kernel]:
    """A row-major k x k weight is copied to channels-last before every call; one that a generated kernel made came out so."""
    shape = conv.whole
    if not isinstance(shape, Conv) or prod(shape.window) == 1 or shape.c == shape.groups or shape.transposed:
        return
    weight = max((o for o in conv.operands if o.role == "parameter"), key=lambda o: o.bytes, default=None)
    if weight is not None and weight.producer < 0:
        copied = (Operand(weight.bytes, weight.storage, weight.role), Operand(weight.bytes, weight.storage, "weight", True))
        yield Kernel(
            conv.layer,
            "channels_last",
            "layout",
            conv.ops,
            conv.dtype,
            conv.shape,
            0,
            0,
            copied,
            phase=conv.phase,
            loop=Loop(weight.bytes * 8 // DTYPE_BITS[conv.dtype]),
        )


def _library(graph: Graph, node: Node, operands: tuple[Operand, ...]) -> Kernel:
    number, op, f = graph.launched[node.op]
    found = kernel_of(number, op, f, operands)
    if f.klass == "gemm" and f.access.aligned:
        # Inductor pads the operands of a product whose rows start between two loads (torch/_inductor/fx_passes/pad_mm.py)
        return msgspec.structs.replace(found, access=msgspec.structs.replace(f.access, aligned=0))
    if f.klass not in CONVS:
        return found
    # the bias joins the generated kernel that follows
    own = msgspec.structs.replace(f.access, last=int(graph.last), bias=0, viewed=int(node.op in graph.viewed))
    return msgspec.structs.replace(found, access=own)


def _generated(graph: Graph, node: Node, operands: tuple[Operand, ...]) -> Kernel:
    members = [graph.launched[m] for m in sorted(node.members)]
    kernel = _fused(members or [graph.launched[node.op]], operands)
    outer = node.loops.outer if node.loops else 0
    facts = [m.facts for m in members] or [graph.launched[node.op].facts]
    loop = sharing.loop(node.total, outer, facts, graph.last)
    if members:
        return msgspec.structs.replace(kernel, loop=loop)
    # what it computes has been counted where it was computed first
    klass = "layout" if kernel.klass in CALLS else kernel.klass
    loop = msgspec.structs.replace(loop, welford=0)
    return msgspec.structs.replace(kernel, op=node.label or kernel.op, klass=klass, flops=0, macs=0, loop=loop)


def _fused(members: list[Launch], operands: tuple[Operand, ...]) -> Kernel:
    facts = [m.facts for m in members]
    names = list(dict.fromkeys(f.name.rstrip("_") for f in facts))
    label = "+".join(names) if len(names) < 5 else "+".join([*names[:3], f"{len(names) - 3} more"])
    klasses = {"pointwise" if folded(f.spec) else f.klass for f in facts}
    klass = next(k for k in (*_ORDER, *sorted(klasses)) if k in klasses)
    biggest = max(facts, key=lambda f: f.spec.outputs[0].numel if f.spec.outputs else 0)
    dtype = max((f.dtype for f in facts), key=DTYPE_BITS.__getitem__)
    flops, macs = (sum(counts) for counts in zip(*(f.work or Work(0, 0) for f in facts), strict=True))
    access, whole = (biggest.access, biggest.whole) if len(facts) == 1 else (Access(), None)
    return Kernel(
        members[0].op.layer,
        label,
        klass,
        tuple(m.number for m in members),
        dtype,
        biggest.shape,
        flops,
        macs,
        operands,
        access,
        all(f.work is not None for f in facts),
        members[0].op.phase,
        whole=whole,
    )
