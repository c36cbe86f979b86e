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
from roofline.tracing import packing
from roofline.tracing.trace import trace


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
    """As torchao keeps a quantised weight: two numbers a byte and a scale for each row, in other tensors."""

    data_of: torch.Tensor
    scale: torch.Tensor

    @staticmethod
    def __new__(cls, data_of: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype = torch.float32) -> Packed:
        make: Any = torch.Tensor._make_wrapper_subclass  # type: ignore[attr-defined]  # torch does not name it
        made: Packed = make(cls, (data_of.shape[0], 2 * data_of.shape[1]), dtype=dtype, device=data_of.device)
        made.data_of, made.scale = data_of, scale
        return made

    def __tensor_flatten__(self) -> tuple[list[str], torch.dtype]:
        return ["data_of", "scale"], self.dtype

    @staticmethod
    def __tensor_unflatten__(inside: dict[str, torch.Tensor], dtype: torch.dtype, size: Any, stride: Any) -> Packed:
        return Packed(inside["data_of"], inside["scale"], dtype)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "detach" in str(func):
            return Packed(args[0].data_of, args[0].scale, args[0].dtype)
        if func is torch.ops.aten.linear.default:
            x, weight, bias = args
            wide = torch.cat([weight.data_of & 15, weight.data_of >> 4], 1).to(x.dtype) * weight.scale
            return torch.addmm(bias, x, wide.t())
        return NotImplemented


def packed_net() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    net[0].weight = nn.Parameter(Packed(torch.zeros(4, 4, dtype=torch.uint8), torch.ones(4, 1)), requires_grad=False)
    return net


def test_packed_weights_in_a_subclass_are_counted_as_stored_and_as_computed() -> None:
    net = packed_net()
    kept = net[0].weight, net[0].weight.data_of
    for real in (False, True):
        found = trace(net, [torch.rand(2, 8)], real=real)
        # 4 x 8 and 3 x 4 weights, 4 + 3 biases; 16 bytes of nibbles and 4 scales instead of 32 fp32
        assert found.model.params == 32 + 12 + 7
        assert found.model.param_bytes == 16 + 4 * 4 + 4 * (12 + 7)
        assert [s.name for s in found.storages if s.kind == "parameter"][:2] == ["0.weight.data_of", "0.weight.scale"]
    result = analyze(net, args=[torch.rand(2, 8)], device="t4")
    assert result.totals.macs == 2 * (32 + 12)
    assert [k.op for k in result.kernels][:4] == ["bitwise_and", "__rshift__", "cat", "_to_copy"]
    assert (result.setting.dtype, result.setting.built) == ("fp32", "fp32")
    assert (net[0].weight, net[0].weight.data_of) == kept
    assert not net[0].weight.data_of.is_meta


def test_a_subclass_is_refused_where_it_cannot_be_taken_apart() -> None:
    with pytest.raises(UsageError, match=r"4x8 \(Packed\) holds its numbers in others, which is traced of weights alone"):
        analyze(nn.Linear(8, 4), args=[packed_net()[0].weight], device="t4")


