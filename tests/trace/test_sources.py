"""Everything that can be given as a model: found, built, called with its own input, counted; and what is refused, and how."""

from __future__ import annotations

import json
import math
import socket
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import llama
from oracles.published import TORCHVISION
from torch import nn

from roofline import compat
from roofline.devices.library import lookup
from roofline.errors import ModelError, SourceError, UnknownNameError, UsageError
from roofline.kernels import build as kernels
from roofline.records import Trace
from roofline.request import Ask
from roofline.sources import build, zoo
from roofline.sources.resolve import also_known, catalogue, resolve
from roofline.sources.traced import trace_source

GPU = "t4"


def traced(model: str, settings: dict[str, str] | None = None, **asked: Any) -> Trace:
    return trace_source(resolve(Ask(model, settings=settings or {}, **asked)), lookup(GPU))


def macs(trace: Trace) -> int:
    return sum(k.macs for k in kernels.build(trace))


def unknown(trace: Trace) -> set[str]:
    return {k.op for k in kernels.build(trace) if not k.known}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be opened."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# ------------------------------------------------------------------------------------------------ zoos


def test_names_read_from_source_are_those_that_the_packages_list() -> None:
    import timm
    import torchvision

    assert list(zoo.names("torchvision")) == sorted(torchvision.models.list_models())
    assert set(zoo.names("timm")) == set(timm.list_models())


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_in_its_published_form(name: str, offline: None) -> None:
    printed = TORCHVISION[name]
    settings = {"weights": printed.weights} if printed.weights else None
    trace = traced(f"torchvision:{name.partition(' ')[0]}", settings)
    assert trace.model.params == printed.params
    assert round(macs(trace) / 1e9, 3) == printed.gmac
    assert trace.model.inputs[0].shape == printed.input
    assert unknown(trace) == set()


def test_detectors_run_on_real_tensors_and_say_how_many_boxes_they_saw(offline: None) -> None:
    trace = traced("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", {"rpn_score_thresh": "1.0"})
    assert trace.model.params == 19_386_354
    assert round(macs(trace) / 1e9, 3) == 0.719  # printed by torchvision, whose image gave no proposal
    assert "0 proposals pooled by roi_heads.box_roi_pool" in trace.notes
    assert "the model resizes its images to a shorter side of 320 px itself" in trace.notes
    assert any(note.startswith("shapes depend on data: traced on real tensors") for note in trace.notes)


def test_the_second_stage_of_a_detector_runs_once_for_each_proposal() -> None:
    # two layers of 12544 x 1024 and 1024 x 1024, then 91 classes and 4 x 91 coordinates
    head = 256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * (91 + 4 * 91)
    none = traced("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", {"rpn_score_thresh": "1.0"})
    some = traced("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", {"rpn_nms_thresh": "1.0"})
    (seen,) = (note for note in some.notes if "pooled" in note)
    assert macs(some) - macs(none) == int(seen.split()[0].replace(",", "")) * head


@pytest.mark.slow
def test_quantized_torchvision_model_runs_quantized_kernels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = traced("torchvision:quantized_mobilenet_v3_large")
    assert round(macs(trace) / 1e9, 3) == 0.217
    assert {"quantized.conv2d", "quantized.linear"} <= {s.name for s in trace.specs}
    assert unknown(trace) == set()
    assert traced("torchvision:quantized_mobilenet_v3_large", {"quantize": "false"}).model.params == 5_483_032


