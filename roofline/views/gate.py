"""Verdicts on budgets as files: Markdown, JUnit XML, SARIF, JSON, and lines of a history."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec

from roofline.analysis.limits import Finding, Verdict, raised, words
from roofline.analysis.metrics import BY_NAME, text
from roofline.errors import UsageError, nearest
from roofline.gate import MARK
from roofline.version import __version__
from roofline.views import files
from roofline.views.listing import safe
from roofline.views.text import to_json


def targets(paths: Iterable[Path]) -> list[Path]:
    """The paths, each with a suffix of `FORMATS`. Raises UsageError."""
    found = list(paths)
    for path in found:
        suffix = _kind(path)
        if suffix not in FORMATS:
            raise UsageError(f"-o {path}: a report is one of {', '.join(FORMATS)}{nearest(suffix, FORMATS)}")
        if found.count(path) > 1:
            raise UsageError(f"-o {path}: given twice")
    return found


def write(paths: Sequence[Path], document: dict[str, Any], found: Sequence[Verdict]) -> None:
    """Every report, whole or not at all; in GitHub Actions the step summary too, which is added to."""
    files.write_all({path: FORMATS[_kind(path)](path, document, found) for path in paths})
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary and os.environ.get("GITHUB_ACTIONS") == "true":
        with open(summary, "a", encoding="utf-8") as file:
            file.write(markdown(found))


def cell(value: str) -> str:
    said = safe(value).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return said.replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;")


def markdown(found: Sequence[Verdict]) -> str:
    """A table of what is not green, the layers that brought it there, and the rest in a line."""
    lines = [MARK, "### roofline", ""]
    rows = [(v, f) for v in found for f in v.findings if not f.ok]
    failed = [v for v in found if v.error]
    if rows:
        lines += ["| | model | device | limit | is | may be | from |", "| --- | --- | --- | --- | ---: | ---: | ---: |"]
        for v, f in rows:
            of = BY_NAME[f.metric]
            mark = "❌" if f.broken else "accepted" if f.accepted else "⚠️"
            may = "" if f.limit is None else text(of, f.limit)
            base = f"{f.change} of {text(of, f.base)}" if f.base is not None else f.why
            cells = (mark, v.budget, v.device, f.key, text(of, f.actual), may, base)
            lines.append(f"| {' | '.join(map(cell, cells))} |")
        lines += ["", *(f"- {cell(v.budget)}, {cell(f.key)}: {cell(raised(f))}" for v, f in rows if f.layers)]
    lines += [f"- ❌ {cell(v.budget)} on {cell(v.device)} was not checked: {cell(v.error)}" for v in failed]
    lines += [f"- {cell(v.budget)}: {cell(note)}" for v in found for note in (v.note, *v.notes) if note]
    limits = sum(len(v.findings) for v in found)
    broken = sum(f.broken for _, f in rows)
    closing = f"{broken} of {limits} limits broken" if broken else f"{limits} limits kept"
    closing += f", {len(failed)} of {len(found)} budgets not checked" if failed else ""
    return "\n".join([*lines, "", f"{closing}."]) + "\n"


def _markdown(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    return markdown(found).encode()


def _json(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    return to_json(document)


def _junit(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """A test suite for each budget, a test for each limit: as Jenkins' schema junit-10 has it, which pytest keeps to too."""
    suites, totals = [], [0, 0, 0]
    for v in found:
        cases = "".join(_case(v, f.key, _failure(v, f)) for f in v.findings)
        if v.error:
            at = _said("error", v, v.line, f"exit {v.exit_code}", v.error)
            cases += _case(v, "analysis", at)
        counts = [len(v.findings) + bool(v.error), sum(f.broken for f in v.findings), int(bool(v.error))]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        name = f"name={quoteattr(_xml(f'{v.budget} on {v.device}'))}"
        at = f' file={quoteattr(_xml(v.file))} skipped="0"'
        suites.append(f"  <testsuite {name} {_counts(counts)}{at}>\n{cases}  </testsuite>\n")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<testsuites name="roofline" {_counts(totals)}>\n{"".join(suites)}</testsuites>\n'.encode()


