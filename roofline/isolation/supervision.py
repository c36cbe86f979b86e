"""A model's code under the eyes of a second process: what crashes, hangs or eats the memory costs one line, and not the answer.

Python cannot catch a segmentation fault, end a loop in compiled code, or go on when the system kills it. So the command line
forks where a model's code begins. The child goes on with all of the work; the parent waits and passes its exit code on. If
the child dies in the model's code, or runs it past a limit, the parent stands where the model was about to start and raises
a ModelError there: the models after it are still answered for.

Only for the process of the command line (a caller's own is not ours to fork), only on Linux (elsewhere a signal does not
tell who sent it), and only before kernels of torch have started threads, which a child would wait for without end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from roofline.errors import ModelError
from roofline.isolation import memory
from roofline.units import binary, seconds

TIME_LIMIT_S = 600.0
# Of the memory that is free when the model begins; a machine that swaps answers nobody.
MEMORY_SHARE = 0.9
# So many parents wait for one another at most; the code of later models is watched by the last of them.
DEEPEST = 4
_TICK_S = 0.1
# A machine that slept, or a process that was stopped, did not run meanwhile.
_LONGEST_TICK_S = 1.0
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT) if os.name == "posix" else ()
_CRASHES = {
    "SIGSEGV": "a segmentation fault",
    "SIGBUS": "a bus error",
    "SIGABRT": "an abort",
    "SIGFPE": "an arithmetic fault",
    "SIGILL": "an instruction that this processor does not have",
    "SIGTRAP": "a trap",
}


class Limits(NamedTuple):
    """What the code of one model may take."""

    time_s: float = TIME_LIMIT_S
    # None: MEMORY_SHARE of what is free
    memory_bytes: float | None = None


class _State:
    limits: Limits | None = None
    depth = 0
    # threads that are there with torch and do no harm: those of NumPy's linear algebra, which knows of forks
    threads = 1
    # whether a model's code runs now
    inside = False
    # this process's end of the pipe to the one that waits for it
    tell: int | None = None


class _Failed(NamedTuple):
    # which model, and what became of it
    name: str
    why: str
    # whether it was the model at whose start the parent stands
    first: bool


def start(limits: Limits) -> None:
    """From now on the code of each model in this process runs under `limits`, where the system can do that."""
    _State.limits = limits


def limits() -> Limits | None:
    """Those of the models of this process, where it is watched."""
    return _State.limits


def handed_over() -> None:
    """From now on another process watches over this one."""
    _State.limits = None


def may_fork() -> bool:
    """Whether a fork of this process can go on with models: it is watched, and no thread would be missing in the fork."""
    return _State.limits is not None and hasattr(signal, "sigtimedwait") and 1 <= _threads() <= _State.threads


@contextmanager
def over(name: str) -> Iterator[None]:
    """Around the code of the model `name`. Raises ModelError where it crashes or passes a limit. Within itself it does
    nothing: who watches the outer one watches the inner."""
    if _State.limits is None or _State.inside:
        yield
        return
    if _State.depth < DEEPEST and may_fork():
        _fork(name, _State.limits)
    _say(b"M" + name.encode(errors="replace").replace(b"\n", b" ")[:300] + b"\n")
    mine = os.getpid()
    _State.inside = True
    try:
        yield
    finally:
        _State.inside = False
        if os.getpid() == mine:
            _say(b"E\n")


def begun() -> None:
    """What a model needs is imported, and nothing of it has run: its time begins, and the threads of now are harmless."""
    if _State.limits is not None and _State.threads == 1:
        _State.threads = _threads()
    _say(b"T\n")


def _threads() -> int:
    """How many threads this process has, Python's or not; 0 where nobody says."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def _say(line: bytes) -> None:
    if _State.tell is not None:
        with contextlib.suppress(OSError):
            os.write(_State.tell, line)