def test_quantized_layer_by_hand() -> None:
    """int8 weights are read as int8, with their bias and scales; arithmetic by its shapes."""
    from torch.ao.nn import quantized as nnq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nnq.Conv2d(3, 8, 3)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.quantize_per_tensor(x, 0.1, 0, torch.quint8))

    net = Net()
    assert build.is_quantized(net)
    from roofline.tracing.trace import trace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = trace(net, [torch.rand(1, 3, 8, 8)], real=True)
    assert found.model.params == 8 * 3 * 3 * 3 + 8
    (conv,) = (k for k in kernels.build(found) if k.op.startswith("quantized.conv2d"))
    assert conv.macs == 8 * 6 * 6 * 3 * 3 * 3
    assert conv.klass == "conv"
    weight = 8 * 3 * 3 * 3 + 4 * 8  # one byte each, and the bias in fp32
    assert conv.weight_bytes == weight
    assert conv.bytes == weight + 3 * 8 * 8 + 8 * 6 * 6
    assert next(layer.params for layer in found.layers if layer.path == "conv") == 224


def test_torch_is_as_it_was_after_a_build_without_downloads() -> None:
    from torchvision.models import WeightsEnum

    before = nn.Module.load_state_dict, WeightsEnum.get_state_dict
    build.build(resolve(Ask("torchvision:resnet18")))
    assert (nn.Module.load_state_dict, WeightsEnum.get_state_dict) == before


def test_torchvision_class_count_and_weights_that_it_has_not() -> None:
    trace = traced("torchvision:resnet18", {"num_classes": "10"})
    assert trace.model.params == 11_689_512 - 990 * 513
    with pytest.raises(UnknownNameError, match="has no weights 'V9'; it has IMAGENET1K_V1"):
        traced("torchvision:resnet18", {"weights": "V9"})


def test_timm_input_channels_resolution_and_tag(offline: None) -> None:
    plain = traced("timm:mobilenetv3_small_050")
    assert plain.model.inputs[0].shape == (1, 3, 224, 224)
    assert traced("timm:mobilenetv3_small_050", {"in_chans": "1"}).model.inputs[0].shape == (1, 1, 224, 224)
    vit = traced("timm:vit_tiny_patch16_224", resolution=96, batch=2)
    assert vit.model.inputs[0].shape == (2, 3, 96, 96)
    # 6 x 6 patches and the class token, a position each
    assert vit.model.params == traced("timm:vit_tiny_patch16_224").model.params - (14 * 14 - 6 * 6) * 192
    assert traced("timm:vit_tiny_patch16_224.augreg_in21k").model.params > 0


def test_bare_names_are_looked_up_in_order_and_say_what_else_there_is() -> None:
    trace = traced("mobilenet_v2")
    assert trace.model.source == "models/mobilenet_v2.py"
    assert "mobilenet_v2 is the reference model; say torchvision:mobilenet_v2 for the other" in trace.notes
    assert resolve(Ask("regnet_y_400mf")).kind.name == "torchvision"
    assert resolve(Ask("convnext_atto")).kind.name == "timm"
    assert any("timm:convnext_tiny" in note for note in also_known(resolve(Ask("convnext_tiny"))))


def test_catalogue_knows_the_zoos_without_importing_them() -> None:
    names = {m["name"] for m in catalogue()}
    assert {"mobilenet_v2", "torchvision:raft_large", "timm:convnext_atto"} <= names
    assert all(":" not in m["name"] for m in catalogue(zoos=False))


BAD_NAMES = [
    ("torchvision:resnet5O", "torchvision has no model 'resnet5O'; did you mean resnet50"),
    ("timm:vit_tiny_patch16_225", "timm has no model .*did you mean vit_tiny_patch16_224"),
    ("hf:LlamaForCausalML", "transformers has no class 'LlamaForCausalML'; did you mean LlamaForCausalLM"),
    ("hf:meta-llama/Llama-3-8B", "nothing is downloaded"),
    ("hf:pipeline", "is no model class of transformers"),
    ("no_such_net", "unknown model 'no_such_net'"),
    ("weights.pt", "no such file: weights.pt"),
    ("weights.pth", "no such file: weights.pth"),
    ("gone.onnx", "no such file: gone.onnx"),
    ("gone.pt2", "no such file: gone.pt2"),
]


