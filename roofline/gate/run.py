"""Budgets -> verdicts: each model analysed once, beside its base; one that fails costs its own line alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from roofline.analysis import budgets as rules
from roofline.analysis.budgets import Budget
from roofline.analysis.limits import NO_BASE, Base, Verdict
from roofline.errors import RooflineError
from roofline.records import Analysis


def verdicts(
    budgets: Sequence[Budget],
    analyse: Callable[[Budget], Analysis],
    bases: Mapping[tuple[str, str], Base],
    *,
    accepted: str = "",
    failed: Callable[[Exception], None] = lambda error: None,
) -> Iterator[tuple[Verdict, Analysis | None]]:
    """A verdict for each, and the analysis that it is on. `failed` is told of every exception, which is a verdict too.

    `accepted` is why changes beyond their limits are intended.
    """
    for budget in budgets:
        try:
            found = analyse(budget)
            yield _placed(rules.check(budget, found, bases.get(budget.place, NO_BASE), accepted), budget), found
        except Exception as error:  # the boundary between one model and the next
            failed(error)
            yield _placed(rules.unchecked(budget, error), budget), None


_PLACE = re.compile(r"(?P<file>(?:[A-Za-z]:)?[^:\n]+):(?P<line>\d+): ")


def refused(file: str, error: RooflineError) -> Verdict:
    """What stands for a whole file, or for all of them, that cannot be read; on the line that the error names."""
    text, code = rules.told(error)
    at = _PLACE.match(text)
    place, line = (at["file"], int(at["line"])) if at else (file, 0)
    common: dict[str, Any] = dict.fromkeys(("model", "device", "dtype", "runtime", "mode"), "")
    return Verdict(budget=file, batch=0, ok=False, findings=[], error=text, exit_code=code, line=line, file=place, **common)


def _placed(verdict: Verdict, budget: Budget) -> Verdict:
    """With the place of the model's class or function, where that is in a file of Python."""
    model = budget.request.ask.model if budget.request else ""
    file, _, name = model.rpartition(":")
    if verdict.ok or not file.endswith(".py"):
        return verdict
    return replace(verdict, source=file, source_line=_line_of(Path(file), name))


def _line_of(file: Path, name: str) -> int:
    try:
        body = ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError, RecursionError):
        return 1
    for node in body:
        named = [node.name] if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else []
        if isinstance(node, ast.Assign):
            named = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if name in named:
            return node.lineno
    return 1
