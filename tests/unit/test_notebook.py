"""What a notebook shows, and rows for pandas."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sample import hostile, sample

import roofline
from roofline.errors import UsageError
from roofline.views import notebook


class Seen(HTMLParser):
    """Tags that were opened and not closed, all that there were, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_analysis_shows_its_picture_and_its_table() -> None:
    seen = Seen(sample()._repr_html_())
    assert not seen.open
    assert {"svg", "pre"} <= seen.tags
    assert "mobilenet_v1 on NVIDIA GeForce RTX 3090" in seen.text
    assert "<?xml" not in sample()._repr_html_()


def test_hostile_names_are_text() -> None:
    seen = Seen(hostile()._repr_html_())
    assert not seen.open
    assert not seen.tags & {"script", "b"}


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        ("resnet50", {}, "expected several models"),
        ([], {}, "nothing in it"),
        (["a", "a"], {}, "twice"),
        (["a"], {"device": ["t4", "T4"]}, "twice"),
        (["a"], {"batch": [8, 8]}, "twice"),
        (["a"], {"own": "/no/such/file.csv"}, "cannot be read"),
        (["a"], {"pareto": "time"}, "two numbers or more"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(models: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        roofline.compare(models, **{"device": "t4", **options})


class Frame:
    """What stands in for a pandas.DataFrame where there is none."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.attrs = rows, dict[str, Any]()


def test_rows_for_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Frame))
    a = sample()
    for by, rows in (("layer", a.layers), ("op", a.ops), ("kernel", a.kernels)):
        found = a.to_pandas(by)
        assert [row["time_s"] for row in found.rows] == [row.time_s for row in rows]
        assert found.attrs["totals"]["macs"] == a.totals.macs
    (first, *_) = a.to_pandas().rows
    assert sum(first[f"time_by_bound.{b}"] for b in ("compute", "instructions", "memory", "overhead")) == pytest.approx(
        a.totals.time_s
    )


def test_without_pandas_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        sample().to_pandas()
    with pytest.raises(UsageError, match="layer"):
        sample().to_pandas("layers")


def test_real_pandas_takes_the_rows() -> None:
    pandas = pytest.importorskip("pandas")
    found = sample().to_pandas("kernel")
    assert isinstance(found, pandas.DataFrame)
    assert found["flops"].sum() == sample().totals.flops


def test_a_large_analysis_leaves_its_picture_out() -> None:
    a = sample("cpu", 1)
    many = msgspec.structs.replace(a, kernels=a.kernels[:1] * (notebook.MOST_DRAWN + 1))
    assert "<svg" not in notebook.analysis(many)
