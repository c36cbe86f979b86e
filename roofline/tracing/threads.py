"""Threads that a model starts: what they run is recorded as what the thread of the pass runs.

Dispatch modes and inference mode hold for one thread. While a pass is traced, whatever starts a thread or gives work to a pool
of them waits until that is done, or waits itself for something: so operators come in the order in which their work was given
out, and threads that wait for each other go on as they do elsewhere. A layer in a thread that was there before the pass is
recorded too.
"""

from __future__ import annotations

import _thread
import queue
import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _worker  # what a thread of a pool runs
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from roofline.records import identity
from roofline.tracing.recorder import Recorder
from roofline.tracing.ways import Way

_Queue = queue.SimpleQueue
Around = Callable[[], AbstractContextManager[Any]]
# Seconds between two looks at a thread, and after how many that find it where it was it counts as waiting.
_LOOK, _STILL = 0.005, 8
# Seconds after which one that waits asks whether those that it may wait for have failed.
_ASK = 0.1
PROCESS = "it gives work to another process, and what that does is not counted"
OUTSIDE = "layers run in a thread that was there before the pass: what that thread does outside of them is not counted"
WAITS = "it waits for a thread that was there before the pass: what that does outside of layers is not counted"
NO_AUTOCAST = "threads of its own run outside of autocast, which holds for one thread: their layers are not cast"


