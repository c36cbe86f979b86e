"""JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import msgspec
import pytest
from sample import hostile, sample

from roofline.records import Analysis
from roofline.views import text


def test_json_is_the_record() -> None:
    a = sample(unknown=True)
    raw = text.to_json(a)
    assert msgspec.json.decode(raw, type=Analysis) == a
    doc = json.loads(raw)
    assert doc["schema"] == 1
    order = ["schema", "tool", "model", "setting", "device", "totals", "coverage", "layers", "ops", "kernels", "notes"]
    assert [key for key in doc if key in order] == order
    assert doc["kernels"][0]["class"] == "conv"
    assert raw.startswith(b'{\n  "schema": 1,')
    assert raw.endswith(b"}\n")


def test_several_stand_under_analyses() -> None:
    a, b = sample("gpu"), sample("cpu")
    assert [d["device"]["name"] for d in json.loads(text.many_to_json([a, b]))["analyses"]] == ["rtx-3090", "i9-10940x"]
    assert text.many_to_json([a]) == text.to_json(a)


@pytest.mark.parametrize(("by", "rows"), [("kernel", 84), ("layer", 6 + 13 * 9 + 2), ("op", 8)])
def test_csv(by: text.By, rows: int) -> None:
    a = sample()
    table = list(csv.DictReader(io.StringIO(text.to_csv(a, by))))
    assert len(table) == rows == len({"kernel": a.kernels, "layer": a.layers, "op": a.ops}[by])
    if by != "layer":
        assert sum(int(r["flops"]) for r in table) == a.totals.flops
    else:
        assert int(table[0]["flops"]) == a.totals.flops


@pytest.mark.parametrize(("by", "field"), [("kernel", "component"), ("layer", "bound"), ("op", "bound")])
def test_csv_has_a_column_for_each_part_of_a_time(by: text.By, field: str) -> None:
    a = sample("cpu")
    table = list(csv.DictReader(io.StringIO(text.to_csv(a, by))))
    parts = [name for name in table[0] if name.startswith(f"time_by_{field}.")]
    assert f"time_by_{field}.instructions" in parts
    assert len(parts) == len(a.totals.time_by_component if by == "kernel" else a.totals.time_by_bound)
    for row in table:
        assert sum(float(row[name]) for name in parts) == pytest.approx(float(row["time_s"]))


def test_csv_cells() -> None:
    first = next(csv.DictReader(io.StringIO(text.to_csv(sample()))))
    assert first["shape"] == "1x32x112x112"
    assert first["class"] == "conv"
    assert first["known"] == "true"


def test_csv_keeps_formulas_apart() -> None:
    a = sample()
    row = msgspec.structs.replace(a.kernels[0], layer="=HYPERLINK(1)", op='a,"b"\nc')
    rows = list(csv.DictReader(io.StringIO(text.to_csv(msgspec.structs.replace(a, kernels=[row])))))
    assert rows[0]["layer"] == "'=HYPERLINK(1)"
    assert rows[0]["op"] == 'a,"b"\nc'


def test_markdown() -> None:
    said = text.to_markdown(sample("cpu"), depth=1)
    assert said.startswith("# mobilenet_v1 on Intel Core i9-10940X\n\nBatch 1, fp32, eager, inference; estimated ceilings.")
    assert "| `features` |" in said
    assert "`features.1`" not in said.split("## Operators")[0]
    assert "| FLOPs | 1.166 GFLOP |" in said
    assert "| MACs | 570.5 M |" in said


def test_markdown_tables_are_whole_whatever_the_names() -> None:
    for line in text.to_markdown(hostile(), depth=None).splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
            bars = line.replace("\\|", "").count("|")
            assert bars in (4, 9)
        # what a code span holds is text already
        assert "<script" not in re.sub("`[^`]*`", "", line).replace("\\<", "")
        assert line.isprintable()


def test_words_need_no_heavy_library() -> None:
    code = (
        "import sys, roofline.views.text, roofline.analysis.explain\n"
        "print([m for m in ('rich', 'matplotlib', 'jinja2', 'torch', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_table_needs_rich_alone() -> None:
    code = "import sys, roofline.views.table\nprint([m for m in ('matplotlib', 'jinja2', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
