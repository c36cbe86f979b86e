"""The clock that a board's power leaves its chip."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from roofline import paths
from roofline.devices import file, library, power
from roofline.devices.device import Number
from roofline.devices.library import lookup

LIBRARY = library.everything()


def test_the_boards_that_the_rule_rests_on_keep_their_own_clock() -> None:
    for name in ("t4", "rtx-3090", "rtx-4090", "h100-sxm", "rtx-5090", "a100-sxm-80gb", "rtx-a6000", "l40s", "rtx-pro-6000"):
        board = lookup(name)
        assert power.kept(board) == pytest.approx(board.clock.value * board.sustained.value, rel=0.01)


def test_boards_that_it_does_not_rest_on() -> None:
    """An H200 was measured at 0.79 of its clock; boards of 250 W and more run at their boost or above it, not held back."""
    assert power.kept(lookup("h200-sxm")) == pytest.approx(0.79 * 1980e6, rel=0.07)
    for name in ("rtx-2080-ti", "rtx-3080", "rtx-3090-ti"):
        board = lookup(name)
        assert board.clock.value <= (power.kept(board) or 0) < 1.1 * board.clock.value


def test_one_architecture_is_read_as_the_whole_file_says() -> None:
    """Its table alone is parsed, which the next one must not leak into."""
    whole = tomllib.loads((paths.LIBRARY / "_architectures.toml").read_text(encoding="utf-8"))
    assert len(whole) > 20
    for name, known in whole.items():
        assert power.architecture(name) == known
    assert power.architecture("Ada Lovelace") == power.architecture("") == {}


# TFLOP/s of the best half-precision products that owners of boards published (zzc0721/torch-performance-test-data, and an
# A800 PCIe in mli/transformers-benchmarks issue 4), none of which the rule rests on: (SMs, rated clock, W, GB/s, memory)
PRODUCTS = {
    "RTX 4070 SUPER": ("Ada (GeForce)", 512, 56, 2475e6, 220, 504e9, "GDDR6X", 76.8),
    "RTX 3080 Ti": ("Ampere GA10x (GeForce)", 512, 80, 1665e6, 350, 912e9, "GDDR6X", 77.1),
    "RTX 3060": ("Ampere GA10x (GeForce)", 512, 28, 1777e6, 170, 360e9, "GDDR6", 25.5),
    "RTX 5050": ("Blackwell GB20x (GeForce)", 512, 20, 2572e6, 130, 320e9, "GDDR6", 28.4),
    "A800 PCIe 80 GB": ("Ampere GA100", 2048, 108, 1410e6, 300, 1935e9, "HBM2e", 215.0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_that_others_measured(name: str) -> None:
    arch, rate, units, clock, watts, bandwidth, memory, measured = PRODUCTS[name]
    near = next(d for d in LIBRARY if d.arch == arch)
    dram = replace(near.levels[-1], bandwidth=bandwidth, type=memory)
    board = replace(near, units=Number(units), clock=Number(clock), tdp=Number(watts), levels=(dram,))
    assert (power.kept(board) or 0) * units * rate / 1e12 == pytest.approx(measured, rel=0.07)


def test_power_beyond_need_brings_no_clock() -> None:
    """RTX 3060 and 4060 Ti have half as much again for an SM as the board at the top, and run at its clock."""
    for name, top in (("rtx-3060", "rtx-3090"), ("rtx-4060-ti", "rtx-4090")):
        most = lookup(top).clock.value * lookup(top).sustained.value
        assert power.kept(lookup(name)) == pytest.approx(most, rel=0.01)


def test_numbers_of_the_library_are_those_of_the_rule() -> None:
    found = [d for d in LIBRARY if d.sustained.source == "power" and d.name != "t4"]
    assert len(found) > 8
    for d in found:
        assert d.sustained.value == pytest.approx((power.kept(d) or 0) / d.clock.value, abs=0.006)
        assert d.sources["power"] == power.SOURCE


@pytest.mark.parametrize(("watts", "speed"), [(145, 0.85), (123, 0.70), (100, 0.53)])
def test_a_v100_under_a_power_limit(watts: float, speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-50 in training takes 222 W of 250; speeds under lower limits are those of Zeus' published traces."""
    v100 = lookup("v100-pcie")
    chip = (222 - 900e9 * 8 * 6e-12) / 80
    known = {v100.arch: {"power": {"watts": chip, "clock": 1380e6}}}
    monkeypatch.setattr(power, "architecture", known.get)
    assert power.kept(replace(v100, tdp=Number(watts))) == pytest.approx(speed * 1380e6, rel=0.09)


