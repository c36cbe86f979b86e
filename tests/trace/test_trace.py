"""What the tracer records, and that it leaves the model alone."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import roofline
from roofline.analysis import memory
from roofline.errors import ModelError, UsageError
from roofline.records import Trace
from roofline.tracing.trace import NeedsValues, trace


def ops(t: Trace) -> list[tuple[str, str]]:
    """(layer path, operator) of every op that is not a view."""
    return [(t.layers[o.layer].path, t.specs[o.spec].name.removeprefix("aten.")) for o in t.ops if not t.specs[o.spec].view]


def names(t: Trace) -> list[str]:
    return [name for _, name in ops(t)]


class Functional(nn.Module):
    """Calls that module hooks miss: functional, operators, methods, control flow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(8, 4))
        self.lin = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight)
        for _ in range(3 if x.shape[0] > 1 else 1):
            y = self.lin(y) + 1
        return (y @ y.transpose(-1, -2)).softmax(-1)


def test_functional_calls_operators_and_control_flow() -> None:
    one = trace(Functional(), (torch.empty(1, 5, 4),))
    assert names(one) == ["linear", "linear", "add", "bmm", "softmax"]
    two = trace(Functional(), (torch.empty(2, 5, 4),))
    assert names(two) == ["linear", *(["linear", "add"] * 3), "bmm", "softmax"]
    assert [path for path, name in ops(two) if name == "linear"] == ["", "lin", "lin", "lin"]


def test_reused_module_counts_calls_not_parameters() -> None:
    shared = nn.Linear(4, 4)
    t = trace(nn.Sequential(shared, nn.ReLU(), shared), (torch.empty(2, 4),))
    assert names(t) == ["linear", "relu", "linear"]
    assert t.model.params == 20
    assert next(layer for layer in t.layers if layer.path == "0").calls == 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.head = nn.Linear(8, 100, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids))


def test_tied_weights_are_one_parameter_and_one_storage() -> None:
    t = trace(Tied(), (torch.zeros(2, 3, dtype=torch.int64),))
    assert t.model.params == 800
    assert t.model.param_bytes == 3200
    linear = next(o for o in t.ops if t.specs[o.spec].name == "aten.linear")
    embedding = next(o for o in t.ops if t.specs[o.spec].name == "aten.embedding")
    assert linear.inputs[1] == embedding.inputs[0]
    assert t.storages[linear.inputs[1]].kind == "parameter"


class Keyword(nn.Module):
    def forward(self, batch: dict[str, Tensor], *, scale: Tensor, pair: tuple[Tensor, Tensor]) -> dict[str, list[Tensor]]:
        return {"out": [batch["a"] * scale, pair[0] - pair[1]]}


def test_any_nesting_of_inputs() -> None:
    x = torch.empty(2, 3)
    t = trace(Keyword(), ({"a": x},), {"scale": torch.empty(3), "pair": (torch.empty(4), torch.empty(4))})
    assert names(t) == ["mul", "sub"]
    assert [(i.name, i.shape) for i in t.model.inputs] == [("0", (2, 3)), ("scale", (3,)), ("pair", (4,)), ("pair", (4,))]


class Caching(nn.Module):
    """A model that writes to itself while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.tables: dict[int, Tensor] = {}
        self.register_buffer("steps", torch.zeros(()))
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.shape[0])
        self.tables[x.shape[0]] = x * 2
        self.late = x
        self.steps += 1
        return self.bn(x)


def test_model_is_left_as_it_was_found() -> None:
    model = Caching().train()
    state = copy.deepcopy(model.state_dict())
    before = {name: set(vars(m)) for name, m in model.named_modules()}
    tensors = {name: id(t) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    first = trace(model, (torch.empty(3, 4),))
    second = trace(model, (torch.empty(3, 4),))
    assert first.ops == second.ops
    assert first.specs == second.specs
    assert first.storages == second.storages
    assert model.training
    assert model.bn.training
    assert {name: set(vars(m)) for name, m in model.named_modules()} == before
    assert model.seen == []
    assert model.tables == {}
    assert {name: id(t) for name, t in [*model.named_parameters(), *model.named_buffers()]} == tensors
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert not model._forward_hooks
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_a_failing_model_is_left_as_it_was_found() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 2)).train()
    ids = [id(p) for p in model.parameters()]
    with pytest.raises(ModelError, match=r"failed in 1 \(Linear\) with input shapes \[3x8\]: RuntimeError"):
        trace(model, (torch.empty(3, 4),))
    assert [id(p) for p in model.parameters()] == ids
    assert all(m.training for m in model.modules())
    assert not nn.modules.module._global_forward_pre_hooks
    assert names(trace(nn.Linear(4, 2), (torch.empty(3, 4),))) == ["linear"]


class Recovering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bad, self.good = nn.Linear(9, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.bad(x)
        except RuntimeError:
            return self.good(x)


def test_a_model_that_catches_its_own_exception() -> None:
    assert ops(trace(Recovering(), (torch.empty(3, 4),))) == [("good", "linear")]


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_encoder_layer_is_seen_in_eval_mode(norm_first: bool) -> None:
    """Its fused inference path hides everything from a counter that looks for linear layers."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first).eval()
    found = names(trace(layer, (torch.empty(2, 10, 32),)))
    assert found.count("linear") == 4
    assert found.count("scaled_dot_product_attention") == 1
    assert found.count("layer_norm") == 2


