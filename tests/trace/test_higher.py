"""Operators that take functions (flex_attention, cond, while_loop, scan), Triton, programs of torch.export in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import roofline
from roofline.cost import registry
from roofline.errors import UsageError
from roofline.records import Analysis

flex: Any = pytest.importorskip("torch.nn.attention.flex_attention")
Q = torch.rand(2, 4, 64, 16)
PAIRS = 2 * 4 * 64 * 64


def analysed(module: nn.Module, *args: Any, **options: Any) -> Analysis:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said on stderr either
        return roofline.analyze(module, args=args, device="t4", cache=False, **options)


class Net(nn.Module):
    """Calls a function of itself and its inputs."""

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.body = body

    def forward(self, *args: Any) -> Any:
        return self.body(self, *args)


def causal(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    return torch.where(i >= j, s, -float("inf"))


@pytest.mark.parametrize(
    "body",
    [
        lambda m, q: flex.flex_attention(q, q, q, score_mod=causal),
        lambda m, q: torch.compile(flex.flex_attention)(q, q, q),
        lambda m, q: flex.flex_attention(q, q[:, :2], q[:, :2], enable_gqa=True, scale=0.5),
        lambda m, q: flex.flex_attention(q, q, q, return_lse=True)[0],
    ],
)
def test_flex_attention(body: Callable[..., Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # return_lse, for older torch
        result = roofline.analyze(Net(body), args=[Q], device="t4", cache=False)
    assert result.totals.macs == PAIRS * (16 + 16)
    assert sum(k.op == "higher_order.flex_attention" for k in result.kernels) == 1
    assert result.coverage.unknown_ops == []


def test_a_score_of_ones_own_is_counted() -> None:
    """Scale and softmax 6 for each score; of its own a compare (a choice is free), or a slope with a subtraction for ALiBi."""
    for score, own in ((None, 0), (causal, 1), (lambda s, b, h, i, j: s + (j - i) * 0.5, 3)):
        result = analysed(Net(lambda m, q, s=score: flex.flex_attention(q, q, q, score_mod=s)), Q)
        kernel = next(k for k in result.kernels if k.op == "higher_order.flex_attention")
        assert kernel.flops == PAIRS * (2 * 32 + 6 + own)


def test_a_mask_of_blocks_is_said() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = flex.create_block_mask(lambda b, h, i, j: i - j < 16, None, None, 64, 64, device="cpu")

        def forward(self, q: torch.Tensor) -> Any:
            return flex.flex_attention(q, q, q, block_mask=self.mask)

    module = Masked()
    result = analysed(module, Q)
    assert result.totals.macs == PAIRS * 32
    assert "flex_attention: every score was counted, those too that its block mask leaves out" in result.notes
    assert module.mask.kv_num_blocks.device.type == "cpu"
    assert module(Q[:1]).shape == (1, 4, 64, 16)


def test_flex_attention_in_training() -> None:
    """One forward and the 2.5 forwards of a backward that keeps no scores; and a weight's gradient."""
    result = analysed(Net(lambda m, q: flex.flex_attention(*[m.a(q)] * 3)), Q, training=True)
    assert result.totals.macs == PAIRS * 32 * 7 // 2 + 2 * (2 * 4 * 64 * 16 * 16)


ONE = 5 * 3 * 16 * 16  # a linear layer over X
X = torch.rand(5, 3, 16)


def higher(name: str) -> Any:
    module: ModuleType = pytest.importorskip(f"torch._higher_order_ops.{name}")
    return getattr(module, name)


def loop(condition: Callable[..., Any]) -> Callable[..., Any]:
    return lambda m, x: higher("while_loop")(condition, lambda i, x: (i + 1, m.a(x)), (torch.tensor(0), x))


@pytest.mark.parametrize(
    ("body", "macs", "note"),
    [
        (lambda m, x: torch.cond(x.shape[0] > 4, lambda x: m.a(m.b(x)), m.b, (x,)), 2 * ONE, ""),
        (lambda m, x: torch.cond(torch.tensor(False), m.a, lambda x: m.a(m.b(x)), (x,)), 2 * ONE, ""),
        (loop(lambda i, x: i < 4), 4 * ONE, ""),
        (lambda m, x: higher("scan")(lambda c, v: ((c + m.a(v)).clone(), (c * v).clone()), x[0], x, dim=0), ONE, ""),
        (lambda m, x: higher("map")(lambda v: m.a(v), x), ONE, ""),
    ],
)
def test_branches_and_loops_that_sizes_and_counters_decide(body: Callable[..., Any], macs: int, note: str) -> None:
    result = analysed(Net(body), X)
    assert result.totals.macs == macs
    assert not any("data decide" in n or "real tensors" in n for n in result.notes)


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (
            lambda m, x: torch.cond(x.sum() > 0, m.a, lambda x: m.b(m.b(x)), (x,)),
            "torch.cond: data decide which branch runs; the first one was counted",
        ),
        (
            loop(lambda i, x: x.sum() < 4),
            "while_loop: data decide how often it turns; 1 turn was counted; --turns N counts N of them",
        ),
    ],
)
def test_branches_and_loops_that_data_decide(body: Callable[..., Any], note: str) -> None:
    result = roofline.analyze(Net(body), args=[X.to("meta")], device="t4", cache=False)
    assert result.totals.macs == ONE
    assert note in result.notes


