"""Marked tables of Markdown: what is a table, what a cell says, which cells hold, and what is mended."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sample import sample

from roofline.analysis.metrics import BY_NAME
from roofline.errors import BudgetFileError, ModelError
from roofline.gate import cells, published
from roofline.gate.markdown import marked, plain
from roofline.gate.published import Checked
from roofline.records import Analysis
from roofline.request import Request


def analysis(request: Request) -> Analysis:
    """5,483,032 parameters, 216.6 MMAC, 2.346 ms, 101,800,000 B whatever is asked; a model called "broken" fails."""
    if request.ask.model == "broken":
        raise ModelError("broken: its forward failed")
    found = sample()
    totals = replace(
        found.totals, macs=216_589_888, time_s=2.346e-3, bytes=101_800_000, bound="memory", interval=None, energy=None
    )
    coverage = replace(found.coverage, unknown_ops=[])
    return replace(found, model=replace(found.model, params=5_483_032), totals=totals, coverage=coverage)


def page(folder: Path, text: str, **given: object) -> published.Page:
    file = folder / "page.md"
    file.write_bytes(text.encode())
    return published.read(file, given)


def look(page: published.Page) -> list[Checked]:
    return [cell for one in page.asked for cell in published.checked(one, partial(analysis, one.request), lambda error: None)]


def mended(folder: Path, text: str) -> str:
    read = page(folder, text)
    return published.text_of(read, look(read))


MARK = "<!-- roofline: device=t4 -->\n"
HEAD = "| Model | Params | MACs |\n| --- | ---: | :---: |\n"


def test_cells_that_hold_and_cells_that_do_not(tmp_path: Path) -> None:
    text = f"# Page\n\n{MARK}\n{HEAD}| `net` | 5.48 M | 217 M |\n| other | 5,483,033 | - |\n| broken | 1 | 2 |\n"
    found = look(page(tmp_path, text))
    assert [(c.line, c.model, c.column, c.says, c.now, c.ok, c.exit_code) for c in found] == [
        (7, "net", "Params", "5.48 M", "5.48 M", True, 0),
        (7, "net", "MACs", "217 M", "217 M", True, 0),
        (8, "other", "Params", "5,483,033", "5,483,032", False, 0),
        (9, "broken", "Params", "1", "1", False, 3),
        (9, "broken", "MACs", "2", "2", False, 3),
    ]
    assert published.exit_code(found) == 3
    assert published.exit_code(found[:3]) == 1
    assert published.exit_code(found[:2]) == 0


def test_only_the_cells_are_mended(tmp_path: Path) -> None:
    """All else stays to the byte: line ends, blanks, what is around the table."""
    text = f"\ufeff{MARK}\r\n|Model|Params |  MACs (M)|\r\n|:-|-:|-|\r\n| a|  5.4 M|**200.0** [^1]|\n\r\n| a | 5.4 M | 1 |"
    assert mended(tmp_path, text) == text.replace("5.4 M|", "5.5 M|").replace("200.0", "216.6")


@pytest.mark.parametrize(
    ("row", "new"),
    [
        ("| [5.4 M](https://example.org/2024) |", "| [5.5 M](https://example.org/2024) |"),
        ("| `5.41 M` parameters |", "| `5.48 M` parameters |"),
        ("| ~5 400 000 |", "| ~5 483 032 |"),
        ("| 5.4e6 |", "| 5.5e6 |"),
        ("| 900 k |", "| 5.48 M |"),
        ("| 5.4 million<sup>2</sup> |", "| 5.5 million<sup>2</sup> |"),
        ("| ? |", "| 5.48 M |"),
    ],
)
def test_a_number_is_mended_as_it_was_printed(tmp_path: Path, row: str, new: str) -> None:
    text = f"{MARK}| Model | Params |\n|---|---|\n| net {row}\n"
    assert mended(tmp_path, text) == text.replace(row, new)


@pytest.mark.parametrize(
    ("heading", "cell", "new"),
    [
        ("Time (ms)", "2.3", "2.3"),
        ("Time (ms)", "2.40", "2.35"),
        ("Time, us", "2,340", "2,346"),
        ("Latency", "2.35ms", "2.35ms"),
        ("Latency", "12 s", "2.3 ms"),
        ("GMACs", "0.22", "0.22"),
        ("MACs [G]", "0.2", "0.2"),
        ("Traffic (MB)", "101", "102"),
        ("Traffic", "97.1 MiB", "97.1 MiB"),
        ("Bound", "**Compute**", "**Memory**"),
        ("Time on rtx-4090 (ms)", "2.0", "2.3"),
        ("Params (M)", "5", "5"),
    ],
)
def test_units_of_the_heading_and_of_the_cell(tmp_path: Path, heading: str, cell: str, new: str) -> None:
    text = f"{MARK}| Model | {heading} |\n|---|---|\n| net | {cell} |\n"
    assert mended(tmp_path, text) == f"{MARK}| Model | {heading} |\n|---|---|\n| net | {new} |\n"


def test_rows_and_columns_may_have_settings_of_their_own(tmp_path: Path) -> None:
    text = (
        '<!-- roofline: device=t4 dtype=fp16 skip="Notes" set=width=0.5 set=deep=true -->\n'
        "| Model | Batch | Input | Params | Time on rtx-4090 | Notes |\n|---|---|---|---|---|---|\n"
        "| net.py:Net | 32 | 1 x 3 x 64 x 64 | 5 M | 2 ms | made in 2024 |\n| net | | | 5 M | - | |\n"
    )
    first, second, third = page(tmp_path, text).asked
    assert first.request.place.device == third.request.place.device == "t4"
    assert second.request.place.device == "rtx-4090"
    for one in (first, second):
        assert one.request.ask.batch == 32
        assert one.request.ask.inputs == ("1,3,64,64",)
        assert one.request.ask.settings == {"width": "0.5", "deep": "true"}
        assert one.request.what.dtype == "fp16"
    assert third.request.ask.batch is None
    assert third.request.ask.inputs == ()


def test_a_model_of_the_mark_has_rows_of_settings(tmp_path: Path) -> None:
    text = "<!-- roofline: model=net -->\n| Batch | Params |\n|---|---|\n| 1 | 5 M |\n| 8 | 5 M |\n"
    assert [(one.model, one.request.ask.batch) for one in page(tmp_path, text).asked] == [("net", 1), ("net", 8)]


def test_an_option_stands_for_what_the_mark_does_not_say(tmp_path: Path) -> None:
    (one,) = page(tmp_path, f"{MARK}{HEAD}| net | 5 M | - |\n", device="a100-sxm-80gb", dtype="fp16").asked
    assert (one.request.place.device, one.request.what.dtype) == ("t4", "fp16")


@pytest.mark.parametrize(
    ("heading", "read"),
    [
        ("images/s", ("throughput", "", "", "")),
        ("Throughput (img/s)", ("throughput", "", "", "")),
        ("FLOPs/Byte", ("intensity", "", "", "")),
        ("Time (ms) on t4", ("time", "ms", "t4", "")),
        ("Time on `./my t4.toml` (ms)", None),
        ("**Time** on `t4`", ("time", "", "t4", "")),
        ("Latency / ms", ("time", "ms", "", "")),
        ("kFLOPs", ("flops", "k", "", "")),
        ("#Params (million)", ("params", "M", "", "")),
        ("Energy (mJ)", ("energy", "mJ", "", "")),
        ("Batch size", ("", "", "", "batch")),
        ("Runtime", ("", "", "", "runtime")),
    ],
)
def test_headings(heading: str, read: tuple[str, str, str, str] | None) -> None:
    if read is None:
        with pytest.raises(ValueError, match="neither a metric nor an option"):
            cells.column(heading)
        return
    column = cells.column(heading)
    assert (column.metric, column.unit, column.device, column.option) == read


def test_a_number_that_the_analysis_has_not(tmp_path: Path) -> None:
    text = f"{MARK}| Model | Energy (mJ) | Time |\n|---|---|---|\n| net | 3 | 2 ms (1 to 3) |\n"
    found = look(page(tmp_path, text))
    assert [(c.exit_code, c.now == c.says) for c in found] == [(2, True), (2, True)]
    assert "energy" in found[0].error
    assert "no interval" in found[1].error


# ------------------------------------------------------------------------------------------------ what is a table


@pytest.mark.parametrize(
    "text",
    [
        f"```\n{MARK}{HEAD}| net | 1 | 2 |\n```\n",
        f"~~~~ md\n```\n~~~\n{MARK}{HEAD}| net | 1 | 2 |\n~~~~~\n",
        f"> ```\n> {MARK}> | Model | Params |\n> |---|---|\n> | net | 1 |\n",
        f"- item\n\n  ```md\n  {MARK}  | Model | Params |\n  |---|---|\n  | net | 1 |\n  ```\n",
        "text\n\n    <!-- roofline: device=t4 -->\n    | Model | Params |\n    |---|---|\n    | net | 1 |\n",
        f"<!-- not now\n{MARK.replace('-->', '')}| Model | Params |\n|---|---|\n| net | 1 |\n-->\n",
        f"<pre>\n{MARK}| Model | Params |\n|---|---|\n| net | 1 |\n</pre>\n",
        f"say `{MARK.strip()}` above it\n\n{HEAD}| net | 1 | 2 |\n",
        f"{HEAD}| net | 1 | 2 |\n",
    ],
)
def test_what_is_shown_as_code_is_no_table(text: str) -> None:
    assert marked(text) == []


@pytest.mark.parametrize(
    "text",
    [
        f"- item\n\n  {MARK}  | Model | Params |\n  |---|---|\n  | net | 1 |\n\n  more | of it\n",
        f"1. item\n   - {MARK}     | Model | Params |\n     |---|---|\n     | net | 1 |\n- | net | 3 |\n",
        f"> {MARK}>\n> | Model | Params |\n> |---|---|\n> | net | 1 |\n| net | 2 |\n",
        f"{MARK}Model | Params\n:-- | --:\nnet | 1\n# | 2 |\n",
        "<!-- roofline:\n  device=t4\n-->\n<!-- lint -->\n| Model | Params |\n|---|---|\n| net | 1 |\n```\n| a | b |\n",
        f"```\n```\n{MARK}| Model | Params |\r\n|---|---|\r\n| net | 1 |\r\n<!-- roofline: x -->\r\n".replace("\n\r", "\n"),
    ],
)
def test_where_a_table_begins_and_ends(text: str) -> None:
    (first, *_) = marked(text)
    assert first.said == "device=t4"
    assert [[c.text for c in row.cells] for row in first.rows] == [["net", "1"]]
    for row in first.rows:
        assert all(text[c.start : c.start + len(c.text)] == c.text for c in row.cells)


@pytest.mark.parametrize(
    ("row", "read"),
    [
        (r"| `a\|b` | 1 |", [r"`a\|b`", "1"]),
        ("| `a|b` | 1 |", ["`a|b`", "1"]),
        ("| ``a`|b`` | 1 |", ["``a`|b``", "1"]),
        ("| a | 1 | 2 |", ["a", "1"]),
        ("| a |", ["a"]),
        ("| a ||", ["a", ""]),
        ("a | 1", ["a", "1"]),
    ],
)
def test_pipes_in_cells(row: str, read: list[str]) -> None:
    (found,) = marked(f"{MARK}| Model | Params |\n|---|---|\n{row}\n")
    assert [c.text for c in found.rows[0].cells] == read


def test_what_a_cell_reads_as() -> None:
    said = {r"`a\|b`": "a|b", "**[resnet50](x_y)**[^1]": "resnet50", r"mobilenet\_v1": "mobilenet_v1", "a_b_c": "a_b_c"}
    assert {text: plain(text) for text in said} == said


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!-- roofline: devise=t4 -->\n" + HEAD, "page.md:1: mark: unknown key 'devise'; did you mean 'device'?"),
        ("<!-- roofline: device=t44 -->\n" + HEAD, "page.md:1: mark: unknown device 't44': did you mean t4?"),
        ("<!-- roofline device=t4 -->\n" + HEAD, "page.md:1: a mark is written <!-- roofline: device=t4 -->"),
        ("<!-- roofline: device=t4 device=a10 -->\n" + HEAD, "device is given twice"),
        ("<!-- roofline: batch -->\n" + HEAD, "batch has no value"),
        ("<!-- roofline: batch=0 -->\n" + HEAD, "page.md:1: mark: batch: expected a whole number"),
        ("<!-- roofline: batch=two -->\n" + HEAD, "page.md:1: mark: batch: expected a whole number"),
        ("<!-- roofline: dtype=fp61 -->\n" + HEAD, "did you mean 'fp64'?"),
        ("<!-- roofline: set=width -->\n" + HEAD, "expected set=ARG=VALUE, got 'width'"),
        ("<!-- roofline: device='t4 -->\n" + HEAD, "page.md:1: mark: No closing quotation"),
        ("<!-- roofline: skip=Note -->\n" + HEAD, "no column is called 'note'"),
        (f"{MARK}\ntext\n\n{HEAD}", "page.md:1: no table is under this mark"),
        (f"{MARK}", "page.md:1: no table is under this mark"),
        (f"{MARK}| Model | MAC's |\n|---|---|\n| net | 1 |\n", 'page.md:2: column "MAC\'s" is neither a metric nor an option'),
        (f"{MARK}| Model | Macss |\n|---|---|\n| net | 1 |\n", "did you mean 'macs'?"),
        (f"{MARK}| Model | Notes |\n|---|---|\n| net | 1 |\n", 'skip="Notes" in the mark'),
        (f"{MARK}| Model | Batch |\n|---|---|\n| net | 1 |\n", "no column of the table is a metric"),
        (f"{MARK}| Model | MACs | GMACs |\n|---|---|---|\n| net | 1 | 1 |\n", "column 'GMACs' is 'MACs' again"),
        (f"{MARK}| Model | Time (GB) |\n|---|---|\n| net | 1 |\n", "'Time (GB)': expected a number in s"),
        (f"{MARK}| Model | Time |\n|---|---|\n| net | 5 |\n", "page.md:4: Time: '5' cannot be read: it has no unit"),
        (f"{MARK}| Model | Traffic |\n|---|---|\n| net | 5 kib |\n", "'kib' is no unit of bytes"),
        (f"{MARK}{HEAD}| net | 5 ms | 1 |\n", "'ms' is no unit of params"),
        (f"{MARK}{HEAD}| net | 5 to 6 M | 1 |\n", "it is more than one number"),
        (f"{MARK}{HEAD}| net | many | 1 |\n", "'many' cannot be read: it is no number"),
        (f"{MARK}{HEAD}|  | 5 M | 1 |\n", "page.md:4: no model stands in the first column"),
        (
            "<!-- roofline: batch=1 -->\n| Model | Time |\n|---|---|\n| net | 5 ms |\n",
            "none is named; add one, such as device=t4",
        ),
    ],
)
def test_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BudgetFileError) as error:
        page(tmp_path, text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe| a |"])
def test_a_page_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "page.md"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BudgetFileError, match=r"page\.md: (no such file|not text)"):
        published.read(file, {})


def test_folders_and_other_files(tmp_path: Path) -> None:
    for name in ("b.md", "a/c.md", ".x/d.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert published.pages([tmp_path, tmp_path / "b.md"]) == [tmp_path / "a/c.md", tmp_path / "b.md"]
    with pytest.raises(Exception, match="--docs reads Markdown"):
        published.pages([tmp_path / "roofline.toml"])


# ------------------------------------------------------------------------------------------------ for all numbers

TEXTS = st.from_regex(r"\A(?:\d{1,3}(?:,\d{3})?|\d{1,4})(?:\.\d{1,3})? ?[kMG]?\Z")


@given(text=TEXTS, value=st.integers(1, 10**13))
def test_what_is_mended_holds_and_is_left_alone_then(text: str, value: int) -> None:
    of = BY_NAME["macs"]
    once = cells.again(of, text, cells.numbers(of, text, ""), [value])
    (read,) = cells.numbers(of, once, "")
    assert cells.holds(read, value)
    assert cells.again(of, once, [read], [value]) == once


@given(st.text(alphabet="|`\\-: >\n\ra1*<!roflinetd=4", max_size=60))
def test_cells_are_where_they_say(text: str) -> None:
    text = MARK + HEAD + text
    for one in marked(text):
        for row in one.rows:
            assert all(text[c.start : c.start + len(c.text)] == c.text for c in row.cells)
