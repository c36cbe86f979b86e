"""The `compiled` runtime: which kernels a model becomes, and what they move."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from roofline.kernels import build as kernels
from roofline.records import Kernel
from roofline.tracing import trace


def compiled(module: nn.Module, *shapes: tuple[int, ...], kind: str = "cpu", dtype: str = "fp32") -> list[Kernel]:
    inputs = [torch.empty(s, device="meta") for s in shapes]
    t = trace.trace(module.to("meta").eval(), inputs, dtype=dtype, device_kind=kind)
    return list(kernels.build(t, "compiled", kind))


def names(found: list[Kernel]) -> list[str]:
    return [k.op for k in found]


def test_interpolation_has_a_thread_for_each_pixel_in_eager_mode() -> None:
    def turns(mode: str, last: bool = False) -> tuple[int, int]:
        x = torch.empty((2, 8, 7, 7), device="meta")
        x = x.to(memory_format=torch.channels_last) if last else x
        t = trace.trace(nn.Upsample(scale_factor=2, mode=mode).eval(), [x], dtype="fp32", device_kind="gpu")
        found = list(kernels.build(t, "eager", "gpu"))[-1].access
        return found.serial, found.abreast

    assert turns("bilinear") == turns("bicubic") == (16, 196)
    # spread over all elements
    assert turns("nearest") == turns("bilinear", last=True) == (0, 0)


class Fn(nn.Module):
    def __init__(self, fn: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        return self.fn(*args)


def test_a_pointwise_chain_is_one_kernel_that_reads_and_writes_once() -> None:
    (kernel,) = compiled(Fn(lambda x: torch.sigmoid(x * 2 + 1) * x), (8, 100))
    assert kernel.bytes == 2 * 4 * 800
    assert len(kernel.ops) == 4


def test_batch_norm_and_relu_follow_the_convolution_in_one_kernel() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    # the image is copied to channels-last first
    assert names(compiled(net, (1, 3, 8, 8))) == ["channels_last", "conv2d", "batch_norm+relu"]


def test_a_k_by_k_weight_is_copied_to_channels_last_first() -> None:
    found = compiled(nn.Conv2d(4, 8, 3, bias=False), (1, 4, 8, 8))
    assert names(found) == ["channels_last", "channels_last", "conv2d"]
    image, weight, _ = found
    assert image.bytes == 2 * 4 * 4 * 64
    assert image.weight_bytes == 0
    assert weight.bytes == 2 * 4 * 8 * 4 * 9
    assert weight.weight_bytes == weight.bytes
    # one input channel a group: both layouts are the same bytes
    assert names(compiled(nn.Conv2d(4, 4, 3, groups=4, bias=False), (1, 4, 8, 8))) == ["channels_last", "conv2d"]


def test_the_residual_add_joins_the_last_norm() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.na, self.nb = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = functional.relu(self.na(self.a(x)))
            return functional.relu(self.nb(self.b(y)) + x)

    found = compiled(Block(), (1, 8, 4, 4))
    assert names(found) == ["channels_last", "conv2d", "batch_norm+relu", "conv2d", "batch_norm+add+relu"]
    # the second one reads the convolution and x, writes the result; its four vectors are read too
    assert found[4].bytes == 4 * (3 * 8 * 16 + 4 * 8)


def test_a_norm_takes_in_what_makes_its_input_and_what_uses_its_result() -> None:
    net = Fn(lambda x, y: functional.gelu(functional.layer_norm(x + y, (64,))))
    (kernel,) = compiled(net, (4, 10, 64), (4, 10, 64))
    assert kernel.klass == "norm"
    assert kernel.bytes == 3 * 4 * 2560


def test_a_mean_ends_the_chain_and_its_result_goes_on() -> None:
    # squeeze and excite without its products: the mean needs all of x before the scale can start
    net = Fn(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)))
    found = compiled(net, (2, 8, 4, 4))
    assert sum(len(k.ops) for k in found) == 3
    assert len(found) <= 2


def test_what_is_read_twice_is_computed_twice_until_it_reads_much() -> None:
    # x + y feeds a norm and a sum, as in a transformer: both read x and y, and nothing is written between them
    net = Fn(lambda x, y, w: functional.layer_norm(x + y, (64,)) @ w + x + y)
    found = compiled(net, (40, 64), (40, 64), (64, 64))
    assert [k.klass for k in found] == ["norm", "gemm", "pointwise"]
    # x, y and the result; no sum of the two
    assert found[0].bytes == 3 * 4 * 2560


@pytest.mark.parametrize(("kind", "kernels"), [("cpu", 4), ("gpu", 2)])
def test_a_concatenation_is_written_in_parts_on_a_cpu(kind: str, kernels: int) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x))], 1))

    found = compiled(Branches(), (4, 8), kind=kind)
    assert sum(1 for k in found if k.loop is not None) + 1 == kernels


def test_a_group_norm_is_two_kernels_on_a_cpu() -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.GroupNorm(4, 8), nn.ReLU())
    _, _, statistics, applied = compiled(net, (1, 8, 4, 4))
    size = 4 * 8 * 16
    assert statistics.op == "group_norm"
    # the scale and shift of each channel are made with the statistics
    assert statistics.bytes == size + 2 * 4 * 8 + 2 * 4 * 8
    assert applied.bytes == 2 * size + 2 * 4 * 8


def test_what_a_library_call_needs_is_not_fused_past_it() -> None:
    # relu(x) feeds a product and is added to its result: fusing the add into the relu would run it too early
    net = Fn(lambda x, w: torch.relu(x) @ w + torch.relu(x))
    found = compiled(net, (16, 16), (16, 16))
    product = next(i for i, k in enumerate(found) if k.klass == "gemm")
    add = next(i for i, k in enumerate(found) if "add" in k.op)
    assert add > product


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_flops_do_not_depend_on_the_runtime(kind: str) -> None:
    body = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    t = trace.trace(net.to("meta").eval(), [torch.empty(1, 3, 8, 8, device="meta")])
    eager, fused = kernels.build(t, "eager", kind), kernels.build(t, "compiled", kind)
    assert sum(k.flops for k in eager) == sum(k.flops for k in fused)
    assert sum(k.bytes for k in eager) > sum(k.bytes for k in fused) - fused[0].bytes


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_what_a_kernel_of_several_results_computes_first_is_counted(kind: str) -> None:
    net = Fn(lambda x: functional.max_pool2d(x * 2 + 1, 2, return_indices=True)[0])
    t = trace.trace(net, [torch.empty(1, 4, 8, 8, device="meta")])
    (kernel,) = kernels.build(t, "compiled", kind)
    assert kernel.flops == sum(k.flops for k in kernels.build(t, "eager", kind))


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (lambda x: x.softmax(-1), ()),
        (lambda x: functional.log_softmax(x * 2, 0), ()),
        (lambda x: functional.layer_norm(x, x.shape[-1:]), (0,)),
        (lambda x: functional.layer_norm(x, x.shape[-1:]), (0, 8)),
        (lambda x: functional.group_norm(x, 4), (0, 4, 8, 8)),
        (lambda x: functional.group_norm(x, 1), (4, 0)),
        (lambda x: x.mean(-1), (4, 0)),
        (lambda x: torch.cat([x, x.relu()], -1), (4, 0)),
        (lambda x: torch.cat([x.new_empty(0), x, x.relu()], 1), (1, 4, 8, 8)),
    ],
)
def test_scalars_and_empty_tensors_are_lowered_too(fn: Callable[..., torch.Tensor], shape: tuple[int, ...], kind: str) -> None:
    for first in (lambda x: x, lambda x: x * 2 + 1):
        compiled(Fn(lambda x, first=first: fn(first(x))), shape, kind=kind)


def test_producers_point_at_the_kernel_that_wrote() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    found = compiled(net, (1, 4, 8, 8))
    for number, kernel in enumerate(found):
        for o in kernel.operands:
            if not o.write and o.producer >= 0:
                assert o.producer < number
                assert any(w.write and w.storage == o.storage for w in found[o.producer].operands)
