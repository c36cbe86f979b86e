"""Models that look at the tensors of the pass: whether they have memory, or at what is inside them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from roofline import RooflineError, analyze

X = torch.rand(4, 8)
LAYER = 4 * 8 * 8


class Of(nn.Module):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8, device=device)


class OfMeta(Of):
    def forward(self, x: Tensor) -> Any:
        return x if x.is_meta else self.lin(x)


class OfDevice(Of):
    def forward(self, x: Tensor) -> Any:
        return x if x.device == torch.device("meta") else self.lin(x)


class OfAddress(Of):
    def forward(self, x: Tensor) -> Any:
        return self.lin(x) if x.data_ptr() else x


@pytest.mark.parametrize("kind", [OfMeta, OfDevice, OfAddress])
def test_who_looks_for_memory_finds_some(kind: type[Of]) -> None:
    found = analyze(kind(), args=(X,), device="t4")
    assert found.totals.macs == LAYER
    assert "its code asks whether tensors have memory: traced on real tensors, with the values given" in found.notes


def test_who_looks_for_memory_where_none_can_be_is_named() -> None:
    found = analyze(OfMeta("meta"), args=(X,), device="t4")
    assert any("on a device it may take another way" in note for note in found.notes)


def test_a_function_that_looks() -> None:
    net = nn.Linear(8, 8)
    assert analyze(lambda x: x if x.is_meta else net(x), args=(X,), device="t4").totals.macs == LAYER


COPIES: dict[str, Callable[[Any], Any]] = {"copy": copy.deepcopy, "pickle": lambda t: pickle.loads(pickle.dumps(t))}


@pytest.mark.parametrize("kind", COPIES)
def test_tensors_of_a_pass_are_copied_as_any(kind: str) -> None:
    net = nn.Linear(8, 8)
    found = analyze(lambda x: net(COPIES[kind](net(x))), args=(X,), device="t4")
    assert found.totals.macs == 2 * LAYER
    assert not any("real tensors" in note for note in found.notes)


def nested(net: nn.Module, depth: int = 230) -> nn.Module:
    for _ in range(depth):
        net = nn.Sequential(net)
    return net


def test_what_is_nested_deep_is_followed_and_its_path_is_short_in_a_message() -> None:
    assert analyze(nested(nn.Linear(8, 8)), args=(X,), device="t4").totals.macs == LAYER
    with pytest.raises(RooflineError, match=r"failed in 0\.0.*\.\.\..*0\.0 \(Linear\)") as refused:
        analyze(nested(nn.Linear(3, 8)), args=(X,), device="t4")
    assert len(str(refused.value)) < 500
