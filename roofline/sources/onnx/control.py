"""Branches, loops and lists of an ONNX graph put in terms of plain nodes, as far as shapes tell which way they go.

An exporter leaves such nodes where a condition was a size: it is known now, and the branch that runs takes the node's place.
Where data decide, one way is taken and a note says which: a branch's longer side, one turn of a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from roofline.errors import SourceError
from roofline.request import turns_counted
from roofline.sources.onnx.known import Known

# Graphs inside one another, and turns of a loop that names no number of them.
DEPTH, TURNS = 50, 1000
make = onnx.helper.make_node


def replaced(node: onnx.NodeProto, known: Known) -> bool:
    """Whether the node stands for others, which were taken in its place."""
    deed = _DEEDS.get(node.op_type)
    if deed is None:
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise SourceError(
                f"{known.where}: node {node.name!r} ({node.op_type}) holds graphs, which only If, Loop and Scan may"
            )
        return False
    for name in node.input:
        if name and name not in known.specs and name not in known.lists:
            raise known.missing(name, node)
    deed(node, known)
    return True


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _graph(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    found = _attribute(node, name)
    if not isinstance(found, onnx.GraphProto):
        raise LookupError(f"it has no {name}")
    return found


def _named(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type


def _value(known: Known, name: str) -> Any:
    """A constant's one number; None where it is not known."""
    value = known.constants.get(name)
    return None if value is None else np.ravel(value)[0].item()


# ------------------------------------------------------------------------------------------------ graphs in nodes


def _size(graph: onnx.GraphProto, depth: int = 0) -> int:
    if depth > DEPTH:
        raise ValueError(f"graphs more than {DEPTH} deep")
    inner = (a.g for n in graph.node for a in n.attribute if a.HasField("g"))
    return len(graph.node) + sum(_size(g, depth + 1) for g in inner)


def _renamed(node: onnx.NodeProto, names: Mapping[str, str], depth: int = 0) -> onnx.NodeProto:
    """The node with its values under other names, those that graphs inside it refer to too."""
    if depth > DEPTH:
        raise ValueError(f"graphs more than {DEPTH} deep")
    out = onnx.NodeProto()
    out.CopyFrom(node)
    out.input[:] = [names.get(n, n) for n in node.input]
    out.output[:] = [names.get(n, n) for n in node.output]
    for a in out.attribute:
        if a.HasField("g"):
            own = {n for inner in a.g.node for n in inner.output} | {i.name for i in (*a.g.input, *a.g.initializer)}
            outer = {k: v for k, v in names.items() if k not in own}
            nodes = [_renamed(inner, outer, depth + 1) for inner in a.g.node]
            del a.g.node[:]
            a.g.node.extend(nodes)
            for result in a.g.output:
                result.name = outer.get(result.name, result.name)
    return out


def _body(graph: onnx.GraphProto, given: Sequence[str], prefix: str, known: Known) -> list[str]:
    """Takes a graph's nodes with its inputs bound to `given`; returns the names of its results."""
    names = {i.name: g for i, g in zip(graph.input, given, strict=False)}
    for t in graph.initializer:
        held = onnx.NodeProto(op_type="Constant", output=[f"{prefix}{t.name}"])
        held.attribute.append(onnx.helper.make_attribute("value", t))
        known.take(held)
        names[t.name] = f"{prefix}{t.name}"
    names |= {n: f"{prefix}{n}" for node in graph.node for n in node.output if n}
    for node in graph.node:
        known.take(_renamed(node, names))
    return [names.get(o.name, o.name) for o in graph.output]


def _alias(old: str, new: str, known: Known) -> None:
    """`new` is what `old` is."""
    if old in known.lists:
        known.lists[new] = known.lists[old]
    elif old in known.constants:
        known.hold(new, known.constants[old])
    else:
        known.take(make("Identity", [old], [new]))


def _number(known: Known, name: str, value: Any, dtype: Any = np.int64) -> str:
    known.hold(name, np.array(value, dtype=dtype))
    return name


