"""What the kernels of a backward take on a GPU, beside those of the forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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


@pytest.mark.parametrize(("channels", "idle", "back"), [(16, 1.4 * 132 / 16, 2.0), (264, 1.0, 1.57)])
def test_a_block_takes_a_channel_in_the_norms_of_a_step(channels: int, idle: float, back: float) -> None:
    """132 SMs: with 16 channels 116 of them have nothing to do, the others nothing to fill their waits. A gradient waits for
    two tensors where the forward waits for one; two blocks on an SM fill a part of each other's waits (measured on an H200:
    1.9 to 2.2 times the forward up to 64 channels, 1.57 with 256)."""
    few = seconds(nn.BatchNorm2d(channels), 256, channels, 56, 56, device="h200-sxm")
    many = seconds(nn.BatchNorm2d(1024), 256, 1024, 56, 56, device="h200-sxm")
    per_element = few["forward", "norm"] / channels / (many["forward", "norm"] / 1024)
    assert 0.8 * idle < per_element < 1.1 * idle
    assert few["backward", "norm"] / few["forward", "norm"] == pytest.approx(back, rel=0.1)


def test_a_block_alone_waits_for_its_boards_memory() -> None:
    """16 channels leave most SMs idle on either board, and the clock does not matter: GDDR6X answers in 252 ns, HBM3 in 348."""
    here, there = (seconds(nn.BatchNorm2d(16), 256, 16, 56, 56, device=d) for d in ("rtx-3090", "h200-sxm"))
    assert here["forward", "norm"] / there["forward", "norm"] == pytest.approx(252 / 348, rel=0.05)


def test_image_and_gradient_go_channels_last_for_the_gradient_of_a_weight() -> None:
    """As a 1 x 1 convolution forward, and for the gradient of its image, a row-major image is a product as it lies."""
    conv = nn.Conv2d(64, 256, 1, bias=False)
    rows, last = (seconds(conv, 64, 64, 56, 56, last=last) for last in (False, True))
    assert rows["forward", "conv"] == pytest.approx(last["forward", "conv"], rel=1e-6)
    # both read and written once more, at 936 GB/s at most
    moved = 2 * 2 * 64 * (64 + 256) * 56 * 56 / 936e9
    assert moved < rows["backward", "conv"] - last["backward", "conv"] < 2 * moved


class Step(NamedTuple):
    """Seconds of a convolution in a training step: its forward, its backward, and the arithmetic of that."""

    forward: float
    back: float
    compute: float


def step(conv: nn.Conv2d, batch: int, side: int, device: str = "rtx-3090") -> Step:
    """It makes all gradients, since another one stands before it."""
    net = nn.Sequential(nn.Conv2d(8, conv.in_channels, 1), conv)
    x = torch.empty((batch, 8, side, side), device="meta")
    found = roofline.analyze(net, args=(x,), device=device, dtype="amp", training=True)
    mine = [k for k in found.kernels if k.layer == "1" and "conv" in k.klass]
    forward, back = (sum(k.time_s - k.overhead_s for k in mine if k.phase == phase) for phase in ("forward", "backward"))
    return Step(forward, back, sum(k.compute_s for k in mine if k.phase == "backward"))


def conv(channels: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias)


def test_the_gradient_of_an_image_meets_all_of_its_pixels() -> None:
    """With a stride of two a quarter of the windows meets a result, and the kernel multiplies for all of them; a quarter of the
    results makes the gradient of the weight four times as short: of two alike 5/8 are left, where it was 1/4."""
    plain, strided = (step(conv(256, 3, stride=s), 64, 56).compute for s in (1, 2))
    assert 0.5 < strided / plain < 2 / 3


def test_windows_side_by_side_are_products_as_they_are_counted() -> None:
    """Each pixel of the image is in one window of a patch, so its gradient takes what the forward does."""
    patches = nn.Conv2d(512, 512, 4, stride=4, bias=False)
    found = step(patches, 64, 56)
    assert found.back < 3 * found.forward


def test_the_gradient_of_a_depthwise_image_asks_every_tap_of_every_pixel() -> None:
    """PyTorch's own kernel, 31 x 31 wide, where arithmetic sets the time; that of the weight goes over the results, of which a
    quarter is left: so more than a quarter of both."""
    plain, strided = (step(conv(64, 31, stride=s, groups=64), 16, 56).back for s in (1, 2))
    assert 0.3 < strided / plain < 1


@pytest.mark.parametrize(("width", "direct"), [(32, False), (48, True)])
def test_gradients_of_groups_run_on_vector_units_but_for_four_widths(width: int, direct: bool) -> None:
    """cuDNN has kernels of matrix units for groups of 4, 8, 16 and 32 channels."""
    channels, pixels = width * 16, 64 * 14 * 14
    vector = 2 * 2 * pixels * channels * width * 9 / (66.9e12 * 0.79)
    assert (step(conv(channels, 3, groups=16), 64, 14, "h200-sxm").compute > vector) == direct


def test_the_gradient_of_a_bias_is_a_sum_of_its_own() -> None:
    """It reads the gradient of the result once more, beside nothing that it could hide behind."""
    without, with_bias = (step(conv(512, 3, bias=b), 64, 28).back for b in (False, True))
    moved = 2 * 64 * 512 * 28 * 28 / 936e9
    assert moved < with_bias - without < 1.5 * moved


# Kernels of a step channels-last, as torch's profiler saw them on an H200 (benchmarks/measured/h200-kernels.csv): module, edge
# of 192 images, phase, class, microseconds.
ON_AN_H200 = [
    (lambda: nn.BatchNorm2d(256), 56, "forward", "norm", 277.7),
    (lambda: nn.BatchNorm2d(256), 56, "backward", "norm", 409.2),
    (lambda: nn.BatchNorm2d(64), 112, "backward", "norm", 373.9),
    (lambda: nn.BatchNorm2d(512), 28, "backward", "norm", 204.1),
    (lambda: nn.BatchNorm2d(72), 112, "forward", "norm", 749.0),
    (lambda: nn.BatchNorm2d(72), 112, "backward", "norm", 969.2),
    (lambda: conv(96, 3, stride=2, groups=96), 112, "backward", "depthwise_conv", 909.2),
    (lambda: conv(64, 3, stride=2, groups=64), 112, "backward", "depthwise_conv", 594.5),
    (lambda: conv(144, 5, stride=2, groups=144), 56, "backward", "depthwise_conv", 748.3),
    (lambda: conv(128, 3, groups=32), 56, "backward", "grouped_conv", 619.9),
    (lambda: conv(256, 3, groups=32), 28, "backward", "grouped_conv", 239.6),
]


@pytest.mark.parametrize(("make", "side", "phase", "klass", "us"), ON_AN_H200)
def test_kernels_of_a_step_channels_last(make: Callable[[], nn.Module], side: int, phase: str, klass: str, us: float) -> None:
    """Within a quarter: BatchNorm was up to 1.9 times too long, the others 2.3 to 3.6 times too short."""
    net = make()
    channels = next(net.parameters()).shape[0]
    among = nn.Sequential(nn.Conv2d(8, channels, 1), net, nn.Conv2d(channels, 8, 1))
    found = seconds(among, 192, 8, side, side, device="h200-sxm", last=True)
    assert found[phase, klass] * 1e6 == pytest.approx(us, rel=0.25)
