"""A device as the TOML text that `file.read` takes back: what `roofline calibrate` writes."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from roofline.devices.device import BY_CLASS, Device, Level, Number, Peak, declared, numbers
from roofline.units import Unit, si


def write(device: Device) -> str:
    """The device's file. Numbers keep ten digits."""
    lines = [f"{key} = {_text(getattr(device, key))}" for key in ("name", "title", "kind", "vendor", "arch", "tier")]
    if device.aliases:
        lines.append(f"aliases = [{', '.join(map(_text, device.aliases))}]")
    if device.released is not None:
        lines.append(f"released = {device.released}")
    lines += ["notes = [", *(f"  {_text(note)}," for note in device.notes), "]"]
    if device.notes_below_fp32:
        lines += ["notes_below_fp32 = [", *(f"  {_text(note)}," for note in device.notes_below_fp32), "]"]
    lines += [f"isa = {_text(device.isa)}"] if device.kind == "cpu" else []
    lines += [f"{key} = {value}" for key in ("simd_bits", "threads") if (value := getattr(device, key))]
    lines += ["", *(f"{name} = {_number(number, of.unit)}" for name, of, number in numbers(device))]
    for kind, table in (("tensor", device.tensor), ("vector", device.vector)):
        lines += ["", f"[{kind}]", *(f"{_text(key)} = {_peak(peak)}" for key, peak in table.items())]
    for level in device.levels:
        lines += ["", "[[level]]", *_level(level)]
    for name, rows in (("cores", device.cores), ("scaling", device.scaling)):
        for row in rows:
            lines += ["", f"[[{name}]]", *_record(row)]
    lines += ["", "[known]", *_record(device.known)] if device.known else []
    for name, of in BY_CLASS.items():
        if table := getattr(device, name):
            lines += ["", f"[{name}]", *(f"{_text(key)} = {_number(number, of.unit)}" for key, number in table.items())]
    lines += ["", "[sources]", *(f"{_text(key)} = {_text(words)}" for key, words in device.sources.items())]
    return "\n".join(lines) + "\n"


def _text(words: str) -> str:
    """A basic string of TOML: quotes, backslashes and control characters escaped."""
    escaped = words.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _value(value: float, unit: Unit) -> str:
    """With a prefix where that reads better; seconds and plain numbers as they are."""
    if unit in ("s", "1"):
        return _text(f"{value * 1e6:.10g} us") if unit == "s" else f"{value:.10g}"
    return _text(si(value, unit, 10))


def _record(row: Struct) -> list[str]:
    """A record of words, whole numbers and plain quantities."""
    lines, of = [], declared(type(row))
    for name in row.__struct_fields__:
        value = getattr(row, name)
        text = _text(value) if isinstance(value, str) else value if isinstance(value, int) else _value(value, of[name].unit)
        lines.append(f"{name} = {text}")
    return lines


def _row(parts: Iterable[tuple[str, str]]) -> str:
    return "{ " + ", ".join(f"{key} = {value}" for key, value in parts) + " }"


def _known(source: str, status: str) -> list[tuple[str, str]]:
    return [*([("source", _text(source))] if source else []), ("status", _text(status))]


def _beside(nominal: float, spread: float, unit: Unit) -> list[tuple[str, str]]:
    return [*([("nominal", _value(nominal, unit))] if nominal else []), *([("spread", f"{spread:.3g}")] if spread else [])]


def _number(n: Number, unit: Unit) -> str:
    return _row([("value", _value(n.value, unit)), *_known(n.source, n.status), *_beside(n.nominal, n.spread, unit)])


def _peak(p: Peak) -> str:
    value, *more = [(name, _value(n, of.unit)) for name, of in declared(Peak).items() if (n := getattr(p, name))]
    return _row([value, *more, *_known(p.source, p.status), *_beside(p.nominal, p.spread, "FLOP/s")])


def _level(level: Level) -> list[str]:
    size = [("value", _bytes(level.size)), *_known(level.size_source, level.size_status)]
    size += [("nominal", _bytes(level.size_nominal))] if level.size_nominal else []
    rate = [("value", _value(level.bandwidth, "B/s")), *_known(level.source, level.status)]
    lines = [f"name = {_text(level.name)}", f"size = {_row(size)}"]
    lines.append(f"bandwidth = {_row([*rate, *_beside(level.nominal, level.spread, 'B/s')])}")
    lines += [f"type = {_text(level.type)}"] if level.type else []
    lines += [f"bus_bits = {level.bus_bits}"] if level.bus_bits else []
    lines += [f"rate = {_value(level.rate, 'Hz')}"] if level.rate else []
    return lines


def _bytes(size: int) -> str:
    """Whole mebibytes where they are whole."""
    return _text(f"{size >> 20} MiB") if size and size % 2**20 == 0 else str(size)
