"""The model zoos at a size that fits into a test run: torchvision, and every sixth model of timm.

The full sweep, with its comparison against published numbers, is `make conformance`.
"""

from __future__ import annotations

import pytest

import roofline
from roofline.sources import zoo

VISION = list(zoo.names("torchvision"))
TIMM = list(zoo.names("timm"))[::6]
# seconds each, and what runs in them runs in their second versions or smaller siblings too
LONG = {
    "maskrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "quantized_resnext101_64x4d",
    "quantized_resnext101_32x8d",
    "quantized_inception_v3",
    "quantized_shufflenet_v2_x1_5",
    "quantized_shufflenet_v2_x2_0",
    "quantized_shufflenet_v2_x0_5",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [f"torchvision:{name}" for name in VISION if name not in LONG] + [f"timm:{name}" for name in TIMM]
)
def test_every_op_is_known(name: str) -> None:
    a = roofline.analyze(name, device="t4", cache=False)
    assert a.coverage.unknown_ops == []
    assert a.totals.macs > 0
    assert a.totals.bytes > a.totals.weight_bytes > 0
    assert a.layers[0].flops == a.totals.flops >= 2 * a.totals.macs


def test_the_zoos_are_there() -> None:
    assert len(VISION) > 115
    assert set(VISION) > LONG
    assert len(TIMM) > 200
