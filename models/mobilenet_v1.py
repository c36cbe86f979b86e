"""MobileNetV1: Howard et al., MobileNets, arXiv 1704.04861, Table 1.

A strided convolution, then thirteen blocks of a depthwise 3x3 and a pointwise 1x1 convolution, each followed by
BatchNorm and ReLU; 28 layers when the two convolutions of a block are counted apart. The resolution multiplier of
the paper is the size of the input, so it needs no argument here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "mobilenet_v1": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "depthwise separable convolutions, width_mult scales the channels",
        "paper": "Howard et al. 2017, arXiv 1704.04861, Table 1",
    },
    "mobilenet_v1_1.0_192": {"make": "mobilenet_v1", "inputs": {"x": [1, 3, 192, 192]}, "about": "width 1.0 at 192x192"},
    "mobilenet_v1_1.0_160": {"make": "mobilenet_v1", "inputs": {"x": [1, 3, 160, 160]}, "about": "width 1.0 at 160x160"},
    "mobilenet_v1_1.0_128": {"make": "mobilenet_v1", "inputs": {"x": [1, 3, 128, 128]}, "about": "width 1.0 at 128x128"},
    "mobilenet_v1_0.75_224": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width_mult": 0.75},
        "about": "width 0.75 at 224x224",
    },
    "mobilenet_v1_0.75_192": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 192, 192]},
        "args": {"width_mult": 0.75},
        "about": "width 0.75 at 192x192",
    },
    "mobilenet_v1_0.75_160": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 160, 160]},
        "args": {"width_mult": 0.75},
        "about": "width 0.75 at 160x160",
    },
    "mobilenet_v1_0.75_128": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 128, 128]},
        "args": {"width_mult": 0.75},
        "about": "width 0.75 at 128x128",
    },
    "mobilenet_v1_0.5_224": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width_mult": 0.5},
        "about": "width 0.5 at 224x224",
    },
    "mobilenet_v1_0.5_192": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 192, 192]},
        "args": {"width_mult": 0.5},
        "about": "width 0.5 at 192x192",
    },
    "mobilenet_v1_0.5_160": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 160, 160]},
        "args": {"width_mult": 0.5},
        "about": "width 0.5 at 160x160",
    },
    "mobilenet_v1_0.5_128": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 128, 128]},
        "args": {"width_mult": 0.5},
        "about": "width 0.5 at 128x128",
    },
    "mobilenet_v1_0.25_224": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"width_mult": 0.25},
        "about": "width 0.25 at 224x224",
    },
    "mobilenet_v1_0.25_192": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 192, 192]},
        "args": {"width_mult": 0.25},
        "about": "width 0.25 at 192x192",
    },
    "mobilenet_v1_0.25_160": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 160, 160]},
        "args": {"width_mult": 0.25},
        "about": "width 0.25 at 160x160",
    },
    "mobilenet_v1_0.25_128": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 128, 128]},
        "args": {"width_mult": 0.25},
        "about": "width 0.25 at 128x128",
    },
    "mobilenet_v1_shallow": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"shallow": True},
        "about": "without the five 14x14x512 blocks",
        "paper": "Howard et al. 2017, arXiv 1704.04861, Table 5",
    },
    "mobilenet_v1_full_conv": {
        "make": "mobilenet_v1",
        "inputs": {"x": [1, 3, 224, 224]},
        "args": {"separable": False},
        "about": "the same net with standard convolutions",
        "paper": "Howard et al. 2017, arXiv 1704.04861, Table 4",
    },
}

# (output channels, stride) of the thirteen blocks
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


class ConvNormAct(nn.Sequential):
    """[n, cin, h, w] -> [n, cout, h/stride, w/stride]: convolution without bias, BatchNorm, ReLU.

    The ReLU is not in place: the paper says nothing of buffers, and each of its layers writes an output.
    """

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(),
        )


class Separable(nn.Sequential):
    """A depthwise 3x3 convolution that filters, then a pointwise 1x1 one that combines."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__(ConvNormAct(cin, cin, 3, stride, groups=cin), ConvNormAct(cin, cout, 1))


class MobileNetV1(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(self, width_mult: float = 1.0, num_classes: int = 1000, separable: bool = True, shallow: bool = False) -> None:
        super().__init__()
        if width_mult <= 0:
            raise ValueError(f"width_mult is {width_mult}: it scales the channels and must be above 0")
        blocks = _BLOCKS[:6] + _BLOCKS[11:] if shallow else _BLOCKS
        # The authors' code keeps at least 8 channels.
        channels = max(int(32 * width_mult), 8)
        features: list[nn.Module] = [ConvNormAct(3, channels, 3, 2)]
        for out, stride in blocks:
            cin, channels = channels, max(int(out * width_mult), 8)
            features.append(Separable(cin, channels, stride) if separable else ConvNormAct(cin, channels, 3, stride))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        x = self.classifier(torch.flatten(x, 1))
        return x


def mobilenet_v1(
    width_mult: float = 1.0, num_classes: int = 1000, separable: bool = True, shallow: bool = False
) -> MobileNetV1:
    """MobileNetV1; `width_mult` is the paper's alpha, `separable=False` its "Conv MobileNet", `shallow` its Table 5."""
    return MobileNetV1(width_mult, num_classes, separable, shallow)
