"""An explanation as plain text: what it takes, where it goes, why, what would help. No rich, so it answers at once."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from roofline.advice.terms import keeps
from roofline.advice.words import Glossary
from roofline.errors import safe
from roofline.records import Analysis, KernelRow
from roofline.records.explanation import Evidence, Explanation, Part, Saving, Sentence
from roofline.units import percent, seconds
from roofline.views.listing import PLAIN, Painter, columns

WIDTH = 80
# Kernels that are shown as evidence of one sentence.
ROWS = 5


def render(e: Explanation, paint: Painter = PLAIN, analyses: Mapping[str, Analysis] | None = None) -> str:
    """The explanation; with the analyses of its runs, the kernels under each sentence too."""
    return "\n".join(_blocks(e, paint, analyses or {}, Glossary(e.words)))


def _blocks(e: Explanation, paint: Painter, analyses: Mapping[str, Analysis], words: Glossary) -> Iterator[str]:
    yield _head("What it takes", paint) + _sentences(e.takes, analyses, words)
    if e.classes:
        meant = words.of(*(part.name for part in e.classes))
        yield _head("Where it goes", paint) + _parts("Kind of kernel", e.classes, e, paint) + (wrapped(meant) if meant else "")
    if e.regions:
        yield _parts("Part of the model", e.regions, e, paint)
    if e.why:
        yield _head("Why", paint) + _sentences(e.why, analyses, words)
    if e.batches:
        yield _head("Larger batches", paint) + _sentences(e.batches, analyses, words)
    for name, title in e.devices.items():
        yield _head(f"What would help on {title}", paint) + _savings(e, name, words)
    yield _head("What this cannot know", paint) + "".join(_bullet(f"{text}.", words) for text in e.unknown)
    if e.notes:
        yield "".join(wrapped(f"note: {text}") for text in e.notes)


def _head(text: str, paint: Painter) -> str:
    return paint(safe(text), "bold") + "\n"


def wrapped(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(safe(text), WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False) + "\n"


def _bullet(text: str, words: Glossary) -> str:
    """A sentence, and what its words mean that are new in it."""
    return wrapped(text, "- ", "  ") + (wrapped(meant, "  ", "  ") if (meant := words.of(text)) else "")


def _sentences(found: Sequence[Sentence], analyses: Mapping[str, Analysis], words: Glossary) -> str:
    return "".join(_bullet(s.text, words) + "".join(_evidence(one, analyses) for one in s.evidence) for s in found)


def _evidence(evidence: Evidence, analyses: Mapping[str, Analysis]) -> str:
    """The layers with most of the time under a sentence."""
    a = analyses.get(evidence.run)
    if a is None:
        return ""
    groups: dict[tuple[str, str], list[KernelRow]] = {}
    for row in a.kernels:
        if keeps(row, evidence.where):
            groups.setdefault((row.layer, row.op), []).append(row)
    ranked = sorted(groups.items(), key=lambda item: -sum(row.time_s for row in item[1]))
    cells = []
    for (layer, op), rows in ranked[:ROWS]:
        time = sum(row.time_s for row in rows)
        shape = "x".join(map(str, rows[0].shape))
        cells.append([layer or "the model itself", op, shape, seconds(time), percent(time, a.totals.time_s), rows[0].bound])
    text = columns(["Layer", "Operator", "Shape", "Time", "Share", "Bound"], cells, "lllrrl")
    more = f"and {len(ranked) - ROWS:,} more\n" if len(ranked) > ROWS else ""
    return textwrap.indent(text + more, "    ")


def _parts(title: str, parts: Sequence[Part], e: Explanation, paint: Painter) -> str:
    """The parts, the FLOPs of each, and its time and share on each device; the shares add up to the whole."""
    short = {name: f"{name} " for name in e.devices}
    head = [title, "FLOPs", *(cell for name in e.devices for cell in (short[name].strip(), "share"))]
    rows = [
        [part.name, part.flops.text, *(cell for name in e.devices for cell in (part.times[name].text, part.shares[name].text))]
        for part in parts
    ]
    return columns(head, rows, "l" + "r" * (len(head) - 1), paint)


def _savings(e: Explanation, name: str, words: Glossary) -> str:
    found = e.savings[name]
    lines = [_saving(saving) for saving in found]
    if not found:
        lines.append("Nothing that was tried would help much.")
    if together := e.together.get(name):
        after = f"{together.after.text} instead of {together.before.text}"
        note = f" ({together.note})" if together.note else ""
        lines.append(f"Together ({together.name}): {together.times.text} as fast, {after} for each {together.each}{note}.")
    if e.small[name]:
        lines.append(f"Less than the model can resolve (5 %): {'; '.join(small(e, name))}.")
    if e.slower.get(name):
        lines.append(f"Slower than now: {'; '.join(slower(e, name))}.")
    return "".join(_bullet(line, words) for line in lines)


def small(e: Explanation, name: str) -> list[str]:
    """What was tried on a device and would save less than the model can resolve, with why where parts of the time change."""
    return [f"{s.name} ({s.note})" if s.note else s.name for s in e.others.get(name, []) if s.name in e.small[name]]


def slower(e: Explanation, name: str) -> list[str]:
    """What was tried there and would take longer, with by how much and why."""
    return [
        f"{s.name} ({s.after.text} instead of {s.before.text} for each {s.each}{f': {s.note}' if s.note else ''})"
        for s in e.others.get(name, [])
        if s.name in e.slower[name]
    ]


def _saving(saving: Saving) -> str:
    note = f"; {saving.note}" if saving.note else ""
    return (
        f"{saving.name[0].upper()}{saving.name[1:]}: {saving.times.text} as fast, {saving.after.text} instead of "
        f"{saving.before.text} for each {saving.each}{note} ({saving.effort})."
    )
