"""Whether indices that are given with their values lie in what they index."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from roofline.errors import ModelError
from roofline.records import Trace
from roofline.tracing.drawn import CLASSES, INTO, uses
from roofline.tracing.given import kept


def in_range(found: Trace, given: Mapping[str, torch.Tensor]) -> Trace:
    """The trace. Raises ModelError where a tensor that was given (by position or keyword) was used as indices and holds a value
    past what it indexes: a device refuses that, and metadata do not show it."""
    if not any(kept(t) for t in given.values()):
        return found
    stores = {s.name: i for i, s in enumerate(found.storages) if s.kind == "input" and s.name in given}
    names = list(stores)
    written = {op.inputs[i] for op in found.ops for i in found.specs[op.spec].mutates}
    for at, size, operator, index in uses(found.ops, found.specs, [stores[name] for name in names]):
        t = given[names[at]]
        if not kept(t) or not t.numel() or index.numel != t.numel() or stores[names[at]] in written:
            continue
        low, high = int(t.min()), int(t.max())
        least = 0 if operator in INTO else low if operator in CLASSES else -size
        if high >= size or low < least:
            raise ModelError(
                f"the model fails on a device: input {names[at]} holds {high if high >= size else low}, "
                f"and {operator} takes 0 to {size - 1:,}"
            )
    return found
