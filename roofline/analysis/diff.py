"""Two analyses side by side: what changed in total and by layer, and which changes are too large. No torch, no printing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from roofline import files, units
from roofline.analysis import verify
from roofline.analysis.changes import LayerChange, layer_changes
from roofline.analysis.metrics import BY_NAME, Metric, metric, numbers, parse, percent, signed, text
from roofline.errors import UsageError
from roofline.records import Analysis


class _Outer(Struct):
    """Just enough to tell one analysis from several."""

    analyses: msgspec.Raw = msgspec.Raw(b"")


class _Several(Struct):
    analyses: list[Analysis]


def read_analyses(path: Path) -> list[Analysis]:
    """The analyses in a JSON file that `roofline analyze --json` wrote. Raises UsageError that names file and key."""
    try:
        data = files.json(path, files.ANALYSIS)
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


class Diff(Struct, frozen=True, kw_only=True):
    """Two analyses side by side."""

    base: str
    head: str
    # settings that are not the same: "batch: 1 -> 8"
    settings: list[str]
    totals: list[Change]
    layers: list[LayerChange]
    # the setting that both share, in words: "t4, batch 8, fp16, eager"
    setting: str = ""
    # where most of the change of the time is: "time +1.9 ms, of it +1.7 ms in features.4.block.2 (SEBlock added)"
    effect: str = ""

    @property
    def shown(self) -> tuple[list[LayerChange], list[LayerChange]]:
        """The layers that changed; and, in one setting, those whose time alone did."""
        own = [c for c in self.layers if not c.inherited]
        if self.settings:
            return own, []
        return [c for c in own if not c.time_alone], [c for c in own if c.time_alone]

    @property
    def same(self) -> bool:
        return not self.layers and all(c.base == c.head for c in self.totals)


def diff(base: Analysis, head: Analysis) -> Diff:
    """Changes from `base` to `head`: every metric, and the layers that were added, removed or changed, largest time first."""
    before, after = numbers(base), numbers(head)
    pairs = [(name, value, after[name]) for name, value in before.items() if name in after]
    changes = layer_changes(base, head)
    return Diff(
        base=base.model.name,
        head=head.model.name,
        settings=_settings(base, head),
        totals=[Change(name, b, h, _relative(b, h)) for name, b, h in pairs],
        layers=changes,
        setting=_shared(base, head),
        effect=_effect(base, head, changes),
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


def _shared(base: Analysis, head: Analysis) -> str:
    """What of the setting is the same on both sides."""
    sides = []
    for a in (base, head):
        s = a.setting
        mode = f"training with {s.optimizer}" if s.mode == "training" else _pass(a) or s.mode
        sides.append([s.device, f"batch {s.batch}", s.numbers, s.runtime, mode])
    return ", ".join(one for one, other in zip(*sides, strict=True) if one == other)


def _effect(base: Analysis, head: Analysis, changes: Sequence[LayerChange]) -> str:
    """How much the time (where that is as it was, the FLOPs) changed, and the layer that most of it is in."""
    for name in ("time", "flops"):
        of = BY_NAME[name]
        delta = of.of(head) - of.of(base)
        if abs(delta) <= 1e-9 * max(of.of(base), of.of(head)):
            continue
        said = f"{name} {signed(of, delta)}"
        field = "time_s" if name == "time" else name
        own = [(getattr(c, field)[1] - getattr(c, field)[0], c) for c in changes if not c.inherited]
        same_way = [pair for pair in own if pair[0] * delta > 0]
        if same_way:
            most, change = max(same_way, key=lambda pair: abs(pair[0]))
            where, happened = change.path or "the model itself", _happened(change)
            up = sum(pair[0] for pair in same_way)
            down = sum(pair[0] for pair in own) - up
            # of a small difference of large ones no layer is the cause
            if abs(down) > 0.5 * abs(up):
                said += f": {signed(of, up)} in some layers, most in {where} ({signed(of, most)}, {happened}), "
                return said + f"and {signed(of, down)} in others"
            said += f", of it {signed(of, most)} in {where} ({happened})"
        return said
    return ""


def _happened(change: LayerChange) -> str:
    if change.what == "changed":
        return f"{change.base_type} -> {change.type}" if change.base_type else change.type
    return f"{change.type} {change.what}"


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
    """The conditions that the change meets, each as "time>5%: 1.2 ms -> 1.4 ms (+16.7 %)"."""
    by_name = {c.metric: c for c in diff.totals}
    found = []
    for cond in conditions:
        if cond.metric.name not in by_name:
            raise UsageError(f"--fail-on {cond.text}: not both sides have {cond.metric.name}")
        change = by_name[cond.metric.name]
        delta = change.head - change.base
        # from nothing to something is more than any percentage
        if cond.relative:
            delta = change.relative if change.relative is not None else math.copysign(math.inf, delta)
        if delta > cond.amount if cond.above else delta < cond.amount:
            base, head = text(cond.metric, change.base), text(cond.metric, change.head)
            found.append(f"{cond.text}: {base} -> {head} ({percent(change.relative)})")
    return found
