from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline import units


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("165.2 TFLOP/s", "FLOP/s", 165_200_000_000_000),
        ("165.2TFLOP/s", "FLOP/s", 165_200_000_000_000),
        ("47.88 GFLOPS", "FLOP/s", 47_880_000_000),
        ("284.7 TOPS", "FLOP/s", 284_700_000_000_000),
        ("1.5 PFLOP/s", "FLOP/s", 1_500_000_000_000_000),
        ("1008 GB/s", "B/s", 1_008_000_000_000),
        ("3.35 TB/s", "B/s", 3_350_000_000_000),
        ("100 GiB/s", "B/s", 107_374_182_400),
        ("72 MiB", "B", 75_497_472),
        ("512 KiB", "B", 524_288),
        ("24 GB", "B", 24_000_000_000),
        ("12 kB", "B", 12_000),
        ("8 B", "B", 8),
        ("4.5 us", "s", 4.5e-6),
        ("4.5 µs", "s", 4.5e-6),
        ("5 ms", "s", 5e-3),
        ("2 min", "s", 120),
        ("7 ns", "s", 7e-9),
        ("2.52 GHz", "Hz", 2_520_000_000),
        ("921.6 MHz", "Hz", 921_600_000),
        ("450 W", "W", 450),
        ("1.4 kW", "W", 1400),
        ("700 mW", "W", 0.7),
        ("1 GFLOP", "FLOP", 1_000_000_000),
        ("1,234,567", "FLOP", 1_234_567),
        ("1_000", "1", 1000),
        ("85 %", "1", 0.85),
        ("2e9", "Hz", 2e9),
        ("-3", "1", -3),
        (".5", "1", 0.5),
        (12, "W", 12),
        (0.25, "1", 0.25),
    ],
)
def test_parse(text: str | float, unit: units.Unit, value: float) -> None:
    assert units.parse(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit", "said"),
    [
        ("3 GB", "FLOP/s", "'GB' is a unit of B"),
        ("3 GB/s", "B", "'GB/s' is a unit of B/s"),
        ("3 gflop/s", "FLOP/s", "did you mean 'GFLOP/s'?"),
        ("3 mb", "B", "did you mean"),
        ("fast", "FLOP/s", 'like "165.2 TFLOP/s"'),
        ("", "W", 'like "450 W"'),
        ("5 5", "1", "no unit known here"),
        ("1e999", "1", "out of range"),
        (math.nan, "s", "got nan"),
        (math.inf, "B", "got inf"),
        (True, "1", "got True"),
    ],
)
def test_parse_says_what_is_wrong(text: str | float, unit: units.Unit, said: str) -> None:
    with pytest.raises(ValueError, match=r"expected a") as error:
        units.parse(text, unit)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (433_240_000, "FLOP", "433.2 MFLOP"),
        (1.008e12, "B/s", "1.008 TB/s"),
        (165.2e12, "FLOP/s", "165.2 TFLOP/s"),
        (999.96, "B", "1 kB"),
        (999_949, "B", "999.9 kB"),
        (0, "FLOP", "0 FLOP"),
        (-1500, "B", "-1.5 kB"),
        (0.25, "FLOP/B", "0.25 FLOP/B"),
        (7, "", "7"),
        (math.inf, "B", "inf B"),
        (2.5e22, "FLOP", "25000 EFLOP"),
    ],
)
def test_si(value: float, unit: str, text: str) -> None:
    assert units.si(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"), [(5_483_032, "5.48 M"), (999_999, "1 M"), (0, "0"), (25_557_032, "25.6 M"), (999, "999")]
)
def test_count(value: float, text: str) -> None:
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(22_963_814, "21.9 MiB"), (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (75_497_472, "72 MiB"), (24 * 2**30, "24 GiB")],
)
def test_binary(value: float, text: str) -> None:
    assert units.binary(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123, "1.23 ms"), (0, "0 s"), (4.5e-6, "4.5 us"), (999.9e-6, "1 ms"), (2e-10, "0.2 ns"), (75, "75 s"), (1, "1 s")],
)
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


@given(st.floats(1e-3, 1e20), st.sampled_from(["FLOP/s", "B/s", "B", "Hz", "FLOP"]))
def test_what_is_printed_reads_back(value: float, unit: units.Unit) -> None:
    assert units.parse(units.si(value, unit), unit) == pytest.approx(value, rel=5.1e-4)


@given(st.floats(1e-9, 1e3))
def test_a_printed_time_reads_back(value: float) -> None:
    assert units.parse(units.seconds(value), "s") == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize("text", ["5483,032", "1,2", "12,34,567", "1e-400 ms", "0.5e-330 s", "1e999 s", 10**400, -(10**400)])
def test_numbers_that_nobody_means(text: str | int) -> None:
    """Commas that are no thousands, and what is no number of a machine: not read as something else."""
    with pytest.raises(ValueError, match="expected a number in s"):
        units.parse(text if not isinstance(text, str) or text.endswith("s") else f"{text} s", "s")


def test_zero_and_thousands_are_numbers() -> None:
    assert [units.parse(t, "s") for t in ("0 s", "0.0e5 ms", "5,483,032 s", "1_000 s")] == [0, 0, 5_483_032, 1000]
