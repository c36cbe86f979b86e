"""Read a device's TOML file strictly: a wrong key or value is named with its file, its place, and what was expected there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import NODEFAULT, Struct
from msgspec.structs import replace

from roofline import files, units
from roofline.devices import lint, power
from roofline.devices.device import (
    BY_CLASS,
    ISAS,
    LEVELS,
    NUMBERS,
    STATUSES,
    TIERS,
    Cores,
    Declared,
    Device,
    Known,
    Level,
    Number,
    Peak,
    Scaling,
    declared,
)
from roofline.dtypes import TENSOR_NAMES, VECTOR_NAMES
from roofline.errors import DeviceFileError, close, nearest

_Row = TypeVar("_Row", bound=Struct)


class _Table:
    """One TOML table that is emptied as its keys are read; what is left at the end was misspelt."""

    def __init__(self, path: Path, where: str, data: object, sources: dict[str, str]) -> None:
        self.path, self.where, self.sources = path, where, sources
        if not isinstance(data, dict):
            raise DeviceFileError(f"{path}: {where or 'the file'}: expected a table, got {data!r}")
        self.data = dict(data)
        self.known: list[str] = []

    def fail(self, key: str, problem: str) -> DeviceFileError:
        return DeviceFileError(f"{self.path}: {self.where}{'.' if self.where else ''}{key}: {problem}")

    def take(self, key: str, kind: type | tuple[type, ...], wanted: str, default: Any = ...) -> Any:
        """The value of `key`, checked to be a `kind`; `default` where it is absent, an error where there is none."""
        self.known.append(key)
        if key not in self.data:
            if default is ...:
                raise self.fail(key, f"missing; expected {wanted}{self._rename(key)}")
            return default
        value = self.data.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fail(key, f"expected {wanted}, got {value!r}")
        return value

    def text(self, key: str, default: Any = ..., among: tuple[str, ...] = ()) -> str:
        value = cast("str", self.take(key, str, f"one of {', '.join(among)}" if among else "a text", default))
        if among and value not in among and value != default:
            raise self.fail(key, f"expected one of {', '.join(among)}, got {value!r}{nearest(value, among)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list, "a list of texts", [])
        if not all(isinstance(v, str) for v in values):
            raise self.fail(key, f"expected a list of texts, got {values!r}")
        return tuple(values)

    def integer(self, key: str, default: int | None = 0) -> int:
        value = self.take(key, int, "a whole number", default)
        if value is not None and value < 0:
            raise self.fail(key, f"expected a whole number of at least 0, got {value}")
        return cast("int", value)

    def quantity(self, key: str, unit: units.Unit, default: Any = ...) -> float:
        """A plain value such as "21 GHz" without a source."""
        value = self.take(key, (str, int, float), "a number", default)
        try:
            return units.parse(value, unit)
        except ValueError as error:
            raise self.fail(key, str(error)) from None

    def number(self, key: str, unit: units.Unit, *, zero: bool = False) -> tuple[Number, _Table]:
        """A sourced value, and its table for what else it holds. Zero is allowed where `zero` says so."""
        table = self.table(key, 'a table like { value = "...", source = "...", status = "..." }')
        value = table.quantity("value", unit)
        if value < 0 or (value == 0 and not zero):
            raise table.fail("value", f"expected a number above 0, got {value:g}")
        status = table.text("status", among=STATUSES)
        source = table.text("source", "" if status == "assumed" else ...)
        if source and source not in self.sources:
            raise table.fail("source", f"{source!r} is not in [sources]{nearest(source, self.sources)}")
        return Number(value, source, status, table.quantity("nominal", unit, 0), table.quantity("spread", "1", 0)), table

    def plain(self, key: str, of: Declared) -> Number:
        number, table = self.number(key, of.unit, zero=of.zero)
        table.done()
        return number

    def optional(self, key: str, of: Declared, default: Number | None) -> Number | None:
        if key in self.data:
            return self.plain(key, of)
        self.known.append(key)
        return default

    def record(self, of: type[_Row]) -> _Row:
        """A record of words, whole numbers and plain quantities, all of which have to be there."""
        values: list[Any] = []
        for name in of.__struct_fields__:
            field = declared(of).get(name)
            if field is None:
                values.append(self.text(name))
            else:
                whole = of.__annotations__[name].__origin__ is int
                values.append(self.integer(name) if whole else self.quantity(name, field.unit))
        self.done()
        return of(*values)

    def table(self, key: str, wanted: str = "a table", default: Any = ...) -> _Table:
        return _Table(
            self.path, f"{self.where}{'.' if self.where else ''}{key}", self.take(key, dict, wanted, default), self.sources
        )

    def tables(self, key: str, default: Any = ...) -> list[_Table]:
        rows = self.take(key, list, f"one [[{key}]] table or more", default)
        return [_Table(self.path, f"{key}[{i}]", row, self.sources) for i, row in enumerate(rows, 1)]

    def done(self) -> None:
        for key in self.data:
            raise self.fail(key, f"unknown key{nearest(key, self.known)}. Known here: {', '.join(self.known)}")

    def _rename(self, key: str) -> str:
        near = close(key, [k for k in self.data if k not in self.known], cutoff=0.7)
        return f" (is {near[0]!r} a misspelling of it?)" if near else ""


def _peak_table(parent: _Table, key: str, names: tuple[str, ...]) -> dict[str, Peak]:
    table = parent.table(key, f"a table of peaks ({', '.join(names)})", {})
    table.known.extend(names)
    peaks, of = {}, declared(Peak)
    for name in [n for n in table.data if n in names]:
        number, row = table.number(name, of["value"].unit)
        per_clock, clock = (row.quantity(key, of[key].unit, 0) for key in ("per_clock", "clock"))
        peaks[name] = Peak(number.value, number.source, number.status, per_clock, clock, number.nominal, number.spread)
        row.done()
    table.done()
    return peaks


def _level(row: _Table) -> Level:
    name, of = row.text("name", among=LEVELS), declared(Level)
    size, bandwidth = (row.plain(key, of[key]) for key in ("size", "bandwidth"))
    level = Level(
        name,
        int(size.value),
        bandwidth.value,
        bandwidth.source,
        bandwidth.status,
        size.source,
        size.status,
        row.text("type", ""),
        row.integer("bus_bits"),
        row.quantity("rate", of["rate"].unit, 0),
        bandwidth.nominal,
        bandwidth.spread,
        int(size.nominal),
    )
    row.done()
    return level


def _levels(top: _Table) -> tuple[Level, ...]:
    levels = tuple(_level(row) for row in top.tables("level"))
    order = [LEVELS.index(level.name) for level in levels]
    if not levels or levels[-1].name != "DRAM" or order != sorted(set(order)):
        raise top.fail(
            "level", f"expected the levels nearest first and DRAM last ({', '.join(LEVELS)}), got {[x.name for x in levels]}"
        )
    return levels


def _numbers(top: _Table, key: str, of: Declared) -> dict[str, Number]:
    """A table of sourced numbers by class of kernel; the classes are those that its writer measured."""
    table = top.table(key, "a table of numbers by class of kernel", {})
    return {name: table.plain(name, of) for name in list(table.data)}


def _number(top: _Table, key: str, of: Declared) -> Number | None:
    if key not in _DEFAULTS:
        return top.plain(key, of)
    return top.optional(key, of, _DEFAULTS[key])


# Of numbers that a file may leave out.
_DEFAULTS: dict[str, Number | None] = {
    name: default
    for name, default in zip(reversed(Device.__struct_fields__), reversed(Device.__struct_defaults__), strict=False)
    if name in NUMBERS and default is not NODEFAULT
}


def read(path: str | Path) -> Device:
    """The device in a TOML file. Raises DeviceFileError naming the file, the key and what was expected there."""
    path = Path(path)
    try:
        data = files.toml(files.text(path, files.TOML))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DeviceFileError(f"cannot read the device file {path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise DeviceFileError(f"{path} is not valid TOML: {error}") from None
    sources = data.pop("sources", {})
    if not isinstance(sources, dict) or not all(isinstance(text, str) for text in sources.values()):
        raise DeviceFileError(f'{path}: sources: expected a table of texts like ada = "NVIDIA Ada whitepaper"')
    top = _Table(path, "", data, sources)
    by_name: dict[str, Any] = {name: _number(top, name, of) for name, of in NUMBERS.items()}
    by_name |= {name: _numbers(top, name, of) for name, of in BY_CLASS.items()}
    device = Device(
        name=top.text("name"),
        title=top.text("title"),
        kind=top.text("kind", among=("gpu", "cpu")),
        vendor=top.text("vendor"),
        arch=top.text("arch"),
        aliases=top.texts("aliases"),
        released=top.integer("released", None),
        tier=top.text("tier", "datasheet", TIERS),
        notes=top.texts("notes"),
        notes_below_fp32=top.texts("notes_below_fp32"),
        sources=sources,
        isa=top.text("isa", "x86-64", ISAS),
        simd_bits=top.integer("simd_bits"),
        threads=top.integer("threads"),
        tensor=_peak_table(top, "tensor", TENSOR_NAMES),
        vector=_peak_table(top, "vector", VECTOR_NAMES),
        levels=_levels(top),
        cores=tuple(row.record(Cores) for row in top.tables("cores", [])),
        scaling=tuple(row.record(Scaling) for row in top.tables("scaling", [])),
        known=top.table("known").record(Known) if "known" in data else None,
        **by_name,
    )
    top.known += ["sources", "known"]
    top.done()
    if "fp32" not in device.vector:
        raise top.fail(
            "vector.fp32", 'missing; expected a table like { value = "82.6 TFLOP/s", source = "...", status = "..." }'
        )
    for key, of in NUMBERS.items():
        number = getattr(device, key)
        if of.share and number is not None and number.value > of.most:
            raise top.fail(f"{key}.value", f"expected a fraction above 0 and up to {of.most:g}, got {number.value:g}")
    if "sustained" not in data and (clock := power.kept(device)) is not None:
        number = Number(min(clock / device.clock.value, 1.0), "power", "estimated")
        device = replace(device, sustained=number, sources={"power": power.SOURCE} | sources)
    if "sustained_vector" not in data and (share := power.of_vectors(device)) is not None:
        number = Number(share, "products32", "estimated")
        device = replace(device, sustained_vector=number, sources={"products32": power.VECTOR_SOURCE} | device.sources)
    for problem in lint.impossible(device):
        raise DeviceFileError(f"{path}: {problem}")
    return device
