"""The `compiled` runtime beside Inductor itself on the CPU: kernels and their bytes, as a Markdown table.

    python benchmarks/inductor.py [MODEL ...] [--resolution 64] [--batch 1] [--json] [--kernels]

Each model goes through torch.compile (eval, fp32, random weights) up to its schedule: tests/oracles/inductor.py says what is
counted there. The C++ that would follow is neither written nor compiled, so no compiler is needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from roofline.kernels import build as kernels
from roofline.records import Kernel
from roofline.request import Ask
from roofline.sources import build
from roofline.sources.resolve import resolve
from roofline.tracing.trace import trace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from oracles.inductor import Generated, Schedule, inductor

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


def ours(module: nn.Module, args: list[Any], kwargs: Mapping[str, Any] | None = None) -> Schedule:
    """The same by roofline.kernels.compiled."""
    found = kernels.build(trace(module, args, kwargs or {}, device_kind="cpu"), "compiled", "cpu")
    return Schedule(
        [Generated(k.bytes, k.op) for k in found if is_generated(k)],
        [k.op for k in found if not is_generated(k)],
    )


def is_generated(kernel: Kernel) -> bool:
    return kernel.loop is not None


def compare(model: str, **settings: int) -> tuple[Schedule, Schedule]:
    """(Inductor's, ours) for a model by its name on roofline's command line."""
    torch.manual_seed(0)
    found = resolve(Ask(model, **settings))  # type: ignore[arg-type]  # of several types
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
