"""Loops that hold what trains a model: optimizers, schedules, scalers, variables of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from roofline import analyze

X = torch.rand(4, 8)
MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, 0.1),
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "foreach": lambda p: torch.optim.AdamW(p, 0.1, foreach=True),
}


class Trainer:
    def __init__(self, make: Callable[[Any], torch.optim.Optimizer]) -> None:
        self.net = nn.Linear(8, 8)
        self.optimizer, self.steps, self.losses = make(self.net.parameters()), 0, list[Tensor]()
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)

    def step(self, x: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        with torch.profiler.record_function("forward"):
            loss = self.net(x).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        self.losses.append(loss)
        return loss

    def state(self) -> str:
        weights = [(p.tolist(), p.grad) for p in self.net.parameters()]
        return str((weights, self.optimizer.state_dict(), self.schedule.state_dict(), self.steps, self.losses))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("warm", [False, True])
def test_an_optimizer_that_a_loop_holds_steps_in_the_pass_and_is_as_it_was(kind: str, warm: bool) -> None:
    trainer = Trainer(MAKERS[kind])
    if warm:
        trainer.step(X)
        trainer.optimizer.zero_grad()
    before = trainer.state()
    found = analyze(trainer.step, args=(X,), device="t4")
    assert trainer.state() == before
    assert found.totals.macs == 2 * 4 * 8 * 8  # the input needs no gradient
    written = {"sgd": "add_", "adam": "addcdiv_", "foreach": "_foreach_addcdiv_"}[kind]
    assert sum(k.op == written for k in found.kernels) >= (1 if kind == "foreach" else 2)
    assert not [k.op for k in found.kernels if "record_function" in k.op]
    trainer.step(X)


def test_variables_of_functions_are_put_back() -> None:
    net, state, count = nn.Linear(8, 8), torch.zeros(4, 8), 0

    def step(x: Tensor) -> Tensor:
        nonlocal state, count
        state, count = net(x) + state, count + 1
        return state

    assert analyze(step, args=(X,), device="t4").totals.macs == 4 * 8 * 8
    assert count == 0
    assert not state.is_meta
