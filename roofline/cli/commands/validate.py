"""`roofline validate`: predictions beside a table of measured times."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofline.cli.options import Debug, Host, Json, NoCache
from roofline.cli.steps import devices_named
from roofline.cli.tables import FileOptions, SampleOptions, TableOptions

SHORT = "Predictions beside a table of measured times."
ORDER = 11


def run(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE...", show_default=False, help="CSV of measured times: one of timm's, or any with --column."
        ),
    ],
    *,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "-d",
            "--device",
            metavar="DEVICE",
            help="Measured on. Repeat, one for each table.  [default: the rows' column device]",
            show_default=False,
        ),
    ] = None,
    host: Host = None,
    table: TableOptions,
    sample: SampleOptions,
    more: FileOptions,
    json: Json = False,
    no_cache: NoCache = False,
    debug: Debug = False,
) -> None:
    """Predict every row of a table and compare: errors, rank correlation, worst rows, impossible measurements.

    Single operators (columns Cin and Cout, or op with B, M, N, K or B, H) are predicted one by one.

    \b
    roofline validate benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv -d rtx-3090 --limit 200
    roofline validate times.csv -d t4 --column model=name --column ms=latency --dtype fp32
    roofline validate a.csv b.csv -d rtx-3090 -d rtx-4090 --fit mine.toml
    roofline validate a.csv b.csv -d rtx-3090 -d rtx-4090 --leave-out -o report.md
    """
    from roofline.cli import validated
    from roofline.devices.library import with_host

    pairs = validated.paired(paths, [devices_named([d])[0] for d in device or ()], more)
    devices = with_host([one.device for one in pairs], host, table.runtime.value if table.runtime else "eager")
    pairs = [one._replace(device=d) for one, d in zip(pairs, devices, strict=True)]
    validated.command(pairs, table, sample, more, json=json, cache=not no_cache)
