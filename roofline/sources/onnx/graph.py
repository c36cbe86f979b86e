"""An ONNX file as a graph in which every value has a shape: read, sized by its inputs, inferred by the onnx package.

Nothing is executed but operators of a closed list on small constants that decide shapes. Weights are not read: external data
stays on disk, wherever a file says that it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference

from roofline import files
from roofline.errors import SourceError, UsageError
from roofline.records import TensorSpec
from roofline.sources.graph_limits import MEMORY_LIMIT, little_memory
from roofline.sources.onnx.fold import FOLDABLE, folded

# protobuf comes with onnx
DecodeError: type[Exception] = import_module("google.protobuf.message").DecodeError
# A file beyond this is refused: protobuf itself holds no more (weights of larger models lie beside it).
FILE_LIMIT = 2 * 2**30
# Elements of a constant that may decide shapes, and rounds of folding such constants.
FOLD_LIMIT, ROUNDS = 4096, 64
# Nodes after local functions were put in place of their calls, and elements of a tensor.
NODE_LIMIT, SIZE_LIMIT = 1_000_000, 2**60
DTYPES = {
    TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8", TensorProto.INT8: "int8", TensorProto.UINT16: "uint16",
    TensorProto.INT16: "int16", TensorProto.INT32: "int32", TensorProto.INT64: "int64", TensorProto.BOOL: "bool",
    TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64", TensorProto.UINT32: "uint32", TensorProto.UINT64: "uint64",
    TensorProto.COMPLEX64: "complex64", TensorProto.COMPLEX128: "complex128", TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT8E4M3FN: "float8_e4m3fn", TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    TensorProto.FLOAT8E5M2: "float8_e5m2", TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz", TensorProto.UINT4: "uint4",
    TensorProto.INT4: "int4",
}  # fmt: skip
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}


def read(where: str) -> onnx.ModelProto:
    """The model without its external weights. Raises SourceError where it is damaged or not ONNX."""
    path = Path(where)
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise SourceError(
                f"{path} is larger than 2 GiB, the limit of protobuf that ONNX files have; save its weights as external data"
            )
        model = onnx.load_model_from_string(files.content(path, FILE_LIMIT))
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    except (DecodeError, ValueError, RuntimeError, TypeError) as error:
        raise SourceError(f"{path} is not a whole ONNX file: {_line(error)}") from error
    if not model.graph.node and not model.graph.output:
        raise SourceError(f"{path} holds no ONNX graph")
    return model


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def _graph_inputs(graph: onnx.GraphProto, where: str) -> dict[str, tuple[tuple[int | str, ...], str]]:
    held = {i.name for i in graph.initializer}
    out = {}
    for value in graph.input:
        if value.name in held:
            continue
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or tensor.elem_type not in DTYPES:
            raise SourceError(f"{where}: input {value.name!r} is not a tensor of numbers")
        sizes = tuple(
            d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or "?" for d in tensor.shape.dim
        )
        out[value.name] = (sizes, DTYPES[tensor.elem_type])
    return out


def sized(where: str, asked: Sequence[tuple[str, tuple[int, ...], str]], batch: int | None) -> dict[str, tuple[int, ...]]:
    """The shape of every input: fixed in the file, or as asked (name or position, shape, dtype), or by `batch`.

    Raises UsageError for a size that the file leaves open, contradicts, or an input that it does not have.
    """
    known = _graph_inputs(read(where).graph, where)
    names = list(known)
    given: dict[str, tuple[int, ...]] = {}
    for name, shape, dtype in asked:
        real = names[int(name)] if name.isdigit() and int(name) < len(names) else name
        if real not in known:
            raise UsageError(f"{where} has no input {name!r}; it has {', '.join(names)}")
        if dtype and dtype != known[real][1]:
            raise UsageError(f"{where}: input {real} is {known[real][1]}, not {dtype}; an ONNX graph fixes its dtypes")
        given[real] = shape
    out: dict[str, tuple[int, ...]] = {}
    for name, (sizes, _) in known.items():
        want = given.get(name)
        if want is None:
            filled = [batch if batch and i == 0 and not isinstance(s, int) else s for i, s in enumerate(sizes)]
            want = tuple(s for s in filled if isinstance(s, int))
            open_axes = [str(s) for s in filled if not isinstance(s, int)]
            if open_axes:
                text = ",".join(str(s) for s in sizes)
                raise UsageError(
                    f"{where}: input {name} is {text}: its size in {', '.join(open_axes)} is not fixed"
                    f"\ngive its shape, as in --input {name if name.isidentifier() else names.index(name)}=1,3,224,224"
                )
        if len(want) != len(sizes) or any(isinstance(s, int) and s != w for s, w in zip(sizes, want, strict=True)):
            raise UsageError(
                f"{where}: input {name} is {','.join(map(str, sizes))} in the file, which {','.join(map(str, want))} is not"
            )
        if batch is not None and name not in given and want and want[0] != batch and name == names[0]:
            raise UsageError(f"{where}: the batch of input {name} is fixed at {want[0]}; export it with a dynamic axis")
        out[name] = want
    if batch is not None and not any(shape[:1] == (batch,) for shape in out.values()):
        said = " and ".join(f"{name} {','.join(map(str, shape))}" for name, shape in out.items())
        raise UsageError(f"batch {batch}, and no input begins with it: {said}\nleave --batch out, or give other shapes")
    return out


class Shapes:
    """Shape and dtype of every value, and the values of the small constants that decide shapes."""

    def __init__(self, model: onnx.ModelProto, where: str) -> None:
        self.where = where
        self.constants: dict[str, Any] = {}
        for tensor in model.graph.initializer:
            if (value := _value(tensor)) is None:
                raise SourceError(f"{where}: initializer {tensor.name!r} is damaged")
            self.constants[tensor.name] = value
        for _ in range(ROUNDS):
            model = self._inferred(model)
            self.specs = _specs(model, where)
            if not self._fold(model):
                break
        self.model = model

    def _inferred(self, model: onnx.ModelProto) -> onnx.ModelProto:
        try:
            with little_memory(model.ByteSize()):  # its tables are as long as a number in the file says
                return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except MemoryError:
            raise SourceError(
                f"{self.where}: working out its shapes takes more than {MEMORY_LIMIT // 2**30} GiB, the limit for a graph"
            ) from None
        except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
            raise SourceError(f"{self.where}: its shapes do not agree: {_line(error)}") from error

    def _fold(self, model: onnx.ModelProto) -> bool:
        """Work out nodes whose inputs are small constants, and hand the results to the next inference as initializers."""
        missing = any(n and n not in self.specs for node in model.graph.node for n in node.output)
        found = False
        for node in model.graph.node:
            names = [n for n in node.output if n]
            if all(n in self.constants for n in names) or node.op_type in _CONTROL or node.domain not in ("", "ai.onnx"):
                continue
            if node.op_type in ("Shape", "Size"):
                spec = self.specs.get(node.input[0])
                if spec is None:
                    continue
                begin = next((a.i for a in node.attribute if a.name == "start"), 0)
                end = next((a.i for a in node.attribute if a.name == "end"), len(spec.shape))
                value = np.array(spec.shape[begin:end] if node.op_type == "Shape" else spec.numel, dtype=np.int64)
                values = [value]
            elif node.op_type == "Constant":
                values = [_constant(node)]
            elif node.op_type in FOLDABLE and all(n in self.constants for n in node.input if n) and any(node.input):
                values = folded(node, {n: self.constants[n] for n in node.input if n}, model.opset_import, FOLD_LIMIT)
            else:
                continue
            for name, value in zip(node.output, values, strict=False):
                if not isinstance(value, (np.ndarray, np.generic)) or value.size > FOLD_LIMIT:
                    continue
                self.constants[name] = np.asarray(value)
                found = True
        if not (found and missing):
            return False
        known = {i.name for i in model.graph.initializer}
        shaping = [n for n, v in self.constants.items() if n not in known and v.dtype.kind in "iub"]
        for name in shaping:
            model.graph.initializer.append(numpy_helper.from_array(self.constants[name], name))
        produced = set(shaping)
        keep = [node for node in model.graph.node if not (node.output and all(n in produced for n in node.output))]
        del model.graph.node[:]
        model.graph.node.extend(keep)
        return bool(shaping)


def _specs(model: onnx.ModelProto, where: str) -> dict[str, TensorSpec]:
    """Every value whose shape is known in full. Raises SourceError for one that no tensor can have."""
    out = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        shaped = value.type.HasField("tensor_type") and tensor.HasField("shape") and tensor.elem_type in DTYPES
        if shaped and all(d.HasField("dim_value") for d in tensor.shape.dim):
            out[value.name] = TensorSpec(tuple(d.dim_value for d in tensor.shape.dim), DTYPES[tensor.elem_type])
    for t in model.graph.initializer:
        if t.data_type in DTYPES:
            out[t.name] = TensorSpec(tuple(t.dims), DTYPES[t.data_type])
    for name, spec in out.items():
        if any(d < 0 for d in spec.shape) or _numel([max(d, 1) for d in spec.shape]) > SIZE_LIMIT:
            raise SourceError(f"{where}: the shape of {name!r} is negative or passes 2^60 elements, the limit for a tensor")
    return out


def _numel(dims: Sequence[int]) -> int:
    n = 1
    for d in dims:
        n *= d
    return n


def _value(tensor: TensorProto) -> Any:
    """A small tensor's value; None where it lies in another file, which is not opened, is large, or damaged."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data or _numel(tensor.dims) > FOLD_LIMIT:
        return None
    try:
        return numpy_helper.to_array(tensor)
    except Exception:  # whatever it stumbles over in data that do not fit their type or shape
        return None


