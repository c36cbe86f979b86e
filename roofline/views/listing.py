"""Lists as aligned plain text: devices, models, budgets, differences. No rich, so they answer at once and pipe well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from roofline import units
from roofline.analysis.limits import raised, words
from roofline.analysis.metrics import BY_NAME, percent, text
from roofline.devices.device import Declared, numbers

if TYPE_CHECKING:
    from roofline.analysis.changes import LayerChange
    from roofline.analysis.diff import Diff
    from roofline.analysis.limits import Finding, Verdict
    from roofline.bench.calibration import Calibration
    from roofline.cache.store import CacheInfo
    from roofline.devices.device import Device, Level, Number, Peak
    from roofline.validation.known import Fitted

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def safe(name: str) -> str:
    """A name cannot move the cursor, colour the terminal or break the line."""
    return "".join(c if c.isprintable() else "?" for c in name)


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


# ------------------------------------------------------------------------------------------------ budgets


def verdicts(found: Sequence[Verdict], paint: Painter = PLAIN, skipped: int = 0) -> str:
    """One line per limit, the broken ones marked, the layers that broke them, and a closing line."""
    rows, broken = [], 0
    for v in found:
        for f in v.findings:
            of = BY_NAME[f.metric]
            used = units.share(f.actual / f.limit) if f.limit else ""
            broken += f.broken
            mark = "FAIL" if f.broken else "ok" if f.ok else "took" if f.accepted else "warn"
            may = "" if f.limit is None else text(of, f.limit)
            change = f"{f.change} of {text(of, f.base)}" if f.base is not None else f.change
            rows.append([mark, v.budget, v.device, f.key, text(of, f.actual), may, used, f.why or change])
    table = columns(["", "MODEL", "DEVICE", "LIMIT", "IS", "MAY BE", "USED", ""], rows, "llllrrr", paint)
    colours = {"FAIL": "red", "warn": "yellow", "took": "yellow"}
    lines = [paint(line, colours[line[:4]]) if line[:4] in colours else line for line in table.splitlines()]
    lines += [f"      {safe(v.budget)} {safe(f.key)}: {safe(raised(f))}" for v in found for f in _telling(v)]
    for (note, device), names in _notes(found).items():
        who = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        lines.append(paint(f"note  {safe(who)}  {safe(device)}  {safe(note)}", "yellow"))
    failed = [v for v in found if v.error]
    lines += [paint(f"FAIL  {safe(v.budget)}  {safe(v.device)}  not checked: {safe(v.error)}", "red") for v in failed]
    limits = f"{len(rows)} limit{'s' * (len(rows) != 1)}"
    closing = f"{broken} of {limits} broken" if broken else f"{limits} kept"
    if failed:
        closing += f", {len(failed)} of {len(found)} budgets not checked"
    if skipped:
        closing += f", {skipped} left out after the first that failed"
    closing = paint(closing, "red" if broken or failed else "green")
    return "\n".join([*lines, closing]) + "\n"


def _notes(found: Sequence[Verdict]) -> dict[tuple[str, str], list[str]]:
    """Each note, and the device, once: of which budgets it is."""
    said: dict[tuple[str, str], list[str]] = {}
    for v in found:
        for note in dict.fromkeys((v.note, *v.notes)):
            if note and v.budget not in said.setdefault((note, v.device), []):
                said[note, v.device].append(v.budget)
    return said


def _telling(v: Verdict) -> list[Finding]:
    """The findings whose layers are named: of a metric one, the gravest."""
    failed = {f.metric for f in v.findings if f.broken}
    return [f for f in v.findings if f.layers and (f.broken or f.metric not in failed)]


def baseline(old: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]], paint: Painter = PLAIN) -> str:
    """What changes in a baseline: budget -> metric -> number, before and after."""
    rows = []
    for key in sorted({*old, *new}):
        if key not in old or key not in new:
            rows.append(["+" if key in new else "-", key, "", "", "", ""])
            continue
        for name, value in new[key].items():
            of, before = BY_NAME[name], old[key].get(name)
            if before is not None and before != value:
                relative = percent((value - before) / before if before else None)
                rows.append(["~", key, name, text(of, before), text(of, value), relative])
    return (
        columns(["", "BUDGET", "METRIC", "WAS", "IS", "CHANGE"], rows, "lllrrr", paint)
        if rows
        else "the baseline is as it was\n"
    )


def github(found: Sequence[Verdict], file: str = "") -> str:
    """Broken limits and notes as GitHub workflow commands, which mark lines of the budget file and of the model in a pull
    request. `file`: the budget file of all."""
    lines = []
    for v in found:
        where = file or v.file

        def mark(level: str, line: int, message: str, where: str = where, v: Verdict = v) -> None:
            lines.append(annotation(level, where, line, "roofline budget", f"{v.budget} on {v.device}: {message}"))

        if v.note:
            mark("warning", v.line, v.note)
        if v.error:
            mark("error", v.line, f"not checked: {v.error}")
        for f in v.findings:
            if not f.ok:
                level = "error" if f.broken else "warning"
                mark(level, f.line, f"{f.key}: {words(f)}")
                if v.source:
                    mark("notice", v.source_line, f"{f.key}: {words(f)}", v.source)
    return "".join(lines)


def annotation(level: str, file: str, line: int, title: str, message: str) -> str:
    """A GitHub workflow command that marks a line of a file."""
    return f"::{level} file={_property(file)},line={line or 1},title={title}::{_command(safe(message))}\n"


def _command(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _command(text).replace(":", "%3A").replace(",", "%2C")


# ------------------------------------------------------------------------------------------------ differences


_MARKS = {"added": "+", "removed": "-", "changed": "~", "renamed": ">", "moved": ">"}


def diff(d: Diff, paint: Painter = PLAIN, top: int = 20) -> str:
    """Settings that differ, every metric on both sides, and the `top` layers that changed, largest change of time first."""
    out = [f"{paint(safe(d.base), 'bold')} -> {paint(safe(d.head), 'bold')}"]
    out += [safe(d.setting)] if d.setting else []
    out += [paint(f"setting differs: {safe(line)}", "yellow") for line in d.settings]
    if d.same:
        return "\n".join([*out, "no difference"]) + "\n"
    rows = [[c.metric, text(BY_NAME[c.metric], c.base), text(BY_NAME[c.metric], c.head), percent(c.relative)] for c in d.totals]
    table = columns(["TOTAL", "BASE", "HEAD", "CHANGE"], rows, "lrrr", paint).splitlines()
    for index, change in enumerate(d.totals, 1):
        if change.base != change.head:
            worse = (change.head > change.base) == BY_NAME[change.metric].cost
            table[index] = paint(table[index], "red" if worse else "green")
    out += table
    layers, shifted = d.shown
    if layers:
        rows = [
            [_MARKS[c.what], *named(c), *(units.si(n) for n in c.flops), *(units.seconds(t) for t in c.time_s)]
            for c in layers[:top]
        ]
        head = ["", "LAYER", "TYPE", "FLOPS", "->", "TIME", "->"]
        out += ["", columns(head, rows, "lllrrrr", paint).rstrip("\n")]
        if len(layers) > top:
            out.append(f"... and {len(layers) - top} more (--json lists them all)")
    if shifted:
        out += ["", f"{len(shifted)} layers do what they did, and take {shift(shifted)} for what runs around them"]
    out += ["", safe(d.effect)] if d.effect else []
    return "\n".join(out) + "\n"


def shift(layers: Sequence[LayerChange]) -> str:
    """What a change of time adds up to over layers: "12 us more"."""
    delta = sum(c.time_s[1] - c.time_s[0] for c in layers)
    return f"{units.seconds(abs(delta))} {'less' if delta < 0 else 'more'}"


def named(c: LayerChange) -> tuple[str, str]:
    """A changed layer and its type, with what it was where that is not the same."""
    path = c.path or "(the model itself)"
    if c.base_path:
        path = f"{c.base_path} -> {path}"
    elif not c.whole and c.path:
        path += " (itself)"
    return path, f"{c.base_type} -> {c.type}" if c.base_type else c.type


# ------------------------------------------------------------------------------------------------ cache


def cache(info: CacheInfo) -> str:
    """Where it is, what it holds."""
    lines = [f"{info.root}", f"{entries(info.entries)}, {units.binary(info.nbytes)} of at most {units.binary(info.limit)}"]
    lines += [f"  {kind}: {count}, {units.binary(nbytes)}" for kind, (count, nbytes) in info.kinds.items()]
    return "\n".join(lines) + "\n"


def entries(count: int) -> str:
    """As in "1 entry", "2 entries"."""
    return f"{count} {'entry' if count == 1 else 'entries'}"
