"""What a sweep is asked for: which models, in which settings, on which devices."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from msgspec import Struct

from roofline import files, request
from roofline.devices import library
from roofline.devices.device import Device
from roofline.devices.threads import with_threads
from roofline.errors import UnknownNameError, UsageError, nearest
from roofline.sources.resolve import catalogue

# Options of a request that a sweep takes several of, in the order of its rows; and those that are the same in all of it.
SEVERAL = ("batch", "resolution", "dtype", "runtime", "prefill", "decode")
ONCE = ("training", "optimizer", "turns", "channels_last", "fold_bn", "host", "inputs", "settings")
# What a grid file calls them.
_FILE = {"settings": "set"}
_KEYS = ("models", "devices", *SEVERAL, *(_FILE.get(name, name) for name in ONCE))
GROUPS = ("all", "gpu", "cpu")


class Grid(Struct, frozen=True):
    """Every model in every setting on every device. A setting holds options of a request by name, the device apart."""

    models: tuple[str, ...]
    settings: tuple[dict[str, Any], ...]
    devices: tuple[Device, ...]

    @property
    def rows(self) -> int:
        return len(self.models) * len(self.settings) * len(self.devices)


def made(models: Sequence[str], devices: Sequence[str], options: Mapping[str, Any]) -> Grid:
    """The grid of texts as the command line takes them; `options` by name, those of SEVERAL as lists.

    A model that ends in .toml is a file that holds a grid, over which the rest goes. Raises UsageError for what is not there,
    cannot be, or is empty.
    """
    given = {name: value for name, value in options.items() if value not in (None, [], (), {}, False)}
    names: list[str] = []
    for model in models:
        if model.endswith(".toml"):
            found, own, more = _read(Path(model))
            names += found
            devices = devices or own
            given = request.over(more, given)
        else:
            names.append(model)
    chosen = with_threads(devices_of(devices or ["all"]), given.pop("threads", None))
    settings = _settings(given)
    runtimes = {setting.get("runtime", "eager") for setting in settings}
    for runtime in runtimes:
        library.with_host(chosen, given.get("host"), runtime)
    return Grid(tuple(models_of(names)), settings, tuple(chosen))


# ------------------------------------------------------------------------------------------------ models


def models_of(texts: Iterable[str]) -> list[str]:
    """Names, patterns (`timm:mobilenetv3_*`) and lists of both (`@models.txt`), each model once.

    Raises UnknownNameError for a pattern that matches nothing, UsageError for a list that cannot be read.
    """
    found: dict[str, None] = {}
    for text in texts:
        if text.startswith("@"):
            found |= dict.fromkeys(models_of(_listed(text)))
        elif re.search(r"[*?\[]", text):
            found |= dict.fromkeys(_matching(text))
        else:
            found[text] = None
    if not found:
        raise UsageError("no model is given: name some, or a pattern such as timm:mobilenetv3_*")
    return list(found)


def _listed(text: str) -> list[str]:
    """The lines of a list; what stands behind a # says nothing. A path in it is as if it were given here."""
    path = text[1:]
    try:
        lines = files.text(path, files.CONFIG).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{text}: it cannot be read: {getattr(error, 'strerror', None) or error}") from error
    names = [name for line in lines if (name := re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip())]
    if not names:
        raise UsageError(f"{text}: no model in it: a name or a pattern a line")
    if nested := next((name for name in names if name.startswith("@")), None):
        raise UsageError(f"{text}: {nested}: a list does not name another list")
    return names


def _matching(pattern: str) -> list[str]:
    """Models known by name that match."""
    known = [row["name"] for row in catalogue(zoos=":" in pattern or pattern == "*")]
    found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        prefix, colon, _ = pattern.partition(":")
        zoos = dict.fromkeys(name.partition(":")[0] for name in known if ":" in name)
        if colon and prefix not in zoos:
            hint = nearest(prefix, zoos) or f": patterns know {', '.join(f'{zoo}:*' for zoo in zoos) or 'no package here'}"
        else:
            plain = re.sub(r"\[.*?\]|[*?]", "", pattern)
            hint = nearest(plain, known, n=3, cutoff=0.3, show=str)
        raise UnknownNameError(f"no model matches {pattern!r}{hint}\n`roofline models QUERY` lists the names")
    return found