def _constant(node: onnx.NodeProto) -> Any:
    """The value of a Constant node where it is small and stands in the node; None else."""
    (a, *more) = node.attribute or [onnx.AttributeProto()]
    if more:
        return None
    if a.name == "value":
        return _value(a.t)
    plain = {"value_int": a.i, "value_ints": list(a.ints), "value_float": a.f, "value_floats": list(a.floats)}
    kind = np.int64 if "int" in a.name else np.float32
    return np.array(plain[a.name], dtype=kind) if a.name in plain else None


class Weight(NamedTuple):
    """An initializer without its content."""

    name: str
    kind: int
    dims: tuple[int, ...]


def _take_weights(model: onnx.ModelProto, where: str) -> list[Weight]:
    """The initializers; the content of those that cannot decide a shape is dropped, so that inference need not copy it."""
    graph = model.graph
    weights, small = [], []
    listed = {i.name for i in graph.input}
    for t in graph.initializer:
        if t.data_type not in DTYPES:
            raise SourceError(f"{where}: initializer {t.name!r} has a type that is not known here ({t.data_type})")
        if any(d < 0 for d in t.dims):
            raise SourceError(f"{where}: initializer {t.name!r} has a negative size")
        if t.raw_data and _numel(t.dims) > 2 * len(t.raw_data):  # the smallest numbers are half a byte
            raise SourceError(f"{where}: initializer {t.name!r} holds {len(t.raw_data)} bytes, and its shape asks for more")
        weights.append(Weight(t.name, t.data_type, tuple(t.dims)))
        here = t.data_location != TensorProto.EXTERNAL and not t.external_data
        if here and _numel(t.dims) <= FOLD_LIMIT and "int" in DTYPES[t.data_type]:
            small.append(t)
        elif t.name not in listed:
            graph.input.append(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    kept = [onnx.TensorProto.FromString(t.SerializeToString()) for t in small]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if graph.sparse_initializer:
        raise SourceError(f"{where}: it holds sparse weights, which are not read")
    return weights


def _expanded(model: onnx.ModelProto, where: str) -> None:
    """Raise SourceError where the calls of local functions never end, or come to more nodes than any model has."""
    bodies = {(f.domain, f.name): [(n.domain, n.op_type) for n in f.node] for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    waiting: list[tuple[str, str]] = list(bodies)
    begun: set[tuple[str, str]] = set()
    while waiting:
        name = waiting[-1]
        missing = [n for n in bodies[name] if n in bodies and n not in sizes]
        if not missing:
            sizes[name] = min(sum(sizes.get(n, 1) for n in bodies[name]), NODE_LIMIT + 1)
            waiting.pop()
        elif name in begun:
            raise SourceError(f"{where}: its function {name[1]!r} calls itself")
        else:
            begun.add(name)
            waiting += missing
    total = sum(sizes.get((n.domain, n.op_type), 1) for n in model.graph.node)
    if total > NODE_LIMIT:
        raise SourceError(f"{where}: its functions come to more than {NODE_LIMIT:,} nodes, the limit for a graph")


def _check(model: onnx.ModelProto, where: str) -> None:
    for node in (*model.graph.node, *(n for f in model.functions for n in f.node)):
        if node.op_type in _CONTROL or any(a.HasField("g") or a.graphs for a in node.attribute):
            raise SourceError(
                f"{where}: node {node.name!r} is a {node.op_type}, whose path depends on data; export the model unrolled"
            )
    if model.functions:
        from onnx import inliner

        _expanded(model, where)
        try:
            model.CopyFrom(inliner.inline_local_functions(model))
        except (ValueError, RuntimeError, TypeError) as error:
            raise SourceError(f"{where}: its functions cannot be put in place of their calls: {_line(error)}") from error
    # what follows from other sizes has to be worked out again
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def load(where: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Shapes, list[Weight]]:
    """The graph with its inputs at `shapes`, and its weights. Raises SourceError where its shapes do not agree."""
    model = read(where)
    _check(model, where)
    for value in model.graph.input:
        if value.name in shapes:
            del value.type.tensor_type.shape.dim[:]
            for size in shapes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = size
    weights = _take_weights(model, where)
    return Shapes(model, where), weights
