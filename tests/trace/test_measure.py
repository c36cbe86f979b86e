"""Running models: operators timed are those of the trace, rows add up to the whole, and what cannot run says why.

No test here asserts how fast this machine is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import trace_events
from torch import nn

from roofline import pipeline
from roofline.bench import calibrate_cpu, calibrate_gpu, calibration, measure, sampling
from roofline.bench.measure import Timed, attach, gaps, matched, shares
from roofline.bench.op_timer import HostClock
from roofline.bench.sampling import Sample
from roofline.devices import library
from roofline.errors import ModelError, UsageError
from roofline.records import Analysis, KernelRow
from roofline.request import Ask, Pass, Place, Request
from roofline.sources import build
from roofline.sources.resolve import resolve


@pytest.fixture(autouse=True)
def detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cpu` is this machine as detected."""
    monkeypatch.setenv("ROOFLINE_HOST_FILE", "")


def measured(model: str, device: str = "cpu", dtype: str = "fp32", threads: int | None = None, **ask: Any) -> Analysis:
    """A model measured in a hurry, on however busy a machine."""
    asked = Request(Ask(model, **ask), Pass(dtype), Place(device))
    return measure.measure(asked, seconds=0.3, force=True, threads=threads)


def request(ask: Ask) -> Request:
    return Request(ask, place=Place(library.this_machine()))


# ------------------------------------------------------------------------------------------------ sharing out


@pytest.mark.parametrize(
    ("shown", "whole", "expected"),
    [
        ([4.0, 2.0, 3.0], 6.0, [3.0, 1.0, 2.0]),  # one second too many on each
        ([4.0, 2.0, 3.0], 12.0, [5.0, 3.0, 4.0]),  # time between operators belongs to all alike
        ([4.0, 0.0, 2.0], 4.0, [3.0, 0.0, 1.0]),  # what did not run keeps nothing
        ([], 1.0, []),
        ([0.0, 0.0], 1.0, [0.0, 0.0]),
    ],
)
def test_shares(shown: list[float], whole: float, expected: list[float]) -> None:
    assert shares(shown, whole) == pytest.approx(expected)


def test_shares_never_turn_negative_and_still_add_up() -> None:
    got = shares([10.0, 0.1, 0.1, 0.1], 5.0)
    assert min(got) > 0
    assert sum(got) == pytest.approx(5.0)


def test_operators_are_matched_across_a_copy_more_or_less() -> None:
    traced = ["conv2d", "clone", "_unsafe_view", "linear", "relu"]
    same, notes = matched(traced, traced)
    assert same == [[0], [1], [2], [3], [4]]
    assert notes == []
    less, notes = matched(traced, ["conv2d", "view", "linear", "relu"])
    assert less == [[0], [1], [], [2], [3]]
    assert notes == ["Ran otherwise than predicted: view in place of clone, _unsafe_view (1 x)."]
    more, _ = matched(["conv2d", "relu"], ["conv2d", "clone", "relu"])
    assert more == [[0, 1], [2]]


def row(klass: str, time_s: float, measured_s: float) -> KernelRow:
    return KernelRow(
        layer="",
        op="x",
        klass=klass,
        shape=(1,),
        dtype="float32",
        flops=1,
        macs=0,
        bytes=1,
        weight_bytes=0,
        intensity=1.0,
        time_s=time_s,
        bound="memory",
        level="DRAM",
        efficiency=1.0,
        compute_s=0.0,
        memory_s=time_s,
        overhead_s=0.0,
        known=True,
        measured_s=measured_s,
    )


def test_gap_by_class_largest_first() -> None:
    got = gaps([row("conv", 2.0, 3.0), row("norm", 1.0, 0.9), row("conv", 1.0, 4.0), row("pool", 0.5, 2.0)])
    assert [(g.klass, g.kernels, g.predicted_s, g.measured_s) for g in got] == [
        ("conv", 2, 3.0, 7.0),
        ("pool", 1, 0.5, 2.0),
        ("norm", 1, 1.0, 0.9),
    ]


# ------------------------------------------------------------------------------------------------ running