class InWords(nn.Module):
    """A linear layer as libraries pack it: int32 words of eight numbers, scales for groups of them, the shape beside it."""

    def __init__(self, rows: int, columns: int, buffers: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = columns, rows
        words = torch.zeros(columns // 8, rows, dtype=torch.int32)
        if buffers:
            self.register_buffer("qweight", words)
        else:
            self.qweight = nn.Parameter(words, requires_grad=False)
        self.scales = nn.Parameter(torch.ones(columns // 4, rows), requires_grad=False)
        self.register_buffer("shape", torch.tensor([rows, columns]))
        self.bias = nn.Parameter(torch.zeros(rows))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [(self.qweight >> (4 * i)) & 15 for i in range(8)]
        wide = torch.stack(parts, 1).reshape(self.in_features, -1).to(x.dtype) * self.scales.repeat_interleave(4, 0)
        return torch.addmm(self.bias, x, wide)


@pytest.mark.parametrize("buffers", [False, True])
def test_a_layer_that_holds_its_weight_in_words_has_the_parameters_that_they_stand_for(buffers: bool) -> None:
    net = nn.Sequential(InWords(16, 32, buffers), nn.Linear(16, 4))
    found = analyze(net, args=[torch.rand(2, 32)], device="t4")
    assert found.model.params == 16 * 32 + 16 + 16 * 4 + 4
    # half a byte for each of 512, 8 x 16 scales, two int64 of a shape
    assert found.model.param_bytes == 256 + 4 * 128 + 16 + 4 * 16 + 4 * (64 + 4)
    assert found.totals.macs == 2 * (512 + 64)
    assert {r.path: r.params for r in found.layers} == {"": 596, "0": 528, "1": 68}


def test_a_layer_of_integers_that_are_no_weight_is_as_it_was() -> None:
    net = nn.Linear(8, 4)
    net.register_buffer("index", torch.zeros(16, dtype=torch.int64))
    found = analyze(net, args=[torch.rand(2, 8)], device="t4")
    assert (found.model.params, found.model.buffers) == (36, 16)


def holding(**held: Any) -> nn.Module:
    """A module with these numbers as attributes and these tensors as buffers; `table` is a parameter."""
    net = nn.Module()
    for name, value in held.items():
        if not isinstance(value, torch.Tensor):
            setattr(net, name, value)
        elif name == "table":
            net.table = nn.Parameter(value, requires_grad=False)
        else:
            net.register_buffer(name, value)
    return net


def words(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


# a weight of 64 x 64 as layers keep it that do not say their sizes
NAMELESS: dict[str, dict[str, Any]] = {
    "awq": {"w_bit": 4, "qweight": words(64, 8), "qzeros": words(2, 8), "scales": torch.ones(2, 64)},
    "eight bits": {"bits": 8, "q": words(64, 16), "s": torch.ones(2, 64)},
    "by zero points": {"q": words(64, 8), "z": words(2, 8), "s": torch.ones(2, 64)},
    "by scales": {"q": words(64, 8), "s": torch.ones(2, 64)},
    "by groups of rows": {"q": words(8, 64), "of": torch.arange(64) // 32, "s": torch.ones(2, 64)},
    "bytes": {"weight": words(64, 64, dtype=torch.int8), "scale": torch.ones(64, 1)},
    "halves of bytes": {"bits": 4, "weight": words(64, 32, dtype=torch.uint8), "scale": torch.ones(64, 2)},
    "fp8": {"weight": words(64, 64, dtype=torch.float8_e4m3fn), "scale": torch.ones(())},
    # two numbers in a byte by its dtype, a scale of a byte for 16 of them
    "fp4": {"weight": torch.empty(64, 32, dtype=torch.float4_e2m1fn_x2), "scale": words(64, 4, dtype=torch.float8_e4m3fn)},
}


@pytest.mark.parametrize("kind", NAMELESS)
def test_packed_weights_of_layers_that_do_not_say_their_sizes(kind: str) -> None:
    net = holding(**NAMELESS[kind], bias=torch.zeros(64))
    assert sum(packing.stands_for(net).values()) == 64 * 64 + 64


@pytest.mark.parametrize(
    "held",
    [
        {"index": words(49, 49), "table": torch.ones(169, 3)},
        {"mask": words(64, 64, dtype=torch.uint8), "fill": torch.tensor(-1e4)},
        {"mask": words(1, 1, 64, 64, dtype=torch.uint8), "fill": torch.ones(1)},
        {"index": words(8, 8), "table": torch.ones(64, 64)},
        {"cells": words(8, 8, dtype=torch.int8)},
        {"table": words(64, 64, dtype=torch.int8), "scale": torch.ones(64, 1)},  # counted as any parameter
    ],
)
def test_integers_beside_other_numbers_are_no_weight(held: dict[str, Any]) -> None:
    assert packing.stands_for(holding(**held)) == {}


HALVED = {
    "cutlass": lambda kind: kind(
        torch.Size((64, 128)), torch.zeros(64, 64).half(), torch.zeros(64, 8, dtype=torch.int16), None, None, None
    ),
    "cusparselt": lambda kind: kind(torch.Size((64, 128)), torch.zeros(64 * 72).half(), None, None, None, None),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructured")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", HALVED)
def test_of_a_weight_of_two_in_each_four_the_stored_half_is_multiplied(name: str, bias: bool) -> None:
    """As torch makes them on a GPU, with a weight [64, 128]: for each of 32 rows 64 x 64 products."""
    halved = pytest.importorskip("torch.sparse.semi_structured")
    layer = nn.Linear(128, 64, bias=bias, dtype=torch.float16)
    kind = getattr(halved, f"SparseSemiStructuredTensor{name.upper()}")
    layer.weight = nn.Parameter(HALVED[name](kind), requires_grad=False)
    found = analyze(nn.Sequential(layer), args=[torch.rand(32, 128).half()], device="h100-sxm")
    assert not found.coverage.unknown_ops
    assert found.totals.macs == 32 * 64 * 64
    assert found.totals.flops == 2 * 32 * 64 * 64 + 32 * 64 * bias


UNSURE = "nothing tells how many numbers one holds: "


@pytest.mark.parametrize(
    ("held", "counted"),
    [
        # bytes with a scale for each row: of eight bits or of four
        ({"packed": words(64, 32, dtype=torch.uint8), "scale": torch.ones(64, 1)}, 64 * 32),
        # a parameter of bytes, whatever stands beside it
        ({"table": words(64, 32, dtype=torch.uint8)}, 64 * 32),
        # words with a scale for each column and nothing else
        ({"qweight": words(8, 64), "scale": torch.ones(1, 64)}, 8 * 64),
    ],
)
def test_weights_of_which_nothing_tells_the_bits_are_counted_and_said(held: dict[str, Any], counted: int) -> None:
    net = nn.Sequential(nn.Linear(4, 4), holding(**held))
    net[1].forward = lambda x: x  # type: ignore[method-assign]  # of a model that is none
    found = analyze(net, args=[torch.rand(2, 4)], device="t4")
    (name,) = (n for n in held if n != "scale")
    assert any(f"{UNSURE}1.{name}; counted as one each" in note for note in found.notes)
    assert found.model.params == 20 + counted


@pytest.mark.parametrize("kind", NAMELESS)
def test_weights_whose_bits_something_tells_are_not_said_to_be_unsure(kind: str) -> None:
    net = holding(**NAMELESS[kind])
    net.forward = lambda x: x
    assert not any(UNSURE in note for note in analyze(net, args=[torch.rand(2, 4)], device="t4").notes)


def test_what_belongs_to_a_packed_weight_is_no_part_that_never_ran() -> None:
    """An order of the columns that this forward does not read stands for no parameters."""
    net = InWords(16, 32, buffers=True)
    net.register_buffer("order", torch.arange(32))
    found = analyze(net, args=[torch.rand(2, 32)], device="t4")
    assert not any("never ran" in note for note in found.notes)
    assert found.model.params == 16 * 32 + 16


class Scaled(nn.Parameter):
    """A parameter of a class of its own, with something hung on it."""


class HoldsScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Scaled(torch.zeros(4, 4))
        self.weight.factor = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert type(self.weight) is Scaled
        return x @ self.weight * self.weight.factor  # type: ignore[no-any-return]  # hung on


def test_what_hangs_on_a_parameter_is_there_in_the_pass() -> None:
    assert analyze(HoldsScale(), args=[torch.rand(2, 4)], device="t4").totals.macs == 2 * 16


class Halved(torch.Tensor):
    """A class that says itself what is called, and cannot be taken apart."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Halved:
        make: Any = torch.Tensor._make_wrapper_subclass  # type: ignore[attr-defined]  # torch does not name it
        made: Halved = make(cls, inner.shape, dtype=inner.dtype, device=inner.device)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*(a.inner / 2 if isinstance(a, cls) else a for a in args), **(kwargs or {}))


def test_a_class_of_tensors_that_a_pass_makes_says_what_is_called() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Halved(self.body(x)) + 1  # type: ignore[no-any-return]  # a tensor

    assert [k.op for k in analyze(Net(), args=[torch.rand(2, 4)], device="t4").kernels] == ["linear", "div", "add"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: torch.nested.nested_tensor([x[:1], x[1:]]), "makes a nested tensor.*layout=torch.jagged"),
        (lambda x: x.to_sparse(), "makes a sparse tensor.*make it dense"),
        (lambda x: x.to_mkldnn(), "oneDNN's own layout.*leave to_mkldnn"),
    ],
)
def test_tensors_that_a_pass_makes_and_that_are_not_traced(make: Any, words: str) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return make(x)

    with pytest.raises(UsageError, match=f"(?s){words}"):
        analyze(Net(), args=[torch.rand(3, 4)], device="t4")


def test_no_rows_take_no_energy_of_a_sample() -> None:
    assert analyze(nn.Linear(8, 4), args=[torch.rand(0, 8)], device="t4").totals.macs == 0


class DTensor(Packed):
    """As torch's: it holds what is no tensor beside its numbers."""


def test_a_part_of_a_tensor_that_processes_share_is_refused() -> None:
    net = nn.Linear(4, 4)
    net.register_buffer("shard", DTensor(torch.ones(4, 4, dtype=torch.int8), torch.ones(4, 1)))
    with pytest.raises(UsageError, match=r"4x8 is shared out over processes \(DTensor\).*\n.*before fully_shard"):
        analyze(net, args=(torch.rand(2, 4),), device="t4")


def test_what_processes_send_each_other_is_named() -> None:
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        net = nn.Linear(4, 4)
        found = analyze(lambda x: distributed.all_reduce(net(x)), args=(torch.rand(2, 4),), device="t4")
    finally:
        distributed.destroy_process_group()
    assert found.totals.macs == 2 * 16
    assert any("the way between devices takes no time" in note for note in found.notes)