def test_attention_is_one_op_and_the_transpose_behind_it_is_free() -> None:
    class Attention(nn.Module):
        def forward(self, qkv: Tensor) -> Tensor:
            q, k, v = qkv.unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4).unbind(0)
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 10, 32)

    assert names(trace(Attention(), (torch.empty(2, 10, 96),))) == ["scaled_dot_product_attention"]


def test_views_write_nothing_and_in_place_ops_keep_their_storage() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y.view(-1)[:4].add_(1)
            return y.relu_()

    t = trace(InPlace(), (torch.empty(2, 8),))
    assert names(t) == ["mul", "add_", "relu_"]
    by_name = {t.specs[o.spec].name: o for o in t.ops}
    y = by_name["aten.mul"].outputs[0]
    assert by_name["aten.add_"].inputs == by_name["aten.add_"].outputs == (y,)
    assert by_name["aten.relu_"].outputs == (y,)
    assert t.specs[by_name["aten.relu_"].spec].mutates == (0,)


def test_storages_die_when_the_model_drops_them() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    t = trace(model, (torch.empty(8, 4),))
    made = [s for s in t.storages if s.kind == "activation"]
    # the first linear's output is dropped once relu has read it; the last output is what the caller holds
    assert [(s.nbytes, s.born, s.died) for s in made] == [(8 * 16 * 4, 0, 2), (8 * 16 * 4, 1, 3), (8 * 2 * 4, 2, -1)]


def test_no_weights_are_allocated() -> None:
    with torch.device("meta"):
        huge = nn.Linear(200_000, 500_000, bias=False)
    t = trace(huge, (torch.empty(1, 200_000, device="meta"),))
    assert t.model.param_bytes == 4 * 200_000 * 500_000
    assert names(t) == ["linear"]


