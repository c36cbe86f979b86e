"""How sure predictions are, from devices that no constant had seen: `roofline validate --leave-out --uncertainty FILE`.

log(measured / predicted) of a table of forwards has a middle, which is its device's, and a spread around it, which is the
model's own. Of each kind of device, one factor makes what the status of its numbers says (measured, read, assumed, ...) as
large as the middles are; few devices move it little. Of each runtime the model's own part holds eight of ten rows around the
middles of their tables. Of training steps it holds them in the whole interval, with the device's part: what all gradients of
a device are off beyond its forwards is the model's. A class of kernel has more or less of it as the rows that it leads are
further off or nearer. What no table tells stays as it was. No number is one model's, one table's or one device's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import hypot, log
from statistics import fmean, median

from msgspec import Struct
from msgspec.structs import replace

from roofline.devices.device import Device
from roofline.errors import UsageError
from roofline.timemodel import uncertainty
from roofline.timemodel.uncertainty import Doubt, Sure
from roofline.validation.accuracy import Prediction, quantile

# One device, and so many rows of a class, count as much as what was there before.
_DEVICES, _ROWS = 1.0, 20.0
# An error of more times the spread is no part of it.
_FAR = 3.0
_WITHIN = 0.8
_EIGHT_TENTHS = 1.2816
# No part of a model's own is smaller, whatever a few rows say, or larger.
_LEAST, _MOST = 0.02, 1.0


class Left(Struct, frozen=True):
    """A table of a device, predicted by constants that had not seen it."""

    device: Device
    runtime: str
    training: bool
    rows: Sequence[Prediction]

    @property
    def key(self) -> str:
        """Which of the model's own parts it tells of."""
        return "training" if self.training else f"{self.device.kind}_{self.runtime}"

    @property
    def off(self) -> list[float]:
        return [-log(p.ratio) for p in self.rows]


def doubts(found: Sequence[Left]) -> Doubt:
    """The numbers that these tables tell, the others as they were shipped. Raises UsageError where there are none."""
    found = [one for one in found if one.rows]
    if not found:
        raise UsageError("no device was left out, so nothing tells how sure predictions are")
    doubt = uncertainty.shipped()
    device = {kind: _device(kind, found, was) for kind, was in doubt.device.items()}
    doubt = replace(doubt, device=device, source=_source(found))
    classes = {kind: dict(known) for kind, known in doubt.classes.items()}
    for kind in device:
        classes[kind] = {**classes.get(kind, {}), **_classes([one for one in found if one.device.kind == kind])}
    doubt = replace(doubt, classes={kind: known for kind, known in classes.items() if known})
    model = {key: _own([one for one in found if one.key == key], doubt, was) for key, was in doubt.model.items()}
    return replace(doubt, model=model)


def _device(kind: str, found: Sequence[Left], was: float) -> float:
    """The factor of a kind of device: root mean square of the middles, each over what it was known to."""
    known: dict[str, list[float]] = {}
    for one in found:
        if one.device.kind != kind or one.training or one.device.known is not None or one.device.tier == "calibrated":
            continue
        unsure = median(_common(one, p) for p in one.rows)
        if unsure:
            known.setdefault(one.device.name, []).append((median(one.off) * was / unsure) ** 2)
    squares = [fmean(each) for each in known.values()]
    return float(((sum(squares) + _DEVICES * was**2) / (len(squares) + _DEVICES)) ** 0.5)


def _common(one: Left, p: Prediction) -> float:
    """What is not known of its device, in a row."""
    low = Sure.of(one.device, one.runtime, one.training).low
    return hypot(*(sum(p.rests[i] * low[i][j] for i in range(3)) for j in range(3)))


def _classes(found: Sequence[Left]) -> dict[str, float]:
    """Of the classes that lead rows: how far off those are beside all, at most three times."""
    spread: dict[str, list[float]] = {}
    for one in found:
        middle, off = median(one.off), one.off
        scale = median(abs(x - middle) for x in off) * 1.4826 or 1.0
        for p, x in zip(one.rows, off, strict=True):
            spread.setdefault(next(iter(p.shares), ""), []).append(min(abs(x - middle) / scale, _FAR) ** 2)
    whole = fmean(x for each in spread.values() for x in each) if spread else 0.0
    if not whole:
        return {}
    return {name: ((sum(each) / whole + _ROWS) / (len(each) + _ROWS)) ** 0.5 for name, each in sorted(spread.items()) if name}


def _own(found: Sequence[Left], doubt: Doubt, was: float) -> float:
    """Within which eight tenths of the rows lie around the middles of their tables; of steps, around what is predicted."""
    if not found:
        return was
    needed = sorted(needs for one in found for needs in _needs(one, doubt))
    return min(max(quantile(needed, _WITHIN), _LEAST), _MOST)


def _needs(one: Left, doubt: Doubt) -> Iterator[float]:
    """Of each row, the own part of the model with which it would lie at the end of its interval: of a forward, were its device
    right; of a step, beside what is not known of its device."""
    kind = one.device.kind
    known, wider = doubt.classes.get(kind, {}), doubt.device[kind] / uncertainty.shipped().device[kind]
    middle = 0.0 if one.training else median(one.off)
    for p, x in zip(one.rows, one.off, strict=True):
        mean = sum(share * known.get(name, 1.0) ** 2 for name, share in p.shares.items()) or 1.0
        common = wider * _common(one, p) if one.training else 0.0
        rest = ((x - middle) / _EIGHT_TENTHS) ** 2 - doubt.kernel[kind] ** 2 * p.single - common**2
        yield (max(rest, 0.0) / mean) ** 0.5


def _source(found: Sequence[Left]) -> str:
    rows: dict[str, int] = {}
    for one in found:
        name = f"{one.device.name} {'training' if one.training else one.runtime}"
        rows[name] = rows.get(name, 0) + len(one.rows)
    told = ", ".join(f"{name} ({number} rows)" for name, number in rows.items())
    return f"validate --leave-out --uncertainty, each left out: {told}; else by hand (docs/time-model.md, How sure a time is)"


def text(doubt: Doubt) -> str:
    """As uncertainty.toml."""
    out = [
        "# How far predictions are off, as standard deviations of the logarithm of a time (docs/time-model.md, How sure a time",
        "# is). What each table means: uncertainty.py. Written by `roofline validate --leave-out --uncertainty FILE`.",
        "",
        f'source = "{doubt.source}"',
        "",
        f"together = {doubt.together:g}",
    ]
    tables = {name: getattr(doubt, name) for name in ("clock", "memory", "host", "device", "model", "kernel")}
    tables |= {f"classes.{kind}": known for kind, known in doubt.classes.items()}
    for name, table in tables.items():
        out += ["", f"[{name}]", *(f"{key} = {value:.3g}" for key, value in table.items())]
    return "\n".join(out) + "\n"