@pytest.mark.parametrize(("model", "message"), BAD_NAMES, ids=[n for n, _ in BAD_NAMES])
def test_names_that_are_none(model: str, message: str, offline: None) -> None:
    with pytest.raises(UsageError, match=message):
        traced(model)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "version", lambda package: "")
    with pytest.raises(UsageError, match=r"needs the package timm, .*: pip install timm$"):
        resolve(Ask("timm:resnet50"))
    with pytest.raises(UsageError, match=r"pip install transformers$"):
        resolve(Ask("hf:BertModel"))


@pytest.mark.parametrize("model", ["torchvision:resnet18", "timm:resnet18", "mobilenet_v2"])
def test_an_argument_that_the_model_does_not_take(model: str) -> None:
    with pytest.raises(UsageError, match="takes no argument 'widht'"):
        traced(model, {"widht": "2"})


# ------------------------------------------------------------------------------------------------ transformers


def test_bert_by_class_name(offline: None) -> None:
    trace = traced("hf:BertModel")
    assert trace.model.params == 109_482_240  # bert-base-uncased
    tokens, width, inner = 128, 768, 3072
    layer = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * inner
    assert macs(trace) == 12 * layer + width * width  # and the pooler, on one token
    assert unknown(trace) == set()


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(**changes: Any) -> str:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({k: v for k, v in (llama.CONFIG | changes).items() if v is not None}), encoding="utf-8")
        return f"hf:{path}"

    return write


def test_llama_from_a_local_config(config: Any, offline: None) -> None:
    trace = traced(config(), inputs=("input_ids=2,16:int64",))
    met = compat.version("transformers")
    assert macs(trace) == llama.macs(llama.CONFIG, 16, 16, sequences=2, logits=16, transformers=met)
    assert trace.model.params == llama.params(llama.CONFIG)
    assert traced(config(), {"num_hidden_layers": "1"}, inputs=("input_ids=2,16:int64",)).model.params < trace.model.params


BAD_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"auto_map": {"AutoModel": "evil.Model"}}, "brings code of its own .*is not run"),
    ({"model_type": None}, "no `model_type`"),
    ({"model_type": "lama"}, "knows no model_type 'lama'; did you mean llama"),
    ({"hidden_size": 65}, "hidden_size|hidden size"),
    ({"hidden_size": "wide"}, "rejects|could not be built"),
    ({"architectures": None, "model_type": "vision-encoder-decoder"}, "rejects|names no architecture"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_CONFIGS, ids=["code", "no type", "wrong type", "odd", "text", "no class"])
def test_configs_that_are_refused(config: Any, changes: dict[str, Any], message: str, offline: None) -> None:
    with pytest.raises((SourceError, UsageError), match=message):
        traced(config(**changes))


