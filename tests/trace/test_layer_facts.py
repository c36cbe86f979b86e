"""What a layer returned, its kernel, its trainable parameters, and what it holds of the peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import roofline
from roofline.analysis import explain, verify
from roofline.records import Analysis, LayerRow
from roofline.views.table import text


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, (3, 5), padding=(1, 2)), nn.ReLU(), nn.MaxPool2d(2))
        self.head, self.aux = nn.Linear(8 * 16, 10), nn.Linear(4, 4)
        self.body.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.head(self.body(x).flatten(1))}


def rows(analysis: Analysis) -> dict[str, LayerRow]:
    return {row.path: row for row in analysis.layers}


def test_output_kernel_trainable_calls_and_memory() -> None:
    found = roofline.analyze(Net(), args=[torch.empty(2, 3, 8, 8)], device="t4")
    layers = rows(found)
    assert {path: row.output for path, row in layers.items()} == {
        "": (2, 10),
        "body": (2, 8, 4, 4),
        "body.0": (2, 8, 8, 8),
        "body.1": (2, 8, 8, 8),
        "body.2": (2, 8, 4, 4),
        "head": (2, 10),
        "aux": None,
    }
    assert {path: row.kernel for path, row in layers.items() if row.kernel} == {"body.0": (3, 5), "body.2": (2,)}
    frozen, head, aux = 8 * 3 * 15 + 8, 10 * 128 + 10, 4 * 4 + 4
    assert found.model.trainable == layers[""].trainable == head + aux
    assert (layers["body"].trainable, layers["body"].params, layers["head"].trainable) == (0, frozen, head)
    assert [path for path, row in layers.items() if not row.calls] == ["aux"]
    # the peak is at the ReLU, whose input (512 elements a row of 2) is still there; the input belongs to the model itself
    assert layers["body.0"].memory_bytes == 4 * (frozen + 2 * 512)
    assert layers["body.1"].memory_bytes == 4 * 2 * 512
    assert layers["aux"].memory_bytes == 4 * aux
    assert layers[""].memory_bytes == found.totals.peak_memory_bytes == 4 * (frozen + head + aux + 2 * 192 + 2 * 2 * 512)
    assert f"{head + aux:,} of them trainable" in dict((n, m) for n, _, m in explain.totals(found))["Parameters"]


@pytest.mark.parametrize("asked", [{}, {"training": True}, {"training": True, "device": "epyc-9654"}, {"runtime": "compiled"}])
def test_what_the_layers_hold_adds_up_to_the_peak(asked: dict[str, Any], tmp_path: Path) -> None:
    found = roofline.analyze(Net(), args=[torch.empty(2, 3, 8, 8)], **{"device": "t4", **asked})
    layers = rows(found)
    assert layers[""].memory_bytes == found.totals.peak_memory_bytes
    assert layers["body"].memory_bytes == sum(layers[f"body.{i}"].memory_bytes for i in range(3))
    if "training" in asked:
        head = 10 * 128 + 10
        # the parameters, their gradients, and two moments of Adam, of the trained layer at least
        assert layers["head"].memory_bytes >= 4 * 4 * head
    verify.check(found, "here")


def test_a_shared_layer_says_its_first_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool1d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pool(self.pool(x))

    row = rows(roofline.analyze(Twice(), args=[torch.empty(1, 2, 8)], device="t4"))["pool"]
    assert (row.calls, row.output, row.kernel) == (2, (1, 2, 4), (2,))


def test_a_wide_terminal_has_the_columns_and_80_columns_do_not() -> None:
    found = roofline.analyze(Net(), args=[torch.empty(2, 3, 8, 8)], device="t4")
    wide = next(line for line in text(found, 150).splitlines() if line.startswith(("│", "├", "└")) and "Conv2d" in line).split()
    assert {"2x8x8x8", "3x5"} <= set(wide)
    heading = next(line for line in text(found, 80).splitlines() if line.startswith("Layer"))
    assert not {"Output", "Kernel", "Memory"} & set(heading.split())
