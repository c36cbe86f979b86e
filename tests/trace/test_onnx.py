"""ONNX as exporters and model zoos write it: constants in nodes, stated shapes, old results, loops, ONNX Runtime's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import traced

import roofline
from roofline import cost
from roofline.errors import SourceError, UsageError
from roofline.records import Trace

onnx = pytest.importorskip("onnx")
np = pytest.importorskip("numpy")

F, I64, BOOL, U8, I8 = 1, 7, 9, 2, 3
MS = "com.microsoft"
Node = tuple[Any, ...]


def fixed(values: Any, dtype: Any = None) -> Any:
    return np.array(values, dtype=dtype or (np.int64 if isinstance(np.array(values).flat[0], np.integer) else np.float32))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a graph of (kind, inputs, outputs, attributes[, domain]); weights are zeros of a shape, or values."""

    def made(
        nodes: list[Node],
        inputs: dict[str, Any],
        out: list[str] | str,
        weights: dict[str, Any] | None = None,
        *,
        stated: dict[str, Any] | None = None,
        opset: int = 17,
        out_shape: Any = None,
    ) -> str:
        h = onnx.helper

        def value(name: str, spec: Any) -> Any:
            kind, shape = spec if isinstance(spec, tuple) else (F, spec)
            return h.make_tensor_value_info(name, kind, shape)

        held = []
        for n, w in (weights or {}).items():
            array = np.zeros(w, np.float32) if isinstance(w, list) else w
            held.append(onnx.numpy_helper.from_array(array, n))
        graph = h.make_graph(
            [h.make_node(k, i, o, domain=d[0] if d else "", name=f"{k}_{j}", **a) for j, (k, i, o, a, *d) in enumerate(nodes)],
            "net",
            [value(n, s) for n, s in inputs.items()],
            [value(n, out_shape) for n in ([out] if isinstance(out, str) else out)],
            held,
            value_info=[value(n, s) for n, s in (stated or {}).items()],
        )
        imports = [h.make_opsetid("", opset), h.make_opsetid(MS, 1), h.make_opsetid("my.ops", 1)]
        path = tmp_path / "net.onnx"
        path.write_bytes(h.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())
        return str(path)

    return made


def counted(trace: Trace) -> dict[str, tuple[int, int]]:
    """Operator -> (FLOPs, MACs), of all its calls; an unknown one fails."""
    out: dict[str, tuple[int, int]] = {}
    for op in trace.ops:
        spec = trace.specs[op.spec]
        work = cost.work(spec)
        assert work is not None, spec.name
        before = out.get(spec.name, (0, 0))
        out[spec.name] = (before[0] + work.flops, before[1] + work.macs)
    return out


def macs(trace: Trace) -> int:
    return sum(m for _, m in counted(trace).values())


def shape_of(trace: Trace, op: str) -> tuple[int, ...]:
    return next(trace.specs[o.spec].outputs[0].shape for o in trace.ops if trace.specs[o.spec].name == op)


def test_weights_in_constant_nodes_are_parameters(write: Any) -> None:
    w = onnx.numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32))
    large = onnx.numpy_helper.from_array(np.zeros((64, 128), np.float32))
    nodes = [
        ("Constant", [], ["w"], {"value": w}),
        ("Constant", [], ["k"], {"value": large}),
        ("Conv", ["x", "w"], ["c"], {"kernel_shape": [3, 3]}),
        ("Flatten", ["c"], ["f"], {}),
        ("Gemm", ["f", "k"], ["y"], {}),
    ]
    trace = traced(write(nodes, {"x": [1, 3, 6, 6]}, "y"))
    assert trace.model.params == 4 * 27 + 64 * 128
    assert trace.model.param_bytes == 4 * (4 * 27 + 64 * 128)
    assert macs(trace) == 4 * 27 * 16 + 64 * 128


