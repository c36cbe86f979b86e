"""Lists as aligned plain text: devices, models, the cache. No rich, so they answer at once and pipe well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from roofline import units
from roofline.devices.device import Declared, numbers
from roofline.errors import safe

if TYPE_CHECKING:
    from roofline.bench.calibration import Calibration
    from roofline.cache.store import CacheInfo
    from roofline.devices.device import Device, Level, Number, Peak
    from roofline.validation.known import Fitted

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Painter:
    """Colours text if the stream is a terminal that wants it, else leaves it as it is."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, style: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colour and text else text


PLAIN = Painter(False)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: str = "", paint: Painter = PLAIN) -> str:
    """Aligned columns, two blanks apart; `right` has an "r" for each column that is flushed right. Ends with a newline."""
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    align = right.ljust(len(head), "l")

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if a == "r" else c.ljust(w) for c, w, a in zip(row, widths, align, strict=True)).rstrip()

    return "\n".join([paint(line(head), "bold"), *(line(row) for row in cells)]) + "\n"


# ------------------------------------------------------------------------------------------------ devices and models


def devices(found: Sequence[Device], paint: Painter = PLAIN) -> str:
    """One line per device: best dense peak in fp32 and in fp16, DRAM bandwidth, fp32 ridge."""
    rows = []
    for d in found:
        fp32 = _best(d, "fp32")
        half = _half(d)
        rows.append(
            [
                d.name,
                d.kind,
                units.si(fp32, "FLOP/s", 3) if fp32 else "",
                units.si(half, "FLOP/s", 3) if half else "",
                units.si(d.bandwidth, "B/s", 3),
                units.si(fp32 / d.bandwidth, digits=3) if fp32 and d.bandwidth else "",
                d.title,
            ]
        )
    return columns(["NAME", "KIND", "FP32", "FP16/BF16", "DRAM", "RIDGE", "TITLE"], rows, "llrrrr", paint)


# what lists of devices can be sorted by
ORDERS: dict[str, Callable[[Device], float]] = {
    "fp32": lambda d: _best(d, "fp32"),
    "half": lambda d: _half(d),
    "dram": lambda d: d.bandwidth,
    "ridge": lambda d: _best(d, "fp32") / d.bandwidth,
    "power": lambda d: d.tdp.value if d.tdp else 0.0,
    "year": lambda d: d.released or 0,
}


def compare(found: Sequence[Device], paint: Painter = PLAIN) -> str:
    """Devices side by side, one fact a line; numbers with their ratio to the first device's."""
    numbers: list[tuple[str, units.Unit, Callable[[Device], float]]] = [
        ("fp32", "FLOP/s", lambda d: _best(d, "fp32")),
        ("tf32", "FLOP/s", lambda d: _best(d, "tf32")),
        ("fp16 or bf16", "FLOP/s", _half),
        ("int8", "FLOP/s", lambda d: _best(d, "int8")),
        ("fp8", "FLOP/s", lambda d: _best(d, "fp8")),
        ("DRAM", "B/s", lambda d: d.bandwidth),
        ("last cache", "B", lambda d: d.levels[-2].size if len(d.levels) > 1 else 0),
        ("fp32 ridge, FLOP/B", "1", ORDERS["ridge"]),
        ("half ridge, FLOP/B", "1", lambda d: _half(d) / d.bandwidth),
        ("units", "1", lambda d: d.units.value),
        ("clock", "Hz", lambda d: d.clock.value),
        ("power", "W", ORDERS["power"]),
        ("launch", "s", lambda d: d.launch.value),
        ("host per op", "s", lambda d: d.host.value),
    ]
    rows = [
        [name, *(get(d) for d in found)]
        for name, get in (
            ("kind", lambda d: d.kind),
            ("arch", lambda d: d.arch),
            ("released", lambda d: str(d.released or "")),
            ("DRAM size", lambda d: units.binary(d.levels[-1].size) if d.levels[-1].size else ""),
        )
    ]
    for name, unit, get in numbers:
        values = [get(d) for d in found]
        if any(values):
            rows.append([name, *(_beside(v, values[0], unit, i > 0) for i, v in enumerate(values))])
    return columns(["", *(d.name for d in found)], rows, "l" + "r" * len(found), paint)


def _beside(value: float, first: float, unit: units.Unit, ratio: bool) -> str:
    if not value:
        return "-" + " " * 7 * ratio
    if unit == "1":
        words = f"{value:.4g}"
    else:
        words = units.seconds(value) if unit == "s" else units.binary(int(value)) if unit == "B" else units.si(value, unit, 3)
    return words + (f" {value / first:5.2f}x" if ratio and first else " " * 7 if ratio else "")


def _half(device: Device) -> float:
    return max(_best(device, "fp16"), _best(device, "bf16"))


def _best(device: Device, dtype: str) -> float:
    """The dtype's peak in FLOP/s, 0 where the device has none."""
    return device.peak(dtype) if device.has(dtype) else 0.0


