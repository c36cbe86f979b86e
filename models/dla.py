"""DLA-34: Yu et al., Deep Layer Aggregation, arXiv 1707.06484, Table 1.

Left out are the projections that the authors' code computes at the outer nodes of stages 3 and 4 and never uses
(41,728 parameters).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "dla34": {
        "make": "dla34",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "residual blocks aggregated by trees",
        "paper": "Yu et al. 2018, arXiv 1707.06484, Table 1",
    },
}

_CHANNELS = (16, 32, 64, 128, 256, 512)


def conv_norm(cin: int, cout: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution without bias, BatchNorm."""
    return [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which `residual` is added."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(cin, cout, 3, stride)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv_norm(cout, cout, 3)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += residual
        x = self.relu(y)
        return x


class Tree(nn.Module):
    """A binary tree of residual blocks; each root concatenates what its tree has made and mixes it by a 1x1.

    `root_in`: channels that reach the deepest root on the right, counted on the way down.
    """

    def __init__(self, levels: int, cin: int, cout: int, stride: int = 1, level_root: bool = False, root_in: int = 0) -> None:
        super().__init__()
        root_in = (root_in or 2 * cout) + (cin if level_root else 0)
        self.levels, self.level_root = levels, level_root
        self.downsample = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        if levels == 1:
            self.tree1: nn.Module = BasicBlock(cin, cout, stride)
            self.tree2: nn.Module = BasicBlock(cout, cout)
            self.project = nn.Sequential(*conv_norm(cin, cout, 1)) if cin != cout else nn.Identity()
            self.root = nn.Sequential(*conv_norm(root_in, cout, 1), nn.ReLU(inplace=True))
        else:
            self.tree1 = Tree(levels - 1, cin, cout, stride)
            self.tree2 = Tree(levels - 1, cout, cout, root_in=root_in + cout)

    def forward(self, x: Tensor, children: tuple[Tensor, ...] = ()) -> Tensor:
        if self.levels > 1:
            if self.level_root:
                children = (*children, self.downsample(x))
            left = self.tree1(x)
            x = self.tree2(left, (*children, left))
            return x
        bottom = self.downsample(x)
        if self.level_root:
            children = (*children, bottom)
        left = self.tree1(x, self.project(bottom))
        right = self.tree2(left, left)
        x = self.root(torch.cat([right, left, *children], 1))
        return x


class DLA(nn.Module):
    """[n, 3, h, w] -> [n, num_classes]."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        c = _CHANNELS
        self.base_layer = nn.Sequential(*conv_norm(3, c[0], 7), nn.ReLU(inplace=True))
        self.level0 = nn.Sequential(*conv_norm(c[0], c[0], 3), nn.ReLU(inplace=True))
        self.level1 = nn.Sequential(*conv_norm(c[0], c[1], 3, 2), nn.ReLU(inplace=True))
        self.level2 = Tree(1, c[1], c[2], 2)
        self.level3 = Tree(2, c[2], c[3], 2, level_root=True)
        self.level4 = Tree(2, c[3], c[4], 2, level_root=True)
        self.level5 = Tree(1, c[4], c[5], 2, level_root=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(c[5], num_classes, 1)

    def levels(self, x: Tensor) -> list[Tensor]:
        """The outputs of the six levels: [n, 16, h, w], [n, 32, h/2, w/2], ... [n, 512, h/32, w/32]."""
        x, outputs = self.base_layer(x), []
        for level in (self.level0, self.level1, self.level2, self.level3, self.level4, self.level5):
            x = level(x)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.fc(self.avgpool(self.levels(x)[-1])), 1)


def dla34(num_classes: int = 1000) -> DLA:
    """DLA-34."""
    return DLA(num_classes)
