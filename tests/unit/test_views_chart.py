"""The picture: formats, sameness, what is drawn where, labels that do not collide, names that cannot harm."""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.text import Text
from sample import hostile, sample

from roofline.errors import UsageError
from roofline.records import Analysis, Measurement
from roofline.views import chart, ink, points, sheet
from roofline.views.style import CLASSES


def drawn(monkeypatch: pytest.MonkeyPatch, analyses: list[Analysis], **options: Any) -> Figure:
    """The figure as it is laid out; to draw its pixels takes longer than all the rest."""
    kept: list[Figure] = []

    def keep(self: Figure, *args: Any, **kw: Any) -> None:
        kept.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        chart.picture(analyses, **options)
    return kept[0]


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(lambda o: hasattr(o, "get_text"))]


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_formats(form: Any, magic: bytes) -> None:
    raw = chart.picture([sample()], form)
    assert raw.startswith(magic)
    assert chart.picture([sample()], form) == raw


def test_size(tmp_path: Path) -> None:
    chart.draw([sample("cpu")], tmp_path / "a.png")
    width, height = struct.unpack(">II", (tmp_path / "a.png").read_bytes()[16:24])
    assert (width, height) == (1890, 1110)


def test_svg_is_well_formed() -> None:
    ET.fromstring(chart.picture([hostile()], "svg"))


def corners(text: Text) -> list[tuple[float, float]]:
    """The corners of a text, rotated as it is drawn around its lower left end."""
    angle = text.get_rotation()
    text.set_rotation(0)
    box = text.get_window_extent()
    text.set_rotation(angle)
    turn, flat = math.radians(angle), [(0, 0), (box.width, 0), (box.width, box.height), (0, box.height)]
    return [
        (box.x0 + x * math.cos(turn) - y * math.sin(turn), box.y0 + x * math.sin(turn) + y * math.cos(turn)) for x, y in flat
    ]


def overlap(one: Text, other: Text) -> float:
    """By how many pixels two texts lie in each other: the least along any side of either, 0 where they are apart."""
    a, b = corners(one), corners(other)
    least = math.inf
    for shape in (a, b):
        for (x0, y0), (x1, y1) in zip(shape, [*shape[1:], shape[0]], strict=True):
            long = math.hypot(x1 - x0, y1 - y0)
            nx, ny = (y1 - y0) / long, (x0 - x1) / long
            p, q = ([x * nx + y * ny for x, y in s] for s in (a, b))
            least = min(least, min(max(p), max(q)) - max(min(p), min(q)))
    return max(least, 0.0)


@pytest.mark.parametrize("size", [None, "column"])
@pytest.mark.parametrize(
    ("kind", "blocks", "batch"), [("gpu", 1, 1), ("gpu", 13, 256), ("gpu", 66, 64), ("cpu", 1, 1), ("cpu", 66, 1)]
)
def test_labels_do_not_collide(monkeypatch: pytest.MonkeyPatch, kind: Any, blocks: int, batch: int, size: str | None) -> None:
    """Names of kernels, of roofs, of the ridge and of the floor, rotated or not."""
    figure = drawn(monkeypatch, [sample(kind, blocks, batch)], size=sheet.size(size))
    shown = [t for t in figure.axes[0].texts if t.get_text()]
    assert len(shown) >= (4 if size == "column" else 6)
    for i, text in enumerate(shown):
        for other in shown[i + 1 :]:
            assert overlap(text, other) < 2, (text.get_text(), other.get_text())
    (star,) = (marks for marks in figure.axes[0].collections if marks.get_zorder() == 7.2)
    middle = figure.axes[0].transData.transform(star.get_offsets()[0])
    # the words along a slope are turned
    assert not [t.get_text() for t in shown if Polygon(corners(t)).contains_point(middle)]


