"""Lowering of what is computed element by element, and of what is written in parts."""

from __future__ import annotations

from roofline.cost.access import strides
from roofline.kernels.inductor.graph import Graph
from roofline.kernels.inductor.operators import MOVES, window_size
from roofline.kernels.inductor.parts import Read, Value


def lower(graph: Graph, number: int) -> None:
    _, op, f = graph.launched[number]
    window = window_size(f) if f.klass == "pool" else 1
    moved = window > 1 or f.klass == "gather" or (f.name in MOVES and len(op.inputs) + (f.name != "cat") > 1)
    if window > 1:
        read_often(graph, number)
    for s, t in zip(op.inputs, f.spec.inputs, strict=True):
        # what is computed for one and used for many (lowering.py, expand)
        value = graph.values.get(s)
        if value is not None and t.numel < f.spec.out.numel and (graph.is_long(value) or graph.is_dear(value)):
            graph.store(s)
    before = graph.values.get(op.outputs[0])
    partial = f.writes and f.writes[0] < graph.trace.storages[op.outputs[0]].nbytes
    if partial and len(op.outputs) == 1 and op.outputs[0] in op.inputs and before is not None:
        _slice(graph, number, before)
        return
    if partial or len(op.outputs) > 1:
        _at_once(graph, number)
        return
    reads = graph.reads(number, f.spec.out.shape, moved, window)
    graph.express(number, graph.result(number), reads, window)


def read_often(graph: Graph, number: int) -> None:
    """A window reads its input several times: what takes more than one read is stored (lowering.py, realize_hint)."""
    for s in graph.launched[number].op.inputs:
        value = graph.values.get(s)
        if value is not None and sum(r.taps for r in value.reads) > 1:
            graph.store(s)


def _slice(graph: Graph, number: int, before: Value) -> None:
    """A part written in place: an expression for the whole, of what was there and what comes in (slice_scatter)."""
    _, op, f = graph.launched[number]
    s = op.outputs[0]
    size = graph.trace.storages[s].nbytes
    reads = list(before.reads) if not before.stored else [Read(before.buffer, -1, size, before.strides)]
    for source, nbytes in zip(op.inputs, f.reads, strict=True):
        if nbytes and source != s:
            reads += graph.read(number, source, nbytes, None, 1, number + 1)
    value = Value(before.buffer._replace(version=before.buffer.version + 1), before.dims, before.strides, size)
    value.users = len(graph.users.get((s, value.buffer.version), ()))
    graph.values[s] = value
    graph.express(number, value, reads)


def _at_once(graph: Graph, number: int) -> None:
    """Several results, or a part of a storage written in place: stored by a kernel of its own."""
    _, op, f = graph.launched[number]
    for s in op.outputs:
        graph.store(s)
    reads = graph.reads(number, f.spec.out.shape)
    waits = [n for s in op.outputs for n in graph.made.get(graph.buffer(s), ())]
    members = graph.expressed(number)
    node = graph.generated(number, reads, f.spec.out.shape, strides(f.spec.out), (), members)
    node.needs.update(waits)
    for at, s in enumerate(op.outputs):
        graph.kept.add(graph.buffer(s))
        value = graph.result(number, at)
        value.stored = True
        graph.add_write(node, value.buffer, f.writes[at])
        graph.kept.add(value.buffer)
