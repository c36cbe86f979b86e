"""The page of a difference, in a real browser."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from browsing import accessible, browser, embedded, logged, own, parsed
from sample import hostile, sample

from roofline.analysis.diff import diff
from roofline.views.page.changes import render


def page() -> str:
    base, head = sample("cpu"), sample("cpu", 15)
    wider = [msgspec.structs.replace(r, params=r.params + 1) if r.path == "classifier" else r for r in head.layers]
    head = msgspec.structs.replace(head, layers=wider)
    return render(diff(base, head), base, head, ["time>5%: 1 ms -> 2 ms (+100.0 %)"])


def test_every_layer_is_there_once_with_what_became_of_it() -> None:
    base, head = sample("cpu"), sample("cpu", 15)
    rows = embedded(render(diff(base, head), base, head))["rows"]
    found = {row["path"]: row["what"] for row in rows}
    assert len(found) == len(rows)
    assert any(path.startswith("features.") and what == "added" for path, what in found.items())
    assert {"added", "same"} <= set(found.values()) <= {"added", "removed", "moved", "grew", "shrank", "same"}
    assert all(r["time_s"][0] == r["time_s"][1] for r in rows if r["what"] == "same")
    same = render(diff(base, base), base, base)
    assert "No difference." in same
    assert {row["what"] for row in embedded(same)["rows"]} == {"same"}


def test_hostile_names_are_text() -> None:
    a, b = hostile(), sample()
    text = own(render(diff(a, b), a, b))
    assert parsed(text).scripts == 4
    assert "<script>alert" not in text


@browser
@pytest.mark.parametrize(("dark", "width"), [(False, 1300), (True, 390)])
def test_a_difference_filters_sorts_and_finds(tmp_path: Path, dark: bool, width: int) -> None:
    log = logged(tmp_path, page(), "changes", dark=dark, width=width)
    assert log["warned"] == "time>5%: 1 ms -> 2 ms (+100.0 %)"
    assert log["off"] == ["same"]
    assert "same" not in log["shown"]
    assert log["only"] == ["added"]
    assert log["hash"].startswith("#off=")
    assert log["sorted"] == sorted(log["sorted"], reverse=True)
    assert log["found"]
    assert all(log["word"].lower() in path.lower() for path in log["found"])
    assert log["restored"] == [["same"], ""]
    assert log["bars"] > 2
    assert log["wide"] <= 0


@browser
@pytest.mark.parametrize("width", [1300, 390])
def test_anybody_can_use_it(tmp_path: Path, width: int) -> None:
    assert accessible(tmp_path, page(), width) == []
