"""Numbers as tables print them: what a heading stands for, what a cell says, and the same cell with another number."""

from __future__ import annotations

import re
from fractions import Fraction

from msgspec import Struct

from roofline import units
from roofline.analysis import metrics
from roofline.analysis.declared import OPTIONS
from roofline.analysis.metrics import BY_NAME, Metric
from roofline.errors import nearest
from roofline.gate.markdown import plain
from roofline.records import BOUNDS, Analysis

BOUND = "bound"
# How tables call a metric beside its own name; without blanks, in small letters.
_CALLED = {
    "parameters": "params", "parameter": "params", "param": "params", "#params": "params",
    "mac": "macs", "multadds": "macs", "madds": "macs",
    "flop": "flops",
    "traffic": "bytes", "weights": "weight_bytes", "weightbytes": "weight_bytes",
    "flop/b": "intensity", "flops/b": "intensity", "flops/byte": "intensity", "flop/byte": "intensity",
    "arithmeticintensity": "intensity",
    "launches": "kernels", "mem": "peak_memory",
    "latency": "time", "time_s": "time",
    "rate": "throughput", "samples/s": "throughput", "images/s": "throughput", "img/s": "throughput",
    "memory": "peak_memory", "peakmemory": "peak_memory", "peak_memory_bytes": "peak_memory",
    **{name.replace("_", ""): name for name in BY_NAME},
}  # fmt: skip
_SETTINGS = {**{name: name for name in OPTIONS}, "input": "inputs", "batchsize": "batch", "precision": "dtype"}
_WORDS = {"million": "M", "millions": "M", "billion": "G", "billions": "G", "thousand": "k", "thousands": "k"}


class Column(Struct, frozen=True):
    """What a heading stands for: a metric (or the bound), or an option whose value each row has."""

    title: str
    metric: str = ""
    # as in the heading: "Time (ms)", "GMACs"
    unit: str = ""
    # "Time on t4"
    device: str = ""
    option: str = ""


class Printed(Struct, frozen=True):
    """A number in a cell. Values are in the metric's base unit."""

    start: int
    end: int
    value: Fraction
    # of its last digit
    step: Fraction
    scale: Fraction
    number: str
    between: str
    # written in the cell itself
    suffix: str


_DEVICE = r"(?:\s+on\s+(?P<device>[\w./-]+?))?"
_UNIT = r"(?:\s*[\[(](?P<unit>[^\])]+)[\])]|,\s*(?P<after>[\w/µμ]+)|\s*/\s*(?P<per>ms|us|µs|s))?"
# "Time on t4 (ms)", "Time (ms) on t4"
_HEADINGS = [re.compile(rf"(?P<name>.+?){inside}") for inside in (_DEVICE + _UNIT, _UNIT + _DEVICE)]


def title(heading: str) -> str:
    """A heading as it reads."""
    return plain(heading.replace("`", ""))


def _parts(said: str) -> tuple[str, str, str]:
    """A heading's name, unit and device."""
    if _key(said) in _CALLED:
        return said, "", ""
    for form in _HEADINGS:
        found = form.fullmatch(said)
        if found and (_key(found["name"]) in {**_CALLED, BOUND: ""} or form is _HEADINGS[-1]):
            unit = found["unit"] or found["after"] or found["per"] or ""
            return found["name"], _WORDS.get(unit.lower(), unit), found["device"] or ""
    return said, "", ""


