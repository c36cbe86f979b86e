"""`channels_last`: what lies otherwise, what stays, and that it is what `to(memory_format=...)` makes of a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import roofline
from roofline.errors import UsageError
from roofline.tracing.trace import trace


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 32, 3)
        self.second = nn.Conv2d(32, 32, 1)
        self.register_buffer("shift", torch.zeros(1, 32, 1, 1))
        self.head = nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head((self.second(self.first(x)) + self.shift).mean((2, 3)))


X = torch.zeros(4, 16, 18, 18)
LAST = torch.channels_last


def strides(model: nn.Module, x: torch.Tensor, **how: Any) -> list[Any]:
    found = trace(model, [x], **how)
    return [[(t.shape, t.stride) for t in (*spec.inputs, *spec.outputs)] for spec in found.specs]


@pytest.mark.parametrize("how", [{}, {"real": True}, {"optimizer": "sgd"}, {"dtype": "amp", "device_kind": "gpu"}])
def test_it_is_what_to_makes_of_a_model_and_its_input(how: dict[str, Any]) -> None:
    asked = strides(Net(), X, channels_last=True, **how)
    assert asked == strides(Net().to(memory_format=LAST), X.to(memory_format=LAST), **how)
    assert asked != strides(Net(), X, **how)


def test_volumes_turn_too() -> None:
    net, x = nn.Conv3d(8, 8, 3), torch.zeros(2, 8, 6, 6, 6)
    last = torch.channels_last_3d
    expected = strides(nn.Conv3d(8, 8, 3).to(memory_format=last), x.to(memory_format=last))
    assert strides(net, x, channels_last=True) == expected != strides(net, x)


def test_work_stays_the_copies_around_convolutions_go_and_the_model_is_left_as_it_was() -> None:
    net = Net()
    before = {name: t.stride() for name, t in net.state_dict().items()}
    asked: dict[str, Any] = {"args": [X], "device": "a100-sxm-80gb", "dtype": "fp16", "host": "1 ns"}
    rows, last = (roofline.analyze(net, channels_last=how, **asked) for how in (False, True))
    assert (rows.totals.macs, rows.totals.flops, rows.model.params) == (last.totals.macs, last.totals.flops, last.model.params)
    assert last.totals.time_s < rows.totals.time_s
    assert {name: t.stride() for name, t in net.state_dict().items()} == before
    assert not rows.setting.channels_last
    assert last.setting.channels_last
    assert "fp16, channels-last" in repr(last)


def test_where_there_is_no_image_it_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing would lie otherwise: leave --channels-last out"):
        roofline.analyze(nn.Linear(4, 4), args=[torch.zeros(2, 4)], channels_last=True)


def test_explain_tries_it_where_there_are_convolutions() -> None:
    found = roofline.explain("resnet18", device="t4", batch=32, dtype="fp16", host="1 us")
    saving = next(s for s in found.savings["t4"] if s.what == "channels-last")
    assert saving.times.value > 1.05
    assert "to(memory_format=torch.channels_last)" in saving.effort


def test_a_row_of_a_sweep_says_its_layout(tmp_path: Any) -> None:
    from roofline.sweeps import grid, run
    from roofline.sweeps.pool import Limits

    asked = grid.made(["resnet18"], ["t4"], {"channels_last": True, "dtype": ["fp16"]})
    report = run.sweep(asked, tmp_path / "rows.csv", run.here(asked, 0, Limits()), cache=False)
    assert report.rows == 1
    header, row = (tmp_path / "rows.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["layout"] == "channels-last"
