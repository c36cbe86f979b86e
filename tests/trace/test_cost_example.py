"""The example of docs/add-an-op.md, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from roofline import cost
from roofline.cost import registry
from roofline.records import Work
from roofline.tracing.trace import trace

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-an-op.md"


def test_the_custom_operator_is_counted() -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    # torch.library reads annotations, so the code must not inherit this module's `from __future__ import annotations`
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), {"__name__": "example"})

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1, self.w2 = nn.Parameter(torch.empty(8, 16)), nn.Parameter(torch.empty(16, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.mylib.fused_mlp(x, self.w1, self.w2)

    try:
        found = trace(Net(), (torch.empty(3, 8),))
        spec = next(s for s in found.specs if s.name == "mylib.fused_mlp")
        # 3 rows: 8 x 16 + 16 x 4 multiply-accumulates each, 16 compares
        assert cost.work(spec) == Work(2 * 3 * (128 + 64) + 3 * 16, 3 * (128 + 64))
        assert cost.classify(spec) == "gemm"
    finally:
        registry.RULES.pop("mylib.fused_mlp", None)
        cost._found.clear()
