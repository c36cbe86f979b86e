"""An ONNX graph as a Trace, without torch: one op for each node, under the name of its ATen counterpart.

Subgraphs that depend on data are refused, and an operator that no rule knows is unknown, with the bytes that its shapes tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from msgspec import msgpack, structs
from onnx import TensorProto

from roofline.dtypes import SETTINGS, SHORT
from roofline.errors import SourceError
from roofline.records import InputInfo, Layer, ModelInfo, Op, OpSpec, Storage, TensorSpec, Trace
from roofline.sources.onnx.graph import DTYPES, Shapes, Weight, load
from roofline.sources.onnx.ops import POINTWISE, VIEWS, Call, translate

# Modules inside one another that a graph may name.
DEPTH = 100
_TEXT = re.compile(r"""'([^'\\]*)'|"([^"\\]*)\"""")
_LIST = re.compile(rf"\[\s*(?:(?:{_TEXT.pattern})\s*(?:,\s*)?)*\]")


def trace(where: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Trace:
    """The graph with its inputs at `shapes` as a Trace. Raises SourceError where a shape cannot be worked out."""
    known, weights = load(where, shapes)
    return _Builder(known, weights, where).build(name, shapes)


class _Builder:
    """Nodes in order -> ops, specs, storages and layers."""

    def __init__(self, known: Shapes, weights: Sequence[Weight], where: str) -> None:
        self.known, self.weights, self.where = known, weights, where
        self.graph = known.model.graph
        self.opsets = {o.domain: o.version for o in known.model.opset_import}
        self.layers: dict[str, Layer] = {"": Layer("", "ONNX", 0, -1, 1)}
        self.layer_index = {"": 0}
        self.layer_params: dict[int, int] = {}
        self.owned: set[int] = set()
        self.specs: dict[bytes, int] = {}
        self.table: list[OpSpec] = []
        self.ops: list[Op] = []
        self.storages: list[list[Any]] = []
        self.at: dict[str, int] = {}
        self.statistics = {n for node in self.graph.node if node.op_type == "BatchNormalization" for n in node.input[3:5]}

    def build(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Trace:
        used = {n for node in self.graph.node for n in node.input}
        for weight in self.weights:
            if weight.name in used:
                self._hold(weight.name, self._kind(weight))
        for t in self.graph.initializer:
            if t.name not in self.at:  # worked out from shapes
                self._hold(t.name, "constant")
        for key in shapes:
            self._hold(key, "input")
        paths = [_path(node) for node in self.graph.node]
        for node, (path, kinds) in zip(self.graph.node, paths, strict=True):
            self._node(node, path, kinds)
        self._deaths()
        params = [s for s in self.storages if s[1] == "parameter"]
        buffers = [s for s in self.storages if s[1] == "buffer"]
        info = ModelInfo(
            name=name, source=self.where,
            params=sum(s[5] for s in params), param_bytes=sum(s[0] for s in params),
            buffers=sum(s[5] for s in buffers), buffer_bytes=sum(s[0] for s in buffers),
            inputs=tuple(InputInfo(s, self.known.specs[n].dtype, n) for n, s in shapes.items()),
        )  # fmt: skip
        layers = tuple(
            structs.replace(layer, params=self.layer_params.get(i, 0)) for i, layer in enumerate(self.layers.values())
        )
        first: tuple[int, ...] = next(iter(shapes.values()), (1,))
        dtype = next((t.dtype for t in self.known.specs.values() if "float" in t.dtype), "float32")
        return Trace(
            info, layers, tuple(self.table), tuple(self.ops),
            tuple(Storage(*s[:5]) for s in self.storages), first[0] if first else 1,
            SHORT[dtype] if SHORT.get(dtype) in SETTINGS else "fp32",
            notes=("ONNX graph: one kernel for each node, before any runtime optimises it",),
        )  # fmt: skip

    def _kind(self, weight: Weight) -> str:
        """Running statistics of a batch norm are buffers, scalars and whole numbers that are no weights constants."""
        if weight.name in self.statistics:
            return "buffer"
        quantized = weight.kind in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
        return "parameter" if weight.dims and (quantized or "float" in DTYPES[weight.kind]) else "constant"

    def _hold(self, name: str, kind: str, born: int = -1) -> int:
        spec = self._spec(name)
        self.at[name] = len(self.storages)
        self.storages.append([spec.nbytes, kind, name if kind in ("parameter", "buffer") else "", born, -1, spec.numel])
        return self.at[name]

    def _spec(self, name: str, op: str = "") -> TensorSpec:
        found = self.known.specs.get(name)
        if found is None:
            raise SourceError(
                f"{self.where}: the shape of {name!r}{f' ({op})' if op else ''} does not follow from the inputs' shapes"
                "\nrun onnx's own shape inference or a simplifier over the file first"
            )
        return found

    def _node(self, node: onnx.NodeProto, path: str, kinds: Sequence[str]) -> None:
        outputs = [n for n in node.output if n]
        if node.op_type == "Constant" or all(n in self.known.constants for n in outputs):
            for n in outputs:
                if n in self.known.specs and n not in self.at:
                    self._hold(n, "constant")
            return
        ins = [self._spec(n, node.op_type) if n else None for n in node.input]
        outs = [self._spec(n, node.op_type) for n in outputs]
        foreign = node.domain not in ("", "ai.onnx")
        args: list[Any]
        if foreign:
            # a rule of ours is for the operator that it is written for, not for whatever a file calls so
            ours = node.domain.partition(".")[0] in ("aten", "prims", "quantized", "torchvision", "onnx")
            name, args = f"{'custom.' if ours else ''}{node.domain}.{node.op_type}", list(ins)
        else:
            try:
                attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                name, args = translate(Call(node.op_type, attributes, ins, outs))
            except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
                raise SourceError(
                    f"{self.where}: node {node.name!r} is not a {node.op_type} as ONNX defines it "
                    f"({type(error).__name__}: {error})"
                ) from error
        view = not foreign and node.op_type in VIEWS
        spec = OpSpec(
            name, "", args, {}, tuple(t for t in ins if t is not None), tuple(outs[:1] if view else outs),
            not foreign and node.op_type in POINTWISE, view,
        )  # fmt: skip
        unmade = next((n for n in node.input if n and n not in self.at), None)
        if unmade is not None:
            raise SourceError(f"{self.where}: {unmade!r} is read by node {node.name!r} before any node makes it")
        sources = tuple(self.at[n] for n in node.input if n)
        if view and node.op_type not in ("Shape", "Size"):
            targets: tuple[int, ...] = (sources[0],)
            self.at[outputs[0]] = sources[0]
            for n in outputs[1:]:
                self._hold(n, "activation", len(self.ops))
        else:
            targets = tuple(self._hold(n, "activation", len(self.ops)) for n in outputs)
        layer = self._layer(path, kinds)
        self._charge(layer, sources)
        self.ops.append(Op(self._index(spec), layer, sources, targets))

    def _index(self, spec: OpSpec) -> int:
        key = msgpack.encode(spec)
        if key not in self.specs:
            self.specs[key] = len(self.table)
            self.table.append(spec)
        return self.specs[key]

    def _charge(self, layer: int, sources: Sequence[int]) -> None:
        """A parameter belongs to the layer that uses it first."""
        for s in sources:
            if self.storages[s][1] == "parameter" and s not in self.owned:
                self.owned.add(s)
                self.layer_params[layer] = self.layer_params.get(layer, 0) + self.storages[s][5]

    def _layer(self, path: str, kinds: Sequence[str]) -> int:
        if path not in self.layers:
            parent, _, _ = path.rpartition(".")
            above = self._layer(parent, kinds[:-1])
            self.layer_index[path] = len(self.layers)
            self.layers[path] = Layer(path, kinds[-1] if kinds else "Module", 0, above, 1)
        return self.layer_index[path]

    def _deaths(self) -> None:
        final = {self.at[o.name] for o in self.graph.output if o.name in self.at}
        for i, op in enumerate(self.ops):
            for s in (*op.inputs, *op.outputs):
                if self.storages[s][1] == "activation" and s not in final:
                    self.storages[s][4] = i + 1


def _texts(written: str) -> list[str]:
    """The texts of a list as Python writes it: ['', 'layer1', "it's"]. Empty where it is none."""
    return [a or b for a, b in _TEXT.findall(written)] if _LIST.fullmatch(written) else []


def _path(node: onnx.NodeProto) -> tuple[str, list[str]]:
    """The module that a node came from, and the types along the path: from the exporter's metadata, else from its name."""
    meta = {p.key: p.value for p in node.metadata_props}
    scopes, kinds = (_texts(meta.get(f"pkg.torch.onnx.{key}", "")) for key in ("name_scopes", "class_hierarchy"))
    if len(scopes) > 1 and kinds:
        path = scopes[-2]
        deep = not path or path.count(".") >= DEPTH
        return ("", []) if deep else (path, [k.rpartition(".")[2] for k in kinds[1:-1]][-len(path.split(".")) :])
    path = before = ""
    parts = node.name.strip("/").split("/")[:-1]
    for part in parts if len(parts) <= DEPTH else ():
        if not re.fullmatch(r"[\w.\-]+", part):
            return "", []
        # "/layer1/layer1.0/conv1/Conv": a child of a Sequential repeats its parent's name
        path = path.removesuffix(before) + part if before and part.startswith(before + ".") else f"{path}.{part}".strip(".")
        before = part
    return path, []
