"""What `--input` takes, read: a tensor by its shape, values, numbers, lists, dicts and files. Imports no torch.

1,128:int64             a tensor by its shape; with a dtype
1,128:int64:0..32000    ... drawn from a range, the last not included
[5,3,2]  [[0,1],[1,2]]  a tensor of these values
[3,20,30; 3,24,16]      a list of what stands between the semicolons; (1,8; 1,8) a tuple
{image=3,8,8; scale=2}  a dict
5  0.5  true  none      a number, a truth, nothing; "text"; (5, 3) a tuple of numbers
@file.npz  @file.pt:x   what a file holds; one entry of it
"""

from __future__ import annotations

import ast
import math
import re
from typing import Any

from roofline.dtypes import INPUTS
from roofline.errors import UsageError, nearest
from roofline.sources.values import Array, Group, Input, Plain, Stored, Table, Value

EXAMPLES = "t=5, lengths=[5,3,2], maps=[1,8,16,16; 1,16,8,8], batch={image=1,3,8,8; scale=0.5}, x=@file.npz"
_NAME = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)
_INTEGER = re.compile(r"[-+]?\d+")
_NUMBER = r"[-+]?(?:\d+\.\d*|\.?\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_FILE = re.compile(r"(.+?\.(?:npz|npy|pt|pth))(?::(.+))?", re.IGNORECASE)
# Brackets within brackets, elements written out, and what torch can count.
_DEEPEST, _MOST, _LARGEST = 20, 100_000, 2**60


def read(text: str, position: int = 0) -> Input:
    """One `--input`; its name is the position where it has none. Raises UsageError for what is none of the above."""
    found = _NAME.fullmatch(text)
    name, rest = (found[1], found[2]) if found else ("", text)
    if found and not (name.isidentifier() or name.isdigit()):
        raise _wrong(text)
    return _Reader(text).input(name or str(position), rest, 0, bool(found))


def tensor(text: str) -> Input:
    """A tensor by its shape alone, without a name."""
    return _Reader(text)._tensor("", text)


def _wrong(text: str) -> UsageError:
    shown = text if len(text) <= 200 else text[:200] + "..."
    found = _NAME.fullmatch(text)
    word = found[2].strip() if found else ""
    meant = f"; a text is in quotes, within the shell's: '{found[1]}=\"{word}\"'" if found and word.isidentifier() else ""
    return UsageError(
        f"--input {shown!r} is not a shape{meant}; write 1,3,224,224 or x=1,3,224,224 or ids=1,128:int64\nor values: {EXAMPLES}"
    )


