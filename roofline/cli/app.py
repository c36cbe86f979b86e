"""The command line: parse, call, print. No arithmetic, no torch; each command imports what it needs when it runs.

Exit codes: 0 done, 1 a budget or --strict failed, 2 wrong usage or bad input, 3 the model itself failed, 70 a fault of
this program, 130 Ctrl-C, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline.cli.conversion import quicken, refuse_repeats
from roofline.cli.lists import cache_app, list_devices, list_models
from roofline.cli.measured import calibrate_command, crosscheck_command, measure_command, validate_command
from roofline.cli.options import (
    DTYPE,
    Batch,
    ByOption,
    Debug,
    Decode,
    Depth,
    Devices,
    Dtype,
    DtypeOption,
    Host,
    Inputs,
    Json,
    Model,
    NoCache,
    OneDevice,
    OptimizerOption,
    Prefill,
    Resolution,
    Runtime,
    RuntimeOption,
    Settings,
    Top,
    Training,
)
from roofline.cli.steps import View, analyze_on, devices_named, pairs, publish
from roofline.cli.terminal import guard, out, out_json, painter
from roofline.errors import CheckFailed, UnknownNameError, UsageError
from roofline.records import Analysis

if TYPE_CHECKING:
    from roofline.analysis.budgets import Budget, Verdict

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
        from roofline.version import __version__

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
    host: Host = None,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    dtype: DtypeOption = Dtype.fp32,
    runtime: RuntimeOption = Runtime.eager,
    training: Training = False,
    optimizer: OptimizerOption = None,
    prefill: Prefill = None,
    decode: Decode = None,
    by: ByOption = None,
    depth: Depth = None,
    top: Top = None,
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
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if an op has no FLOP rule, or a kernel lies above a roof.")
    ] = False,
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
    from roofline.views import files

    targets = files.targets(output or [])
    view = View.of(targets, json, by, depth, top)
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
        "optimizer": optimizer and optimizer.value,
        "prefill": prefill,
        "decode": decode,
        "settings": pairs(settings or []),
        "cache": not no_cache,
    }
    analyses = [analyze_on(model, d, **request) for d in devices_named(names, host, runtime.value)]
    publish(analyses, targets, view)
    if strict:
        _refuse_unknown(analyses)
        _refuse_impossible(analyses)


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

    A model that fails costs its own line, and the others are checked. The exit code is then the
    gravest: 3 where a model failed, else 2 where one could not be asked for, else 1 or 0.

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
    from roofline.analysis import budgets
    from roofline.views import listing

    if json and github:
        raise UsageError("--github prints annotations beside the table, and --json one document: leave one of them out")
    path = budgets.budget_file(file)
    found = [_checked(budget, not no_cache, debug) for budget in budgets.load_budgets(path)]
    ok = all(v.ok for v in found)
    if json:
        out_json({"ok": ok, "budgets": found})
    else:
        out(listing.verdicts(found, painter()))
        if github or os.environ.get("GITHUB_ACTIONS") == "true":
            out(listing.github(found, str(path)))
    if not ok:
        raise budgets.failure(found, str(path))


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
    host: Host = None,
    batch: Batch = None,
    inputs: Inputs = None,
    resolution: Resolution = None,
    dtype: Annotated[Dtype | None, typer.Option("--dtype", metavar=DTYPE, help="Precision.", show_default=False)] = None,
    runtime: Annotated[
        Runtime | None, typer.Option("--runtime", metavar="eager|compiled|ideal", help="How ops become kernels.")
    ] = None,
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
    from roofline.analysis import diff as compare
    from roofline.cli.again import setting_of
    from roofline.views import listing

    conditions = [compare.condition(text) for text in fail_on or []]
    saved = {side: _one(Path(side)) for side in (base, head) if _is_saved(side)}
    given = {
        "device": device,
        "host": host,
        "batch": batch,
        "inputs": tuple(inputs or ()) or None,
        "resolution": resolution,
        "dtype": dtype.value if dtype else None,
        "runtime": runtime.value if runtime else None,
        "training": training or None,
        "settings": pairs(settings or []) or None,
    }
    if len(saved) == len({base, head}) and (unused := [name for name, value in given.items() if value is not None]):
        raise UsageError(f"both sides are saved analyses: {', '.join(unused)} cannot be set any more")
    setting = {key: value for key, value in given.items() if value is not None}
    for analysis in saved.values():
        of = setting_of(analysis)
        if training:  # asked for here: a saved pass of a language model is another one
            of = {key: value for key, value in of.items() if key not in ("prefill", "decode")}
        setting = {**of, **setting}
    # the device of a saved analysis is found again by its name: it has to be the same one
    named = [] if device else [(side, analysis) for side, analysis in saved.items()]
    sides = [saved.get(side) or _in_setting(side, setting, not no_cache, named) for side in (base, head)]

    found = compare.diff(*sides)
    failures = compare.failed(found, conditions)
    if json:
        out_json({"base": base, "head": head, "failed": failures, "diff": found})
    else:
        out(listing.diff(found, painter()))
    if failures:
        raise CheckFailed("\n".join(failures))


app.command("devices", short_help="The GPUs and CPUs that can be given to -d.")(list_devices)
app.command("models")(list_models)
app.command("crosscheck", short_help="Our counts beside fvcore's, torch's and published ones.")(crosscheck_command)
app.command("calibrate", short_help="Measure this machine, so that -d cpu rests on it.")(calibrate_command)
app.command("measure", short_help="Run a model here: measured beside predicted, kernel by kernel.")(measure_command)
app.command("validate", short_help="Predictions beside a table of measured times.")(validate_command)
app.add_typer(cache_app, name="cache")


# ------------------------------------------------------------------------------------------------ steps of the commands


def _budgeted(budget: Budget, cache: bool) -> Analysis:
    if budget.analysis:
        return _one(Path(budget.analysis))
    (device,) = devices_named([budget.device], budget.host, budget.runtime)
    return analyze_on(
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


def _checked(budget: Budget, cache: bool, debug: bool) -> Verdict:
    """One budget; a model that fails is a verdict too, or it would hide those of all others."""
    from roofline.analysis import budgets

    try:
        return budgets.check(budget, _budgeted(budget, cache))
    except Exception as error:  # the boundary between one model and the next
        if debug:
            traceback.print_exc()
        return budgets.unchecked(budget, error)


def _is_saved(side: str) -> bool:
    return side.lower().endswith(".json") and not side.startswith("hf:")


def _one(path: Path) -> Analysis:
    from roofline.analysis.diff import read_analyses

    found = read_analyses(path)
    if len(found) > 1:
        devices = ", ".join(a.setting.device for a in found)
        raise UsageError(f"{path}: holds {len(found)} analyses ({devices}), and one is needed\nwrite one for each device")
    return found[0]


def _in_setting(model: str, setting: dict[str, Any], cache: bool, named: Sequence[tuple[str, Analysis]] = ()) -> Analysis:
    """A model as it was asked for; `named`: the saved analyses whose device it is to be compared on."""
    from roofline.cli.again import check_device

    rest = {key: value for key, value in setting.items() if key not in ("device", "host")}
    try:
        (device,) = devices_named([setting.get("device", "cpu")], setting.get("host"), setting.get("runtime", "eager"))
    except UnknownNameError as error:
        if not named:
            raise
        raise UsageError(f"{named[0][0]}: its device is not known here: {error}\ngive its file with -d FILE.toml") from error
    for side, analysis in named:
        check_device(analysis, side, device)
    return analyze_on(model, device, **rest, cache=cache)


def _refuse_unknown(analyses: Sequence[Analysis]) -> None:
    unknown = {u.op: u for a in analyses for u in a.coverage.unknown_ops}
    if unknown:
        places = {op: ", ".join(name or "the model itself" for name in u.layers[:2]) for op, u in unknown.items()}
        ops = ", ".join(f"{op} ({u.count} in {places[op]})" for op, u in unknown.items())
        raise CheckFailed(f"--strict: no FLOP rule for {ops}\nregister one with roofline.register_flops: see docs/add-an-op.md")


def _refuse_impossible(analyses: Sequence[Analysis]) -> None:
    from roofline.analysis import physics

    notes = [note for a in analyses for note in physics.broken(a.notes)]
    if notes:
        raise CheckFailed(
            f"--strict: {notes[0]}\n"
            "look at the rules that were registered, the device file and the constants: one of them is beyond what is possible"
        )


# ------------------------------------------------------------------------------------------------ entry


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program on `argv` (default: the process's own) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return guard(lambda: _run(args or ["--help"]), debug="--debug" in args)


def _run(args: list[str]) -> int:
    """Typer's own main() without its handling of errors, which would print them in another form."""
    command = typer.main.get_command(app)
    quicken(command)
    refuse_repeats(command)
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
