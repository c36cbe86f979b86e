"""Small constants of an ONNX graph worked out, since they decide shapes: by onnx's own evaluator, an operator at a time.

An operator makes at most as many elements as are asked for, and that is known before it runs: a file of 300 bytes can ask
for terabytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

FOLDABLE = {
    "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod", "Slice", "Range", "Floor",
    "Ceil", "Equal", "Where", "ConstantOfShape", "Expand", "Reshape", "ReduceProd", "ReduceSum", "ReduceMax", "Identity",
    "Neg", "Abs", "Max", "Min", "Less", "Greater", "Not", "And", "Or", "Transpose", "Split", "Flatten", "Pow", "Sqrt",
    "Round", "Tile",
}  # fmt: skip


def _alone(node: onnx.NodeProto, opsets: Sequence[onnx.OperatorSetIdProto]) -> onnx.ModelProto:
    """A model of one node."""

    def value(name: str) -> onnx.ValueInfoProto:
        return onnx.ValueInfoProto(name=name)

    graph = onnx.helper.make_graph([node], "one", [value(n) for n in node.input if n], [value(n) for n in node.output if n])
    return onnx.helper.make_model(graph, opset_imports=list(opsets))


def folded(node: onnx.NodeProto, given: Mapping[str, Any], opsets: Sequence[onnx.OperatorSetIdProto], limit: int) -> list[Any]:
    """The node's results; none where they would have more than `limit` elements or cannot be worked out."""
    from onnx.reference import ReferenceEvaluator

    try:
        if node.op_type not in FOLDABLE or _elements(node, [given[n] for n in node.input if n]) > limit:
            return []
        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(_alone(node, opsets)).run(None, dict(given)))
    except Exception:  # values may be anything: then a shape stays unknown, and that is said
        return []


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
    largest: int = max(int(v.size) for v in values)
    if kind == "Concat":
        return sum(int(v.size) for v in values)
    try:
        return max(largest, math.prod(np.broadcast_shapes(*(v.shape for v in values))))
    except ValueError:  # an operator whose inputs do not go side by side; its result is no larger than its data
        return largest
