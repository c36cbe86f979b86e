"""A model's own code at work, apart from everything else in this process, and what the result depends on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from roofline.cache import places

if TYPE_CHECKING:
    from roofline.cache.dependencies import Record
    from roofline.records import Trace
    from roofline.sources.source import Source


class Run:
    """One model's code at work, apart from everything else in this process: see `alone`."""

    def __init__(self, found: Source, loaded: Any) -> None:
        self.found, self.loaded, self.rules = found, loaded, rules_added()
        self.seen: Any = None

    def watch(self, work: Callable[[], Trace]) -> Trace:
        from roofline.isolation import ground, watching

        # a library's code is left to itself
        with watching.watched() as self.seen, ground.held() if self.found.kind.code == "person" else nullcontext():
            return work()

    def record(self) -> Record | None:
        """What the result depends on; None where that cannot be known, or has changed meanwhile."""
        from roofline import cost
        from roofline.isolation import watching

        code = self.found.kind.code != "package"
        try:
            return watching.record(self.seen, self.loaded, self.found.files, code=code, rules=cost.asked_packages())
        except (watching.Changed, OSError):
            return None


@contextmanager
def guarded(name: str, own_code: bool = True) -> Iterator[None]:
    """Around what runs a model's code: what it changes in this process is undone, what it raises is a ModelError of one line,
    and it cannot end the process. `own_code` False: it is a model of this project, which changes nothing."""
    from roofline.isolation import failures, leftovers

    before = frozenset(sys.modules)

    def goes(value: Any) -> bool:
        """Whether what took the place of something of torch's was the model's doing, and not a library's that stays."""
        module = sys.modules.get(getattr(value, "__module__", None) or "")
        libraries = any(
            n not in before and places.kind_of(places.origin(m)) == "installed" for n, m in list(sys.modules.items())
        )
        return not libraries or module is None or places.kind_of(places.origin(module)) == "own"

    with leftovers.undone(goes, own_code) as before_it, failures.told(name, before_it.taken):
        if own_code:
            with failures.no_way_out(name), leftovers.no_exit_handlers():
                yield
        else:
            yield


@contextmanager
def alone(found: Source) -> Iterator[Run]:
    """Around what builds and runs a model by name: as `guarded`, and its modules are its own, and it starts from torch's
    defaults. In the process of the command line a crash, a hang or too much memory is a ModelError too."""
    from roofline.isolation import leftovers, modules, network, postponed, supervision

    own_code = found.kind.code != "ours"
    # before torch: a process without it forks at once
    with supervision.over(found.name) if own_code else nullcontext():
        if found.kind.torch:
            import torch  # noqa: F401  # before anything is noted, so that what torch sets up is not undone

        supervision.begun()
        shut = network.closed() if own_code else nullcontext()
        with (
            shut,
            postponed.imports(),
            guarded(found.name, own_code),
            (modules.isolated if own_code else modules.ours)(found.places) as loaded,
        ):
            if found.kind.torch:
                leftovers.defaults(own_code)
            if found.kind.code == "person":
                sys.argv = [found.where]
            yield Run(found, loaded)


def still(found: Source) -> Callable[[Any], bool]:
    """Whether what an entry of the cache depends on is as it was."""
    from roofline.cache import dependencies

    return lambda record: dependencies.holds(record, found.places)


def rules_added() -> frozenset[str]:
    """Operators for which somebody registered a rule in this process: a function's answers cannot be a part of a key."""
    cost = sys.modules.get("roofline.cost")
    return frozenset(cost.added()) if cost else frozenset()


def rules_missing(record: Record) -> bool:
    """Whether an operator without a rule of ours was met only now, which the record of its trace does not say."""
    cost = sys.modules.get("roofline.cost")
    return bool(cost and cost.asked_packages() and record.rules is None)
