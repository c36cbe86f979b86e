"""Scratch memory that a kernel takes while it runs, beyond its results.

On any device: an input that an operator makes contiguous for itself, the indices of a maximum pool that nobody asked for.

On x86 CPUs convolutions in single or half precision run in oneDNN, which works on blocked layouts: channels in groups of
one vector. A tensor that arrives row-major is copied into blocks for the duration of the call, and the result is copied
back. An input of three channels or in channels-last layout is read as it is, and a 1x1 convolution of stride 1 is a plain
matrix product where one thread runs it or it is small. Double precision and small images of batch 1 run in ATen's own
kernels (Convolution.cpp, `use_mkldnn`): the windows of the input side by side, then a matrix product. The copies and
their order are those that the allocator's events show (benchmarks/memory.py), for a vector of 16 floats (AVX-512) and of 8
(AVX2), where no 1x1 convolution is a matrix product and none has half precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from msgspec import Struct
from msgspec.structs import replace

from roofline.cost import access
from roofline.cost.registry import MEMOS
from roofline.devices.device import Device
from roofline.dtypes import DTYPE_BITS
from roofline.records import OpSpec, TensorSpec, identity

# floats of a block where the vectors are 512 bits wide, and where they are shorter
_WIDE, _NARROW = 16, 8
# a 1x1 convolution on more elements than this is split between threads, which takes the blocked kernel (AVX-512)
_SMALL = 24_576
# an image with fewer elements than this, alone in its batch, is not worth oneDNN to PyTorch
_WORTH = 20_480
_FORWARD = {
    "aten.conv1d": False,
    "aten.conv2d": False,
    "aten.conv3d": False,
    "aten.conv_transpose1d": True,
    "aten.conv_transpose2d": True,
    "aten.conv_transpose3d": True,
    "aten.convolution": False,
}
_ATTENTION = ("aten.scaled_dot_product_attention", "aten._scaled_dot_product_flash_attention_for_cpu")
_ATTENTION_BACKWARD = "aten._scaled_dot_product_flash_attention_for_cpu_backward"
# those that take scratch memory on x86 alone
_BLOCKED = frozenset({*_FORWARD, "aten.convolution_backward", *_ATTENTION, _ATTENTION_BACKWARD})


# operator by identity, and what is asked of the device -> the operator, and its scratch
_known: dict[tuple[int, ...], tuple[OpSpec, int]] = {}
MEMOS.append(_known)
_LIMIT = 200_000


def scratch(spec: OpSpec, device: Device) -> int:
    """Bytes of scratch of one operator, at the moment when results and scratch together are most."""
    cpu = asked(device)
    key = identity(spec), *cpu
    known = _known.get(key)
    if known is None or known[0] is not spec:
        if len(_known) >= _LIMIT:
            _known.clear()
        known = _known[key] = spec, (onednn(spec, *cpu) if cpu else 0) + _anywhere(spec)
    return known[1]


def scratches(specs: Sequence[OpSpec], of: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """The same of each of many operators, on devices that are `asked` so."""
    anywhere = [_anywhere(spec) for spec in specs]
    blocked = [(i, spec) for i, spec in enumerate(specs) if spec.name in _BLOCKED]
    found = {}
    for cpu in of:
        found[cpu] = each = anywhere.copy()
        for i, spec in blocked if cpu else ():
            each[i] += onednn(spec, *cpu)
    return found


def asked(device: Device) -> tuple[int, ...]:
    """What is asked of a device: those that answer alike have scratch memory of the same sizes."""
    if device.kind != "cpu" or device.vendor not in ("Intel", "AMD"):
        return ()
    # buffers of one thread: with how many PyTorch runs is known of this machine alone
    buffers = device.threads if device.tier != "datasheet" else 1
    # of the other threads it matters whether there are any, of a vector whether it is the long one
    return min(device.threads, 2), buffers, 512 if (device.simd_bits or 512) >= 512 else 256


def _anywhere(spec: OpSpec) -> int:
    if spec.name in _INDEXED:
        return 8 * spec.out.numel
    if spec.name == "aten.sort":
        x, dims = spec.inputs[0], [a for a in (*spec.args[1:], *spec.kwargs.values()) if isinstance(a, int)]
        dim = next((d for d in dims if not isinstance(d, bool)), -1)
        return 8 * x.shape[dim] if x.shape else 0  # the order of one row
    if spec.name == "aten.scaled_dot_product_attention":
        mask = next((t for t in spec.inputs[3:4] if t.dtype == "bool"), None)
        return mask.numel * DTYPE_BITS[spec.inputs[0].dtype] // 8 if mask else 0  # made into numbers to add
    wanted = _CONTIGUOUS.get(spec.name)
    if wanted:
        return sum(_row_major(t) for i, t in enumerate(spec.inputs) if i in wanted)
    if spec.name in _PRODUCTS:
        return sum(_row_major(t) for t in spec.inputs[-2:] if not _for_blas(t))
    return access.copied(spec)


def _row_major(t: TensorSpec) -> int:
    """Bytes of a row-major copy, where one is made."""
    return t.numel * DTYPE_BITS[t.dtype] // 8 if access.strides(t) != access.strides(replace(t, stride=())) else 0


def _for_blas(t: TensorSpec) -> bool:
    """Whether a matrix product reads it where it lies: rows or columns side by side, or a vector."""
    if len(t.shape) < 2:
        return True
    rows, columns = t.shape[-2:]
    a, b = access.strides(t)[-2:]
    return (b == 1 and a >= max(columns, 1)) or (a == 1 and b >= max(rows, 1)) or rows == 1 or columns == 1


# Kernels that read some of their inputs row-major, and copy what is not: the numbers of these.
_CONTIGUOUS: dict[str, tuple[int, ...]] = {
    "aten._softmax_backward_data": (0, 1), "aten._log_softmax_backward_data": (0, 1), "aten.native_group_norm_backward": (0, 1),
    "aten.native_layer_norm_backward": (0, 1), "aten.native_group_norm": (0,), "aten.native_layer_norm": (0,),
    "aten.embedding_dense_backward": (0,), "aten._embedding_bag_backward": (0,), "aten.grid_sampler_2d_backward": (0,),
    "aten._adaptive_avg_pool2d_backward": (0,), "aten._adaptive_avg_pool3d_backward": (0,), "aten._softmax": (0,),
    "aten._log_softmax": (0,), "aten.adaptive_max_pool2d_backward": (0,), "aten.adaptive_max_pool3d_backward": (0,),
    "aten.max_pool3d_with_indices_backward": (0,), "aten.tril": (0,), "aten.triu": (0,), "aten.channel_shuffle": (0,),
}  # fmt: skip
_PRODUCTS = frozenset({"aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm"})

# They make the indices too, asked for or not.
_INDEXED = frozenset({"aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d", "aten.adaptive_max_pool1d"})


class _Cpu(Struct, frozen=True):
    """What the kernels of a convolution go by: threads, how many of them keep a buffer, floats of a block."""

    threads: int
    buffers: int
    block: int


def onednn(spec: OpSpec, threads: int, buffers: int = 0, simd_bits: int = 512) -> int:
    """Bytes of scratch of a convolution or of attention on an x86 CPU with so many threads, of which `buffers` (all, if it
    is not given) keep one for themselves where a kernel works on pieces, and with vectors of so many bits.
    """
    cpu = _Cpu(threads, buffers or threads, _WIDE if simd_bits >= 512 else _NARROW)
    if spec.name in _FORWARD:
        call = _call(spec)
        return _forward(call, cpu) if call else 0
    if spec.name == "aten.convolution_backward":
        call = _call(spec)
        return _backward(call, cpu, spec.args[10]) if call and isinstance(spec.args[10], list) else 0
    if spec.name in _ATTENTION:
        return _attention(spec, cpu.buffers)
    if spec.name == _ATTENTION_BACKWARD:  # reads the gradient row-major
        return spec.inputs[0].nbytes if spec.inputs[0].stride else 0
    return 0


def _attention(spec: OpSpec, buffers: int) -> int:
    """A block of queries with a block of keys for each thread (FlashAttentionKernel.cpp), and what softmax divided by."""
    # q [b, h, l, e], k [b, h, s, e]
    q, k = spec.inputs[:2]
    if len(q.shape) != 4:
        return 0
    b, h, length, e = q.shape
    rows = min(256 if length >= 768 else 64 if length >= 192 else 32, length)
    columns = min(512, k.shape[2])
    half = 2 * rows * columns if DTYPE_BITS[q.dtype] == 16 else 0
    wide = max(4, DTYPE_BITS[q.dtype] // 8)
    kept = b * h * length * wide if len(spec.outputs) == 1 else 0
    return buffers * (rows * (columns + 2 + e) * wide + half) + kept


class _Conv(Struct, frozen=True):
    """A convolution: input, weight, result (or its gradient), and how the window moves."""

    x: TensorSpec
    w: TensorSpec
    y: TensorSpec
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool

    @property
    def taps(self) -> int:
        return prod(self.w.shape[2:])

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.x.shape[1]

    @property
    def dilated(self) -> bool:
        return any(d > 1 for d in self.dilation)

    @property
    def plain_layout(self) -> bool:
        return not self.x.stride or _channels_last(self.x)

    def windows(self, images: int) -> int:
        """Bytes of every window of so many images of the input side by side; of a transposed one, of its result's."""
        channels, points = (self.y.shape[1], self.x.shape[2:]) if self.transposed else (self.x.shape[1], self.y.shape[2:])
        return images * channels * self.taps * prod(points) * DTYPE_BITS[self.x.dtype] // 8


