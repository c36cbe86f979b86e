"""ShuffleNetV2: Ma et al., Practical Guidelines for Efficient CNN Architecture Design, arXiv 1807.11164, Table 5.

Module names follow torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "shufflenet_v2_x0_5": {
        "make": "shufflenet_v2_x0_5",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "width 0.5",
        "paper": "Ma et al. 2018, arXiv 1807.11164, Table 5",
    },
    "shufflenet_v2_x1_0": {
        "make": "shufflenet_v2_x1_0",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "channel split and shuffle, made for memory access cost",
        "paper": "Ma et al. 2018, arXiv 1807.11164, Table 5",
    },
    "shufflenet_v2_x1_5": {
        "make": "shufflenet_v2_x1_5",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "width 1.5",
        "paper": "Ma et al. 2018, arXiv 1807.11164, Table 5",
    },
    "shufflenet_v2_x2_0": {
        "make": "shufflenet_v2_x2_0",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "width 2.0",
        "paper": "Ma et al. 2018, arXiv 1807.11164, Table 5",
    },
}


def pointwise(cin: int, cout: int) -> list[nn.Module]:
    """1x1 convolution, BatchNorm, ReLU."""
    return [nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]


def depthwise(channels: int, stride: int) -> list[nn.Module]:
    """Depthwise 3x3 convolution, BatchNorm."""
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


def shuffle(x: Tensor) -> Tensor:
    """[n, 2c, h, w] -> same, the channels of the two halves interleaved; one copy."""
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class InvertedResidual(nn.Module):
    """Stride 1: half of the channels pass untouched. Stride 2: both branches see all channels."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        half = cout // 2
        self.split = stride == 1
        self.branch1 = nn.Sequential() if self.split else nn.Sequential(*depthwise(cin, stride), *pointwise(cin, half))
        self.branch2 = nn.Sequential(
            *pointwise(half if self.split else cin, half), *depthwise(half, stride), *pointwise(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1) if self.split else (x, x)
        return shuffle(torch.cat([self.branch1(left), self.branch2(right)], 1))


class ShuffleNetV2(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]. `widths`: output channels of the three stages and of the last convolution."""

    def __init__(self, widths: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, cin = [], 24
        for cout, repeats in zip(widths[:3], (4, 8, 4), strict=True):
            rest = [InvertedResidual(cout, cout, 1) for _ in range(repeats - 1)]
            stages.append(nn.Sequential(InvertedResidual(cin, cout, 2), *rest))
            cin = cout
        self.stage2, self.stage3, self.stage4 = stages
        self.conv5 = nn.Sequential(*pointwise(cin, widths[3]))
        self.fc = nn.Linear(widths[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        x = self.fc(x.mean([2, 3]))
        return x


def shufflenet_v2_x0_5(num_classes: int = 1000) -> ShuffleNetV2:
    """Width 0.5."""
    return ShuffleNetV2((48, 96, 192, 1024), num_classes)


def shufflenet_v2_x1_0(num_classes: int = 1000) -> ShuffleNetV2:
    """Width 1.0."""
    return ShuffleNetV2((116, 232, 464, 1024), num_classes)


def shufflenet_v2_x1_5(num_classes: int = 1000) -> ShuffleNetV2:
    """Width 1.5."""
    return ShuffleNetV2((176, 352, 704, 1024), num_classes)


def shufflenet_v2_x2_0(num_classes: int = 1000) -> ShuffleNetV2:
    """Width 2.0."""
    return ShuffleNetV2((244, 488, 976, 2048), num_classes)
