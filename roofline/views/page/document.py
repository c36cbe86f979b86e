"""What a page holds: all that was analysed, as columns; what several analyses have in common is there once.

A column is a list, or {"k": values, "i": which of them} where that is shorter, or {"k": [value], "n": how often}. Analyses name
their columns by place in one list, so the shapes of a model are there once however many devices it is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from roofline.advice.report import Missing, Told
from roofline.advice.words import WORDS
from roofline.analysis.explain import ceilings, facts, fits, pace, totals
from roofline.analysis.folded import fold
from roofline.devices import library
from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.records import Analysis
from roofline.records.explanation import Explanation, Part, Saving, Sentence
from roofline.units import binary
from roofline.views.explanation import slower, small
from roofline.views.style import BOUND_COLOUR, BOUND_TEXT, class_style, fullest, kept, roof_title, roofs, slopes

# What tells the analyses of a page apart, each a switch where it has several values.
SWITCHES = ("model", "device", "batch", "dtype", "runtime", "mode", "other")


class _Pool:
    """Things of which each is kept once."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[bytes, int] = {}

    def put(self, item: Any) -> int:
        key = msgspec.json.encode(item)
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(item)
        return self._places[key]


def document(told: Sequence[Told], missing: Sequence[Missing]) -> dict[str, Any]:
    """The page's data, with a run for each analysis in the order given."""
    columns, roof, words = _Pool(), _Pool(), _Pool()
    analyses = [a for one in told for a in one.analyses]
    marks = _marks(analyses)
    runs: list[dict[str, Any]] = []
    for group, one in enumerate(told):
        for a in one.analyses:
            runs.append(_run(a, columns, words) | {"at": marks[len(runs)], "roof": roof.put(_roof(a)), "told": group})
    return {
        "switches": {name: list(dict.fromkeys(mark[i] for mark in marks)) for i, name in enumerate(SWITCHES)},
        "runs": runs,
        "columns": columns.items,
        "roofs": roof.items,
        "words": words.items,
        "told": [_told(one) for one in told],
        "missing": _missing(missing),
        "meanings": WORDS,
        "classes": {k.klass: class_style(k.klass) for a in analyses for k in a.kernels},
        "bounds": {name: [BOUND_COLOUR[name], BOUND_TEXT[name]] for name in BOUND_COLOUR},
    }