# ------------------------------------------------------------------------------------------------ devices


def devices_of(texts: Iterable[str]) -> list[Device]:
    """Names, files, patterns (`rtx-*`), and `all`, `gpu` and `cpu` for all of them in the library. Each once."""
    found: dict[str, Device] = {}
    for text in texts:
        for device in _devices(text):
            known = found.setdefault(device.name, device)
            if known != device:
                raise UsageError(f"-d {text}: another device is called {device.name} too; give one of them another name")
    return list(found.values())


def _devices(text: str) -> list[Device]:
    if text in GROUPS:
        return [device for device in library.everything() if text in ("all", device.kind)]
    if re.search(r"[*?\[]", text):
        names = [name for name in library.names() if fnmatchcase(name, text)]
        if not names:
            raise UnknownNameError(f"-d {text}: no device of the library matches\n`roofline devices` lists the names")
        return [library.lookup(name) for name in names]
    return [library.this_machine() if text == "here" else library.lookup(text)]


# ------------------------------------------------------------------------------------------------ settings


def _settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Every combination of the options that several values were given of. Raises UsageError for what cannot be asked."""
    once = {name: given[name] for name in ONCE if name in given}
    if unknown := [name for name in given if name not in (*SEVERAL, *ONCE)]:
        raise UsageError(f"unknown option {unknown[0]!r}{nearest(unknown[0], (*SEVERAL, *ONCE))}")
    lists = {}
    for name in SEVERAL:
        if name in given:
            values = list(given[name]) if isinstance(given[name], (list, tuple)) else [given[name]]
            lists[name] = list(dict.fromkeys(values))
    found = [{**dict(zip(lists, values, strict=True)), **once} for values in product(*lists.values())]
    for setting in found:
        request.check(request.made("model", setting))
    return tuple(found)


def words(name: str, texts: Sequence[str] | None) -> list[Any]:
    """The values of an option given as "1,8,32" or several times. Raises UsageError."""
    found: list[Any] = []
    for part in (part.strip() for text in texts or () for part in str(text).split(",")):
        if name in request.SIZES:
            if not part.isdecimal() or int(part) < 1:
                raise UsageError(f"--{name} {part!r}: expected whole numbers of at least 1, such as --{name} 1,8,32")
            found.append(int(part))
        elif part not in (known := request.WORDS[name]):
            raise UsageError(f"--{name} {part!r}{nearest(part, known)}; use one of {', '.join(known)}")
        else:
            found.append(part)
    return found


def _read(path: Path) -> tuple[list[str], list[str], dict[str, Any]]:
    """A grid of a file: models, devices, options. Raises UsageError that names the key."""
    try:
        data = files.toml(files.text(path, files.TOML))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: it cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for key in data:
        if key not in _KEYS:
            raise UsageError(f"{path}: unknown key {key!r}{nearest(key, _KEYS)}\nknown: {', '.join(_KEYS)}")
    options = {name: data[_FILE.get(name, name)] for name in (*SEVERAL, *ONCE) if _FILE.get(name, name) in data}
    for name in SEVERAL:
        if name in options:
            each = options[name] if isinstance(options[name], list) else [options[name]]
            if any(isinstance(value, bool) for value in each):
                raise UsageError(f"{path}: {name}: {each} holds no {'number' if name in request.SIZES else 'text'}")
            options[name] = words(name, [str(value) for value in each])
    return _texts(path, data, "models"), _texts(path, data, "devices"), options


def _texts(path: Path, data: Mapping[str, Any], key: str) -> list[str]:
    value = data.get(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(
            f'{path}: {key}: expected a list of names, such as {key} = ["{"t4" if key == "devices" else "resnet50"}"]'
        )
    return texts
