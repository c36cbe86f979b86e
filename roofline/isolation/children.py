"""Work on models in several forks of this process, each on one at a time: what one does to its process costs it alone.

A fork has all that this process has imported, so none waits for torch again. One that crashes, or passes a limit of time or
memory, is ended with all that it started, and another one takes its place. Only where `supervision.may_fork` says so.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from roofline.isolation import memory, supervision
from roofline.isolation.supervision import Limits

_NUMBER = struct.Struct("<q")
_TICK_S = 0.1
# A machine that slept did not run meanwhile.
_LONGEST_TICK_S = 1.0


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Child:
    """A fork, what it is at, and what it has said so far."""

    def __init__(self, work: Callable[[int], bytes]) -> None:
        for stream in (sys.stdout, sys.stderr):  # what waits in a buffer would come out twice
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        theirs, self.tell = os.pipe()
        self.heard, answers = os.pipe()
        self.task: int | None = None
        self.ran, self.held = 0.0, 0
        self._said = b""
        self.process = os.fork()
        if self.process == 0:
            os.close(self.tell)
            os.close(self.heard)
            _serve(theirs, answers, work)
        os.close(theirs)
        os.close(answers)

    def give(self, task: int) -> None:
        self.task, self.ran, self.held = task, 0.0, 0
        with contextlib.suppress(OSError):  # it died: `gone` says so
            os.write(self.tell, _NUMBER.pack(task))

    def listen(self) -> bytes | None:
        """Its answer, where it is whole."""
        while select.select([self.heard], [], [], 0)[0]:
            more = os.read(self.heard, 1 << 20)
            if not more:
                break
            self._said += more
        if len(self._said) < _NUMBER.size:
            return None
        (size,) = _NUMBER.unpack(self._said[: _NUMBER.size])
        if len(self._said) < _NUMBER.size + size:
            return None
        answer, self._said = self._said[_NUMBER.size :][:size], b""
        return answer

    def gone(self) -> str | None:
        """What became of it, where it is no more."""
        process, status = os.waitpid(self.process, os.WNOHANG)
        if not process:
            return None
        code = os.waitstatus_to_exitcode(status)
        return supervision.ended(code) if code >= 0 else supervision.crashed(-code, self.held)

    def past(self, spent: float, limits: Limits) -> str | None:
        """Which limit it has passed."""
        self.ran += spent
        held = memory.resident(self.process)
        self.held = max(self.held, held)
        return supervision.passed(self.ran, held, limits)

    def end(self) -> None:
        """End it with all that it started."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(self.process, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(self.process, 0)
        os.close(self.tell)
        os.close(self.heard)


def run(count: int, tasks: int, work: Callable[[int], bytes], limits: Limits) -> Iterator[tuple[int, bytes | str]]:
    """`work(task)` for each of `tasks` from 0 on, in `count` forks, as they are done; a text says why there is no answer.

    The limits are those of one task; its memory is a part of what is free, where they do not say.
    """
    if limits.memory_bytes is None:
        limits = Limits(limits.time_s, supervision.MEMORY_SHARE * memory.free() / count)
    left = list(range(tasks))[::-1]
    children: list[_Child] = []
    last = time.monotonic()
    try:
        while left or children:
            while left and len(children) < count:
                children.append(_Child(work))
                children[-1].give(left.pop())
            select.select([child.heard for child in children], [], [], _TICK_S)
            spent, last = min(time.monotonic() - last, _LONGEST_TICK_S), time.monotonic()
            for child in list(children):
                found: bytes | str | None = child.listen()
                lost = None if found is not None else child.gone() or child.past(spent, limits)
                found = child.listen() if lost and found is None else found  # its last words
                if found is None and lost is None:
                    continue
                assert child.task is not None
                done = child.task
                if lost or not left:
                    children.remove(child)
                    child.end()
                else:
                    child.give(left.pop())
                yield done, found if found is not None else lost or ""
    finally:
        for child in children:
            child.end()


def _serve(tasks: int, answers: int, work: Callable[[int], bytes]) -> NoReturn:
    """The fork's side: until nobody asks any more."""
    me = os.getpid()
    try:
        os.setpgid(0, 0)  # Ctrl-C is the first process's, which ends all
        supervision.die_with_parent(signal.SIGKILL)
        supervision.handed_over()
        gc.freeze()
        with contextlib.suppress(OSError):
            os.dup2(2, 1)  # what compiled code prints is none of our results
        while len(asked := os.read(tasks, _NUMBER.size)) == _NUMBER.size:
            answer = work(*_NUMBER.unpack(asked))
            if os.getpid() != me:  # a model's own fork came back here
                break
            said = memoryview(_NUMBER.pack(len(answer)) + answer)
            while said:
                said = said[os.write(answers, said) :]
        os._exit(0)
    finally:
        os._exit(1)
