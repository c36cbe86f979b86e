"""Which layers changed between two analyses, by how much; and which of them brought a metric to where it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from roofline.analysis.matching import match
from roofline.records import Analysis, LayerRow

# How many layers a finding names, and from which part of what is too much.
_NAMED, _LEAST = 3, 0.05


class LayerChange(Struct, frozen=True):
    """A layer that is not the same. Numbers of a missing side are 0."""

    path: str
    type: str
    # "added", "removed", "moved", "renamed" or "changed"
    what: str
    params: tuple[int, int]
    flops: tuple[int, int]
    bytes: tuple[int, int]
    time_s: tuple[float, float]
    # what made it change is in a layer inside it, which is listed too
    inherited: bool
    macs: tuple[int, int] = (0, 0)
    kernels: tuple[int, int] = (0, 0)
    # where it was, and what it was, where that is not the same
    base_path: str = ""
    base_type: str = ""
    # it does what it did, and its time is another for what runs before it
    time_alone: bool = False
    # False: the numbers are those of its own kernels, without the layers inside it (params: with them)
    whole: bool = True


class Part(Struct, frozen=True):
    """What a layer adds to a metric, in its base unit. `base`: what it added before, None where nobody knows."""

    path: str
    type: str
    what: str
    head: float
    base: float | None = None


class _Own(NamedTuple):
    """What the kernels of a layer do, without those of the layers inside it."""

    flops: int = 0
    macs: int = 0
    bytes: int = 0
    kernels: int = 0
    time_s: float = 0.0
    # each as (operator, shape, dtype)
    ops: tuple[tuple[str, tuple[int, ...], str], ...] = ()

    @property
    def work(self) -> tuple[object, ...]:
        """All but its time."""
        return self._replace(time_s=0.0)


def layer_changes(base: Analysis, head: Analysis) -> list[LayerChange]:
    """The layers that are not the same, the largest change of time first. Those that are not `inherited` make up the whole."""
    old, new = {row.path: row for row in base.layers}, {row.path: row for row in head.layers}
    before, after = _own(base), _own(head)
    parents = {row.path.rpartition(".")[0] for row in (*base.layers, *head.layers) if row.path}
    changes = []
    for pair in match(base.layers, head.layers):
        b = old[pair.base] if pair.base is not None else None
        h = new[pair.head] if pair.head is not None else None
        was = before.get(pair.base, _Own()) if pair.base is not None else _Own()
        now = after.get(pair.head, _Own()) if pair.head is not None else _Own()
        what: str = pair.what
        whole = pair.whole or not {pair.base, pair.head} & parents
        inherited = False
        if pair.what == "same":
            assert b is not None
            assert h is not None
            if _cost(b) == _cost(h) and was == now:
                continue
            what, inherited = "changed", not whole and b.type == h.type and was == now
            if inherited and not pair.head:
                continue
        alone = False
        if what == "changed" and b is not None and h is not None:
            alone = b.type == h.type and was.work == now.work and (not whole or _work(b) == _work(h))
        changes.append(_change(what, (b, h), None if whole or inherited else (was, now), inherited, alone))
    return sorted(changes, key=lambda c: (-abs(c.time_s[1] - c.time_s[0]), -abs(c.flops[1] - c.flops[0])))


def _change(
    what: str, rows: tuple[LayerRow | None, LayerRow | None], own: tuple[_Own, _Own] | None, inherited: bool, alone: bool
) -> LayerChange:
    """`own`: the numbers of a layer whose own kernels alone count."""
    b, h = rows
    row = h or b
    assert row is not None

    def both(name: str) -> tuple[Any, Any]:
        sides = own if own is not None and name != "params" else rows
        return getattr(sides[0], name, 0), getattr(sides[1], name, 0)

    return LayerChange(
        row.path,
        row.type,
        what,
        both("params"),
        both("flops"),
        both("bytes"),
        both("time_s"),
        inherited,
        both("macs"),
        both("kernels"),
        b.path if b and h and b.path != h.path else "",
        b.type if b and h and b.type != h.type else "",
        alone and not inherited,
        own is None,
    )


def _own(analysis: Analysis) -> dict[str, _Own]:
    found: dict[str, _Own] = {}
    for k in analysis.kernels:
        o = found.get(k.layer, _Own())
        found[k.layer] = _Own(
            o.flops + k.flops,
            o.macs + k.macs,
            o.bytes + k.bytes,
            o.kernels + 1,
            o.time_s + k.time_s,
            (*o.ops, (k.op, k.shape, k.dtype)),
        )
    return found


def _cost(row: LayerRow) -> tuple[str | int | float, ...]:
    return *_work(row), row.time_s


def _work(row: LayerRow) -> tuple[str | int, ...]:
    return row.type, row.params, row.flops, row.macs, row.bytes


# ------------------------------------------------------------------------------------------------ what brought it there

# a metric that is no sum -> the sum that moves it
_MOVED_BY = {"throughput": "time", "intensity": "bytes"}
_OF_KERNELS = {
    "flops": "flops",
    "macs": "macs",
    "bytes": "bytes",
    "weight_bytes": "weight_bytes",
    "time": "time_s",
    "energy": "energy_j",
}
_OF_LAYERS = {"params": "params", "peak_memory": "memory_bytes"}


def parts(analysis: Analysis, metric: str) -> dict[str, float]:
    """Layer -> what it adds to the metric by itself, without the layers inside it; of no layer where it is no sum."""
    name = _MOVED_BY.get(metric, metric)
    found: dict[str, float] = defaultdict(float)
    if name in _OF_LAYERS:
        for row in analysis.layers:
            value = getattr(row, _OF_LAYERS[name])
            found[row.path] += value
            if row.path:
                found[row.path.rpartition(".")[0]] -= value
    elif name == "kernels":
        for k in analysis.kernels:
            found[k.layer] += 1
    elif name in _OF_KERNELS:
        # a budget of energy is that of a sample
        samples = max(analysis.setting.batch, 1) if name == "energy" else 1
        for k in analysis.kernels:
            found[k.layer] += (getattr(k, _OF_KERNELS[name]) or 0.0) / samples
    return {path: float(value) for path, value in found.items() if value > 0}


def grown(head: Analysis, metric: str, base: Analysis | Mapping[str, float] | None, more: bool) -> tuple[Part, ...]:
    """The layers that brought a metric above (`more`) or below a limit, the largest first, at most three.

    Beside a base analysis by what changed, beside the sums of coarse parts by those; without either the largest ones.
    """
    now = parts(head, metric)
    # more throughput is less time
    sign = 1 if more != (metric in _MOVED_BY) else -1
    types = {row.path: row.type for row in head.layers}
    if isinstance(base, Analysis):
        before = parts(base, metric)
        found = [_part(c, before, now) for c in layer_changes(base, head) if not c.inherited]
    elif base is not None:
        coarse = sums(now)
        found = [
            Part(path, types.get(path, ""), _what(base.get(path), coarse.get(path)), coarse.get(path, 0), base.get(path, 0))
            for path in dict.fromkeys([*coarse, *base])
        ]
    else:
        found = [Part(path, types.get(path, ""), "", value) for path, value in sums(now).items()] if sign > 0 else []
    rated = [(sign * (part.head - (part.base or 0)), part) for part in found]
    total = sum(effect for effect, _ in rated if effect > 0)
    best = sorted(((e, p) for e, p in rated if e > _LEAST * total), key=lambda pair: -pair[0])
    return tuple(part for _, part in best[:_NAMED])


def _what(base: float | None, head: float | None) -> str:
    return "added" if base is None else "removed" if head is None else "changed"


def _part(change: LayerChange, before: Mapping[str, float], now: Mapping[str, float]) -> Part:
    def within(values: Mapping[str, float], path: str) -> float:
        return sum(v for p, v in values.items() if p == path or (change.whole and p.startswith(f"{path}.")))

    base = within(before, change.base_path or change.path) if change.what != "added" else 0.0
    head = within(now, change.path) if change.what != "removed" else 0.0
    return Part(change.path, change.type, change.what, head, base)


def coarse(path: str) -> str:
    """The part of a model that a layer counts to in a small file: `features.3` for `features.3.conv.0`."""
    names = path.split(".")
    # the number after a list says which block it is, and its first two names alone would not
    return ".".join(names[: 3 if len(names) > 2 and names[2].isdigit() and not names[1].isdigit() else 2])


def sums(values: Mapping[str, float]) -> dict[str, float]:
    """The same by coarse part, in the order of their first layer."""
    found: dict[str, float] = {}
    for path, value in values.items():
        found[coarse(path)] = found.get(coarse(path), 0.0) + value
    return found
