"""The model zoos at a size that fits into a test run: all of torchvision, and every fourth model of timm.

The full sweep, with its comparison against published numbers, is `make conformance`.
"""

from __future__ import annotations

import pytest

import roofline
from roofline.sources import zoo

VISION = list(zoo.names("torchvision"))
TIMM = list(zoo.names("timm"))[::4]


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"torchvision:{name}" for name in VISION] + [f"timm:{name}" for name in TIMM])
def test_every_op_is_known(name: str) -> None:
    a = roofline.analyze(name, device="t4", cache=False)
    assert a.coverage.unknown_ops == []
    assert a.totals.macs > 0
    assert a.totals.bytes > a.totals.weight_bytes > 0
    assert a.layers[0].flops == a.totals.flops >= 2 * a.totals.macs


def test_the_zoos_are_there() -> None:
    assert len(VISION) > 115
    assert len(TIMM) > 300
