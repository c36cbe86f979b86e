"""Parameters and multiply-accumulates of a model layer by layer, from forward hooks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def layer_macs(model: nn.Module, *inputs: Tensor) -> dict[str, int]:
    """Multiply-accumulates by layer, from forward hooks: taps per output (or per input, transposed), attention apart."""
    found: dict[str, int] = {}

    def count(module: nn.Module, args: tuple[Any, ...], out: Any) -> int:
        if isinstance(module, nn.ConvTranspose2d):
            return int(args[0].numel() * module.weight[0].numel())
        if isinstance(module, nn.Conv2d):
            return int(out.numel() * module.weight[0].numel())
        if isinstance(module, nn.Linear):
            return int(out.numel() * module.in_features)
        if type(module).__name__ in ("SelfAttention", "MultiheadAttention"):
            n, length, dim = args[0].shape
            return int(n * (3 * length * dim * dim + 2 * length * length * dim))
        return 0

    def hook(name: str) -> Any:
        def record(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if n := count(module, args, out):
                found[name] = found.get(name, 0) + n
            if isinstance(module, nn.MultiheadAttention):
                # torch's own never calls its output projection as a module
                found[f"{name}.out_proj"] = args[0].numel() * module.embed_dim

        return record

    handles = [m.register_forward_hook(hook(name)) for name, m in model.named_modules()]
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return found


def macs(model: nn.Module, *inputs: Tensor) -> int:
    return sum(layer_macs(model, *inputs).values())
