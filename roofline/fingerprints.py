"""What every number depends on, as text for keys: this program's own files, torch, Python, and the constants in use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from roofline import source
from roofline.cache import digest
from roofline.device import Device

_HERE = Path(__file__).resolve().parent
# Their content is part of a key in another way: a device as it was read, the page and the charts as they are drawn anew.
_APART = frozenset({"devices", "views", "_share", "__pycache__"})
# What comes after the trace: a change of the time model leaves traces valid.
_AFTER = frozenset({
    "analysis", "calibrate", "calibrate_gpu", "cpu_compiled", "cpu_eager", "diff", "efficiency", "fit", "fitting", "formulas",
    "fusion", "gate", "gpu", "host", "kernels", "machine", "memory", "metrics", "options", "opstable", "output", "roof",
    "sharing", "statistics", "stopwatch", "timing", "units", "validate", "verdict", "workspace", "cost", "inductor",
    "constants",
})  # fmt: skip


def _files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir():
                if entry.name not in _APART:
                    yield from _files(entry.path)
            elif entry.name.endswith((".py", ".toml")):
                yield entry.path


@cache
def code_state(after: bool = True) -> str:
    """The content of this program's files; without `after`, of those that a trace depends on."""
    whole = sha256()
    for path in _files(str(_HERE)):
        name = os.path.relpath(path, _HERE)
        if after or (name.split(os.sep)[0].removesuffix(".py").removesuffix(".toml") not in _AFTER and "cli" not in name):
            with open(path, "rb") as file:
                whole.update(name.encode() + b"\0" + sha256(file.read()).digest())
    return whole.hexdigest()


@cache
def program() -> str:
    """This program, torch and Python: versions, places, and the content of our files (a checkout changes without a version)."""
    return digest(code_state(), _torch(), sys.version, sys.platform)


def _torch() -> str:
    """Torch's version and where it is: another one may come first on PYTHONPATH."""
    return repr((source.package_version("torch"), source.package_place("torch")))


@cache
def tracing() -> str:
    """As `program`, for what is a trace alone."""
    return digest(code_state(after=False), _torch(), sys.version, sys.platform)


def constants_digest() -> str:
    """The constants of the time model in use, shipped or not, as a document keeps them."""
    shipped = (_HERE / "constants.toml").read_bytes()
    return digest(shipped, constants())[:16]


def device_digest(device: Device) -> str:
    """All numbers of a device; its texts (titles, sources, notes) apart."""

    def numbers(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in sorted(value.items()):
                if key not in ("released", "nominal", "size_nominal", "spread"):
                    yield from numbers(inner, f"{path}.{key}")
        elif isinstance(value, list | tuple):
            for i, inner in enumerate(value):
                yield from numbers(inner, f"{path}.{i}")
        elif isinstance(value, int | float):
            yield f"{path}={float(value)!r}"

    known = msgspec.to_builtins(device)
    known.pop("host", None)  # the machine around it, which is asked for and compared apart
    return digest(*numbers(known, ""))[:16]


def constants() -> str:
    """The constants in use; the shipped ones are among our files."""
    path = os.environ.get("ROOFLINE_CONSTANTS", "")
    try:
        return sha256(Path(path).read_bytes()).hexdigest() if path else ""
    except OSError as error:
        return repr(error)
