"""Verdicts on budgets as files: Markdown, JUnit XML, SARIF, JSON, and lines of a history."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from roofline.analysis.limits import Finding, Verdict, exit_code, raised, summary, words
from roofline.analysis.metrics import BY_NAME, text
from roofline.errors import safe
from roofline.gate import mark
from roofline.views import files, reports
from roofline.views.checked import notes
from roofline.views.text import to_json


def targets(paths: Iterable[Path]) -> list[Path]:
    """The paths, each with a suffix of `FORMATS`. Raises UsageError."""
    return reports.targets(paths, list(FORMATS))


def document(found: Sequence[Verdict], skipped: int = 0, notes: Sequence[str] = (), named: str = "") -> dict[str, Any]:
    """For `--json`; `named` is the file or folder that was asked for by name."""
    code = exit_code(found)
    return {"ok": code == 0, "exit_code": code, "file": named, "budgets": found, "skipped": skipped, "notes": notes}


def write(paths: Sequence[Path], document: dict[str, Any], found: Sequence[Verdict]) -> None:
    """Every report, whole or not at all; in GitHub Actions the step summary too, which is added to."""
    files.write_all({path: FORMATS[reports.kind(path)](path, document, found) for path in paths})
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary and os.environ.get("GITHUB_ACTIONS") == "true":
        with open(summary, "a", encoding="utf-8") as file:
            file.write(markdown(found, document["file"]))


def cell(value: str) -> str:
    said = safe(value).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return said.replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;")


def markdown(found: Sequence[Verdict], named: str = "") -> str:
    """A table of what is not green, the layers that brought it there, and the rest in a line; of a file that was `named`."""
    lines = [mark(named), f"### roofline{f': {cell(named)}' if named else ''}", ""]
    rows = [(v, f) for v in found for f in v.findings if not f.ok]
    failed = [v for v in found if v.error]
    if rows:
        lines += ["| | model | device | limit | is | may be | from |", "| --- | --- | --- | --- | ---: | ---: | ---: |"]
        for v, f in rows:
            of = BY_NAME[f.metric]
            sign = "❌" if f.broken else "accepted" if f.accepted else "⚠️"
            may = "" if f.limit is None else text(of, f.limit)
            base = f"{f.change} of {text(of, f.base)}" if f.base is not None else f.why
            cells = (sign, v.budget, v.device, f.key, text(of, f.actual), may, base)
            lines.append(f"| {' | '.join(map(cell, cells))} |")
        lines += ["", *(f"- {cell(v.budget)}, {cell(f.key)}: {cell(raised(f))}" for v, f in rows if f.layers)]
    lines += [f"- ❌ {cell(v.title)} was not checked: {cell(v.error)}" for v in failed]
    lines += [f"- {cell(who)} on {cell(device)}: {cell(note)}" for note, device, who in notes(found)]
    return "\n".join([*lines, "", f"{summary(found)}."]) + "\n"


def _markdown(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    return markdown(found, document["file"]).encode()


def _json(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    return to_json(document)


def _junit(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """A test suite for each budget, a test for each limit."""
    suites = []
    for v in found:
        cases = [_case(f) for f in v.findings]
        if v.error:
            cases.append(reports.Case("analysis", "error", f"exit {v.exit_code}", v.error, v.line))
        suites.append(reports.Suite(v.title, v.title, v.file, cases))
    return reports.junit(suites)


def _case(f: Finding) -> reports.Case:
    said = f"{f.key} {words(f)}"
    if f.broken:
        return reports.Case(f.key, "failure", "limit", said, f.line)
    return reports.Case(f.key, said="" if f.ok else said)


def _sarif(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """What is not green as results of a static analysis, on the lines of the budget file and of the model."""
    results = []
    for v in found:
        said = [(f.metric, "error" if f.broken else "warning", f"{f.key} {words(f)}", f.line) for f in v.findings if not f.ok]
        said += [("analysis", "error", f"not checked: {v.error}", v.line)] if v.error else []
        for rule, level, message, line in said:
            places = [(v.file, line)] + ([(v.source, v.source_line)] if v.source else [])
            results.append(reports.Result(rule, level, f"{v.title}: {message}", places))
    rules = {name: f"limit on {name}" for name in BY_NAME}
    return reports.sarif(results, {**rules, "analysis": "the model could not be analysed"})


def _history(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """The file with a line for each budget at its end; the commit is that of GITHUB_SHA or CI_COMMIT_SHA."""
    commit = os.environ.get("GITHUB_SHA") or os.environ.get("CI_COMMIT_SHA") or ""
    before = path.read_bytes() if path.exists() else b""
    lines = [
        msgspec.json.encode(
            {
                "commit": commit,
                "budget": v.budget,
                "device": v.device,
                "batch": v.batch,
                "dtype": v.dtype,
                "ok": v.ok,
                **{f.metric: f.actual for f in v.findings},
            }
        )
        for v in found
    ]
    return before + b"".join(line + b"\n" for line in lines)


def _badge(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """What a badge of shields.io is made of (an endpoint)."""
    broken = sum(f.broken for v in found for f in v.findings) + sum(bool(v.error) for v in found)
    warned = sum(not f.ok for v in found for f in v.findings)
    message = f"{broken} broken" if broken else summary(found)
    colour = "red" if broken else "yellow" if warned else "brightgreen"
    return msgspec.json.encode({"schemaVersion": 1, "label": "roofline", "message": message, "color": colour}) + b"\n"


FORMATS = {".json": _json, ".md": _markdown, ".xml": _junit, ".sarif": _sarif, ".jsonl": _history, ".badge.json": _badge}
