"""How tensors lie in memory: the loops over them, and what Inductor lays out otherwise than the trace has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from roofline.classes import CONVS
from roofline.cost.access import strides
from roofline.kernels.facts import Facts
from roofline.kernels.inductor.parts import Value
from roofline.records import TensorSpec
from roofline.shapes import Conv

# dimensions of an image from the outermost to the innermost
CHANNELS_LAST = (0, 2, 3, 1)


def channels_last(facts: list[Facts], kind: str) -> bool:
    """Whether Inductor runs the convolutions channels-last: always on a CPU; on a GPU by a weighted sum of their FLOPs.

    The weights are those of torch/_inductor/graph.py, decide_layout_opt: grouped convolutions lose, the others gain.
    """
    convs = [f for f in facts if f.klass in CONVS]
    if not convs or kind == "cpu":
        return bool(convs)
    if len(facts) >= 300 * len(convs):
        return False
    total = weighted = 0.0
    for f in convs:
        macs, conv, factor = f.work.macs if f.work else 0, f.whole, 0.823
        c, o, rows = (conv.c // max(conv.groups, 1), conv.o, conv.window[0]) if isinstance(conv, Conv) else (1, 0, 1)
        if f.klass == "grouped_conv":
            factor = 1.358
        elif o <= 64 and c <= 64:
            factor = 0.783
        elif 2 * o <= c and rows > 1:
            factor = 0.725
        total += macs
        weighted += macs * factor
    return weighted <= total


def packed(dims: Sequence[int], order: Iterable[int]) -> tuple[int, ...]:
    """Strides without gaps, `order` naming dimensions from the outermost to the innermost."""
    found, step = [1] * len(dims), 1
    for d in reversed(list(order)):
        found[d] = step
        step *= dims[d]
    return tuple(found)


def merged_loops(order: Iterable[int], dims: Sequence[int], accesses: Sequence[tuple[int, ...] | None]) -> tuple[int, ...]:
    """Sizes of loops in that order; two that every access walks as one are one (sizevars.py, _simplify_loops)."""
    sizes: list[int] = []
    before = -1
    for d in order:
        if dims[d] == 1:
            continue
        if sizes and all(a is not None and a[before] == a[d] * dims[d] for a in accesses):
            sizes[-1] *= dims[d]
        else:
            sizes.append(dims[d])
        before = d
    return tuple(sizes)


def through(value: Value, inner: tuple[int, ...], steps: tuple[int, ...]) -> tuple[int, ...] | None:
    """Steps of what an expression reads, along the dimensions of its reader."""
    at = {step: inner[d] for d, step in enumerate(value.strides) if value.dims[d] > 1}
    at[0] = 0  # repeated here, repeated there
    return None if any(step not in at for step in steps) else tuple([at[step] for step in steps])


def filled(steps: tuple[int, ...], shape: Sequence[int]) -> list[int]:
    """Dimensions from the outermost to the innermost, as a tensor with these steps has them."""
    known = sorted((d for d, n in enumerate(shape) if n > 1), key=lambda d: -steps[d])
    free = [d for d, n in enumerate(shape) if n == 1]
    return [*free, *known]


class Layouts:
    """The storages that lie otherwise here than in the trace."""

    def __init__(self) -> None:
        # by storage: strides as the trace has them -> as they are here, and the size of the dimension
        self._turned: dict[int, dict[int, tuple[int, int]]] = {}

    def steps(self, s: int, t: TensorSpec, dims: Sequence[int]) -> tuple[int, ...] | None:
        """How far neighbours along `dims` lie apart in a storage read through this view; 0 where it is repeated."""
        ahead = len(dims) - len(t.shape)
        if ahead < 0:
            return None
        eager = strides(t)
        turned = self._turned.get(s)
        if turned is None:
            return (0,) * ahead + tuple([0 if n == 1 else step for n, step in zip(t.shape, eager, strict=True)])
        found = [0] * len(dims)
        for d, (n, at) in enumerate(zip(t.shape, eager, strict=True), ahead):
            if n == 1 or not at:
                continue
            if at not in turned:
                return None
            step, size = turned[at]
            while size < n:  # several dimensions as one, where they follow each other here too
                after = turned.get(at * size)
                if after is None or after[0] != step * size:
                    return None
                size *= after[1]
            found[d] = step
        return tuple(found)

    def place(self, s: int, t: TensorSpec, own: tuple[int, ...], inside: bool) -> None:
        """A storage written anew lies as `own` says, unless it is written only `inside`."""
        if not inside:
            self._turned.pop(s, None)
        eager = strides(t)
        if own != eager:
            self._turned[s] = {e: (i, n) for e, i, n in zip(eager, own, t.shape, strict=True) if n > 1}

    def turn(self, s: int, value: Value, own: tuple[int, ...]) -> None:
        """What lay as `value` does lies as `own` says."""
        turn = {old: (new, n) for old, new, n in zip(value.strides, own, value.dims, strict=True) if n > 1}
        before = self._turned.get(s)
        self._turned[s] = turn if before is None else {e: turn[step] for e, (step, _) in before.items() if step in turn}
        value.strides = own
