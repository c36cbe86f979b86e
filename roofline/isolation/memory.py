"""Memory of this machine and its processes, where the system tells and limits it: Linux."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def resident(process: int) -> int:
    """Bytes of memory that a process holds now; 0 where nobody says."""
    try:
        return _pages(process)[1]
    except (OSError, ValueError, IndexError):
        return 0


def free() -> float:
    """Bytes of memory that this machine, or the container that we are in, can give now; infinite where nobody says."""
    found = [float("inf")]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):  # cgroup v2; "max" is no limit
        here = Path("/sys/fs/cgroup")
        found.append(float((here / "memory.max").read_text()) - float((here / "memory.current").read_text()))
    return min(found)


def limit(more: int) -> tuple[int, int] | None:
    """From now on this process gets `more` bytes of address space at most: an allocation beyond them fails.

    Returns the limits before, None where there is no such limit to set.
    """
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = _pages(os.getpid())[0] + more
        resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(soft, wanted), hard))
    except (ImportError, OSError, ValueError):  # not this system's way
        return None
    return soft, hard


@contextmanager
def limited(more: int) -> Iterator[None]:
    """The same, meanwhile."""
    before = limit(more)
    try:
        yield
    finally:
        if before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, before)


def _pages(process: int) -> tuple[int, int]:
    """Bytes of its address space, and of what of it lies in memory."""
    size, held = Path(f"/proc/{process}/statm").read_bytes().split()[:2]
    page = os.sysconf("SC_PAGE_SIZE")
    return int(size) * page, int(held) * page
