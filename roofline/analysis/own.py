"""Numbers of the caller's own beside those of models, and what is best by two or more of either."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from roofline import files
from roofline.analysis import metrics
from roofline.errors import UsageError, nearest


class Front(NamedTuple):
    """Two (or more) numbers of which a model should be best in one: metrics, or columns of the caller's table."""

    names: tuple[str, ...]
    # of each: whether less of it is better
    least: tuple[bool, ...]


class Table(NamedTuple):
    """The caller's own numbers: model -> column -> value."""

    columns: tuple[str, ...]
    rows: dict[str, dict[str, float | str]]


def table(path: str) -> Table:
    """A CSV file whose first column names the models. Raises UsageError that says what is wrong in which line."""
    try:
        text = files.text(path, files.TABLE)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--with {path}: it cannot be read: {getattr(error, 'strerror', None) or error}") from error
    lines = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if not lines or len(lines[0]) < 2:
        raise UsageError(f"--with {path}: expected a CSV table: a column of models, and columns of numbers with a name each")
    head = tuple(cell.strip() for cell in lines[0])
    if len(set(head)) < len(head) or "" in head[1:]:
        raise UsageError(f"--with {path}: its columns need a name each, all different: {', '.join(head)}")
    if taken := [name for name in head[1:] if name in metrics.BY_NAME]:
        raise UsageError(f"--with {path}: {taken[0]} is a metric of roofline; give the column another name")
    found: dict[str, dict[str, float | str]] = {}
    for number, row in enumerate(lines[1:], 2):
        if len(row) != len(head):
            raise UsageError(f"--with {path}, row {number}: {len(row)} cells under {len(head)} names")
        if row[0].strip() in found:
            raise UsageError(f"--with {path}, row {number}: {row[0].strip()} is there twice")
        found[row[0].strip()] = {name: _cell(cell) for name, cell in zip(head[1:], row[1:], strict=True)}
    return Table(head[1:], found)


def _cell(text: str) -> float | str:
    """A number; "nan" and "inf" are none that could be compared."""
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return number if math.isfinite(number) else text.strip()


def front(text: str, own: Sequence[str]) -> Front:
    """ "time,accuracy": metrics know which way is better, of own columns more is, unless they are given as min:NAME.

    Raises UsageError for a name that nobody knows, and for fewer than two.
    """
    names, least = [], []
    for part in (part.strip() for part in text.split(",")):
        way, colon, name = part.rpartition(":")
        if colon and way not in ("min", "max"):
            raise UsageError(f"--pareto {part}: expected NAME, min:NAME or max:NAME")
        known = [*metrics.BY_NAME, *own]
        if name not in known:
            raise UsageError(f"--pareto: no number {name!r}{nearest(name, known)}\nknown: {', '.join(known)}")
        names.append(name)
        least.append(way == "min" if colon else name in metrics.BY_NAME and metrics.BY_NAME[name].cost)
    if len(set(names)) < 2:
        raise UsageError(f"--pareto {text}: expected two numbers or more, such as time,params")
    return Front(tuple(names), tuple(least))
