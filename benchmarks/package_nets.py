"""Nets and inputs of packages.py that take more than one call to make; each package is imported where it is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# ------------------------------------------------------------------------------------------------ PyTorch Geometric


class GraphNet(nn.Module):
    """Two convolutions and a mean over each graph of a batch."""

    def __init__(self) -> None:
        from torch_geometric.nn import GCNConv, global_mean_pool

        super().__init__()
        self.convs = nn.ModuleList([GCNConv(64, 64), GCNConv(64, 64)])
        self.head = nn.Linear(64, 10)
        self.pool = global_mean_pool

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> Any:
        for conv in self.convs:
            x = conv(x, edge_index).relu()
        return self.head(self.pool(x, batch))


class OnData(nn.Module):
    """The README's net, which takes a Data object."""

    def __init__(self) -> None:
        from torch_geometric.nn import GCNConv

        super().__init__()
        self.one, self.two = GCNConv(64, 16), GCNConv(16, 7)

    def forward(self, data: Any) -> torch.Tensor:
        x = self.one(data.x, data.edge_index).relu()
        x = nn.functional.dropout(x, training=self.training)
        found: torch.Tensor = self.two(x, data.edge_index).log_softmax(1)
        return found


class Hetero(nn.Module):
    """A convolution for each kind of edge."""

    def __init__(self) -> None:
        from torch_geometric.nn import GCNConv, HeteroConv, SAGEConv

        super().__init__()
        kinds = {("author", "writes", "paper"): SAGEConv((32, 64), 64), ("paper", "cites", "paper"): GCNConv(64, 64)}
        self.conv = HeteroConv(kinds)

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
        return self.conv(x_dict, edge_index_dict)


class PointNet(nn.Module):
    """Edges to the eight nearest points, found in the pass."""

    def __init__(self) -> None:
        from torch_geometric.nn import MLP, PointNetConv, global_max_pool

        super().__init__()
        self.conv = PointNetConv(MLP([6, 32, 64]))
        self.head = nn.Linear(64, 10)
        self.pool = global_max_pool

    def forward(self, pos: torch.Tensor, batch: torch.Tensor) -> Any:
        near = (pos[:, None] - pos[None]).square().sum(-1).topk(8, largest=False).indices
        centres = torch.arange(pos.shape[0], device=pos.device).repeat_interleave(8)
        return self.head(self.pool(self.conv(pos, pos, torch.stack([near.flatten(), centres])), batch))


def pna() -> nn.Module:
    from torch_geometric.nn import PNA

    degrees = torch.tensor([0, 10, 20, 50, 100, 200, 120])
    made: nn.Module = PNA(
        64, 64, 2, out_channels=10, aggregators=["mean", "max", "std"], scalers=["identity", "amplification"], deg=degrees
    )
    return made


def gae() -> nn.Module:
    from torch_geometric.nn import GAE, GCNConv

    made: nn.Module = GAE(GCNConv(64, 16))
    return made


def batches(nodes: int = 500) -> torch.Tensor:
    return torch.arange(nodes) * 8 // nodes


def data() -> Any:
    from torch_geometric.data import Data

    return Data(x=torch.rand(500, 64), edge_index=torch.randint(0, 500, (2, 3000)))


def hetero() -> dict[str, torch.Tensor]:
    return {"paper": torch.rand(200, 64), "author": torch.rand(100, 32)}


def hetero_edges() -> dict[tuple[str, str, str], torch.Tensor]:
    return {
        ("author", "writes", "paper"): torch.randint(0, 100, (2, 800)),
        ("paper", "cites", "paper"): torch.randint(0, 200, (2, 900)),
    }


# ------------------------------------------------------------------------------------------------ sound, images


def whisper() -> nn.Module:
    from whisper.model import ModelDimensions, Whisper

    made: nn.Module = Whisper(ModelDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4))
    return made


def sepformer() -> nn.Module:
    from speechbrain.lobes.models.dual_path import Dual_Path_Model, SBTransformerBlock

    blocks = [SBTransformerBlock(1, 64, 4, d_ffn=128) for _ in range(2)]
    made: nn.Module = Dual_Path_Model(64, 64, *blocks, num_layers=1, K=50)
    return made


def pair() -> dict[str, torch.Tensor]:
    return {"image0": torch.rand(1, 1, 128, 128), "image1": torch.rand(1, 1, 128, 128)}


def augmentation() -> nn.Module:
    from kornia import augmentation as aug

    return nn.Sequential(
        aug.RandomAffine(30.0, p=1.0), aug.ColorJiggle(0.1, 0.1, 0.1, 0.1, p=1.0), aug.RandomHorizontalFlip(p=0.5)
    )


def yolo() -> Any:
    from ultralytics import YOLO

    return YOLO("yolov8n.yaml").model


class Sliding(nn.Module):
    """A net over windows of an image."""

    def __init__(self) -> None:
        from monai.inferers import SlidingWindowInferer
        from monai.networks.nets import UNet

        super().__init__()
        self.net = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(8, 16), strides=(2,))
        self.infer = SlidingWindowInferer((32, 32), 4)

    def forward(self, x: torch.Tensor) -> Any:
        return self.infer(x, self.net)
