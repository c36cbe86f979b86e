"""Files that a person names and a stranger may have written: read whole, but never without an end.

A pipe or a device may not end, or may wait for ever; a file may be larger, or nested deeper, than anything that it could
mean. All of that becomes an OSError or ValueError with the words for it, which the readers report as their own.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
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


def text(path: str | Path, limit: int, encoding: str = "utf-8") -> str:
    """The same as text. Raises OSError or UnicodeDecodeError."""
    return content(path, limit).decode(encoding).replace("\r\n", "\n")


def own(path: Path) -> dict[str, Any]:
    """A TOML document of this package's own. It is read six times as fast as tomllib does it, to the same values."""
    source = path.read_text(encoding="utf-8")
    found = _plain(source)
    return toml(source) if found is None else found


def _plain(source: str) -> dict[str, Any] | None:
    """A document of whole lines as we write them; None where it has anything else. Its values are those of JSON, nearly."""
    import msgspec

    decode, found = msgspec.json.decode, dict[str, Any]()
    table, lines = found, iter(source.split("\n"))
    try:
        for line in lines:
            if not line or line[0] == "#":
                continue
            if line[0] == "[":
                table = _entered(found, line)
                continue
            key, _, value = line.partition(" = ")
            key = decode(key) if key[0] == '"' else key
            if value == "[":
                value = _joined(lines)
            # what JSON has and TOML has not, or has in another way
            if key in table or "\\" in value or "null" in value or not _bare(key.replace("/", "_")):
                return None
            table[key] = decode(_inline(value) if value[0] == "{" else value)
    except (ValueError, LookupError, AttributeError, StopIteration):
        return None
    return found


def _entered(found: dict[str, Any], line: str) -> dict[str, Any]:
    """The table that a line opens: `[a]`, `[a.b]` or the next of `[[a]]`. Raises ValueError for another line."""
    many = line.startswith("[[")
    *above, last = (line[2:-2] if many else line[1:-1]).split(".")
    for word in above:
        found = found.setdefault(word, {})
    whole = line.endswith("]]" if many else "]") and all(map(_bare, (*above, last)))
    if not whole or (last in found and not many):
        raise ValueError(line)
    if many:
        found.setdefault(last, []).append({})
        return found[last][-1]  # type: ignore[no-any-return]  # what it was just given
    return found.setdefault(last, {})  # type: ignore[no-any-return]


def _bare(word: str) -> bool:
    return word.isascii() and word.replace("-", "_").isidentifier()


def _joined(lines: Iterator[str]) -> str:
    """A list with an item on each line, as one line."""
    items = []
    while (line := next(lines)) != "]":
        items.append(line.strip())
    return f"[{' '.join(items).removesuffix(',')}]"


def _inline(value: str) -> str:
    """`{ a = 1, b = "x" }` as JSON: texts stay as they are, what lies between them is rewritten."""
    parts = value.split('"')
    parts[::2] = [part.replace("{ ", '{"').replace(", ", ',"').replace(" = ", '":') for part in parts[::2]]
    return '"'.join(parts)


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
