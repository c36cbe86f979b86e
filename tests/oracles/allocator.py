"""Bytes that PyTorch's CPU allocator had out: every allocation and every free, temporaries inside kernels included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile
from torch.utils._pytree import tree_leaves


def tensors_in(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def held(*values: Any) -> int:
    """Bytes of the storages behind these tensors, each once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors_in(values)}
    return sum(storages.values())


def most(run: Callable[[], Any]) -> int:
    """The most bytes that the CPU allocator had out at one time during `run`, beyond those at its start."""
    with profile(profile_memory=True, use_kineto=True) as prof:
        result = run()
        del result
    events = [e for e in prof.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def measured(module: nn.Module, args: list[Any], kwargs: Mapping[str, Any], optimizer: str = "") -> int:
    """Peak bytes of one real pass on the CPU: what is there before it, and the most that it allocates.

    With an optimizer (sgd, adam, adamw) the pass is a training step, the second one, so that the state exists.
    """
    if not optimizer:
        module.eval()

        def forward() -> Any:
            with torch.inference_mode():
                return module(*args, **kwargs)

        forward()  # what is cached on the first call stays
        return held(tensors_of(module), args, dict(kwargs)) + most(forward)
    module.train()
    kinds: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.001, momentum=0.9),
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    update = kinds[optimizer](module.parameters())

    def step() -> Any:
        output = module(*args, **kwargs)
        loss = torch.stack([t.sum() for t in tensors_in(output) if t.requires_grad]).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # of torch
        update.step()
        return output, loss

    step()
    update.zero_grad(set_to_none=True)
    state = [t for entry in update.state.values() for t in entry.values() if isinstance(t, Tensor)]
    return held(tensors_of(module), args, dict(kwargs), state) + most(step)


def filled(t: Tensor) -> Tensor:
    """A real tensor of the same shape: noise, or zeros where it holds indices."""
    return torch.rand(t.shape, dtype=t.dtype) if t.is_floating_point() else torch.zeros(t.shape, dtype=t.dtype)
