"""Intervals: what they are made of, what narrows them, and what of them cancels in a ratio."""

from __future__ import annotations

import json
from math import exp, hypot, log
from pathlib import Path

import pytest
from msgspec.structs import replace
from sample import sample

from roofline.advice import doubt
from roofline.analysis import diff, explain
from roofline.devices.device import Device, Known, Number
from roofline.devices.library import everything, lookup
from roofline.errors import UsageError
from roofline.records import Interval
from roofline.timemodel import uncertainty
from roofline.views import text

GPU = lookup("rtx-4090")
MIXED = {"compute": 3.0, "instructions": 1.0, "memory:DRAM": 4.0, "memory:L2": 1.0, "host": 1.0}
STREAM = {"memory:DRAM": 1.0}


def of(device: Device, components: dict[str, float] = MIXED, seconds: float = 0.01) -> Interval:
    return uncertainty.Sure.of(device, "eager", False).interval(seconds, components)


def width(found: Interval) -> float:
    return log(found.high_s / found.low_s)


def test_what_a_time_rests_on() -> None:
    assert uncertainty.rests(MIXED, "gpu") == pytest.approx((0.5, 0.4, 0.1))
    assert uncertainty.rests({"launch": 1.0, "host": 1.0, "drain": 2.0}, "gpu") == (0.0, 0.0, 0.25)
    assert uncertainty.rests({"launch": 1.0, "host": 1.0, "pages": 2.0}, "cpu") == (0.0, 0.0, 0.5)
    assert uncertainty.rests({}, "gpu") == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("device", ["rtx-4090", "t4", "i7-12700h"])
def test_the_parts_of_a_device_are_its_covariance(device: str) -> None:
    """By hand: the variance of what the time rests on, against the sum of three squares."""
    target = lookup(device)
    along, cov = uncertainty.rests(MIXED, target.kind), uncertainty.covariance(target)
    variance = sum(along[i] * cov[i][j] * along[j] for i in range(3) for j in range(3))
    assert hypot(*uncertainty.Sure.of(target, "eager", False).parts(MIXED)) == pytest.approx(variance**0.5)


def test_eight_tenths_of_a_normal_distribution() -> None:
    """Its 90th percentile lies at 1.2816 standard deviations."""
    found = of(GPU)
    sd = hypot(*found.common, found.own)
    assert (found.low_s, found.high_s) == pytest.approx((0.01 * exp(-1.2816 * sd), 0.01 * exp(1.2816 * sd)))


def test_less_is_known_of_what_nobody_measured() -> None:
    def with_status(status: str) -> Device:
        return replace(GPU, sustained=Number(0.9, "", status), reached=Number(0.9, "", status))

    widths = [width(of(with_status(status))) for status in ("measured", "read", "estimated", "assumed")]
    assert widths == sorted(widths)
    assert len(set(widths)) == 4
    # no power data: the clock and the memory's share are assumed
    bare = replace(GPU, sustained=Number(1.0), reached=Number(0.0))
    assert width(of(bare)) == widths[-1]


@pytest.mark.parametrize("device", everything(), ids=lambda d: d.name)
def test_every_device_has_an_interval(device: Device) -> None:
    for runtime in ("eager", "compiled"):
        for training in (False, True):
            found = uncertainty.Sure.of(device, runtime, training).interval(1.0, MIXED)
            assert 0.3 < found.low_s < 0.95 < 1.05 < found.high_s < 3


def test_known_times_narrow_it() -> None:
    known = replace(GPU, known=Known(3, 0.02, 0.03, 0.03, 0.1, -0.5, 0.0, -0.2))
    assert width(of(known)) < width(of(GPU))
    # two that went apart: together they are surer than each alone
    apart, alike = (replace(GPU, known=Known(3, 0.02, 0.1, 0.1, 0.1, r)) for r in (-0.9, 0.9))
    assert width(of(apart)) < width(of(alike))


def test_what_two_models_share_cancels_in_their_ratio() -> None:
    one, same, other = of(lookup("t4")), of(lookup("t4"), MIXED, 0.02), of(lookup("t4"), STREAM)
    assert uncertainty.ratio(one, same, True) == pytest.approx(hypot(one.own, same.own))
    assert uncertainty.ratio(one, same, True) < uncertainty.ratio(one, other, True) < uncertainty.ratio(one, other, False)


def test_a_difference_within_the_interval_is_none() -> None:
    one, other = of(GPU, seconds=0.010), of(GPU, seconds=0.0104)
    close, far = doubt.times_between(1.04, one, other, same_device=True), doubt.times_between(2.0, one, other, same_device=True)
    assert doubt.swallowed(close)
    assert not doubt.swallowed(far)
    assert not doubt.swallowed(doubt.times_between(1.0, None, other, same_device=True))
    assert "in 8 of 10 cases" in doubt.said(far)
    assert doubt.said(None) == ""


@pytest.mark.parametrize(
    ("low", "time", "high", "words"),
    [
        (10.4e-3, 12.3e-3, 14.9e-3, "12.3 ms (10.4 to 14.9)"),
        (810e-6, 950e-6, 1.1e-3, "950 us (810 us to 1.1 ms)"),
        (950e-6, 1.1e-3, 1.3e-3, "1.1 ms (950 us to 1.3 ms)"),
    ],
)
def test_in_words(low: float, time: float, high: float, words: str) -> None:
    assert explain.with_interval(time, Interval(low_s=low, high_s=high, own=0.1, common=(0.0, 0.0, 0.0))) == words
    assert explain.with_interval(0.0123, None) == "12.3 ms"


def test_a_saved_interval_that_was_edited_is_refused(tmp_path: Path) -> None:
    a = sample()
    target = replace(GPU, known=Known(1, 0, 0.1, 0.1, 0.5, -0.9))
    found = uncertainty.Sure.of(target, "eager", False).interval(a.totals.time_s, STREAM)
    assert min(found.common) < 0  # which is no edit
    a = replace(a, totals=replace(a.totals, interval=found))
    path = tmp_path / "a.json"
    path.write_bytes(text.to_json(a) if isinstance(text.to_json(a), bytes) else text.to_json(a).encode())
    assert diff.read_analyses(path) == [a]
    document = json.loads(path.read_text())
    document["totals"]["interval"]["low_s"] /= 2
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"totals\.interval\.low_s is .* give"):
        diff.read_analyses(path)
