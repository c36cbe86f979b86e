"""Calls that well-known counters get wrong, with the right numbers.

The cases were collected from the issue trackers of those counters and worked out by hand. Each is one call of an operator of
torch by name; FLOPs are two for each multiply-accumulate, and what stands beside them element by element.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Known(NamedTuple):
    operator: str
    # of its tensors, and its other arguments
    shapes: tuple[Shape, ...]
    out: Shape
    macs: int
    # beside two for each multiply-accumulate
    more: int = 0
    args: tuple[Any, ...] = ()

    @property
    def flops(self) -> int:
        return 2 * self.macs + self.more


_HEADS = (1, 12, 64, 64)
KNOWN = {
    # two products of 12 * 64 * 64 scores and 64 each; around each score a scale and softmax (5)
    "attention on a CPU": Known("scaled_dot_product_attention", (_HEADS,) * 3, _HEADS, 2 * 12 * 64 * 64 * 64, 6 * 12 * 64 * 64),
    "vector . vector": Known("matmul", ((8,), (8,)), (), 8),
    "matrix . vector": Known("matmul", ((4, 8), (8,)), (4,), 4 * 8),
    "vector . matrix": Known("matmul", ((8,), (8, 5)), (5,), 8 * 5),
    "broadcast batch": Known("matmul", ((2, 1, 4, 8), (3, 8, 5)), (2, 3, 4, 5), 2 * 3 * 4 * 8 * 5),
    # the bias is added to each of 4 * 16 results
    "linear with bias": Known("linear", ((4, 8), (16, 8), (16,)), (4, 16), 4 * 8 * 16, 4 * 16),
    "linear without": Known("linear", ((4, 8), (16, 8)), (4, 16), 4 * 8 * 16),
    "add broadcast": Known("add", ((8, 1024), (1024,)), (8, 1024), 0, 8 * 1024),
    "x - y": Known("sub", ((5, 7), (5, 7)), (5, 7), 0, 35),
    "x / y": Known("div", ((5, 7), (5, 7)), (5, 7), 0, 35),
    # every element of the image meets the 3 x 3 kernel of each of 4 results
    "transposed, stride 2": Known(
        "conv_transpose2d", ((1, 3, 8, 8), (3, 4, 3, 3)), (1, 4, 16, 16), 3 * 8 * 8 * 4 * 9, 0, (None, [2, 2], [1, 1], [1, 1])
    ),
    "padding same": Known("conv2d", ((1, 3, 8, 8), (4, 3, 3, 3)), (1, 4, 8, 8), 4 * 8 * 8 * 3 * 9, 0, (None, [1, 1], "same")),
    "32 groups": Known(
        "conv2d",
        ((1, 128, 56, 56), (128, 4, 3, 3)),
        (1, 128, 56, 56),
        128 * 56 * 56 * 4 * 9,
        0,
        (None, [1, 1], [1, 1], [1, 1], 32),
    ),
}
