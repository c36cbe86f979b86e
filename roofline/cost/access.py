"""How an operator walks through memory: the layout of its tensors, as far as a kernel's speed depends on it."""

from __future__ import annotations

import math

from roofline.classes import CONVS
from roofline.dtypes import DTYPE_BITS
from roofline.records import OpSpec, TensorSpec

# Elements per row that the masks of fused attention have to be a multiple of, else they are copied first.
_MASK_ALIGNMENT = 8

_CONTIGUOUS = frozenset(
    {"aten.layer_norm", "aten.linear", "aten.softmax", "aten._softmax", "aten.log_softmax", "aten._log_softmax"}
)
_ONE_THREAD_A_PIXEL = frozenset({"upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"})


def sizes(spec: OpSpec, klass: str) -> dict[str, int]:
    """What to add to Kernel.dims: `last` (channels-last input) for convolutions, pools and norms; `again` (bytes that a second
    gradient reads once more) for a convolution's backward; `run` (bytes in a row that the most scattered large input offers in
    the order of the result, 0 where all stream) for pointwise and layout kernels;
    `serial` and `threads` (of interpolations on a GPU: turns of each thread) for pools; `passes` (how often a norm reads its
    input from memory); `copied` (bytes of an input that the operator makes contiguous for itself) for norms, linear layers and
    softmax; `mask` (bytes of an additive mask), `misaligned` and `math` (no fused kernel takes it) for attention.
    """
    if klass in CONVS:
        if "backward" in spec.name:
            return {"last": last(spec), "again": again(spec)}
        return {"last": last(spec), "bias": int(len(spec.args) > 2 and isinstance(spec.args[2], TensorSpec))}
    if klass == "pool":
        return {"last": last(spec)} | _turns(spec)
    if klass in ("pointwise", "layout"):
        return {"run": run(spec)}
    if klass == "norm":
        return {"last": last(spec), "passes": passes(spec), "copied": copied(spec)}
    if klass in ("gemm", "softmax"):
        return {"copied": copied(spec)}
    if klass == "attention":
        return _attention(spec)
    return {}


def strides(t: TensorSpec) -> tuple[int, ...]:
    """Its strides in elements, row-major ones made explicit."""
    if t.stride:
        return t.stride
    out, step = [], 1
    for n in reversed(t.shape):
        out.append(step)
        step *= n
    return tuple(reversed(out))


def channels_last(t: TensorSpec) -> bool:
    """Whether a 4-d tensor has its channels innermost (and is not row-major at the same time)."""
    return len(t.shape) == 4 and bool(t.stride) and t.shape[1] > 1 and t.stride[1] == 1


def last(spec: OpSpec) -> int:
    """1 where the operator works channels-last: its input is so, or its result."""
    return int(any(channels_last(t) for t in (*spec.inputs[:1], *spec.outputs[:1])))


def again(spec: OpSpec) -> int:
    """Bytes of the result's gradient that a convolution's backward reads once more: each gradient is a kernel of its own."""
    mask = spec.args[-1] if spec.args and isinstance(spec.args[-1], list) else [True, True]
    return spec.inputs[0].nbytes * max(sum(map(bool, mask)) - 1, 0)


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
                break
            length *= t.shape[d]
        if not whole:
            nbytes = max(length * DTYPE_BITS[t.dtype] // 8, 1)
            shortest = min(shortest, nbytes) if shortest else nbytes
    return shortest


def _turns(spec: OpSpec) -> dict[str, int]:
    """PyTorch's CUDA kernels for these have one thread for each output pixel, which loops over images and channels
    (ATen/native/cuda/UpSample*.cu); channels-last bilinear ones are spread over all elements.
    """
    name = spec.name.removeprefix("aten.")
    if name not in _ONE_THREAD_A_PIXEL or not spec.outputs or (name == "upsample_bilinear2d" and last(spec)):
        return {}
    n, c, *pixels = spec.outputs[0].shape
    return {"serial": n * c, "threads": math.prod(pixels)}


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
    if spec.name not in _CONTIGUOUS or not spec.inputs or not spec.inputs[0].stride:
        return 0
    x = spec.inputs[0]
    length = 1
    kept = [(n, s) for n, s in zip(x.shape, x.stride, strict=True) if n > 1]
    rows = kept[:-1] if spec.name == "aten.linear" else kept
    if spec.name == "aten.linear":
        if kept and kept[-1][1] != 1:
            return x.nbytes
        length = rows[-1][1] if rows else 1
    for n, step in reversed(rows):
        if step != length:
            return x.nbytes
        length *= n
    return 0


def _attention(spec: OpSpec) -> dict[str, int]:
    # the forward takes q, k, v, mask; a backward the gradient before them, and a mask in the memory-efficient kernel alone
    given: list[object] = list(spec.inputs[3:4])
    if "backward" in spec.name:
        given = list(spec.args[4:5]) if "efficient" in spec.name else []
    mask = next((t for t in given if isinstance(t, TensorSpec) and len(t.shape) >= 2), None)
    rank = len(spec.inputs[0].shape) if spec.inputs else 4
    if mask is None:
        return {"mask": 0, "misaligned": 0, "math": int(rank != 4)}
    steps = strides(mask)[:-1]
    return {
        "mask": mask.nbytes,
        "misaligned": int(any(s % _MASK_ALIGNMENT for s in steps)),
        "math": int(rank != 4),
    }
