"""Verdicts on budgets and differences as aligned plain text, and as GitHub's workflow commands.

Apart from the other lists (listing.py): those of devices and models answer without limits and metrics.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roofline import units
from roofline.analysis.limits import raised, summary, words
from roofline.analysis.metrics import BY_NAME, percent, text
from roofline.errors import safe
from roofline.views.listing import PLAIN, Painter, columns

if TYPE_CHECKING:
    from roofline.analysis.changes import LayerChange
    from roofline.analysis.diff import Diff
    from roofline.analysis.limits import Finding, Verdict


# ------------------------------------------------------------------------------------------------ budgets


def verdicts(found: Sequence[Verdict], paint: Painter = PLAIN, skipped: int = 0) -> str:
    """One line per limit, the broken ones marked, the layers that broke them, and a closing line."""
    rows = []
    for v in found:
        for f in v.findings:
            of = BY_NAME[f.metric]
            used = units.share(f.actual / f.limit) if f.limit else ""
            mark = "FAIL" if f.broken else "ok" if f.ok else "took" if f.accepted else "warn"
            may = "" if f.limit is None else text(of, f.limit)
            change = f"{f.change} of {text(of, f.base)}" if f.base is not None else f.change
            rows.append([mark, v.budget, v.device, f.key, text(of, f.actual), may, used, f.why or change])
    table = columns(["", "MODEL", "DEVICE", "LIMIT", "IS", "MAY BE", "USED", ""], rows, "llllrrr", paint)
    colours = {"FAIL": "red", "warn": "yellow", "took": "yellow"}
    lines = [paint(line, colours[line[:4]]) if line[:4] in colours else line for line in table.splitlines()]
    lines += [f"      {safe(v.budget)} {safe(f.key)}: {safe(raised(f))}" for v in found for f in _telling(v)]
    for note, device, who in notes(found):
        lines.append(paint(f"note  {safe(who)}  {safe(device)}  {safe(note)}", "yellow"))
    failed = [v for v in found if v.error]
    lines += [paint(f"FAIL  {safe(v.budget)}  {safe(v.device)}  not checked: {safe(v.error)}", "red") for v in failed]
    closing = summary(found) + (f", {skipped} left out after the first that failed" if skipped else "")
    closing = paint(closing, "green" if all(v.ok for v in found) else "red")
    return "\n".join([*lines, closing]) + "\n"


def notes(found: Sequence[Verdict]) -> list[tuple[str, str, str]]:
    """Each note and its device once, and of which budgets it is: "net and 3 more"."""
    said: dict[tuple[str, str], list[str]] = {}
    for v in found:
        for note in dict.fromkeys((v.note, *v.notes)):
            if note and v.budget not in said.setdefault((note, v.device), []):
                said[note, v.device].append(v.budget)
    return [
        (note, device, names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more")
        for (note, device), names in said.items()
    ]


def _telling(v: Verdict) -> list[Finding]:
    """The findings whose layers are named: of a metric one, the gravest."""
    failed = {f.metric for f in v.findings if f.broken}
    return [f for f in v.findings if f.layers and (f.broken or f.metric not in failed)]


def baseline(old: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]], paint: Painter = PLAIN) -> str:
    """What changes in a baseline: budget -> metric -> number, before and after."""
    rows = []
    for key in sorted({*old, *new}):
        if key not in old or key not in new:
            rows.append(["+" if key in new else "-", key, "", "", "", ""])
            continue
        for name, value in new[key].items():
            of, before = BY_NAME[name], old[key].get(name)
            if before is not None and before != value:
                relative = percent((value - before) / before if before else None)
                rows.append(["~", key, name, text(of, before), text(of, value), relative])
    return (
        columns(["", "BUDGET", "METRIC", "WAS", "IS", "CHANGE"], rows, "lllrrr", paint)
        if rows
        else "the baseline is as it was\n"
    )


def github(found: Sequence[Verdict]) -> str:
    """Broken limits and notes as GitHub workflow commands, which mark lines of the budget file and of the model in a pull
    request."""
    lines = []
    for v in found:
        said: list[tuple[str, str, int, str]] = []
        if v.note:
            said.append(("warning", v.file, v.line, v.note))
        if v.error:
            said.append(("error", v.file, v.line, f"not checked: {v.error}"))
        for f in v.findings:
            if not f.ok:
                said.append(("error" if f.broken else "warning", v.file, f.line, f"{f.key}: {words(f)}"))
                if v.source:
                    said.append(("notice", v.source, v.source_line, f"{f.key}: {words(f)}"))
        lines += [annotation(level, file, line, "roofline budget", f"{v.title}: {told}") for level, file, line, told in said]
    return "".join(lines)


def annotation(level: str, file: str, line: int, title: str, message: str) -> str:
    """A GitHub workflow command that marks a line of a file, which it knows by its path in the repository."""
    inside = os.path.relpath(file, os.environ.get("GITHUB_WORKSPACE") or ".")
    file = file if inside.startswith("..") else Path(inside).as_posix()
    return f"::{level} file={_property(file)},line={line or 1},title={title}::{_command(safe(message))}\n"


def _command(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _command(text).replace(":", "%3A").replace(",", "%2C")


# ------------------------------------------------------------------------------------------------ differences


_MARKS = {"added": "+", "removed": "-", "changed": "~", "renamed": ">", "moved": ">"}


def diff(d: Diff, paint: Painter = PLAIN, top: int = 20) -> str:
    """Settings that differ, every metric on both sides, and the `top` layers that changed, largest change of time first."""
    out = [f"{paint(safe(d.base), 'bold')} -> {paint(safe(d.head), 'bold')}"]
    out += [safe(d.setting)] if d.setting else []
    out += [paint(f"setting differs: {safe(line)}", "yellow") for line in d.settings]
    if d.same:
        return "\n".join([*out, "no difference"]) + "\n"
    rows = [[c.metric, text(BY_NAME[c.metric], c.base), text(BY_NAME[c.metric], c.head), percent(c.relative)] for c in d.totals]
    table = columns(["TOTAL", "BASE", "HEAD", "CHANGE"], rows, "lrrr", paint).splitlines()
    for index, change in enumerate(d.totals, 1):
        if change.base != change.head:
            worse = (change.head > change.base) == BY_NAME[change.metric].cost
            table[index] = paint(table[index], "red" if worse else "green")
    out += table
    layers, shifted = d.shown
    if layers:
        rows = [
            [_MARKS[c.what], *named(c), *(units.si(n) for n in c.flops), *(units.seconds(t) for t in c.time_s)]
            for c in layers[:top]
        ]
        head = ["", "LAYER", "TYPE", "FLOPS", "->", "TIME", "->"]
        out += ["", columns(head, rows, "lllrrrr", paint).rstrip("\n")]
        if len(layers) > top:
            out.append(f"... and {len(layers) - top} more (--json lists them all)")
    if shifted:
        out += ["", f"{len(shifted)} layers do what they did, and take {shift(shifted)} for what runs around them"]
    out += ["", safe(d.effect)] if d.effect else []
    return "\n".join(out) + "\n"


def shift(layers: Sequence[LayerChange]) -> str:
    """What a change of time adds up to over layers: "12 us more"."""
    delta = sum(c.time_s[1] - c.time_s[0] for c in layers)
    return f"{units.seconds(abs(delta))} {'less' if delta < 0 else 'more'}"


def named(c: LayerChange) -> tuple[str, str]:
    """A changed layer and its type, with what it was where that is not the same."""
    path = c.path or "(the model itself)"
    if c.base_path:
        path = f"{c.base_path} -> {path}"
    elif not c.whole and c.path:
        path += " (itself)"
    return path, f"{c.base_type} -> {c.type}" if c.base_type else c.type