@pytest.mark.parametrize("way", ["constant", "worked out", "initializer", "sizes"])
def test_resize_by_scales(write: Any, way: str) -> None:
    scales = onnx.numpy_helper.from_array(fixed([1.0, 1.0, 2.0, 2.0]))
    one, two = (onnx.numpy_helper.from_array(fixed([v, v])) for v in (1.0, 2.0))
    before: list[Node] = {
        "constant": [("Constant", [], ["s"], {"value": scales})],
        "worked out": [
            ("Constant", [], ["one"], {"value": one}),
            ("Constant", [], ["two"], {"value": two}),
            ("Concat", ["one", "two"], ["s"], {"axis": 0}),
        ],
        "initializer": [],
        "sizes": [
            ("Shape", ["x"], ["shape"], {}),
            ("Cast", ["shape"], ["float"], {"to": F}),
            ("Mul", ["float", "factor"], ["product"], {}),
            ("Cast", ["product"], ["size"], {"to": I64}),
        ],
    }[way]
    resize = ("Resize", ["x", "", "", "size"] if way == "sizes" else ["x", "", "s"], ["y"], {"mode": "linear"})
    weights = {"initializer": {"s": fixed([1.0, 1.0, 2.0, 2.0])}, "sizes": {"factor": fixed([1.0, 1.0, 2.0, 2.0])}}
    trace = traced(write([*before, resize, ("Relu", ["y"], ["z"], {})], {"x": ["n", 3, 5, 7]}, "z", weights.get(way)), batch=2)
    assert shape_of(trace, "aten.upsample_bilinear2d") == (2, 3, 10, 14)
    assert trace.model.params == 0


@pytest.mark.parametrize(
    ("opset", "kind", "outs"),
    [
        (6, "Dropout", ["d", "mask"]),
        (10, "Dropout", ["d", "mask"]),
        (8, "BatchNormalization", ["d", "m", "v", "sm", "sv"]),
    ],
)
def test_results_that_nobody_reads(write: Any, opset: int, kind: str, outs: list[str]) -> None:
    ins = ["x"] if kind == "Dropout" else ["x", "s", "b", "m0", "v0"]
    weights = {} if kind == "Dropout" else {n: [3] for n in ins[1:]}
    nodes = [(kind, ins, outs, {}), ("Flatten", ["d"], ["f"], {}), ("MatMul", ["f", "w"], ["y"], {})]
    trace = traced(write(nodes, {"x": [2, 3, 4, 4]}, "y", weights | {"w": [48, 5]}, opset=opset))
    assert macs(trace) == 2 * 48 * 5


def test_shapes_that_the_file_states_are_taken(write: Any) -> None:
    """By an operator of somebody's own, by one whose size is an input's value, and with names of sizes filled in."""
    nodes = [
        ("Mine", ["x"], ["a"], {}, "my.ops"),
        ("Expand", ["a", "size"], ["e"], {}),
        ("MatMul", ["e", "w"], ["y"], {}),
    ]
    asked = {"x": ["n", 4], "size": (I64, [3])}
    path = write(nodes, asked, "y", {"w": [4, 5]}, stated={"a": ["n", 4], "e": [7, "n", 4]})
    trace = traced(path, inputs=("x=3,4",))
    assert next(s for s in trace.specs if s.name == "aten.matmul").inputs[0].shape == (7, 3, 4)
    with pytest.raises(SourceError, match=r"'a' \(Mine of my\.ops\) does not follow .* not one of ONNX's\nstate the shape"):
        traced(write(nodes, asked, "y", {"w": [4, 5]}), inputs=("x=3,4",))
    only = write(nodes, asked, "y", {"w": [4, 5]}, stated={"a": ["n", 4]})
    with pytest.raises(SourceError, match=r"'e' \(Expand\) does not follow from .*: it depends on the values of 'size'"):
        traced(only, inputs=("x=3,4",))


@pytest.mark.parametrize("size", [-1, 0])
def test_an_open_size_written_as_a_number(write: Any, size: int) -> None:
    path = write([("Relu", ["x"], ["y"], {})], {"x": [size, 3]}, "y")
    with pytest.raises(UsageError, match=r"input x is \?,3: its size in \? is not fixed"):
        traced(path)
    assert traced(path, batch=5).model.inputs[0].shape == (5, 3)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (["n", 7, 5], "its size in n is not fixed\ngive its batch with --batch 1, or its shape, as in --input x=1,7,5$"),
        (["n", "t"], "its size in n, t is not fixed\ngive its shape, as in --input x=1,128$"),
        (["n", 3, "h", "w"], "its size in n, h, w is not fixed\ngive its shape, as in --input x=1,3,224,224$"),
        ([2, "t"], "its size in t is not fixed\ngive its shape, as in --input x=2,128$"),
    ],
)
def test_an_open_size_is_answered_with_a_shape_that_fits_the_file(write: Any, sizes: list[Any], words: str) -> None:
    path = write([("Relu", ["x"], ["y"], {})], {"x": sizes}, "y")
    with pytest.raises(UsageError, match=words) as found:
        traced(path)
    assert traced(path, inputs=(str(found.value).rpartition("--input ")[2],)).specs


