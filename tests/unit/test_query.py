"""Questions to the rows of a sweep: conditions with units, order, fronts, the caller's own numbers. No torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from roofline import cli
from roofline.analysis import own
from roofline.errors import UsageError
from roofline.records.sweep import Row
from roofline.sweeps import query
from roofline.sweeps.formats import FORMATS
from roofline.views import rows as view

# model, device, params, time, peak memory, whether it fits
NETS: list[tuple[str, str, int, float, int, bool | None]] = [
    ("timm:small", "t4", 2_000_000, 0.001, 2**20, True),
    ("timm:wide", "t4", 9_999_999, 0.004, 2**22, True),
    ("timm:large", "t4", 10_000_000, 0.005, 2**30, True),
    ("timm:slow", "t4", 3_000_000, 0.006, 2**21, True),
    ("timm:huge", "t4", 1, 0.0001, 2**40, False),
    ("timm:small", "a100", 2_000_000, 0.0005, 2**20, None),
]


def row(i: int, model: str, device: str, params: int, time: float, memory: int, fits: bool | None, **more: Any) -> Row:
    return Row(
        key=f"k{i}",
        version="v",
        model=model,
        batch=1,
        dtype="fp32",
        runtime="eager",
        mode="inference",
        device=device,
        kind="gpu",
        tier="datasheet",
        params=params,
        macs=2,
        flops=5,
        bytes=6,
        weight_bytes=4,
        intensity=5 / 6,
        kernels=1,
        peak_memory=memory,
        fits=fits,
        time=time,
        throughput=1 / time,
        bound="memory",
        compute=0.25,
        instructions=0.0,
        memory=0.5,
        overhead=0.25,
        flops_known=1.0,
        fingerprint="f",
        roofline="0",
        torch="2",
        constants="c",
        **more,
    )


@pytest.fixture(scope="module", params=[".csv", ".jsonl", ".parquet"])
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    found = [row(i, *net) for i, net in enumerate(NETS)]
    lost = Row(
        key="lost",
        version="v",
        model="timm:lost",
        runtime="eager",
        mode="inference",
        device="t4",
        kind="gpu",
        tier="datasheet",
        status="failed",
        error='it says "no", twice',
        fingerprint="f",
        roofline="0",
        torch="2",
        constants="c",
    )
    path = tmp_path_factory.mktemp("zoo") / f"zoo{request.param}"
    path.write_bytes(FORMATS[request.param].encode([*found, lost]))
    assert FORMATS[request.param].rows(path) == [*found, lost]
    return path


def asked(zoo: Path, **question: Any) -> list[tuple[str, str]]:
    found = query.ask([zoo], query.Question(**question))
    return [(r["model"].removeprefix("timm:"), r["device"]) for r in found.records()]


def test_energy_is_asked_for_in_joules_and_what_has_none_is_said(tmp_path: Path) -> None:
    spent = [(0.25, 0.2, 0.3), (0.75, 0.6, 0.9), (None, None, None)]
    found = [
        row(i, f"m{i}", "t4" if joules else "odd-board", 1, 0.001, 1, True, energy=joules, energy_low=low, energy_high=high)
        for i, (joules, low, high) in enumerate(spent)
    ]
    path = tmp_path / "zoo.csv"
    path.write_bytes(FORMATS[".csv"].encode(found))
    answer = query.ask([path], query.Question(where="energy < 0.5 J"))
    assert [r["model"] for r in answer.records()] == ["m0"]
    assert answer.notes == ("no energy: the power of odd-board is not known (no tdp in the device file)",)
    assert "250 mJ" in view.render(answer)
    # the ends of an interval have the unit of their middle
    assert [r["model"] for r in query.ask([path], query.Question(where="energy_high < 900 mJ")).records()] == ["m0"]
    assert len(query.ask([path], query.Question(where="time < 5 ms")).notes) == 0


def names(zoo: Path, where: str) -> list[str]:
    return [model for model, device in asked(zoo, where=where) if device == "t4"]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("params < 10 M and time < 5 ms", ["small", "wide", "huge"]),
        ("params <= 10M and time<=5ms", ["small", "wide", "large", "huge"]),
        ("not (params < 10 M) or time = 6 ms", ["large", "slow"]),
        ("model = timm:s* and device = t4", ["small", "slow"]),
        ("model != 'timm:s*' and peak_memory > 1 MiB", ["wide", "large", "huge"]),
        ("peak_memory >= 4 MiB and peak_memory < 2 GB and params > 5", ["wide", "large"]),
        ("throughput > 1 k", ["huge"]),
        ("fits = true and time_s > 4 ms", ["large", "slow"]),
        ("memory > compute and overhead = 25 %", ["small", "wide", "large", "slow", "huge"]),
        ("status != ok", ["lost"]),
        ('error = "*twice*"', ["lost"]),
        # a word that is a bound and a column too; columns that no row of this sweep has a value in
        ("bound = memory and params > 5 M", ["wide", "large"]),
        ("tokens > 3 or host < 5 us", []),
    ],
)
def test_a_condition_leaves(zoo: Path, where: str, left: list[str]) -> None:
    assert names(zoo, where) == left


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("parms < 10 M", "did you mean 'params'"),
        ("time < 10 M", "a number in s"),
        ("params", "comes <, <="),
        ("params <", "comes a value"),
        ("(params < 1", "bracket is not closed"),
        ("params < 1 )", "where it should end"),
        ("fits < 3", "true or false"),
        ("device > t4", "is text"),
        ("params > 1 < 5", "compared twice"),
        ("time < -5 ms", "at least 0"),
        ("params < 10 M and", "a column is missing"),
        ("device = 't4", "quote before t4 is not closed"),
    ],
)
def test_a_condition_that_is_none_says_why(zoo: Path, where: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        names(zoo, where)


@pytest.mark.parametrize(
    ("where", "note"),
    [
        ("time < 5", "time < 5 means 5 s"),
        ("time < 5 s", ""),
        ("params < 5", ""),
        ("device = T4", "no row has device = T4; did you mean 't4'?"),
        ("device = t*", ""),
        ("device = t4 and mode = inference", ""),
    ],
)
def test_how_a_condition_was_read_is_said_where_it_may_surprise(zoo: Path, where: str, note: str) -> None:
    notes = [n for n in query.ask([zoo], query.Question(where=where)).notes if "without numbers" not in n]
    assert len(notes) == bool(note)
    assert all(n.startswith(note) for n in notes)


def test_a_terminal_gets_a_screenful_and_a_pipe_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "zoo.jsonl"
    path.write_bytes(FORMATS[".jsonl"].encode([row(i, f"m{i:02}", "t4", 1, 0.001, 1, True) for i in range(50)]))
    asked = ["query", str(path)]
    assert cli.main(asked) == 0
    assert capsys.readouterr().out.count("m") >= 50
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main([*asked, "-o", str(tmp_path / "all.csv")]) == 0
    shown = capsys.readouterr().out
    assert "m39" in shown
    assert "m40" not in shown
    assert "50 of 50 rows, 40 shown" in shown
    assert "writes all 50" in shown
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 51
    assert cli.main([*asked, "--top", "45"]) == 0
    assert "m44" in capsys.readouterr().out


def test_the_better_comes_first(zoo: Path) -> None:
    assert asked(zoo, sort="throughput", top=2) == [("huge", "t4"), ("small", "a100")]
    assert asked(zoo, sort="device,max:time", top=2) == [("small", "a100"), ("slow", "t4")]
    with pytest.raises(UsageError, match="did you mean 'time'"):
        asked(zoo, sort="tme")


def test_a_front_is_of_one_device_and_of_what_fits(zoo: Path, tmp_path: Path) -> None:
    """By hand: on the t4 small beats all others in both; the one on the a100 stands alone; what does not fit is no choice."""
    assert asked(zoo, pareto="time,params") == [("small", "a100"), ("small", "t4")]
    csv = tmp_path / "own.csv"
    csv.write_text("model,accuracy\nsmall,60\ntimm:wide,75\nlarge,75\nslow,80\n")
    table = own.table(str(csv))
    assert asked(zoo, pareto="time,accuracy", own=table, where="device = t4") == [
        ("small", "t4"),
        ("wide", "t4"),
        ("slow", "t4"),
    ]
    assert asked(zoo, where="accuracy > 70 and params < 5 M", own=table) == [("slow", "t4")]
    assert not any("--with" in note for note in query.ask([zoo], query.Question(own=table)).notes)
    csv.write_text("model,accuracy\nresnet999,60\n")
    found = query.ask([zoo], query.Question(own=own.table(str(csv))))
    assert "--with: no row is of a model in it, such as resnet999" in found.notes
    csv.write_text("model,time\nsmall,1\n")
    with pytest.raises(UsageError, match="is a metric of roofline"):
        own.table(str(csv))


def test_rows_of_several_versions_are_not_mixed(zoo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(
        FORMATS[".jsonl"].encode(
            [
                Row(
                    key="new",
                    version="w",
                    model="m",
                    runtime="eager",
                    mode="inference",
                    device="t4",
                    kind="gpu",
                    tier="datasheet",
                    fingerprint="f",
                    roofline="1",
                    torch="2",
                    constants="c",
                )
            ]
        )
    )
    with pytest.raises(UsageError, match="rows of 2 versions"):
        query.ask([zoo, other], query.Question())
    (tmp_path / "bad.csv").write_text("a,b\n")
    with pytest.raises(UsageError, match="does not hold rows"):
        query.ask([tmp_path / "bad.csv"], query.Question())
    with pytest.raises(UsageError, match="no such file"):
        query.ask([tmp_path / "none.csv"], query.Question())


def test_an_answer_as_table_csv_markdown_and_json(zoo: Path) -> None:
    found = query.ask([zoo], query.Question(where="device = t4 and time < 5 ms", sort="params", top=2))
    text = view.render(found)
    assert "timm:small 2 M 2 1 ms 1 k/s 1 MiB memory t4" in " ".join(text.split())
    assert "3 of 7 rows, 2 shown" in text
    document = json.loads(view.to_json(found))
    assert [r["params"] for r in document["rows"]] == [1, 2_000_000]
    assert view.to_csv(found).splitlines()[2].split(",")[2] == "timm:small"
    assert view.to_markdown(found).count("\n") == 4


def test_a_row_that_is_picked_says_of_what_it_is(zoo: Path) -> None:
    """The first of rows on several devices: which one it is on."""
    found = query.ask([zoo], query.Question(sort="time", top=1))
    assert [found.columns[name] for name in ("model", "device")] == [["timm:huge"], ["t4"]]
    assert found.shown[:2] == ("model", "device")
    # where all that meet a condition are on one device, nothing is told by it
    assert "device" not in query.ask([zoo], query.Question(where="params > 2500 k", top=1)).shown


def test_the_command_draws_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever columns the table shows: the points have their numbers, and those that are beaten stand there without a name."""
    path = tmp_path / "zoo.jsonl"
    path.write_bytes(FORMATS[".jsonl"].encode([row(i, *net) for i, net in enumerate(NETS)]))
    svg, page = tmp_path / "x.svg", tmp_path / "x.html"
    asked = ["query", str(path), "--pareto", "time,params", "--columns", "model"]
    assert cli.main([*asked, "-o", str(svg), "-o", str(page), "--dark"]) == 0
    assert "2 of 6 rows" in capsys.readouterr().out
    text = svg.read_text(encoding="utf-8")
    assert text.count("timm:small") == 2
    assert "timm:wide" not in text
    data = json.loads(page.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    assert [(m["name"], m.get("row")) for m in data["marks"]][:2] == [("timm:small", 0), ("timm:small", 1)]
    assert sorted(m["name"] for m in data["marks"] if "row" not in m) == ["timm:huge", "timm:large", "timm:slow", "timm:wide"]
    assert data["rows"][0]["cells"] == ["timm:small"]
    assert cli.main([*asked, "-o", str(tmp_path / "x.csv"), "--size", "slide"]) == 2
    assert "--size is about pictures" in capsys.readouterr().err
    assert cli.main([*asked, "-o", str(tmp_path / "x.txt")]) == 2
    assert "an answer is written as .csv, .json, .md, .png" in capsys.readouterr().err
