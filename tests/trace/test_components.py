"""What set the time: components add up, and each is what a faster roof would save, by changing the device and asking again."""

from __future__ import annotations

import re
from functools import cache

import pytest
from msgspec.structs import replace

import roofline
from roofline.advice import brief
from roofline.analysis import memory
from roofline.analysis.explain import reason
from roofline.devices.device import Device
from roofline.devices.library import lookup
from roofline.kernels import build as kernels
from roofline.records import BOUNDS, Kernel, Trace, by_bound
from roofline.request import Ask, Pass
from roofline.sources.resolve import resolve
from roofline.sources.traced import trace_source
from roofline.timemodel import roof

CASES = [
    ("mobilenet_v3_large", "rtx-4090", 1, "eager", "fp32"),
    ("mobilenet_v3_large", "rtx-4090", 16, "eager", "fp32"),
    ("resnet50", "rtx-4090", 32, "eager", "amp"),
    ("vgg16", "t4", 16, "eager", "fp32"),
    ("vit_b_16", "t4", 8, "eager", "fp16"),
    ("resnet50", "rtx-4090", 8, "compiled", "amp"),
    ("mobilenet_v3_large", "i9-10940x", 1, "eager", "fp32"),
    ("resnet50", "i9-10940x", 16, "eager", "fp32"),
    ("efficientnet_b0", "i7-12700h", 1, "eager", "fp32"),
    ("vit_b_16", "i7-12700h", 1, "compiled", "fp32"),
    ("mobilenet_v3_large", "raspberry-pi-5", 1, "compiled", "fp32"),
    ("resnet50", "t4", 4, "ideal", "fp32"),
]


@cache
def traced(name: str, device: str, batch: int, dtype: str) -> Trace:
    target = lookup(device)
    return trace_source(resolve(Ask(name, batch=batch)), target, Pass(dtype=dtype))


@cache
def launched(name: str, device: str, batch: int, runtime: str, dtype: str) -> tuple[tuple[Kernel, ...], int]:
    trace, target = traced(name, device, batch, dtype), lookup(device)
    return kernels.build(trace, runtime, target.kind), memory.peak(trace, target).total


def total(case: tuple[str, str, int, str, str], device: Device) -> tuple[float, dict[str, float]]:
    """Seconds, and by component."""
    rows, footprint = launched(*case)
    points = roof.place(rows, device, setting=case[4], runtime=case[3], footprint=footprint)
    split: dict[str, float] = {}
    for p in points:
        assert sum(p.components.values()) == pytest.approx(p.time_s, rel=1e-12)
        assert all(part > 0 for part in p.components.values())
        assert p.bound == max(BOUNDS, key=lambda b: by_bound(p.components)[b])
        for name, part in p.components.items():
            split[name] = split.get(name, 0.0) + part
    return sum(p.time_s for p in points), split


def faster(device: Device, component: str, by: float) -> Device:
    """The device with one roof `by` times as high."""
    if component.startswith("memory:"):
        name = component.removeprefix("memory:")
        return replace(
            device, levels=tuple(replace(x, bandwidth=x.bandwidth * by) if x.name == name else x for x in device.levels)
        )
    if component in ("host", "launch"):
        number = getattr(device, component)
        changed = {component: replace(number, value=number.value / by)}
        if component == "host":
            changed["fixed"] = {k: replace(n, value=n.value / by) for k, n in device.fixed.items()}
        return replace(device, **changed)
    assert component == "units"
    peaks = {
        kind: {k: replace(p, value=p.value * by) for k, p in getattr(device, kind).items()} for kind in ("tensor", "vector")
    }
    cores = tuple(replace(c, clock=c.clock * by) for c in device.cores)
    return replace(device, **peaks, cores=cores, clock=replace(device.clock, value=device.clock.value * by))


