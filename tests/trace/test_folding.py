"""`fold_bn`: the trace of a model without its batch norms is that of the model that torch's own `fuse_conv_bn_eval` makes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import fusion

import roofline
from roofline import cli
from roofline.bench.measure import fold
from roofline.errors import UsageError
from roofline.kernels import build, folding
from roofline.records import Analysis
from roofline.tracing.trace import trace

X = torch.zeros(2, 3, 16, 16)


class Fits(nn.Module):
    """Convolutions of three kinds and a linear layer, with and without a bias; what lives on beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.b, self.nb = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8, affine=False)
        self.up, self.nu = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False), nn.BatchNorm2d(4)
        self.head, self.nh = nn.Linear(4, 6), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.na(self.a(x)))
        y = self.b(x)
        y = self.nb(y) + x
        y = self.nu(self.up(y))
        return self.nh(self.head(y.mean((2, 3))))


class Block(nn.Module):
    """One convolution and norm that are called at three sizes, as heads of detectors are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.relu(self.norm(self.conv(y))) for y in (x, x[..., ::2], x[..., ::4, ::4])]


PAIRS = {
    Fits: [("a", "na"), ("b", "nb"), ("up", "nu"), ("head", "nh")],
    Block: [("conv", "norm")],
}


def fused(net: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    net = copy.deepcopy(net).eval()
    for one, norm in pairs:
        layer, bn = net.get_submodule(one), net.get_submodule(norm)
        if isinstance(layer, nn.Linear):
            made: Any = fusion.fuse_linear_bn_eval(layer, bn)
        else:
            made = fusion.fuse_conv_bn_eval(layer, bn, transpose=isinstance(layer, nn.ConvTranspose2d))  # type: ignore[type-var]  # any convolution
        for path, new in ((one, made), (norm, nn.Identity())):
            holder, _, name = path.rpartition(".")
            setattr(net.get_submodule(holder), name, new)
    return net


def numbers(a: Analysis) -> tuple[Any, ...]:
    """All but the names of modules."""
    kernels = [(k.layer, k.op, k.shape, k.flops, k.macs, k.bytes, k.weight_bytes, k.time_s) for k in a.kernels]
    t, m = a.totals, a.model
    held = m.params, m.param_bytes, m.buffers, m.buffer_bytes
    layers = [(row.path, row.params, row.flops, row.bytes, row.time_s) for row in a.layers]
    return kernels, (t.flops, t.macs, t.bytes, t.time_s, t.peak_memory_bytes, t.peak_memory), held, layers


@pytest.mark.parametrize("dtype", [None, "fp16", "amp"])
@pytest.mark.parametrize("net", PAIRS)
def test_it_is_what_torch_makes_of_it(net: Callable[[], nn.Module], dtype: str | None) -> None:
    model = net()
    asked: dict[str, Any] = {"args": [X], "device": "t4", "dtype": dtype}
    found = roofline.analyze(model, fold_bn=True, **asked)
    assert numbers(found) == numbers(roofline.analyze(fused(model, PAIRS[net]), **asked))  # type: ignore[index]  # a class
    assert found.totals.kernels < roofline.analyze(model, **asked).totals.kernels
    assert found.setting.fold_bn
    assert "norms folded" in found.setting.numbers


def test_resnet18_is_what_torch_makes_of_it() -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = torchvision.models.resnet18().eval()
    convs, norms = ([n for n, m in model.named_modules() if isinstance(m, kind)] for kind in (nn.Conv2d, nn.BatchNorm2d))
    asked: dict[str, Any] = {"args": [torch.zeros(4, 3, 64, 64, device="meta")], "device": "t4"}
    found = roofline.analyze(model, fold_bn=True, **asked)
    assert len(norms) == 20
    assert "all 20 batch norms are folded into the layers before them" in found.notes
    assert numbers(found) == numbers(roofline.analyze(fused(model, list(zip(convs, norms, strict=True))), **asked))


class Apart(nn.Module):
    """No norm can go: `case` says why."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case
        self.conv, self.norm, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.seen: list[torch.Tensor] = []
        if case == "hook that keeps":
            self.conv.register_forward_hook(lambda module, args, result: self.seen.append(result))
        if case == "hook that computes":
            self.conv.register_forward_hook(lambda module, args, result: result * 2)

    def forward(self, x: torch.Tensor) -> Any:
        c = self.conv
        match self.case:
            case "norm first":
                return c(torch.relu(self.norm(x)))
            case "two consumers":
                y = c(x)
                return self.norm(y) + y
            case "two norms":
                return self.norm(c(x)) + self.other(c(x))
            case "norm elsewhere too":
                return self.norm(c(x)) + self.norm(x)
            case "result":
                y = c(x)
                return y, self.norm(y)
            case "weight read":
                return self.norm(c(x)) * c.weight.sum()
            case "activation between":
                return self.norm(torch.relu(c(x)))
            case "own statistics":
                return nn.functional.batch_norm(c(x), None, None, training=True)
            case "weight computed":
                return self.norm(nn.functional.conv2d(x, c.weight * 2))
            case "rows":  # the norm's channels are not the layer's
                return nn.functional.batch_norm(nn.functional.linear(x[:, :, 0], x.new_zeros(5, 16)), *self._statistics())
        return self.norm(c(x))

    def _statistics(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return self.norm.running_mean, self.norm.running_var


CASES = [
    "norm first", "two consumers", "two norms", "norm elsewhere too", "result", "weight read", "activation between",
    "own statistics", "weight computed", "rows", "hook that keeps", "hook that computes",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_folded_is_left(case: str) -> None:
    with pytest.raises(UsageError, match="no batch norm of this pass follows a convolution or linear layer"):
        roofline.analyze(Apart(case), args=[X], device="t4", fold_bn=True)


def test_a_training_step_has_none_to_fold() -> None:
    with pytest.raises(UsageError, match=r"fold_bn .* beside training"):
        roofline.analyze(Fits(), args=[X], fold_bn=True, training=True)


def test_some_go_and_others_stay_and_the_note_says_how_many() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8))
    found = roofline.analyze(net, args=[X], device="t4", fold_bn=True)
    assert [k.op for k in found.kernels] == ["batch_norm", "conv2d", "relu", "batch_norm"]
    assert "1 of 3 batch norms are folded into the layers before them" in found.notes


