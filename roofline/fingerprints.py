"""What every number depends on, as text for keys: this program's own files, torch, Python, and the constants in use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from roofline import compat, paths
from roofline.cache import digest
from roofline.devices.device import Device


@cache
def program() -> str:
    """This program, torch and Python: versions, places, and the content of our files (a checkout changes without a version)."""
    return digest(paths.code_state(), _torch(), sys.version, sys.platform)


def _torch() -> str:
    """Torch's version and where it is: another one may come first on PYTHONPATH."""
    return repr((compat.version("torch"), compat.place("torch")))


@cache
def tracing() -> str:
    """As `program`, for what is a trace alone."""
    return digest(paths.code_state(after=False), _torch(), sys.version, sys.platform)


def constants_digest() -> str:
    """The constants of the time model in use, shipped or not, as a document keeps them."""
    return digest(_shipped(), constants())[:16]


@cache
def _shipped() -> bytes:
    return paths.CONSTANTS.read_bytes()


def device_digest(device: Device) -> str:
    """All numbers of a device; its texts (titles, sources, notes) apart."""
    return _digest_of(msgspec.json.encode(device))


@lru_cache(maxsize=256)
def _digest_of(encoded: bytes) -> str:
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

    known = msgspec.json.decode(encoded)
    known.pop("host", None)  # the machine around it, which is asked for and compared apart
    return digest(*numbers(known, ""))[:16]


def constants_file() -> str:
    """The file of constants that ROOFLINE_CONSTANTS names instead of the shipped ones; empty: none."""
    return os.environ.get("ROOFLINE_CONSTANTS", "")


def constants() -> str:
    """The constants in use; the shipped ones are among our files."""
    path = constants_file()
    try:
        return sha256(Path(path).read_bytes()).hexdigest() if path else ""
    except OSError as error:
        return repr(error)
