"""An ONNX file as a graph: read once, held to limits, its weights without their content, its inputs sized as asked.

Weights are not read: external data stays on disk, wherever a file says that it lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx import TensorProto, numpy_helper

from roofline import files
from roofline.errors import SourceError, UsageError
from roofline.records import TensorSpec

# protobuf comes with onnx
DecodeError: type[Exception] = import_module("google.protobuf.message").DecodeError
# A file beyond this is refused: protobuf itself holds no more (weights of larger models lie beside it).
FILE_LIMIT = 2 * 2**30
# Elements of a constant that may decide shapes.
FOLD_LIMIT = 4096
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
# Sizes as a file states them: a number, the name of a number, or "?".
Stated = tuple[int | str, ...]


class Weight(NamedTuple):
    """A tensor of the file without its content."""

    name: str
    kind: int
    dims: tuple[int, ...]

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.dims, DTYPES[self.kind])


class Graph:
    """A file's graph. Raises SourceError where it is damaged, not ONNX, or passes a limit."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.model = _read(where)
        self.size = self.model.ByteSize()
        # small values, by name; and all weights
        self.constants: dict[str, Any] = {}
        self.weights: list[Weight] = []
        for t in self.model.graph.initializer:
            self._hold(t)
        if self.model.graph.sparse_initializer:
            raise SourceError(f"{where}: it holds sparse weights, which are not read")
        del self.model.graph.initializer[:]
        _inline(self.model, where)
        self.stated = _stated(self.model)
        self.inputs = self._inputs()

    def _hold(self, t: TensorProto) -> None:
        self.weights.append(weight(t.name, t, self.where))
        if (value := value_of(t)) is not None:
            self.constants[t.name] = value
        elif numel(t.dims) <= FOLD_LIMIT and not external(t):
            raise SourceError(f"{self.where}: initializer {t.name!r} is damaged")

    def _inputs(self) -> dict[str, tuple[Stated, str]]:
        held = {w.name for w in self.weights}
        out = {}
        for value in self.model.graph.input:
            if value.name in held:
                continue
            tensor = value.type.tensor_type
            if not value.type.HasField("tensor_type") or tensor.elem_type not in DTYPES:
                raise SourceError(f"{self.where}: input {value.name!r} is not a tensor of numbers")
            # some exporters write 0 or -1 for a size that is open
            sizes = tuple(d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim)
            out[value.name] = (sizes, DTYPES[tensor.elem_type])
        return out

    def sized(self, asked: Sequence[tuple[str, tuple[int, ...], str]], batch: int | None) -> dict[str, tuple[int, ...]]:
        """The shape of every input: fixed in the file, or as asked (name or position, shape, dtype), or by `batch`.

        Raises UsageError for a size that the file leaves open, contradicts, or an input that it does not have.
        """
        where, known = self.where, self.inputs
        names = list(known)
        given: dict[str, tuple[int, ...]] = {}
        for name, shape, dtype in asked:
            real = names[int(name)] if name.isdigit() and int(name) < len(names) else name
            if real not in known:
                raise UsageError(f"{where} has no input {name!r}; it has {', '.join(names)}")
            if dtype and dtype != known[real][1]:
                raise UsageError(f"{where}: input {real} is {known[real][1]}, not {dtype}; an ONNX graph fixes its dtypes")
            given[real] = shape
        out = {name: self._sized(name, given.get(name), batch) for name in known}
        if batch is not None and not any(shape[:1] == (batch,) for shape in out.values()):
            said = " and ".join(f"{name} {','.join(map(str, shape))}" for name, shape in out.items())
            raise UsageError(f"batch {batch}, and no input begins with it: {said}\nleave --batch out, or give other shapes")
        return out

    def _sized(self, name: str, want: tuple[int, ...] | None, batch: int | None) -> tuple[int, ...]:
        where, names, sizes = self.where, list(self.inputs), self.inputs[name][0]
        asked = want is not None
        if want is None:
            filled = [batch if batch and i == 0 and not isinstance(s, int) else s for i, s in enumerate(sizes)]
            want = tuple(s for s in filled if isinstance(s, int))
            open_axes = [str(s) for s in filled if not isinstance(s, int)]
            if open_axes:
                text = ",".join(str(s) for s in sizes)
                # an image's height and width, or a length
                usual = [1, *[224 if len(sizes) == 4 else 128] * len(sizes)]
                shape = ",".join(str(s if isinstance(s, int) else usual[i]) for i, s in enumerate(filled))
                said = f"--input {name if name.isidentifier() else names.index(name)}={shape}"
                only_batch = batch is None and open_axes == [str(sizes[0])] and not isinstance(sizes[0], int)
                raise UsageError(
                    f"{where}: input {name} is {text}: its size in {', '.join(open_axes)} is not fixed"
                    f"\ngive {'its batch with --batch 1, or its shape' if only_batch else 'its shape'}, as in {said}"
                )
        if len(want) != len(sizes) or any(isinstance(s, int) and s != w for s, w in zip(sizes, want, strict=True)):
            raise UsageError(
                f"{where}: input {name} is {','.join(map(str, sizes))} in the file, which {','.join(map(str, want))} is not"
            )
        if batch is not None and not asked and want and want[0] != batch and name == names[0]:
            raise UsageError(f"{where}: the batch of input {name} is fixed at {want[0]}; export it with a dynamic axis")
        return want