def test_lists_of_tensors(write: Any) -> None:
    """Split into a list, one taken, two joined, an item's length; and a list among the results."""
    nodes = [
        ("SplitToSequence", ["x", "sizes"], ["list"], {"axis": 1}),
        ("SequenceAt", ["list", "last"], ["a"], {}),
        ("SequenceConstruct", ["a", "a"], ["two"], {}),
        ("SequenceInsert", ["two", "a"], ["three"], {}),
        ("ConcatFromSequence", ["three"], ["c"], {"axis": 1}),
        ("SequenceLength", ["three"], ["n"], {}),
        ("MatMul", ["c", "w"], ["y"], {}),
    ]
    weights = {"sizes": fixed([2, 3]), "last": fixed(-1), "w": [9, 4]}
    trace = traced(write(nodes, {"x": [2, 5]}, ["y"], weights))
    assert macs(trace) == 2 * 9 * 4
    rows = [
        ("SplitToSequence", ["x"], ["list"], {"axis": 0, "keepdims": 0}),
        ("SequenceAt", ["list", "i"], ["r"], {}),
        ("MatMul", ["r", "w"], ["y"], {}),
    ]
    assert macs(traced(write(rows, {"x": [3, 5]}, "y", {"i": fixed(1), "w": [5, 4]}))) == 20
    nowhere = [("SplitToSequence", ["x"], ["list"], {}), ("SequenceAt", ["list", "i"], ["y"], {})]
    with pytest.raises(SourceError, match="takes a tensor of a list, and which one depends on data"):
        traced(write(nowhere, {"x": [3, 5], "i": (I64, [])}, "y"))


def graph_of(nodes: list[Node], ins: list[str], outs: list[str]) -> Any:
    h = onnx.helper
    empty = [onnx.ValueInfoProto(name=n) for n in ins], [onnx.ValueInfoProto(name=n) for n in outs]
    return h.make_graph([h.make_node(k, i, o, **a) for k, i, o, a in nodes], "body", *empty)


def test_a_branch_that_a_size_decides(write: Any) -> None:
    """The old exporter's `squeeze` and `if x.shape[0] == 1`; and one that data decide, which says so."""
    then = graph_of([("MatMul", ["x", "w"], ["t"], {})], [], ["t"])
    other = graph_of([("Identity", ["x"], ["i"], {}), ("MatMul", ["i", "v"], ["e"], {})], [], ["e"])
    nodes = [
        ("Shape", ["x"], ["s"], {}),
        ("Gather", ["s", "zero"], ["n"], {}),
        ("Equal", ["n", "one"], ["c"], {}),
        ("If", ["c"], ["y"], {"then_branch": then, "else_branch": other}),
        ("Relu", ["y"], ["z"], {}),
    ]
    path = write(nodes, {"x": ["n", 4]}, "z", {"zero": fixed(0), "one": fixed(1), "w": [4, 5], "v": [4, 6]})
    assert macs(traced(path, batch=1)) == 4 * 5
    trace = traced(path, batch=3)
    assert macs(trace) == 3 * 4 * 6
    assert not any("data decide" in n for n in trace.notes)
    free = write(
        [("If", ["c"], ["y"], {"then_branch": then, "else_branch": other})],
        {"x": [2, 4], "c": (BOOL, [])},
        "y",
        {"w": [4, 5], "v": [4, 6]},
    )
    trace = traced(free)
    assert macs(trace) == 2 * 4 * 6
    assert any(
        "If 'If_0': data decide which way it goes; its else branch was counted, the longer one" in n for n in trace.notes
    )


