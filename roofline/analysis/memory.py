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
    # the same bytes by the layer whose they are (its parameters, what its ops made), those of its children apart
    by_layer: dict[int, int] = {}


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
    best, at, layer, moment, most = sum(now.values()), dict(now), 0, -1, 0
    for i, (op, change) in enumerate(zip(trace.ops, delta, strict=False)):
        for kind, nbytes in change.items():
            now[kind] = now.get(kind, 0) + nbytes
        extra = scratch[op.spec]
        if not change and not extra:
            continue
        total = sum(now.values()) + extra
        if total > best:
            best, at, layer, moment, most = total, now | {"workspace": extra}, op.layer, i, extra
    return Peak(best, {_NAMES[k]: v for k, v in at.items() if v}, layer, _owners(trace, moment, layer, most))


def _owners(trace: Trace, moment: int, layer: int, scratch: int) -> dict[int, int]:
    """Bytes alive at an op (-1: before the first) by layer: of a named storage its owner, of others the one that made it."""
    at = {row.path: i for i, row in enumerate(trace.layers)}
    found = {layer: scratch}
    for s in trace.storages:
        if s.born <= moment and not 0 <= s.died <= moment:
            owner = _named(s.name, at) if s.name else trace.ops[s.born].layer if s.born >= 0 else 0
            found[owner] = found.get(owner, 0) + s.nbytes
    return found


def _named(name: str, layers: dict[str, int]) -> int:
    """The layer that a parameter ("head.weight") or its state ("head.weight.exp_avg") belongs to."""
    while name:
        name = name.rpartition(".")[0]
        if name in layers:
            return layers[name]
    return 0
