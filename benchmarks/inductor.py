"""The `compiled` runtime beside Inductor itself on the CPU: kernels and their bytes, as a Markdown table.

    python benchmarks/inductor.py [MODEL ...] [--resolution 64] [--batch 1] [--json] [--kernels]

Each model goes through torch.compile with Inductor's default options (eval, inference mode, fp32, random weights, no cache) up
to the point where its scheduler has fused everything; the C++ that would follow is neither written nor compiled, so no
compiler is needed. What is counted there:

- generated kernels: the scheduler's nodes that become code, each a loop nest of its own;
- library calls: its nodes that call a kernel of PyTorch (convolutions, products, attention, ...);
- bytes: for every generated kernel what it reads and writes outside of itself. Inductor's own count takes a tensor
  whole where a kernel of several operators uses a slice of it; here each access counts the elements that its index
  reaches, all accesses to one tensor together at most the tensor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn
from torch._inductor import config, ir, scheduler
from torch._inductor.graph import GraphLowering

from roofline.kernels import build as kernels
from roofline.records import Kernel
from roofline.request import Ask
from roofline.sources import build
from roofline.sources.resolve import resolve
from roofline.tracing.trace import trace

# varied by what they are made of: plain, depthwise and grouped convolutions, concatenation, gates, attention, windows, norms
MODELS = (
    "torchvision:resnet18",
    "torchvision:vgg11_bn",
    "torchvision:mobilenet_v3_small",
    "torchvision:densenet121",
    "torchvision:efficientnet_b0",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:squeezenet1_1",
    "torchvision:regnet_y_400mf",
    "torchvision:googlenet",
    "torchvision:convnext_tiny",
    "torchvision:swin_t",
    "timm:vit_tiny_patch16_224",
    "timm:mixer_s16_224",
    "timm:resmlp_12_224",
    "timm:convnext_atto",
    "timm:ghostnet_100",
    "timm:resnet50_gn",
    "timm:resnetv2_50",
    "timm:poolformer_s12",
    "timm:hrnet_w18_small",
)


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
    for name, deps in accesses.items():
        touched = sum(graph.get_dep_size_hint(dep) for dep in deps)
        buffer: Any = graph.name_to_buffer.get(name) or graph.graph_inputs.get(name) or graph.constants.get(name)
        if isinstance(buffer, torch.Tensor):
            touched = min(touched, buffer.numel() * buffer.itemsize)
        elif buffer is not None:
            touched = min(touched, int(graph.sizevars.optimization_hint(buffer.get_numel())) * buffer.get_dtype().itemsize)
        total += touched
    return total


def _origin(node: scheduler.BaseSchedulerNode) -> str:
    names = {str(origin): None for inner in node.get_nodes() if inner.node is not None for origin in inner.node.get_origins()}
    return "+".join(names)


def ours(module: nn.Module, args: list[Any], kwargs: Mapping[str, Any] | None = None) -> Schedule:
    """The same by roofline.kernels.compiled."""
    found = kernels.build(trace(module, args, kwargs or {}, device_kind="cpu"), "compiled", "cpu")
    return Schedule(
        [Generated(k.bytes, k.op) for k in found if is_generated(k)],
        [k.op for k in found if not is_generated(k)],
    )  # fmt: skip


def is_generated(kernel: Kernel) -> bool:
    return bool(kernel.dims.get("generated"))


def compare(model: str, **settings: int) -> tuple[Schedule, Schedule]:
    """(Inductor's, ours) for a model by its name on roofline's command line."""
    torch.manual_seed(0)
    found = resolve(Ask(model, **settings))  # type: ignore[arg-type]
    module = build.build(found, real=True).eval()
    args, kwargs = build.call_with(module, build.inputs(found))
    predicted = ours(module, args, kwargs)
    real = [torch.zeros(t.shape, dtype=t.dtype) if isinstance(t, torch.Tensor) else t for t in args]
    return inductor(module, real, {k: torch.zeros(t.shape, dtype=t.dtype) for k, t in kwargs.items()}), predicted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--resolution", type=int, help="default: each model's own")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--kernels", action="store_true", help="every kernel of both")
    options = parser.parse_args()
    settings = {"batch": options.batch} | ({"resolution": options.resolution} if options.resolution else {})
    rows = []
    if not options.json:
        print("| model | generated: Inductor | ours | library: Inductor | ours | MB generated: Inductor | ours | ratio |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for model in options.models:
        theirs, predicted = compare(model, **settings)
        row = {"model": model, **settings}
        for name, schedule in (("inductor", theirs), ("ours", predicted)):
            row |= {f"{name}_generated": len(schedule.generated), f"{name}_library": len(schedule.library)}
            row |= {f"{name}_bytes": schedule.nbytes}
        rows.append(row)
        if options.json:
            continue
        pairs = (theirs.generated, predicted.generated), (theirs.library, predicted.library)
        counts = " | ".join(f"{len(inductors)} | {len(own)}" for inductors, own in pairs)
        print(
            f"| {model} | {counts} "
            f"| {theirs.nbytes / 1e6:.2f} | {predicted.nbytes / 1e6:.2f} | {predicted.nbytes / theirs.nbytes:.3f} |"
        )
        if options.kernels:
            for title, schedule in (("Inductor", theirs), ("ours", predicted)):
                print(f"\n{title}:")
                for kernel in schedule.generated:
                    print(f"{kernel.nbytes:12,d}  {kernel.made_of}")
                print("library:", ", ".join(schedule.library))
            print()
        sys.stdout.flush()
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
