"""Comparisons: rows are analyses, ratios are theirs, and what fails costs its own row."""

from __future__ import annotations

import csv
import io
import json
from functools import cache
from html import escape
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import roofline
from roofline import cli
from roofline.advice import comparison
from roofline.devices.library import lookup
from roofline.errors import UsageError
from roofline.records.comparison import Comparison
from roofline.views import comparison as view
from roofline.views import scatter

MODELS = ("resnet18", "mobilenet_v3_small", "vgg11")


@cache
def answer() -> Comparison:
    return comparison.compare(MODELS, [lookup("rtx-4090"), lookup("raspberry-pi-5")], [1, 32], {})


def test_rows_are_analyses() -> None:
    found = answer()
    assert len(found.rows) == len(found.runs) == 12
    for row in found.rows:
        asked = dict(found.runs[row.run].options)
        a = roofline.analyze(asked.pop("model"), **asked)
        assert (row.macs, row.bytes, row.params) == (a.totals.macs, a.totals.bytes, a.model.params)
        assert (row.time_s, row.throughput, row.bound) == (a.totals.time_s, a.totals.throughput, a.totals.bound)
        first = next(r for r in found.rows if (r.model, r.device, r.batch) == (MODELS[0], row.device, row.batch))
        assert row.speed_up == pytest.approx(row.throughput / first.throughput)


def test_fewer_flops_are_not_always_faster_and_a_sentence_says_so() -> None:
    text = "\n".join(s.text for s in answer().sentences)
    rows = {(r.model, r.device, r.batch): r for r in answer().rows}
    small, vgg = rows["mobilenet_v3_small", "rtx-4090", 1], rows["vgg11", "rtx-4090", 1]
    assert small.macs < vgg.macs / 50
    assert small.time_s > vgg.time_s
    assert "On rtx-4090 at batch 1 vgg11 is " in text
    assert "times more multiply-accumulates" in text
    for s in answer().sentences:
        for number in s.numbers.values():
            assert number.text in s.text
            runs = answer().runs
            assert number.over.run in runs


def test_a_front(tmp_path: Path) -> None:
    """Beaten in both: not on it. Without a number of its own: not known."""
    path = tmp_path / "own.csv"
    path.write_text("model,accuracy,note\nresnet18,69.8,a\nvgg11,69.0,b\n", encoding="utf-8")
    own = comparison.table(str(path))
    front = comparison.front("time,accuracy", own.columns)
    assert front.least == (True, False)
    found = comparison.compare(MODELS, [lookup("raspberry-pi-5")], [None], {}, own=own, pareto=front)
    assert {row.model: row.front for row in found.rows} == {"resnet18": True, "mobilenet_v3_small": None, "vgg11": False}
    assert found.notes == ["the table of your own says nothing of mobilenet_v3_small"]
    assert next(row.own for row in found.rows if row.model == "vgg11") == {"accuracy": 69.0, "note": "b"}


def test_a_front_by_a_metric_that_no_column_shows() -> None:
    front = comparison.front("weight_bytes,params", ())
    found = comparison.compare(MODELS, [lookup("t4")], [None], {"host": "10 us"}, pareto=front)
    assert {row.model: row.front for row in found.rows} == {"resnet18": False, "mobilenet_v3_small": True, "vgg11": False}


