"""Numbers in Markdown tables held to what is computed now: `<!-- roofline: device=t4 batch=32 -->` above a table.

The first column names the models, another a metric by its heading, or an option that its rows have a value of. A cell holds
where it is what is computed, to the digits that it prints.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roofline import files
from roofline.analysis.budgets import beside, told
from roofline.analysis.declared import OPTIONS, Place, Reader
from roofline.analysis.metrics import BY_NAME
from roofline.devices import library
from roofline.errors import BudgetFileError, RooflineError, UsageError, nearest
from roofline.gate import cells
from roofline.gate.cells import ASKED, BOUND, EMPTY, Column, Printed
from roofline.gate.markdown import Cell, Marked, Row, marked, mended, plain
from roofline.records import Analysis
from roofline.request import SIZES, Request, made, over, typed

EXAMPLE = "<!-- roofline: device=t4 -->"
_LIMIT = 16 * files.MIB
_SKIP, _MODEL = "skip", "model"
_NAMES = {**{name: name for name in OPTIONS}, "input": "inputs"}
_MANY = ("inputs", "set", _SKIP)


class Page(Struct, frozen=True):
    """A file, its text to the last byte, and what is asked of it."""

    path: Path
    text: str
    asked: tuple[Asked, ...]


class Asked(Struct, frozen=True):
    """Cells of a row that one analysis answers."""

    file: str
    line: int
    model: str
    request: Request
    # heading, the cell, the numbers in it (none: a bound, or a cell that asks for one)
    cells: tuple[tuple[Column, Cell, tuple[Printed, ...]], ...]


class Checked(Struct, frozen=True):
    """A cell beside what is computed."""

    file: str
    line: int
    model: str
    column: str
    says: str
    # as the cell should read; as it does where it holds
    now: str
    ok: bool
    # why it could not be told, and the exit code of that
    error: str = ""
    exit_code: int = 0


def pages(named: Sequence[Path]) -> list[Path]:
    """The files, and those of folders (`*.md`, in order). Raises UsageError."""
    found: list[Path] = []
    for path in named:
        folder = os.path.isdir(path)
        below = sorted(path.rglob("*.md")) if folder else []
        inside = [p for p in below if not any(part.startswith(".") for part in p.parts[len(path.parts) :])]
        if folder and not inside:
            raise UsageError(f"{path}: no .md file in it or below it")
        if path.suffix.lower() in (".toml", ".json"):
            raise UsageError(f"{path}: --docs reads Markdown; budgets are checked by another call without --docs")
        found += inside if folder else [path]
    return list(dict.fromkeys(found))


def chosen(pages: Sequence[Page], only: Sequence[str]) -> list[Page]:
    """With the rows of models of these names alone (patterns with * too). Raises UsageError for one that is nobody's."""
    models = list(dict.fromkeys(one.model for page in pages for one in page.asked))
    for name in only:
        if not any(fnmatchcase(model, name) for model in models):
            raise UsageError(f"--only {name}: no row of a marked table is of that model{nearest(name, models)}")
    if not only:
        return list(pages)
    return [
        replace(page, asked=tuple(one for one in page.asked if any(fnmatchcase(one.model, name) for name in only)))
        for page in pages
    ]


def read(path: Path, given: Mapping[str, Any], *, cache: bool = True) -> Page:
    """A page and what its marked tables ask. `given`: options for what a mark does not say itself.

    Raises BudgetFileError that names the file, the line and what was expected.
    """
    try:
        text = files.content(path, _LIMIT).decode("utf-8")
    except FileNotFoundError:
        raise BudgetFileError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise BudgetFileError(f"{path}: not text in UTF-8") from None
    except OSError as e:
        raise BudgetFileError(f"{path}: cannot be read: {e.strerror or e}") from None
    asked = [one for mark in marked(text) for one in _Table(path, mark, given, cache).asked()]
    return Page(path, text, tuple(asked))


