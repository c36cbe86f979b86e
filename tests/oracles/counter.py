"""Torch's own counter of FLOPs: two for each multiply-accumulate of convolutions, products and attention, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def flops(call: Callable[[], Any]) -> int:
    """What FlopCounterMode counts while `call` runs, on real or meta tensors."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:  # under inference_mode it counts nothing
        call()
    return int(counter.get_total_flops())
