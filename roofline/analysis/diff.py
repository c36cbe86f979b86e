"""Two analyses side by side: what changed in total and by layer, and which changes are too large. No torch, no printing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from roofline import files, units
from roofline.analysis import verify
from roofline.analysis.metrics import BY_NAME, Metric, metric, parse, percent, text
from roofline.errors import UsageError
from roofline.records import Analysis, LayerRow


class _Outer(Struct):
    """Just enough to tell one analysis from several."""

    analyses: msgspec.Raw = msgspec.Raw(b"")


class _Several(Struct):
    analyses: list[Analysis]


def read_analyses(path: Path) -> list[Analysis]:
    """The analyses in a JSON file that `roofline analyze --json` wrote. Raises UsageError that names file and key."""
    try:
        data = files.content(path, files.ANALYSIS)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file\nmake it with: roofline analyze MODEL -o {path.name}") from None
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror or e}") from None
    try:
        several = msgspec.json.decode(data, type=_Outer).analyses != msgspec.Raw(b"")
        found = msgspec.json.decode(data, type=_Several).analyses if several else [msgspec.json.decode(data, type=Analysis)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise UsageError(f"{path}: not an analysis: {e}\nmake one with: roofline analyze MODEL -o FILE.json") from None
    verify.check_text(data, str(path))
    for analysis in found:
        if analysis.schema != Analysis.SCHEMA:
            raise UsageError(f"{path}: schema {analysis.schema}, but schema {Analysis.SCHEMA} is read here\nmake it again")
        verify.check(analysis, str(path))
    if not found:
        raise UsageError(f"{path}: holds no analysis")
    return found


class Change(Struct, frozen=True):
    """One metric in both analyses, in its base unit. `relative` is (head - base) / base, None where base is 0."""

    metric: str
    base: float
    head: float
    relative: float | None


class LayerChange(Struct, frozen=True):
    """A layer that is not the same. `what` is "added", "removed" or "changed"; numbers of a missing side are 0."""

    path: str
    type: str
    what: str
    params: tuple[int, int]
    flops: tuple[int, int]
    bytes: tuple[int, int]
    time_s: tuple[float, float]
    # what made it change is in a layer inside it, which is listed too
    inherited: bool


class Diff(Struct, frozen=True, kw_only=True):
    """Two analyses side by side."""

    base: str
    head: str
    # settings that are not the same: "batch: 1 -> 8"
    settings: list[str]
    totals: list[Change]
    layers: list[LayerChange]

    @property
    def same(self) -> bool:
        return not self.layers and all(c.base == c.head for c in self.totals)


def diff(base: Analysis, head: Analysis) -> Diff:
    """Changes from `base` to `head`: every metric, and the layers that were added, removed or changed, largest time first."""
    pairs = [(m.name, m.of(base), m.of(head)) for m in BY_NAME.values()]
    return Diff(
        base=base.model.name,
        head=head.model.name,
        settings=_settings(base, head),
        totals=[Change(name, b, h, _relative(b, h)) for name, b, h in pairs],
        layers=_layers(base.layers, head.layers),
    )


def _relative(base: float, head: float) -> float | None:
    if base == 0:
        return 0.0 if head == 0 else None
    return (head - base) / base


# Fields of a setting that say how it was asked for, which is not what differs, or that are put into words.
_HOW = ("asked", "asked_batch", "inputs", "resolution", "set", "constants", "host_s", "host_status", "built")


def _settings(base: Analysis, head: Analysis) -> list[str]:
    known = base.setting.asked and head.setting.asked
    sides = [
        {
            **{key: value for key, value in msgspec.structs.asdict(a.setting).items() if key not in _HOW},
            "dtype": a.setting.precision,
            "host": f"{units.seconds(a.setting.host_s)} {a.setting.host_status}" if a.setting.host_s else "",
            "pass": _pass(a),
            "roofline": a.tool.roofline,
            "torch": a.tool.torch,
            "inputs": _shapes(a),
            "set": " ".join(f"{name}={value}" for name, value in a.setting.set.items()),
            # a document of an older version does not say which
            "numbers of the device": a.device.fingerprint if known else "",
            "constants": a.setting.constants if known else "",
        }
        for a in (base, head)
    ]
    # documents of older versions say no host
    differ = [key for key in sides[0] if sides[0][key] != sides[1][key] and (key != "host" or all(s["host"] for s in sides))]
    return [f"{key}: {sides[0][key] or 'none'} -> {sides[1][key] or 'none'}" for key in differ]


def _pass(analysis: Analysis) -> str:
    """ "prefill 512", "decode 8192"; empty where it is no pass of a language model."""
    asked = analysis.language.asked if analysis.language else {}
    return " ".join(f"{mode} {tokens}" for mode, tokens in asked.items())


def _shapes(analysis: Analysis) -> str:
    return " ".join(f"{'x'.join(map(str, i.shape))}:{i.dtype}" for i in analysis.model.inputs)


def _layers(base: Sequence[LayerRow], head: Sequence[LayerRow]) -> list[LayerChange]:
    old, new = {row.path: row for row in base if row.path}, {row.path: row for row in head if row.path}
    differ = [path for path in {**old, **new} if path not in old or path not in new or _cost(old[path]) != _cost(new[path])]
    inside = {parent for path in differ for parent in _parents(path)}
    changes = []
    for path in differ:
        b, h = old.get(path), new.get(path)
        row = h or b
        if row is None:
            continue
        what = "added" if b is None else "removed" if h is None else "changed"
        # an added block is one change, not one for each layer in it
        side = new if what == "added" else old
        if what != "changed" and any(p in side and (p not in old or p not in new) for p in _parents(path)):
            continue
        inherited = what == "changed" and path in inside
        params, flops, nbytes, time_s = (_both(b, h, name) for name in ("params", "flops", "bytes", "time_s"))
        changes.append(LayerChange(path, row.type, what, params, flops, nbytes, time_s, inherited))
    return sorted(changes, key=lambda c: (-abs(c.time_s[1] - c.time_s[0]), -abs(c.flops[1] - c.flops[0])))


def _cost(row: LayerRow) -> tuple[str | int | float, ...]:
    return row.type, row.params, row.flops, row.macs, row.bytes, row.time_s


def _both(base: LayerRow | None, head: LayerRow | None, name: str) -> tuple[Any, Any]:
    return (getattr(base, name) if base else 0), (getattr(head, name) if head else 0)


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


class Condition(NamedTuple):
    """One `--fail-on`: a change of `metric` that is too large. `amount` is a fraction of base if `relative`."""

    text: str
    metric: Metric
    above: bool
    amount: float
    relative: bool


_CONDITION = re.compile(r"\s*([A-Za-z_]+)\s*([<>])\s*([+-]?)\s*(.+?)\s*\Z")


def condition(text: str) -> Condition:
    """Parse "time>5%", "params>0", "throughput<-5%", "peak_memory>10 MiB": what the change from base to head may not be."""
    match = _CONDITION.match(text)
    if match is None:
        raise UsageError(f"--fail-on {text!r}: expected METRIC>AMOUNT or METRIC<-AMOUNT, such as 'time>5%' or 'throughput<-5%'")
    of = metric(match[1])
    sign = -1.0 if match[3] == "-" else 1.0
    amount, relative = match[4], match[4].endswith("%")
    try:
        value = units.parse(amount, "1") if relative else parse(of, _number(amount))
    except ValueError as e:
        raise UsageError(f"--fail-on {text!r}: {e}") from None
    return Condition(text.strip(), of, match[2] == ">", sign * value, relative)


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def failed(diff: Diff, conditions: Sequence[Condition]) -> list[str]:
    """The conditions that the change meets, each as "time>5%: 1.2 ms -> 1.4 ms (+16.7%)"."""
    by_name = {c.metric: c for c in diff.totals}
    found = []
    for cond in conditions:
        change = by_name[cond.metric.name]
        delta = change.head - change.base
        # from nothing to something is more than any percentage
        if cond.relative:
            delta = change.relative if change.relative is not None else math.copysign(math.inf, delta)
        if delta > cond.amount if cond.above else delta < cond.amount:
            base, head = text(cond.metric, change.base), text(cond.metric, change.head)
            found.append(f"{cond.text}: {base} -> {head} ({percent(change.relative)})")
    return found
