"""The skeleton of an explanation in a few sentences, of one analysis and without another: what heads every view of it.

What it takes, with the number that most hangs on; where it goes, by kind of kernel and by part of the model; why; what to try.
The sentences on what it takes and why are those of `roofline explain`.
"""

from __future__ import annotations

from collections.abc import Sequence

from roofline.advice import needs, sentences
from roofline.advice.alternatives import Alternative, alternatives
from roofline.advice.terms import Book, say
from roofline.analysis.explain import measured, unknown
from roofline.analysis.reasons import NOTABLE, inside, listed, reached, what_set_it
from roofline.classes import plural
from roofline.devices import library
from roofline.errors import RooflineError
from roofline.records import Analysis, KernelRow, LayerRow, above
from roofline.records.explanation import Evidence, Sentence

# Kinds of kernel and parts of the model that are named.
NAMED = 3
# A module with this share of the time of the one around it is looked into.
MOST = 0.6
# Types of modules that hold others and say nothing of what they do.
CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict"})
# What may help against what takes most of the time; "batch" is a larger one.
HELPS = {
    "overhead": ("compile", "graphs", "batch"),
    "compute": ("tf32", "amp", "bf16", "fp16"),
    "memory": ("compile", "amp", "bf16", "fp16"),
    "instructions": ("compile",),
}


def said(a: Analysis) -> list[str]:
    """The sentences in their order; where nothing ran, the one that says so."""
    book, run = Book(), a.device.name
    book.runs[run] = a
    takes = [s.text for s in needs.takes(book, [run])]
    if not a.kernels or a.totals.time_s <= 0:
        return takes[:1]
    if a.totals.fits is False:  # nothing else matters as much
        takes[:2] = reversed(takes[:2])
    why = sentences.led(book, run) if a.totals.time_by_component else []
    found = [*takes, measured(a), *(s.text for s in [*kinds(book, run), *parts(book, run)])]
    found += [s.text for s in why] or [what_set_it(a)]
    return [text for text in [*found, _try(a), unknown(a)] if text]


def kinds(book: Book, run: str) -> list[Sentence]:
    """The kinds of kernel with most of the time, and what share of which roof each reaches; where the host sets the pace of a
    GPU, which tells nothing of them, beside their share of the FLOPs."""
    a = book.runs[run]
    groups: dict[str, list[KernelRow]] = {}
    for k in a.kernels:
        groups.setdefault(k.klass, []).append(k)
    times = {klass: sum(k.time_s for k in rows) for klass, rows in groups.items()}
    kept = [c for c in sorted(times, key=lambda c: -times[c]) if times[c] >= NOTABLE * a.totals.time_s][:NAMED]
    if not kept:
        return []
    where = [{"class": klass} for klass in kept]
    names = {f"n{i}": inside(klass) if i else plural(klass) for i, klass in enumerate(kept)}
    evidence = tuple(Evidence(run, w) for w in where)
    if a.device.kind == "gpu" and a.totals.bound == "overhead":
        others = [f"{{n{i}}} {{s{i}}} for {{f{i}}}" for i in range(1, len(kept))]
        text = listed(["{n0} take {s0} of the time for {f0} of the FLOPs", *others])
        shares = {f"s{i}": book.of(run, "share", "kernels.time_s", "totals.time_s", w) for i, w in enumerate(where)}
        flops = {f"f{i}": book.of(run, "share", "kernels.flops", "totals.flops", w) for i, w in enumerate(where)}
        return say(text + ".", when=(), evidence=evidence, **names, **shares, **flops)
    text = "; ".join(f"{{n{i}}}{'' if i else ' take'} {{t{i}}}{{r{i}}}" for i in range(len(kept)))
    took = {f"t{i}": book.of(run, "s", "kernels.time_s", where=w) for i, w in enumerate(where)}
    reach = {f"r{i}": reached(a, groups[klass], times[klass]) for i, klass in enumerate(kept)}
    return say(text + ".", when=(), evidence=evidence, **names, **took, **reach)


def parts(book: Book, run: str) -> list[Sentence]:
    """The parts of the model with most of the time; siblings of one type are one."""
    a = book.runs[run]
    groups = sorted(_groups(_taken_apart(a)), key=lambda rows: -sum(row.time_s for row in rows))
    kept = [rows for rows in groups if sum(row.time_s for row in rows) >= NOTABLE * a.totals.time_s][:NAMED]
    if not kept:
        return []
    where = [{"layer": "|".join(row.path for row in rows)} for rows in kept]
    names = {f"n{i}": _named(rows) for i, rows in enumerate(kept)}
    shares = {f"s{i}": book.of(run, "share", "kernels.time_s", "totals.time_s", w) for i, w in enumerate(where)}
    text = listed([f"{{n{i}}} ({{s{i}}})" for i in range(len(kept))])
    evidence = tuple(Evidence(run, w) for w in where)
    return say(f"Of the parts of the model, most of the time goes into {text}.", when=(), evidence=evidence, **names, **shares)


def _taken_apart(a: Analysis) -> list[LayerRow]:
    """The modules inside the one that holds most of the time and no other of which does."""
    inside_of: dict[str, list[LayerRow]] = {}
    known = {row.path for row in a.layers}
    for row in a.layers:
        if row.path:
            inside_of.setdefault(next(path for path in above(row.path) if path in known or not path), []).append(row)
    found = inside_of.get("", [])
    while found:
        largest = max(found, key=lambda row: row.time_s)
        if largest.time_s < MOST * a.totals.time_s or not inside_of.get(largest.path):
            break
        found = inside_of[largest.path]
    return found


def _groups(rows: Sequence[LayerRow]) -> list[list[LayerRow]]:
    found: dict[str, list[LayerRow]] = {}
    for row in rows:
        found.setdefault(row.path if row.type in CONTAINERS else f" {row.type}", []).append(row)
    return list(found.values())


def _named(rows: Sequence[LayerRow]) -> str:
    first = rows[0]
    if len(rows) == 1:
        return f"{first.path} {first.type}".strip() if first.type not in CONTAINERS else first.path
    holder = first.path.rpartition(".")[0]
    return f"the {len(rows)} {first.type}" + (f" of {holder}" if holder else "")


def _try(a: Analysis) -> str:
    """What might help against what takes most of the time; by how much takes another analysis of each."""
    wanted = HELPS[a.totals.bound]
    names = [one.name for one in _possible(a) if one.what in wanted]
    if "batch" in wanted:
        names.append("run more samples at a time")
    if not names:
        return ""
    several = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    return f"To try: {several}; roofline explain says what each brings or costs."


def _possible(a: Analysis) -> list[Alternative]:
    try:
        return list(alternatives(a, library.lookup(a.device.name)))
    except RooflineError:  # a device file that is not at hand
        return []
