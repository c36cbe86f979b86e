"""The picture: formats, sameness, what is drawn where, labels that do not collide, names that cannot harm."""

from __future__ import annotations

import math
import struct
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from sample import hostile, sample

from roofline.records import Analysis
from roofline.views import chart, ink, points


def drawn(monkeypatch: pytest.MonkeyPatch, analyses: list[Analysis], **options: Any) -> Figure:
    """The figure as it is saved."""
    kept: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **kw: Any) -> None:
        kept.append(self)
        save(self, *args, **kw)

    monkeypatch.setattr(Figure, "savefig", keep)
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


@pytest.mark.parametrize(
    ("kind", "blocks", "batch"), [("gpu", 1, 1), ("gpu", 13, 256), ("gpu", 66, 64), ("cpu", 1, 1), ("cpu", 66, 1)]
)
def test_labels_do_not_collide(monkeypatch: pytest.MonkeyPatch, kind: Any, blocks: int, batch: int) -> None:
    figure = drawn(monkeypatch, [sample(kind, blocks, batch)])
    axes = figure.subfigs[0].axes[0]
    boxes = [t.get_window_extent() for t in axes.texts if t.get_text() and t.get_rotation() == 0]
    assert len(boxes) >= 6
    for i, box in enumerate(boxes):
        for other in boxes[i + 1 :]:
            both = Bbox.intersection(box, other)
            assert both is None or both.width * both.height < 4


def test_each_kernel_lies_where_its_figures_say(monkeypatch: pytest.MonkeyPatch) -> None:
    a = sample("gpu", 13, 256)
    spots = points.bubbles(a.kernels)
    working = [k for k in a.kernels if k.flops]
    assert sum(b.number for b in spots) == len(working)
    assert math.fsum(b.time_s for b in spots) == pytest.approx(math.fsum(k.time_s for k in working))
    stem = a.kernels[0]
    assert any(b.x == stem.flops / stem.bytes and b.y == stem.flops / stem.time_s for b in spots)
    axes = drawn(monkeypatch, [a]).subfigs[0].axes[0]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert all(left < b.x < right and low < b.y < high for b in spots)


def test_every_roof_has_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(drawn(monkeypatch, [sample("cpu")]))
    for words in ("L2  1.4 TB/s", "L3  330 GB/s", "DRAM  94 GB/s", "fp32 vector units  1.43 TFLOP/s", "ridge 15.2 FLOP/B"):
        assert words in said
    said = texts(drawn(monkeypatch, [sample("gpu")]))
    for words in ("fp16 matrix units  71 TFLOP/s", "fp16 vector units  35.6 TFLOP/s", "L2  2.3 TB/s", "504 µs"):
        assert words in said
    assert any(s.startswith("Not drawn: 1 kernel does no arithmetic") for s in said)


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
    assert len(figure.subfigs) == 2
    said = texts(figure)
    assert "2 models on NVIDIA GeForce RTX 3090" in said
    assert "tiny" in said
    assert "mobilenet_v1 on Intel Core i9-10940X" in said


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
    assert ink.printable("a\nb\x1b[0m 日 é ×") == "a b?[0m ? é ×"


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
    assert any("Hollow: the work alone" in t for t in texts(drawn(monkeypatch, [a])))
    assert not any("Hollow" in t for t in texts(drawn(monkeypatch, [sample("gpu", batch=4096)])))
