"""What is known of an ONNX graph's values so far. Imports neither the operators nor who asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from roofline.errors import SourceError
from roofline.records import TensorSpec
from roofline.sources.onnx.graph import DTYPES, Graph, Weight, bounded, opsets

# Nodes that loops may be unrolled to.
UNROLLED = 100_000


class Known:
    """The nodes that run, in order, and what is known of the values between them."""

    def __init__(self, graph: Graph, sizes: Mapping[str, tuple[int, ...]], turns: int | None = None) -> None:
        # turns of a loop where data decide, as asked; loops of that kind that were met
        self.turns, self.undecided = turns, 0
        self.graph, self.where = graph, graph.where
        # values by name: shape and dtype, and content where it is small and constant
        self.specs: dict[str, TensorSpec] = {w.name: w.spec for w in graph.weights}
        # those of the file, and those that stand in nodes
        self.weights: list[Weight] = list(graph.weights)
        self.constants: dict[str, Any] = dict(graph.constants)
        # lists of values: the name of a list -> the names in it
        self.lists: dict[str, list[str]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.notes: list[str] = []
        self.opsets = opsets(graph.model)
        self.types: dict[str, onnx.TypeProto] = {}
        self.taken = 0
        # nodes that were worked out: what they read, and what they gave
        self.folded: list[tuple[list[str], list[str]]] = []
        # values without a shape -> why
        self.unknown: dict[str, str] = {}
        # names of sizes that the file's inputs have -> the sizes
        self.symbols: dict[str, int] = {}
        for name, shape in sizes.items():
            stated, dtype = graph.inputs[name]
            self.specs[name] = TensorSpec(bounded(shape, name, self.where), dtype)
            self.symbols |= {s: size for s, size in zip(stated, shape, strict=True) if isinstance(s, str) and s != "?"}

    def take(self, node: onnx.NodeProto) -> None:
        """One node: its results get shapes, and it joins those that run unless it is worked out now."""
        raise NotImplementedError

    def inferred(self, node: onnx.NodeProto) -> dict[str, TensorSpec]:
        """A node's results by onnx's rule for the operator; empty where it has none."""
        raise NotImplementedError

    def spend(self) -> None:
        """Count a node or a turn of a loop. Raises SourceError where a graph takes more of them than any model does."""
        self.taken += 1
        if self.taken > len(self.graph.model.graph.node) + UNROLLED:
            raise SourceError(f"{self.where}: its loops come to more than {UNROLLED:,} nodes, the limit for a graph")

    def hold(self, name: str, value: np.ndarray[Any, Any]) -> None:
        """A small constant under that name."""
        self.constants[name] = value
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        self.specs[name] = TensorSpec(bounded(tuple(value.shape), name, self.where), DTYPES[kind])
        self.types.pop(name, None)

    def missing(self, name: str, node: onnx.NodeProto) -> SourceError:
        """The error of a value that a node reads, and that has no shape."""
        if name in self.unknown:
            return SourceError(f"{self.where}: the shape of {name!r} {self.unknown[name]}")
        if name in self.lists:
            return SourceError(f"{self.where}: node {node.name!r} ({node.op_type}) takes a list of tensors, which is not read")
        return SourceError(f"{self.where}: {name!r} is read by node {node.name!r} before any node makes it")
