"""The ways to trace a model, from the quick to the thorough, and what a pass that stopped tells the next."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from msgspec import Struct

from roofline import compat
from roofline.errors import ModelError
from roofline.isolation import failures
from roofline.tracing import looks, memo


class Way(Struct, frozen=True):
    """How a pass is traced. The default is the quick one: everything on meta, and nothing has values."""

    # on real tensors
    real: bool = False
    # small integers and truths keep their values, or get some
    values: bool = False
    # who asks whether the model is being traced is told so
    tracers: bool = False
    # accelerators that a model asks for are the host
    here: bool = False
    # autograd is on, as it is for who calls the model without torch.no_grad()
    gradients: bool = False
    # who asks on which device tensors lie is told the one that was asked for
    place: bool = False
    # indices that the code writes as lists keep their values: see `lists`
    lists: bool = False
    # a step of SGD is that of timm's benchmark on a PyTorch before 2.0: Nesterov's momentum, a kernel for each parameter and
    # operation, gradients added to those that zero_grad() left in place as zeros
    early: bool = False
    # position of an input -> how large the values may be that are drawn for it; see `drawn.limits`
    limits: Mapping[int, int] = {}


class Stopped(ModelError):
    """A pass failed that had not all values: in another way it may go on."""

    # see `Way.limits`
    limits: Mapping[int, int] = {}
    # bytes of what it had made so far
    made: int = 0

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        # what the model's code asked of this process
        self.asked = compat.Asked()


class NeedsValues(Stopped):
    """The pass depends on the values of tensors, which meta tensors do not have: trace it with `real=True`."""


# Torch's words, which are about its own inside, and what they mean to whoever wrote the model: of values, and of all else.
_OF_VALUES = (
    (r"torch\.(\w+)\(\) raises unimplemented", "{}(): how much it finds depends on values"),
    (r"::(\w+) .*You're trying to run this operator with meta Tensors", "{}(): how much it finds depends on values"),
    (r"(repeat_interleave) a meta tensor without output_size", "{}(): how long its result is depends on values"),
    (r"Cannot copy out of meta tensor", "it asked for the values of a tensor, as tolist(), numpy() or a copy to the CPU do"),
    (r"Tensor\.(\w+)\(\) cannot be called on meta", "it asked for the value of a tensor ({}(), or a condition on it)"),
)
_INSIDE = (
    *_OF_VALUES,
    (
        r"Attempted to use an uninitialized parameter",
        "it computes with a parameter or buffer that has no shape yet (torch.nn.UninitializedParameter) and gives it none: "
        "call materialize() on it before",
    ),
    (
        r"(Found no NVIDIA driver|not compiled with CUDA enabled)",
        "it asks for a CUDA device, and there is none here ({}): let it take the device that its tensors are on",
    ),
    (
        r"(to_mkldnn|mkldnn_prepacked)",
        "it is TorchScript that torch.jit.optimize_for_inference packed for the CPU that it ran on ({}): give it as it was "
        "before that; torch.jit.freeze does no harm",
    ),
)


def said(error: BaseException, operator: str = "") -> str:
    """`failures.said`, with the words of torch's inside as what they mean. `operator`: what one of them said, which TorchScript
    does not hand on."""
    words = failures.text(error)
    if operator and failures.wordless(words):
        words = operator
        error = RuntimeError(operator.partition(": ")[2])
    return _meaning(words, _INSIDE) or failures.said(error)


def of_values(error: BaseException) -> str:
    """The same where they are about values that a tensor does not have, nothing for others."""
    return _meaning(failures.text(error), _OF_VALUES)


def _meaning(words: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in table:
        if found := re.search(pattern, words):
            return ours.format(*found.groups())
    return ""


@contextmanager
def surroundings(way: Way, gpu: bool = False) -> Iterator[compat.Asked]:
    """What stands around a pass of this way, for a GPU or a CPU. What it gives tells afterwards what the model asked for."""
    with ExitStack() as stack:
        if way.here or way.values or way.place:
            from roofline.tracing.here import Here

            stack.enter_context(Here())
        if way.lists:
            from roofline.tracing.lists import Kept

            stack.enter_context(Kept())
        # in a file that a model writes and reads again, tensors of the pass bring our mark along
        stack.enter_context(torch.serialization.safe_globals([memo.Nobody]))
        stack.enter_context(_seeded(way.real))
        if way.real:
            # a path of its own for encoders, which meta tensors do not take: operators have to be the same
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
        asked = stack.enter_context(_asked(way))
        stack.enter_context(looks.place(asked, gpu, way.place))
        wrapped = dict.fromkeys(compat.TAKEN, _noted) | dict.fromkeys(compat.NESTED, _nested)
        for (module, function), around in wrapped.items():
            owner = sys.modules.get(module)
            if (real := getattr(owner, function, None)) is not None:
                stack.callback(setattr, owner, function, real)
                setattr(owner, function, around(real, asked))
        if "requires_grad_" not in vars(torch.Tensor):
            real = _noted(torch.Tensor.requires_grad_, asked, lambda t, requires=True: bool(requires))
            stack.callback(delattr, torch.Tensor, "requires_grad_")
            torch.Tensor.requires_grad_ = real  # type: ignore[method-assign]  # for a while
        yield asked


def _noted(real: Any, asked: compat.Asked, takes: Callable[..., bool] = lambda *_, **__: True) -> Any:
    """What in inference mode finds no gradient or tangent, and may say nothing of it; torch.func's own finds them."""

    def taken(*args: Any, **kwargs: Any) -> Any:
        by = str(sys._getframe(1).f_globals.get("__name__", ""))
        theirs = by in _FOR_OTHERS or not by.startswith("torch.")
        asked.gradients |= theirs and torch.is_inference_mode_enabled() and takes(*args, **kwargs)
        return real(*args, **kwargs)

    return taken


def _nested(real: Any, asked: compat.Asked) -> Any:
    """What begins a gradient or tangent of torch.func."""

    def begun(*args: Any, **kwargs: Any) -> Any:
        if torch.is_inference_mode_enabled() and not asked.gradients:
            asked.gradients = True  # while it is found out, which begins one too
            asked.gradients = not _functional()
        return real(*args, **kwargs)

    return begun


@cache
def _functional() -> bool:
    """Whether torch.func takes gradients in inference mode; old releases give zeros there (torch 2.9)."""
    with torch.utils._python_dispatch._disable_current_modes():
        return bool(torch.func.grad(torch.square)(torch.ones(())))


# Modules of torch's that take gradients because a model's own code asks them to.
_FOR_OTHERS = ("torch._tensor", "torch.autograd.functional")


def _asked(way: Way) -> AbstractContextManager[compat.Asked]:
    if not (way.here or way.values or way.place):
        return compat.asked(traced=way.tracers, idle={})
    from roofline.isolation.accelerator import answers  # not for the quick pass

    return compat.asked(traced=way.tracers, idle=answers())


@contextmanager
def _seeded(real: bool) -> Iterator[None]:
    """Random numbers from seed 0, and the generators as they were afterwards.

    numpy imports its generators when they are first asked for, which takes as long as the trace of a small model: of a pass on
    meta tensors they are seeded where somebody has them.
    """
    numpy: Any = sys.modules.get("numpy") if real or "numpy.random" in sys.modules else None
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state() if numpy is not None else None
    torch.default_generator.manual_seed(0)
    random.seed(0)
    if numpy is not None:
        numpy.random.seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        if numpy is not None:
            numpy.random.set_state(before[2])