def _read(where: str) -> onnx.ModelProto:
    """The model without its external weights."""
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
        raise SourceError(f"{path} is not a whole ONNX file: {line(error)}") from error
    if not model.graph.node and not model.graph.output:
        raise SourceError(f"{path} holds no ONNX graph")
    if not all(isinstance(name, str) for name in _names(model)):  # protobuf gives what is no text as bytes
        raise SourceError(f"{path} is not a whole ONNX file: a name in it is not text")
    return model


def _names(model: onnx.ModelProto) -> Iterator[Any]:
    """Every name that is read of a model, outside of graphs in nodes."""
    graph = model.graph
    yield from (v.name for v in (*graph.initializer, *graph.input, *graph.output, *graph.value_info))
    yield from (d.dim_param for v in (*graph.input, *graph.value_info) for d in v.type.tensor_type.shape.dim)
    yield from (o.domain for o in model.opset_import)
    for holder in (graph, *model.functions):
        for node in holder.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            yield from (a.name for a in node.attribute)
            yield from (text for p in node.metadata_props for text in (p.key, p.value))


def line(error: object) -> str:
    """An error of another library, as one line."""
    return " ".join(str(error).split())[:300]


# ------------------------------------------------------------------------------------------------ tensors


def numel(dims: Sequence[int]) -> int:
    n = 1
    for d in dims:
        n *= d
    return n


def external(t: TensorProto) -> bool:
    return t.data_location == TensorProto.EXTERNAL or bool(t.external_data)


def value_of(t: TensorProto) -> Any:
    """A small tensor's value; None where it lies in another file, which is not opened, is large, or damaged."""
    if external(t) or numel(t.dims) > FOLD_LIMIT:
        return None
    try:
        return numpy_helper.to_array(t)
    except Exception:  # whatever it stumbles over in data that do not fit their type or shape
        return None


def weight(name: str, t: TensorProto, where: str) -> Weight:
    """A tensor without its content. Raises SourceError where no tensor can be so."""
    if t.data_type not in DTYPES:
        raise SourceError(f"{where}: initializer {name!r} has a type that is not known here ({t.data_type})")
    if any(d < 0 for d in t.dims):
        raise SourceError(f"{where}: initializer {name!r} has a negative size")
    if t.raw_data and numel(t.dims) > 2 * len(t.raw_data):  # the smallest numbers are half a byte
        raise SourceError(f"{where}: initializer {name!r} holds {len(t.raw_data)} bytes, and its shape asks for more")
    return Weight(name, t.data_type, bounded(tuple(t.dims), name, where))


def bounded(shape: tuple[int, ...], name: str, where: str) -> tuple[int, ...]:
    """The shape. Raises SourceError for one that no tensor can have."""
    if any(d < 0 for d in shape) or numel([max(d, 1) for d in shape]) > SIZE_LIMIT:
        raise SourceError(f"{where}: the shape of {name!r} is negative or passes 2^60 elements, the limit for a tensor")
    return shape


def _stated(model: onnx.ModelProto) -> dict[str, tuple[Stated, str]]:
    """What the file states of values between its inputs and outputs: sizes and dtype."""
    out: dict[str, tuple[Stated, str]] = {}
    for value in (*model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape") and tensor.elem_type in DTYPES:
            sizes = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or "?" for d in tensor.shape.dim
            )
            out[value.name] = (sizes, DTYPES[tensor.elem_type])
    return out


# ------------------------------------------------------------------------------------------------ local functions


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


def _inline(model: onnx.ModelProto, where: str) -> None:
    if not model.functions:
        return
    from onnx import inliner

    _expanded(model, where)
    try:
        model.CopyFrom(inliner.inline_local_functions(model))
    except (ValueError, RuntimeError, TypeError) as error:
        raise SourceError(f"{where}: its functions cannot be put in place of their calls: {line(error)}") from error


def opsets(model: onnx.ModelProto) -> Mapping[str, int]:
    """Domain -> version of its operators; the standard one is ""."""
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
