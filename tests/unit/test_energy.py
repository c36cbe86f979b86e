"""Joules: what physics asks of them, where they come from, and who has none."""

from __future__ import annotations

import itertools
import random

import pytest
from msgspec.structs import replace
from sample import WATTS, sample

from roofline.analysis import metrics, verify
from roofline.analysis.diff import condition, diff, failed
from roofline.analysis.limits import Held, check, limit
from roofline.devices.device import STATUSES, Number
from roofline.devices.library import everything, lookup
from roofline.errors import UsageError
from roofline.records import Analysis, Interval
from roofline.timemodel import energy
from roofline.views import columns

POWERED = [d for d in everything() if d.tdp is not None]
SURE = Interval(low_s=0.9, high_s=1.1, own=0.07, common=(0.05, 0.0, 0.0))


@pytest.mark.parametrize("device", [d.name for d in POWERED])
def test_no_kernel_takes_more_than_its_device(device: str) -> None:
    """Whatever it does, in any mixture: between what idles and the limit."""
    of, draw = energy.board(lookup(device)), random.Random(device)
    for _ in range(200):
        time = 10 ** draw.uniform(-6, 1)
        waits = time * draw.choice([0.0, draw.random(), 1.0])
        # arithmetic and memory may overlap, and neither takes longer than the kernel
        found = energy.spent(of, time, waits, (time - waits) * draw.random(), (time - waits) * draw.random())
        assert of.idle * time * (1 - 1e-12) <= found.joules <= of.limit * time * (1 + 1e-12)
        assert found.standing <= found.joules * (1 + 1e-12)


@pytest.mark.parametrize("device", ["t4", "h100-sxm", "rtx-4090", "v100-pcie", "i9-10940x"])
def test_more_work_never_takes_less(device: str) -> None:
    of = energy.board(lookup(device))
    steps = [0.0, 1e-6, 1e-4, 3e-3, 1.0]
    for time, waits, arithmetic, memory in itertools.product(steps[1:], steps[:3], steps, steps):
        base = energy.spent(of, time + waits, waits, arithmetic, memory).joules
        for more in (
            energy.spent(of, 1.1 * time + waits, waits, arithmetic, memory),
            energy.spent(of, time + waits, waits, 1.1 * arithmetic + 1e-7, memory),
            energy.spent(of, time + waits, waits, arithmetic, 1.1 * memory + 1e-7),
            # the same end, with less waiting before it
            energy.spent(of, time + waits, 0.9 * waits, arithmetic, memory),
        ):
            assert more.joules >= base * (1 - 1e-12)


def test_by_hand() -> None:
    """A V100 of 250 W: 37.5 W idle, 100 W more at work, the rest for arithmetic, and HBM2's 900 GB/s at 6 pJ a bit."""
    of = energy.board(lookup("v100-pcie"))
    assert (of.limit, of.idle, of.busy, of.arithmetic) == pytest.approx((250, 37.5, 137.5, 112.5))
    assert of.memory == pytest.approx(900e9 * 8 * 6e-12, rel=0.02)
    # 3 ms, of which 1 ms waits; 0.5 ms of arithmetic at the peak, 1 ms of memory
    joules = 37.5e-3 * 1 + 137.5e-3 * 2 + 112.5e-3 * 0.5 + of.memory * 1e-3
    assert energy.spent(of, 3e-3, 1e-3, 0.5e-3, 1e-3).joules == pytest.approx(joules)
    # all of its arithmetic, all of its memory: the limit
    assert energy.spent(of, 1e-3, 0.0, 1e-3, 1e-3).joules == pytest.approx(0.25)


def test_a_board_that_cannot_keep_its_boost_spends_more_for_a_flop() -> None:
    """An H100 keeps 0.79 of it, so products at the boost clock would take 1 / 0.79^2.3 of the limit."""
    of = energy.board(lookup("h100-sxm"))
    assert of.arithmetic == pytest.approx(700 * (0.79**-2.3 - 0.55))


def test_numbers_have_a_source_and_a_status() -> None:
    found = energy.shipped()
    for share in (found.idle, found.active):
        assert share.source
        assert share.status in STATUSES
        assert 0 < share.value < 1
    assert set(found.limit) == set(STATUSES) | {"given"}
    assert set(found.doubt) == {"gpu", "cpu"}


