"""What an operator's call tells by itself, and the launches of a trace: what every runtime starts from."""

from __future__ import annotations

from collections.abc import Iterator

from roofline import cost
from roofline.cost import access
from roofline.cost.registry import MEMOS
from roofline.records import Kernel, Op, Operand, OpSpec, Trace, Work, identity
from roofline.shapes import Access, Shape

_STATIC = frozenset({"parameter", "buffer", "weight"})


class Facts:
    """All that an OpSpec tells by itself, worked out once for every call that shares it."""

    __slots__ = (
        "access",
        "dtype",
        "klass",
        "launches",
        "mutated",
        "name",
        "products",
        "reads",
        "shape",
        "spec",
        "whole",
        "work",
        "writes",
    )

    def __init__(self, spec: OpSpec) -> None:
        self.spec = spec
        self.launches = spec.launches
        self.name = spec.name.removeprefix("aten.")
        if not self.launches:
            return
        counted = cost.count(spec)
        # None: nobody knows
        self.work: Work | None = counted.work if counted is not None and counted.known else None
        self.reads, self.writes = cost.traffic(spec)
        # bytes written in place that no output carries, parallel to spec.mutates
        self.mutated = cost.mutated(spec)
        self.klass: str = cost.classify(spec, counted)
        self.products = counted.products if counted is not None else ()
        # the call as one shape
        self.whole: Shape | None = counted.shape if counted is not None else None
        # how it walks through memory
        self.access: Access = access.of(spec, self.klass)
        self.dtype: str = cost.compute_dtype(spec)
        self.shape: tuple[int, ...] = spec.outputs[0].shape if spec.outputs else ()


# Facts by spec identity: specs are shared between traces in one process. The record keeps its spec alive.
_facts: dict[int, Facts] = {}
MEMOS.append(_facts)
_FACTS_LIMIT = 200_000


def facts_of(spec: OpSpec) -> Facts:
    facts = _facts.get(identity(spec))
    if facts is None or facts.spec is not spec:
        if len(_facts) >= _FACTS_LIMIT:
            _facts.clear()
        facts = _facts[identity(spec)] = Facts(spec)
    return facts


def launches(trace: Trace) -> Iterator[tuple[int, Op, Facts]]:
    facts = [facts_of(spec) for spec in trace.specs]
    for i, op in enumerate(trace.ops):
        f = facts[op.spec]
        if f.launches:
            yield i, op, f


def roles_of(trace: Trace) -> list[str]:
    """The role of each storage: its kind, or "weight" where only parameters, buffers and weights went into it."""
    roles = [s.kind for s in trace.storages]
    for op in trace.ops:
        if op.inputs and op.phase == "forward":
            for i in op.inputs:
                if roles[i] not in _STATIC:
                    break
            else:
                for o in op.outputs:
                    if roles[o] == "activation":
                        roles[o] = "weight"
    return roles


def kernel(index: int, op: Op, f: Facts, operands: tuple[Operand, ...]) -> Kernel:
    """What an operator launches by itself."""
    work = f.work
    return Kernel(
        op.layer,
        f.name,
        f.klass,
        (index,),
        f.dtype,
        f.shape,
        work.flops if work else 0,
        work.macs if work else 0,
        operands,
        f.access,
        work is not None,
        op.phase,
        f.products,
        f.whole,
    )
