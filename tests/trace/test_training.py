"""A training step: which operators run, whose they are, what they cost, and that the model is left alone.

The truth is PyTorch itself: the same step on real CPU tensors, logged by a dispatch mode, and its own optimizers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracles import loops
from oracles.steps import SILENT, Log, real_step
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import roofline
from roofline.analysis import memory
from roofline.errors import ModelError, UsageError
from roofline.kernels import build as kernels
from roofline.records import Kernel, Trace
from roofline.tracing.trace import trace
from roofline.tracing.ways import Way


def recorded(t: Trace, *phases: str) -> list[str]:
    out = []
    for op in t.ops:
        spec = t.specs[op.spec]
        name = spec.name.partition(".")[2]
        if op.phase in phases and not spec.view and name not in SILENT:
            name = "add" if name == "add_" else name
            out.append(f"{name} {spec.outputs[0].dtype if spec.outputs else ''}")
    return out


def image(*shape: int) -> Tensor:
    return torch.rand(shape)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(inplace=True), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        return x + self.b(self.a(x)) + F.avg_pool2d(x, 3, 1, 1)


class Block(nn.Module):
    """Pre-norm attention, grouped-query where `kv` is smaller, masked where asked."""

    def __init__(self, kv: int = 4, masked: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.kv, self.masked, self.causal = kv, masked, causal
        self.norm = nn.LayerNorm(32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 8 * kv), nn.Linear(32, 8 * kv)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        h = self.norm(x)
        q, k, v = (f(h).view(b, n, -1, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril() if self.masked else None
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=self.causal, enable_gqa=self.kv != 4)
        x = x + y.transpose(1, 2).reshape(b, n, 32)
        return x + self.mlp(x)


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], **kwargs: Any) -> None:
        super().__init__()
        self.net = kind(12, 16, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]


CASES: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "residual": (Residual, [image(2, 8, 10, 10)]),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2), nn.GroupNorm(2, 6), nn.SiLU()), [image(2, 4, 6, 6)]),
    "pools": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Upsample(scale_factor=2.0)),
        [image(2, 3, 12, 12)],
    ),
    "embedding": (lambda: nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 4), nn.LogSoftmax(-1)), [torch.zeros(2, 5).long()]),
    "attention": (Block, [image(2, 6, 32)]),
    "causal": (lambda: Block(causal=True), [image(2, 6, 32)]),
    "masked": (lambda: Block(masked=True), [image(2, 6, 32)]),
    "grouped-query": (lambda: Block(kv=2), [image(2, 6, 32)]),
    "encoder": (lambda: nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True), [image(2, 6, 32)]),
    "lstm": (lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True, dropout=0.2), [image(5, 3, 12)]),
}


@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward_run_what_a_cpu_runs(name: str) -> None:
    make, inputs = CASES[name]
    torch.manual_seed(0)
    module = make()
    ours = recorded(trace(module, inputs, optimizer="sgd"), "forward", "backward")
    # oneDNN's gradient of the two biases is one tensor on meta, which autograd copies
    ours = [op for op in ours if name != "lstm" or not op.startswith("copy_")]
    assert ours == real_step(module, inputs)


@pytest.mark.parametrize("name", ["residual", "attention", "masked", "encoder", "embedding"])
def test_autocast_casts_where_a_cpu_casts(name: str) -> None:
    make, inputs = CASES[name]
    module = make()
    ours = recorded(trace(module, inputs, optimizer="sgd", dtype="amp"), "forward", "backward")
    assert ours == real_step(module, inputs, amp=True)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
    ],
)
def test_optimizer_is_torchs_own_second_step(name: str, make: Callable[[Any], torch.optim.Optimizer]) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = make(module.parameters())
    for p in module.parameters():
        p.grad = torch.rand_like(p)
    optimizer.step()
    with Log() as log:
        optimizer.step()
    assert recorded(trace(module, [image(3, 4)], optimizer=name), "optimizer") == log.seen


def test_before_pytorch_2_a_step_of_sgd_has_a_kernel_for_each_parameter_and_operation() -> None:
    """As torch still does where it is told: no multi-tensor kernels, and gradients that stay are added to."""
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=False)
    x = torch.rand(3, 4)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=False)
        module(x).sum().backward()
        optimizer.step()
    with Log() as log:
        for p in module.parameters():
            assert p.grad is not None
            p.grad.add_(torch.ones_like(p))
        optimizer.step()
    ours = trace(module, [image(3, 4)], optimizer="sgd", way=Way(early=True), device_kind="gpu")
    found = recorded(ours, "optimizer")
    assert found == [op for op in log.seen if not op.startswith("ones_like")]
    assert len(found) == 5 * len(list(module.parameters()))


def launched(module: nn.Module, *inputs: Tensor, **kwargs: Any) -> tuple[Kernel, ...]:
    return kernels.build(trace(module, inputs, optimizer="adam", **kwargs))


def macs(found: tuple[Kernel, ...], phase: str) -> int:
    return sum(k.macs for k in found if k.phase == phase)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_backward_is_two_loops_over_the_forward(groups: int, transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = kind(8, 16, 3, 2, 1, groups=groups, bias=False)
    # from an image of 5 x 5 to one of 3 x 3, or from one of 5 x 5 by spreading
    sizes = (2, 8, 16, groups, (3, 3))
    loop = loops.transposed(*sizes, (5, 5)) if transposed else loops.convolution(*sizes, (3, 3))
    alone = launched(conv, image(2, 8, 5, 5))
    assert macs(alone, "forward") == loop
    assert macs(alone, "backward") == loop  # the input needs no gradient
    behind = launched(nn.Sequential(nn.Conv2d(8, 8, 1), conv), image(2, 8, 5, 5))
    first = 2 * 25 * 8 * 8
    assert macs(behind, "forward") == loop + first
    assert macs(behind, "backward") == 2 * loop + first


def test_attention_stays_one_kernel_each_way_on_a_gpu() -> None:
    half = launched(Block(), image(2, 6, 32), device_kind="gpu", dtype="fp16")
    assert [k.op for k in half if k.klass == "attention"] == [
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_backward",
    ]
    full = launched(Block(masked=True), image(2, 8, 32), device_kind="gpu")
    assert [k.op for k in full if k.klass == "attention"] == [
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_efficient_attention_backward",
    ]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_one_kernel_each_way_on_a_gpu(kind: Callable[..., nn.Module]) -> None:
    found = [k for k in launched(Recurrent(kind, num_layers=2), image(5, 3, 12), device_kind="gpu") if k.klass == "rnn"]
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    forward = 5 * 3 * gates * (12 * 16 + 3 * 16 * 16)
    assert [(k.phase, k.macs) for k in found] == [("forward", forward), ("backward", 2 * forward)]


def test_optimizer_is_multi_tensor_on_a_gpu_and_writes_in_place() -> None:
    found = [k for k in launched(nn.Linear(8, 16), image(3, 8), device_kind="gpu") if k.phase == "optimizer"]
    n = 4 * (8 * 16 + 16)
    assert all(k.op.startswith("_foreach_") for k in found)
    lerp = next(k for k in found if k.op == "_foreach_lerp_")
    assert sum(o.bytes for o in lerp.operands if o.write) == n
    assert sum(o.bytes for o in lerp.operands if not o.write) == 2 * n
    assert {o.role for o in lerp.operands} == {"state", "gradient"}
    update = found[-1]
    assert {o.role for o in update.operands if o.write} == {"parameter"}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_model_of_one_parameter_is_updated(optimizer: str) -> None:
    """Torch's optimizers work on lists of tensors, and a list of one is a list."""
    module = nn.Conv2d(3, 8, 3, bias=False)
    found = roofline.analyze(module, inputs=["1,3,12,12"], device="t4", training=True, optimizer=optimizer)
    assert {k.phase for k in found.kernels} == {"forward", "backward", "optimizer"}


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.body = nn.ModuleList([Residual2(), Residual2()])
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x = block(x)
        return self.head(x)


