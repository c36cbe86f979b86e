"""The `compiled` runtime: which kernels torch.compile (Inductor) makes of a trace.

Convolutions, products, attention, recurrent layers, sorts and the like stay library calls. Everything else is generated
code: pointwise operators, copies, gathers, small pooling windows, reductions and norms. See `roofline.kernels.inductor` for
how it comes about.
"""

from __future__ import annotations

from roofline.kernels.inductor import emission, lowering, scheduling
from roofline.records import Kernel, Trace


def build(trace: Trace, kind: str = "gpu") -> list[Kernel]:
    """The kernels of a trace under torch.compile on a kind of device ("gpu", "cpu"), in launch order."""
    graph = lowering.lower(trace, kind)
    scheduling.fuse(graph.nodes, kind)
    return emission.emit(graph)
