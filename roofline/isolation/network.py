"""The network, closed while a model by name is built and traced: nothing is downloaded, whatever its code asks for.

What asks gets an OSError, as on a machine without a network, so that code which can do without goes on; what cannot fails, and
the error says who was asked for. Sockets within this machine that have a path (AF_UNIX) stay open, as do those of threads that
the caller's program had before. A program that the model starts, and C++ that opens sockets by itself, are not seen.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from roofline import compat
from roofline.errors import RooflineError, safe
from roofline.isolation import failures

# Python's audit events that mean the network -> where its address, or the name of a host, stands among their arguments
_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}
# as many places as a message names
_MOST = 3


class Offline(OSError):
    """Asked for the network while it is closed."""


class _State:
    """Whether it is closed, whose threads are free all the same, and what was asked for."""

    def __init__(self) -> None:
        self.depth = 0
        self.free: frozenset[int | None] = frozenset()
        self.asked: list[str] = []
        # whether huggingface_hub asked nobody before; None: it is not imported
        self.hub: bool | None = None


_state = _State()


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if not _state.depth or threading.get_ident() in _state.free:
        return
    address = arguments[_EVENTS[event]] if len(arguments) > _EVENTS[event] else None
    if isinstance(address, (str, bytes)) and event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return  # a path
    if event == "socket.sendmsg" and address is None:
        return  # connected before
    where = address[0] if isinstance(address, tuple) and address else address
    host = where.decode("ascii", "replace") if isinstance(where, bytes) else str(where or "another machine")
    host = safe(host)[:100]
    if host not in _state.asked:
        _state.asked.append(host)
    if _state.hub is None:
        _state.hub = compat.hub_offline(True)  # it would try again and again
    raise Offline(errno.ENETUNREACH, f"the network is closed while a model is built and traced ({host} was asked for)")


def asked() -> str:
    """ "huggingface.co and 1 more": what was asked for since the network was closed; empty: nothing."""
    found = _state.asked
    more = f" and {len(found) - _MOST:,} more" if len(found) > _MOST else ""
    return ", ".join(found[:_MOST]) + more


def again() -> Callable[[], None]:
    """What makes it, where the network is closed anew, as if all that was asked for since it was closed had been asked now."""
    hosts = list(_state.asked)

    def ask() -> None:
        _state.asked += [host for host in hosts if host not in _state.asked]

    return ask


def notes() -> tuple[str, ...]:
    """A note where code asked for the network and went on without it."""
    hosts = asked()
    return (f"its code asked for the network ({hosts}), which is closed while a model is built and traced",) if hosts else ()


def _from_the_hub(error: BaseException) -> bool:
    """Whether huggingface_hub raised something that led to this."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        if type(inner).__module__.partition(".")[0] == "huggingface_hub":
            return True
        seen.add(id(inner))
        inner = inner.__cause__ or inner.__context__
    return False


@contextmanager
def closed() -> Iterator[None]:
    """Close the network; an error that passes through says what was asked for."""
    failures.HEARD.update(dict.fromkeys(_EVENTS, _heard))
    failures.audited()
    before = _state.free, _state.asked, _state.hub
    me = threading.get_ident()
    _state.depth += 1
    _state.free, _state.asked = frozenset(t.ident for t in threading.enumerate()) - {me}, []
    _state.hub = compat.hub_offline(True)
    try:
        yield
    except RooflineError as error:
        if not _state.asked and _from_the_hub(error):
            _state.asked.append("huggingface.co")  # told to ask nobody, it says so itself and asks nobody
        if hosts := asked():
            error.args = (
                f"{error}\nits code asked for the network ({hosts}), and nothing is downloaded: put the file where the code "
                "finds it, or build the model without it (pretrained=False, a configuration instead of a checkpoint)",
                *error.args[1:],
            )
        raise
    finally:
        _state.depth -= 1
        if _state.hub is not None:
            compat.hub_offline(_state.hub)
        _state.free, _state.asked, _state.hub = before
