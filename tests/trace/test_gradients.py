"""Models that take gradients in their own forward: what autograd runs there is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import roofline
from roofline.errors import ModelError

# [4, 16] -> [4, 32] -> [4, 1]
PASS = 4 * (16 * 32 + 32)


class Net(nn.Module):
    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(self.net, x)


def force(net: nn.Module, x: Tensor) -> Any:
    """Minus the slope of an energy."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return -torch.autograd.grad(net(x).sum(), x)[0]


def whole(net: nn.Module, x: Tensor) -> Any:
    x = x.detach().requires_grad_()
    net(x).sum().backward()
    return x.grad


def residual(net: nn.Module, x: Tensor) -> Any:
    """The second derivative of a physics-informed net."""
    x = x.detach().requires_grad_()
    u = net(x)
    (first,) = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)
    return torch.autograd.grad(first[:, 0].sum(), x)


def curvature(net: nn.Module, x: Tensor) -> Any:
    """What gives zeros, and no error, where nothing requires a gradient."""
    return torch.autograd.functional.vjp(lambda x: net(x).sum(), x)


def careful(net: nn.Module, x: Tensor) -> Any:
    """A model that goes on where there is no gradient."""
    x = x.detach().requires_grad_()
    try:
        return torch.autograd.grad(net(x).sum(), x)[0]
    except RuntimeError:
        return x


def if_there_are_any(net: nn.Module, x: Tensor) -> Any:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        energy = net(x).sum()
        if energy.requires_grad:
            energy.backward()
        return x.grad


def of_the_callers(net: nn.Module, x: Tensor) -> Any:
    """The gradient of an input that requires one as it is given."""
    return torch.autograd.grad(net(x).sum(), x)[0]


def heard(net: nn.Module, x: Tensor) -> Any:
    """Grad-CAM: a function that a later backward would call."""
    y = net(x)
    y.register_hook(lambda g: g @ g.T)
    return y


def held(net: nn.Module, x: Tensor) -> Any:
    y = net(x)
    y.retain_grad()
    return y


def followed(net: nn.Module, x: Tensor) -> Any:
    y = net(x)
    y.grad_fn.register_hook(lambda *g: None)  # type: ignore[union-attr]  # of a pass without autograd it is None
    return y


# a gradient of the input costs what the pass does, one of the weights too; of the second, the products beside those of a pass
# are the gradient's own (two), and the first layer's for the input
CASES = [
    (force, 2 * PASS),
    (whole, 3 * PASS),
    (residual, 8448),
    (curvature, 2 * PASS),
    (careful, 2 * PASS),
    (of_the_callers, 2 * PASS),
    (heard, PASS),
    (held, PASS),
    (followed, PASS),
]


@pytest.mark.parametrize(("body", "macs"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_gradients_in_a_forward_are_counted(body: Callable[..., Any], macs: int) -> None:
    net = Net(body)
    x = torch.rand(4, 16, requires_grad=body is of_the_callers)
    found = roofline.analyze(net, args=(x,), device="t4", cache=False)
    assert found.totals.macs == macs
    assert x.grad is None
    assert any("takes gradients as it runs" in note for note in found.notes)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_gradients_of_torch_func_need_no_autograd() -> None:
    net = Net(lambda net, x: torch.func.grad(lambda x: net(x).sum())(x))
    found = roofline.analyze(net, args=(torch.rand(4, 16),), device="t4", cache=False)
    assert found.totals.macs == 2 * PASS
    # torch 2.9 gives zeros in inference mode
    with torch.inference_mode():
        finds = bool(torch.func.grad(torch.square)(torch.ones(())))
    assert any("takes gradients" in note for note in found.notes) is not finds


def test_a_step_takes_the_gradient_of_an_input_that_requires_one() -> None:
    net = nn.Linear(16, 8)
    steps = [
        roofline.analyze(net, args=(torch.rand(4, 16, requires_grad=r),), training=True, device="t4") for r in (False, True)
    ]
    assert [found.totals.macs for found in steps] == [2 * 4 * 16 * 8, 3 * 4 * 16 * 8]


def test_hooks_on_the_gradient_of_a_parameter_run_in_a_step() -> None:
    """[8, 16] by [16, 16] for each gradient of the weight: as torch's own counter sees the step that the caller runs."""
    from torch.utils.flop_counter import FlopCounterMode

    net = nn.Linear(16, 8)
    net.weight.register_hook(lambda g: g @ torch.eye(16))  # type: ignore[no-untyped-call]  # torch's own
    found = roofline.analyze(net, args=(torch.rand(4, 16),), training=True, device="t4")
    assert found.totals.macs == 2 * 4 * 16 * 8 + 8 * 16 * 16
    with FlopCounterMode(display=False) as counter:
        net(torch.rand(4, 16)).sum().backward()
    assert 2 * found.totals.macs == counter.get_total_flops()
    assert not any("hooks" in note for note in found.notes)
    net.weight.register_post_accumulate_grad_hook(lambda p: None)
    found = roofline.analyze(net, args=(torch.rand(4, 16),), training=True, device="t4")
    assert any(note.startswith("hooks on gradients that are there") for note in found.notes)


def test_who_freezes_takes_no_gradients() -> None:
    net = Net(lambda net, x: net.requires_grad_(False)(x))
    found = roofline.analyze(net, args=(torch.rand(4, 16),), device="t4", cache=False)
    assert found.totals.macs == PASS
    assert not any("takes gradients" in note for note in found.notes)


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise ValueError("no way back")


class Misfit(Fails):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].view(3, 3)


class Hooked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y.register_hook(lambda g: g.view(3, 3))
        return y


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (lambda x: Fails.apply(x), "ValueError: no way back"),
        (lambda x: Misfit.apply(x), r"RuntimeError: shape '\[3, 3\]' is invalid for input of size 32"),
        (Hooked(), r"RuntimeError: shape '\[3, 3\]' is invalid for input of size 32"),
    ],
)
def test_a_gradient_that_fails_names_the_layer_and_its_shapes(inner: Any, says: str) -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(8, 16)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = inner(self.lin(x))
            return found

    net = nn.Sequential(nn.Linear(4, 8), Inner(), nn.Linear(16, 4))
    words = rf"failed in the backward pass of 1 \(Inner\) with input shapes \[2x8\]: {says} \("
    with pytest.raises(ModelError, match=words):
        roofline.analyze(net, args=(torch.rand(2, 4),), training=True, device="t4")
