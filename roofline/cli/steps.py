"""Steps that several commands share: devices and settings by their text, one analysis, results to the terminal and to files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from roofline.cli import terminal
from roofline.cli.options import By, ViewOptions
from roofline.cli.terminal import note, out, progress
from roofline.errors import ModelError, UsageError
from roofline.records import Analysis
from roofline.request import Request, made
from roofline.views.columns import Column, named
from roofline.views.files import PICTURES, TABLES, Look, targets

# The largest batch of a sweep is 2 to this power.
MOST_DOUBLED = 9

if TYPE_CHECKING:
    from roofline.advice.report import Told
    from roofline.devices.device import Device


def counted(names: Iterable[str], threads: int | None) -> list[str]:
    """The names, of CPUs with so many threads: `i9-10940x@4`. Raises UsageError where none is a CPU."""
    if threads is None:
        return list(names)
    from roofline.devices.library import lookup
    from roofline.devices.threads import with_threads

    found = {name: lookup(name) for name in names}
    placed = with_threads(list(found.values()), threads)
    return [name if now is was else f"{name}@{threads}" for (name, was), now in zip(found.items(), placed, strict=True)]


def devices_named(names: Iterable[str], host: str | float | None = None, runtime: str = "eager") -> list[Device]:
    """The devices, all with the same `host` around them where one is given."""
    from roofline.devices.library import lookup, with_host

    found: dict[str, Device] = {}
    for name in names:
        device = lookup(name)
        if device.name in found:
            raise UsageError(f"-d {name}: given twice ({device.name}): leave one out")
        found[device.name] = device
    return with_host(list(found.values()), host, runtime)


def quiet(text: str) -> None:
    """Progress that nobody sees."""


@contextmanager
def foreign(model: str) -> Iterator[Callable[[str], None]]:
    """Around what runs a model's own code: its prints must not get into our output, nor its sys.exit() end us."""
    with progress() as report, _foreign(model):
        yield report or quiet


@contextmanager
def _foreign(model: str) -> Iterator[None]:
    with redirect_stdout(sys.stderr), _compiled_too():
        try:
            yield
        except SystemExit as e:
            raise ModelError(f"{model}: its code ended the program (sys.exit({e.code!r}))") from e


@contextmanager
def _compiled_too() -> Iterator[None]:
    """What a model's compiled code and the programs that it starts print goes to stderr, where this process is our own."""
    kept = None
    if terminal.OWN_PROCESS:
        with suppress(OSError, ValueError, AttributeError):  # one of them is closed
            if sys.__stdout__ is not None:
                sys.__stdout__.flush()
            kept = os.dup(1)
            if sys.__stderr__ is not None:
                os.dup2(2, 1)
            else:  # then 2 may be any file
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.close(nowhere)
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def requests(model: str, devices: Iterable[str], given: Mapping[str, Any], *, cache: bool) -> list[Request]:
    """One request for each device, with the options that were given."""
    rest = {key: value for key, value in given.items() if key not in ("device", "host")}
    found = devices_named(devices, given.get("host"), given.get("runtime", "eager"))
    return [made(model, {**rest, "device": device}, cache=cache) for device in found]


def analysed(request: Request) -> Analysis:
    """The answer, with its progress on the terminal."""
    from roofline import pipeline

    with foreign(request.ask.model) as report:
        return pipeline.run(replace(request, progress=report))


def quietly(request: Request) -> Analysis:
    """The answer, whoever is told of its progress."""
    from roofline import pipeline

    with _foreign(request.ask.model):
        return pipeline.run(request)


def many(asked: Sequence[Request], jobs: int | None) -> Iterator[Analysis | Exception]:
    """The answer of each, or what was raised instead, in their order, from as many processes; with progress on the terminal."""
    from roofline.gate.many import answers
    from roofline.gate.many import jobs as usual

    with progress() as report:
        yield from answers(asked, quietly, jobs or usual(), report or quiet)


def taken(answers: Iterator[Analysis | Exception]) -> Analysis:
    """The next of them; raises what was raised instead."""
    found = next(answers)
    if isinstance(found, Exception):
        raise found
    return found


def by_known_times(asked: Sequence[Request], texts: Sequence[str]) -> Request:
    """The request on its device, set by times that are known of it."""
    from roofline.validation import known_times

    if len(asked) != 1:
        raise UsageError(
            "--known: a time is of one device, and several are given\ngive one -d, or files made by calibrate --from"
        )
    (request,) = asked
    with foreign(request.ask.model) as report:
        return known_times.on(request, texts, report)