class Residual2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.fc(x))


def test_backward_and_update_belong_to_the_layer_of_the_forward() -> None:
    t = trace(Nested(), [image(3, 8)], optimizer="adam")
    found = kernels.build(t)
    by_phase: dict[str, dict[str, set[str]]] = {}
    for k in found:
        by_phase.setdefault(k.phase, {}).setdefault(t.layers[k.layer].path, set()).add(k.op)
    assert by_phase["backward"]["body.0"] == {"threshold_backward"}
    assert "add_" in by_phase["backward"]["body.0.fc"]  # of the two ways into the block; the last to come back adds
    for layer in ("stem", "body.0.fc", "body.1.fc", "head"):
        assert "mm" in by_phase["backward"][layer]
        assert "addcdiv_" in by_phase["optimizer"][layer]
    for layer in ("", "stem"):
        assert "threshold_backward" not in by_phase["backward"].get(layer, set())


def test_recomputed_activations_run_in_the_backward_and_keep_their_layer() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(*(nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)) for _ in range(4)))
            self.again = True

        def forward(self, x: Tensor) -> Tensor:
            for block in self.inner:
                x = checkpoint(block, x, use_reentrant=False) if self.again else block(x)
            return x

    module = Checkpointed()
    spared = trace(module, [image(32, 8)], optimizer="sgd")
    module.again = False
    plain = trace(module, [image(32, 8)], optimizer="sgd")
    layers = [spared.layers[o.layer].path for o in spared.ops if spared.specs[o.spec].name == "aten.gelu"]
    assert layers == [f"inner.{i}.1" for i in (0, 1, 2, 3, 3, 2, 1, 0)]
    phases = [o.phase for o in spared.ops if spared.specs[o.spec].name == "aten.gelu"]
    assert phases == ["forward"] * 4 + ["backward"] * 4
    assert memory.peak(spared).by_kind["activations"] < memory.peak(plain).by_kind["activations"]