def test_less_power_never_keeps_more_clock() -> None:
    board = lookup("rtx-5090")
    clocks = [power.kept(replace(board, tdp=Number(watts))) or 0 for watts in range(50, 700, 10)]
    assert clocks == sorted(clocks)
    assert clocks[0] == 0, "the memory alone takes more"


def test_half_the_power_is_less_than_half_for_the_chip() -> None:
    whole, half = lookup("rtx-pro-6000"), lookup("rtx-pro-6000-maxq")
    assert half.tdp == replace(whole.tdp or Number(0.0), value=300.0)
    ratio = half.sustained.value * half.clock.value / (whole.sustained.value * whole.clock.value)
    assert ratio < 0.5 ** (1 / power.EXPONENT)


def test_a_file_that_says_nothing_of_its_clock_gets_the_rules(tmp_path: Path) -> None:
    path = Path(library.__file__).parent / "library" / "rtx-pro-6000-maxq.toml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    mine = tmp_path / "mine.toml"
    mine.write_text("".join(line for line in lines if not line.startswith(("sustained", "power ="))), encoding="utf-8")
    found = file.read(mine)
    assert found.sustained.value == pytest.approx(lookup("rtx-pro-6000-maxq").sustained.value, abs=0.006)
    assert (found.sustained.status, found.sources["power"]) == ("estimated", power.SOURCE)


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert power.kept(lookup("rx-7900-xtx")) is None
    assert power.kept(lookup("i9-10940x")) is None
    assert power.kept(replace(lookup("rtx-5090"), tdp=None)) is None


@pytest.mark.parametrize(
    ("name", "base", "turbo"), [("i7-12700h", 45, 115), ("i5-1135g7", 28, 60), ("core-ultra-7-155h", 28, 115)]
)
def test_laptops_keep_what_their_base_power_leaves_of_the_turbo(name: str, base: float, turbo: float) -> None:
    cpu = lookup(name)
    assert cpu.tdp == replace(cpu.tdp or Number(0.0), value=base)
    assert cpu.sustained.value == pytest.approx(power.held(base, turbo, 32), abs=0.006)
    assert f"{turbo} W that all cores take" in cpu.sources["powerrule"]


def test_wide_vectors_take_clock() -> None:
    """Cascade Lake's AVX-512 by the rule; Intel guarantees an i7-12700H's fast cores 2.3 GHz at 45 W, of 4.1 GHz."""
    for name in ("i9-10940x", "xeon-8280"):
        assert lookup(name).sustained.value == pytest.approx(power.vectors(64), abs=0.006)
    assert power.held(45, 115, 32) == pytest.approx(2.3 / 4.1, rel=0.06)
    assert 1 > power.vectors(16) > power.vectors(32) > power.vectors(64)


# TFLOP/s of the best fp32 products without TF32 that owners published (torch-performance-test-data; of several the median)
SINGLE = {
    "rtx-3060": 8.16, "rtx-3060-ti": 12.7, "rtx-3070": 13.3, "rtx-3090": 24.7, "rtx-a4000": 11.9, "rtx-a6000": 23.9,
    "a40": 23.7, "rtx-4090": 54.7, "rtx-5070": 23.1, "rtx-5070-ti": 30.7, "rtx-5080": 33.6,
    "rtx-pro-6000": 77.2, "a100-sxm-40gb": 18.1, "rx-7900-xt": 23.0, "rx-7900-xtx": 25.7,
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_products_on_vector_units(name: str) -> None:
    board = lookup(name)
    share = power.of_vectors(board)
    assert share is not None
    assert share * board.peak("fp32", "vector") / 1e12 == pytest.approx(SINGLE[name], rel=0.15)
    assert board.sustained_vector is not None
    assert (board.sustained_vector.value, board.sustained_vector.source) == (share, "products32")


def test_a_measured_peak_and_an_unknown_architecture_are_left_alone() -> None:
    board = lookup("rtx-4090")
    measured = replace(board, vector={"fp32": replace(board.vector["fp32"], status="measured")})
    assert power.of_vectors(measured) is None
    assert power.of_vectors(replace(board, arch="")) is None
    assert lookup("h100-sxm").sustained_vector is None
