"""Models as points by two of their numbers: what is drawn of a comparison and of rows, and that names cover nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

import msgspec
import pytest
from compared import compared, row

from roofline.sweeps.query import Found
from roofline.views import comparison as table
from roofline.views import front, scatter, sheet
from roofline.views.page import front as page


def test_the_points_of_a_comparison() -> None:
    found = scatter.of_comparison(compared())
    assert found.title == "4 models on 2 devices"
    assert [axis.title for axis in found.axes] == ["time (less is better)", "accuracy (more is better)"]
    assert [axis.log for axis in found.axes] == [True, False]
    assert found.groups == ["a", "b"]
    assert [m.name for m in found.front_of(0)] == ["small", "middle", "large"]
    assert found.marks[1].between == ((1e-3, 8e-3), None)
    assert [m.name for m in found.marks if not m.fits] == ["large"]


def test_a_rate_has_the_interval_of_its_time_the_other_way_round() -> None:
    rows = [msgspec.structs.replace(r, by={"throughput": r.throughput, "params": 2}) for r in compared().rows]
    found = scatter.of_comparison(compared(rows, ("throughput", "params")))
    assert found.marks[0].between[0] == pytest.approx((1 / 4e-3, 1 / 0.5e-3))


def test_what_has_no_number_is_named_and_not_drawn() -> None:
    rows = [msgspec.structs.replace(r, by={"time": 1.0}) if r.model == "slow" else r for r in compared().rows]
    found = scatter.of_comparison(compared(rows))
    assert [m.name for m in found.marks if m.group == 0] == ["small", "middle", "large"]
    assert found.notes == ["without time or accuracy, and so not drawn: slow"]
    # where nothing was asked for: time and multiply-accumulates, and no front
    usual = scatter.of_comparison(compared(names=()))
    assert (usual.named_axes(), usual.line, usual.front_of(0)) == ("time and MACs", False, [])


def test_a_front_of_three_numbers_is_no_line() -> None:
    found = scatter.of_comparison(compared(names=("time", "accuracy", "params")))
    assert not found.line
    assert "in all that was asked for" in ET.tostring(ET.fromstring(picture(found)), encoding="unicode", method="text")


def picture(found: scatter.Scatter) -> bytes:
    return front.picture(found, "svg", size=sheet.size(None), mode="dark")


def asked() -> Found:
    """Rows of a sweep in two settings: two on a front, one beaten."""
    whole = {
        "model": ["small", "large"],
        "device": ["a", "a"],
        "batch": [1, 32],
        "time": [1e-3, 5e-3],
        "macs": [3, 9],
        "fits": [True, True],
        "torch": ["2", "2"],
        "roofline": ["0", "0"],
    }
    beaten = {name: [cells[0]] for name, cells in whole.items()} | {"time": [4e-3], "model": ["slow"]}
    front = table_front("time,macs")
    return Found(columns=whole, shown=("model", "time"), rows=3, met=2, whole=whole, front=front, beaten=beaten)


def table_front(text: str) -> scatter.Any:
    from roofline.analysis import own

    return own.front(text, ())


def test_the_points_of_rows_and_of_those_that_are_beaten() -> None:
    found = scatter.of_rows(asked())
    assert found.groups == ["a, batch 1", "a, batch 32"]
    assert [(m.name, m.group, m.front, m.row) for m in found.marks] == [
        ("small", 0, True, 0),
        ("large", 1, True, 1),
        ("slow", 0, False, None),
    ]
    assert found.title == "3 models on 2 devices and settings"
    assert "slow" not in picture(found).decode()
    text = page.of_rows(asked())
    assert "2 of 3 rows" in text


def test_names_cover_neither_each_other_nor_points() -> None:
    """Sixty points close together: some names find no room, and none of the others meets another or a point."""
    rows = [row(f"model_number_{i}", "ab"[i % 2], 1e-3 * (1 + 0.01 * i), 60.0 + i % 3, i % 3 > 0) for i in range(60)]
    found = scatter.of_comparison(compared(rows))
    with sheet.sheet(sheet.size(None), "light", "") as made:
        ax = made.figure.add_axes((0.1, 0.1, 0.8, 0.7))
        front._plane(ax, made, found)
        names = [text for text in ax.texts if text.get_text()]
        boxes = [text.get_window_extent() for text in names]
        assert 10 < len(boxes) < 60
        assert not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]


def test_a_picture_says_what_it_is_in_any_script_and_size() -> None:
    rows = [
        row(name, "a", 1e-3 * i, float(i), True) for i, name in enumerate(["模型", "نموذج", "🦙<b>", "$x^2$\n", "a" * 90], 1)
    ]
    found = scatter.of_comparison(compared(rows))
    text = ET.tostring(ET.fromstring(picture(found)), encoding="unicode", method="text")
    assert "5 models on a: time and accuracy" in text
    assert "$x^2$" in text
    assert "whiskers: 8 of 10 cases" in text
    for form, size in (("png", "column"), ("pdf", "slide")):
        assert front.picture(found, form, size=sheet.size(size), mode="light")  # type: ignore[arg-type]  # a name of both
    alone = scatter.of_comparison(compared(rows[:1]))
    assert front.picture(alone, "png", size=sheet.size(None), mode="light").startswith(b"\x89PNG")


def test_a_table_has_the_ends_of_an_interval() -> None:
    head, first = (line.split(",") for line in table.to_csv(compared()).splitlines()[:2])
    found = dict(zip(head, first, strict=True))
    assert [float(found[name]) for name in ("time_s", "time_low", "time_high")] == [1e-3, 0.5e-3, 4e-3]