def _case(v: Verdict, name: str, inner: str) -> str:
    return f'    <testcase classname={quoteattr(_xml(v.budget))} name={quoteattr(_xml(name))} time="0">{inner}</testcase>\n'


def _counts(counts: Sequence[int]) -> str:
    tests, failures, errors = counts
    return f'tests="{tests}" failures="{failures}" errors="{errors}" time="0"'


def _said(tag: str, v: Verdict, line: int, kind: str, message: str) -> str:
    """A failure or an error; its text has the place, for which the schema has no attribute."""
    text = escape(_xml(f"{v.file}:{line}: {message}" if v.file else message))
    return f"<{tag} message={quoteattr(_xml(message))} type={quoteattr(kind)}>{text}</{tag}>"


def _failure(v: Verdict, f: Finding) -> str:
    said = f"{f.key} {words(f)}"
    if f.broken:
        return _said("failure", v, f.line, "limit", said)
    return "" if f.ok else f"<system-out>{escape(_xml(said))}</system-out>"


def _xml(value: str) -> str:
    return "".join(c if c.isprintable() and c not in "￾￿" else " " for c in value)


def _sarif(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """What is not green as results of a static analysis, on the lines of the budget file and of the model."""
    results = []
    for v in found:
        said = [(f.metric, "error" if f.broken else "warning", f"{f.key} {words(f)}", f.line) for f in v.findings if not f.ok]
        said += [("analysis", "error", f"not checked: {v.error}", v.line)] if v.error else []
        for rule, level, message, line in said:
            places = [_place(v.file, line)] + ([_place(v.source, v.source_line)] if v.source else [])
            results.append(
                {
                    "ruleId": rule,
                    "level": level,
                    "message": {"text": f"{v.budget} on {v.device}: {message}"},
                    "locations": places[:1],
                    "relatedLocations": [{"id": i, **p} for i, p in enumerate(places[1:])],
                }
            )
    rules = [{"id": name, "shortDescription": {"text": f"limit on {name}"}} for name in BY_NAME]
    rules.append({"id": "analysis", "shortDescription": {"text": "the model could not be analysed"}})
    driver = {"name": "roofline", "version": __version__, "rules": rules}
    value = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return to_json(value)


def _place(file: str, line: int) -> dict[str, Any]:
    uri = Path(os.path.relpath(file)).as_posix() if file else "roofline.toml"
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": max(line, 1)}}}


def _history(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """The file with a line for each budget at its end; the commit is that of GITHUB_SHA or CI_COMMIT_SHA."""
    commit = os.environ.get("GITHUB_SHA") or os.environ.get("CI_COMMIT_SHA") or ""
    before = path.read_bytes() if path.exists() else b""
    lines = [
        msgspec.json.encode({
            "commit": commit, "budget": v.budget, "device": v.device, "batch": v.batch, "dtype": v.dtype, "ok": v.ok,
            **{f.metric: f.actual for f in v.findings},
        })
        for v in found
    ]  # fmt: skip
    return before + b"".join(line + b"\n" for line in lines)


def _badge(path: Path, document: dict[str, Any], found: Sequence[Verdict]) -> bytes:
    """What a badge of shields.io is made of (an endpoint)."""
    broken = sum(f.broken for v in found for f in v.findings) + sum(bool(v.error) for v in found)
    warned = sum(not f.ok for v in found for f in v.findings)
    message = f"{broken} broken" if broken else f"{sum(len(v.findings) for v in found)} limits kept"
    colour = "red" if broken else "yellow" if warned else "brightgreen"
    return msgspec.json.encode({"schemaVersion": 1, "label": "roofline", "message": message, "color": colour}) + b"\n"


def _kind(path: Path) -> str:
    return ".badge.json" if path.name.lower().endswith("badge.json") else path.suffix.lower()


FORMATS = {".json": _json, ".md": _markdown, ".xml": _junit, ".sarif": _sarif, ".jsonl": _history, ".badge.json": _badge}