def shares(split: dict[str, float], device: Device) -> dict[str, float]:
    """Seconds by what `faster` can change: arithmetic and instructions run on the same units."""
    found = {f"memory:{x.name}": split.get(f"memory:{x.name}", 0.0) for x in device.levels}
    return found | {
        "host": split.get("host", 0.0),
        "launch": split.get("launch", 0.0),
        "units": split.get("compute", 0.0) + split.get("instructions", 0.0),
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_component_is_what_a_slightly_faster_roof_saves(case: tuple[str, str, int, str, str]) -> None:
    device, by = lookup(case[1]), 1.0005
    time, split = total(case, device)
    assert sum(split.values()) == pytest.approx(time, rel=1e-9)
    for name, part in shares(split, device).items():
        after, _ = total(case, faster(device, name, by))
        # the time of a roof that is `by` times as high falls by 1 - 1/by of itself
        assert time - after == pytest.approx(part * (1 - 1 / by), rel=0.02, abs=2e-6 * time), name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_roof_saves_more_than_its_component(case: tuple[str, str, int, str, str]) -> None:
    device = lookup(case[1])
    time, split = total(case, device)
    # in fp32 a GPU's libraries have several kernels for VGG's convolutions; a device that is ten times as good in one thing
    # takes others (Winograd's against plain products, memory against arithmetic)
    slack = 0.25 if case[0] == "vgg16" else 0.01
    for name, part in shares(split, device).items():
        after, _ = total(case, faster(device, name, 10.0))
        assert time - after <= 0.9 * part + slack * time, name
        if part == 0:
            assert after == pytest.approx(time, rel=1e-9), name


def test_work_behind_the_host_bounds_nothing() -> None:
    """185 kernels x 15 us: the memory of an RTX 4090 could be ten times as fast."""
    case = CASES[1]
    device = lookup("rtx-4090")
    time, split = total(case, device)
    count = len(launched(*case)[0])
    assert split["host"] == pytest.approx(count * device.host.value, rel=1e-9)
    assert split["host"] > 0.98 * time
    fast = faster(faster(device, "memory:DRAM", 10), "memory:L2", 10)
    assert total(case, fast)[0] > 0.98 * time


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sentences_name_every_bound_with_a_fifth_of_the_time(case: tuple[str, str, int, str, str]) -> None:
    """Whatever set the time stands in the sentence with the share that the components add up to, and no other number."""
    name, device, batch, runtime, dtype = case
    found = roofline.analyze(name, device=device, batch=batch, runtime=runtime, dtype=dtype)
    split = by_bound(found.totals.time_by_component)
    assert split == pytest.approx(found.totals.time_by_bound)
    said = reason(found)
    for bound, part in split.items():
        share = 100 * part / found.totals.time_s
        named = re.search(rf"\b{bound}( \([\w, ]+\))?( takes?)? {share:.0f}(\.\d)? %", said, re.IGNORECASE)
        if abs(share - 20) > 0.5 and max(split.values()) > 0.2 * found.totals.time_s:
            assert bool(named) == (share >= 20) or share >= 99.5, (bound, share, said)
    assert not re.search(r"\bor\b|, but the kernels", said)
    if lookup(device).kind == "cpu":
        assert "wait" not in said
    elif split["overhead"] >= 0.2 * found.totals.time_s:
        # what it stands idle is told alike everywhere; with what it works meanwhile it is the host's, and what starting takes
        waits = re.search(r"for ([\d.]+)( \ws)? of [\d.]+( \ws) the GPU stands idle, (most of it )?waiting for Python", said)
        assert waits
        told = " ".join(brief.said(found))
        if "the host sets the pace" in told:
            assert f"the GPU stands idle for {waits[1]}{waits[2] or waits[3]} of" in told
        works = re.search(r"the ([\d.]+)( \ws) that it works meanwhile", said)
        sizes = {" us": 1e-6, " ms": 1e-3, " s": 1.0}
        both = float(waits[1]) * sizes[waits[2] or waits[3]] + (float(works[1]) * sizes[works[2]] if works else 0.0)
        starting = sum(found.totals.time_by_component.get(name, 0.0) for name in ("launch", "drain"))
        host = found.totals.time_by_component["host"]
        assert 0.99 * host <= both <= 1.01 * (host + starting)
        assert bool(waits[4]) == (both > 1.02 * host) or both < 1.04 * host


@pytest.mark.parametrize("device", ["p100-pcie", "rtx-3090"])
def test_no_kernel_is_said_to_reach_more_than_the_peak(device: str) -> None:
    """In fp32 VGG's 3 x 3 convolutions run by Winograd's algorithm, which takes 16 or 36 products where 36 or 144 count."""
    said = " ".join(brief.said(roofline.analyze("vgg16", device=device, batch=64)))
    shares = [float(n) for n in re.findall(r"([\d.]+) % of (?:the|its) fp32 peak", said)]
    assert shares
    assert max(shares) <= 100
    executed = [float(n) for n in re.findall(r"Winograd's algorithm executes ([\d.]+) % of its FLOPs", said)]
    assert executed
    assert all(100 * 36 / 144 <= part < 95 for part in executed)
