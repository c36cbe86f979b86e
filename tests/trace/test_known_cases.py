"""What well-known counters get wrong, each from a module to the number that our user sees.

The cases and the right numbers were collected from the issue trackers of those counters and worked out by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import roofline
from roofline.devices import library
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


def test_attention_on_the_cpu() -> None:
    attention = Call(lambda q: F.scaled_dot_product_attention(q, q, q))
    assert 2 * macs(attention, (1, 12, 64, 64)) == 2 * 2 * 12 * 64 * 64 * 64 == 12_582_912


def test_vision_transformer() -> None:
    assert roofline.analyze("torchvision:vit_b_16", device="t4").totals.macs == pytest.approx(17.564e9, rel=1e-4)


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


@pytest.mark.parametrize(("length", "batch"), [(1, 1), (7, 3)])
def test_lstm(length: int, batch: int) -> None:
    assert macs(nn.LSTM(10, 20), (length, batch, 10)) == 4 * 20 * (10 + 20) * length * batch == 2400 * length * batch


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((8,), (8,), 8), ((4, 8), (8,), 4 * 8), ((2, 1, 4, 8), (3, 8, 5), 2 * 3 * 4 * 8 * 5)],
)
def test_broadcast_matmul(a: tuple[int, ...], b: tuple[int, ...], expected: int) -> None:
    assert macs(Call(torch.matmul), a, b) == expected


def test_linear_with_bias() -> None:
    totals = analysed(nn.Linear(8, 16), (4, 8)).totals
    assert (2 * totals.macs, totals.flops) == (1024, 1024 + 64)


def test_broadcast_add() -> None:
    assert analysed(Call(torch.add), (8, 1024), (1024,)).totals.flops == 8192


def test_transposed_convolution_counts_its_input() -> None:
    assert macs(nn.ConvTranspose2d(8, 4, 3, stride=2), (1, 8, 10, 10)) == 10 * 10 * 8 * 4 * 3 * 3


def test_backward_is_about_twice_forward() -> None:
    a = roofline.analyze("mobilenet_v3_small", device="t4", training=True, optimizer="sgd", cache=False)
    by_phase = {phase: sum(k.macs for k in a.kernels if k.phase == phase) for phase in ("forward", "backward")}
    # the first convolution needs no gradient of its input
    assert by_phase["backward"] == 2 * by_phase["forward"] - 112 * 112 * 16 * 3 * 9


def test_grouped_convolutions() -> None:
    assert roofline.analyze("torchvision:resnext50_32x4d", device="t4").totals.macs == pytest.approx(4.23e9, rel=2e-3)


def test_module_called_twice() -> None:
    shared = nn.Linear(8, 8, bias=False)
    a = analysed(nn.Sequential(shared, shared), (4, 8))
    assert (a.totals.macs, a.model.params) == (2 * 4 * 8 * 8, 64)


def test_the_same_model_twice_in_one_process() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = analysed(model, (1, 3, 8, 8)), analysed(model, (1, 3, 8, 8))
    assert first == second
    assert model.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_under_any_grad_mode(mode: Any) -> None:
    with mode():
        assert macs(nn.Linear(8, 16), (4, 8)) == 4 * 8 * 16


def test_convolution_with_same_padding() -> None:
    same, explicit = nn.Conv2d(3, 8, 5, padding="same"), nn.Conv2d(3, 8, 5, padding=2)
    assert macs(same, (1, 3, 16, 16)) == macs(explicit, (1, 3, 16, 16)) == 16 * 16 * 8 * 3 * 25


@pytest.mark.parametrize("function", [torch.sub, torch.div])
def test_subtraction_and_division(function: Any) -> None:
    assert analysed(Call(function), (5, 7), (5, 7)).totals.flops == 35


def test_dense_peaks_of_the_h100() -> None:
    assert library.lookup("h100-sxm").peak("fp16") == pytest.approx(989.4e12, rel=1e-3)
    assert library.lookup("h100-pcie").peak("fp16") == pytest.approx(756e12, rel=1e-2)