@pytest.mark.parametrize("size", [None, "column"])
@pytest.mark.parametrize(("kind", "blocks", "batch"), [("gpu", 13, 256), ("gpu", 66, 64), ("cpu", 66, 1)])
def test_names_of_kernels_leave_the_marks_free(
    monkeypatch: pytest.MonkeyPatch, kind: Any, blocks: int, batch: int, size: str | None
) -> None:
    """Only the longest kernel is named also where there is no room."""
    ax = drawn(monkeypatch, [sample(kind, blocks, batch)], size=sheet.size(size)).axes[0]
    middles = ax.transData.transform([at for marks in ax.collections for at in marks.get_offsets() if len(at)])
    names = [t.get_window_extent() for t in ax.texts if re.search(r"\d %$", t.get_text()) and t.get_fontweight() != "bold"]
    covering = [box for box in names if any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in middles)]
    assert names
    assert len(covering) <= 1


def test_a_column_has_fewer_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one kind that would cover each other are one; what a kernel's work alone would reach is shown of large ones."""
    a = sample("gpu", 66, 64)
    wide, narrow = (drawn(monkeypatch, [a], size=sheet.size(size)).axes[0].collections for size in ("slide", "column"))
    assert 0 < len(narrow) < len(wide)


def test_each_kernel_lies_where_its_figures_say(monkeypatch: pytest.MonkeyPatch) -> None:
    a = sample("gpu", 13, 256)
    spots = points.bubbles(a.kernels)
    working = [k for k in a.kernels if k.flops]
    assert sum(b.number for b in spots) == len(working)
    assert math.fsum(b.time_s for b in spots) == pytest.approx(math.fsum(k.time_s for k in working))
    stem = a.kernels[0]
    assert any(b.x == stem.flops / stem.bytes and b.y == stem.flops / stem.time_s for b in spots)
    axes = drawn(monkeypatch, [a]).axes[0]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert all(left < b.x < right and low < b.y < high for b in spots)


def test_every_roof_has_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(drawn(monkeypatch, [sample("cpu")]))
    for words in ("L2  1.4 TB/s", "L3  330 GB/s", "DRAM  94 GB/s", "fp32 vector units  1.43 TFLOP/s", "ridge 15.2 FLOP/B"):
        assert words in said
    said = texts(drawn(monkeypatch, [sample("gpu")]))
    for words in ("fp16 matrix units  71 TFLOP/s", "fp16 vector units  35.6 TFLOP/s", "L2  2.3 TB/s", "504 µs"):
        assert words in said
    assert any("grey strip: 1 kernel does no arithmetic" in s for s in said)


def test_blocks_split_the_model() -> None:
    a = sample("cpu")
    parts = points.blocks(a.layers)
    outside = sum(k.kernels for k in a.layers if not k.path) - sum(p.kernels for p in parts)
    # the one kernel that the root itself launches
    assert outside == 1
    paths = [p.path for p in parts]
    assert not any(q.startswith(p + ".") for p in paths for q in paths)


def test_layers_and_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chart.picture([sample()], by="layer").startswith(b"\x89PNG")
    figure = drawn(monkeypatch, [sample(batch=64), sample("gpu", 4, 64, "tiny"), sample("cpu")])
    said = texts(figure)
    assert "2 models on 2 devices" in said
    assert {"tiny", "NVIDIA GeForce RTX 3090", "Intel Core i9-10940X"} <= set(said)


def test_nothing_to_draw() -> None:
    a = sample()
    bare = msgspec.structs.replace(
        a,
        kernels=[],
        ops=[],
        layers=a.layers[:1],
        totals=msgspec.structs.replace(a.totals, kernels=0, time_s=0.0, flops=0, bytes=0, achieved_flops=0.0, time_by_bound={}),
    )
    assert chart.picture([bare]).startswith(b"\x89PNG")


def test_printable() -> None:
    # a private character that no font has
    assert ink.printable("a\nb\x1b[0m \ue0f3 é ×") == "a b?[0m ? é ×"


