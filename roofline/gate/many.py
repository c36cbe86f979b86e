"""The analyses of many requests: those that are known at once, and the others in several processes."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from roofline import compat, errors, pipeline
from roofline.analysis.budgets import told
from roofline.analysis.limits import of_code
from roofline.errors import ModelError, RooflineError
from roofline.isolation import children, supervision
from roofline.records import Analysis
from roofline.request import Request

MOST = 4
# Fewer that are not known are not worth the processes.
_FEW = 3

Answer = Analysis | Exception


def jobs() -> int:
    """Processes, where nobody says: one for each core, but not many."""
    return min(children.cores(), MOST)


def answers(
    requests: Sequence[Request],
    one: Callable[[Request], Analysis],
    count: int,
    progress: Callable[[str], None],
) -> Iterator[Answer]:
    """The analysis of each, or what was raised instead, in their order. `one` answers one; it runs in the processes too."""
    known = [_known(request) for request in requests]
    missing = [i for i, found in enumerate(known) if found is None]
    limits = supervision.limits()
    if len(missing) < _FEW or limits is None or not _ready(progress):
        for request, found in zip(requests, known, strict=True):
            yield found if found is not None else _answer(one, replace(request, progress=progress))
        return
    done: dict[int, Answer] = {}
    work = children.run(
        min(count, len(missing)), len(missing), lambda task: _sent(_answer(one, requests[missing[task]])), limits
    )
    for i, found in enumerate(known):
        while found is None and i not in done:
            task, said = next(work)
            request = requests[missing[task]]
            done[missing[task]] = _received(said) if isinstance(said, bytes) else ModelError(f"{request.ask.model}: {said}")
            progress(f"{len(done)} of {len(missing)} models analysed: {request.ask.model}")
        yield found if found is not None else done[i]
    progress("")


def _known(request: Request) -> Analysis | None:
    try:
        return pipeline.known(request)
    except Exception:  # whoever asks for it is told
        return None


def _ready(progress: Callable[[str], None]) -> bool:
    """Whether this process can be forked with torch imported, which no fork then waits for."""
    if not supervision.may_fork():
        return False
    if compat.version("torch"):
        progress("importing torch")
        import torch  # noqa: F401

        supervision.begun()
    return supervision.may_fork()


def _answer(one: Callable[[Request], Analysis], request: Request) -> Answer:
    try:
        return one(request)
    except Exception as error:  # the boundary between one model and the next
        return error


# ------------------------------------------------------------------------------------------------ between processes


class _Sent(msgspec.Struct):
    """An analysis, or an error: its class, words and exit code, and where it came from."""

    analysis: Analysis | None = None
    kind: str = ""
    said: str = ""
    code: int = 0
    trace: str = ""


def _sent(answer: Answer) -> bytes:
    if isinstance(answer, Analysis):
        return msgspec.msgpack.encode(_Sent(answer))
    said, code = told(answer)
    if isinstance(answer, RooflineError):
        said = str(answer)  # in all its lines
    return msgspec.msgpack.encode(_Sent(None, type(answer).__name__, said, code, "".join(traceback.format_exception(answer))))


def _received(data: bytes) -> Answer:
    found = msgspec.msgpack.decode(data, type=_Sent)
    if found.analysis is not None:
        return found.analysis
    kind: Any = getattr(errors, found.kind, None)
    error: Exception = kind(found.said) if kind is not None else of_code(found.code, found.said)
    error.add_note(found.trace)
    return error
