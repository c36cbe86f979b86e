"""Operators whose work only the values of small tensors tell: torchvision's own kernels, and loops, say what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import roofline
from roofline.records import Analysis
from tests.oracles import loops

vision = pytest.importorskip("torchvision.ops")

# image, x1, y1, x2, y2: within one pixel, whole, beyond the edge, long, of no size
BOXES = [(0, 1.2, 1.4, 1.9, 1.8), (0, 0, 0, 12, 12), (1, 5.5, 6.5, 15, 16), (1, 2, 3, 11, 4.6), (0, 4, 4, 4, 4)]
SCALES = (1.0, 0.5, 0.37)
IMAGE = (2, 4, 12, 12)


class Of(nn.Module):
    """A model of one call, beside a layer that it leaves alone."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.lin, self.call = nn.Linear(4, 4), call

    def forward(self, *args: Any) -> Any:
        return self.call(*args)


def analysed(call: Callable[..., Any], *args: Tensor) -> Analysis:
    found = roofline.analyze(Of(call), args=args, device="t4")
    assert not found.coverage.unknown_ops
    return found


def seen(pool: Callable[[Tensor, Tensor], Tensor], boxes: Tensor) -> int:
    """Pixels of all windows in a channel: each window in which a pixel is seen when it alone is not 0."""
    images, _, height, width = IMAGE
    count = 0
    for i in range(images):
        for y in range(height):
            for x in range(width):
                image = torch.zeros(IMAGE)
                image[i, :, y, x] = 1
                count += int((pool(image, boxes) > 0).sum())
    return count


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bins", [2, 5])
def test_a_window_takes_a_comparison_for_each_of_its_pixels(scale: float, bins: int) -> None:
    def pool(x: Tensor, boxes: Tensor) -> Tensor:
        found: Tensor = vision.roi_pool(x, boxes, bins, scale)
        return found

    boxes = torch.tensor(BOXES)
    assert analysed(lambda x: pool(x, boxes), torch.rand(IMAGE)).totals.flops == seen(pool, boxes)


@pytest.mark.parametrize("scale", SCALES)
def test_a_window_of_its_own_channel_takes_a_sum_for_each_of_its_pixels_and_a_division(scale: float) -> None:
    def pool(x: Tensor, boxes: Tensor) -> Tensor:
        found: Tensor = vision.ps_roi_pool(x, boxes, 2, scale)
        return found

    boxes = torch.tensor(BOXES)
    whole = seen(pool, boxes) + len(BOXES) * 2 * 2
    assert analysed(lambda x: pool(x, boxes), torch.rand(IMAGE)).totals.flops == whole


def ratio(align: Callable[..., Tensor], box: Tensor) -> int:
    """Samples a side of a bin that torchvision takes of a square box where nobody says how many."""
    image = torch.rand(IMAGE, generator=torch.Generator().manual_seed(0))
    wanted = align(image, box, 0)
    return next(n for n in range(1, 20) if torch.equal(align(image, box, n), wanted))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [0.4, 3.0, 7.5, 11.0])
def test_a_box_takes_as_many_samples_as_it_is_large(scale: float, size: float, aligned: bool) -> None:
    """3 x 3 bins of 4 channels: a sample is three interpolations (7) and a sum, the sum is divided."""

    def align(x: Tensor, boxes: Tensor, n: int) -> Tensor:
        found: Tensor = vision.roi_align(x, boxes, 3, scale, n, aligned)
        return found

    box = torch.tensor([[0, 0.5, 0.25, 0.5 + size, 0.25 + size]])
    found = analysed(lambda x: align(x, box, 0), torch.rand(IMAGE)).totals.flops
    assert found == 9 * 4 * (8 * ratio(align, box) ** 2 + 1)


@pytest.mark.parametrize("size", [3.0, 7.5, 11.0])
def test_a_box_of_its_own_channels_takes_as_many_samples_as_it_is_large(size: float) -> None:
    def align(x: Tensor, boxes: Tensor, n: int) -> Tensor:
        found: Tensor = vision.ps_roi_align(x, boxes, 2, 0.5, n)
        return found

    box = torch.tensor([[1, 0.5, 0.25, 0.5 + size, 0.25 + size]])
    found = analysed(lambda x: align(x, box, 0), torch.rand(IMAGE)).totals.flops
    assert found == 4 * (8 * ratio(align, box) ** 2 + 1)


def test_boxes_that_are_made_of_what_has_no_values_are_taken_in_a_real_run() -> None:
    """Two boxes of 8 x 8 in 2 x 2 bins, known only when the model runs: 4 x 4 samples a bin."""

    def forward(x: Tensor) -> Any:
        size = x.new_full((2, 1), 8.0)
        boxes = torch.cat((torch.zeros_like(size).repeat(1, 3), size, size), 1)
        return vision.roi_align(x, boxes, 2)

    net = Of(forward)
    found = roofline.analyze(net, args=(torch.rand(IMAGE),), device="t4")
    (op,) = (o for o in found.ops if o.op == "torchvision.roi_align")
    assert op.flops == 2 * 4 * 4 * (8 * 16 + 1)
    assert any("how much an operator does depends on values" in note for note in found.notes)