def device(d: Device, paint: Painter = PLAIN) -> str:
    """Every number of one device with its status and source."""
    facts = [d.kind, d.vendor, d.arch, str(d.released or ""), f"{d.tier} numbers"]
    out = [f"{paint(safe(d.title), 'bold')}  ({safe(d.name)})", "  " + safe(", ".join(f for f in facts if f))]
    if d.aliases:
        out.append("  also called " + safe(", ".join(d.aliases)))
    rows = []

    def row(name: str, value: str, of: Peak | Level | Number, was: str = "") -> None:
        beside = f"; {was} before" if was else ""
        rows.append([name, value, of.status, d.sources.get(of.source, of.source) + beside])

    for kind, table in (("tensor", d.tensor), ("vector", d.vector)):
        for key, peak in table.items():
            row(f"{kind} {key}", units.si(peak.value, "FLOP/s"), peak, units.si(peak.nominal, "FLOP/s") if peak.nominal else "")
    for level in d.levels:
        size = f"{units.binary(level.size)}, " if level.size else ""
        was = units.si(level.nominal, "B/s") if level.nominal else ""
        row(level.name, size + units.si(level.bandwidth, "B/s"), level, was)
    for _, of, number in numbers(d):
        row(
            of.title,
            _shown(of, number.value),
            number,
            _shown(of, number.nominal) if number.nominal and (of.unit == "s" or number.status == "fitted") else "",
        )
    listed = columns(["NUMBER", "VALUE", "STATUS", "SOURCE"], rows, "lr", paint)
    notes = "".join(f"note: {safe(note)}\n" for note in d.notes)
    return "\n".join(out) + "\n\n" + listed + _by_class(d, paint) + notes


def _shown(of: Declared, value: float) -> str:
    if of.share:
        return units.share(value)
    return units.seconds(value) if of.unit == "s" else units.si(value, "" if of.unit == "1" else of.unit)


def _by_class(d: Device, paint: Painter) -> str:
    """What `roofline calibrate` measured by number of threads and by class of kernel; empty for other devices."""
    text = ""
    if d.scaling:
        rows = [[str(s.threads), units.si(s.fp32, "FLOP/s"), units.si(s.dram, "B/s")] for s in d.scaling]
        text += "\n" + columns(["THREADS", "FP32 GEMM", "DRAM"], rows, "rrr", paint)
    names = list(dict.fromkeys([*d.fixed, *d.flops, *d.bytes]))
    if names:
        rows = []
        for name in names:
            rate = units.si(d.flops[name].value, "FLOP/s") if name in d.flops else ""
            rate = units.si(d.bytes[name].value, "B/s") if name in d.bytes else rate
            rows.append([name, units.seconds(d.fixed[name].value) if name in d.fixed else "", rate])
        text += "\n" + columns(["KIND OF OP", "A TINY ONE", "A LARGE ONE"], rows, "lrr", paint)
    return text + "\n" if text else ""


def calibration(found: Calibration, paint: Painter = PLAIN) -> str:
    """What was measured, beside what was known before."""
    d = found.device
    out = [paint(safe(d.title), "bold"), ""]
    out.append(columns(["NUMBER", "MEASURED", "BEFORE", "SPREAD"], describe(d), "lrrr", paint).rstrip("\n"))
    out.append(_by_class(d, paint).rstrip("\n"))
    out += [f"note: {safe(note)}" for note in d.notes]
    seconds = f"{found.samples:,} samples in {found.seconds:.1f} s"
    return "\n".join([*out, f"{seconds}, {units.share(found.undisturbed / max(found.samples, 1))} of them undisturbed"]) + "\n"


def known(found: Fitted, paint: Painter = PLAIN) -> str:
    """Known times beside the predictions before and after, and what the device is now."""
    rows = [
        [safe(r.what), *map(units.seconds, (r.known_s, r.before_s, r.after_s)), units.change(r.after_s / r.known_s - 1)]
        for r in found.rows
    ]
    table = columns(["KNOWN TIME OF", "KNOWN", "BEFORE", "NOW", "OFF"], rows, "lrrrr", paint)
    notes = [f"note: {safe(note)}" for note in found.notes]
    return "\n".join([paint(safe(found.device.title), "bold"), "", table + "\n".join(notes)]) + "\n"


def describe(d: Device) -> list[list[str]]:
    """(number, measured, what was detected or published, spread) of what was measured."""
    rows: list[tuple[str, float, float, float, units.Unit]] = [
        *(
            (f"{kind} {key}", p.value, p.nominal, p.spread, "FLOP/s")
            for kind, table in (("tensor", d.tensor), ("vector", d.vector))
            for key, p in table.items()
            if p.status == "measured"
        ),
        *((x.name, x.bandwidth, x.nominal, x.spread, "B/s") for x in d.levels if x.status == "measured"),
    ]
    out = [[n, units.si(v, unit), units.si(was, unit) if was else "", units.share(spread)] for n, v, was, spread, unit in rows]
    out += [[f"{x.name} size", units.binary(x.size), units.binary(x.size_nominal), ""] for x in d.levels if x.size_nominal]
    for name, number in (("launch", d.launch), ("host per op", d.host)):
        spread = units.share(number.spread) if number.spread else ""
        out.append([name, units.seconds(number.value), units.seconds(number.nominal) if number.nominal else "", spread])
    return out


def models(found: Sequence[dict[str, str]], paint: Painter = PLAIN) -> str:
    """One line per model: the name to give, where it is defined, what it is."""
    return columns(["MODEL", "SOURCE", "ABOUT"], [[m["name"], m["source"], m["about"]] for m in found], paint=paint)


# ------------------------------------------------------------------------------------------------ cache


def cache(info: CacheInfo) -> str:
    """Where it is, what it holds."""
    lines = [f"{info.root}", f"{entries(info.entries)}, {units.binary(info.nbytes)} of at most {units.binary(info.limit)}"]
    lines += [f"  {kind}: {count}, {units.binary(nbytes)}" for kind, (count, nbytes) in info.kinds.items()]
    return "\n".join(lines) + "\n"


def entries(count: int) -> str:
    """As in "1 entry", "2 entries"."""
    return f"{count} {'entry' if count == 1 else 'entries'}"
