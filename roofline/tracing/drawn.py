"""Values for inputs of which only the shape was said, for a pass that needs values: seeded, in range, and named in a note.

What an input is for shows in its name (a mask, lengths) and in what the pass did with it before it stopped: the rows of the
table that it looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import nn

from roofline.records import Op, OpSpec, TensorSpec

# Where nothing tells how large an index may be.
_FEW = 2
_LENGTHS = r"(^|_)(n|num|seq|sequence|input|target|text|src|tgt)?_?len(gth)?s?($|_)|lengths?$"


# Operators whose second tensor is an index into the first: along the dimension that they name, or along this one.
_NAMED = "gather scatter scatter_add scatter_reduce index_select index_add index_copy index_fill index_reduce"
_ALONG = frozenset(f"{name}{end}" for name in _NAMED.split() for end in ("", "_"))
INTO = {"embedding": 0, "embedding_bag": 0, "_embedding_bag": 0}
# ... and classes, of which losses leave one out
CLASSES = frozenset({
    "nll_loss", "nll_loss_forward", "nll_loss2d", "nll_loss2d_forward", "multi_margin_loss", "multilabel_margin_loss_forward",
})  # fmt: skip
# ... or as x[...]
PLACES = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
# ... or into all of its elements, as if they were one row
FLAT = frozenset({"take", "put", "put_"})
# ... or into the places that it makes, by the dimensions of an image
UNPOOLED = {"max_unpool2d": 2, "max_unpool3d": 3}
# These count from the end too.
FROM_THE_END = PLACES | FLAT


class Index(NamedTuple):
    """A tensor that an operator takes as indices."""

    place: int  # among the operator's tensors
    size: int  # what it indexes
    operator: str
    ignored: int | None = None  # a value that stands for none


def indices(spec: OpSpec) -> Iterator[Index]:
    """Each tensor that an operator takes as indices."""
    name = spec.name.rpartition(".")[2]
    if not spec.inputs:
        return
    shape = spec.inputs[0].shape
    if name in FLAT and len(spec.inputs) > 1:
        yield Index(1, spec.inputs[0].numel, name)
        return
    if name in UNPOOLED and len(spec.inputs) > 1:
        yield Index(1, prod(spec.outputs[0].shape[-UNPOOLED[name] :]), name)
        return
    axes: list[int] = []
    if name in INTO:
        axes = [INTO[name]]
    elif name in CLASSES:
        axes = [len(shape) - 1 if name.startswith("multilabel") else min(1, len(shape) - 1)]
    elif name in _ALONG and len(spec.args) > 1 and isinstance(spec.args[1], int):
        axes = [spec.args[1]]
    elif name in PLACES and len(spec.args) > 1 and isinstance(spec.args[1], list):
        axes = [d for d, index in enumerate(spec.args[1]) if index is not None]
    for place, (axis, index) in enumerate(zip(axes, spec.inputs[1:], strict=False), 1):
        if index.dtype in ("bool", "uint8") and name in PLACES:
            return  # a mask, which takes as many dimensions as it has
        if -len(shape) <= axis < len(shape):
            yield Index(place, shape[axis], name, _ignored(spec) if name in CLASSES else None)


def _ignored(spec: OpSpec) -> int | None:
    """nll_loss(self, target, weight, reduction, ignore_index); -1 ends a list of several classes"""
    if "margin" in spec.name:
        return -1 if "multilabel" in spec.name else None
    found = spec.kwargs.get("ignore_index", spec.args[4] if len(spec.args) > 4 else -100)
    return found if isinstance(found, int) else None


def uses(ops: Iterable[Op], specs: Sequence[OpSpec], inputs: Sequence[int]) -> Iterator[tuple[int, Index, TensorSpec]]:
    """(place in `inputs`, how it was used, what it was there) of inputs, which are their storages, that are indices."""
    for op in ops:
        spec = specs[op.spec]
        for index in indices(spec):
            storage = op.inputs[index.place]
            yield from ((at, index, spec.inputs[index.place]) for at, own in enumerate(inputs) if own == storage)


def limits(ops: Iterable[Op], specs: Sequence[OpSpec], inputs: Sequence[int]) -> dict[int, int]:
    """Inputs that a pass used as indices, by their place in `inputs`, which are their storages -> the least of the sizes that
    they index; of what was recorded."""
    found: dict[int, int] = {}
    for at, index, _ in uses(ops, specs, inputs):
        found[at] = min(found.get(at, index.size), index.size)
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
