"""CenterNet with light backbones: Zhou et al., Objects as Points, arXiv 1904.07850.

At 512x512 the heads look at a 128x128 map: `hm` (one heat map per class), `wh` (size) and `reg` (offset).
With MobileNetV1 and V2 there is no decoder: their last 16x16 map is viewed as 128x128 with 64 times fewer channels
(16 and 20), as in articles that tried them. V2 stands there in its variant with convolutions on the shortcuts.
DLA-34 has the paper's decoder; its 3x3 convolutions are plain, or deformable (needs torchvision) as in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROOFLINE = {
    "centernet_mobilenet_v1": {
        "make": "centernet_mobilenet_v1",
        "inputs": {"x": [1, 3, 512, 512]},
        "about": "CenterNet on MobileNetV1, heads on a 16x128x128 view",
    },
    "centernet_mobilenet_v2": {
        "make": "centernet_mobilenet_v2",
        "inputs": {"x": [1, 3, 512, 512]},
        "about": "CenterNet on MobileNetV2 (article variant), heads on a 20x128x128 view",
    },
    "centernet_mobilenet_v2_paper": {
        "make": "centernet_mobilenet_v2",
        "inputs": {"x": [1, 3, 512, 512]},
        "args": {"variant": "paper"},
        "about": "the same on MobileNetV2 as its paper has it",
    },
    "centernet_dla34": {
        "make": "centernet_dla34",
        "inputs": {"x": [1, 3, 512, 512]},
        "about": "CenterNet on DLA-34, plain convolutions in the decoder",
        "paper": "Zhou et al. 2019, arXiv 1904.07850, Section 5",
    },
    "centernet_dla34_dcn": {
        "make": "centernet_dla34",
        "inputs": {"x": [1, 3, 512, 512]},
        "args": {"deformable": True},
        "about": "CenterNet on DLA-34, deformable convolutions in the decoder (needs torchvision)",
        "paper": "Zhou et al. 2019, arXiv 1904.07850, Section 5",
    },
}


def conv_norm(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias, BatchNorm."""
    return [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]


# ------------------------------------------------------------------------------------------------ MobileNets


