"""A CPU with fewer of its cores at work: what comes with a core, what does not, and what cannot be."""

from __future__ import annotations

from itertools import pairwise
from math import log2

import pytest
from msgspec.structs import replace

from roofline.devices import power
from roofline.devices.device import Device, Scaling
from roofline.devices.library import everything, lookup
from roofline.devices.threads import DRAWN, split, with_threads, working
from roofline.errors import UsageError
from roofline.sweeps import grid

CPUS = [d.name for d in everything() if d.kind == "cpu"]


@pytest.mark.parametrize("name", CPUS)
def test_nothing_falls_with_more_threads(name: str) -> None:
    device = lookup(name)
    cores = int(device.units.value)
    steps = [working(device, n) for n in sorted({1, 2, cores // 2 or 1, cores - 1 or 1, cores})]

    def rates(d: Device) -> list[float]:
        """At the clock that is kept."""
        kept = d.sustained.value
        fast = [p.value * kept for p in d.vector.values()] + [level.bandwidth * kept for level in d.levels[:-1]]
        return [*fast, d.bandwidth, float(d.units.value), d.launch.value]

    for few, many in pairwise(steps):
        assert all(a <= b * (1 + 1e-12) for a, b in zip(rates(few), rates(many), strict=True))
    assert steps[-1] is device, "all of its cores are what its file says"


def test_by_hand() -> None:
    """4 of 14 Skylake cores: their share of arithmetic and of the caches; DRAM what four of them draw, not four fourteenths.

    They share the power of 14, so each has more clock, but no more than the turbo of one.
    """
    whole = lookup("i9-10940x")
    few = lookup("i9-10940x@4")
    clock = 3.3e9 * whole.sustained.value * (14 / 4) ** (1 / power.EXPONENT)
    assert 3.3e9 < clock < 4.6e9
    assert (few.name, few.units.value, few.threads) == ("i9-10940x@4", 4, 4)
    assert (few.clock.value, few.sustained.value, few.clock.status) == (pytest.approx(clock), 1.0, "estimated")
    assert few.peak("fp32") == pytest.approx(4 * clock * 64, rel=0.002)
    pace = clock / 3.3e9
    assert [x.bandwidth for x in few.levels[:-1]] == pytest.approx([x.bandwidth * pace * 4 / 14 for x in whole.levels[:-1]])
    # each core has an L2 of its own, the L3 is everybody's
    assert [x.size for x in few.levels[:-1]] == [whole.levels[0].size * 4 // 14, whole.levels[1].size]
    assert working(whole, 2).bandwidth * whole.reached.value == pytest.approx(2 * 4.6e9 * DRAWN)
    assert working(whole, 8).bandwidth == whole.bandwidth
    assert few.tdp is None
    assert few.launch.value == pytest.approx(whole.launch.value * 2 / log2(14))
    assert "4 of its 14 cores" in few.notes[0]


def test_one_alone_has_its_turbo_and_starts_no_others() -> None:
    one = lookup("i9-10940x@1")
    assert (one.launch.value, one.clock.value) == (0.0, 4.6e9)
    assert "4.6 GHz" in one.notes[0]
    # of what has one clock, or of which nobody says another, the clock stays
    assert lookup("graviton3@1").clock.value == lookup("graviton3").clock.value


def test_the_fast_cores_work_first() -> None:
    hybrid = lookup("i7-12700h")
    kept = hybrid.sustained.value
    fast = working(hybrid, 6)
    assert [(kind.name, kind.count) for kind in fast.cores] == [("P", 6)]
    assert fast.clock.value == pytest.approx(4.1e9 * kept)
    # 6 x 4.1 GHz x 32 of 6 x 4.1 x 32 + 8 x 3.3 x 16
    assert fast.peak("fp32") == pytest.approx(hybrid.peak("fp32") * kept * 787.2 / 1209.6)
    mixed = working(hybrid, 10)
    assert [kind.count for kind in mixed.cores] == [6, 4]
    assert mixed.clock.value == pytest.approx((6 * 4.1e9 + 4 * 3.3e9) / 10 * kept)
    # three share the power that six have, one has its turbo
    assert working(hybrid, 3).clock.value == pytest.approx(4.1e9 * kept * 2 ** (1 / power.EXPONENT))
    assert working(hybrid, 1).clock.value == pytest.approx(min(4.7e9, 4.1e9 * kept * 6 ** (1 / power.EXPONENT)))


def test_what_was_measured_of_threads_is_taken() -> None:
    rows = (Scaling(1, 100e9, 10e9), Scaling(4, 300e9, 25e9), Scaling(14, 900e9, 30e9))
    device = replace(lookup("i9-10940x"), scaling=rows)
    for threads, fp32, dram in ((1, 100, 10), (4, 300, 25), (2, 300 - 400 / 3, 15)):
        few = working(device, threads)
        assert few.peak("fp32") == pytest.approx(device.peak("fp32") * fp32 / 900)
        assert few.bandwidth == pytest.approx(device.bandwidth * dram / 30)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UsageError, match=r"i9-10940x has 14 cores: two of its 28 hardware threads share a core.*\n.*1 to 14"):
        lookup("i9-10940x@20")
    with pytest.raises(UsageError, match="has 14 cores\n"):
        lookup("i9-10940x@29")
    with pytest.raises(UsageError, match="0 threads"):
        lookup("i9-10940x@0")
    with pytest.raises(UsageError, match="is a GPU"):
        lookup("t4@2")
    with pytest.raises(UsageError, match="in its name already"):
        working(lookup("i9-10940x@4"), 2)
    with pytest.raises(UsageError, match="a CPU's"):
        with_threads([lookup("t4")], 2)


def test_gpus_beside_a_cpu_stay() -> None:
    gpu, cpu = with_threads([lookup("t4"), lookup("i9-10940x")], 4)
    assert gpu == lookup("t4")
    assert cpu.name == "i9-10940x@4"
    assert with_threads([gpu], None) == [gpu]


@pytest.mark.parametrize(
    ("text", "parts"), [("a@4", ("a", 4)), ("a", ("a", None)), ("a@", ("a@", None)), ("a@b", ("a@b", None))]
)
def test_names(text: str, parts: tuple[str, int | None]) -> None:
    assert split(text) == parts


def test_a_sweep_takes_them() -> None:
    found = grid.made(["resnet18"], ["t4", "i9-10940x"], {"threads": 4})
    assert [device.name for device in found.devices] == ["t4", "i9-10940x@4"]
    assert "threads" not in found.settings[0]
