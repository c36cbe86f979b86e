"""`roofline check`: models held to their budgets."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roofline.analysis.metrics import by_limit
from roofline.cli.options import Debug, Json, LimitOptions, NoCache, OneDevice, PassOptions, PlaceOptions
from roofline.cli.saved import one
from roofline.cli.steps import analysed
from roofline.cli.terminal import out, out_json, painter
from roofline.errors import UsageError

if TYPE_CHECKING:
    from roofline.analysis.budgets import Budget, Verdict

SHORT = "Hold models to their budgets; exit 1 if one is broken."
ORDER = 4
# what is worse where there is more of it, and then the rest
LISTS = {"limits": lambda: sorted(by_limit(), key=lambda key: not by_limit()[key].cost)}


def run(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", show_default=False, help="Budget file.  [default: roofline.toml, else pyproject.toml]"),
    ] = None,
    *,
    device: OneDevice = None,
    place: PlaceOptions,
    what: PassOptions,
    json: Json = False,
    github: Annotated[
        bool, typer.Option("--github", help="Also print broken limits as GitHub annotations (on by itself in GitHub Actions).")
    ] = False,
    no_cache: NoCache = False,
    limits: LimitOptions,
    debug: Debug = False,
) -> None:
    """Hold models to their budgets: exit 0 if every limit is kept, 1 if one is broken.

    A model that fails costs its own line, and the others are checked. The exit code is then the
    gravest: 3 where a model failed, else 2 where one could not be asked for, else 1 or 0.

    FILE is TOML, one [[budget]] for each model and setting ([[tool.roofline.budget]] in pyproject.toml):

    \b
    [[budget]]
    model = "mobilenet_v3_large"     # or analysis = "saved.json"
    device = "rtx-4090"              # host, batch, inputs, resolution, dtype, runtime, training,
    batch = 32                       # optimizer, prefill, decode, set = { width_mult = 0.5 }
    max_macs = "7 G"
    max_params = "5.5 M"
    max_time = "5 ms"
    max_peak_memory = "500 MiB"

    An option stands for what a budget does not say itself.

    \b
    Limits: {limits}. A limit on FLOPs or time is broken where an op has no FLOP rule, unless allow_unknown = true.
    """
    limits.apply()
    from roofline.analysis import budgets
    from roofline.views import listing

    if json and github:
        raise UsageError("--github prints annotations beside the table, and --json one document: leave one of them out")
    path = budgets.budget_file(file)
    given = {**({"device": device} if device else {}), **place.given(), **what.given()}
    found = [_checked(budget, debug) for budget in budgets.load_budgets(path, given, cache=not no_cache)]
    ok = all(v.ok for v in found)
    if json:
        out_json({"ok": ok, "budgets": found})
    else:
        out(listing.verdicts(found, painter()))
        if github or os.environ.get("GITHUB_ACTIONS") == "true":
            out(listing.github(found, str(path)))
    if not ok:
        raise budgets.failure(found, str(path))


def _checked(budget: Budget, debug: bool) -> Verdict:
    """One budget; a model that fails is a verdict too, or it would hide those of all others."""
    from roofline.analysis import budgets

    try:
        found = analysed(budget.request) if budget.request else one(Path(budget.analysis))
        return budgets.check(budget, found)
    except Exception as error:  # the boundary between one model and the next
        if debug:
            traceback.print_exc()
        return budgets.unchecked(budget, error)
