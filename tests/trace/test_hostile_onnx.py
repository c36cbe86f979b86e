"""An .onnx file is data: no other file is opened for it, nothing that it names runs, and little memory is taken for it."""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from hostile import damage, damaged, refused_or_fine, traced, wrong_graph

from roofline import compat
from roofline.errors import SourceError

onnx = pytest.importorskip("onnx")
np = pytest.importorskip("numpy")
graphs = pytest.importorskip("graphs")
model_of, node, small_graph, whole, zeros = graphs.model_of, graphs.node, graphs.small_graph, graphs.whole, graphs.zeros


def saved(folder: Path, model: Any) -> str:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


@pytest.fixture
def small() -> Any:
    return small_graph()


def external(tensor: Any, location: str) -> Any:
    """The tensor with its data in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "8"}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "pipe", "https://example.org/w"])
def test_no_other_file_is_opened(tmp_path: Path, small: Any, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a weight, not for a number that decides a shape, not for one inside a node. A pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    for t in small.graph.initializer:
        if t.name == "w":
            external(t, place)
    # all four of the norm's are one tensor, which as statistics is a buffer
    assert traced(saved(tmp_path, small)).model.params == 8 * 27 + 8 + 10 * 512 + 10 + 16 * 3 + 16 * 4
    for t in small.graph.initializer:
        if t.name == "rest":
            external(t, place)
    with pytest.raises(SourceError, match=r"does not follow from the inputs' shapes|Cannot parse data from external"):
        traced(saved(tmp_path, small))
    inside = model_of(
        [node("Constant", [], ["t"], value=external(whole("v", [1, 3]), place)), node("Reshape", ["x", "t"], ["y"])],
        {"x": ("float", [3, 1])},
        "y",
        [],
    )
    with pytest.raises(SourceError, match=r"does not follow from the inputs' shapes|Cannot parse data from external"):
        traced(saved(tmp_path, inside))


def test_a_name_of_ours_in_another_domain_gets_no_rule_of_ours(tmp_path: Path) -> None:
    """A node "conv2d" of the domain "aten" is the file's own operator: unknown, not counted as a convolution."""
    from roofline.kernels import build as kernels

    for domain in ("aten", "torchvision.x", "com.evil"):
        own = onnx.helper.make_node("conv2d", ["x"], ["y"], domain=domain)
        model = model_of([own], {"x": ("float", [1, 3])}, "y", [], domains={domain: 1})
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
        value = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
        model.graph.node.append(node("Reshape", ["y", "two"], ["z"]))
        model.graph.initializer.append(whole("two", [1, 3]))
        model.graph.value_info.append(value)
        text = refused_or_fine(saved(tmp_path, model), domain)
        if not text:
            assert [k.op for k in kernels.build(traced(saved(tmp_path, model))) if not k.known]


def test_metadata_is_text(tmp_path: Path, small: Any) -> None:
    """Names of modules are read as quoted texts; an expression, or ten thousand brackets, is none."""
    mark = tmp_path / "ran"
    for written in (f"[open({str(mark)!r}, 'w')]", "[" * 10_000, "-" * 100_000, "[" + " " * 200_000 + "x]", "{'a': 1}"):
        for key in ("name_scopes", "class_hierarchy"):
            entry = small.graph.node[0].metadata_props.add()
            entry.key, entry.value = f"pkg.torch.onnx.{key}", written
        begin = time.perf_counter()
        assert "stem.0" in {layer.path for layer in traced(saved(tmp_path, small)).layers}  # from the node's name
        assert time.perf_counter() - begin < 10
        del small.graph.node[0].metadata_props[:]
    assert not mark.exists()
    small.graph.node[0].name = "/" + "a/" * 5000 + "Conv"
    assert traced(saved(tmp_path, small)).ops


NOT = "does not follow"
COSTLY: list[tuple[str, list[Any], dict[str, tuple[str, list[int]]], list[Any], str]] = [
    ("range", [node("Range", ["a", "b", "c"], ["r"])], {}, [whole("a", 0), whole("b", 10**12), whole("c", 1)], NOT),
    ("fill", [node("ConstantOfShape", ["a"], ["r"], value=whole("v", [1]))], {}, [whole("a", [2**31])], "does not follow"),
    ("fill around", [node("ConstantOfShape", ["a"], ["r"], value=whole("v", [1]))], {}, [whole("a", [2**32, 2**32])], ""),
    ("tile", [node("Tile", ["a", "b"], ["r"])], {}, [whole("a", [1]), whole("b", [2**34])], "does not follow"),
    ("expand", [node("Expand", ["a", "b"], ["r"])], {}, [whole("a", [1]), whole("b", [2**34])], "does not follow"),
    (
        "sums",
        [node("Add", ["a", "b"], ["q"]), node("Add", ["q", "c"], ["r"])],
        {},
        [whole("a", np.ones((4096, 1, 1))), whole("b", np.ones((1, 4096, 1))), whole("c", np.ones((1, 1, 4096)))],
        "",
    ),
    ("rank", [node("Identity", ["s"], ["r"])], {"s": ("int", [2**33])}, [], ""),
    ("long list", [node("Concat", ["s", "s"], ["r"], axis=0)], {"s": ("int", [2**40])}, [], NOT),
]