@pytest.mark.parametrize(
    ("turns", "goes", "expected", "note"),
    [
        (fixed(3), True, 3, ""),
        (None, True, 1, "data decide how often it turns; 1 turn was counted"),
        (fixed(5), None, 1, "data decide how often it turns; 1 turn was counted"),
    ],
)
def test_loops(write: Any, turns: Any, goes: bool | None, expected: int, note: str) -> None:
    decides: Node = ("Identity", ["on"], ["more"], {}) if goes else ("Greater", ["total", "limit"], ["more"], {})
    body = graph_of(
        [
            ("MatMul", ["carried", "w"], ["next"], {}),
            ("ReduceSum", ["next"], ["total"], {"keepdims": 0}),
            ("Identity", ["next"], ["kept"], {}),
            decides,
        ],
        ["i", "on", "carried"],
        ["more", "next", "kept"],
    )
    nodes = [("Loop", ["m", "go", "x"], ["last", "all"], {"body": body}), ("Relu", ["all"], ["y"], {})]
    inputs: dict[str, Any] = {"x": [2, 4]} | ({} if turns is not None else {"m": (I64, [])})
    weights = {"w": [4, 4], "go": np.array(True), "limit": fixed(0.0)} | ({"m": turns} if turns is not None else {})
    path = write(nodes, inputs, "y", weights)
    trace = traced(path)
    assert macs(trace) == expected * 2 * 4 * 4
    assert shape_of(trace, "aten.relu") == (expected, 2, 4)
    assert any(note in n for n in trace.notes) if note else not any("turn" in n for n in trace.notes)
    asked = {"device": "t4", "turns": 4, "cache": False}
    if note:
        assert roofline.analyze(str(path), **asked).totals.macs == 4 * 2 * 4 * 4
    else:
        with pytest.raises(UsageError, match="leave --turns out"):
            roofline.analyze(str(path), **asked)


def test_a_loop_without_an_end_and_a_scan(write: Any) -> None:
    body = graph_of([("Identity", ["c"], ["d"], {}), ("Identity", ["on"], ["more"], {})], ["i", "on", "c"], ["more", "d"])
    for first, words in (("", "does not end within 1,000 turns"), ("m", "come to more than 100,000 nodes")):
        path = write(
            [("Loop", [first, "go", "x"], ["y"], {"body": body})], {"x": [2]}, "y", {"go": np.array(True), "m": fixed(2**60)}
        )
        with pytest.raises(SourceError, match=words):
            traced(path)
    step = graph_of(
        [("Add", ["h", "row"], ["s"], {}), ("MatMul", ["s", "w"], ["g"], {}), ("Identity", ["g"], ["o"], {})],
        ["h", "row"],
        ["g", "o"],
    )
    path = write(
        [("Scan", ["h0", "x"], ["h", "all"], {"body": step, "num_scan_inputs": 1}), ("Relu", ["all"], ["y"], {})],
        {"x": [6, 2, 4]},
        "y",
        {"h0": [2, 4], "w": [4, 4]},
    )
    trace = traced(path)
    assert macs(trace) == 6 * 2 * 4 * 4
    assert shape_of(trace, "aten.relu") == (6, 2, 4)


