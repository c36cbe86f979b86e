"""Our output-metadata rules against torch itself: the meta kernels, and for strides the real CPU kernels."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from roofline import compat
from roofline.tracing import meta as metadata
from roofline.tracing import meta_grouped
from roofline.tracing.autocast import POLICIES

aten = torch.ops.aten


def e(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def described(t: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], torch.dtype]:
    """Shape, the strides that mean something (a dimension of size 1 has none), dtype."""
    return tuple(t.shape), tuple(s for s, n in zip(t.stride(), t.shape, strict=True) if n != 1), t.dtype


def of_rule(rows: list[metadata.Meta]) -> list[tuple[tuple[int, ...], tuple[int, ...], torch.dtype]]:
    return [(shape, tuple(s for s, n in zip(stride, shape, strict=True) if n != 1), dtype) for shape, stride, dtype in rows]


CASES: list[tuple[Any, tuple[Any, ...]]] = [
    (aten.conv1d.default, (e(2, 6, 20), e(8, 3, 5), None, [2], [1], [1], 2)),
    (aten.conv2d.default, (e(2, 6, 19, 17), e(12, 6, 3, 3), e(12), [2, 1], [1, 0])),
    (aten.conv2d.default, (e(2, 6, 19, 17), e(6, 1, 5, 5), None, [1, 1], [4, 4], [2, 2], 6)),
    (aten.conv3d.default, (e(1, 3, 8, 9, 10), e(4, 3, 3, 3, 3), None, [1, 2, 2], [1, 1, 1])),
    (aten.max_pool2d.default, (e(2, 4, 15, 14), [3, 3], [2, 2], [1, 1])),
    (aten.max_pool2d.default, (e(2, 4, 16, 14), [2, 2])),
    *(
        (aten.max_pool2d.default, (e(1, 2, n, n + 3), [k], [s], [p], [1], True))
        for n in range(3, 10)
        for k, s, p in ((3, 2, 0), (2, 3, 1), (2, 4, 1), (3, 3, 1))
    ),
    *(
        (func, (e(*shape).to(memory_format=torch.channels_last), *rest))
        for shape in ((2, 6, 8, 9), (1, 6, 8, 9), (2, 6, 1, 4))
        for func, rest in (
            (aten.max_pool2d.default, ([3, 3], [2, 2], [1, 1])),
            (aten.mean.dim, ([2, 3],)),
            (aten.mean.dim, ([1], True)),
            (aten.amax.default, ([-1], True)),
            (aten.adaptive_avg_pool2d.default, ([1, 1],)),
            (aten.adaptive_avg_pool2d.default, ([7, 3],)),
            (aten.upsample_bilinear2d.vec, ([16, 20], False, None)),
            (aten.add.Tensor, (e(1, 6, 1, 1),)),
        )
    ),
    *(
        (
            aten.cat.default,
            ([e(2, 3, 4, 5).to(memory_format=torch.channels_last), e(2, 3, 4, 5).to(memory_format=torch.channels_last)], d),
        )
        for d in (0, 1, -1)
    ),
    (aten.linear.default, (e(2, 5, 7), e(9, 7), e(9))),
    (aten.linear.default, (e(7), e(9, 7))),
    (aten.addmm.default, (e(5), e(3, 4), e(4, 5))),
    (aten.mm.default, (e(3, 4), e(4, 5))),
    (aten.bmm.default, (e(2, 3, 4), e(2, 4, 5))),
    (aten.batch_norm.default, (e(2, 4, 5, 5), e(4), e(4), e(4), e(4), False, 0.1, 1e-5, True)),
    (
        aten.batch_norm.default,
        (e(2, 4, 5, 5).to(memory_format=torch.channels_last), None, None, e(4), e(4), False, 0.1, 1e-5, True),
    ),
    (aten.layer_norm.default, (e(2, 5, 7), [7], e(7), e(7))),
    (aten.group_norm.default, (e(2, 8, 5, 5), 4, e(8), e(8))),
    (aten.mean.dim, (e(2, 8, 5, 5), [2, 3])),
    (aten.mean.dim, (e(2, 8, 5, 5), [-1, -2], True)),
    (aten.mean.default, (e(2, 8),)),
    (aten.amax.default, (e(2, 8, 5), [1], True)),
    (aten.linalg_vector_norm.default, (e(2, 8, 5), 2, [1], True)),
    (aten.linalg_vector_norm.default, (e(2, 8, 5), 1, [-1, 0])),
    (aten.linalg_vector_norm.default, (e(2, 8, 5),)),
    (aten.adaptive_avg_pool2d.default, (e(2, 8, 5, 6), [1, 1])),
    (aten.adaptive_avg_pool2d.default, (e(2, 8, 5, 6), [7, 3])),
    (aten.adaptive_avg_pool2d.default, (e(2, 1, 1, 1), [2, 2])),
    (aten.cat.default, ([e(2, 3, 4), e(2, 5, 4)], 1)),
    (aten.cat.default, ([e(2, 3), e(2, 3), e(1, 3)],)),
    (aten.cat.default, ([e(2, 3), e(2, 3).half(), e(1, 3).bfloat16()],)),
    (aten.cat.default, ([e(2, 3).half(), e(2, 3).bfloat16()],)),
    (aten.cat.default, ([e(1, 1, 4).expand(2, 1, 4), e(2, 5, 4)], 1)),  # a class token, and patches
    (aten.cat.default, ([e(2, 4, 3).mT, e(2, 4, 5).mT], -2)),
    (aten.stack.default, ([e(2, 3), e(2, 3)], -1)),
    (aten.scaled_dot_product_attention.default, (e(2, 4, 10, 8), e(2, 4, 12, 8), e(2, 4, 12, 6))),
    (aten.upsample_bilinear2d.vec, (e(2, 3, 8, 9), [16, 20], False, None)),
    (aten.upsample_bilinear2d.vec, (e(2, 3, 8, 9), None, False, [2.0, 1.5])),
    (aten.upsample_bicubic2d.vec, (e(2, 3, 8, 9), [5, 5], True, None)),
    (aten.roll.default, (e(2, 4, 4), [1, 1], [1, 2])),
    (aten.tril.default, (e(4, 4),)),
    (aten.hardswish.default, (e(2, 3),)),
    (aten.exp.default, (e(2, 3).t(),)),
    (aten.add.Tensor, (e(2, 3), 2)),
    (aten.mul.Tensor, (e(2, 3, 4, 4), e(2, 3, 1, 1))),
    (aten.add.Tensor, (e(2, 3, dtype=torch.float16), e(2, 3))),
    (aten.add.Tensor, (e(2, 3, dtype=torch.float16), e())),
    (aten.clamp.default, (e(2, 3), 0.0, 6.0)),
    (aten.addcmul.default, (e(4, 1), e(4, 5), e(5))),
]


GROUPED = [
    ((12, 16), (3, 16, 24)),
    ((12, 16), (3, 16, 21)),
    ((3, 8, 16), (16, 12)),
    ((8, 48), (48, 24)),
    ((3, 8, 16), (3, 16, 24)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("a", "b"), GROUPED, ids=str)
def test_grouped_products_come_out_as_from_the_real_kernel(a: tuple[int, ...], b: tuple[int, ...], dtype: torch.dtype) -> None:
    """Torch's meta kernel takes half precision alone; the real one on the CPU takes fp32 too."""
    x = torch.zeros(a, dtype=dtype)
    w = torch.zeros(*b[:-2], b[-1], b[-2], dtype=dtype).transpose(-2, -1)
    steps = {(2, 3): 4, (3, 2): 4, (2, 2): 16}.get((len(a), len(b)))
    offs = torch.tensor([steps, 2 * steps, 3 * steps], dtype=torch.int32) if steps else None
    real = aten._grouped_mm(x, w, offs)
    assert of_rule(meta_grouped.grouped_mm(x.to("meta"), w.to("meta"), offs) or []) == [described(real)]


