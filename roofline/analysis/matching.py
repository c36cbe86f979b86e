"""Which layer of one model is which of another: by path, then by structure, so that a rename is a rename."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from roofline.records import LayerRow, around

What = Literal["same", "added", "removed", "renamed", "moved"]


class Pair(NamedTuple):
    """A layer of both models, or of one. `whole`: it stands for all inside it too, which has no pair of its own."""

    base: str | None
    head: str | None
    what: What
    whole: bool = False


class Tree(Struct):
    """A layer with those inside it, in the order of their first call."""

    path: str
    row: LayerRow
    inside: list[Tree]
    # what it is made of, whatever the layers are called and whatever goes through them
    shape: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def tree(layers: Iterable[LayerRow]) -> Tree | None:
    """The rows as a tree; None where there is no row of the model itself. A row without a parent hangs on the nearest above."""
    found: dict[str, Tree] = {}
    for row in sorted(layers, key=lambda row: row.path.count(".") + bool(row.path)):
        if row.path in found:
            continue
        node = Tree(row.path, row, [])
        if (above := around(row.path, found)) is not None:
            found[above].inside.append(node)
        found[row.path] = node
    return found.get("")


def match(base: Sequence[LayerRow], head: Sequence[LayerRow]) -> list[Pair]:
    """A pair for every layer of either model, apart from what is inside one that is `whole`."""
    old, new = tree(base), tree(head)
    if old is None or new is None:
        return []
    shapes: dict[tuple[object, ...], int] = {}
    for root in (old, new):
        _shape(root, shapes)
    pairs: list[Pair] = [Pair("", "", "same")]
    gone, come = list[Tree](), list[Tree]()
    todo = [(old, new)]
    while todo:
        b, h = todo.pop()
        together, only_b, only_h = _siblings(b.inside, h.inside)
        gone += only_b
        come += only_h
        for one, other in together:
            # in a Sequential a number is a place, and no name; the same place under a renamed parent is no rename either
            same = one.name == other.name or (one.name.isdigit() and other.name.isdigit())
            whole = not same and one.shape == other.shape
            pairs.append(Pair(one.path, other.path, "same" if same else "renamed", whole))
            if not whole:
                todo.append((one, other))
    return pairs + _moved(gone, come)


def _shape(node: Tree, known: dict[tuple[object, ...], int]) -> None:
    for child in node.inside:
        _shape(child, known)
    key = (node.row.type, node.row.params, node.row.kernel, *(child.shape for child in node.inside))
    node.shape = known.setdefault(key, len(known))


def _siblings(base: list[Tree], head: list[Tree]) -> tuple[list[tuple[Tree, Tree]], list[Tree], list[Tree]]:
    """Layers of one parent that belong together, and those that have nobody."""
    together: list[tuple[Tree, Tree]] = []
    left, right = list(base), list(head)

    def take(pairs: Iterable[tuple[Tree, Tree]]) -> None:
        for one, other in pairs:
            together.append((one, other))
            left.remove(one)
            right.remove(other)

    by_name = {node.name: node for node in right}
    take([(b, by_name[b.name]) for b in left if b.name in by_name and by_name[b.name].shape == b.shape])
    take(_in_order(left, right, lambda b, h: b.shape == h.shape))
    by_name = {node.name: node for node in right}
    take([(b, by_name[b.name]) for b in left if b.name in by_name])
    # another name and another size: the same kind of layer with layers of the same names in it
    take(_in_order(left, right, _alike))
    return together, left, right


def _alike(b: Tree, h: Tree) -> bool:
    return b.row.type == h.row.type and [n.name for n in b.inside] == [n.name for n in h.inside]


def _in_order(base: Sequence[Tree], head: Sequence[Tree], equal: Callable[[Tree, Tree], bool]) -> list[tuple[Tree, Tree]]:
    """The longest list of pairs that stand in the same order on both sides; of equal lists the one with the first pairs."""
    long = [[0] * (len(head) + 1) for _ in range(len(base) + 1)]
    for i in reversed(range(len(base))):
        for j in reversed(range(len(head))):
            best = max(long[i + 1][j], long[i][j + 1])
            long[i][j] = max(best, 1 + long[i + 1][j + 1]) if equal(base[i], head[j]) else best
    found, i, j = [], 0, 0
    while i < len(base) and j < len(head):
        if equal(base[i], head[j]) and long[i][j] == 1 + long[i + 1][j + 1]:
            found.append((base[i], head[j]))
            i, j = i + 1, j + 1
        elif long[i + 1][j] >= long[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def _moved(gone: Sequence[Tree], come: Sequence[Tree]) -> list[Pair]:
    """What went in one place and came in another is moved, if it holds weights; the rest was removed or added."""
    left, right = _candidates(gone), _candidates(come)
    taken: dict[str, str] = {}
    for one in left:
        other = next((node for node in right if node.shape == one.shape and _free(node.path, taken.values())), None)
        if other is not None and _free(one.path, taken):
            taken[one.path] = other.path
    pairs = [Pair(b, h, "moved", True) for b, h in taken.items()]
    pairs += [Pair(path, None, "removed", whole) for path, whole in _rest(gone, set(taken))]
    return pairs + [Pair(None, path, "added", whole) for path, whole in _rest(come, set(taken.values()))]


def _candidates(roots: Sequence[Tree]) -> list[Tree]:
    """What may have moved: what went or came as a whole, and blocks inside that; a single layer inside is too common."""
    found, todo = [], list(roots)
    while todo:
        node = todo.pop(0)
        todo += [child for child in node.inside if child.inside]
        if node.row.params:
            found.append(node)
    return found


def _free(path: str, taken: Iterable[str]) -> bool:
    return not any(path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.") for other in taken)


def _rest(roots: Sequence[Tree], taken: set[str]) -> list[tuple[str, bool]]:
    """The layers that did not move, and whether with all inside them."""
    found, todo = [], list(roots)
    while todo:
        node = todo.pop(0)
        if node.path in taken:
            continue
        whole = not any(path.startswith(f"{node.path}.") for path in taken)
        found.append((node.path, whole))
        todo += [] if whole else node.inside
    return found
