"""Files that others read of a check: JUnit XML as Jenkins' schema junit-10 has it, which pytest keeps to too, and SARIF."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from roofline.errors import UsageError, nearest
from roofline.version import __version__
from roofline.views.text import to_json


class Case(NamedTuple):
    """A test: "failure", "error" or "" that it passed, with its kind and words and the line of its file."""

    name: str
    outcome: str = ""
    kind: str = ""
    said: str = ""
    line: int = 0


class Suite(NamedTuple):
    """Tests of one budget, or of one file."""

    name: str
    # as its tests name it
    group: str
    file: str
    cases: Sequence[Case]


class Result(NamedTuple):
    """What is not green: the rule that it breaks, "error" or "warning", and files with lines, the one that counts first."""

    rule: str
    level: str
    said: str
    places: Sequence[tuple[str, int]]


def targets(paths: Iterable[Path], known: Sequence[str]) -> list[Path]:
    """The paths, each with a suffix that is known. Raises UsageError."""
    found = list(paths)
    for path in found:
        suffix = kind(path)
        if suffix not in known:
            raise UsageError(f"-o {path}: a report is one of {', '.join(known)}{nearest(suffix, known)}")
        if found.count(path) > 1:
            raise UsageError(f"-o {path}: given twice")
    return found


def kind(path: Path) -> str:
    """What a file is, by its name."""
    return ".badge.json" if path.name.lower().endswith("badge.json") else path.suffix.lower()


# ------------------------------------------------------------------------------------------------ JUnit


def junit(suites: Sequence[Suite]) -> bytes:
    """Suites with their tests; the counts of each, and of all."""
    # here and not above: no check waits for it that writes no such file
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    root = Element("testsuites", {"name": "roofline"} | _counts([case for suite in suites for case in suite.cases]))
    for suite in suites:
        about = {"name": _xml(suite.name)} | _counts(suite.cases) | {"file": _xml(suite.file), "skipped": "0"}
        one = SubElement(root, "testsuite", about)
        for case in suite.cases:
            test = SubElement(one, "testcase", classname=_xml(suite.group), name=_xml(case.name), time="0")
            if case.outcome:
                # for a place the schema has no attribute
                said = f"{suite.file}:{case.line}: {case.said}" if suite.file else case.said
                SubElement(test, case.outcome, message=_xml(case.said), type=_xml(case.kind)).text = _xml(said)
            elif case.said:
                SubElement(test, "system-out").text = _xml(case.said)
    indent(root)
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    failures, errors = (sum(case.outcome == outcome for case in cases) for outcome in ("failure", "error"))
    return {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors), "time": "0"}


def _xml(value: str) -> str:
    return "".join(c if c.isprintable() and c not in "￾￿" else " " for c in value)


# ------------------------------------------------------------------------------------------------ SARIF


def sarif(results: Iterable[Result], rules: Mapping[str, str]) -> bytes:
    """Results of a static analysis; `rules` has the words of each."""
    found = []
    for one in results:
        places = [_place(*place) for place in one.places]
        found.append(
            {
                "ruleId": one.rule,
                "level": one.level,
                "message": {"text": one.said},
                "locations": places[:1],
                "relatedLocations": [{"id": i, **p} for i, p in enumerate(places[1:])],
            }
        )
    known = [{"id": name, "shortDescription": {"text": words}} for name, words in rules.items()]
    driver = {"name": "roofline", "version": __version__, "rules": known}
    return to_json(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": found}],
        }
    )


def _place(file: str, line: int) -> dict[str, Any]:
    return {
        "physicalLocation": {"artifactLocation": {"uri": _uri(file or "roofline.toml")}, "region": {"startLine": max(line, 1)}}
    }


def _uri(file: str) -> str:
    """A file by its way from the root of the repository that it is in, else from here: what services find it by."""
    whole = Path(os.path.abspath(file))
    root = next((parent for parent in whole.parents if (parent / ".git").exists()), Path.cwd())
    return quote(Path(os.path.relpath(whole, root)).as_posix())