WHOLE = (0.0, 0.0, 12.0, 12.0)


def test_boxes_that_nobody_knows_are_as_large_as_the_image(tmp_path: Path) -> None:
    """A file of torch.export's holds no values: torchvision's own samples, and pixels, of a box over the whole of 12 x 12."""

    def align(x: Tensor, boxes: Tensor, n: int) -> Tensor:
        found: Tensor = vision.roi_align(x, boxes, 5, 1.0, n)
        return found

    def pool(x: Tensor, boxes: Tensor) -> Tensor:
        found: Tensor = vision.roi_pool(x, boxes, 5, 1.0)
        return found

    samples = 4 * 5 * 5 * (8 * ratio(align, torch.tensor([[0, *WHOLE]])) ** 2 + 1)
    pixels = seen(pool, torch.tensor([[0, 0.0, 0.0, 11.0, 11.0]]))
    image, boxes = torch.rand(IMAGE), torch.tensor(BOXES)
    for call, of_one in ((lambda x, b: align(x, b, 0), samples), (pool, pixels)):
        path = str(tmp_path / f"{of_one}.pt2")
        torch.export.save(torch.export.export(Of(call), (image, boxes)), path)
        found = roofline.analyze(path, device="t4", cache=False)
        assert not found.coverage.unknown_ops
        assert found.totals.flops == len(BOXES) * of_one
        assert "boxes whose values are not there are taken as large as the image" in found.notes


@pytest.mark.parametrize("by_position", [False, True])
def test_the_gradient_of_a_box_has_the_samples_of_the_box(by_position: bool) -> None:
    box = torch.tensor([[0, 0.5, 0.25, 8.0, 7.75]])

    def align(x: Tensor, boxes: Tensor, n: int) -> Tensor:
        found: Tensor = vision.ps_roi_align(x, boxes, 2, 1.0, n) if by_position else vision.roi_align(x, boxes, 2, 1.0, n)
        return found

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Any:
            return align(self.conv(x), box, 0)

    found = roofline.analyze(Net(), args=(torch.rand(IMAGE),), device="t4", training=True)
    assert not found.coverage.unknown_ops
    (op,) = (o for o in found.ops if "align_backward" in o.op)
    assert op.flops == 4 * (1 if by_position else 4) * (8 * ratio(align, box) ** 2 + 1)


def test_gradients_of_samples_are_four_products_and_four_sums() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Any:
            return vision.roi_align(self.conv(x), torch.tensor(BOXES), 3, 1.0, 2)

    found = roofline.analyze(Net(), args=(torch.rand(IMAGE),), device="t4", training=True)
    assert not found.coverage.unknown_ops
    (op,) = (o for o in found.ops if o.op == "torchvision._roi_align_backward")
    assert op.flops == len(BOXES) * 4 * 9 * (2 * 2 * 8 + 1)


# ------------------------------------------------------------------------------------------------ sequences in one row

varlen = pytest.importorskip("torch.nn.attention.varlen")
HEADS, WIDE = 4, 16


def pairs(lengths: list[int]) -> Iterator[tuple[int, int]]:
    for n in lengths:
        yield loops.attention(1, HEADS, HEADS, n, n, WIDE, WIDE)


class Packed(nn.Module):
    def __init__(self, lengths: list[int], where: str) -> None:
        super().__init__()
        self.qkv, self.lengths, self.where = nn.Linear(8, 3 * HEADS * WIDE), lengths, where
        self.register_buffer("ends", torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32))

    def forward(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, WIDE)).unbind(1)
        if self.where == "made":
            at = torch.tensor([0, *self.lengths], device=x.device).cumsum(0, dtype=torch.int32)
        else:
            at = self.ends if given is None else given
        longest = max(self.lengths)
        if self.where == "real":
            longest = int(at.diff().max())
        found: Tensor = varlen.varlen_attn(q, k, v, at, at, longest, longest)
        return found


@pytest.mark.parametrize("where", ["buffer", "given", "made", "real"])
@pytest.mark.parametrize("lengths", [[3, 5, 2], [4, 4]])
@pytest.mark.parametrize("training", [False, True])
def test_attention_within_sequences_of_a_row_is_that_of_each(where: str, lengths: list[int], training: bool) -> None:
    """Counted by loops over the queries and keys of each sequence; a gradient is two and a half of it."""
    net, rows = Packed(lengths, where), sum(lengths)
    args = (torch.rand(rows, 8), net.ends) if where == "given" else (torch.rand(rows, 8),)
    found = roofline.analyze(net, args=args, device="h100-sxm", training=training, dtype="bf16")
    assert not found.coverage.unknown_ops
    macs = {o.op.partition(".")[2]: o.macs for o in found.ops if "varlen" in o.op}
    whole = sum(m for m, _ in pairs(lengths))
    assert macs["_varlen_attn"] == whole
    assert macs.get("_varlen_attn_backward", 0) == (whole * 5 // 2 if training else 0)
    assert found.totals.time_s > 0
