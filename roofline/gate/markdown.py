"""Marked tables of Markdown, each cell with its place in the text, so that one can be mended and all else left as it is.

`<!-- roofline: device=t4 -->` on a line of its own marks the table below it. Tables are those of GitHub; what stands in a
fenced or indented block of code, or in another comment, is no table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from msgspec import Struct

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
# what stands before the content of a line: quotes, and the marks of a list
_QUOTES = re.compile(r"[ \t>]*")
_OUTER = re.compile(r"(?:[ \t>]|[-*+][ \t]+|\d{1,9}[.)][ \t]+)*")
_ITEM = re.compile(r"[ \t>]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)")
_FENCE = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_INDENTED = re.compile(r" {4}| {0,3}\t")
_RULE = re.compile(r"[ \t]*:?-+:?[ \t]*")
_MARK = re.compile(r"<!--\s*roofline\s*(?::|(?=\s\w+=))", re.IGNORECASE)
# what holds text as it is, and how it ends
_RAW = re.compile(r"<(pre|script|style|textarea)\b", re.IGNORECASE)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")


class Cell(Struct, frozen=True):
    """The text between two pipes without the blanks around it, and where it begins in the file's text."""

    text: str
    start: int


class Row(Struct, frozen=True):
    """A row of a table: its line, and a cell for each column that it has one for."""

    line: int
    cells: tuple[Cell, ...]


class Marked(Struct, frozen=True):
    """A mark: what it says (all of it where that is no mark), its line, and the table under it (no head: there is none)."""

    said: str
    line: int
    head: tuple[Cell, ...] = ()
    rows: tuple[Row, ...] = ()


class _Line(Struct, frozen=True):
    number: int
    start: int
    text: str


def marked(text: str) -> list[Marked]:
    """The marks of a page, in their order, each with its table."""
    lines = _lines(text)
    found: list[Marked] = []
    at, in_list = 0, False
    while at < len(lines):
        line = lines[at]
        content = line.text[_outer(line.text) :]
        if not content.strip():
            at += 1
            continue
        in_list = bool(_ITEM.match(line.text)) or (in_list and line.text[0] in " \t>")
        if not in_list and _INDENTED.match(line.text):
            at += 1  # code
        elif fence := _FENCE.match(content):
            at = _after_fence(lines, at, fence[1] or fence[2])
        elif _MARK.match(content):
            one, at = _of_mark(lines, at)
            found.append(one)
        elif content.startswith("<!--"):
            at = _after(lines, at, "-->")
        elif raw := _RAW.match(content):
            at = _after(lines, at, f"</{raw[1]}")
        else:
            at += 1
    return found


def _lines(text: str) -> list[_Line]:
    matches = (m for m in _LINE.finditer(text, int(text.startswith("\ufeff"))) if m[0])
    return [_Line(number, m.start(), m[0].rstrip("\r\n")) for number, m in enumerate(matches, 1)]


def _outer(text: str) -> int:
    match = _OUTER.match(text)
    return match.end() if match else 0


def _inner(text: str) -> int:
    match = _QUOTES.match(text)
    return match.end() if match else 0


def _quotes(text: str) -> int:
    return text[: _outer(text)].count(">")


def _after(lines: list[_Line], at: int, end: str) -> int:
    """The first line after one that has `end`."""
    while at < len(lines) and end not in lines[at].text.lower():
        at += 1
    return at + 1


def _after_fence(lines: list[_Line], at: int, fence: str) -> int:
    """The first line after a fenced block, which the end of the quote that it is in ends too."""
    depth = _quotes(lines[at].text)
    for after in range(at + 1, len(lines)):
        line = lines[after].text
        if line[: _inner(line)].count(">") < depth:
            return after
        rest = line[_inner(line) :].rstrip()
        if rest and set(rest) == {fence[0]} and len(rest) >= len(fence):
            return after + 1
    return len(lines)


