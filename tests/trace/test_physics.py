"""Whole models on every device: sums that add up, nothing above a roof; what is above one is said, and --strict fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import nn

import roofline
from benchmarks import physics as gallery
from roofline import classes, cli
from roofline.analysis import physics, summary
from roofline.bench import calibrate_cpu
from roofline.devices.device import Number
from roofline.devices.library import everything as library
from roofline.devices.library import lookup
from roofline.devices.writer import write
from roofline.errors import UsageError
from roofline.kernels import build as kernels
from roofline.records import Kernel, Trace, Work
from roofline.shapes import Access, Gemm
from roofline.timemodel import cpu_eager, features, formulas, many, roof
from roofline.timemodel.constants import shipped
from roofline.tracing.trace import trace


class Decoder(nn.Module):
    """One token against a cache, as a language model runs."""

    def __init__(self, width: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.norm = nn.Embedding(1000, width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, ids: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        b, n, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        k, v = torch.cat((cache, k), 2), torch.cat((cache, v), 2)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, w))
        return x + self.down(nn.functional.gelu(self.up(x)))


class Mixed(nn.Module):
    """Convolutions of every rank and kind, a recurrent layer, attention and products."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 5, padding=2, groups=16),
            nn.Conv2d(16, 32, 3, padding=1, groups=4),
            nn.GroupNorm(4, 32),
            nn.SiLU(),
            nn.MaxPool2d(2),
        )
        self.volume, self.back = nn.Conv3d(4, 8, 3, padding=1), nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.line = nn.Conv1d(16, 32, 3, padding=1)
        self.rnn = nn.LSTM(32, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.mix, self.head = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        deep = self.volume(x.view(x.shape[0], 4, 8, *x.shape[2:])).mean((1, 2, 3, 4))
        x = self.line(self.back(x).flatten(2))[..., ::8]
        x = self.mix(self.rnn(x.transpose(1, 2))[0])
        return self.head(x.mean(1)) + deep[:, None]


@cache
def passes() -> tuple[tuple[str, Trace], ...]:
    """(dtype setting, trace) of inference and training in several precisions, and of a decoded token."""
    from roofline.request import Ask, Pass
    from roofline.sources.resolve import resolve
    from roofline.sources.traced import trace_source

    mobilenet = resolve(Ask("mobilenet_v2", batch=2))
    with torch.device("meta"):
        image, token = torch.empty(4, 3, 64, 64), (torch.empty(1, 1, dtype=torch.long), torch.empty(1, 4, 300, 64))
        mixed, decoder = Mixed(), Decoder()
    half = mixed.eval().half(), image.half()
    return (
        ("fp16", trace(half[0], [half[1]])),
        ("fp32", trace(mixed.float(), [image])),
        ("fp32", trace(mixed, [image], optimizer="sgd")),
        ("fp64", trace(mixed, [image], dtype="fp64")),
        ("fp32", trace(decoder.eval(), token)),
        ("amp", trace_source(mobilenet, lookup("t4"), Pass("amp", training=True))),
        ("fp32", trace(decoder, token, optimizer="adam")),
    )


@cache
def built(index: int, runtime: str, kind: str) -> tuple[Kernel, ...]:
    return kernels.build(passes()[index][1], runtime, kind)


def cases() -> Iterator[tuple[str, str, int]]:
    """Every device in both runtimes, each with one of the passes in turn."""
    for i, device in enumerate(library()):
        for j, runtime in enumerate(("eager", "compiled")):
            yield device.name, runtime, (i + 3 * j) % 7


@pytest.mark.parametrize("names", [list(cases())[part::4] for part in range(4)])
def test_no_kernel_of_a_model_is_above_a_roof(names: Any) -> None:
    tried = 0
    for name, runtime, index in names:
        device, setting = lookup(name), passes()[index][0]
        found = built(index, runtime, device.kind)
        try:
            points = roof.place(found, device, setting=setting, runtime=runtime, footprint=10**9)
        except UsageError:  # no such dtype on it
            continue
        tried += 1
        assert physics.notes(found, points, device, [layer.path for layer in passes()[index][1].layers]) == [], (name, runtime)
        for kernel, point in zip(found, points, strict=True):
            assert sum(point.components.values()) == pytest.approx(point.time_s, rel=1e-9, abs=1e-15)
            assert point.compute_s > 0 or not kernel.macs, (name, runtime, kernel.op)
        clock = max(1.0, device.sustained.value, device.sustained_vector.value if device.sustained_vector else 0.0)
        executed = sum(k.flops * p.executed for k, p in zip(found, points, strict=True))
        assert sum(p.time_s for p in points) >= executed / (clock * max(device.peaks().values())), (name, runtime)
    assert tried > len(names) / 2


@pytest.mark.parametrize("name", ["jetson-nano", "raspberry-pi-4"])
def test_what_a_convolution_does_beside_its_products_takes_time(name: str) -> None:
    """A deformable one draws its samples: on narrow layers that is a tenth of its FLOPs."""
    ops = pytest.importorskip("torchvision").ops

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = ops.DeformConv2d(64, 32, 3, padding=1)

        def forward(self, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
            return self.conv(x, offset)

    with torch.device("meta"):
        net, args = Net().eval(), [torch.empty(2, 64, 128, 128), torch.empty(2, 18, 128, 128)]
    dtype = "fp16" if name == "jetson-nano" else "fp32"
    a = roofline.analyze(net, args=args, device=name, dtype=dtype)
    assert a.totals.flops > 1.05 * 2 * a.totals.macs
    (kernel,) = [k for k in a.kernels if "deform" in k.op]
    assert kernel.efficiency <= 1
    assert kernel.executed == 1
    assert physics.broken(a.notes) == []


@pytest.mark.parametrize("name", ["rtx-3090", "t4", "h100-sxm", "i9-10940x", "raspberry-pi-4"])
def test_a_training_step_takes_about_three_forwards(name: str) -> None:
    """Each product has two gradients. Published steps are 3 to 6 forwards."""
    device = lookup(name)
    times = []
    for index in (1, 2):
        points = roof.place(built(index, "eager", device.kind), device, footprint=10**9)
        times.append(sum(p.time_s - p.overhead_s for p in points))
    assert 2.5 * times[0] < times[1] < 8 * times[0]


# ------------------------------------------------------------------------------------------------ said aloud


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """A device file that claims to multiply forty times faster than its peak."""
    cpu = lookup("i9-10940x")
    path = tmp_path / "wild.toml"
    text = write(cpu) + f'\n[flops.gemm]\nvalue = "{40 * cpu.peak("fp32"):g} FLOP/s"\nstatus = "assumed"\n'
    path.write_text(text, encoding="utf-8")
    return path


def test_an_impossible_device_file_is_said_and_strict_fails(wild: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = roofline.analyze(nn.Linear(512, 512), args=[torch.empty(256, 512)], device=str(wild))
    (said,) = physics.broken(found.notes)
    assert "predicted faster than the peak of i9-10940x: linear in the model itself" in said
    net = wild.parent / "net.py"
    net.write_text("from torch import nn\n\n\ndef make():\n    return nn.Linear(512, 512)\n", encoding="utf-8")
    asked = ["analyze", f"{net}:make", "--input", "256,512", "-d"]
    assert cli.main([*asked, "i9-10940x", "--strict"]) == 0
    assert cli.main([*asked, str(wild)]) == 0
    assert cli.main([*asked, str(wild), "--strict"]) == 1


def test_the_look_over_the_gallery_finds_what_does_not_hold() -> None:
    """benchmarks/physics.py holds all devices at once to their roofs: it finds the device where the product warns."""
    cpu = lookup("i9-10940x")
    wild = replace(cpu, name="wild", flops={"gemm": Number(40 * cpu.peak("fp32"))})
    rows = tuple(kernels.build(trace(nn.Linear(512, 512), [torch.empty(256, 512)]), "eager", "cpu"))
    half = tuple(replace(row, flops=row.macs) for row in rows)
    for given, own in ((rows, []), (half, ["fewer FLOPs than two for each multiply-accumulate"])):
        looked = gallery.Looked(many.Passes([given]), "cpu")
        ((plain, fast),) = looked.times([cpu, wild], [[10**9] * 2], "fp32", "eager", shipped())
        assert isinstance(plain, many.Timed)
        assert isinstance(fast, many.Timed)
        assert [what for what, _ in looked.holds(cpu, plain)] == own
        found = [what for what, _ in looked.holds(wild, fast)]
        assert found == [*own, "a kernel is faster than the peak"]


@pytest.mark.parametrize("kind", ["gemm", "conv", "attention", "rnn"])
@pytest.mark.parametrize("name", ["rtx-4090", "i9-10940x"])
@pytest.mark.parametrize("runtime", ["eager", "compiled"])
def test_a_registered_operator_is_not_free(kind: str, name: str, runtime: str) -> None:
    """Its rule tells what it counts and not of which sizes."""
    macs = 10**9
    wanted = {"count": Work(2 * macs, macs), "flops": 2 * macs}
    for returned in wanted.values():
        kernel = Kernel(0, "mylib.op", kind, (0,), "float32", (1,), 2 * macs, macs if isinstance(returned, Work) else 0, ())
        (point,) = roof.place([kernel], lookup(name), runtime=runtime)
        assert point.compute_s >= 2 * macs / (1.2 * lookup(name).peak("fp32", "vector"))
        assert point.efficiency <= 1.2


@pytest.mark.parametrize("device", ["epyc-9654", "raspberry-pi-5"])
def test_one_number_that_stands_for_many_is_worked_on_as_often(device: str) -> None:
    """The gradient of a loss that is a sum: a bias adds up 4 bytes 32,000 times, which no processor does at once."""
    net = nn.Linear(64, 1000)
    a = roofline.analyze(net, args=[torch.empty(32, 64)], device=device, training=True)
    (row,) = [k for k in a.kernels if k.op == "sum" and k.phase == "backward"]
    assert (row.flops, row.bytes) == (32_000, 4_004)
    assert row.compute_s >= row.flops / a.device.peak_flops * 0.999
    assert not physics.broken(a.notes)


def test_bytes_are_unknown_where_no_rule_and_no_shape_tells_them() -> None:
    found = roofline.analyze(nn.Linear(8, 8), args=[torch.empty(2, 8)], device="t4")
    assert found.coverage.bytes_known == 1
    (row,) = found.kernels
    rows = [row, replace(row, known=False), replace(row, known=False, bytes=0), row]
    coverage = summary._coverage(rows, [])
    assert (coverage.flops_known, coverage.bytes_known) == (0.5, 0.75)


def test_every_rate_that_calibrate_measures_is_one_that_a_formula_asks_for() -> None:
    """What nobody reads is not worth a user's seconds."""
    cpu = object.__new__(calibrate_cpu._Cpu)
    cpu.torch = torch
    asked: set[str] = set()

    class Known(dict[str, float]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return default

    machine = replace(formulas.Machine.of(lookup("i9-10940x"), "fp32", "eager"), rates=Known(), flops=Known())
    constants = shipped().cpu_eager
    for klass, op in itertools.product(classes.KLASSES, ("", *cpu_eager.KINDS)):
        products = (Gemm(1, 1, 1, 1),) if klass in classes.PRODUCTS else ()
        kernel = Kernel(0, op, klass, (0,), "float32", (1,), 100, 10, (), Access(run=4), products=products)
        f = features.of(kernel, features.Moved(5, 6, 6, [(4, 4)]), 1)
        cpu_eager.work(klass, f, constants, machine, formulas.Plain)
    assert set(cpu.large()) <= asked
