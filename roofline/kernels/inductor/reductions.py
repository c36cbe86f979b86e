"""Lowering of reductions, norms, softmax and large windows."""

from __future__ import annotations

from math import prod

from roofline.kernels.inductor.graph import Graph
from roofline.kernels.inductor.layouts import packed
from roofline.kernels.inductor.operators import UNROLLED, averages_all, norm_axes, reduced_axes, window_size
from roofline.kernels.inductor.parts import Buffer, Loop, Read
from roofline.kernels.inductor.pointwise import read_often

# A C++ kernel takes the variance of fewer elements than this in two steps (cpp.use_two_step_variance_threshold).
_TWO_STEP = 1024


def reduction(graph: Graph, number: int) -> None:
    _, op, f = graph.launched[number]
    x, axes = f.spec.inputs[0], reduced_axes(f.spec)
    size = prod(x.shape[d] for d in axes)
    if size < UNROLLED and len(op.outputs) == 1 and (graph.kind == "gpu" or size < x.numel):
        reads = graph.reads(number, x.shape, True, size)
        graph.express(number, graph.result(number), reads, size)
        return
    reads = graph.reads(number, x.shape)
    node = graph.generated(number, reads, x.shape, graph.layout_of(op.inputs[0], x), axes, graph.expressed(number))
    if f.name == "mean" or averages_all(f.spec):  # a sum, and a division that is an expression
        value = graph.result(number)
        kept = value.buffer._replace(step=1)
        graph.add_write(node, kept, value.nbytes)
        graph.express(number, value, [Read(kept, -1, value.nbytes, value.strides)])
        return
    for at in range(len(op.outputs)):
        value = graph.result(number, at)
        value.stored = True
        graph.add_write(node, value.buffer, f.writes[at])


def max_pool(graph: Graph, number: int) -> None:
    """A reduction over the window, in code that is not unrolled (lowering.py, _max_pool_with_offsets)."""
    f = graph.launched[number].facts
    read_often(graph, number)
    window = window_size(f)
    reads = graph.reads(number, f.spec.out.shape, True, window)
    members = graph.expressed(number)
    value = graph.result(number)
    node = graph.generated(number, reads, value.dims, value.strides, (), members)
    node.reduced = (window,)
    node.loops = Loop(node.total, window)
    node.total *= window
    value.stored = True
    graph.add_write(node, value.buffer, value.nbytes)


def norm(graph: Graph, number: int) -> None:
    _, op, f = graph.launched[number]
    x, axes = f.spec.inputs[0], norm_axes(f.spec)
    layout = graph.layout_of(op.inputs[0], x)
    members = graph.expressed(number)
    every = graph.reads(number, x.shape)
    params = {graph.buffer(s) for s in op.inputs[1:]}
    data = [r for r in every if r.buffer not in params]
    groups = f.spec.args[1] if f.name == "group_norm" and isinstance(f.spec.args[1], int) else 1
    rows = packed(x.shape, [d for d in sorted(range(len(x.shape)), key=lambda d: -layout[d]) if d not in axes])
    steps: tuple[int, ...] | None = tuple(0 if d in axes else step for d, step in enumerate(rows))
    stats = graph.generated(number, data, x.shape, layout, axes, members)
    value = graph.result(number)
    outer = max(prod(x.shape) // max(prod(x.shape[d] for d in axes), 1) * groups, 1)
    kept = Buffer(value.buffer.storage, value.buffer.version, 1)
    if f.name == "group_norm":
        stats.loops = Loop(outer, prod(x.shape) // outer)
        if graph.kind == "cpu":
            # a mean of each group, then a scale and a shift of each channel (decompositions.py, native_group_norm)
            stats.vars, stats.reduced = (outer,) if outer > 1 else (), (-1,)
            every, per_channel = data, 8 * x.shape[0] * x.shape[1]
            if outer == 1:  # no loop outside of the reduction to share
                graph.add_write(stats, kept, 8)
                stats = graph.node(number, [], [])
                graph.add_read(stats, Read(kept, -1, 8, None), False)
                kept = kept._replace(step=2)
            for s, nbytes in zip(op.inputs[1:], f.reads[1:], strict=True):
                graph.add_read(stats, Read(graph.buffer(s), -1, nbytes, None), False)
            graph.add_write(stats, kept, per_channel)
            channel = tuple(x.shape[1] if d == 0 else int(d == 1) for d in range(len(x.shape)))
            moved = number + 1 if groups > 1 or outer == 1 else 0
            graph.express(number, value, [*every, Read(kept, -1, per_channel, channel, 2, moved)])
            return
    if graph.kind == "cpu" and f.name == "layer_norm" and prod(x.shape) // outer < _TWO_STEP:
        # the mean, divided; then the variance from it (lowering.py, use_two_step_variance)
        graph.add_write(stats, kept, 4 * outer)
        small = tuple(1 if d in axes else n for d, n in enumerate(x.shape))
        mean = graph.generated(number, [Read(kept, -1, 4 * outer, steps)], small, rows)
        graph.add_write(mean, kept._replace(step=2), 4 * outer)
        middle = Read(kept._replace(step=2), -1, 4 * outer, steps)
        spread = graph.generated(number, [*data, middle], x.shape, layout, axes)
        graph.add_write(spread, kept._replace(step=3), 4 * outer)
        graph.express(number, value, [*every, middle, Read(kept._replace(step=3), -1, 4 * outer, steps)])
        return
    graph.add_write(stats, kept, 8 * outer)
    graph.express(number, value, [*every, Read(kept, -1, 8 * outer, steps, 1 if f.name == "rms_norm" else 2)])


def softmax(graph: Graph, number: int) -> None:
    _, op, f = graph.launched[number]
    x = f.spec.inputs[0]
    dim = f.spec.args[1] if len(f.spec.args) > 1 and isinstance(f.spec.args[1], int) else -1
    axes = [dim % len(x.shape)] if x.shape else []
    reads, layout, members = graph.reads(number, x.shape), graph.layout_of(op.inputs[0], x), graph.expressed(number)
    rows = packed(x.shape, [d for d in sorted(range(len(x.shape)), key=lambda d: -layout[d]) if d not in axes])
    steps = tuple(0 if d in axes else step for d, step in enumerate(rows))
    top = graph.generated(number, reads, x.shape, layout, axes, members)
    value = graph.result(number)
    buffers = [Buffer(value.buffer.storage, value.buffer.version, step) for step in (1, 2, 3)]
    small = max(value.nbytes // max(prod(x.shape[d] for d in axes), 1), 1)
    graph.add_write(top, buffers[0], small)
    maximum = Read(buffers[0], -1, small, steps)
    if graph.kind == "cpu":  # the exponentials are used twice, so they have a buffer
        powers = graph.generated(number, [*reads, maximum], x.shape, value.strides)
        graph.add_write(powers, buffers[1], value.nbytes)
        reads = [Read(buffers[1], -1, value.nbytes, value.strides)]
        total = graph.generated(number, reads, x.shape, value.strides, axes)
        graph.add_write(total, buffers[2], small)
        maximum = Read(buffers[2], -1, small, steps)
    graph.express(number, value, [*reads, maximum])
