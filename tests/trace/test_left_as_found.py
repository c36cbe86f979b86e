"""A model before and after any analysis, failed ones too: equal in state, behaviour, hooks; the process around it as well."""

from __future__ import annotations

import copy
import os
import random
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from roofline import RooflineError, analyze


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.drop(self.norm(self.body(x)))
        return result


class Slots:
    __slots__ = ("k", "later")

    def __init__(self) -> None:
        self.k: Any = None


@dataclass
class Cache:
    k: Any = None
    steps: list[Any] = field(default_factory=list)


class Keeps(Plain):
    """Keeps what it sees wherever Python lets it."""

    seen = 0
    shared: dict[str, Any] = {}  # noqa: RUF012  # on the class on purpose

    def __init__(self) -> None:
        super().__init__()
        self.kv, self.slots, self.space = Cache(), Slots(), SimpleNamespace(inner=Cache())
        self.d: dict[str, list[Any]] = {"a": [1]}
        self.lists = ([], {"b": [Cache()]}, deque([1], maxlen=4), OrderedDict(), defaultdict(list), {1})
        self.table = torch.arange(4.0)
        self.outside = [nn.Linear(4, 4)]
        self.generator = torch.Generator().manual_seed(1)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        type(self).seen += 1
        self.shared["y"] = y
        self.kv.k, self.kv.later = y, y  # type: ignore[attr-defined]  # on purpose
        self.kv.steps.append(y)
        self.slots.k = self.slots.later = y
        self.space.inner.k, self.space.extra = y, y
        self.d["a"].append(y)
        self.lists[0].append(y)
        self.lists[1]["b"][0].k = y
        self.lists[2].append(y)
        self.lists[3]["y"] = y
        self.lists[4]["y"].append(y)
        self.lists[5].add(2)
        self.table.add_(1)
        self.count += 1
        self.body.flag, self.body.extra = True, nn.Linear(4, 4)
        self.outside[0].flag = True
        self.outside[0].weight.data.mul_(2)
        self.register_buffer("new", torch.zeros(1))
        self.body.register_forward_hook(lambda *a: None)
        torch.rand(2, generator=self.generator)
        del self.drop
        return y


class Fails(Keeps):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        super().forward(x)
        raise RuntimeError("broken")


class Asks(Keeps):
    """Its shape hangs on a value: it runs for real."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        if not self.training:  # what the backward pass needs must not change
            self.norm.running_mean.mul_(3)
            x.zero_()
        return y[: int((y > 0).sum().item()) % 2 + 1]


class Disturbs(Plain):
    """Changes the process."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        random.seed(5)
        torch.rand(3)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(1)
        torch.set_grad_enabled(True)
        torch.use_deterministic_algorithms(True)
        os.environ["ROOFLINE_TEST_LEFT"] = "1"
        nn.modules.module.register_module_forward_hook(lambda *a: None)
        return super().forward(x.float())


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), torch.zeros(1)
        self.count = torch.jit.Attribute(0, int)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.last = x
        return self.norm(self.body(x))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(Scripted())  # type: ignore[no-any-return]  # torch's own


def partly() -> nn.Module:
    return nn.Sequential(Plain(), scripted(), nn.Dropout())


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(Plain().eval(), torch.rand(2, 4))  # type: ignore[no-any-return]  # torch's own


def exported() -> nn.Module:
    return torch.export.export(Plain().eval(), (torch.rand(2, 4),)).module()


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Plain()


def halves() -> nn.Module:
    return Keeps().bfloat16()


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    net[0].register_forward_pre_hook(lambda m, a: None)
    net[0].weight.register_hook(lambda g: g)
    net[0].weight.grad = torch.ones(4, 4)
    return net


def frozen() -> nn.Module:
    net = Plain().eval()
    net.body.weight.requires_grad_(False)
    net.norm.train()  # flags of its own
    return net


KINDS: dict[str, Callable[[], nn.Module]] = {
    f.__name__: f
    for f in (Plain, Keeps, Fails, Asks, Disturbs, scripted, partly, traced, exported, quantized, on_meta, halves, tied, frozen)
}


