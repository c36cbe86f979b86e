"""Where the rows of a sweep are: shards that are whole or not there, in a folder, and one file made of them in the end.

`-o zoo.parquet` is a file; until the sweep is done, its shards lie beside it in zoo.parquet.parts. `-o zoo/` is a folder of
shards for good: several machines may write into it. The rows are the only state. A shard is written beside its place and
renamed into it; what several processes do to one folder they do one after the other (a lock).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from roofline.errors import OutputError, UsageError, nearest
from roofline.records.sweep import Row
from roofline.sweeps.formats import FORMATS, Format, Head, has_arrow, heads_of_rows, is_shard, needed, sorted_rows

_TEMP = ".tmp"


class Store:
    """The rows at a path. Raises UsageError for a path that is nothing of a sweep's, OutputError where it cannot be written."""

    def __init__(self, path: Path, suffix: str = "") -> None:
        self.path = path
        self.whole = not path.is_dir() and bool(path.suffix)
        if self.whole:
            if path.suffix not in FORMATS:
                near = nearest(path.suffix, FORMATS, lead=", ")
                raise UsageError(f"-o {path}: give a file with one of {', '.join(FORMATS)}{near}, or a folder for many shards")
            if not path.parent.is_dir():
                raise OutputError(f"cannot write {path}: no directory {path.parent}\nmake it, or choose another path")
            self.suffix, self.folder = path.suffix, path.with_name(f"{path.name}.parts")
        else:
            held = {Path(p).suffix for p in _names(path)} & set(FORMATS)
            known = suffix or (path.suffix if path.suffix in FORMATS else "") or (held.pop() if len(held) == 1 else "")
            self.suffix, self.folder = known or (".parquet" if has_arrow() else ".jsonl"), path
        needed(self.suffix)
        # files whose rows are known: their state then, and the rows' heads
        self._read: dict[Path, tuple[tuple[int, int], dict[Head, list[str]]]] = {}
        self.format: Format = FORMATS[self.suffix]

    # ------------------------------------------------------------------------------------------ reading

    def files(self) -> list[Path]:
        """Every file that holds rows: the whole one, and the shards."""
        whole = [self.path] if self.whole and self.path.is_file() else []
        return whole + [self.folder / name for name in _names(self.folder) if name.endswith(self.suffix)]

    def heads(self, path: Path) -> dict[Head, list[str]]:
        """Of the rows of a file of this store, each with their keys. Raises UsageError where it holds something else."""
        try:
            state = _state(path)
            known = self._read.get(path)
            if known is None or known[0] != state:
                known = self._read[path] = state, self.format.heads(path)
            return known[1]
        except FileNotFoundError:
            return {}  # another sweep has put it into the whole file since
        except (OSError, ValueError, TypeError) as error:
            why = " ".join(str(error).split())[:200]
            raise UsageError(f"{path} does not hold rows of a sweep: {why}\nit stays as it is: choose another -o") from None

    def _new(self) -> set[str]:
        """The keys of files that were not there, or not so, when this store looked last: those of another sweep."""
        found: set[str] = set()
        for path in self.files():
            with suppress(OSError):
                if path not in self._read or self._read[path][0] != _state(path):
                    found.update(*self.heads(path).values())
        return found

    def aside(self, version: str) -> int:
        """Set apart the files whose rows are of another version, and take back those of this one; how many rows went."""
        with self.locked():
            self._take_back(version)
            moved = 0
            for path in self.files():
                heads = self.heads(path)
                others = {head.version for head in heads} - {version}
                if not others:
                    continue
                if len(others) > 1 or any(head.version == version for head in heads):
                    raise UsageError(f"{path} holds rows of several versions: it stays as it is, choose another -o")
                moved += sum(map(len, heads.values()))
                self._replace(path, self._apart(path, others.pop()))
        return moved

    def _apart(self, path: Path, version: str) -> Path:
        if path == self.path:
            return path.with_name(f"{path.stem}.{version}{path.suffix}")
        folder = self.folder / f"_{version}"
        folder.mkdir(exist_ok=True)
        return folder / path.name

    def _take_back(self, version: str) -> None:
        if self.whole and not self.path.exists() and (old := self._apart(self.path, version)).is_file():
            self._replace(old, self.path)
        folder = self.folder / f"_{version}"
        for name in _names(folder):
            if not (self.folder / name).exists():
                self._replace(folder / name, self.folder / name)
        with suppress(OSError):
            folder.rmdir()

    @staticmethod
    def _replace(old: Path, new: Path) -> None:
        try:
            os.replace(old, new)
        except OSError as error:
            raise OutputError(f"cannot move {old} to {new}: {error.strerror}") from None

    # ------------------------------------------------------------------------------------------ writing

    def prepare(self) -> None:
        """The folder, without what a killed process left half-written."""
        try:
            with suppress(FileExistsError):
                self.folder.mkdir(parents=True)
            if not self.folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None
        if self.folder.exists() and not os.access(self.folder, os.W_OK):
            raise OutputError(f"cannot write {self.path}: permission denied\nchoose another path")
        for name in _listed(self.folder):
            if name.endswith(_TEMP) and _is_left(name):
                with suppress(OSError):
                    (self.folder / name).unlink()

    def write(self, name: str, rows: Sequence[Row]) -> None:
        """A shard, whole; a row that another sweep has written meanwhile is left to it."""
        with self.locked():
            path, known = self.folder / f"{name}{self.suffix}", self._new()
            kept = [row for row in rows if row.key not in known]
            if kept:
                self._write(path, self.format.encode(kept))
                self._read[path] = _state(path), heads_of_rows(kept)

    def replaced(self, path: Path, new: Mapping[str, Row]) -> None:
        """A file with other rows in the place of those of the same keys."""
        with self.locked():
            old = self.format.rows(path)
            self._write(path, self.format.encode(sorted_rows(new.get(row.key, row) for row in old)))

    def finish(self) -> None:
        """All shards as one file, where that was asked for."""
        if not self.whole:
            return
        with self.locked():
            parts = [path for path in self.files() if path != self.path]
            if parts:
                self._write(self.path, self.format.merged(self.files()))
                for path in parts:
                    path.unlink(missing_ok=True)
            with suppress(OSError):
                (self.folder / ".lock").unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def _write(self, path: Path, data: bytes) -> None:
        temp = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{_TEMP}")
        try:
            temp.write_bytes(data)
            os.replace(temp, path)
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}\n"
                "what was written before is whole: the same command goes on from there"
            ) from None
        finally:
            with suppress(OSError):
                temp.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone at the folder, as far as its file system knows locks."""
        file = self._lock()
        try:
            yield
        finally:
            if file is not None:
                file.close()

    def _lock(self) -> IO[str] | None:
        try:
            import fcntl
        except ImportError:
            return None
        lock = self.folder / ".lock"
        while True:
            try:
                self.folder.mkdir(exist_ok=True)  # another sweep into the same file may have finished, and taken it away
                file = open(lock, "w")  # noqa: SIM115  # held to the end
            except (FileNotFoundError, FileExistsError):
                # gone between two steps, unless something else is in its place
                if self.folder.parent.is_dir() and (self.folder.is_dir() or not self.folder.exists()):
                    continue
                return None
            except OSError:
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                # what this waited for may be a lock that nobody finds any more
                if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                    return file
            except FileNotFoundError:
                pass
            except OSError:
                return file
            file.close()


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ino


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _names(folder: Path) -> list[str]:
    return [name for name in _listed(folder) if is_shard(name)]


def _is_left(name: str) -> bool:
    """Whether the process that wrote a temporary file is gone: it was one of this machine's."""
    _host, pid = name.removesuffix(_TEMP).rsplit(".", 2)[-2:] if name.count(".") > 2 else ("", "")
    if not name.removesuffix(_TEMP).removesuffix(f".{pid}").endswith(socket.gethostname()) or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return int(pid) == os.getpid()
