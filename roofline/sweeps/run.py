"""A sweep from its grid to its rows: what is there is left, the rest is worked on in shards, each written when it is whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from roofline.cache import digest
from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.records.sweep import OK, REFUSED, Row
from roofline.sweeps import plan
from roofline.sweeps.formats import sorted_rows
from roofline.sweeps.grid import Grid
from roofline.sweeps.plan import Engine, Task
from roofline.sweeps.pool import Limits, Pool
from roofline.sweeps.store import Store

# Models of a shard: of a large sweep so many that its shards are some dozens.
MOST_MODELS, SHARDS = 16, 64


class Reason(Struct, frozen=True, kw_only=True):
    """Why rows have no numbers, and of which models; the devices too where it is theirs."""

    status: str
    error: str
    models: tuple[str, ...]
    devices: tuple[str, ...]


class Report(Struct, frozen=True, kw_only=True):
    """What a sweep came to."""

    path: str
    rows: int
    # of this run; and those of another version that were set apart
    new: int
    apart: int
    # of the rows that were asked for, by how they ended, and the first few of those that have no numbers
    statuses: dict[str, int]
    failures: list[Row]
    # of all rows of this run that have no numbers, those that say the same together
    reasons: list[Reason]
    seconds: float


class Progress(Struct):
    """How far it is. Seconds."""

    models: int
    rows: int
    done_models: int = 0
    done_rows: int = 0
    failed: int = 0
    since: float = 0.0

    @property
    def spent(self) -> float:
        return time.monotonic() - self.since

    @property
    def left(self) -> float:
        return self.spent / self.done_models * (self.models - self.done_models) if self.done_models else 0.0


class _Shard(Struct):
    """Tasks whose rows are written together, under a name or into a file that is there."""

    name: str
    tasks: list[Task]
    into: Path | None = None


class _There(Struct, frozen=True, eq=False):
    """Of rows of a file that ended alike: how, in which file, and whether what they were made of is as it was."""

    status: str
    path: Path
    still: bool

    def redone(self, retry: bool) -> bool:
        return not self.still or (retry and self.status != OK)


def sweep(
    grid: Grid,
    path: Path,
    engine: Engine,
    *,
    suffix: str = "",
    part: tuple[int, int] = (1, 1),
    retry_errors: bool = False,
    cache: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Bring the rows of a grid to a path. `part` (3, 16) is the third of sixteen parts of its models.

    Raises a RooflineError where nothing can be done; what goes wrong with a model stands in its rows.
    """
    began = time.monotonic()
    store = Store(path, suffix)
    store.prepare()
    apart = store.aside(plan.version())
    models = _part(grid.models, *part)
    known = plan.digests(grid.devices)
    wanted = {model: _wanted(model, grid, known) for model in models}
    there = _there(store)
    shards = _shards(grid, wanted, there, retry_errors, cache)
    state = Progress(len({t.model for s in shards for t in s.tasks}), sum(t.rows for s in shards for t in s.tasks))
    state.since = time.monotonic()
    statuses: Counter[str] = Counter()
    failures: list[Row] = []
    why: _Why = {}
    for _, rows in _worked(shards, engine, store, state, progress):
        statuses.update(row.status for row in rows)
        without = [row for row in rows if row.status != OK]
        failures += without[: max(0, 200 - len(failures))]
        _explained(without, why)
    store.finish()
    again = {key for shard in shards for task in shard.tasks for each in task.wanted for _, key in each}
    asked = [key for each in wanted.values() for keys in each for key in keys]
    left = Counter(there[key] for key in asked if key not in again)
    for row, count in left.items():
        statuses[row.status] += count
    return Report(
        path=str(path),
        rows=len(asked),
        new=state.done_rows,
        apart=apart,
        statuses=dict(statuses),
        failures=failures,
        reasons=[Reason(status=s, error=e, models=tuple(m), devices=tuple(d)) for (s, e), (m, d) in why.items()],
        seconds=time.monotonic() - began,
    )


def rows(grid: Grid, path: Path) -> list[Row]:
    """The rows of a grid that are at a path, in order."""
    store, known = Store(path), plan.digests(grid.devices)
    wanted = {key for model in grid.models for keys in _wanted(model, grid, known) for key in keys}
    found = {row.key: row for file in store.files() for row in store.format.rows(file) if row.key in wanted}
    return sorted_rows(found.values())