@pytest.mark.parametrize(("nodes", "inputs", "weights", "words"), [c[1:] for c in COSTLY], ids=[c[0] for c in COSTLY])
def test_a_file_of_300_bytes_asks_for_little(
    tmp_path: Path, nodes: list[Any], inputs: dict[str, Any], weights: list[Any], words: str
) -> None:
    model = model_of([*nodes, node("Reshape", ["x", "r"], ["y"])], {"x": ("float", [1, 3])} | inputs, "y", weights)
    path = saved(tmp_path, model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    text = refused_or_fine(path, nodes[0].op_type)
    if not compat.older(compat.version("onnx"), "1.18"):  # which loses the size of the long list, or runs into the fence
        assert text
        assert words in text
    assert time.perf_counter() - begin < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1.6 * 2**20  # kB
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    assert soft == resource.RLIM_INFINITY or soft > 2**34  # the fence is gone again


def test_sizes_that_pass_all_bounds(tmp_path: Path, small: Any) -> None:
    large = model_of([node("Relu", ["x"], ["y"])], {"x": ("float", [2**31, 2**31])}, "y", [])
    with pytest.raises(SourceError, match="passes 2\\^60 elements, the limit for a tensor"):
        traced(saved(tmp_path, large))
    product = model_of([node("MatMul", ["x", "x"], ["y"])], {"x": ("float", [2**25, 2**25])}, "y", [])
    with pytest.raises(SourceError, match="more than 2\\^62 bytes and operations, the limit for a graph"):
        traced(saved(tmp_path, product))
    small.graph.initializer[0].dims[0] = 2**40
    with pytest.raises(SourceError, match="'w' holds 864 bytes, and its shape asks for more"):
        traced(saved(tmp_path, small))
    small.graph.initializer[0].dims[0] = -8
    with pytest.raises(SourceError, match="'w' has a negative size"):
        traced(saved(tmp_path, small))


def functions(calls: int, depth: int) -> Any:
    """Functions that each call the next one several times: 2^30 nodes in 3 kB."""
    sets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("own", 1)]
    made = []
    for level in range(depth):
        kind, domain = ("Relu", "") if level == depth - 1 else (f"f{level + 1}", "own")
        body = [
            onnx.helper.make_node(kind, [f"v{i}" if i else "a"], [f"v{i + 1}" if i < calls - 1 else "b"], domain=domain)
            for i in range(calls)
        ]
        made.append(onnx.helper.make_function("own", f"f{level}", ["a"], ["b"], body, sets))
    call = onnx.helper.make_node("f0", ["x"], ["y"], domain="own")
    return model_of([call], {"x": ("float", [1, 3])}, "y", [], domains={"own": 1}, functions=made)


def test_functions_have_an_end(tmp_path: Path) -> None:
    assert len(traced(saved(tmp_path, functions(2, 3))).ops) == 8
    begin = time.perf_counter()
    with pytest.raises(SourceError, match="come to more than 1,000,000 nodes, the limit for a graph"):
        traced(saved(tmp_path, functions(2, 30)))
    circle = functions(2, 3)
    circle.functions[2].node[0].op_type, circle.functions[2].node[0].domain = "f0", "own"
    with pytest.raises(SourceError, match="calls itself"):
        traced(saved(tmp_path, circle))
    assert time.perf_counter() - begin < 10


@pytest.mark.slow
@pytest.mark.parametrize("way", ["bytes", "graph"])
def test_damage(tmp_path: Path, small: Any, way: str) -> None:
    """100 files each, cut, flipped or with wrong parts: read, or refused in words."""
    path = tmp_path / "damaged.onnx"

    def write(r: random.Random) -> None:
        if way == "bytes":
            path.write_bytes(damaged(small.SerializeToString(), r))
            return
        model = onnx.ModelProto()
        model.CopyFrom(small)
        wrong_graph(model, r)
        path.write_bytes(model.SerializeToString())

    assert damage(path, write) > 15


@pytest.mark.parametrize("text", [b"/stem/0/Conv", b"Relu", b"size", b"target"])
def test_a_name_that_is_no_text(tmp_path: Path, small: Any, text: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(small.SerializeToString().replace(text, b"\xff" * len(text)))
    assert "is not a whole ONNX file: a name in it is not text" in refused_or_fine(str(path), text)


def test_a_split_whose_count_is_not_its_results(tmp_path: Path, small: Any) -> None:
    """onnx's own rule for it ends the process."""
    split = next(n for n in small.graph.node if n.op_type == "Split")
    next(a for a in split.attribute if a.name == "num_outputs").i = 1
    assert "a Split into 1 has 2 results" in refused_or_fine(saved(tmp_path, small), "split")
