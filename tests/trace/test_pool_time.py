"""Eager pools and interpolations on a CPU, beside each other as on one thread of an EPYC of Zen 4 (docs/time-model.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import roofline

# Nanoseconds that a number of the result took.
MEASURED = {"average": 9.1, "bilinear": 3.0, "bicubic": 13.0, "maximum last": 2.2, "average last": 1.2, "bilinear last": 0.3}
RUN: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "maximum": lambda x: F.max_pool2d(x, 3, 1, 1),
    "bilinear": lambda x: F.interpolate(x, scale_factor=8.0, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, scale_factor=8.0, mode="bicubic"),
}


class Alone(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def nanoseconds(what: str) -> float:
    """Of a number of the result, without the call itself."""
    name, _, last = what.partition(" ")
    x = torch.zeros(1, 64, 128, 128).to(memory_format=torch.channels_last if last else torch.contiguous_format)
    found = roofline.analyze(Alone(RUN[name]), args=(x,), device="i9-10940x@1")
    (kernel,) = found.kernels
    # a core of this CPU draws less from DRAM than one of Zen 4 does, and channels-last bilinear ones wait for that
    seconds = kernel.compute_s if what == "bilinear last" else kernel.time_s - kernel.overhead_s
    return 1e9 * seconds / (kernel.flops / {"average": 9, "maximum": 8, "bilinear": 7, "bicubic": 31}[name])


@pytest.mark.parametrize("what", MEASURED)
def test_each_is_to_an_average_as_measured_within_a_factor(what: str) -> None:
    # a core of this CPU draws half of what one of Zen 4 does from DRAM, and channels-last bilinear ones wait for that
    most = 5 if what == "bilinear last" else 4
    ratio = (nanoseconds(what) / nanoseconds("average")) / (MEASURED[what] / MEASURED["average"])
    assert 1 / most < ratio < most, (what, ratio)


def test_a_detector_is_not_its_regions() -> None:
    """Four samples a number, each between four pixels: about four times a bilinear one, within a factor of two."""
    pytest.importorskip("torchvision")
    from torchvision.ops import roi_align

    boxes = torch.tensor([[0.0, 4.0, 4.0, 60.0, 60.0]])
    found = roofline.analyze(
        Alone(lambda x: roi_align(x, boxes, 64, 1.0, 2)), args=(torch.zeros(1, 64, 128, 128),), device="i9-10940x@1"
    )
    kernel = max(found.kernels, key=lambda k: k.time_s)
    each = 1e9 * (kernel.time_s - kernel.overhead_s) / (64 * 64 * 64)
    assert "roi_align" in kernel.op
    assert 2 < each / nanoseconds("bilinear") < 8
