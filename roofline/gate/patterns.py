"""`timm:mobilenetv3_*` and `models/*.py:Net` -> the models that are called so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path

from msgspec.structs import replace

from roofline.analysis.budgets import Budget
from roofline.errors import BudgetFileError, nearest
from roofline.sources import kinds
from roofline.sources.python import declared

# More are meant by nobody, and would take an hour.
_MOST = 200


def expanded(budgets: Iterable[Budget]) -> list[Budget]:
    """The budgets, one of a pattern for each model that it means. Raises BudgetFileError for one of none, or too many."""
    return [one for budget in budgets for one in _of(budget)]


def told_apart(budgets: Sequence[Budget]) -> list[Budget]:
    """No two called alike on a device: by the settings that not all of a name have ("gpt, prefill=128"), and by the folders of
    their files, as far as these differ ("vision: net")."""
    found = []
    for one, alike in zip(budgets, _alike(budgets, within=True), strict=True):
        said = [set(_settings(other)) for other in alike]
        own = [setting for setting in _settings(one) if not all(setting in each for each in said)]
        found.append(replace(one, name=", ".join([one.label, *own])) if own else one)
    folders = [Path(one.file).parent for one in found]
    top = os.path.commonpath([os.path.abspath(folder) for folder in folders]) if folders else ""
    return [
        replace(one, name=f"{Path(os.path.relpath(folder, top)).as_posix()}: {one.label}")
        if len({other.file for other in alike}) > 1
        else one
        for one, folder, alike in zip(found, folders, _alike(found, within=False), strict=True)
    ]


def _alike(budgets: Sequence[Budget], *, within: bool) -> list[list[Budget]]:
    """For each those of its name and device, `within` its file."""
    known: dict[tuple[str, ...], list[Budget]] = {}
    keys = [(one.label, str(one.request and one.request.place.device), one.file if within else "") for one in budgets]
    for key, one in zip(keys, budgets, strict=True):
        known.setdefault(key, []).append(one)
    return [known[key] for key in keys]


def _settings(budget: Budget) -> list[str]:
    return budget.key.partition(" on ")[2].split(", ")


def _of(budget: Budget) -> Iterator[Budget]:
    model = budget.request.ask.model if budget.request else ""
    if not set(model) & {"*", "?"}:
        yield budget
        return
    assert budget.request is not None
    file, _, attribute = model.rpartition(":")
    if file.endswith(".py"):
        found = sorted(glob(file, recursive=True))
        # `net*.py:*` are the models that the files declare
        names = [
            f"{path}:{name}"
            for path in found
            for name in (declared(Path(path)) if set(attribute) & {"*", "?"} else [attribute])
            if fnmatchcase(name, attribute)
        ]
    else:
        names = sorted({name for name in _known(model) if fnmatchcase(name, model)})
    written, _, setting = budget.key.partition(" on ")
    if not names or len(names) > _MOST:
        near = nearest(model.replace("*", ""), _known(model)) if not names and not file.endswith(".py") else ""
        what = f"is the name of {len(names)} models, and {_MOST} are the most" if names else "is the name of no model"
        raise BudgetFileError(f"{budget.file}:{budget.line}: {written} {what}{near}")
    for name in names:
        ask = replace(budget.request.ask, model=name)
        # a file is called as the pattern was, from the budget file
        said = name[len(model) - len(written) :] if model.endswith(written) else name
        yield replace(
            budget, request=replace(budget.request, ask=ask), name=said, key=f"{said} on {setting}" if setting else said
        )


def _known(pattern: str) -> list[str]:
    """Names of models, with their prefix where the pattern has one."""
    prefix, colon, _ = pattern.rpartition(":")
    if colon:
        return [row["name"] for kind in kinds.KINDS if kind.prefix == prefix for row in kind.catalogue()]
    return [name for kind in kinds.KINDS for name in kind.names()]