class Threaded(Recorder):  # type: ignore[no-untyped-call]  # torch's own
    """What a recorder becomes when a second thread is recorded: it knows for each where it is; mixed into its class."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        threads = self.threads
        if threads is None:
            return super().__torch_dispatch__(func, types, args, kwargs)
        if threads.closed:  # a thread that outlives the pass
            return func(*args, **(kwargs or {}))
        with threads.lock:
            threads.turn()
            return super().__torch_dispatch__(func, types, args, kwargs)

    def arrived(self) -> None:
        super().arrived()
        self.resumed()
        if self.threads is not None and self.threads.cast and self.under is None and NO_AUTOCAST not in self.notes:
            self.notes.append(NO_AUTOCAST)

    def resumed(self) -> None:
        if (threads := self.threads) is not None:
            with threads.lock:
                threads.turn()


class _Task:
    """Something that a thread runs."""

    def __init__(self) -> None:
        self.ident = 0
        self.done = threading.Event()


class Threads:
    """The threads of one pass."""

    def __init__(self, recorder: Recorder, known: Container[int], around: Sequence[Around]) -> None:
        # `around`: what holds for a thread, beside the recorder itself
        self.recorder, self.known, self.around = recorder, known, around
        self.lock = threading.RLock()
        self.at = get_ident()
        self.mine = {self.at}
        # where other threads than the one `at` work are: layer, stack, policies of autocast
        self.places: dict[int, tuple[int, list[Any], Any, Any]] = {}
        self.tasks: list[_Task] = []
        # all that was given out, begun or not
        self.given: list[_Task] = []
        # those that wait for a task
        self.settling: set[int] = set()
        # what the first thread that failed raised, and where it was
        self.failed: BaseException | None = None
        self.failed_at: tuple[int, list[Any]] = (0, [])
        self.guests: dict[int, list[Any]] = {}
        self.hook: Any = None
        # whether a thread was started, or worked, under autocast
        self.cast = False
        self.closed = False

    # ------------------------------------------------------------ where each is

    def turn(self) -> None:
        """From now on the recorder is where this thread is."""
        me, recorder = get_ident(), self.recorder
        if me != self.at:
            self.places[self.at] = (recorder.layer, recorder.stack[:], recorder.policy, recorder.under)
            recorder.layer, recorder.stack[:], recorder.policy, recorder.under = self.places.pop(me, (0, [], None, None))
            self.at = me

    def _begin(self, place: tuple[int, list[Any]], stack: ExitStack) -> None:
        """This thread is recorded, from `place` on, for as long as `stack` lasts."""
        recorder, me = self.recorder, get_ident()
        recorder.renumber()
        for manager in self.around:
            stack.enter_context(manager())
        stack.enter_context(recorder)
        with self.lock:
            self.mine.add(me)
            self.places[me] = (*place, None, None)
        stack.callback(self._end, me)

    def _end(self, me: int) -> None:
        with self.lock:
            self.mine.discard(me)
            if self.at == me:
                self.places[me] = (0, [], None, None)
                other = next(iter(self.places))
                self.recorder.layer, self.recorder.stack[:], self.recorder.policy, self.recorder.under = self.places[other]
                self.at = other
                del self.places[other]
            self.places.pop(me, None)

    def _more(self) -> tuple[int, list[Any]]:
        """There is more than one thread from now on: where this one is."""
        recorder = self.recorder
        if not isinstance(recorder, Threaded):
            recorder.__class__ = type("Recorder", (Threaded, type(recorder)), {})
        self.cast |= recorder.under is not None
        with self.lock:
            if get_ident() in self.mine:
                self.turn()
            return recorder.layer, recorder.stack[:]

    # ------------------------------------------------------------ work of theirs

    def carried(self, run: Callable[..., Any], keep: bool) -> tuple[_Task, Callable[..., Any]]:
        """What a thread shall call in the place of `run`; with `keep`, nobody but us hears of what that raises."""
        task, place = _Task(), self._more()
        self.given.append(task)

        def body(*args: Any, **kwargs: Any) -> Any:
            if self.closed or get_ident() in self.mine:
                task.done.set()
                return run(*args, **kwargs)
            task.ident = get_ident()
            with self.lock:
                before = [t for t in self.tasks if not t.done.is_set()]
                self.tasks.append(task)
            with ExitStack() as stack:
                stack.callback(task.done.set)
                for other in before:
                    self.settle(other)
                self._begin(place, stack)
                try:
                    return run(*args, **kwargs)
                except BaseException as error:
                    if not keep:
                        raise
                    self._keep(error)

        return task, body

    def ask(self) -> None:
        """Raise what a thread has failed with that may be waited for."""
        if self.failed is not None:
            raise self.failed

    def alone(self) -> bool:
        """Whether none of the pass's threads works but those that ask."""
        return all(task.done.is_set() for task in self.given)

    def answered(self) -> None:
        """Who was alone has got what it waited for: from a thread that is none of the pass's."""
        notes = self.recorder.notes
        if not {WAITS, OUTSIDE, PROCESS}.intersection(notes):
            notes.append(WAITS)

    def _keep(self, error: BaseException) -> None:
        with self.lock:
            self.turn()
            if self.failed is None and not isinstance(error, SystemExit):  # which ends a thread in silence
                self.failed, self.failed_at = error, (self.recorder.layer, self.recorder.stack[:])

    def settle(self, task: _Task) -> None:
        """Wait until it is done, or waits itself."""
        still, last, me = 0, None, get_ident()
        self.settling.add(me)
        while not task.done.wait(_LOOK) and task.ident not in self.settling:
            frame = sys._current_frames().get(task.ident)
            now = (id(frame), frame.f_lasti if frame is not None else 0, len(self.recorder.ops))
            works = frame is not None and frame.f_globals.get("__name__") == "torch._ops"
            still = still + 1 if now == last and not works else 0
            if still == _STILL:
                break
            last = now
        self.settling.discard(me)
        self.recorder.renumber()

    def cause(self, error: BaseException | None) -> BaseException | None:
        """What a thread failed with, else `error`; the recorder is where that was."""
        with self.lock:
            self.turn()
            if self.failed is None:
                return error
            self.recorder.layer, self.recorder.stack[:] = self.failed_at
            return self.failed

    # ------------------------------------------------------------ layers in threads that were there before

    def arrived(self) -> None:
        """A layer begins in this thread; of one that was there before the pass, what the layer does is recorded."""
        me = get_ident()
        if me in self.guests:
            self.guests[me][0] += 1
        elif me not in self.mine and not self.closed:
            if not self.guests:
                self.hook = nn.modules.module.register_module_forward_hook(self._left, always_call=True)
            self._more()
            if OUTSIDE not in self.recorder.notes:
                self.recorder.notes.append(OUTSIDE)
            stack = ExitStack()
            self._begin((0, []), stack)
            self.guests[me] = [1, stack]
            with self.lock:
                self.turn()

    def _left(self, m: nn.Module, inputs: Any, output: Any) -> None:
        guest = self.guests.get(get_ident())
        if guest is not None and identity(m) in self.known:
            guest[0] -= 1
            if not guest[0]:
                del self.guests[get_ident()]
                guest[1].close()

    def close(self) -> None:
        """Those that work are waited for."""
        for task in self.tasks:
            if not task.done.is_set():
                self.settle(task)


def modes(way: Way, gradients: bool) -> list[Around]:
    """What holds for the thread of a pass of this way, beside its recorder, and no other thread has by itself."""
    found: list[Around] = [] if gradients else [torch.inference_mode]
    if way.here or way.values:
        from roofline.tracing.here import Here

        found.append(Here)
    return found