def test_a_front_by_energy() -> None:
    """In joules of a sample; a device whose power is not known has none, and says so."""
    front = comparison.front("time,energy", ())
    unknown = replace(lookup("t4"), name="odd", tdp=None)
    found = comparison.compare(MODELS[:2], [lookup("t4"), unknown], [4], {}, pareto=front)
    for row in found.rows[:2]:
        spent = roofline.analyze(row.model, device="t4", batch=4).totals.energy
        assert spent is not None
        assert row.energy_j == row.by["energy"] == spent.per_sample_j == spent.joules / 4
        assert row.energy_between == (spent.low_j / 4, spent.high_j / 4)
        assert row.front is not None
    assert [(row.energy_j, row.front) for row in found.rows[2:]] == [(None, None)] * 2
    assert found.notes == [
        "no energy: the power of odd is not known (its device file has no tdp), so its energy cannot be said"
    ]
    drawn = scatter.of_comparison(found)
    assert drawn.axes[1].unit == "J"
    assert [mark.between[1] for mark in drawn.marks] == [row.energy_between for row in found.rows[:2]]
    assert "energy_j,energy_low,energy_high" in view.to_csv(found)
    assert "unknown" in view.render(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model\nresnet18\n", "a column of models, and columns of numbers"),
        ("model,a\nx,1\nx,2\n", "row 3: x is there twice"),
        ("model,a\nx\n", "row 2: 1 cells under 2 names"),
        ("model,a,a\nx,1,2\n", "a name each, all different"),
        ("model,time\nx,1\n", "time is a metric of roofline"),
        ("", "expected a CSV table"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        comparison.table(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,acuracy", "no number 'acuracy'; did you mean 'accuracy'"),
        ("time", "two numbers or more"),
        ("best:time,macs", "min:NAME"),
    ],
)
def test_a_front_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        comparison.front(text, ["accuracy"])


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A model that is unknown costs its row: the others are there, and the exit code says so."""
    files = [tmp_path / f"x.{suffix}" for suffix in ("csv", "md", "json")]
    asked = ["compare", *MODELS, "resnet1B", "-d", "rtx-4090", *(part for f in files for part in ("-o", str(f)))]
    assert cli.main(asked) == 2
    out, err = capsys.readouterr()
    assert "did you mean resnet18" in " ".join(out.split())
    assert "1 of 4 could not be analysed: resnet1B on rtx-4090" in err
    rows = list(csv.DictReader(io.StringIO(files[0].read_text())))
    assert [row["model"] for row in rows] == list(MODELS)
    assert float(rows[0]["time_s"]) == next(r.time_s for r in answer().rows if r.model == "resnet18" and r.device == "rtx-4090")
    assert files[1].read_text().startswith("| Model | Params | MACs |")
    assert msgspec.json.decode(files[2].read_bytes(), type=Comparison).failed[0].exit_code == 2
    assert cli.main(["compare", "resnet18", "-d", "rtx-4090", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["model"] == "resnet18"
    assert cli.main(["compare", "resnet18", "resnet18", "-d", "rtx-4090"]) == 2
    assert cli.main(["compare", "resnet18", "-d", "rtx-4090", "-o", str(tmp_path / "x.txt")]) == 2


def test_an_explanation_and_a_comparison_show_tables() -> None:
    told = roofline.explain("mobilenet_v3_small", device=["t4", "i9-10940x"])
    shown = told._repr_html_()
    assert shown.count("<table>") == shown.count("</table>") >= 1
    assert all(f"<td>{escape(part.name)}</td>" in shown for part in told.classes)
    assert all(escape(s.text) in shown for s in told.why)
    found = roofline.compare(["mobilenet_v3_small", "no_such_net"], device="t4", batch=[1, 8])
    assert [(r.model, r.batch) for r in found.rows] == [("mobilenet_v3_small", 1), ("mobilenet_v3_small", 8)]
    assert len(found.failed) == 2
    assert "no_such_net on t4" in found._repr_html_()
    assert "mobilenet_v3_small" in str(found)


def test_a_model_that_launches_nothing_is_compared_with_none(tmp_path: Path) -> None:
    """It has a row, and no time: no sentence, no speed-up, no place on a front, no point of a picture."""
    file = tmp_path / "nets.py"
    nets = ("Nothing = nn.Identity", "Net = lambda: nn.Conv2d(3, 8, 3)", "Copy = lambda: nn.Upsample(8)")
    file.write_text("\n".join(["from torch import nn", *nets]))
    models = [f"{file}:{name}" for name in ("Net", "Nothing", "Copy")]
    front = comparison.front("time,macs", ())
    found = comparison.compare(models, [lookup("t4")], [None], {}, pareto=front)
    assert [row.front is None for row in found.rows] == [False, True, False]
    assert found.rows[1].speed_up is None
    assert not [s.text for s in found.sentences if "Nothing" in s.text or " 0 times" in s.text]
    assert [mark.name for mark in scatter.of_comparison(found).marks] == [models[0], models[2]]
