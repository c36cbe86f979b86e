"""Whole recurrent layers: what their metadata rule says is what torch makes of them step by step, and the rest follows."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import roofline
from roofline.tracing import memo, meta_recurrent, operators

ROWS, STEPS, WIDTH = 3, 4, 5
KINDS = [
    ("LSTM", {}),
    ("LSTM", {"proj_size": 2}),
    ("GRU", {}),
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
]


def layer(kind: str, **options: Any) -> nn.Module:
    module: nn.Module = getattr(nn, kind)(WIDTH, 6, **options)
    return module


def calls(module: nn.Module, *args: Any) -> list[tuple[Any, tuple[Any, ...], Any]]:
    """The recurrent operators of a forward on meta tensors, their arguments, and what torch makes of them step by step."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[tuple[Any, tuple[Any, ...], Any]] = []

    class Look(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if str(func) in meta_recurrent.RULES:
                seen.append((func, args, result))
            return result

    with torch.inference_mode(), Look():  # type: ignore[no-untyped-call]  # torch's own
        module(*args)
    return seen


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_rule_says_what_the_steps_make(
    kind: str, options: dict[str, Any], layers: int, both: bool, first: bool, bias: bool
) -> None:
    module = layer(kind, num_layers=layers, bidirectional=both, batch_first=first, bias=bias, **options).to("meta")
    ((func, args, real),) = calls(module, torch.empty(ROWS, STEPS, WIDTH, device="meta"))
    found = meta_recurrent.RULES[str(func)](*args)
    assert found == [(tuple(t.shape), t.stride(), t.dtype) for t in real]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_packed(kind: str, options: dict[str, Any], both: bool) -> None:
    """9 steps in all: rows of 4, 3 and 2."""
    module = layer(kind, num_layers=2, bidirectional=both, **options)
    packed = PackedSequence(torch.randn(9, WIDTH), torch.tensor([3, 3, 2, 1]))
    ((func, args, real),) = calls(module, packed)
    assert str(func).endswith(".data")
    assert meta_recurrent.RULES[str(func)](*args) == [(tuple(t.shape), t.stride(), t.dtype) for t in real]


@pytest.mark.parametrize(
    ("x", "state"), [((STEPS, ROWS, WIDTH + 1), None), ((0, ROWS, WIDTH), None), ((STEPS, ROWS, WIDTH), (1, ROWS + 1, 6))]
)
def test_what_torch_refuses_is_left_to_torch(x: tuple[int, ...], state: tuple[int, ...] | None) -> None:
    module = layer("GRU")
    hx = torch.zeros(state or (1, ROWS, 6))
    rule = meta_recurrent.RULES["aten.gru.input"]
    assert rule(torch.zeros(x), hx, list(module.parameters()), True, 1, 0.0, False, False, False) is None


class Tagger(nn.Module):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.r, self.head = layer(kind, **options), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.r(x)[0]).sum()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("device", ["t4", "epyc-9654"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_counts_bytes_kernels_and_memory_as_by_steps(
    kind: str, device: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Tagger(kind, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
    args = [torch.randn(ROWS, STEPS, WIDTH)]
    found = roofline.analyze(model, args=args, device=device, training=training)
    with monkeypatch.context() as m:
        m.setattr(meta_recurrent, "RULES", {})
        m.setattr(operators, "_funcs", {})
        memo.calls.clear()
        stepwise = roofline.analyze(model, args=args, device=device, training=training)
    memo.calls.clear()
    assert found == stepwise


def test_a_first_look_at_400_steps_is_quick() -> None:
    """Step by step it is more than 3 s of a processor."""
    model, x = nn.LSTM(WIDTH, 6, batch_first=True), torch.randn(2, 401, WIDTH)
    start = time.process_time()
    found = roofline.analyze(model, args=[x], device="t4")
    assert time.process_time() - start < 1
    assert found.totals.macs == 2 * 401 * 4 * 6 * (WIDTH + 6)
