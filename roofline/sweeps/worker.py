"""A process of a sweep: takes tasks from its stdin, one at a time, and answers with their rows on what was its stdout."""

from __future__ import annotations

import gc
import os
import queue
import signal
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from roofline.devices.device import Device
from roofline.isolation import memory
from roofline.isolation.supervision import die_with_parent
from roofline.records.sweep import FAILED, Row
from roofline.sweeps import plan
from roofline.sweeps.plan import Task

_LENGTH = struct.Struct("<Q")
# New modules that are worth a collection: timm brings some hundreds, a model of transformers its own few.
_MANY = 100


class Start(Struct, frozen=True):
    """What a process is told before its first task."""

    devices: tuple[Device, ...]
    # bytes that it may take
    memory: int


class Answer(Struct, frozen=True):
    """What it says: that it is ready (no rows), why it cannot be, or the rows of a task."""

    rows: list[Row] = []
    # of the process itself
    error: str = ""
    # other processes may be left of the task
    forked: bool = False


def send(stream: BinaryIO, message: Struct) -> None:
    data = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """The next message; None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def main() -> None:
    """Until stdin ends. What a model prints goes nowhere."""
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    die_with_parent(signal.SIGKILL)
    me, forks = os.getpid(), list[int]()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_parent=lambda: forks.append(1), after_in_child=lambda: _shut(tasks, answers))
    waiting: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_read, args=(tasks, waiting.put), daemon=True).start()
    start = msgspec.msgpack.decode(waiting.get() or b"", type=Start)
    try:
        from roofline.sweeps import work

        _warm()
    except Exception as error:  # of an import: told to whoever started this process
        send(answers, Answer(error=f"{type(error).__name__}: {error}"))
        return
    memory.limit(start.memory)
    send(answers, Answer())
    imported = len(sys.modules)
    while (data := waiting.get()) is not None:
        forks.clear()
        task = msgspec.msgpack.decode(data, type=Task)
        try:
            rows = work.rows(task, start.devices)
        except Exception as error:  # a fault of this program is one of this model's rows, and no other's
            rows = work.faulty(task, start.devices, error)
        except KeyboardInterrupt:  # a person's goes to the process that started this one
            rows = plan.lost(task, start.devices, FAILED, "its code raised KeyboardInterrupt, as Ctrl-C does")
        if os.getpid() != me:  # a model's own fork came back here
            os._exit(0)
        send(answers, Answer(rows, forked=bool(forks)))
        if len(sys.modules) > imported + _MANY:
            imported = _settled()


def _warm() -> None:
    """What every task would wait for."""
    from roofline import compat

    if compat.version("torch"):
        import torch

        torch.set_num_threads(1)
    _settled()


def _settled() -> int:
    """What is imported stays: the collector need not go through it again for every model. How many modules that are."""
    gc.collect()
    gc.freeze()
    return len(sys.modules)


def _read(stream: BinaryIO, put: Callable[[bytes | None], Any]) -> None:
    """Hand on every task; at the end of them nobody waits for an answer any more, whatever the model is at."""
    while (data := receive(stream)) is not None:
        put(data)
    os._exit(0)


def _shut(*streams: BinaryIO) -> None:
    """In a process that the model forked: it has nothing to say to anybody."""
    for stream in streams:
        os.dup2(0, stream.fileno())
