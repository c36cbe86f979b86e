"""`--columns`: the same names and values in the terminal, in CSV and in Markdown."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from sample import hostile, sample

from roofline.cli.options import By as Rows
from roofline.cli.options import ViewOptions
from roofline.cli.steps import View
from roofline.errors import UsageError
from roofline.views import files
from roofline.views.columns import COLUMNS, NAMES, By, named
from roofline.views.table import render


@pytest.mark.parametrize("by", ["layer", "op", "kernel"])
def test_every_column_is_in_every_format_and_has_the_value_of_the_json(by: By) -> None:
    a = sample()
    columns = named(",".join(c.name for c in COLUMNS[by]), by)
    assert columns == COLUMNS[by]
    rows: list[dict[str, Any]] = msgspec.to_builtins({"layer": a.layers, "op": a.ops, "kernel": a.kernels}[by])
    found = list(csv.DictReader(io.StringIO(files.render([a], Path("x.csv"), by, 2, by, columns=columns).decode())))
    assert list(found[0]) == [NAMES[by], *(c.field for c in columns if c.field != NAMES[by])]
    if by != "layer":  # a layer's are its children's too
        assert sum(float(row["share"]) for row in found) == pytest.approx(1)
    for line, row in zip(found, rows, strict=True):
        assert int(line["macs"]) == row["macs"]
        assert float(line["time_s"]) == row["time_s"]
        assert line["bound"] == row["bound"]
    console = Console(width=60, color_system=None, record=True, file=io.StringIO())
    render(a, console, by, None, None, columns)
    heads = [c.title for c in columns]
    assert sum(line.split()[1:] == heads for line in console.export_text().splitlines()) == 1
    page = files.render([a], Path("x.md"), by, None, columns=columns).decode()
    assert f"| {' | '.join(heads)} |" in page
    title = {"layer": "## Layers", "op": "## Operators", "kernel": "## Longest kernels"}[by]
    assert page[page.index(title) :].split("\n\n")[1].startswith(f"| {by.replace('op', 'operator').title()} | {heads[0]} |")


def test_layers_show_what_other_summaries_show() -> None:
    """Of a convolution 3 -> 16 with a 3 x 3 kernel: 432 weights, all trainable."""
    a = sample()
    stem = next(r for r in a.layers if r.kernels and r.path)
    stem = msgspec.structs.replace(
        stem, params=432, trainable=432, output=(1, 16, 112, 112), kernel=(3, 3), memory_bytes=804352
    )
    a = msgspec.structs.replace(a, layers=[a.layers[0], stem])
    console = Console(width=80, color_system=None, record=True, file=io.StringIO())
    render(a, console, "layer", None, None, named("Output, kernel,params,trainable,memory", "layer"))
    line = console.export_text().splitlines()[-1 - len([*a.notes, *a.device.notes])]
    assert line.split()[-6:] == ["1x16x112x112", "3x3", "432", "432", "786", "KiB"]


@pytest.mark.parametrize(
    ("text", "by", "words"),
    [
        ("outptu", Rows.layer, "no column 'outptu' of layers; did you mean 'output'"),
        ("time_ms", Rows.layer, "did you mean 'time'"),
        ("level", Rows.layer, "--by kernel has level"),
        ("params", Rows.kernel, "--by layer has params"),
        ("macs,macs", Rows.op, "macs stands there twice"),
        ("", Rows.layer, "no column ''"),
        ("macs,", Rows.layer, "no column ''"),
    ],
)
def test_a_name_that_no_column_has_is_refused(text: str, by: Rows, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        View.of(ViewOptions(by=by, columns=text), [])
    assert words in str(caught.value)


def test_where_columns_have_an_effect() -> None:
    with pytest.raises(UsageError, match="--json has all fields"):
        View.of(ViewOptions(json=True, columns="macs"), [Path("x.png")])
    view = View.of(ViewOptions(json=True, columns="macs", by=Rows.op), [Path("x.md")])
    assert [c.field for c in view.columns] == ["macs"]
    assert View.of(ViewOptions(columns="macs"), [Path("x.csv")]).csv is Rows.layer
    assert View.of(ViewOptions(), [Path("x.csv")]).csv is Rows.kernel


def test_names_cannot_break_a_chosen_table() -> None:
    a = hostile()
    columns = named("type,calls", "layer")
    console = Console(width=60, color_system=None, record=True, file=io.StringIO())
    render(a, console, "layer", None, None, columns)
    assert "\x1b" not in console.export_text()
    page = files.render([a], Path("x.md"), "layer", None, columns=columns).decode()
    table = page[page.index("## Layers") : page.index("## Operators")].strip().splitlines()[2:]
    assert len(table) == len(a.layers) + 2
