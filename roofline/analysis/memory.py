"""Peak memory by liveness over storages.

An op allocates its fresh results while its inputs are still alive; a storage is freed when the last tensor over it is
dropped, as in eager PyTorch. Blocks are counted at their own size: the allocator's rounding and its cache are not.
Scratch memory inside kernels is counted where it is known (`workspace.py`).
"""

from __future__ import annotations

from msgspec import Struct

from roofline.analysis import workspace
from roofline.devices.device import Device
from roofline.records import Trace

_NAMES = {
    "parameter": "parameters",
    "buffer": "buffers",
    "input": "inputs",
    "activation": "activations",
    "constant": "constants",
    "gradient": "gradients",
    "state": "optimizer_state",
    "workspace": "workspace",
    "cache": "kv_cache",
}


class Peak(Struct, frozen=True):
    """The most bytes alive at one time, by kind, and the layer that runs then (index into Trace.layers)."""

    total: int
    by_kind: dict[str, int]
    layer: int


def peak(trace: Trace, device: Device | None = None) -> Peak:
    """Peak bytes of one pass, parameters and inputs included; with a device, its kernels' scratch memory too."""
    scratch = [workspace.scratch(spec, device) if device else 0 for spec in trace.specs]
    n = len(trace.ops)
    delta: list[dict[str, int]] = [{} for _ in range(n + 1)]
    now: dict[str, int] = {}
    for s in trace.storages:
        if s.born < 0:
            now[s.kind] = now.get(s.kind, 0) + s.nbytes
        else:
            delta[s.born][s.kind] = delta[s.born].get(s.kind, 0) + s.nbytes
        if s.died >= 0:
            delta[s.died][s.kind] = delta[s.died].get(s.kind, 0) - s.nbytes
    best, at, layer = sum(now.values()), dict(now), 0
    for op, change in zip(trace.ops, delta, strict=False):
        for kind, nbytes in change.items():
            now[kind] = now.get(kind, 0) + nbytes
        extra = scratch[op.spec]
        if not change and not extra:
            continue
        total = sum(now.values()) + extra
        if total > best:
            best, at, layer = total, now | {"workspace": extra}, op.layer
    return Peak(best, {_NAMES[k]: v for k, v in at.items() if v}, layer)
