"""State of the process that a model's own code may leave behind: noted before it runs, put back after it.

A model's file may change torch's defaults, the working directory, the environment, signal handlers, even torch.nn itself. The
numbers of the next model, and those of the caller's own program, must not depend on that.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, cached_property
from itertools import chain, islice
from operator import is_
from typing import Any

from roofline.cache.places import kind_of
from roofline.cost import registry

_MISSING = object()
# What Python and torch keep on classes for themselves.
_KEPT_BY_PYTHON = (
    "__annotations__",
    "__annotations_cache__",
    "__annotate_func__",
    "__abstractmethods__",
    "__doc__",
    "_abc_impl",
)

Pair = tuple[Callable[[], Any], Callable[[Any], Any]]


class State:
    """All that is put back. `State()` notes what is now, `restore` makes it so again; what did not change is left alone.

    With `own_code` False it notes the settings alone that the run itself changes: code of this project replaces nothing.
    """

    def __init__(self, own_code: bool = True) -> None:
        self.values = [(setter, _asked(getter), getter) for getter, setter in _settings(own_code)]
        self.owners = _owners() if own_code else []
        # not a copy of each table: nearly always all that is asked of them is whether anything is another
        self.flat = _flat(self.owners)
        tables: list[dict[Any, Any]] = [registry.RULES, registry.BYTES, *_global_hooks()] if own_code else []
        self.dicts = [(table, dict(table)) for table in tables]

    @cached_property
    def tables(self) -> list[tuple[Any, dict[str, Any]]]:
        """Each module or class with all that it held."""
        sizes, names, values = self.flat
        pairs = zip(names, values, strict=True)
        return [(owner, dict(islice(pairs, size))) for owner, size in zip(self.owners, sizes, strict=True)]

    def since(self, before: State) -> Callable[[], None]:
        """What makes again, on top of whatever is then, all that has changed from `before` to this."""
        values = [
            (s, new) for (s, new, _), (_, old, _) in zip(self.values, before.values, strict=False) if not _equal(new, old)
        ]
        tables = [
            (owner, {name: v for name, v in new.items() if old.get(name, _MISSING) is not v})
            for (owner, new), (_, old) in zip(self.tables, before.tables, strict=False)
        ]
        dicts = [
            (t, {k: v for k, v in new.items() if k not in old})
            for (t, new), (_, old) in zip(self.dicts, before.dicts, strict=False)
        ]

        def again() -> None:
            for setter, value in values:
                with suppress(Exception):
                    setter(value)
            for owner, changed in tables:
                for name, value in changed.items():
                    with suppress(Exception):
                        setattr(owner, name, value)
            for table, added in dicts:
                table.update(added)
            registry.changed()

        return again

    def changed(self) -> bool:
        """Whether there is anything to put back, the state of chance apart."""
        aside = [setter for _, setter in _CHANCE]
        values = (s for s, before, getter in self.values if s not in aside and not _equal(_asked(getter), before))
        if any(s is not _set_levels for s in values) or any(table != before for table, before in self.dicts):
            return True
        levels = _levels()
        if any(levels.get(name) != level for s, before, _ in self.values if s is _set_levels for name, level in before.items()):
            return True  # new loggers alone are none
        return not _same(_flat(self.owners), self.flat) and any(
            next(_replaced(owner, before), None) is not None for owner, before in self.tables
        )

    def taken(self) -> list[str]:
        """Names of torch's in whose place there is nothing now, or None."""
        return [
            f"{owner.__name__}.{name}"
            for owner, before in self.tables
            for name, value in _replaced(owner, before)
            if value is None or value is _MISSING
        ]

    def restore(self, own: Callable[[Any], bool] = lambda value: True) -> None:
        """`own` says of a value that took the place of one of torch's whether it goes: a library that stays imported has
        changed torch for good."""
        for setter, value, getter in self.values:
            if value is not _MISSING and not _equal(_asked(getter), value):
                with suppress(Exception):
                    setter(value)
        if not _same(_flat(self.owners), self.flat):
            for owner, before in self.tables:
                _restore_table(owner, before, own)
        for table, before in self.dicts:
            wanted = before | registry.LATE | registry.INSTALLED if table is registry.RULES else before
            if table != wanted:
                table.clear()
                table.update(wanted)
                registry.changed()


