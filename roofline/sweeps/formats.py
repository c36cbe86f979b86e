"""Rows as the content of a file, and back: Parquet through pyarrow, CSV and JSON Lines without it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args, get_type_hints

import msgspec

from roofline import compat
from roofline.errors import UsageError
from roofline.records.sweep import COLUMNS, ORDER, Row, order, placed


class Head(NamedTuple):
    """What tells of a row, beside its key, whether it is wanted again."""

    version: str
    status: str
    depends: str


def heads_of(keys: Iterable[str], heads: Iterable[tuple[str, str, str]]) -> dict[Head, list[str]]:
    """The keys of rows that have the same: of hundreds of thousands there are a few."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for key, head in zip(keys, heads, strict=True):
        found.setdefault(head, []).append(key)
    return {Head(*head): of for head, of in found.items()}


def heads_of_rows(rows: Sequence[Row]) -> dict[Head, list[str]]:
    return heads_of([row.key for row in rows], [(row.version, row.status, row.depends) for row in rows])


class Format(Protocol):
    """How a file holds rows. Reading raises OSError or ValueError for a file that holds something else."""

    def encode(self, rows: Sequence[Row]) -> bytes:
        """The rows as they are, as a file."""

    def heads(self, path: Path) -> dict[Head, list[str]]:
        """Of the rows of a file, each with the keys of those that have it."""

    def rows(self, path: Path) -> list[Row]:
        """All of it."""

    def columns(self, path: Path) -> dict[str, list[Any]]:
        """All of it, column by column."""

    def merged(self, paths: Sequence[Path]) -> bytes:
        """The rows of several files in order, each key once."""


@cache
def types() -> dict[str, type]:
    """Column -> bool, int, float or str."""
    return {name: next(k for k in (get_args(of) or (of,)) if k is not type(None)) for name, of in get_type_hints(Row).items()}


class _Plain:
    """Of formats that are read row by row."""

    def encode(self, rows: Sequence[Row]) -> bytes:
        raise NotImplementedError

    def rows(self, path: Path) -> list[Row]:
        raise NotImplementedError

    def heads(self, path: Path) -> dict[Head, list[str]]:
        return heads_of_rows(self.rows(path))

    def columns(self, path: Path) -> dict[str, list[Any]]:
        rows = self.rows(path)
        return {name: [getattr(row, name) for row in rows] for name in COLUMNS}

    def merged(self, paths: Sequence[Path]) -> bytes:
        found: dict[str, Row] = {}
        for path in paths:
            for row in self.rows(path):
                found.setdefault(row.key, row)
        return self.encode(sorted_rows(found.values()))


class _Jsonl(_Plain):
    def encode(self, rows: Sequence[Row]) -> bytes:
        return msgspec.json.Encoder().encode_lines(rows)

    def rows(self, path: Path) -> list[Row]:
        return msgspec.json.Decoder(Row).decode_lines(path.read_bytes())


class _Csv(_Plain):
    def encode(self, rows: Sequence[Row]) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(value) for value in msgspec.structs.astuple(row)] for row in rows)
        return out.getvalue().encode()

    def rows(self, path: Path) -> list[Row]:
        reader = csv.reader(io.StringIO(path.read_bytes().decode()))
        if tuple(next(reader, ())) != COLUMNS:
            raise ValueError("its columns are not those of a sweep")
        read = [_READ[types()[name]] for name in COLUMNS]
        return [Row(**dict(zip(COLUMNS, (of(c) for of, c in zip(read, cells, strict=True)), strict=True))) for cells in reader]


def _cell(value: Any) -> Any:
    """A float in all its digits, a truth value as JSON writes it."""
    return (
        ""
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else repr(value)
        if isinstance(value, float)
        else value
    )


_READ: dict[type, Callable[[str], Any]] = {
    str: lambda text: text,
    int: lambda text: int(text) if text else None,
    float: lambda text: float(text) if text else None,
    bool: lambda text: {"true": True, "false": False}.get(text),
}


class _Parquet:
    """Columns; pyarrow is asked for when a file is read or written."""

    def encode(self, rows: Sequence[Row]) -> bytes:
        pa, _ = _arrow()
        table = pa.table(
            {name: pa.array([getattr(row, name) for row in rows], self._schema().field(name).type) for name in COLUMNS},
            schema=self._schema(),
        )
        return self._bytes(table)

    def rows(self, path: Path) -> list[Row]:
        return [Row(**row) for row in self._read(path).to_pylist()]

    def heads(self, path: Path) -> dict[Head, list[str]]:
        table = self._read(path, ["key", *Head._fields])
        rest = (table.column(name).to_pylist() for name in Head._fields)
        return heads_of(table.column("key").to_pylist(), zip(*rest, strict=True))

    def columns(self, path: Path) -> dict[str, list[Any]]:
        table = self._read(path)
        return {name: table.column(name).to_pylist() for name in COLUMNS}

    def merged(self, paths: Sequence[Path]) -> bytes:
        pa, _ = _arrow()
        table = pa.concat_tables([self._read(path) for path in paths])
        first: dict[str, tuple[Any, ...]] = {}
        place: dict[str, int] = {}
        for i, cells in enumerate(zip(*(table.column(name).to_pylist() for name in ORDER), strict=True)):
            if cells[-1] not in first:
                first[cells[-1]], place[cells[-1]] = cells, i
        found = table.take([place[key] for key in sorted(first, key=lambda key: placed(first[key]))])
        return self._bytes(found.combine_chunks())

    @staticmethod
    @cache
    def _schema() -> Any:
        pa, _ = _arrow()
        of = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        return pa.schema([(name, of[kind]) for name, kind in types().items()])

    def _read(self, path: Path, columns: list[str] | None = None) -> Any:
        _, parquet = _arrow()
        # read_table() would import pandas, where it is, to find out that one file is no data set
        with parquet.ParquetFile(io.BytesIO(path.read_bytes())) as file:
            wanted = columns or list(COLUMNS)
            found = file.read(columns=wanted)
        if missing := [name for name in wanted if name not in found.column_names]:
            raise ValueError(f"it has no column {missing[0]}")
        return found.select(wanted)

    @staticmethod
    def _bytes(table: Any) -> bytes:
        _, parquet = _arrow()
        out = io.BytesIO()
        parquet.write_table(table, out, compression="zstd")
        return out.getvalue()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install 'roofline[sweep]', or write .csv or .jsonl") from None
    return pyarrow, parquet


FORMATS: dict[str, Format] = {".parquet": _Parquet(), ".csv": _Csv(), ".jsonl": _Jsonl()}


def needed(suffix: str) -> None:
    """Raises UsageError where the format of a suffix needs a package that is not here."""
    if suffix == ".parquet":
        _arrow()


def has_arrow() -> bool:
    return bool(compat.version("pyarrow"))


def is_shard(name: str) -> bool:
    return not name.startswith((".", "_")) and name.endswith(tuple(FORMATS))


def sorted_rows(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=order)
