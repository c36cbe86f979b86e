"""What a model's code imports, reads, looks for, lists and asks of the environment while it is built and traced.

What cannot be known (another program, the network, the clock) makes a result that is not kept.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from roofline.cache.dependencies import (
    IMPORTABLE,
    PACKAGES,
    Record,
    all_environment,
    content,
    installed_rules,
    mark_of,
    presence,
    value_of,
)
from roofline.cache.places import kind_of
from roofline.isolation.installed import Changed as Changed
from roofline.isolation.installed import changed_at, groups
from roofline.isolation.modules import Loaded

_METADATA = os.path.dirname(importlib.metadata.__file__)
# Names in compiled code that ask for the time or for chance in a way that is not seen otherwise.
_CLOCK = frozenset({"now", "utcnow", "today"})
_CHANCE = frozenset({"urandom", "uuid1", "uuid4", "token_hex", "token_bytes", "randbits", "SystemRandom", "default_rng"})


# Text in code that may be the name of a file.
_PATH = re.compile(r"(?=.*(\.\w+$|/))[^\0\n]{1,256}")


class Seen:
    """What is noted while a model's code runs."""

    def __init__(self) -> None:
        self.started = time.time_ns()
        self.opened: set[str] = set()
        self.written: set[str] = set()
        self.absent: set[str] = set()
        self.present: set[str] = set()
        self.listed: set[str] = set()
        self.environment: dict[str, str | None] = {}
        self.set_here: set[str] = set()
        self.relative = False
        self.unknown = ""
        # what was imported before
        self.modules = frozenset(sys.modules)

    def path(self, value: Any) -> str | None:
        """The path as absolute text; None for a descriptor and for what belongs to Python, torch, the system or us."""
        try:
            text = "" if isinstance(value, int) else os.fsdecode(value)
        except TypeError:
            text = ""
        full = os.path.normpath(os.path.join(_real_getcwd(), text)) if text else ""
        if not full or kind_of(full) != "own":
            return None
        self.relative = self.relative or not os.path.isabs(text)
        return full

    def add(self, other: Seen) -> None:
        """As if what was noted there had been asked for here."""
        self.started = min(self.started, other.started)
        for name in ("opened", "written", "absent", "present", "listed", "set_here"):
            getattr(self, name).update(getattr(other, name))
        self.environment = other.environment | self.environment
        self.relative |= other.relative
        self.unknown = self.unknown or other.unknown


_state: dict[str, Seen | None] = {"seen": None}
_hooked: list[bool] = []
# What code that stays imported has asked for: it asks once in a process, and later models hang on it too.
_kept = Seen()
_real_getcwd, _real_stat = os.getcwd, os.stat


