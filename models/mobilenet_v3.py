"""MobileNetV3: Howard et al., Searching for MobileNetV3, arXiv 1905.02244, Tables 1 and 2.

Module names follow torchvision, so a state_dict of its `mobilenet_v3_large` and `_small` loads here. So do
`reduced_tail` (half the channels in the last stage, for detection and segmentation) and `dilated` (the last stage
keeps its input's size with atrous depthwise convolutions).

`width_mult` scales as torchvision does; with `paper_width` as the authors do, which alone gives the paper's figures:
the expansion is a ratio of the rounded input, and the layer before the classifier is not narrowed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

ROOFLINE = {
    "mobilenet_v3_large": {
        "make": "mobilenet_v3_large",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "inverted residuals with squeeze-and-excitation and hard-swish",
        "paper": "Howard et al. 2019, arXiv 1905.02244, Table 1",
    },
    "mobilenet_v3_small": {
        "make": "mobilenet_v3_small",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "the smaller form",
        "paper": "Howard et al. 2019, arXiv 1905.02244, Table 2",
    },
    "mobilenet_v3_large_0.75": {
        "make": "mobilenet_v3_large",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width_mult": 0.75, "paper_width": True},
        "about": "width 0.75, scaled as the authors do",
        "paper": "Howard et al. 2019, arXiv 1905.02244, Table 3",
    },
    "mobilenet_v3_small_0.75": {
        "make": "mobilenet_v3_small",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width_mult": 0.75, "paper_width": True},
        "about": "width 0.75, scaled as the authors do",
        "paper": "Howard et al. 2019, arXiv 1905.02244, Table 3",
    },
}


class Row(NamedTuple):
    """One bottleneck: a row of Table 1 or 2. `act` is RE (ReLU) or HS (hard-swish); `tail` marks the last stage."""

    kernel: int
    expand: int
    out: int
    se: bool
    act: str
    stride: int
    tail: bool = False


_LARGE = (
    Row(3, 16, 16, False, "RE", 1),
    Row(3, 64, 24, False, "RE", 2),
    Row(3, 72, 24, False, "RE", 1),
    Row(5, 72, 40, True, "RE", 2),
    Row(5, 120, 40, True, "RE", 1),
    Row(5, 120, 40, True, "RE", 1),
    Row(3, 240, 80, False, "HS", 2),
    Row(3, 200, 80, False, "HS", 1),
    Row(3, 184, 80, False, "HS", 1),
    Row(3, 184, 80, False, "HS", 1),
    Row(3, 480, 112, True, "HS", 1),
    Row(3, 672, 112, True, "HS", 1),
    Row(5, 672, 160, True, "HS", 2, tail=True),
    Row(5, 960, 160, True, "HS", 1, tail=True),
    Row(5, 960, 160, True, "HS", 1, tail=True),
)
_SMALL = (
    Row(3, 16, 16, True, "RE", 2),
    Row(3, 72, 24, False, "RE", 2),
    Row(3, 88, 24, False, "RE", 1),
    Row(5, 96, 40, True, "HS", 2),
    Row(5, 240, 40, True, "HS", 1),
    Row(5, 240, 40, True, "HS", 1),
    Row(5, 120, 48, True, "HS", 1),
    Row(5, 144, 48, True, "HS", 1),
    Row(5, 288, 96, True, "HS", 2, tail=True),
    Row(5, 576, 96, True, "HS", 1, tail=True),
    Row(5, 576, 96, True, "HS", 1, tail=True),
)


def divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, and not more than 10 % below it."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm and, unless `act` is empty, ReLU or hard-swish."""

    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1, act: str = ""
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(cin, cout, kernel, stride, kernel // 2 * dilation, dilation, groups, bias=False),
            nn.BatchNorm2d(cout, eps=0.001, momentum=0.01),
        ]
        if act:
            layers.append(nn.Hardswish(inplace=True) if act == "HS" else nn.ReLU(inplace=True))
        super().__init__(*layers)


class SqueezeExcitation(nn.Module):
    """[n, c, h, w] -> same: each channel times a gate in [0, 1] that all channels' means decide."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        scale = self.scale_activation(scale)
        return scale * x


class InvertedResidual(nn.Module):
    """Expand, filter, squeeze-and-excite where the row says so, project; add the input where shapes agree."""

    def __init__(self, cin: int, row: Row, dilation: int) -> None:
        super().__init__()
        self.residual = row.stride == 1 and cin == row.out
        # A dilated stage keeps its input's size.
        stride = 1 if dilation > 1 else row.stride
        layers: list[nn.Module] = [ConvNormAct(cin, row.expand, 1, act=row.act)] if row.expand != cin else []
        layers.append(ConvNormAct(row.expand, row.expand, row.kernel, stride, row.expand, dilation, row.act))
        if row.se:
            layers.append(SqueezeExcitation(row.expand, divisible(row.expand // 4)))
        layers.append(ConvNormAct(row.expand, row.out, 1))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        if self.residual:
            y += x
        return y


class MobileNetV3(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(
        self,
        rows: tuple[Row, ...],
        last: int,
        width_mult: float,
        reduced_tail: bool,
        dilated: bool,
        num_classes: int,
        dropout: float,
        paper_width: bool,
    ) -> None:
        super().__init__()
        if width_mult <= 0:
            raise ValueError(f"width_mult is {width_mult}: it scales the channels and must be above 0")
        channels, full = divisible(16 * width_mult), 16
        features: list[nn.Module] = [ConvNormAct(3, channels, 3, 2, act="HS")]
        for i, row in enumerate(rows):
            cut = 2 if reduced_tail and row.tail else 1
            # The first row of the tail still expands the full-width stage before it.
            expand = row.expand // cut if rows[i - 1].tail else row.expand
            wide = expand * channels / full if paper_width else expand * width_mult
            full = row.out // cut
            row = row._replace(expand=divisible(wide), out=divisible(full * width_mult))
            features.append(InvertedResidual(channels, row, 2 if dilated and row.tail else 1))
            channels = row.out
        features.append(ConvNormAct(channels, 6 * channels, 1, act="HS"))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        scale = max(width_mult, 1.0) if paper_width else width_mult
        last = divisible(last // (2 if reduced_tail else 1) * scale)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, last),
            nn.Hardswish(inplace=True),
            nn.Dropout(dropout, inplace=True),
            nn.Linear(last, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        x = self.classifier(torch.flatten(x, 1))
        return x


def mobilenet_v3_large(
    width_mult: float = 1.0,
    reduced_tail: bool = False,
    dilated: bool = False,
    num_classes: int = 1000,
    dropout: float = 0.2,
    paper_width: bool = False,
) -> MobileNetV3:
    """MobileNetV3-Large, Table 1."""
    return MobileNetV3(_LARGE, 1280, width_mult, reduced_tail, dilated, num_classes, dropout, paper_width)


def mobilenet_v3_small(
    width_mult: float = 1.0,
    reduced_tail: bool = False,
    dilated: bool = False,
    num_classes: int = 1000,
    dropout: float = 0.2,
    paper_width: bool = False,
) -> MobileNetV3:
    """MobileNetV3-Small, Table 2."""
    return MobileNetV3(_SMALL, 1024, width_mult, reduced_tail, dilated, num_classes, dropout, paper_width)
