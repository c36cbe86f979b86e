"""Limits: one as it is written, beside the number that it is about, and the verdict on a whole budget. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar, Literal

from msgspec import Struct

from roofline import units
from roofline.analysis.changes import Part, grown
from roofline.analysis.explain import fits
from roofline.analysis.metrics import BY_NAME, Metric, exact, signed, text
from roofline.errors import CheckFailed, ModelError, RooflineError, UsageError
from roofline.records import Analysis

Side = Literal["max", "min"]
Level = Literal["fail", "warn"]
# A part of the time from which a limit on time sees little of the model.
_WAITS = 0.5


class Limit(Struct, frozen=True):
    """One limit. `value` is in the metric's base unit; of a change, a fraction of the base or an amount added to it."""

    # as written: "max_time", "time", "time.warn"
    key: str
    metric: str
    value: float
    # line in the budget file, 0 if it was not found
    line: int = 0
    side: Side = "max"
    level: Level = "fail"
    # a change from the baseline, as written: "+2 %"; empty: an absolute limit
    change: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """What it limits: two of the same cannot both hold."""
        return self.metric, self.side, self.level


class Finding(Struct, frozen=True):
    """One limit beside what was found. All numbers in the metric's base unit."""

    key: str
    metric: str
    actual: float
    # None: a change from a base that is not there
    limit: float | None
    ok: bool
    # why it failed where the numbers do not say it; what a limit without a base waits for
    why: str = ""
    line: int = 0
    side: Side = "max"
    # "warn": it is said, and breaks nothing
    level: Level = "fail"
    # "+2 %", and the number that it is a change of
    change: str = ""
    base: float | None = None
    # layers that brought it there, the largest first: what they are now and, with a base, what they were
    layers: tuple[Part, ...] = ()
    # broken, and taken as intended: it breaks nothing
    accepted: bool = False

    @property
    def broken(self) -> bool:
        return not self.ok and self.level == "fail" and not self.accepted


class Verdict(Struct, frozen=True, kw_only=True):
    """One budget and its findings."""

    budget: str
    model: str
    device: str
    batch: int
    dtype: str
    runtime: str
    mode: str
    # every limit of the level "fail" is kept
    ok: bool
    findings: list[Finding]
    # why it could not be checked, and the exit code of that
    error: str = ""
    exit_code: int = 0
    line: int = 0
    # what a person should know beside the limits: that the pass does not fit the device
    note: str = ""
    # the budget file
    file: str = ""
    # where the model's class or function is, where that is a file of somebody's
    source: str = ""
    source_line: int = 0
    # what the limits rest on, what they cannot see, why there is no base
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """ "net on t4"; of what no device is of, its name alone."""
        return f"{self.budget} on {self.device}" if self.device else self.budget


_CHANGE = re.compile(r"\s*([+-])\s*(?![+-])(.+?)\s*(%?)\s*\Z")


def is_change(value: object) -> bool:
    """Whether a limit is written as a change from a baseline: "+2 %", "-100 k"."""
    return isinstance(value, str) and value.lstrip()[:1] in ("+", "-")


def limit(key: str, of: Metric, value: str | float, side: Side, level: Level = "fail", line: int = 0) -> Limit:
    """A limit as written. Raises ValueError that says what was expected."""
    if is_change(value):
        assert isinstance(value, str)
        return Limit(key, of.name, float(_amount(of, value)[0]), line, side, level, " ".join(value.split()))
    if isinstance(value, str) and value.rstrip().endswith("%"):
        raise ValueError(f'a change from the baseline has a sign: "+{value.strip()}", got {value!r}')
    return Limit(key, of.name, float(exact(of, value)), line, side, level)


def _amount(of: Metric, change: str) -> tuple[Fraction, bool]:
    """A change as written, and whether it is a part of the base. Raises ValueError."""
    match = _CHANGE.match(change)
    if match is None:
        raise ValueError(f'expected a change such as "+2 %" or "{"-" if not of.cost else "+"}100 k", got {change!r}')
    amount = units.exact(match[2], "1") / 100 if match[3] else exact(of, match[2])
    if match[3] and not match[2].strip()[-1].isdigit():
        raise ValueError(f'expected a change such as "+2 %", got {change!r}')
    if match[1] == "-" and match[3] and amount > 1:
        raise ValueError(f"expected a fall of at most 100 %, which leaves 0, got {change!r}")
    return (-amount if match[1] == "-" else amount), bool(match[3])


