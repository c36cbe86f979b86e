"""The `compiled` runtime beside Inductor's own schedule: generated kernels, library calls and bytes, on a CPU.

Shallow versions of networks of each kind; `python benchmarks/inductor.py` does the same for whole models. Inductor stops
before it writes C++, so no compiler is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from msgspec.structs import replace
from oracles.inductor import inductor
from torch import nn

from benchmarks.inductor import ours
from roofline import compat
from roofline.devices.library import lookup
from roofline.kernels import build as kernels
from roofline.records import Kernel
from roofline.shapes import Loop
from roofline.timemodel import cpu_compiled, features, formulas
from roofline.timemodel.constants import shipped
from roofline.tracing.trace import trace

# of the generated kernels and of their bytes; and that many kernels at least, since two of a dozen are no tenth
KERNELS, BYTES, FEW = 0.10, 0.05, 1


def vision(name: str, *args: object, **settings: object) -> nn.Module:
    from torchvision import models

    return getattr(models, name)(*args, **settings)


def mobilenet() -> nn.Module:
    from torchvision.models.mobilenetv3 import InvertedResidualConfig

    rows = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 3, 72, 24, False, "RE", 2, 1, 1.0),
        InvertedResidualConfig(24, 5, 96, 24, True, "HS", 1, 1, 1.0),
    ]
    return vision("MobileNetV3", rows, 64)


def efficientnet() -> nn.Module:
    from torchvision.models.efficientnet import MBConvConfig

    return vision("EfficientNet", [MBConvConfig(1, 3, 1, 32, 16, 1), MBConvConfig(6, 3, 2, 16, 24, 2)], 0.2)


def swin() -> nn.Module:
    return vision("SwinTransformer", [4, 4], 48, [2, 1], [3, 6], [4, 4])


def group_norm() -> nn.Module:
    from torchvision.models.resnet import Bottleneck

    return vision("ResNet", Bottleneck, [2, 1, 1, 1], norm_layer=lambda channels: nn.GroupNorm(8, channels))


def mixer(affine: bool) -> nn.Module:
    from timm.models import mlp_mixer

    settings = {"block_layer": mlp_mixer.ResBlock, "norm_layer": mlp_mixer.Affine, "mlp_ratio": 4} if affine else {}
    return mlp_mixer.MlpMixer(img_size=64, num_blocks=3, embed_dim=96, **settings)


def vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=64, embed_dim=96, depth=5, num_heads=3)


def convnext() -> nn.Module:
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(depths=(2, 2, 1, 1), dims=(24, 48, 96, 96))


def big_transfer() -> nn.Module:
    from timm.models.resnetv2 import ResNetV2

    return ResNetV2(layers=(2, 1, 1, 1), channels=(128, 256, 256, 256))


def poolformer() -> nn.Module:
    from timm.models import metaformer

    return metaformer.MetaFormer(
        depths=(2, 1, 1, 1),
        dims=(32, 64, 96, 128),
        norm_layers=metaformer.GroupNorm1,
        downsample_norm=None,
        mlp_act=nn.GELU,
        mlp_bias=True,
        layer_scale_init_values=1e-5,
        res_scale_init_values=None,
        use_mlp_head=False,
    )


# what it is made of -> the network, and its resolution
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "residuals": (lambda: vision("resnet18"), 64),
    "gates, hardswish": (mobilenet, 64),
    "gates, silu": (efficientnet, 64),
    "dense concatenation": (lambda: vision("DenseNet", 16, (3, 3), 32), 64),
    "channel shuffle": (lambda: vision("ShuffleNetV2", [1, 2, 1], [24, 48, 96, 192, 256]), 64),
    "fire modules": (lambda: vision("squeezenet1_1"), 64),
    "plain, adaptive pooling": (lambda: vision("vgg11_bn"), 224),
    "windows of attention": (swin, 32),
    "attention": (vit, 64),
    "mixing of tokens": (lambda: mixer(False), 64),
    "affine instead of norm": (lambda: mixer(True), 64),
    "large depthwise, LayerNorm": (convnext, 64),
    "GroupNorm": (group_norm, 64),
    "standardised weights": (big_transfer, 64),
    "pools as mixers, one group": (poolformer, 64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_and_bytes_are_those_of_inductor(name: str) -> None:
    torch.manual_seed(0)
    make, resolution = NETWORKS[name]
    net, image = make().eval(), torch.zeros(1, 3, resolution, resolution)
    predicted = ours(net, [image])
    theirs = inductor(net, [image])
    assert len(predicted.library) == len(theirs.library)
    # torch 2.9 makes seven kernels fewer around windows that are shifted, which move a tenth less
    before = name == "windows of attention" and compat.older(compat.version("torch"), "2.14")
    assert len(predicted.generated) == pytest.approx(len(theirs.generated), rel=KERNELS, abs=7 if before else FEW)
    assert predicted.nbytes == pytest.approx(theirs.nbytes, rel=0.1 if before else BYTES)


class Gated(nn.Module):
    """A squeeze-and-excitation gate behind an activation."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.activation, self.gate = activation, nn.Conv2d(16, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.activation(self.norm(self.conv(x)))
        return y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.Hardswish, nn.GELU])