def test_the_roofs_drawn_are_those_that_times_rest_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that keeps 90 % of its clock and reaches 80 % of its bandwidth: solid there, dashed at the data sheet's."""
    a = sample("gpu", batch=256)
    levels = [msgspec.structs.replace(lv, reached=0.8 * lv.bandwidth) for lv in a.device.levels]
    a = msgspec.structs.replace(a, device=msgspec.structs.replace(a.device, levels=levels, reached_flops=0.9 * 71e12))
    figure = drawn(monkeypatch, [a])
    flat = {
        (float(line.get_ydata()[0]), line.get_linestyle())
        for ax in figure.findobj(lambda o: hasattr(o, "lines"))
        for line in ax.lines
        if len(line.get_ydata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]
    }
    assert {(0.9 * 71e12, "-"), (71e12, "--")} <= flat
    said = texts(figure)
    # 0.8 x 936 GB/s
    assert "DRAM  749 GB/s (nominal 936 GB/s)" in said
    assert "fp16 matrix units  63.9 TFLOP/s (nominal 71 TFLOP/s)" in said


def test_waiting_is_told_from_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """At batch 1 every kernel waits for the host: its work alone is drawn where its own roof holds it."""
    a = sample("gpu")
    for b in points.bubbles(a.kernels):
        assert b.alone > b.y
    slow = next(k for k in a.kernels if k.klass == "pointwise")
    b = next(b for b in points.bubbles([slow]))
    assert b.alone == pytest.approx(slow.flops / max(slow.compute_s, slow.memory_s))
    assert any("hollow: the work alone" in t for t in texts(drawn(monkeypatch, [a])))
    assert not any("hollow" in t for t in texts(drawn(monkeypatch, [sample("gpu", batch=4096)])))


def test_every_picture_says_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    for analyses in ([sample()], [sample(), sample("gpu", 4)], [sample(), sample("cpu")]):
        for size in (None, "column"):
            assert any("predicted" in t.lower() for t in texts(drawn(monkeypatch, analyses, size=sheet.size(size))))


def test_kernels_without_arithmetic_stand_in_the_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy of 2 x 1024 halves: its place is its bytes per second, at the intensity of the strip's right edge."""
    a = sample("gpu", batch=256)
    quiet = [k for k in a.kernels if not k.flops]
    (b,) = points.silent(a.kernels)
    assert (b.number, b.y) == (len(quiet), quiet[0].bytes / quiet[0].time_s)
    at = points.frame([a], points.bubbles(a.kernels))
    ax = drawn(monkeypatch, [a]).axes[0]
    assert ax.get_xlim()[0] == pytest.approx(at.edge)
    spots = [tuple(map(float, spot)) for c in ax.collections for spot in getattr(c, "get_offsets", list)()]
    assert any(x == pytest.approx(at.strip) and y == pytest.approx(max(b.y * at.left, at.bottom)) for x, y in spots)
    loud = msgspec.structs.replace(a, kernels=[k for k in a.kernels if k.flops])
    assert points.frame([loud], []).edge == points.frame([loud], []).left


def test_the_floor_of_waiting_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """84 kernels of 6 us each, and all of them wait: the whole can get no further than its FLOPs in 504 us."""
    a = sample("gpu")
    assert a.totals.time_by_bound["overhead"] == pytest.approx(84 * 6e-6)
    flat = [float(line.get_ydata()[0]) for line in drawn(monkeypatch, [a]).axes[0].lines]
    assert any(y == pytest.approx(a.totals.flops / (84 * 6e-6)) for y in flat)
    assert any(t.startswith("waiting and starting alone: 504 µs") for t in texts(drawn(monkeypatch, [a])))
    assert not any("alone:" in t for t in texts(drawn(monkeypatch, [sample("gpu", batch=4096)])))


def test_several_devices_share_their_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, [sample("gpu"), sample("cpu")])
    one, other = (ax for ax in figure.axes if ax.get_xlabel())
    assert (one.get_xlim(), one.get_ylim()) == (other.get_xlim(), other.get_ylim())
    assert one.get_position().y0 == other.get_position().y0
    wide, high = figure.get_size_inches()
    assert wide > high


