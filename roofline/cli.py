"""The command line: parse, call, print. No arithmetic, no torch; each command imports what it needs when it runs.

Exit codes: 0 done, 1 a budget or --strict failed, 2 wrong usage or bad input, 3 the model itself failed, 70 a fault of
this program, 130 Ctrl-C, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline.conversion import quicken
from roofline.options import (
    Batch,
    By,
    Debug,
    Decode,
    Devices,
    Dtype,
    DtypeOption,
    Force,
    Here,
    Hold,
    Inputs,
    Json,
    Kind,
    Layout,
    Model,
    NoCache,
    OneDevice,
    Optimizer,
    OptimizerOption,
    Prefill,
    Resolution,
    Runtime,
    RuntimeOption,
    Settings,
    Threads,
    Training,
)
from roofline.records import Analysis, CheckFailed, ModelError, UnknownNameError, UsageError
from roofline.terminal import guard, note, out, out_json, painter, progress

if TYPE_CHECKING:
    from roofline.device import Device
    from roofline.gate import Budget

# ------------------------------------------------------------------------------------------------ commands

app = typer.Typer(
    name="roofline",
    add_completion=False,
    # plain help: it starts at once and reads the same in a pipe
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from roofline import __version__

        print(f"roofline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What a PyTorch model costs, op by op, and how fast it can be on a given GPU or CPU, without running it.

    \b
    roofline analyze mobilenet_v3_large                  on this machine's CPU
    roofline analyze resnet50 -d rtx-4090 -d t4 -b 32    on two GPUs that need not be here
    roofline analyze net.py:Net --input 1,3,64,64 -o net.html

    \b
    Exit codes: 0 done, 1 a budget or --strict failed, 2 wrong usage or bad input,
    3 the model itself failed. `roofline COMMAND --help` has more examples.
    """


@app.command(short_help="What a model costs and what bounds it.")
def analyze(
    model: Model,
    device: Devices = None,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    dtype: DtypeOption = Dtype.fp32,
    runtime: RuntimeOption = Runtime.eager,
    training: Training = False,
    optimizer: OptimizerOption = Optimizer.adam,
    prefill: Prefill = None,
    decode: Decode = None,
    by: Annotated[By, typer.Option("--by", help="Rows of the table.")] = By.layer,
    depth: Annotated[int, typer.Option("--depth", min=0, metavar="N", help="Deepest level of layers in the table.")] = 2,
    top: Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="Only the N rows with the most time.")] = None,
    json: Json = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Also write a file: .json, .csv, .md, .png, .svg, .pdf or .html. Repeat for several.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if an op has no FLOP rule.")] = False,
    settings: Settings = None,
    no_cache: NoCache = False,
    debug: Debug = False,
) -> None:
    """What MODEL costs and what bounds it: parameters, FLOPs, traffic, predicted time, per layer, op or kernel.

    \b
    roofline analyze mobilenet_v3_large
    roofline analyze resnet50 -d rtx-4090 -b 32 --dtype amp --by kernel --top 20
    roofline analyze mobilenet_v1 --set width_mult=0.5 --resolution 160
    roofline analyze net.py:Net --input x=1,3,64,64 --input ids=1,128:int64
    roofline analyze vgg16 -d t4 -o vgg16.html -o vgg16.png
    roofline analyze resnet50 -d rtx-4090 --training -b 64 --dtype amp
    roofline analyze hf:LlamaForCausalLM -d h100-sxm --dtype bf16 --decode 8192
    roofline analyze resnet50 -d rtx-4090 --json > resnet50.json
    """
    from roofline import output as files

    targets = files.targets(output or [])
    names = device or ["cpu"]
    if len(names) > 1 and any(f.suffix.lower() == ".csv" for f in targets):
        raise UsageError("a CSV file holds one device, and several were given\ngive one -d, or write .json")
    request = {
        "batch": batch,
        "inputs": tuple(inputs or ()),
        "resolution": resolution,
        "dtype": dtype.value,
        "runtime": runtime.value,
        "training": training,
        "optimizer": optimizer.value,
        "prefill": prefill,
        "decode": decode,
        "settings": _pairs(settings or []),
        "cache": not no_cache,
    }
    analyses = [_analyze(model, d, **request) for d in _devices(names)]

    contents = {path: files.render(analyses, path, by.value, depth) for path in targets}
    if json:
        from roofline.views.text import many_to_json

        out(many_to_json(analyses))
    else:
        _tables(analyses, by, depth, top)
    files.write_all(contents)
    for path in contents:
        note(f"wrote {path}")
    if strict:
        _refuse_unknown(analyses)