def mobilenet_v1_features() -> nn.Sequential:
    """[n, 3, h, w] -> [n, 1024, h/32, w/32]."""
    blocks = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    layers, channels = [*conv_norm(3, 32, 3, 2), nn.ReLU(inplace=True)], 32
    for cout, stride in blocks:
        layers += [*conv_norm(channels, channels, 3, stride, groups=channels), nn.ReLU(inplace=True)]
        layers += [*conv_norm(channels, cout, 1), nn.ReLU(inplace=True)]
        channels = cout
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expand, filter, project; added to the input, or with `conv_shortcut` to a 1x1 convolution of it."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int, conv_shortcut: bool) -> None:
        super().__init__()
        hidden = cin * expand
        layers = [*conv_norm(cin, hidden, 1), nn.ReLU6(inplace=True)] if expand != 1 else []
        layers += [*conv_norm(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(inplace=True)]
        self.conv = nn.Sequential(*layers, *conv_norm(hidden, cout, 1))
        self.shortcut: nn.Module | None = None
        if stride == 1 and conv_shortcut:
            self.shortcut = nn.Sequential(*conv_norm(cin, cout, 1))
        elif stride == 1 and cin == cout:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y if self.shortcut is None else self.shortcut(x) + y


def mobilenet_v2_features(article: bool) -> nn.Sequential:
    """[n, 3, h, w] -> [n, 1280, h/32, w/32]; the article's variant has one block more in every stage."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers, channels = [*conv_norm(3, 32, 3, 2), nn.ReLU6(inplace=True)], 32
    for expand, cout, repeats, stride in stages:
        for i in range(repeats + article):
            layers.append(InvertedResidual(channels, cout, stride if i == 0 else 1, expand, article))
            channels = cout
    return nn.Sequential(*layers, *conv_norm(channels, 1280, 1), nn.ReLU6(inplace=True))


class CenterNetView(nn.Module):
    """[n, 3, h, w] -> dict of [n, classes or 2, h/4, w/4], from a backbone of stride 32 whose map is viewed 8 x larger."""

    def __init__(self, features: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.hm = nn.Conv2d(channels // 64, classes, 1)
        self.wh = nn.Conv2d(channels // 64, 2, 1)
        self.reg = nn.Conv2d(channels // 64, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.features(x)
        y = y.view(len(y), -1, 8 * y.shape[2], 8 * y.shape[3])
        return {"hm": self.hm(y), "wh": self.wh(y), "reg": self.reg(y)}


# ------------------------------------------------------------------------------------------------ DLA-34


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
    """A binary tree of residual blocks; each root concatenates what its tree has made and mixes it by a 1x1."""

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


class DeformConv(nn.Module):
    """A 3x3 convolution whose nine taps are moved and weighted by what another convolution says (DCNv2)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        # Only this variant needs torchvision, and to import it takes longer than the analysis.
        from torchvision.ops import deform_conv2d

        self.op = deform_conv2d
        self.weight = nn.Parameter(torch.empty(cout, cin, 3, 3))
        self.bias = nn.Parameter(torch.zeros(cout))
        nn.init.kaiming_uniform_(self.weight)
        self.conv_offset_mask = nn.Conv2d(cin, 27, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        offset, mask = self.conv_offset_mask(x).split((18, 9), 1)
        x = self.op(x, offset, self.weight, self.bias, padding=1, mask=mask.sigmoid())
        return x


def decoder_conv(cin: int, cout: int, deformable: bool) -> nn.Sequential:
    """A 3x3 convolution, plain or deformable, BatchNorm, ReLU."""
    conv: nn.Module = DeformConv(cin, cout) if deformable else nn.Conv2d(cin, cout, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class IDAUp(nn.Module):
    """Iterative aggregation: each map but the first is projected, enlarged, and merged with the one before it.

    `channels`, `factors`: of each map; the factor is how much smaller it is than the first.
    """

    def __init__(self, cout: int, channels: tuple[int, ...], factors: tuple[int, ...], deformable: bool) -> None:
        super().__init__()
        self.proj = nn.ModuleList(decoder_conv(c, cout, deformable) for c in channels[1:])
        self.up = nn.ModuleList(nn.ConvTranspose2d(cout, cout, 2 * f, f, f // 2, groups=cout, bias=False) for f in factors[1:])
        self.node = nn.ModuleList(decoder_conv(cout, cout, deformable) for _ in channels[1:])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        out = [maps[0]]
        for x, proj, up, node in zip(maps[1:], self.proj, self.up, self.node, strict=True):
            out.append(node(up(proj(x)) + out[-1]))
        return out


class CenterNetDLA(nn.Module):
    """[n, 3, h, w] -> dict of [n, classes or 2, h/4, w/4]."""

    def __init__(self, classes: int, head: int, deformable: bool) -> None:
        super().__init__()
        self.base_layer = nn.Sequential(*conv_norm(3, 16, 7), nn.ReLU(inplace=True))
        self.level0 = nn.Sequential(*conv_norm(16, 16, 3), nn.ReLU(inplace=True))
        self.level1 = nn.Sequential(*conv_norm(16, 32, 3, 2), nn.ReLU(inplace=True))
        self.level2 = Tree(1, 32, 64, 2)
        self.level3 = Tree(2, 64, 128, 2, level_root=True)
        self.level4 = Tree(2, 128, 256, 2, level_root=True)
        self.level5 = Tree(1, 256, 512, 2, level_root=True)
        self.ida_0 = IDAUp(256, (256, 512), (1, 2), deformable)
        self.ida_1 = IDAUp(128, (128, 256, 256), (1, 2, 2), deformable)
        self.ida_2 = IDAUp(64, (64, 128, 128, 128), (1, 2, 2, 2), deformable)
        self.ida_up = IDAUp(64, (64, 128, 256), (1, 2, 4), deformable)
        self.hm, self.wh, self.reg = (
            nn.Sequential(nn.Conv2d(64, head, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(head, n, 1))
            for n in (classes, 2, 2)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        c2 = self.level2(self.level1(self.level0(self.base_layer(x))))
        c3 = self.level3(c2)
        c4 = self.level4(c3)
        c5 = self.level5(c4)
        # Each pass brings all deeper maps up by one level; the last map of each is kept.
        p4 = self.ida_0([c4, c5])
        p3 = self.ida_1([c3, *p4])
        p2 = self.ida_2([c2, *p3])
        y = self.ida_up([p2[-1], p3[-1], p4[-1]])[-1]
        return {"hm": self.hm(y), "wh": self.wh(y), "reg": self.reg(y)}


def centernet_mobilenet_v1(classes: int = 10) -> CenterNetView:
    """CenterNet on MobileNetV1; `classes` heat maps."""
    return CenterNetView(mobilenet_v1_features(), 1024, classes)


def centernet_mobilenet_v2(classes: int = 10, variant: str = "article") -> CenterNetView:
    """CenterNet on MobileNetV2; `variant` is "article" or "paper"."""
    if variant not in ("article", "paper"):
        raise ValueError(f"variant is {variant!r}: expected 'article' or 'paper'")
    return CenterNetView(mobilenet_v2_features(variant == "article"), 1280, classes)


def centernet_dla34(classes: int = 10, head: int = 256, deformable: bool = False) -> CenterNetDLA:
    """CenterNet on DLA-34; `head` is the width of each head's middle layer."""
    return CenterNetDLA(classes, head, deformable)
