"""Models that give what has still to run: generators, coroutines, iterators over a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import roofline
from roofline.errors import UsageError

MACS = 4 * 8 * 8


class Net(nn.Module):
    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.inner, self.body = nn.Linear(8, 8), body

    def forward(self, x: Tensor) -> Any:
        return self.body(self.inner, x)


def streams(inner: nn.Module, x: Tensor) -> Any:
    yield inner(x)
    yield inner(x)


async def waits(inner: nn.Module, x: Tensor) -> Any:
    await asyncio.sleep(0)
    return inner(x)


async def streams_slowly(inner: nn.Module, x: Tensor) -> Any:
    yield inner(x)
    await asyncio.sleep(0)
    yield inner(x)


def lazily(inner: nn.Module, x: Tensor) -> Any:
    return {"all": map(inner, [x, x, x])}


def without_end(inner: nn.Module, x: Tensor) -> Any:
    while True:
        yield x


CASES = [
    (streams, 2, "gives a generator: it was run to its end, with all of its results kept (2)"),
    (waits, 1, "gives a coroutine: it was awaited"),
    (streams_slowly, 2, "gives an async generator: it was awaited"),
    (lazily, 3, "gives a map: it was run to its end, with all of its results kept (3)"),
]


@pytest.mark.parametrize(("body", "times", "note"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_what_has_still_to_run_is_run(body: Callable[..., Any], times: int, note: str) -> None:
    found = roofline.analyze(Net(body), args=(torch.rand(4, 8),), device="t4")
    assert found.totals.macs == times * MACS
    assert f"the model {note}" in found.notes


def test_in_a_notebook_which_has_a_loop_of_its_own() -> None:
    async def cell() -> int:
        return roofline.analyze(Net(waits), args=(torch.rand(4, 8),), device="t4").totals.macs

    assert asyncio.run(cell()) == MACS


def test_a_generator_without_an_end_is_refused() -> None:
    with pytest.raises(UsageError, match="a generator that has not ended after 10,000 results\ngive a function"):
        roofline.analyze(Net(without_end), args=(torch.rand(4, 8),), device="t4")
