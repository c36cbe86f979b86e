"""An ONNX graph as a Trace, without torch: one op for each node, under the name of its ATen counterpart.

An operator that no rule knows is unknown, with the bytes that its shapes tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from msgspec import msgpack, structs
from onnx import TensorProto

from roofline.cost.pool import AS_LARGE
from roofline.dtypes import SETTINGS, SHORT
from roofline.errors import SourceError, UsageError
from roofline.records import InputInfo, Layer, ModelInfo, Op, OpSpec, Storage, TensorSpec, Trace
from roofline.request import NO_LOOP
from roofline.sources.onnx import contrib
from roofline.sources.onnx.control import members
from roofline.sources.onnx.graph import DTYPES, Graph, Weight
from roofline.sources.onnx.infer import STANDARD, Shapes
from roofline.sources.onnx.ops import POINTWISE, SAID, VIEWS, Call, Translation, translate

# Modules inside one another that a graph may name.
DEPTH = 100
_TEXT = re.compile(r"""'([^'\\]*)'|"([^"\\]*)\"""")
_LIST = re.compile(rf"\[\s*(?:(?:{_TEXT.pattern})\s*(?:,\s*)?)*\]")


def trace(graph: Graph, name: str, shapes: Mapping[str, tuple[int, ...]], turns: int | None = None) -> Trace:
    """The graph with its inputs at `shapes` as a Trace; loops where data decide turn `turns` times.

    Raises SourceError where a shape cannot be worked out, UsageError for turns of no such loop.
    """
    known = Shapes(graph, shapes, turns)
    if turns and not known.undecided:
        raise UsageError(NO_LOOP)
    return _Builder(known).build(name, shapes)


