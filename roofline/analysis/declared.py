"""What may stand in a budget file: its keys, each declared once, which the loader, its errors and the JSON Schema go by."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from roofline import request, units
from roofline.analysis.metrics import BY_NAME, by_limit
from roofline.dtypes import NOT_INT8
from roofline.errors import BudgetFileError, nearest
from roofline.request import SIZES, WORDS, typed

# At the top of the file, or of [tool.roofline].
TOP = ("budget", "budgets", "defaults", "baseline")
# Options of the request, by the name that they have in a file; args and kwargs are calls of a module, which no file holds.
OPTIONS = {{"settings": "set"}.get(name, name): name for name in request.OPTIONS if name not in ("args", "kwargs")}
# max_macs, min_time, warn_max_time
LIMIT_KEYS = re.compile(r"(?P<warn>warn_)?(?P<side>max|min)_(?P<metric>\w+)")
# In the table of one metric; max and min fail, and `warn` is of the side that is worse.
SIDES = ("max", "min", "warn", "warn_max", "warn_min")
_WHICH = ("model", "analysis", "models")


def limit_keys() -> tuple[str, ...]:
    """The limits that most budgets say: "max_time", "min_throughput"."""
    return tuple(by_limit())


def all_limit_keys() -> tuple[str, ...]:
    return tuple(f"{warn}{side}_{name}" for warn in ("", "warn_") for name in BY_NAME for side in ("max", "min"))


def keys(short: bool, inner: bool, defaults: bool) -> tuple[str, ...]:
    """What may stand in a table: one of `[[budget]]`, or `short` of [budgets.NAME], `inner` of its `at`, or [defaults]."""
    found = [*OPTIONS, "allow_unknown", *dict.fromkeys([*limit_keys(), *all_limit_keys()])]
    if not defaults:
        found = ["name", *found] if inner else [*_WHICH, "name", *found]
    if short:
        found += ["on", *BY_NAME, *(["at"] if not inner and not defaults else [])]
    return tuple(found)


class Place:
    """Finds the line of a key for error messages: tomllib keeps none."""

    def __init__(self, path: Path, source: str, inside: tuple[str, ...]) -> None:
        self._path = path
        self._lines: dict[tuple[tuple[str, ...], str], int] = {}
        table: tuple[str, ...] = ()
        counts: dict[tuple[str, ...], int] = {}
        for number, line in enumerate(source.splitlines(), 1):
            header = _header(line)
            if header is not None:
                names, several = header
                own = names[: len(inside)] == inside
                table = names[len(inside) :] if own else ("\0",)
                if several and own:
                    counts[table] = counts.get(table, 0) + 1
                    table = (*table, str(counts[table]))
                self._lines.setdefault((table, ""), number)
                if table:
                    self._lines.setdefault((table[:-1], table[-1]), number)
            elif found := re.match(r"""\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*[.=]""", line):
                self._lines.setdefault((table, next(filter(None, found.groups()))), number)

    def number(self, table: tuple[str, ...], key: str = "") -> int:
        """The line of a key in a table, else that of the table, or 0."""
        above = [(table, ""), (table[:-1], table[-1])] if table else []
        return next((self._lines[at] for at in [(table, key), *above] if at in self._lines), 0)

    def first(self, *tables: tuple[str, ...], at: str) -> str:
        """The place of the first of these tables that is there, else of a key at the top."""
        return next((self.at(table) for table in tables if self.number(table)), self.at((), at))

    def at(self, table: tuple[str, ...], key: str = "") -> str:
        """ "roofline.toml:3"."""
        return self.told(self.number(table, key))

    def told(self, number: int) -> str:
        """A line of the file, or the file alone (0)."""
        return f"{self._path}:{number}" if number else f"{self._path}"


def _header(line: str) -> tuple[tuple[str, ...], bool] | None:
    """`[budgets."timm:x".time]` -> its names, and whether it is one of several."""
    if not line.lstrip().startswith("["):
        return None
    import tomllib

    try:
        value: Any = tomllib.loads(line)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None
    names = []
    while isinstance(value, dict) and value:
        (name,) = value
        names.append(name)
        value = value[name]
    return tuple(names), isinstance(value, list)


_DEVICE = 'a device name or file (of several each its own limit: time = [{ on = "t4", max = "3 ms" }, ...])'


class Reader:
    """Reads the values of one table, in a place of a file. Raises BudgetFileError with the place and what was expected."""

    def __init__(self, lines: Place, table: tuple[str, ...], title: str) -> None:
        self._lines, self._at, self._title = lines, table, title

    def inside(self, key: str, index: int) -> Reader:
        return Reader(self._lines, (*self._at, key, str(index)), f"{self._title}.{key} {index}")

    def line(self, key: str = "") -> int:
        if key == "" or (number := self._lines.number(self._at, key)) == 0:
            return self._lines.number(self._at) or (len(self._at) > 2 and self._lines.number(self._at[:-2], self._at[-2])) or 0
        return number

    def fail(self, key: str, what: str) -> BudgetFileError:
        return BudgetFileError(f"{self._lines.told(self.line(key))}: {self._title}: {what}")

    def take(self, table: Mapping[str, Any], key: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        value = table.get(key, default)
        if value is not default and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
            raise self.fail(key, f"{key}: expected {expected}, got {value!r}")
        return value

    def texts(self, table: Mapping[str, Any], key: str, example: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(i, str) for i in value) or (key in table and not value):
            raise self.fail(key, f"{key}: expected a list of texts such as {example}, got {value!r}")
        return tuple(value)

    def allowed(self, table: Mapping[str, Any]) -> bool | tuple[str, ...]:
        """`allow_unknown`: true, false, or operators by name."""
        value = table.get("allow_unknown", False)
        if isinstance(value, list) and value and all(isinstance(i, str) for i in value):
            return tuple(value)
        if not isinstance(value, bool):
            raise self.fail("allow_unknown", f'allow_unknown: expected true, false or operators ["mylib.warp"], got {value!r}')
        return value

    def options(self, table: Mapping[str, Any], at: str = "") -> dict[str, Any]:
        """Those of the request that a table gives, by their names; `at`: the key that it is the value of."""
        self_ = _Within(self, at) if at else self
        found: dict[str, Any] = {}
        for key, name in OPTIONS.items():
            if key in table:
                found[name] = _READ[name](self_, table, key)
        if "on" in table:
            if "device" in table:
                raise self_.fail("on", "on: it is the device, which stands here already")
            found["device"] = self_.take(table, "on", str, _DEVICE, None)
        return found


class _Within(Reader):
    """The same for a table on the line of a key."""

    def __init__(self, reader: Reader, at: str) -> None:
        super().__init__(reader._lines, reader._at, f"{reader._title}.{at}")
        self._key = at

    def line(self, key: str = "") -> int:
        return super().line(self._key)

    def fail(self, key: str, what: str) -> BudgetFileError:
        return super().fail(self._key, what)


# ------------------------------------------------------------------------------------------------ options by their kind


def _word(read: Reader, table: Mapping[str, Any], key: str) -> str:
    names = WORDS[key]
    value = read.take(table, key, str, f"one of {', '.join(names)}", None)
    if value == "int8" and key == "dtype":
        raise read.fail(key, f"{key}: {NOT_INT8}")
    if value not in names:
        raise read.fail(key, f"{key}: expected one of {', '.join(names)}, got {value!r}{nearest(value, names)}")
    return str(value)


def _size(read: Reader, table: Mapping[str, Any], key: str) -> int:
    value: int = read.take(table, key, int, "a whole number of at least 1", None)
    if value < 1:
        raise read.fail(key, f"{key}: expected a whole number of at least 1, got {value}")
    return value


def _device(read: Reader, table: Mapping[str, Any], key: str) -> Any:
    return read.take(table, key, str, _DEVICE, None)


def _flag(read: Reader, table: Mapping[str, Any], key: str) -> Any:
    return read.take(table, key, bool, "true or false", None)


def _host(read: Reader, table: Mapping[str, Any], key: str) -> float:
    value = read.take(table, key, (str, int, float), 'a time such as "10 us"', None)
    try:
        return units.parse(value, "s")
    except ValueError as e:
        raise read.fail(key, f"{key}: {e}") from None


def _inputs(read: Reader, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table[key]
    shapes = [value] if isinstance(value, str) else value
    if not isinstance(shapes, list) or not all(isinstance(i, str) for i in shapes):
        raise read.fail(key, f'{key}: expected shapes as text, such as ["x=1,3,224,224"], got {shapes!r}')
    return tuple(shapes)


def _settings(read: Reader, table: Mapping[str, Any], key: str) -> dict[str, str]:
    value: dict[str, Any] = read.take(table, key, dict, "a table such as { width_mult = 0.5 }", None)
    return {name: _as_text(of) for name, of in value.items()}


def _as_text(value: Any) -> str:
    """A TOML value as `--set` takes it, of the same type when it is read there: true, 0.5, [1, 2]; "'0'" for the text 0."""
    if isinstance(value, str):
        return value if typed(value) == value else repr(value)
    text = msgspec.json.encode(value).decode()
    return text if typed(text) == value else repr(value)


_READ: dict[str, Callable[[Reader, Mapping[str, Any], str], Any]] = {
    **dict.fromkeys(SIZES, _size),
    **dict.fromkeys(WORDS, _word),
    "device": _device,
    "training": _flag,
    "channels_last": _flag,
    "fold_bn": _flag,
    "host": _host,
    "inputs": _inputs,
    "settings": _settings,
}