def _missing(missing: Sequence[Missing]) -> list[dict[str, str]]:
    """What failed for the same reason is said once."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        found.setdefault((one.model, one.why), []).append(one.where)
    return [
        {"model": model, "where": "; ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else ""), "why": why}
        for (model, why), where in found.items()
    ]


def _marks(analyses: Sequence[Analysis]) -> list[list[str]]:
    """The value of every switch for each analysis; no two are alike."""
    sources: dict[str, set[str]] = {}
    for a in analyses:
        sources.setdefault(a.model.name, set()).add(a.model.source)
    found, seen = [], dict[tuple[str, ...], int]()
    for a in analyses:
        s = a.setting
        name = a.model.name if len(sources[a.model.name]) == 1 else f"{a.model.name} ({a.model.source})"
        mark = (name, a.device.title or a.device.name, str(s.batch), s.numbers, s.runtime, _mode(a))
        seen[mark] = seen.get(mark, 0) + 1
        found.append([*mark, "" if seen[mark] == 1 else str(seen[mark])])
    return found


def _mode(a: Analysis) -> str:
    if a.language:
        return f"{a.language.mode}, {a.language.context:,} tokens"
    return f"{a.setting.mode}, {a.setting.optimizer}" if a.setting.optimizer else a.setting.mode


# ------------------------------------------------------------------------------------------------ an analysis


def _run(a: Analysis, columns: _Pool, words: _Pool) -> dict[str, Any]:
    t, folded = a.totals, fold(a)

    def column(values: Iterable[Any]) -> int:
        return columns.put(_column(list(values)))

    def table(rows: Sequence[Any], *names: str) -> dict[str, int]:
        return {name: column(_short(getattr(row, name)) for row in rows) for name in names}

    kernels = [row.kernel for row in folded.kernels]
    return {
        "model": a.model.name,
        "device": a.device.name,
        "title": a.device.title or a.device.name,
        "facts": words.put([*facts(a)[:-1], ceilings(a)]),
        "totals": {
            name: getattr(t, name)
            for name in (
                "flops", "macs", "bytes", "intensity", "kernels", "time_s", "throughput", "bound", "peak_memory_bytes",
                "achieved_flops", "fits",
            )
        } | {"params": a.model.params},
        "pace": pace(a),
        "bounds": [[name, seconds] for name, seconds in fullest(t.time_by_bound)],
        "figures": totals(a),
        "warnings": list(filter(None, (fits(a), _unknown(a)))),
        "layers": table(folded.layers, "path", "type", "params", "macs", "flops", "bytes", "kernels", "time_s", "bound")
        | ({"memory_bytes": column(row.memory_bytes for row in folded.layers)} if any(r.memory_bytes for r in a.layers) else {})
        | ({"measured_s": column(_short(row.measured_s) for row in folded.layers)} if a.measurement else {})
        | (table(folded.layers, "energy_j") if t.energy else {}),
        "ops": table(a.ops, "op", "klass", "kernels", "macs", "flops", "bytes", "time_s", "bound")
        | (table(a.ops, "energy_j") if t.energy else {}),
        "kernels": table(
            kernels, "op", "klass", "dtype", "flops", "macs", "bytes", "weight_bytes", "time_s", "bound", "level", "efficiency",
            "compute_s", "memory_s", "overhead_s", "known", "phase",
        )
        | {
            "layer": column(row.layer for row in folded.kernels),
            "number": column(row.number for row in folded.kernels),
            "shape": column("×".join(map(str, k.shape)) for k in kernels),
            "parts": column({name: _short(part, 3) for name, part in k.time_by_component.items()} for k in kernels),
        }
        | ({"measured_s": column(_short(k.measured_s) for k in kernels)} if a.measurement else {})
        | (table(kernels, "energy_j") if t.energy else {}),
        "folded": folded.notes,
        "memory": _memory(a, columns),
        "rests": words.put(_rests(a)),
        "notes": words.put([*a.notes, *a.device.notes]),
    }  # fmt: skip


def _memory(a: Analysis, columns: _Pool) -> dict[str, Any] | None:
    """Bytes alive over the pass, and what is alive at the peak."""
    m = a.memory
    if m is None or len(m.at) < 2:
        return None
    kinds = [[kind.replace("_", " "), binary(size)] for kind, size in _largest_first(a.totals.peak_memory)]
    series = {name: columns.put(_column(getattr(m, name))) for name in ("at", "layers", "bytes")}
    return {"ops": m.ops, "kinds": kinds, "size": a.device.memory, **series}


def _column(values: list[Any]) -> Any:
    places: dict[Any, int] = {}
    try:
        which = [places.setdefault((type(value), value), len(places)) for value in values]
    except TypeError:  # lists and dictionaries
        return values
    found = [value for _, value in places]
    if len(found) == 1 and len(values) > 1:
        return {"k": found, "n": len(values)}
    # a place takes two or three characters, and what is told by it its own and those
    longest = sum(len(msgspec.json.encode(value)) for value in values) > 3 * len(values)
    return {"k": found, "i": which} if len(found) < 0.7 * len(values) and longest else values


def _short(value: Any, digits: int = 6) -> Any:
    """As many digits as a page shows, and three more."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _unknown(a: Analysis) -> str:
    ops = a.coverage.unknown_ops
    if not ops:
        return ""
    each = "; ".join(f"{u.op} ×{u.count} in {', '.join(name or 'the model itself' for name in u.layers[:3])}" for u in ops)
    return f"FLOPs unknown, so they are a lower bound: {each}. Their bytes are counted."


def _rests(a: Analysis) -> list[list[str]]:
    """What it rests on, a name and a text each."""
    rows = [["Model from", a.model.source]]
    rows += [[f"Input {i.name}", f"{' × '.join(map(str, i.shape))} {i.dtype}"] for i in a.model.inputs]
    rows += [[f"Peak memory: {kind.replace('_', ' ')}", binary(size)] for kind, size in _largest_first(a.totals.peak_memory)]
    return rows + ([["Layer at the peak", a.totals.peak_layer]] if a.totals.peak_layer else [])


