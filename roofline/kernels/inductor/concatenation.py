"""Lowering of `cat`."""

from __future__ import annotations

from roofline.kernels.inductor.graph import Graph
from roofline.kernels.inductor.layouts import merged_loops
from roofline.kernels.inductor.parts import Node

# most tensors that `cat` reads in one kernel on a GPU (max_pointwise_cat_inputs)
_MAX_CAT = 8


def lower(graph: Graph, number: int) -> None:
    """Every input is made, or copied, into its place by a kernel of its own (ir.py, ConcatKernel)."""
    _, op, f = graph.launched[number]
    whole = [n >= graph.trace.storages[s].nbytes and op.inputs.count(s) == 1 for s, n in zip(op.inputs, f.reads, strict=True)]
    inputs = [(s, n, t, w) for s, n, t, w in zip(op.inputs, f.reads, f.spec.inputs, whole, strict=True) if n]
    taken = [(*i, list(graph.read(number, *i[:2], graph.layouts.steps(i[0], i[2], i[2].shape), 1, 0))) for i in inputs]
    result = graph.result(number)
    result.stored = True
    makers: list[Node] = []
    for s, nbytes, t, w, reads in taken:
        value = graph.values.get(s)
        if w and value is not None:
            graph.store(s)
            if graph.is_open(value.buffer):
                graph.inside[value.buffer] = result.buffer
                for node in graph.made[value.buffer]:
                    makers.append(node)
                    if node.shape == t.shape and not node.reduced:  # it writes with gaps now
                        node.vars = merged_loops(node.walk[0], t.shape, [*node.walk[1], result.strides])
                continue
            reads = list(graph.read(number, s, nbytes, graph.layouts.steps(s, t, t.shape), 1, 0))
        members = [number] if value is None or value.stored else [*value.ops, number]
        node = graph.generated(number, reads, t.shape, result.strides, (), members)
        node.writes[result.buffer] = nbytes
        makers.append(node)
    graph.made[result.buffer] = makers
    graph.count += 1
    graph.kept.add(result.buffer)
    graph.frozen.add(result.buffer)
    if number not in graph.assigned and makers:
        graph.assigned.add(number)
        makers[-1].members.append(number)


def at_once(graph: Graph, number: int) -> bool:
    """Whether one kernel reads all inputs: never on a CPU; by lowering.py, cat, on a GPU."""
    op = graph.launched[number].op
    sources = list(dict.fromkeys(op.inputs))
    if graph.kind == "cpu" or len(op.inputs) > _MAX_CAT:
        return False
    lowered = []
    for s in sources:
        value = graph.values.get(s)
        users = [u for u in graph.users_of(value) if u != number] if value else []
        pointwise = [u for u in users if graph.launched[u].facts.klass == "pointwise"]
        if pointwise or (users and value is not None and not value.stored):
            return False
        lowered.append(value is None or not value.stored or not graph.is_open(value.buffer))
    at = (op.outputs[0], graph.buffer(op.outputs[0]).version + 1)
    uses = [graph.launched[u].facts.klass for u in graph.users.get(at, [])]
    return all(lowered) or (any(lowered) and all(klass == "pointwise" for klass in uses))
