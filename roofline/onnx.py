"""An ONNX graph as a Trace, without torch: shapes come from the onnx package's shape inference, operators get the names of
their ATen counterparts where they mean the same, so one table of cost rules serves both.

Nothing is executed: weights are not read (external data stays on disk), subgraphs that depend on data are refused, and an
operator that no rule knows is unknown, with the bytes that its shapes tell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from msgspec import msgpack, structs
from onnx import TensorProto, numpy_helper, shape_inference

from roofline.records import InputInfo, Layer, ModelInfo, Op, OpSpec, SourceError, Storage, TensorSpec, Trace, UsageError

# protobuf comes with onnx
DecodeError: type[Exception] = import_module("google.protobuf.message").DecodeError
# A file beyond this is refused: protobuf itself holds no more (weights of larger models lie beside it).
FILE_LIMIT = 2 * 2**30
# Elements of a constant that may decide shapes, and rounds of folding such constants.
FOLD_LIMIT, ROUNDS = 4096, 64
_DTYPES = {
    TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8", TensorProto.INT8: "int8", TensorProto.UINT16: "uint16",
    TensorProto.INT16: "int16", TensorProto.INT32: "int32", TensorProto.INT64: "int64", TensorProto.BOOL: "bool",
    TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64", TensorProto.UINT32: "uint32", TensorProto.UINT64: "uint64",
    TensorProto.COMPLEX64: "complex64", TensorProto.COMPLEX128: "complex128", TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT8E4M3FN: "float8_e4m3fn", TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    TensorProto.FLOAT8E5M2: "float8_e5m2", TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz", TensorProto.UINT4: "uint4",
    TensorProto.INT4: "int4",
}  # fmt: skip

# Element by element: ONNX name -> ATen name.
_POINTWISE = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Mod": "remainder", "Max": "maximum",
    "Min": "minimum",
    "Neg": "neg", "Abs": "abs", "Sign": "sign", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Exp": "exp", "Log": "log",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh",
    "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Tanh": "tanh", "Erf": "erf", "Floor": "floor", "Ceil": "ceil",
    "Round": "round", "Relu": "relu", "Sigmoid": "sigmoid", "LeakyRelu": "leaky_relu", "PRelu": "prelu", "Elu": "elu",
    "Selu": "selu",
    "Celu": "celu", "Gelu": "gelu", "Mish": "mish", "HardSwish": "hardswish", "HardSigmoid": "hardsigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign", "ThresholdedRelu": "threshold", "Clip": "clamp", "Swish": "silu", "Where": "where",
    "Not": "logical_not",
    "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor", "Equal": "eq", "Less": "lt", "LessOrEqual": "le",
    "Greater": "gt",
    "GreaterOrEqual": "ge", "IsNaN": "isnan", "IsInf": "isinf", "BitShift": "bitwise_left_shift", "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor", "BitwiseNot": "bitwise_not",
}  # fmt: skip
_REDUCE = {
    "ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "amax", "ReduceMin": "amin", "ReduceProd": "prod",
    "ReduceL1": "norm",
    "ReduceL2": "linalg_vector_norm", "ReduceLogSumExp": "logsumexp", "ArgMax": "argmax", "ArgMin": "argmin",
}  # fmt: skip
# The result is the input under another shape: no byte moves.
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Size"}
# They move what they are given: ONNX tensors are row-major, so a transpose is a copy.
_COPIES = {
    "Transpose": "permute_copy", "Slice": "slice_copy", "Split": "split_copy", "Expand": "expand_copy", "Tile": "repeat",
    "Pad": "constant_pad_nd", "Cast": "_to_copy", "CastLike": "_to_copy", "Concat": "cat", "SpaceToDepth": "pixel_unshuffle",
    "DepthToSpace": "pixel_shuffle", "Trilu": "tril", "ReverseSequence": "flip", "ConstantOfShape": "full", "Range": "arange",
    "OneHot": "one_hot", "EyeLike": "eye", "Compress": "masked_select", "NonZero": "nonzero", "Col2Im": "col2im",
}  # fmt: skip
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}


class Call(NamedTuple):
    """A node as its translation sees it."""

    kind: str
    attributes: dict[str, Any]
    inputs: list[TensorSpec | None]
    outputs: list[TensorSpec]
    # values of inputs that are constants
    constants: list[Any]

    def given(self, i: int) -> TensorSpec | None:
        return self.inputs[i] if i < len(self.inputs) else None


# ATen's name and positional arguments
Translation = tuple[str, list[Any]]


# ------------------------------------------------------------------------------------------------ operators


def _translate(call: Call) -> Translation:
    """ATen's name and arguments for a node, or a name of its own (`onnx.X`), which no rule knows."""
    special = _SPECIAL.get(call.kind)
    if special is not None:
        return special(call)
    for table in (_POINTWISE, _COPIES):
        if call.kind in table:
            if call.kind == "Concat":
                return "aten.cat", [list(call.inputs)]
            return f"aten.{table[call.kind]}", list(call.inputs)
    if call.kind in _REDUCE:
        return f"aten.{_REDUCE[call.kind]}", [call.inputs[0]]
    if call.kind in _VIEWS:
        return "aten.view", [call.inputs[0]]
    return f"onnx.{call.kind}", list(call.inputs)