@app.command(short_help="Hold models to their budgets; exit 1 if one is broken.")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", show_default=False, help="Budget file.  [default: roofline.toml, else pyproject.toml]"),
    ] = None,
    json: Json = False,
    github: Annotated[
        bool, typer.Option("--github", help="Also print broken limits as GitHub annotations (on by itself in GitHub Actions).")
    ] = False,
    no_cache: NoCache = False,
    debug: Debug = False,
) -> None:
    """Hold models to their budgets: exit 0 if every limit is kept, 1 if one is broken.

    FILE is TOML, one [[budget]] for each model and setting ([[tool.roofline.budget]] in pyproject.toml):

    \b
    [[budget]]
    model = "mobilenet_v3_large"     # or analysis = "saved.json"
    device = "rtx-4090"              # batch, dtype, runtime, resolution, inputs,
    batch = 32                       # training, set = { width_mult = 0.5 }
    max_macs = "7 G"
    max_params = "5.5 M"
    max_time = "5 ms"
    max_peak_memory = "500 MiB"

    \b
    Limits: max_params, max_macs, max_flops, max_bytes, max_weight_bytes, max_kernels,
    max_time, max_peak_memory, min_intensity, min_throughput. A limit on FLOPs or time is
    broken where an op has no FLOP rule, unless allow_unknown = true.
    """
    from roofline import gate
    from roofline.views import listing

    path = gate.budget_file(file)
    found = [gate.check(budget, _budgeted(budget, not no_cache)) for budget in gate.load_budgets(path)]
    ok = all(v.ok for v in found)
    if json:
        out_json({"ok": ok, "budgets": found})
    else:
        out(listing.verdicts(found, painter()))
        if github or os.environ.get("GITHUB_ACTIONS") == "true":
            out(listing.github(found, str(path)))
    if not ok:
        broken = [f"{v.budget} ({f.key})" for v in found for f in v.findings if not f.ok]
        raise CheckFailed(f"{path}: broken: {', '.join(broken)}")


@app.command(short_help="What changed between two analyses or models.")
def diff(
    base: Annotated[str, typer.Argument(metavar="BASE", show_default=False, help="A saved analysis (.json) or a model.")],
    head: Annotated[str, typer.Argument(metavar="HEAD", show_default=False, help="A saved analysis (.json) or a model.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="CHANGE",
            help="Exit 1 on such a change: 'time>5%', 'params>0', 'throughput<-5%'. Repeat.",
            show_default=False,
        ),
    ] = None,
    device: OneDevice = None,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    dtype: Annotated[Dtype | None, typer.Option("--dtype", help="Precision.", show_default=False)] = None,
    runtime: Annotated[Runtime | None, typer.Option("--runtime", metavar="eager|ideal", help="How ops become kernels.")] = None,
    training: Training = False,
    settings: Settings = None,
    json: Json = False,
    no_cache: NoCache = False,
    debug: Debug = False,
) -> None:
    """What changed from BASE to HEAD: totals and layers.

    A model is analysed in the setting of the options; beside a saved analysis, in the setting that was saved there
    where no option says otherwise.

    \b
    roofline diff main.json branch.json --fail-on 'time>5%' --fail-on 'params>0'
    roofline diff main.json net.py:Net
    roofline diff mobilenet_v2 mobilenet_v3_large -d t4 -b 8

    \b
    Metrics: params, macs, flops, bytes, weight_bytes, intensity, kernels, time, throughput,
    peak_memory. Amounts: percent of BASE (5%), or an amount (0, 10 MiB, 2 ms).
    """
    from roofline import diff as compare
    from roofline.views import listing

    conditions = [compare.condition(text) for text in fail_on or []]
    saved = {side: _one(Path(side)) for side in (base, head) if _is_saved(side)}
    given = {
        "device": device,
        "batch": batch,
        "inputs": tuple(inputs or ()) or None,
        "resolution": resolution,
        "dtype": dtype.value if dtype else None,
        "runtime": runtime.value if runtime else None,
        "training": training or None,
        "settings": _pairs(settings or []) or None,
    }
    if len(saved) == len({base, head}) and (unused := [name for name, value in given.items() if value is not None]):
        raise UsageError(f"both sides are saved analyses: {', '.join(unused)} cannot be set any more")
    setting = {key: value for key, value in given.items() if value is not None}
    for analysis in saved.values():
        setting = {**_setting_of(analysis), **setting}
    sides = [saved.get(side) or _in_setting(side, setting, not no_cache) for side in (base, head)]

    found = compare.diff(*sides)
    failures = compare.failed(found, conditions)
    if json:
        out_json({"base": base, "head": head, "failed": failures, "diff": found})
    else:
        out(listing.diff(found, painter()))
    if failures:
        raise CheckFailed("\n".join(failures))


