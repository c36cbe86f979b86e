"""Pooling, resizing and sampling: windows over the image."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from roofline.cost.registry import Cost, Count, Ints, Rule, add, first, many, prod, rule
from roofline.records import TensorSpec
from roofline.shapes import Gemm, Pool

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def _pool(rank: int) -> Rule:
    def count(self: T, kernel_size: Ints, stride: Ints | None = None, *_: Any, out: Out, **__: Any) -> Cost:
        # [n, c, *i] -> [n, c, *o]: each output compares its window (maximum), or adds it (k - 1) and divides (average): k
        kernel = many(kernel_size, rank)
        step = many(stride, rank) or kernel
        return Cost.of(extra=first(out).numel * prod(kernel), whole=Pool(tuple(kernel), step[-1]))

    return Rule(count, "pool")


for _rank in (1, 2, 3):
    _d = f"{_rank}d"
    add((f"max_pool{_d}", f"max_pool{_d}_with_indices", f"avg_pool{_d}", f"quantized_max_pool{_d}"), _pool(_rank))
    if _rank > 1:
        add((f"fractional_max_pool{_d}", f"mkldnn_max_pool{_d}"), _pool(_rank))
add(("quantized.max_pool1d",), _pool(1))
add(("quantized.max_pool2d",), _pool(2))


def adaptive_window(size: int, bins: int) -> int:
    """Elements of all windows along one axis: bin i covers floor(i size / bins) to ceil((i + 1) size / bins)."""
    return sum(-(-(i + 1) * size // bins) - i * size // bins for i in range(bins))


@rule(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "mkldnn_adaptive_avg_pool2d",
    klass="pool",
)
def adaptive_pool(self: T, output_size: Ints, *_: Any, out: Out, **__: Any) -> int:
    # [n, c, *i] -> [n, c, *o]: windows of uneven size, which overlap where o does not divide i
    y = first(out)
    rank = len(output_size) if isinstance(output_size, list) else 1
    planes = prod(y.shape[:-rank])
    return planes * prod(adaptive_window(i, o) for i, o in zip(self.shape[-rank:], y.shape[-rank:], strict=True))


def _spread_average(grad_output: T, self: T, kernel_size: Ints = 1, *_: Any, out: Out, **__: Any) -> int:
    # every gradient goes to its window: a divide, and an add per element of the window
    rank = len(kernel_size) if isinstance(kernel_size, list) else 1
    return grad_output.numel * (1 + prod(many(kernel_size, rank)))


add(("avg_pool2d_backward", "avg_pool3d_backward"), Rule(_spread_average, "pool"))


@rule(
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "adaptive_avg_pool3d_backward",
    "mkldnn_adaptive_avg_pool2d_backward",
    klass="pool",
)
def adaptive_average_backward(grad_output: T, self: T, *_: Any, out: Out, **__: Any) -> int:
    # a divide per gradient, an add per element that it reaches
    rank = len(self.shape) - 2
    planes = prod(self.shape[:-rank])
    reached = planes * prod(adaptive_window(i, o) for i, o in zip(self.shape[-rank:], grad_output.shape[-rank:], strict=True))
    return grad_output.numel + reached


def _to_maximum(grad_output: T, *_: Any, out: Out, **__: Any) -> int:
    # each gradient is added where the maximum stood
    return grad_output.numel


add(
    (
        "max_pool2d_with_indices_backward",
        "max_pool3d_with_indices_backward",
        "max_pool2d_backward",
        "adaptive_max_pool2d_backward",
        "adaptive_max_pool3d_backward",
        "fractional_max_pool2d_backward",
        "fractional_max_pool3d_backward",
        "mkldnn_max_pool2d_backward",
        "mkldnn_max_pool3d_backward",
    ),
    Rule(_to_maximum, "pool"),
)


@rule("max_unpool2d", "max_unpool3d", klass="gather")
def max_unpool(*_: Any, **__: Any) -> int:
    return 0


# --- resizing. A result of t taps is t multiplies and t - 1 adds; the taps' weights are shared by all channels and left out


def _resize(taps: int) -> Rule:
    def count(*_: Any, out: Out, **__: Any) -> int:
        # [n, c, *i] -> [n, c, *o]
        return first(out).numel * (2 * taps - 1)

    return Rule(count, "pool")


def _resize_backward(taps: int) -> Rule:
    def count(grad_output: T, *_: Any, out: Out, **__: Any) -> int:
        # each gradient is spread over its taps: multiply and add
        return grad_output.numel * 2 * taps if taps > 1 else grad_output.numel

    return Rule(count, "pool")


def _nearest(*_: Any, **__: Any) -> int:
    # copies
    return 0


for _name, _taps in {"linear1d": 2, "bilinear2d": 4, "trilinear3d": 8, "bicubic2d": 16}.items():
    add((f"upsample_{_name}",), _resize(_taps))
    add((f"upsample_{_name}_backward",), _resize_backward(_taps))
for _rank in (1, 2, 3):
    for _name in (f"upsample_nearest{_rank}d", f"_upsample_nearest_exact{_rank}d"):
        add((_name,), Rule(_nearest, "gather"))
        add((f"{_name}_backward",), _resize_backward(1))


def _antialiased(reach: int) -> tuple[Rule, Rule]:
    def taps(size: int, result: int) -> int:
        # the filter widens with the step: `reach` on either side, times the scale where it shrinks
        width: int = 2 * ceil(reach * max(1.0, size / max(result, 1)))
        return min(size, width)

    def work(small: tuple[int, ...], large: tuple[int, ...]) -> int:
        # rows first, then columns: t multiply-adds (2 t) for each element of each pass
        (h, w), (oh, ow) = small[-2:], large[-2:]
        return prod(small[:-2]) * (h * ow * 2 * taps(w, ow) + oh * ow * 2 * taps(h, oh))

    def count(self: T, *_: Any, out: Out, **__: Any) -> int:
        # [n, c, h, w] -> [n, c, oh, ow]
        return work(self.shape, first(out).shape)

    def backward(grad_output: T, *_: Any, out: Out, **__: Any) -> int:
        return work(first(out).shape, grad_output.shape)

    return Rule(count, "pool"), Rule(backward, "pool")


for _name, _reach in {"bilinear2d_aa": 1, "bicubic2d_aa": 2, "lanczos2d_aa": 3}.items():
    _rule, _backward_rule = _antialiased(_reach)
    add((f"_upsample_{_name}",), _rule)
    add((f"_upsample_{_name}_backward",), _backward_rule)


# --- sampling at real coordinates


def _grid_taps(mode: int, rank: int) -> int:
    # 0 bilinear (trilinear), 1 nearest, 2 bicubic
    along_axis = {0: 2, 1: 1, 2: 4}[mode]
    return prod([along_axis] * rank)


def _grid(input: T, grid: T, mode: int) -> int:
    rank = len(input.shape) - 2
    taps = _grid_taps(mode, rank)
    points = prod(grid.shape[:-1])
    channels = input.shape[1]
    # per point and axis: to pixels 2, floor 1, two fractions 2, and a product of fractions per tap; per channel 2 taps - 1
    return points * (5 * rank + (taps if taps > 1 else 0)) + points * channels * (2 * taps - 1 if taps > 1 else 0)


@rule(
    "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "cudnn_grid_sampler", "_grid_sampler_2d_cpu_fallback", klass="gather"
)
def grid_sampler(input: T, grid: T, interpolation_mode: int = 0, *_: Any, out: Out, **__: Any) -> int:
    # [n, c, *i], [n, *o, rank] -> [n, c, *o]
    return _grid(input, grid, interpolation_mode)


@rule("grid_sampler_2d_backward", "grid_sampler_3d_backward", "_grid_sampler_2d_cpu_fallback_backward", klass="gather")
def grid_sampler_backward(grad_output: T, input: T, grid: T, interpolation_mode: int, *_: Any, out: Out, **__: Any) -> int:
    # spread over the taps, and the slope along each axis
    rank = len(input.shape) - 2
    return (1 + rank) * _grid(input, grid, interpolation_mode)


@rule("affine_grid_generator", "cudnn_affine_grid_generator", klass="gemm")
def affine_grid_generator(theta: T, size: list[int], *_: Any, out: Out, **__: Any) -> Cost:
    # [n, r, r + 1] times the homogeneous coordinates [*, r + 1]
    n, rank = theta.shape[0], theta.shape[1]
    return Cost.of(Gemm(n, first(out).numel // max(n * rank, 1), rank, rank + 1))


@rule("im2col", "col2im", klass="layout")
def im2col(self: T, *_: Any, out: Out, **__: Any) -> int:
    # unfolding copies; folding back adds where windows overlap
    return self.numel if first(out).numel < self.numel else 0


# --- regions of interest


# Of a bilinear sample: three interpolations, 7, and its sum, 1; of its gradient four products and four sums.
SAMPLE = 8
# Of a count that follows boxes of which nobody knows the values.
AS_LARGE = "boxes whose values are not there are taken as large as the image"


def _sampled(result: T, rois: T, ratio: int, samples: int | None, image: Sequence[int], bins: Sequence[int]) -> int:
    """Of each number of the result [k, c, ph, pw] the samples, ratio^2, and the division by them. A ratio of 0 takes as many
    in a bin as it has pixels: `samples` in a channel of all boxes, or those of boxes as large as the image."""
    if ratio > 0:
        return result.numel * (ratio**2 * SAMPLE + 1)
    if samples is None:
        samples = rois.shape[0] * prod(n * ceil(size / n) for size, n in zip(image, bins, strict=True))
    return result.shape[1] * samples * SAMPLE + result.numel


def _seen(result: T, rois: T, pixels: int | None, image: Sequence[int]) -> int:
    """Pixels of the windows of all boxes, in all channels: `pixels` in one, or those of boxes as large as the image, whose bins
    share a row or a column where they meet."""
    if pixels is None:
        sides = zip(image, result.shape[-2:], strict=True)
        pixels = rois.shape[0] * prod(sum(-(-(i + 1) * size // n) - i * size // n for i in range(n)) for size, n in sides)
    return result.shape[1] * pixels


@rule("torchvision.roi_align", "torchvision.qroi_align", "torchvision.ps_roi_align", klass="gather")
def roi_align(
    input: T,
    rois: T,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    *_: Any,
    out: Out,
    samples: int | None = None,
    **__: Any,
) -> int:
    # [n, c, h, w] (ps: [n, c ph pw, h, w]), [k, 5] -> [k, c, ph, pw]
    return _sampled(first(out), rois, sampling_ratio, samples, input.shape[-2:], (pooled_height, pooled_width))


@rule("torchvision._roi_align_backward", klass="gather")
def roi_align_backward(grad: T, rois: T, *args: Any, out: Out, samples: int | None = None, **_: Any) -> int:
    # d[k, c, ph, pw] -> d[n, c, h, w]: scale, sizes of bins and image, ratio, whether aligned
    return _sampled(grad, rois, args[7], samples, args[5:7], args[1:3])


@rule("torchvision._ps_roi_align_backward", klass="gather")
def ps_roi_align_backward(
    grad: T, rois: T, channel_mapping: T, *args: Any, out: Out, samples: int | None = None, **_: Any
) -> int:
    # scale, sizes of bins, ratio, sizes of the image
    return _sampled(grad, rois, args[3], samples, args[6:8], args[1:3])


@rule("torchvision.roi_pool", klass="gather")
def roi_pool(input: T, rois: T, *_: Any, out: Out, pixels: int | None = None, **__: Any) -> int:
    # [n, c, h, w] -> [k, c, ph, pw]: each pixel of a window is compared
    return _seen(first(out), rois, pixels, input.shape[-2:])


@rule("torchvision.ps_roi_pool", klass="gather")
def ps_roi_pool(input: T, rois: T, *_: Any, out: Out, pixels: int | None = None, **__: Any) -> int:
    # [n, c ph pw, h, w] -> [k, c, ph, pw]: each pixel of a window is added, and the sum divided
    return _seen(first(out), rois, pixels, input.shape[-2:]) + first(out).numel


@rule("torchvision._ps_roi_pool_backward", klass="gather")
def ps_roi_pool_backward(*_: Any, **__: Any) -> Count:
    # the windows are as large as the boxes: data
    return None


@rule("torchvision._roi_pool_backward", klass="gather")
def roi_pool_backward(grad: T, *_: Any, out: Out, **__: Any) -> int:
    return grad.numel


@rule("torchvision.nms", "torchvision.qnms", klass="sort")
def nms(dets: T, scores: T, iou_threshold: float, *, out: Out) -> int:
    # [k, 4]: at most every pair is compared: 4 corners, 2 sides and their clamps, area, union 2, ratio, compare = 13
    k = dets.shape[0]
    return 13 * k * (k - 1) // 2
