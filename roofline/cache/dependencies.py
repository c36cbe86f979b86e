"""What a model's analysis depends on besides its name, as the cache keeps it: a `Record` of files, folders, variables and
modules, and whether all of it is still so. `watching.py` makes one. Needs neither torch nor the model.
"""

from __future__ import annotations

import os
import stat as modes
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from msgspec import Struct

from roofline.cache.places import locate

# A file changed this shortly before it was read could change again within one tick of its clock.
_RACY_NS = 2_000_000_000

# Which names in a folder count.
IMPORTABLE, PACKAGES = "*.py", "*.dist-info"


class FileMark(Struct, frozen=True, array_like=True):
    """A file's content: its hash, and marks by which an unchanged one is recognised without reading it."""

    path: str
    marks: tuple[int, ...]
    at: int
    sha256: str


class Group(Struct, frozen=True, array_like=True):
    """The modules of one installed package that were imported."""

    folder: str
    files: list[str]
    marks: list[tuple[int, ...]]
    at: int
    sha256: str


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of it, as the cache keeps it."""

    files: list[FileMark] = []
    groups: list[Group] = []
    # looked for and not there; there, with kind, size and time of change (folders: kind alone); and the names in a folder
    absent: list[str] = []
    present: list[tuple[str, int, int, int]] = []
    folders: list[tuple[str, str]] = []
    # name -> digest of its value, None: not set; "" is all of the environment
    environment: dict[str, str | None] = {}
    # module -> where `import` finds it, None: nowhere
    names: dict[str, str | None] = {}
    # rules that installed packages bring
    rules: str | None = None
    # the working directory, where something was relative to it
    cwd: str | None = None


# ------------------------------------------------------------------------------------------------ the state of things

_hashes: dict[tuple[str, tuple[int, ...]], bytes] = {}


def together(names: Iterable[str], files: Iterable[str], marks: Iterable[tuple[int, ...]]) -> str:
    """The content of files, each with the name that it goes by and its marks of just now."""
    whole = sha256()
    for name, file, at in zip(names, files, marks, strict=True):
        known = _hashes.get((file, at))
        if known is None:
            known = _hashes[file, at] = sha256(bytes_of(file)).digest()
        whole.update(name.encode() + b"\0" + known)
    return whole.hexdigest()


def bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def mark_of(path: str) -> FileMark:
    # marks first: a change after them is seen by the next reader
    marks = marks_of(os.stat(path))
    whole = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return FileMark(path, marks, time.time_ns(), whole.hexdigest())


def marks_of(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _trusted(marks: tuple[int, ...], known: tuple[int, ...], at: int) -> bool:
    return marks == known and at - max(marks[1], marks[2]) > _RACY_NS


def presence(path: str) -> tuple[str, int, int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        return path, 0, 0, 0
    kind = modes.S_IFMT(stat.st_mode)
    return (path, kind, 0, 0) if modes.S_ISDIR(stat.st_mode) else (path, kind, stat.st_size, stat.st_mtime_ns)


def content(folder: str) -> str:
    """The names in a folder, Python's bytecode apart; at its end may stand which of them count: IMPORTABLE or PACKAGES."""
    place, _, pattern = folder.rpartition(os.sep)
    counts = {IMPORTABLE: _importable, PACKAGES: _is_package}.get(pattern)
    try:
        with os.scandir(place if counts else folder) as entries:
            names = sorted(e.name for e in entries if e.name != "__pycache__" and (counts is None or counts(e)))
    except OSError:
        return ""
    return sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _importable(entry: os.DirEntry[str]) -> bool:
    """What `import` finds before it looks elsewhere: a folder without __init__.py comes last."""
    package = entry.name.isidentifier() and os.path.isfile(os.path.join(entry.path, "__init__.py"))
    return package or entry.name.endswith((".py", ".so", ".pyd"))


def _is_package(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith((".dist-info", ".egg-info", ".egg"))


def installed_rules() -> str:
    """The rules that installed packages bring by entry points: which, in which versions and with which text."""
    from importlib.metadata import entry_points

    found = []
    for point in sorted(entry_points(group="roofline.ops")):
        place = locate(point.value.partition(":")[0].partition(".")[0], ())
        text = "" if place is None or not os.path.isfile(place) else sha256(bytes_of(place)).hexdigest()
        found.append((point.name, point.value, point.dist.version if point.dist else "", text))
    return repr(found)


def value_of(value: str | bytes | None) -> str | None:
    """A variable's value as it is kept: it may be a secret."""
    if value is None:
        return None
    return sha256(value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def all_environment() -> str:
    data = dict(os.environ._data)  # type: ignore[attr-defined]  # reading it is not asking for a variable
    return sha256(repr(sorted(data.items())).encode("utf-8", "surrogateescape")).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------ is it still so


# Folder and content of installed packages that were found as they were, while somebody asks about several entries at once.
_same: list[set[tuple[str, str]]] = []


@contextmanager
def at_once() -> Iterator[None]:
    """What is asked inside is asked of one moment: an installed package that was found as it was is not looked at again."""
    _same.append(set())
    try:
        yield
    finally:
        _same.pop()


def holds(known: Record, places: Sequence[str] = ()) -> bool:
    """Whether everything is still as it was recorded, were the model loaded now with `places` first on sys.path."""
    try:
        return (
            all(_unset_or_same(name, value) for name, value in known.environment.items())
            and (known.cwd is None or known.cwd == os.getcwd())
            and all(_same_file(file) for file in known.files)
            and not any(os.path.lexists(path) and os.path.exists(path) for path in known.absent)
            and all(presence(path)[1:] == (kind, size, at) for path, kind, size, at in known.present)
            and all(content(folder) == names for folder, names in known.folders)
            and all(_same_group(group) for group in known.groups)
            and all(locate(name, places) == place for name, place in known.names.items())
            and (known.rules is None or known.rules == installed_rules())
        )
    except (OSError, ValueError):
        return False


def _unset_or_same(name: str, value: str | None) -> bool:
    if name == "":
        return all_environment() == value
    return value_of(os.environ.get(name)) == value


def _same_file(known: FileMark) -> bool:
    if _trusted(marks_of(os.stat(known.path)), known.marks, known.at):
        return True
    return mark_of(known.path).sha256 == known.sha256


def _same_group(known: Group) -> bool:
    what = known.folder, known.sha256
    if _same and what in _same[-1]:
        return True
    files = [os.path.join(known.folder, f) for f in known.files]
    marks = [marks_of(os.stat(f)) for f in files]
    untouched = all(_trusted(now, tuple(m), known.at) for now, m in zip(marks, known.marks, strict=True))
    if not untouched and together(known.files, files, marks) != known.sha256:
        return False
    if _same:
        _same[-1].add(what)
    return True
