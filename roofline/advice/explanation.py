"""Why a model takes as long as it does on a device or several: what it takes, where it goes, why, and what would help.

Each number is a term of an analysis (`terms.Book`), and whatever is said to help was analysed with that done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from roofline.advice import beyond, doubt, needs, runs, sentences, tables, words
from roofline.advice.alternatives import GROUPS, Alternative, alternatives, fewer, larger, threads
from roofline.advice.terms import Book, pace_of
from roofline.analysis.explain import facts
from roofline.analysis.reasons import listed
from roofline.devices.device import Device
from roofline.devices.threads import working
from roofline.errors import ModelError, UsageError
from roofline.records import Analysis
from roofline.records.explanation import Explanation, Number, Saving, Sentence

# What would save less than this share is not resolved: predictions are off by about as much at the median.
RESOLVED = 0.05
# A batch is large enough where a larger one brings less than this share more.
KNEE = 0.10


class Asker:
    """Analyses one model under options, and keeps each answer in a book by its key."""

    def __init__(self, model: Any, given: Mapping[str, Any], cache: bool, progress: Callable[[str], None] | None) -> None:
        self.model, self.given, self.cache, self.progress = model, dict(given), cache, progress
        self.book, self.options = Book(), dict[str, dict[str, Any]]()

    def know(self, key: str, device: Device, a: Analysis) -> None:
        """An analysis that is at hand already, asked for as `run` would."""
        self.book.runs[key], self.options[key] = a, runs.on(device, self.given)

    def run(self, key: str, device: Device, options: Mapping[str, Any]) -> Analysis:
        if key not in self.book.runs:
            if self.progress:
                self.progress(f"{key}: analysing")
            rest = {name: value for name, value in options.items() if name != "threads"}
            asked = runs.on(device, {**self.given, **rest})
            # so many threads are a device of their own
            on = working(device, options["threads"]) if "threads" in options else device
            self.book.runs[key] = runs.ask(self.model, on, asked, self.cache, self.progress)
            self.options[key] = asked
        return self.book.runs[key]

    def maybe(self, key: str, device: Device, options: Mapping[str, Any]) -> Analysis | None:
        """None where it cannot be: a type that the device lacks, a batch that is fixed, a model that fails in it."""
        try:
            return self.run(key, device, options)
        except (UsageError, ModelError):
            return None


class _Advice(NamedTuple):
    savings: list[Saving]
    together: Saving | None
    # what is no saving, or takes longer
    others: list[Saving]
    # short names of all that is advised, together too
    advised: list[str]


def explain(asker: Asker, devices: Sequence[Device]) -> Explanation:
    """The explanation of a model on devices.

    Raises what `analyze` raises for the question itself; alternatives that cannot be are left out.
    """
    runs.check_host(devices, asker.given)
    for device in devices:
        asker.run(device.name, device, {})
    names = [device.name for device in devices]
    advice = {device.name: _advice(asker, device) for device in devices}
    book = asker.book
    return _worded(
        _plain(book, names, asker.options, sentences.why(book, names)),
        savings={name: advice[name].savings for name in names},
        together={name: both for name in names if (both := advice[name].together)},
        small={name: [s.name for s in advice[name].others if not _slower(s)] for name in names},
        slower={name: [s.name for s in advice[name].others if _slower(s)] for name in names},
        others={name: advice[name].others for name in names},
        batches=[said for name in names for said in beyond.batches(book, name, _sweep(asker, name))],
        unknown=beyond.unknown(book, names, [what for name in names for what in advice[name].advised]),
    )


def told(analyses: Sequence[Analysis]) -> Explanation:
    """What can be said of analyses of one model and setting, each on a device of its own, without asking for more: nothing of
    larger batches or of what would help."""
    book = Book()
    book.runs = {a.device.name: a for a in analyses}
    names = list(book.runs)
    ran = all(a.kernels and a.totals.time_s > 0 for a in analyses)
    return _worded(_plain(book, names, {name: {} for name in names}, sentences.why(book, names) if ran else []))


def _worded(plain: Explanation, **more: Any) -> Explanation:
    """With what else it says, and what the words of all of it mean."""
    e = replace(plain, **more)
    return replace(e, words=words.among(_texts(e)))


def _texts(e: Explanation) -> Iterator[str]:
    """All that it says."""
    yield from (s.text for s in [*e.takes, *e.why, *e.batches])
    yield from (part.name for part in e.classes)
    for s in [*(s for found in [*e.savings.values(), *e.others.values()] for s in found), *e.together.values()]:
        yield f"{s.name}. {s.effort}. {s.note}"
    yield from e.unknown


def _slower(saving: Saving) -> bool:
    return saving.times.value <= 1 - RESOLVED


def _plain(book: Book, names: Sequence[str], options: Mapping[str, Mapping[str, Any]], why: list[Sentence]) -> Explanation:
    """What the analyses alone say. `options` are those of every run."""
    return Explanation(
        model=book.runs[names[0]].model.name,
        devices={name: book.runs[name].device.title or name for name in names},
        runs={key: runs.kept(a, _title(a), options[key]) for key, a in book.runs.items()},
        takes=needs.takes(book, names),
        classes=tables.classes(book, names),
        regions=tables.regions(book, names),
        why=why,
        savings={name: [] for name in names},
        together={},
        small={name: [] for name in names},
        slower={name: [] for name in names},
        batches=[],
        unknown=beyond.unknown(book, names, []),
        notes=list(_notes(book, names)),
    )


def _notes(book: Book, names: Sequence[str]) -> Iterator[str]:
    """What a reader must know, once; with its device, what holds on one of several alone."""
    each = {name: book.runs[name].notes for name in names}
    for note in dict.fromkeys(note for notes in each.values() for note in notes):
        on = [name for name in names if note in each[name]]
        yield note if len(on) == len(names) else f"{listed(on)}: {note}"


def _title(a: Analysis) -> str:
    return ", ".join([a.device.title or a.device.name, *facts(a)[:-1]])


def _sweep(asker: Asker, name: str) -> list[str]:
    """Keys of the runs of a device that differ in their batch alone, ascending."""
    book, options = asker.book, asker.options
    own = {**options[name], "batch": None}
    keys = [k for k, a in book.runs.items() if a.device.name == name and {**options[k], "batch": None} == own]
    return sorted(keys, key=lambda key: book.runs[key].setting.batch)


def _advice(asker: Asker, device: Device) -> _Advice:
    """Everything that could be done there, analysed; then all of it that goes together."""
    base = asker.book.runs[device.name]
    found: list[Saving] = []
    others: list[Saving] = []
    if base.totals.time_s <= 0:
        return _Advice([], None, [], [])
    tried: dict[str, Alternative] = {}
    for one in [*alternatives(base, device), *_larger(asker, device), *_fewer(asker, device)]:
        key = f"{device.name}, {_key(one)}"
        if asker.maybe(key, device, one.options) is None:
            continue
        tried[one.what] = one
        saving = _saving(asker, device.name, key, one)
        if saving.times.value >= 1 / (1 - RESOLVED):
            found.append(saving)
        else:
            others.append(_with_reason(asker.book, saving))
    found.sort(key=lambda saving: -saving.times.value)
    others.sort(key=lambda saving: -saving.times.value)
    together, done = _together(asker, device, found, tried)
    return _Advice(found, together, others, [*(saving.what for saving in found), *done])


def _with_reason(book: Book, saving: Saving) -> Saving:
    """Why it does not pay: the part of the time that grows, and where it saves about nothing the one that shrinks as well; both
    for each sample or token, as the times beside them."""
    a, b = book.runs[saving.run].totals, book.runs[saving.base].totals
    bounds = b.time_by_bound | a.time_by_bound
    more = {bound: a.time_by_bound.get(bound, 0.0) - b.time_by_bound.get(bound, 0.0) for bound in bounds}
    up, down = max(more, key=lambda n: more[n], default=""), min(more, key=lambda n: more[n], default="")
    least = RESOLVED * b.time_s
    if not more or more[up] < least or not (_slower(saving) or more[down] <= -least):
        return saving
    pace = pace_of(book.runs[saving.base]).number
    shown = [down, up] if more[down] <= -least else [up]
    numbers: dict[str, Number] = {}
    parts = []
    for i, bound in enumerate(shown):
        after, before = (book.of(run, "s", f"totals.time_by_bound.{bound}", pace) for run in (saving.run, saving.base))
        numbers |= {f"after{i}": after, f"before{i}": before}
        takes = "" if i else sentences.TAKES.get(bound, "takes") + " "
        parts.append(f"{sentences.BOUND[bound]} {takes}{after.text} instead of {before.text}")
    notes = [", but ".join(parts), *([saving.note] if saving.note else [])]
    return replace(saving, note="; ".join(notes), numbers=numbers)


def _key(one: Alternative) -> str:
    """What its run is called: of a size, with that."""
    return f"{one.what} {one.options[one.what]}" if one.what in ("batch", "threads") else one.what


def _larger(asker: Asker, device: Device) -> list[Alternative]:
    """The batch from where larger ones bring little, of those that fit; nothing where the batch is fixed."""
    base = asker.book.runs[device.name]
    tried: list[tuple[int, float]] = [(base.setting.batch, base.totals.throughput)]
    if asker.given.get("args") is not None or asker.given.get("kwargs") is not None:
        return []
    for n in larger(base):
        a = asker.maybe(f"{device.name}, batch {n}", device, {"batch": n})
        if a is None or a.totals.fits is False or a.setting.batch != n:
            asker.book.runs.pop(f"{device.name}, batch {n}", None)
            break
        tried.append((n, a.totals.throughput))
        if len(tried) > 3 and tried[-1][1] < 1.02 * tried[-3][1]:
            break
    best = max(rate for _, rate in tried)
    knee = next(n for n, rate in tried if rate >= (1 - KNEE) * best)
    if knee == base.setting.batch:
        return []
    wait = "more samples in one pass; each waits for all of them"
    what = "sequences" if base.language else "samples"
    return [Alternative("batch", f"run {knee} {what} at a time", wait.replace("samples", what), {"batch": knee})]


def _fewer(asker: Asker, device: Device) -> list[Alternative]:
    """The fewer threads that are fastest on a CPU, where they are faster beyond what the model cannot know."""
    base = asker.book.runs[device.name]
    best: tuple[float, int, Analysis] | None = None
    for n in fewer(device):
        if (a := asker.maybe(f"{device.name}, {_key(threads(n))}", device, {"threads": n})) is None:
            break
        if best and a.totals.time_s > best[0]:
            break
        best = a.totals.time_s, n, a
    if best is None or best[0] > (1 - RESOLVED) * base.totals.time_s:
        return []
    sure = doubt.times_between(base.totals.time_s / best[0], base.totals.interval, best[2].totals.interval, same_device=True)
    return [] if sure is None or doubt.swallowed(sure) else [threads(best[1])]


def _saving(asker: Asker, base: str, key: str, one: Alternative) -> Saving:
    book = asker.book
    a, b = book.runs[key], book.runs[base]
    pace = pace_of(b)
    before, after = (book.of(run, "s", "totals.time_s", pace.number) for run in (base, key))
    note, numbers = "", dict[str, Number]()
    if a.setting.batch != b.setting.batch:
        whole = book.of(key, "s", "totals.time_s"), book.of(base, "s", "totals.time_s")
        note, numbers = (
            f"a pass then takes {whole[0].text} instead of {whole[1].text}",
            dict(zip(("pass", "before"), whole, strict=True)),
        )
        if whole[0].text == whole[1].text:
            note, numbers = f"a pass still takes {whole[0].text}", {"pass": whole[0]}
    if a.totals.fits is False or b.totals.fits is False:
        fit = (
            "it then fits" if a.totals.fits else "it does not fit even so" if b.totals.fits is False else "it then does not fit"
        )
        note = f"{note}; {fit}" if note else fit
    return Saving(
        name=one.name,
        what=one.what,
        effort=one.effort,
        base=base,
        run=key,
        before=before,
        after=after,
        times=book.ratio("times", key, base, pace.rate),
        note=note,
        numbers=numbers,
        each=pace.each,
    )


def _together(
    asker: Asker, device: Device, found: Sequence[Saving], tried: Mapping[str, Alternative]
) -> tuple[Saving | None, list[str]]:
    """What goes together, one of each group: the best alone, and then what brings most on top, until that is too little; and
    the short names of all that.

    Something that brings nothing alone may bring much beside the rest: half precision, once the host no longer sets the pace.
    """
    if not found:
        return None, []
    base = asker.book.runs[device.name]
    done = [found[0].what]
    options = dict(tried[found[0].what].options)
    best = found[0].times.value
    key = ""
    while True:
        step: tuple[float, str, str] | None = None
        for what, one in tried.items():
            if any(what in group and other in group for group in GROUPS for other in done):
                continue
            name = f"{device.name}, {' + '.join(sorted([*done, what]))}"
            a = asker.maybe(name, device, {**options, **one.options})
            if a is None or a.totals.fits is False:
                continue
            gain = a.totals.throughput / base.totals.throughput
            if gain * (1 - RESOLVED) >= best and (step is None or gain > step[0]):
                step = gain, what, name
        if step is None:
            break
        best, what, key = step
        done.append(what)
        options |= tried[what].options
    if not key:
        return None, []
    names = listed([tried[what].name for what in done])
    return _saving(asker, device.name, key, Alternative("together", names, "", options)), done
