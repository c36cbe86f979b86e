"""GhostNet: Han et al., More Features from Cheap Operations, arXiv 1911.11907, Table 1 (as the authors' code has it).

A Ghost module makes part of its channels with an ordinary convolution and the rest from those, with a cheap
depthwise one.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

ROOFLINE = {
    "ghostnet": {
        "make": "ghostnet",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "MobileNetV3-Large's plan built of Ghost modules",
        "paper": "Han et al. 2020, arXiv 1911.11907, Table 1",
    },
    "ghostnet_0.5": {
        "make": "ghostnet",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width": 0.5},
        "about": "width 0.5",
        "paper": "Han et al. 2020, arXiv 1911.11907, Table 7",
    },
    "ghostnet_1.3": {
        "make": "ghostnet",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width": 1.3},
        "about": "width 1.3",
        "paper": "Han et al. 2020, arXiv 1911.11907, Table 7",
    },
    "ghost_module": {
        "make": "ghost_module",
        "inputs": {"x": [1, 256, 56, 56]},
        "about": "one Ghost module, ratio 2, in the place of a 3x3 convolution 256 -> 256",
        "paper": "Han et al. 2020, arXiv 1911.11907, Section 3.1",
    },
    "ghost_module_plain": {
        "make": "plain_module",
        "inputs": {"x": [1, 256, 56, 56]},
        "about": "the 3x3 convolution that ghost_module stands in for",
        "paper": "Han et al. 2020, arXiv 1911.11907, Section 3.1",
    },
}

# kernel, expanded channels, output channels, squeeze ratio (0: none), stride
_ROWS = (
    (3, 16, 16, 0.0, 1),
    (3, 48, 24, 0.0, 2),
    (3, 72, 24, 0.0, 1),
    (5, 72, 40, 0.25, 2),
    (5, 120, 40, 0.25, 1),
    (3, 240, 80, 0.0, 2),
    (3, 200, 80, 0.0, 1),
    (3, 184, 80, 0.0, 1),
    (3, 184, 80, 0.0, 1),
    (3, 480, 112, 0.25, 1),
    (3, 672, 112, 0.25, 1),
    (5, 672, 160, 0.25, 2),
    (5, 960, 160, 0.0, 1),
    (5, 960, 160, 0.25, 1),
    (5, 960, 160, 0.0, 1),
    (5, 960, 160, 0.25, 1),
)


def divisible(value: float, divisor: int = 4) -> int:
    """The multiple of `divisor` nearest to `value`, and not more than 10 % below it."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_norm(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias, BatchNorm and, if asked, ReLU."""
    layers = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class GhostModule(nn.Module):
    """[n, cin, h, w] -> [n, cout, h/stride, w/stride]; 1/ratio of the channels by convolution, the rest depthwise."""

    def __init__(
        self, cin: int, cout: int, kernel: int = 1, ratio: int = 2, cheap: int = 3, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.cout = cout
        own = ceil(cout / ratio)
        self.primary_conv = conv_norm(cin, own, kernel, stride, relu=relu)
        self.cheap_operation = conv_norm(own, own * (ratio - 1), cheap, groups=own, relu=relu)

    def forward(self, x: Tensor) -> Tensor:
        own = self.primary_conv(x)
        y = torch.cat([own, self.cheap_operation(own)], 1)
        return y[:, : self.cout]


class SqueezeExcite(nn.Module):
    """[n, c, h, w] -> same: each channel times a gate in [0, 1] that all channels' means decide."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        squeeze = divisible(channels * ratio)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv_reduce = nn.Conv2d(channels, squeeze, 1)
        self.act = nn.ReLU(inplace=True)
        self.conv_expand = nn.Conv2d(squeeze, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.gate(self.conv_expand(self.act(self.conv_reduce(self.avgpool(x)))))
        return x * scale


class GhostBottleneck(nn.Module):
    """A Ghost module that expands, a depthwise convolution where the stride is 2, a Ghost module that projects."""

    def __init__(self, cin: int, hidden: int, cout: int, kernel: int, stride: int, squeeze: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [GhostModule(cin, hidden)]
        if stride > 1:
            layers.append(conv_norm(hidden, hidden, kernel, stride, groups=hidden, relu=False))
        if squeeze:
            layers.append(SqueezeExcite(hidden, squeeze))
        layers.append(GhostModule(hidden, cout, relu=False))
        self.block = nn.Sequential(*layers)
        self.shortcut = nn.Sequential()
        if cin != cout or stride > 1:
            self.shortcut = nn.Sequential(
                conv_norm(cin, cin, kernel, stride, groups=cin, relu=False), conv_norm(cin, cout, 1, relu=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        y += self.shortcut(x)
        return y


class GhostNet(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(self, width: float = 1.0, num_classes: int = 1000, dropout: float = 0.2) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"width is {width}: it scales the channels and must be above 0")
        channels = divisible(16 * width)
        self.stem = conv_norm(3, channels, 3, 2)
        blocks, hidden = list[nn.Module](), channels
        for kernel, expand, out, squeeze, stride in _ROWS:
            cin, hidden, channels = channels, divisible(expand * width), divisible(out * width)
            blocks.append(GhostBottleneck(cin, hidden, channels, kernel, stride, squeeze))
        self.blocks = nn.Sequential(*blocks, conv_norm(channels, hidden, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv_head = nn.Conv2d(hidden, 1280, 1)
        self.act = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.blocks(self.stem(x)))
        x = torch.flatten(self.act(self.conv_head(x)), 1)
        x = self.classifier(self.dropout(x))
        return x


def ghostnet(width: float = 1.0, num_classes: int = 1000, dropout: float = 0.2) -> GhostNet:
    """GhostNet; `width` scales the channels."""
    return GhostNet(width, num_classes, dropout)


def ghost_module(cin: int = 256, cout: int = 256, kernel: int = 3, ratio: int = 2, cheap: int = 3) -> GhostModule:
    """One Ghost module: convolution, BatchNorm, ReLU, twice."""
    return GhostModule(cin, cout, kernel, ratio, cheap)


def plain_module(cin: int = 256, cout: int = 256, kernel: int = 3) -> nn.Sequential:
    """The convolution, BatchNorm and ReLU that a Ghost module of the same arguments replaces."""
    return conv_norm(cin, cout, kernel)
