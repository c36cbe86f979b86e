"""Questions to the rows of sweeps: which, in which order, how many, and which no other beats."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from roofline.analysis import metrics, own
from roofline.errors import UsageError
from roofline.records.sweep import COLUMNS, OK
from roofline.sweeps import where
from roofline.sweeps.formats import FORMATS, types
from roofline.sweeps.store import Store

# What a table shows of a row where nobody says it.
_SHOWN = ("params", "macs", "time", "throughput", "peak_memory", "bound")
# Rows that are compared with each other: those of one device in one setting.
_PASS = ("dtype", "runtime", "mode", "optimizer", "layout", "norms", "turns", "tokens")
GROUP = ("device", "batch", "resolution", *_PASS, "host", "inputs")
# What else tells rows apart: a table has those of these columns in which they differ.
_VARYING = (*GROUP, "settings")


class Question(Struct, frozen=True, kw_only=True):
    """What is asked; texts as on the command line."""

    where: str = ""
    sort: str = ""
    top: int | None = None
    pareto: str = ""
    columns: tuple[str, ...] = ()
    # the caller's own numbers of models
    own: own.Table | None = None


class Found(Struct, frozen=True, kw_only=True):
    """The rows that are left, column by column, in the order asked for. Base units."""

    columns: dict[str, list[Any]]
    # those a table shows
    shown: tuple[str, ...]
    # rows that were looked at, and that were left
    rows: int
    met: int
    notes: tuple[str, ...] = ()
    # every column of these rows, whichever were asked for
    whole: dict[str, list[Any]]
    # the front that was asked for, and what else met the condition but is beaten: as `whole`
    front: own.Front | None = None
    beaten: dict[str, list[Any]] = {}

    def records(self) -> list[dict[str, Any]]:
        """The rows, as a JSON document has them."""
        return [dict(zip(self.columns, cells, strict=True)) for cells in zip(*self.columns.values(), strict=True)]


def ask(paths: Sequence[Path], question: Question) -> Found:
    """The answer. Raises UsageError for what cannot be read or asked."""
    table = _read(paths)
    rows = len(table["key"])
    if question.own:
        _join(table, question.own)
    test, said = where.tests(question.where, table) if question.where.strip() else (None, [])
    asks_status = any(name in ("status", "error") for name in where.named(question.where))
    usable = [i for i in range(rows) if asks_status or table["status"][i] == OK]
    left = [i for i in usable if test(i)] if test else usable
    # of what a few rows were picked from, they are told apart too
    differ = [name for name in _VARYING if len(set(map(table[name].__getitem__, left))) > 1]
    notes = (
        [f"{rows - len(usable):,} rows without numbers are left out (--where 'status != ok' shows them)"]
        if len(usable) < rows
        else []
    )
    notes += said
    if question.own and not any(_own(model, question.own) for model in set(table["model"])):
        notes.append(f"--with: no row is of a model in it, such as {next(iter(question.own.rows), 'none')}")
    if any(name.startswith("energy") for name in _asked_for(question, table)):
        notes += _no_energy(table, usable)
    front = own.front(question.pareto, _own_columns(question)) if question.pareto else None
    beaten: list[int] = []
    if front:
        _there(front.names, table)
        best = _front(left, table, front)
        beaten, left = sorted(set(left).difference(best)), best
    met = len(left)
    if question.sort:
        left = _sorted(left, table, question.sort)
    elif front:
        left = _sorted(left, table, f"{'min' if front.least[0] else 'max'}:{front.names[0]}")
    left = left[: question.top] if question.top else left
    picked = {name: [cells[i] for i in left] for name, cells in table.items()}
    shown = _shown(picked, question, differ, front.names if front else ())
    return Found(
        columns={name: picked[name] for name in shown} if question.columns else picked,
        shown=shown,
        rows=rows,
        met=met,
        notes=tuple(notes),
        whole=picked,
        front=front,
        beaten={name: [cells[i] for i in beaten] for name, cells in table.items()},
    )


def _read(paths: Sequence[Path]) -> dict[str, list[Any]]:
    """Every column of files and folders, each key once."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    seen: set[str] = set()
    for path in paths:
        for file in _files(path):
            try:
                found = FORMATS[file.suffix].columns(file)
            except UsageError:
                raise
            except Exception as error:  # of files, of decoders, of pyarrow
                raise UsageError(f"{file} does not hold rows of a sweep: {' '.join(str(error).split())[:200]}") from None
            new = [i for i, key in enumerate(found["key"]) if key not in seen]
            seen.update(found["key"])
            whole = len(new) == len(found["key"])
            for name, cells in columns.items():
                cells += found[name] if whole else [found[name][i] for i in new]
    versions = set(columns["version"])
    if len(versions) > 1:
        raise UsageError(f"rows of {len(versions)} versions ({', '.join(sorted(versions))}): ask one of them at a time")
    return columns


