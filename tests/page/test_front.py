"""The page of models side by side, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import accessible, browser, embedded, logged, own, parsed
from compared import compared, row

from roofline.views.page import front


def test_a_page_holds_every_row_and_names_are_text() -> None:
    rows = [
        row(name, "<i>", 1e-3 * i, float(i), True)
        for i, name in enumerate(["</script><script>alert(1)</script>", "模型", "🦙"], 1)
    ]
    text = front.of_comparison(compared(rows))
    assert parsed(own(text)).scripts == 4
    assert "<script>alert" not in text
    assert "<b>lost" not in text
    data = embedded(text)
    assert [r["cells"][0] for r in data["rows"]] == [r.model for r in rows]
    assert data["markdown"].startswith("| Model | Params |")


@browser
@pytest.mark.parametrize(("dark", "width"), [(False, 1300), (True, 390)])
def test_points_and_rows_are_picked_sorted_and_switched(tmp_path: Path, dark: bool, width: int) -> None:
    log = logged(tmp_path, front.of_comparison(compared()), "front", dark=dark, width=width)
    assert log["marks"] == 6
    assert log["stepped"] == ["small on a", "row=0"]
    assert log["picked"] == ["large", 1]
    assert log["let"] == 0
    assert log["sorted"] == sorted(log["sorted"], reverse=True)
    assert log["only"] == ["b", "b"]
    assert log["hash"] == "#off=0&sort=Time%2Cdown&row=4"
    assert log["found"] == ["middle"]
    assert log["restored"] == [["b"], 1, "descending"]
    assert log["wide"] <= 0


@browser
@pytest.mark.parametrize("width", [1300, 390])
def test_anybody_can_use_it(tmp_path: Path, width: int) -> None:
    assert accessible(tmp_path, front.of_comparison(compared()), width) == []
