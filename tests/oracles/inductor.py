"""What Inductor makes of a model on the CPU: the schedule of torch.compile, read before any C++ is written.

Each model goes through torch.compile with Inductor's default options (inference mode, no cache) up to the point where its
scheduler has fused everything, so no compiler is needed. Counted there:

- generated kernels: the scheduler's nodes that become code, each a loop nest of its own;
- library calls: its nodes that call a kernel of PyTorch (convolutions, products, attention, ...);
- bytes: for every generated kernel what it reads and writes outside of itself. Inductor's own count takes a tensor
  whole where a kernel of several operators uses a slice of it; here each access counts the elements that its index
  reaches, all accesses to one tensor together at most the tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn
from torch._inductor import config, ir, scheduler
from torch._inductor.graph import GraphLowering


class Generated(NamedTuple):
    """One generated kernel: its bytes, and the operators that went into it."""

    nbytes: int
    made_of: str


class Schedule(NamedTuple):
    """What a compiled model runs: generated kernels in order, and the names of the library calls."""

    generated: list[Generated]
    library: list[str]

    @property
    def nbytes(self) -> int:
        return sum(k.nbytes for k in self.generated)


class _Scheduled(Exception):
    """Thrown to leave the compiler once the schedule is known."""


def inductor(module: nn.Module, args: list[Any], kwargs: Mapping[str, Any] | None = None) -> Schedule:
    """The schedule that torch.compile makes of one call. Raises what torch.compile raises, on a graph break too."""
    found: list[Schedule] = []

    def codegen(graph: GraphLowering) -> None:
        graph.init_wrapper_code()
        graph._update_scheduler()
        found.append(_read(graph))
        raise _Scheduled

    torch._dynamo.reset()
    uncached = config.patch(fx_graph_cache=False, fx_graph_remote_cache=False)
    with mock.patch.object(GraphLowering, "codegen", codegen), uncached, torch.inference_mode():
        try:
            torch.compile(module, fullgraph=True)(*args, **(kwargs or {}))
        except Exception:  # `_Scheduled`, which dynamo wraps in an error that differs between versions; any other is raised
            if not found:
                raise
    torch._dynamo.reset()
    return found[0]


def _read(graph: GraphLowering) -> Schedule:
    generated: list[Generated] = []
    library: list[str] = []
    for node in graph.scheduler.nodes:
        if isinstance(node, scheduler.NopKernelSchedulerNode):
            continue
        if isinstance(node, scheduler.ExternKernelSchedulerNode):
            if not isinstance(node.node, ir.MultiOutput):  # one of the results of a call, not a call
                library.append(str(getattr(node.node, "op_overload", None) or type(node.node).__name__))
            continue
        generated.append(Generated(_bytes(graph, node), _origin(node)))
    return Schedule(generated, library)


def _bytes(graph: GraphLowering, node: scheduler.BaseSchedulerNode) -> int:
    """Bytes that a generated kernel moves from and to others."""
    own = node.get_buffer_names()
    inside = set(node.get_nodes())
    accesses: dict[str, set[Any]] = {}
    for dep in node.read_writes.reads | node.read_writes.writes:
        # results that nothing outside reads are kept in registers
        if dep.name not in own or {user.node for user in graph.scheduler.name_to_buf[dep.name].users} - inside:
            accesses.setdefault(dep.name, set()).add(dep.normalize() if hasattr(dep, "normalize") else dep)
    total = 0
    sizes: Any = graph.sizevars
    hint = getattr(sizes, "optimization_hint", None) or sizes.size_hint  # torch 2.9 calls it so
    for name, deps in accesses.items():
        touched = sum(graph.get_dep_size_hint(dep) for dep in deps)
        buffer: Any = graph.name_to_buffer.get(name) or graph.graph_inputs.get(name) or graph.constants.get(name)
        if isinstance(buffer, torch.Tensor):
            touched = min(touched, buffer.numel() * buffer.itemsize)
        elif buffer is not None:
            touched = min(touched, int(hint(buffer.get_numel())) * buffer.get_dtype().itemsize)
        total += touched
    return total


def _origin(node: scheduler.BaseSchedulerNode) -> str:
    names = {str(origin): None for inner in node.get_nodes() if inner.node is not None for origin in inner.node.get_origins()}
    return "+".join(names)
