"""Tables of measured times: what each row ran, and how long it took.

timm's CSVs are known by their columns, and say in their file names which precision, layout and compiler they were measured
with. Any other CSV is read with a column mapping. What a table says of its rows one by one (dtype, layout, runtime, mode)
comes before its name, and what the command line says before both.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from roofline import files
from roofline.devices import library
from roofline.devices.device import Device
from roofline.dtypes import SETTINGS, SHORT
from roofline.errors import DeviceFileError, RooflineError, UsageError, close, nearest
from roofline.records import RUNTIMES
from roofline.validation.older import LATEST

# what we call a column -> timm's names for it
_TIMM = {
    "model": "model",
    "size": "infer_img_size",
    "batch": "infer_batch_size",
    "ms": "infer_step_time",
    "params": "param_count",
}
# ... and those of its tables of training steps
_TIMM_TRAINING = {ours: theirs.replace("infer_", "train_") for ours, theirs in _TIMM.items()}
_NEEDED = ("model", "ms")
# time columns by unit: the name of the mapping -> seconds
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}

LAYOUTS = ("nchw", "nhwc")
# the column of what a row was measured on
DEVICE = "device"
MODES = ("inference", "training")
# other words for the same in columns of tables
_ALSO = {
    **SHORT,
    "amp_fp16": "amp",
    "channels_last": "nhwc",
    "dynamo": "compiled",
    "inductor": "compiled",
    "train": "training",
}


class Row(Struct, frozen=True):
    """One measurement: seconds for one batch. `millions` of parameters as the table counted them, 0 where it does not say."""

    model: str
    size: int
    batch: int
    seconds: float
    millions: float = 0.0
    line: int = 0
    # whether its model may be code of a person's own (net.py:Net, package.module:make), which runs when it is built
    own: bool = False


class Setting(Struct, frozen=True):
    """How a table was measured."""

    dtype: str
    layout: str
    runtime: str
    # steps of SGD with momentum, as timm's benchmark trains; else forwards
    training: bool = False
    # the version of its PyTorch, (major, minor), where that is told: older ones launch otherwise (older.py)
    torch: tuple[int, int] = LATEST
    # whether it was compiled with the weights frozen: batch norms folded, weights packed before the first call
    frozen: bool = False


class Record(dict[str, str]):
    """A record of a table, by column; `line` is where it stands in the file."""

    line: int = 0


class Table(Struct, frozen=True):
    """`skipped` are (model, why)."""

    name: str
    rows: tuple[Row, ...]
    skipped: tuple[tuple[str, str], ...]
    # what it does not say, and is assumed
    notes: tuple[str, ...] = ()


class Part(Struct, frozen=True):
    """The rows of a table that were measured in one way."""

    how: Setting
    table: Table


class Reading(Struct, frozen=True):
    """How tables are read: what they do not say of themselves, and which of their rows."""

    # none: by the name of the file
    dtype: str | None = None
    layout: str | None = None
    runtime: str | None = None
    training: bool | None = None
    # what we call a column -> the table's name for it; none: timm's
    columns: dict[str, str] = {}
    # whether a model may be code of a person's own, see Row
    own: bool = False
    # rows drawn with the seed; none: all
    limit: int | None = None
    seed: int = 0
    # of a table whose rows name their devices, how those that are wanted are called (`devices`); none: all rows
    called: frozenset[str] | None = None


AS_NAMED = Reading()


def setting(name: str, given: Reading) -> Setting:
    """What the file name says ("...-amp-nhwc-...-dynamo"), where the reading does not."""
    words = set(re.split(r"[-_.]", Path(name).stem.lower()))
    runtime = given.runtime or ("compiled" if words & {"dynamo", "inductor", "compile", "compiled"} else "eager")
    return Setting(
        given.dtype or next((d for d in SETTINGS if d in words), "fp32"),
        given.layout or ("nhwc" if "nhwc" in words or {"channels", "last"} <= words else "nchw"),
        runtime,
        bool(words & {"train", "training"}) if given.training is None else given.training,
        next((version for word in words if (version := _version(word))), LATEST),
        runtime == "compiled" and bool(words & {"freezing", "frozen"}),
    )


def _version(word: str) -> tuple[int, int] | None:
    """What a word of a file's name says of PyTorch, as timm writes it: pt112 is 1.12, pt240 is 2.4.0, pt2110 is 2.11.0."""
    found = re.fullmatch(r"pt(?:(1)(\d{1,2})|([2-9])(\d{1,2})\d)", word)
    return (int(found[1] or found[3]), int(found[2] or found[4])) if found else None


