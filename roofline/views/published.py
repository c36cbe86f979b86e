"""Cells of Markdown tables that are not what is computed now: as lines, a JSON document, reports, and GitHub annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roofline.errors import safe
from roofline.gate.published import Checked, exit_code
from roofline.views import reports
from roofline.views.checked import annotation
from roofline.views.gate import cell
from roofline.views.listing import PLAIN, Painter
from roofline.views.text import to_json


def render(found: Sequence[Checked], paint: Painter = PLAIN) -> str:
    """A line for each cell that does not hold, with its place in the file, and what they come to."""
    failed: dict[tuple[str, int, str, str], None] = {}
    lines = []
    for one in found:
        if one.error:
            failed[one.file, one.line, one.model, one.error] = None
        elif not one.ok:
            lines.append(f"{safe(one.file)}:{one.line}: {safe(_said(one))}")
    lines += [f"{safe(file)}:{line}: {safe(f'{model} was not checked: {error}')}" for file, line, model, error in failed]
    lines = [paint(line, "red") for line in lines]
    return "".join(f"{line}\n" for line in [*lines, f"{summary(found)}."])


def _said(one: Checked) -> str:
    return f"{one.model}, {one.column}: says {one.says}, is {one.now}"


def summary(found: Sequence[Checked]) -> str:
    """ "2 of 120 cells drifted, 3 not checked"."""
    drifted, failed = sum(not c.ok and not c.error for c in found), sum(bool(c.error) for c in found)
    said = f"{drifted} of {len(found)} cells drifted" if drifted else f"{len(found) - failed} cells hold"
    return said + (f", {failed} not checked" if failed else "")


def document(found: Sequence[Checked], wrote: Sequence[str]) -> dict[str, Any]:
    """For `--json`."""
    code = exit_code(found)
    return {"ok": code == 0, "exit_code": code, "cells": found, "wrote": list(wrote)}


def github(found: Sequence[Checked]) -> str:
    """Workflow commands that mark the rows."""
    return "".join(
        annotation("error", one.file, one.line, "roofline table", f"{one.model}: {one.error}" if one.error else _said(one))
        for one in found
        if not one.ok
    )


# ------------------------------------------------------------------------------------------------ reports


def targets(paths: Iterable[Path]) -> list[Path]:
    """The paths, each with a suffix of `FORMATS`. Raises UsageError."""
    return reports.targets(paths, list(FORMATS))


def written(paths: Sequence[Path], document: Mapping[str, Any], found: Sequence[Checked]) -> dict[Path, bytes]:
    """The content of each report."""
    return {path: FORMATS[reports.kind(path)](document, found) for path in paths}


def _markdown(document: Mapping[str, Any], found: Sequence[Checked]) -> bytes:
    lines = ["### roofline", ""]
    drifted = [c for c in found if not c.ok and not c.error]
    if drifted:
        lines += ["| | place | model | column | says | is |", "| --- | --- | --- | --- | ---: | ---: |"]
        for c in drifted:
            cells = ("❌", f"{c.file}:{c.line}", c.model, c.column, c.says, c.now)
            lines.append(f"| {' | '.join(map(cell, cells))} |")
        lines.append("")
    failed = dict.fromkeys((c.file, c.line, c.model, c.error) for c in found if c.error)
    lines += [f"- ❌ {cell(f'{file}:{line}: {model} was not checked: {error}')}" for file, line, model, error in failed]
    return "\n".join([*lines, *([""] if failed else []), f"{summary(found)}."]).encode() + b"\n"


def _json(document: Mapping[str, Any], found: Sequence[Checked]) -> bytes:
    return to_json(document)


def _junit(document: Mapping[str, Any], found: Sequence[Checked]) -> bytes:
    """A test suite for each file, a test for each cell."""
    files = dict.fromkeys(c.file for c in found)
    suites = [reports.Suite(file, file, file, [_case(c) for c in found if c.file == file]) for file in files]
    return reports.junit(suites)


def _case(c: Checked) -> reports.Case:
    name = f"line {c.line}: {c.model}, {c.column}"
    if c.error:
        return reports.Case(name, "error", f"exit {c.exit_code}", c.error, c.line)
    return reports.Case(name) if c.ok else reports.Case(name, "failure", "cell", _said(c), c.line)


def _sarif(document: Mapping[str, Any], found: Sequence[Checked]) -> bytes:
    results = [
        reports.Result(
            "analysis" if c.error else "cell",
            "error",
            f"{c.model}, {c.column}: not checked: {c.error}" if c.error else _said(c),
            [(c.file, c.line)],
        )
        for c in found
        if not c.ok
    ]
    return reports.sarif(results, {"cell": "a cell is what is computed", "analysis": "the model could not be analysed"})


FORMATS = {".json": _json, ".md": _markdown, ".xml": _junit, ".sarif": _sarif}
