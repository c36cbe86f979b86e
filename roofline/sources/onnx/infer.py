"""Shape and dtype of every value of an ONNX graph, a node at a time in the graph's order.

Nothing is executed but operators of a closed list on small constants that decide shapes. What a node gives follows, in this
order, from its constants (`fold`), from onnx's rule for the operator, from a rule of ours (`contrib`), from what the file
states; a result as long as its data say is taken at the longest that it can be, and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from roofline.errors import SourceError
from roofline.records import TensorSpec
from roofline.sources.graph_limits import MEMORY_LIMIT, little_memory
from roofline.sources.onnx import contrib, control
from roofline.sources.onnx.fold import folded, most
from roofline.sources.onnx.graph import DTYPES, FOLD_LIMIT, Graph, bounded, line, value_of, weight
from roofline.sources.onnx.known import Known

KINDS = {dtype: kind for kind, dtype in DTYPES.items()}
STANDARD = ("", "ai.onnx")


class Shapes(Known):
    """A whole graph, its inputs at `sizes`. Raises SourceError where a shape cannot be worked out."""

    def __init__(self, graph: Graph, sizes: Mapping[str, tuple[int, ...]], turns: int | None = None) -> None:
        super().__init__(graph, sizes, turns)
        # operators that return what they find in data -> the shapes that were taken
        self.searches: dict[str, list[str]] = {}
        try:
            with little_memory(graph.size):  # onnx's tables are as long as a number in the file says
                for node in graph.model.graph.node:
                    self.take(node)
        except MemoryError:
            raise SourceError(
                f"{self.where}: working out its shapes takes more than {MEMORY_LIMIT // 2**30} GiB, the limit for a graph"
            ) from None
        for kind, shapes in self.searches.items():
            of = kind if len(shapes) == 1 else f"{kind} ({len(shapes)} nodes, the first {shapes[0]})"
            taken = f"{shapes[0]} was taken, " if len(shapes) == 1 else ""
            self.notes.append(f"{of}: how much it finds depends on data; {taken}the most that there can be was counted")

    def take(self, node: onnx.NodeProto) -> None:
        """One node: its results get shapes, and it joins those that run unless it is worked out now.

        Raises SourceError where its shapes do not agree, or what it reads has none.
        """
        self.spend()
        try:
            self._take(node)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            kind = f"({type(error).__name__}: {line(error)})"
            raise SourceError(f"{self.where}: node {node.name!r} is not a {node.op_type} as ONNX defines it {kind}") from error

    def _take(self, node: onnx.NodeProto) -> None:
        if node.domain in STANDARD and control.replaced(node, self):
            return
        for name in node.input:
            if name and name not in self.specs:
                raise self.missing(name, node)
        if node.domain in STANDARD and node.op_type == "Constant":
            self._constant(node)
            return
        values = self._worked_out(node)
        if values:
            self.folded.append(([] if node.op_type in ("Shape", "Size") else list(node.input), list(node.output)))
            for name, value in zip(node.output, values, strict=False):
                if name:
                    self.hold(name, np.asarray(value))
            return
        found = self._results(node)
        for name in filter(None, node.output):
            if name in found:
                self.specs[name] = TensorSpec(bounded(found[name].shape, name, self.where), found[name].dtype)
                self.types.pop(name, None)
            else:
                self.unknown[name] = self._why(node)
        self.nodes.append(node)

    # ---------------------------------------------------------------- one node

    def _worked_out(self, node: onnx.NodeProto) -> list[Any]:
        """The results of a node whose inputs are small constants, or which only asks for a shape."""
        if node.domain not in STANDARD:
            return []
        if node.op_type in ("Shape", "Size") and node.input:
            spec = self.specs[node.input[0]]
            begin = next((a.i for a in node.attribute if a.name == "start"), 0)
            end = next((a.i for a in node.attribute if a.name == "end"), len(spec.shape))
            return [np.array(spec.shape[begin:end] if node.op_type == "Shape" else spec.numel, dtype=np.int64)]
        names = [n for n in node.input if n]
        if not names or not all(n in self.constants for n in names):
            return []
        return folded(node, self.constants, self.graph.model.opset_import, FOLD_LIMIT)

    def _constant(self, node: onnx.NodeProto) -> None:
        """A value that stands in a node; a tensor of several numbers may be a weight."""
        (name,), value = node.output, _constant(node)
        held = next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)
        if held is not None and (value is None or value.size > 1):
            self.weights.append(weight(name, held, self.where))
            self.specs[name] = self.weights[-1].spec
        if value is not None and value.dtype.kind not in "OSU":
            self.hold(name, value)
        elif held is None:
            raise SourceError(f"{self.where}: node {node.name!r} is a constant of a kind that is not read")

    def _results(self, node: onnx.NodeProto) -> dict[str, TensorSpec]:
        """What is known of a node's results."""
        ours = contrib.shapes(node, self)
        found = ours if ours is not None else self.inferred(node)
        for name in filter(None, node.output):
            if name not in found and (stated := self._stated(name)) is not None:
                found[name] = stated
        longest = most(node, [self.specs.get(n) for n in node.input], self.constants)
        if longest and node.output[0] not in found:
            found |= {n: s for n, s in zip(node.output, longest, strict=False) if n}
            self.searches.setdefault(node.op_type, []).append(_text(longest[0]))
        return found

    def inferred(self, node: onnx.NodeProto) -> dict[str, TensorSpec]:
        """By onnx's rule for the operator; empty where it has none."""
        domain = "" if node.domain in STANDARD else node.domain
        version = self.opsets.get(domain)
        if version is None and domain == "":
            version = onnx.defs.onnx_opset_version()
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain) if version is not None else None
        except Exception:  # onnx's own error: the operator is nobody's that it knows
            schema = None
        if schema is None:
            return {}
        pieces = next((a.i for a in node.attribute if a.name == "num_outputs"), len(node.output))
        if node.op_type == "Split" and pieces != len(node.output):  # onnx's rule ends the process
            raise SourceError(f"{self.where}: its shapes do not agree: a Split into {pieces} has {len(node.output)} results")
        known = onnx.NodeProto()
        known.CopyFrom(node)
        for a in [a for a in known.attribute if a.name not in schema.attributes]:
            known.attribute.remove(a)  # an exporter's own remark
        names = [n for n in node.input if n]
        data = {n: numpy_helper.from_array(self.constants[n]) for n in names if n in self.constants}
        try:
            types = shape_inference.infer_node_outputs(
                schema, known, {n: self._type(n) for n in names}, data, opset_imports=list(self.graph.model.opset_import)
            )
        except MemoryError:
            raise
        except Exception as error:  # InferenceError, ValidationError and what a damaged node makes it stumble over
            raise SourceError(f"{self.where}: its shapes do not agree: {line(error)}") from error
        return {name: spec for name, kind in types.items() if (spec := _spec(kind)) is not None}

    def _type(self, name: str) -> onnx.TypeProto:
        found = self.types.get(name)
        if found is None:
            spec = self.specs[name]
            found = self.types[name] = onnx.helper.make_tensor_type_proto(KINDS[spec.dtype], spec.shape)
        return found

    def _stated(self, name: str) -> TensorSpec | None:
        """What the file states of a value, sizes with a name filled in from the inputs."""
        sizes, dtype = self.graph.stated.get(name, ((), ""))
        shape = [self.symbols.get(s) if isinstance(s, str) else s for s in sizes]
        whole = [s for s in shape if s is not None]
        return TensorSpec(tuple(whole), dtype) if dtype and len(whole) == len(shape) else None

    def _why(self, node: onnx.NodeProto) -> str:
        """Why a node's results have no shape."""
        if node.domain not in STANDARD:
            return (
                f"({node.op_type} of {node.domain}) does not follow from the inputs' shapes, since the operator is not one of "
                "ONNX's\nstate the shape in the file (value_info) when it is exported"
            )
        asked = [n for n in node.input[1:] if n and n not in self.constants and "int" in self.specs[n].dtype]
        of = f": it depends on the values of {', '.join(map(repr, asked))}" if asked else ""
        return (
            f"({node.op_type}) does not follow from the inputs' shapes{of}"
            "\nexport the model with that size fixed, or state the shape in the file (value_info)"
        )


def _text(spec: TensorSpec) -> str:
    return "x".join(f"{s:,}" for s in spec.shape)


def _spec(kind: onnx.TypeProto) -> TensorSpec | None:
    """A type as onnx infers it, where it is a tensor and every size is known."""
    tensor = kind.tensor_type
    if not kind.HasField("tensor_type") or not tensor.HasField("shape") or tensor.elem_type not in DTYPES:
        return None
    if not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return TensorSpec(tuple(d.dim_value for d in tensor.shape.dim), DTYPES[tensor.elem_type])


def _constant(node: onnx.NodeProto) -> Any:
    """The value of a Constant node where it is small and stands in the node; None else."""
    (a, *more) = node.attribute or [onnx.AttributeProto()]
    if more:
        return None
    if a.name == "value":
        return value_of(a.t)
    plain = {"value_int": a.i, "value_ints": list(a.ints), "value_float": a.f, "value_floats": list(a.floats)}
    kind = np.int64 if "int" in a.name else np.float32
    return np.array(plain[a.name], dtype=kind) if a.name in plain else None
