"""Time a callable as a whole, and operator by operator, on the CPU and on a CUDA device. Imports torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from roofline.bench import sampling
from roofline.tracing.arguments import IMPLICIT, add_key
from roofline.tracing.expansion import falls_apart
from roofline.tracing.memo import meta_of
from roofline.tracing.operators import ONE_ON_GPU, Func, func_of, switched_off
from roofline.tracing.recorder import Recorder

# Operators in the chain that the cost of timing is measured on.
CHAIN = 50

# name of the operator, seconds, whether it was left alone
Seen = tuple[str, float, bool]


class _PerOperator(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Hands every operator that the tracer would record to `timed(name, run)`, composites taken apart as there."""

    def __init__(self, timed: Callable[[str, Callable[..., Any], Any, Any], Any], gpu: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.timed, self.gpu = timed, gpu

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True imports torch._dynamo

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        info = func_of(func)
        kwargs = kwargs or {}
        if info.query:
            return func(*args, **kwargs)
        if info.dropout and switched_off(*args, **kwargs):
            return args[0]
        if (parts := _parts_of(info, func, self.gpu, args, kwargs)) is not None:
            with self:
                return parts()
        return self.timed(info.name, func, args, kwargs)


def _parts_of(
    info: Func, func: torch._ops.OpOverload, gpu: bool, args: Any, kwargs: dict[str, Any]
) -> Callable[[], Any] | None:
    """What eager PyTorch runs in place of an operator, where that is several kernels; as the recorder sees it."""
    if info.composite and not (gpu and info.name in ONE_ON_GPU):
        return partial(func._op_dk, IMPLICIT, *args, **kwargs)
    if info.expand is not None and (parts := info.expand(gpu, *args, **kwargs)) is not None:
        return parts
    if not info.explicit:
        return None
    key: list[Any] = [func]
    tensors: list[torch.Tensor] = []
    for name, value in (*enumerate(args), *kwargs.items()):
        key.append(name)
        add_key(value, key, tensors)
    key += [meta_of(tuple(t.shape), t.stride(), t.dtype) for t in tensors]
    apart = tensors and falls_apart(Recorder, gpu, func, info.explicit, tuple(key), args, kwargs)[0]
    return partial(func._op_dk, info.explicit, *args, **kwargs) if apart else None


class HostClock:
    """On the CPU an operator is done when its call returns."""

    def __init__(self, call: Callable[[], object], waiting: sampling.Waiting) -> None:
        self.call, self.waiting = call, waiting
        self.seen: list[Seen] = []
        self.mode = _PerOperator(self._timed, gpu=False)

    def whole(self) -> tuple[float, bool]:
        """Seconds of one run, and whether no thread had to wait for a core."""
        return _run(self.call, self.waiting)

    def ops(self) -> list[Seen]:
        """The operators of one run."""
        self.waiting.refresh()
        self.seen = []
        with self.mode:
            self.call()
        return self.seen

    def cost(self) -> float:
        """Seconds that timing adds to an operator: a chain of small ones, timed and not."""
        x = torch.ones(64)
        chain = nn.Sequential(*(nn.ReLU() for _ in range(CHAIN)))
        whole = sampling.sample(lambda: chain(x), self.waiting).median / CHAIN
        own, self.call = self.call, lambda: chain(x)
        try:
            shown = [took for _ in range(9) for _, took, alone in self.ops() if alone]
        finally:
            self.call = own
        return max(statistics.median(shown) - whole, 0.0) if shown else 0.0

    def _timed(self, name: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        before = self.waiting()
        start = time.perf_counter()
        out = func(*args, **kwargs)
        took = time.perf_counter() - start
        self.seen.append((name, took, self.waiting() == before))
        return out


def _run(call: Callable[[], object], waiting: sampling.Waiting) -> tuple[float, bool]:
    waiting.refresh()
    before = waiting()
    start = time.perf_counter()
    call()
    took = time.perf_counter() - start
    return took, waiting() == before


class CudaClock:
    """On the GPU an operator is what lies between two events. The device sleeps while the queue fills, so it never idles."""

    # cycles that the device sleeps while the host issues; about 50 ms at 2 GHz
    SLEEP = 100_000_000

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.events: list[tuple[str, Any, Any]] = []
        self.mode = _PerOperator(self._timed, gpu=False)

    def whole(self) -> tuple[float, bool]:
        """Seconds of one run from an idle device to an idle device, as its user waits for it."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        self.call()
        torch.cuda.synchronize()
        return time.perf_counter() - start, True

    def ops(self) -> list[Seen]:
        self.events = []
        torch.cuda._sleep(self.SLEEP)  # type: ignore[no-untyped-call]  # torch's own
        with self.mode:
            self.call()
        torch.cuda.synchronize()
        return [(name, start.elapsed_time(end) / 1e3, True) for name, start, end in self.events]

    def cost(self) -> float:
        """Seconds between two events with nothing between them."""
        pairs = []
        torch.cuda._sleep(self.SLEEP // 10)  # type: ignore[no-untyped-call]  # torch's own
        for _ in range(CHAIN):
            start, end = _event(), _event()
            start.record()
            end.record()
            pairs.append((start, end))
        torch.cuda.synchronize()
        return float(statistics.median(start.elapsed_time(end) / 1e3 for start, end in pairs))

    def _timed(self, name: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        start, end = _event(), _event()
        start.record()
        out = func(*args, **kwargs)
        end.record()
        self.events.append((name, start, end))
        return out


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own