def check(found: Analysis) -> None:
    """What holds of every measured analysis."""
    m = found.measurement
    assert m is not None
    assert found.setting.tier == "measured"
    assert m.time_s > 0
    assert sum(k.measured_s or 0.0 for k in found.kernels) == pytest.approx(m.time_s)
    assert found.layers[0].measured_s == pytest.approx(m.time_s)
    assert sum(o.measured_s or 0.0 for o in found.ops) == pytest.approx(m.time_s)
    assert sum(g.measured_s for g in m.gap) == pytest.approx(m.time_s)
    assert sum(g.predicted_s for g in m.gap) == pytest.approx(found.totals.time_s)


def test_a_model_is_measured_and_its_prediction_is_that_of_analyze() -> None:
    import roofline

    found = measured("mobilenet_v3_large", resolution=64)
    check(found)
    predicted = roofline.analyze("mobilenet_v3_large", resolution=64, cache=False)
    assert found.totals == predicted.totals
    assert [k.time_s for k in found.kernels] == [k.time_s for k in predicted.kernels]
    children = [x for x in found.layers if x.path and "." not in x.path]
    assert 0 < sum(x.measured_s or 0.0 for x in children) <= (found.layers[0].measured_s or 0.0) * 1.0001


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n        self.conv = nn.Conv2d(3, 64, 3)\n        self.fc = nn.Linear(64, 4)\n"
        "    def forward(self, x, scale=None):\n"
        "        h = torch.relu(self.conv(x)).mean((2, 3))\n        return self.fc(h)\n"
    )
    found = measured(f"{tmp_path / 'net.py'}:Net", inputs=["2,3,64,64"])
    check(found)
    assert {"conv2d", "relu", "mean", "linear"} <= {k.op for k in found.kernels}
    # 2 x 64 x 62 x 62 outputs of 27 products against 2 x 64 x 4: the convolution takes longer than the classifier
    by_op = {o.op: o.measured_s or 0.0 for o in found.ops}
    assert by_op["conv2d"] > by_op["linear"]


@pytest.mark.parametrize("dtype", ["bf16", "amp"])
def test_other_dtypes_run_as_traced(dtype: str) -> None:
    if not library.lookup("cpu").has("bf16"):  # what amp is on a CPU too
        pytest.skip("this machine has no unit for bf16")
    found = measured("mobilenet_v3_large", resolution=64, dtype=dtype)
    check(found)
    assert not [n for n in found.notes if "otherwise" in n]


def test_attention_runs_as_predicted_and_says_so() -> None:
    found = measured("torchvision:vit_b_32")
    check(found)
    assert torch.backends.mha.get_fastpath_enabled()
    assert any("MultiheadAttention" in n for n in found.notes)


def test_the_stopwatch_sees_the_operators_of_the_trace() -> None:
    ask = Ask("resnet50", resolution=64)
    found = resolve(ask)
    trace, _ = pipeline.with_trace(found, request(ask))
    module = build.build(found, real=True)
    with torch.inference_mode(), sampling.Waiting() as waiting:
        clock = HostClock(lambda: module(torch.rand(1, 3, 64, 64)), waiting)
        names = [name for name, _, _ in clock.ops()]
        assert clock.cost() >= 0
    # the input is made inside the call here
    assert [n for n in names if not n.startswith("aten.rand")] == [trace.specs[op.spec].name for op in trace.ops]


def test_measuring_leaves_torch_as_it_was() -> None:
    before = torch.get_num_threads(), torch.is_inference_mode_enabled(), torch.backends.mha.get_fastpath_enabled()
    found = measured("mobilenet_v3_large", resolution=32, threads=1)
    # what it is held against is one core too, where there are more
    cores = int(library.lookup("cpu").units.value)
    assert found.device.name == ("cpu@1" if cores > 1 else "cpu")
    assert (torch.get_num_threads(), torch.is_inference_mode_enabled(), torch.backends.mha.get_fastpath_enabled()) == before


def test_a_whole_that_was_never_left_alone_is_the_sum_of_its_operators() -> None:
    ask = Ask("mobilenet_v3_large", resolution=32)
    trace, predicted = pipeline.with_trace(resolve(ask), request(ask))
    op = Sample(2e-6, 0.1, 10, 8)
    lost = Timed(Sample(5.0, 3.0, 8, 0), tuple(op for _ in trace.ops), 0.5e-6, 2)
    from roofline.kernels import build as kernels

    got = attach(predicted, [k.ops for k in kernels.build(trace, "eager", "cpu")], lost)
    check(got)
    assert got.measurement is not None
    assert got.measurement.time_s == pytest.approx(len(trace.ops) * 1.5e-6)
    assert not got.measurement.whole
    assert any("sum of its operators" in n for n in got.notes)


