"""Peak memory by liveness beside the bytes that PyTorch's CPU allocator reports for the same run, as a Markdown table.

    python benchmarks/memory.py [MODEL ...] [--inference | --training] [--json]

Each model runs once for real, with small inputs, under PyTorch's profiler, whose memory events come from the allocator
itself: every allocation and every free, temporaries inside kernels included.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from msgspec.structs import replace

from roofline import units
from roofline.analysis import memory
from roofline.devices.device import Device
from roofline.devices.library import lookup
from roofline.request import Ask
from roofline.sources import build
from roofline.sources.resolve import resolve
from roofline.tracing.trace import trace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from oracles.allocator import filled, measured

# name -> settings: batch and resolution, small enough for seconds on one core
MODELS: dict[str, dict[str, int]] = {
    "mobilenet_v1": {"batch": 4, "resolution": 128},
    "mobilenet_v2": {"batch": 4, "resolution": 128},
    "mobilenet_v3_large": {"batch": 4, "resolution": 128},
    "mobilenet_v3_small": {"batch": 8, "resolution": 128},
    "resnet50": {"batch": 2, "resolution": 128},
    "vgg16": {"batch": 1, "resolution": 96},
    "torchvision:resnet18": {"batch": 4, "resolution": 128},
    "torchvision:densenet121": {"batch": 2, "resolution": 96},
    "torchvision:shufflenet_v2_x1_0": {"batch": 8, "resolution": 128},
    "torchvision:efficientnet_b0": {"batch": 4, "resolution": 128},
    "torchvision:regnet_y_400mf": {"batch": 4, "resolution": 128},
    "torchvision:convnext_tiny": {"batch": 1, "resolution": 128},
    "torchvision:vit_b_16": {"batch": 1},
    "torchvision:swin_t": {"batch": 1},
    "timm:deit_tiny_patch16_224": {"batch": 2},
    "timm:mixer_s16_224": {"batch": 2},
}


def compare(model: str, optimizer: str = "", **settings: int) -> tuple[int, int]:
    """(predicted, measured) peak bytes of one model."""
    torch.manual_seed(0)
    found = resolve(Ask(model, **settings))  # type: ignore[arg-type]  # of several types
    module = build.build(found, real=True)
    args, kwargs = build.call_with(module, build.inputs(found))
    predicted = memory.peak(trace(module, args, kwargs, optimizer=optimizer), this_cpu()).total
    return predicted, measured(module, [filled(t) for t in args], {k: filled(t) for k, t in kwargs.items()}, optimizer)


def this_cpu() -> Device:
    """An x86 CPU with as many threads as torch uses here, and vectors as wide: what scratch memory depends on."""
    bits = 512 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 256
    return replace(lookup("xeon-8380"), threads=torch.get_num_threads(), tier="estimated", simd_bits=bits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--inference", action="store_true", help="only inference")
    parser.add_argument("--training", action="store_true", help="only training")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    options = parser.parse_args()
    passes = [""] * (not options.training) + ["adam"] * (not options.inference)
    rows = []
    if not options.json:
        print(
            "| model | batch | pass | predicted MiB | allocator MiB | difference |\n| --- | ---: | --- | ---: | ---: | ---: |"
        )
    for model in options.models:
        settings = MODELS.get(model, {})
        for optimizer in passes:
            predicted, real = compare(model, optimizer, **settings)
            label = f"training, {optimizer}" if optimizer else "inference"
            row = {"model": model, **settings, "pass": label, "predicted": predicted, "measured": real}
            rows.append(row)
            if not options.json:
                print(
                    f"| {model} | {settings.get('batch', 1)} | {label} | {predicted / 2**20:.2f} | {real / 2**20:.2f} "
                    f"| {units.change(predicted / real - 1, 2)} |"
                )
                sys.stdout.flush()
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
