"""What goes in from Python: calls with tensors anywhere in them, functions, lazy layers, outputs of any class, examples beside
a model. Every number is counted by hand."""

from __future__ import annotations

import collections
import dataclasses
import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import roofline
from roofline.errors import ModelError, UsageError
from roofline.records import Analysis

STEP = 8 * 16  # MACs of a row
X = torch.zeros(3, 8)


class Of(nn.Module):
    """A linear layer 8 -> 16 and what a function does with it."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.lin, self.call = nn.Linear(8, 16), forward

    def forward(self, *args: Any) -> Any:
        return self.call(self.lin, *args)


@dataclasses.dataclass(frozen=True)
class Batch:
    x: Tensor
    n: int = 3


class Slots:
    __slots__ = ("x",)

    def __init__(self, x: Tensor) -> None:
        self.x = x


class Own:
    def __init__(self, x: Tensor) -> None:
        self.x, self.own = x, self


class Attributes(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


def analyze(model: Any, *args: Any, **options: Any) -> Analysis:
    return roofline.analyze(model, device="t4", cache=False, args=args, **options)


@pytest.mark.parametrize("kind", [Batch, Slots, Own, lambda x: Attributes(x=x)])
def test_tensors_in_objects_are_found_and_the_class_stays(kind: Any) -> None:
    given = kind(X)

    def forward(lin: nn.Module, batch: Any) -> Any:
        assert type(batch) is type(given)
        return lin(batch.x)

    found = analyze(Of(forward), given)
    assert (found.totals.macs, found.setting.batch) == (3 * STEP, 3)
    assert found.model.inputs[0].shape == (3, 8)
    assert given.x is X


@pytest.mark.parametrize(
    "given",
    [
        collections.UserDict(x=X),
        collections.OrderedDict(x=X),
        collections.deque([X]),
        {"x": (X, [X])},
        types.MappingProxyType({"x": X}),
        collections.ChainMap({"x": X}, {"y": 1}),
    ],
)
def test_containers_of_any_class(given: Any) -> None:
    def forward(lin: nn.Module, batch: Any) -> Any:
        assert type(batch) is type(given)
        x = batch[0] if isinstance(batch, collections.deque) else batch["x"]
        return lin(x[0] if isinstance(x, tuple) else x)

    assert analyze(Of(forward), given, dtype="fp16").totals.macs == 3 * STEP


def test_what_can_be_read_once_is_refused_with_what_to_give() -> None:
    with pytest.raises(UsageError, match=r"is a generator, which can be read once.*give list\(\.\.\.\) of it"):
        analyze(Of(lambda lin, rows: [lin(x) for x in rows]), (x for x in [X]))


def test_what_a_model_changes_in_its_arguments_stays_in_its_copy() -> None:
    x, seen = torch.zeros(3, 8), Own(torch.zeros(1))

    def forward(lin: nn.Module, x: Tensor, seen: Own) -> Any:
        x += 1
        seen.x = lin(x)
        return seen.x if float(x.sum()) > 0 else None

    analyze(Of(forward), x, seen)
    assert not x.any()
    assert seen.x.shape == (1,)


def test_a_function_is_analysed_with_the_modules_that_it_reaches() -> None:
    lin, head = nn.Linear(8, 8), nn.Linear(8, 4)

    class Trainer:
        def __init__(self) -> None:
            self.model = head

        def step(self, x: Tensor) -> Any:
            return self.model(x)

    def loop(x: Tensor, turns: int = 4) -> Any:
        for _ in range(turns):
            x = lin(x)
        return head(x)

    found = analyze(loop, X)
    assert (found.totals.macs, found.model.params) == (3 * (4 * 64 + 32), 72 + 36)
    assert {layer.path for layer in found.layers} == {"", "lin", "head"}
    assert found.model.name == "loop"
    assert analyze(Trainer().step, X).model.params == 36
    assert analyze(functools.partial(loop, turns=2), X).totals.macs == 3 * (2 * 64 + 32)
    with pytest.raises(UsageError, match=r"the model is a function .* give its call with args"):
        roofline.analyze(loop)


def test_a_function_trains_on_the_loss_that_it_returns() -> None:
    """Forward and the gradient of the weight: x needs none."""
    head = nn.Linear(8, 16)
    found = analyze(lambda x, y: F.cross_entropy(head(x), y), X, torch.zeros(3, dtype=torch.long), training=True)
    assert found.totals.macs == 2 * 3 * STEP
    assert any(note.startswith("training step: loss is what the function returns") for note in found.notes)


def test_a_function_sets_the_modes_of_its_modules() -> None:
    """A forward in training mode without a backward: the dropout runs, the batch norm counts, and all is as it was."""
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)).eval()
    ops = [kernel.op for kernel in analyze(lambda x: net.train()(x), X).kernels]
    assert "bernoulli_" in ops
    assert not net.training
    assert net[1].num_batches_tracked == 0


@pytest.mark.parametrize("training", [False, True])
def test_lazy_layers_learn_their_sizes_in_a_copy(training: bool) -> None:
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    found = analyze(net, torch.zeros(2, 3, 5, 5), training=training)
    forward = 2 * 9 * 4 * 27, 2 * 36 * 2
    assert found.totals.macs == (sum(forward) if not training else 2 * forward[0] + 3 * forward[1])
    assert found.model.params == 4 * 28 + 8 + 2 * 37
    assert isinstance(net[0].weight, nn.parameter.UninitializedParameter)
    with pytest.raises(ModelError, match="in its first call, which tells its lazy layers their sizes"):
        analyze(nn.Sequential(nn.LazyLinear(4), nn.Linear(5, 5)), X)


@pytest.mark.parametrize("output", [Batch, lambda y: torch.distributions.Normal(y, 1.0), torch.fft.fft])
def test_training_finds_what_depends_on_parameters_in_any_output(output: Any) -> None:
    assert analyze(Of(lambda lin, x: output(lin(x))), X, training=True).totals.macs == 2 * 3 * STEP


def test_a_tensor_beside_the_parameters_keeps_its_gradient() -> None:
    net = Of(lambda lin, x: lin(x) * net.scale)
    net.scale = torch.ones(16, requires_grad=True)
    assert analyze(net, X, training=True).totals.macs == 2 * 3 * STEP
    assert net.scale.grad is None


NET = """
import torch
from torch import nn

MEAN = 0.5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 16).cuda()
        self.register_buffer("mean", torch.full((8,), MEAN, device="cuda"))

    def forward(self, x, lengths):
        return self.lin((x - self.mean)[:, : lengths.max()])


def example(batch=2):
    return torch.rand(batch, 5, 8), torch.tensor([3] * batch)
"""


def test_a_file_offers_an_example_of_its_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """... and a model that asks for a GPU while it is built needs none."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET, encoding="utf-8")

    def macs(**options: Any) -> int:
        return roofline.analyze("net.py:Net", device="t4", cache=False, **options).totals.macs

    assert (macs(), macs(batch=4)) == (2 * 3 * STEP, 4 * 3 * STEP)
    assert macs(inputs=["2,5,8", "[5,4]"]) == 2 * 5 * STEP
    with pytest.raises(UsageError, match=r"example\(\) of .*net.py says the inputs: give it a parameter resolution"):
        macs(resolution=8)
    Path("net.py").write_text(NET + "\n\ndef example():\n    raise ValueError('no data')\n", encoding="utf-8")
    with pytest.raises(roofline.RooflineError, match=r"example\(\) of .*net.py: ValueError: no data"):
        macs()
