"""Timing on a machine that others use too: short samples, and the scheduler's own account of which of them were disturbed.

Linux tells, for each thread, how long it was ready to run and had to wait for a core. A sample in which no thread of this
process waited is as good as one on an idle machine, as long as it is short. Elsewhere involuntary context switches stand
in for it; where not even those are known, the faster half of the samples does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from msgspec import Struct

from roofline.errors import UsageError

# Fewer undisturbed samples than this are no measurement; the faster quarter of all is taken, and marked.
LEAST = 5
_TASKS = Path("/proc/self/task")


class Sample(Struct, frozen=True):
    """Seconds of one thing done many times."""

    # the median of the undisturbed samples
    median: float
    # distance between their quartiles, as a fraction of the median
    spread: float
    # samples taken, and how many of them were undisturbed
    taken: int
    clean: int

    @property
    def disturbed(self) -> bool:
        """Hardly a sample was undisturbed: `median` is that of the faster quarter."""
        return self.clean < min(LEAST, self.taken)


class Waiting:
    """How long threads of this process have waited for a core, in units that only their differences give a sense."""

    # seconds that cores may be held in one go before as long a rest
    HELD = 0.02

    def __init__(self) -> None:
        # whether `pinned` has given this process the right of way
        self.hold = False
        self.held = 0.0
        self.files: dict[str, int] = {}
        self.how = "schedstat" if self._schedstat() is not None else "switches" if _switches() is not None else ""
        self.threads = 0

    def __enter__(self) -> Waiting:
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self.files.values():
            os.close(descriptor)
        self.files.clear()

    def refresh(self) -> None:
        """Take in threads that were started since: call it after a warm-up."""
        if self.how != "schedstat":
            return
        for name in os.listdir(_TASKS):
            if name not in self.files:
                try:
                    self.files[name] = os.open(_TASKS / name / "schedstat", os.O_RDONLY)
                except OSError:  # it has ended meanwhile
                    continue

    def __call__(self) -> int:
        """Nanoseconds waited, or involuntary switches, of all threads so far; always 0 where neither is known."""
        if self.how == "schedstat":
            return sum(_waited(descriptor) for descriptor in self.files.values())
        return (_switches() or 0) if self.how else 0

    def rest(self, took: float) -> bool:
        """Let others run for as long as a process that holds its cores has run; whether it did (workers sleep, caches go)."""
        self.held += took
        if not self.hold or self.held < self.HELD:
            return False
        time.sleep(self.held)
        self.held = 0.0
        return True

    def _schedstat(self) -> int | None:
        try:
            return int((_TASKS.parent / "schedstat").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return None


def _waited(descriptor: int) -> int:
    try:
        return int(os.pread(descriptor, 64, 0).split()[1])
    except (OSError, IndexError):  # the thread has ended
        return 0


def _switches() -> int | None:
    """Involuntary context switches of this process; None where the system does not count them."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def sample(
    calls: Callable[[], object] | Sequence[Callable[[], object]],
    waiting: Waiting,
    *,
    wanted: int = 20,
    limit: float = 0.5,
    number: int = 1,
    between: Callable[[], object] | None = None,
) -> Sample:
    """Time a call until `wanted` samples were undisturbed or `limit` seconds have passed (at least three samples).

    Of several calls each is a sample in its turn. A sample is `number` calls in a row; the result is for one of them. A
    round of all calls goes before and does not count. `between` runs before each sample, off the clock.
    """
    ring = [calls] if callable(calls) else list(calls)
    for call in ring:
        call()
    waiting.refresh()
    clock = time.perf_counter
    times: list[float] = []
    clean: list[float] = []
    end = clock() + limit
    again = False
    while len(clean) < wanted and (clock() < end or len(times) < 3):
        call = ring[len(times) % len(ring)]
        if again:
            # whoever had the core has had its caches too; and a worker may be new
            waiting.refresh()
            if len(ring) == 1:
                call()
        if between is not None:
            between()
        before = waiting()
        start = clock()
        for _ in range(number):
            call()
        took = (clock() - start) / number
        times.append(took)
        alone = waiting() == before
        if alone:
            clean.append(took)
        again = waiting.rest(took * number) or not alone or took > 1.5 * min(times)
    return summary(times, clean if waiting.how else sorted(times)[: max(len(times) // 2, 1)])


def summary(times: Sequence[float], clean: Sequence[float]) -> Sample:
    """The median of `clean`, or of the faster quarter of all `times` where too few are clean."""
    enough = len(clean) >= min(LEAST, len(times))
    kept = sorted(clean if enough else sorted(times)[: max(len(times) // 4, 1)])
    middle = quantile(kept, 0.5)
    basis = kept if enough else sorted(times)
    spread = (quantile(basis, 0.75) - quantile(basis, 0.25)) / middle if middle > 0 else 0.0
    return Sample(middle, spread, len(times), len(clean))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours; `ordered` ascends and is not empty."""
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


# ------------------------------------------------------------------------------------------------ one thread, one core


@contextmanager
def pinned(threads: int, burst: Callable[[], object], waiting: Waiting | None = None, hold: bool = False) -> Iterator[bool]:
    """Keep this thread and the `threads - 1` workers that `burst()` puts to work on a core each (Linux; else do nothing).

    Two workers that share a core wait for each other at every barrier, which a busy scheduler can keep up for seconds.
    With `hold` they also get the right of way over ordinary programs, and `waiting.rest` sees to it that those run too.
    Yields whether each has its core. Whoever has bound the threads by OMP_PROC_BIND or its like keeps them as they are.
    Raises UsageError where `hold` is not allowed.
    """
    cores = _one_cpu_per_core()
    bound = any(os.environ.get(name) for name in ("OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PLACES"))
    workers = _busiest(threads, burst) if _TASKS.is_dir() and threads <= max(len(cores), 1) else []
    before: dict[int, set[int]] = {}
    try:
        for task, core in zip(workers, () if bound else cores, strict=False):
            try:
                before[task] = os.sched_getaffinity(task)
                os.sched_setaffinity(task, {core})
            except OSError:  # it ended, or a container forbids it
                continue
        with _right_of_way(workers, waiting) if hold and waiting is not None else nullcontext():
            yield len(before) == threads
    finally:
        for task, mask in before.items():
            with suppress(OSError):
                os.sched_setaffinity(task, mask)


@contextmanager
def _right_of_way(workers: Sequence[int], waiting: Waiting) -> Iterator[None]:
    """Real-time priority for these threads. Raises UsageError where the system does not give it."""
    set_to = getattr(os, "sched_setscheduler", None)
    if set_to is None or not workers:
        raise UsageError("--hold: this system gives no program the right of way; leave it out")
    try:
        for task in workers:
            set_to(task, os.SCHED_FIFO, os.sched_param(1))
        waiting.hold = True
        yield
    except PermissionError:
        raise UsageError("--hold needs the right to real-time priority (CAP_SYS_NICE, or root); leave it out") from None
    finally:
        waiting.hold = False
        for task in workers:
            with suppress(OSError):
                set_to(task, os.SCHED_OTHER, os.sched_param(0))


def _busiest(threads: int, burst: Callable[[], object]) -> list[int]:
    """This thread, and those that ran most while `burst()` was called for 20 ms."""
    burst()
    before = _ran()
    end = time.perf_counter() + 0.02
    while time.perf_counter() < end:
        burst()
    after = _ran()
    own = os.getpid()
    others = sorted((t for t in after if t != own), key=lambda t: before.get(t, 0) - after[t])
    return [own, *others[: threads - 1]]


def _ran() -> dict[int, int]:
    """Thread -> nanoseconds that it has run."""
    found = {}
    for task in _TASKS.iterdir():
        try:
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return found


def _one_cpu_per_core() -> list[int]:
    """CPUs that this process may use, a first one of every core before the second of any."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    firsts: dict[str, int] = {}
    rest = []
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            core = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            core = str(cpu)
        if core in firsts:
            rest.append(cpu)
        else:
            firsts[core] = cpu
    return [*firsts.values(), *rest]
