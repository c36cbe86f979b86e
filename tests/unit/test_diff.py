"""Differences between two analyses, and the changes that --fail-on refuses."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from sample import language, sample

from roofline.analysis import diff as compare
from roofline.analysis import load, to_json
from roofline.analysis.changes import LayerChange
from roofline.errors import UsageError
from roofline.records import Analysis
from roofline.views import text
from roofline.views.checked import diff as show


def slower(a: Analysis, factor: float) -> Analysis:
    return replace(a, totals=replace(a.totals, time_s=a.totals.time_s * factor, throughput=a.totals.throughput / factor))


def failing(base: Analysis, head: Analysis, *texts: str) -> list[str]:
    return compare.failed(compare.diff(base, head), [compare.condition(t) for t in texts])


def test_the_same() -> None:
    d = compare.diff(sample(), sample())
    assert d.same
    assert d.settings == []
    assert d.layers == []
    assert all(c.relative == 0 for c in d.totals)
    assert "no difference" in show(d)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-sig"])
def test_a_document_that_windows_saved(encoding: str, tmp_path: Path) -> None:
    """PowerShell writes what a program prints in UTF-16, and editors put a mark before UTF-8."""
    path, document = tmp_path / "a.json", to_json(sample()).decode()
    path.write_bytes(("\ufeff" + document).encode("utf-16-le") if encoding == "utf-16-le-sig" else document.encode(encoding))
    assert compare.read_analyses(path) == [load(path)] == [sample()]


def test_totals() -> None:
    base, head = sample(batch=1), sample(batch=2)
    d = compare.diff(base, head)
    by = {c.metric: c for c in d.totals}
    assert (by["macs"].base, by["macs"].head, by["macs"].relative) == (base.totals.macs, 2 * base.totals.macs, 1.0)
    assert by["params"].relative == 0
    assert "batch: 1 -> 2" in d.settings


def test_no_layer_is_the_cause_of_a_small_difference_of_large_ones() -> None:
    base = sample()
    head = replace(base, totals=replace(base.totals, time_s=base.totals.time_s + 2e-3))

    def change(path: str, what: str, before: float, after: float) -> LayerChange:
        return LayerChange(path, "Block", what, (0, 0), (0, 0), (0, 0), (before, after), False)

    came = [change("a", "added", 0.0, 3e-3), change("b", "added", 0.0, 4e-3)]
    gone = [change("c", "removed", 5e-3, 0.0)]
    assert compare._effect(base, head, [*came, *gone]) == (
        "time +2 ms: +7 ms in some layers, most in b (+4 ms, Block added), and -5 ms in others"
    )
    assert compare._effect(base, head, came[:1]) == "time +2 ms, of it +3 ms in a (Block added)"


def test_every_setting_that_differs_is_named() -> None:
    base = sample()
    head = replace(base, setting=replace(base.setting, device="t4", runtime="compiled"), tool=replace(base.tool, torch="3.0"))
    assert compare.diff(base, head).settings == ["runtime: eager -> compiled", "device: rtx-3090 -> t4", "torch: 2.9.0 -> 3.0"]


def test_the_pass_and_the_optimizer_are_settings() -> None:
    base = sample()
    sgd = replace(base, setting=replace(base.setting, mode="training", optimizer="sgd"))
    adam = replace(base, setting=replace(base.setting, mode="training", optimizer="adam"))
    assert compare.diff(sgd, adam).settings == ["optimizer: sgd -> adam"]
    assert compare.diff(base, sgd).settings == ["mode: inference -> training", "optimizer: none -> sgd"]
    prefill, decode = replace(base, language=language("prefill", 512)), replace(base, language=language("decode", 8193))
    assert compare.diff(prefill, decode).settings == ["pass: prefill 512 -> decode 8192"]
    assert compare.diff(base, prefill).settings == ["pass: none -> prefill 512"]


def test_layers_added_removed_changed() -> None:
    base = sample()
    gone = [r for r in base.layers if not r.path.startswith("features.13")]
    changed = [replace(r, flops=r.flops + 1) if r.path in ("features", "features.0", "features.0.0") else r for r in gone]
    head = replace(base, layers=changed)

    found = {c.path: (c.what, c.inherited) for c in compare.diff(base, head).layers}
    assert found == {
        # one line for the block that went, none for the layers in it
        "features.13": ("removed", False),
        "features.0.0": ("changed", False),
        "features.0": ("changed", True),
        "features": ("changed", True),
    }
    found = {c.path: c.what for c in compare.diff(head, base).layers}
    assert found["features.13"] == "added"

    (removed,) = (c for c in compare.diff(base, head).layers if c.what == "removed")
    row = next(r for r in base.layers if r.path == "features.13")
    assert removed.flops == (row.flops, 0)
    assert removed.params == (row.params, 0)
    lines = show(compare.diff(base, head)).splitlines()
    assert any(line.startswith("-  features.13 ") for line in lines)
    assert any(line.startswith("~  features.0.0 ") for line in lines)
    assert not any("features.0 " in line for line in lines)


def test_a_model_against_another() -> None:
    d = compare.diff(sample(blocks=1), sample(blocks=66, name="deep"))
    assert len(show(d).splitlines()) < 50
    assert "more (--json lists them all)" in show(d)


@pytest.mark.parametrize(
    ("text", "factor", "fails"),
    [
        ("time>5%", 1.06, True),
        ("time>5%", 1.04, False),
        ("time>5%", 0.5, False),
        ("time_s > 5 %", 1.06, True),
        ("time>0", 1.0001, True),
        ("time>0", 1.0, False),
        ("time>1 s", 2.0, False),
        ("time>1 ns", 2.0, True),
        ("throughput<-5%", 1.06, True),
        ("throughput<-5%", 1.04, False),
        ("throughput<-5%", 0.5, False),
        ("params>0", 2.0, False),
    ],
)
def test_fail_on(text: str, factor: float, fails: bool) -> None:
    base = sample()
    assert bool(failing(base, slower(base, factor), text)) is fails


def test_from_nothing_to_something_is_more_than_any_percentage() -> None:
    base = sample()
    none = replace(base, totals=replace(base.totals, macs=0))
    assert failing(none, base, "macs>1000%")
    assert not failing(none, base, "macs<-1%")
    assert not failing(none, none, "macs>0%")


def test_the_message_has_both_numbers() -> None:
    base = sample()
    head = replace(base, model=replace(base.model, params=2 * base.model.params))
    (line,) = failing(base, head, "params > 10%")
    assert line.startswith("params > 10%: ")
    assert "(+100.0 %)" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected METRIC>AMOUNT"),
        ("time", "expected METRIC>AMOUNT"),
        ("time>", "expected METRIC>AMOUNT"),
        ("time>=5%", "expected"),
        ("tiem>5%", "did you mean 'time'?"),
        ("time>5 apples", "expected a number in s"),
        ("params>x%", "expected a plain number"),
        ("params>--1", "expected a number"),
    ],
)
def test_conditions_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        compare.condition(text)


class TestReading:
    def test_one_and_several(self, tmp_path: Path) -> None:
        a, b = sample(), sample("cpu")
        file = tmp_path / "a.json"
        file.write_bytes(text.to_json(a))
        assert compare.read_analyses(file) == [a]
        file.write_bytes(text.many_to_json([a, b]))
        assert compare.read_analyses(file) == [a, b]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "not an analysis"),
            (b"{", "not an analysis"),
            (b"\xff\xfe", "not an analysis"),
            (b"[]", "not an analysis"),
            (b"{}", "missing required field `schema`"),
            (b'{"schema": "1"}', "$.schema"),
            (b'{"analyses": []}', "holds no analysis"),
            (b'{"analyses": 3}', "not an analysis"),
            (b'{"analyses": [{}]}', "not an analysis"),
            (b"[" * 100_000, "not an analysis"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: bytes, words: str) -> None:
        file = tmp_path / "a.json"
        file.write_bytes(content)
        with pytest.raises(UsageError, match=re.escape(words)) as raised:
            compare.read_analyses(file)
        assert str(raised.value).startswith(f"{file}: ")

    def test_another_schema(self, tmp_path: Path) -> None:
        file = tmp_path / "a.json"
        file.write_bytes(msgspec.json.encode(replace(sample(), schema=2)))
        with pytest.raises(UsageError, match="schema 2"):
            compare.read_analyses(file)

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no such file\nmake it with"):
            compare.read_analyses(tmp_path / "gone.json")
        with pytest.raises(UsageError, match="cannot be read"):
            compare.read_analyses(tmp_path)

    def test_a_later_program_may_add_fields(self, tmp_path: Path) -> None:
        file = tmp_path / "a.json"
        data = msgspec.json.decode(text.to_json(sample()))
        data["future"] = {"x": 1}
        data["totals"]["future"] = 1
        file.write_bytes(msgspec.json.encode(data))
        assert compare.read_analyses(file) == [sample()]
