"""The largest batch that fits, against tracing every batch; the search is over when it is known, and what fits needs none."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from torch import nn

import roofline
from roofline.advice.brief import said
from roofline.devices.device import Device
from roofline.devices.library import lookup


def of(size: int) -> Device:
    """A T4 with so many bytes."""
    t4 = lookup("t4")
    return replace(t4, levels=(*t4.levels[:-1], replace(t4.levels[-1], size=size)))


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 256, 10))


@pytest.mark.parametrize("training", [False, True])
def test_of_a_module(training: bool) -> None:
    inputs = ["1,3,16,16"]
    peaks = {
        b: roofline.analyze(net(), device="t4", inputs=inputs, batch=b, training=training).totals.peak_memory_bytes
        for b in range(1, 25)
    }
    assert list(peaks.values()) == sorted(peaks.values())
    size = (peaks[9] + peaks[10]) // 2
    found = roofline.analyze(net(), device=of(size), inputs=inputs, batch=24, training=training)
    assert (found.totals.fits, found.totals.largest_batch) == (False, 9)
    assert "; the largest batch that fits is 9. If it did" in said(found)[0]
    assert roofline.analyze(net(), device=of(peaks[10]), inputs=inputs, batch=10, training=training).totals.fits is True


def test_of_a_file_and_from_the_cache(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("from torch import nn\nNet = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))\n")
    peaks = [roofline.analyze(f"{file}:Net", device="t4", inputs=["1,64"], batch=b).totals.peak_memory_bytes for b in (1, 40)]
    ask = {"device": of(peaks[1] - 1), "inputs": ["1,64"]}
    first = roofline.analyze(f"{file}:Net", batch=4000, **ask)
    assert first.totals.largest_batch == 39
    assert roofline.analyze(f"{file}:Net", batch=4000, **ask) == first
    # parameters: 64 x 64 + 64 and 64 x 8 + 8 in fp32
    alone = roofline.analyze(f"{file}:Net", device=of(4 * 4680 - 1), inputs=["1,64"], batch=1)
    assert "; its parameters alone take 18.3 KiB. If" in said(alone)[0]


def test_example_tensors_have_one_batch() -> None:
    import torch

    # parameters and buffers take 4 * 41,482 bytes
    found = roofline.analyze(net(), device=of(200_000), args=[torch.zeros(8, 3, 16, 16)])
    assert (found.totals.fits, found.totals.largest_batch) == (False, None)
    assert "and there is 195 KiB. If it did" in said(found)[0]


def test_a_cpu_of_unknown_memory_claims_nothing() -> None:
    found = roofline.analyze(net(), device="i9-10940x", inputs=["1,3,16,16"], batch=10**6)
    assert found.totals.fits is None
    assert not any("fit" in sentence for sentence in said(found))
