"""The terminal table: figures, tree, width, colour, and plain pipes."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from sample import hostile, sample

from roofline.records import Analysis
from roofline.views.table import By, render


def show(
    a: Analysis, width: int = 80, *, by: By = "layer", depth: int | None = 2, top: int | None = None, terminal: bool = False
) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    render(a, console, by, depth, top)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("by", ["layer", "op", "kernel"])
def test_plain_text_fits_and_has_no_codes(width: int, by: By) -> None:
    text = show(sample("cpu", 66, unknown=True), width, by=by, depth=None)
    assert "\x1b" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_an_analysis_prints_as_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    a = sample()
    lines = [line.rstrip() for line in show(a).splitlines()]
    assert str(a).splitlines() == lines
    assert repr(a).count("\n") == 0
    assert len(repr(a)) < 300
    assert f"{a.totals.macs:,} MACs" in repr(a)


def test_a_notebook_shows_the_table_with_names_escaped() -> None:
    shown = hostile()._repr_html_()
    table = shown[shown.index("<pre") :]
    assert "MACs" in table
    inside = table[table.index(">") + 1 : table.index("</pre>")]
    assert "<" not in inside
    assert ">" not in inside
    assert "<script" not in shown  # nor in the picture above it
    assert len(table) < 20_000


def test_colour_on_a_terminal() -> None:
    assert "\x1b[" in show(sample(), terminal=True)


def row(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.lstrip("│├└ ").startswith(start)).split()


def test_layers_are_a_tree_with_both_counts() -> None:
    text = show(sample("cpu"), 120)
    lines = text.splitlines()
    assert any(line.startswith("├ features Sequential") for line in lines)
    assert any(line.startswith("│ ├ 0 ConvBNReLU") for line in lines)
    assert any(line.startswith("│ └ 13 SeparableBlock") for line in lines)
    assert any(line.startswith("└ classifier Linear") for line in lines)
    # 512 -> 1000 would be another net: the linear layer has 1024 * 1000 MACs
    assert "1.02 M" in " ".join(row(text, "classifier Linear"))
    assert "features.1.depthwise" not in text
    assert "deeper layers not shown" in text


def test_depth_none_shows_all() -> None:
    text = show(sample("cpu", 2), 120, depth=None)
    assert "│ │ ├ depthwise ConvBNReLU" in text
    assert "not shown" not in text


def test_top_keeps_the_longest_in_launch_order() -> None:
    a = sample("cpu")
    text = show(a, 120, by="kernel", top=3)
    longest = sorted(a.kernels, key=lambda k: -k.time_s)[:3]
    at = [text.index(f"\n{k.layer} ") for k in a.kernels if k in longest]
    assert at == sorted(at)
    assert f"{len(a.kernels) - 3} more kernels not shown" in text


def test_operators_come_longest_first() -> None:
    text = show(sample("cpu"), 120, by="op")
    assert text.index("\nconv2d ") < text.index("\nlinear ")
    assert "depthwise convolution" in text
    assert "depthwise" in show(sample("cpu"), 90, by="op")


def test_ascii_terminal() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    render(sample(unknown=True), Console(file=out, width=80))
    out.flush()
    text = raw.getvalue().decode("ascii")
    assert "|-features" in text or "`-features" in text
    assert "FLOPs unknown: mylib.warp x1 in extra" in text


@pytest.mark.parametrize("by", ["layer", "op", "kernel"])
def test_hostile_names_stay_text(by: By) -> None:
    text = show(hostile(), by=by, depth=None)
    assert "\x1b" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_notes_and_tier_are_shown() -> None:
    text = show(sample("cpu"))
    assert "estimated ceilings" in text
    assert "note: Host and launch cost" in text
