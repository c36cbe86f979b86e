"""What well-known counters get wrong (oracles.known), each from a module to the number that our user sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles.known import KNOWN
from torch import Tensor, nn

import roofline
from roofline.records import Analysis


class Call(nn.Module):
    """A module whose forward is one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def analysed(module: nn.Module, *shapes: tuple[int, ...], **options: Any) -> Analysis:
    return roofline.analyze(module, args=[torch.empty(s, device="meta") for s in shapes], device="t4", **options)


def macs(module: nn.Module, *shapes: tuple[int, ...]) -> int:
    a = analysed(module, *shapes)
    assert a.coverage.unknown_ops == []
    return a.totals.macs


@pytest.mark.parametrize("name", KNOWN)
def test_one_call(name: str) -> None:
    k = KNOWN[name]
    totals = analysed(Call(lambda *tensors: getattr(torch.ops.aten, k.operator)(*tensors, *k.args)), *k.shapes).totals
    assert (totals.macs, totals.flops) == (k.macs, k.flops)


def test_encoder_layer_in_eval_mode_equals_training_mode() -> None:
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    fused, plain = macs(layer.eval(), (2, 10, 64)), macs(layer.train(), (2, 10, 64))
    rows = 2 * 10
    projections = rows * 64 * (3 * 64 + 64 + 2 * 128)
    scores = 2 * 10 * 10 * (64 + 64)
    assert fused == plain == projections + scores


def test_multihead_attention() -> None:
    mha = nn.MultiheadAttention(100, 1, batch_first=True).eval()
    x = torch.empty(1, 1000, 100)
    a = roofline.analyze(mha, args=(x, x, x), device="t4")
    assert a.totals.macs == 4 * 1000 * 100 * 100 + 2 * 1000 * 1000 * 100 == 240_000_000


def test_backward_is_about_twice_forward() -> None:
    a = roofline.analyze("mobilenet_v3_small", device="t4", training=True, optimizer="sgd", cache=False)
    by_phase = {phase: sum(k.macs for k in a.kernels if k.phase == phase) for phase in ("forward", "backward")}
    # the first convolution needs no gradient of its input
    assert by_phase["backward"] == 2 * by_phase["forward"] - 112 * 112 * 16 * 3 * 9


def test_module_called_twice() -> None:
    shared = nn.Linear(8, 8, bias=False)
    a = analysed(nn.Sequential(shared, shared), (4, 8))
    assert (a.totals.macs, a.model.params) == (2 * 4 * 8 * 8, 64)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_under_any_grad_mode(mode: Any) -> None:
    with mode():
        assert macs(nn.Linear(8, 16), (4, 8)) == 4 * 8 * 16


def test_convolution_with_same_padding() -> None:
    same, explicit = nn.Conv2d(3, 8, 5, padding="same"), nn.Conv2d(3, 8, 5, padding=2)
    assert macs(same, (1, 3, 16, 16)) == macs(explicit, (1, 3, 16, 16)) == 16 * 16 * 8 * 3 * 25
