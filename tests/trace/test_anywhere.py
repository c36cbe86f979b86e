"""A trace says whether it hangs on the kind of device: one that does not is the same on a GPU and a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor, nn

from roofline.records import Trace
from roofline.tracing.trace import trace


class Calls(nn.Module):
    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(x)


def attended(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def masked(x: Tensor) -> Tensor:
    """With a width that differs, which one kernel takes on a GPU alone."""
    return F.scaled_dot_product_attention(x, x, x[..., :8].contiguous())


def in_region(x: Tensor) -> Tensor:
    with torch.autocast("cuda", dtype=torch.float16):
        return x @ x.transpose(-1, -2)


def asking(x: Tensor) -> Tensor:
    return x.to(torch.get_autocast_dtype("cuda"))


def both(module: nn.Module, **options: Any) -> tuple[Trace, Trace]:
    x = torch.empty(2, 4, 16, 16, device="meta")
    gpu, cpu = (trace(module, [x], device_kind=kind, **options) for kind in ("gpu", "cpu"))
    return gpu, cpu


PLAIN = [
    nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(392, 10)),
    nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU(), nn.Softmax(-1)),
    Calls(attended),
]


@pytest.mark.parametrize("module", PLAIN)
@pytest.mark.parametrize("dtype", [None, "fp16"])
def test_what_asks_nothing_of_the_kind_is_the_same_on_both(module: nn.Module, dtype: str | None) -> None:
    gpu, cpu = both(module, dtype=dtype)
    assert gpu.anywhere is cpu.anywhere is True
    assert gpu == cpu


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (nn.RMSNorm(16), {}),
        (Calls(masked), {}),
        (Calls(in_region), {}),
        (Calls(asking), {}),
        (PLAIN[0], {"dtype": "amp"}),
        (nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5)), {"optimizer": "sgd"}),
    ],
)
def test_what_asks_for_the_kind_says_so(module: nn.Module, options: dict[str, Any]) -> None:
    gpu, cpu = both(module, **options)
    assert gpu.anywhere is cpu.anywhere is False


def test_no_model_that_says_so_differs() -> None:
    """Every operator that is taken apart somewhere, in a plain call."""
    calls: list[Callable[[Tensor], Any]] = [
        lambda x: F.mse_loss(x, x),
        lambda x: F.huber_loss(x, x),
        lambda x: F.log_softmax(x.half(), -1, dtype=torch.float32),
        lambda x: F.softmax(x.half(), -1, dtype=torch.float32),
        lambda x: F.rms_norm(x, (16,)),
        masked,
        attended,
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        lambda x: F.group_norm(x, 2),
        lambda x: x.half() @ x.half(),
        lambda x: F.linear(x.transpose(1, 2), x[0, 0]),
    ]
    for call in calls:
        gpu, cpu = both(Calls(call))
        assert gpu.anywhere is cpu.anywhere
        if gpu.anywhere:
            assert replace(gpu, model=cpu.model) == cpu
