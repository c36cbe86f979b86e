"""VGG: Simonyan and Zisserman, Very Deep Convolutional Networks, arXiv 1409.1556, Table 1.

Module names follow torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "vgg11": {
        "make": "vgg11",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "configuration A, 11 weight layers",
        "paper": "Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1",
    },
    "vgg13": {
        "make": "vgg13",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "configuration B, 13 weight layers",
        "paper": "Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1",
    },
    "vgg16": {
        "make": "vgg16",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "configuration D, 16 weight layers",
        "paper": "Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1",
    },
    "vgg19": {
        "make": "vgg19",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "configuration E, 19 weight layers",
        "paper": "Simonyan and Zisserman 2014, arXiv 1409.1556, Table 1",
    },
}


class VGG(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]: five stages of 3x3 convolutions, each closed by a 2x2 max pool.

    `repeats`: how many convolutions each stage has.
    """

    def __init__(self, repeats: tuple[int, int, int, int, int], num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        features, channels = list[nn.Module](), 3
        for width, n in zip((64, 128, 256, 512, 512), repeats, strict=True):
            for _ in range(n):
                features += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            features.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        x = self.classifier(torch.flatten(x, 1))
        return x


def vgg11(num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """Configuration A."""
    return VGG((1, 1, 2, 2, 2), num_classes, dropout)


def vgg13(num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """Configuration B."""
    return VGG((2, 2, 2, 2, 2), num_classes, dropout)


def vgg16(num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """Configuration D."""
    return VGG((2, 2, 3, 3, 3), num_classes, dropout)


def vgg19(num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """Configuration E."""
    return VGG((2, 2, 4, 4, 4), num_classes, dropout)