def test_results_as_long_as_data_say(write: Any) -> None:
    """The most that there can be is taken, and a note says so."""
    boxes = [("NonMaxSuppression", ["boxes", "scores", "most"], ["kept"], {}), ("Cast", ["kept"], ["y"], {"to": F})]
    trace = traced(write(boxes, {"boxes": [2, 50, 4], "scores": [2, 3, 50]}, "y", {"most": fixed([10])}))
    assert shape_of(trace, "aten._to_copy") == (2 * 3 * 10, 3)
    assert counted(trace)["onnx.NonMaxSuppression"] == (13 * 2 * 3 * 50 * 49 // 2, 0)
    assert any("NonMaxSuppression: how much it finds depends on data; 60x3 was taken" in n for n in trace.notes)
    found = [("NonZero", ["x"], ["i"], {}), ("Transpose", ["i"], ["t"], {}), ("GatherND", ["x", "t"], ["v"], {})]
    trace = traced(write(found, {"x": [4, 5]}, "v"))
    assert shape_of(trace, "aten.index") == (20,)
    assert any("NonZero" in n and "2x20" in n for n in trace.notes)


X, W = [2, 8, 6, 6], [2, 6, 16]
# kind, inputs, attributes, shapes of inputs, weights, (FLOPs, MACs)
OPERATORS: list[Any] = [
    ("LRN", ["x"], {"size": 5}, {"x": X}, {}, 17, (576 * 9, 0)),  # square, 4 adds, scale, shift, power, divide
    ("Shrink", ["x"], {"lambd": 0.5}, {"x": X}, {}, 17, (576 * 3, 0)),
    # a point: to pixels 2 x 2, floor 2, fractions 4, four products; a channel: 4 multiplies and 3 adds
    ("GridSample", ["x", "g"], {}, {"x": X, "g": [2, 3, 3, 2]}, {}, 17, (18 * (10 + 4) + 18 * 8 * 7, 0)),
    ("ReduceSumSquare", ["x"], {"axes": [1], "keepdims": 0}, {"x": X}, {}, 13, (576 * 2, 0)),
    ("MeanVarianceNormalization", ["x"], {}, {"x": X}, {}, 17, (576 * 6, 0)),
    ("LpPool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]}, {"x": X}, {}, 17, (144 * 9, 0)),
    ("Mean", ["x", "z"], {}, {"x": X, "z": X}, {}, 17, (576 * 2, 0)),
    ("Hardmax", ["x"], {}, {"x": X}, {}, 17, (576 * 2, 0)),
    ("DynamicQuantizeLinear", ["x"], {}, {"x": X}, {}, 17, (576 * 7, 0)),
    ("SimplifiedLayerNormalization", ["x", "g"], {"axis": -1}, {"x": W}, {"g": [16]}, 17, (192 * 4, 0)),
    ("SkipLayerNormalization", ["x", "z", "g", "b", "c"], {}, {"x": W, "z": W}, {n: [16] for n in "gbc"}, MS, (192 * 10, 0)),
    ("SkipSimplifiedLayerNormalization", ["x", "z", "g"], {}, {"x": W, "z": W}, {"g": [16]}, MS, (192 * 5, 0)),
    ("Gelu", ["x"], {}, {"x": W}, {}, MS, (192 * 5, 0)),
    ("FastGelu", ["x", "b"], {}, {"x": W}, {"b": [16]}, MS, (192 * 10, 0)),
    ("BiasGelu", ["x", "b"], {}, {"x": W}, {"b": [16]}, MS, (192 * 6, 0)),
    ("QuickGelu", ["x"], {}, {"x": W}, {}, MS, (192 * 5, 0)),
    ("FusedMatMul", ["x", "w"], {"transB": 1, "alpha": 0.5}, {"x": W}, {"w": [10, 16]}, MS, (2 * 1920 + 120, 1920)),
    ("FusedGemm", ["x", "w", "b"], {"transA": 1, "activation": "Relu"}, {"x": [16, 12]}, {"w": [16, 10], "b": [10]}, MS,
     (2 * 1920 + 240, 1920)),
    ("FusedConv", ["x", "w", "b"], {"kernel_shape": [3, 3], "pads": [1] * 4, "activation": "Relu"}, {"x": X},
     {"w": [4, 8, 3, 3], "b": [4]}, MS, (2 * 288 * 72 + 2 * 288, 288 * 72)),
    ("DynamicQuantizeMatMul", ["x", "w", "s"], {}, {"x": W}, {"w": np.zeros((16, 10), np.int8), "s": fixed(0.1)}, MS,
     (2 * 1920 + 120 + 7 * 192, 1920)),
    ("MatMulIntegerToFloat", ["x", "w", "a", "s"], {}, {"x": (U8, W)}, {"w": np.zeros((16, 10), np.int8), "a": fixed(0.1),
     "s": fixed(0.1)}, MS, (2 * 1920 + 120, 1920)),
    ("MatMulNBits", ["x", "w", "s"], {"K": 16, "N": 10, "bits": 4, "block_size": 16}, {"x": W},
     {"w": np.zeros((10, 1, 8), np.uint8), "s": [10]}, MS, (2 * 1920 + 2 * 160, 1920)),
    ("RotaryEmbedding", ["x", "p", "cos", "sin"], {}, {"x": [2, 4, 6, 16], "p": (I64, [2, 6])}, {"cos": [9, 8], "sin": [9, 8]},
     MS, (768 * 3, 0)),
    # [12, 16] @ [16, 48] and a bias; scores of 4 heads over 6 x 6 in 4 wide
    ("Attention", ["x", "w", "b"], {"num_heads": 4}, {"x": W}, {"w": [16, 48], "b": [48]}, MS,
     (2 * (12 * 16 * 48 + 2 * 4 * 36 * 8) + 12 * 48 + 288 * 6, 12 * 16 * 48 + 2 * 4 * 36 * 8)),
    ("MultiHeadAttention", ["x", "k", "k", "b"], {"num_heads": 4}, {"x": W, "k": [2, 9, 16]}, {"b": [48]}, MS,
     (2 * 2 * 4 * 54 * 8 + 192 + 2 * 288 + 432 * 6, 2 * 4 * 54 * 8)),
    ("MultiHeadAttention", ["x"], {"num_heads": 4}, {"x": [2, 6, 4, 3, 5]}, {}, MS,
     (2 * 2 * 4 * 36 * 10 + 288 * 6, 2 * 4 * 36 * 10)),
    # 4 heads and 2 of keys and values, in one input; a cache of 10
    ("GroupQueryAttention", ["x", "", "", "pk", "pk", "n", "t"], {"num_heads": 4, "kv_num_heads": 2},
     {"x": [2, 1, 32], "pk": [2, 2, 10, 4], "n": (6, [2]), "t": (6, [])}, {}, MS,
     (2 * 2 * 4 * 11 * 8 + 88 * 6, 2 * 4 * 11 * 8)),
    ("QLinearAdd", ["x", "s", "z", "x", "s", "z", "s", "z"], {}, {"x": (U8, W)}, {"s": fixed(0.1), "z": np.uint8(0)}, MS,
     (1920, 0)),
    ("QGemm", ["x", "s", "z", "w", "s", "z", "b", "s", "z"], {"transB": 1}, {"x": (U8, [12, 16])},
     {"s": fixed(0.1), "z": np.uint8(0), "w": np.zeros((10, 16), np.uint8), "b": np.zeros(10, np.int32)}, MS,
     (2 * 1920 + 120 * 6, 1920)),
    ("QLinearGlobalAveragePool", ["x", "s", "z", "s", "z"], {}, {"x": (U8, X)}, {"s": fixed(0.1), "z": np.uint8(0)}, MS,
     (576 + 16 * 6, 0)),
    ("MoE", ["x", "r", "w1", "", "w2"], {"k": 2}, {"x": [12, 16], "r": [12, 8]}, {"w1": [8, 32, 16], "w2": [8, 16, 32]}, MS,
     (2 * 2 * 24 * 512 + 24 * (128 + 32), 2 * 24 * 512)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "ins", "attributes", "inputs", "weights", "where", "expected"),
    OPERATORS,
    ids=[f"{o[0]}{i}" for i, o in enumerate(OPERATORS)],
)
def test_an_operator(
    write: Any, kind: str, ins: list[str], attributes: Any, inputs: Any, weights: Any, where: Any, expected: tuple[int, int]
) -> None:
    """Arithmetic by hand; the shape of its result is stated nowhere, and the next node needs it."""
    outs = {"DynamicQuantizeLinear": ["y", "scale", "zero"]}.get(kind, ["y"])
    node = (kind, ins, outs, attributes, *([MS] if where == MS else []))
    trace = traced(
        write(
            [node, ("Shape", ["y"], ["s"], {}), ("Identity", ["y"], ["z"], {})],
            inputs,
            "z",
            weights,
            opset=where if where != MS else 17,
        )
    )
    (found,) = [w for name, w in counted(trace).items() if name != "aten.view"]
    assert found == expected


def test_an_operator_of_another_domain_is_no_operator_of_ours(write: Any) -> None:
    """FusedMatMul of somebody else's, with its shape stated: unknown."""
    path = write(
        [("FusedMatMul", ["x", "w"], ["y"], {}, "my.ops"), ("Relu", ["y"], ["z"], {})],
        {"x": [2, 4]},
        "z",
        {"w": [4, 5]},
        stated={"y": [2, 5]},
    )
    trace = traced(path)
    assert [s.name for s in trace.specs if cost.count(s) is None] == ["my.ops.FusedMatMul"]


def test_quantised_graphs(write: Any) -> None:
    """QDQ: int8 weights, scales in halves of bytes; a dequantised weight is worked on as a float."""
    one = {"s": fixed(0.1), "zu": np.uint8(0), "zi": np.int8(0)}
    nodes = [
        ("QuantizeLinear", ["x", "s", "zu"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "zu"], ["d"], {}),
        ("DequantizeLinear", ["w", "s", "zi"], ["dw"], {}),
        ("Conv", ["d", "dw"], ["c"], {"kernel_shape": [3, 3]}),
        ("Relu", ["c"], ["y"], {}),
    ]
    trace = traced(write(nodes, {"x": [1, 16, 6, 6]}, "y", one | {"w": np.zeros((40, 16, 3, 3), np.int8)}))
    assert counted(trace)["aten.conv2d"] == (2 * 16 * 40 * 144, 16 * 40 * 144)
    assert trace.model.params == 40 * 144
    assert trace.model.param_bytes == 40 * 144


def test_the_file_is_parsed_once(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write([("Relu", ["x"], ["y"], {})], {"x": [2, 3]}, "y")
    seen: list[int] = []
    load = onnx.load_model_from_string
    monkeypatch.setattr(onnx, "load_model_from_string", lambda data: seen.append(len(data)) or load(data))
    assert traced(path, batch=2).ops
    assert len(seen) == 1
