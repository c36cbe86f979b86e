"""`roofline report`: a folder with one page of models on devices, and what it is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline.cli.options import (
    DTYPE,
    ChannelsLast,
    Debug,
    Decode,
    Devices,
    Dtype,
    FoldBn,
    Host,
    LimitOptions,
    NoAdvice,
    NoCache,
    OptimizerOption,
    Prefill,
    Resolution,
    Runtime,
    Training,
    Turns,
)
from roofline.cli.steps import devices_named, foreign
from roofline.cli.terminal import note, out
from roofline.errors import UsageError
from roofline.records import Analysis
from roofline.views import files

if TYPE_CHECKING:
    from roofline.advice.report import Report

SHORT = "A folder with one page of models on devices, to send."
ORDER = 21


def run(  # long: an option each
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False, help="As `analyze` takes them.")],
    *,
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="The folder; what else is in it stays.", show_default=False)
    ],
    device: Devices = None,
    batch: Annotated[
        list[int] | None, typer.Option("-b", "--batch", min=1, metavar="N", help="Batch size. Repeat for several.")
    ] = None,
    dtype: Annotated[
        list[Dtype] | None, typer.Option("--dtype", metavar=DTYPE, help="Precision. Repeat for several.  [default: as built]")
    ] = None,
    runtime: Annotated[
        list[Runtime] | None,
        typer.Option(
            "--runtime", metavar="eager|compiled|ideal", help="How ops become kernels. Repeat for several.  [default: eager]"
        ),
    ] = None,
    host: Host = None,
    resolution: Resolution = None,
    training: Training = False,
    optimizer: OptimizerOption = None,
    prefill: Prefill = None,
    decode: Decode = None,
    turns: Turns = None,
    channels_last: ChannelsLast = False,
    fold_bn: FoldBn = False,
    no_advice: NoAdvice = False,
    no_cache: NoCache = False,
    limits: LimitOptions,
    debug: Debug = False,
) -> None:
    """One offline page of MODELS on devices, with switches for device, batch, dtype and runtime over all that was analysed.

    Writes DIR/index.html, a picture of each model, and DIR/analyses.json. A model that fails is named on the page; the others
    are there, and the exit code says it (3, or 2 for what cannot be asked).

    \b
    roofline report resnet50 mobilenet_v3_large -d rtx-4090 -d raspberry-pi-5 -o report
    roofline report resnet50 -d t4 -d h100-sxm -b 1 -b 32 --dtype fp32 --dtype amp -o report
    """
    limits.apply()
    from roofline.advice import report

    settings: dict[str, list[Any]] = {
        "batch": list(batch or ()),
        "dtype": [d.value for d in dtype or ()],
        "runtime": [r.value for r in runtime or ()],
    }
    _check_once(models, settings)
    page = _target(folder)
    given: dict[str, Any] = {"host": host, "resolution": resolution, "optimizer": optimizer and optimizer.value}
    given |= {"training": training, "prefill": prefill, "decode": decode, "turns": turns}
    given |= {"channels_last": channels_last, "fold_bn": fold_bn}
    given = {name: value for name, value in given.items() if value}
    devices = devices_named(device or ["cpu"])
    wanted = {name: values for name, values in settings.items() if values}
    with foreign(", ".join(models)) as tell:
        found = report.gather(models, devices, wanted, given, advise=not no_advice, cache=not no_cache, progress=tell)
    problem = report.failure(found)
    if not found.told and problem:
        raise problem
    files.make_folder(folder)
    files.write_all(_contents(page, found))
    analyses, named = len(found.analyses), len({a.model.name for a in found.analyses})
    out(f"{page}: {analyses} {'analysis' if analyses == 1 else 'analyses'} of {named} model{'s' * (named > 1)}\n")
    if problem:
        note(f"{len(found.missing)} of {found.asked} are missing, which the page says")
        raise problem


def _check_once(models: Sequence[str], settings: dict[str, list[Any]]) -> None:
    named: dict[str, Sequence[Any]] = {"": models, **{f"--{name} ": values for name, values in settings.items()}}
    for option, values in named.items():
        for value in values:
            if values.count(value) > 1:
                raise UsageError(f"{option}{value}: given twice")


def _target(folder: Path) -> Path:
    """Where the page goes. Raises UsageError where a file of that name is somebody else's, OutputError where none can be."""
    page = folder / "index.html"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: a file, and a report is a folder")
    if page.is_file() and b'name="generator" content="roofline' not in page.read_bytes()[:2000]:
        raise UsageError(f"-o {folder}: its index.html was not written by roofline, and stays\nchoose another folder")
    if folder.is_dir():
        files.writable(page)
    return page


def _contents(page: Path, found: Report) -> dict[Path, bytes]:
    from roofline.views import page as view
    from roofline.views.text import many_to_json

    analyses = found.analyses
    contents = {page: view.render(analyses, found.told, found.missing).encode()}
    for name, group in _by_model(analyses).items():
        path = page.with_name(f"{name}.png")
        contents[path] = files.render(group, path, "layer", 2)
    contents[page.with_name("analyses.json")] = many_to_json(analyses)
    return contents


def _by_model(analyses: Sequence[Analysis]) -> dict[str, list[Analysis]]:
    """The analyses that a picture of each model shows, by a name that a file may have: the first setting, all devices."""
    found: dict[str, list[Analysis]] = {}
    names: dict[str, str] = {}
    for a in analyses:
        name = names.setdefault(f"{a.model.name}\n{a.model.source}", "")
        if not name:
            # a name of a file has so many bytes at most, and letters of some scripts take four each
            name = re.sub(r"[^\w.-]+", "-", a.model.name).strip("-.").encode()[:120].decode(errors="ignore") or "model"
            while name in found:
                name += "-"
            names[f"{a.model.name}\n{a.model.source}"] = name
        group = found.setdefault(name, [])
        if a.device.name not in [x.device.name for x in group]:
            group.append(a)
    return found
