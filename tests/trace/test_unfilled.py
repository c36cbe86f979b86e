"""What is not filled while a model is built on meta tensors is as if torch had filled it, and what has values is filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from roofline.errors import BuildError
from roofline.request import Ask
from roofline.sources import build, unfilled
from roofline.sources.resolve import resolve

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(3, 5),
    "half": lambda: nn.Linear(3, 5, bias=False, dtype=torch.float16),
    "no input": lambda: nn.Linear(0, 5, bias=False),
    "convolution": lambda: nn.Conv2d(4, 8, 3, groups=2),
    "transposed": lambda: nn.ConvTranspose1d(4, 8, 3),
    "norm": lambda: nn.BatchNorm2d(7),
    "norm without more": lambda: nn.BatchNorm1d(7, affine=False, track_running_stats=False),
    "instance": lambda: nn.InstanceNorm2d(7, affine=True, track_running_stats=True),
    "layer norm": lambda: nn.LayerNorm((3, 4)),
    "groups": lambda: nn.GroupNorm(2, 6),
    "table": lambda: nn.Embedding(10, 4, padding_idx=0),
    "lazy": lambda: nn.LazyLinear(4),
    "recurrent": lambda: nn.LSTM(3, 4, 2),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "learnt slope": lambda: nn.PReLU(3),
}


def model(tmp_path: Path, text: str) -> nn.Module:
    file = tmp_path / "net.py"
    file.write_text(f"import torch\nfrom torch import nn\n{text}", encoding="utf-8")
    return build.build(resolve(Ask(model=f"{file}:Net", inputs=("1,3",))))


def tensors(module: nn.Module) -> dict[str, Any]:
    def said(t: Any) -> Any:
        shape = None if nn.parameter.is_lazy(t) else (tuple(t.shape), t.stride())
        return type(t), shape, t.dtype, t.device, t.requires_grad

    return {name: said(t) for name, t in (*module.named_parameters(), *module.named_buffers())}


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_are_as_torch_builds_them(layer: str) -> None:
    with torch.device("meta"):
        plain = LAYERS[layer]()
    with unfilled.layers(), unfilled.Unfilled(False), unfilled.OnMeta():
        mine = LAYERS[layer]()
    assert tensors(mine) == tensors(plain)
    assert mine.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, 3),
        lambda: torch.ones((2, 3), dtype=torch.int8),
        lambda: torch.empty(torch.Size([4]), requires_grad=True),
        lambda: torch.zeros(size=(2,)),
        lambda: torch.ones([]),
        lambda: torch.zeros(2, dtype=torch.bool, pin_memory=False),
        lambda: torch.zeros(2, layout=torch.sparse_coo),
        lambda: torch.zeros(3, device="cpu"),
        lambda: torch.zeros(3, out=torch.empty(0, device="cpu")),
    ],
)
def test_a_factory_gives_what_it_gives_on_meta(make: Callable[[], torch.Tensor]) -> None:
    def made(modes: Any) -> Any:
        with modes:
            try:
                found = make()
            except Exception as error:
                return type(error), str(error)
        return found.shape, found.dtype, found.device, found.layout, found.requires_grad

    with unfilled.Unfilled(False):
        found = made(unfilled.OnMeta())
    assert found == made(torch.device("meta"))


@pytest.mark.parametrize("wrong", ["zeros(0.5)", "ones(-1)", "empty('a')", "zeros(2, memory_format=0)", "ones()"])
def test_a_factory_refuses_in_its_own_words(wrong: str) -> None:
    def words(modes: Any) -> str:
        with pytest.raises((TypeError, RuntimeError)) as caught, modes:
            eval(f"torch.{wrong}")
        return str(caught.value)

    with unfilled.Unfilled(False):
        found = words(unfilled.OnMeta())
    assert found == words(torch.device("meta"))


def test_no_operator_of_torchs_own_layers_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # torch 2.15 asks it of a number that becomes a tensor; torch 2.9 cuts a truncated normal distribution by an operator
        if func._schema.name not in ("aten::lift_fresh", "aten::clamp_"):
            seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))

    monkeypatch.setattr(unfilled.Unfilled, "__torch_dispatch__", noted)
    with unfilled.layers(), unfilled.Unfilled(False), unfilled.OnMeta():
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2), nn.LayerNorm(2), nn.Embedding(3, 4))
        nn.init.trunc_normal_(torch.empty(3, 3))
        assert not seen
        torch.randn(3)
    assert seen == ["aten::randn"], "what is not known goes to the operators"


def test_what_a_model_puts_in_the_place_of_a_method_is_called(tmp_path: Path) -> None:
    found: Any = model(
        tmp_path,
        """
class Norm(nn.BatchNorm2d):
    def reset_running_stats(self):
        super().reset_running_stats()
        self.called = 1 + getattr(self, "called", 0)
class Part(nn.Linear):
    def reset_parameters(self):
        super().reset_parameters()
        self.extra = nn.Parameter(torch.ones(2))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.part = Norm(3), Part(3, 3)
    def forward(self, x): return self.part(x)
""",
    )
    assert (found.norm.called, found.part.extra.is_meta) == (1, True)


def test_what_has_values_is_filled(tmp_path: Path) -> None:
    found: Any = model(
        tmp_path,
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, device="cpu")
        self.table = nn.Embedding(4, 2, padding_idx=1, device="cpu")
        self.slope = nn.Parameter(torch.empty(2, device="cpu").fill_(7))
        self.on_cpu = torch.zeros(2, device="cpu")
    def forward(self, x): return x
""",
    )
    assert found.norm.running_var.tolist() == found.norm.weight.tolist() == [1, 1, 1]
    assert found.norm.running_mean.tolist() == [0, 0, 0]
    assert int(found.norm.num_batches_tracked) == 0
    assert found.table.weight[1].tolist() == found.on_cpu.tolist() == [0, 0]
    assert found.table.weight.std() > 0
    assert found.slope.tolist() == [7, 7]


def test_what_torch_refuses_to_fill_is_refused(tmp_path: Path) -> None:
    text = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Linear(3, 3)
        self.part.bias.fill_(0.5)
    def forward(self, x): return self.part(x)
"""
    with pytest.raises(BuildError, match="leaf Variable that requires grad"):
        model(tmp_path, text)
    found: Any = model(tmp_path, text.replace("self.part.bias.fill_(0.5)", "self.part.bias.data.fill_(0.5)"))
    assert found.part.bias.is_meta


def test_a_mode_of_the_models_own_sees_what_it_makes() -> None:
    seen: list[str] = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    with unfilled.Unfilled(False), unfilled.OnMeta(), Mode():
        torch.zeros(2)
    assert seen[0] == "aten::zeros"


def test_torchs_own_methods_are_back_afterwards() -> None:
    before = {(owner, name): vars(owner)[name] for owner, name, _ in unfilled._RESETS}

    def fail() -> None:
        with unfilled.layers():
            assert vars(nn.Linear)["reset_parameters"] is not before[nn.Linear, "reset_parameters"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {(owner, name): vars(owner)[name] for owner, name, _ in unfilled._RESETS} == before
    theirs = lambda self: None  # noqa: E731  # as a model does it
    try:
        with unfilled.layers():
            nn.Linear.reset_parameters = theirs  # type: ignore[method-assign]  # as a model does it
        assert nn.Linear.reset_parameters is theirs
    finally:
        nn.Linear.reset_parameters = before[nn.Linear, "reset_parameters"]  # type: ignore[method-assign]  # back
    with unfilled.Unfilled(False), unfilled.OnMeta():
        assert torch.get_default_device() == torch.device("meta")