@app.command("devices", short_help="The GPUs and CPUs that can be given to -d.")
def list_devices(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", show_default=False, help="A device to show in full, or a part of names to list."),
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only GPUs or only CPUs.", show_default=False)] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The devices that can be given to -d: dense peaks, memory levels, overheads, each number with its source.

    \b
    roofline devices                 all of them
    roofline devices rtx-4090        one in full
    roofline devices a100 --json     every one with a100 in its name
    roofline devices cpu             this machine
    roofline devices my-board.toml   a file of your own (checked as it is read)
    """
    from roofline.device import library
    from roofline.views import listing

    one = False
    if name is None:
        found = library()
    else:
        found, one = _matching(name)
    found = [d for d in found if kind is None or d.kind == kind.value]
    if not found:
        raise UnknownNameError(f"no {kind.value if kind else 'device'} found" + (f" for {name!r}" if name else ""))
    if json:
        out_json(found[0] if one else {"devices": found})
    else:
        out(listing.device(found[0], painter()) if one else listing.devices(found, painter()))


@app.command("models")
def list_models(
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", show_default=False, help="Words to look for in names, sources and descriptions."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The models that can be given by name: the reference models, and with QUERY those of torchvision and timm too.

    \b
    roofline models
    roofline models mobilenet
    roofline models timm: convnext
    """
    from roofline.source import catalogue
    from roofline.views import listing

    everything = catalogue(zoos=query is not None)
    words = (query or "").lower().split()
    found = [m for m in everything if all(word in " ".join(m.values()).lower() for word in words)]
    if not found:
        raise UnknownNameError(f"no model matches {query!r}{_nearest(query or '', [m['name'] for m in everything])}")
    if json:
        out_json({"models": found})
    else:
        out(listing.models(found, painter()))


@app.command(short_help="Our counts beside fvcore's, torch's and published ones.")
def crosscheck(
    model: Model,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="At most N layers.")] = 20,
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

    with progress() as report, redirect_stdout(sys.stderr):
        from roofline.crosscheck import crosscheck as compare

        found = compare(
            model,
            inputs=tuple(inputs or ()),
            batch=batch,
            resolution=resolution,
            settings=_pairs(settings or []),
            progress=report or _quiet,
        )
    if json:
        out_json(found)
    else:
        out(counts.render(found, painter(), top, everything))


@app.command("calibrate", short_help="Measure this machine, so that -d cpu rests on it.")
def calibrate_command(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Device file to write.  [default: the one that -d cpu reads]",
                     show_default=False),
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
    from roofline import calibrate, device_toml
    from roofline import output as files
    from roofline.views import listing

    if output is not None and output.suffix.lower() != ".toml":
        raise UsageError(f"-o {output}: a device file ends in .toml")
    if device is Here.gpu and output is None:
        raise UsageError("-d gpu: name the file to write, as in -o gpu.toml")
    path = output or calibrate.default_file()
    if output is None:
        files.make_folder(path.parent)
    files.writable(path)
    with progress() as report:
        if device is Here.gpu:
            from roofline.calibrate_gpu import calibrate as calibrate_gpu

            found = calibrate_gpu(force=force, progress=report or _quiet)
        else:
            found = calibrate.calibrate(threads=threads, hold=hold, force=force, progress=report or _quiet)
    text = device_toml.write(found.device)
    files.write_all({path: text.encode()})
    if json:
        out_json(found)
    else:
        out(listing.calibration(found, painter()))
    note(f"wrote {path}")


