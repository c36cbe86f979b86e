"""How an operator walks through memory: the layout of its tensors, as far as a kernel's speed depends on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from msgspec.structs import replace

from roofline.classes import CONVS
from roofline.dtypes import DTYPE_BITS
from roofline.records import OpSpec, TensorSpec
from roofline.shapes import Access

# Elements per row that the masks of fused attention have to be a multiple of, else they are copied first.
_MASK_ALIGNMENT = 8

_CONTIGUOUS = frozenset({
    "aten.layer_norm", "aten.native_layer_norm", "aten.native_layer_norm_backward", "aten.linear", "aten.softmax",
    "aten._softmax", "aten.log_softmax", "aten._log_softmax",
})  # fmt: skip
# Gradients of pools: a thread for each element of the image works out which windows it is in, by divisions, and asks each of
# them (ATen/native/cuda/AveragePool2d.cu, DilatedMaxPool2d.cu). So many times an element whose address is worked out by itself:
# without a window, and for each; a maximum's of row-major images, and channels-last, where its windows hardly count.
_SPREAD, _SPREAD_WINDOW, _SOUGHT, _SOUGHT_LAST = 6.5, 1.0, 3.7, 2.0
_ONE_THREAD_A_PIXEL = frozenset({"upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"})


def of(spec: OpSpec, klass: str) -> Access:
    """How a call of a class of kernel walks through memory."""
    own = _OF.get(klass)
    return own(spec) if own is not None else Access()


def strides(t: TensorSpec) -> tuple[int, ...]:
    """Its strides in elements, row-major ones made explicit."""
    if t.stride:
        return t.stride
    out, step = [], 1
    for n in reversed(t.shape):
        out.append(step)
        step *= n
    return tuple(reversed(out))


def row_major(t: TensorSpec) -> bool:
    """Whether it lies as a fresh tensor of its shape does."""
    return not t.stride or t.stride == strides(TensorSpec(t.shape, t.dtype))


def channels_last(t: TensorSpec) -> bool:
    """Whether a 4-d tensor has its channels innermost (and is not row-major at the same time)."""
    return len(t.shape) == 4 and bool(t.stride) and t.shape[1] > 1 and t.stride[1] == 1


def dense(t: TensorSpec) -> bool:
    """Whether its elements lie side by side in memory, in whatever order of dimensions."""
    length = 1
    for step, n in sorted((s, n) for n, s in zip(t.shape, strides(t), strict=True) if n != 1):
        if step != length:
            return False
        length *= n
    return True


# Copies that have a kernel of their own, or that fill a part of their result after the other.
_ONE_BY_ONE = frozenset({
    "roll", "flip", "fliplr", "flipud", "rot90", "tril", "triu", "constant_pad_nd", "pad", "repeat", "tile",
    "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "reflection_pad1d", "reflection_pad2d",
    "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d",
})  # fmt: skip
_JOINED = frozenset({"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"})
# `roll` divides by the size of each dimension that it turns.
_MODULO = 3
# Bytes of the widest load of a thread, and of a sector of memory
_LOAD, _SECTOR = 16, 32
# Bytes that the row of a matrix should be no multiple of (oneMKL's developer guide, "Coding Techniques").
_SETS = 2048


def single(spec: OpSpec, klass: str) -> int:
    """Elements of the result that a loop takes one by one: its operands do not lie in the same order, side by side (a
    broadcast vector, a permuted view), so that each element's address is worked out for itself (TensorIterator's
    `is_contiguous`; CatArrayBatchedCopy beside its vectorised form).
    """
    if not spec.outputs or not spec.inputs:
        return 0
    out = spec.outputs[0]
    name = spec.name.removeprefix("aten.")
    if klass == "layout" and name in _ONE_BY_ONE:
        return out.numel * (_MODULO if name == "roll" else 1)
    if klass == "layout" and name in _JOINED:
        rows = (math.prod(t.shape[_joined_dim(spec) :]) * DTYPE_BITS[t.dtype] // 8 for t in spec.inputs)
        even = all(n % _LOAD == 0 for n in rows)
        return 0 if even and all(map(row_major, (out, *spec.inputs))) else out.numel
    large = [t for t in spec.inputs if t.numel > 1]
    # one of another type than the result is cast as it is loaded, element by element; a copy to halves alone has wide loads
    casts = klass == "pointwise" and any(_floats_differ(t, out) for t in large)
    if casts and len(large) == 1:
        casts = out.dtype not in _HALVES
    if dense(out) and all(t.shape == out.shape and strides(t) == strides(out) for t in large) and not casts:
        return 0
    return out.numel * (2 + (casts and len(large) > 1)) // 2


def _floats_differ(t: TensorSpec, out: TensorSpec) -> bool:
    return t.dtype != out.dtype and t.dtype in _FLOATS and out.dtype in _FLOATS


def _joined_dim(spec: OpSpec) -> int:
    dim = next((a for a in spec.args[1:] if isinstance(a, int)), spec.kwargs.get("dim", 0))
    rank = max(len(spec.inputs[0].shape), 1)
    return dim % rank if isinstance(dim, int) else 0


_HALVES = frozenset({"float16", "bfloat16"})
_FLOATS = _HALVES | {"float32", "float64"}
# loads and stores for an element of BatchNorm in training: x, x, y; and of its gradient: x, dy, x, dy, dx
_LOADS, _LOADS_BACK = 3, 5
# cuDNN's kernels for it channels-last (`nhwc_semiPersist`): a block takes 64 channels, 32 where there are no more. Pixels that
# do not start at sectors take two for one at each edge. An element in hundredths of one whose address is worked out by itself
_WIDE, _NARROW, _IN_STEP, _IN_STEP_BACK, _OUT_OF_STEP = 64, 32, 80, 100, 1.4
# Bytes of a channel that cuDNN's block keeps from statistics to result (`1C11_singleread`): 192 planes of 14 x 14 halves are
# kept on an H200, 192 of 16 x 16 are not.
_KEPT = 80 * 1024


def _norm(spec: OpSpec) -> Access:
    """LayerNorm gives each row a block of threads; BatchNorm goes element by element, plane after plane where those are
    row-major. In training one block adds up each channel, and in cuDNN's kernels (`1C11`) it writes the channel's results too.
    """
    name, x = spec.name.removeprefix("aten."), spec.inputs[0]
    found = Access(last=last(spec), passes=passes(spec), copied=copied(spec), run=_copied_run(spec))
    if "layer_norm" in name or "rms_norm" in name:
        given = next((a for a in spec.args[1:3] if isinstance(a, list)), [])
        width = math.prod(n for n in given if isinstance(n, int)) or 1
        rows = x.numel // width
        found = replace(found, blocks=rows, packed=x.numel)
        return replace(found, serial=_turns(rows), abreast=width) if name.endswith("backward") else found
    if len(x.shape) < 2 or "weight_norm" in name or "renorm" in name:
        return found
    planes, channels = x.shape[0] * x.shape[1], x.shape[1]
    trains = "batch_norm" in name and found.passes > 1
    # halves beside weights in halves are no case for cuDNN; PyTorch's own sums take twice as long
    own = x.dtype in _HALVES and any(t.dtype in _HALVES for t in spec.inputs[1:] if len(t.shape) == 1)
    # both turns of a backward read two tensors, for the one of a forward
    backward = name.endswith("backward")
    # a row of channels at each place, as also [n, c] is (Normalization.cu, batch_norm_use_channels_last_kernels)
    if channels_last(x) or strides(x)[1] == 1:
        if trains and not own:
            return replace(found, single=_persistent(x, backward))
        elements = x.numel * (1 + own if trains else 1)
        return replace(found, single=elements * _LOADS_BACK // _LOADS if backward and trains else elements)
    if trains and not own:
        each, tensors = x.numel // max(channels, 1), 1 + backward
        if each * DTYPE_BITS[x.dtype] // 8 <= _KEPT:
            return replace(found, passes=1, taken=each // 2, tensors=tensors, channels=channels)
        return replace(found, taken=each, tensors=tensors, channels=channels)
    if trains:
        return replace(found, single=x.numel, planes=planes, channel=2 * x.numel // max(channels, 1), channels=channels)
    return replace(found, single=x.numel, planes=planes)


def _persistent(x: TensorSpec, backward: bool) -> int:
    """BatchNorm in training channels-last, in cuDNN's kernels: elements whose address is worked out by itself."""
    channels = max(x.shape[1], 1)
    width = _WIDE if channels > _NARROW else _NARROW
    apart = _OUT_OF_STEP if channels * DTYPE_BITS[x.dtype] // 8 % _SECTOR else 1
    elements = x.numel // channels * -(-channels // width) * width
    return int(elements * (_IN_STEP_BACK if backward else _IN_STEP) * apart) // 100