@pytest.mark.parametrize(("a", "b"), [GROUPED[i] for i in (0, 2, 3, 4)], ids=str)
def test_scaled_grouped_products_are_laid_out_as_torch_says_and_bf16(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """The kernel writes bf16 alone; torch 2.9's meta kernel says so only where it is asked for."""
    x = e(*a, dtype=torch.float8_e4m3fn)
    w = e(*b[:-2], b[-1], b[-2], dtype=torch.float8_e4m3fn).transpose(-2, -1)
    flat = len(a) == len(b) == 2
    scales = e(a[0] * 3) if flat else e(*a[:-1]), e(b[-1] * 3) if flat else e(*b[:-2], b[-1])
    offs = None if len(a) == len(b) == 3 else e(3, dtype=torch.int32)
    shape, stride, _ = described(aten._scaled_grouped_mm(x, w, *scales, offs, None, None, torch.bfloat16))
    rule = meta_grouped.RULES[str(aten._scaled_grouped_mm.default)]
    assert of_rule(rule(x, w, *scales, offs) or []) == [(shape, stride, torch.bfloat16)]


def test_grouped_products_that_no_kernel_takes() -> None:
    x, w, offs = torch.zeros(12, 15), torch.zeros(3, 15, 24), torch.tensor([4, 8, 12], dtype=torch.int32)
    with pytest.raises(RuntimeError, match="multiple of 16 bytes"):
        aten._grouped_mm(x, w, offs)
    with pytest.raises(RuntimeError, match=r"multiples of 16 bytes, those of \(12, 15\)"):
        meta_grouped.grouped_mm(x, w, offs)
    fits = torch.zeros(12, 16)
    assert meta_grouped.grouped_mm(fits, torch.zeros(3, 8, 24), offs) is None  # torch says why
    assert meta_grouped.grouped_mm(fits, torch.zeros(3, 16, 24), None) is None
    assert meta_grouped.grouped_mm(fits, torch.zeros(4, 16, 24), offs) is None


@pytest.mark.parametrize(("func", "args"), CASES, ids=lambda v: str(v) if isinstance(v, torch._ops.OpOverload) else "")
def test_rule_equals_torch(func: torch._ops.OpOverload, args: tuple[Any, ...]) -> None:
    rule = metadata.rule_for(func)
    assert rule is not None
    ours = rule(*args)
    assert ours is not None
    with torch.inference_mode():
        assert of_rule(ours) == [described(func(*args))]


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten.conv2d.default, (e(1, 3, 8, 8), e(4, 4, 3, 3))),  # channels do not fit
        (aten.conv2d.default, (e(1, 3, 2, 2), e(4, 3, 3, 3))),  # the kernel is larger than the image
        (aten.linear.default, (e(2, 5), e(4, 6))),
        (aten.mm.default, (e(2, 5), e(4, 6))),
        (aten.add.Tensor, (e(2, 5), e(4, 5))),
        (aten.cat.default, ([e(2, 3), e(2, 4)],)),
        (aten.adaptive_avg_pool2d.default, (e(2, 8, 5, 6), [-1, 3])),
        (aten.cat.default, ([e(2, 3), e(2, 3)], 2)),  # no such dimension
        (aten.cat.default, ([e(), e()],)),
        (aten.stack.default, ([e(2, 3), e(2, 3)], 3)),
        (aten.eq.Tensor, (e(2), e(2))),
    ],
)
def test_what_cannot_be_is_left_to_torch(func: torch._ops.OpOverload, args: tuple[Any, ...]) -> None:
    """A rule that answered here would let a broken model pass."""
    rule = metadata.rule_for(func)
    assert rule is None or rule(*args) is None


