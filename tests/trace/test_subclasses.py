"""Tensors that are more or less than a block of memory: subclasses, sparse ones, nested ones."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right, causal_upper_left

from roofline import analyze
from roofline.errors import UsageError


class Attends(nn.Module):
    def __init__(self, bias: Any) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, k, attn_mask=self.bias(q.shape[2], k.shape[2]))


@pytest.mark.parametrize(
    ("bias", "device", "dtype", "kernels"),
    [
        # torch.nn.attention.bias: lower right is a kernel's own way on a GPU, a mask on a CPU
        (causal_lower_right, "rtx-4090", "fp16", ["_scaled_dot_product_flash_attention"]),
        (causal_lower_right, "rtx-4090", None, ["_efficient_attention_forward"]),
        (causal_lower_right, "xeon-8480", None, ["ones", "tril", "scaled_dot_product_attention"]),
        (causal_upper_left, "rtx-4090", None, ["scaled_dot_product_attention"]),
    ],
)
def test_attention_with_a_causal_bias(bias: Any, device: str, dtype: str | None, kernels: list[str]) -> None:
    found = analyze(Attends(bias), args=[torch.rand(2, 4, 6, 16), torch.rand(2, 4, 10, 16)], device=device, dtype=dtype)
    assert found.totals.macs == 2 * 4 * 6 * 10 * 32
    assert [k.op for k in found.kernels] == kernels


class Mine(torch.Tensor):
    pass


def test_a_subclass_that_is_made_in_a_forward() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + Mine([1.0, 2.0]) + torch.Tensor([1.0, 2.0])

    assert [k.op for k in analyze(Net(), args=[torch.rand(2)], device="t4").kernels] == ["add", "add"]
    assert "__new__" not in vars(torch.Tensor)


class Graph(nn.Module):
    def __init__(self, used: bool) -> None:
        super().__init__()
        self.used, self.body = used, nn.Linear(4, 4)
        self.register_buffer("edges", torch.eye(4).to_sparse())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(self.edges, self.body(x)) if self.used else self.body(x)


def test_a_sparse_buffer_stops_only_a_pass_that_uses_it() -> None:
    found = analyze(Graph(False), args=[torch.rand(4, 4)], device="t4")
    assert found.totals.macs == 64
    assert "sparse buffers are left out of the bytes: edges" in found.notes
    with pytest.raises(UsageError, match=r"4x4 is sparse \(sparse_coo\).*\.to_dense\(\)"):
        analyze(Graph(True), args=[torch.rand(4, 4)], device="t4")


def test_sparse_and_nested_inputs_are_refused_with_what_to_do() -> None:
    rows = [torch.rand(2, 4), torch.rand(3, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = [torch.nested.nested_tensor(rows), torch.nested.nested_tensor(rows, layout=torch.jagged)]
        sparse = [torch.eye(4).to_sparse(), torch.eye(4).to_sparse_csr()]
    for x in nested:
        with pytest.raises(UsageError, match="pad it"):
            analyze(nn.Linear(4, 4), args=[x], device="t4")
    for x in sparse:
        with pytest.raises(UsageError, match="to_dense"):
            analyze(nn.Linear(4, 4), args=[x], device="t4")


def test_a_sparse_gradient_is_taken_as_a_dense_one_and_a_note_says_so() -> None:
    net = nn.Sequential(nn.Embedding(50_000, 16, sparse=True), nn.Linear(16, 4))
    found = analyze(net, inputs=["4,7:int64"], device="rtx-4090", training=True, optimizer="sgd")
    # 28 rows of 16 x 4: forward, and both gradients, since the rows' is wanted too
    assert found.totals.macs == 3 * 28 * 64
    assert any("sparse gradients" in note for note in found.notes)
    assert net[0].sparse


class Packed(torch.Tensor):
    """As torchao keeps a quantised weight: the bytes lie in another tensor."""

    @staticmethod
    def __new__(cls, data: torch.Tensor) -> Packed:
        make: Any = torch.Tensor._make_wrapper_subclass  # type: ignore[attr-defined]  # torch does not name it
        made: Packed = make(cls, data.shape, dtype=torch.float32)
        return made

    def __init__(self, data: torch.Tensor) -> None:
        self.data_of = data

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["data_of"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Packed(args[0].data_of) if "detach" in str(func) else NotImplemented


def test_packed_weights_in_a_subclass_are_refused_and_not_counted_as_fp32() -> None:
    net = nn.Linear(4, 4)
    net.weight = nn.Parameter(Packed(torch.zeros(4, 4, dtype=torch.int8)), requires_grad=False)
    with pytest.raises(UsageError, match="a Packed of 4x4 holds its numbers packed"):
        analyze(net, args=[torch.rand(2, 4)], device="t4")