class _At(Place):
    """Every key of a mark is on its line."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(path, "", ())
        self._line = line

    def number(self, table: tuple[str, ...], key: str = "") -> int:
        return self._line


class _Table:
    """A marked table. Raises BudgetFileError for what cannot be read."""

    def __init__(self, path: Path, mark: Marked, given: Mapping[str, Any], cache: bool) -> None:
        self._path, self._mark, self._cache = path, mark, cache
        self._said = self._keys()
        self._given = over(given, self._options(self._said, mark.line, "mark"))
        if not mark.head:
            raise self._fail(mark.line, f"no table is under this mark; put {EXAMPLE} on the line above one")
        self._columns = self._headings()
        self._devices()

    def _fail(self, line: int, what: str) -> BudgetFileError:
        return BudgetFileError(f"{self._path}:{line}: {what}")

    def _keys(self) -> dict[str, Any]:
        """What the mark says: key -> text, or the texts of one that may come again."""
        line = self._mark.line
        if self._mark.said.lower().startswith("roofline "):
            raise self._fail(line, f"a mark is written {EXAMPLE}")
        try:
            parts = shlex.split(self._mark.said)
        except ValueError as error:
            raise self._fail(line, f"mark: {error}") from None
        found: dict[str, Any] = {}
        known = [*_NAMES, _SKIP, _MODEL]
        for part in parts:
            key, equals, value = part.lstrip("-").rstrip(",").partition("=")
            if key not in known:
                raise self._fail(line, f"mark: unknown key {key!r}{nearest(key, known)}; use {', '.join(dict.fromkeys(known))}")
            name = _NAMES.get(key, key)
            if not equals and name != "training":
                raise self._fail(line, f"mark: {key} has no value: write {key}=...")
            if name in _MANY:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise self._fail(line, f"mark: {key} is given twice")
            else:
                found[name] = value if equals else "true"
        return found

    def _options(self, texts: Mapping[str, Any], line: int, title: str) -> dict[str, Any]:
        """Options of a request by their names, from text."""
        table: dict[str, Any] = {}
        for name, value in texts.items():
            if name in SIZES:
                table[name] = int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value
            elif name == "training":
                table[name] = {"true": True, "false": False}.get(value.lower(), value)
            elif name == "set":
                pairs = [one.partition("=") for one in value]
                if wrong := next((one for one in pairs if not one[1] or not one[0]), None):
                    raise self._fail(line, f"{title}: set: expected set=ARG=VALUE, got {wrong[0]!r}")
                table[name] = {key: typed(of) for key, _, of in pairs}
            elif name in OPTIONS:
                table[name] = value
        found = Reader(_At(self._path, line), (), title).options(table)
        if isinstance(found.get("device"), str):
            found["device"] = beside(found["device"], self._path.parent)
        return found

    # -------------------------------------------------------------------------------------------- columns

    def _headings(self) -> list[Column | None]:
        """What each column is; None: the models, or one that is left alone."""
        titles = [cells.title(cell.text) for cell in self._mark.head]
        skipped = [name.strip().lower() for value in self._said.get(_SKIP, ()) for name in value.split(",") if name.strip()]
        for name in skipped:
            if name not in map(str.lower, titles):
                raise self._fail(self._mark.line, f"mark: skip: no column is called {name!r}{nearest(name, titles)}")
        found: list[Column | None] = []
        line = self._mark.line + 1 if not self._mark.rows else self._mark.rows[0].line - 2
        for index, (cell, title) in enumerate(zip(self._mark.head, titles, strict=True)):
            if title.lower() in skipped or (index == 0 and _MODEL not in self._said):
                found.append(None)
                continue
            try:
                one = cells.column(cell.text)
            except ValueError as error:
                raise self._fail(line, f'column {error}; one that is to be left alone: skip="{title}" in the mark') from None
            twice = next(
                (c for c in found if c and (c.metric, c.option, c.device) == (one.metric, one.option, one.device)), None
            )
            if twice:
                raise self._fail(line, f"column {title!r} is {twice.title!r} again")
            found.append(one)
        if not any(c and c.metric for c in found):
            raise self._fail(line, f"no column of the table is a metric; they are {', '.join(BY_NAME)}")
        return found

    def _devices(self) -> None:
        """Raises BudgetFileError for a device that nobody knows, and for times of none."""
        own = [c.device for c in self._columns if c and c.device]
        named = {"device": self._given.get("device"), **{name: beside(name, self._path.parent) for name in own}}
        for device in named.values():
            try:
                if isinstance(device, str):
                    library.lookup(device)
            except RooflineError as error:
                raise self._fail(self._mark.line, f"mark: {' '.join(str(error).split())}") from None
        by_row = any(c and c.option == "device" for c in self._columns)
        timed = [c for c in self._columns if c and not c.device and (c.metric == BOUND or _timed(c))]
        if timed and not by_row and "device" not in self._given:
            raise self._fail(
                self._mark.line,
                f"mark: {timed[0].title} is that of a device, and none is named; add one, such as device=t4 "
                "(cpu is the machine that checks)",
            )

    # -------------------------------------------------------------------------------------------- rows

    def asked(self) -> Iterator[Asked]:
        for row in self._mark.rows:
            yield from self._row(row)

    def _row(self, row: Row) -> Iterator[Asked]:
        pairs = list(zip(self._columns, row.cells, strict=False))
        model = self._said.get(_MODEL) or (plain(row.cells[0].text) if row.cells else "")
        own = self._own(row, [(c, plain(cell.text)) for c, cell in pairs if c and c.option])
        by_device: dict[str, list[tuple[Column, Cell, tuple[Printed, ...]]]] = {}
        for column, cell in pairs:
            if column and column.metric and plain(cell.text) not in EMPTY:
                by_device.setdefault(column.device, []).append((column, cell, self._numbers(row, column, cell)))
        if by_device and not model:
            raise self._fail(row.line, "no model stands in the first column")
        for device, wanted in by_device.items():
            options = over(self._given, own)
            if device:
                options["device"] = beside(device, self._path.parent)
            request = made(beside(model, self._path.parent), options, cache=self._cache)
            yield Asked(str(self._path), row.line, model, request, tuple(wanted))

    def _own(self, row: Row, said: Iterable[tuple[Column, str]]) -> dict[str, Any]:
        """Options that stand in the row itself."""
        texts: dict[str, Any] = {}
        for column, value in said:
            if value in EMPTY:
                continue
            if column.option == "inputs":
                texts[column.option] = [",".join(part.strip() for part in value.replace("×", "x").split(" x "))]
            elif column.option == "set":
                texts[column.option] = value.split()
            else:
                texts[column.option] = value.lower() if column.option in ("dtype", "runtime", "training") else value
        found = self._options(texts, row.line, "row")
        if "inputs" in found:
            found["inputs"] = tuple(found["inputs"])
        return found

    def _numbers(self, row: Row, column: Column, cell: Cell) -> tuple[Printed, ...]:
        if plain(cell.text) == ASKED:
            return ()
        try:
            if column.metric == BOUND:
                cells.bound_of(cell.text)
                return ()
            return tuple(cells.numbers(BY_NAME[column.metric], cell.text, column.unit))
        except ValueError as error:
            raise self._fail(row.line, f"{column.title}: {cell.text!r} cannot be read: {error}") from None


def _timed(column: Column) -> bool:
    return column.metric in BY_NAME and BY_NAME[column.metric].timed


# ------------------------------------------------------------------------------------------------ beside what is computed


def checked(one: Asked, answer: Callable[[], Analysis], failed: Callable[[Exception], None]) -> list[Checked]:
    """The cells of a row beside what its request comes to, which `answer` gives or raises; `failed` is told."""
    try:
        analysis = answer()
    except Exception as error:  # the boundary between one model and the next
        failed(error)
        text, code = told(error)
        return [_of(one, column, cell, cell.text, text, code) for column, cell, _ in one.cells]
    return [_beside(one, column, cell, numbers, analysis) for column, cell, numbers in one.cells]


def _of(one: Asked, column: Column, cell: Cell, now: str, error: str = "", code: int = 0) -> Checked:
    ok = now == cell.text and not error
    return Checked(one.file, one.line, one.model, column.title, cell.text, now, ok, error, code)


def _beside(one: Asked, column: Column, cell: Cell, numbers: Sequence[Printed], a: Analysis) -> Checked:
    if column.metric == BOUND:
        bound = a.totals.bound
        if plain(cell.text) == ASKED:
            return _of(one, column, cell, cell.text.replace(ASKED, bound))
        said = cells.bound_of(cell.text)
        now = cell.text if said == bound else cells.other_bound(cell.text, said, bound)
        return _of(one, column, cell, now)
    of = BY_NAME[column.metric]
    unknown = [u.op for u in a.coverage.unknown_ops]
    if unknown and of.needs_rules:
        return _of(one, column, cell, cell.text, f"no FLOP rule for {', '.join(unknown)}, so it cannot be told", 1)
    try:
        values = cells.expected(of, a, max(len(numbers), 1))
    except (ValueError, RooflineError) as error:  # it has no interval, no energy
        return _of(one, column, cell, cell.text, " ".join(str(error).split()), 2)
    if not numbers:
        return _of(one, column, cell, cell.text.replace(ASKED, cells.new(of, column, values[0])))
    return _of(one, column, cell, cells.again(of, cell.text, list(numbers), values))


def text_of(page: Page, found: Sequence[Checked]) -> str:
    """The page with its cells as they should read."""
    places = [(cell, one) for one in page.asked for _, cell, _ in one.cells]
    changes = {cell: now.now for (cell, _), now in zip(places, found, strict=True) if now.now != cell.text}
    return mended(page.text, changes)


def exit_code(found: Iterable[Checked]) -> int:
    """0 where every cell holds, else the gravest: 3 before 2 before 1."""
    return max((c.exit_code or int(not c.ok) for c in found), default=0)