def told(record: Record, path: Path, given: Reading) -> Setting:
    """What a row says of itself (columns dtype, layout, runtime, mode), where the reading does not; the rest by the file's
    name. Raises UsageError for a word that is none of them, with its line."""
    named = setting(path.name, given)
    dtype, layout, runtime = (
        cell(record, name, among, path, getattr(given, name)) or getattr(named, name)
        for name, among in (("dtype", SETTINGS), ("layout", LAYOUTS), ("runtime", RUNTIMES))
    )
    mode = None if given.training else cell(record, "mode", MODES, path)
    training = named.training if mode is None else mode == "training"
    return Setting(dtype, layout, runtime, training, named.torch, named.frozen and runtime == "compiled" and not training)


def cell(record: Record, name: str, among: Sequence[str], path: Path, given: str | None = None) -> str | None:
    """What a column of the table says; nothing where there is none, or the command line says it."""
    text = record.get(name, "")
    if given or not text:
        return given
    word = _ALSO.get(text.lower(), text.lower())
    if word not in among:
        hint = nearest(text, among) or f"; use one of {', '.join(among)}"
        over = f" (or say --{name} for all rows)" if name in ("dtype", "layout", "runtime") else ""
        raise UsageError(f"{path.name}: line {record.line}: unknown {name} {text!r}{hint}{over}")
    return word


def parts(path: Path, given: Reading) -> list[Part]:
    """A table of models by how its rows were measured, most often one part: the sample that the reading asks for, in the
    table's order. Rows of a setting that is not known here are in `skipped`, as are steps of another optimizer than the SGD of
    timm's benchmark. Raises UsageError as `read` does.
    """
    listed = lines(path)
    table = _table(path, listed, given.columns, given.own)
    records = {record.line: record for record in listed}
    ways: dict[int, Setting] = {}
    skipped = [*table.skipped]
    for row in table.rows:
        name = records[row.line].get(DEVICE, "")
        if given.called is not None and name not in given.called:
            continue
        try:
            if given.called is not None:
                _device(name)
            ways[row.line] = how = told(records[row.line], path, given)
            if how.training:
                cell(records[row.line], "optimizer", ("sgd",), path)
        except (UsageError, DeviceFileError) as error:
            skipped.append((row.model, str(error).splitlines()[0].removeprefix(f"{path.name}: ")))
            ways.pop(row.line, None)
    found: dict[Setting, list[Row]] = {}
    for row in sample([row for row in table.rows if row.line in ways], given.limit, given.seed):
        found.setdefault(ways[row.line], []).append(row)
    ways_of = [*found] or [setting(path.name, given)]
    differ = [len({*words}) > 1 for words in zip(*map(_words, ways_of), strict=True)]
    out: list[Part] = []
    for how in ways_of:
        apart = ", ".join(word for word, differs in zip(_words(how), differ, strict=True) if differs)
        name = f"{table.name} ({apart})" if apart else table.name
        # rows that belong to no part are said once
        out.append(Part(how, Table(name, tuple(found.get(how, ())), () if out else tuple(skipped), table.notes)))
    return out


def devices(path: Path) -> list[tuple[Device, frozenset[str]]]:
    """The devices that the rows of a table name, in their order, each with what the table calls it (`Reading.called`); what is
    no device goes with the first, where `parts` says why those rows are skipped. Raises UsageError where none is named.
    """
    records = lines(path)
    if DEVICE not in records[0]:
        raise UsageError(f"{path.name} has no column {DEVICE!r} that says what its rows were measured on: give -d DEVICE")
    found: dict[str, tuple[Device, set[str]]] = {}
    strange: dict[str, RooflineError] = {}
    for name in dict.fromkeys(record.get(DEVICE, "") for record in records):
        try:
            device = _device(name)
        except (UsageError, DeviceFileError) as error:
            strange[name] = error
        else:
            found.setdefault(device.name, (device, set()))[1].add(name)
    if not found:
        raise UsageError(f"{path.name}: no row names a device that is known: {next(iter(strange.values()))}")
    next(iter(found.values()))[1].update(strange)
    return [(device, frozenset(names)) for device, names in found.values()]


def _device(name: str) -> Device:
    """Raises UsageError or DeviceFileError."""
    if not name:
        raise UsageError("the row names no device")
    return library.lookup(name)


def _words(how: Setting) -> tuple[str, str, str, str]:
    return how.dtype, how.layout, how.runtime, MODES[how.training]


def lines(path: Path) -> list[Record]:
    """The records of a CSV; lines that start with # are comments. Raises UsageError where there is nothing to read."""
    try:
        text = files.text(path, files.TABLE)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the table {path}: {getattr(error, 'strerror', None) or error}") from error
    kept = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(line for _, line in kept)
    found = []
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        if twice := next((name for name in header if name and header.count(name) > 1), ""):
            raise UsageError(f"{path.name} has two columns {twice!r}: which is meant cannot be told, rename one")
        for row in reader:
            record = Record({(k or "").strip(): (v or "").strip() for k, v in row.items() if not isinstance(v, list)})
            record.line = kept[reader.line_num - 1][0]
            found.append(record)
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV: {error}") from error
    if not found:
        raise UsageError(f"{path} holds no rows: a CSV with a header line is needed")
    return found