def _value(value: Any, seen: dict[int, str], path: str) -> Iterator[tuple[str, Any]]:
    """(place, what is there) of all that hangs on a value, objects by their identity and tensors by what is in them."""
    yield path, (id(value) if not isinstance(value, (int, float, str, bool)) else value)
    if id(value) in seen:
        return
    seen[id(value)] = path
    if isinstance(value, torch.Tensor):
        held = value.detach().clone().dequantize() if value.is_quantized else value.detach().clone()
        grad = None if not value.is_leaf or value.grad is None else id(value.grad)
        facts = (
            value.device.type,
            value.dtype,
            value.requires_grad,
            grad,
            tuple(vars(value) if hasattr(value, "__dict__") else ()),
        )
        yield f"{path}()", (*facts, None if value.is_meta else held.tolist())
    elif isinstance(value, torch.Generator):
        yield f"{path}()", value.get_state().tolist()
    elif isinstance(value, dict):
        for key, v in value.items():
            yield from _value(v, seen, f"{path}[{key}]")
    elif isinstance(value, (list, tuple, set, deque)):
        for i, v in enumerate(value):
            yield from _value(v, seen, f"{path}[{i}]")
    else:
        if isinstance(value, torch.jit.ScriptModule):
            for name in value._concrete_type.get_attributes():
                v = value._c.getattr(name)
                yield f"{path}.{name}", v.tolist() if isinstance(v, torch.Tensor) else v
            for name, p in value.named_parameters(recurse=False):
                yield f"{path}.{name}", (p.tolist(), p.device, p.requires_grad)
        for name in ("k", "later") if isinstance(value, Slots) else ():
            yield from _value(getattr(value, name, None), seen, f"{path}.{name}")
        if isinstance(value, (nn.Module, Cache, SimpleNamespace)):
            for key, v in vars(value).items():
                yield from _value(v, seen, f"{path}.{key}")


def state(model: nn.Module) -> dict[str, Any]:
    mine = {
        n: v for c in type(model).__mro__ if c.__module__ == __name__ for n, v in vars(c).items() if n in ("seen", "shared")
    }
    seen: dict[int, str] = {}
    return {path: v for name, held in {"model": model, **mine}.items() for path, v in _value(held, seen, name)}