def test_less_is_known_of_a_worse_limit_and_of_a_longer_time() -> None:
    read = lookup("rtx-4090")
    assert read.tdp is not None
    guessed = replace(read, tdp=replace(read.tdp, status="estimated"))
    unsure = Interval(low_s=0.5, high_s=2.0, own=0.3, common=(0.3, 0.1, 0.1))
    widths = []
    for device, sure in ((read, SURE), (guessed, SURE), (read, unsure)):
        of = energy.board(device)
        found = energy.summary(of, [energy.spent(of, 1.0, 0.2, 0.3, 0.4)], 1.0, 4, sure)
        assert found is not None
        assert found.low_j < found.joules < found.high_j
        assert (found.per_sample_j, found.watts) == pytest.approx((found.joules / 4, found.joules))
        widths.append(found.high_j / found.low_j)
    assert widths[1] > widths[0]
    assert widths[2] > widths[0]


def test_who_has_none_says_why() -> None:
    assert not energy.unknown(lookup("rtx-4090"), "eager")
    assert "no tdp" in energy.unknown(lookup("apple-m1-gpu"), "eager")
    assert "definition" in energy.unknown(lookup("rtx-4090"), "ideal")
    of = energy.board(replace(lookup("apple-m1-gpu"), tdp=Number(20.0)))
    assert energy.summary(of, [], 0.0, 1, None) is None


def without(a: Analysis, why: str = "") -> Analysis:
    """As where the power is not known, or as an older version wrote it."""
    return replace(a, totals=replace(a.totals, energy=None, no_energy=why))


def test_a_budget_of_energy() -> None:
    of = metrics.metric("energy")
    assert metrics.by_limit()["max_energy"] is of
    for written, joules in (("12 mJ", 0.012), ("1.5 J", 1.5), ("0.001 Wh", 3.6), (2, 2.0)):
        assert metrics.parse(of, written) == pytest.approx(joules)
    assert metrics.text(of, 0.01234) == "12.34 mJ"
    one = limit("max_energy", of, "12 uJ", "max")
    a = sample(batch=2)
    verdict = check(Held(label="net", limits=[one]), a)
    assert not verdict.ok
    (finding,) = verdict.findings
    assert finding.actual == pytest.approx(WATTS * a.totals.time_s / 2)
    assert finding.layers, "the layers that take most of it are named"
    more = limit("max_energy", of, "13 J", "max")
    assert check(Held(label="net", limits=[more]), a).ok


def test_a_budget_where_there_is_none() -> None:
    one = limit("max_energy", metrics.metric("energy"), 1, "max")
    a = sample()
    why = energy.unknown(lookup("apple-m1-gpu"), "eager")
    with pytest.raises(UsageError, match="no tdp"):
        check(Held(label="net", limits=[one]), without(a, why))
    with pytest.raises(UsageError, match="older version"):
        check(Held(label="net", limits=[one]), without(a))


def test_a_difference_of_energy_needs_both() -> None:
    a = sample()
    found = diff(a, sample(blocks=66))
    change = next(c for c in found.totals if c.metric == "energy")
    assert change.head > 2 * change.base
    assert failed(found, [condition("energy>5%")])
    one_side = diff(without(a), a)
    assert "energy" not in {c.metric for c in one_side.totals}
    with pytest.raises(UsageError, match="energy"):
        failed(one_side, [condition("energy>5%")])


@pytest.mark.parametrize("by", ["layer", "op", "kernel"])
def test_a_column_of_energy(by: columns.By) -> None:
    a = sample()
    (column,) = columns.named("energy", by)
    rows: list[columns.Row] = list({"layer": a.layers, "op": a.ops, "kernel": a.kernels}[by])
    assert [column.value(row, a) for row in rows] == [row.energy_j for row in rows]
    assert column.cell(rows[0], a).endswith("J")


def test_a_saved_energy_that_was_edited() -> None:
    a = sample()
    verify.check(a, "a.json")
    assert a.totals.energy is not None
    for name, value in (("joules", 0.01), ("watts", 1.0), ("per_sample_j", 1.0), ("low_j", 0.0), ("limit_w", 1e-6)):
        edited = replace(a, totals=replace(a.totals, energy=replace(a.totals.energy, **{name: value})))
        with pytest.raises(UsageError, match="edited"):
            verify.check(edited, "a.json")
    with pytest.raises(UsageError, match="energy_j"):
        verify.check(replace(a, layers=[replace(a.layers[0], energy_j=1.0), *a.layers[1:]]), "a.json")
