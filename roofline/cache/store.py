"""Results on disk, keyed by the content that they depend on.

An entry is one file: a magic line, a JSON header (length and SHA-256 of the payload, and what it depends on) and the payload.
It is written beside its place and renamed into it, so two writers at once leave one whole entry. An entry
that is damaged is a miss and is removed; a directory that cannot be written switches storing off with one warning.
Nothing read from here is executed: payloads are bytes, and callers decode them as JSON.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from roofline.cache.dependencies import Record, holds, mark_of

# Raised when the layout of an entry changes: old entries are then never read, and are pruned as the oldest.
_VERSION = "v2"
_MAGIC = b"roofline cache 2\n"
_SUFFIX = ".entry"
_TEMP = ".tmp"
# A temporary file this old belongs to a process that died.
_STALE_S = 3600.0
# Beside the entries: when they were counted, their bytes, and on a line each what was added since.
_TALLY = "tally"
_DAY_S = 86400.0

DEFAULT_LIMIT = 512 * 2**20


class CacheInfo(Struct, frozen=True):
    """What the cache holds. Sizes in bytes."""

    root: Path
    entries: int
    nbytes: int
    limit: int
    # entries and bytes by kind ("trace", "analysis")
    kinds: dict[str, tuple[int, int]]


def default_root() -> Path:
    """`$ROOFLINE_CACHE_DIR`, else the user's cache directory of the platform."""
    named = os.environ.get("ROOFLINE_CACHE_DIR")
    if named:
        return Path(named)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("roofline", appauthor=False))


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)


class Cache:
    """A directory of results. All methods survive a missing, read-only, full or damaged directory.

    `warn` receives one line for what a person may want to know; by default it becomes a Python warning.
    """

    def __init__(
        self,
        root: Path | None = None,
        enabled: bool = True,
        *,
        limit: int = DEFAULT_LIMIT,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.root = Path(root) if root is not None else default_root()
        self.enabled = enabled
        self.limit = limit
        self._warn = warn or _warn
        self._writable = True
        # bytes on disk, counted at the first store
        self._size: int | None = None

    # ------------------------------------------------------------------------------------------ read and write

    def load(self, kind: str, key: str, still: Callable[[Record], bool] = holds) -> bytes | None:
        """The payload stored under `kind` and `key`, or None: not there, damaged, or something it depends on changed.

        `still` says whether what it depends on is as it was.
        """
        if not self.enabled:
            return None
        path = self._path(kind, key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        entry = _decode(data)
        if entry is None:
            self._remove(path)
            self._warn(f"cache entry {path} was damaged and has been removed")
            return None
        header, payload = entry
        try:
            if not still(header.record):
                return None
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)  # last use, for pruning
        return payload

    def store(self, kind: str, key: str, payload: bytes, files: Iterable[Path] = (), *, record: Record | None = None) -> None:
        """Keep `payload` under `kind` and `key`, valid for as long as `record` holds, or the content of `files` stays the same.

        Call it with the files as they were used: a file that is gone by now makes the entry worthless, and none is written.
        """
        if not self.enabled or not self._writable or len(payload) > self.limit:
            return
        try:
            record = record or Record(files=[mark_of(f) for f in sorted({os.path.abspath(f) for f in files})])
        except OSError:
            return
        header = _Header(len(payload), sha256(payload).hexdigest(), record)
        path = self._path(kind, key)
        temp = path.with_name(f"{path.stem}.{os.getpid()}.{time.monotonic_ns()}{_TEMP}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temp.write_bytes(_MAGIC + msgspec.json.encode(header) + b"\n" + payload)
            temp.replace(path)
        except OSError as e:
            self._remove(temp)
            self._writable = False
            self._warn(f"cache {self.root} cannot be written ({e.strerror or e}); going on without it")
            return
        self._prune(len(payload))

    # ------------------------------------------------------------------------------------------ upkeep

    def clear(self) -> tuple[int, int]:
        """Remove every entry; returns how many files and bytes. Files that are not the cache's own stay."""
        files = nbytes = 0
        for path, stat in self._files():
            if self._remove(path):
                files += 1
                nbytes += stat.st_size
        base = self.root / _VERSION
        self._remove(base / _TALLY)
        for folder, _, _ in os.walk(base, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)  # only if empty
        self._size = None
        return files, nbytes

    def info(self) -> CacheInfo:
        """Where the cache is and what it holds."""
        kinds: dict[str, tuple[int, int]] = {}
        for path, stat in self._files():
            if path.suffix == _SUFFIX:
                kind = path.parent.parent.name
                count, nbytes = kinds.get(kind, (0, 0))
                kinds[kind] = (count + 1, nbytes + stat.st_size)
        entries = sum(count for count, _ in kinds.values())
        size = sum(nbytes for _, nbytes in kinds.values())
        return CacheInfo(self.root, entries, size, self.limit, dict(sorted(kinds.items())))

    def _prune(self, added: int) -> None:
        """Keep the size under the limit: when it is passed, the entries used longest ago go until a fifth is free.

        Looking at every entry takes a second where there are many, so it is done once a day or when the limit is passed; in
        between a file holds the size at that time and what every process has added since.
        """
        tally = self.root / _VERSION / _TALLY
        if self._size is None:
            self._size = _read_tally(tally)
        if self._size is not None:
            self._size += added
            with suppress(OSError), tally.open("a", encoding="ascii") as file:
                file.write(f"{added}\n")
            if self._size <= self.limit:
                return
        found = sorted(self._files(), key=lambda entry: entry[1].st_mtime)
        size = sum(stat.st_size for _, stat in found)
        target = size if size <= self.limit else self.limit * 4 // 5
        now = time.time()
        for path, stat in found:
            stale = path.suffix == _TEMP and now - stat.st_mtime > _STALE_S
            if (stale or (path.suffix == _SUFFIX and size > target)) and self._remove(path):
                size -= stat.st_size
        self._size = size
        with suppress(OSError):
            tally.write_text(f"{int(now)} {size}\n", encoding="ascii")

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Entries and temporary files, links not followed."""
        for folder, _, names in os.walk(self.root / _VERSION):
            for name in names:
                if name.endswith((_SUFFIX, _TEMP)):
                    path = Path(folder, name)
                    with suppress(OSError):
                        yield path, path.lstat()

    def _path(self, kind: str, key: str) -> Path:
        return self.root / _VERSION / kind / key[:2] / f"{key}{_SUFFIX}"

    @staticmethod
    def _remove(path: Path) -> bool:
        try:
            path.unlink()
        except OSError:
            return False
        return True


def _read_tally(path: Path) -> int | None:
    """Bytes of all entries, or None where the file is not there, damaged or older than a day."""
    try:
        first, *added = path.read_text(encoding="ascii").splitlines()
        counted, size = map(int, first.split())
        return size + sum(map(int, added)) if 0 <= time.time() - counted < _DAY_S else None
    except (OSError, ValueError):
        return None


class _Header(Struct, frozen=True):
    bytes: int
    sha256: str
    record: Record


def _decode(data: bytes) -> tuple[_Header, bytes] | None:
    """Header and payload of an entry, or None if it is not whole."""
    end = data.find(b"\n", len(_MAGIC))
    if not data.startswith(_MAGIC) or end < 0:
        return None
    try:
        header = msgspec.json.decode(data[len(_MAGIC) : end], type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    payload = data[end + 1 :]
    if header.bytes != len(payload) or header.sha256 != sha256(payload).hexdigest():
        return None
    return header, payload
