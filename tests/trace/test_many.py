"""All devices at once are each device by itself: times to the last digit, over models of every class of kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from roofline import pipeline, request
from roofline.analysis import memory
from roofline.devices import library
from roofline.devices.device import Device, Number
from roofline.errors import UsageError
from roofline.kernels import build
from roofline.records import BOUNDS, by_bound
from roofline.sweeps import price
from roofline.timemodel import columns, energy, many, roof
from roofline.timemodel.constants import asked
from roofline.tracing.trace import trace


class Attends(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=self.causal)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("mobilenet_v3_large", {"dtype": "amp"}),
    ("resnet50", {"dtype": "fp32"}),
    ("vit_b_16", {"dtype": "fp16", "batch": 3}),
    ("mobilenet_v2", {"dtype": "amp", "training": True, "batch": 2}),
    ("ghostnet", {"dtype": "tf32"}),
]


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
@pytest.mark.parametrize(("model", "options"), CASES)
def test_all_devices_at_once_are_each_by_itself(model: str, options: dict[str, Any], kind: str, runtime: str) -> None:
    devices = [device for device in library.everything() if device.kind == kind]
    asking = request.made(model, options)
    trace, _ = pipeline.of_trace(asking, devices[0], lambda trace: trace)
    kernels = build.build(trace, runtime, kind)
    peaks = [memory.peak(trace, device).total for device in devices]
    assert price.peaks(trace, devices) == peaks
    entered = many.Passes([kernels])
    assert entered.exact
    batch = many.Batch(entered, kind)
    (found,) = batch.times(devices, [peaks], options["dtype"], runtime, asked())
    # formulas take those together that have more caches and fewer: one of each
    each = list(zip(devices, peaks, found, strict=True))
    forms = {(len(one[0].levels), bool(one[0].tensor)): one for one in each}
    assert len(forms) > 2
    for device, peak, timed in [*each[:: 4 if kind == "cpu" else 9], *forms.values()]:
        try:
            points = roof.place(kernels, device, setting=options["dtype"], runtime=runtime, footprint=peak, constants=asked())
        except UsageError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            assert str(timed) == refused
            continue
        assert isinstance(timed, many.Timed)
        whole, components = 0.0, dict[str, float]()
        for point in points:
            whole += point.time_s
            for name, part in point.components.items():
                components[name] = components.get(name, 0.0) + part
        assert timed.time == whole
        split = by_bound(components)
        assert timed.bounds == pytest.approx([split[name] for name in BOUNDS], abs=1e-9 * whole)
        spent = energy.of_points(energy.board(device), kernels, points) if device.tdp else []
        expected = [sum(s.joules for s in spent), sum(s.standing for s in spent)]
        assert [timed.joules, timed.standing] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_passes_at_once_are_each_by_itself(kind: str) -> None:
    devices = [device for device in library.everything() if device.kind == kind][::5]
    trace, _ = pipeline.of_trace(request.made("ghostnet", {"dtype": "fp32"}), devices[0], lambda trace: trace)
    kernels = build.build(trace, "eager", kind)
    # kernels alike in passes that keep more and less alive, one of them none
    passes, alive = [kernels, kernels[: len(kernels) // 2], ()], [10**6, 10**8, 0]
    footprints = [[bytes_ for _ in devices] for bytes_ in alive]
    found = many.Batch(many.Passes(passes), kind).times(devices, footprints, "fp32", "eager", asked())
    for launched, footprint, timed in zip(passes, alive, found, strict=True):
        for device, one in zip(devices, timed, strict=True):
            assert isinstance(one, many.Timed)
            whole = 0.0
            points = roof.place(launched, device, setting="fp32", runtime="eager", footprint=footprint, constants=asked())
            for point in points:
                whole += point.time_s
            assert one.time == whole
            spent = energy.of_points(energy.board(device), launched, points) if device.tdp else []
            assert one.joules == pytest.approx(sum(s.joules for s in spent), rel=1e-9)


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_what_a_mask_spares_takes_no_energy(kind: str) -> None:
    """Kernels of one group of which some execute all of their FLOPs, and some a part."""
    devices = [device for device in library.everything() if device.kind == kind][::7]
    kernels = []
    for causal in (True, False):
        kernels += build.build(trace(Attends(causal), [torch.empty(1, 4, 1024, 64, device="meta")]), "eager", kind)
    (found,) = many.Batch(many.Passes([kernels]), kind).times(devices, [[10**6] * len(devices)], "fp32", "eager", asked())
    for device, one in zip(devices, found, strict=True):
        points = roof.place(kernels, device, setting="fp32", runtime="eager", footprint=10**6, constants=asked())
        assert points[0].executed < 0.6 < points[1].executed
        spent = energy.of_points(energy.board(device), kernels, points) if device.tdp else []
        assert isinstance(one, many.Timed)
        assert one.joules == pytest.approx(sum(s.joules for s in spent), rel=1e-9)


def test_measured_devices_at_once_are_each_by_itself() -> None:
    """Of some, `calibrate` measured what an operator costs: formulas ask for those numbers one after the other."""
    base = [library.lookup(name) for name in ("i9-10940x", "xeon-8380", "epyc-9654")]

    def measured(device: Device, by: float, *names: str) -> Device:
        fixed = {name: Number(by * 1e-6, "calibrate", "measured", by * 1e-6) for name in names}
        rates = {name: Number(by * 1e11, "calibrate", "measured", by * 1e11) for name in ("conv", "gemm")}
        loops = {name: Number(by * 1e10, "calibrate", "measured", by * 1e10) for name in ("pointwise", "hardswish", "pool")}
        *caches, dram = device.levels
        levels = (*caches, replace(dram, status="measured"))
        return replace(device, fixed=fixed, flops=rates, bytes=loops, levels=levels, tier="calibrated")

    names = "conv", "conv_small", "gemm", "pointwise", "norm"
    devices = [*base, *(measured(d, i + 2.0, *names) for i, d in enumerate(base)), measured(base[0], 5.0, "conv")]
    trace, _ = pipeline.of_trace(request.made("mobilenet_v3_large", {"dtype": "fp32"}), devices[0], lambda trace: trace)
    kernels = build.build(trace, "eager", "cpu")
    ((*found,),) = many.Batch(many.Passes([kernels]), "cpu").times(devices, [[10**7] * len(devices)], "fp32", "eager", asked())
    for device, one in zip(devices, found, strict=True):
        assert isinstance(one, many.Timed)
        whole = 0.0
        for point in roof.place(kernels, device, setting="fp32", runtime="eager", footprint=10**7, constants=asked()):
            whole += point.time_s
        assert one.time == whole


@pytest.mark.parametrize("exponent", [0.5, 1 / 3, 2.0, 2.5, -0.7, 8.0])
def test_powers_of_many_are_those_of_one(exponent: float) -> None:
    values = np.random.default_rng(0).lognormal(-9, 3, 5000).reshape(50, 100)
    found = columns.Column(values, {}) ** exponent
    assert found.value.tolist() == [[value**exponent for value in row] for row in values.tolist()]