def _fork(name: str, limits: Limits) -> None:
    """Returns in the child; in the parent it raises, or ends the process as the child ended."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):  # what waits in a buffer would come out twice
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]  # None where the caller closed it: AttributeError
    heard, tell = os.pipe()
    _State.depth += 1
    watched = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    # what is free before the child has taken any of it
    room = limits.memory_bytes or MEMORY_SHARE * memory.free()
    child = os.fork()
    if child == 0:
        os.close(heard)
        if _State.tell is not None:
            os.close(_State.tell)
        _State.tell = tell
        die_with_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os.close(tell)
    try:
        failed = _Wait(child, heard, name, limits.time_s, room).to_its_end()
    finally:
        os.close(heard)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _State.depth -= 1
    if failed.first:
        raise ModelError(f"{failed.name}: {failed.why}")
    print(f"roofline: error: {failed.name}: {failed.why}", file=sys.stderr, flush=True)
    os._exit(ModelError.exit_code)


class _Wait:
    """The parent's side."""

    def __init__(self, child: int, heard: int, name: str, time_s: float, room: float) -> None:
        self._child, self._heard, self._time_s, self._room = child, heard, time_s, room
        # the model whose code runs now, and how long it has
        self._name: str | None = name
        self._timed, self._ran = False, 0.0
        self._models = 0
        self._text = b""
        self._held = 0.0

    def to_its_end(self) -> _Failed:
        """Returns what became of a model that failed; ends this process where the child ended in another way."""
        last = time.monotonic()
        while True:
            got = signal.sigtimedwait([*_PASSED_ON, signal.SIGCHLD], _TICK_S)
            if got is not None and got.si_signo != signal.SIGCHLD:
                self._pass_on(got)
            now = time.monotonic()
            self._ran += min(now - last, _LONGEST_TICK_S) if self._timed else 0.0
            last = now
            self._listen()
            gone, status = os.waitpid(self._child, os.WNOHANG)
            if gone:
                self._listen()
                return self._ended(status)
            if self._name is not None and (why := self._past()):
                os.kill(self._child, signal.SIGKILL)
                os.waitpid(self._child, 0)
                return self._failed(why)

    def _pass_on(self, got: signal.struct_siginfo) -> None:
        """A terminal sends Ctrl-C to the child too, a person with `kill` only to the process that they know of."""
        if got.si_code <= 0:  # from a process, not from the kernel
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, got.si_signo)

    def _listen(self) -> None:
        while select.select([self._heard], [], [], 0)[0]:
            more = os.read(self._heard, 4096)
            if not more:
                return
            *lines, self._text = (self._text + more).split(b"\n")
            for line in lines:
                if line[:1] == b"M":
                    self._name, self._models = line[1:].decode(errors="replace"), self._models + 1
                elif line[:1] == b"E":
                    self._name = None
                self._timed, self._ran = line[:1] == b"T", 0.0

    def _past(self) -> str | None:
        """Which limit the model has passed."""
        self._held = max(self._held, held := memory.resident(self._child))
        return passed(self._ran, held, Limits(self._time_s, self._room))

    def _ended(self, status: int) -> _Failed:
        code = os.waitstatus_to_exitcode(status)
        if code < 0 and -code in (*_PASSED_ON, signal.SIGPIPE):
            _end_by(-code)
        if self._name is None and code >= 0:
            os._exit(code)
        if code >= 0:
            return self._failed(ended(code))
        return self._failed(crashed(-code, self._held))

    def _failed(self, why: str) -> _Failed:
        return _Failed(self._name or "the program", why, self._name is not None and self._models <= 1)


def passed(ran: float, held: float, limits: Limits) -> str | None:
    """Which limit a model has passed that ran for `ran` seconds and whose process holds `held` bytes."""
    if ran > limits.time_s:
        return (
            f"building and tracing it took longer than {seconds(limits.time_s)}, the limit\n"
            "does its code wait or loop? If it only takes long, give it more with --time-limit"
        )
    if limits.memory_bytes is not None and held > limits.memory_bytes:
        return (
            f"building and tracing it took {binary(held)} of memory here, and {binary(limits.memory_bytes)} is the limit\n"
            "give it another with --memory-limit, or a smaller batch, input or model"
        )
    return None


def ended(code: int) -> str:
    """What became of a model in whose code its process ended with an exit code."""
    return f"its code ended the program (exit code {code}), past all that watches for it"


def crashed(number: int, held: float) -> str:
    """What became of a model whose process a signal ended when it held so many bytes (0: nobody knows)."""
    named = signal_name(number)
    if number == signal.SIGKILL:
        when = f" when it held {binary(held)}" if held else ""
        return (
            f"the system killed it{when}: most likely there was no memory left\n"
            "try a smaller batch, input or model, or a machine with more memory"
        )
    what = _CRASHES.get(named, "a signal")
    return (
        f"its code crashed the process ({named}: {what})\n"
        "the fault is in compiled code that the model calls; `python -X faulthandler -m roofline ...` shows where"
    )


def _end_by(number: int) -> NoReturn:
    """End this process by the same signal, as whoever waits for it expects."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Where the system can do that, this process gets the signal when its parent is gone: it has nobody to answer to."""
    with contextlib.suppress(OSError, AttributeError, ImportError, TypeError):  # another system
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
