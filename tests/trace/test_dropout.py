"""Dropout: where it is off nothing runs, in every kind of pass and under every torch; where it is on, it is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import roofline
from roofline.bench import op_timer, sampling

KINDS = ["dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"]
SHAPES = {"dropout1d": (2, 3, 8), "dropout2d": (2, 3, 8, 8), "dropout3d": (2, 3, 4, 4, 4)}


class Net(nn.Module):
    """A linear layer behind whatever drops."""

    def __init__(self, drop: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.drop, self.head = drop, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(x))


def ops(kind: str, drop: Callable[[Tensor], Tensor], **asked: Any) -> list[str]:
    x = torch.zeros(SHAPES.get(kind, (2, 8)))
    a = roofline.analyze(Net(drop, x.shape[-1]), args=[x], device="t4", cache=False, **asked)
    return [k.op for k in a.kernels]


LAYERS = {
    "dropout": nn.Dropout,
    "alpha_dropout": nn.AlphaDropout,
    "feature_alpha_dropout": nn.FeatureAlphaDropout,
    "dropout1d": nn.Dropout1d,
    "dropout2d": nn.Dropout2d,
    "dropout3d": nn.Dropout3d,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_layer_in_evaluation_is_no_kernel(kind: str, inplace: bool) -> None:
    assert ops(kind, LAYERS[kind](0.3, inplace=inplace)) == ["linear"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [{}, {"training": True, "optimizer": "sgd"}, {"dtype": "amp"}], ids=["eval", "train", "amp"])
def test_the_function_that_is_switched_off_is_no_kernel(kind: str, asked: dict[str, Any]) -> None:
    """Torch takes `dropout` apart into a copy below 2.14."""
    drop = getattr(F, kind)
    assert ops(kind, lambda x: drop(x, 0.3, training=False), **asked) == ops(kind, lambda x: x, **asked)


@pytest.mark.parametrize("asked", [{}, {"training": True, "optimizer": "sgd"}], ids=["eval", "train"])
def test_dropping_nothing_is_no_kernel(asked: dict[str, Any]) -> None:
    assert ops("dropout", lambda x: F.dropout(x, 0.0, training=True), **asked) == ops("dropout", lambda x: x, **asked)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_dropout_that_is_on_is_counted(p: float) -> None:
    """Monte-Carlo dropout: switched on in evaluation. On a GPU training has one kernel for it."""
    on = ops("dropout", lambda x: F.dropout(x, p, training=True))
    assert on[-1] == "linear"
    assert len(on) > 1
    trained = ops("dropout", lambda x: F.dropout(x, p, training=True), training=True, optimizer="sgd")
    without = ops("dropout", lambda x: x, training=True, optimizer="sgd")
    # a draw needs no gradient of an input; dropping all is a product with zero
    assert len(trained) == len(without) + (1 if p < 1 else 2)


def test_rrelu_in_evaluation_is_one_kernel() -> None:
    assert ops("rrelu", nn.RReLU()) == ["rrelu_with_noise", "linear"]


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_attention_in_evaluation_drops_nothing(p: float) -> None:
    """`need_weights` takes the path of plain products, the other that of one kernel."""
    attention = nn.MultiheadAttention(8, 2, dropout=p, batch_first=True)
    for weights in (False, True):
        a, b = (
            roofline.analyze(
                module, args=[torch.zeros(1, 4, 8)] * 3, kwargs={"need_weights": weights}, device="t4", cache=False
            )
            for module in (attention, nn.MultiheadAttention(8, 2, batch_first=True))
        )
        assert [k.op for k in a.kernels] == [k.op for k in b.kernels]
        assert a.totals.flops == b.totals.flops


def test_no_time_is_measured_for_it() -> None:
    model, x = nn.Sequential(nn.Dropout(), nn.Linear(8, 2), nn.Dropout(inplace=True)).eval(), torch.zeros(4, 8)
    with torch.inference_mode(), sampling.Waiting() as waiting:
        assert [name for name, _, _ in op_timer.HostClock(lambda: model(x), waiting).ops()] == ["aten.linear"]
