"""Regions of autocast inside a model: as on the device that the pass is for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from roofline import Analysis, analyze
from roofline.errors import ModelError


class Net(nn.Module):
    """Two linear layers; the first under what `region` makes."""

    def __init__(self, region: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.region = nn.Linear(8, 8), nn.Linear(8, 8), region

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x):
            y = self.a(x)
        return self.b(y.float())


def products(found: Analysis) -> list[str]:
    return [k.dtype for k in found.kernels if k.klass == "gemm" and k.phase == "forward"]


def on(net: nn.Module, device: str = "rtx-4090", **options: Any) -> Analysis:
    return analyze(net, inputs=["4,8"], device=device, **options)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("region", "device", "first"),
    [
        (lambda x: torch.autocast(x.device.type), "rtx-4090", "float16"),
        (lambda x: torch.autocast(x.device.type), "xeon-8480", "bfloat16"),
        (lambda x: torch.autocast("cuda", dtype=torch.bfloat16), "rtx-4090", "bfloat16"),
        (lambda x: torch.autocast("cuda", enabled=False), "rtx-4090", "float32"),
        (lambda x: torch.autocast("cuda"), "xeon-8480", "float32"),  # nothing on it is CUDA's
        (lambda x: torch.autocast("cpu"), "rtx-4090", "float32"),
        (lambda x: torch.autocast("cpu", dtype=torch.float32), "xeon-8480", "float32"),  # torch warns, and switches it off
    ],
)
def test_a_region_holds_where_it_stands(region: Any, device: str, first: str, training: bool) -> None:
    assert products(on(Net(region), device, training=training)) == [first, "float32"]


@pytest.mark.parametrize("training", [False, True])
def test_a_region_can_switch_autocast_off(training: bool) -> None:
    """y.float() in the region's shadow stays fp32, and is cast again after it."""

    class Off(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            with torch.autocast(x.device.type, enabled=False):
                y = self.b(y.float())
            return self.a(y)

    assert products(on(Off(lambda x: None), dtype="amp", training=training)) == ["float16", "float32", "float16"]


def test_regions_within_regions_and_decorators() -> None:
    class Nested(Net):
        @torch.autocast("cuda", enabled=False)
        def exact(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(x.float())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cuda", dtype=torch.bfloat16):
                y = self.exact(self.a(x))
                with torch.autocast("cuda", dtype=torch.float16):
                    y = self.a(y)
                return self.b(y)

    assert products(on(Nested(lambda x: None))) == ["bfloat16", "float32", "float16", "bfloat16"]


def test_code_that_asks_is_told_what_holds_there() -> None:
    told = []

    class Asks(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kind = x.device.type
            told.append((torch.is_autocast_enabled(), torch.is_autocast_enabled(kind), torch.is_autocast_enabled("cpu")))
            with torch.autocast(kind, dtype=torch.bfloat16):
                told.append((torch.is_autocast_enabled(), torch.is_autocast_enabled(kind), torch.is_autocast_enabled("cpu")))
                told.append(torch.get_autocast_dtype(kind))
            return x

    on(Asks(lambda x: None))
    # its code names a device, so a second pass tells it that its tensors are on that
    assert told == 2 * [(False, False, False), (True, True, False), torch.bfloat16]


def test_a_parameter_is_cast_once_in_a_region_and_anew_in_the_next() -> None:
    class Twice(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(2):
                with torch.autocast(x.device.type):
                    x = self.a(self.a(x))
            return x

    casts = [k for k in on(Twice(lambda x: None)).kernels if k.klass != "gemm"]
    # the input, weight and bias of the first region; weight and bias of the second
    assert len(casts) == 5


@pytest.mark.parametrize("fails", [False, True])
def test_torch_is_as_it_was_afterwards(fails: bool) -> None:
    class Breaks(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.autocast("cuda").__enter__()  # and never left
            if fails:
                raise RuntimeError("broken")
            return x

    def state() -> tuple[Any, ...]:
        own, amp = torch.autocast, torch.amp.autocast_mode
        return own.__init__, own.__enter__, own.__exit__, torch.is_autocast_enabled, amp.is_autocast_available

    before = state()
    with pytest.raises(ModelError) if fails else nullcontext():
        on(Breaks(lambda x: None))
    assert state() == before
    assert not torch.is_autocast_enabled("cuda")


def test_an_unknown_device_is_refused_as_torch_does() -> None:
    with pytest.raises(ModelError, match="unsupported autocast device_type 'vulkan'"):
        on(Net(lambda x: torch.autocast("vulkan")))


def test_a_region_that_decorates_a_forward_in_a_file_is_kept_without_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(8, 8)\n"
        "    @torch.autocast('cuda', dtype=torch.bfloat16)\n    def forward(self, x): return super().forward(x)\n",
        encoding="utf-8",
    )
    found = analyze(f"{tmp_path}/net.py:Net", inputs=["4,8"], device="rtx-4090", cache=False)
    assert products(found) == ["bfloat16"]
