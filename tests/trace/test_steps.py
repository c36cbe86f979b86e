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


# 8 -> 8 with a bias, and another of which only a name is used
LAYER, OTHER = nn.Linear(8, 8), nn.Linear(3, 5)


def optimizer(layer: nn.Module = OTHER) -> nn.Module:
    return layer


class Held:
    layer = LAYER


def nested(x: Tensor) -> Tensor:
    def inside(y: Tensor) -> Tensor:
        return LAYER(y)  # type: ignore[no-any-return]  # a layer's

    return inside(x)


def names_of_attributes(x: Tensor) -> Tensor:
    """`optimizer` here is no global name."""
    found: Tensor = LAYER(getattr(x, "optimizer", x) if hasattr(x, "layer") else x)
    return found if not hasattr(found, "optimizer") else found.optimizer  # type: ignore[attr-defined]  # nobody's


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "by name": lambda x: LAYER(x),
    "in a comprehension": lambda x: [LAYER(y) for y in (x,)],
    "in a function within": nested,
    "in a lambda within": lambda x: (lambda y: LAYER(y))(x),
    "held by a class": lambda x: Held.layer(x),
    "an attribute of a global's name": names_of_attributes,
}


@pytest.mark.parametrize("how", FUNCTIONS)
def test_the_modules_that_a_function_calls_are_its_parts_and_no_others(how: str) -> None:
    """4 rows through 8 -> 8: 72 parameters, and each of them ran."""
    found = analyze(FUNCTIONS[how], args=(X,), device="t4")
    assert (found.totals.macs, found.model.params) == (4 * 8 * 8, 8 * 8 + 8)
    assert not found.coverage.never_ran


def test_parameters_that_nothing_reaches_are_said() -> None:
    hidden = {"layer": LAYER}

    class Outside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return hidden["layer"](x)  # type: ignore[no-any-return]  # a layer's

    found = analyze(Outside(), args=(X,), device="t4")
    assert (found.totals.macs, found.model.params) == (256, 0)
    assert "its code uses parameters that no part of it holds, 72 numbers: they are not among its parameters" in found.notes