def _of_mark(lines: list[_Line], at: int) -> tuple[Marked, int]:
    """The mark that begins on a line, and the line after it and its table."""
    first = lines[at]
    end = at
    while end < len(lines) and "-->" not in lines[end].text:
        end += 1
    whole = " ".join([first.text[_outer(first.text) :], *(each.text[_inner(each.text) :] for each in lines[at + 1 : end + 1])])
    # without its colon the whole comment is what it says
    said = re.sub(r"<!--(?:\s*roofline\s*:)?", "", whole, count=1, flags=re.IGNORECASE).partition("-->")[0]
    end += 1
    # comments for other programs may stand between
    while end < len(lines) and (not (rest := lines[end].text[_inner(lines[end].text) :].strip()) or _other_comment(rest)):
        end += 1
    mark = Marked(said.strip(), first.number)
    if end + 1 >= len(lines) or (found := _head(lines[end], lines[end + 1])) is None:
        return mark, max(min(end, len(lines)), at + 1)
    rows = tuple(_rows(lines, end + 2, len(found), _quotes(lines[end].text)))
    after = end + 2 + len(rows)
    return Marked(mark.said, mark.line, found, rows), after


def _other_comment(text: str) -> bool:
    return text.startswith("<!--") and text.endswith("-->") and not _MARK.match(text)


def _head(line: _Line, rule: _Line) -> tuple[Cell, ...] | None:
    """The cells of a table's head, where the line under it is a rule with as many."""
    dashes = [c.text for c in _split(rule, _inner(rule.text), code=False)]
    if "|" not in line.text or not dashes or not all(_RULE.fullmatch(each) for each in dashes):
        return None
    for code in (False, True):
        cells = _split(line, _outer(line.text), code)
        if len(cells) == len(dashes):
            return cells
    return None


def _rows(lines: list[_Line], at: int, columns: int, depth: int) -> Iterator[Row]:
    for line in lines[at:]:
        content = line.text[_inner(line.text) :]
        if "|" not in content or _quotes(line.text) != depth or _ITEM.match(line.text):
            return
        if content.startswith(("#", "<!--")) or _FENCE.match(content):
            return
        cells = _split(line, _inner(line.text), code=False)
        if len(cells) != columns:  # GitHub parts at a pipe in code, others do not: as the table's head has it
            other = _split(line, _inner(line.text), code=True)
            cells = other if len(other) == columns else cells
        yield Row(line.number, cells[:columns])


def _split(line: _Line, begin: int, code: bool) -> tuple[Cell, ...]:
    """The cells of a line from a column on; with `code`, a pipe in code parts nothing."""
    text = line.text
    inside = [m.span() for m in _CODE.finditer(text, begin)] if code else []
    pipes = [
        m.start() for m in re.finditer(r"(?<!\\)\|", text[begin:]) if not any(a <= m.start() + begin < b for a, b in inside)
    ]
    bounds = [begin - 1, *(begin + p for p in pipes), len(text)]
    parts = [(a + 1, b) for a, b in pairwise(bounds)]
    if pipes and not text[parts[0][0] : parts[0][1]].strip():
        parts = parts[1:]
    if pipes and parts and not text[parts[-1][0] : parts[-1][1]].strip():
        parts = parts[:-1]
    cells = []
    for a, b in parts:
        raw = text[a:b]
        cells.append(Cell(raw.strip(), line.start + a + len(raw) - len(raw.lstrip())))
    return tuple(cells)


def mended(text: str, changes: dict[Cell, str]) -> str:
    """The text with other content in some of its cells, and nothing else another."""
    for cell, new in sorted(changes.items(), key=lambda change: -change[0].start):
        text = text[: cell.start] + new + text[cell.start + len(cell.text) :]
    return text


def plain(text: str) -> str:
    """What a cell reads as: without the signs of emphasis, code and links."""
    if code := _CODE.search(text):
        return code[2].strip().replace("\\|", "|")
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"<[^>]*>|\[\^[^\]]*\]", "", text))
    text = re.sub(r"\*\*|~~|(?<!\\)\*", "", text)
    return re.sub(r"\\([\\`*_{}\[\]()#+.!|~<>-])", r"\1", text).replace("&nbsp;", " ").strip()
