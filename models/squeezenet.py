"""SqueezeNet: Iandola et al., AlexNet-level accuracy with 50x fewer parameters, arXiv 1602.07360, Table 1.

Module names follow torchvision. 1.1 is the authors' later form with 2.4 times less computation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "squeezenet1_0": {
        "make": "squeezenet1_0",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "Fire modules: squeeze by 1x1, expand by 1x1 and 3x3",
        "paper": "Iandola et al. 2016, arXiv 1602.07360, Table 1",
    },
    "squeezenet1_1": {
        "make": "squeezenet1_1",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "the authors' cheaper release",
        "paper": "https://github.com/forresti/SqueezeNet, SqueezeNet_v1.1",
    },
}


class Fire(nn.Module):
    """[n, cin, h, w] -> [n, 2 * expand, h, w]: squeeze to few channels, expand by 1x1 and by 3x3, concatenate."""

    def __init__(self, cin: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeeze, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        ones = self.expand1x1_activation(self.expand1x1(x))
        threes = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([ones, threes], 1)


class SqueezeNet(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]. `pools`: the places, counted in Fire modules, before which a max pool stands."""

    def __init__(self, stem: int, kernel: int, pools: tuple[int, ...], num_classes: int, dropout: float) -> None:
        super().__init__()
        features: list[nn.Module] = [nn.Conv2d(3, stem, kernel, 2), nn.ReLU(inplace=True)]
        channels = stem
        for i, (squeeze, expand) in enumerate(((16, 64), (32, 128), (48, 192), (64, 256))):
            for j in range(2):
                if 2 * i + j in pools:
                    features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
                features.append(Fire(channels, squeeze, expand))
                channels = 2 * expand
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Conv2d(512, num_classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


def squeezenet1_0(num_classes: int = 1000, dropout: float = 0.5) -> SqueezeNet:
    """The paper's net."""
    return SqueezeNet(96, 7, (0, 3, 7), num_classes, dropout)


def squeezenet1_1(num_classes: int = 1000, dropout: float = 0.5) -> SqueezeNet:
    """A smaller first convolution and earlier pools."""
    return SqueezeNet(64, 3, (0, 2, 4), num_classes, dropout)
