"""Peak memory by liveness over storages.

An op allocates its fresh results while its inputs are still alive; a storage is freed when the last tensor over it is
dropped, as in eager PyTorch. Blocks are counted at their own size: the allocator's rounding and its cache are not.
Scratch memory inside kernels is counted where it is known (`workspace.py`).
"""

from __future__ import annotations

from itertools import accumulate

from msgspec import Struct

from roofline.analysis import workspace
from roofline.devices.device import Device
from roofline.records import Trace, around

# Steps of a pass that are kept.
MOST = 400

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
    # how it came there: (operators that have begun, layer, bytes alive) wherever that changed
    course: tuple[tuple[int, int, int], ...] = ()


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
    course = [(0, 0, best)]
    for i, (op, change) in enumerate(zip(trace.ops, delta, strict=False)):
        for kind, nbytes in change.items():
            now[kind] = now.get(kind, 0) + nbytes
        extra = scratch[op.spec]
        if not change and not extra:
            continue
        total = sum(now.values()) + extra
        course.append((i + 1, op.layer, total))
        if total > best:
            best, at, layer, moment, most = total, now | {"workspace": extra}, op.layer, i, extra
    return Peak(
        best, {_NAMES[k]: v for k, v in at.items() if v}, layer, _owners(trace, moment, layer, most), _shortened(course)
    )


def alive(trace: Trace) -> list[int]:
    """Bytes alive before the first op and while each runs, without scratch memory: `peak` is their maximum with it."""
    change = [0] * (len(trace.ops) + 2)
    for s in trace.storages:
        change[max(s.born, -1) + 1] += s.nbytes
        if s.died >= 0:
            change[s.died + 1] -= s.nbytes
    return list(accumulate(change[:-1]))


def _shortened(course: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """At most `MOST` of them: of neighbours the one with the most bytes."""
    size = -(-len(course) // MOST)
    return tuple(max(course[i : i + size], key=lambda step: step[2]) for i in range(0, len(course), size))


class Timeline(Struct, frozen=True):
    """Bytes alive while each op runs, op by op."""

    # kind ("parameters", "activations", ...) -> bytes at each op; what lies below another at the same op adds up to all
    kinds: dict[str, list[int]]
    # path of the layer that each op belongs to
    layers: list[str]
    # op with the most bytes alive, and how many they are
    peak: int
    total: int
    # whose they are then: path and bytes, most first
    owners: list[tuple[str, int]]


def timeline(trace: Trace, device: Device) -> Timeline:
    """What is alive at each op of one pass; its peak is that of `peak`, unless more was alive before the first op."""
    n = len(trace.ops)
    kinds: dict[str, list[int]] = {}
    for s in trace.storages:
        change = kinds.setdefault(_NAMES[s.kind], [0] * (n + 1))
        born = max(s.born, 0)
        # dropped while op `died` runs, after its inputs were read: gone in what that op is counted with
        if s.died < 0 or s.died > born:
            change[min(born, n)] += s.nbytes
            if s.died >= 0:
                change[min(s.died, n)] -= s.nbytes
    for change in kinds.values():
        for i in range(1, n + 1):
            change[i] += change[i - 1]
        change.pop()
    scratch = [workspace.scratch(trace.specs[op.spec], device) for op in trace.ops]
    if any(scratch):
        kinds[_NAMES["workspace"]] = [a + b for a, b in zip(kinds.get(_NAMES["workspace"], [0] * n), scratch, strict=True)]
    totals = [sum(at) for at in zip(*kinds.values(), strict=True)] if n else []
    most = max(range(n), key=lambda i: totals[i], default=0)
    found = peak(trace, device)
    owners = sorted(found.by_layer.items(), key=lambda item: -item[1])
    paths = [layer.path for layer in trace.layers]
    return Timeline(
        {kind: values for kind, values in kinds.items() if any(values)},
        [paths[op.layer] for op in trace.ops],
        most,
        totals[most] if n else found.total,
        [(paths[layer], size) for layer, size in owners if size],
    )


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
    path = around(name, layers)
    return 0 if path is None else layers[path]
