"""ResNet: He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385, Table 1.

Module names follow torchvision. Like it, a bottleneck that halves the image does so in its 3x3 convolution
(`stride_in="3x3"`, the form known as v1.5: 4.09 GMAC for ResNet-50); the paper does it in the first 1x1
(`stride_in="1x1"`, 3.86 GMAC, printed there as 3.8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "resnet18": {
        "make": "resnet18",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "18 layers, basic blocks",
        "paper": "He et al. 2015, arXiv 1512.03385, Table 1",
    },
    "resnet34": {
        "make": "resnet34",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "34 layers, basic blocks",
        "paper": "He et al. 2015, arXiv 1512.03385, Table 1",
    },
    "resnet50": {
        "make": "resnet50",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "50 layers, bottleneck blocks, stride in the 3x3 (v1.5)",
        "paper": "He et al. 2015, arXiv 1512.03385, Table 1",
    },
    "resnet50_v1": {
        "make": "resnet50",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"stride_in": "1x1"},
        "about": "the paper's own form, stride in the first 1x1",
        "paper": "He et al. 2015, arXiv 1512.03385, Table 1",
    },
    "resnet101": {
        "make": "resnet101",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "101 layers, bottleneck blocks",
        "paper": "He et al. 2015, arXiv 1512.03385, Table 1",
    },
    "resnet152": {
        "make": "resnet152",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "152 layers, bottleneck blocks",
        "paper": "He et al. 2015, arXiv 1512.03385, Table 1",
    },
}


def conv(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the image's size, divided by the stride."""
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added."""

    expansion = 1

    def __init__(self, cin: int, width: int, stride: int, downsample: nn.Module | None, stride_in: str) -> None:
        super().__init__()
        self.conv1 = conv(cin, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        x = self.relu(y)
        return x


class Bottleneck(nn.Module):
    """1x1 that narrows, 3x3, 1x1 that widens four times; the input is added around them."""

    expansion = 4

    def __init__(self, cin: int, width: int, stride: int, downsample: nn.Module | None, stride_in: str) -> None:
        super().__init__()
        first, middle = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = conv(cin, width, 1, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, middle)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, width * 4, 1)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        x = self.relu(y)
        return x


class ResNet(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        repeats: tuple[int, int, int, int],
        num_classes: int = 1000,
        stride_in: str = "3x3",
    ) -> None:
        super().__init__()
        if stride_in not in ("1x1", "3x3"):
            raise ValueError(f"stride_in is {stride_in!r}: expected '1x1' or '3x3'")
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, channels = [], 64
        for i, n in enumerate(repeats):
            width, blocks = 64 * 2**i, list[nn.Module]()
            for j in range(n):
                stride = 2 if i > 0 and j == 0 else 1
                out = width * block.expansion
                down = None
                if stride != 1 or channels != out:
                    down = nn.Sequential(conv(channels, out, 1, stride), nn.BatchNorm2d(out))
                blocks.append(block(channels, width, stride, down, stride_in))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.fc(torch.flatten(self.avgpool(x), 1))
        return x


def resnet18(num_classes: int = 1000) -> ResNet:
    """18 layers."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes)


def resnet34(num_classes: int = 1000) -> ResNet:
    """34 layers."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes)


def resnet50(num_classes: int = 1000, stride_in: str = "3x3") -> ResNet:
    """50 layers; `stride_in` says which convolution of a block halves the image."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, stride_in)


def resnet101(num_classes: int = 1000, stride_in: str = "3x3") -> ResNet:
    """101 layers."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, stride_in)


def resnet152(num_classes: int = 1000, stride_in: str = "3x3") -> ResNet:
    """152 layers."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, stride_in)