def test_a_config_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{'model_type': 'llama'", encoding="utf-8")
    with pytest.raises(SourceError, match="not readable as JSON"):
        traced(f"hf:{path}")


def test_a_field_that_the_config_has_not(config: Any) -> None:
    with pytest.raises(UsageError, match="LlamaConfig has no field 'num_layer': did you mean"):
        traced(config(), {"num_layer": "2"})


# ------------------------------------------------------------------------------------------------ torch.export


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.head.weight

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        y = self.stem(x).mean((2, 3)) * scale
        return self.tied(self.head(y).view(y.shape[0], -1))


SMALL_MACS = 8 * 16 * 16 * 27 + 2 * 64
SMALL_PARAMS = 8 * 27 + 8 + 16 + 64 + 2 * 8


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fixed.pt2, and free.pt2 whose batch may change."""
    root = tmp_path_factory.mktemp("archives")
    net, args = Small().eval(), (torch.rand(2, 3, 16, 16), torch.rand(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, args), root / "fixed.pt2")
        batch = {0: torch.export.Dim("batch", min=1, max=64)}
        torch.export.save(torch.export.export(net, args, dynamic_shapes=(batch, {})), root / "free.pt2")
    return root


def test_an_exported_program_counts_as_its_module(archives: Path) -> None:
    trace = traced(str(archives / "fixed.pt2"))
    assert macs(trace) == 2 * SMALL_MACS
    assert trace.model.params == SMALL_PARAMS  # the tied weight once
    paths = {layer.path: layer.type for layer in trace.layers}
    assert paths["stem.0"] == "Conv2d"
    assert paths["head"] == "Linear"
    assert {trace.layers[k.layer].path for k in kernels.build(trace) if k.macs} == {"stem.0", "head", "tied"}
    assert [s.kind for s in trace.storages].count("parameter") == 7
    # what is dead is freed: nothing but the result lives to the end
    assert sum(s.kind == "activation" and s.died < 0 for s in trace.storages) == 1


def test_an_exported_program_takes_the_batch_that_it_was_left_free_in(archives: Path) -> None:
    assert macs(traced(str(archives / "free.pt2"), batch=None)) == 2 * SMALL_MACS
    assert macs(traced(str(archives / "free.pt2"), inputs=("x=5,3,16,16",))) == 5 * SMALL_MACS
    with pytest.raises(
        UsageError, match=r"input x was exported as 2x3x16x16, which 5x3x16x16 is not\nexport it with dynamic_shapes"
    ):
        traced(str(archives / "fixed.pt2"), inputs=("x=5,3,16,16",))


def _changed(archive: Path, target: Path, change: Any) -> str:
    """A copy of an archive with its graph changed."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("models/model.json"):
                graph = json.loads(data)
                change(graph)
                data = json.dumps(graph).encode()
            new.writestr(item.filename, data)
    return str(target)


def test_a_hostile_program_runs_nothing(archives: Path, tmp_path: Path) -> None:
    """A node may name operators only: not os.system, though torch.os is there."""
    mark = tmp_path / "ran"

    def attack(graph: dict[str, Any]) -> None:
        node = graph["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "command", "arg": {"as_string": f"touch {mark}"}, "kind": 1}]

    with pytest.raises(SourceError, match=r"operator 'torch.os.system' is not known here"):
        traced(_changed(archives / "fixed.pt2", tmp_path / "hostile.pt2", attack))
    assert not mark.exists()


def test_programs_of_another_version_or_damaged(archives: Path, tmp_path: Path) -> None:
    def newer(graph: dict[str, Any]) -> None:
        graph["schema_version"] = {"major": 99, "minor": 1}
        graph["torch_version"] = "9.9"

    with pytest.raises(SourceError, match=r"schema 99 of torch.export by torch 9.9; 8 is read here\nexport it again"):
        traced(_changed(archives / "fixed.pt2", tmp_path / "newer.pt2", newer))
    whole = (archives / "fixed.pt2").read_bytes()
    for name, data in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not an archive"}.items():
        path = tmp_path / f"{name}.pt2"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"not a whole .pt2 archive"):
            traced(str(path))
    foreign = tmp_path / "foreign.pt2"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("version", "4.1")
    with pytest.raises(SourceError, match=r"holds no graph of torch.export"):
        traced(str(foreign))

    def broken(graph: dict[str, Any]) -> None:
        del graph["graph_module"]["signature"]

    with pytest.raises(SourceError, match=r"not as torch.export writes it"):
        traced(_changed(archives / "fixed.pt2", tmp_path / "broken.pt2", broken))


def test_settings_do_not_change_a_finished_program(archives: Path) -> None:
    with pytest.raises(UsageError, match="finished module: --set cannot change it"):
        traced(str(archives / "fixed.pt2"), {"depth": "2"})


# ------------------------------------------------------------------------------------------------ ONNX


@pytest.fixture
def graph(tmp_path: Path) -> Any:
    """Writes an ONNX file of nodes, inputs and initializers; returns its path."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def write(
        nodes: list[tuple[Any, ...]],
        inputs: dict[str, list[Any]],
        weights: dict[str, list[int]],
        constants: dict[str, list[int]] | None = None,
        domain: str = "",
    ) -> str:
        made = [
            helper.make_node(kind, ins, outs, domain=domain if kind.startswith("My") else "", **attributes)
            for kind, ins, outs, attributes in nodes
        ]
        held = [helper.make_tensor(n, TensorProto.FLOAT, shape, [0.5] * math.prod(shape)) for n, shape in weights.items()]
        held += [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in (constants or {}).items()]
        given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()]
        out = [helper.make_tensor_value_info(nodes[-1][2][0], TensorProto.FLOAT, None)]
        imports = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        path = tmp_path / "net.onnx"
        onnx.save(helper.make_model(helper.make_graph(made, "net", given, out, held), opset_imports=imports), path)
        return str(path)

    return write


CNN: list[tuple[Any, ...]] = [
    ("Conv", ["x", "w", "b"], ["c"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "group": 2}),
    ("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"], {}),
    ("Relu", ["n"], ["r"], {}),
    ("GlobalAveragePool", ["r"], ["g"], {}),
    ("Shape", ["g"], ["shape"], {"start": 0, "end": 1}),
    ("Concat", ["shape", "rest"], ["to"], {"axis": 0}),
    ("Reshape", ["g", "to"], ["f"], {}),
    ("Gemm", ["f", "k", "d"], ["y"], {"transB": 1}),
]
CNN_WEIGHTS = {"w": [6, 2, 3, 3], "b": [6], "s": [6], "t": [6], "m": [6], "v": [6], "k": [10, 6], "d": [10]}


def test_an_onnx_graph_by_hand(graph: Any) -> None:
    path = graph(CNN, {"x": ["n", 4, 8, 8]}, CNN_WEIGHTS, {"rest": [-1]})
    with pytest.raises(
        UsageError, match=r"input x is n,4,8,8: its size in n is not fixed\ngive its batch with --batch 1, or its shape"
    ):
        traced(path)
    trace = traced(path, inputs=("x=3,4,8,8",))
    assert macs(trace) == 3 * (6 * 4 * 4 * 2 * 9 + 6 * 10)
    assert trace.batch == 3
    assert trace.model.params == 6 * 2 * 9 + 6 + 12 + 60 + 10
    assert trace.model.buffers == 12
    assert unknown(trace) == set()
    launched = {k.op: k for k in kernels.build(trace)}
    assert launched["conv2d"].klass == "grouped_conv"
    # x, the weight, the bias, and the result
    assert launched["conv2d"].bytes == 4 * (3 * 4 * 64 + 6 * 18 + 6 + 3 * 6 * 16)
    assert "view" not in launched
    assert macs(traced(path, batch=1)) == 6 * 4 * 4 * 2 * 9 + 6 * 10


def test_onnx_attention_and_recurrence_by_hand(graph: Any) -> None:
    nodes = [
        ("LSTM", ["x", "w", "r"], ["seq"], {"hidden_size": 16, "direction": "bidirectional"}),
        ("Transpose", ["seq"], ["turned"], {"perm": [2, 0, 1, 3]}),
        ("Reshape", ["turned", "flat"], ["rows"], {}),
        ("MatMul", ["rows", "m"], ["y"], {}),
    ]
    trace = traced(graph(nodes, {"x": [5, 2, 8]}, {"w": [2, 64, 8], "r": [2, 64, 16], "m": [32, 3]}, {"flat": [10, 32]}))
    assert macs(trace) == 2 * 5 * 2 * 4 * 16 * (8 + 16) + 10 * 32 * 3
    assert unknown(trace) == set()


def test_an_onnx_operator_without_a_rule_is_unknown(graph: Any) -> None:
    nodes = [("Relu", ["x"], ["r"], {}), ("Bernoulli", ["r"], ["y"], {})]
    assert unknown(traced(graph(nodes, {"x": [2, 3]}, {}))) == {"onnx.Bernoulli"}


def test_onnx_that_cannot_be_traced(graph: Any, tmp_path: Path) -> None:
    path = graph([("MyOp", ["x"], ["m"], {}), ("Relu", ["m"], ["y"], {})], {"x": [2, 3]}, {}, domain="my.ops")
    with pytest.raises(SourceError, match=r"the shape of 'm' .*does not follow|its shapes do not agree"):
        traced(path)
    path = graph([("MatMul", ["x", "w"], ["y"], {})], {"x": [2, 3]}, {"w": [4, 5]})
    with pytest.raises(SourceError, match="its shapes do not agree"):
        traced(path)
    with pytest.raises(UsageError, match="has no input 'z'; it has x"):
        traced(path, inputs=("z=2,3",))
    with pytest.raises(UsageError, match="input x is 2,3 in the file, which 2,4 is not"):
        traced(path, inputs=("x=2,4",))
    with pytest.raises(UsageError, match="input x is float32, not float16"):
        traced(path, inputs=("x=2,3:float16",))
    with pytest.raises(UsageError, match="batch of input x is fixed at 2"):
        traced(path, batch=4)
    with pytest.raises(UsageError, match="--set cannot change it"):
        traced(path, {"a": "1"})


def test_boxes_of_a_graph_are_as_large_as_the_image(graph: Any) -> None:
    """ONNX's own default is as many samples as a box is large: of 12 x 12 in 5 x 5 bins 3 a side of a bin."""
    sizes = {"output_height": 5, "output_width": 5}
    path = graph([("RoiAlign", ["x", "b", "i"], ["y"], sizes)], {"x": [1, 4, 12, 12], "b": [2, 4]}, {}, {"i": [0, 0]})
    trace = traced(path)
    assert sum(k.flops or 0 for k in kernels.build(trace)) == 2 * 4 * 5 * 5 * (8 * 3**2 + 1)
    assert not unknown(trace)
    assert "boxes whose values are not there are taken as large as the image" in trace.notes


def test_onnx_files_that_are_damaged(graph: Any, tmp_path: Path) -> None:
    whole = Path(graph(CNN, {"x": [1, 4, 8, 8]}, CNN_WEIGHTS, {"rest": [-1]})).read_bytes()
    for name, data in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"\xff\xfe not protobuf"}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"is not a whole ONNX file|holds no ONNX graph"):
            traced(str(path))


