"""Whether it fits, and the largest batch that does: against trying every batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sample import sample

from roofline.advice.brief import said
from roofline.analysis.capacity import checked, largest
from roofline.analysis.explain import compare, totals
from roofline.errors import ModelError
from roofline.records import Analysis

GiB = 2**30


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 3), st.integers(2, 400), st.integers(1, 10**5))
def test_the_answer_is_that_of_trying_all(fixed: int, each: int, power: int, batch: int, memory: int) -> None:
    sizes = {b: fixed + each * b**power for b in range(1, batch + 1)}
    if sizes[batch] <= memory:
        return
    assert largest(batch, sizes[batch], memory, sizes.__getitem__) == max((b for b in sizes if sizes[b] <= memory), default=0)


def test_even_growth_takes_three_traces() -> None:
    asked = []

    def peak(batch: int) -> int:
        asked.append(batch)
        return 100 + 7 * batch

    # (1000 - 100) / 7 = 128.57
    assert largest(10**6, peak(10**6), 1000, peak) == 128
    assert asked == [10**6, 1, 128, 129]


def test_a_batch_norm_that_refuses_one_sample() -> None:
    def peak(batch: int) -> int:
        if batch == 1:
            raise ModelError("Expected more than 1 value per channel when training")
        return 10 * batch

    assert largest(64, 640, 55, peak) == 5
    # two do not fit, and one cannot be tried
    assert largest(64, 640, 15, peak) is None


def test_a_model_of_one_batch_says_nothing_of_others() -> None:
    def refuse(batch: int) -> int:
        raise ModelError("sizes were fixed at export")

    assert largest(8, 100, 50, refuse) is None


def small(memory: int, peak: int, *, batch: int = 256, parameters: int = 0) -> Analysis:
    """The sample on a device of that memory, with that peak."""
    a = sample("gpu", batch=batch)
    kinds = {"parameters": parameters, "activations": peak - parameters}
    return replace(
        a, device=replace(a.device, memory=memory), totals=replace(a.totals, peak_memory_bytes=peak, peak_memory=kinds)
    )


def even(batch: int) -> int:
    return GiB // 2 * (1 + batch)


def untried(batch: int) -> int:
    raise AssertionError(f"batch {batch} was traced")


@pytest.mark.parametrize(
    ("analysis", "peak", "words"),
    [
        # 8 GiB / 0.5 - 1 = 15
        (small(8 * GiB, even(256)), even, "there is 8 GiB; the largest batch that fits is 15."),
        (small(GiB // 2, even(256)), even, "there is 512 MiB; not one sample fits."),
        (small(8 * GiB, 13 * GiB, parameters=9 * GiB), untried, "there is 8 GiB; its parameters alone take 9 GiB."),
        (small(8 * GiB, 13 * GiB, batch=1), untried, "it needs 13 GiB, and there is 8 GiB."),
    ],
)
def test_the_first_sentence_says_that_it_does_not_fit(analysis: Analysis, peak: Callable[[int], int], words: str) -> None:
    found = checked(analysis, peak)
    first = said(found)[0]
    assert first.startswith("On NVIDIA GeForce RTX 3090 (rtx-3090) it does not fit: it needs ")
    assert f"{words} If it did, it would take about " in first
    assert found.totals.fits is False
    assert next(m for name, _, m in totals(found) if name == "Peak memory").endswith(": does not fit")
    other = checked(sample(), untried)
    assert "(does not fit) takes" in compare([found, other])


def test_what_fits_is_not_traced_again_and_not_talked_about() -> None:
    found = checked(small(8 * GiB, 8 * GiB), untried)
    assert (found.totals.fits, found.totals.largest_batch) == (True, None)
    assert "should take about" in said(found)[1]
    assert not any("fit" in s for s in said(found))


def test_nothing_is_claimed_where_the_memory_is_not_known() -> None:
    found = checked(small(0, 10**15), untried)
    assert (found.totals.fits, found.totals.largest_batch) == (None, None)
    assert not any("fit" in s for s in said(found))