def _files(path: Path) -> list[Path]:
    if not os.path.exists(path) and not os.path.isdir(path.with_name(f"{path.name}.parts")):
        raise UsageError(f"no such file or folder: {path}")
    if path.is_file() and path.suffix not in FORMATS:
        raise UsageError(
            f"{path} is no table of a sweep: give a file that `roofline sweep` wrote ({', '.join(FORMATS)}), or its folder"
        )
    found = Store(path).files()
    if not found:
        raise UsageError(f"{path}: no rows of a sweep in it")
    return found


def _join(table: dict[str, list[Any]], given: own.Table) -> None:
    if taken := [name for name in given.columns if name in table]:
        raise UsageError(f"--with: {taken[0]} is a column of a sweep; give the column another name")
    for name in given.columns:
        table[name] = [_own(model, given).get(name) for model in table["model"]]


def _own(model: str, given: own.Table) -> Mapping[str, Any]:
    """By the name as it was asked for, else without what says where it is from."""
    return given.rows.get(model) or given.rows.get(model.rpartition(":")[2]) or {}


def _asked_for(question: Question, table: Mapping[str, Any]) -> list[str]:
    """The columns that the question names."""
    sort = [part.strip().rpartition(":")[2] for part in question.sort.split(",")]
    front = own.front(question.pareto, _own_columns(question)).names if question.pareto else ()
    return [name for name in (*where.named(question.where), *sort, *front, *question.columns) if name in table]


def _no_energy(table: Mapping[str, list[Any]], rows: Sequence[int]) -> list[str]:
    """Why some rows have none."""
    without = [i for i in rows if table["energy"][i] is None and table["time"][i]]
    devices = list(dict.fromkeys(table["device"][i] for i in without if table["runtime"][i] != "ideal"))
    some = ", ".join(devices[:5]) + (f" and {len(devices) - 5:,} more" if len(devices) > 5 else "")
    found = [f"no energy: the power of {some} is not known (no tdp in the device file)"] if devices else []
    if any(table["runtime"][i] == "ideal" for i in without):
        found.append("no energy: the ideal runtime is a definition, whose times are no device's")
    return found


def _own_columns(question: Question) -> Sequence[str]:
    return question.own.columns if question.own else ()


def _there(names: Sequence[str], table: Mapping[str, Any]) -> None:
    for name in names:
        where.column(name, table, "--pareto")


def _front(rows: list[int], table: Mapping[str, list[Any]], front: own.Front) -> list[int]:
    """Those that no other of their device and setting beats in every number; one that does not fit is not among them."""
    groups: dict[tuple[Any, ...], list[tuple[tuple[float, ...], int]]] = {}
    for i in rows:
        cells = [table[name][i] for name in front.names]
        if table["fits"][i] is not False and all(isinstance(cell, (int, float)) for cell in cells):
            numbers = tuple(cell if least else -cell for cell, least in zip(cells, front.least, strict=True))
            groups.setdefault(tuple(table[name][i] for name in GROUP), []).append((numbers, i))
    found: list[int] = []
    for group in groups.values():
        best: list[tuple[float, ...]] = []
        for numbers, i in sorted(group):  # what beats another comes before it
            if not any(n != numbers and all(x <= y for x, y in zip(n, numbers, strict=True)) for n in best):
                best.append(numbers)
                found.append(i)
    return sorted(found)


def _sorted(rows: list[int], table: Mapping[str, list[Any]], text: str) -> list[int]:
    """By several columns, the better first; what has no value comes last."""
    for part in reversed([part.strip() for part in text.split(",")]):
        way, colon, name = part.rpartition(":")
        if colon and way not in ("min", "max"):
            raise UsageError(f"--sort {part}: expected NAME, min:NAME or max:NAME")
        name = where.column(name, table, "--sort")
        known = metrics.BY_NAME.get(name)
        least = way == "min" if colon else known.cost if known else types().get(name) is not None
        cells = table[name]
        some = [i for i in rows if cells[i] is not None]
        texts = any(isinstance(cells[i], str) for i in some)
        some.sort(key=lambda i: str(cells[i]) if texts else cells[i], reverse=not least)
        rows = some + [i for i in rows if cells[i] is None]
    return rows


def _shown(table: Mapping[str, list[Any]], question: Question, differ: Sequence[str], pareto: Sequence[str]) -> tuple[str, ...]:
    """The columns that were asked for, or those that tell the rows apart, the usual numbers, and what the question names."""
    if question.columns:
        return tuple(where.column(name, table, "--columns") for name in question.columns)
    named = [name for name in where.named(question.where) if name in table]
    sort = [part.strip().rpartition(":")[2] for part in question.sort.split(",") if part.strip()]
    sort = [where.column(name, table, "--sort") for name in sort]
    if "status" in named or "error" in named:
        return tuple(dict.fromkeys(["model", *differ, *named, "status", "error"]))
    return tuple(dict.fromkeys(["model", *differ, *_SHOWN, *_own_columns(question), *named, *sort, *pareto]))
