"""The one place where a shape becomes the named sizes that formulas read; those that a shape does not have are 0."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from roofline.classes import PRODUCTS
from roofline.shapes import Access, Attention, Conv, Gemm, Loop, Pool, Recurrent, Shape, rows_columns

if TYPE_CHECKING:
    from roofline.records import Kernel

# Sizes of a product; those that a shape does not have are 0 (groups: 1).
SIZES = (
    "b", "m", "n", "k", "c", "o", "g", "d", "h", "w", "z", "p", "q", "t", "r", "s", "stride", "dilation", "transposed",
    "gradient", "l", "e", "v", "products_e", "products_v", "layers", "rows", "weights", "times", "causal",
)  # fmt: skip
ZEROS = dict.fromkeys(SIZES, 0) | {"g": 1}
# All sizes of a kernel that the formulas read.
LOOP = ("generated", "loop", "special", "outer", "row", "welford")
DIMS = (*SIZES, "double", *Access.__struct_fields__, *LOOP)


def sizes(shape: Shape | None) -> dict[str, int]:
    """gemm b, m, n, k. conv n, c, o, g, h, w (image), p, q (result), r, s (kernel), stride, dilation (from 2 on), transposed,
    gradient, and in 3-d d, z, t. attention b, h, l (queries), s (keys), e, v (widths), causal. recurrent t, b, h, layers, rows,
    weights. pool r, s, stride. All: times. Nothing for None.
    """
    if isinstance(shape, Gemm):
        return {"b": shape.b, "m": shape.m, "n": shape.n, "k": shape.k, "times": shape.times}
    if isinstance(shape, Conv):
        return _conv(shape)
    if isinstance(shape, Attention):
        return {
            "b": shape.b, "h": shape.h, "l": shape.l, "s": shape.s, "e": shape.e, "v": shape.v, "causal": int(shape.causal),
            "products_e": shape.products_e, "products_v": shape.products_v, "times": shape.times,
        }  # fmt: skip
    if isinstance(shape, Recurrent):
        return {
            "t": shape.t, "b": shape.b, "h": shape.h, "layers": shape.layers, "rows": shape.rows, "weights": shape.weights,
            "times": shape.times,
        }  # fmt: skip
    if isinstance(shape, Pool):
        r, s = shape.window
        return {"r": r, "s": s, "stride": shape.stride}
    return {}


def _conv(conv: Conv) -> dict[str, int]:
    (h, w), (p, q), (r, s) = rows_columns(conv.image), rows_columns(conv.out), conv.window
    found = {
        "n": conv.n, "c": conv.c, "o": conv.o, "g": conv.groups, "h": h, "w": w, "p": p, "q": q, "r": r, "s": s,
        "stride": conv.stride, "dilation": conv.dilation if conv.dilation > 1 else 0, "transposed": int(conv.transposed),
        "gradient": conv.gradient, "times": conv.times,
    }  # fmt: skip
    if len(conv.kernel) == 3:
        found |= {"d": conv.image[0], "z": conv.out[0], "t": conv.kernel[0]}
    return found


def own(kernel: Kernel) -> dict[str, int]:
    """What the formulas read of a kernel itself: its way through memory, its loops, the sizes of the call as one shape."""
    shape = kernel.products[0] if len(kernel.products) == 1 else kernel.whole
    return {**asdict(kernel.access), **_loop(kernel.loop), **sizes(shape)}


def _loop(loop: Loop | None) -> dict[str, int]:
    if loop is None:
        return {}
    return dict(zip(LOOP, (1, loop.total, loop.special, loop.outer, loop.row, loop.welford), strict=True))


def untold(kernel: Kernel) -> int:
    """FLOPs of products that no sizes tell: they run at the rate of their class, so that nothing is free."""
    if kernel.klass not in PRODUCTS:
        return 0
    if not kernel.products:
        return max(kernel.flops, 2 * kernel.macs)
    return max(2 * (kernel.macs - sum([p.macs for p in kernel.products])), 0)


def over(f: Any, products: tuple[Shape, ...]) -> None:
    """Give one kernel its products: `f.total(seconds)` is the sum of a formula over them."""
    parts = [f]
    if len(products) != 1:
        parts = [SimpleNamespace(**{**f.__dict__, **ZEROS, **sizes(p)}) for p in products]
    f.total = lambda seconds: sum(seconds(part) * (part.times or 1) for part in parts)
