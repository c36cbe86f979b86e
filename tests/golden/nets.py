"""Small models that between them use every kind of operator, for the golden totals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Function(nn.Module):
    """A few layers and what to do with them."""

    def __init__(self, call: Callable[[dict[str, nn.Module], Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(dict(self.layers.items()), x)


class Causal(nn.Module):
    """A decoder block: RMS norm, grouped-query causal attention, gated MLP."""

    def __init__(self, width: int = 64, heads: int = 8, groups: int = 2) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.table = nn.Embedding(100, width)
        self.norm, self.last = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * groups * self.size)
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 4 * width), nn.Linear(2 * width, width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        h = self.norm(x)
        b, n, _ = h.shape
        q = self.q(h).view(b, n, self.heads, self.size).transpose(1, 2)
        k, v = self.kv(h).view(b, n, 2, self.groups, self.size).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + F.dropout(self.out(attended.transpose(1, 2).reshape(b, n, -1)), 0.1, self.training)
        gate, up = self.up(self.last(x)).chunk(2, -1)
        return F.log_softmax((x + self.down(F.silu(gate) * up)) @ self.table.weight.t(), -1)


class Recurrent(nn.Module):
    """A recurrent layer, both ways round."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(16, 24, num_layers=2, bidirectional=True, dropout=0.2, batch_first=True)
        self.head = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Weighted(nn.Module):
    """Attention that hands out its weights: products and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, weights = self.attention(x, x, x)
        return out * weights.mean()


def _unet(m: dict[str, nn.Module], x: Tensor) -> Tensor:
    low = m["down"](F.gelu(m["into"](x)))
    back = F.interpolate(m["up"](F.leaky_relu(low, 0.1)), scale_factor=2.0, mode="bicubic")
    wide = F.interpolate(low, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return m["out"](torch.cat([F.pad(back, (1, 1, 1, 1))[..., 1:-1, 1:-1], wide], 1))


def _indices(m: dict[str, nn.Module], x: Tensor) -> Tensor:
    h = m["into"](x)
    best, at = torch.topk(h, 4, -1)
    picked = torch.gather(h, -1, at) * best + h.cumsum(-1)[..., :4]
    return torch.where(picked > 0, picked, picked.exp()).sort(-1)[0].clamp(-1, 1)


def _reductions(m: dict[str, nn.Module], x: Tensor) -> Tensor:
    h = m["into"](x)
    parts = [h.mean(1), h.amax(1), h.std(1), h.logsumexp(1), h.norm(dim=1), F.normalize(h, dim=-1).sum(1)]
    return torch.stack(parts, 1).softmax(-1)


def _products(m: dict[str, nn.Module], x: Tensor) -> Tensor:
    h = m["into"](x)
    scores = torch.einsum("bnd,bmd->bnm", h, h)
    return torch.baddbmm(scores, scores, scores.transpose(1, 2)) @ h + torch.matmul(h, h[0].t() @ h[0])


def _grid(m: dict[str, nn.Module], x: Tensor) -> Tensor:
    grid = torch.tanh(m["into"](x)).permute(0, 2, 3, 1)
    return F.pixel_shuffle(m["out"](F.grid_sample(x, grid, align_corners=False)), 2)


def _image(*shape: int) -> list[Tensor]:
    return [torch.empty(shape, device="meta")]


def _conv(i: int, o: int, k: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **more)


# name -> module and its call, on meta
MODELS: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "norms": (lambda: nn.Sequential(_conv(3, 8), nn.BatchNorm2d(8), nn.ReLU6(), nn.GroupNorm(2, 8), nn.SiLU(),
                                    nn.InstanceNorm2d(8, affine=True), nn.Hardswish(), nn.Flatten(2), nn.LayerNorm(256)),
              _image(2, 3, 16, 16)),
    "dropouts": (lambda: nn.Sequential(nn.Linear(16, 32), nn.Dropout(), nn.AlphaDropout(), nn.Mish(), nn.Dropout(inplace=True),
                                       nn.Linear(32, 8), nn.RReLU(), nn.Softmax(-1)), _image(4, 16)),
    "channel dropouts": (lambda: nn.Sequential(_conv(3, 8), nn.Dropout2d(), nn.ELU(), nn.FeatureAlphaDropout()),
                         _image(2, 3, 8, 8)),
    "pools": (lambda: nn.Sequential(_conv(3, 8), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3), nn.Softplus(),
                                    nn.AdaptiveMaxPool2d(1)), _image(2, 3, 24, 24)),
    "video": (lambda: nn.Sequential(nn.Conv3d(3, 8, 3, stride=2, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2)),
              _image(1, 3, 8, 16, 16)),
    "signal": (lambda: nn.Sequential(nn.Conv1d(2, 8, 5), nn.GELU(), nn.Conv1d(8, 8, 3, groups=8), nn.GLU(1)),
               _image(2, 2, 64)),
    "grouped": (lambda: nn.Sequential(_conv(8, 16, groups=4), nn.PReLU(), _conv(16, 16, 5, groups=16), nn.Sigmoid()),
                _image(2, 8, 12, 12)),
    "unet": (lambda: Function(_unet, into=_conv(3, 8), down=_conv(8, 16, stride=2), up=_conv(16, 8), out=_conv(24, 2)),
             _image(1, 3, 16, 16)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 8, 4, 2, 1), nn.Tanh(), nn.Upsample(scale_factor=2)),
                   _image(1, 4, 8, 8)),
    "grid": (lambda: Function(_grid, into=_conv(3, 2), out=_conv(3, 12)), _image(1, 3, 12, 12)),
    "lstm": (lambda: Recurrent(nn.LSTM), _image(3, 7, 16)),
    "gru": (lambda: Recurrent(nn.GRU), _image(3, 7, 16)),
    "encoder": (lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True), 2, enable_nested_tensor=False),
        _image(2, 10, 32)),
    "weighted attention": (Weighted, _image(2, 10, 32)),
    "causal": (Causal, [torch.empty((2, 12), dtype=torch.int64, device="meta")]),
    "bag": (lambda: nn.Sequential(nn.EmbeddingBag(50, 16, mode="sum"), nn.Linear(16, 2)),
            [torch.empty((4, 6), dtype=torch.int64, device="meta")]),
    "indices": (lambda: Function(_indices, into=nn.Linear(16, 12)), _image(2, 5, 16)),
    "reductions": (lambda: Function(_reductions, into=nn.Linear(16, 12)), _image(2, 5, 16)),
    "products": (lambda: Function(_products, into=nn.Linear(16, 12)), _image(2, 5, 16)),
}  # fmt: skip

# reference models, with a resolution where a smaller one will do
REFERENCE = {
    "mobilenet_v3_large": 96,
    "resnet50": 96,
    "efficientnet_b0": 96,
    "shufflenet_v2_x1_0": 96,
    "squeezenet1_1": 96,
    "ghostnet": 96,
    "se_resnet50": 96,
    "vgg11": 64,
    "vit_b_16": None,
}

_SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 200,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 8,
}
# classes of transformers
LANGUAGE = ("LlamaForCausalLM", "GPT2LMHeadModel", "MixtralForCausalLM")


def language(name: str) -> nn.Module:
    """A small language model, on meta."""
    import transformers

    cls = getattr(transformers, name)
    config = cls.config_class(**_SMALL)
    with torch.device("meta"):
        module: nn.Module = cls(config)
    return module.eval()
