"""Read and print quantities: "165.2 TFLOP/s", "72 MiB", "1.008 TB/s", "4.5 us".

Decimal prefixes are powers of 1000, Ki, Mi and Gi of 1024.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fractions import Fraction

Unit = Literal["FLOP/s", "B/s", "B", "s", "Hz", "W", "J", "FLOP", "1"]

_PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_SMALL = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12}
_UP_TO_ONE = [("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("", 1.0)]
_TIMES = {"s": 1.0, "min": 60.0, "h": 3600.0}
# Other spellings of a unit, as people write them.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "FLOP/s": ("FLOP/s", "FLOPS", "FLOPs/s", "OP/s", "OPS", "OPs/s"),
    "B/s": ("B/s",),
    "B": ("B",),
    "Hz": ("Hz",),
    "W": ("W",),
    "J": ("J",),
    "FLOP": ("FLOP", "FLOPs", "OP", "OPs"),
}
_EXAMPLE = {
    "FLOP/s": "165.2 TFLOP/s",
    "B/s": "1008 GB/s",
    "B": "72 MiB",
    "s": "4.5 us",
    "Hz": "2.52 GHz",
    "W": "450 W",
    "J": "12 mJ",
    "FLOP": "1.2 GFLOP",
    "1": "0.85",
}
_QUANTITY = r"\s*([+-]?(?:(?:\d{1,3}(?:[_,]\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*\Z"


def _scales(unit: str) -> dict[str, float]:
    """Every accepted way to write `unit` -> its factor to the base unit."""
    if unit == "1":
        return {"": 1.0, "%": 0.01, "x": 1.0}
    if unit == "s":
        return {"": 1.0, **_TIMES, **{small + "s": factor for small, factor in _SMALL.items()}}
    scales = {"": 1.0}
    for spelling in _SPELLINGS[unit]:
        for prefix, factor in _PREFIX.items():
            scales[prefix + spelling] = factor
        scales["K" + spelling] = 1e3
        if unit in ("B", "B/s"):
            for prefix, factor in _BINARY.items():
                scales[prefix + spelling] = factor
        if unit == "W":
            scales["mW"] = 1e-3
        if unit == "J":
            scales |= {small + "J": factor for small, factor in _SMALL.items()} | {"Wh": 3.6e3, "kWh": 3.6e6}
    return scales


@cache
def _accepted(unit: str) -> dict[str, float]:
    return _scales(unit)


def parse(text: str | float, unit: Unit) -> float:
    """Value of `text` in the base unit; a plain number is in it already. Raises ValueError that says what was expected."""
    if not isinstance(text, str):
        if isinstance(text, bool) or not isinstance(text, (int, float)) or not abs(text) <= 1e308:
            raise ValueError(f"expected {_wanted(unit)}, got {text!r}")
        return float(text)
    plain, _, suffix = text.partition(" ")
    if plain.isascii() and plain.replace(".", "", 1).isdigit() and suffix in _accepted(unit):
        return _finite(text, unit, float(plain) * _accepted(unit)[suffix])  # most are so, and wait for no regular expression
    match = re.match(_QUANTITY, text)
    if match is None:
        raise ValueError(f"expected {_wanted(unit)}, got {text!r}")
    suffix = match[2]
    factor = _accepted(unit).get(suffix)
    if factor is None:
        raise ValueError(f"expected {_wanted(unit)}, got {text!r}: {_complaint(suffix, unit)}")
    return _finite(text, unit, float(match[1].replace(",", "").replace("_", "")) * factor)


def exact(text: str | float, unit: Unit) -> Fraction:
    """As `parse`, to the last digit: "2.3 GB" is 2,300,000,000 B, and not the nearest product of two floats."""
    from fractions import Fraction  # here: it brings decimals along, which only budgets need

    value = parse(text, unit)
    match = re.match(_QUANTITY, text) if isinstance(text, str) else None
    if match is None:
        return Fraction(value)
    # a factor is written in a few decimal digits, and its float is not always that number
    return Fraction(match[1].replace(",", "").replace("_", "")) * Fraction(repr(_accepted(unit)[match[2]]))


def _finite(text: str, unit: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"expected {_wanted(unit)}, got {text!r}: out of range")
    if value == 0 and re.match(r"[^eE]*[1-9]", text.partition(" ")[0]):  # so small that it would be none
        raise ValueError(f"expected {_wanted(unit)}, got {text!r}: out of range")
    return value


def _wanted(unit: str) -> str:
    return f'a plain number like "{_EXAMPLE[unit]}"' if unit == "1" else f'a number in {unit} like "{_EXAMPLE[unit]}"'


def _complaint(suffix: str, unit: str) -> str:
    for other in _EXAMPLE:
        if other != unit and suffix and suffix in _scales(other):
            return f"{suffix!r} is a unit of {other}"
    near = next((known for known in _scales(unit) if known and known.lower() == suffix.lower()), None)
    return f"{suffix!r} is no unit known here" + (f"; did you mean {near!r}?" if near else "")


def _digits(value: float, digits: int) -> str:
    """`value` with `digits` significant digits, trailing zeros dropped, never in exponent form for 0.001 to 9999."""
    if value == 0:
        return "0"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _prefixed(value: float, steps: list[tuple[str, float]], digits: int) -> tuple[str, str]:
    """The largest step that leaves the printed number at 1 or above; steps ascend."""
    best = 0
    for index, (_, factor) in enumerate(steps):
        # 999.96 prints as 1000 with four digits: the next step reads better.
        if float(f"{abs(value) / factor:.{digits - 1}e}") >= 1:
            best = index
    prefix, factor = steps[best]
    return _digits(value / factor, digits), prefix


def si(value: float, unit: str = "", digits: int = 4) -> str:
    """`value` with a decimal prefix: si(4.332e8, "FLOP") -> "433.2 MFLOP"."""
    if not math.isfinite(value):
        return f"{value} {unit}".rstrip()
    number, prefix = _prefixed(value, list(_PREFIX.items()), digits)
    return f"{number} {prefix}{unit}".rstrip()


def count(value: float) -> str:
    """A count with three digits: count(5_483_032) -> "5.48 M"."""
    return si(value, digits=3)


def binary(nbytes: float, digits: int = 3) -> str:
    """Bytes with a binary prefix: binary(22_963_814) -> "21.9 MiB"."""
    if not math.isfinite(nbytes):
        return f"{nbytes} B"
    number, prefix = _prefixed(nbytes, [("", 1.0), *_BINARY.items()], digits)
    return f"{number} {prefix}B"


def seconds(value: float, digits: int = 3) -> str:
    """A time: seconds(0.00123) -> "1.23 ms"."""
    if not math.isfinite(value):
        return f"{value} s"
    if value == 0:
        return "0 s"
    number, prefix = _prefixed(value, _UP_TO_ONE, digits)
    return f"{number} {prefix}s"


def joules(value: float, digits: int = 3) -> str:
    """An energy: joules(0.0123) -> "12.3 mJ"."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g} J"
    number, prefix = _prefixed(value, [*_UP_TO_ONE, *list(_PREFIX.items())[1:]], digits)
    return f"{number} {prefix}J"


def percent(part: float, whole: float) -> str:
    """Share as people read it: "34 %", "2.1 %", "<0.1 %"; empty whole is "0 %"."""
    share = 100 * part / whole if whole else 0.0
    if share == 0:
        return "0 %"
    if share < 0.1:
        return "<0.1 %"
    # one that is not the whole must not read as the whole; sums in another order differ in their last digits
    if 99.5 <= share < 100 - 1e-6:
        return f"{min(share, 99.9):.1f} %"
    return f"{share:.1f} %" if share < 9.95 else f"{share:.0f} %"


def share(fraction: float, digits: int = 0) -> str:
    """A fraction in percent with fixed decimals, for columns: share(0.123) -> "12 %"."""
    return f"{100 * fraction:.{digits}f} %"


def change(fraction: float, digits: int = 1) -> str:
    """A relative change in percent, with its sign: change(0.052) -> "+5.2 %"."""
    return f"{100 * fraction:+.{digits}f} %"