# ------------------------------------------------------------------------------------------------ a person's own code


def write(folder: Path, text: str) -> str:
    path = folder / "net.py"
    path.write_text("import torch\nfrom torch import nn\n" + text, encoding="utf-8")
    return f"{path}:Net"


def test_control_flow_on_data_runs_on_real_tensors_and_says_so(tmp_path: Path) -> None:
    model = write(
        tmp_path,
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 4)
    def forward(self, x):
        return self.a(x) if x.sum() > 0 else x
""",
    )
    trace = traced(model, inputs=("2,8",))
    assert macs(trace) == 2 * 8 * 4
    assert "shapes depend on data: traced on real tensors, random weights, seed 0" in trace.notes


def test_custom_operators_with_and_without_a_meta_kernel(tmp_path: Path) -> None:
    text = """
library = torch.library.Library("roofline_test_{space}", "DEF")
library.define("twice(Tensor x) -> Tensor")
library.impl("twice", lambda x: x + x, "CPU")
{meta}
class Net(nn.Module):
    def forward(self, x):
        return torch.ops.roofline_test_{space}.twice(x)
"""
    meta = 'library.impl("twice", lambda x: torch.empty_like(x), "Meta")'
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    known = traced(write(tmp_path / "a", text.format(space="meta", meta=meta)), inputs=("2,8",))
    assert unknown(known) == {"roofline_test_meta.twice"}
    assert known.notes == ()
    real = traced(write(tmp_path / "b", text.format(space="plain", meta="")), inputs=("2,8",))
    assert unknown(real) == {"roofline_test_plain.twice"}
    (kernel,) = (k for k in kernels.build(real) if k.op.startswith("roofline_test"))
    assert kernel.bytes == 2 * 4 * 16
    assert any("real tensors" in note for note in real.notes)


def test_a_model_that_needs_its_weights_to_be_built(tmp_path: Path) -> None:
    model = write(
        tmp_path,
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.load_state_dict(torch.load("weights-that-are-not-here.pth"))
""",
    )
    with pytest.raises(SourceError, match=r"Net could not be built: FileNotFoundError: .*weights-that-are-not-here.pth"):
        traced(model)


