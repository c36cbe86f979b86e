"""Small ONNX graphs made here, for tests and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx


def whole(name: str, values: Any) -> Any:
    return onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def zeros(name: str, *shape: int) -> Any:
    return onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)


def model_of(nodes: list[Any], inputs: dict[str, tuple[str, list[int]]], out: str, weights: list[Any], **more: Any) -> Any:
    kinds = {"float": onnx.TensorProto.FLOAT, "int": onnx.TensorProto.INT64}
    given = [onnx.helper.make_tensor_value_info(n, kinds[k], shape) for n, (k, shape) in inputs.items()]
    result = [onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(nodes, "g", given, result, weights)
    sets = [onnx.helper.make_opsetid(domain, version) for domain, version in ({"": 18} | more.pop("domains", {})).items()]
    return onnx.helper.make_model(graph, opset_imports=sets, ir_version=9, **more)


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs, outputs, **attributes)


def small_graph() -> Any:
    """Convolution, norm, pooling, a shape worked out by five nodes, a product, a recurrence."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], name="/stem/0/Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "s", "s", "s", "s"], ["n"], name="/stem/1/BatchNormalization"),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["m", "", "", "size"], ["u"], mode="nearest"),
        node("Shape", ["u"], ["shape"]),
        node("Constant", [], ["zero"], value=whole("v", 0)),
        node("Gather", ["shape", "zero"], ["b0"], axis=0),
        node("Unsqueeze", ["b0", "axis"], ["b1"]),
        node("Concat", ["b1", "rest"], ["target"], axis=0),
        node("Reshape", ["u", "target"], ["f"]),
        node("Gemm", ["f", "g", "gb"], ["y"], transB=1),
        node("Split", ["y"], ["y1", "y2"], axis=1, num_outputs=2),
        node("Mul", ["y1", "y2"], ["z"]),
        node("LSTM", ["seq", "lw", "lr"], ["lo", "", ""], hidden_size=4),
    ]
    weights = [
        zeros("w", 8, 3, 3, 3),
        zeros("b", 8),
        zeros("s", 8),
        whole("size", [1, 8, 8, 8]),
        whole("axis", [0]),
        whole("rest", [-1]),
        zeros("g", 10, 512),
        zeros("gb", 10),
        zeros("lw", 1, 16, 3),
        zeros("lr", 1, 16, 4),
    ]
    return model_of(nodes, {"x": ("float", [1, 3, 16, 16]), "seq": ("float", [5, 1, 3])}, "z", weights)