def _if(node: onnx.NodeProto, known: Known) -> None:
    branches = [_graph(node, "then_branch"), _graph(node, "else_branch")]
    condition = _value(known, node.input[0])
    if condition is None:
        chosen = max(branches, key=_size)
        side = "then" if chosen is branches[0] else "else"
        known.notes.append(f"{_named(node)}: data decide which way it goes; its {side} branch was counted, the longer one")
    else:
        chosen = branches[0] if condition else branches[1]
    results = _body(chosen, (), f"{node.output[0]}/", known)
    for result, name in zip(results, node.output, strict=True):
        if name:
            _alias(result, name, known)


def _loop(node: onnx.NodeProto, known: Known) -> None:
    body = _graph(node, "body")
    most, condition, *carried = [*node.input, "", ""][: max(2, len(node.input))]
    turns = _value(known, most) if most else None
    open_ended = bool(most) and turns is None
    goes_on = _value(known, condition) if condition else True
    scanned: list[list[str]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    done = undecided = 0
    while goes_on is not False and goes_on != 0 and (turns is None or done < turns):
        at = f"{node.output[0]}/{done}/"
        step = _number(known, f"{at}turn", done)
        true = _number(known, f"{at}on", True, np.bool_)
        goes, *results = _body(body, [step, true, *carried], at, known)
        carried, outs = results[: len(carried)], results[len(carried) :]
        for held, out in zip(scanned, outs, strict=True):
            held.append(out)
        done += 1
        goes_on = _value(known, goes)
        if goes_on is None or (goes_on and open_ended):
            undecided += 1
            if undecided == (known.turns or 1):
                break
        if turns is None and done == TURNS:
            raise SourceError(f"{known.where}: {_named(node)} does not end within {TURNS:,} turns, the limit for a loop")
        known.spend()
    if undecided:
        known.undecided += 1
        known.notes.append(f"{_named(node)}: {turns_counted(done, known.turns)}")
    if not done and scanned:
        raise SourceError(f"{known.where}: {_named(node)} makes no turn, and the shape of what it collects is then not known")
    for value, name in zip(carried, node.output, strict=False):
        if name:
            _alias(value, name, known)
    for held, name in zip(scanned, node.output[len(carried) :], strict=True):
        if name:
            _stack(held, name, 0, True, known)


def _scan(node: onnx.NodeProto, known: Known) -> None:
    body, count = _graph(node, "body"), _attribute(node, "num_scan_inputs")
    if any(any(_attribute(node, f"scan_{side}_{kind}", [])) for side in ("input", "output") for kind in ("axes", "directions")):
        raise SourceError(f"{known.where}: {_named(node)} goes along other axes than the first, which is not read")
    carried, rows = list(node.input[: len(node.input) - count]), list(node.input[len(node.input) - count :])
    collected: list[list[str]] = [[] for _ in range(len(body.output) - len(carried))]
    for i in range(known.specs[rows[0]].shape[0]):
        at = f"{node.output[0]}/{i}/"
        step = _number(known, f"{at}step", i)
        for j, row in enumerate(rows):
            known.take(make("Gather", [row, step], [f"{at}row{j}"], axis=0))
        results = _body(body, [*carried, *(f"{at}row{j}" for j in range(len(rows)))], at, known)
        carried = results[: len(carried)]
        for held, out in zip(collected, results[len(carried) :], strict=True):
            held.append(out)
    for value, name in zip(carried, node.output, strict=False):
        if name:
            _alias(value, name, known)
    for held, name in zip(collected, node.output[len(carried) :], strict=True):
        if name:
            _stack(held, name, 0, True, known)


# ------------------------------------------------------------------------------------------------ lists of tensors


def _stack(parts: Sequence[str], name: str, axis: int, new: bool, known: Known) -> None:
    """Tensors side by side along an axis, which `new` makes first."""
    if new:
        at = _number(known, f"{name}/axis", [axis])
        for i, part in enumerate(parts):
            known.take(
                make("Unsqueeze", [part, at], [f"{name}/{i}"])
                if _late(known)
                else make("Unsqueeze", [part], [f"{name}/{i}"], axes=[axis])
            )
        parts = [f"{name}/{i}" for i in range(len(parts))]
    known.take(make("Concat", list(parts), [name], axis=axis))


def _late(known: Known) -> bool:
    """Whether axes are inputs in this version of the operators."""
    return known.opsets.get("", 13) >= 13


def _construct(node: onnx.NodeProto, known: Known) -> None:
    known.lists[node.output[0]] = list(node.input)


def _empty(node: onnx.NodeProto, known: Known) -> None:
    known.lists[node.output[0]] = []


def _index(node: onnx.NodeProto, known: Known, i: int, name: str) -> int:
    at = _value(known, name)
    if at is None:
        raise SourceError(f"{known.where}: {_named(node)} takes a tensor of a list, and which one depends on data")
    count = len(known.lists[node.input[0]])
    if not -count <= at < count + i:
        raise IndexError(f"item {at} of {count}")
    return int(at) % max(count + i, 1) if at >= 0 else int(at) + count


def _at(node: onnx.NodeProto, known: Known) -> None:
    _alias(known.lists[node.input[0]][_index(node, known, 0, node.input[1])], node.output[0], known)


def _insert(node: onnx.NodeProto, known: Known) -> None:
    held = list(known.lists[node.input[0]])
    held.insert(_index(node, known, 1, node.input[2]) if len(node.input) > 2 and node.input[2] else len(held), node.input[1])
    known.lists[node.output[0]] = held


def _erase(node: onnx.NodeProto, known: Known) -> None:
    held = list(known.lists[node.input[0]])
    del held[_index(node, known, 0, node.input[1]) if len(node.input) > 1 and node.input[1] else -1]
    known.lists[node.output[0]] = held


def _length(node: onnx.NodeProto, known: Known) -> None:
    known.hold(node.output[0], np.array(len(known.lists[node.input[0]]), dtype=np.int64))


def _split(node: onnx.NodeProto, known: Known) -> None:
    spec, axis = known.specs[node.input[0]], _attribute(node, "axis", 0)
    size = spec.shape[axis]
    sizes = known.constants.get(node.input[1]) if len(node.input) > 1 and node.input[1] else np.array([1] * min(size, 65_536))
    if sizes is None:
        raise SourceError(f"{known.where}: {_named(node)} splits a tensor by sizes that depend on data")
    if np.ndim(sizes) == 0:
        each = max(1, int(sizes))
        sizes = [each] * (size // each) + ([size % each] if size % each else [])
    parts = [f"{node.output[0]}/{i}" for i in range(len(sizes))]
    if len(parts) > 65_536:
        raise SourceError(f"{known.where}: {_named(node)} makes {len(parts):,} tensors; the limit is 65,536")
    lengths = _number(known, f"{node.output[0]}/sizes", [int(s) for s in sizes])
    known.take(
        make("Split", [node.input[0], lengths], parts, axis=axis)
        if _late(known)
        else make("Split", [node.input[0]], parts, axis=axis, split=[int(s) for s in sizes])
    )
    if len(node.input) < 2 and not _attribute(node, "keepdims", 1):
        shape = _number(known, f"{node.output[0]}/shape", [s for i, s in enumerate(spec.shape) if i != axis % len(spec.shape)])
        for part in parts:
            known.take(make("Reshape", [part, shape], [f"{part}/row"]))
        parts = [f"{part}/row" for part in parts]
    known.lists[node.output[0]] = parts


def _join(node: onnx.NodeProto, known: Known) -> None:
    parts = known.lists[node.input[0]]
    if not parts:
        raise SourceError(f"{known.where}: {_named(node)} joins an empty list")
    _stack(parts, node.output[0], _attribute(node, "axis"), bool(_attribute(node, "new_axis", 0)), known)


def _map(node: onnx.NodeProto, known: Known) -> None:
    body, made = _graph(node, "body"), [list[str]() for _ in node.output]
    for i, first in enumerate(known.lists[node.input[0]]):
        rest = [known.lists[n][i] if n in known.lists else n for n in node.input[1:]]
        for held, out in zip(made, _body(body, [first, *rest], f"{node.output[0]}/{i}/", known), strict=True):
            held.append(out)
    known.lists |= dict(zip(node.output, made, strict=True))


def members(name: str, known: Known) -> Iterator[str]:
    """The tensors of a value: itself, or those of a list."""
    yield from known.lists.get(name, (name,))


_DEEDS: dict[str, Callable[[onnx.NodeProto, Known], None]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceAt": _at,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _join,
    "SequenceMap": _map,
}
