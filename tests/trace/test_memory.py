"""Peak memory by liveness against the bytes that PyTorch's CPU allocator reports for the same run.

The full table is made by `python benchmarks/memory.py`; here are small models of each kind.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from oracles.allocator import filled, measured
from torch import Tensor, nn

from benchmarks.memory import compare, this_cpu
from roofline.analysis import memory
from roofline.analysis.workspace import onednn
from roofline.devices.library import lookup
from roofline.records import OpSpec, TensorSpec
from roofline.tracing.trace import trace

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN's blocked layouts are those of x86")


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
        self.norm = nn.LayerNorm(128)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.norm(x + y)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """How oneDNN divides work between threads, and so what scratch it takes, differs from machine to machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256), nn.LayerNorm(256)), (64, 256)),
    "in place": (lambda: nn.Sequential(nn.Linear(256, 512), nn.ReLU(inplace=True), nn.Linear(512, 256)), (128, 256)),
    "attention": (lambda: nn.Sequential(Attention(), Attention()), (4, 64, 128)),
}


@pytest.mark.parametrize("optimizer", ["", "sgd", "adam"])
@pytest.mark.parametrize("name", SMALL)
def test_small_models_within_three_percent(name: str, optimizer: str) -> None:
    make, shape = SMALL[name]
    module = make()
    predicted = memory.peak(trace(module, [torch.empty(shape)], optimizer=optimizer), this_cpu()).total
    real = measured(module, [filled(torch.empty(shape))], {}, optimizer)
    assert predicted == pytest.approx(real, rel=0.03)


@x86
@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["", "adam"])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("mobilenet_v1", {"batch": 4, "resolution": 64}),
        ("mobilenet_v3_small", {"batch": 8, "resolution": 64}),
        ("resnet50", {"batch": 2, "resolution": 64}),
        ("torchvision:shufflenet_v2_x1_0", {"batch": 8, "resolution": 64}),
    ],
)
def test_models_within_three_percent(model: str, settings: dict[str, Any], optimizer: str) -> None:
    predicted, real = compare(model, optimizer, **settings)
    assert predicted == pytest.approx(real, rel=0.03)


def test_peak_by_hand() -> None:
    # input 4 KiB, weight 4 MiB; hidden 4 KiB: the peak is parameters, input, both activations
    module = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.ReLU())
    found = memory.peak(trace(module, [torch.empty(1, 1024)]))
    assert found.by_kind == {"parameters": 4 * 1024 * 1024, "inputs": 4096, "activations": 2 * 4096}
    assert found.total == 4 * 1024 * 1024 + 3 * 4096


def test_training_peak_by_hand() -> None:
    # one linear layer, SGD: weight, its gradient and its momentum; input; output, loss and the loss' gradient
    found = memory.peak(trace(nn.Linear(1024, 8, bias=False), [torch.empty(4, 1024)], optimizer="sgd"))
    weight = 4 * 8 * 1024
    assert found.by_kind == {
        "parameters": weight,
        "optimizer_state": weight,
        "gradients": weight,
        "inputs": 4 * 4 * 1024,
        "activations": 4 * 4 * 8 + 4 + 4,
    }


def conv(name: str, args: list[Any], out: tuple[int, ...], *inputs: TensorSpec) -> OpSpec:
    return OpSpec(name, "default", args, {}, inputs, (TensorSpec(out, "float32"),))


def test_convolution_scratch_by_hand() -> None:
    # events of the allocator for 4 x 72 x 32 x 32, depthwise 3x3, stride 2: 1280, 2.81, 320, free, free, 288 KiB
    x, w = TensorSpec((4, 72, 32, 32), "float32"), TensorSpec((72, 1, 3, 3), "float32")
    depthwise = conv("aten.conv2d", [x, w, None, [2, 2], [1, 1], [1, 1], 72], (4, 72, 16, 16), x, w)
    assert onednn(depthwise, 2) == 1024 * (1280 + 320 - 288) + 4 * 80 * 9
    # 4 x 32 x 32 x 32 through 64 filters of 1x1: nothing on one thread, 512 + 8 + 1024 KiB before the result on two
    x, w = TensorSpec((4, 32, 32, 32), "float32"), TensorSpec((64, 32, 1, 1), "float32")
    point = conv("aten.conv2d", [x, w, None, [1, 1], [0, 0], [1, 1], 1], (4, 64, 32, 32), x, w)
    assert onednn(point, 1) == 0
    assert onednn(point, 2) == 1024 * 1024