def bound(limit: Limit, base: float | None) -> Fraction | None:
    """The number that the limit is, to the last digit; None: a change of a base that is not there."""
    if not limit.change:
        return Fraction(limit.value)
    if base is None:
        return None
    amount, part = _amount(BY_NAME[limit.metric], limit.change)
    return Fraction(base) * (1 + amount) if part else Fraction(base) + amount


def late(held: Sequence[Limit]) -> tuple[Limit, Limit] | None:
    """A limit that warns only beyond one that fails already, and that one; None where there is none, or it hangs on a base."""
    fails = {(one.metric, one.side): one for one in held if one.level == "fail"}
    for warns in held:
        one = fails.get((warns.metric, warns.side))
        if warns.level == "warn" and one is not None:
            here, there = (
                _amount(BY_NAME[x.metric], x.change) if x.change else (Fraction(x.value), None) for x in (warns, one)
            )
            if here[1] is there[1] and (here[0] > there[0] if warns.side == "max" else here[0] < there[0]):
                return warns, one
    return None


def lateness(warns: Limit, fails: Limit) -> str:
    """In words what is wrong with the two."""
    said = [one.change or text(BY_NAME[one.metric], one.value, 15) for one in (warns, fails)]
    return (
        f"{warns.key} is {said[0]}, beyond {fails.key} of {said[1]}, which fails before it can warn\n"
        "give what warns the nearer limit"
    )


class Base(Struct, frozen=True, kw_only=True):
    """What limits on a change are held against: numbers by metric, and parts by layer. Empty: there is none, and `why`."""

    numbers: Mapping[str, float] = {}
    # metric -> coarse parts that add up to it, or the whole analysis
    parts: Mapping[str, Mapping[str, float]] = {}
    analysis: Analysis | None = None
    # "at v1.2 (1a2b3c4)"
    where: str = ""
    why: str = ""


NO_BASE = Base(why="no baseline: `roofline check --update` makes one")


class Held(Struct, frozen=True, kw_only=True):
    """A budget as it is checked: its limits, how it is called, and which operators without a rule it lets pass."""

    label: str
    limits: Sequence[Limit]
    # True: all of them
    allow_unknown: bool | tuple[str, ...] = False
    line: int = 0
    # the device is this machine because nobody named one
    unnamed_device: bool = False
    file: str = ""


def check(held: Held, analysis: Analysis, base: Base = NO_BASE, accepted: str = "") -> Verdict:
    """Every limit beside the analysis. An op without a rule fails what depends on it; `accepted` lets changes pass."""
    allowed = held.allow_unknown
    missing = [u.op for u in analysis.coverage.unknown_ops if not (allowed is True or (allowed and u.op in allowed))]
    findings = []
    for one in held.limits:
        of = BY_NAME[one.metric]
        actual, before = of.of(analysis), base.numbers.get(one.metric) if one.change else None
        most = bound(one, before)
        why = ""
        if most is None:
            ok, why = True, base.why or "its base does not have it"
        else:
            ok = actual <= most if one.side == "max" else actual >= most
        if missing and of.needs_rules:
            ok, why = False, f"no FLOP rule for {', '.join(missing)}"
        parts: tuple[Part, ...] = ()
        if not ok and not why:
            parts = grown(analysis, one.metric, base.analysis or base.parts.get(one.metric), one.side == "max")
        findings.append(
            Finding(
                one.key,
                one.metric,
                actual,
                None if most is None else float(most),
                ok,
                why,
                one.line,
                one.side,
                one.level,
                one.change,
                before,
                parts,
                accepted=bool(accepted and one.change and not ok and not why),
            )
        )
    s = analysis.setting
    return Verdict(
        budget=held.label,
        model=analysis.model.name,
        device=s.device,
        batch=s.batch,
        dtype=s.precision,
        runtime=s.runtime,
        mode=s.mode,
        ok=not any(f.broken for f in findings),
        findings=findings,
        line=held.line,
        note=fits(analysis),
        file=held.file,
        notes=_notes(held, analysis, base, findings, accepted),
    )