# ------------------------------------------------------------------------------------------------ what cannot be


def test_a_model_that_fails_when_it_runs(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n"
        "        if not x.is_meta:\n            raise RuntimeError('only on meta')\n        return self.fc(x)\n"
    )
    with pytest.raises(ModelError, match="cannot run here: RuntimeError: only on meta") as caught:
        measured(f"{tmp_path / 'bad.py'}:Net", inputs=["1,4"])
    assert caught.value.exit_code == 3


def test_a_run_that_changes_its_course_is_refused(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.n = 0\n        self.fc = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n"
        "        self.n += 1\n        return self.fc(x) if self.n % 2 else torch.relu(self.fc(x))\n"
    )
    with pytest.raises(ModelError, match="two runs"):
        measured(f"{tmp_path / 'moody.py'}:Net", inputs=["1,4"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_without_a_gpu_measuring_on_one_is_refused() -> None:
    with pytest.raises(UsageError, match="CUDA device"):
        measured("mobilenet_v3_large", device="rtx-4090")
    with pytest.raises(UsageError, match="CUDA device"):
        calibrate_gpu.calibrate()


# ------------------------------------------------------------------------------------------------ calibrating


def test_calibrate_measures_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SECONDS", 1.0)
    before = torch.get_num_threads()
    got = calibrate_cpu.calibrate(threads=1, force=True)
    d = got.device
    assert torch.get_num_threads() == before
    assert d.tier == "calibrated"
    assert d.vector["fp32"].status == "measured"
    assert d.vector["fp32"].nominal > 0
    assert d.levels[-1].name == "DRAM"
    assert d.levels[-1].status == "measured"
    # nothing beats the registers: far below 1 PFLOP/s and 10 TB/s on one core, above 100 MFLOP/s and 100 MB/s
    assert 1e8 < d.vector["fp32"].value < 1e15
    assert 1e8 < d.levels[-1].bandwidth < 1e13
    assert all(a.bandwidth >= b.bandwidth for a, b in zip(d.levels, d.levels[1:], strict=False))
    assert d.launch.value == 0.0  # one thread starts no other
    assert 1e-7 < d.host.value < 1e-3
    assert [s.threads for s in d.scaling] == [1]
    assert {"conv", "depthwise_conv", "gemm", "norm", "pointwise"} <= d.fixed.keys()
    from roofline.devices.file import read
    from roofline.devices.writer import write

    path = tmp_path / "host.toml"
    path.write_text(write(d), encoding="utf-8")
    assert read(path).tier == "calibrated"


@pytest.mark.gpu
def test_calibrate_gpu() -> None:
    got = calibrate_gpu.calibrate(force=True)
    d = got.device
    assert got.seconds < 20
    assert d.kind == "gpu"
    assert d.vector["fp32"].status == "measured"
    assert d.levels[-1].bandwidth > 1e10
    assert 0 < d.launch.value < 1e-3


@pytest.mark.gpu
def test_measure_on_a_gpu() -> None:
    check(measured("mobilenet_v3_large", device="gpu"))


def test_the_recorders_composites_are_taken_apart_alike() -> None:
    """A module that calls a composite operator by itself."""
    seen: list[str] = []
    with torch.inference_mode(), sampling.Waiting() as waiting:
        clock = HostClock(lambda: nn.functional.relu6(torch.ones(4).reshape(2, 2)), waiting)
        seen = [name for name, _, _ in clock.ops()]
    assert "aten.relu6" in seen
    assert "aten.reshape" not in seen


def test_what_torch_records_meets_the_format_that_our_timelines_are_held_to(tmp_path: Path) -> None:
    """Or the schema would say of our files alone what it was written for."""
    jsonschema = pytest.importorskip("jsonschema", reason="check-jsonschema is not installed")
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        net(torch.zeros(2, 8))
    recorded.export_chrome_trace(str(tmp_path / "recorded.json"))
    document = json.loads((tmp_path / "recorded.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(trace_events.SCHEMA).validate(document)
    assert any(e["ph"] == "X" and e["name"] == "aten::relu" for e in document["traceEvents"])
