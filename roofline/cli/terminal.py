"""The process around the commands: what goes to stdout and stderr, and how every end becomes an exit code."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from roofline.errors import CheckFailed, OutputError, RooflineError, UsageError
from roofline.views.listing import Painter

# What writing to stdout may raise; files are written elsewhere, and their errors are RooflineErrors by then.
_CANNOT_WRITE = (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EBADF, errno.EINVAL)

# Characters of a line on stderr.
_LONGEST = 990

# Whether this process is the command line's own, started for it, and not that of somebody who calls `main`.
OWN_PROCESS = False


def out(text: str | bytes) -> None:
    """A result, on stdout."""
    if isinstance(text, bytes):
        text = text.decode()
    sys.stdout.write(text)


def out_json(value: object) -> None:
    """A result as one JSON document, on stdout."""
    import msgspec

    out(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def note(text: str) -> None:
    """A line about the work, on stderr: what names and files bring into it moves no cursor, and no line is endless."""
    if sys.stderr:
        for line in f"roofline: {text}".split("\n"):
            shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in line)
            print(shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}...", file=sys.stderr)


def painter() -> Painter:
    """Colours for stdout if it is a terminal that wants them."""
    return Painter(sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


@contextmanager
def progress() -> Iterator[Callable[[str], None] | None]:
    """One line on the terminal that says what is being done, and is gone in the end. Nothing in a pipe."""
    if not sys.stderr or not sys.stderr.isatty():
        yield None
        return

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        show("")


def guard(run: Callable[[], int], debug: bool = False) -> int:
    """The exit code of `run()`, with every error printed as one or two lines on stderr (and its traceback if `debug`)."""
    if sys.stdout is None:  # closed by the caller (>&-)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without our signs shows others, and does not stop us
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warning
            code = run()
            sys.stdout.flush()
    except BrokenPipeError:
        # as a program that SIGPIPE ends: the reader has what it wanted
        _silence()
        return 141
    except KeyboardInterrupt:
        _silence_if_broken()
        note("interrupted")
        return 130
    except RooflineError as e:
        _silence_if_broken()
        note(f"{'' if isinstance(e, CheckFailed) else 'error: '}{e}")
        _trace(debug)
        return e.exit_code
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            note(f"error: no file can have a name so long: {str(e.filename)[:80]}...")
            _trace(debug)
            return UsageError.exit_code
        if e.errno not in _CANNOT_WRITE or e.filename is not None:
            return _fault(e, debug)
        _silence()
        note(f"error: cannot write to stdout: {e.strerror}")
        _trace(debug)
        return OutputError.exit_code
    except Exception as e:  # the boundary: without it a fault would end in exit code 1, which says that a budget failed
        return _fault(e, debug)
    return code


def leave(code: int) -> None:
    """End the process where Python would wait for threads that a model has left, which may never end; else do nothing."""
    threading: Any = sys.modules.get("threading")
    if threading is None or all(t.daemon or t is threading.main_thread() for t in threading.enumerate()):
        return
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _fault(error: Exception, debug: bool) -> int:
    _silence_if_broken()
    note(f"internal error: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    note("this is a fault of roofline; please report it with the output of --debug")
    _trace(debug)
    return 70


def _trace(debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()


def _silence_if_broken() -> None:
    """Bring out what was printed before the error line."""
    try:
        sys.stdout.flush()
    except OSError:
        _silence()


def _silence() -> None:
    """Point stdout nowhere, so that the interpreter's last flush does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """A warning as one line, without the place in our code that says nothing to its reader."""
    note(f"warning: {' '.join(str(message).split())}")
