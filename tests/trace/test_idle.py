"""Parts with parameters that a pass never ran: named with their parameters and share, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import roofline
from roofline.analysis import document


class Towers(nn.Module):
    """A trunk that runs, a tower that needs a second input, experts of which two run, a head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(8, 8)
        self.tower = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(5))
        self.aux = nn.Linear(8, 100)
        self.functional = nn.Linear(8, 4, bias=False)
        self.tied = nn.Linear(8, 4, bias=False)
        self.tied.weight = self.functional.weight
        self.token = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor, image: torch.Tensor | None = None) -> Any:
        x = self.trunk(x)
        if image is not None:
            x = x + self.tower(image)
        x = self.experts[1](x) + self.experts[4](x)
        out = x @ self.functional.weight.T  # read, though the module is never called
        return (out, self.aux(x)) if self.training else out


TOWER = 8 * 16 + 16 + 16 * 8 + 8
EXPERT, AUX = 8 * 8 + 8, 8 * 100 + 100
TOTAL = EXPERT + TOWER + 5 * EXPERT + AUX + 32 + 3


def idle(a: roofline.Analysis) -> dict[str, tuple[str, int, int]]:
    return {part.path: (part.type, part.params, part.count) for part in a.coverage.never_ran}


def test_idle_parts_are_named() -> None:
    a = roofline.analyze(Towers(), device="t4", args=(torch.zeros(1, 8),))
    assert a.model.params == TOTAL
    assert idle(a) == {
        "aux": ("Linear", AUX, 1),
        "tower": ("Sequential", TOWER, 1),
        "experts.*": ("Linear", 3 * EXPERT, 3),
        "token": ("", 3, 1),
    }
    (note,) = [n for n in a.notes if "never ran" in n]
    assert f"aux ({AUX:,} parameters, {100 * AUX / TOTAL:.1f} %)" in note
    assert "experts.* (216 parameters" in note
    assert "token" not in note  # a parameter of a part that ran, and under a hundredth
    assert sum(part.share for part in a.coverage.never_ran) == pytest.approx((AUX + TOWER + 3 * EXPERT + 3) / TOTAL)
    again = document.from_json(document.to_json(a))
    assert again.coverage.never_ran == a.coverage.never_ran


def test_what_is_given_its_input_runs() -> None:
    a = roofline.analyze(Towers(), device="t4", args=(torch.zeros(1, 8),), kwargs={"image": torch.zeros(1, 8)})
    assert "tower" not in idle(a)


def test_training_runs_what_only_training_uses() -> None:
    a = roofline.analyze(Towers(), device="t4", args=(torch.zeros(1, 8),), optimizer="sgd", training=True)
    assert "aux" not in idle(a)
    assert "tower" in idle(a)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.ModuleList(Towers() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(m(x) for m in self.a)


def test_equal_parts_of_equal_blocks_are_one() -> None:
    a = roofline.analyze(Outer(), device="t4", args=(torch.zeros(1, 8),))
    found = idle(a)
    assert found["a.*.tower"] == ("Sequential", 2 * TOWER, 2)
    assert found["a.*.experts.*"] == ("Linear", 6 * EXPERT, 6)


def test_nothing_is_said_where_all_ran() -> None:
    a = roofline.analyze("resnet50", device="t4", cache=False)
    assert a.coverage.never_ran == []
    assert not any("never ran" in n for n in a.notes)


def test_a_view_of_a_parameter_that_is_a_plain_tensor_is_that_parameter() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Parameter(torch.zeros(20))
            self.weight, self.bias = self.flat.detach()[:16].view(4, 4), self.flat.detach()[16:]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight, self.bias)

    found = roofline.analyze(Flat(), args=(torch.rand(2, 4),), device="t4")
    assert not found.coverage.never_ran
    assert found.totals.weight_bytes == 20 * 4
