"""Layers that a model runs in threads of its own are counted as if they ran one after the other."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import roofline
from roofline.errors import ModelError
from roofline.records import Analysis

X = torch.empty(4, 16, device="meta")
LAYER = 4 * 16 * 16


class Net(nn.Module):
    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(16, 16) for _ in range(3))
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        return self.a, self.b, self.c


def analysed(net: Net, **options: Any) -> Analysis:
    return roofline.analyze(net, args=(X,), device="t4", cache=False, **options)


def by_threads(net: Net, x: Tensor) -> Tensor:
    out: dict[int, Tensor] = {}
    threads = [threading.Thread(target=lambda i=i, m=m: out.update({i: m(x)})) for i, m in enumerate(net.parts)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return torch.stack([out[i] for i in range(3)])


def by_pool(net: Net, x: Tensor) -> Tensor:
    with ThreadPoolExecutor(2) as pool:
        return torch.stack(list(pool.map(lambda m: m(x), net.parts)))


def by_thread_pool(net: Net, x: Tensor) -> Tensor:
    with ThreadPool(2) as pool:
        return torch.stack(pool.map(lambda m: m(x), net.parts))


def by_queue(net: Net, x: Tensor) -> Tensor:
    """A thread that waits for what comes after its start."""
    todo, done = queue.Queue[Any](), queue.Queue[Tensor]()

    def work() -> None:
        while (item := todo.get()) is not None:
            done.put(item[0](item[1]))

    thread = threading.Thread(target=work)
    thread.start()
    for m in net.parts:
        todo.put((m, x))
    todo.put(None)
    thread.join()
    return torch.stack([done.get() for _ in range(3)])


def by_asyncio(net: Net, x: Tensor) -> Tensor:
    async def all_of_them() -> list[Tensor]:
        return await asyncio.gather(*(asyncio.to_thread(m, x) for m in net.parts))

    return torch.stack(asyncio.run(all_of_them()))


def by_replicas(net: Net, x: Tensor) -> Tensor:
    return torch.stack(torch.nn.parallel.parallel_apply(net.parts, [x, x, x]))


def by_forks(net: Net, x: Tensor) -> Tensor:
    return torch.stack([torch.jit.wait(f) for f in [torch.jit.fork(m, x) for m in net.parts]])


WAYS = [by_threads, by_pool, by_thread_pool, by_queue, by_asyncio, by_replicas, by_forks]


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("body", WAYS, ids=lambda f: f.__name__)
def test_layers_in_threads_are_counted(body: Callable[..., Any]) -> None:
    found = analysed(Net(body))
    assert found.totals.macs == 3 * LAYER
    assert [layer.macs for layer in found.layers if layer.path in ("a", "b", "c")] == [LAYER] * 3
    assert found.coverage.never_ran == []
    assert not any("there before" in note for note in found.notes)


def test_a_training_step_gives_each_its_gradients() -> None:
    found = analysed(Net(by_pool), training=True)
    # forward, and the gradient of the weight: the input has none
    assert [layer.macs for layer in found.layers if layer.path in ("a", "b", "c")] == [2 * LAYER] * 3


def test_a_pool_and_a_thread_that_were_there_before() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(abs, 1).result()
        assert analysed(Net(lambda net, x: pool.submit(net.a, x).result())).totals.macs == LAYER
    todo, done = queue.Queue[Any](), queue.Queue[Any]()

    def work() -> None:
        while (item := todo.get()) is not None:
            done.put(item[0](item[1]))

    def body(net: Net, x: Tensor) -> Any:
        todo.put((net.b, x))
        return done.get()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = analysed(Net(body))
    finally:
        todo.put(None)
        thread.join()
    assert found.totals.macs == LAYER
    assert any("a thread that was there before the pass" in note for note in found.notes)


def test_what_a_thread_does_outside_of_layers_and_that_was_there_before_is_named() -> None:
    todo, done = queue.Queue[Any](), queue.Queue[Any]()
    thread = threading.Thread(target=lambda: done.put(todo.get() @ torch.ones(16, 16)))
    thread.start()

    def body(net: Net, x: Tensor) -> Any:
        todo.put(x)
        return net.b(done.get())

    found = analysed(Net(body))
    thread.join()
    assert found.totals.macs == LAYER
    assert (
        "it waits for a thread that was there before the pass: what that does outside of layers is not counted" in found.notes
    )


def test_a_simple_queue_does_not_wait_for_a_thread_that_failed() -> None:
    def body(net: Net, x: Tensor) -> Any:
        done = queue.SimpleQueue[Tensor]()
        threading.Thread(target=lambda: done.put(net.b(x[:, :3]))).start()
        return done.get()  # for ever: nobody answers

    with pytest.raises(ModelError, match=r"failed in b \(Linear\)"):
        analysed(Net(body))


def test_a_thread_that_fails_is_the_models_failure() -> None:
    def body(net: Net, x: Tensor) -> Any:
        done = queue.Queue[Tensor]()
        threading.Thread(target=lambda: done.put(net.b(x[:, :3]))).start()
        return done.get()  # for ever: nobody answers

    with pytest.raises(ModelError, match=r"failed in b \(Linear\) with input shapes \[4x3\]"):
        analysed(Net(body))


def test_threads_do_not_inherit_autocast() -> None:
    found = analysed(Net(by_threads), dtype="amp")
    assert {k.dtype for k in found.kernels} == {"float32"}
    assert any("outside of autocast" in note for note in found.notes)
    assert "float16" in {k.dtype for k in analysed(Net(by_replicas), dtype="amp").kernels}
    assert threading.Thread.start.__qualname__ == "Thread.start"