def process() -> dict[str, Any]:
    hooks = nn.modules.module
    return {
        "torch": torch.get_rng_state().tolist(),
        "random": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "environ": dict(os.environ),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "hooks": [dict(hooks._global_forward_hooks), dict(hooks._global_forward_pre_hooks)],
        "autocast": (torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu"), torch.autocast.__enter__),
        "jit": torch._C._get_graph_executor_optimize(),
        "warnings": list(warnings.filters),
        "directory": os.getcwd(),
    }


PASSES: dict[str, dict[str, Any]] = {
    "as built": {},
    "amp": {"dtype": "amp"},
    "fp16": {"dtype": "fp16"},
    "training": {"training": True},
}


@pytest.mark.parametrize("how", PASSES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_analysis_leaves_no_trace(kind: str, how: str) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]()
    x = torch.rand(2, 4, dtype=torch.bfloat16 if kind == "halves" else None)
    before, around, given = state(model), process(), (id(x), x.tolist(), copy.copy(vars(x)))
    failed = ""
    try:
        analyze(model, args=[x], device="t4", **PASSES[how])
    except RooflineError as error:
        failed = str(error)
    assert bool(failed) == (kind == "Fails" or (kind, how) in REFUSED), failed
    after = state(model)
    assert after.keys() == before.keys()
    assert {k: v for k, v in after.items() if before[k] != v} == {}
    now = process()
    assert {k: v for k, v in now.items() if around[k] != v} == {}
    assert (id(x), x.tolist(), vars(x)) == given


# What has no such pass, in a true sentence.
REFUSED = {("quantized", "training"), ("quantized", "fp16")}


@pytest.mark.parametrize("make", [scripted, partly, traced, exported])
def test_it_still_computes_what_it_did(make: Callable[[], nn.Module]) -> None:
    model, x = make(), torch.rand(2, 4)
    twin = copy.deepcopy(model)
    for options in PASSES.values():
        found = analyze(model, args=[x], device="t4", **options)
        assert found.totals.macs >= 2 * 16
    torch.manual_seed(1)
    expected = twin(x)
    torch.manual_seed(1)
    assert torch.equal(model(x), expected)


def test_an_exported_program_keeps_its_mode_and_a_note_says_so() -> None:
    found = analyze(exported(), args=[torch.rand(2, 4)], device="t4", training=True)
    assert any("the mode that it was exported in" in note for note in found.notes)
    # forward and the gradient of the weight; the input needs none
    assert found.totals.macs == 2 * 2 * 16


class Frozen(OrderedDict[str, Any]):
    """As diffusers keeps a configuration: it refuses every change."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("frozen")

    __setitem__ = update = clear = pop = _refuse


class Counted(list[Any]):
    """Does more than a list does."""

    def append(self, value: Any) -> None:
        super().append(value)
        self.added = getattr(self, "added", 0) + 1

    def clear(self) -> None:
        raise RuntimeError("never")


class Several(set[Any]):
    pass


class HoldsOwnContainers(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.config, self.steps, self.names = Frozen(), Counted([1]), Several([1])
        OrderedDict.__setitem__(self.config, "sizes", [4])
        OrderedDict.__setitem__(self.config, "last", 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.config["sizes"].append(x)
        OrderedDict.__setitem__(self.config, "new", x)
        OrderedDict.__delitem__(self.config, "last")
        self.steps.append(x)
        self.names.add(2)
        return super().forward(x)


def test_containers_of_a_class_of_their_own_are_put_back_past_their_methods() -> None:
    model = HoldsOwnContainers()
    config, steps = model.config, model.steps
    assert analyze(model, args=[torch.rand(2, 4)], device="t4").totals.macs == 2 * 16
    assert (model.config, model.steps) == (config, steps)
    assert list(config.items()) == [("sizes", [4]), ("last", 1)]
    assert steps == [1]
    assert not hasattr(steps, "added")
    assert model.names == {1}


@pytest.mark.parametrize("make", [torch.jit.freeze, torch.jit.optimize_for_inference])
def test_frozen_torchscript_has_its_weights_in_its_code_and_a_note_says_so(make: Callable[[Any], Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, x = make(scripted().eval()), torch.rand(2, 4)
        expected = model(x)
        found = analyze(model, args=[x], device="t4")
        assert torch.equal(model(x), expected)
    assert found.totals.macs == 2 * 16
    assert any("its weights are constants of its code" in note for note in found.notes)


TABLE: dict[Any, Any] = {}
HELD: torch.Tensor | None = None


@lru_cache
def angles(n: int, device: torch.device) -> torch.Tensor:
    return torch.arange(n, device=device).float()


class HoldsBesideItself(nn.Module):
    """Keeps tensors where its Python module does: in a table, a variable, a cache of functools."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        global HELD
        TABLE["seen"] = TABLE.get("seen", 0)
        if HELD is None:
            HELD = torch.ones(4, device=x.device)
        if x.shape not in TABLE:
            TABLE[x.shape] = torch.zeros_like(x)
        return self.body(x + angles(4, x.device) + angles(4, torch.device("cpu"))) * HELD + TABLE[x.shape]


def test_what_a_model_keeps_beside_itself_does_not_meet_its_next_call() -> None:
    model, x = HoldsBesideItself(), torch.rand(2, 4)
    for options in PASSES.values():
        assert analyze(model, args=[x], device="t4", **options).totals.macs >= 2 * 16
    assert HELD is None
    assert x.shape not in TABLE
    model(x).sum().backward()
    assert model.body.weight.grad is not None


class MakesLayers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "body"):
            self.body = nn.Linear(x.shape[1], 8, device=x.device)
        return self.body(x)  # type: ignore[no-any-return]  # a module's


def test_layers_that_a_model_makes_as_it_runs_are_named() -> None:
    model, x = MakesLayers(), torch.rand(2, 4)
    found = analyze(model, args=[x], device="t4")
    assert (found.totals.macs, found.model.params) == (2 * 32, 0)
    assert any("made as it ran, so not among its parameters: body.weight, body.bias (40 numbers)" in n for n in found.notes)
    model(x)
    found = analyze(model, args=[x], device="t4")
    assert (found.totals.macs, found.model.params) == (2 * 32, 40)
    assert not any("made as it ran" in n for n in found.notes)


def test_tensors_of_tensors_are_made_in_a_pass_and_after_it() -> None:
    """A tensor with a length of Python's own making would be taken for a sequence, here and for the rest of the process."""
    lin = nn.Linear(4, 4)

    def first(x: torch.Tensor, n: torch.Tensor) -> Any:
        return lin(x[: int(torch.tensor([n.max(), n.min()]).max())])

    found = analyze(first, args=[torch.rand(5, 4), torch.tensor([3, 2])], device="t4")
    assert found.totals.macs == 3 * 4 * 4
    assert torch.tensor([torch.tensor(1), torch.tensor(2)]).tolist() == [1, 2]