def _shape(t: TensorSpec | None) -> tuple[int, ...]:
    return t.shape if t is not None else ()


def _conv(call: Call) -> Translation:
    n, a = len(call.outputs[0].shape) - 2, call.attributes
    geometry = [a.get("strides", [1] * n), a.get("pads", [0] * 2 * n)[:n]]
    groups, dilations = a.get("group", 1), a.get("dilations", [1] * n)
    x, w, bias = call.inputs[0], call.inputs[1], call.given(2)
    if call.kind == "ConvTranspose":
        return f"aten.conv_transpose{n}d", [x, w, bias, *geometry, [0] * n, groups, dilations]
    return f"aten.conv{n}d", [x, w, bias, *geometry, dilations, groups]


def _gemm(call: Call) -> Translation:
    def turned(t: TensorSpec | None, flag: str) -> TensorSpec | None:
        if t is None or not call.attributes.get(flag):
            return t
        return TensorSpec((t.shape[1], t.shape[0]), t.dtype, (1, t.shape[1]))

    a, b, c = turned(call.inputs[0], "transA"), turned(call.inputs[1], "transB"), call.given(2)
    return ("aten.mm", [a, b]) if c is None else ("aten.addmm", [c, a, b])


def _pool(name: str) -> Callable[[Call], Translation]:
    def translate(call: Call) -> Translation:
        n, a = len(call.outputs[0].shape) - 2, call.attributes
        return f"aten.{name}{n}d", [call.inputs[0], a.get("kernel_shape", [1] * n), a.get("strides", [1] * n)]

    return translate


def _global(name: str) -> Callable[[Call], Translation]:
    def translate(call: Call) -> Translation:
        n = len(call.outputs[0].shape) - 2
        return f"aten.{name}{n}d", [call.inputs[0], [1] * n]

    return translate


def _layer_norm(call: Call) -> Translation:
    x = _shape(call.inputs[0])
    width = list(x[call.attributes.get("axis", -1) :])
    name = "aten.rms_norm" if call.kind in ("RMSNormalization", "SimplifiedLayerNormalization") else "aten.layer_norm"
    return name, [call.inputs[0], width, call.given(1), *([call.given(2)] if name == "aten.layer_norm" else [])]


