"""What a model's own code raises, or does to end the program, as one clear line."""

from __future__ import annotations

import linecache
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from roofline.cache.places import kind_of
from roofline.errors import ModelError, RooflineError
from roofline.isolation import ground

_LONGEST = 300
# Ways to end or replace this process that leave Python no chance to say so.
_ENDS = ("_exit", "abort", "execv", "execve", "execl", "execle", "execlp", "execvp", "execvpe", "execlpe")


class Ended(ModelError):
    """The model's code ended the program, or tried to."""


def text(error: BaseException) -> str:
    """Its words; empty where its own __str__ fails."""
    try:
        return str(error)
    except BaseException:  # the model's own may raise anything
        return ""


def said(error: BaseException) -> str:
    """ "ValueError: the words" on one line, whatever the error's own __str__ does."""
    name = " ".join(str(getattr(type(error), "__name__", "error")).split())[:80]
    try:
        text = str(error)
        if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
            text = error.args[0]
    except BaseException as inner:  # the model's own words may raise anything
        return f"{name} (and its message raises {type(inner).__name__})"
    if _SCRIPT in text and (found := re.findall(_RAISED, text)):
        name, text = found[-1]
    first = next((line for line in text.splitlines() if line.strip()), "")
    line = " ".join("".join(c if c.isprintable() else " " for c in first).split())
    line = line if len(line) <= _LONGEST else line[:_LONGEST] + "..."
    return f"{name}: {line}" if line else f"{name}{_source(error)}"


# TorchScript tells what happened in it at the end of a text that begins with these words, and where by the way.
_SCRIPT = "failed in the TorchScript interpreter"
# patterns, which are compiled where something failed
_RAISED = r"(?m)^(?:\w+\.)*(\w+): (.+)"
_PLACES = r'(?m)^(?:  File "(.+)", line (\d+), in |(.+\.py)\((\d+)\): )'


def wordless(words: str) -> bool:
    """Whether TorchScript tells that something in it failed, and not what."""
    return _SCRIPT in words and not re.search(_RAISED, words)


def _source(error: BaseException) -> str:
    """ " (at: assert x.shape[1] == 1)": the line that raised an error without words, where it can be read."""
    tb = error.__traceback__
    if tb is None:
        return ""
    while tb.tb_next is not None:
        tb = tb.tb_next
    line = " ".join(linecache.getline(tb.tb_frame.f_code.co_filename, tb.tb_lineno).split())
    line = "".join(c for c in line if c.isprintable())
    return f" (at: {line[:120]})" if line else ""


def place(error: BaseException) -> str:
    """ " (net.py:12)": the innermost line of a person's own code that the error passed through, else nothing."""
    found = ""
    tb = error.__traceback__
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if kind_of(file) == "own":
            found = f" ({shown(file)}:{tb.tb_lineno})"
        tb = tb.tb_next
    words = text(error)
    own = [p for p in re.findall(_PLACES, words) if kind_of(p[0] or p[2]) == "own"] if _SCRIPT in words else []
    if own:  # within a script the innermost is the last, within a trace the first
        file, line = own[-1][:2] if own[-1][0] else own[0][2:]
        return f" ({shown(file)}:{line})"
    return found


def shown(file: str) -> str:
    """A file as a person would name it from here."""
    try:
        here = Path.cwd()  # a model may have left for the root
        return os.path.relpath(file) if Path(file).is_relative_to(here) and here != Path(here.anchor) else file
    except (OSError, ValueError):
        return file


def interrupted(error: BaseException) -> bool:
    """Whether a person pressed Ctrl-C; a class of the model's own that descends from it is a failure like any other."""
    return type(error) is KeyboardInterrupt


def ended(name: str, error: BaseException) -> ModelError | None:
    """The error that stands for `sys.exit()` in a model's code."""
    if isinstance(error, SystemExit):
        said = f"{name}: its code ended the program (sys.exit({error.code!r:.100})){place(error)}"
        if error.code == 2:
            said += (
                '\nas a parser of a command line does: what the file does as a program goes below if __name__ == "__main__":'
            )
        return Ended(said)
    return None