def test_gradients_and_state_are_storages_of_their_own() -> None:
    t = trace(nn.Linear(8, 4), [image(3, 8)], optimizer="adam")
    kinds: dict[str, dict[str, int]] = {}
    for s in t.storages:
        kinds.setdefault(s.kind, {})[s.name] = s.nbytes
    assert kinds["gradient"] == {"weight": 4 * 32, "bias": 4 * 4}
    assert kinds["state"] == {
        "weight.exp_avg": 128,
        "bias.exp_avg": 16,
        "weight.exp_avg_sq": 128,
        "bias.exp_avg_sq": 16,
        "weight.step": 4,
        "bias.step": 4,
    }
    assert t.mode == "training"
    assert "sum of the model's floating outputs" in t.notes[0]


def test_frozen_parameters_get_no_gradient_and_no_update() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    module[0].requires_grad_(False)
    t = trace(module, [image(3, 8)], optimizer="sgd")
    assert {s.name for s in t.storages if s.kind == "gradient"} == {"1.weight", "1.bias"}
    assert macs(kernels.build(t), "backward") == 3 * 16 * 4


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_model_is_left_as_it_was_found(device: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2)).to(device).eval()
    before = {k: (id(v), v.clone()) for k, v in module.state_dict(keep_vars=True).items()}
    first, second = (trace(module, [image(2, 3, 8, 8)], optimizer="adam", device_kind=d) for d in ("gpu", "gpu"))
    assert first == second
    assert not any(m.training for m in module.modules())
    for key, value in module.state_dict(keep_vars=True).items():
        assert id(value) == before[key][0]
        assert value.grad is None
        assert device == "meta" or torch.equal(value, before[key][1])
    # nothing stays caught: attention on meta tensors falls apart again
    q = torch.empty(1, 2, 4, 8, device="meta", requires_grad=True)
    assert "Flash" not in F.scaled_dot_product_attention(q, q, q).grad_fn.name()


def test_real_tensors_are_not_touched() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    trace(module, [image(3, 4)], optimizer="sgd", real=True)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_analysis_of_a_training_step() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    a = roofline.analyze(module, inputs=("3,8",), training=True, optimizer="sgd", device="t4")
    assert (a.setting.mode, a.setting.optimizer) == ("training", "sgd")
    assert {k.phase for k in a.kernels} == {"forward", "backward", "optimizer"}
    assert a.totals.macs == 3 * (8 * 16 + 16 * 4) + 3 * (8 * 16 + 2 * 16 * 4)
    assert a.totals.peak_memory["gradients"] == a.totals.peak_memory["optimizer_state"] == a.model.param_bytes
    assert sum(k.bytes for k in a.kernels) == a.totals.bytes


@pytest.mark.parametrize(
    ("make", "inputs", "message"),
    [
        (nn.ReLU, [image(2, 2)], "nothing to train: no parameter"),
        (lambda: nn.Sequential(nn.Linear(2, 2), Argmax()), [image(2, 2)], "nothing to train: no floating output"),
    ],
)
def test_what_cannot_be_trained_says_so(make: Callable[[], nn.Module], inputs: list[Tensor], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trace(make(), inputs, optimizer="adam")


@pytest.mark.parametrize("gives", ["nothing", "loss"])
def test_a_loop_that_calls_backward_itself_is_a_step_already(gives: str) -> None:
    """Three batches of five: each is a forward and the gradient of the weight, 5 x 8 x 4."""
    net = nn.Linear(8, 4)
    sgd = torch.optim.SGD(net.parameters(), 0.1)

    def step(x: Tensor, y: Tensor) -> Tensor | None:
        for some, classes in zip(x, y, strict=True):
            loss = F.cross_entropy(net(some), classes) / 3
            loss.backward()
        sgd.step()
        return loss if gives == "loss" else None

    call = (torch.rand(3, 5, 8), torch.zeros(3, 5, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"calls backward\(\) itself, .*: leave training out"):
        roofline.analyze(step, args=call, training=True, device="t4")
    assert roofline.analyze(step, args=call, device="t4").totals.macs == 3 * 2 * 5 * 8 * 4
    assert net.weight.grad is None


class Argmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(-1)


def test_a_backward_that_fails_is_the_models_error() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            raise RuntimeError("no derivative")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = Broken.apply(self.fc(x))
            return result

    with pytest.raises(ModelError, match="no derivative"):
        trace(Net(), [image(2, 2)], optimizer="adam")


def test_an_unknown_optimizer_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match="unknown optimizer 'lion'; use one of sgd, adam, adamw"):
        roofline.analyze("mobilenet_v1", device="t4", training=True, optimizer="lion")