def read(path: Path, columns: Mapping[str, str] | None = None, own: bool = False) -> Table:
    """All rows of a table of models; what cannot be used is in `skipped`. With `own`, rows may name code to run.

    `columns` maps model, size, batch, params and one of s, ms, us to the table's own names. Raises UsageError where a
    column that is needed is missing, with the nearest one that there is.
    """
    return _table(path, lines(path), columns or {}, own)


def _table(path: Path, records: Sequence[Record], columns: Mapping[str, str], own: bool) -> Table:
    """The same of the table's records."""
    names = _mapping(dict(columns), list(records[0]), path)
    unit = next(u for u in _UNITS if u in names)
    rows, skipped = [], []
    for record in records:
        model = record.get(names["model"], "")
        try:
            rows.append(_row(model, record, names, unit, own))
        except ValueError as error:
            skipped.append((model, f"line {record.line}: {error}"))
    notes = []
    if "size" not in names:
        notes.append("no column of sizes (--column size=...): each model is taken at its own default")
    if "batch" not in names:
        notes.append("no column of batches (--column batch=...): 1 is taken")
    return Table(path.name, tuple(rows), tuple(skipped), tuple(notes))


def _row(model: str, record: Record, names: Mapping[str, str], unit: str, own: bool) -> Row:
    """Raises ValueError with what is wrong in the line."""

    def number(ours: str) -> float:
        text = record.get(names[ours], "")
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{names[ours]} is {text!r}, which is no number" if text else f"no {names[ours]}") from None

    def whole(ours: str) -> int:
        value = number(ours)
        if not value >= 1 or value == float("inf"):
            raise ValueError(f"{names[ours]} of {value:g} cannot be")
        if value != int(value):
            raise ValueError(f"{names[ours]} of {value:g} is no whole number")
        return int(value)

    if not model:
        raise ValueError(f"no {names['model']}")
    seconds = number(unit) * _UNITS[unit]
    if not 0 < seconds < float("inf"):
        raise ValueError(f"a time of {seconds:g} s cannot be")
    millions = number("params") if "params" in names and record.get(names["params"]) else 0.0
    if not 0 <= millions < float("inf"):
        raise ValueError(f"{names['params']} of {millions:g} cannot be")
    size, batch = whole("size") if "size" in names else 0, whole("batch") if "batch" in names else 1
    return Row(model, size, batch, seconds, millions, record.line, own)


def _mapping(given: dict[str, str], have: Sequence[str], path: Path) -> dict[str, str]:
    known = {*_TIMM, *_UNITS}
    for ours in given:
        if ours not in known:
            raise UsageError(f"--column {ours}=...: unknown column; use one of {', '.join(sorted(known))}")
    # a table that calls its columns as we do needs no mapping
    plain = {ours: ours for ours in known if ours in have}
    if len(units := [u for u in _UNITS if u in plain]) > 1:
        plain = {ours: theirs for ours, theirs in plain.items() if ours not in units[1:]}
    timm = _TIMM_TRAINING if _TIMM_TRAINING["ms"] in have and _TIMM["ms"] not in have else _TIMM
    names = {ours: theirs for ours, theirs in timm.items() if theirs in have}
    if any(u in names for u in _UNITS):
        plain = {ours: theirs for ours, theirs in plain.items() if ours not in _UNITS}
    names = plain | names | given
    if len(times := [u for u in _UNITS if u in given]) > 1:
        raise UsageError(f"--column {times[0]}=... and {times[1]}=...: the time is in one column; leave one of them out")
    if times:
        names = {k: v for k, v in names.items() if k not in _UNITS or k in given}
    for ours in _NEEDED:
        if ours not in names and not (ours == "ms" and any(u in names for u in _UNITS)):
            near = close(_TIMM[ours], have, cutoff=0.4)
            hint = f"; is it {near[0]!r}? then give --column {ours}={near[0]}" if near else ""
            raise UsageError(f"{path.name} has no column {_TIMM[ours]!r}{hint} (it has {', '.join(have)})")
    for theirs in names.values():
        if theirs not in have:
            hint = nearest(theirs, have, cutoff=0.6) or f" (it has {', '.join(have)})"
            raise UsageError(f"{path.name} has no column {theirs!r}{hint}")
    return names


def sample(rows: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """`limit` rows drawn with a seed, in the table's order; all of them without a limit."""
    if limit is None or limit >= len(rows):
        return list(rows)
    chosen = random.Random(seed).sample(range(len(rows)), limit)
    return [rows[i] for i in sorted(chosen)]
