"""Known times as people give them: `resnet50 -b 256 --dtype amp = 58 ms`, or the rows of a CSV; and the kernels of each."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roofline import pipeline, units
from roofline.analysis import memory
from roofline.cache.store import Cache
from roofline.devices.device import Device
from roofline.errors import RooflineError, UsageError, nearest
from roofline.kernels import build
from roofline.records import Trace
from roofline.request import OPTIMIZERS, SIZES, Request, made
from roofline.validation import model_tables, validate
from roofline.validation.known import Timed, fit
from roofline.validation.model_tables import Reading, Row

# More than this sets constants, which is what `roofline validate --fit` is for.
MOST = 100
_SHAPE = "MODEL [-b N] [--dtype NAME] ... = TIME"
_EXAMPLE = "resnet50 -b 256 --dtype amp = 58 ms"
_SHORT = {"-b": "--batch"}
# options of a question -> how they are called in a request
_VALUES = {
    "--batch": "batch",
    "--resolution": "resolution",
    "--prefill": "prefill",
    "--decode": "decode",
    "--dtype": "dtype",
    "--runtime": "runtime",
    "--optimizer": "optimizer",
    "--input": "inputs",
    "--set": "settings",
    "--training": "training",
    "--turns": "turns",
    "--channels-last": "channels_last",
}
# those of them that stand alone
_FLAGS = ("--training", "--channels-last")


class Question(Struct, frozen=True):
    """A known time and what was run: options of a request by their names, or a row of a table of timm's models."""

    what: str
    seconds: float
    model: str
    options: dict[str, Any]
    layout: str = "nchw"
    row: Row | None = None


# ------------------------------------------------------------------------------------------------ texts


def question(text: Any) -> Question:
    """Of `MODEL [options] = TIME`. Raises UsageError that says what is wrong in it."""
    if not isinstance(text, str):
        raise UsageError(f"a known time is a text, such as {_EXAMPLE!r}, not {text!r}"[:300])
    what, equals, time = text.rpartition("=")
    what = " ".join(what.split())
    # the last = may be that of --set a=b, where there is no time at all
    if not equals or not what or not time.strip():
        raise UsageError(f"known time {text!r}: expected {_SHAPE}, such as {_EXAMPLE!r}")
    return Question(what, _seconds(time.strip(), text), *_asked(what, text))


def _seconds(time: str, text: str) -> float:
    try:
        value = units.parse(time, "s")
    except ValueError as error:
        raise UsageError(f"known time {text!r}: {error}; expected {_SHAPE}, such as {_EXAMPLE!r}") from None
    if time.replace(".", "", 1).isdigit():
        raise UsageError(f"known time {text!r}: {time} of what? give the unit, as in {time} ms")
    if not value > 0:
        raise UsageError(f"known time {text!r}: a time of {time} cannot be")
    return value


def _asked(what: str, text: str) -> tuple[str, dict[str, Any]]:
    """(model, options) of a question as the command line takes it."""
    try:
        words = shlex.split(what)
    except ValueError as error:
        raise UsageError(f"known time {text!r}: {error}") from None
    model, options, rest = "", dict[str, Any](), iter(words)
    for word in rest:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        name = _SHORT.get(name, name)
        if not name.startswith("-"):
            if model:
                raise UsageError(f"known time {text!r}: two models, {model} and {word}; expected {_SHAPE}")
            model = word
            continue
        if name not in _VALUES:
            hint = nearest(name, _VALUES) or f"; use one of -b, {', '.join(_VALUES)}"
            raise UsageError(f"known time {text!r}: unknown option {name}{hint}")
        if name in _FLAGS:
            if equals:
                raise UsageError(f"known time {text!r}: {name} takes no value")
            options[_VALUES[name]] = True
            continue
        given = value if equals else next(rest, "")
        if not given:
            raise UsageError(f"known time {text!r}: {name} needs a value")
        _take(options, _VALUES[name], given, text)
    if not model:
        raise UsageError(f"known time {text!r}: no model; expected {_SHAPE}, such as {_EXAMPLE!r}")
    return model, options


def _take(options: dict[str, Any], name: str, given: str, text: str) -> None:
    if name == "inputs":
        options[name] = [*options.get(name, ()), given]
    elif name == "settings":
        key, equals, value = given.partition("=")
        if not equals:
            raise UsageError(f"known time {text!r}: --set {given}: expected ARG=VALUE")
        options[name] = {**options.get(name, {}), key: value}
    elif name in options:
        raise UsageError(f"known time {text!r}: --{name} is given twice")
    elif name in SIZES:
        if not given.isascii() or not given.isdigit() or int(given) < 1:
            raise UsageError(f"known time {text!r}: --{name} is a whole number of at least 1, not {given!r}")
        options[name] = int(given)
    else:
        options[name] = given


