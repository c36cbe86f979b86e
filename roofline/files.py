"""Files that a person names and a stranger may have written: read whole, but never without an end.

A pipe or a device may not end, or may wait for ever; a file may be larger, or nested deeper, than anything that it could
mean. All of that becomes an OSError or ValueError with the words for it, which the readers report as their own.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 2**20
# Bytes that a file may have: settings in TOML, a configuration or table, an analysis.
TOML, CONFIG, TABLE, ANALYSIS = MIB, 16 * MIB, 256 * MIB, 256 * MIB
# Tables and lists inside one another.
DEPTH = 64
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def content(path: str | Path, limit: int) -> bytes:
    """What stands in a file of at most `limit` bytes. Raises OSError, also for what is no file."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "no file has a zero byte in its name", str(path))
    # a pipe that nobody writes to is opened too, instead of waited for
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise OSError(errno.EINVAL, f"it is {kind}, not a file; write what it gives into a file first", str(path))
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit // MIB} MiB, the limit for such a file", str(path))
    return data


def json(path: str | Path, limit: int) -> bytes:
    """A JSON document in UTF-8, without a mark before it; what PowerShell saves of output is UTF-16. Raises OSError."""
    data = content(path, limit)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with suppress(UnicodeDecodeError):
            data = data.decode("utf-16").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def text(path: str | Path, limit: int) -> str:
    """The same as text, without the mark that editors on Windows put first. Raises OSError or UnicodeDecodeError."""
    return content(path, limit).decode("utf-8-sig").replace("\r\n", "\n")


def controls(value: Any) -> str:
    """The first text in a document, key or value, with a line end or another control character in it, or nothing."""
    level: list[Any] = [value]
    while level:
        held = level.pop()
        if isinstance(held, str) and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in held):
            return held
        level += [*held, *held.values()] if isinstance(held, dict) else held if isinstance(held, list) else []
    return ""


def toml(source: str) -> dict[str, Any]:
    """A TOML document. Raises tomllib.TOMLDecodeError (a ValueError), also for one without end in its depth."""
    import tomllib

    try:
        found = tomllib.loads(source)
    except RecursionError:
        raise tomllib.TOMLDecodeError(f"tables or lists nested more than {DEPTH} deep") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # a whole number of more digits than Python reads
        raise tomllib.TOMLDecodeError(str(error)) from None
    level: list[Any] = [found]
    for _ in range(DEPTH):
        level = [
            v
            for holder in level
            for v in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(v, (dict, list))
        ]
        if not level:
            return found
    raise tomllib.TOMLDecodeError(f"tables or lists nested more than {DEPTH} deep")