def _call(spec: OpSpec) -> _Conv | None:
    """The call as one form for all operators; None for what has another (a batch of none, integers)."""
    names = ["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
    transposed, y = _FORWARD.get(spec.name, False), spec.outputs[0]
    if spec.name == "aten.convolution":
        names[6:] = ["transposed", "output_padding", "groups"]
    elif spec.name == "aten.convolution_backward":
        names = ["y", "input", "weight", "bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups"]
        y = spec.inputs[0]
    elif transposed:
        names[5:] = ["output_padding", "groups", "dilation"]
    named = dict(zip(names, spec.args, strict=False)) | spec.kwargs
    x, w, groups = named.get("input"), named.get("weight"), named.get("groups", 1)
    if not isinstance(x, TensorSpec) or not isinstance(w, TensorSpec) or not isinstance(groups, int):
        return None
    if len(x.shape) == len(w.shape) - 1:  # one image without a batch
        x, y = (TensorSpec((1, *t.shape), t.dtype, (0, *t.stride) if t.stride else ()) for t in (x, y))
    if len(x.shape) != len(w.shape) or "float" not in x.dtype or not x.numel:
        return None
    n = len(x.shape) - 2
    return _Conv(
        x,
        w,
        y,
        _each(named.get("stride", 1), n),
        _each(named.get("dilation", 1), n),
        groups,
        bool(named.get("transposed", transposed)),
    )


def _each(value: object, n: int) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(v for v in (values * n if len(values) == 1 else values) if isinstance(v, int))


def _blocked(t: TensorSpec, block: int, *channels: int) -> int:
    """Bytes of a tensor whose dimensions `channels` are padded to whole blocks."""
    sizes = [-(-n // block) * block if i in channels else n for i, n in enumerate(t.shape)]
    return prod(sizes) * DTYPE_BITS[t.dtype] // 8


def _weight(w: TensorSpec, groups: int, block: int) -> int:
    if groups == w.shape[0] and w.shape[1] == 1:  # depthwise: blocks of groups
        return _blocked(w, block, 0)
    return w.nbytes if groups > 1 else _blocked(w, block, 0, 1)


def _own(call: _Conv, cpu: _Cpu) -> bool:
    """Whether ATen's own kernel runs it and not oneDNN (Convolution.cpp, use_mkldnn)."""
    if call.x.dtype != "float32":  # oneDNN has half precision with long vectors alone
        return call.x.dtype == "float64" or cpu.block < _WIDE
    kernel = (1, *call.w.shape[2:])[-2:]
    n = call.x.shape[0]
    moves = any(s > 1 for s in call.stride) or call.dilated or n >= 16 or max(kernel) > 1
    worth = call.groups > 1 or min(kernel) > 3 or n > 1 or prod(call.x.shape[:4]) > _WORTH
    return not ((moves or cpu.threads > 1) and worth)


def _plain(call: _Conv, cpu: _Cpu) -> bool:
    """A matrix product: oneDNN reads and writes row-major tensors."""
    if call.transposed or cpu.block < _WIDE or (cpu.threads > 1 and call.x.numel > _SMALL):
        return False
    return call.groups == 1 and call.taps == 1 and all(s == 1 for s in call.stride)


def _channels_last(x: TensorSpec) -> bool:
    return bool(x.stride) and x.stride[1] == 1 and x.shape[1] > 1


def _clone(w: TensorSpec) -> int:
    """Bytes of a channels-last copy of a weight; one of a single channel or point is channels-last as it is."""
    return 0 if w.shape[1] == 1 or prod(w.shape[2:]) == 1 else w.nbytes


def _source(x: TensorSpec, block: int) -> int:
    return 0 if x.shape[1] <= 3 else _blocked(x, block, 1)


def _forward(call: _Conv, cpu: _Cpu) -> int:
    x, w, y, groups = call.x, call.w, call.y, call.groups
    made = 0 if call.plain_layout else x.nbytes
    if _own(call, cpu):
        return made + _windows(call, x.nbytes, y.nbytes)
    if _plain(call, cpu):
        return made
    if _channels_last(x):  # read as it is; the weight is made channels-last, and blocked
        return _clone(w) + _weight(w, groups, cpu.block)
    source = _source(x, cpu.block)
    weight = _weight(w, groups, cpu.block) if source else w.nbytes
    result = _blocked(y, cpu.block, 1)
    if call.transposed and call.dilated:  # windows of an image for each thread, then a matrix product
        return made + max(cpu.buffers * call.windows(1) // groups, result)
    if call.transposed and not call.depthwise and any(s > 1 for s in call.stride):
        # works channels-last, on an image with its border for each thread; the result is turned twice
        return made + max(cpu.buffers * x.nbytes // x.shape[0] * 9 // 8 + source + weight, 2 * result)
    if groups > 1 and not call.depthwise and w.shape[1] % 8:  # odd groups: row-major, windows for each thread
        return made + max(cpu.buffers * call.windows(1) // groups, result)
    if len(x.shape) == 5 and call.depthwise:
        return made + max(source + weight, 2 * result)
    # the points that a filter of 1x1 with strides reads, gathered by each thread
    gathered = 0
    if cpu.block < _WIDE and groups == 1 and call.taps == 1 and len(x.shape) < 5 and any(s > 1 for s in call.stride):
        gathered = cpu.buffers * source // x.shape[0] * prod(y.shape[2:]) // prod(x.shape[2:])
    return made + max(source + weight + gathered + result - y.nbytes, result)


def _windows(call: _Conv, first: int, last: int) -> int:
    """ATen's own kernels, forward: all windows of the batch or of one image; groups one after the other in 1-d and 2-d.

    `first` and `last`: bytes of what is read and of what is put together from the groups.
    """
    volume = len(call.x.shape) == 5
    if not call.transposed and call.taps == 1 and not any(s > 1 for s in call.stride):
        each = 0
    else:
        alone = volume if call.transposed else call.dilated
        each = call.windows(1 if alone else call.x.shape[0])
    if call.groups == 1 or (volume and not call.transposed and not call.dilated):
        return each
    return max((first + each) // call.groups, last)


def _backward(call: _Conv, cpu: _Cpu, mask: Sequence[object]) -> int:
    dy, x, w = call.y, call.x, call.w
    if call.groups > 1 and len(x.shape) == 4 and _own(call, cpu):
        dy = replace(dy, stride=())  # group by group, each is copied anyway
    elif dy.stride and not _channels_last(dy) and _row_major(dy):  # an expanded gradient
        return _backward(replace(call, y=replace(dy, stride=())), cpu, mask) + _row_major(dy)
    results = (x.nbytes if mask[0] else 0) + (w.nbytes if mask[1] else 0)
    if _own(call, cpu):
        each = call.windows(1 if call.transposed or call.dilated else x.shape[0])
        if call.taps == 1 and all(
            s == 1 for s in call.stride
        ):  # the input's gradient of a volume goes through them all the same
            each = max(each - w.nbytes, 0) if len(x.shape) == 5 and mask[0] else 0
        if call.groups == 1 or len(x.shape) == 5:
            return each
        return max((dy.nbytes + x.nbytes + each) // call.groups, results)
    if _plain(call, cpu):
        return w.nbytes if mask[1] else 0
    if _channels_last(x):
        return _clone(w) + 2 * w.nbytes
    if not call.plain_layout:
        return _backward(replace(call, x=replace(x, stride=())), cpu, mask) + x.nbytes
    gradient, weight, source = _blocked(dy, cpu.block, 1), _weight(w, call.groups, cpu.block), _blocked(x, cpu.block, 1)
    volume = len(x.shape) == 5
    narrow = call.groups > 1 and not call.depthwise and bool(w.shape[1] % 8)  # odd groups: row-major
    peaks = [0]
    if mask[0]:
        peaks.append(source + x.nbytes - results)
        if not narrow and not (volume and call.depthwise):
            peaks.append(gradient + weight + source - results)
    if mask[1] and (volume or narrow or call.dilated):
        # windows side by side, of one plane for each thread in a volume, then a matrix product; four weights to add them up
        if not call.depthwise:
            planes = (x.shape if call.transposed else dy.shape)[2] if volume else 1
            peaks.append((cpu.buffers if volume else 1) * (call.windows(1) // planes // call.groups + 4 * w.nbytes))
    elif mask[1]:
        kept = x.nbytes if mask[0] else 0
        peaks += [kept + _source(x, cpu.block) + gradient + weight - results, kept + weight + w.nbytes - results]
    return max(peaks)
