"""The colours and names that every view shares, so that one thing looks the same in the terminal, a picture and a page."""

from __future__ import annotations

from typing import NamedTuple

from roofline.classes import title
from roofline.dtypes import SHORT
from roofline.records import BOUNDS, DeviceInfo
from roofline.units import si

# apart in the common kinds of colour blindness too; words on them are readable (4.5:1) in BOUND_TEXT
BOUND_COLOUR = {"compute": "#2f5fc4", "instructions": "#e3a008", "memory": "#c2410c", "overhead": "#6b7280"}
BOUND_TEXT = {"compute": "#ffffff", "instructions": "#16202e", "memory": "#ffffff", "overhead": "#ffffff"}
# for the terminal; and where it has no colour, with "" for a full block
BOUND_STYLE = {"compute": "blue", "instructions": "yellow", "memory": "red", "overhead": "bright_black"}
BOUND_SIGN = {"compute": "", "instructions": "+", "memory": "=", "overhead": "."}


# models or devices beside each other
SERIES = ("#2f6fde", "#f08a00", "#14955f", "#d83a8f", "#7a4fd0", "#13a5c8", "#8a5a2b", "#b8a100")

# how far colours go toward white on dark paper
LIGHTER = 0.22


class ClassStyle(NamedTuple):
    """How one class of kernel is drawn. The marker tells families apart without colour."""

    title: str
    colour: str
    # "o" matrix work, "D" arithmetic per element, "s" data movement
    marker: str


# No two of a colour; the common ones stay apart in the common kinds of colour blindness too, the others by marker.
_INKS = {
    "conv": ("#2f6fde", "o"),
    "depthwise_conv": ("#f08a00", "o"),
    "grouped_conv": ("#13a5c8", "o"),
    "gemm": ("#7a4fd0", "o"),
    "attention": ("#d83a8f", "o"),
    "rnn": ("#8a5a2b", "o"),
    "pointwise": ("#14955f", "D"),
    "norm": ("#b8a100", "D"),
    "softmax": ("#ef6a5b", "D"),
    "reduction": ("#0d6b78", "D"),
    "pool": ("#a992f5", "D"),
    "fft": ("#c79a63", "D"),
    "layout": ("#6b7280", "s"),
    "gather": ("#86bf3c", "s"),
    "sort": ("#5f5b00", "s"),
    "host": ("#b4bcc9", "s"),
    "other": ("#8f7d76", "s"),
}
CLASSES: dict[str, ClassStyle] = {k: ClassStyle(title(k), *ink) for k, ink in _INKS.items()}


def class_style(klass: str) -> ClassStyle:
    """The style of a class; a class that is not listed keeps its own name."""
    return CLASSES.get(klass) or CLASSES["other"]._replace(title=title(klass))


def fullest(time_by_bound: dict[str, float]) -> list[tuple[str, float]]:
    """Bounds with their seconds in the fixed order of BOUNDS, unknown names last, empty ones left out."""
    order = [*BOUNDS, *(b for b in time_by_bound if b not in BOUNDS)]
    return [(b, time_by_bound[b]) for b in order if time_by_bound.get(b, 0) > 0]


def roofs(peaks: dict[str, float], used: str, dtypes: set[str], peak_flops: float) -> list[tuple[str, float]]:
    """The compute roofs worth a line, highest first: the one that bounds the analysis, and those of the kernels' dtypes.

    `peaks` has "tensor fp16/fp32" (operand and accumulate type) for matrix units and "vector fp32" for vector units;
    `dtypes` are torch names. Roofs within 3 % of each other share a line. Sums in less than fp32 are left out unless
    they are the bound, as PyTorch does not use them.
    """
    wanted = {SHORT.get(d, d) for d in dtypes} | {"fp16" if used == "amp" else used}

    def near(a: float, b: float) -> bool:
        return abs(a - b) <= 0.03 * b

    def fits(key: str) -> bool:
        operand, _, total = key.split(" ")[-1].partition("/")
        return operand in wanted and total not in ("fp16", "bf16")

    lines: list[tuple[str, float]] = []
    for key, value in sorted(peaks.items(), key=lambda kv: (-kv[1], not fits(kv[0]))):
        if (fits(key) or near(value, peak_flops)) and not any(near(value, v) for _, v in lines):
            lines.append((roof_title(key), value))
    if not any(near(v, peak_flops) for _, v in lines):
        lines.append((f"{used} peak", peak_flops))
    return sorted(lines, key=lambda line: -line[1])


class Slope(NamedTuple):
    """A memory level's roof: what times rest on, and what the data sheet says."""

    name: str
    reached: float
    nominal: float


def slopes(device: DeviceInfo) -> list[Slope]:
    """The memory roofs, nearest first, DRAM last."""
    found = [Slope(lv.name, lv.reached or lv.bandwidth, lv.bandwidth) for lv in device.levels if lv.bandwidth > 0]
    return found or [Slope("DRAM", device.bandwidth, device.bandwidth)]


def kept(device: DeviceInfo) -> float:
    """The fraction of its peak that the device keeps under load."""
    return device.reached_flops / device.peak_flops if device.reached_flops and device.peak_flops else 1.0


def of_nominal(reached: float, nominal: float, unit: str) -> str:
    """ "907 GB/s", and what the data sheet says where it is another number: "907 GB/s (nominal 1.01 TB/s)"."""
    words = si(reached, unit, 3)
    return words if si(nominal, unit, 3) == words else f"{words} (nominal {si(nominal, unit, 3)})"


def roof_title(key: str) -> str:
    """ "tensor fp16/fp32" -> "fp16 matrix units", "vector fp32" -> "fp32 vector units"."""
    unit, _, types = key.partition(" ")
    operand, _, total = types.partition("/")
    if unit == "vector":
        return f"{operand} vector units"
    return f"{operand} matrix units" + (f" ({total} sums)" if total in ("fp16", "bf16") else "")
