"""What limits on a change are held against: the same models at another revision, or a committed baseline."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from roofline.analysis.budgets import Budget
from roofline.analysis.limits import Base
from roofline.analysis.metrics import numbers
from roofline.errors import RooflineError, UsageError
from roofline.gate import baseline
from roofline.gate.revisions import Revision, checked_out, last_change, renamed, told
from roofline.records import Analysis
from roofline.request import Request

# By the place of a budget.
Bases = dict[tuple[str, str], Base]
# Each request's analysis, or what was raised instead, in their order.
Analyse = Callable[[Sequence[Request]], Iterable[Analysis | Exception]]


def of_analysis(analysis: Analysis, where: str) -> Base:
    return Base(numbers=numbers(analysis), analysis=analysis, where=where)


def at_revision(which: Revision, budgets: Sequence[Budget], analyse: Analyse) -> Bases:
    """By the place of a budget: its model as it was, in the same setting, by this program. One that was not there has none."""
    asked = {b.place: _whole(b.request) for b in budgets if b.request is not None}
    found: Bases = {b.place: Base(why=f"a saved analysis is the same at {which.title}") for b in budgets if b.request is None}
    if not asked:
        return found
    with checked_out(which) as place:
        there: dict[tuple[str, str], Request] = {}
        for key, request in asked.items():
            try:
                there[key] = moved(request, which)
            except NotThereError as error:
                found[key] = Base(why=str(error))
        for key, answer in zip(there, analyse(list(there.values())), strict=True):
            if isinstance(answer, Analysis):
                was = there[key].ask.model.partition(":")[0]
                here = _inside(asked[key].ask.model, which).partition(":")[0]
                found[key] = of_analysis(answer, which.title if was == here else f"{which.title}, where it was {was}")
            elif isinstance(answer, RooflineError):
                found[key] = Base(why=f"no base: at {which.title}: {' '.join(told(answer, place, which).split())[:200]}")
            else:
                raise answer
    return found


class NotThereError(UsageError):
    """The revision does not have the model's file."""


def _whole(request: Request) -> Request:
    """The request with the whole paths of its files, which mean the same in another working directory."""

    def whole(text: str) -> str:
        file, colon, rest = text.partition(":")
        return f"{os.path.abspath(file)}{colon}{rest}" if os.path.isfile(file) else text

    device = request.place.device
    place = replace(request.place, device=whole(device)) if isinstance(device, str) else request.place
    return replace(request, ask=replace(request.ask, model=whole(request.ask.model)), place=place)


def moved(request: Request, which: Revision) -> Request:
    """The request for the revision that the working directory is of now. A file that has moved since is where it was.

    Raises NotThereError.
    """
    model = _inside(request.ask.model, which)
    file = model.partition(":")[0]
    if file.endswith((".py", ".onnx", ".pt2")):
        if Path(file).is_absolute():
            raise NotThereError(f"{file} is not in the repository, so it is the same at {which.title}")
        if not Path(file).is_file():
            was = renamed(Path(os.path.normpath(os.path.join(which.inside, file))).as_posix(), which)
            if not was:
                raise NotThereError(f"{file} is not in {which.title}")
            model = f"{os.path.relpath(was, which.inside)}{model.removeprefix(file)}"
    device = request.place.device
    place = replace(request.place, device=_inside(device, which)) if isinstance(device, str) else request.place
    return replace(request, ask=replace(request.ask, model=model), place=place)


def _inside(text: str, which: Revision) -> str:
    """A path into the checkout as one into the worktree."""
    file, colon, rest = text.partition(":")
    if not Path(file).is_absolute():
        return text
    try:
        way = Path(os.path.realpath(file)).relative_to(os.path.realpath(which.root))
    except ValueError:
        return text
    return f"{os.path.relpath(way, which.inside)}{colon}{rest}"


# ------------------------------------------------------------------------------------------------ baselines


def of_baseline(file: Path, budgets: Sequence[Budget], analyse: Analyse) -> tuple[Bases, str]:
    """By the place of a budget what a baseline file has of it, and a note where that was analysed again.

    Numbers that another program or another torch made are compared with nothing: the models are analysed as they were in the
    commit of the file. Raises UsageError where there is none.
    """
    known = baseline.read(file)
    if known is None:
        return {}, ""
    stale = known.stale(budgets)
    if not stale:
        return {b.place: _kept(known, b, file) for b in budgets}, ""
    then = last_change(file)
    if then is None:
        raise UsageError(
            f"{file}: {stale}, so its numbers cannot be compared\nmake it again (roofline check --update), or commit it, "
            "so that its models can be analysed again as they were"
        )
    ours = [b for b in budgets if b.key in known.budgets]
    found = at_revision(then, ours, analyse)
    note = f"{file.name}: {stale}; its models were analysed again as they were in {then.commit[:7]}"
    return {b.place: found.get(b.place, _kept(known, b, file)) for b in budgets}, note


def _kept(known: baseline.Baseline, budget: Budget, file: Path) -> Base:
    entry = known.budgets.get(budget.key)
    if entry is None:
        return Base(why=f"not in {file.name} yet: `roofline check --update` enters it")
    return Base(numbers=entry.totals, parts=entry.by_metric(), where=file.name)


def needed(budgets: Iterable[Budget]) -> list[Budget]:
    """Those with a limit on a change."""
    return [b for b in budgets if b.relative]
