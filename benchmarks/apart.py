"""Work in a forked process: packages stay imported in this one, and what a model does to its process costs that model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def forked(work: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """The process, and the pipe in which it says as JSON what `work` gives; nothing else that it prints is seen."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        found = work()
        with os.fdopen(write, "w") as out:
            json.dump(found, out)
        os._exit(0)
    os.close(write)
    return pid, read


def told(text: str | bytes, status: int) -> dict[str, Any]:
    """What a process said before it ended."""
    found: dict[str, Any] = json.loads(text) if text else {"crash": f"the process ended with status {status}"}
    return found
