"""What a graph that came in a file must keep to before anything is worked out of it. Imports neither torch nor onnx."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from roofline.errors import SourceError
from roofline.isolation import memory
from roofline.kernels.facts import facts_of
from roofline.records import TensorSpec, Trace

# Bytes and operations of one pass: what 64-bit numbers, JSON's readers among them, hold without loss of order.
TOTAL_LIMIT = 2**62
# Bytes that shape inference may take beyond those in use and some copies of the graph.
MEMORY_LIMIT, COPIES = 2**30, 6


def checked(trace: Trace, where: str) -> Trace:
    """The trace. Raises SourceError where an operator has arguments that it cannot have, or the numbers pass all bounds."""
    total = 0
    for op in trace.ops:
        spec = trace.specs[op.spec]
        try:
            facts = facts_of(spec)
            moved = sum(t.nbytes for t in (*spec.inputs, *spec.outputs))
            work = facts.work if facts.launches else None
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError) as error:
            shapes = ", ".join(_shape(t) for t in spec.inputs)
            raise SourceError(
                f"{where}: {spec.name} cannot have inputs of the shapes [{shapes}] and its arguments "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            ) from error
        total += moved + (work.flops if work is not None else 0)
        if total > TOTAL_LIMIT:
            raise SourceError(f"{where}: one pass comes to more than 2^62 bytes and operations, the limit for a graph")
    return trace


def _shape(t: TensorSpec) -> str:
    return "x".join(map(str, t.shape[:8])) or "scalar"


@contextmanager
def little_memory(graph: int) -> Iterator[None]:
    """Meanwhile this process gets MEMORY_LIMIT and some copies of `graph` bytes of further memory at most.

    Where the system can tell it so: Linux.
    A library that sizes its tables by a number in a file then raises MemoryError instead of taking the machine's memory.
    """
    with memory.limited(MEMORY_LIMIT + COPIES * graph):
        yield