def test_a_syntax_error_is_shown_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"net\.py, line 3: "):
        traced(write(tmp_path, "class Net(:\n"))


def test_a_file_in_the_encoding_that_its_first_line_names(tmp_path: Path) -> None:
    """As Python reads it; what is none is called so, and not a table that the file does not have."""
    path = tmp_path / "net.py"
    text = "# -*- coding: latin-1 -*-\n# caf\xe9\nfrom torch import nn\ndef Net():\n    return nn.Linear(4, 5)\n"
    path.write_bytes(text.encode("latin-1"))
    assert traced(f"{path}:Net", inputs=("1,4",)).model.params == 4 * 5 + 5
    for data in (text.encode("utf-16"), b"\x1f\x8b\x08\x00", b"caf\xe9 = 1\n"):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"net\.py is no Python source: .*\nsave it as UTF-8"):
            traced(f"{path}:Net")


def test_a_name_that_the_file_has_not(tmp_path: Path) -> None:
    path = write(tmp_path, "class Net(nn.Module):\n    pass\n").replace(":Net", ":Nett")
    with pytest.raises(SourceError, match="has no 'Nett': did you mean Net"):
        traced(path)


def test_a_file_alone_is_answered_with_its_models(tmp_path: Path) -> None:
    text = "class Part(nn.Module):\n    pass\n\n\nclass Own:\n    pass\n\n\nclass Net(Part):\n    pass\n"
    file = write(tmp_path, text).rpartition(":")[0]
    with pytest.raises(UsageError, match=rf"say which model, as {file}:Part \(it has Part, Net\)$"):
        resolve(Ask(file))
    (tmp_path / "net.py").write_text("def make():\n    pass\n\n\ndef _no():\n    pass\n")
    with pytest.raises(UsageError, match=r":make \(it has make\)$"):
        resolve(Ask(file))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere", "no such file: ./nowhere"),
        ("nowhere.json", "no such file: nowhere.json"),
        ("./here", "./here is a folder without a config.json"),
        ("saved.json", "saved.json is no model: an analysis that was saved is for `roofline diff`"),
        ("notes.txt", "notes.txt is no file of a model: one is given as net.py:Net"),
        ("book.ipynb:net", "book.ipynb is a notebook: jupyter nbconvert --to script book.ipynb makes a file of its cells, "),
    ],
)
def test_a_place_that_holds_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "saved.json").write_text('{"schema": 1}')
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(UsageError) as refused:
        resolve(Ask(name))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("text", ["class Net(nn.Linear):\n    pass\n", "def Net(config):\n    return nn.Linear(config, 3)\n"])
def test_a_model_that_lacks_arguments_says_how_it_gets_them(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"missing \d+ required [^\n]*\n--set NAME=VALUE gives it what it takes; "):
        traced(write(tmp_path, text))


def test_a_model_that_fails_names_the_module_and_its_shapes(tmp_path: Path) -> None:
    model = write(tmp_path, "def Net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(7, 2))\n")
    with pytest.raises(ModelError, match=r"failed in 1 \(Linear\) with input shapes \[1x4x222x222\]"):
        traced(model)


def test_a_link_is_the_kind_of_file_that_its_own_name_says(tmp_path: Path) -> None:
    """Downloads lie under their hash, and a link beside them bears the name."""
    blob = tmp_path / "3f786850e387"
    blob.write_bytes(b"")
    for name, kind in (("net.pt2", "exported"), ("net.onnx", "onnx")):
        (tmp_path / name).symlink_to(blob)
        assert resolve(Ask(str(tmp_path / name))).kind.name == kind
