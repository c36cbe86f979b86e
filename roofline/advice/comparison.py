"""Models side by side: what each takes on each device, how many times faster that is than by FLOPs, and which to choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from msgspec.structs import replace

from roofline.advice import doubt, runs
from roofline.advice.terms import Book, pace_of, say, value
from roofline.analysis import metrics
from roofline.analysis.own import Front as Front
from roofline.analysis.own import Table as Table
from roofline.analysis.own import front as front
from roofline.analysis.own import table as table
from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.records import Analysis, Energy
from roofline.records.comparison import Compared, Comparison, Failed
from roofline.records.explanation import Number, Sentence, Term

# Models that are set beside the slowest in words, on one device.
NAMED = 4


def compare(
    models: Sequence[str],
    devices: Sequence[Device],
    batches: Sequence[int | None],
    given: Mapping[str, Any],
    *,
    own: Table | None = None,
    pareto: Front | None = None,
    cache: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Every model on every device at every batch; what cannot be analysed is a row of `failed`, and the others are there."""
    runs.check_host(devices, given)
    book, options = Book(), dict[str, dict[str, Any]]()
    failed: list[Failed] = []
    for device in devices:
        for batch in batches:
            for model in models:
                asked = runs.on(device, {**given, **({} if batch is None else {"batch": batch})})
                key = f"{model} on {device.name}" + ("" if batch is None else f", batch {batch}")
                if progress:
                    progress(f"{model} on {device.name}")
                try:
                    book.runs[key] = runs.ask(model, device, asked, cache, progress)
                except RooflineError as error:
                    failed.append(Failed(model, device.name, batch, error.exit_code, runs.why(error)))
                    continue
                options[key] = {"model": model, **asked}
    rows = [_row(key, options[key]["model"], a) for key, a in book.runs.items()]
    rows = _beside_first(rows, models)
    notes = []
    if own:
        rows = [replace(row, own=own.rows.get(row.model, {})) for row in rows]
        if missing := [m for m in models if m not in own.rows]:
            notes.append(f"the table of your own says nothing of {', '.join(missing)}")
    if pareto:
        rows = _fronted(book, rows, pareto)
        if "energy" in pareto.names:
            notes += dict.fromkeys(f"no energy: {a.totals.no_energy}" for a in book.runs.values() if a.totals.no_energy)
    return Comparison(
        runs={key: runs.kept(a, key, options[key]) for key, a in book.runs.items()},
        rows=rows,
        failed=failed,
        sentences=_sentences(book, rows),
        pareto=pareto.names if pareto else (),
        least=pareto.least if pareto else (),
        notes=notes,
        tool=next((a.tool for a in book.runs.values()), None),
    )


def _row(key: str, model: str, a: Analysis) -> Compared:
    t = a.totals
    return Compared(
        run=key,
        model=model,
        device=a.device.name,
        batch=a.setting.batch,
        params=a.model.params,
        macs=t.macs,
        flops=t.flops,
        bytes=t.bytes,
        intensity=t.intensity,
        time_s=t.time_s,
        throughput=value(a, Term(key, pace_of(a).rate)),
        peak_memory_bytes=t.peak_memory_bytes,
        bound=t.bound,
        fits=t.fits,
        interval=t.interval,
        energy_j=t.energy.per_sample_j if t.energy else None,
        energy_between=_ends(t.energy, a.setting.batch),
    )


def _ends(found: Energy | None, batch: int) -> tuple[float, float] | None:
    """Of the joules of a sample."""
    return (found.low_j / max(batch, 1), found.high_j / max(batch, 1)) if found else None


def _groups(rows: Sequence[Compared]) -> list[list[Compared]]:
    """The rows of one device and batch, in their order."""
    return [list(group) for _, group in groupby(rows, key=lambda row: (row.device, row.batch))]


