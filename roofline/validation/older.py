"""What older versions of PyTorch launch otherwise than today's, as far as published tables show it. No torch.

A version is (major, minor). Since 2.0 there are fused attention and multi-tensor optimizers. Attention that no fused kernel
takes (five dimensions, fewer heads of keys than of queries) is taken apart; until 2.4 in the dtype of its operands with a
plain softmax, since then in fp32 with one that looks for masked rows (pytorch/pytorch#135964 and #141756). [heads, length,
width] was taken apart too until 2.9 at least, and is one image of a batch in 2.14.

From 2.0 to 2.6 PyTorch calls cuDNN 9.1 and older by the interface that does not cut large batches, and that cuDNN has no fast
kernel for a channels-last depthwise convolution of 2^31 elements or more (9.3 brought kernels with indices of 64 bits:
pytorch/pytorch#134890). What it takes in its place was seen in no profile. Times of an RTX 3090 and 4090 are those of bytes:
image and result brought into row-major order and back, and four bytes for each tap of each result written and read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from msgspec.structs import replace

from roofline.records import Kernel, Operand
from roofline.shapes import Conv

LATEST = (99, 0)
FUSED_ATTENTION = (2, 0)
ATTENTION_IN_FP32 = (2, 5)
THREE_DIMENSIONS = (2, 10)
_UNCUT, _WIDE_INDICES = (2, 0), (2, 7)
_FIRST_TOO_LARGE = 2**31
_BYTES_A_TAP = 8


def launched(kernels: Sequence[Kernel], torch: tuple[int, int]) -> Sequence[Kernel]:
    """The kernels of a pass on a GPU as that version launches them."""
    if not _UNCUT <= torch < _WIDE_INDICES:
        return kernels
    return [_laid_out(kernel) for kernel in kernels]


def _laid_out(kernel: Kernel) -> Kernel:
    """With the bytes that its windows take, where it is too large a depthwise convolution."""
    conv = kernel.whole
    if kernel.klass != "depthwise_conv" or not isinstance(conv, Conv) or not kernel.access.last:
        return kernel
    image, result = conv.n * conv.c * prod(conv.image), conv.n * conv.o * prod(conv.out)
    if max(image, result) < _FIRST_TOO_LARGE:
        return kernel
    turned = 2 * (kernel.bytes - kernel.weight_bytes)
    moved = turned + _BYTES_A_TAP * prod(conv.kernel) * result
    return replace(kernel, operands=(*kernel.operands, Operand(moved, -1, "activation")))
