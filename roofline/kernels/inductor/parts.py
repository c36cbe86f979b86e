"""What lowering makes and scheduling merges: buffers, the expressions that read them, kernels in the making."""

from __future__ import annotations

from typing import NamedTuple

from roofline.kernels.facts import Facts
from roofline.records import Op


class Launch(NamedTuple):
    """An op that launches something: its place among all ops, and what its OpSpec tells."""

    number: int
    op: Op
    facts: Facts


class Loop(NamedTuple):
    """What a kernel with a reduction runs over: `outer` results, each from `reduced` elements."""

    outer: int
    reduced: int


class Buffer(NamedTuple):
    """One version of a storage; `step` above 0 is what an operator keeps for itself (a mean, a copy)."""

    storage: int
    version: int
    step: int = 0


class Read(NamedTuple):
    buffer: Buffer
    # -1: all of it; else the op that reads a part
    part: int
    nbytes: int
    # distance of neighbours along each dimension of the expression, in elements; None: no linear index is known
    steps: tuple[int, ...] | None
    # how many elements go into each result (a pooling window, or a mean and a variance)
    taps: int = 1
    # the op that takes them from elsewhere than it writes, counted from 1; 0: none does
    moved: int = 0


class Access(NamedTuple):
    nbytes: int = 0
    dense: bool = False
    walks: frozenset[tuple[tuple[int, ...] | None, int]] = frozenset()
    # whether some of it is taken from elsewhere than is written
    elsewhere: bool = False

    def __or__(self, other: Access) -> Access:
        return Access(
            max(self.nbytes, other.nbytes),
            self.dense or other.dense,
            self.walks | other.walks,
            self.elsewhere or other.elsewhere,
        )


class Value:
    """The newest version of a storage: an expression, or a buffer once a kernel makes it (or it came from outside)."""

    __slots__ = ("buffer", "dims", "heavy", "length", "nbytes", "ops", "reads", "stored", "strides", "users", "wide")

    def __init__(self, buffer: Buffer, dims: tuple[int, ...], strides: tuple[int, ...], nbytes: int) -> None:
        self.buffer, self.dims, self.strides, self.nbytes = buffer, dims, strides, nbytes
        self.reads: list[Read] = []
        # what it is made by: indices into the list of launched ops
        self.ops: list[int] = []
        self.length, self.heavy, self.stored, self.users = 0, False, False, 0
        # what is stored is a cast of it, of so many times its bytes
        self.wide = 1


class Node:
    """One kernel in the making."""

    __slots__ = (
        "fusable",
        "into",
        "label",
        "last",
        "loops",
        "members",
        "needs",
        "number",
        "op",
        "order",
        "parts",
        "reads",
        "reduced",
        "shape",
        "sources",
        "total",
        "vars",
        "walk",
        "writes",
    )

    def __init__(self, number: int, op: int, fusable: bool) -> None:
        # place in the order of making, of its first and last part
        self.number = self.last = number
        # places of its parts in Inductor's own order
        self.order = (number, number)
        # the op that asked for it, and those that it computes first, as indices into the list of launched ops
        self.op = op
        self.members: list[int] = []
        self.fusable = fusable
        # what a kernel without an op of its own is called
        self.label = ""
        # bytes, whether it walks through them as it walks through its own results, and how it walks
        self.reads: dict[tuple[Buffer, int], Access] = {}
        # the buffers in `reads`
        self.sources: set[Buffer] = set()
        self.writes: dict[Buffer, int] = {}
        # elements that it runs over, and the reduction in it, if any
        self.total = 0
        self.loops: Loop | None = None
        # sizes of its loops, outermost first, those that can be merged being merged; and of the reduction's
        self.vars: tuple[int, ...] = ()
        self.reduced: tuple[int, ...] = ()
        self.shape: tuple[int, ...] | None = ()
        # its loops before any was merged: dimensions from the outermost, and how each access walks along them
        self.walk: tuple[list[int], list[tuple[int, ...] | None]] = ([], [])
        self.parts = 1
        # kernels that it depends on
        self.needs: set[Node] = set()
        # the kernel that it became part of
        self.into: Node | None = None

    def touched(self) -> set[Buffer]:
        return self.sources.union(self.writes)


def root(node: Node) -> Node:
    """The kernel that a node was merged into."""
    while node.into is not None:
        node = node.into
    return node