def _key(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def column(heading: str) -> Column:
    """What a heading stands for. Raises ValueError with the nearest name."""
    said = title(heading)
    name, unit, device = _parts(said)
    key = _key(name)
    if key == BOUND:
        return Column(said, BOUND, "", device)
    if key not in _CALLED and key in _SETTINGS:
        return Column(said, option=_SETTINGS[key])
    prefix = re.match(r"([kKMGTP])(?=[A-Za-z#])", name.strip())
    if key not in _CALLED and prefix and key[1:] in _CALLED:
        key, unit = key[1:], prefix[1]
    if key not in _CALLED:
        raise ValueError(f"{said!r} is neither a metric nor an option{nearest(key, [*BY_NAME, *_CALLED, *_SETTINGS, BOUND])}")
    of = BY_NAME[_CALLED[key]]
    unit = "" if of.name == "throughput" and re.fullmatch(r"(?:samples?|images?|img|imgs)?/s(?:ec)?", unit) else unit
    try:
        _scale(of, unit or ("s" if of.unit == "s" else ""))
    except ValueError as error:
        raise ValueError(f"{said!r}: {error}") from None
    return Column(said, of.name, unit, device)


def _scale(of: Metric, unit: str) -> Fraction:
    """What 1 of a unit is in the metric's base unit. Raises ValueError."""
    unit = _WORDS.get(unit.lower(), unit).replace("FLOPS", "FLOPs")
    unit = re.sub(r"\b(?:images?|imgs?|sample)/s(?:ec)?", "samples/s", unit) if of.name == "throughput" else unit
    if of.noun and unit == "B" and of.name in ("params", "macs", "flops"):
        unit = "G"  # billions
    return metrics.exact(of, f"1 {unit}".rstrip())


# ------------------------------------------------------------------------------------------------ what a cell says

_EXAMPLES = {"s": "Time (ms)", "B": "Traffic (MB)", "J": "Energy (mJ)"}
_DIGITS = r"(?:\d{1,3}(?P<sep>[,_'’\u00a0\u2009\u202f ])\d{3}(?:(?P=sep)\d{3})*|\d+)"
_NUMBER = re.compile(rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{{1,3}})?")
_OPENING = r"[\s*_~≈`$\[(]*"
_INTERVAL = re.compile(r"\(\s*(?P<low>[\d.,]+)\s*(?P<u>[a-zµμ]*)\s+to\s+(?P<high>[\d.,]+)\s*(?P<v>[a-zµμ]*)\s*\)")
# what stands in a cell and is none of its numbers
_HIDDEN = re.compile(r"\]\([^)]*\)|<sup>.*?</sup>|<[^>]*>|\[\^[^\]]*\]|\\(?=[*_~|])|&nbsp;", re.IGNORECASE)
EMPTY = frozenset({"", "-", "–", "—", "n/a", "N/A"})
ASKED = "?"


def numbers(of: Metric, text: str, unit: str) -> list[Printed]:
    """The number of a cell, and of a time those of its interval. Raises ValueError that says what was expected."""
    masked = _HIDDEN.sub(lambda m: " " * len(m[0]), text)
    spans: list[Printed] = []
    interval = _INTERVAL.search(masked) if of.unit == "s" else None
    if interval:
        first = _one(of, masked[: interval.start()].ljust(len(masked)), unit)
        high = interval["v"] or first.suffix or unit
        ends = (("low", interval["u"] or high), ("high", high))
        spans = [_at(of, interval[name], interval.start(name), of_unit) for name, of_unit in ends]
        return [first, *spans]
    return [_one(of, masked, unit)]


def _one(of: Metric, masked: str, unit: str) -> Printed:
    opening = re.match(_OPENING, masked)
    begin = opening.end() if opening else 0
    match = _NUMBER.match(masked, begin)
    if match is None:
        raise ValueError("it is no number")
    rest = masked[match.end() :]
    if re.search(r"\d", rest):
        raise ValueError("it is more than one number")
    blank = re.match(r"\s*", rest)
    between = blank[0] if blank else ""
    for suffix in _suffixes(rest[len(between) :]):
        try:
            scale = _scale(of, suffix)
        except ValueError:
            continue
        return _printed(of, match[0], match.start(), between, suffix, scale)
    after = rest.strip(" *_~`$)]")
    if after[:1].isalpha() or after[:1] in ("%", "+", "/", "±", "×", "°"):
        raise ValueError(f"{after.split()[0]!r} is no unit of {of.name}")
    if not unit and of.unit in _EXAMPLES:
        example = _EXAMPLES[of.unit]
        raise ValueError(f"it has no unit: write it in the cell, or in the heading as {example}")
    return _printed(of, match[0], match.start(), "", "", _scale(of, unit))


def _suffixes(rest: str) -> list[str]:
    """What may be the unit: as much as reads as one, then its first word."""
    match = re.match(r"[A-Za-zµμ]*(?:/[A-Za-z]+)?(?: [A-Za-z]+(?:/[A-Za-z]+)?)?", rest)
    whole = match[0] if match else ""
    found = [whole, whole.split(" ")[0]]
    return [each for each in dict.fromkeys(found) if each]


def _at(of: Metric, number: str, start: int, unit: str) -> Printed:
    match = _NUMBER.fullmatch(number)
    if match is None:
        raise ValueError(f"{number!r} is no number")
    return _printed(of, number, start, "", "", _scale(of, unit))


def _printed(of: Metric, number: str, start: int, between: str, suffix: str, scale: Fraction) -> Printed:
    mantissa, _, exponent = re.sub(r"[,_'’\u00a0\u2009\u202f ]", "", number).lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    power = Fraction(10) ** int(exponent or 0)
    return Printed(
        start=start,
        end=start + len(number) + len(between) + len(suffix),
        value=Fraction(mantissa) * power * scale,
        step=power * scale / 10**decimals,
        scale=scale,
        number=number,
        between=between,
        suffix=suffix,
    )


def holds(printed: Printed, value: float) -> bool:
    """Whether a number is what is printed, to the digits that are printed."""
    return 2 * abs(Fraction(value) - printed.value) <= printed.step


# ------------------------------------------------------------------------------------------------ the same with other numbers


def expected(of: Metric, a: Analysis, count: int) -> list[float]:
    """The numbers that a cell with so many should say. Raises ValueError where the analysis has no interval."""
    if count == 1:
        return [of.of(a)]
    if a.totals.interval is None:
        raise ValueError("this time has no interval")
    return [of.of(a), a.totals.interval.low_s, a.totals.interval.high_s]


def again(of: Metric, text: str, printed: list[Printed], values: list[float]) -> str:
    """The cell with these numbers, each as it was printed; what holds stays as it is."""
    moved = bool(printed[0].suffix) and not _fits(printed[0], values[0])
    if moved and (interval := _INTERVAL.search(text)):
        low, high = map(units.seconds, values[1:])
        return f"{text[: printed[0].start]}{units.seconds(values[0])} ({low} to {high}){text[interval.end() :]}"
    for one, value in sorted(zip(printed, values, strict=True), key=lambda pair: -pair[0].start):
        if moved and one is printed[0]:
            new = _rescaled(of, one, value)
        elif holds(one, value):
            continue
        else:
            new = _digits(one, value) + one.between + one.suffix
        text = text[: one.start] + new + text[one.end :]
    return text


def _fits(one: Printed, value: float) -> bool:
    """Whether a number can be read in the unit of another: it has digits left, and not four of them before the point."""
    old, new = one.value / one.scale, Fraction(value) / one.scale
    large = new >= 1000 and old < 1000
    return not large and (value == 0 or new >= 1 or new * 10 >= min(old, Fraction(1)))


def _significant(one: Printed) -> int:
    mantissa = re.sub(r"[^\d]", "", one.number.lower().partition("e")[0])
    return max(len(mantissa.lstrip("0")), 1)


def _digits(one: Printed, value: float) -> str:
    """A number in the unit and with the decimals of another, more of them where none would be left."""
    mantissa, mark, exponent = one.number.partition("E" if "E" in one.number else "e")
    if mark:
        decimals = len(mantissa.partition(".")[2])
        digits, _, power = f"{float(Fraction(value) / one.scale):.{decimals}e}".partition("e")
        width = re.sub(r"[+-]", "", exponent)
        return f"{digits}{mark}{'+' if exponent[0] == '+' and int(power) >= 0 else ''}{_power(int(power), len(width))}"
    decimals = len(mantissa.partition(".")[2])
    scaled = Fraction(value) / one.scale
    while scaled and round(scaled * 10**decimals) == 0 and decimals < 12:
        decimals += 1
    whole = str(round(scaled * 10**decimals)).rjust(decimals + 1, "0")
    head, tail = (whole[:-decimals], whole[-decimals:]) if decimals else (whole, "")
    if sep := re.search(r"\d([^\d.])\d{3}", mantissa):
        head = f"{int(head):,}".replace(",", sep[1])
    return f"{head}.{tail}" if tail else head


def _power(power: int, width: int) -> str:
    return ("-" if power < 0 else "") + str(abs(power)).rjust(width, "0")


def _rescaled(of: Metric, one: Printed, value: float) -> str:
    """A number that is too far from the one that stood there for its unit, with as many digits in another."""
    digits = max(_significant(one), 2)
    if of.unit == "s":
        number, unit = units.seconds(value, digits).split(" ")
    elif of.unit == "J":
        number, unit = units.joules(value, digits).split(" ")
    elif of.unit == "B":
        number, unit = (units.binary(value, digits) if "i" in one.suffix else units.si(value, "B", digits)).split(" ")
    else:
        number, _, prefix = units.si(value, "", digits).partition(" ")
        unit = prefix + re.sub(r"^[kKMGTPB]", "", one.suffix).lstrip()
        unit = f"{prefix} {unit[len(prefix) :]}" if " " in one.suffix else unit
    return number + one.between + unit


def new(of: Metric, column: Column, value: float) -> str:
    """A number for a cell that asks for one: in the unit of its heading, else as it reads best, with three digits."""
    if not column.unit:
        return units.si(value) if of.unit == "count" and value < 1e6 and value == int(value) else _best(of, value)
    scaled = value / float(_scale(of, column.unit))
    return f"{scaled:.3g}" if scaled < 1000 else f"{scaled:.0f}"


def _best(of: Metric, value: float) -> str:
    # the heading says what is counted
    return units.si(value, "", 3) if of.unit in ("count", "FLOP") else metrics.text(of, value, 3)


def bound_of(text: str) -> str:
    """The bound that a cell names. Raises ValueError."""
    said = [name for name in BOUNDS if re.search(rf"\b{name}\b", text, re.IGNORECASE)]
    if len(said) != 1:
        raise ValueError(f"it is none of {', '.join(BOUNDS)}{nearest(plain(text).lower(), BOUNDS)}")
    return said[0]


def other_bound(text: str, said: str, bound: str) -> str:
    """The cell with another bound."""
    match = re.search(rf"\b{said}\b", text, re.IGNORECASE)
    assert match is not None
    new = bound.capitalize() if match[0][:1].isupper() else bound
    return text[: match.start()] + new + text[match.end() :]