def _rnn(name: str) -> Callable[[Call], Translation]:
    def translate(call: Call) -> Translation:
        # ONNX stacks directions: W [d, gates h, i], R [d, gates h, h], B [d, 2 gates h]; x is [t, b, i] (layout 0)
        x, w, r, b = (*call.inputs, None, None)[:4]
        assert x is not None
        assert w is not None
        assert r is not None
        directions = w.shape[0]
        params = []
        for _ in range(directions):
            params += [TensorSpec(w.shape[1:], w.dtype), TensorSpec(r.shape[1:], r.dtype)]
            if b is not None:
                params += [TensorSpec((b.shape[1] // 2,), b.dtype)] * 2
        batch = x.shape[0] if call.attributes.get("layout") else x.shape[1]
        state = TensorSpec((directions, batch, r.shape[-1]), x.dtype)
        return f"aten.{name}", [x, [state], params, b is not None, 1, 0.0, False, directions == 2]

    return translate


def _gather(call: Call) -> Translation:
    if call.kind == "GatherElements":
        return "aten.gather", [call.inputs[0], call.attributes.get("axis", 0), call.inputs[1]]
    return "aten.index_select", [call.inputs[0], call.attributes.get("axis", 0), call.inputs[1]]


def _resize(call: Call) -> Translation:
    n = len(call.outputs[0].shape) - 2
    mode = call.attributes.get("mode", b"nearest").decode()
    names = {"nearest": "upsample_nearest", "linear": {1: "upsample_linear", 2: "upsample_bilinear",
    3: "upsample_trilinear"}.get(n, ""),
             "cubic": "upsample_bicubic"}  # fmt: skip
    return f"aten.{names.get(mode, mode)}{n}d", [call.inputs[0], list(call.outputs[0].shape[2:])]


def _attention(call: Call) -> Translation:
    q, k, v = call.inputs[:3]
    heads = call.attributes.get("q_num_heads"), call.attributes.get("kv_num_heads")

    def split(t: TensorSpec | None, h: int | None) -> TensorSpec | None:
        if t is None or len(t.shape) == 4 or not h:
            return t
        b, length, width = t.shape
        return TensorSpec((b, h, length, width // h), t.dtype)

    return "aten.scaled_dot_product_attention", [split(q, heads[0]), split(k, heads[1]), split(v, heads[1]), call.given(3)]


def _quantized_conv(call: Call) -> Translation:
    # QLinearConv: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias; ConvInteger: x, w, x_zero, w_zero
    weight, bias = (call.inputs[3], call.given(8)) if call.kind == "QLinearConv" else (call.inputs[1], None)
    return f"quantized.conv{len(_shape(weight)) - 2}d", [call.inputs[0], [weight, bias]]


def _quantized_matmul(call: Call) -> Translation:
    return "quantized.matmul", [call.inputs[0], call.inputs[3] if call.kind == "QLinearMatMul" else call.inputs[1]]


_SPECIAL: dict[str, Callable[[Call], Translation]] = {
    "Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm,
    "MatMul": lambda c: ("aten.matmul", c.inputs[:2]),
    "Einsum": lambda c: ("aten.einsum", [c.attributes["equation"].decode(), list(c.inputs)]),
    "BatchNormalization": lambda c: ("aten.batch_norm", [*c.inputs[:5], False, 0.0, 1e-5, False]),
    "InstanceNormalization": lambda c: ("aten.instance_norm", [*c.inputs[:3], None, None, True, 0.0, 1e-5, False]),
    "GroupNormalization": lambda c: ("aten.group_norm", [c.inputs[0], c.attributes.get("num_groups", 1), *c.inputs[1:3]]),
    "LayerNormalization": _layer_norm, "RMSNormalization": _layer_norm, "SimplifiedLayerNormalization": _layer_norm,
    "MaxPool": _pool("max_pool"), "AveragePool": _pool("avg_pool"),
    "GlobalAveragePool": _global("adaptive_avg_pool"), "GlobalMaxPool": _global("adaptive_max_pool"),
    "Softmax": lambda c: ("aten.softmax", [c.inputs[0], c.attributes.get("axis", -1)]),
    "LogSoftmax": lambda c: ("aten.log_softmax", [c.inputs[0], c.attributes.get("axis", -1)]),
    "LSTM": _rnn("lstm"), "GRU": _rnn("gru"), "RNN": _rnn("rnn_tanh"),
    "Gather": _gather, "GatherElements": _gather,
    "GatherND": lambda c: ("aten.index", [c.inputs[0], [c.inputs[1]]]),
    "ScatterND": lambda c: ("aten.index_put", [c.inputs[0], [c.inputs[1]], c.inputs[2]]),
    "ScatterElements": lambda c: ("aten.scatter", [c.inputs[0], c.attributes.get("axis", 0), c.inputs[1], c.inputs[2]]),
    "Resize": _resize, "Upsample": _resize,
    "TopK": lambda c: ("aten.topk", [c.inputs[0], c.outputs[0].shape[c.attributes.get("axis", -1)], c.attributes.get("axis",
    -1)]),
    "CumSum": lambda c: ("aten.cumsum", [c.inputs[0], 0]),
    "Sum": lambda c: ("aten.sum", [c.inputs[0]]) if len(c.inputs) == 1 else ("aten.add", c.inputs),
    "Attention": _attention,
    "RoiAlign": lambda c: ("torchvision.roi_align", [c.inputs[0], c.inputs[1], c.attributes.get("spatial_scale", 1.0),
                           c.attributes.get("output_height", 1), c.attributes.get("output_width", 1),
                           c.attributes.get("sampling_ratio", 0), False]),
    "QuantizeLinear": lambda c: ("aten.quantize_per_tensor", c.inputs),
    "DequantizeLinear": lambda c: ("aten.dequantize", c.inputs),
    "QLinearConv": _quantized_conv, "ConvInteger": _quantized_conv, "QLinearMatMul": _quantized_matmul,
    "MatMulInteger": _quantized_matmul,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ reading


def read(where: str) -> onnx.ModelProto:
    """The model without its external weights. Raises SourceError where it is damaged or not ONNX."""
    path = Path(where)
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise SourceError(f"{path} is larger than protobuf can hold; save its weights as external data")
        model = onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError, RuntimeError) as error:
        raise SourceError(f"{path} is not a whole ONNX file: {' '.join(str(error).split())}") from error
    if not model.graph.node and not model.graph.output:
        raise SourceError(f"{path} holds no ONNX graph")
    return model


def _graph_inputs(graph: onnx.GraphProto, where: str) -> dict[str, tuple[tuple[int | str, ...], str]]:
    held = {i.name for i in graph.initializer}
    out = {}
    for value in graph.input:
        if value.name in held:
            continue
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or tensor.elem_type not in _DTYPES:
            raise SourceError(f"{where}: input {value.name!r} is not a tensor of numbers")
        sizes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
        out[value.name] = (sizes, _DTYPES[tensor.elem_type])
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
    return out


# ------------------------------------------------------------------------------------------------ shapes


class _Shapes:
    """Shape and dtype of every value, and the values of the small constants that decide shapes."""

    def __init__(self, model: onnx.ModelProto, where: str) -> None:
        self.where = where
        self.constants: dict[str, Any] = {}
        for tensor in model.graph.initializer:
            self.constants[tensor.name] = _value(tensor, where)
        for _ in range(ROUNDS):
            model = self._inferred(model)
            self.specs = _specs(model)
            if not self._fold(model):
                break
        self.model = model

    def _inferred(self, model: onnx.ModelProto) -> onnx.ModelProto:
        try:
            return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise SourceError(f"{self.where}: its shapes do not agree: {text[:400]}") from error

    def _fold(self, model: onnx.ModelProto) -> bool:
        """Work out nodes whose inputs are small constants, and hand the results to the next inference as initializers."""
        from onnx.reference import ReferenceEvaluator

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
            elif node.op_type == "Constant" or (
                node.op_type in _FOLDABLE and all(n in self.constants for n in node.input if n) and any(node.input)
            ):
                if node.op_type == "ConstantOfShape" and np.prod(self.constants[node.input[0]]) > FOLD_LIMIT:
                    continue
                try:
                    given = {n: self.constants[n] for n in node.input if n}
                    values = list(ReferenceEvaluator(_alone(node, model)).run(None, given))
                except (TypeError, ValueError, RuntimeError, IndexError, KeyError, ArithmeticError, NotImplementedError):
                    continue  # then its shape stays unknown, and that is said
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


_FOLDABLE = {
    "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod", "Slice", "Range", "Floor", "Ceil",
    "Equal",
    "Where", "ConstantOfShape", "Expand", "Reshape", "ReduceProd", "ReduceSum", "ReduceMax", "Identity", "Neg", "Abs", "Max",
    "Min",
    "Less", "Greater", "Not", "And", "Or", "Transpose", "Split", "Flatten", "Pow", "Sqrt", "Round", "Tile",
}  # fmt: skip


def _alone(node: onnx.NodeProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of one node."""

    def value(name: str) -> onnx.ValueInfoProto:
        return onnx.ValueInfoProto(name=name)

    graph = onnx.helper.make_graph([node], "one", [value(n) for n in node.input if n], [value(n) for n in node.output if n])
    return onnx.helper.make_model(graph, opset_imports=model.opset_import)


def _specs(model: onnx.ModelProto) -> dict[str, TensorSpec]:
    """Every value whose shape is known in full."""
    out = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        shaped = value.type.HasField("tensor_type") and tensor.HasField("shape") and tensor.elem_type in _DTYPES
        if shaped and all(d.HasField("dim_value") for d in tensor.shape.dim):
            out[value.name] = TensorSpec(tuple(d.dim_value for d in tensor.shape.dim), _DTYPES[tensor.elem_type])
    for t in model.graph.initializer:
        if t.data_type in _DTYPES:
            out[t.name] = TensorSpec(tuple(t.dims), _DTYPES[t.data_type])
    return out


def _numel(dims: Sequence[int]) -> int:
    n = 1
    for d in dims:
        n *= d
    return n


def _value(tensor: TensorProto, where: str) -> Any:
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{where}: initializer {tensor.name!r} is damaged: {error}") from error


# ------------------------------------------------------------------------------------------------ trace


def trace(where: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Trace:
    """The graph with its inputs at `shapes` as a Trace. Raises SourceError where a shape cannot be worked out."""
    model = read(where)
    _check(model, where)
    for value in model.graph.input:
        if value.name in shapes:
            del value.type.tensor_type.shape.dim[:]
            for size in shapes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = size
    weights = _take_weights(model, where)
    known = _Shapes(model, where)
    return _Builder(known, weights, where).build(name, shapes)


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
        if t.data_type not in _DTYPES:
            raise SourceError(f"{where}: initializer {t.name!r} has a type that is not known here ({t.data_type})")
        weights.append(Weight(t.name, t.data_type, tuple(t.dims)))
        if t.data_location != TensorProto.EXTERNAL and _numel(t.dims) <= FOLD_LIMIT and "int" in _DTYPES[t.data_type]:
            small.append(t)
        elif t.name not in listed:
            graph.input.append(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    kept = [onnx.TensorProto.FromString(t.SerializeToString()) for t in small]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if graph.sparse_initializer:
        raise SourceError(f"{where}: it holds sparse weights, which are not read")
    return weights


def _check(model: onnx.ModelProto, where: str) -> None:
    if model.functions:
        from onnx import inliner

        model.CopyFrom(inliner.inline_local_functions(model))
    for node in model.graph.node:
        if node.op_type in _CONTROL:
            raise SourceError(
                f"{where}: node {node.name!r} is a {node.op_type}, whose path depends on data; export the model unrolled"
            )
    # what follows from other sizes has to be worked out again
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


class _Builder:
    """Nodes in order -> ops, specs, storages and layers."""

    def __init__(self, known: _Shapes, weights: Sequence[Weight], where: str) -> None:
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
            {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}.get(dtype, "fp32"),
            notes=("ONNX graph: one kernel for each node, before any runtime optimises it",),
        )  # fmt: skip

    def _kind(self, weight: Weight) -> str:
        """Running statistics of a batch norm are buffers, scalars and whole numbers that are no weights constants."""
        if weight.name in self.statistics:
            return "buffer"
        quantized = weight.kind in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
        return "parameter" if weight.dims and (quantized or "float" in _DTYPES[weight.kind]) else "constant"

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
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        foreign = node.domain not in ("", "ai.onnx")
        call = Call(node.op_type, attributes, ins, outs, [self.known.constants.get(n) for n in node.input])
        args: list[Any]
        if foreign:
            name, args = f"{node.domain}.{node.op_type}", list(ins)
        else:
            name, args = _translate(call)
        view = not foreign and node.op_type in _VIEWS
        spec = OpSpec(
            name, "", args, {}, tuple(t for t in ins if t is not None), tuple(outs[:1] if view else outs),
            not foreign and node.op_type in _POINTWISE, view,
        )  # fmt: skip
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


def _path(node: onnx.NodeProto) -> tuple[str, list[str]]:
    """The module that a node came from, and the types along the path: from the exporter's metadata, else from its name."""
    meta = {p.key: p.value for p in node.metadata_props}
    try:
        scopes = ast.literal_eval(meta["pkg.torch.onnx.name_scopes"])
        kinds = ast.literal_eval(meta["pkg.torch.onnx.class_hierarchy"])
        path = str(scopes[-2])
        return (path, [str(k).rpartition(".")[2] for k in kinds[1:-1]][-len(path.split(".")) :]) if path else ("", [])
    except (KeyError, ValueError, SyntaxError, IndexError, TypeError):
        pass
    path = before = ""
    for part in node.name.strip("/").split("/")[:-1]:
        if not re.fullmatch(r"[\w.\-]+", part):
            return "", []
        # "/layer1/layer1.0/conv1/Conv": a child of a Sequential repeats its parent's name
        path = path.removesuffix(before) + part if before and part.startswith(before + ".") else f"{path}.{part}".strip(".")
        before = part
    return path, []
