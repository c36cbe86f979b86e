"""Step 1: from operators to buffers and the kernels that make them."""

from __future__ import annotations

from roofline.kernels.facts import launches
from roofline.kernels.inductor import calls, concatenation, pointwise, reductions
from roofline.kernels.inductor.graph import Graph
from roofline.kernels.inductor.layouts import channels_last
from roofline.kernels.inductor.operators import UNROLLED, averages_all, folded, is_library, window_size
from roofline.kernels.inductor.parts import Launch
from roofline.records import Trace


def lower(trace: Trace, kind: str) -> Graph:
    """A kernel for every buffer that there is, none of them fused yet."""
    launched = [Launch(*found) for found in launches(trace)]
    graph = Graph(trace, launched, kind, channels_last([la.facts for la in launched], kind))
    for number in range(len(launched)):
        graph.begin(number)
        _operator(graph, number)
    graph.finish()
    return graph


def _operator(graph: Graph, number: int) -> None:
    _, op, f = graph.launched[number]
    if is_library(f):
        calls.lower(graph, number)
    elif not op.outputs:
        graph.node(number, graph.reads(number, ()), [number])
    elif f.name == "group_norm" or (f.klass == "norm" and not folded(f.spec)):
        reductions.norm(graph, number)
    elif f.klass == "softmax":
        reductions.softmax(graph, number)
    elif f.klass == "reduction" or averages_all(f.spec):
        reductions.reduction(graph, number)
    elif f.name.startswith("max_pool") and len(op.outputs) == 1 and window_size(f) >= UNROLLED:
        reductions.max_pool(graph, number)
    elif f.name == "cat" and len(op.inputs) > 1 and not concatenation.at_once(graph, number):
        concatenation.lower(graph, number)
    else:
        pointwise.lower(graph, number)
