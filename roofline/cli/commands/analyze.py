"""`roofline analyze`: what a model costs and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofline.cli.options import (
    AskOptions,
    Chart,
    Debug,
    Devices,
    LimitOptions,
    Model,
    NoAdvice,
    NoCache,
    PassOptions,
    PlaceOptions,
    ViewOptions,
    Working,
)
from roofline.cli.steps import View, analysed, by_known_times, counted, foreign, gathered, in_terminal, publish, requests
from roofline.errors import CheckFailed, UsageError
from roofline.records import Analysis

if TYPE_CHECKING:
    from roofline.advice.report import Told
    from roofline.request import Request

SHORT = "What a model costs and what bounds it."
ORDER = 1


def run(  # long: an option each
    model: Model,
    *,
    device: Devices = None,
    threads: Working = None,
    place: PlaceOptions,
    ask: AskOptions,
    what: PassOptions,
    view: ViewOptions,
    chart: Chart = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if an op has no FLOP rule, or a kernel lies above a roof.")
    ] = False,
    known: Annotated[
        list[str] | None,
        typer.Option(
            "--known",
            metavar="TIME",
            help="A time measured on the device, of any model: 'resnet50 -b 256 --dtype amp = 58 ms'. It sets the device's "
            "clock, memory and host. Repeat.",
            show_default=False,
        ),
    ] = None,
    no_advice: NoAdvice = False,
    no_cache: NoCache = False,
    limits: LimitOptions,
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
    roofline analyze resnet50 -d rtx-4090 -o batch.png --picture batch --size slide
    roofline analyze resnet50 -d rtx-4090 --json > resnet50.json
    """
    limits.apply()
    from roofline.views import files

    targets = files.targets(view.output or [])
    shown = View.of(view, targets)
    advise = _advised(targets, no_advice)
    names = counted(device or ["cpu"], threads)
    if len(names) > 1 and any(f.suffix.lower() == ".csv" for f in targets):
        raise UsageError("a CSV file holds one device, and several were given\ngive one -d, or write .json")
    given = {**place.given(), **ask.given(), **what.given()}
    if chart and view.json:
        raise UsageError("--chart draws in the terminal, and --json prints one document: leave one of them out")
    asked = requests(model, names, given, cache=not no_cache)
    if known:
        asked = [by_known_times(asked, known)]
    analyses = [analysed(request) for request in asked]
    told = _told(asked, given, analyses) if advise else []
    publish(analyses, targets, shown._replace(look=gathered(shown.look, asked)), told)
    if chart:
        in_terminal(analyses)
    if strict:
        _refuse_unknown(analyses)
        _refuse_impossible(analyses)


def _advised(targets: Sequence[Path], no_advice: bool) -> bool:
    """Whether a page is written that says what would help."""
    pages = any(f.suffix.lower() == ".html" for f in targets)
    if no_advice and not pages:
        raise UsageError("--no-advice is about a page, and none is written: leave it out, or give -o FILE.html")
    return pages and not no_advice


def _told(asked: Sequence[Request], given: Mapping[str, Any], analyses: Sequence[Analysis]) -> list[Told]:
    """The explanation of these analyses, with what would help."""
    from roofline.advice import explanation
    from roofline.advice.report import Told

    devices = [device for request in asked if not isinstance(device := request.place.device, str)]
    with foreign(asked[0].ask.model) as report:
        asker = explanation.Asker(asked[0].ask.model, given, asked[0].cache, report)
        for device, a in zip(devices, analyses, strict=True):
            asker.know(device.name, device, a)
        return [Told(analyses, explanation.explain(asker, devices))]


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
