"""Bytes: which inputs an operator reads and which outputs it writes, where "all of them, once" is not the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roofline.cost.registry import BYTES, Traffic, qualified
from roofline.dtypes import DTYPE_BITS
from roofline.records import OpSpec, TensorSpec


def size(t: TensorSpec) -> int:
    """Bytes of the distinct elements of a tensor: expanded dimensions once, overlapping windows at most their extent."""
    count, stride = t.distinct, t.stride
    if stride:
        extent = 1
        for n, step in zip(t.shape, stride, strict=True):
            extent += (n - 1) * step
        count = min(count, max(extent, 0))
    return (count * DTYPE_BITS[t.dtype] + 7) // 8


def default(spec: OpSpec) -> Traffic:
    """Every input once, every output once; the target of an `out=` overload is written, not read."""
    reads = [size(t) for t in spec.inputs]
    if "out" in spec.overload:
        for i in spec.mutates:
            reads[i] = 0
    return reads, [size(t) for t in spec.outputs]


def _position(spec: OpSpec, argument: int, keyword: str = "") -> int | None:
    """Where the tensor argument number `argument` (or `keyword`) stands among spec.inputs; None if it is no tensor."""
    if argument < len(spec.args):
        if not isinstance(spec.args[argument], TensorSpec):
            return None
        return sum(_tensors(a) for a in spec.args[:argument])
    at = sum(map(_tensors, spec.args))
    for name, value in spec.kwargs.items():
        if name == keyword:
            return at if isinstance(value, TensorSpec) else None
        at += _tensors(value)
    return None


def _tensors(value: Any) -> int:
    if isinstance(value, TensorSpec):
        return 1
    return sum(map(_tensors, value)) if isinstance(value, list) else 0


def _bytes(*names: str) -> Callable[[Callable[[OpSpec, Traffic], None]], Callable[[OpSpec, Traffic], None]]:
    def enter(adjust: Callable[[OpSpec, Traffic], None]) -> Callable[[OpSpec, Traffic], None]:
        for name in names:
            BYTES[qualified(name)] = adjust
        return adjust

    return enter


@_bytes(
    "zeros_like",
    "ones_like",
    "full_like",
    "rand_like",
    "randn_like",
    "randint_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "fill",
    "fill_",
    "zero",
    "zero_",
    "uniform",
    "normal_",
    "uniform_",
    "random",
    "exponential",
    "geometric",
    "cauchy",
    "log_normal",
    "eye",
    "copy_",
    "fill_diagonal",
    "_no_grad_fill",
    "_no_grad_zero",
    "_no_grad_uniform",
    "_no_grad_normal",
    "prims.full_like",
)
def _overwrites(spec: OpSpec, traffic: Traffic) -> None:
    # the first argument gives a shape or is written over; `copy_` reads its source
    if spec.inputs and isinstance(spec.args[0], TensorSpec):
        traffic[0][0] = 0


@_bytes("_foreach_copy_", "_foreach_zero_")
def _overwrites_list(spec: OpSpec, traffic: Traffic) -> None:
    for i in spec.mutates:
        traffic[0][i] = 0


@_bytes(
    "empty",
    "empty_like",
    "empty_strided",
    "empty_permuted",
    "new_empty",
    "new_empty_strided",
    "resize",
    "resize_",
    "item",
    "_local_scalar_dense",
    "sym_size",
    "is_same_size",
    "set_",
    "_shape_as_tensor",
)
def _nothing(spec: OpSpec, traffic: Traffic) -> None:
    traffic[0][:] = [0] * len(spec.inputs)
    traffic[1][:] = [0] * len(spec.outputs)


def _table(spec: OpSpec, traffic: Traffic, argument: int, gathered: int, keyword: str = "") -> None:
    """Input `argument` is a table of which only `gathered` elements are read, and never more than all of it."""
    at = _position(spec, argument, keyword)
    if at is not None:
        nbytes = (gathered * DTYPE_BITS[spec.inputs[at].dtype] + 7) // 8
        traffic[0][at] = min(traffic[0][at], nbytes)


@_bytes(
    "embedding",
    "index",
    "_unsafe_index",
    "index_select",
    "gather",
    "take",
    "take_along_dim",
    "masked_select",
    "_unsafe_masked_index",
)
def _gathers(spec: OpSpec, traffic: Traffic) -> None:
    # as many elements as come out
    _table(spec, traffic, 0, spec.outputs[0].numel if spec.outputs else 0, "self")


@_bytes("_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2")
def _active(spec: OpSpec, traffic: Traffic) -> None:
    # of the g matrices only those that a row (or column) goes through, at most one each
    left, right = spec.inputs[:2]
    if len(left.shape) == 2 and len(right.shape) == 3:  # [rows, k] @ [g, k, n]
        g, k, n = right.shape
        _table(spec, traffic, 1, min(g, left.shape[0]) * k * n)
    elif len(left.shape) == 3 and len(right.shape) == 2:  # [g, m, k] @ [k, columns]
        g, m, k = left.shape
        _table(spec, traffic, 0, min(g, right.shape[1]) * m * k)


@_bytes("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _gathers_bags(spec: OpSpec, traffic: Traffic) -> None:
    # [v, e], [k]: k rows of e
    weight, indices = spec.inputs[0], spec.inputs[1]
    _table(spec, traffic, 0, indices.numel * weight.shape[-1])


@_bytes(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
    "grid_sampler",
    "grid_sampler_2d",
    "grid_sampler_3d",
)
def _samples(spec: OpSpec, traffic: Traffic) -> None:
    # shrinking skips pixels: nearest reads one per output, bilinear sampling at most four, trilinear eight
    taps = 1 if "nearest" in spec.name else 2 ** (len(spec.inputs[0].shape) - 2)
    _table(spec, traffic, 0, taps * spec.outputs[0].numel)


@_bytes("torchvision.roi_align", "torchvision.qroi_align", "torchvision.ps_roi_align")
def _regions(spec: OpSpec, traffic: Traffic) -> None:
    ratio = spec.args[5] if len(spec.args) > 5 and isinstance(spec.args[5], int) else 0
    if ratio > 0:
        _table(spec, traffic, 0, 4 * ratio * ratio * spec.outputs[0].numel)


@_bytes("nll_loss", "nll_loss2d", "nll_loss_nd", "nll_loss_forward", "nll_loss2d_forward")
def _picks(spec: OpSpec, traffic: Traffic) -> None:
    # one number for each target
    _table(spec, traffic, 0, spec.inputs[1].numel)


# Operators that place elements of a source into a target at indices: which argument is the source, and whether the target's
# old value is read there.
_PLACING: dict[str, tuple[int, str, bool]] = {
    "scatter": (3, "src", False),
    "scatter_add": (3, "src", True),
    "scatter_reduce": (3, "src", True),
    "index_copy": (3, "source", False),
    "index_add": (3, "source", True),
    "index_reduce": (3, "source", True),
    "index_put": (2, "values", False),
    "_unsafe_index_put": (2, "values", False),
    "_index_put_impl": (2, "values", False),
    "index_fill": (2, "index", False),
    "put": (2, "source", False),
    "masked_scatter": (2, "source", False),
    "slice_scatter": (1, "src", False),
    "select_scatter": (1, "src", False),
    "diagonal_scatter": (1, "src", False),
}


def _places(spec: OpSpec, traffic: Traffic) -> None:
    base = spec.name.partition(".")[2]
    argument, keyword, adds = _PLACING[base.rstrip("_")]
    if base.startswith("index_put") and len(spec.args) > 3 and spec.args[3]:
        adds = True
    if base.startswith("index_fill"):
        placed = _filled(spec)
    else:
        at = _position(spec, argument, keyword)
        index = next((t for t in spec.inputs[1:] if t.dtype == "int64"), None)
        source = spec.inputs[at] if at is not None else index
        placed = source.numel if source is not None else 0
        if base.startswith(("scatter", "put")) and index is not None:
            placed = index.numel
        if base.startswith(("index_put", "_unsafe_index_put", "_index_put")):
            placed = max(placed, _put_elements(spec))
    if not base.endswith("_"):
        # a copy of the target with the elements placed in it: both are whole
        return
    nbytes = min((placed * DTYPE_BITS[spec.inputs[0].dtype] + 7) // 8, traffic[0][0])
    traffic[0][0] = nbytes if adds else 0
    if traffic[1]:
        traffic[1][0] = nbytes


def _filled(spec: OpSpec) -> int:
    dim, index = spec.args[1], spec.args[2]
    if not isinstance(dim, int) or not isinstance(index, TensorSpec) or not spec.inputs[0].shape:
        return spec.inputs[0].numel
    return spec.inputs[0].numel // max(spec.inputs[0].shape[dim], 1) * index.numel


def _put_elements(spec: OpSpec) -> int:
    """Elements that index_put writes: the broadcast of the indices, times the dimensions left whole. A mask may mean all."""
    target, indices = spec.inputs[0], spec.args[1]
    if not isinstance(indices, list):
        return 0
    given = [i for i in indices if isinstance(i, TensorSpec)]
    if any(i.dtype == "bool" for i in given):
        return target.numel
    whole = 1
    for at, n in enumerate(target.shape):
        if at >= len(indices) or indices[at] is None:
            whole *= n
    points = 1
    rank = max((len(i.shape) for i in given), default=0)
    for axis in range(rank):
        points *= max((i.shape[axis - rank] for i in given if len(i.shape) >= rank - axis), default=1)
    return points * whole


for _name in _PLACING:
    _bytes(_name, _name + "_")(_places)


@_bytes("convolution_backward")
def _convolution_backward(spec: OpSpec, traffic: Traffic) -> None:
    # the input is read for the weight's gradient only, the weight for the input's
    mask = spec.args[10] if len(spec.args) > 10 else spec.kwargs.get("output_mask")
    if isinstance(mask, list):
        if not mask[1]:
            traffic[0][1] = 0
        if not mask[0]:
            traffic[0][2] = 0


def traffic_of(spec: OpSpec, adjust: Callable[[OpSpec, Traffic], None] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if spec.view:
        return (0,) * len(spec.inputs), (0,) * len(spec.outputs)
    traffic = default(spec)
    if adjust is not None:
        adjust(spec, traffic)
    return tuple(traffic[0]), tuple(traffic[1])


def mutated(spec: OpSpec) -> tuple[int, ...]:
    """As `roofline.cost.mutated`."""
    if not spec.mutates:
        return ()
    if spec.outputs and (spec.name.endswith("_") or "out" in spec.overload):
        return (0,) * len(spec.mutates)
    return tuple(size(spec.inputs[i]) for i in spec.mutates)