@app.command("measure", short_help="Run a model here: measured beside predicted, kernel by kernel.")
def measure_command(
    model: Model,
    device: Annotated[Here, typer.Option("-d", "--device", help="Where to run it.")] = Here.cpu,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    dtype: DtypeOption = Dtype.fp32,
    by: Annotated[By, typer.Option("--by", help="Rows of the table.")] = By.layer,
    depth: Annotated[int, typer.Option("--depth", min=0, metavar="N", help="Deepest level of layers in the table.")] = 2,
    top: Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="Only the N rows with the most time.")] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, metavar="S", help="How long to run it, about; longer on a busy machine.")
    ] = 6.0,
    threads: Threads = None,
    hold: Hold = False,
    force: Force = False,
    json: Json = False,
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", metavar="FILE", help="Also write a file, as in analyze. Repeat for several.",
                     show_default=False),
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
    from roofline import output as files

    targets = files.targets(output or [])
    with progress() as report, redirect_stdout(sys.stderr):
        from roofline.measure import measure

        try:
            found = measure(
                model, device=device.value, batch=batch, inputs=tuple(inputs or ()), resolution=resolution, dtype=dtype.value,
                settings=_pairs(settings or []), threads=threads, seconds=seconds, hold=hold, force=force,
                progress=report or _quiet,
            )  # fmt: skip
        except SystemExit as e:
            raise ModelError(f"{model}: its code ended the program (sys.exit({e.code!r}))") from e
    contents = {path: files.render([found], path, by.value, depth) for path in targets}
    if json:
        from roofline.views.text import many_to_json

        out(many_to_json([found]))
    else:
        _tables([found], by, depth, top)
    files.write_all(contents)
    for path in contents:
        note(f"wrote {path}")


cache_app = typer.Typer(help="Traces and analyses kept on disk: info, clear.", rich_markup_mode=None)
app.add_typer(cache_app, name="cache")


@cache_app.command("info")
def cache_info(debug: Debug = False) -> None:
    """Where the cache is and what it holds. $ROOFLINE_CACHE_DIR names another place."""
    from roofline.cache import Cache
    from roofline.views import listing

    out(listing.cache(Cache().info()))


@cache_app.command("clear")
def cache_clear(debug: Debug = False) -> None:
    """Remove every entry."""
    from roofline.cache import Cache
    from roofline.units import binary
    from roofline.views.listing import entries

    cache = Cache()
    files, nbytes = cache.clear()
    out(f"removed {entries(files)} ({binary(nbytes)}) from {cache.root}\n")