_Flat = tuple[list[int], list[str], list[Any]]


def _flat(owners: Sequence[Any]) -> _Flat:
    """How many names each of some modules and classes has, all these names one after the other, and their values."""
    tables = [*map(vars, owners)]
    return [*map(len, tables)], [*chain.from_iterable(tables)], [*chain.from_iterable([table.values() for table in tables])]


def _same(now: _Flat, before: _Flat) -> bool:
    """Whether these are the very same objects under the same names."""
    return now[:2] == before[:2] and all(map(is_, now[2], before[2]))


def _restore_table(owner: Any, before: dict[str, Any], own: Callable[[Any], bool]) -> None:
    for name, value in list(_replaced(owner, before)):
        old = before.get(name, _MISSING)
        if value is _MISSING or own(value):
            with suppress(Exception):
                delattr(owner, name) if old is _MISSING else setattr(owner, name, old)


def _replaced(owner: Any, before: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names of a module or class with what stands there now (_MISSING: nothing) and did not; a module may get new ones."""
    now = vars(owner).copy()
    for name, value in now.items():
        old = before.get(name, _MISSING)
        if old is not value and name not in _KEPT_BY_PYTHON and (isinstance(owner, type) or old is not _MISSING):
            yield name, value
    for name in before.keys() - now.keys():
        if name not in _KEPT_BY_PYTHON:
            yield name, _MISSING


def _asked(getter: Callable[[], Any]) -> Any:
    try:
        return getter()
    except Exception:  # an older or newer torch without it, a closed stream, a directory that is gone
        return _MISSING


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a is b or a == b)
    except Exception:  # tensors
        return False


def _settings(own_code: bool) -> list[Pair]:
    torch: Any = sys.modules.get("torch")
    main = threading.current_thread() is threading.main_thread()
    return _python(own_code, main) + (_torch(torch) if hasattr(torch, "nn") else [])


@cache
def _python(own_code: bool, main: bool) -> list[Pair]:
    if not own_code:
        return [(lambda: sys.argv, lambda v: setattr(sys, "argv", v)), (random.getstate, random.setstate)]
    pairs: list[Pair] = [
        (os.getcwd, os.chdir),
        (_environment, _set_environment),
        (lambda: list(sys.argv), lambda v: sys.argv.__setitem__(slice(None), v)),
        (lambda: sys.argv, lambda v: setattr(sys, "argv", v)),
        (lambda: list(sys.path), lambda v: sys.path.__setitem__(slice(None), v)),
        (lambda: sys.path, lambda v: setattr(sys, "path", v)),
        (lambda: locale.setlocale(locale.LC_ALL), lambda v: locale.setlocale(locale.LC_ALL, v)),
        (sys.getrecursionlimit, sys.setrecursionlimit),
        (random.getstate, random.setstate),
        (gc.isenabled, lambda v: gc.enable() if v else gc.disable()),
        (sys.gettrace, sys.settrace),
        (sys.getprofile, sys.setprofile),
        (lambda: _levels(), _set_levels),
        (lambda: list(logging.root.handlers), lambda v: logging.root.handlers.__setitem__(slice(None), v)),
    ]
    pairs += [
        (lambda n=name: getattr(sys, n), lambda v, n=name: setattr(sys, n, v))  # type: ignore[misc]  # bound now
        for name in ("stdout", "stderr", "stdin", "excepthook", "displayhook", "unraisablehook")
    ]
    if main:
        pairs.append((lambda: [*map(_handler, _signals())], _set_handlers))
        if hasattr(signal, "getitimer"):
            pairs.append((lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0, lambda v: v or signal.alarm(0)))
    return pairs


# without the enumerations that the public one makes of it: that is most of the time of a look at all of them
_handler: Callable[[int], Any] = getattr(signal, "_signal", signal).getsignal


@cache
def _signals() -> tuple[int, ...]:
    return tuple(int(s) for s in getattr(signal, "_signal", signal).valid_signals())


def _set_handlers(before: list[Any]) -> None:
    for number, handler in zip(_signals(), before, strict=True):
        if handler is not None and _handler(number) is not handler:
            with suppress(OSError, ValueError):
                signal.signal(number, handler)


def _environment() -> dict[Any, Any]:
    """As it is kept, in bytes: to decode all of it takes longer."""
    return dict(getattr(os.environ, "_data", os.environ))


def _set_environment(before: dict[Any, Any]) -> None:
    now = _environment()
    for name in now.keys() - before.keys():
        del os.environ[os.fsdecode(name)]
    for name, value in before.items():
        if now.get(name) != value:
            os.environ[os.fsdecode(name)] = os.fsdecode(value)


def _levels() -> dict[str, int]:
    found = {name: log.level for name, log in logging.root.manager.loggerDict.items() if isinstance(log, logging.Logger)}
    return found | {"": logging.root.level, "\0disabled": logging.root.manager.disable}


def _set_levels(before: dict[str, int]) -> None:
    for name, level in before.items():
        if name == "\0disabled":
            logging.disable(level)
        elif logging.getLogger(name or None).level != level:
            logging.getLogger(name or None).setLevel(level)


@cache
def _torch(torch: Any) -> list[Pair]:
    pairs: list[Pair] = [
        (lambda: torch.get_default_dtype(), lambda v: torch.set_default_dtype(v)),
        (lambda: torch.get_default_device(), lambda v: _set_default_device(torch, v)),
        *_modes(torch),
        (lambda: torch.is_grad_enabled(), lambda v: torch.set_grad_enabled(v)),
        (lambda: torch.get_num_threads(), lambda v: torch.set_num_threads(v)),
        (lambda: _precision(torch), lambda v: torch.set_float32_matmul_precision(v)),
        (lambda: torch.is_anomaly_enabled(), lambda v: torch.set_anomaly_enabled(v)),
        (
            lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
            lambda v: torch.use_deterministic_algorithms(v[0], warn_only=v[1]),
        ),
        (lambda: torch.is_autocast_cache_enabled(), lambda v: torch.set_autocast_cache_enabled(v)),
        (_Random.now, _Random.restore),
        (lambda: torch.backends.mha.get_fastpath_enabled(), lambda v: torch.backends.mha.set_fastpath_enabled(v)),
    ]
    for kind in ("cpu", "cuda"):
        pairs += [
            (lambda k=kind: torch.is_autocast_enabled(k), lambda v, k=kind: torch.set_autocast_enabled(k, v)),  # type: ignore[misc]  # bound now
            (lambda k=kind: torch.get_autocast_dtype(k), lambda v, k=kind: torch.set_autocast_dtype(k, v)),  # type: ignore[misc]  # bound now
        ]
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    for name in ("enabled", "benchmark", "deterministic"):
        pairs.append((lambda n=name: getattr(cudnn, n), lambda v, n=name: setattr(cudnn, n, v)))  # type: ignore[misc]  # bound now
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        ask, tell = getattr(cuda, f"{name}_sdp_enabled", None), getattr(cuda, f"enable_{name}_sdp", None)
        if ask and tell:
            pairs.append((ask, tell))
    return pairs


def _set_default_device(torch: Any, device: Any) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)
    if device.type == "cpu":  # torch 2.9 cannot tell its default device once it was told that there is none
        vars(torch._GLOBAL_DEVICE_CONTEXT).pop("device_context", None)


def _precision(torch: Any) -> str:
    with warnings.catch_warnings():  # torch 2.9 finds every asking out of date
        warnings.simplefilter("ignore")
        return str(torch.get_float32_matmul_precision())


class _Random:
    """The state of torch's and numpy's generators, comparable."""

    def __init__(self, torch: Any, numpy: Any) -> None:
        self.torch, self.numpy = torch, numpy

    @classmethod
    def now(cls) -> _Random:
        # numpy imports its generators when they are first asked for; until then there is no state
        torch, generators = sys.modules["torch"], sys.modules.get("numpy.random")
        return cls(torch.get_rng_state(), generators.get_state() if generators else None)

    def restore(self) -> None:
        sys.modules["torch"].set_rng_state(self.torch)
        if self.numpy is not None:
            sys.modules["numpy.random"].set_state(self.numpy)


_CHANCE: list[Pair] = [(random.getstate, random.setstate), (_Random.now, _Random.restore)]


def chance() -> Callable[[], None]:
    """What makes the generators of Python, torch and numpy go on from where they are now."""
    states = [(setter, getter()) for getter, setter in _CHANCE]

    def again() -> None:
        for setter, state in states:
            setter(state)

    return again


def _modes(torch: Any) -> list[Pair]:
    """Modes that a model has entered and not left; torch gives no public way to ask for them."""
    pairs: list[Pair] = [
        (
            lambda: sys.modules["torch.utils._device"].CURRENT_DEVICE,
            lambda v: setattr(sys.modules["torch.utils._device"], "CURRENT_DEVICE", v),
        )
    ]
    for kind in ("function", "dispatch"):
        size = getattr(torch._C, f"_len_torch_{kind}_stack", None)
        pop = getattr(torch._C, f"_pop_torch_{kind}_stack", None)
        if size and pop:
            pairs.append((size, _popper(size, pop)))
    return pairs


def _popper(size: Callable[[], int], pop: Callable[[], Any]) -> Callable[[int], None]:
    def restore(before: int) -> None:
        while size() > before:
            pop()

    return restore


def _owners() -> list[Any]:
    """Modules and classes in which a model may replace something: Python's own names, torch's, and those of its layers."""
    torch: Any = sys.modules.get("torch")
    return _of_torch(torch) if hasattr(torch, "nn") else [builtins]


@cache
def _of_torch(torch: Any) -> list[Any]:
    layers = [v for v in vars(torch.nn).values() if isinstance(v, type) and issubclass(v, torch.nn.Module)]
    return [builtins, torch, torch.nn, torch.nn.functional, torch.nn.init, torch.Tensor, torch.nn.Parameter, *layers]


def _global_hooks() -> list[dict[Any, Any]]:
    """Torch's hooks that run for every module: a model that leaves one would have it run for the next."""
    module: Any = sys.modules.get("torch.nn.modules.module")
    return [v for n, v in vars(module).items() if n.startswith("_global_") and isinstance(v, dict)] if module else []


@contextmanager
def streams_kept() -> Iterator[None]:
    """Put stdout and stderr back where they went, should a model point their descriptors elsewhere or close them."""
    kept = []
    for number in (1, 2):
        with suppress(OSError):
            kept.append((number, os.dup(number)))
    try:
        yield
    finally:
        for number, copy in kept:
            with suppress(OSError, ValueError):
                try:
                    same = os.path.samestat(os.fstat(number), os.fstat(copy))
                except OSError:
                    same = False
                if not same:
                    os.dup2(copy, number)
            with suppress(OSError):
                os.close(copy)


@contextmanager
def no_exit_handlers() -> Iterator[None]:
    """What a model's own code wants to run when the program ends is not kept: it could change the exit code."""
    register = atexit.register

    def refused(function: Any, *args: Any, **kwargs: Any) -> Any:
        asks = kind_of(sys._getframe(1).f_code.co_filename)
        return function if asks == "own" else register(function, *args, **kwargs)

    atexit.register = refused  # type: ignore[assignment]  # for a while
    try:
        yield
    finally:
        atexit.register = register


def defaults(own_code: bool = True) -> None:
    """What every model starts from, whatever the caller's program has set: torch's own defaults, and seed 0.

    `own_code`: the model may ask numpy for chance, whose generators are then imported here to be seeded.
    """
    torch: Any = sys.modules["torch"]
    torch.set_default_dtype(torch.float32)
    if _asked(torch.get_default_device) not in (_MISSING, torch.device("cpu")):
        _set_default_device(torch, torch.device("cpu"))
    torch.set_grad_enabled(True)
    for kind in ("cpu", "cuda"):
        with suppress(Exception):
            torch.set_autocast_enabled(kind, False)
    torch.default_generator.manual_seed(0)
    random.seed(0)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and own_code and hasattr(numpy, "random"):
        numpy.random.seed(0)


@contextmanager
def undone(own: Callable[[Any], bool] = lambda value: True, own_code: bool = True) -> Iterator[State]:
    """Run a model's code; whatever it changes in this process is as it was afterwards."""
    before = State(own_code)
    with warnings.catch_warnings(), streams_kept() if own_code else nullcontext():
        try:
            yield before
        finally:
            before.restore(own)
