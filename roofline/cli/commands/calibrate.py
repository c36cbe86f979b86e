"""`roofline calibrate`: this machine measured into a device file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofline.cli.options import Debug, Here, HereOptions, Json
from roofline.cli.steps import quiet
from roofline.cli.tables import TableOptions
from roofline.cli.terminal import note, out, out_json, painter, progress
from roofline.errors import UsageError

SHORT = "Measure this machine, so that -d cpu rests on it."
ORDER = 9


def run(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Device file to write.  [default: the one that -d cpu reads]",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "-d", "--device", metavar="cpu|gpu|DEVICE", help="What to measure; gpu needs -o FILE. With --from, any device."
        ),
    ] = "cpu",
    times: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="TABLE",
            help="Measure nothing: set the device by the known times of a CSV (model, batch, dtype, ms), one to ten of them.",
            show_default=False,
        ),
    ] = None,
    table: TableOptions,
    here: HereOptions,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure what this machine reaches: arithmetic by dtype, memory by level, overheads, threads. Under 20 seconds.

    Writes a device file with the measured numbers and, beside them, those that were detected or published. From then
    on -d cpu uses it; with -o FILE, -d FILE does. A machine that is too busy is refused.

    \b
    roofline calibrate
    roofline calibrate -o desktop.toml --threads 4
    roofline calibrate -d gpu -o gpu.toml
    roofline calibrate --from times.csv -d rtx-4090 -o mine.toml
    roofline devices cpu                  what was measured, beside what was detected
    """
    if output is not None and output.suffix.lower() != ".toml":
        raise UsageError(f"-o {output}: a device file ends in .toml")
    if times is not None:
        _by_times(times, device, output, table, here, json)
        return
    if table.given():
        raise UsageError("--dtype, --layout, --runtime, --column and --own-models are about a table of times: give --from")
    _measured(_here(device), output, here, json)


def _here(device: str) -> Here:
    """Raises UsageError for what is not this machine."""
    if device not in tuple(Here):
        raise UsageError(
            f"-d {device}: calibrate measures this machine, cpu or gpu\n"
            "known times set any device: give them with --from TABLE and -o FILE"
        )
    return Here(device)


def _by_times(times: Path, name: str, output: Path | None, table: TableOptions, here: HereOptions, json: bool) -> None:
    """The device set by the known times of a table."""
    from msgspec.structs import replace

    from roofline.cli.steps import devices_named
    from roofline.cli.validated import reading
    from roofline.devices import writer
    from roofline.validation import known, known_times
    from roofline.views import files, listing

    if here.given():
        raise UsageError("--threads, --hold and --force are about measuring, and --from measures nothing: leave them out")
    if output is None:
        raise UsageError("--from: name the device file to write, as in -o mine.toml")
    files.writable(output)
    (device,) = devices_named([name])
    questions = known_times.table(times, reading(table))
    with progress() as report:
        found = known.fit(known_times.timed(questions, device, progress=report or quiet), device)
    text = writer.write(replace(found.device, name=output.stem, aliases=()))
    files.write_all({output: text.encode()})
    if json:
        out_json(found)
    else:
        out(listing.known(found, painter()))
    note(f"wrote {output}: use it with -d {output}")


def _measured(device: Here, output: Path | None, here: HereOptions, json: bool) -> None:
    """This machine, measured."""
    from roofline.bench import calibrate_cpu, calibration
    from roofline.devices import writer
    from roofline.views import files, listing

    here.only_cpu(device)
    if device is Here.gpu and output is None:
        raise UsageError("-d gpu: name the file to write, as in -o gpu.toml")
    path = output or calibration.default_file()
    if output is None:
        files.make_folder(path.parent)
    files.writable(path)
    with progress() as report:
        if device is Here.gpu:
            from roofline.bench.calibrate_gpu import calibrate as calibrate_gpu

            found = calibrate_gpu(force=here.force, progress=report or quiet)
        else:
            found = calibrate_cpu.calibrate(threads=here.threads, hold=here.hold, force=here.force, progress=report or quiet)
    text = writer.write(found.device)
    files.write_all({path: text.encode()})
    if json:
        out_json(found)
    else:
        out(listing.calibration(found, painter()))
    note(f"wrote {path}")
