"""Our counts beside fvcore's and torch's: equal where they know the operator, explained where they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roofline.request import Ask, Request
from roofline.validation.crosscheck import Crosscheck, crosscheck, rounds_to
from roofline.views import counts

NETS = """
import torch
from torch import nn
from torch.nn import functional as F

ROOFLINE = {
    "plain": {"make": "Plain", "inputs": {"x": [2, 3, 8, 8]}},
    "attention": {"make": "Attention", "inputs": {"x": [1, 10, 16]}},
    "recurrent": {"make": "Recurrent", "inputs": {"x": [1, 10, 16]}},
    "named": {"make": "Named", "inputs": {"left": [4, 8], "right": [8, 2]}},
    "untraceable": {"make": "Untraceable", "inputs": {"x": [4, 8]}},
}


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, groups=3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        y = self.head(self.up(self.norm(self.conv(x))).mean((2, 3)))
        return y @ y.T


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        return self.mix(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Named(nn.Module):
    def forward(self, right, left=None):
        return {"product": left @ right}


class Untraceable(nn.Module):
    def forward(self, x):
        return object()
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS, encoding="utf-8")
    return path


def by_layer(found: Crosscheck) -> dict[str, tuple[int, int | None, int | None]]:
    return {row.layer: (row.ours, row.fvcore, row.torch) for row in found.rows}


def test_convolutions_and_products_are_equal_in_all_three(nets: Path) -> None:
    found = crosscheck(Request(Ask(f"{nets}:plain")))
    conv = 2 * 6 * 8 * 8 * 9
    up = 2 * 6 * 8 * 8 * 4 * 4
    assert by_layer(found)["conv"] == (conv,) * 3
    assert by_layer(found)["up"] == (up,) * 3
    assert by_layer(found)["head"] == (2 * 4 * 5,) * 3
    assert by_layer(found)[""] == (2 * 2 * 5,) * 3
    assert found.ours == found.fvcore == found.torch == conv + up + 40 + 20
    assert found.fvcore_other == 2 * 2 * 6 * 8 * 8  # its batch norm: two for each element
    assert found.differing == []
    assert "every one of 4 layers with products agrees" in counts.render(found)


def test_what_they_miss_is_said(nets: Path) -> None:
    attention = crosscheck(Request(Ask(f"{nets}:attention")))
    assert attention.ours == 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16
    (row,) = attention.differing
    assert row.layer == "mix"
    assert "fused operator" in row.why or "has no rule for scaled_dot_product_attention" in row.why
    recurrent = crosscheck(Request(Ask(f"{nets}:recurrent")))
    (row,) = recurrent.differing
    assert (row.layer, row.ours, row.fvcore, row.torch) == ("rnn", 10 * 4 * 8 * (16 + 8), 0, 0)
    assert row.why == "fvcore has no rule for lstm; FlopCounterMode has no rule for lstm"
    text = counts.render(recurrent)
    assert "1 of 2 layers with products differ" in text
    assert "1 layer: fvcore has no rule for lstm" in text


def test_inputs_by_name_and_outputs_in_a_mapping(nets: Path) -> None:
    found = crosscheck(Request(Ask(f"{nets}:named")))
    assert found.ours == found.fvcore == found.torch == 4 * 8 * 2


def test_a_tool_that_fails_is_named_and_the_others_stand(nets: Path) -> None:
    found = crosscheck(Request(Ask(f"{nets}:untraceable")))
    assert found.torch == 0
    assert (found.fvcore is None) == ("fvcore" in found.failed)
    assert counts.render(found)


def test_numbers_in_print() -> None:
    found = crosscheck(Request(Ask("mobilenet_v2")))
    assert found.published
    assert all(p.agrees or p.why for p in found.published)
    vision = crosscheck(Request(Ask("torchvision:mobilenet_v3_small")))
    assert [(p.what, p.value, p.agrees) for p in vision.published] == [("params", "2542856", True), ("macs", "0.057 G", True)]
    # in another form than the printed one nothing is compared
    assert crosscheck(Request(Ask("mobilenet_v2", resolution=96))).published == []


ROUNDING: list[tuple[int, str, bool]] = [
    (568_740_352, "569 M", True),
    (568_499_000, "569 M", False),
    (4_231_976, "4.2 M", True),
    (4_251_000, "4.2 M", False),
    (17_563_828_224, "17.564 G", True),
    (3_504_872, "3504872", True),
    (3_504_873, "3504872", False),
]


@pytest.mark.parametrize(("value", "text", "agrees"), ROUNDING)
def test_rounding_of_printed_numbers(value: int, text: str, agrees: bool) -> None:
    assert rounds_to(value, text) is agrees


def test_command(nets: Path, run_cli: Any) -> None:
    done = run_cli("crosscheck", f"{nets}:plain", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fvcore"] == json.loads(done.stdout)["ours"]
    done = run_cli("crosscheck", f"{nets}:plain", "--all")
    assert "conv2d" in done.stdout
    assert "FlopCounterMode" in done.stdout
