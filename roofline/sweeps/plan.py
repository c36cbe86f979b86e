"""Which rows a sweep is to have: the key of each, without tracing anything, and what is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from roofline import compat, paths, request
from roofline.cache import digest, framed
from roofline.cache.dependencies import Record, bytes_of
from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.fingerprints import constants_digest, device_digest
from roofline.records import identity
from roofline.records.sweep import Row
from roofline.sources.resolve import resolve
from roofline.sources.source import Source
from roofline.version import __version__


class Task(Struct, frozen=True):
    """One model: in each setting (options of a request) the devices that rows are wanted of, each with the row's key."""

    model: str
    settings: tuple[dict[str, Any], ...]
    wanted: tuple[tuple[tuple[int, str], ...], ...]
    cache: bool = True

    @property
    def rows(self) -> int:
        return sum(len(each) for each in self.wanted)


# The rows of every task, in whichever order they are done.
Engine = Callable[[list[Task]], Iterator[tuple[Task, list[Row]]]]


@cache
def _constants() -> str:
    """As they are when a process begins: `version` is kept too."""
    return constants_digest()


@cache
def version() -> str:
    """Of the program, torch and the constants: rows of another are not set beside these."""
    return digest(paths.code_state(), compat.version("torch"), _constants())[:16]


def model_key(model: str, setting: Mapping[str, Any]) -> str:
    """What a trace depends on, wherever it is made: the model's source, arguments and inputs, and the files that hold them.

    Raises a RooflineError for a model that is not there.
    """
    found = _source(model, setting)
    package = found.kind.package
    asked = found.asked.sizes if found.inputs is None else found.inputs
    known = (type(found.kind).__name__, found.attribute, sorted(found.args.items()), package and compat.version(package), asked)
    where = () if found.files else (found.where,)
    return digest(repr((known, where, found.notes)), *(sha256(bytes_of(str(file))).hexdigest() for file in found.files))


def keys(model: str, setting: Mapping[str, Any], devices: Iterable[tuple[Device, str]]) -> list[str]:
    """The key of the row on each device, which comes with its digest; a model that is not there has one too."""
    try:
        source = model_key(model, setting)
    except RooflineError as error:
        source = f"{type(error).__name__}: {error}"
    except OSError as error:
        source = str(error)
    start = framed(digest(version(), model, source, repr(_taken(setting))))
    return [sha256(start + _named(device.name, known)).hexdigest()[:32] for device, known in devices]


_named = cache(framed)


def _taken(setting: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The options of a setting, as they are taken where they were not given: who names a default asks for the same row."""
    given = {name: value for name, value in setting.items() if value not in (None, False)}
    given.setdefault("runtime", request.Place().runtime)
    if given.get("training"):
        given["optimizer"] = request.Pass(training=True, optimizer=given.get("optimizer")).update
    return sorted(given.items())


def own_code(model: str, setting: Mapping[str, Any]) -> bool:
    """Whether a person's own code builds the model, which may read files that its name does not tell."""
    try:
        return _source(model, setting).kind.code == "person"
    except RooflineError:
        return False


def _source(model: str, setting: Mapping[str, Any]) -> Source:
    return resolve(request.made(model, {n: v for n, v in setting.items() if n in request.Ask.__struct_fields__}).ask)


# Devices of this process that were asked for, by identity; each is kept, so that no other takes its place.
_known: dict[int, tuple[Device, str]] = {}


def fingerprint(device: Device) -> str:
    """Its digest, which every task on it asks for."""
    found = _known.get(identity(device))
    if found is None:
        found = _known[identity(device)] = device, device_digest(device)
    return found[1]


def digests(devices: Iterable[Device]) -> list[tuple[Device, str]]:
    return [(device, fingerprint(device)) for device in devices]


def common(model: str, setting: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows of a setting have in common before anything is traced."""
    prefill, decode = setting.get("prefill"), setting.get("decode")
    mode = "training" if setting.get("training") else "prefill" if prefill else "decode" if decode else "inference"
    what = request.made(model, {name: v for name, v in setting.items() if name in request.Pass.__struct_fields__}).what
    return dict(
        version=version(),
        model=model,
        batch=setting.get("batch"),
        resolution=setting.get("resolution"),
        inputs="; ".join(setting.get("inputs", ())),
        settings=_text(setting.get("settings")),
        dtype=what.dtype or "",
        runtime=setting.get("runtime", "eager"),
        mode=mode,
        optimizer=what.update,
        layout="channels-last" if what.channels_last else "",
        norms="folded" if what.fold_bn else "",
        turns=what.turns,
        tokens=prefill or decode,
        roofline=__version__,
        torch=compat.version("torch"),
        constants=_constants(),
    )


def blank(key: str, same: Mapping[str, Any], setting: Mapping[str, Any], device: Device, fingerprint: str) -> Row:
    """The row as far as it is known before anything is traced; `same` is what is `common`."""
    host = device.host.value if setting.get("host") is not None and device.kind == "gpu" else None
    return Row(key=key, device=device.name, kind=device.kind, tier=device.tier, host=host, fingerprint=fingerprint, **same)


def _text(settings: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted((settings or {}).items()))


def failed(row: Row, status: str, error: str) -> Row:
    return msgspec.structs.replace(row, status=status, error=error)


def lost(task: Task, devices: Sequence[Device], status: str, why: str) -> list[Row]:
    """The rows of a task that no process could finish."""
    return [
        failed(blank(key, same, setting, devices[i], fingerprint(devices[i])), status, why)
        for setting, wanted in zip(task.settings, task.wanted, strict=True)
        for same in (common(task.model, setting),)
        for i, key in wanted
    ]


# ------------------------------------------------------------------------------------------------ files of a person's own


def depends(record: Record | None) -> str:
    """The files that a trace of somebody's own code was made of, with their content, as a row keeps them."""
    if record is None:
        return "unknown"
    return "; ".join(f"{file.sha256[:16]} {file.path}" for file in sorted(record.files, key=lambda file: file.path))


@cache
def still(text: str) -> bool:
    """Whether all of them are as they were."""
    if text == "unknown":
        return False
    try:
        return all(
            sha256(Path(path).read_bytes()).hexdigest().startswith(known)
            for known, _, path in (part.partition(" ") for part in text.split("; ") if part)
        )
    except OSError:
        return False
