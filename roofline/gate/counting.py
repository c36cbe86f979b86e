"""`with roofline.budget(macs="1 G"):` counts operators as they run, and raises before the one that is too much."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from roofline import cost
from roofline.analysis.metrics import BY_NAME, exact, text
from roofline.errors import BudgetExceeded, UsageError, nearest
from roofline.records import OpSpec, TensorSpec
from roofline.tracing.arguments import alike
from roofline.tracing.memo import meta_of
from roofline.tracing.operators import Func, func_of

# What can be counted operator by operator.
COUNTED = ("macs", "flops", "kernels")


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """The operators that run inside, counted; `macs`, `flops`, `kernels` so far, and names of operators without a rule."""

    def __init__(self, **limits: str | float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        for name in limits:
            if name not in COUNTED:
                raise UsageError(f"budget({name}=...): what runs is limited by {', '.join(COUNTED)}{nearest(name, COUNTED)}")
        if not limits:
            raise UsageError('budget(): give a limit, such as macs="1 G"')
        try:
            self.limits = {name: exact(BY_NAME[name], value) for name, value in limits.items()}
        except ValueError as error:
            raise UsageError(f"budget(): {error}") from None
        self.macs = self.flops = self.kernels = 0
        self.unknown: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._inside: list[str] = []
        self._hooks: list[Any] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True imports torch._dynamo

    def __enter__(self) -> Counter:
        self._hooks = [
            register_module_forward_pre_hook(self._entered),
            register_module_forward_hook(self._left, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's own
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._inside.clear()
        super().__exit__(kind, value, where)  # type: ignore[no-untyped-call]  # torch's own

    def _entered(self, module: nn.Module, args: Any) -> None:
        if not self._inside:  # paths are from the module that was called
            self._names = {id(m): name for name, m in module.named_modules()}
        path = self._names.get(id(module), "")
        self._inside.append(f"{path} ({type(module).__name__})" if path else type(module).__name__)

    def _left(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._inside:
            self._inside.pop()

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        out: Any = None
        ran = False
        info = func_of(func)
        if info.query or not tensors or func.is_view:
            return func(*args, **kwargs)
        try:
            with _disable_current_modes():  # a budget around this one counts what runs, and not what is asked
                made = func(*_on_meta(args), **_on_meta(kwargs))
        except Exception:  # its shape is known when it has run: then it is counted afterwards
            made = out = func(*args, **kwargs)
            ran = True
        self._count(info, tensors, args, kwargs, made)
        return out if ran else func(*args, **kwargs)

    def _count(
        self, info: Func, tensors: Sequence[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], made: Any
    ) -> None:
        outputs = tuple(_spec(t) for t in tree_leaves(made) if isinstance(t, torch.Tensor))
        inputs = tuple(_spec(t) for t in tensors)
        if not outputs:
            return
        shown = {name: _plain(value) for name, value in kwargs.items()}
        work = cost.work(OpSpec(info.name, info.overload, [_plain(a) for a in args], shown, inputs, outputs, info.pointwise))
        if work is None:
            self.unknown[info.name] = self.unknown.get(info.name, 0) + 1
        after = {"macs": self.macs, "flops": self.flops, "kernels": self.kernels + 1}
        if work is not None:
            after["macs"] += work.macs
            after["flops"] += work.flops
        for name, most in self.limits.items():
            if after[name] > most:
                of = BY_NAME[name]
                where = self._inside[-1] if self._inside else "no module"
                shapes = ", ".join("x".join(map(str, t.shape)) or "scalar" for t in inputs)
                raise BudgetExceeded(
                    f"{name} may be {text(of, float(most))}, and {info.name} in {where} with [{shapes}] would make them "
                    f"{text(of, after[name])} ({text(of, getattr(self, name))} before it)"
                )
        self.macs, self.flops, self.kernels = after["macs"], after["flops"], after["kernels"]


def _on_meta(value: Any) -> Any:
    found = tree_map_only(torch.Tensor, alike, value)
    if isinstance(found, dict) and "device" in found:
        found = {**found, "device": torch.device("meta")}
    return found


def _spec(t: torch.Tensor) -> TensorSpec:
    spec: TensorSpec = meta_of(tuple(t.shape), tuple(t.stride()), t.dtype).spec
    return spec


_KEPT: tuple[type, ...] = (bool, int, float, str, type(None))


def _plain(value: Any) -> Any:
    """An argument as cost rules see it."""
    if isinstance(value, torch.Tensor):
        return _spec(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, _KEPT) else str(value)
