"""Values for inputs of which only the shape was said, for a pass that needs values: seeded, in range, and named in a note.

What an input is for shows in its name (a mask, lengths) and in what the pass did with it before it stopped: the rows of the
table that it looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from roofline.records import Op, OpSpec

# Where nothing tells how large an index may be.
_FEW = 2
_LENGTHS = r"(^|_)(n|num|seq|sequence|input|target|text|src|tgt)?_?len(gth)?s?($|_)|lengths?$"


def limits(ops: Iterable[Op], specs: Sequence[OpSpec], inputs: Sequence[int]) -> dict[int, int]:
    """Inputs that a pass used as indices, by their place in `inputs`, which are their storages -> the least of the sizes that
    they index; of what was recorded."""
    found: dict[int, int] = {}
    for op in ops:
        spec = specs[op.spec]
        name = spec.name.rpartition(".")[2]
        if name not in ("embedding", "index", "index_select", "embedding_bag") or not spec.inputs:
            continue
        axis = spec.args[1] if name == "index_select" and len(spec.args) > 1 and isinstance(spec.args[1], int) else 0
        shape = spec.inputs[0].shape
        for storage in op.inputs[1:]:
            for at in (at for at, own in enumerate(inputs) if own == storage and len(shape) > axis):
                found[at] = min(found.get(at, shape[axis]), shape[axis])
    return found


class Drawn:
    """Draws the values of one call, and remembers in `said` what it drew."""

    def __init__(self, module: nn.Module, call: Sequence[tuple[str, torch.Tensor]], limits: Mapping[int, int]) -> None:
        self.floats, self.integers = (torch.Generator().manual_seed(0) for _ in range(2))
        self.call, self.said = call, dict[str, str]()
        self.known = {id(t): limits[at] for at, (_, t) in enumerate(call) if at in limits}
        tables = [m.num_embeddings for m in module.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
        rows = [t.shape[0] for _, t in self.call if t.dim() and (t.dtype.is_floating_point or t.dtype.is_complex)]
        self.high = max(min(tables, default=min(rows, default=_FEW)), 1)

    def tensor(self, name: str, t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """A real tensor of the shape of `t`."""
        if dtype.is_floating_point:
            return torch.rand(t.shape, generator=self.floats, dtype=torch.float32).to(dtype)
        if dtype == torch.bool or "mask" in name.lower():
            self.said[name] = "true everywhere" if dtype == torch.bool else "1 everywhere"
            return torch.ones(t.shape, dtype=dtype)
        if dtype.is_complex:
            return torch.zeros(t.shape, dtype=dtype)
        if t.dim() <= 1 and re.search(_LENGTHS, name.lower()):
            full = self._longest(t)
            self.said[name] = f"{full} everywhere"
            return torch.full(t.shape, full, dtype=dtype)
        high = min(max(self.known.get(id(t), self.high), 1), torch.iinfo(dtype).max)
        self.said[name] = f"drawn from 0 to {high - 1:,}" if high > 1 else "0 everywhere"
        return torch.randint(0, high, t.shape, generator=self.integers).to(dtype)

    def _longest(self, lengths: torch.Tensor) -> int:
        """The longest that a row of the other inputs is: of their first two sizes the one that does not count the rows."""
        for _, t in self.call:
            if t is not lengths and t.dim() >= 2:
                first, second = t.shape[:2]
                return second if lengths.numel() == first else first
        return 1

    @property
    def note(self) -> str:
        """What was drawn, in a sentence; empty where nothing was but floating inputs."""
        if not self.said:
            return ""
        parts = [f"{name} {what}" for name, what in self.said.items()]
        return f"integer inputs without values: {', '.join(parts)} (seed 0); give them with --input"
