"""Scratch memory that a kernel takes from PyTorch's CPU allocator while it runs, beyond its results.

On x86 CPUs convolutions run in oneDNN, which works on blocked layouts: channels in groups of one vector. A tensor that
arrives row-major is copied into blocks for the duration of the call, and the result is copied back. An input of three
channels or in channels-last layout is read as it is, and a 1x1 convolution of stride 1 is a plain matrix product where one
thread runs it or it is small. The copies and their order are those that the allocator's events show
(benchmarks/memory.py), for a vector of 16 floats (AVX-512).
"""

from __future__ import annotations

from math import prod

from roofline.records import DTYPE_BITS, OpSpec, TensorSpec

_BLOCK = 16
# a 1x1 convolution on more elements than this is split between threads, which takes the blocked kernel
_SMALL = 24_576
_FORWARD = frozenset({"aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution"})


def onednn(spec: OpSpec, threads: int) -> int:
    """Bytes of scratch of one operator on an x86 CPU, at the moment when results and scratch together are most."""
    if spec.name in _FORWARD:
        return _forward(spec, threads)
    if spec.name == "aten.convolution_backward":
        return _backward(spec, threads)
    if spec.name == "aten.max_pool2d":  # the CPU's kernel makes the indices too, asked for or not
        return 8 * spec.out.numel
    if spec.name == "aten._scaled_dot_product_flash_attention_for_cpu_backward":  # reads the gradient row-major
        return spec.inputs[0].nbytes if spec.inputs[0].stride else 0
    return 0


def _blocked(t: TensorSpec, *channels: int) -> int:
    """Bytes of a tensor whose dimensions `channels` are padded to whole blocks."""
    sizes = [-(-n // _BLOCK) * _BLOCK if i in channels else n for i, n in enumerate(t.shape)]
    return prod(sizes) * DTYPE_BITS[t.dtype] // 8


def _weight(w: TensorSpec, groups: int) -> int:
    if groups == w.shape[0] and w.shape[1] == 1:  # depthwise: blocks of groups
        return _blocked(w, 0)
    return w.nbytes if groups > 1 else _blocked(w, 0, 1)


def _plain(x: TensorSpec, w: TensorSpec, stride: object, groups: int, threads: int) -> bool:
    """A matrix product: oneDNN reads and writes row-major tensors."""
    if threads > 1 and x.numel > _SMALL:
        return False
    strides = stride if isinstance(stride, list) else [stride]
    return groups == 1 and all(n == 1 for n in w.shape[2:]) and all(s == 1 for s in strides)


def _channels_last(x: TensorSpec) -> bool:
    return bool(x.stride) and x.stride[1] == 1 and x.shape[1] > 1


def _clone(w: TensorSpec) -> int:
    """Bytes of a channels-last copy of a weight; one of a single channel or point is channels-last as it is."""
    return 0 if w.shape[1] == 1 or prod(w.shape[2:]) == 1 else w.nbytes


def _source(x: TensorSpec) -> int:
    return 0 if x.shape[1] <= 3 else _blocked(x, 1)


def _forward(spec: OpSpec, threads: int) -> int:
    # x [n, c, *i], w [o, c / g, *k] -> [n, o, *p]
    x, w = spec.inputs[:2]
    named = dict(enumerate(spec.args)) | {{"stride": 3, "groups": 6}.get(k, -1): v for k, v in spec.kwargs.items()}
    if spec.name == "aten.convolution":
        groups, transposed = named.get(8, 1), named.get(6, False)
    else:
        groups, transposed = named.get(6, 1), False
    if transposed or len(x.shape) != len(w.shape) or not isinstance(groups, int) or "float" not in x.dtype:
        return 0
    if _plain(x, w, named.get(3, 1), groups, threads):
        return 0
    if _channels_last(x):  # read as it is; the weight is made channels-last, and blocked
        return _clone(w) + _weight(w, groups)
    source = _source(x)
    weight = _weight(w, groups) if source else w.nbytes
    result = _blocked(spec.out, 1)
    return max(source + weight + result - spec.out.nbytes, result)


def _backward(spec: OpSpec, threads: int) -> int:
    # dy [n, o, *p], x [n, c, *i], w [o, c / g, *k] -> dx, dw, db
    dy, x, w = spec.inputs[:3]
    stride, transposed, groups, mask = spec.args[4], spec.args[7], spec.args[9], spec.args[10]
    if transposed or not isinstance(groups, int) or not isinstance(mask, list) or "float" not in x.dtype:
        return 0
    results = (x.nbytes if mask[0] else 0) + (w.nbytes if mask[1] else 0)
    if _plain(x, w, stride, groups, threads):
        return w.nbytes if mask[1] else 0
    if _channels_last(x):
        return _clone(w) + 2 * w.nbytes
    gradient, weight, source = _blocked(dy, 1), _weight(w, groups), _blocked(x, 1)
    peaks = [0]
    if mask[0]:
        peaks += [gradient + weight + source - results, source + x.nbytes - results]
    if mask[1]:
        kept = x.nbytes if mask[0] else 0
        peaks += [kept + _source(x) + gradient + weight - results, kept + weight + w.nbytes - results]
    return max(peaks)