# ------------------------------------------------------------------------------------------------ tables


def table(path: Path, given: Reading) -> list[Question]:
    """The rows of a CSV: model, batch, size and ms, s or us (or timm's names), and where they are there dtype, runtime,
    layout and mode. Raises UsageError for a row that cannot be, with its line.
    """
    found = model_tables.read(path, given.columns, given.own)
    if found.skipped:
        model, why = found.skipped[0]
        raise UsageError(f"{path.name}: {model or 'no model'}: {why}")
    rows = model_tables.sample(found.rows, given.limit, given.seed)
    if len(rows) > MOST:
        raise UsageError(
            f"{path.name} has {len(rows)} times, and a device is set by {MOST} at most: take some of them (ten do, of several "
            "kinds of model), or fit the constants to all of them with `roofline validate --fit`"
        )
    records = {record.line: record for record in model_tables.lines(path)}
    return [_of_row(row, records[row.line], path, given) for row in rows]


def _of_row(row: Row, record: model_tables.Record, path: Path, given: Reading) -> Question:
    how = model_tables.told(record, path, given)
    options: dict[str, Any] = {"dtype": how.dtype, "runtime": how.runtime, "batch": row.batch}
    what = f"{row.model} -b {row.batch} --dtype {how.dtype}"
    if row.size:
        options["resolution"] = row.size
        what += f" --resolution {row.size}"
    if how.runtime != "eager":
        what += f" --runtime {how.runtime}"
    if how.training:
        optimizer = model_tables.cell(record, "optimizer", OPTIMIZERS, path)
        options |= {"training": True, **({"optimizer": optimizer} if optimizer else {})}
        what += " --training"
    return Question(what, row.seconds, row.model, options, how.layout, row)


# ------------------------------------------------------------------------------------------------ kernels


def timed(questions: Sequence[Question], device: Device, *, cache: bool = True, progress: Any = None) -> list[Timed]:
    """The kernels of each known time. Raises UsageError or ModelError that names the one that could not be traced."""
    if not questions:
        raise UsageError("no known time to go by: give one at least")
    found = []
    for number, one in enumerate(questions, 1):
        if progress is not None:
            progress(f"{number} of {len(questions)} known times: {one.what}")
        try:
            found.append(_timed(one, device, cache, progress))
        except RooflineError as error:
            raise type(error)(f"known time of {one.what}: {error}") from error
    return found


def _timed(one: Question, device: Device, cache: bool, progress: Any) -> Timed:
    request = made(one.model, {**one.options, "device": device}, cache=cache, progress=progress)
    if request.place.runtime == "ideal":
        raise UsageError("the ideal runtime is not how anything was measured; use eager or compiled")
    trace = _trace(one, request, device)
    launched = build.build(trace, request.place.runtime, device.kind)
    if not launched:
        raise UsageError("it launches no kernel, so its time says nothing")
    setting = request.what.dtype or trace.dtype
    footprint = memory.peak(trace, device).total
    training = request.what.training
    return Timed(one.what, one.seconds, launched, setting, request.place.runtime, training, footprint, bool(trace.built))


def _trace(one: Question, request: Request, device: Device) -> Trace:
    """A row of a table is what timm's benchmark ran, which trains by SGD."""
    from roofline.sources.timm import TIMM

    training = request.what.training
    plain = one.options.get("optimizer") in (None, "sgd")
    if one.row is not None and plain and TIMM.has(one.row.model.partition(".")[0]):
        how = model_tables.Setting(request.what.dtype or "fp32", one.layout, request.place.runtime, training)
        return validate.trace(one.row, validate.asked(one.row, how, device), Cache(enabled=request.cache))
    if one.row is not None:
        validate.named(one.row, request)
    if one.layout == "nhwc":
        request = replace(request, what=replace(request.what, channels_last=True))
    return pipeline.trace_of(request)


def on(request: Request, texts: Sequence[str], progress: Any = None) -> Request:
    """The request on its device, set by times that are known of it, as texts.

    Raises UsageError for a text, a time or a model that cannot be.
    """
    questions = [question(text) for text in texts]
    target = pipeline.target_of(request.place)
    found = fit(timed(questions, target, cache=request.cache, progress=progress), target)
    return replace(request, place=replace(request.place, device=found.device, host=None))