def test_convolution_scratch_on_short_vectors_by_hand() -> None:
    # events of the allocator on AVX2. 8 x 72 x 32 x 32, depthwise 3x3, stride 2: 72 channels are whole blocks of 8
    x, w = TensorSpec((8, 72, 32, 32), "float32"), TensorSpec((72, 1, 3, 3), "float32")
    depthwise = conv("aten.conv2d", [x, w, None, [2, 2], [1, 1], [1, 1], 72], (8, 72, 16, 16), x, w)
    assert onednn(depthwise, 2, simd_bits=256) == 2359296 + 2592
    # 8 x 96 points through 24 filters: 3072, 9216 and 768 bytes before the result, on two threads
    x, w = TensorSpec((8, 96, 1, 1), "float32"), TensorSpec((24, 96, 1, 1), "float32")
    point = conv("aten.conv2d", [x, w, None], (8, 24, 1, 1), x, w)
    assert onednn(point, 2, simd_bits=256) == 3072 + 9216
    assert onednn(point, 2) == 0
    assert onednn(point, 1, simd_bits=256) == 0  # ATen's own kernel
    # the same on a stride: 12 x 12 points of 40 channels gathered by each thread
    x, w = TensorSpec((2, 36, 24, 24), "float32"), TensorSpec((36, 36, 1, 1), "float32")
    strided = conv("aten.conv2d", [x, w, None, [2, 2]], (2, 36, 12, 12), x, w)
    one, two = (onednn(strided, n, simd_bits=256) for n in (1, 2))
    assert two - one == 4 * 40 * 12 * 12
    # half precision: all windows side by side, 2 x 32 x 9 x 24 x 24 of 2 bytes
    x, w = TensorSpec((2, 32, 24, 24), "bfloat16"), TensorSpec((48, 32, 3, 3), "bfloat16")
    y = TensorSpec((2, 48, 24, 24), "bfloat16")
    half = OpSpec("aten.conv2d", "default", [x, w, None, [1, 1], [1, 1]], {}, (x, w), (y,))
    assert onednn(half, 1, simd_bits=256) == 2 * 32 * 9 * 24 * 24 * 2


def test_the_blocks_are_the_devices() -> None:
    # 24 channels: three blocks of 8, or two of 16
    found = trace(nn.Conv2d(24, 24, 3, padding=1, bias=False), [torch.empty(2, 24, 16, 16)])
    image, weight = 4 * 2 * 24 * 256, 4 * 24 * 24 * 9
    short, long = (memory.peak(found, lookup(name)).by_kind["workspace"] for name in ("epyc-7763", "epyc-9654"))
    assert short == image + weight
    assert long == image * 32 // 24 * 2 - image + 4 * 32 * 32 * 9


@pytest.mark.parametrize("options", [{}, {"training": True}])
def test_memory_over_a_pass_has_the_peak_of_the_analysis(options: dict[str, Any]) -> None:
    """Op by op what `peak` finds in one walk, and the owners at the peak are all of it."""
    from roofline import pipeline, request

    asked = request.made("mobilenet_v3_small", {"device": "t4", "batch": 2, **options})
    found, alive = pipeline.run(asked).totals, pipeline.alive(asked)
    assert alive.total == found.peak_memory_bytes
    assert {kind: values[alive.peak] for kind, values in alive.kinds.items() if values[alive.peak]} == found.peak_memory
    assert alive.layers[alive.peak] == found.peak_layer
    assert sum(size for _, size in alive.owners) == alive.total
    assert all(value >= 0 for values in alive.kinds.values() for value in values)


def test_the_course_of_a_chain_is_exact() -> None:
    """Linear 4 -> 8 -> 2 in fp32 over 3 rows: parameters 4 * (4*8 + 8 + 8*2 + 2) = 232 B and input 4 * 12 = 48 B stay;
    the first op makes 4 * 3*8 = 96 B and the second 4 * 3*2 = 24 B beside them."""
    found = memory.peak(trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), [torch.empty(3, 4)]))
    held = 232 + 48
    assert [(at, nbytes) for at, _, nbytes in found.course] == [(0, held), (1, held + 96), (2, held + 96 + 24)]
    assert max(nbytes for _, _, nbytes in found.course) == found.total


def test_a_long_course_keeps_its_peak() -> None:
    net = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(300)), nn.Linear(4, 999), nn.Linear(999, 1))
    found = memory.peak(trace(net, [torch.empty(3, 4)]))
    assert len(found.course) <= memory.MOST
    assert max(nbytes for _, _, nbytes in found.course) == found.total
    assert [at for at, _, _ in found.course] == sorted({at for at, _, _ in found.course})
