"""Processes that work on models, each on one at a time, with limits: what a model does to its process costs that model alone.

A process is a fresh interpreter (nothing is forked, and no `__main__` is run again) in a group of its own. One that takes too
long or too much memory is ended with all that it started; its model is tried again, and its rows say what happened.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.isolation import memory
from roofline.isolation.supervision import signal_name
from roofline.records.sweep import CRASHED, MEMORY, TIMEOUT, Row
from roofline.sweeps import plan
from roofline.sweeps.plan import Task
from roofline.sweeps.worker import Answer, Start, receive, send
from roofline.units import binary, seconds

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from roofline.sweeps.worker import main; main()"
# s between two looks at the processes; that one may take to start
_LOOK, _START = 0.05, 600.0


class Limits(Struct, frozen=True):
    """Of one model: seconds, bytes of its process, and how often it is tried again."""

    time: float = 300.0
    memory: int = 4 * 2**30
    retries: int = 1


class PoolError(RooflineError):
    """No process can work."""


class _Process:
    """One of them, and what it is at."""

    def __init__(self, devices: Sequence[Device], limits: Limits, said: queue.Queue[tuple[_Process, Answer | None]]) -> None:
        self.task: Task | None = None
        self.tries = 0
        self.since = time.monotonic()
        self.ready = False
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()
        with suppress(OSError):
            send(self.popen.stdin, Start(tuple(devices), limits.memory))  # type: ignore[arg-type]  # a pipe was asked for

    def _listen(self, said: queue.Queue[tuple[_Process, Answer | None]]) -> None:
        try:
            while (data := receive(self.popen.stdout)) is not None:  # type: ignore[arg-type]  # as above
                said.put((self, msgspec.msgpack.decode(data, type=Answer)))
        except (OSError, ValueError):
            pass
        said.put((self, None))

    def give(self, task: Task, tries: int) -> None:
        self.task, self.tries, self.since = task, tries, time.monotonic()
        with suppress(OSError):  # it died: `_listen` says so
            send(self.popen.stdin, task)  # type: ignore[arg-type]  # as above

    def memory(self) -> int:
        """Bytes resident; 0 where the system does not tell."""
        return memory.resident(self.popen.pid)

    def end(self) -> int:
        """End it with all that it started; its exit status."""
        with suppress(OSError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        with suppress(OSError):
            self.popen.kill()
        status = self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()
        return status


class Pool:
    """So many processes. Use it as a context: it ends them."""

    def __init__(self, count: int, devices: Sequence[Device], limits: Limits) -> None:
        self.count, self.devices, self.limits = count, devices, limits
        self.processes: list[_Process] = []
        self.said: queue.Queue[tuple[_Process, Answer | None]] = queue.Queue()
        self.ended = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        for process in self.processes:
            process.end()
        self.processes.clear()

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, list[Row]]]:
        """The rows of every task, in the order in which they are done. Raises PoolError where no process can start."""
        left: deque[tuple[Task, int]] = deque((task, 0) for task in tasks)
        open_tasks = len(left)
        while open_tasks:
            if self.ended:  # by another thread
                raise PoolError("the processes of the sweep were ended")
            while len(self.processes) < min(self.count, open_tasks):
                self.processes.append(_Process(self.devices, self.limits, self.said))
            for process in self.processes:
                if process.ready and process.task is None and left:
                    process.give(*left.popleft())
            for task, tries, found, why in self._happened():
                if found is None and tries < self.limits.retries:
                    left.append((task, tries + 1))
                else:
                    open_tasks -= 1
                    yield task, found if found is not None else plan.lost(task, self.devices, *why)

    def _happened(self) -> Iterator[tuple[Task, int, list[Row] | None, tuple[str, str]]]:
        """Tasks that are done or lost: (task, tries before, rows, what happened to it)."""
        try:
            process, answer = self.said.get(timeout=_LOOK)
        except queue.Empty:
            yield from self._over()
            return
        if process not in self.processes:
            return
        task = process.task
        if answer is None:
            status = self._drop(process)
            if task is None and not process.ready:
                raise PoolError(f"a process of the sweep did not start ({_died(status)})")
            if task is not None:
                yield task, process.tries, None, (CRASHED, f"the process that traced it died: {_died(status)}")
        elif answer.error:
            raise PoolError(f"a process of the sweep did not start: {answer.error}")
        elif task is None:
            process.ready = True
        else:
            process.task = None
            if answer.forked or process.memory() > self.limits.memory // 2:
                self._drop(process)
            yield task, process.tries, answer.rows, ("", "")
        yield from self._over()

    def _over(self) -> Iterator[tuple[Task, int, None, tuple[str, str]]]:
        """Those that are beyond a limit."""
        for process in list(self.processes):
            task, spent = process.task, time.monotonic() - process.since
            if task is None:
                if not process.ready and spent > _START:
                    raise PoolError(f"a process of the sweep was not ready after {seconds(_START)}")
            elif spent > self.limits.time:
                self._drop(process)
                yield task, process.tries, None, (TIMEOUT, f"it took more than {seconds(self.limits.time)} (--time-limit)")
            elif process.memory() > self.limits.memory:
                self._drop(process)
                why = f"its process took more than {binary(self.limits.memory)} of memory (--memory-limit)"
                yield task, process.tries, None, (MEMORY, why)

    def _drop(self, process: _Process) -> int:
        self.processes.remove(process)
        return process.end()


def _died(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    return signal_name(-status)