def test_a_loop_that_data_end_turns_as_often_as_asked() -> None:
    net = Net(loop(lambda i, x: x.sum() < 4))
    result = roofline.analyze(net, args=[X.to("meta")], turns=7, cache=False)
    assert result.totals.macs == 7 * ONE
    assert result.setting.turns == 7
    assert "while_loop: data decide how often it turns; 7 turns were counted, as --turns says" in result.notes
    for other in (lambda m, x: m.a(x), loop(lambda i, x: i < 4)):
        with pytest.raises(UsageError, match="leave --turns out"):
            roofline.analyze(Net(other), args=[X.to("meta")], turns=7, cache=False)


def test_loops_have_an_end_and_gradients_are_refused() -> None:
    with pytest.raises(UsageError, match="does not end within 10,000 turns"):
        roofline.analyze(
            Net(lambda m, x: higher("while_loop")(lambda i: i >= 0, lambda i: (i + 1,), (torch.tensor(0),))),
            args=[X],
            device="t4",
            cache=False,
        )
    with pytest.raises(UsageError, match="the model calls cond, which is traced in inference only: leave training out"):
        roofline.analyze(
            Net(lambda m, x: torch.cond(x.sum() > 0, m.a, m.b, (x,))),
            args=[X.to("meta")],
            device="t4",
            cache=False,
            training=True,
        )


def test_kernels_of_triton_and_operators_of_ones_own() -> None:
    triton = pytest.importorskip("triton")
    runs = triton.runtime.jit.JITFunction.run

    @triton.jit
    def twice(x: Any, y: Any, n: Any) -> None:
        return

    @torch.library.custom_op("roofline_higher::plain", mutates_args=())
    def plain(x: torch.Tensor) -> torch.Tensor:
        return x.relu()

    def body(m: Net, x: torch.Tensor) -> torch.Tensor:
        y = torch.empty_like(x)
        twice[(4,)](x, y, x.numel())
        return plain(m.a(y))

    result = analysed(Net(body), X)
    assert {u.op for u in result.coverage.unknown_ops} == {"roofline_higher.plain", "triton.twice"}
    assert next(k for k in result.kernels if k.op == "triton.twice").bytes >= 2 * 4 * 240  # x and y, once each at least
    assert triton.runtime.jit.JITFunction.run is runs


def test_a_program_in_memory() -> None:
    """As it was exported, with its own inputs; in the mode that it was exported in."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(16, 8)

        def forward(self, x: torch.Tensor, flag: bool = True, scale: float | None = None) -> torch.Tensor:
            return self.a(x).relu() if flag else x

    program = torch.export.export(Small().eval(), (torch.rand(2, 16), True, None))
    for model, args in (
        (program, None),
        (program, (torch.rand(2, 16), True, None)),
        (program.module(), (X[0, :2], True, None)),
    ):
        result = roofline.analyze(model, args=args, device="t4", cache=False)
        assert result.totals.macs == 2 * 16 * 8
        assert result.model.params == 16 * 8 + 8
    note = "a part of it is an exported program, which runs in the mode that it was exported in"
    assert note in roofline.analyze(program, device="t4", cache=False, training=True).notes


def test_a_rule_may_take_the_place_of_another() -> None:
    before = dict(registry.RULES)
    try:
        with pytest.raises(UsageError, match="override=True takes its place"):
            roofline.register_flops("aten.relu")(lambda *a, **k: 7)
        roofline.register_flops("aten.relu", kind="pointwise", override=True)(lambda *a, out, **k: 7)
        result = analysed(Net(lambda m, x: m.a(x).relu()), X)
        assert next(k for k in result.kernels if k.op == "relu").flops == 7
    finally:
        registry.RULES.clear()
        registry.RULES.update(before)
        registry.changed()