class _Reader:
    """Reads the parts of one text, which every error shows."""

    def __init__(self, text: str) -> None:
        self.text = text

    def input(self, name: str, text: str, depth: int, number: bool = True) -> Input:
        """`number`: an integer by itself is that number, and not the only size of a shape."""
        text = text.strip()
        if depth > _DEEPEST:
            raise UsageError(f"--input {self.text[:60]!r}...: more than {_DEEPEST} brackets within each other")
        if number and _INTEGER.fullmatch(text):
            return Input(name, (), value=Plain(_number(text)))
        value = self._value(text, depth)
        if value is not None:
            return Input(name, (), value=value)
        return self._tensor(name, text)

    def _value(self, text: str, depth: int) -> Value | None:
        if text.startswith("@"):
            return self._stored(text[1:])
        if text[:1] in _CLOSING:
            return self._bracket(text, depth)
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
            return Plain(text[1:-1])
        if text.lower() in _WORDS:
            return Plain(_WORDS[text.lower()])
        if re.fullmatch(f"{_NUMBER}|[-+]?inf|nan", text) and not re.fullmatch(r"\d+", text):
            return Plain(_number(text))
        return None

    def _bracket(self, text: str, depth: int) -> Value:
        inner, rest = self._inside(text)
        if text[0] == "{":
            items = [_NAME.fullmatch(part) for part in self._parts(inner)]
            if rest or not all(items):
                raise self._bad("a dict is written {image=1,3,8,8; scale=0.5}")
            names = [m[1] for m in items if m]
            if len(set(names)) < len(names):
                raise self._bad("a key of its dict stands there twice")
            return Table(tuple(self.input(m[1], m[2], depth + 1) for m in items if m))
        if ";" in _top_level(inner) or not inner.strip():
            if rest:
                raise self._bad("a dtype belongs to each tensor of a list")
            return Group(
                tuple(self.input("", part, depth + 1) for part in self._parts(inner)), "list" if text[0] == "[" else "tuple"
            )
        return self._literal(text[: len(text) - len(rest)], rest)

    def _literal(self, text: str, rest: str) -> Value:
        """`[5,3,2]`, `[[0,1],[1,2]]:int32`, `(5, 3)`, `["a", "b"]`."""
        if text.count(",") > _MOST:
            raise self._bad(f"more than {_MOST:,} values are better in a file: x=@file.npz")
        try:
            words = re.sub(r"\b(true|false|none)\b", lambda m: m[1].capitalize(), text, flags=re.IGNORECASE)
            found = ast.literal_eval(words)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise self._bad("between its brackets stand numbers, or what a list holds with ; between") from None
        if isinstance(found, (int, float)):  # (5)
            found = (found,)
        flat = _flat(found)
        if isinstance(found, list) and all(isinstance(v, (bool, int, float)) for v in flat):
            if any(type(v) is int and not -(2**63) <= v < 2**63 for v in flat):
                raise self._bad("a value is beyond 64 bits")
            if not _even(found):
                raise self._bad("its rows differ in length")
            dtype = self._dtype(rest[1:]) if rest else ""
            kinds = {type(v) for v in flat}
            return Array(_frozen(found), dtype or ("bool" if kinds == {bool} else "float32" if float in kinds else "int64"))
        if rest or not all(v is None or isinstance(v, (bool, int, float, str)) for v in found):
            raise self._bad("between its brackets stand numbers, or what a list holds with ; between")
        return Group(tuple(Input("", (), value=Plain(v)) for v in found), "tuple" if isinstance(found, tuple) else "list")

    def _stored(self, text: str) -> Stored:
        found = _FILE.fullmatch(text.strip())
        if found is None:
            raise self._bad("values are read from .npz, .npy, .pt and .pth files, such as x=@file.npz or x=@file.npz:key")
        return Stored(found[1], found[2] or "")

    def _tensor(self, name: str, text: str) -> Input:
        """`1,3,224,224`, `1,128:int64`, `1,128:int64:0..32000`; `5,` has one dimension."""
        shape, *more = (part.strip() for part in text.split(":"))
        between, dtype = None, ""
        if more and (limits := _RANGE.fullmatch(more[-1])):
            between = (_number(limits[1]), _number(limits[2]))
            more.pop()
        if len(more) > 1:
            raise _wrong(self.text)
        if more:
            dtype = self._dtype(more[0])
        if between is not None:
            whole = dtype.startswith(("int", "uint", "bool"))
            if whole and not all(isinstance(v, int) for v in between):
                raise self._bad("integers are drawn from a range of integers, such as 0..32000")
            if not between[0] < between[1]:
                raise self._bad("a range goes from its lowest value up to its highest, which is not included, such as 0..32000")
        sizes = shape.removesuffix(",")
        try:
            found = tuple(int(s) for s in re.split(r"[,x]", sizes) if s.strip() or sizes)
        except ValueError:
            raise _wrong(self.text) from None
        if any(s < 0 for s in found) or (shape and not found):
            raise _wrong(self.text)
        if math.prod(found) > _LARGEST:
            raise self._bad("it is too large for any machine")
        return Input(name, found, dtype, between=between)

    def _dtype(self, text: str) -> str:
        dtype = text.strip()
        if dtype and dtype not in INPUTS:
            hint = nearest(dtype, sorted(INPUTS), cutoff=0.6, show=str) or f"; use one of {', '.join(sorted(INPUTS))}"
            raise self._bad(f"unknown dtype {dtype!r}{hint}")
        return dtype

    def _inside(self, text: str) -> tuple[str, str]:
        """What stands between the first bracket and its partner; and what follows, which may be `:dtype`."""
        open_: list[str] = []
        for i, c in enumerate(_hidden(text)):
            if c in _CLOSING:
                open_.append(_CLOSING[c])
            elif c in _CLOSING.values() and (not open_ or open_.pop() != c):
                break
            if not open_ and i:
                rest = text[i + 1 :].strip()
                if rest and not rest.startswith(":"):
                    break
                return text[1:i], rest
        raise self._bad("its brackets do not close each other")

    def _parts(self, inner: str) -> list[str]:
        """The parts between semicolons that stand in no bracket; nothing after the last one."""
        seen, parts, start = _top_level(inner), [], 0
        for i, c in enumerate(seen):
            if c == ";":
                parts.append(inner[start:i])
                start = i + 1
        parts.append(inner[start:])
        if not parts[-1].strip():
            parts.pop()
        return parts

    def _bad(self, why: str) -> UsageError:
        shown = self.text if len(self.text) <= 200 else self.text[:200] + "..."
        return UsageError(f"--input {shown!r}: {why}")


def _hidden(text: str) -> str:
    """The text with what stands between quotes blanked out, so that brackets and semicolons there are none."""
    return re.sub(r"\"[^\"]*\"|'[^']*'", lambda m: "_" * len(m[0]), text)


def _top_level(text: str) -> str:
    """The text with everything in brackets and quotes blanked out."""
    out, depth = [], 0
    for c in _hidden(text):
        depth -= c in _CLOSING.values()
        out.append("_" if depth > 0 or c in _CLOSING else c)
        depth += c in _CLOSING
    return "".join(out)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        if len(text) > 400:
            raise UsageError(f"--input {text[:40]!r}...: a number of {len(text)} digits is beyond every type") from None
        return float(text)


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        return [value]
    return [v for inner in value for v in _flat(inner)]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _even(value: Any) -> bool:
    """Whether nested lists are a grid."""
    rows = [isinstance(v, list) for v in value]
    if not any(rows):
        return True
    return (
        all(rows)
        and len({len(v) for v in value}) == 1
        and all(_even(v) for v in value)
        and len({_depth(v) for v in value}) == 1
    )


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else 0
