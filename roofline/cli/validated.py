"""`roofline validate`: tables of measured times beside predictions, or a fit of the constants to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from roofline.cli.options import pairs
from roofline.cli.steps import paper
from roofline.cli.tables import FileOptions, SampleOptions, TableOptions
from roofline.cli.terminal import note, out, out_json, progress
from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.timemodel import constants
from roofline.validation import model_tables, operator_tables, validate
from roofline.validation.model_tables import Reading
from roofline.views import files, validation


class Measured(NamedTuple):
    """A table and a device it was measured on; `called`: how those rows name it that were, none for all of them."""

    path: Path
    device: Device
    called: frozenset[str] | None = None


def paired(paths: Sequence[Path], devices: Sequence[Device], more: FileOptions) -> list[Measured]:
    """The tables with their devices: as given, or as their rows say. Raises UsageError."""
    if not devices:
        if more.fit is not None or more.leave_out:
            raise UsageError("--fit and --leave-out take a table of each device: give -d once for each table in their order")
        return [Measured(path, *found) for path in paths for found in model_tables.devices(path)]
    if len(devices) not in (1, len(paths)):
        raise UsageError(f"{len(paths)} tables and {len(devices)} devices: give -d once, or once for each table in their order")
    every = [*devices] * (len(paths) if len(devices) == 1 else 1)
    return [Measured(path, device) for path, device in zip(paths, every, strict=True)]


def command(
    tables: Sequence[Measured],
    table: TableOptions,
    sample: SampleOptions,
    more: FileOptions,
    *,
    json: bool,
    cache: bool,
) -> None:
    """What the command line asks for."""
    fit, plot, limit, seed, jobs = more.fit, more.plot, sample.limit, sample.seed, sample.jobs
    how = reading(table, limit, seed or 0)
    if seed is not None and limit is None and fit is None:
        raise UsageError("--seed draws a sample, and without --limit all rows are taken: give --limit, or leave --seed out")
    if jobs is not None and fit is not None:
        raise UsageError("--jobs is for predicting, and --fit works in one process: leave one of them out")
    look = paper(None, more.dark, {plot.suffix.lower()} if plot else set())
    both = [(one.path, one.device) for one in tables]
    if more.leave_out:
        _left_out(both, how, more, sample, json=json, cache=cache)
        return
    if more.uncertainty is not None:
        raise UsageError("--uncertainty is told by devices that are left out: give --leave-out too")
    _check_files(plot, fit, len(tables), json)
    if plot is not None:
        _check_one_way(tables[0], how)
    numbers = constants.asked() if more.constants is None else constants.read(more.constants)
    with progress() as show:
        if fit is not None:
            from roofline.validation import fit as fitting

            text = fitting.fit(both, show or note, how, start=numbers, cache=cache)
            files.write_all({fit: text.encode()})
            note(f"wrote {fit}: use it with --constants {fit}")
            return
        results = []
        for path, target, called in tables:
            single = operator_tables.recognise(path)
            if single is not None:
                _check_operators(path, how, jobs)
                results.append(
                    operator_tables.run(path.name, single, target, limit=how.limit, seed=how.seed, constants=numbers)
                )
            else:
                results += validate.run(
                    path, target, replace(how, called=called), cache=cache, jobs=jobs, progress=show, constants=numbers
                )
    if plot is not None:
        chart = validation.scatter(results[0][0], results[0][1], plot, dark=look.dark)
        files.write_all({plot: chart})
    if json:
        found = [v for v, _ in results]
        out_json(found[0] if len(found) == 1 else {"validations": found})
    else:
        out("\n".join(validation.text(v) for v, _ in results))


def _left_out(
    both: Sequence[tuple[Path, Device]], how: Reading, more: FileOptions, sample: SampleOptions, *, json: bool, cache: bool
) -> None:
    """Each device left out in turn."""
    from roofline.validation import leave_out, spread
    from roofline.views import leave_out as view

    for option, given in (("--fit", more.fit), ("--constants", more.constants), ("--jobs", sample.jobs)):
        if given is not None:
            raise UsageError(f"{option} beside --leave-out: that fits its own constants, in one process; leave one of them out")
    if more.plot is not None:
        if more.plot.suffix.lower() not in view.FORMATS:
            raise UsageError(f"-o {more.plot}: the report of --leave-out ends in {', '.join(view.FORMATS)}")
        files.writable(more.plot)
    if more.uncertainty is not None:
        if more.uncertainty.suffix.lower() != ".toml":
            raise UsageError(f"--uncertainty {more.uncertainty}: standard deviations are written to a .toml file")
        files.writable(more.uncertainty)
    with progress() as show:
        report, tables = leave_out.run(both, show or note, how, cache=cache)
    if more.uncertainty is not None:
        files.write_all({more.uncertainty: spread.text(spread.doubts(tables)).encode()})
        note(f"wrote {more.uncertainty}")
    if more.plot is not None:
        files.write_all({more.plot: view.render(report, more.plot)})
        note(f"wrote {more.plot}")
    if json:
        out_json(report)
    else:
        out(view.text(report))


def reading(table: TableOptions, limit: int | None = None, seed: int = 0) -> Reading:
    """How the tables are read."""
    return Reading(
        dtype=table.dtype and table.dtype.value,
        layout=table.layout and table.layout.value,
        runtime=table.runtime and table.runtime.value,
        training=table.training or None,
        columns=pairs(table.column or (), "--column", "model=name"),
        own=table.own,
        limit=limit,
        seed=seed,
    )


def _check_one_way(first: Measured, how: Reading) -> None:
    """Raises UsageError where the rows that are to be drawn were measured in several."""
    if operator_tables.recognise(first.path) is not None:
        return
    ways = model_tables.parts(first.path, replace(how, called=first.called))
    if len(ways) > 1:
        named = "; ".join(part.table.name for part in ways)
        raise UsageError(
            f"-o draws rows that were measured in one way, and there are {len(ways)} ({named}): give a table of each"
        )


def _check_files(plot: Path | None, fit: Path | None, tables: int, json: bool) -> None:
    """What is to be written, before time is spent on it."""
    if fit is not None and (json or plot is not None):
        raise UsageError("--fit writes constants and compares nothing: leave --json and -o to a run with --constants")
    if fit is not None and fit.suffix.lower() != ".toml":
        raise UsageError(f"--fit {fit}: constants are written to a .toml file")
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"-o {plot}: a plot ends in .png, .svg or .pdf")
    if plot is not None and tables != 1:
        raise UsageError("-o draws one table: give one")
    for file in (plot, fit):
        if file is not None:
            files.writable(file)


def _check_operators(path: Path, how: Reading, jobs: int | None) -> None:
    """A table of operators says itself what was run."""
    fixed = {"dtype": "fp32", "layout": "nchw", "runtime": "eager"}
    for name, value in fixed.items():
        if (given := getattr(how, name)) not in (None, value):
            raise UsageError(f"{path.name} is a table of single operators, in {value}: --{name} {given} cannot be")
    if jobs is not None:
        raise UsageError(f"{path.name} is a table of single operators, predicted in no time: leave --jobs out")
    if how.columns:
        raise UsageError(f"{path.name} is a table of single operators, known by its columns: leave --column out")
