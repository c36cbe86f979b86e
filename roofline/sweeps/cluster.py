"""A sweep on a cluster: its models are tasks of a Dask scheduler; a worker has a process for them beside it, with limits."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from msgspec import Struct

from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.records.sweep import CRASHED, Row
from roofline.sweeps import plan
from roofline.sweeps.plan import Engine, Task
from roofline.sweeps.pool import Limits, Pool

# s to find a scheduler and a worker; how often a task that failed is given to a worker again. One whose worker is lost is
# given to another by Dask itself.
WAIT, RETRIES = 30, 2


class _Shared(Struct, frozen=True):
    """What all tasks of a sweep are worked on with."""

    # its own, of all sweeps that the scheduler has
    sweep: str
    version: str
    devices: tuple[Device, ...]
    limits: Limits


def on(address: str, devices: Sequence[Device], limits: Limits, workers: int) -> Engine:
    """An engine on the scheduler at an address; `local` starts one on this machine with so many workers.

    Its tasks raise UsageError where there is no scheduler, or one whose workers have another version of this program.
    """

    def run(tasks: list[Task]) -> Iterator[tuple[Task, list[Row]]]:
        shared = _Shared(uuid.uuid4().hex, plan.version(), tuple(devices), limits)
        with _client(address, workers) as client, _ended(client, shared.sweep):
            yield from _run(client, tasks, shared)

    return run


def _run(client: Any, tasks: list[Task], shared: _Shared) -> Iterator[tuple[Task, list[Row]]]:
    from distributed import as_completed

    known = msgspec.msgpack.encode(shared)
    futures = {client.submit(_work, msgspec.msgpack.encode(task), known, retries=RETRIES, pure=False): task for task in tasks}
    # on the loop of this client: somebody may have another
    for future in as_completed(list(futures), loop=client.loop):
        task = futures[future]
        error = future.exception() if future.status != "finished" else None
        if isinstance(error, UsageError):
            raise error
        if error is not None:
            yield task, plan.lost(task, shared.devices, CRASHED, f"the workers that had it were lost: {type(error).__name__}")
        else:
            yield task, msgspec.msgpack.decode(future.result(), type=list[Row])
        future.release()


# Of a worker: what each of its threads works with for a sweep.
_pools: dict[tuple[str, int], Pool] = {}


def _work(task: bytes, shared: bytes) -> bytes:
    """On a worker: the rows of a task."""
    known: _Shared = msgspec.msgpack.decode(shared, type=_Shared)
    if plan.version() != known.version:
        raise UsageError("a worker of the scheduler has another version of roofline, torch or the constants: install the same")
    mine = known.sweep, threading.get_ident()
    if mine not in _pools:
        _pools[mine] = Pool(1, known.devices, known.limits)
    ((_, rows),) = _pools[mine].run([msgspec.msgpack.decode(task, type=Task)])
    return msgspec.msgpack.encode(rows)


def end(sweep: str) -> None:
    """On a worker: end its processes for a sweep."""
    for mine in [mine for mine in list(_pools) if mine[0] == sweep]:
        _pools.pop(mine).__exit__()


def held() -> int:
    """Of a worker: how many of its threads have a process for a sweep."""
    return len(_pools)


@contextmanager
def _ended(client: Any, sweep: str) -> Iterator[None]:
    """Has the workers end their processes for a sweep: after it, or when they are closed before, which would wait for them."""
    from distributed import WorkerPlugin

    class Ends(WorkerPlugin):  # type: ignore[misc]  # Dask has no types
        def teardown(self, worker: Any) -> None:
            end(sweep)

    client.register_plugin(Ends(), name=sweep)
    try:
        yield
    finally:
        with suppress(Exception):  # the scheduler is gone: so are its workers, or they close
            client.unregister_worker_plugin(sweep)


@contextmanager
def _client(address: str, workers: int) -> Iterator[Any]:
    """A client of the scheduler, with a worker that has this version."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise UsageError("--dask needs Dask: pip install 'roofline[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    cluster = None
    try:
        if address == "local":
            cluster = LocalCluster(n_workers=max(workers, 1), threads_per_worker=1, dashboard_address=None)
        client = Client(cluster or address, timeout=WAIT)
    except Exception as error:  # of sockets, of Dask, of another version's messages
        raise UsageError(f"--dask {address}: no scheduler answers there: {_said(error)}") from None
    try:
        _checked(client, address)
        yield client
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _checked(client: Any, address: str) -> None:
    """Raises UsageError for a scheduler without workers, and for workers that cannot do what is asked."""
    try:
        client.wait_for_workers(1, timeout=WAIT)
        versions = client.run(_version)
    except Exception as error:  # as above
        raise UsageError(f"--dask {address}: its workers cannot run this version of roofline: {_said(error)}") from None
    if other := [worker for worker, version in versions.items() if version != plan.version()]:
        raise UsageError(
            f"--dask {address}: the worker {other[0]} has another version of roofline, torch or the constants: install the same"
        )


def _version() -> str:
    return plan.version()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
