"""`roofline diff`: what changed between two analyses or models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from roofline.analysis.metrics import BY_NAME
from roofline.cli.options import AskOptions, Debug, Json, LimitOptions, NoCache, OneDevice, PassOptions, PlaceOptions
from roofline.cli.saved import check_device, given_of, one
from roofline.cli.steps import analysed, requests
from roofline.cli.terminal import out, out_json, painter
from roofline.errors import CheckFailed, UnknownNameError, UsageError
from roofline.records import Analysis
from roofline.request import over

SHORT = "What changed between two analyses or models."
ORDER = 5
LISTS = {"metrics": lambda: BY_NAME}


def run(  # long: an option each
    base: Annotated[str, typer.Argument(metavar="BASE", show_default=False, help="A saved analysis (.json) or a model.")],
    head: Annotated[str, typer.Argument(metavar="HEAD", show_default=False, help="A saved analysis (.json) or a model.")],
    *,
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
    place: PlaceOptions,
    ask: AskOptions,
    what: PassOptions,
    json: Json = False,
    no_cache: NoCache = False,
    limits: LimitOptions,
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
    Metrics: {metrics}. Amounts: percent of BASE (5%), or an amount (0, 10 MiB, 2 ms).
    """
    limits.apply()
    from roofline.analysis import diff as compare
    from roofline.views import listing

    conditions = [compare.condition(text) for text in fail_on or []]
    saved = {side: one(Path(side)) for side in (base, head) if _is_saved(side)}
    given = {**({"device": device} if device else {}), **place.given(), **ask.given(), **what.given()}
    if len(saved) == len({base, head}) and given:
        raise UsageError(f"both sides are saved analyses: {', '.join(given)} cannot be set any more")
    for analysis in saved.values():
        given = over(given_of(analysis), given)
    # the device of a saved analysis is found again by its name: it has to be the same one
    named = [] if device else [(side, analysis) for side, analysis in saved.items()]
    sides = [saved.get(side) or _as_given(side, given, not no_cache, named) for side in (base, head)]

    found = compare.diff(*sides)
    failures = compare.failed(found, conditions)
    if json:
        out_json({"base": base, "head": head, "failed": failures, "diff": found})
    else:
        out(listing.diff(found, painter()))
    if failures:
        raise CheckFailed("\n".join(failures))


def _is_saved(side: str) -> bool:
    return side.lower().endswith(".json") and not side.startswith("hf:")


def _as_given(model: str, given: Mapping[str, Any], cache: bool, named: Sequence[tuple[str, Analysis]] = ()) -> Analysis:
    """A model as it was asked for; `named`: the saved analyses whose device it is to be compared on."""
    from roofline.pipeline import target_of

    try:
        (request,) = requests(model, [given.get("device", "cpu")], given, cache=cache)
    except UnknownNameError as error:
        if not named:
            raise
        raise UsageError(f"{named[0][0]}: its device is not known here: {error}\ngive its file with -d FILE.toml") from error
    for side, analysis in named:
        check_device(analysis, side, target_of(request.place))
    return analysed(request)