@st.composite
def operands(draw: st.DrawFn) -> list[Tensor]:
    """One to three tensors that may broadcast, each with its dimensions stored in any order, some with gaps."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        kept = draw(st.integers(1, len(shape)))
        sizes = [draw(st.sampled_from([1, s])) for s in shape[len(shape) - kept :]]
        order = draw(st.permutations(range(kept)))
        step = draw(st.sampled_from([1, 2]))
        stored = torch.empty([sizes[d] * step for d in order])
        t = stored.permute([order.index(d) for d in range(kept)])
        found.append(t[tuple(slice(0, s) for s in sizes)])
    return found


@given(operands())
@settings(max_examples=300)
def test_pointwise_strides_equal_real_kernels(tensors: list[Tensor]) -> None:
    function: dict[int, Callable[..., Tensor]] = {1: torch.exp, 2: torch.add, 3: torch.addcmul}
    real = function[len(tensors)](*tensors)
    ours = metadata.pointwise(*tensors)
    assert ours is not None
    (shape, stride, dtype) = ours[0]
    assert (shape, dtype) == (tuple(real.shape), real.dtype)
    if any(1 in t.shape and t.stride() != metadata.contiguous(t.shape) for t in tensors):
        return  # torch's order of dimensions of size 1 is of no consequence, and ours differs there
    assert of_rule(ours) == [described(real)]
    assert stride


# convolutions by dimensions of the image: channels-last, overload by kind
LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
CONVS: dict[tuple[str, int], Any] = {
    ("plain", 1): aten.conv1d.default,
    ("plain", 2): aten.conv2d.default,
    ("plain", 3): aten.conv3d.default,
    ("named padding", 1): aten.conv1d.padding,
    ("named padding", 2): aten.conv2d.padding,
    ("named padding", 3): aten.conv3d.padding,
    ("transposed", 1): aten.conv_transpose1d.default,
    ("transposed", 2): aten.conv_transpose2d.input,
    ("transposed", 3): aten.conv_transpose3d.input,
}


def convolutions(kind: str, dims: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Batch and channels of 1, pointwise, depthwise, strided; input and weight each row-major and channels-last."""
    for n, c, size, depthwise, o, k, stride in itertools.product((1, 2), (1, 4), (1, 5), (0, 1), (1, 8), (1, 3), (1, 2)):
        groups = c if depthwise else 1
        if o % groups or (n == 1 and dims == 3) or (kind == "named padding" and stride == 2):
            continue  # one small volume takes a kernel that knows no channels-last
        for x_last, w_last in itertools.product((False, True), repeat=2):
            x = torch.rand(n, c, *[size] * dims)
            w = torch.rand(*((c, o // groups) if kind == "transposed" else (o, c // groups)), *[k] * dims)
            x = x.contiguous(memory_format=LAST[dims]) if x_last else x
            w = w.contiguous(memory_format=LAST[dims]) if w_last else w
            s, p, d = [stride] * dims, [k // 2] * dims, [1] * dims
            what = f"{n}x{c}x{size} to {o}, {groups} groups, kernel {k}, stride {stride}, last: {x_last}, {w_last}"
            if kind == "transposed":
                yield what, (x, w, None, s, p, [stride - 1] * dims, groups, d)
            else:
                yield what, (x, w, None, s, "same" if kind == "named padding" else p, d, groups)


@pytest.mark.parametrize(("kind", "dims"), CONVS, ids=lambda v: str(v))
def test_convolutions_answer_in_the_layout_of_real_kernels(kind: str, dims: int) -> None:
    """Channels-last in, or a channels-last weight, is channels-last out; torch's meta kernels answer row-major."""
    func, wrong, last = CONVS[kind, dims], {}, 0
    rule = metadata.rule_for(func)
    assert rule is not None
    with torch.inference_mode():
        for what, args in convolutions(kind, dims):
            ours, real = rule(*args), func(*args)
            if ours is None or of_rule(ours) != [described(real)]:
                wrong[what] = (ours, described(real))
            last += not real.is_contiguous()
            if all(t.is_contiguous() for t in args[:2]):  # where the meta kernels can be believed, they say the same
                meta = func(*(t.to("meta") if isinstance(t, Tensor) else t for t in args))
                assert described(meta) == described(real), what
    assert wrong == {}
    assert bool(last) == (dims > 1)


def test_convolutions_that_cannot_be_are_left_to_torch() -> None:
    x, w = e(1, 4, 8, 8), e(4, 4, 3, 3)
    assert metadata.conv(x, w, None, [2, 2], "same") is None
    assert metadata.conv_transpose(x, w, None, [1, 1], [0, 0], [1, 1]) is None
    assert metadata.conv_transpose(e(1, 3, 8, 8), w) is None
    assert metadata.conv_transpose(e(1, 4, 1, 1), w, None, [1, 1], [2, 2]) is None


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """With one thread torch takes other kernels for convolutions in three dimensions, which answer in another layout."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_large_volume_is_channels_last_too() -> None:
    x, w = torch.rand(1, 8, 52, 52, 5).contiguous(memory_format=torch.channels_last_3d), torch.rand(2, 8, 3, 3, 3)
    ours = metadata.conv(x, w)
    assert ours is not None
    with torch.inference_mode():
        assert of_rule(ours) == [described(F.conv3d(x, w))]


def test_attention_output_layout_follows_the_fused_kernel() -> None:
    qkv = torch.randn(2, 10, 3, 4, 8).permute(2, 0, 3, 1, 4)
    real = F.scaled_dot_product_attention(*qkv.unbind(0))
    ours = metadata.attention(*qkv.unbind(0))
    assert ours is not None
    assert of_rule(ours) == [described(real)]


def test_autocast_lists_equal_the_installed_header() -> None:
    """Torch ships the lists of its CUDA autocast in a header."""
    import re
    from pathlib import Path

    header = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
    if not header.is_file():
        pytest.skip("this torch ships no headers")
    text = header.read_text().replace("\\\n", " ")
    found: dict[str, str] = {}
    macros = {"LOWER_PRECISION_FP": "lower", "FP32": "fp32", "FP32_SET_OPT_DTYPE": "set_dtype", "PROMOTE": "promote"}
    for macro, policy in macros.items():
        line = re.search(rf"#define AT_FORALL_{macro}\(_\)(.*)", text)
        assert line is not None, f"torch {torch.__version__} has no AT_FORALL_{macro}"
        for name in re.findall(r"_\((\w+)", line.group(1)):
            found[f"aten.{name}"] = policy
    ours = dict(POLICIES["cuda"])
    assert ours.pop("aten.norm") == "set_dtype"  # AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE, its own macro
    assert {name: policy for name, policy in ours.items() if name in found} == found
    # older releases lack what newer ones list: 2.9 leaves rms_norm to its parts
    # torchvision has a list of its own
    aten = {name for name in ours if name.startswith("aten.")}
    assert aten - found.keys() <= ({"aten.rms_norm"} if compat.older(torch.__version__, "2.14") else set())


def _both(func: object, *args: object) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    from roofline.tracing.meta_backward import GRADIENTS

    rule = GRADIENTS[str(func)]
    ours = rule(*args)
    real = func(*args)
    found = [real] if isinstance(real, torch.Tensor) else list(real)
    assert ours is not None
    return [tuple(m) for m in ours], [(tuple(t.shape), t.stride(), t.dtype) for t in found]


@pytest.mark.parametrize("train", [True, False])
def test_gradient_rules_are_what_real_cpu_kernels_answer(train: bool) -> None:
    aten = torch.ops.aten
    x, w, b = torch.rand(2, 4, 6, 6), torch.rand(8, 4, 3, 3), torch.rand(4)
    g = torch.rand(2, 4, 6, 6)
    calls = [
        (aten.convolution.default, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        (aten.native_batch_norm.default, x, b, b, b.clone(), b.clone(), train, 0.1, 1e-5),
        (aten.native_batch_norm_backward.default, g, x, b, b, b, b, b, train, 1e-5, [True, True, True]),
        (aten.native_layer_norm.default, x, [6, 6], torch.rand(6, 6), torch.rand(6, 6), 1e-5),
        (
            aten.native_layer_norm_backward.default,
            g,
            x,
            [6, 6],
            torch.rand(2, 4, 1, 1),
            torch.rand(2, 4, 1, 1),
            torch.rand(6, 6),
            torch.rand(6, 6),
            [True, True, True],
        ),
        (aten.max_pool2d_with_indices.default, x, [2, 2], [2, 2], [0, 0]),
        (aten._softmax_backward_data.default, g, x, -1, torch.float32),
        (aten.sum.dim_IntList, x, [0, 2, 3], True),
        (aten.empty_like.default, x),
        (aten.threshold_backward.default, g, x, 0),
        (aten.hardswish_backward.default, g, x),
        (aten.gelu_backward.default, g, x),
        (aten.silu_backward.default, g, x),
        (aten._foreach_sqrt.default, [x, w]),
    ]
    for func, *args in calls:
        ours, real = _both(func, *args)
        assert ours == real, func


def _back(x: Tensor, w: Tensor, mask: tuple[bool, ...], **how: Any) -> tuple[Any, ...]:
    """Arguments of a convolution's backward, of a gradient that is expanded of one number."""
    n, transposed = x.dim() - 2, how.get("transposed", False)
    rest = [[*how.get(name, [default] * n)] for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))]
    extra, groups = [*how.get("extra", [0] * n)], how.get("groups", 1)
    y = torch.ops.aten.convolution.default(x, w, None, *rest, transposed, extra, groups)
    gradient = how.get("gradient", torch.ones((), dtype=x.dtype).expand(y.shape))
    return gradient, x, w, [y.shape[1]], *rest, transposed, extra, groups, [*mask]


BACKWARD: list[tuple[str, tuple[Any, ...]]] = [
    ("convolution_backward", _back(torch.rand(2, 3, 9, 8), torch.rand(4, 3, 3, 2), (True, True, True), stride=(2, 1))),
    ("convolution_backward", _back(torch.rand(2, 3, 9, 8), torch.rand(4, 3, 3, 2), (False, True, False), padding=(1, 2))),
    ("convolution_backward", _back(torch.rand(1, 4, 7, 7), torch.rand(4, 1, 3, 3), (True, True, False), groups=4)),
    ("convolution_backward", _back(torch.rand(2, 8, 1, 1), torch.rand(4, 8, 1, 1), (True, True, True))),
    ("convolution_backward", _back(torch.rand(2, 1, 5, 5), torch.rand(4, 1, 1, 1), (True, True, True))),
    ("convolution_backward", _back(torch.rand(2, 4, 9), torch.rand(6, 2, 3), (True, True, True), groups=2, dilation=(2,))),
    ("convolution_backward", _back(torch.rand(1, 2, 4, 5, 6), torch.rand(3, 2, 2, 2, 2), (True, True, True))),
    ("convolution_backward", _back(torch.rand(2, 4, 5, 5), torch.rand(4, 3, 2, 2), (True, True, True), transposed=True,
                                   stride=(2, 2), extra=(1, 0))),
    ("convolution_backward", _back(torch.rand(2, 4, 6, 6).to(memory_format=LAST[2]), torch.rand(8, 4, 3, 3), (True,) * 3)),
    ("convolution_backward", _back(torch.rand(2, 4, 6, 6), torch.rand(8, 4, 3, 3).to(memory_format=LAST[2]), (True,) * 3)),
    ("convolution_backward", _back(torch.rand(2, 4, 6, 6), torch.rand(8, 4, 3, 3), (True, True, True),
                                   gradient=torch.rand(2, 8, 4, 4).to(memory_format=LAST[2]))),
    ("convolution_backward", _back(torch.rand(2, 4, 6, 6).double(), torch.rand(8, 4, 3, 3).double(), (True, True, True))),
    ("convolution_backward", _back(torch.rand(2, 4, 6, 6).bfloat16(), torch.rand(8, 4, 3, 3).bfloat16(), (True, True, True))),
    ("native_dropout", (torch.rand(3, 4, 5), 0.5, True)),
    ("native_dropout", (torch.rand(3, 4).bfloat16(), 0.0, True)),
    ("native_dropout", (torch.rand(()), 1.0, True)),
    ("native_dropout_backward", (torch.rand(3, 4, 5), torch.rand(3, 4, 5) > 0.5, 2.0)),
    ("_adaptive_avg_pool2d", (torch.rand(2, 3, 9, 8), [7, 7])),
    ("_adaptive_avg_pool2d", (torch.rand(2, 3, 5, 5).double(), [1, 6])),
    ("_adaptive_avg_pool2d_backward", (torch.rand(2, 3, 7, 7), torch.rand(2, 3, 9, 8))),
    ("_adaptive_avg_pool2d_backward", (torch.rand(1, 1, 1).expand(2, 3, 7, 7), torch.rand(2, 3, 7, 7))),
    ("avg_pool2d", (torch.rand(2, 3, 9, 8), [3, 2])),
    ("avg_pool2d", (torch.rand(2, 3, 10, 9), [3], [2], [1], True, False)),
    ("avg_pool2d", (torch.rand(2, 3, 9, 8).bfloat16(), [2, 2], [3, 1], [1, 0], True, True, 3)),
    ("avg_pool2d_backward", (torch.rand(1).expand(2, 3, 6, 5), torch.rand(2, 3, 10, 9), [3], [2], [1], True, False, None)),
    ("avg_pool2d_backward", (torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8).to(memory_format=LAST[2]), [2], [], [0], False,
                             True, None)),
    ("_adaptive_avg_pool2d_backward", (torch.rand(2, 3, 7, 7), torch.rand(2, 3, 9, 8).to(memory_format=LAST[2]))),
    ("sum.dim_IntList", (torch.rand(1).expand(4, 5, 6), [0], True)),
    ("sum.dim_IntList", (torch.rand(4, 5, 6).permute(2, 0, 1), [1])),
    ("mean.dim", (torch.rand(2, 3, 4, 5).to(memory_format=LAST[2]), [2, 3], True)),
    ("amax", (torch.rand(4, 5, 6)[:, ::2].transpose(0, 2), [0])),
]  # fmt: skip
for _shape in ((2, 4, 6, 5), (1, 4, 6, 5), (2, 4, 1, 3), (1, 4, 5, 1), (2, 4, 3, 5, 6)):
    _x = torch.rand(_shape).contiguous(memory_format=LAST[len(_shape) - 2])
    _g, _b = torch.rand(_shape), torch.rand(4)
    BACKWARD += [
        *(("native_batch_norm", (_x, _b, _b, _b.clone(), _b.clone(), train, 0.1, 1e-5)) for train in (True, False)),
        *(
            ("native_batch_norm_backward", (g, _x, _b, _b, _b, _b, _b, True, 1e-5, [True] * 3))
            for g in (_g, torch.empty_like(_x).copy_(_g), torch.ones(()).expand(_shape))
        ),
        ("native_dropout", (_x, 0.5, True)),
        *(("native_dropout_backward", (g, _x > 0.5, 2.0)) for g in (_x, *[_g] * (1 not in _shape))),
        *((name, (_x,)) for name in ("empty_like", "zeros_like", "ones_like")),
        ("_foreach_sqrt", ([_x, _g],)),
        *(("cat", ([one, _x], d)) for one in (_x, _g) for d in (0, 1, -1)),
        *(("stack", ([one, one], d)) for one in (_g, _g.transpose(1, 2)) for d in (0, 2)),
    ]
_y, _mean, _rstd = torch.ops.aten.native_layer_norm.default(torch.rand(2, 3, 4), [4], torch.rand(4), torch.rand(4), 1e-5)
for _g in (torch.rand(3, 2, 4).transpose(0, 1), torch.ones(()).expand(2, 3, 4)):  # a gradient lies as it came
    BACKWARD.append(("native_layer_norm_backward", (_g, torch.rand(2, 3, 4), [4], _mean, _rstd, *torch.rand(2, 4), [True] * 3)))
for _x in (
    torch.rand(2, 3, 4),
    torch.rand(2, 3, 4).mT,
    torch.rand(2, 4, 6, 5).to(memory_format=LAST[2]),
    torch.rand(3).bfloat16(),
):
    BACKWARD += [
        (f"{name}softmax{rest}", (_x, -1, *no))
        for name, rest, *no in (("_", "", False), ("_log_", "", False), ("", ".int"), ("log_", ".int"))
    ]
_part = torch.rand(2, 8, 6, 5).to(memory_format=LAST[2])[:, 2:6]  # a branch's half of the channels
BACKWARD += [
    ("native_batch_norm", (_part, _b, _b, _b.clone(), _b.clone(), True, 0.1, 1e-5)),
    ("native_batch_norm_backward", (_part, _part, _b, _b, _b, _b, _b, True, 1e-5, [True] * 3)),
]
BACKWARD += [
    ("cat", ([torch.rand(2, 1, 4, 5).as_strided((2, 1, 4, 5), (20, 1, 5, 1))] * 2, 1)),
    ("stack", ([e(2, 3).mT] * 2,)),
    ("_foreach_sqrt", ([torch.rand(2, 4, 6).transpose(0, 2)],)),
]
for _args in (((2, 3, 9, 8), [3, 2]), ((2, 3, 10, 9), [3], [2], [1], [1], True), ((1, 1, 8, 8), [2], [3], [0], [2], False)):
    _x, _windows = torch.rand(_args[0]), _args[1:]
    _filled = [*_windows, *([], [0], [1], False)[len(_windows) - 1 :]]
    _y, _places = torch.ops.aten.max_pool2d_with_indices.default(_x, *_filled)
    BACKWARD.append(("max_pool2d_with_indices_backward", (_y[:1].expand_as(_y), _x, *_filled, _places)))
    if _x.shape[1] > 1:
        _x, _places = _x.to(memory_format=LAST[2]), _places.to(memory_format=LAST[2])
        BACKWARD.append(("max_pool2d_with_indices_backward", (_y, _x, *_filled, _places)))


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> list[tuple[str, tuple[Any, ...]]]:
    """A CPU's kernel, and its backward: of a gradient as the result lies, and of one that is expanded of one number."""
    name = "_scaled_dot_product_flash_attention_for_cpu"
    y, lse = getattr(torch.ops.aten, name).default(q, k, v, attn_mask=mask)
    gradients = torch.ones_like(y), torch.ones((), dtype=y.dtype).expand(y.shape)
    return [(name, (q, k, v)), *((f"{name}_backward", (g, q, k, v, y, lse, 0.0, False)) for g in gradients)]


for _kind in (torch.float32, torch.bfloat16, torch.float64):
    _packed = torch.rand(5, 2, 3, 4, 8).to(_kind).permute(2, 1, 3, 0, 4)  # as a transformer's one projection gives them
    BACKWARD += _attention(*_packed)
    BACKWARD += _attention(*torch.rand(3, 2, 4, 5, 8).to(_kind))
for _shape in ((1, 1, 1, 1), (2, 1, 5, 8), (2, 4, 1, 8), (1, 4, 5, 8), (2, 4, 5, 1)):
    _q = torch.rand(_shape)
    BACKWARD += _attention(_q, *torch.rand(2, *_shape[:2], 7, _shape[3]))
    BACKWARD += _attention(_q.transpose(1, 2).contiguous().transpose(1, 2), *[torch.rand(*_shape[:2], 7, _shape[3])] * 2)
    BACKWARD += _attention(*torch.rand(_shape[2], 3, *_shape[:2], _shape[3]).permute(1, 2, 3, 0, 4))


@pytest.mark.parametrize(("name", "args"), BACKWARD, ids=[f"{name}-{i}" for i, (name, _) in enumerate(BACKWARD)])
def test_backward_rules_answer_what_real_kernels_do(name: str, args: tuple[Any, ...]) -> None:
    """Shapes, strides and types; of what a mask leaves out nothing. Otherwise torch's Python would import sympy for them."""
    from roofline.tracing.meta_backward import GRADIENTS

    packet, _, overload = name.partition(".")
    func = getattr(getattr(torch.ops.aten, packet), overload or "default")
    rule = metadata.rule_for(func) or GRADIENTS[str(func)]
    found = rule(*args)
    real = func(*args)
    assert found is not None
    assert [m and tuple(m) for m in found] == [
        None if t is None else (tuple(t.shape), t.stride(), t.dtype)
        for t in (real if isinstance(real, (tuple, list)) else (real,))
    ]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("convolution_backward", (e(2, 4, 5, 5), e(2, 3, 6, 6), e(4, 3, 3, 3), None, [1], [0], [1], False, [0], 1, [1, 1, 0])),
        ("convolution_backward", (e(2, 4, 4, 4), e(2, 3, 6, 6), e(4, 3, 3, 3), None, [1], [0], [1], False, [0], 1, [1, 1, 1])),
        (
            "convolution_backward",
            (e(2, 4, 4, 4).double(), e(2, 3, 6, 6), e(4, 3, 3, 3), None, [1], [0], [1], False, [0], 1, [1] * 3),
        ),
        ("max_pool2d_with_indices_backward", (e(2, 3, 3, 3), e(2, 3, 8, 8), [2], [], [0], [1], False, e(2, 3, 3, 3))),
        ("avg_pool2d_backward", (e(2, 3, 3, 3), e(2, 3, 8, 8), [2], [], [0], False, True, None)),
        ("avg_pool2d_backward", (e(2, 3, 4, 4), e(2, 3, 8, 8).transpose(2, 3), [2], [], [0], False, True, None)),
        ("_adaptive_avg_pool2d_backward", (e(2, 4, 7, 7)[0], e(2, 3, 9, 8))),
        ("_adaptive_avg_pool2d_backward", (e(1, 1, 4, 4), e(1, 1, 8, 8).to(memory_format=LAST[2]))),
        ("native_dropout", (e(3, 4)[:, ::2], 0.5, True)),
        ("native_batch_norm", (e(2, 4, 6).transpose(1, 2), e(6), e(6), e(6), e(6), True, 0.1, 1e-5)),
        ("empty_like", (e(3, 4)[:, ::2],)),
        ("_foreach_sqrt", ([e(3, 4), e(3, 4)[:, ::2]],)),
        ("native_dropout", (e(3, 4), 1.5, True)),
        ("native_dropout", (e(3, 4), 0.5, False)),
        ("native_dropout", (e(3, 0), 0.5, True)),
        ("native_dropout_backward", (e(3, 4), e(4, 3), 2.0)),
        ("_softmax", (e(3, 4, dtype=torch.float16), -1, True)),
        ("_softmax", (e(3, 4), 2, False)),
        ("_scaled_dot_product_flash_attention_for_cpu", (e(2, 4, 5, 8), *[e(2, 2, 5, 8)] * 2)),
        ("_scaled_dot_product_flash_attention_for_cpu", (e(2, 4, 5, 8), e(2, 4, 5, 8), e(2, 4, 5, 6))),
        ("_scaled_dot_product_flash_attention_for_cpu", (e(4, 5, 8), e(4, 5, 8), e(4, 5, 8))),
        ("_scaled_dot_product_flash_attention_for_cpu_backward", (e(2, 4, 6, 8), *[e(2, 4, 5, 8)] * 3)),
    ],
)
def test_backwards_that_do_not_fit_are_left_to_torch(name: str, args: tuple[Any, ...]) -> None:
    from roofline.tracing.meta_backward import GRADIENTS

    assert GRADIENTS[f"aten.{name}.default"](*args) is None