@pytest.mark.parametrize(
    ("dtype", "kept"), [("fp16", "float16"), ("bf16", "bfloat16"), ("fp64", "float64"), ("tf32", "float32")]
)
def test_dtype_applies_to_parameters_and_inputs(dtype: str, kept: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
    t = trace(model, (torch.empty(2, 4),), dtype=dtype)
    assert {spec.dtype for s in t.specs for spec in (*s.inputs, *s.outputs)} == {kept}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc, self.act = nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.act(self.fc(self.norm(x)))
        return (x @ x.transpose(-1, -2)).softmax(-1)


def test_autocast_casts_as_torch_does() -> None:
    """Layer norm and softmax come out in fp32, matmuls in fp16, and the casts between them are kernels."""
    t = trace(Block(), (torch.empty(2, 4, 8),), dtype="amp", device_kind="gpu")
    found = [(t.specs[o.spec].name.removeprefix("aten."), t.specs[o.spec].out.dtype) for o in t.ops if not t.specs[o.spec].view]
    assert found == [
        ("layer_norm", "float32"),
        ("_to_copy", "float16"),  # its output
        ("_to_copy", "float16"),  # the weight
        ("_to_copy", "float16"),  # the bias
        ("linear", "float16"),
        ("gelu", "float16"),
        ("add", "float32"),
        ("_to_copy", "float16"),
        ("_to_copy", "float16"),
        ("bmm", "float16"),
        ("softmax", "float32"),
    ]


def test_autocast_against_torch_itself_on_the_cpu() -> None:
    """The same model under torch.autocast on real tensors gives the same dtypes, op by op."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[tuple[str, torch.dtype]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            first = out[0] if isinstance(out, tuple) else out
            seen.append((func._schema.name.removeprefix("aten::"), first.dtype))
            return out

    model = Block().eval()
    with torch.no_grad(), Watch(), torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 4, 8))
    t = trace(model, (torch.empty(2, 4, 8),), dtype="amp", device_kind="cpu")
    ours = [(t.specs[o.spec].name.removeprefix("aten."), getattr(torch, t.specs[o.spec].out.dtype)) for o in t.ops]
    same_name = {"addmm": "linear", "native_layer_norm": "layer_norm", "_softmax": "softmax"}
    heavy = {"linear", "layer_norm", "softmax", "gelu", "bmm", "add"}
    assert [o for o in ours if o[0] in heavy] == [(same_name.get(n, n), d) for n, d in seen if same_name.get(n, n) in heavy]


def test_constants_outside_the_state_are_taken_along() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = [torch.ones(4)]

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scales[0] + torch.arange(4)

    t = trace(Scaled(), (torch.empty(2, 4),))
    assert names(t) == ["mul", "arange", "add"] or names(t) == ["arange", "mul", "add"]
    mul = next(o for o in t.ops if t.specs[o.spec].name == "aten.mul")
    assert t.storages[mul.inputs[1]].kind == "constant"


class Dependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        kept = x[x.sum(-1) > -1.0]
        return self.fc(kept) if kept.sum().item() > -1e9 else kept


def test_data_dependent_models_say_so_and_run_on_real_tensors() -> None:
    with pytest.raises(NeedsValues):
        trace(Dependent(), (torch.empty(6, 4),))
    t = trace(Dependent(), (torch.empty(6, 4, device="meta"),), real=True)
    linear = next(t.specs[o.spec] for o in t.ops if t.specs[o.spec].name == "aten.linear")
    assert linear.out.shape == (6, 4)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda x: x.nonzero(), "nonzero(): how much it finds depends on values"),
        (lambda x: x.sum().item(), "it asked for the value of a tensor (item(), or a condition on it)"),
        (lambda x: x.tolist(), "it asked for the values of a tensor, as tolist(), numpy() or a copy to the CPU do"),
        (lambda x: x.repeat_interleave(x[:, 0].long(), 0), "repeat_interleave(): how long its result is depends on values"),
    ],
)
def test_who_asks_for_values_is_told_in_words_of_the_model(ask: Callable[[Tensor], Any], words: str) -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return ask(x)

    with pytest.raises(NeedsValues, match=re.escape(words)):
        trace(Asks(), (torch.empty(6, 4, device="meta"),))


def test_traces_survive_the_disk() -> None:
    import msgspec

    t = trace(Functional(), (torch.empty(2, 5, 4),), dtype="amp", device_kind="gpu")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(t), type=Trace) == t


def test_compiled_and_scripted_modules_are_traced_as_written() -> None:
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    x = torch.empty(3, 4)
    expected = names(trace(plain, (x,)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated; models in it still come
        scripted, traced = torch.jit.script(plain), torch.jit.trace(plain, torch.rand(3, 4))
    for form in (torch.compile(plain), scripted, traced):
        assert names(trace(form, (x,))) == expected


class OneRow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 1:
            raise ValueError("only one row")
        return x


SCRIPTS: dict[str, tuple[Callable[[], Any], Tensor, str]] = {
    "shapes": (
        lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 8))),
        torch.rand(3, 5),
        r"with input shapes \[3x5\]: RuntimeError: .*3x5 and 4x8",
    ),
    "a trace": (
        lambda: torch.jit.trace(nn.Sequential(nn.Linear(4, 8)), torch.rand(3, 4)),
        torch.rand(3, 5),
        r"RuntimeError: .*3x5 and 4x8",
    ),
    "its own": (lambda: torch.jit.script(OneRow()), torch.rand(3, 5), r": ValueError: only one row \(.*test_trace.py:\d+\)$"),
    "packed": (
        lambda: torch.jit.optimize_for_inference(torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval())),
        torch.rand(1, 3, 8, 8),
        r"optimize_for_inference packed for the CPU that it ran on \(to_mkldnn\): give it as it was before that",
    ),
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_torchscript_that_fails_says_what_in_it_did(kind: str) -> None:
    """Torch's interpreter of scripts drops the words of what fails in it."""
    make, x, words = SCRIPTS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
    with pytest.raises(ModelError, match=words):
        roofline.analyze(model, args=(x,), device="t4")


def test_who_gets_no_tensors_fails_without_shapes() -> None:
    def forward(n: int) -> Tensor:
        return torch.zeros(n) @ torch.zeros(4)

    with pytest.raises(ModelError, match=r"^the model failed in Function: RuntimeError: "):
        roofline.analyze(forward, args=(3,), device="t4")


def test_a_parameter_without_a_shape_gets_it_from_a_first_call_and_loses_it_again() -> None:
    class Late(nn.Module):
        def __init__(self, buffer: bool) -> None:
            super().__init__()
            if buffer:
                self.register_buffer("weight", nn.UninitializedBuffer())
            else:
                self.weight = nn.UninitializedParameter()

        def forward(self, x: Tensor) -> Tensor:
            if nn.parameter.is_lazy(self.weight):
                self.weight.materialize((5, x.shape[-1]))
            return F.linear(x, self.weight)

    for buffer in (False, True):
        net = Late(buffer)
        found = roofline.analyze(net, args=(torch.empty(3, 4),), device="t4", cache=False)
        assert found.totals.macs == 3 * 4 * 5
        assert (found.model.params, found.model.buffers) == ((0, 20) if buffer else (20, 0))
        assert nn.parameter.is_lazy(net.weight)


def test_what_a_first_call_leaves_without_a_shape_is_named_and_not_counted() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.LazyLinear(5), nn.LazyLinear(6)
            self.extra = nn.UninitializedParameter()

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    found = roofline.analyze(Two(), args=(torch.rand(3, 4),), device="t4", cache=False)
    assert (found.totals.macs, found.model.params) == (3 * 4 * 5, 4 * 5 + 5)
    assert "without a shape even after a first call, so not counted: extra, idle.weight, idle.bias" in found.notes


def test_a_parameter_that_never_gets_a_shape_is_refused_with_the_way_out() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.UninitializedParameter()

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight)

    with pytest.raises(ModelError, match=r"has no shape yet .* call materialize\(\) on it before"):
        roofline.analyze(Bare(), args=(torch.empty(3, 4),), device="t4", cache=False)


