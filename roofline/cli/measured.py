"""Commands that stand beside other numbers, measured or counted: crosscheck, calibrate, measure, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofline.cli.options import (
    DTYPE,
    Batch,
    ByOption,
    Debug,
    Depth,
    Dtype,
    DtypeOption,
    Force,
    Here,
    Hold,
    Host,
    Inputs,
    Json,
    Layout,
    Model,
    NoCache,
    Resolution,
    Runtime,
    Settings,
    Threads,
    Top,
)
from roofline.cli.steps import View, devices_named, foreign, pairs, publish, quiet
from roofline.cli.terminal import note, out, out_json, painter, progress
from roofline.errors import UsageError
from roofline.request import Ask, Pass, Place, Request


def crosscheck_command(
    model: Model,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="N", help="At most N layers.  [default: 20]", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the layers where all agree.")] = False,
    settings: Settings = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Multiply-accumulates of every layer as we, fvcore and torch's FlopCounterMode count them, and the numbers in print.

    The model runs here once, on random weights. fvcore counts one FLOP for a multiply-accumulate.

    \b
    roofline crosscheck mobilenet_v3_large
    roofline crosscheck torchvision:vit_b_16 --all
    roofline crosscheck timm:sequencer2d_s --json
    """
    from roofline.views import counts

    if json and (top is not None or everything):
        raise UsageError(f"{'--all' if everything else '--top'} is about the table, and --json has every layer: leave one out")
    with foreign(model) as report:
        from roofline.validation.crosscheck import crosscheck as compare

        ask = Ask(model, tuple(inputs or ()), batch, resolution, pairs(settings or []))
        found = compare(Request(ask, progress=report or quiet))
    if json:
        out_json(found)
    else:
        out(counts.render(found, painter(), top or 20, everything))


def calibrate_command(
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
    threads: Threads = None,
    hold: Hold = False,
    force: Force = False,
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
    from roofline.bench import calibrate_cpu
    from roofline.devices import writer
    from roofline.views import files, listing

    if output is not None and output.suffix.lower() != ".toml":
        raise UsageError(f"-o {output}: a device file ends in .toml")
    _only_cpu(device, threads, hold)
    if device is Here.gpu and output is None:
        raise UsageError("-d gpu: name the file to write, as in -o gpu.toml")
    path = output or calibrate_cpu.default_file()
    if output is None:
        files.make_folder(path.parent)
    files.writable(path)
    with progress() as report:
        if device is Here.gpu:
            from roofline.bench.calibrate_gpu import calibrate as calibrate_gpu

            found = calibrate_gpu(force=force, progress=report or quiet)
        else:
            found = calibrate_cpu.calibrate(threads=threads, hold=hold, force=force, progress=report or quiet)
    text = writer.write(found.device)
    files.write_all({path: text.encode()})
    if json:
        out_json(found)
    else:
        out(listing.calibration(found, painter()))
    note(f"wrote {path}")


def measure_command(
    model: Model,
    device: Annotated[Here, typer.Option("-d", "--device", help="Where to run it.")] = Here.cpu,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    dtype: DtypeOption = Dtype.fp32,
    by: ByOption = None,
    depth: Depth = None,
    top: Top = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, metavar="S", help="How long to run it, about; longer on a busy machine.")
    ] = 6.0,
    threads: Threads = None,
    hold: Hold = False,
    force: Force = False,
    json: Json = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Also write a file, as in analyze. Repeat for several.", show_default=False
        ),
    ] = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Run MODEL on this machine with random weights and put measured beside predicted: per layer, op or kernel.

    The prediction is that of `analyze -d cpu`, best after `roofline calibrate`. Eager inference; the time of each kernel
    is net of what timing costs, so that the kernels add up to a run without it.

    \b
    roofline measure mobilenet_v3_large
    roofline measure resnet50 -b 8 --by op -o resnet50.png
    roofline measure net.py:Net --input 1,3,64,64 --json
    """
    from roofline.views import files

    targets = files.targets(output or [])
    view = View.of(targets, json, by, depth, top)
    _only_cpu(device, threads, hold)
    with foreign(model) as report:
        from roofline.bench.measure import measure

        ask = Ask(model, tuple(inputs or ()), batch, resolution, pairs(settings or []))
        request = Request(ask, Pass(dtype.value), Place(device.value), progress=report or quiet)
        found = measure(request, threads=threads, seconds=seconds, hold=hold, force=force)
    publish([found], targets, view)


def _only_cpu(device: Here, threads: int | None, hold: bool) -> None:
    for option, given in (("--threads", threads is not None), ("--hold", hold)):
        if given and device is Here.gpu:
            raise UsageError(f"{option} is about the threads of a CPU, and -d gpu runs on the GPU: leave it out")


def validate_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE...", show_default=False, help="CSV of measured times: one of timm's, or any with --column."
        ),
    ],
    device: Annotated[
        list[str],
        typer.Option("-d", "--device", metavar="DEVICE", help="Measured on. Repeat, one for each table.", show_default=False),
    ],
    host: Host = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option("--dtype", metavar=DTYPE, help="Measured in.  [default: by file name]", show_default=False),
    ] = None,
    layout: Annotated[
        Layout | None, typer.Option("--layout", help="nhwc: channels last.  [default: by file name]", show_default=False)
    ] = None,
    runtime: Annotated[
        Runtime | None, typer.Option("--runtime", help="[default: by file name; dynamo is compiled]", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="OURS=THEIRS",
            help="Name of a column: model, size, batch, params, and s, ms or us. Repeat.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="A sample of N rows.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of the sample.  [default: 0]", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Processes.  [default: cores, at most 4]", show_default=False),
    ] = None,
    own: Annotated[
        bool, typer.Option("--own-models", help="Rows may name code of your own (net.py:Net), which is then run.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Scatter plot: .png, .svg or .pdf.", show_default=False),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(
            "--fit", metavar="FILE", help="Fit the model's constants to all the tables into a TOML file.", show_default=False
        ),
    ] = None,
    constants: Annotated[
        Path | None,
        typer.Option("--constants", metavar="FILE", help="Use these instead of the shipped ones.", show_default=False),
    ] = None,
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
    """
    from roofline.cli import validated
    from roofline.devices.library import with_host

    devices = with_host([devices_named([d])[0] for d in device], host, runtime.value if runtime else "eager")
    validated.command(
        paths, devices, dtype=dtype and dtype.value, layout=layout and layout.value,
        runtime=runtime and runtime.value, columns=pairs(column or (), "--column", "model=name"),
        limit=limit, seed=seed, jobs=jobs, plot=plot, fit=fit,
        own=own, constants=constants, json=json, cache=not no_cache,
    )  # fmt: skip
