"""Small constants of an ONNX graph worked out, since they decide shapes: the common ones here, others by onnx's own evaluator,
an operator at a time. And how long a result can be at most whose length its data say.

An operator makes at most as many elements as are asked for, and that is known before it runs: a file of 300 bytes can ask
for terabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from roofline.records import TensorSpec

FOLDABLE = {
    "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod", "Slice", "Range", "Floor",
    "Ceil", "Equal", "Where", "ConstantOfShape", "Expand", "Reshape", "ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin",
    "Identity", "Neg", "Abs", "Max", "Min", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Not", "And", "Or", "Xor",
    "Transpose", "Split", "Flatten", "Pow", "Sqrt", "Round", "Tile", "Clip", "Sum", "GatherElements", "ScatterND",
    "ScatterElements", "NonZero", "CumSum", "Trilu", "Sign", "Reciprocal", "TopK", "ArgMax", "ArgMin", "CastLike", "GatherND",
}  # fmt: skip
# On whole numbers or truths, where numpy means what ONNX means.
_PLAIN: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Equal": np.equal, "Less": np.less, "Greater": np.greater,
    "LessOrEqual": np.less_equal, "GreaterOrEqual": np.greater_equal, "Not": np.logical_not, "And": np.logical_and,
    "Or": np.logical_or, "Where": np.where, "Identity": np.asarray, "Neg": np.negative,
}  # fmt: skip


def _alone(node: onnx.NodeProto, opsets: Sequence[onnx.OperatorSetIdProto]) -> onnx.ModelProto:
    """A model of one node."""

    def value(name: str) -> onnx.ValueInfoProto:
        return onnx.ValueInfoProto(name=name)

    names = dict.fromkeys(n for n in node.input if n)
    graph = onnx.helper.make_graph([node], "one", [value(n) for n in names], [value(n) for n in node.output if n])
    return onnx.helper.make_model(graph, opset_imports=list(opsets))


def folded(node: onnx.NodeProto, known: Mapping[str, Any], opsets: Sequence[onnx.OperatorSetIdProto], limit: int) -> list[Any]:
    """The node's results, one for each of its outputs; none where they would have more than `limit` elements or cannot be
    worked out. `known` has the values of all its inputs."""
    from onnx.reference import ReferenceEvaluator

    if node.op_type not in FOLDABLE:
        return []
    given = {n: known[n] for n in node.input if n}
    try:
        values = [given[n] for n in node.input if n]
        if _elements(node, values) > limit:
            return []
        with np.errstate(all="ignore"):
            found = _quickly(node, values)
            if found is None:
                names = iter(ReferenceEvaluator(_alone(node, opsets)).run(None, given))
                found = [next(names) if n else None for n in node.output]
    except Exception:  # values may be anything: then a shape stays unknown, and that is said
        return []
    return found if all(isinstance(v, (np.ndarray, np.generic)) and v.size <= limit for v in found if v is not None) else []


def _quickly(node: onnx.NodeProto, values: list[Any]) -> list[Any] | None:
    """The few operators that exporters work shapes out with, which onnx's evaluator takes a millisecond for; None: another."""
    kind, attributes = node.op_type, {a.name: a for a in node.attribute}
    axis = attributes["axis"].i if "axis" in attributes else None
    if kind in _PLAIN and not attributes and all(v.dtype.kind in "iub" for v in values):
        return [np.asarray(_PLAIN[kind](*values))]
    if kind == "Gather" and values[1].size and np.all(values[1] >= -values[0].shape[axis or 0]):
        return [np.take(values[0], values[1], axis=axis or 0)]
    if kind == "Concat" and axis is not None and len({v.dtype for v in values}) == 1:
        return [np.concatenate(values, axis=axis)]
    if kind == "Unsqueeze" and values[0].ndim == 0 and (len(values) == 2 or list(attributes["axes"].ints) == [0]):
        return [values[0].reshape(1)] if len(values) == 1 or values[1].tolist() in ([0], [-1]) else None
    if kind == "Cast" and attributes["to"].i == onnx.TensorProto.INT64 and values[0].dtype.kind in "iub":
        return [values[0].astype(np.int64)]
    return None


def _elements(node: onnx.NodeProto, values: Sequence[Any]) -> int:
    """At most how many elements the result has, in whole numbers without end."""
    kind, first = node.op_type, values[0]
    if kind == "Range":
        start, end, step = (float(v) for v in values)
        return max(0, math.ceil((end - start) / step))
    if kind == "ConstantOfShape":
        return math.prod(int(d) for d in first)
    if kind == "Expand":
        return math.prod(np.broadcast_shapes(first.shape, tuple(int(d) for d in values[1])))
    if kind == "Tile":
        return int(first.size) * math.prod(int(d) for d in values[1])
    if kind == "Gather":
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return int(values[1].size) * (int(first.size) // max(int(first.shape[axis]), 1))
    if kind == "GatherND":
        return int(values[1].size) * int(first.size)
    if kind == "NonZero":
        return int(first.size) * int(first.ndim)
    largest: int = max(int(v.size) for v in values)
    if kind == "Concat":
        return sum(int(v.size) for v in values)
    try:
        return max(largest, math.prod(np.broadcast_shapes(*(v.shape for v in values))))
    except ValueError:  # an operator whose inputs do not go side by side; its result is no larger than its data
        return largest


def most(node: onnx.NodeProto, ins: Sequence[TensorSpec | None], known: Mapping[str, Any]) -> list[TensorSpec]:
    """The results at the most that they can be, of an operator that returns what it finds in its data; empty: it does not."""
    if node.domain not in ("", "ai.onnx") or not ins or ins[0] is None:
        return []
    first, n = ins[0], ins[0].numel
    if node.op_type == "NonZero":
        return [TensorSpec((len(first.shape), n), "int64")]
    if node.op_type == "Compress":
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        return [first if axis is not None else TensorSpec((n,), first.dtype)]
    if node.op_type == "Unique":
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        values = first if axis is not None else TensorSpec((n,), first.dtype)
        index = TensorSpec((n if axis is None else first.shape[axis],), "int64")
        return [values, index, index, index]
    if node.op_type == "NonMaxSuppression" and len(ins) > 1 and ins[1] is not None and len(ins[1].shape) == 3:
        batch, classes, boxes = ins[1].shape
        each = known.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if len(node.input) > 2 and node.input[2]:
            boxes = min(boxes, max(0, int(np.ravel(each)[0]))) if each is not None and np.size(each) else boxes
        return [TensorSpec((batch * classes * boxes, 3), "int64")]
    return []