def test_parameters_held_in_a_list_as_well_stay_parameters() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.all = [self.fc.weight]

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.all[0])

    t = trace(Listed(), (torch.empty(3, 4),))
    (linear,) = [o for o in t.ops if t.specs[o.spec].name == "aten.linear"]
    assert t.storages[linear.inputs[1]].kind == "parameter"


class Shared(nn.Module):
    """One block under three names; two of them run it."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.a, self.b, self.c = nn.ModuleDict({"inner": block}), nn.ModuleDict({"inner": block}), block

    def forward(self, x: Tensor) -> Tensor:
        return self.b["inner"](self.a["inner"](x))


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_work_of_a_shared_module_stands_where_it_was_called() -> None:
    block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    found = trace(nn.Sequential(Outer(block), Outer(block), Outer(block)), [torch.empty(2, 8)])
    names = [[found.specs[op.spec].name for op in found.ops if op.layer == i] for i in range(len(found.layers))]
    work = dict(zip((layer.path for layer in found.layers), names, strict=True))
    linears = [path for path, names in work.items() if names == ["aten.linear"]]
    assert linears == ["0.inner.0", "1.inner.0", "2.inner.0"]
    assert {layer.path: layer.params for layer in found.layers if layer.params} == {"0.inner.0": 8 * 8 + 8}
    assert found.model.params == 8 * 8 + 8
    parents = [found.layers[layer.parent].path for layer in found.layers[1:]]
    assert all(layer.path.rpartition(".")[0] == parent for layer, parent in zip(found.layers[1:], parents, strict=True))


def test_a_path_that_nobody_called_is_no_layer() -> None:
    found = trace(Shared(), [torch.empty(2, 8)])
    # a container does not call: the model itself ran the block twice, by its first path
    assert [layer.path for layer in found.layers if layer.calls] == ["", "a.inner", "a.inner.0", "a.inner.1"]
    assert not any(layer.path.startswith(("b.inner", "c.")) for layer in found.layers)


class Table(nn.Module):
    """A plain tensor, read in pieces, and results that are made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.zeros(1024, 64)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(8):
            x = x + self.table[64 * i : 64 * i + 64]
            x = x + (self.table * 2)[:64]
        return x


def test_a_tensor_outside_buffers_is_one_memory_and_its_results_die() -> None:
    found = memory.peak(trace(Table(), [torch.empty(64, 64)]))
    table, piece = 4 * 1024 * 64, 4 * 64 * 64
    assert found.by_kind["constants"] == table
    # the table, its double, x and x plus a piece
    assert found.total == 2 * table + 3 * piece


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x[mask])


def test_masks_keep_their_values_and_are_true_without_any() -> None:
    mask = torch.tensor([True, False, True, True, False, False, False, False])
    given = roofline.analyze(Masked(), device="t4", args=(torch.rand(8, 16), mask), cache=False)
    assert given.totals.macs == 3 * 16 * 4
    shaped = roofline.analyze(Masked(), device="t4", inputs=["8,16", "8:bool"], cache=False)
    assert shaped.totals.macs == 8 * 16 * 4
    assert any("mask true everywhere" in note for note in shaped.notes)


def test_sparse_gradients_are_refused_in_words() -> None:
    """By a function; a module's are taken as dense ones."""

    class Table(nn.Embedding):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.embedding(ids, self.weight, sparse=True)

    with pytest.raises(UsageError, match=r"makes a sparse tensor, which is not traced: make it dense\nof an embedding, leave"):
        trace(Table(100, 8), [torch.zeros(3, dtype=torch.long)], optimizer="sgd")