@contextmanager
def followed(recorder: Recorder, known: Container[int], around: Sequence[Around]) -> Iterator[None]:
    """While a pass is traced, its threads are recorded too; `known` are its modules by id, `around` holds for a thread."""
    threads = recorder.threads = Threads(recorder, known, around)
    stand_ins = [*_starting(threads), *_others(threads)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in stand_ins]
    for owner, name, stand_in in stand_ins:
        setattr(owner, name, stand_in)
    try:
        yield
        threads.close()
        error = threads.cause(None)
        if error is not None:
            raise error
    except BaseException as error:
        cause = threads.cause(error)
        if cause is None or cause is error or isinstance(error, KeyboardInterrupt):
            raise
        raise cause from error
    finally:
        for owner, name, own in before:
            setattr(owner, name, own)
        threads.closed = True
        if threads.hook is not None:
            threads.hook.remove()
        recorder.threads = None


def _starting(threads: Threads) -> Iterator[tuple[Any, str, Any]]:
    """Stand-ins for what starts threads, gives work to them, or waits for them."""
    start, submit, wait, begin = (
        threading.Thread.start,
        ThreadPoolExecutor.submit,
        threading.Condition.wait,
        _thread.start_new_thread,
    )

    def started(self: threading.Thread) -> None:
        if get_ident() not in threads.mine or threads.closed or getattr(self, "_target", None) is _worker:
            return start(self)  # what a pool's thread is given comes by `submit`
        task, body = threads.carried(self.run, True)
        self.run = body  # type: ignore[method-assign]  # of this one
        start(self)
        task.ident = self.ident or 0
        threads.settle(task)

    def submitted(self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if get_ident() not in threads.mine or threads.closed:
            return submit(self, function, *args, **kwargs)
        task, body = threads.carried(function, False)
        future = submit(self, body, *args, **kwargs)
        threads.settle(task)
        return future

    def begun(function: Callable[..., Any], args: Any, kwargs: Any = None) -> int:
        if get_ident() not in threads.mine or threads.closed:
            return begin(function, args, kwargs or {})
        task, body = threads.carried(function, True)
        task.ident = begin(body, args, kwargs or {})
        threads.settle(task)
        return task.ident

    def waited(self: threading.Condition, timeout: float | None = None) -> bool:
        """One that has failed may be waited for in vain."""
        if get_ident() not in threads.mine or threads.closed:
            return wait(self, timeout)
        alone = threads.alone()
        while not (got := wait(self, _ASK if timeout is None else timeout)) and timeout is None:
            threads.ask()
        if got and alone:
            threads.answered()
        return got

    yield threading.Thread, "start", started
    yield threading.Condition, "wait", waited
    yield ThreadPoolExecutor, "submit", submitted
    yield _thread, "start_new_thread", begun
    yield queue, "SimpleQueue", _simple(threads)


def _simple(threads: Threads) -> type:
    """A SimpleQueue for the threads of a pass, which do not wait in vain either."""

    class Queue(_Queue[Any]):
        """One that asks, while it waits."""

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            while block and timeout is None and get_ident() in threads.mine and not threads.closed:
                try:
                    return super().get(True, _ASK)
                except queue.Empty:
                    threads.ask()
            return super().get(block, timeout)

    return Queue


class _Torch:
    """torch for what runs layers on several accelerators: where there is none, there is one that does nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __getattr__(self, name: str) -> Any:
        if name != "accelerator" or torch.accelerator.is_available():
            return getattr(torch, name)
        from roofline.isolation.accelerator import IDLE  # for the few that ask

        idle = IDLE["current_stream"]()
        found = SimpleNamespace(is_available=lambda: True, current_accelerator=lambda: torch.device(self.kind))
        found.current_stream = found.device_index = lambda *_: idle
        return found


def _others(threads: Threads) -> Iterator[tuple[Any, str, Any]]:
    """Stand-ins for what starts processes, and for pools of multiprocessing, where the model has imported them."""

    def told(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if get_ident() in threads.mine and PROCESS not in threads.recorder.notes:
                threads.recorder.notes.append(PROCESS)
            return real(*args, **kwargs)

        return call

    def given(real: Callable[..., Any], kind: type) -> Callable[..., Any]:
        def call(self: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if isinstance(self, kind) and get_ident() in threads.mine:
                function = threads.carried(function, False)[1]
            return real(self, function, *args, **kwargs)

        return call

    apart: Any = sys.modules["torch.nn.parallel.parallel_apply"]
    yield apart, "torch", _Torch("cuda" if threads.recorder.on_gpu else "cpu")
    for module, owner, name in (
        ("multiprocessing.process", "BaseProcess", "start"),
        ("concurrent.futures.process", "ProcessPoolExecutor", "submit"),
    ):
        if (found := getattr(sys.modules.get(module), owner, None)) is not None:
            yield found, name, told(getattr(found, name))
    pools: Any = sys.modules.get("multiprocessing.pool")
    for name in ("apply_async", "_map_async", "imap", "imap_unordered") if pools is not None else ():
        yield pools.Pool, name, given(getattr(pools.Pool, name), pools.ThreadPool)
