"""`torch.autocast` inside a model's own forward: it holds for the device that the pass is for, whatever the tensors are on.

Torch's own does nothing to meta tensors, refuses their device ("meta"), and switches itself off where CUDA is asked for and
not there. While a pass is traced, entering and leaving a region tells the recorder instead, and code that asks is told what
it would be told on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from roofline.tracing.autocast import LOWER, POLICIES
from roofline.tracing.recorder import Recorder

# What a region's object keeps of what it was asked for.
_ASKED = "_roofline_asked"
_HALVES = (torch.float16, torch.bfloat16)


@contextmanager
def kept() -> Iterator[None]:
    """While a model's code is loaded and the model built: a region made there (`@torch.autocast("cuda")`) stays as it was
    asked for, and is not switched off for want of a GPU."""
    given = torch.autocast.__init__
    torch.autocast.__init__ = _remember  # type: ignore[method-assign]  # on purpose, for a while
    try:
        yield
    finally:
        torch.autocast.__init__ = given  # type: ignore[method-assign]  # put back


def _remember(
    self: Any, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, cache_enabled: bool | None = None
) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type != "meta" and not torch.amp.autocast_mode.is_autocast_available(device_type):
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
    self.device, self._enabled, self._cache_enabled = device_type, enabled, cache_enabled is not False
    self.fast_dtype = dtype if dtype is not None else LOWER.get(device_type, torch.float16)
    setattr(self, _ASKED, (device_type, dtype, bool(enabled)))


class _Entered:
    """The regions that a pass is in, and what each found."""

    def __init__(self, recorder: Recorder, real: bool) -> None:
        self.recorder, self.kind = recorder, "cuda" if recorder.on_gpu else "cpu"
        # on real tensors, which are on the CPU, a model that names their device means the one of the pass
        self.here = {self.kind, "meta", *(("cpu",) if real else ())}
        self.found: list[tuple[Any, ...]] = []

    def enter(self, region: Any) -> None:
        device, dtype, enabled = getattr(region, _ASKED, None) or (region.device, region.fast_dtype, region._enabled)
        recorder, casts, kind = self.recorder, self.recorder.casts, self.kind
        recorder.resumed()
        self.found.append((recorder.under, casts.dtype, casts.keeps))
        recorder.kind_asked = True
        if device in self.here:
            dtype = dtype if dtype is not None else casts.dtype
            enabled = enabled and (kind == "cuda" or dtype in _HALVES)
            casts.dtype, casts.keeps = dtype, region._cache_enabled
            self.recorder.autocast(POLICIES[kind] if enabled else None)

    def leave(self) -> None:
        recorder, casts = self.recorder, self.recorder.casts
        recorder.resumed()
        policy, casts.dtype, casts.keeps = self.found.pop()
        recorder.autocast(policy)
        if policy is None and not self.found:
            casts.weights.clear()  # torch forgets its casts with the outermost region


@contextmanager
def honoured(recorder: Recorder, real: bool = False) -> Iterator[None]:
    """While a pass is recorded; `real`: on real tensors."""
    state = _Entered(recorder, real)
    enabled, lower, available = (
        torch.is_autocast_enabled,
        torch.get_autocast_dtype,
        torch.amp.autocast_mode.is_autocast_available,
    )

    def is_enabled(device_type: str = "cuda") -> bool:
        recorder.resumed()
        return recorder.under is not None if device_type in state.here else enabled(device_type)

    def dtype_of(device_type: str = "cuda") -> torch.dtype:
        recorder.kind_asked = True
        return recorder.casts.dtype if device_type in state.here else lower(device_type)

    def is_available(device_type: str) -> bool:
        return device_type == "meta" or available(device_type)

    def leave(self: Any, *error: object) -> bool:
        state.leave()
        return False

    def enter(self: Any) -> Any:
        state.enter(self)
        return self

    own = torch.autocast
    swapped: list[tuple[Any, str, Any]] = [
        (own, "__init__", _remember),
        (own, "__enter__", enter),
        (own, "__exit__", leave),
        (torch, "is_autocast_enabled", is_enabled),
        (torch, "get_autocast_dtype", dtype_of),
        (torch.amp, "is_autocast_available", is_available),
        (torch.amp.autocast_mode, "is_autocast_available", is_available),
    ]
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in swapped]
    for holder, name, value in swapped:
        setattr(holder, name, value)
    try:
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)