_LIBC = frozenset({"exit", "_exit", "_Exit", "quick_exit", "abort", "kill", "raise"})
_watch: dict[str, str] = {}
_hooked: list[bool] = []


# Further audit events -> who hears of them, by what else closes something while a model's code runs.
HEARD: dict[str, Callable[[str, tuple[Any, ...]], None]] = {}


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "ctypes.dlsym" and _watch:
        _asked(arguments[1])
    elif (hears := HEARD.get(event)) is not None:
        hears(event, arguments)


def _asked(function: Any) -> None:
    """The same through ctypes: asking the C library for such a function is refused."""
    if function in _LIBC and any(kind_of(f.filename) == "own" for f in traceback.extract_stack(limit=5)):
        _refuse(_watch["name"], f"{function} of the C library", ())


def _asks(real: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def call(library: Any, function: Any) -> Any:
        _asked(function)
        return real(library, function)

    return call


def audited() -> None:
    """See every way to ask the C library, from now on. Python calls such a hook at every id() of the process, and it cannot be
    removed: only where a model's file is run, not for the module of a caller, which goes without (see `no_way_out`)."""
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked.append(True)


@contextmanager
def no_way_out(name: str) -> Iterator[None]:
    """While a model's code runs, what would end this process at once raises Ended: a gate must not be green because the model
    left before the verdict."""
    here = os.getpid()
    saved: list[tuple[Any, str, Any]] = []

    def guarded(what: str, real: Callable[..., Any], mine: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() != here or not mine(*args):
                return real(*args, **kwargs)
            return _refuse(name, what, args)

        return call

    owners = [os, *(m for m in (sys.modules.get("posix"), sys.modules.get("nt")) if m is not None)]
    ways: list[tuple[Any, str, Callable[..., bool]]] = [(o, n, lambda *a: True) for o in owners for n in _ENDS]
    ways += [(o, "kill", lambda pid, *a: pid in (here, 0)) for o in owners]
    ways += [(o, "killpg", lambda group, *a: group == os.getpgrp()) for o in owners]
    ways += [(signal, "raise_signal", lambda *a: True)]
    for owner, what, mine in ways:
        real = getattr(owner, what, None)
        if real is not None:
            saved.append((owner, what, real))
            setattr(owner, what, guarded(what, real, mine))
    if (library := getattr(sys.modules.get("ctypes"), "CDLL", None)) is not None:
        saved.append((library, "__getitem__", library.__getitem__))
        library.__getitem__ = _asks(library.__getitem__)
    before = dict(_watch)
    _watch["name"] = name
    try:
        yield
    finally:
        _watch.clear()
        _watch.update(before)
        for owner, what, real in saved:
            setattr(owner, what, real)


def _refuse(name: str, what: str, args: tuple[Any, ...]) -> NoReturn:
    given = ", ".join(repr(a)[:40] for a in args[:2])
    mine = [f for f in traceback.extract_stack() if kind_of(f.filename) == "own"]
    where = f" ({shown(mine[-1].filename)}:{mine[-1].lineno})" if mine else ""
    module = "signal." if what == "raise_signal" else "" if " " in what else "os."
    call = f"({given})" if " " not in what else ""
    raise Ended(f"{name}: its code ended the program ({module}{what}{call}){where}")


@contextmanager
def told(name: str, taken: Callable[[], list[str]] = list) -> Iterator[None]:
    """Around what runs a model's own code: anything that it raises becomes a ModelError of one line. `taken` are names of
    torch's that are no more."""
    ground.forget()
    try:
        yield
    except RooflineError:
        raise
    except BaseException as error:
        if interrupted(error):
            raise
        exit_error = ended(name, error)
        if exit_error is not None:
            raise exit_error from error
        where = place(error)
        if not where and (why := ground.blamed() or ground.blamed(taken())):
            raise ModelError(f"the model failed: {name}: {why}; and then: {said(error)}") from error
        if isinstance(error, Exception) and not where and not isinstance(error, MemoryError):
            raise  # nothing of the model's was running: a fault of ours
        raise ModelError(f"the model failed: {name}: {said(error)}{where}") from error
