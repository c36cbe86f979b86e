"""`roofline sweep`: many models in many settings on many devices, as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roofline import units
from roofline.cli.options import (
    ChannelsLast,
    Debug,
    FoldBn,
    Host,
    Inputs,
    Json,
    NoCache,
    OptimizerOption,
    Settings,
    Training,
    Turns,
    Working,
    limit,
    pairs,
)
from roofline.cli.terminal import note, out_json, progress
from roofline.errors import ModelError, UsageError
from roofline.records.sweep import OK, REFUSED

if TYPE_CHECKING:
    from roofline.sweeps.run import Progress, Report

SHORT = "Many models in many settings on many devices, as a table."
ORDER = 3.5
_LIST = list[str] | None
# Why rows have no numbers, that a summary says.
_REASONS = 20


def run(  # long: an option each
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            show_default=False,
            help="As `analyze` takes them, patterns (timm:mobilenetv3_*), lists (@models.txt), or a grid (grid.toml).",
        ),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            show_default=False,
            help="A file (.parquet, .csv or .jsonl), or a folder of shards.",
        ),
    ],
    device: Annotated[
        _LIST,
        typer.Option(
            "-d",
            "--device",
            metavar="DEVICE",
            show_default=False,
            help="Name, file or pattern (rtx-*); all, gpu or cpu for those of the library; here for this machine. Repeat.  "
            "[default: all]",
        ),
    ] = None,
    batch: Annotated[
        _LIST, typer.Option("-b", "--batch", metavar="N,...", show_default=False, help="Batch sizes: 1,8,32.")
    ] = None,
    resolution: Annotated[
        _LIST, typer.Option("--resolution", metavar="N,...", show_default=False, help="Heights and widths of image inputs.")
    ] = None,
    dtype: Annotated[
        _LIST, typer.Option("--dtype", metavar="NAME,...", show_default=False, help="Precisions: amp,fp32.")
    ] = None,
    runtime: Annotated[
        _LIST,
        typer.Option("--runtime", metavar="NAME,...", show_default=False, help="eager, compiled, ideal.  [default: eager]"),
    ] = None,
    training: Training = False,
    optimizer: OptimizerOption = None,
    channels_last: ChannelsLast = False,
    prefill: Annotated[
        _LIST, typer.Option("--prefill", metavar="N,...", show_default=False, help="Language models reading a prompt.")
    ] = None,
    decode: Annotated[
        _LIST, typer.Option("--decode", metavar="N,...", show_default=False, help="One token more, after N in the KV cache.")
    ] = None,
    turns: Turns = None,
    fold_bn: FoldBn = False,
    inputs: Inputs = None,
    settings: Settings = None,
    host: Host = None,
    threads: Working = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="The I-th of N parts of the models, for array jobs: 3/16.")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option("--dask", metavar="ADDRESS", help="Work on a Dask scheduler (tcp://host:8786), or start one here: local."),
    ] = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Try again what has failed before.")] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, metavar="N", help="Processes; 0: this one, without limits.  [default: cores]"),
    ] = None,
    time_limit: Annotated[str, typer.Option("--time-limit", metavar="TIME", help="That a model may take.")] = "5min",
    memory_limit: Annotated[str, typer.Option("--memory-limit", metavar="SIZE", help="That its process may take.")] = "4GiB",
    retries: Annotated[int, typer.Option("--retries", min=0, help="Of a model whose process was lost.")] = 1,
    json: Json = False,
    no_cache: NoCache = False,
    debug: Debug = False,
) -> None:
    """Every MODEL in every setting on every device: a row for each, into one file or a folder. Each model is traced once.

    What is there already is left as it is: the same command goes on where it was stopped. A model that fails, hangs or takes
    too much costs its own rows, which say why (exit code 3).

    \b
    roofline sweep "timm:mobilenetv3_*" -d gpu -b 1,32 --dtype amp -o zoo.parquet
    roofline sweep @models.txt -d t4 -d "rtx-*" --runtime eager,compiled -o zoo.csv
    roofline sweep "timm:*" -d all --shard 3/16 -o zoo/
    """
    from roofline.isolation.children import cores
    from roofline.sweeps import grid, run
    from roofline.sweeps.pool import Limits

    lists = {"batch": batch, "resolution": resolution, "dtype": dtype, "runtime": runtime, "prefill": prefill, "decode": decode}
    once = {
        "training": training,
        "channels_last": channels_last,
        "fold_bn": fold_bn,
        "turns": turns,
        "optimizer": optimizer and optimizer.value,
        "host": host,
        "threads": threads,
        "inputs": tuple(inputs or ()),
    }
    options = {**{name: grid.words(name, texts) for name, texts in lists.items()}, **once, "settings": pairs(settings or ())}
    found = grid.made(models, device or [], options)
    limits = Limits(limit("--time-limit", time_limit, "s"), int(limit("--memory-limit", memory_limit, "B")), retries)
    part = _part(shard)
    count = cores() if workers is None else workers
    if dask:
        from roofline.sweeps import cluster

        engine = cluster.on(dask, found.devices, limits, count)
    else:
        engine = run.here(found, count, limits)
    with _shown() as show, _going_on(output):
        report = run.sweep(found, output, engine, part=part, retry_errors=retry_errors, cache=not no_cache, progress=show)
    _summary(report)
    if json:
        out_json(report)
    if problem := _failure(report):
        raise problem


def _part(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    number, slash, of = text.partition("/")
    if not slash or not number.isdecimal() or not of.isdecimal() or not 1 <= int(number) <= int(of):
        raise UsageError(f"--shard {text}: expected a part such as 3/16")
    return int(number), int(of)


# ------------------------------------------------------------------------------------------------ what is said meanwhile


@contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """How far it is, on stderr: one line on a terminal, else a line every half minute."""
    with progress() as tell:
        every, last = (0.2, 0.0) if tell else (30, time.monotonic())

        def show(state: Progress) -> None:
            nonlocal last
            if (now := time.monotonic()) - last > every:
                last = now
                (tell or note)(_line(state))

        yield show


@contextmanager
def _going_on(output: Path) -> Iterator[None]:
    """Says how to go on where a person stops it."""
    try:
        yield
    except KeyboardInterrupt:
        from roofline.sweeps.store import Store

        store = Store(output)
        note(
            f"stopped; what was whole is in {store.folder}, and the same command goes on from there"
            if store.files()
            else "stopped before anything was whole; the same command begins anew"
        )
        raise


def _line(state: Progress) -> str:
    rate = state.done_rows / state.spent if state.spent else 0.0
    left = f", {units.seconds(state.left, 2)} left" if state.done_models else ""
    failed = f", {state.failed} failed" if state.failed else ""
    return f"{state.done_models:,} of {state.models:,} models, {state.done_rows:,} rows ({rate:,.0f}/s){left}{failed}"


def _summary(report: Report) -> None:
    if report.apart:
        note(f"{report.apart:,} rows of another version are kept apart (their version is in the name)")
    for why in report.reasons[:_REASONS]:
        devices = f" on {_some(why.devices)}" if why.devices else ""
        note(f"{_some(why.models)}{devices}: {why.status}: {why.error}")
    if (more := len(report.reasons) - _REASONS) > 0:
        note(f"and {more:,} more reasons: roofline query {report.path} --where 'status != ok'")
    if not report.rows:
        note(f"{report.path}: nothing to do: there are more parts than models, and this part has none")
        return
    split = ", ".join(f"{count:,} {status}" for status, count in sorted(report.statuses.items(), key=lambda item: -item[1]))
    note(f"{report.path}: {report.rows:,} rows ({split}); {report.new:,} new, in {units.seconds(report.seconds)}")


def _some(names: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _failure(report: Report) -> Exception | None:
    """What to raise where models failed, or where nothing could be asked."""
    lost = sum(count for status, count in report.statuses.items() if status not in (OK, REFUSED))
    if lost:
        return ModelError(f"{lost:,} of {report.rows:,} rows have no numbers because their model failed; `error` says why")
    if report.rows and not report.statuses.get("ok"):
        return UsageError(
            f"none of {report.rows:,} rows could be asked for; `error` says why: {report.failures[0].error}"
            if report.failures
            else "no row has numbers; `error` says why"
        )
    return None
