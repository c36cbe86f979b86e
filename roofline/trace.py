"""From a module and its inputs to a Trace: the model is run once on meta tensors and left as it was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from roofline.recorder import META, Recorder, tensors_in
from roofline.records import InputInfo, Layer, ModelError, ModelInfo, Storage, Trace, UsageError

# What a model may raise on its own account.
MODEL_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    ImportError,
    OSError,
)
# Torch's words where a value is asked of a tensor that has none.
_NO_VALUE = ("data-independent", "meta tensor", "on meta", "'meta' device", "'Meta' backend", "with arguments from the 'Meta'", "data-dependent")
FLOATS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "amp": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp64": torch.float64,
}


class NeedsValues(ModelError):
    """The pass depends on the values of tensors, which meta tensors do not have: trace it with `real=True`."""


def trace(
    module: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    source: str = "",
    dtype: str = "fp32",
    device_kind: str = "cpu",
    batch: int = 1,
    real: bool = False,
) -> Trace:
    """Run `module(*args, **kwargs)` once and record it.

    Inputs are any nesting of tuples, lists and mappings; tensors in them may be real or meta, only their metadata is
    used. Parameters, buffers and floating inputs take the dtype that `dtype` stands for; "amp" applies autocast's
    own lists for `device_kind` ("gpu" or "cpu"). `real=True` runs on real CPU tensors, for models whose shapes depend
    on data (floating inputs drawn uniformly with seed 0, integer ones zero). Raises ModelError, with the module's path
    and its input shapes, where the model itself fails; its subclass NeedsValues where meta tensors are not enough.
    """
    if dtype not in FLOATS:
        raise UsageError(f"dtype {dtype!r} cannot be applied to a floating-point model; use one of {', '.join(FLOATS)}")
    recorder = Recorder(("cuda" if device_kind == "gpu" else "cpu") if dtype == "amp" else None)
    modules = _Modules(module, recorder)
    training = [m.training for m in modules.by_id.values()]
    with ExitStack() as stack:
        stack.enter_context(_left_as_found(modules))
        stack.enter_context(torch.inference_mode())
        swap = _Swap(None if real else META, FLOATS[dtype])
        params, buffers = swap.module(modules)
        run_args, run_kwargs = swap.tree(tuple(args)), swap.tree(dict(kwargs or {}))
        for path, p in params:
            recorder.adopt(p, "parameter", path)
        for path, b in buffers:
            recorder.adopt(b, "buffer", path)
        inputs = list(_named_inputs(run_args, run_kwargs))
        for path, t in inputs:
            recorder.adopt(t, "input", path)
        if any(training):
            module.eval()
        stack.enter_context(modules.tracked())
        try:
            with recorder:
                output = module(*run_args, **run_kwargs)
        except MODEL_ERRORS as error:
            raise modules.failure(error, real) from error
        deaths = dict(recorder.deaths)  # while the output is still held
    del output
    storages = tuple(
        Storage(nbytes, kind, label, born, deaths.get(i, -1))
        for i, (nbytes, kind, label, born) in enumerate(recorder.storages)
    )
    info = ModelInfo(
        name=name or type(module).__name__,
        source=source or type(module).__module__,
        params=sum(t.numel() for _, t in params),
        param_bytes=_bytes(params),
        buffers=sum(t.numel() for _, t in buffers),
        buffer_bytes=_bytes(buffers),
        inputs=tuple(InputInfo(tuple(t.shape), str(t.dtype)[6:], path) for path, t in inputs),
    )
    return Trace(info, modules.layers(), tuple(recorder.specs), tuple(recorder.ops), storages, batch, dtype)


def _bytes(tensors: Sequence[tuple[str, torch.Tensor]]) -> int:
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for _, t in tensors}.values())


def _named_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    for i, value in enumerate(args):
        for t in tensors_in(value):
            yield str(i), t
    for key, value in kwargs.items():
        for t in tensors_in(value):
            yield key, t


class _Swap:
    """Meta stand-ins: one for each tensor, over one for each storage, so ties and views survive."""

    def __init__(self, device: torch.device | None, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.random = torch.Generator().manual_seed(0) if device is None else None
        self.done: dict[int, torch.Tensor] = {}
        self.storages: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def tensor(self, t: torch.Tensor) -> torch.Tensor:
        dtype = self.dtype if t.is_floating_point() and t.dtype.itemsize >= 2 else t.dtype
        if (t.is_meta or self.device is None) and t.dtype == dtype:
            return t
        new = self.done.get(id(t))
        if new is None:
            new = t.to(dtype) if self.device is None else self._stand_in(t, dtype)
            if isinstance(t, nn.Parameter):
                new = nn.Parameter(new, requires_grad=False)
            self.done[id(t)] = new
        return new

    def _filled(self, t: torch.Tensor) -> torch.Tensor:
        """A real input in place of one that has only metadata."""
        if t.dtype.is_floating_point:
            return torch.rand(t.shape, generator=self.random, dtype=torch.float32).to(t.dtype)
        return torch.zeros(t.shape, dtype=t.dtype)

    def _stand_in(self, t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if t.layout != torch.strided:
            return torch.empty_like(t, dtype=dtype, device=META)
        storage = t.untyped_storage()
        key = (storage._cdata, dtype)
        base = self.storages.get(key)
        if base is None:
            base = self.storages[key] = torch.empty(storage.nbytes() // t.dtype.itemsize, dtype=dtype, device=META)
        return base.as_strided(t.shape, t.stride(), t.storage_offset())

    def tree(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._filled(self.tensor(value)) if self.device is None and value.is_meta else self.tensor(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self.tree(v) for v in value))
        if isinstance(value, (list, tuple)):
            return type(value)(self.tree(v) for v in value)
        if isinstance(value, dict):
            return {k: self.tree(v) for k, v in value.items()}
        return value

    def module(self, modules: _Modules) -> tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]]:
        """Put the stand-ins in place; returns (qualified name, tensor) of the parameters and of the buffers, each once."""
        found: tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]] = ([], [])
        seen: set[int] = set()
        for path, m in modules.named:
            tables: list[tuple[dict[str, Any], list[tuple[str, torch.Tensor]]]]
            tables = [(m.__dict__["_parameters"], found[0]), (m.__dict__["_buffers"], found[1])]
            for table, out in tables:
                for key, t in table.items():
                    if t is None:
                        continue
                    new = self.tensor(t)
                    if new is not t:
                        table[key] = new
                    if id(new) not in seen:
                        seen.add(id(new))
                        out.append((f"{path}.{key}" if path else key, new))
        return found


class _Modules:
    """The module tree: who is running, and what to say when it fails."""

    def __init__(self, root: nn.Module, recorder: Recorder) -> None:
        self.recorder = recorder
        self.named: list[tuple[str, nn.Module]] = list(root.named_modules())
        self.index = {id(m): i for i, (_, m) in enumerate(self.named)}
        self.by_id = {id(m): m for _, m in self.named}
        self.calls = [0] * len(self.named)
        self.stack: list[tuple[int, Any]] = []
        self.owned = self._own_params()
        self.parents = self._parents()

    def _own_params(self) -> list[int]:
        seen: set[int] = set()
        owned = []
        for _, m in self.named:
            fresh = {id(p): p.numel() for p in m._parameters.values() if p is not None and id(p) not in seen}
            seen.update(fresh)
            owned.append(sum(fresh.values()))
        return owned

    def _parents(self) -> list[int]:
        at = {path: i for i, (path, _) in enumerate(self.named)}
        parents = []
        for path, _ in self.named:
            above = path
            while above:
                above = above.rpartition(".")[0]
                if above in at:
                    break
            parents.append(at[above] if path else -1)
        return parents

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Follow module calls through torch's global hooks while the model runs."""
        recorder, stack, index, calls = self.recorder, self.stack, self.index, self.calls

        def enter(m: nn.Module, inputs: Any) -> None:
            i = index.get(id(m))
            if i is not None:
                stack.append((recorder.layer, inputs))
                recorder.layer = i
                calls[i] += 1

        def leave(m: nn.Module, inputs: Any, output: Any) -> None:
            i = index.get(id(m))
            if i is not None:
                # a module that caught an exception of a child's has left it on the stack
                while recorder.layer != i:
                    recorder.layer = stack.pop()[0]
                recorder.layer = stack.pop()[0]

        handles = [
            nn.modules.module.register_module_forward_pre_hook(enter),
            nn.modules.module.register_module_forward_hook(leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def failure(self, error: Exception, real: bool) -> ModelError:
        path, m = self.named[self.recorder.layer]
        inputs = self.stack[-1][1] if self.stack else ()
        shapes = ", ".join("x".join(map(str, t.shape)) or "scalar" for t in tensors_in(inputs)) or "none"
        where = f"{path} ({type(m).__name__})" if path else type(m).__name__
        text = " ".join(str(error).split("\n")[0].split())
        words = str(error)
        kind = NeedsValues if not real and any(w in words for w in _NO_VALUE) else ModelError
        return kind(f"the model failed in {where} with input shapes [{shapes}]: {type(error).__name__}: {text}")

    def layers(self) -> tuple[Layer, ...]:
        return tuple(
            Layer(path, type(m).__name__, owned, parent, calls)
            for (path, m), owned, parent, calls in zip(self.named, self.owned, self.parents, self.calls, strict=True)
        )


@contextmanager
def _left_as_found(modules: _Modules) -> Iterator[None]:
    """Put every module's attributes back: swapped tensors, the training flag, caches that a forward pass fills."""
    saved = [
        (m, dict(m.__dict__), {k: v.copy() for k, v in m.__dict__.items() if type(v) in (dict, list, set)})
        for _, m in modules.named
    ]
    try:
        yield
    finally:
        for m, attributes, containers in saved:
            m.__dict__.clear()
            m.__dict__.update(attributes)
            for key, before in containers.items():
                now = m.__dict__[key]
                now.clear()
                now.extend(before) if type(now) is list else now.update(before)
