"""docs/flops.md says what the code counts, and the example in docs/add-an-op.md works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from opspecs import op, t

from roofline import cost
from roofline.cost.pointwise import WEIGHTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "flops.md").read_text(encoding="utf-8")
X = t(2, 8, 10)
ROWS = re.findall(r"^\| (`[^|]+`) \| (\d+) \| [^|]*\|$", PAGE.partition("## Element by element")[2], re.MULTILINE)


@pytest.mark.parametrize(("names", "weight"), ROWS, ids=lambda v: v)
def test_a_row_of_the_table(names: str, weight: str) -> None:
    for name in re.findall(r"`(\w+)`", names):
        # gelu has a rule of its own, since there are two of it
        work = cost.work(op(name, X, *([X] if name.endswith("_backward") else []), out=X))
        assert work is not None
        assert WEIGHTS.get(name, work.flops // X.numel) == int(weight), name


def test_every_weight_above_one_is_in_the_table() -> None:
    named = {n for names, _ in ROWS for n in re.findall(r"`(\w+)`", names)}
    assert sorted(n for n, w in WEIGHTS.items() if w != 1 and n not in named) == []
