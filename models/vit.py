"""Vision Transformer: Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929, Table 1.

The state_dict's names follow torchvision. Attention is written out, so that its matrix products are seen apart.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

ROOFLINE = {
    "vit_b_16": {
        "make": "vit_b_16",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "ViT-Base, patches of 16x16",
        "paper": "Dosovitskiy et al. 2020, arXiv 2010.11929, Table 1",
    },
    "vit_b_32": {
        "make": "vit_b_32",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "ViT-Base, patches of 32x32",
        "paper": "Dosovitskiy et al. 2020, arXiv 2010.11929, Table 1",
    },
    "vit_l_16": {
        "make": "vit_l_16",
        "inputs": {"x": [1, 3, 224, 224]},
        "about": "ViT-Large, patches of 16x16",
        "paper": "Dosovitskiy et al. 2020, arXiv 2010.11929, Table 1",
    },
}


class SelfAttention(nn.Module):
    """[n, l, e] -> same: query, key and value from one projection, scaled dot products, output projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        n, length, dim = x.shape
        qkv = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        # [n, l, 3e] -> three of [n, heads, l, e / heads]
        q, k, v = qkv.view(n, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        x = self.out_proj(y.transpose(1, 2).reshape(n, length, dim))
        return x


class EncoderBlock(nn.Module):
    """[n, l, e] -> same: attention and a two-layer perceptron, each normalised before and added after."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=1e-6)
        self.self_attention = SelfAttention(dim, heads)
        self.ln_2 = nn.LayerNorm(dim, eps=1e-6)
        # The gap in the numbers is torchvision's dropout.
        layers = OrderedDict[str, nn.Module]()
        layers["0"], layers["1"], layers["3"] = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        self.mlp = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attention(self.ln_1(x))
        y: Tensor = self.mlp(self.ln_2(x))
        return x + y


class Encoder(nn.Module):
    """[n, l, e] -> same: position embedding, blocks, last norm."""

    def __init__(self, length: int, layers: int, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, length, dim))
        blocks = OrderedDict[str, nn.Module]()
        for i in range(layers):
            blocks[f"encoder_layer_{i}"] = EncoderBlock(dim, heads, hidden)
        self.layers = nn.Sequential(blocks)
        self.ln = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ln(self.layers(x + self.pos_embedding))
        return x


class VisionTransformer(nn.Module):
    """[n, 3, image, image] -> [n, num_classes]."""

    def __init__(
        self, patch: int, layers: int, dim: int, heads: int, hidden: int, image: int = 224, num_classes: int = 1000
    ) -> None:
        super().__init__()
        if image % patch:
            raise ValueError(f"image is {image}: expected a multiple of the patch, {patch}")
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.conv_proj = nn.Conv2d(3, dim, patch, patch)
        self.encoder = Encoder((image // patch) ** 2 + 1, layers, dim, heads, hidden)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(dim, num_classes)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1)
        x = self.heads(self.encoder(x)[:, 0])
        return x


def vit_b_16(image: int = 224, num_classes: int = 1000) -> VisionTransformer:
    """ViT-Base, patches of 16x16."""
    return VisionTransformer(16, 12, 768, 12, 3072, image, num_classes)


def vit_b_32(image: int = 224, num_classes: int = 1000) -> VisionTransformer:
    """ViT-Base, patches of 32x32."""
    return VisionTransformer(32, 12, 768, 12, 3072, image, num_classes)


def vit_l_16(image: int = 224, num_classes: int = 1000) -> VisionTransformer:
    """ViT-Large, patches of 16x16."""
    return VisionTransformer(16, 24, 1024, 16, 4096, image, num_classes)