def test_a_model_of_torchvision_imports_no_compiler() -> None:
    """It does in the head of one of its files, for a function that nothing calls here; who calls it gets torch's answer."""
    pytest.importorskip("torchvision")
    code = (
        "import sys, roofline\nroofline.analyze('torchvision:squeezenet1_1', device='t4', cache=False)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "from torchvision.ops import roi_align\nasked = sys.modules['torchvision.ops.roi_align'].is_compile_supported\n"
        "found = asked('cpu'), asked('meta')\n"
        "from torch._dynamo.utils import is_compile_supported as real\nsys.exit(found != (real('cpu'), real('meta')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=250).returncode == 0


def test_norms_of_vectors_and_training_import_no_symbolic_shapes() -> None:
    # torch's own rules for them do: seconds, once
    code = (
        "import sys, torch, torch.nn.functional as F\nfrom roofline.tracing.trace import trace\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x): return F.normalize(x, dim=-1), F.cosine_similarity(x, x)\n"
        "trace(Net(), [torch.rand(4, 8)])\n"
        "from torch.nn import *\n"
        "pools = MaxPool2d(2), AvgPool2d(2), AdaptiveAvgPool2d(3)\n"
        "net = Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), *pools, Dropout(), Flatten(), Linear(36, 9))\n"
        "for optimizer, last in (('sgd', False), ('adam', True)):\n"
        "    trace(net, [torch.rand(2, 3, 32, 32)], optimizer=optimizer, channels_last=last)\n"
        "trace(Softmax(-1), [torch.rand(2, 8)])\n"
        "layer = torch.nn.TransformerEncoderLayer(16, 2, 16, 0.0, batch_first=True)\n"
        "trace(layer, [torch.rand(2, 4, 16)], optimizer='sgd')\n"
        "import roofline\nroofline.analyze('vit_b_16', device='i9-10940x', training=True, batch=1, cache=False)\n"
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=250).returncode == 0
