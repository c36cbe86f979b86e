"""`roofline calibrate`: this machine measured into a device file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofline.cli.options import Debug, Here, HereOptions, Json
from roofline.cli.steps import quiet
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
    device: Annotated[Here, typer.Option("-d", "--device", help="What to measure; gpu needs -o FILE.")] = Here.cpu,
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
    roofline devices cpu                  what was measured, beside what was detected
    """
    from roofline.bench import calibrate_cpu, calibration
    from roofline.devices import writer
    from roofline.views import files, listing

    if output is not None and output.suffix.lower() != ".toml":
        raise UsageError(f"-o {output}: a device file ends in .toml")
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
