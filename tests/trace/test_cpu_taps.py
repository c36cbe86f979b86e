"""Operators that PyTorch runs tap by tap on a CPU, beside a maximum over 3 x 3 in the same process."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import roofline

IMAGE, LAST = torch.zeros(1, 64, 56, 56), torch.zeros(1, 64, 56, 56).contiguous(memory_format=torch.channels_last)
VOLUME, ROWS, SCORES = torch.zeros(1, 16, 16, 28, 28), torch.zeros(8, 197, 768), torch.zeros(4, 12, 196, 196)
PLANES = 64 * 56 * 56
Operator = Callable[[Tensor], Tensor]

# Nanoseconds of each result (of the last five, each element) on one thread of an EPYC of Zen 4 at 2.6 GHz, PyTorch 2.14,
# the least of 18 runs in one process, processor time: what each is called with, how many results, ns.
MEASURED: dict[str, tuple[Operator, Tensor, int, float]] = {
    "max 2x2": (lambda x: F.max_pool2d(x, 2), IMAGE, PLANES // 4, 20.6),
    "max 3x3x3": (lambda x: F.max_pool3d(x, 3, 1, 1), VOLUME, VOLUME.numel(), 60.6),
    "average 2x2": (lambda x: F.avg_pool2d(x, 2), IMAGE, PLANES // 4, 7.1),
    "average 3x3": (lambda x: F.avg_pool2d(x, 3, 1, 1), IMAGE, PLANES, 9.0),
    "average 3x3x3": (lambda x: F.avg_pool3d(x, 3, 1, 1), VOLUME, VOLUME.numel(), 16.4),
    "adaptive average": (lambda x: F.adaptive_avg_pool2d(x, 6), IMAGE, 64 * 36, 56.0),
    "adaptive maximum": (lambda x: F.adaptive_max_pool2d(x, 6), IMAGE, 64 * 36, 120.0),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), IMAGE, 4 * PLANES, 0.46),
    "nearest of a volume": (lambda x: F.interpolate(x, scale_factor=2), VOLUME, 8 * VOLUME.numel(), 0.67),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), IMAGE, 4 * PLANES, 1.55),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), IMAGE, 4 * PLANES, 7.8),
    "sampled": (
        lambda x: F.grid_sample(x, torch.zeros(1, 56, 56, 2, device=x.device), align_corners=False),
        IMAGE,
        PLANES,
        1.9,
    ),
    "place of a maximum": (lambda x: x.argmax(-1), SCORES, SCORES.numel(), 1.27),
    "maximum and its place": (lambda x: x.max(-1).values, SCORES, SCORES.numel(), 1.11),
    "running sum": (lambda x: x.cumsum(1), ROWS, ROWS.numel(), 1.85),
    "unfolded": (lambda x: F.unfold(x, 3, padding=1), IMAGE, 9 * PLANES, 1.46),
    "shuffled": (lambda x: F.pixel_shuffle(x, 2), IMAGE, PLANES, 2.3),
}
MAXIMUM = 29.7


def seconds(operator: Operator, x: Tensor) -> float:
    """Of the loops of the kernels that are not there to make an argument."""
    found = roofline.analyze(operator, args=[x], device="i9-10940x@1")
    return max(k.compute_s for k in found.kernels)


@pytest.mark.parametrize("name", MEASURED)
def test_what_runs_tap_by_tap_takes_as_long_beside_a_maximum_as_measured(name: str) -> None:
    operator, x, results, measured = MEASURED[name]
    maximum = seconds(lambda y: F.max_pool2d(y, 3, 2, 1), IMAGE) / (PLANES // 4)
    predicted = seconds(operator, x) / results / maximum
    assert abs(log(predicted / (measured / MAXIMUM))) < log(1.7)


def test_channels_last_a_pixel_is_copied_and_not_each_of_its_channels() -> None:
    nearest = MEASURED["nearest"][0]
    assert seconds(nearest, LAST) < 0.1 * seconds(nearest, IMAGE)


def test_the_one_maximum_of_all_goes_by_vectors() -> None:
    assert seconds(lambda x: x.max(), SCORES) < 0.5 * seconds(lambda x: x.argmax(-1), SCORES)


def test_bags_are_summed_by_rows() -> None:
    """2^20 additions took 0.14 ns each; a loop that does not vectorise was charged 30 times that."""
    table, picked = torch.zeros(50000, 256), torch.zeros(64, 64, dtype=torch.long)
    each = seconds(lambda x: F.embedding_bag(picked.to(x.device), x), table) / 2**20
    maximum = seconds(lambda y: F.max_pool2d(y, 3, 2, 1), IMAGE) / (PLANES // 4)
    assert each / maximum == pytest.approx(0.14 / MAXIMUM, rel=1)


def test_boxes_are_sampled_four_taps_at_a_place() -> None:
    """256 boxes of 256 channels, 7 x 7 bins of 4 samples: 25.8 ms; overlapping boxes compared in pairs: 1.2 ns a pair."""
    vision = pytest.importorskip("torchvision").ops
    maximum = seconds(lambda y: F.max_pool2d(y, 3, 2, 1), IMAGE) / (PLANES // 4)
    image = torch.zeros(1, 256, 28, 28)

    def regions(x: Tensor) -> Tensor:
        found: Tensor = vision.roi_align(x, torch.zeros(256, 5, device=x.device), 7, 1.0, 2)
        return found

    each = seconds(regions, image) / (256 * 256 * 49 * 4)
    assert abs(log(each / maximum / (2.0 / MAXIMUM))) < log(1.7)