def test_explain_says_what_it_brings_where_no_compiler_has_done_so() -> None:
    asked: dict[str, Any] = {"args": [X], "device": "i9-10940x"}
    found = roofline.explain(Fits(), **asked)
    saving = next(s for s in found.savings["i9-10940x"] if s.what == "fold-bn")
    assert saving.times.value > 1.05
    assert found.runs[saving.run].options["fold_bn"]
    compiled = roofline.explain(Fits(), runtime="compiled", **asked)
    assert "fold" not in repr((compiled.savings, compiled.small))


def test_a_sweep_and_a_report_fold_as_an_analysis_does(tmp_path: Path) -> None:
    """The rows of both settings stand side by side, and say which is which; a model without a norm to fold is refused."""
    alone, plain = (roofline.analyze("resnet18", device="t4", fold_bn=fold).totals for fold in (True, False))
    out = tmp_path / "rows.jsonl"
    with_it = roofline.sweep(["resnet18", "vgg16"], device="t4", fold_bn=True, workers=0, output=out)
    without = roofline.sweep("resnet18", device="t4", workers=0, output=out)
    rows = {(r.model, r.norms): r for r in [*with_it, *without]}
    assert [(n, rows["resnet18", n].kernels) for n in ("folded", "")] == [("folded", alone.kernels), ("", plain.kernels)]
    assert rows["resnet18", "folded"].time == pytest.approx(alone.time_s)
    assert alone.kernels < plain.kernels
    refused = rows["vgg16", "folded"]
    assert (refused.status, refused.error.split(":")[0]) == ("refused", "fold_bn")
    assert cli.main(["report", "resnet18", "-d", "t4", "--fold-bn", "--no-advice", "-o", str(tmp_path / "report")]) == 0
    told = json.loads((tmp_path / "report" / "analyses.json").read_text())
    assert (told["setting"]["fold_bn"], told["totals"]["kernels"]) == (True, alone.kernels)


NETS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())

class Both(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()

class Own(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), Both(8))
"""


def test_what_is_measured_is_what_torchs_fusion_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets.py").write_text(NETS)

    def measured(name: str, *more: str) -> int:
        asked = ["measure", f"{tmp_path}/nets.py:{name}", "--input", "1,3,16,16", "--seconds", "0.1", "--force", "--fold-bn"]
        return cli.main([*asked, *more])

    assert measured("Net", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [k["op"] for k in found["kernels"]] == ["conv2d", "relu"]
    assert all(k["measured_s"] > 0 for k in found["kernels"])
    assert measured("Own") == 2
    assert "1 (Both) after 0 (Conv2d): torch's fusion takes plain batch norms" in capsys.readouterr().err


@pytest.mark.parametrize("case", PAIRS)
def test_a_module_whose_norms_are_folded_computes_what_it_did(case: type[nn.Module]) -> None:
    net = case().eval()
    for norm in (m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))):
        norm.running_mean, norm.running_var = torch.rand(norm.num_features), 0.5 + torch.rand(norm.num_features)
    x = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        before = net(x)
        fold(net, PAIRS[case])
        after = net(x)
    assert not any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in net.modules())
    torch.testing.assert_close(after, before)


class Products(nn.Module):
    """Rows of 4,096 bytes against such rows, against rows of 4,160, and against themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.even, self.odd = nn.Linear(1024, 1040), nn.Linear(1040, 24)
        self.across = nn.Parameter(torch.zeros(24, 512))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.odd(self.even(x))
        return y @ self.across, x.double()[:, :256] @ x.double()[:256, :768], x @ x.T


def test_rows_of_products_that_start_at_multiples_of_2_kib_are_told() -> None:
    """float32 rows of 512 elements and float64 rows of 256 are 2 KiB; of a view the rows of what it is a view of."""
    found = trace(Products(), (torch.zeros(300, 1024, device="meta"),))
    flags = [k.access.aliased for k in build.build(found, "eager", "cpu") if k.klass == "gemm"]
    assert flags == [3, 0, 2, 3, 3]


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
def test_freezing_packs_parameters_and_nothing_else(runtime: str) -> None:
    launched = build.build(trace(Products(), (torch.zeros(300, 1024, device="meta"),)), runtime, "cpu")
    frozen = folding.frozen(launched)
    assert [k.access.frozen for k in frozen if k.klass == "gemm"] == [1, 1, 1, 0, 0]
    assert not any(k.access.frozen for k in frozen if k.klass != "gemm")
    assert [k.operands for k in frozen] == [k.operands for k in launched]