@app.command("validate", short_help="Predictions beside a table of measured times.")
def validate_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="TABLE...", show_default=False, help="CSV of measured times: one of timm's, or any with --column."),
    ],
    device: Annotated[
        list[str],
        typer.Option("-d", "--device", metavar="DEVICE", help="Measured on. Repeat, one for each table.", show_default=False),
    ],
    dtype: Annotated[Dtype | None, typer.Option("--dtype", help="Measured in.  [default: by file name]", show_default=False)] = None,
    layout: Annotated[
        Layout | None, typer.Option("--layout", help="nhwc: channels last.  [default: by file name]", show_default=False)
    ] = None,
    runtime: Annotated[
        Runtime | None, typer.Option("--runtime", help="[default: by file name; dynamo is compiled]", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="OURS=THEIRS", show_default=False,
                     help="Name of a column: model, size, batch, params, and s, ms or us. Repeat."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="A sample of N rows.", show_default=False)] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, metavar="N", help="Processes.  [default: cores, at most 4]",
                                             show_default=False)] = None,
    plot: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Scatter plot: .png, .svg or .pdf.", show_default=False)
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option("--fit", metavar="FILE", show_default=False, help="Fit the model's constants to all the tables into a TOML file."),
    ] = None,
    constants: Annotated[
        Path | None, typer.Option("--constants", metavar="FILE", help="Use these instead of the shipped ones.", show_default=False)
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
    from roofline import validate

    validate.command(
        paths, [_devices([d])[0] for d in device], dtype=dtype and dtype.value, layout=layout and layout.value,
        runtime=runtime and runtime.value, columns=_pairs(column or ()), limit=limit, seed=seed, jobs=jobs, plot=plot, fit=fit,
        constants=constants, json=json, cache=not no_cache,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ steps of the commands


def _quiet(text: str) -> None:
    """Progress that nobody sees."""


def _devices(names: Iterable[str]) -> list[Device]:
    from roofline.device import lookup

    found: dict[str, Device] = {}
    for name in names:
        device = lookup(name)
        if device.name in found:
            raise UsageError(f"-d {name}: given twice ({device.name})")
        found[device.name] = device
    return list(found.values())


def _matching(name: str) -> tuple[list[Device], bool]:
    """The device of that name (and True), else those with `name` in their name or title."""
    from roofline.device import library, lookup

    try:
        return [lookup(name)], True
    except UnknownNameError:
        plain = _squeeze(name)
        found = [d for d in library() if plain and any(plain in _squeeze(text) for text in (d.name, d.title, *d.aliases))]
        if not found:
            raise
        return found, False


def _squeeze(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    """--set width_mult=0.5 -> {"width_mult": "0.5"}; the source gives the values their types."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {text!r}: expected ARG=VALUE, such as --set width_mult=0.5")
        if name.strip() in found:
            raise UsageError(f"--set {name.strip()}: given twice")
        found[name.strip()] = value.strip()
    return found


def _analyze(model: str, device: Device, **request: Any) -> Analysis:
    import roofline

    # what the model's own code prints must not get into our output
    with progress() as report, redirect_stdout(sys.stderr):
        try:
            return roofline.analyze(model, device=device, progress=report, **request)
        except SystemExit as e:
            raise ModelError(f"{model}: its code ended the program (sys.exit({e.code!r}))") from e


def _budgeted(budget: Budget, cache: bool) -> Analysis:
    if budget.analysis:
        return _one(Path(budget.analysis))
    (device,) = _devices([budget.device])
    return _analyze(
        budget.model,
        device,
        batch=budget.batch,
        inputs=budget.inputs,
        resolution=budget.resolution,
        dtype=budget.dtype,
        runtime=budget.runtime,
        training=budget.training,
        settings=budget.settings,
        cache=cache,
    )


def _is_saved(side: str) -> bool:
    return side.lower().endswith(".json") and not side.startswith("hf:")


def _one(path: Path) -> Analysis:
    from roofline.diff import read_analyses

    found = read_analyses(path)
    if len(found) > 1:
        devices = ", ".join(a.setting.device for a in found)
        raise UsageError(f"{path}: holds {len(found)} analyses ({devices}), and one is needed\nwrite one for each device")
    return found[0]


def _setting_of(analysis: Analysis) -> dict[str, Any]:
    s = analysis.setting
    training = s.mode == "training"
    return {"device": s.device, "batch": s.batch, "dtype": s.dtype, "runtime": s.runtime, "training": training}


def _in_setting(model: str, setting: dict[str, Any], cache: bool) -> Analysis:
    rest = {key: value for key, value in setting.items() if key != "device"}
    (device,) = _devices([setting.get("device", "cpu")])
    return _analyze(model, device, **rest, cache=cache)


def _refuse_unknown(analyses: Sequence[Analysis]) -> None:
    unknown = {u.op: u for a in analyses for u in a.coverage.unknown_ops}
    if unknown:
        places = {op: ", ".join(name or "the model itself" for name in u.layers[:2]) for op, u in unknown.items()}
        ops = ", ".join(f"{op} ({u.count} in {places[op]})" for op, u in unknown.items())
        raise CheckFailed(f"--strict: no FLOP rule for {ops}\nregister one with roofline.register_flops: see docs/add-an-op.md")


def _tables(analyses: Sequence[Analysis], by: By, depth: int, top: int | None) -> None:
    from rich.console import Console

    from roofline.views.table import render

    console = Console(highlight=False)
    for index, analysis in enumerate(analyses):
        with console.capture() as text:
            render(analysis, console, by.value, depth, top)
        out(("\n" if index else "") + text.get())


def _nearest(name: str, known: Sequence[str]) -> str:
    from roofline.metrics import nearest

    return nearest(name, known) + "\n`roofline models` lists them all"


# ------------------------------------------------------------------------------------------------ entry


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program on `argv` (default: the process's own) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return guard(lambda: _run(args or ["--help"]), debug="--debug" in args)


def _run(args: list[str]) -> int:
    """Typer's own main() without its handling of errors, which would print them in another form."""
    command = typer.main.get_command(app)
    quicken(command)
    try:
        with command.make_context("roofline", args) as context:
            command.invoke(context)
    except typer.Exit as e:
        return e.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _CLICK_ERROR as e:
        raise UsageError(_usage(e)) from e
    return 0


# typer exports one of click's errors (or of its own copy of click's); all of them descend from the same class
_CLICK_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _usage(error: Any) -> str:
    """What was wrong with the command line, and where help is."""
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{message}\ntry: {context.command_path if context else 'roofline'} --help"


if __name__ == "__main__":
    sys.exit(main())
