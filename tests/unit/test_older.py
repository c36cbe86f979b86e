"""What older versions of PyTorch launch otherwise."""

from __future__ import annotations

import pytest

from roofline.records import Kernel, Operand
from roofline.shapes import Access, Conv
from roofline.validation import model_tables, older


def depthwise(batch: int, stride: int = 2, last: int = 1, klass: str = "depthwise_conv") -> Kernel:
    """144 channels of 128 x 128 under 3 x 3 in halves."""
    side = 128 // stride
    conv = Conv(batch, 144, 144, groups=144, image=(128, 128), out=(side, side), kernel=(3, 3), stride=stride)
    image, result = 2 * batch * 144 * 128 * 128, 2 * batch * 144 * side * side
    operands = (
        Operand(image, 0, "activation"),
        Operand(2 * 144 * 9, 1, "parameter"),
        Operand(result, 2, "activation", True),
    )
    shape = (batch, 144, side, side)
    return Kernel(0, "conv2d", klass, (0,), "float16", shape, 2 * conv.macs, conv.macs, operands, Access(last=last), whole=conv)


def test_images_of_2_to_31_elements_are_laid_out_window_by_window() -> None:
    kernel = depthwise(1024)
    (slow,) = older.launched([kernel], (2, 4))
    # by hand: 1024 x 144 x 128 x 128 elements of two bytes and a quarter of them as results are turned (written and read), and
    # nine taps of four bytes for each result written and read
    image, result = 1024 * 144 * 128 * 128, 1024 * 144 * 64 * 64
    assert slow.bytes - kernel.bytes == 2 * 2 * (image + result) + 2 * 4 * 9 * result
    assert (slow.flops, slow.whole) == (kernel.flops, kernel.whole)
    assert slow.weight_bytes == kernel.weight_bytes


@pytest.mark.parametrize("torch", [(1, 12), (2, 7), (2, 9), older.LATEST])
def test_no_other_version(torch: tuple[int, int]) -> None:
    kernels = [depthwise(1024)]
    assert older.launched(kernels, torch) == kernels


@pytest.mark.parametrize("kernel", [depthwise(910), depthwise(1024, last=0), depthwise(1024, klass="conv")])
def test_no_other_kernel(kernel: Kernel) -> None:
    """910 images are 2^31 - 748,544 elements."""
    assert older.launched([kernel], (2, 4)) == [kernel]


def test_one_image_more_is_too_large() -> None:
    assert older.launched([depthwise(911)], (2, 4)) != [depthwise(911)]
    assert older.launched([depthwise(911, stride=1)], (2, 6)) != [depthwise(911, stride=1)]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("benchmark-train-amp-nchw-pt112-cu113-rtx3090.csv", (1, 12)),
        ("benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv", (2, 4)),
        ("benchmark-infer-amp-nchw-pt291-cu128-4090-dynamo.csv", (2, 9)),
        ("benchmark-infer-amp-nchw-pt2110-cu130-h200.csv", (2, 11)),
        ("times-pt2.csv", older.LATEST),
        ("times.csv", older.LATEST),
    ],
)
def test_a_name_tells_the_version(name: str, version: tuple[int, int]) -> None:
    assert model_tables.setting(name, model_tables.AS_NAMED).torch == version
