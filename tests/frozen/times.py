"""Predicted times of single kernels, frozen: a change of the time model shows as a diff of numbers.

    python -m tests.frozen.times            compare with times.toml; exits 1 where they differ
    python -m tests.frozen.times --write    write times.toml anew: when times are meant to change

Each kernel is a module of one operator or a few, placed on four devices. Three numbers each, in seconds with three digits:
the whole call, and arithmetic and memory of its kernels alone, which show a formula also where the call waits for its host.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import roofline

FILE = Path(__file__).resolve().parent / "times.toml"
# a large GPU, a small one without fast fp32, a server and a laptop with two kinds of core
DEVICES = ("h100-sxm", "t4", "xeon-8480", "apple-m2-cpu")
# of the whole call, of arithmetic, of memory
Seconds = list[float]


class Kernel(NamedTuple):
    make: Callable[[], nn.Module]
    args: tuple[Tensor, ...]
    # of analyze()
    asked: dict[str, Any]


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def _of(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    return tuple(torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)


def _indices(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device="meta")


def _kernel(make: Callable[[], nn.Module], *args: Tensor | tuple[int, ...], **asked: Any) -> Kernel:
    return Kernel(make, tuple(a if isinstance(a, Tensor) else _of(a)[0] for a in args), asked)


def _call(function: Callable[..., Any], *args: Tensor | tuple[int, ...], **asked: Any) -> Kernel:
    return _kernel(lambda: Call(function), *args, **asked)


def _attention(causal: bool) -> Callable[..., Tensor]:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def _layers(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Layers in a row: the second's image gets a gradient, too."""
    return lambda: nn.Sequential(*(make() for make in layers))


_IMAGE = (32, 64, 56, 56)
KERNELS: dict[str, Kernel] = {
    "linear 4096x4096x4096 fp16": _kernel(lambda: nn.Linear(4096, 4096, bias=False), (4096, 4096), dtype="fp16"),
    "linear 197x768x3072 fp32": _kernel(lambda: nn.Linear(768, 3072), (8, 197, 768)),
    "linear 64x100x10 fp64": _kernel(lambda: nn.Linear(100, 10), (64, 100), dtype="fp64"),
    "bmm 96x512x64x512 fp32": _call(torch.bmm, (96, 512, 64), (96, 64, 512)),
    "gemv 1x4096x11008 fp16": _kernel(lambda: nn.Linear(4096, 11008, bias=False), (1, 4096), dtype="fp16"),
    "conv2d 3x3 64-64 fp32": _kernel(lambda: nn.Conv2d(64, 64, 3, padding=1), _IMAGE),
    "conv2d 1x1 64-256 fp16": _kernel(lambda: nn.Conv2d(64, 256, 1, bias=False), _IMAGE, dtype="fp16"),
    "conv2d 7x7 stem fp16": _kernel(lambda: nn.Conv2d(3, 64, 7, 2, 3), (32, 3, 224, 224), dtype="fp16"),
    "conv2d one small image fp32": _kernel(lambda: nn.Conv2d(16, 32, 3, padding=1), (1, 16, 32, 32)),
    "conv2d grouped 32x4 fp32": _kernel(lambda: nn.Conv2d(128, 128, 3, padding=1, groups=32), (16, 128, 56, 56)),
    "conv2d depthwise 3x3 fp32": _kernel(lambda: nn.Conv2d(96, 96, 3, padding=1, groups=96), (16, 96, 56, 56)),
    "conv2d depthwise 7x7 fp16": _kernel(lambda: nn.Conv2d(96, 96, 7, padding=3, groups=96), (16, 96, 56, 56), dtype="fp16"),
    "conv2d transposed 4x4 fp32": _kernel(lambda: nn.ConvTranspose2d(128, 64, 4, 2, 1), (8, 128, 28, 28)),
    "conv1d 5 fp32": _kernel(lambda: nn.Conv1d(80, 512, 5, padding=2), (8, 80, 1000)),
    "conv3d 3x3x3 fp32": _kernel(lambda: nn.Conv3d(16, 32, 3, padding=1), (2, 16, 16, 56, 56)),
    "attention causal 2048 fp16": _call(_attention(True), *[(4, 16, 2048, 64)] * 3, dtype="fp16"),
    "attention 197 fp32": _call(_attention(False), *[(8, 12, 197, 64)] * 3),
    "attention decode 4096 fp16": _call(_attention(False), (8, 32, 1, 128), *[(8, 32, 4096, 128)] * 2, dtype="fp16"),
    "layer_norm fp16": _kernel(lambda: nn.LayerNorm(1024), (32, 512, 1024), dtype="fp16"),
    "batch_norm fp32": _kernel(lambda: nn.BatchNorm2d(64), _IMAGE),
    "group_norm fp32": _kernel(lambda: nn.GroupNorm(32, 64), _IMAGE),
    "softmax fp32": _call(lambda x: x.softmax(-1), (96, 512, 512)),
    "max_pool 3x3 fp32": _kernel(lambda: nn.MaxPool2d(3, 2, 1), (32, 64, 112, 112)),
    "avg_pool global fp16": _kernel(lambda: nn.AdaptiveAvgPool2d(1), (64, 2048, 7, 7), dtype="fp16"),
    "relu fp32": _call(torch.relu, _IMAGE),
    "relu small fp32": _call(torch.relu, (64, 64)),
    "gelu fp16": _call(F.gelu, (32, 512, 4096), dtype="fp16"),
    "add broadcast fp32": _call(torch.add, _IMAGE, (64, 1, 1)),
    "sum of columns fp32": _call(lambda x: x.sum(0), (8192, 4096)),
    "cat fp32": _call(lambda a, b: torch.cat([a, b], 1), _IMAGE, _IMAGE),
    "transpose fp32": _call(lambda x: x.transpose(1, 2).contiguous(), (16, 1024, 1024)),
    "embedding fp32": _kernel(lambda: nn.Embedding(50000, 1024), _indices(32, 512)),
    "gather fp32": _call(lambda x, i: x.gather(1, i), (4096, 4096), _indices(4096, 512)),
    "scatter_add fp32": _call(lambda x, i: torch.zeros_like(x).scatter_add(0, i, x), (65536, 64), _indices(65536, 64)),
    "sort fp32": _call(lambda x: x.sort(-1)[0], (64, 100000)),
    "bilinear x2 fp32": _kernel(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (8, 64, 56, 56)),
    "fft fp32": _call(torch.fft.rfft2, (64, 512, 512)),
    "lstm 512 fp32": _kernel(lambda: nn.LSTM(512, 512), (50, 16, 512)),
    "gru 256 fp16": _kernel(lambda: nn.GRU(256, 256), (20, 64, 256), dtype="fp16"),
    "linear step sgd fp32": _kernel(
        _layers(lambda: nn.Linear(512, 2048), lambda: nn.Linear(2048, 512)), (256, 512), training=True, optimizer="sgd"
    ),
    "conv2d step adam fp32": _kernel(
        _layers(lambda: nn.Conv2d(8, 32, 3, padding=1), lambda: nn.Conv2d(32, 32, 3, padding=1)), (16, 8, 56, 56), training=True
    ),
    "norm+gelu compiled fp32": _kernel(_layers(lambda: nn.LayerNorm(1024), nn.GELU), (8, 512, 1024), runtime="compiled"),
    "conv+norm+relu compiled fp16": _kernel(
        _layers(lambda: nn.Conv2d(64, 64, 3, padding=1), lambda: nn.BatchNorm2d(64), nn.ReLU),
        _IMAGE,
        runtime="compiled",
        dtype="fp16",
    ),
    "depthwise compiled fp32": _kernel(lambda: nn.Conv2d(96, 96, 3, padding=1, groups=96), (1, 96, 56, 56), runtime="compiled"),
    "softmax compiled fp32": _call(lambda x: (x * 0.125).softmax(-1), (96, 512, 512), runtime="compiled"),
    "attention compiled fp32": _call(_attention(False), *[(8, 12, 197, 64)] * 3, runtime="compiled"),
    "norm+linear ideal fp32": _kernel(
        _layers(lambda: nn.LayerNorm(768), lambda: nn.Linear(768, 768)), (8, 197, 768), runtime="ideal"
    ),
}


