"""Scratch memory that a kernel takes from PyTorch's CPU allocator while it runs, beyond its results.

On x86 CPUs convolutions run in oneDNN, which works on blocked layouts: channels in groups of one vector. A tensor that
arrives row-major is copied into blocks for the duration of the call, and the result is copied back. A 1x1 convolution of
stride 1 is a matrix product and needs neither; an input of three channels is read as it is. The copies and their order
are those that the allocator's events show (benchmarks/memory.py), for a vector of 16 floats (AVX-512).
"""

from __future__ import annotations

from math import prod

from roofline.records import DTYPE_BITS, OpSpec, TensorSpec

_BLOCK = 16
_FORWARD = frozenset({"aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution"})


def onednn(spec: OpSpec) -> int:
    """Bytes of scratch of one operator on an x86 CPU, at the moment when results and scratch together are most."""
    if spec.name in _FORWARD:
        return _forward(spec)
    if spec.name == "aten.convolution_backward":
        return _backward(spec)
    if spec.name == "aten.max_pool2d":  # the CPU's kernel makes the indices too, asked for or not
        return 8 * spec.out.numel
    return 0


def _blocked(t: TensorSpec, *channels: int) -> int:
    """Bytes of a tensor whose dimensions `channels` are padded to whole blocks."""
    sizes = [-(-n // _BLOCK) * _BLOCK if i in channels else n for i, n in enumerate(t.shape)]
    return prod(sizes) * DTYPE_BITS[t.dtype] // 8


def _weight(w: TensorSpec, groups: int) -> int:
    if groups == w.shape[0] and w.shape[1] == 1:  # depthwise: blocks of groups
        return _blocked(w, 0)
    return w.nbytes if groups > 1 else _blocked(w, 0, 1)


def _plain(w: TensorSpec, stride: object, groups: int) -> bool:
    """A matrix product: oneDNN reads and writes row-major tensors."""
    strides = stride if isinstance(stride, list) else [stride]
    return groups == 1 and all(n == 1 for n in w.shape[2:]) and all(s == 1 for s in strides)


def _channels_last(x: TensorSpec) -> bool:
    return bool(x.stride) and x.stride[1] == 1 and x.shape[1] > 1


def _source(x: TensorSpec) -> int:
    return 0 if x.shape[1] <= 3 else _blocked(x, 1)


def _forward(spec: OpSpec) -> int:
    # x [n, c, *i], w [o, c / g, *k] -> [n, o, *p]
    x, w = spec.inputs[:2]
    named = dict(enumerate(spec.args)) | {{"stride": 3, "groups": 6}.get(k, -1): v for k, v in spec.kwargs.items()}
    if spec.name == "aten.convolution":
        groups, transposed = named.get(8, 1), named.get(6, False)
    else:
        groups, transposed = named.get(6, 1), False
    if transposed or len(x.shape) != len(w.shape) or not isinstance(groups, int) or "float" not in x.dtype:
        return 0
    if _plain(w, named.get(3, 1), groups):
        return 0
    if _channels_last(x):  # read as it is; the weight is made channels-last, and blocked
        return (0 if w.shape[1] == 1 else w.nbytes) + _weight(w, groups)
    source = _source(x)
    weight = _weight(w, groups) if source else w.nbytes
    result = _blocked(spec.out, 1)
    return max(source + weight + result - spec.out.nbytes, result)


def _backward(spec: OpSpec) -> int:
    # dy [n, o, *p], x [n, c, *i], w [o, c / g, *k] -> dx, dw, db
    dy, x, w = spec.inputs[:3]
    stride, transposed, groups, mask = spec.args[4], spec.args[7], spec.args[9], spec.args[10]
    if transposed or not isinstance(groups, int) or not isinstance(mask, list) or "float" not in x.dtype:
        return 0
    results = (x.nbytes if mask[0] else 0) + (w.nbytes if mask[1] else 0)
    if _plain(w, stride, groups):
        return w.nbytes if mask[1] else 0
    gradient, weight, source = _blocked(dy, 1), _weight(w, groups), _blocked(x, 1)
    peaks = [0]
    if mask[0]:
        peaks += [gradient + weight + source - results, source + x.nbytes - results]
    if mask[1]:
        kept = x.nbytes if mask[0] else 0
        peaks += [kept + _source(x) + gradient + weight - results, kept + weight + w.nbytes - results]
    return max(peaks)