class View(NamedTuple):
    """What the results are shown as: one JSON document, or a table by layer, op or kernel."""

    json: bool
    by: By
    depth: int
    top: int | None
    # rows of a CSV file: kernels, where nothing else was asked for
    csv: By
    # of pictures
    look: Look
    # of the table, where they were chosen
    columns: Sequence[Column] = ()

    @classmethod
    def of(cls, options: ViewOptions, files: Sequence[Path]) -> View:
        """Raises UsageError for an option that would change nothing that is printed or written."""
        json, by, depth, top = options.json, options.by, options.depth, options.top
        suffixes = {file.suffix.lower() for file in files}
        if json and top is not None:
            raise UsageError("--top shortens the table, and --json prints all rows instead of one: leave one of them out")
        if json and by is not None and ".csv" not in suffixes and options.columns is None:
            raise UsageError("--by chooses the rows of the table, and --json has layers, ops and kernels: leave one out")
        if depth is not None and ".md" not in suffixes:
            if json:
                raise UsageError("--depth is how deep the table goes, and --json prints every layer: leave one of them out")
            if by not in (None, By.layer):
                raise UsageError(f"--depth is about layers, and --by {by.value} has none: leave one of them out")
        look = _look(options, suffixes)
        columns = _columns(options, suffixes)
        rows = by or (By.layer if columns else By.kernel)
        return cls(json, by or By.layer, 2 if depth is None else depth, top, rows, look, columns)


def _columns(options: ViewOptions, suffixes: set[str]) -> Sequence[Column]:
    """Raises UsageError for a name that no column has, and where no table is printed or written."""
    if options.columns is None:
        return ()
    if options.json and not suffixes & {".csv", ".md"}:
        raise UsageError("--columns chooses those of the table, and --json has all fields: leave one of them out")
    return named(options.columns, (options.by or By.layer).value)


def _look(options: ViewOptions, suffixes: set[str]) -> Look:
    """Raises UsageError for an option of pictures where none is written, and for a size that is none."""
    if options.picture and not suffixes & set(PICTURES):
        raise _no_picture("--picture")
    look = paper(options.size, options.dark, suffixes)
    return look._replace(picture=options.picture.value) if options.picture else look


def paper(size: str | None, dark: bool, suffixes: set[str]) -> Look:
    """How pictures look. Raises UsageError where none is written, and for a size that is none."""
    if (size or dark) and not suffixes & set(PICTURES):
        raise _no_picture("--size" if size else "--dark")
    if size:
        from roofline.views import sheet

        sheet.size(size)
    return Look(size=size, dark=dark)


def _no_picture(option: str) -> UsageError:
    return UsageError(f"{option} is about pictures, and none is written\ngive one: -o FILE with {', '.join(PICTURES)}")


def table_files(output: Sequence[Path] | None, what: str) -> list[Path]:
    """Where an answer about several models goes. Raises UsageError for a suffix not in TABLES, OutputError for a place."""
    for path in output or []:
        if path.suffix.lower() not in TABLES:
            raise UsageError(f"-o {path}: {what} is written as {', '.join(TABLES)}")
    return targets(output or [])


def gathered(look: Look, asked: Sequence[Request]) -> Look:
    """With what the picture needs beside the analyses. Raises UsageError for a picture of one device and several given."""
    if look.picture == "memory":
        if len(asked) > 1:
            raise UsageError("--picture memory shows one device, and several were given\ngive one -d")
        from roofline import pipeline

        with foreign(asked[0].ask.model) as report:
            return look._replace(alive=[pipeline.alive(replace(asked[0], progress=report))])
    if look.picture == "batch":
        return look._replace(sweeps=[_sweep(request) for request in asked])
    return look


def _sweep(request: Request) -> list[Analysis]:
    """The same at batches that double, up to the first that does not fit."""
    found: list[Analysis] = []
    for batch in (2**n for n in range(MOST_DOUBLED + 1)):
        a = analysed(replace(request, ask=replace(request.ask, batch=batch)))
        if a.setting.batch != batch:
            raise UsageError(f"--picture batch: the batch of {request.ask.model} is fixed ({a.setting.batch})")
        found.append(a)
        if a.totals.fits is False:
            break
    return found


def publish(analyses: Sequence[Analysis], files: Sequence[Path], view: View, told: Sequence[Told] = ()) -> None:
    """The results on stdout and in `files`: all are rendered before the first is written."""
    from roofline.analysis.explain import hosts
    from roofline.views import files as output

    contents = {
        path: output.render(
            analyses, path, view.by.value, view.depth, view.csv.value, told, look=view.look, columns=view.columns
        )
        for path in files
    }
    if view.json:
        from roofline.views.text import many_to_json

        out(many_to_json(analyses))
    else:
        _tables(analyses, view)
    output.write_all(contents)
    if len(analyses) > 1 and (said := hosts(analyses)):
        note(f"note: {said}")
    for path in contents:
        note(f"wrote {path}")


def _tables(analyses: Sequence[Analysis], view: View) -> None:
    from rich.console import Console

    from roofline.views.table import render

    console = Console(highlight=False)
    for index, analysis in enumerate(analyses):
        with console.capture() as text:
            render(analysis, console, view.by.value, view.depth, view.top, view.columns)
        out(("\n" if index else "") + text.get())


def in_terminal(analyses: Sequence[Analysis]) -> None:
    """The rooflines in plain characters, as wide as the terminal."""
    from shutil import get_terminal_size

    from roofline.views import plot

    for a in analyses:
        out(f"\n{plot.render(a, get_terminal_size((80, 24)).columns)}\n")
