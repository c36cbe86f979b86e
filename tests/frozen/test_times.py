"""Predicted times are those in times.toml: whoever changes the time model on purpose writes it anew and shows the diff."""

from __future__ import annotations

import pytest
from frozen import times


@pytest.mark.filterwarnings("ignore:.*not a leaf")
def test_predicted_times_are_as_frozen() -> None:
    differ = times.table(times.frozen(), times.now())
    assert not differ, "\n".join(["`python -m tests.frozen.times --write` if this is meant", *differ])


def test_a_difference_is_a_line_of_the_table() -> None:
    row = {device: [2.5e-4, 1e-5, 0.0] for device in times.DEVICES}
    old = {"relu": row, "gone": row}
    new = {"relu": row | {"t4": [2.516e-4, 1.0049e-5, 0.0]}, "added": row}
    lines = times.table(old, new)
    assert [line.split() for line in lines[:2]] == [
        ["kernel", "device", "of", "frozen", "now", "ratio"],
        ["relu", "t4", "time", "0.00025", "0.000252", "1.006"],
    ]
    assert len(lines) == 2 + 2 * len(times.DEVICES)
    assert times.table(old, old) == []


@pytest.mark.parametrize(("now", "same"), [(2.5049e-4, True), (2.495e-4, True), (2.5051e-4, False), (2.494e-4, False)])
def test_a_number_is_the_frozen_one_if_it_rounds_to_it(now: float, same: bool) -> None:
    assert times.same(2.5e-4, now) == same
