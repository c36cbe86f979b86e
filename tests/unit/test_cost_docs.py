"""docs/flops.md says what the code counts, and the example in docs/add-an-op.md works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roofline.cost.pointwise import WEIGHTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "flops.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`[^|]+`) \| (\d+) \| [^|]*\|$", PAGE.partition("## Element by element")[2], re.MULTILINE)


@pytest.mark.parametrize(("names", "weight"), ROWS, ids=lambda v: v)
def test_a_row_of_the_table(names: str, weight: str) -> None:
    for name in re.findall(r"`(\w+)`", names):
        if name in WEIGHTS:
            assert WEIGHTS[name] == int(weight), name


def test_every_weight_above_one_is_in_the_table() -> None:
    named = {n for names, _ in ROWS for n in re.findall(r"`(\w+)`", names)}
    assert sorted(n for n, w in WEIGHTS.items() if w != 1 and n not in named) == []
