"""Lowering of library calls: what they read is stored, in a layout that they take."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from roofline.classes import CONVS
from roofline.kernels.facts import Facts
from roofline.kernels.inductor.graph import Graph
from roofline.kernels.inductor.layouts import CHANNELS_LAST, merged_loops, packed
from roofline.kernels.inductor.parts import Buffer, Read
from roofline.records import TensorSpec
from roofline.shapes import Conv

# Buffer.step of the copy that an op makes of its input: this and the op's number
_COPY = 10


def lower(graph: Graph, number: int) -> None:
    _, op, f = graph.launched[number]
    node_reads = []
    for i, (s, nbytes, t) in enumerate(zip(op.inputs, f.reads, f.spec.inputs, strict=True)):
        image = i == 0 and f.klass in CONVS and graph.last and len(t.shape) == 4
        if image and _is_expression(graph, s, t):
            graph.turn(graph.values[s])
        if i == 1 and _is_square(graph, f) and _is_expression(graph, s, t):
            graph.turn(graph.values[s])
        graph.store(s)
        if not nbytes:
            continue
        buffer = graph.buffer(s)
        made = i == 1 and _is_square(graph, f) and len(t.shape) == 4 and buffer in graph.made
        if made and not _channels_last(graph, s, t):  # only a 4-d expression comes out channels-last by itself
            buffer = _copied(graph, number, s, t, nbytes, CHANNELS_LAST, "channels_last")
        elif image:
            buffer = _as_channels_last(graph, number, s, t, nbytes)
        elif graph.layouts.steps(s, t, t.shape) is None:
            buffer = _copied(graph, number, s, t, nbytes)
        node_reads.append(Read(buffer, -1 if nbytes >= graph.trace.storages[s].nbytes else number, nbytes, None))
        graph.frozen.add(buffer)
    waits = [n for s in op.outputs for n in graph.made.get(graph.buffer(s), ())]
    graph.count += _is_square(graph, f)
    node = graph.node(number, node_reads, [number], False)
    node.needs.update(waits)
    for at, s in enumerate(op.outputs):
        if s in op.inputs:
            graph.kept.add(graph.buffer(s))
        value = graph.result(number, at)
        value.stored = True
        graph.add_write(node, value.buffer, f.writes[at])


def _is_square(graph: Graph, f: Facts) -> bool:
    """A convolution whose weight has a layout: more than one tap, and more than one channel a group."""
    if not graph.last or f.klass not in ("conv", "grouped_conv") or not isinstance(f.whole, Conv) or f.whole.transposed:
        return False
    return prod(f.whole.window) > 1


def _is_expression(graph: Graph, s: int, t: TensorSpec) -> bool:
    value = graph.values.get(s)
    return value is not None and not value.stored and value.dims == t.shape


def _channels_last(graph: Graph, s: int, t: TensorSpec) -> bool:
    steps = graph.layouts.steps(s, t, t.shape)
    return steps is not None and (t.shape[1] == 1 or steps[1] == 1)


def _as_channels_last(graph: Graph, number: int, s: int, t: TensorSpec, nbytes: int) -> Buffer:
    """What a convolution reads: the tensor, or a copy where its channels are not innermost (an image)."""
    buffer = graph.buffer(s)
    value = graph.values.get(s)
    if _channels_last(graph, s, t) or prod(t.shape[2:]) == 1 or t.shape[1] == 1:
        if t.shape[0] == 1 and value is not None and value.dims != t.shape:
            graph.viewed.add(number)
        return buffer
    if value is not None and value.dims == t.shape and graph.is_open(buffer):  # its layout is still to be chosen
        graph.turn(value)
        for maker in graph.made[buffer]:
            if maker.shape == t.shape:
                order = [d for d in CHANNELS_LAST if d in maker.walk[0]]
                maker.walk = (order, maker.walk[1])
                maker.vars = merged_loops(order, t.shape, [*maker.walk[1], value.strides])
        return buffer
    return _copied(graph, number, s, t, nbytes, CHANNELS_LAST, "channels_last")


def _copied(
    graph: Graph, number: int, s: int, t: TensorSpec, nbytes: int, order: Iterable[int] | None = None, label: str = "clone"
) -> Buffer:
    """A copy of what a library call reads, in a layout that it takes."""
    kept = graph.buffer(s)._replace(step=_COPY + number)
    reads = list(graph.read(number, s, nbytes, graph.layouts.steps(s, t, t.shape), 1, 0))
    copy = graph.generated(number, reads, t.shape, packed(t.shape, range(len(t.shape)) if order is None else order))
    copy.label = label
    graph.add_write(copy, kept, nbytes)
    return kept
