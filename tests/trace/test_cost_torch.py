"""The cost rules beside torch itself: its schemas, its own counter, its fused paths, its autograd."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from oracles import counter
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from roofline import compat, cost
from roofline.cost.registry import RULES
from roofline.records import OpSpec, TensorSpec, Work
from roofline.tracing.trace import trace


def spec_of(func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> OpSpec:
    def plain(v: Any) -> Any:
        if isinstance(v, torch.Tensor):
            return TensorSpec(tuple(v.shape), str(v.dtype)[6:], v.stride())
        if isinstance(v, list | tuple):
            return [plain(x) for x in v]
        return v if v is None or isinstance(v, bool | int | float | str) else str(v)

    def flat(v: Any) -> list[TensorSpec]:
        return [v] if isinstance(v, TensorSpec) else [x for y in v for x in flat(y)] if isinstance(v, list) else []

    a, k, out = plain(args), {key: plain(v) for key, v in kwargs.items()}, flat([plain(result)])
    tags = torch.Tag.pointwise in func.tags
    return OpSpec(
        str(func.overloadpacket),
        func._overloadname,
        a,
        k,
        tuple(flat(a) + flat(list(k.values()))),
        tuple(out),
        tags,
        func.is_view,
    )


class Collect(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.specs: list[OpSpec] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.specs.append(spec_of(func, args, kwargs or {}, result))
        return result


def summed(specs: list[OpSpec]) -> Work:
    found = [(s.name, cost.work(s)) for s in specs]
    assert not [n for n, w in found if w is None]
    return Work(sum(w.flops for _, w in found if w), sum(w.macs for _, w in found if w))


# The release in which all of them are, and the operators that came after the oldest one that is supported.
NEWEST = "2.15.0"
NEWER = {
    "aten._foreach_clone", "aten._foreach_mm", "aten._foreach_powsum", "aten._philox_normal", "aten._philox_randint",
    "aten._philox_uniform", "aten._scaled_grouped_mm_v2", "aten._scaled_mm_v2", "aten._upsample_lanczos2d_aa",
    "aten._upsample_lanczos2d_aa_backward", "aten._use_miopen_ctc_loss", "aten.broadcast_shapes", "aten.linalg__powsum",
    "aten.linalg_matrix_sqrth", "aten.linalg_polar",
    "torchvision.qnms", "torchvision.qroi_align",
}  # fmt: skip


def test_every_rule_takes_what_torch_passes() -> None:
    pytest.importorskip("torchvision")
    refused, seen = [], set()
    for schema in torch._C._jit_get_all_schemas():
        space, _, op = schema.name.partition("::")
        name = f"{space}.{op}"
        seen |= {name, name.removesuffix("_")}
        rule = cost.rule_of(name, schema.overload_name)
        if rule is None or name == "aten.einsum" or not any("Tensor" in str(a.type) for a in schema.arguments):
            continue
        given = [a for a in schema.arguments if not (a.is_out or a.name == "out")]
        for needed in (given, [a for a in given if not a.has_default_value()]):
            positional = [a for a in needed if not a.kwarg_only]
            keywords = {a.name: None for a in needed if a.kwarg_only}
            try:
                inspect.signature(rule.count).bind(*positional, **keywords, out=None)
            except TypeError as error:
                refused.append(f"{schema}: {error}")
    assert refused == []
    # a rule for a name that no operator has is a slip of the pen (prims and the decomposed forms register on demand, and ONNX's
    # operators are not torch's)
    late = (
        "prims.",
        "roofline.",
        "quantized_decomposed.",
        "_quantized.",
        "rngprims.",
        "aten.__",
        "_c10d_functional.",
        "onnx.",
        "onnxruntime.",
        # of packages that need not be here
        "bitsandbytes.",
        "torchao.",
        # with its module alone
        "torch_attn.",
        "semi_structured.",
        "higher_order.",
    )
    cost.complete()
    absent = {n for n in RULES if n not in seen and not n.startswith(late)}
    assert absent <= (set() if compat.version("torch") == NEWEST else NEWER)


EINSUMS = [
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhld,bhsd->bhls", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 6, 5)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (7, 4, 5)),
    ("ij,jk,kl->il", (3, 4), (4, 5), (5, 6)),
    ("a,a->", (5,), (5,)),
    ("i,j->ij", (3,), (4,)),
    ("ij,jk->ik", (3, 1), (4, 5)),
    ("ii,i->i", (4, 4), (4,)),
    ("nctkv,kvw->nctw", (2, 3, 4, 2, 5), (2, 5, 5)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=lambda c: c[0])
def test_einsum_costs_what_torch_makes_of_it(case: tuple[Any, ...]) -> None:
    equation, *shapes = case
    operands = [torch.empty(s, device="meta") for s in shapes]
    out = torch.einsum(equation, *operands)
    spec = spec_of(torch.ops.aten.einsum.default, (equation, operands), {}, out)
    work = cost.work(spec)
    assert work is not None
    assert 2 * work.macs == counter.flops(lambda: torch.einsum(equation, *operands))
    # without autograd's view of it: the ops that einsum is made of
    collect = Collect()
    with collect:
        torch.einsum(equation, *operands)
    assert work == summed([s for s in collect.specs if s.name != "aten.einsum"])


def test_training_of_a_small_net_is_known_op_by_op() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=2), nn.Hardswish()
            )
            self.norm, self.mix = nn.LayerNorm(8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.rnn, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.mix(self.norm(self.stem(x).flatten(2).transpose(1, 2)))
            return self.head(self.rnn(x)[0].mean(1))

    net = Net()
    optimizers = [torch.optim.AdamW(net.parameters(), foreach=True), torch.optim.SGD(net.parameters(), momentum=0.9)]
    collect = Collect()
    with collect:
        nn.functional.cross_entropy(net(torch.rand(2, 3, 14, 14)), torch.tensor([0, 1]), label_smoothing=0.1).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert sorted({s.name for s in collect.specs if cost.work(s) is None}) == []


def macs(module: nn.Module, *args: Any) -> int:
    found = trace(module, args)
    works = [cost.work(s) for s in found.specs]
    return sum(w.macs for o in found.ops if (w := works[o.spec]) is not None)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_modules(kind: type[nn.RNNBase], gates: int) -> None:
    steps, batch = 7, 3
    assert macs(kind(10, 20), torch.rand(steps, batch, 10)) == gates * 20 * (10 + 20) * steps * batch
    # two layers, both directions: the second takes 2 * 20 features
    each = 2 * gates * 20 * (10 + 20) + 2 * gates * 20 * (40 + 20)
    assert macs(kind(10, 20, num_layers=2, bidirectional=True), torch.rand(steps, batch, 10)) == each * steps * batch
