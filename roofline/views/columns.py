"""The columns of a table of layers, operators or kernels, each by one name in the terminal, in CSV and in Markdown.

A column's name is that of its field in the JSON, without the unit: `time` is `time_s`, `memory` is `memory_bytes`, `energy` is
`energy_j`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from roofline.errors import UsageError, nearest
from roofline.records import Analysis, KernelRow, LayerRow, OpRow
from roofline.units import binary, count, joules, percent, seconds, si

By = Literal["layer", "op", "kernel"]
Row = LayerRow | OpRow | KernelRow


class Column(NamedTuple):
    """One column; `text` is what a person reads of a row's value, `need` the console width from which it is shown unasked."""

    title: str
    # field of the row
    field: str
    text: Callable[[Any], str]
    need: int = 0
    # words stand to the left, numbers to the right
    words: bool = False
    # where it is no field of the row
    worked_out: Callable[[Row, Analysis], Any] | None = None

    @property
    def name(self) -> str:
        if self.field == "weight_bytes":
            return self.field
        return self.field.removesuffix("_s").removesuffix("_bytes").removesuffix("_j")

    def value(self, row: Row, analysis: Analysis) -> Any:
        """As in the JSON, in base units."""
        if self.worked_out is not None:
            return self.worked_out(row, analysis)
        return getattr(row, "klass" if self.field == "class" else self.field)

    def cell(self, row: Row, analysis: Analysis) -> str:
        """Nothing where there is nothing to tell."""
        value = self.value(row, analysis)
        return self.text(value) if value or (value == 0 and self.field in _EVEN_NONE) else ""


# of these 0 is said: it is an answer
_EVEN_NONE = frozenset({"trainable", "kernels", "calls"})


def took(row: Row) -> float:
    """Seconds: measured where the model was run, else predicted."""
    return row.time_s if row.measured_s is None else row.measured_s


def whole(analysis: Analysis) -> float:
    """Seconds of the whole pass, of the same kind."""
    return analysis.measurement.time_s if analysis.measurement else analysis.totals.time_s


def share_of(row: Row, analysis: Analysis) -> float:
    """Fraction of the time of the whole pass."""
    return took(row) / whole(analysis) if whole(analysis) else 0.0


def _sizes(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _number(value: int) -> str:
    return f"{value:,}"


def _traffic(value: float) -> str:
    return si(value, "B", 3)


MACS, FLOPS = Column("MACs", "macs", count), Column("FLOPs", "flops", count)
TRAFFIC = Column("Traffic", "bytes", _traffic)
INTENSITY = Column("FLOP/B", "intensity", lambda value: si(value, digits=2), 76)
TIME = Column("Time", "time_s", seconds)
OUTPUT, KERNEL = Column("Output", "output", _sizes, 128), Column("Kernel", "kernel", _sizes, 136)
PARAMS, MEMORY = Column("Params", "params", count, 92), Column("Memory", "memory_bytes", binary, 144)
CLASS, OP = Column("Class", "class", str, words=True), Column("Op", "op", str, words=True)
KERNELS, SHAPE = Column("Kernels", "kernels", _number), Column("Output", "shape", _sizes, 110)
ENERGY = Column("Energy", "energy_j", joules)
_WEIGHTS = Column("Weights", "weight_bytes", _traffic)
_RESULT = (
    TIME,
    Column("Share", "share", lambda value: percent(value, 1.0), worked_out=share_of),
    Column("Bound", "bound", str, words=True),
)
COLUMNS: dict[By, tuple[Column, ...]] = {
    "layer": (
        Column("Type", "type", str, words=True), OUTPUT, KERNEL, PARAMS, Column("Trainable", "trainable", count), MACS, FLOPS,
        TRAFFIC, _WEIGHTS, INTENSITY, MEMORY, KERNELS, Column("Calls", "calls", _number), *_RESULT,
        Column("Low", "low_s", seconds), Column("High", "high_s", seconds), ENERGY,
    ),
    "op": (CLASS, KERNELS, MACS, FLOPS, TRAFFIC, INTENSITY, *_RESULT, ENERGY),
    "kernel": (
        OP, CLASS, SHAPE, Column("Dtype", "dtype", str, words=True), MACS, FLOPS, TRAFFIC, _WEIGHTS, INTENSITY, *_RESULT,
        Column("Level", "level", str, words=True), Column("Efficiency", "efficiency", lambda value: percent(value, 1.0)),
        Column("Phase", "phase", str, words=True), ENERGY,
    ),
}  # fmt: skip
# what a row is, in a file
NAMES: dict[By, str] = {"layer": "path", "op": "op", "kernel": "layer"}


def named(text: str, by: By) -> tuple[Column, ...]:
    """ "output,params,time" -> the columns. Raises UsageError for a name that none has, and for one that stands twice."""
    known = {c.name: c for c in COLUMNS[by]}
    also = {word.lower(): c for c in COLUMNS[by] for word in (c.field, c.title)}
    found: list[Column] = []
    for name in (part.strip() for part in text.split(",")):
        column = known.get(name.lower()) or also.get(name.lower())
        if column is None:
            hint = nearest(name, [*known, *also], show=lambda near: repr((known.get(near) or also[near]).name))
            there = _elsewhere(name, by)
            raise UsageError(f"--columns: no column {name!r} of {_ROWS[by]}{hint}\nuse some of {', '.join(known)}{there}")
        if column in found:
            raise UsageError(f"--columns: {name} stands there twice")
        found.append(column)
    return tuple(found)


_ROWS: dict[By, str] = {"layer": "layers", "op": "operators", "kernel": "kernels"}


def _elsewhere(name: str, by: By) -> str:
    """Which rows have a column of that name."""
    others = [f"--by {other}" for other, columns in COLUMNS.items() if other != by and name in {c.name for c in columns}]
    return f"; {' and '.join(others)} has {name}" if others else ""
