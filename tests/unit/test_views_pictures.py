"""The other pictures: time by layer, throughput by batch, memory over a pass, the roofline in a terminal."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest
from matplotlib.figure import Figure
from sample import hostile, sample

from roofline.analysis.memory import Timeline
from roofline.cli.options import Picture, ViewOptions
from roofline.cli.steps import View, gathered
from roofline.errors import UsageError
from roofline.records import Analysis
from roofline.views import alive, batches, chart, files, plot, sheet, stack
from roofline.views.files import Look

TWO = Timeline({"parameters": [8, 8, 8], "activations": [0, 4, 2]}, ["", "a<b>", "c"], 1, 12, [("", 8), ("a<b>", 4)])


def swept(rates: list[float]) -> list[Analysis]:
    """Batches 1, 2, 4, ... that deliver so many samples a second."""
    found = []
    for i, rate in enumerate(rates):
        a = sample("gpu", 1)
        totals = msgspec.structs.replace(a.totals, throughput=rate, time_s=2**i / rate)
        found.append(msgspec.structs.replace(a, totals=totals, setting=msgspec.structs.replace(a.setting, batch=2**i)))
    return found


@pytest.mark.parametrize("blocks", [1, 13, 66])
def test_the_bars_add_up_on_every_device(blocks: int) -> None:
    pair = [sample("gpu", blocks), sample("cpu", blocks)]
    bars = stack.bars(pair, 20)
    assert len(bars) <= 20
    for i, a in enumerate(pair):
        assert math.fsum(bar.of(i) for bar in bars) == pytest.approx(a.totals.time_s)
        for bound, seconds in a.totals.time_by_bound.items():
            assert math.fsum(bar.times[i].get(bound, 0.0) for bar in bars) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("rates", "place"),
    [
        ([10, 20, 40, 42, 43], 2),  # 43 is 7.5 % more than 40
        ([10, 20, 40, 80], None),
        ([10, 9, 8], 0),
        ([10, 10.5, 20, 20], 2),  # flat before it rises is no knee
    ],
)
def test_the_knee_is_where_nothing_larger_brings_a_tenth(rates: list[float], place: int | None) -> None:
    assert batches.knee(swept(rates)) == place


def test_every_picture_says_what_it_is_in_text_that_can_be_searched() -> None:
    a = sample("gpu", 1)
    size = sheet.size(None)
    for raw, title in (
        (stack.picture([a], "svg", size=size, mode="dark"), "time by layer"),
        (batches.picture([swept([10, 20, 21])], "svg", size=size, mode="light"), "throughput by batch"),
        (alive.picture(a, TWO, "svg", size=size, mode="light"), "memory over one pass"),
    ):
        root = ET.fromstring(raw)
        assert root[0].text == f"mobilenet_v1 on NVIDIA GeForce RTX 3090: {title}"
        said = " ".join("".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text"))
        assert "predicted" in said or "not measured" in said
    assert "a<b>" in said
    assert "12 B" in said


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "a_name_that_is_rather_longer_than_others"])
@pytest.mark.parametrize("size", ["slide", "column"])
def test_no_words_leave_the_sheet(monkeypatch: pytest.MonkeyPatch, size: str, name: str) -> None:
    """A long name and a long title make the heading smaller; keys go on in a line of their own."""
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: kept.append(self))
    a = sample("gpu", 13, 64)
    title = msgspec.structs.replace(a.device, title="NVIDIA GeForce RTX 4090")
    a = msgspec.structs.replace(a, model=msgspec.structs.replace(a.model, name=name), device=title)
    form: Any = {"size": sheet.size(size), "mode": "light"}
    kinds = Timeline({kind: [1, 9, 3] for kind in alive.COLOURS}, ["", 9 * "layer.", "b"], 1, 81, [("", 8)])
    for draw, what in (
        (stack.picture, [a]),
        (stack.picture, [a, sample("cpu", 13), a]),
        (chart.picture, [a]),
        (chart.picture, [a, sample("cpu", 13)]),
        (batches.picture, [swept([10, 20, 21, 15])]),
        (alive.picture, a),
    ):
        draw(*([what, kinds] if draw is alive.picture else [what]), "svg", **form)  # type: ignore[operator]  # four pictures
        figure = kept.pop()
        texts = [*figure.texts, *(t for ax in figure.axes for t in [*ax.texts, ax.title, ax._left_title])]  # type: ignore[attr-defined]  # a title at the left
        outside = [
            t.get_text() for t in texts if t.get_text() and not figure.bbox.padded(2).containsx(t.get_window_extent().x1)
        ]
        assert outside == []
        under = [t.get_text() for ax in figure.axes for t in ax.texts if "predicted" in t.get_text()]
        assert len(under) == (2 if len(figure.axes) == 4 else 0)
        heights = {round(ax.get_position().y0, 3) for ax in figure.axes}
        # several devices stand in one row, and in a column one under another
        assert len(figure.axes) != 4 or len(heights) == (4 if size == "column" else 2)


@pytest.mark.parametrize("size", ["slide", "column"])
def test_several_devices_by_layer_each_have_their_place(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    """Titles cover no other, and the heading says only what holds for all of them."""
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: kept.append(self))
    long = sample("gpu", 13)
    long = msgspec.structs.replace(long, device=msgspec.structs.replace(long.device, title="NVIDIA GeForce RTX 4090"))
    stack.picture([long, sample("cpu", 13), long], "svg", size=sheet.size(size), mode="dark")
    (figure,) = kept
    titles = [ax._left_title.get_window_extent() for ax in figure.axes]  # type: ignore[attr-defined]  # a title at the left
    assert all(not one.overlaps(other) for i, one in enumerate(titles) for other in titles[:i])
    assert not any("ceilings" in text.get_text() for text in figure.texts)
    sizes = {text.get_fontsize() for ax in figure.axes for text in ax.texts if "%" in text.get_text()}
    assert min(sizes) > 8


@pytest.mark.parametrize("draw", [stack.picture, chart.picture])
def test_a_size_without_room_for_all_devices_is_refused(draw: Any) -> None:
    many = [sample("gpu"), sample("cpu"), msgspec.structs.replace(sample("gpu"), device=sample("cpu").device)]
    many[2] = msgspec.structs.replace(many[2], device=msgspec.structs.replace(many[2].device, name="third"))
    with pytest.raises(
        UsageError, match=r"3\.46 x 2\.36 inches have no room for 3 devices\ngive a greater height, fewer devices"
    ):
        draw(many, "png", size=sheet.size("88x60mm"), mode="light")
    assert draw(many[:1], "png", size=sheet.size("88x60mm"), mode="light").startswith(b"\x89PNG")


def test_a_batch_that_is_slower_again_is_said() -> None:
    said = batches._said(swept([10, 100, 130, 131, 90]), "it")
    assert said == "it is full at batch 4: 130/s, 13 times that of batch 1, and 90/s at 16"
    assert batches._said(swept([10, 100, 130, 131, 128]), "it") == "it is full at batch 4: 130/s, 13 times that of batch 1"


def test_hostile_names_and_narrow_columns() -> None:
    bad = hostile()
    size = sheet.size("column")
    assert stack.picture([bad], "png", size=size, mode="light").startswith(b"\x89PNG")
    assert alive.picture(bad, TWO, "png", size=size, mode="dark").startswith(b"\x89PNG")
    assert batches.picture([[bad]], "png", size=size, mode="dark").startswith(b"\x89PNG")


@pytest.mark.parametrize("wide", [60, 80, 120])
@pytest.mark.parametrize(
    "a", [sample("gpu"), sample("cpu"), sample("gpu", 66, 256), hostile()], ids=["gpu", "cpu", "large", "bad"]
)
def test_a_terminal_gets_no_line_too_long(a: Analysis, wide: int) -> None:
    lines = plot.render(a, wide).splitlines()
    assert all(len(line) <= wide for line in lines)
    assert plot.render(a, wide).isprintable() or "\n" in plot.render(a, wide)
    assert any("*" in line for line in lines[2:20])


def test_the_terminal_draws_each_class_under_its_roof() -> None:
    """At batch 256 nothing waits: the convolutions of a GPU stand right of its element-wise kernels."""
    text = plot.render(sample("gpu", batch=256))
    rows = [line.split("|", 1)[1] for line in text.splitlines() if line[6:7] == "|"]
    first = {sign: min((row.find(sign) for row in rows if sign in row), default=-1) for sign in "ecd"}
    assert 0 < first["e"] < first["d"] < first["c"]
    assert "e element-wise" in text
    assert "first columns: no arithmetic" in text


@pytest.mark.parametrize("options", [{"picture": Picture.layers}, {"size": "slide"}, {"dark": True}])
def test_an_option_of_pictures_without_one_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is about pictures, and none is written"):
        View.of(ViewOptions(**options), [])


def test_memory_is_of_one_device() -> None:
    with pytest.raises(UsageError, match="shows one device"):
        gathered(Look("memory"), [None, None])  # type: ignore[list-item]  # it asks nothing of them


def test_files_hold_the_picture_asked_for() -> None:
    from pathlib import Path

    for look in (Look("layers"), Look("batch", sweeps=[swept([1, 2])]), Look("memory", "column", True, alive=[TWO])):
        assert files.render([sample("gpu", 1)], Path("x.svg"), "layer", 2, look=look).startswith(b"<?xml")