def _notes(held: Held, analysis: Analysis, base: Base, findings: Sequence[Finding], accepted: str) -> tuple[str, ...]:
    """What the limits rest on and cannot see."""
    found = []
    timed = [one for one in held.limits if BY_NAME[one.metric].timed]
    if timed and held.unnamed_device:
        found.append(f"{timed[0].key}: no device is named, so it is that of the machine that checks ({analysis.device.title})")
    t = analysis.totals
    if timed and analysis.device.kind == "gpu" and t.waiting_s > _WAITS * t.time_s:
        found.append(
            f"{timed[0].key}: for more than half of the time the GPU waits for the host, which a larger layer does not change; "
            "limit macs or bytes too"
        )
    if base.where and any(f.change and not f.ok for f in findings):
        found.append(f"changes are from {base.where}")
    if taken := [f.key for f in findings if f.accepted]:
        found.append(f"accepted ({accepted}): {', '.join(taken)}")
    return tuple(found)


# ------------------------------------------------------------------------------------------------ one verdict on all


class _Fault(RooflineError):
    """A fault of this program's: the gravest."""

    exit_code: ClassVar[int] = 70


def failure(found: Sequence[Verdict], file: str) -> RooflineError:
    """What a check that is not green raises: the gravest of what was found sets the exit code, a broken limit the least."""
    broken = [f"{v.budget} ({f.key})" for v in found for f in v.findings if f.broken]
    failed = [v.budget for v in found if v.error]
    words = [f"broken: {_some(broken)}"] if broken else []
    words += [f"not checked: {_some(failed)}"] if failed else []
    return of_code(exit_code(found), f"{file}: {'; '.join(words)}")


def of_code(code: int, text: str) -> RooflineError:
    """The error that ends with an exit code."""
    kinds: dict[int, type[RooflineError]] = {70: _Fault, 3: ModelError, 2: UsageError}
    return kinds.get(code, CheckFailed)(text)


def exit_code(found: Sequence[Verdict]) -> int:
    """That of all verdicts together: 0 where every one is kept, else the gravest."""
    return max((v.exit_code or int(not v.ok) for v in found), default=0)


def summary(found: Sequence[Verdict]) -> str:
    """What the limits come to: "1 of 4 limits broken, 1 warned"."""
    all_of = [f for v in found for f in v.findings]
    count = f"{len(all_of)} limit{'s' * (len(all_of) != 1)}"
    broken = sum(f.broken for f in all_of)
    kept = sum(f.ok and f.limit is not None for f in all_of)
    said = [f"{broken} of {count} broken" if broken else f"{count} kept" if kept == len(all_of) else f"{kept} of {count} kept"]
    rest = {
        "warned": sum(not f.ok and f.level == "warn" and not f.accepted for f in all_of),
        "accepted": sum(f.accepted for f in all_of),
        "without a base": sum(f.ok and f.limit is None for f in all_of),
    }
    failed = sum(bool(v.error) for v in found)
    said += [f"{number} {what}" for what, number in rest.items() if number]
    said += [f"{failed} of {len(found)} budgets not checked"] if failed else []
    return ", ".join(said)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def words(finding: Finding) -> str:
    """A finding in words: "macs is 1.2 G, may be at most 1 G (+2 % of 980 M); features.4 +180 M"."""
    of = BY_NAME[finding.metric]
    said = f"is {text(of, finding.actual)}"
    if finding.limit is not None:
        few = {"max": "may be", "min": "has to be at least"}[finding.side]
        said += f", {few} {_told_apart(of, finding)}"
        said += f" ({finding.change} of {text(of, finding.base)})" if finding.base is not None else ""
    if finding.why:
        said += f" ({finding.why})"
    if finding.layers:
        said += f"; {raised(finding)}"
    return said


def _told_apart(of: Metric, finding: Finding) -> str:
    """The limit, in all its digits where it would read as what was found."""
    assert finding.limit is not None
    short = text(of, finding.limit)
    if finding.ok or short != text(of, finding.actual):
        return short
    return f"{short}, and is over it by {text(of, abs(finding.actual - finding.limit))}"


def raised(finding: Finding) -> str:
    """The layers that brought it there: "of it +1.7 ms in features.4 (SEBlock)", "most of it in layer4 (55 M)"."""
    of = BY_NAME[finding.metric]
    said = []
    for part in finding.layers:
        delta = part.head - (part.base or 0.0)
        size = text(of, part.head) if part.base is None else signed(of, delta)
        kind = {"added": f", {part.type} added", "removed": ", removed"}.get(part.what, f", {part.type}" if part.type else "")
        said.append(f"{part.path or 'the model itself'} {size}{kind}")
    return ("of it " if finding.layers[0].base is not None else "the largest parts: ") + "; ".join(said)