def now(names: Iterable[str] = KERNELS) -> dict[str, dict[str, Seconds]]:
    """Kernel -> device -> what the program predicts today."""
    found: dict[str, dict[str, Seconds]] = {}
    for name in names:
        make, args, asked = KERNELS[name]
        with torch.device("meta"):
            module = make().eval()
        found[name] = {}
        for device in DEVICES:
            a = roofline.analyze(module, device=device, args=args, **asked)
            alone = sum(k.compute_s for k in a.kernels), sum(k.memory_s for k in a.kernels)
            found[name][device] = [a.totals.time_s, *alone]
    return found


def frozen() -> dict[str, dict[str, Seconds]]:
    with FILE.open("rb") as file:
        return tomllib.load(file)


def table(old: dict[str, dict[str, Seconds]], new: dict[str, dict[str, Seconds]]) -> list[str]:
    """A line for each number that differs, and for each kernel that only one side has."""
    rows = [("kernel", "device", "of", "frozen", "now", "ratio")]
    for name in [*old, *(n for n in new if n not in old)]:
        for device in DEVICES:
            left, right = (side.get(name, {}).get(device, []) for side in (old, new))
            if not (left and right):
                rows.append((name, device, "", "there" if left else "none", "there" if right else "none", ""))
                continue
            for what, was, is_ in zip(("time", "compute", "memory"), left, right, strict=True):
                if not same(was, is_):
                    rows.append((name, device, what, f"{was:.3g}", f"{is_:.3g}", f"{is_ / was:.4g}" if was else "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(part.ljust(w) for part, w in zip(row, widths, strict=True)).rstrip() for row in rows] if rows[1:] else []


def same(was: float, now: float) -> bool:
    """Whether a number rounds to the frozen one; where it lies halfway, its last bit does not decide."""
    return abs(was - now) <= 0.5001 * 10.0 ** (int(f"{was:e}".partition("e")[2]) - 2) if was else not now


def text(found: dict[str, dict[str, Seconds]]) -> str:
    lines = [
        "# Written by `python -m tests.frozen.times --write`. Seconds: the whole call, its arithmetic alone, its memory alone."
    ]
    for name, of in found.items():
        lines += ["", f'["{name}"]', *(f"{device} = [{', '.join(f'{s:.3g}' for s in row)}]" for device, row in of.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    found = now()
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(text(found), encoding="utf-8")
        return 0
    differ = table(frozen(), found)
    print("\n".join(differ) or f"{len(found)} kernels on {len(DEVICES)} devices: as frozen")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
