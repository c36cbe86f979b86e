"""`roofline compare`: models side by side, on one device or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofline.cli.options import (
    Dark,
    Debug,
    Devices,
    Json,
    LimitOptions,
    NoCache,
    PassOptions,
    PlaceOptions,
    Resolution,
    SizeOption,
    TableOutput,
    Working,
)
from roofline.cli.steps import counted, devices_named, foreign, paper, table_files
from roofline.cli.terminal import note, out, out_json, painter
from roofline.errors import UsageError
from roofline.records.comparison import Comparison
from roofline.views import files

SHORT = "Models side by side, on one device or several."
ORDER = 3


def run(  # long: an option each
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False, help="As `analyze` takes them.")],
    *,
    device: Devices = None,
    threads: Working = None,
    batch: Annotated[
        list[int] | None, typer.Option("-b", "--batch", min=1, metavar="N", help="Batch size. Repeat for several.")
    ] = None,
    resolution: Resolution = None,
    place: PlaceOptions,
    what: PassOptions,
    own: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE.csv", help="Your own numbers: a column of models, then columns with a name each."),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            "--pareto",
            metavar="A,B",
            help="Mark the models that no other beats in both: time,params or time,accuracy (own column).",
        ),
    ] = None,
    output: TableOutput = None,
    size: SizeOption = None,
    dark: Dark = False,
    json: Json = False,
    no_cache: NoCache = False,
    limits: LimitOptions,
    debug: Debug = False,
) -> None:
    """Models side by side: what each takes on each device, and how that compares with the ratio of their FLOPs and bytes.

    A model that fails costs its own row; the others are shown, and the exit code says it (3, or 2 for what cannot be asked).

    \b
    roofline compare resnet50 mobilenet_v3_large -d rtx-4090 -d raspberry-pi-5
    roofline compare resnet18 resnet50 efficientnet_b0 -d t4 -b 1 -b 32 --pareto time,params
    roofline compare resnet50 mobilenet_v2 -d t4 --with accuracy.csv --pareto time,accuracy -o front.png -o front.html
    """
    limits.apply()
    from roofline.advice import comparison

    if len(set(models)) < len(models):
        raise UsageError(f"{next(m for m in models if models.count(m) > 1)}: given twice")
    if batch and len(set(batch)) < len(batch):
        raise UsageError(f"-b {next(b for b in batch if batch.count(b) > 1)}: given twice")
    paths = table_files(output, "a comparison")
    look = paper(size, dark, {path.suffix.lower() for path in paths})
    table = comparison.table(str(own)) if own else None
    front = comparison.front(pareto, table.columns if table else ()) if pareto else None
    given = {**place.given(), **what.given(), **({"resolution": resolution} if resolution else {})}
    devices = devices_named(counted(device or ["cpu"], threads))
    with foreign(", ".join(models)) as report:
        found = comparison.compare(
            models, devices, batch or [None], given, own=table, pareto=front, cache=not no_cache, progress=report
        )
    _publish(found, paths, json, look)
    if problem := comparison.failure(found):
        raise problem


def _publish(found: Comparison, paths: list[Path], json: bool, look: files.Look) -> None:
    from roofline.views import comparison as view

    # where nothing could be analysed there is nothing to draw
    contents = {path: _content(found, path, look) for path in paths if found.rows or path.suffix.lower() not in files.FRONTS}
    if json:
        out_json(found)
    elif found.rows:
        out(view.render(found, painter()))
    files.write_all(contents)
    for path in contents:
        note(f"wrote {path}")


def _content(found: Comparison, path: Path, look: files.Look) -> bytes:
    from roofline.views import comparison as view
    from roofline.views import scatter
    from roofline.views.text import to_json

    suffix = path.suffix.lower()
    if suffix in files.FRONTS:
        from roofline.views.page import front

        return files.fronted(path, scatter.of_comparison(found), lambda: front.of_comparison(found), look)
    return to_json(found) if suffix == ".json" else (view.to_csv if suffix == ".csv" else view.to_markdown)(found).encode()
