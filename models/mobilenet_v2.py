"""MobileNetV2: Sandler et al., Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381, Table 2.

Module names follow torchvision, so a state_dict of its `mobilenet_v2` loads here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "mobilenet_v2": {
        "make": "mobilenet_v2",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "inverted residuals with linear bottlenecks",
        "paper": "Sandler et al. 2018, arXiv 1801.04381, Table 2",
    },
    "mobilenet_v2_1.4": {
        "make": "mobilenet_v2",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width_mult": 1.4},
        "about": "width 1.4",
        "paper": "Sandler et al. 2018, arXiv 1801.04381, Table 4",
    },
    "mobilenet_v2_article": {
        "make": "mobilenet_v2_article",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "a variant met in articles: a convolution on the shortcut of stride-1 blocks, one block more per stage",
    },
}

# expansion t, output channels c, repeats n, stride of the first s: the rows of Table 2
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, and not more than 10 % below it."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class ConvNormAct(nn.Sequential):
    """[n, cin, h, w] -> [n, cout, h/stride, w/stride]: convolution without bias, BatchNorm, ReLU6."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Expand with a 1x1, filter with a depthwise 3x3, project with a linear 1x1; add the input where shapes agree.

    With `conv_shortcut` every block of stride 1 has a sum, and its other side is a 1x1 convolution and BatchNorm.
    """

    def __init__(self, cin: int, cout: int, stride: int, expand: int, conv_shortcut: bool = False) -> None:
        super().__init__()
        hidden = cin * expand
        self.residual = stride == 1 and (cin == cout or conv_shortcut)
        layers: list[nn.Module] = [ConvNormAct(cin, hidden, 1)] if expand != 1 else []
        layers += [
            ConvNormAct(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut: nn.Module | None = None
        if conv_shortcut and self.residual:
            self.shortcut = nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if not self.residual:
            return y
        return (x if self.shortcut is None else self.shortcut(x)) + y


class MobileNetV2(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(
        self,
        width_mult: float = 1.0,
        num_classes: int = 1000,
        dropout: float = 0.2,
        conv_shortcut: bool = False,
        extra_block: bool = False,
    ) -> None:
        super().__init__()
        if width_mult <= 0:
            raise ValueError(f"width_mult is {width_mult}: it scales the channels and must be above 0")
        channels = divisible(32 * width_mult)
        features: list[nn.Module] = [ConvNormAct(3, channels, stride=2)]
        for expand, out, repeats, stride in _STAGES:
            for i in range(repeats + extra_block):
                cin, channels = channels, divisible(out * width_mult)
                features.append(InvertedResidual(cin, channels, stride if i == 0 else 1, expand, conv_shortcut))
        # The paper does not narrow the last layer when width_mult is below 1.
        last = divisible(1280 * max(1.0, width_mult))
        features.append(ConvNormAct(channels, last, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        x = self.classifier(torch.flatten(x, 1))
        return x


def mobilenet_v2(width_mult: float = 1.0, num_classes: int = 1000, dropout: float = 0.2) -> MobileNetV2:
    """MobileNetV2 as in the paper."""
    return MobileNetV2(width_mult, num_classes, dropout)


def mobilenet_v2_article(width_mult: float = 1.0, num_classes: int = 1000, dropout: float = 0.2) -> MobileNetV2:
    """Not the paper's net: 1x1 convolutions on the shortcuts of stride-1 blocks and one block more in each stage."""
    return MobileNetV2(width_mult, num_classes, dropout, conv_shortcut=True, extra_block=True)
