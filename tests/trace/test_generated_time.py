"""What generated kernels take on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import roofline


def passes(net: nn.Module, *shape: int) -> float:
    """How often a norm after a GELU goes through a tensor of 411 MB, at what an RTX 4090 reads and writes of it."""
    x = torch.empty(shape, device="meta")
    found = roofline.analyze(nn.Sequential(nn.GELU(), net), args=(x,), device="rtx-4090", dtype="fp32", runtime="compiled")
    took = sum(k.time_s - k.overhead_s for k in found.kernels)
    return took / (x.numel() * 4 / 1008e9)


@pytest.mark.parametrize(
    ("net", "shape", "least", "most"),
    [
        # 10 MB a row, for statistics and for the result
        (nn.GroupNorm(1, 256), (40, 256, 100, 100), 3.0, 3.6),
        # a row stays where it was read
        (nn.LayerNorm(256), (400_000, 256), 2.0, 2.6),
    ],
)
def test_a_row_longer_than_the_cache_is_read_twice(net: nn.Module, shape: tuple[int, ...], least: float, most: float) -> None:
    assert least < passes(net, *shape) < most