def test_halves_that_an_activation_names_twice_are_kept_as_their_cast(activation: Callable[[], nn.Module]) -> None:
    """x * sigmoid(x) and its like compute in fp32: what is stored for both uses of x is the cast, of twice the bytes."""
    net, image = Gated(activation()).eval().bfloat16(), torch.zeros(8, 16, 32, 32, dtype=torch.bfloat16)
    predicted, theirs = ours(net, [image]), inductor(net, [image])
    assert len(predicted.generated) == len(theirs.generated)
    assert predicted.nbytes == pytest.approx(theirs.nbytes, rel=0.01)


@pytest.mark.parametrize(("activation", "written"), [(nn.ReLU, 2), (nn.SiLU, 4)])
def test_the_cast_of_a_norm_goes_through_memory_on_a_gpu(activation: Callable[[], nn.Module], written: int) -> None:
    """The kernel of norm and mean reads halves and writes what the gate's reads: 2 bytes an element, or 4 of the cast."""
    net, image = Gated(activation()).eval(), torch.zeros(8, 16, 32, 32)
    found = kernels.build(trace(net, [image], {}, dtype="amp", device_kind="gpu"), "compiled", "gpu")
    mean, gate = (next(k for k in found if name in k.op) for name in ("mean", "sigmoid"))
    elements = image.numel()
    assert mean.bytes == pytest.approx((2 + written) * elements, rel=0.02)
    assert gate.bytes == pytest.approx((written + 2) * elements, rel=0.02)


class Pooling(nn.Module):
    """A block of PoolFormer: the element itself is read beside its window."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.pool = nn.GroupNorm(1, 16), nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.pool(y) - y


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_window_is_not_read_of_a_kernel_that_is_still_writing(kind: str) -> None:
    """No kernel can read neighbours of what it has not written yet (scheduler.py, can_fuse_vertical)."""
    net, image = Pooling().eval(), torch.zeros(8, 16, 32, 32)
    found = [k.op for k in kernels.build(trace(net, [image], {}, device_kind=kind), "compiled", kind)]
    assert [op for op in found if "group_norm" in op and "avg_pool2d" in op] == []
    assert "avg_pool2d" in found[-1]
    assert "sub" in found[-1]
    if kind == "cpu":
        assert len(inductor(net, [image]).generated) == len(found)


@pytest.mark.parametrize("threads", [2, 14, 16, 28, 56])
@pytest.mark.parametrize("elements", [1, 4096, 14 * 4096 - 1, 14 * 4096, 28 * 4096 - 1, 28 * 4096, 10**6])
def test_a_loop_stays_serial_by_inductors_own_rule(monkeypatch: pytest.MonkeyPatch, elements: int, threads: int) -> None:
    """More cores can make compiled code slower: a loop that is too short to share among all of them is not shared at all."""
    cpp = pytest.importorskip("torch._inductor.codegen.cpp")
    depth_of = getattr(cpp.CppKernel, "decide_parallel_depth", None)
    wanted = getattr(cpp, "ParallelDepth", None)
    if depth_of is None or wanted is None:
        pytest.skip("this torch decides otherwise where a loop is cut")
    sizes = SimpleNamespace(optimization_hint=lambda n, fallback=0: n, size_hint=lambda n, fallback=0: n)
    loop = SimpleNamespace(call_ranges=[elements], size_hint=lambda: elements)
    with monkeypatch.context() as patch, cpp.config.patch({"cpp.min_chunk_size": 4096}):
        patch.setattr(cpp, "V", SimpleNamespace(graph=SimpleNamespace(sizevars=sizes)))
        depth = depth_of(loop, wanted(parallel_depth=1, start_depth=0), threads).parallel_depth
    machine = replace(formulas.Machine.of(lookup("i9-10940x"), "fp32", "compiled"), units=float(threads))
    kernel = Kernel(0, "x", "pointwise", (0,), "float32", (1,), 0, 0, (), loop=Loop(elements))
    f = features.of(kernel, features.Moved(0, 0, 0, []), 0)
    assert (depth == 0) == cpu_compiled._serial(f, replace(shipped().cpu, chunk=4096.0), machine, formulas.Plain)
