"""Errors and rank correlation against worked examples."""

from __future__ import annotations

import pytest

from roofline.validation import accuracy


def test_errors_of_three_rows() -> None:
    # 10 % over, 20 % under, exact
    e = accuracy.errors([1.1, 0.8, 3.0], [1.0, 1.0, 3.0])
    assert e.median_ape == pytest.approx(0.1)
    assert e.mean_ape == pytest.approx((0.1 + 0.2 + 0.0) / 3)
    # sorted 0, 0.1, 0.2: position 1.8 of 0..2
    assert e.p90_ape == pytest.approx(0.1 + 0.8 * 0.1)
    assert e.median_ratio == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("a", "b", "rho"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        # one swap of neighbours among five: 1 - 6 * 2 / (5 * 24)
        ([1, 2, 3, 4, 5], [2, 1, 3, 4, 5], 0.9),
    ],
)
def test_spearman(a: list[float], b: list[float], rho: float) -> None:
    assert accuracy.spearman(a, b) == pytest.approx(rho)


@pytest.mark.parametrize(
    ("a", "b"),
    [([], []), ([1], [2]), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([2, 2, 2], [5, 5, 5])],
)
def test_no_order_is_no_correlation(a: list[float], b: list[float]) -> None:
    assert accuracy.spearman(a, b) is None


def test_ties_share_their_mean_rank() -> None:
    assert accuracy.ranks([5.0, 1.0, 5.0, 9.0]) == [1.5, 0.0, 1.5, 3.0]


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="no rows"):
        accuracy.errors([], [])