def asker() -> str:
    """Who asks: "own", "installed", "torch" or "ours", by the innermost frame that is not Python's own library; "import" is
    Python's search for a module, "metadata" that for installed packages."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return "import"
        if file.startswith(_METADATA):
            return "metadata"
        if file != __file__ and (kind := kind_of(file)) != "python":
            return kind
        frame = frame.f_back
    return "python"


def _seen() -> tuple[Seen, ...]:
    """Where to note what is asked for now."""
    seen = _state["seen"]
    if seen is None or (who := asker()) == "ours":
        return ()
    return (seen, _kept) if who == "installed" else (seen,)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _state["seen"] is None or event not in _EVENTS:
        return
    with suppress(Exception):
        _EVENTS[event](arguments)


def _open(arguments: tuple[Any, ...]) -> None:
    path, mode, flags = arguments
    # what may be read and written is read
    writes = bool(set(mode) & set("wax")) if isinstance(mode, str) else bool(flags & os.O_WRONLY) or bool(flags & os.O_TRUNC)
    for seen in _seen():
        full = seen.path(path)
        if full is None or full.endswith(".pyc"):
            continue
        if not writes and full not in seen.written:
            seen.opened.add(full)
        elif writes and full not in seen.opened:
            seen.written.add(full)


def _list(arguments: tuple[Any, ...]) -> None:
    who = asker()
    if who in ("own", "installed", "metadata"):
        for seen in _seen():
            path = seen.path("." if arguments[0] is None else arguments[0])
            if path:
                seen.listed.add(os.path.join(path, PACKAGES) if who == "metadata" else path)


def _library(arguments: tuple[Any, ...]) -> None:
    for seen in _seen():
        if arguments and isinstance(arguments[0], str) and os.sep in arguments[0] and (path := seen.path(arguments[0])):
            seen.opened.add(path)


def _outside(what: str) -> Callable[[tuple[Any, ...]], None]:
    def note(arguments: tuple[Any, ...]) -> None:
        seen = _state["seen"]
        if seen is not None and asker() == "own":
            seen.unknown = seen.unknown or what

    return note


_EVENTS: dict[str, Callable[[tuple[Any, ...]], None]] = {
    "open": _open,
    "os.listdir": _list,
    "os.scandir": _list,
    "ctypes.dlopen": _library,
    "sqlite3.connect": _library,
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork"), _outside("another program")),
    **dict.fromkeys(("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"), _outside("the network")),
    "socket.gethostname": _outside("the name of the machine"),
}


class _Environment:
    """Stands in for the class of os.environ: notes what is read."""

    @staticmethod
    def of(base: type) -> type:
        def note(self: Any, key: Any) -> None:
            name = os.fsdecode(key)
            for seen in _seen():
                if name not in seen.set_here:
                    seen.environment.setdefault(name, value_of(self._data.get(self.encodekey(key))))

        class Watched(base):  # type: ignore[misc]  # whatever class os.environ has
            def __getitem__(self, key: Any) -> Any:
                note(self, key)
                return super().__getitem__(key)

            def __setitem__(self, key: Any, value: Any) -> None:
                for seen in _seen():
                    seen.set_here.add(os.fsdecode(key))
                super().__setitem__(key, value)

            def __iter__(self) -> Iterator[Any]:
                if asker() in ("own", "installed"):
                    for seen in _seen():
                        seen.environment.setdefault("", all_environment())
                return iter(super().__iter__())

        return Watched


@contextmanager
def watched() -> Iterator[Seen]:
    """Notes what a model's code asks for meanwhile. Python's audit hooks cannot be removed: ours sleeps."""
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked.append(True)
    seen = Seen()
    real = {name: getattr(os, name) for name in ("stat", "lstat", "access", "getcwd")}
    clocks = {name: getattr(time, name) for name in ("time", "time_ns", "localtime", "strftime", "ctime")}
    environments = [(e, type(e)) for e in (os.environ, getattr(os, "environb", None)) if e is not None]

    def asks(name: str) -> Callable[..., Any]:
        function = real[name]

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                found = function(path, *args, **kwargs)
            except (FileNotFoundError, NotADirectoryError):
                _looked(path, False)
                raise
            _looked(path, name != "access" or bool(found))
            return found

        return call

    def tells(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            # a logger's time stamp is no part of a model
            if kind_of(sys._getframe(1).f_code.co_filename) == "own":
                seen.unknown = seen.unknown or "the clock"
            return function(*args, **kwargs)

        return call

    def cwd() -> str:
        if asker() in ("own", "installed"):
            seen.relative = True
        return real["getcwd"]()  # type: ignore[no-any-return]  # os.getcwd

    _state["seen"] = seen
    for name in ("stat", "lstat", "access"):
        setattr(os, name, asks(name))
    os.getcwd = cwd
    for name, clock in clocks.items():
        setattr(time, name, tells(clock))
    for environment, kind in environments:
        environment.__class__ = _Environment.of(kind)
    try:
        yield seen
    finally:
        _state["seen"] = None
        for name, function in real.items():
            setattr(os, name, function)
        for name, clock in clocks.items():
            setattr(time, name, clock)
        for environment, kind in environments:
            environment.__class__ = kind


def again() -> Callable[[], None]:
    """What notes at another time, where a model is watched then, all that was asked for until now."""
    before = Seen()
    if (seen := _state["seen"]) is not None:
        before.add(seen)

    def note() -> None:
        if (seen := _state["seen"]) is not None:
            seen.add(before)

    return note


def _looked(path: Any, there: bool) -> None:
    if asker() not in ("own", "installed"):
        return
    for seen in _seen():
        full = seen.path(path)
        if full is not None and full not in seen.written:
            (seen.present if there else seen.absent).add(full)


# ------------------------------------------------------------------------------------------------ writing it down


def record(seen: Seen, loaded: Loaded, files: Iterable[Path], *, code: bool, rules: bool) -> Record:
    """What was seen, with the state of all of it now; `code`: the model is a person's own; `rules`: an operator had no rule of
    ours. Raises Changed where something has changed meanwhile or cannot be known."""
    if seen.unknown:
        raise Changed(f"it asks for {seen.unknown}")
    codes = _own_code(loaded) if code else {}
    names = {name for each in codes.values() for name in _names(each)}
    if names & _CHANCE or (names & _CLOCK and names & {"datetime", "date", "time"}):
        raise Changed("it asks for the time or for chance")
    written = {p for p in seen.written if p not in loaded.hashes}
    read = {os.path.abspath(f) for f in files} | seen.opened | _kept.opened | set(loaded.hashes) | _mentioned(codes)
    marks = []
    for path in sorted(read - written):
        if not os.path.exists(path):
            seen.absent.add(path)
        elif os.path.isfile(path):
            mark = mark_of(path)
            if changed_at(mark.marks) > seen.started or loaded.hashes.get(path, mark.sha256) != mark.sha256:
                raise Changed(f"{path} was edited meanwhile")
            marks.append(mark)
    own_folders = {os.path.dirname(path) for path in loaded.hashes}
    listed = seen.listed | _kept.listed | {os.path.join(f, IMPORTABLE) for f in own_folders}
    present = sorted((seen.present | _kept.present) - read - written)
    return Record(
        files=marks,
        groups=groups(seen.modules, seen.started),
        absent=sorted((seen.absent | _kept.absent) - written),
        present=[presence(path) for path in present if os.path.exists(path)],
        folders=[(folder, content(folder)) for folder in sorted(listed)],
        environment=_kept.environment | seen.environment,
        names=_names_found(loaded) if code or loaded.names else {},
        rules=installed_rules() if rules else None,
        cwd=_real_getcwd() if seen.relative or _kept.relative else None,
    )


def _names_found(loaded: Loaded) -> dict[str, str | None]:
    """Where top-level modules were found, and the names that were found nowhere."""
    found = {name: place for name, place in loaded.names.items() if "." not in name}
    return {
        name: place
        for name, place in found.items()
        if (name not in sys.modules if place is None else kind_of(place) in ("own", "installed"))
    }


def _own_code(loaded: Loaded) -> dict[str, CodeType]:
    found = {}
    for path in loaded.hashes:
        with suppress(OSError, SyntaxError, ValueError):
            found[path] = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    return found


def _inside(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inside(constant)


def _names(code: CodeType) -> Iterator[str]:
    for each in _inside(code):
        yield from each.co_names


def _mentioned(codes: dict[str, CodeType]) -> set[str]:
    """Files that a model's code names as text: a library in C++ may read them unseen."""
    found = set()
    for path, code in codes.items():
        for each in _inside(code):
            for text in each.co_consts:
                if isinstance(text, str) and _PATH.fullmatch(text):
                    for base in {os.path.dirname(path), _real_getcwd()}:
                        full = os.path.abspath(os.path.join(base, text))
                        if kind_of(full) == "own" and os.path.isfile(full):
                            found.add(full)
    return found
