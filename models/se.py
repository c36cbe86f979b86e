"""Squeeze-and-excitation: Hu et al., Squeeze-and-Excitation Networks, arXiv 1709.01507, Table 1.

SE-ResNet-50 beside ResNet-50 shows what the module costs in every block. As in the paper, a bottleneck halves the
image in its first 1x1 convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "se_resnet50": {
        "make": "se_resnet50",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "ResNet-50 with a squeeze-and-excitation module in every block",
        "paper": "Hu et al. 2017, arXiv 1709.01507, Table 1",
    },
    "se_module": {
        "make": "se_module",
        "inputs": {"x": [1, 256, 56, 56]},
        "about": "one squeeze-and-excitation module, reduction 16",
        "paper": "Hu et al. 2017, arXiv 1709.01507, Section 3",
    },
}


class SqueezeExcitation(nn.Module):
    """[n, c, h, w] -> same: squeeze by global average, excite by two linear layers, scale each channel."""

    def __init__(self, channels: int, reduction: int = 16, bias: bool = True) -> None:
        super().__init__()
        if not 0 < reduction <= channels:
            raise ValueError(f"reduction is {reduction}: expected 1 to the number of channels, {channels}")
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(channels, channels // reduction, bias)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(channels // reduction, channels, bias)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.relu(self.fc1(torch.flatten(self.squeeze(x), 1)))
        scale = self.sigmoid(self.fc2(scale))
        return x * scale[:, :, None, None]


class Bottleneck(nn.Module):
    """1x1 that narrows, 3x3, 1x1 that widens four times, the gate; the input is added around them."""

    def __init__(self, cin: int, width: int, stride: int, reduction: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(cin, width, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.se = SqueezeExcitation(out, reduction)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or cin != out:
            self.downsample = nn.Sequential(nn.Conv2d(cin, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.se(self.bn3(self.conv3(y)))
        y += x if self.downsample is None else self.downsample(x)
        x = self.relu(y)
        return x


class SEResNet(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(self, repeats: tuple[int, int, int, int], num_classes: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, channels = [], 64
        for i, n in enumerate(repeats):
            blocks = []
            for j in range(n):
                blocks.append(Bottleneck(channels, 64 * 2**i, 2 if i > 0 and j == 0 else 1, reduction))
                channels = 256 * 2**i
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.fc(torch.flatten(self.avgpool(x), 1))
        return x


def se_resnet50(num_classes: int = 1000, reduction: int = 16) -> SEResNet:
    """SE-ResNet-50."""
    return SEResNet((3, 4, 6, 3), num_classes, reduction)


def se_module(channels: int = 256, reduction: int = 16) -> SqueezeExcitation:
    """One squeeze-and-excitation module."""
    return SqueezeExcitation(channels, reduction)
