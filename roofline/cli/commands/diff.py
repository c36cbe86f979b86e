"""`roofline diff`: what changed between two analyses or models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import replace

from roofline.analysis.metrics import BY_NAME
from roofline.cli.options import AskOptions, Debug, Json, LimitOptions, NoCache, OneDevice, PassOptions, PlaceOptions
from roofline.cli.saved import check_device, given_of, one
from roofline.cli.steps import analysed, requests
from roofline.cli.terminal import note, out, out_json, painter
from roofline.errors import CheckFailed, RooflineError, UnknownNameError, UsageError
from roofline.records import Analysis
from roofline.request import Ask, over

if TYPE_CHECKING:
    from roofline.analysis.diff import Diff

SHORT = "What changed between two analyses or models."
ORDER = 5
LISTS = {"metrics": lambda: BY_NAME}


def run(  # long: the help of the command
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            show_default=False,
            help="A saved analysis (.json) or a model; or revisions of git: main...HEAD.",
        ),
    ],
    head: Annotated[
        str,
        typer.Argument(metavar="HEAD", show_default=False, help="A saved analysis (.json) or a model; that of both revisions."),
    ],
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
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--output", metavar="FILE", show_default=False, help="Also write a file: .md, .json, .html. Repeat."
        ),
    ] = None,
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
    roofline diff main...HEAD net.py:Net -d t4   from the merge base; main... to the files here
    roofline diff HEAD net.py:Net -d t4          from that revision to the files here

    \b
    Metrics: {metrics}. Amounts: percent of BASE (5%), or an amount (0, 10 MiB, 2 ms).
    """
    limits.apply()
    from roofline.analysis import diff as compare
    from roofline.gate import revisions
    from roofline.views import checked, diffs, files
    from roofline.views.text import to_json

    conditions = [compare.condition(text) for text in fail_on or []]
    targets = _targets(output or ())
    given = {**({"device": device} if device else {}), **place.given(), **ask.given(), **what.given()}
    if revisions.is_range(base):
        sides = _of_revisions(base, head, given, not no_cache)
    elif not _is_model(base) and revisions.is_revision(base):
        note(f"{base} is a revision: it is compared with the files as they are here, as {base}.. would be")
        sides = _of_revisions(f"{base}..", head, given, not no_cache)
    else:
        sides = _of_sides(base, head, given, not no_cache)

    found = compare.diff(*sides)
    failures = compare.failed(found, conditions)
    document = {"base": base, "head": head, "failed": failures, "diff": found}
    if json:
        out_json(document)
    else:
        out(checked.diff(found, painter()))
    texts = {
        ".md": lambda: diffs.markdown(found, failures).encode(),
        ".json": lambda: to_json(document),
        ".html": lambda: _page(found, sides, failures),
    }
    files.write_all({path: texts[path.suffix.lower()]() for path in targets})
    for path in targets:
        note(f"wrote {path}")
    if failures:
        raise CheckFailed("\n".join(failures))


def _page(found: Diff, sides: Sequence[Analysis], failures: Sequence[str]) -> bytes:
    from roofline.views.page import changes

    return changes.render(found, sides[0], sides[1], failures).encode()


def _targets(paths: Sequence[Path]) -> list[Path]:
    for path in paths:
        if path.suffix.lower() not in (".md", ".json", ".html"):
            raise UsageError(f"-o {path}: a difference is written as .md, .json or .html")
    return list(paths)


def _of_sides(base: str, head: str, given: Mapping[str, Any], cache: bool) -> list[Analysis]:
    saved = {side: one(Path(side)) for side in (base, head) if _is_saved(side)}
    if len(saved) == len({base, head}) and given:
        raise UsageError(f"both sides are saved analyses: {', '.join(given)} cannot be set any more")
    said = given
    for analysis in saved.values():
        given = over(given_of(analysis), given)
    # the device of a saved analysis is found again by its name: it has to be the same one
    named = [] if "device" in said else [(side, analysis) for side, analysis in saved.items()]
    return [saved.get(side) or _as_given(side, given, cache, named) for side in (base, head)]


def _of_revisions(text: str, model: str, given: Mapping[str, Any], cache: bool) -> list[Analysis]:
    """One model as it was and is, each in a worktree of its own, by this program and torch."""
    from roofline.analysis.limits import of_code
    from roofline.gate import revisions
    from roofline.gate.bases import moved

    if _is_saved(model):
        raise UsageError(f"{model}: a saved analysis is of one revision; beside {text} stands a model, such as net.py:Net")
    sides = []
    pair = revisions.pair(text)
    if pair[1] is not None and pair[1].name == "HEAD" and revisions.dirty():
        note(f"the checkout has changes that are not in HEAD; {text.removesuffix('HEAD')} compares the checkout itself")
    for which in pair:
        if which is None:
            sides.append(_as_given(model, given, cache))
            continue
        with revisions.checked_out(which) as place:
            (request,) = requests(model, [given.get("device", "cpu")], given, cache=cache)
            request = moved(request, which)
            try:
                found = analysed(request)
            except RooflineError as error:
                raise of_code(error.exit_code, f"at {which.title}: {revisions.told(error, place, which)}") from error
            sides.append(replace(found, model=replace(found.model, name=f"{found.model.name} at {which.title}")))
    return sides


def _is_model(side: str) -> bool:
    """Whether the text means a model; one that is a branch too is the model."""
    from roofline.sources.resolve import resolve

    try:
        resolve(Ask(side))
    except RooflineError:
        return False
    return True


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
