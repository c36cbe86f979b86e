"""What the kernels of a backward take on a GPU, beside those of the forward."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import roofline


def seconds(net: nn.Module, *shape: int, device: str = "rtx-3090", last: bool = False) -> dict[tuple[str, str], float]:
    """The work of each class of kernel of a step under autocast on a GPU, by phase."""
    x = torch.empty(shape, device="meta", requires_grad=True)
    if last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    found = roofline.analyze(net, args=(x,), device=device, dtype="amp", training=True)
    out: dict[tuple[str, str], float] = {}
    for k in found.kernels:
        out[k.phase, k.klass] = out.get((k.phase, k.klass), 0.0) + k.time_s - k.overhead_s
    return out


@pytest.mark.parametrize(("channels", "idle"), [(16, 132 / 16), (264, 1.0)])
def test_a_block_takes_a_channel_in_the_norms_of_a_step(channels: int, idle: float) -> None:
    """132 SMs: with 16 channels 116 of them have nothing to do. A gradient reads two tensors where the forward reads one."""
    few = seconds(nn.BatchNorm2d(channels), 256, channels, 56, 56, device="h200-sxm")
    many = seconds(nn.BatchNorm2d(1024), 256, 1024, 56, 56, device="h200-sxm")
    per_element = few["forward", "norm"] / channels / (many["forward", "norm"] / 1024)
    assert 0.8 * idle < per_element < 1.1 * idle
    assert few["backward", "norm"] / few["forward", "norm"] == pytest.approx(5 / 3, rel=0.1)


def test_image_and_gradient_go_channels_last_for_the_gradient_of_a_weight() -> None:
    """As a 1 x 1 convolution forward, and for the gradient of its image, a row-major image is a product as it lies."""
    conv = nn.Conv2d(64, 256, 1, bias=False)
    rows, last = (seconds(conv, 64, 64, 56, 56, last=last) for last in (False, True))
    assert rows["forward", "conv"] == pytest.approx(last["forward", "conv"], rel=1e-6)
    # both read and written once more, at 936 GB/s at most
    moved = 2 * 2 * 64 * (64 + 256) * 56 * 56 / 936e9
    assert moved < rows["backward", "conv"] - last["backward", "conv"] < 2 * moved