def _beside_first(rows: Sequence[Compared], models: Sequence[str]) -> list[Compared]:
    """With the speed-up over the first model, where there is more than one."""
    out = []
    for group in _groups(rows):
        first = next((row for row in group if row.model == models[0]), None)
        if first is None or len(models) < 2 or not first.throughput:
            out += group
            continue
        for row in group:
            if not row.throughput:  # it launches nothing, so there is no time to compare
                out.append(row)
                continue
            times = row.throughput / first.throughput
            sure = None if row is first else doubt.times_between(times, row.interval, first.interval, same_device=True)
            out.append(replace(row, speed_up=times, speed_up_between=sure))
    return out


def _fronted(book: Book, rows: Sequence[Compared], pareto: Front) -> list[Compared]:
    """With whether each is on the front of its device and batch; None where a number is missing, or where it does not fit."""

    def known(row: Compared) -> dict[str, float]:
        mine = {name: value for name, value in row.own.items() if isinstance(value, float)}
        # what launches nothing has no time
        of = {name for name in pareto.names if (known := metrics.BY_NAME.get(name)) and (row.time_s or not known.timed)}
        # without the energy of a device whose power is not known
        asked = {name: value for name, value in metrics.numbers(book.runs[row.run]).items() if name in of}
        return {name: value for name, value in {**mine, **asked}.items() if name in pareto.names}

    def numbers(row: Compared) -> tuple[float, ...] | None:
        if row.fits is False or len(row.by) < len(pareto.names):
            return None
        return tuple(row.by[name] if least else -row.by[name] for name, least in zip(pareto.names, pareto.least, strict=True))

    out = []
    for group in _groups([replace(row, by=known(row)) for row in rows]):
        found = [numbers(row) for row in group]
        there = [n for n in found if n is not None]
        for row, mine in zip(group, found, strict=True):
            beaten = mine is not None and any(n != mine and all(x <= y for x, y in zip(n, mine, strict=True)) for n in there)
            out.append(replace(row, front=None if mine is None else not beaten))
    return out


# ------------------------------------------------------------------------------------------------ in words


def _sentences(book: Book, rows: Sequence[Compared]) -> list[Sentence]:
    """Each beside the slowest on its device: the time, and what FLOPs and bytes would have said."""
    found: list[Sentence] = []
    for group in _groups([row for row in rows if row.throughput]):
        slow = min(group, key=lambda row: row.throughput)
        for row in sorted((r for r in group if r is not slow), key=lambda r: -r.throughput)[:NAMED]:
            times = book.ratio("times", row.run, slow.run, "totals.throughput")
            more = {
                "macs": ("multiply-accumulates", "totals.macs"),
                "bytes": ("bytes", "totals.bytes"),
            }
            words, numbers = list[str](), dict[str, Number]()
            for name, (what, path) in more.items():
                if not getattr(row, name) or not getattr(slow, name):
                    continue
                lighter = getattr(row, name) <= getattr(slow, name)
                numbers[name] = book.ratio("times", *((slow.run, row.run) if lighter else (row.run, slow.run)), path)
                words.append(f"{{{name}}} {'fewer' if lighter else 'more'} {what}")
            batch = f" at batch {row.batch}" if len({r.batch for r in rows}) > 1 else ""
            sure = doubt.times_between(times.value, row.interval, slow.interval, same_device=True)
            beside = f", with {' and '.join(words)}" if words else ""
            found += say(
                f"On {{device}}{{batch}} {doubt.beside('model', 'slow', sure)}{beside}.",
                when=(),
                evidence=(),
                device=row.device,
                batch=batch,
                model=row.model,
                slow=slow.model,
                times=times,
                **numbers,
            )
    return found


def failure(found: Comparison) -> RooflineError | None:
    """What to raise where something could not be analysed: its exit code is the gravest of theirs."""
    lost = [(one.exit_code, f"{one.model} on {one.device}: {one.why}") for one in found.failed]
    return runs.failure(lost, len(found.failed) + len(found.rows), "above")
