"""The devices by name: shipped ones and their aliases, files, this machine and its GPU.

`lookup("rtx 4090")` finds a shipped device, an alias, a file path, `cpu` (this machine) or `gpu` (the first CUDA device).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from roofline import errors, units
from roofline.devices.device import Device, Number
from roofline.errors import UnknownNameError, UsageError
from roofline.paths import LIBRARY

_VENDOR_WORDS = ("nvidia", "geforce", "tesla", "quadro", "amd", "instinct", "radeon", "intel", "core", "apple", "aws")
_ALIASES = r"(?ms)^aliases = \[(.*?)\]"


def _key(name: str) -> str:
    """Case, spaces, hyphens and underscores do not count."""
    return "".join(name.replace("_", " ").replace("-", " ").split()).lower()


def _without_vendor(name: str) -> str:
    """ "NVIDIA GeForce RTX 4090" -> "rtx4090"."""
    return "".join(word for word in re.split(r"[\s_-]+", name.lower()) if word not in _VENDOR_WORDS)


def _files() -> list[Path]:
    """Shipped device files; a name that starts with `_` is a table for something else."""
    return sorted((path for path in LIBRARY.glob("*.toml") if not path.name.startswith("_")), key=lambda path: path.stem)


def names() -> list[str]:
    """Names of the shipped devices."""
    return [path.stem for path in _files()]


def everything() -> list[Device]:
    """Every shipped device, by name."""
    return [_shipped(path) for path in _files()]


@cache
def _shipped(path: Path) -> Device:
    return _read(path)


def _read(path: str | Path) -> Device:
    # here and not above: a machine that is only detected has no file, and its first analysis would wait for what reads one
    from roofline.devices.file import read

    return read(path)


def _split(name: str) -> tuple[str, int | None]:
    """`i9-10940x@4` as the device and its threads."""
    if "@" not in name:
        return name, None
    from roofline.devices.threads import split  # for the few that are asked for so

    return split(name)


@cache
def _index() -> dict[str, Path]:
    """Names and aliases -> file, read without parsing the files: that would take a name's answer from 9 ms to 118."""
    files = _files()
    index = {
        _key(alias): path
        for path in files
        for found in re.findall(_ALIASES, path.read_text(encoding="utf-8"))
        for alias in re.findall(r'"([^"]*)"', found)
    }
    return index | {_key(path.stem): path for path in files}


def lookup(name: str | Path) -> Device:
    """The device of that name, alias or file path; `cpu` is this machine and `gpu` the first CUDA device.

    `i9-10940x@4` is that CPU with 4 threads at work.

    Raises UnknownNameError with the nearest names, or DeviceFileError for a file that does not hold a device.
    """
    text = os.fspath(name)
    if isinstance(name, Path) or text.endswith(".toml") or (os.sep in text and _split(text)[1] is None):
        return _read(text)
    whole, threads = _split(text)
    if threads is not None:
        from roofline.devices.threads import working

        return working(lookup(whole), threads)
    key = _key(text)
    if key == "cpu":
        return this_machine()
    if key == "gpu":
        return _first_gpu()
    by_name = LIBRARY / f"{text}.toml"
    if not text.startswith(("_", ".")) and os.path.isfile(by_name):
        return _shipped(by_name)
    index = _index()
    # "NVIDIA B200 SXM (HGX)": what stands in brackets only explains
    bare = re.sub(r"\(.*?\)", "", text)
    path = next((path for t in (text, bare) for k in (_key(t), _without_vendor(t)) if (path := index.get(k))), None)
    if path is not None:
        return _shipped(path)
    several = [part.strip() for part in text.split(",")]
    if len(several) > 1 and all(_key(part) in index for part in several):
        each = " ".join(f"-d {index[_key(part)].stem}" for part in several)
        raise UsageError(f"unknown device {text!r}: give each by itself, as {each}")
    near = errors.close(key, index, n=5)
    close = list(dict.fromkeys(index[k].stem for k in near))[:3]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UnknownNameError(
        f"unknown device {text!r}: {hint}`roofline devices` lists the names; `cpu`, `gpu` and a .toml file work too"
    )


def this_machine() -> Device:
    """This machine: the calibrated file if there is one, else what can be detected, with every estimate named in the notes."""
    from roofline.devices.host import calibrated_file

    path = calibrated_file()
    return _read(path) if path is not None else _detected()


@cache
def _detected() -> Device:
    from roofline.devices.host import detect

    return detect()


# An operator takes microseconds to issue; what is far from that was meant in another unit.
_HOST_LEAST, _HOST_MOST = 1e-9, 10e-3


def with_host(devices: Sequence[Device], host: str | float | None, runtime: str) -> list[Device]:
    """The devices with the same machine around all their GPUs: `host` ("10 us", or seconds) is what it needs to issue an op.

    None leaves them as they are. A CPU is its own host. Raises UsageError for what is no such time, and where no host counts.
    """
    if host is None:
        return list(devices)
    if runtime == "ideal":
        raise UsageError("host (--host): the ideal runtime has no host, its kernels start at once; ask for eager or compiled")
    try:
        value = units.parse(host, "s")
    except ValueError as error:
        raise UsageError(f"host (--host): {error}".replace('"4.5 us"', '"10 us"')) from None
    if not _HOST_LEAST <= value <= _HOST_MOST:
        raise UsageError(
            f"host (--host): {host!r} is no time to issue an operator in: expected {units.seconds(_HOST_LEAST)} to "
            f"{units.seconds(_HOST_MOST)}, such as 10us"
        )
    if all(device.kind == "cpu" for device in devices):
        raise UsageError(
            f"host (--host) is the machine around a GPU, and {devices[0].name} is a CPU, which is its own host\n"
            "what it needs for an operator is `host` in its device file; `roofline calibrate` measures it"
        )
    given = Number(value, "given", "given")
    return [
        d if d.kind == "cpu" else replace(d, host=given, sources={**d.sources, "given": "asked for with host (--host)"})
        for d in devices
    ]


def _first_gpu() -> Device:
    """The first CUDA device that this process may see, matched to the library by the name that the driver gives it."""
    from roofline.devices.host import cuda_device_name

    found = cuda_device_name()
    if found is None:
        gpus = [d.name for d in everything() if d.kind == "gpu"]
        raise UnknownNameError(
            f"no CUDA device was found here; name the GPU to predict for, e.g. {', '.join(gpus[:3])}\n"
            "`roofline devices` lists all names"
        )
    index = _index()
    path = index.get(_key(found)) or index.get(_without_vendor(found))
    if path is None:
        raise UnknownNameError(
            f"this machine's GPU {found!r} is not in the device library; give the nearest name "
            "(`roofline devices` lists them) or a device file with -d FILE.toml"
        )
    return _shipped(path)