def _largest_first(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((kind, size) for kind, size in sizes.items() if size), key=lambda item: -item[1])


# ------------------------------------------------------------------------------------------------ a device


def _roof(a: Analysis) -> dict[str, Any]:
    """The ceilings of the device under this analysis, each with where it comes from as far as that is known."""
    d = a.device
    known = _known(d.name)
    peaks = {roof_title(key): _peak_source(known, key, value) for key, value in d.peaks.items()}
    levels = {level.name: (level.size, _level_source(known, level.name, level.bandwidth)) for level in d.levels}
    return {
        "title": d.title or d.name,
        "tier": a.setting.tier,
        "dtype": d.peak_dtype or a.setting.dtype,
        "peak": d.peak_flops,
        "bandwidth": d.bandwidth,
        "ridge": d.ridge,
        "kept": kept(d),
        "roofs": [
            [name, value, peaks.get(name, "")]
            for name, value in roofs(d.peaks, a.setting.dtype, {k.dtype for k in a.kernels}, d.peak_flops)
        ],
        "levels": [[s.name, s.reached, s.nominal, *levels.get(s.name, (0, ""))] for s in slopes(d)],
    }


def _known(name: str) -> Device | None:
    """The device of that name in the library; an analysis says its numbers, and not where each is from."""
    try:
        return library.lookup(name)
    except RooflineError:
        return None


def _document(device: Device, source: str, status: str) -> str:
    return f"{device.sources.get(source, source)} ({status})".strip()


def _peak_source(device: Device | None, key: str, value: float) -> str:
    kind, _, types = key.partition(" ")
    peak = None if device is None else {"tensor": device.tensor, "vector": device.vector}.get(kind, {}).get(types)
    # another file may call itself the same: a source is that of its number
    return _document(device, peak.source, peak.status) if device and peak and peak.value == value else ""


def _level_source(device: Device | None, name: str, bandwidth: float) -> str:
    level = next((level for level in device.levels if level.name == name), None) if device else None
    return _document(device, level.source, level.status) if device and level and level.bandwidth == bandwidth else ""


# ------------------------------------------------------------------------------------------------ what is said


def _told(one: Told) -> dict[str, Any]:
    e = one.explanation
    return {
        "takes": [_sentence(s, e) for s in e.takes],
        "why": [_sentence(s, e) for s in e.why],
        "batches": [_sentence(s, e) for s in e.batches],
        "classes": [_part(part) for part in e.classes],
        "regions": [_part(part) for part in e.regions],
        "savings": {name: [_saving(s) for s in found] for name, found in e.savings.items()},
        "together": {name: _saving(s) for name, s in e.together.items()},
        "small": {name: small(e, name) for name in e.small},
        "slower": {name: slower(e, name) for name in e.slower},
        "unknown": e.unknown,
    }


def _sentence(s: Sentence, e: Explanation) -> dict[str, Any]:
    """Its text, the devices that it is about, and where to look: kernels of a device under a condition."""
    terms = chain.from_iterable((n.over, n.under, n.by) for n in [*s.numbers.values(), *(check.number for check in s.when)])
    devices = [_device(run, e) for run in [*(term.run for term in terms if term), *(look.run for look in s.evidence)]]
    looks = [[_device(look.run, e), look.where] for look in s.evidence if look.run in e.devices]
    return {"text": s.text, "on": list(dict.fromkeys(filter(None, devices))), "look": looks}


def _device(run: str, e: Explanation) -> str:
    """The device of a run, where it is one of those asked for."""
    name = e.runs[run].options["device"] if run in e.runs else ""
    return name if name in e.devices else ""


def _part(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "flops": part.flops.text,
        "on": {name: [time.text, part.shares[name].text, _short(part.shares[name].value)] for name, time in part.times.items()},
    }


def _saving(s: Saving) -> dict[str, str]:
    return {
        "name": s.name,
        "effort": s.effort,
        "times": s.times.text,
        "before": s.before.text,
        "after": s.after.text,
        "each": s.each,
        "note": s.note,
    }
