"""Results that have not run when a model gives them: generators, coroutines, iterators over a function."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from roofline.errors import UsageError

# What a generator gives before it is taken for one without an end.
MOST = 10_000
_KINDS = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, map, filter, zip, enumerate)


def finished(output: Any, note: Callable[[str], None]) -> Any:
    """What a model gives, with what of it has still to run run to its end, and a note that it was; containers are looked into.

    Raises UsageError for a generator without an end.
    """
    kind = type(output)
    if kind in (tuple, list):
        return kind([finished(value, note) for value in output])
    if kind is dict:
        return {key: finished(value, note) for key, value in output.items()}
    if not isinstance(output, _KINDS):
        return output
    if isinstance(output, Iterator):
        results = _all(output)
        note(f"the model gives {_a(kind)}: it was run to its end, with all of its results kept ({len(results)})")
    else:
        results = _awaited(output)
        note(f"the model gives {_a(kind)}: it was awaited")
    return finished(results, note)


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'ae' else 'a'} {kind.__name__.replace('_', ' ')}"


def _all(output: Iterator[Any]) -> list[Any]:
    results = []
    for result in output:
        results.append(result)
        if len(results) > MOST:
            raise _endless(type(output))
    return results


def _endless(kind: type) -> UsageError:
    return UsageError(
        f"the model gives {_a(kind)} that has not ended after {MOST:,} results"
        "\ngive a function that takes as many of them as you mean"
    )


def _awaited(output: Coroutine[Any, Any, Any] | AsyncIterator[Any]) -> Any:
    """The result of a coroutine, or all that an asynchronous generator gives."""
    import asyncio  # for the models that wait

    async def whole() -> Any:
        if isinstance(output, Coroutine):
            return await output
        results = []
        async for result in output:
            results.append(result)
            if len(results) > MOST:
                raise _endless(type(output))
        return results

    # a notebook has a loop of its own in this thread, which waits meanwhile
    around = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(whole())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio._set_running_loop(around)
