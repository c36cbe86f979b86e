"""Peak memory by liveness beside the bytes that PyTorch's CPU allocator reports for the same run, as a Markdown table.

    python benchmarks/memory.py [MODEL ...] [--inference | --training] [--json]

Each model runs once for real, with small inputs, under PyTorch's profiler, whose memory events come from the allocator
itself: every allocation and every free, temporaries inside kernels included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn
from torch.autograd.profiler import profile

from roofline.analysis import memory
from roofline.devices.device import Device
from roofline.devices.library import lookup
from roofline.request import Ask
from roofline.sources import build
from roofline.sources.resolve import resolve
from roofline.tracing.arguments import tensors_in
from roofline.tracing.trace import trace

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


def tensors_of(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def held(*values: Any) -> int:
    """Bytes of the storages behind these tensors, each once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors_in(values)}
    return sum(storages.values())


def most(run: Callable[[], Any]) -> int:
    """The most bytes that the CPU allocator had out at one time during `run`, beyond those at its start."""
    with profile(profile_memory=True, use_kineto=True) as prof:
        result = run()
        del result
    events = [e for e in prof.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def measured(module: nn.Module, args: list[Any], kwargs: Mapping[str, Any], optimizer: str = "") -> int:
    """Peak bytes of one real pass on the CPU: what is there before it, and the most that it allocates.

    With an optimizer (sgd, adam, adamw) the pass is a training step, the second one, so that the state exists.
    """
    if not optimizer:
        module.eval()

        def forward() -> Any:
            with torch.inference_mode():
                return module(*args, **kwargs)

        forward()  # what is cached on the first call stays
        return held(tensors_of(module), args, dict(kwargs)) + most(forward)
    module.train()
    kinds: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.001, momentum=0.9),
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    update = kinds[optimizer](module.parameters())

    def step() -> Any:
        output = module(*args, **kwargs)
        loss = torch.stack([t.sum() for t in tensors_in(output) if t.requires_grad]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        update.step()
        return output, loss

    step()
    update.zero_grad(set_to_none=True)
    state = [t for entry in update.state.values() for t in entry.values() if isinstance(t, torch.Tensor)]
    return held(tensors_of(module), args, dict(kwargs), state) + most(step)


def compare(model: str, optimizer: str = "", **settings: int) -> tuple[int, int]:
    """(predicted, measured) peak bytes of one model."""
    torch.manual_seed(0)
    found = resolve(Ask(model, **settings))  # type: ignore[arg-type]
    module = build.build(found, real=True)
    args, kwargs = build.call_with(module, build.inputs(found))
    predicted = memory.peak(trace(module, args, kwargs, optimizer=optimizer), this_cpu()).total
    return predicted, measured(module, [filled(t) for t in args], {k: filled(t) for k, t in kwargs.items()}, optimizer)


def this_cpu() -> Device:
    """An x86 CPU with as many threads as torch uses here, and vectors as wide: what scratch memory depends on."""
    bits = 512 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 256
    return replace(lookup("xeon-8380"), threads=torch.get_num_threads(), tier="estimated", simd_bits=bits)


def filled(t: torch.Tensor) -> torch.Tensor:
    """A real tensor of the same shape: noise, or zeros where it holds indices."""
    return torch.rand(t.shape, dtype=t.dtype) if t.is_floating_point() else torch.zeros(t.shape, dtype=t.dtype)


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
                    f"| {predicted / real - 1:+.2%} |"
                )
                sys.stdout.flush()
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
