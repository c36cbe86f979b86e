"""Whether indices whose values are known lie in what they index: those that were given, and those that the model makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from roofline.errors import ModelError
from roofline.records import Layer, Op, OpSpec, Storage, Trace
from roofline.tracing.drawn import FROM_THE_END, Index, indices, uses
from roofline.tracing.given import kept


class OutOfRange(ModelError):
    """Indices of a model's own making lie past what they index."""


def in_range(found: Trace, given: Mapping[str, torch.Tensor]) -> Trace:
    """The trace. Raises ModelError where a tensor that was given (by position or keyword) was used as indices and holds a value
    past what it indexes: a device refuses that, and metadata do not show it."""
    if not any(kept(t) for t in given.values()):
        return found
    stores = {s.name: i for i, s in enumerate(found.storages) if s.kind == "input" and s.name in given}
    names = list(stores)
    written = {op.inputs[i] for op in found.ops for i in found.specs[op.spec].mutates}
    for at, index, there in uses(found.ops, found.specs, [stores[name] for name in names]):
        t = given[names[at]]
        if not kept(t) or there.numel != t.numel() or stores[names[at]] in written:
            continue
        counted = t if index.ignored is None else t[t != index.ignored]
        bad = _outside(Values.of(counted), index) if counted.numel() else None
        if bad is not None:
            raise ModelError(f"the model fails on a device: input {names[at]} holds {bad}, and {_takes(index)}")
    return found


class Values(NamedTuple):
    """What is known of the integers in a storage: the least, the largest, how many."""

    low: int
    high: int
    many: int

    @classmethod
    def of(cls, t: torch.Tensor) -> Values:
        return cls(int(t.min()), int(t.max()), t.numel())


def _outside(held: Values, index: Index) -> int | None:
    """A value that the operator refuses; None where there is none."""
    least = -index.size if index.operator in FROM_THE_END else 0
    refused = [v for v in (held.high, held.low) if not least <= v < index.size and v != index.ignored]
    return refused[0] if refused else None


def _takes(index: Index) -> str:
    return f"{index.operator} takes 0 to {index.size - 1:,}" if index.size else f"{index.operator} has nothing to take from"


def own(ops: Sequence[Op], specs: Sequence[OpSpec], layers: Sequence[Layer], integers: Mapping[int, torch.Tensor]) -> None:
    """Raises ModelError where indices that a model makes itself lie past what they index: positions that it counts, and its
    constants, `integers` by their storages."""
    asking = {id(spec) for spec in specs if any(True for _ in indices(spec))}
    if not asking:
        return
    written = {op.inputs[i] for op in ops if specs[op.spec].name not in _AS_THEY_ARE for i in specs[op.spec].mutates}
    held = {store: Values.of(t) for store, t in integers.items() if kept(t) and t.dtype != torch.bool and t.numel()}
    for op in ops:
        spec = specs[op.spec]
        if id(spec) in asking:
            for index in indices(spec):
                store, there = op.inputs[index.place], spec.inputs[index.place]
                known = held.get(store)
                # a part of what is known may lie in range
                whole = known is not None and store not in written and there.distinct == known.many
                if known is not None and whole and there.numel and (bad := _outside(known, index)) is not None:
                    layer = layers[op.layer]
                    where = f"{layer.path} ({layer.type})" if layer.path else layer.type
                    raise OutOfRange(
                        f"the model fails on a device, in {where}: it makes the index {bad:,}, and {_takes(index)}"
                    )
        elif len(op.outputs) == 1 and op.outputs[0] not in op.inputs and (values := _made(spec, op, held)) is not None:
            held[op.outputs[0]] = values


def unseen(
    ops: Sequence[Op], specs: Sequence[OpSpec], storages: Sequence[Storage], integers: Mapping[int, torch.Tensor]
) -> bool:
    """Whether something is indexed by whole numbers that came from nowhere: torch made them of a list, without values."""
    asking = {id(spec): [index.place for index in indices(spec)] for spec in specs}
    if not any(asking.values()):
        return False
    used = {op.inputs[place] for op in ops for place in asking[id(specs[op.spec])]}
    return any(storages[store].kind == "constant" and store not in integers for store in used)


# Operators in place that leave the values as they are.
_AS_THEY_ARE = frozenset({
    "aten.detach_", "aten.squeeze_", "aten.unsqueeze_", "aten.t_", "aten.transpose_", "aten.swapaxes_", "aten.swapdims_",
})  # fmt: skip
# Operators that make tensors of values that their arguments tell.
_FILLED = {"aten.zeros": 0, "aten.zeros_like": 0, "aten.ones": 1, "aten.ones_like": 1}
# ... and those that copy them as they are
_COPIES = frozenset({"aten._to_copy", "aten.clone", "aten.repeat", "aten.flip", "aten.roll"})
_MOVED = {"aten.add": 1, "aten.sub": -1}


def _made(spec: OpSpec, op: Op, held: Mapping[int, Values]) -> Values | None:
    """What an operator puts into its result, where that is integers and known."""
    out, name = spec.outputs[0], spec.name
    if not out.dtype.startswith(("int", "uint")) or not out.numel:
        return None
    numbers = [a for a in spec.args if type(a) is int]
    if name == "aten.arange":
        return _counted(numbers, out.numel) if len(numbers) == len(spec.args) else None
    if name in _FILLED:
        return Values(_FILLED[name], _FILLED[name], out.numel)
    if name in ("aten.full", "aten.full_like"):
        return Values(numbers[0], numbers[0], out.numel) if numbers else None
    before = held.get(op.inputs[0]) if op.inputs else None
    if before is None or spec.inputs[0].distinct != before.many:
        return None
    if name in _COPIES:
        return Values(before.low, before.high, out.numel)
    if name not in _MOVED or len(spec.args) != 2 or not numbers or spec.kwargs:
        return None
    by = numbers[0] * _MOVED[name]
    return Values(before.low + by, before.high + by, out.numel)


def _counted(numbers: Sequence[int], count: int) -> Values:
    """Of arange(end), arange(start, end) and arange(start, end, step)."""
    start = numbers[0] if len(numbers) > 1 else 0
    last = start + (count - 1) * (numbers[2] if len(numbers) > 2 else 1)
    return Values(min(start, last), max(start, last), count)