class _Builder:
    """Nodes in order -> ops, specs, storages and layers."""

    def __init__(self, known: Shapes) -> None:
        self.known, self.where, self.nodes = known, known.where, known.nodes
        # what somebody reads: a second result that nobody does is not made (an old Dropout's mask)
        self.outputs = {n for o in known.graph.model.graph.output for n in members(o.name, known)}
        self.wanted = {n for node in self.nodes for n in node.input} | self.outputs
        self.layers: dict[str, Layer] = {"": Layer("", "ONNX", 0, -1, 1)}
        self.layer_index = {"": 0}
        self.layer_params: dict[int, int] = {}
        self.owned: set[int] = set()
        self.specs: dict[bytes, int] = {}
        self.table: list[OpSpec] = []
        self.ops: list[Op] = []
        self.storages: list[list[Any]] = []
        self.at: dict[str, int] = {}
        self.statistics = {n for node in self.nodes if node.op_type == "BatchNormalization" for n in node.input[3:5]}
        self.used = _used(known)

    def build(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Trace:
        for weight in self.known.weights:
            if weight.name in self.used or weight.name in self.wanted:
                self._hold(weight.name, self._kind(weight))
        for n in self.known.constants:
            if n in self.wanted and n not in self.at:  # worked out from shapes
                self._hold(n, "constant")
        for key in shapes:
            self._hold(key, "input")
        for node in self.nodes:
            self._node(node, *_path(node))
        self._deaths()
        params = [s for s in self.storages if s[1] == "parameter"]
        buffers = [s for s in self.storages if s[1] == "buffer"]
        info = ModelInfo(
            name=name,
            source=self.where,
            params=sum(s[5] for s in params),
            param_bytes=sum(s[0] for s in params),
            buffers=sum(s[5] for s in buffers),
            buffer_bytes=sum(s[0] for s in buffers),
            inputs=tuple(InputInfo(s, self.known.specs[n].dtype, n) for n, s in shapes.items()),
        )
        layers = tuple(
            structs.replace(layer, params=self.layer_params.get(i, 0)) for i, layer in enumerate(self.layers.values())
        )
        first: tuple[int, ...] = next(iter(shapes.values()), (1,))
        dtype = next((t.dtype for t in self.known.specs.values() if "float" in t.dtype), "float32")
        # ratio of samples
        boxes = [AS_LARGE] if any(spec.name == "torchvision.roi_align" and not spec.args[5] for spec in self.table) else []
        return Trace(
            info,
            layers,
            tuple(self.table),
            tuple(self.ops),
            tuple(Storage(*s[:5]) for s in self.storages),
            first[0] if first else 1,
            SHORT[dtype] if SHORT.get(dtype) in SETTINGS else "fp32",
            notes=("ONNX graph: one kernel for each node, before any runtime optimises it", *self.known.notes, *boxes),
        )

    def _kind(self, weight: Weight) -> str:
        """Running statistics of a batch norm are buffers, scalars and whole numbers that are no weights constants."""
        if weight.name in self.statistics:
            return "buffer"
        if weight.name not in self.used:
            return "constant"
        quantized = weight.kind in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
        return "parameter" if weight.dims and (quantized or "float" in DTYPES[weight.kind]) else "constant"

    def _hold(self, name: str, kind: str, born: int = -1) -> int:
        spec = self._spec(name)
        self.at[name] = len(self.storages)
        self.storages.append([spec.nbytes, kind, name if kind in ("parameter", "buffer") else "", born, -1, spec.numel])
        return self.at[name]

    def _spec(self, name: str) -> TensorSpec:
        return self.known.specs[name]

    def _node(self, node: onnx.NodeProto, path: str, kinds: Sequence[str]) -> None:
        first, *rest = node.output or [""]
        known = self.known.specs
        # the first result always, since that is what the node is there for
        outputs = [n for n in ((first, *rest)) if n and (n in known or n in self.wanted or n == first)]
        for n in outputs:
            if n not in known:
                raise self.known.missing(n, node)
        ins = [known[n] if n else None for n in node.input]
        outs = [known[n] for n in outputs]
        foreign = node.domain not in STANDARD and not (node.domain == contrib.DOMAIN and node.op_type in contrib.SHARED)
        try:
            name, args = self._translated(node, ins, outs, foreign)
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError, ArithmeticError) as error:
            raise SourceError(
                f"{self.where}: node {node.name!r} is not a {node.op_type} as ONNX defines it ({type(error).__name__}: {error})"
            ) from error
        view = not foreign and node.op_type in VIEWS
        spec = OpSpec(
            name,
            "",
            args,
            {},
            tuple(t for t in ins if t is not None),
            tuple(outs[:1] if view else outs),
            not foreign and node.op_type in POINTWISE,
            view,
        )
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

    def _translated(
        self, node: onnx.NodeProto, ins: list[TensorSpec | None], outs: list[TensorSpec], foreign: bool
    ) -> Translation:
        if not foreign:
            return translate(Call(node.op_type, _attributes(node), ins, outs))
        if node.domain == contrib.DOMAIN:
            found = contrib.translate(contrib.Node(node.op_type, _attributes(node), ins), outs)
            return found or (f"onnxruntime.{node.op_type}", list(ins))
        # a rule of ours is for the operator that it is written for, not for whatever a file calls so
        ours = node.domain.partition(".")[0] in ("aten", "prims", "quantized", "torchvision", "onnx", "onnxruntime")
        return f"{'custom.' if ours else ''}{node.domain}.{node.op_type}", list(ins)

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
        final = {self.at[n] for n in self.outputs if n in self.at}
        for i, op in enumerate(self.ops):
            for s in (*op.inputs, *op.outputs):
                if self.storages[s][1] == "activation" and s not in final:
                    self.storages[s][4] = i + 1


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _used(known: Shapes) -> set[str]:
    """Names that nodes compute with, themselves or through what was worked out of them, and not only read as a setting."""
    used: set[str] = set()
    for node in known.nodes:
        said = SAID.get(node.op_type, ()) if node.domain in STANDARD else ()
        used.update(n for i, n in enumerate(node.input) if i not in said)
    for read, gave in reversed(known.folded):
        if any(n in used for n in gave):
            used.update(read)
    return used


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
