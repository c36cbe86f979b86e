"""What could be done about a model's time without changing the model: each is a request, and what it takes is an analysis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from roofline.classes import CONVS
from roofline.devices.device import Device
from roofline.dtypes import TORCH
from roofline.records import Analysis
from roofline.sources.attempts import DATA, REAL

# The host of a CUDA graph: it issues the graph and no kernel.
NO_HOST = "1 ns"
# Larger batches are tried up to this one.
LARGEST = 256
# Of a model that has to run to be traced, passes of up to so many FLOPs and kernels (a detector has more for each image): some
# ten seconds of a few cores.
LARGEST_RUN = 1e12
LARGEST_RUN_KERNELS = 20_000


class Alternative(Struct, frozen=True):
    """Something to do: options that differ from those asked for, by name."""

    what: str
    name: str
    effort: str
    options: dict[str, Any]


def alternatives(a: Analysis, device: Device) -> Iterator[Alternative]:
    """All that the device and the runtime allow, apart from larger batches; some of them exclude each other."""
    s = a.setting
    if s.runtime == "eager" and not (device.kind == "gpu" and device.vendor == "Apple"):
        yield Alternative("compile", "compile it", "a line of code: torch.compile(model)", {"runtime": "compiled"})
    if (
        device.kind == "gpu"
        and device.vendor == "NVIDIA"
        and s.mode == "inference"
        and s.runtime != "ideal"
        and not _changing(a)
    ):
        yield Alternative(
            "graphs",
            "compile it into CUDA graphs",
            'a line of code: torch.compile(model, mode="reduce-overhead"); shapes must stay',
            {"runtime": "compiled", "host": NO_HOST},
        )
    yield from _types(s.dtype, s.mode, device)
    # Inductor chooses a layout for itself
    if s.runtime == "eager" and not s.channels_last and any(k.klass in CONVS for k in a.kernels):
        yield Alternative(
            "channels-last",
            "lay images out channels-last",
            "two lines of code: model.to(memory_format=torch.channels_last), and the same for its input",
            {"channels_last": True},
        )
    # compiled, a norm is part of a kernel that is there anyway
    if s.runtime == "eager" and s.mode == "inference" and not s.fold_bn and any("batch_norm" in k.op for k in a.kernels):
        yield Alternative(
            "fold-bn",
            "fold batch norms into the layers before them",
            "a line of code for each: torch.nn.utils.fusion.fuse_conv_bn_eval(conv, bn)",
            {"fold_bn": True},
        )


def _types(now: str, mode: str, device: Device) -> Iterator[Alternative]:
    if now not in ("fp32", "tf32"):
        return
    tensor = device.kind == "gpu" or device.has("bf16", "tensor")
    if now == "fp32" and device.kind == "gpu" and device.has("tf32"):
        yield Alternative(
            "tf32", "let products run in tf32", 'a line of code: torch.set_float32_matmul_precision("high")', {"dtype": "tf32"}
        )
    if tensor and (device.has("fp16") or device.has("bf16")):
        yield Alternative("amp", "run it under autocast", "a line of code: with torch.autocast(...)", {"dtype": "amp"})
    if mode == "training":
        return
    for name in ("bf16", "fp16"):
        if device.has(name) and (device.kind == "gpu" or device.has(name, "tensor")):
            yield Alternative(
                name, f"run all of it in {name}", f"a line of code: model.to(torch.{TORCH[name]})", {"dtype": name}
            )


def _changing(a: Analysis) -> bool:
    """Whether data decide of its shapes, so that no graph of one run serves the next."""
    return any(note.startswith(DATA) for note in a.notes)


def to_run(a: Analysis) -> bool:
    """Whether a trace of it is a run of it."""
    return any(REAL in note for note in a.notes)


def larger(a: Analysis) -> list[int]:
    """The next powers of two; of a model that has to run, those whose passes are short."""
    t = a.totals
    most: float = LARGEST
    if to_run(a):
        most = min(LARGEST_RUN / max(t.flops, 1), LARGEST_RUN_KERNELS / max(t.kernels, 1)) * a.setting.batch
    return [n for n in (2**i for i in range(LARGEST.bit_length())) if a.setting.batch < n <= most]


def fewer(device: Device) -> Iterator[int]:
    """Half of a CPU's cores, half of those and so on, a thread each; none where it was said how many work."""
    if device.kind == "cpu" and "@" not in device.name:
        n = int(device.units.value)
        while (n := n // 2) >= 1:
            yield n


def threads(n: int) -> Alternative:
    """That many threads instead of one for each core."""
    several = f"{n:,} threads" if n > 1 else "one thread"
    return Alternative(
        "threads", f"run it with {several} alone", f"a flag: OMP_NUM_THREADS={n}, or torch.set_num_threads({n})", {"threads": n}
    )


# Of each group one can be done.
GROUPS = (("compile", "graphs"), ("tf32", "amp", "bf16", "fp16"), ("batch",), ("threads",))