def test_one_layer_alone_lies_on_its_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    a = sample()
    for kernel in (a.kernels[0], a.kernels[2], a.kernels[-1]):
        ax = drawn(monkeypatch, [msgspec.structs.replace(a, kernels=[kernel])]).axes[0]
        (b,) = points.bubbles([kernel])
        assert ax.get_xlim()[0] < b.x < ax.get_xlim()[1]
        assert ax.get_ylim()[0] < b.y < ax.get_ylim()[1]


def test_a_label_says_which_kernel_and_how_large(monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(drawn(monkeypatch, [sample("cpu")]))
    named = [t for t in said if "conv2d" in t]
    assert named
    assert all(t.startswith("features.") and "×" in t and t.endswith("%") for t in named)


def test_svg_text_can_be_searched_and_has_a_title() -> None:
    svg = chart.picture([sample("cpu")], "svg").decode()
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == "mobilenet_v1 on Intel Core i9-10940X: roofline"  # type: ignore[union-attr]  # it is there
    said = ["".join(t.itertext()) for t in root.iter(f"{space}text")]
    assert {"mobilenet_v1 on Intel Core i9-10940X", "fp32 vector units  1.43 TFLOP/s"} <= set(said)
    # the name of the DRAM roof and the whole model too: nothing is an outline
    assert any(t.startswith("DRAM") for t in said)


def test_measured_stands_hollow_beside_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    a = sample("cpu")
    took = Measurement(
        time_s=2 * a.totals.time_s,
        throughput=1.0,
        spread=0.0,
        runs=3,
        undisturbed=3,
        whole=True,
        threads=1,
        unsure_kernels=0,
        gap=[],
    )
    kernels = [msgspec.structs.replace(k, measured_s=2 * k.time_s) for k in a.kernels]
    figure = drawn(monkeypatch, [msgspec.structs.replace(a, measurement=took, kernels=kernels)])
    said = texts(figure)
    assert any("filled: predicted, hollow: measured" in t for t in said)
    spots = [
        (tuple(map(float, spot)), len(c.get_facecolors()))
        for c in figure.axes[0].collections
        for spot in getattr(c, "get_offsets", list)()
    ]
    stem = a.kernels[0]
    high = stem.flops / stem.time_s
    assert any(filled and y == pytest.approx(high) for (_, y), filled in spots)
    assert any(not filled and y == pytest.approx(high / 2) for (_, y), filled in spots)


def test_no_two_classes_look_alike() -> None:
    """At least 30 apart of 442 between black and white, as an eye weighs red, green and blue."""

    def rgb(colour: str) -> list[int]:
        return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]

    styles = list(CLASSES.values())
    for i, one in enumerate(styles):
        for other in styles[i + 1 :]:
            assert math.dist(rgb(one.colour), rgb(other.colour)) > 30, (one.title, other.title)


@pytest.mark.parametrize(
    ("text", "mode", "pixels"),
    [("slide", "dark", (1920, 1080)), ("1600x900", "light", (1600, 900)), ("88x60mm", "dark", (520, 354))],
)
def test_a_picture_has_the_size_asked_for(text: str, mode: Any, pixels: tuple[int, int]) -> None:
    """88 mm are 3.4646 inches of 150 pixels."""
    raw = chart.picture([sample(blocks=1)], size=sheet.size(text), mode=mode)
    found = struct.unpack(">II", raw[16:24])
    assert all(abs(a - b) <= 1 for a, b in zip(found, pixels, strict=True))
    svg = ET.fromstring(chart.picture([sample(blocks=1)], "svg", size=sheet.size(text), mode=mode))
    assert float(svg.attrib["width"].removesuffix("pt")) == pytest.approx(pixels[0] * 72 / 150, abs=0.5)


@pytest.mark.parametrize(
    "text", ["", "big", "0x0", "1600", "1e9x3", "10x10", "99999x600", "1600x200px", "1.2.3x4in", "nanx3in"]
)
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        sheet.size(text)
