"""The `eager` and `ideal` runtimes.

`ideal`: every parameter and buffer is read once, every fresh result written once, nothing else moves.
`eager`: one kernel for each op; it reads all its inputs and writes its outputs. Views launch nothing.

What is computed from parameters alone (a reshaped weight, weight standardisation) keeps the role "weight": it does not
grow with the batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofline.kernels.facts import kernel, launches, roles_of
from roofline.records import Kernel, Operand, Trace


def eager(trace: Trace) -> Iterator[Kernel]:
    roles = roles_of(trace)
    writer: dict[int, int] = {}
    for number, (index, op, f) in enumerate(launches(trace)):
        operands = []
        read: dict[int, int] = {}
        for storage, nbytes in zip(op.inputs, f.reads, strict=True):
            # the same tensor twice (x * x) is read once; two views of one storage are two reads, up to its size
            seen = read.get(storage, 0)
            moved = min(nbytes, max(trace.storages[storage].nbytes - seen, 0)) if seen else nbytes
            if moved:
                read[storage] = seen + moved
                operands.append(Operand(moved, storage, roles[storage], False, writer.get(storage, -1)))
        for storage, nbytes in zip(op.outputs, f.writes, strict=True):
            if nbytes:
                operands.append(Operand(nbytes, storage, roles[storage], True))
        for i, nbytes in zip(f.spec.mutates, f.mutated, strict=True):
            if nbytes:
                operands.append(Operand(nbytes, op.inputs[i], roles[op.inputs[i]], True))
                writer[op.inputs[i]] = number
        yield kernel(index, op, f, tuple(operands))
        for storage in op.outputs:
            writer[storage] = number


def ideal(trace: Trace) -> Iterator[Kernel]:
    roles = roles_of(trace)
    seen: set[int] = set()
    for index, op, f in launches(trace):
        operands = []
        for i, (storage, spec) in enumerate(zip(op.inputs, f.spec.inputs, strict=True)):
            if roles[storage] in ("parameter", "buffer", "cache") and storage not in seen and i not in f.spec.mutates:
                seen.add(storage)
                operands.append(Operand(min(spec.nbytes, trace.storages[storage].nbytes), storage, roles[storage]))
        inputs = set(op.inputs)
        for storage, spec in zip(op.outputs, f.spec.outputs, strict=True):
            if storage not in inputs and roles[storage] != "weight":
                operands.append(Operand(spec.nbytes, storage, roles[storage], True))
        yield kernel(index, op, f, tuple(operands))