# rows that a block of the kernel for the gradients of LayerNorm's weights adds in a turn, and the loads of one that wait for
# each other; beyond so many rows it is split among blocks (ATen/native/cuda/layer_norm_kernel.cu)
_ROWS, _WAITS, _SPLIT = 256, 2, 2**16


def _turns(rows: int) -> int:
    """Loads after each other of the blocks that add up the gradients of LayerNorm's weights, 32 columns each."""
    return _WAITS * -(-min(rows, _SPLIT) // _ROWS)


# the longest row of a softmax that a warp keeps in registers (ATen/native/cuda/PersistentSoftmax.cuh)
_IN_REGISTERS = 1024


def _softmax(spec: OpSpec) -> Access:
    """A warp takes a short row in registers, padded to a power of two; a block takes a long one, in two turns."""
    x = spec.inputs[0]
    dim = next((a for a in spec.args[1:] if isinstance(a, int) and not isinstance(a, bool)), -1)
    width = max(x.shape[dim] if x.shape else 1, 1)
    if width <= _IN_REGISTERS:
        packed = x.numel // width * 2 ** (width - 1).bit_length()
        return Access(copied=copied(spec), run=_copied_run(spec), packed=packed)
    return Access(copied=copied(spec), run=_copied_run(spec), packed=2 * x.numel, blocks=x.numel // width)


def _rows(spec: OpSpec) -> int:
    """Results of a reduction that runs along the innermost dimension of a row-major tensor."""
    if not spec.inputs or not spec.outputs or not spec.inputs[0].shape or strides(spec.inputs[0])[-1] != 1:
        return 0
    x, out = spec.inputs[0], spec.outputs[0]
    dims = next((a for a in spec.args[1:] if isinstance(a, list | int) and not isinstance(a, bool)), None)
    given = [d % len(x.shape) for d in (dims if isinstance(dims, list) else [dims]) if isinstance(d, int)]
    return out.numel if len(x.shape) - 1 in given else 0


def _reduction(spec: OpSpec) -> Access:
    """Along the rows of a tensor each result is a group of threads; down its columns, the columns lie side by side."""
    rows = _rows(spec)
    if rows or not spec.inputs or not spec.outputs or len(spec.inputs[0].shape) < 2 or not spec.outputs[0].numel:
        return Access(planes=rows)
    x, out = spec.inputs[0], spec.outputs[0]
    columns = out.numel
    if strides(x)[-1] != 1 or x.shape[-1] != columns or x.numel < 2 * columns:
        return Access()
    return Access(serial=x.numel // columns, abreast=columns)


def _pool(spec: OpSpec) -> Access:
    """An adaptive average over the whole plane is a mean.

    PyTorch's CUDA kernels for some interpolations have one thread for each output pixel, which loops over images and channels
    (ATen/native/cuda/UpSample*.cu); channels-last bilinear ones are spread over all elements.
    """
    name, own = spec.name.removeprefix("aten."), last(spec)
    if not spec.outputs:
        return Access(last=own)
    out = spec.outputs[0]
    if "adaptive_avg_pool2d" in name and "backward" not in name and out.shape[-2:] == (1, 1):
        return Access(last=own, whole=1, planes=0 if own else out.numel)
    if name in ("avg_pool2d_backward", "avg_pool3d_backward", "max_pool2d_with_indices_backward"):
        return Access(last=own, single=_spread(name, spec, own))
    if name == "upsample_nearest2d_backward" and not own:
        # a thread for each pixel and channel of the image, which goes through all images and the window's rows and columns
        n, *pixels = out.shape
        rows = sum(-(-large // max(small, 1)) for large, small in zip(spec.inputs[0].shape[-2:], out.shape[-2:], strict=True))
        return Access(last=own, serial=n * rows, abreast=math.prod(pixels))
    if name not in _ONE_THREAD_A_PIXEL or (name == "upsample_bilinear2d" and own):
        return Access(last=own)
    n, c, *pixels = out.shape
    return Access(last=own, serial=n * c, abreast=math.prod(pixels))


def _spread(name: str, spec: OpSpec, own: int) -> int:
    """What the gradient of a pool costs, in elements whose address is worked out by itself."""
    elements = spec.outputs[0].numel
    if name.startswith("max"):
        return int(elements * (_SOUGHT_LAST if own else _SOUGHT))
    taps = [a for a in spec.args[2:3] if isinstance(a, list)]
    kernel = math.prod(n for n in (taps[0] if taps else []) if isinstance(n, int))
    return int(elements * _SPREAD + spec.inputs[0].numel * kernel * _SPREAD_WINDOW)


def aligned(spec: OpSpec) -> int:
    """Bytes, at most 16, that every row of a product's two operands and of its result starts at a multiple of. A row is what
    lies side by side: of a transposed operand its columns. 0 where it has no rows (a product with a vector).
    """
    matrices = [t for t in (*spec.inputs, *spec.outputs) if len(t.shape) >= 2 and min(t.shape[-2:]) > 1]
    if len(matrices) < 3:
        return 0
    least = _LOAD
    for t in matrices:
        steps = [s * DTYPE_BITS[t.dtype] // 8 for n, s in zip(t.shape, strides(t), strict=True) if s > 1 and n > 1]
        least = math.gcd(least, *steps)
    return least


def aliased(spec: OpSpec) -> int:
    """1 where rows of a product's first operand start at multiples of 2,048 bytes, 2 where those of the second do, 3 of both.
    Such rows share two sets of a CPU's nearest cache (64 sets of 64 bytes), so that a few of them side by side do not fit.
    """
    matrices = [t for t in spec.inputs if len(t.shape) >= 2 and min(t.shape[-2:]) > 1][-2:]
    if len(matrices) < 2:
        return 0
    first, second = (max(strides(t)[-2:]) * DTYPE_BITS[t.dtype] // 8 % _SETS == 0 for t in matrices)
    return first + 2 * second


def last(spec: OpSpec) -> int:
    """1 where the operator works channels-last: its input is so, or its result."""
    return int(any(channels_last(t) for t in (*spec.inputs[:1], *spec.outputs[:1])))


def _wanted(spec: OpSpec) -> Sequence[object]:
    """Which gradients a convolution's backward is asked for: of the image, of the weight, of the bias."""
    return spec.args[-1] if spec.args and isinstance(spec.args[-1], list) else [True, True]


def again(spec: OpSpec) -> int:
    """Bytes of the result's gradient that a convolution's backward reads once more: each gradient is a kernel of its own."""
    return spec.inputs[0].nbytes * max(sum(map(bool, _wanted(spec))) - 1, 0)


def summed(spec: OpSpec) -> int:
    """Bytes of image and gradient that a convolution's backward reads to sum the gradient of its weight; 0 without one."""
    mask = _wanted(spec)
    return sum(t.nbytes for t in spec.inputs[:2]) if len(mask) > 1 and mask[1] else 0


def biased(spec: OpSpec) -> int:
    """Bytes of the result's gradient that a convolution's backward adds up to that of its bias; 0 without one."""
    mask = _wanted(spec)
    return spec.inputs[0].nbytes if len(mask) > 2 and mask[2] else 0


def run(spec: OpSpec) -> int:
    """Bytes that lie in a row in the most scattered large input, walking in the result's order; 0 where every input streams."""
    if not spec.outputs:
        return 0
    out = spec.outputs[0]
    steps = strides(out)
    order = [d for d in sorted(range(len(out.shape)), key=steps.__getitem__) if out.shape[d] > 1]
    shortest = 0
    for t in spec.inputs:
        if len(t.shape) != len(out.shape) or 2 * t.distinct < out.numel:
            continue
        own, length, whole = strides(t), 1, True
        for d in order:
            if t.shape[d] != out.shape[d] or own[d] != length:
                whole = False
                length *= t.shape[d] if own[d] == length else 1  # a part of a row, as in a concatenation
                break
            length *= t.shape[d]
        if not whole:
            nbytes = max(length * DTYPE_BITS[t.dtype] // 8, 1)
            shortest = min(shortest, nbytes) if shortest else nbytes
    return shortest


def passes(spec: OpSpec) -> int:
    """How often a norm reads its input: GroupNorm, and BatchNorm in training, take their statistics in one kernel and apply
    them in another; a layer's row stays in cache between. A gradient sums over the batch for its weights first, or last.
    """
    name = spec.name.removeprefix("aten.")
    if name.endswith("norm_backward") or name in ("group_norm", "native_group_norm", "instance_norm"):
        return 2
    trains = name.endswith("batch_norm") and len(spec.args) > 5 and spec.args[5] is True
    return 2 if trains or name in ("_native_batch_norm_legit", "batch_norm_with_update", "_batch_norm_with_update") else 1


def copied(spec: OpSpec) -> int:
    """Bytes that `layer_norm`, `linear` and `softmax` copy because they want their input contiguous (rows that fold into one).

    `group_norm` takes channels-last on no GPU: its input is copied, and its result again at the next convolution.
    """
    if spec.name == "aten.group_norm":
        return 2 * spec.inputs[0].nbytes if channels_last(spec.inputs[0]) else 0
    if spec.name not in _CONTIGUOUS or not any(t.stride for t in spec.inputs[:2]):
        return 0
    if spec.name == "aten.native_layer_norm_backward":
        return sum(t.nbytes for t in spec.inputs[:2] if len(t.shape) > 1 and not row_major(t))
    x = spec.inputs[0]
    if spec.name != "aten.linear":
        return 0 if _in_a_row(x) == x.numel else x.nbytes
    *rows, last_row = _steps(x) or [(1, 1)]
    folds = last_row[1] == 1 and all(outer == n * inner for (_, outer), (n, inner) in pairwise(rows))
    return 0 if folds else x.nbytes


def _copied_run(spec: OpSpec) -> int:
    """Bytes that lie in a row in what `copied` makes contiguous; 0 where nothing is."""
    x = spec.inputs[0]
    return max(_in_a_row(x) * DTYPE_BITS[x.dtype] // 8, 1) if copied(spec) else 0


def _steps(t: TensorSpec) -> list[tuple[int, int]]:
    """Size and stride of each dimension that has more than one element."""
    return [(n, step) for n, step in zip(t.shape, strides(t), strict=True) if n > 1]


def _in_a_row(t: TensorSpec) -> int:
    """Elements that lie one after the other, from the last dimension on."""
    length = 1
    for n, step in reversed(_steps(t)):
        if step != length:
            break
        length *= n
    return length


def _attention(spec: OpSpec) -> Access:
    # the forward takes q, k, v, mask; a backward the gradient before them, and a mask in the memory-efficient kernel alone
    given: list[object] = list(spec.inputs[3:4])
    if "backward" in spec.name:
        given = list(spec.args[4:5]) if "efficient" in spec.name else []
    mask = next((t for t in given if isinstance(t, TensorSpec) and len(t.shape) >= 2), None)
    math_only = int((len(spec.inputs[0].shape) if spec.inputs else 4) != 4)
    if mask is None:
        return Access(math=math_only)
    return Access(mask=mask.nbytes, misaligned=int(any(s % _MASK_ALIGNMENT for s in strides(mask)[:-1])), math=math_only)


def _conv(spec: OpSpec) -> Access:
    if "backward" in spec.name:
        more = {"again": again(spec), "summed": summed(spec), "biased": biased(spec)}
        return Access(last=last(spec), own=own_depthwise(spec), **more)
    return Access(
        last=last(spec), bias=int(len(spec.args) > 2 and isinstance(spec.args[2], TensorSpec)), own=own_depthwise(spec)
    )


def own_depthwise(spec: OpSpec) -> int:
    """1 where a GPU runs a row-major depthwise convolution in PyTorch's own kernel and not in cuDNN's: in other types than
    half, with few channels, and under most strides (ATen/native/Convolution.cpp, use_cudnn_depthwise).
    """
    tensors = [t for t in spec.inputs if len(t.shape) == 4]
    back = "backward" in spec.name
    if len(tensors) < 2 + back:
        return 0
    x, weight = tensors[back : back + 2]
    (n, channels, _, width), (taps, side) = x.shape, weight.shape[2:]
    if weight.shape[1] != 1 or channels == 1:
        return 0
    # of a result, and of the gradient of one
    steps = math.ceil(width / max((tensors[0] if back else spec.out).shape[-1], 1))
    if x.dtype != "float16" or channels < 32 or taps != side or side not in (1, 3, 5) or width < 7 or steps > 2:
        return 1
    if steps == 1:
        return 0
    if n == 1:
        return int(side == 1 and width > 28)
    if side == 1:
        return int(n > 16 or channels < 128 or width > 7)
    return int(channels < 512 and (channels < 256 or width < 28))


def _loop(klass: str) -> Callable[[OpSpec], Access]:
    return lambda spec: Access(run=run(spec), single=single(spec, klass))


def _gather(spec: OpSpec) -> Access:
    """A nearest neighbour is a whole pixel channels-last; the others look things up."""
    return Access(last=last(spec)) if "upsample_nearest" in spec.name else Access()


_OF: dict[str, Callable[[OpSpec], Access]] = {
    **dict.fromkeys(CONVS, _conv),
    **{klass: _loop(klass) for klass in ("pointwise", "layout")},
    "pool": _pool,
    "gather": _gather,
    "norm": _norm,
    "softmax": _softmax,
    "attention": _attention,
    "reduction": _reduction,
    "gemm": lambda spec: Access(copied=copied(spec), run=_copied_run(spec), aligned=aligned(spec), aliased=aliased(spec)),
}