def here(grid: Grid, processes: int, limits: Limits) -> Engine:
    """Processes of this machine; none of them: this very process, without limits."""

    def run(tasks: list[Task]) -> Iterator[tuple[Task, list[Row]]]:
        if not processes:
            from roofline.sweeps import work  # numpy, which a sweep that is done needs not

            yield from ((task, work.rows(task, grid.devices)) for task in tasks)
            return
        with Pool(processes, grid.devices, limits) as pool:
            yield from pool.run(tasks)

    return run


# ------------------------------------------------------------------------------------------------ what is to do


def _part(models: Sequence[str], number: int, of: int) -> list[str]:
    """Every so-manieth model: neighbours in a list are alike, and of like cost."""
    if not 1 <= number <= of:
        raise UsageError(f"--shard {number}/{of}: expected a part from 1/{of} to {of}/{of}")
    return list(models[number - 1 :: of])


def _wanted(model: str, grid: Grid, known: Sequence[tuple[Device, str]]) -> list[list[str]]:
    return [plan.keys(model, setting, known) for setting in grid.settings]


def _there(store: Store) -> dict[str, _There]:
    """By the key of every row that is there."""
    found: dict[str, _There] = {}
    for path in store.files():
        for head, keys in store.heads(path).items():
            row = _There(head.status, path, not head.depends or plan.still(head.depends))
            for key in keys:
                found.setdefault(key, row)
    return found


def _shards(grid: Grid, wanted: dict[str, list[list[str]]], there: dict[str, _There], retry: bool, cache: bool) -> list[_Shard]:
    """What is to do: new rows in shards of so many models, and rows to do again in the file that they are in."""
    new: list[Task] = []
    again: dict[Path, list[Task]] = {}
    nothing_again = not any(row.redone(retry) for row in set(there.values()))
    for model, settings in wanted.items():
        if nothing_again and all(all(map(there.__contains__, keys)) for keys in settings):
            continue  # as in most of a sweep that goes on
        missing = [tuple((i, key) for i, key in enumerate(keys) if key not in there) for keys in settings]
        if any(missing):
            new.append(Task(model, grid.settings, tuple(missing), cache))
        found = [[(i, key, there[key]) for i, key in enumerate(keys) if key in there] for keys in settings]
        for path in dict.fromkeys(row.path for rows in found for _, _, row in rows):
            redo = [tuple((i, key) for i, key, row in rows if row.path == path and row.redone(retry)) for rows in found]
            if any(redo):
                again.setdefault(path, []).append(Task(model, grid.settings, tuple(redo), cache))
    size = max(1, min(MOST_MODELS, len(wanted) // SHARDS))
    shards = [_Shard(_name(new[i : i + size]), new[i : i + size]) for i in range(0, len(new), size)]
    return shards + [_Shard(path.stem, tasks, path) for path, tasks in again.items()]


# (status, error) -> models, and devices where it is theirs, in order.
_Why = dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]]


def _explained(rows: Iterable[Row], why: _Why) -> None:
    """Add rows without numbers to what is known of why. What a device lacks is said without its name."""
    for row in rows:
        its_own = row.device in row.error
        error = row.error.replace(row.device, "the device").partition(": ")[0] if its_own else row.error
        models, devices = why.setdefault((row.status, error), ({}, {}))
        models[row.model] = None
        if its_own:
            devices[row.device] = None


def _name(tasks: Iterable[Task]) -> str:
    return digest(*(key for task in tasks for each in task.wanted for _, key in each))[:24]


# ------------------------------------------------------------------------------------------------ doing it


def _worked(
    shards: list[_Shard], engine: Engine, store: Store, state: Progress, progress: Callable[[Progress], None] | None
) -> Iterator[tuple[Task, list[Row]]]:
    """Every task that is done, with its rows; a shard is written when its last task is."""
    if not shards:
        return
    owner = {id(task): shard for shard in shards for task in shard.tasks}
    done: dict[int, list[list[Row]]] = {id(shard): [] for shard in shards}
    if progress:
        progress(state)
    for task, rows in engine([task for shard in shards for task in shard.tasks]):
        shard = owner[id(task)]
        done[id(shard)].append(rows)
        state.done_models += 1
        state.done_rows += len(rows)
        state.failed += any(row.status not in (OK, REFUSED) for row in rows)
        if len(done[id(shard)]) == len(shard.tasks):
            _written(store, shard, [row for each in done.pop(id(shard)) for row in each])
        if progress:
            progress(state)
        yield task, rows


def _written(store: Store, shard: _Shard, rows: list[Row]) -> None:
    if shard.into is not None and shard.into.exists():
        store.replaced(shard.into, {row.key: row for row in rows})
        return
    store.write(shard.name, sorted_rows(rows))
