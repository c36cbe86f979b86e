"""EfficientNet-B0: Tan and Le, Rethinking Model Scaling, arXiv 1905.11946, Table 1.

The state_dict's names follow torchvision. Stochastic depth, which only training sees, is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "efficientnet_b0": {
        "make": "efficientnet_b0",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "inverted residuals with squeeze-and-excitation and SiLU, found by search",
        "paper": "Tan and Le 2019, arXiv 1905.11946, Table 1",
    },
}

# expansion, kernel, stride of the first, output channels, repeats
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm and, if asked, SiLU."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(cout), *([nn.SiLU(inplace=True)] if act else []))


class SqueezeExcitation(nn.Module):
    """[n, c, h, w] -> same: each channel times a gate in [0, 1] that all channels' means decide."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.activation = nn.SiLU(inplace=True)
        self.scale_activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        scale = self.scale_activation(scale)
        return scale * x


class MBConv(nn.Module):
    """Expand, filter, squeeze-and-excite to a quarter of the input's channels, project."""

    def __init__(self, cin: int, cout: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = cin * expand
        self.residual = stride == 1 and cin == cout
        layers: list[nn.Module] = [ConvNormAct(cin, hidden, 1)] if expand != 1 else []
        layers += [
            ConvNormAct(hidden, hidden, kernel, stride, groups=hidden),
            SqueezeExcitation(hidden, cin // 4),
            ConvNormAct(hidden, cout, 1, act=False),
        ]
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        if self.residual:
            y += x
        return y


class EfficientNet(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2) -> None:
        super().__init__()
        channels = 32
        features: list[nn.Module] = [ConvNormAct(3, channels, 3, 2)]
        for expand, kernel, stride, out, repeats in _STAGES:
            blocks = []
            for i in range(repeats):
                blocks.append(MBConv(channels, out, expand, kernel, stride if i == 0 else 1))
                channels = out
            features.append(nn.Sequential(*blocks))
        features.append(ConvNormAct(channels, 4 * channels, 1))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(4 * channels, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        x = self.classifier(torch.flatten(x, 1))
        return x


def efficientnet_b0(num_classes: int = 1000, dropout: float = 0.2) -> EfficientNet:
    """EfficientNet-B0."""
    return EfficientNet(num_classes, dropout)
