"""`params < 10 M and (time < 5 ms or device = t4)`: a condition on rows, with units as everywhere."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from roofline import units
from roofline.analysis import metrics
from roofline.errors import UsageError, nearest
from roofline.sweeps.formats import types

# Whether the row with that number meets it.
Test = Callable[[int], bool]
# The values of a column, one for each row; None where there is none.
Column = Sequence[Any]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_TOKEN = re.compile(r"""\s*(?: (\() | (\)) | (<=|>=|!=|==|<|>|=) | "([^"]*)" | '([^']*)' | ([^\s()<>=!"']+) )""", re.VERBOSE)
# Those that people forget, and mean thousandths or millions of.
_UNITS = ("s", "B", "J")
_WORDS = ("and", "or", "not")


class _Token(NamedTuple):
    # "(", ")", "compare", "word", "text"
    kind: str
    text: str


def tests(text: str, columns: Mapping[str, Column]) -> tuple[Test, list[str]]:
    """The condition over columns by name, and what is to be said of how it was read.

    Raises UsageError that says what was expected, and the nearest column.
    """
    parser = _Parser(_tokens(text), columns, text)
    found = parser.any_of()
    parser.end()
    return found, parser.notes


def named(text: str) -> list[str]:
    """The words of a condition that may be columns: what to read of a file."""
    return [token.text for token in _tokens(text) if token.kind == "word"]


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].strip()
            why = (
                f"the quote before {rest[1:21]} is not closed"
                if rest[0] in "\"'"
                else f"{rest[:20]!r} is nothing that can stand there"
            )
            raise UsageError(f"--where {text!r}: {why}")
        left, right, compare, double, single, word = match.groups()
        if left or right:
            found.append(_Token(left or right, ""))
        elif compare:
            found.append(_Token("compare", compare))
        elif word is not None:
            found.append(_Token("word", word))
        else:
            found.append(_Token("text", double if double is not None else single))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[_Token], columns: Mapping[str, Column], text: str) -> None:
        self.tokens, self.columns, self.text, self.at = tokens, columns, text, 0
        self.notes: list[str] = []

    def fail(self, why: str) -> UsageError:
        return UsageError(f'--where {self.text!r}: {why}\nexpected such as "params < 10 M and time < 5 ms and device = t4"')

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def word(self, text: str) -> bool:
        token = self.peek()
        if token is not None and token.kind == "word" and token.text.lower() == text:
            self.at += 1
            return True
        return False

    def end(self) -> None:
        if (token := self.peek()) is not None:
            raise self.fail(f"{token.text or token.kind!r} stands where it should end")

    def any_of(self) -> Test:
        found = [self.all_of()]
        while self.word("or"):
            found.append(self.all_of())
        return found[0] if len(found) == 1 else lambda i: any(test(i) for test in found)

    def all_of(self) -> Test:
        found = [self.one()]
        while self.word("and"):
            found.append(self.one())
        return found[0] if len(found) == 1 else lambda i: all(test(i) for test in found)

    def one(self) -> Test:
        if self.word("not"):
            inner = self.one()
            return lambda i: not inner(i)
        token = self.peek()
        if token is not None and token.kind == "(":
            self.at += 1
            found = self.any_of()
            if (token := self.peek()) is None or token.kind != ")":
                raise self.fail("a bracket is not closed")
            self.at += 1
            return found
        return self.comparison()

    def comparison(self) -> Test:
        name = self.column()
        token = self.peek()
        if token is None or token.kind != "compare":
            raise self.fail(f"after {name} comes <, <=, >, >=, = or !=")
        self.at += 1
        sign, start = token.text, self.at
        while (token := self.peek()) is not None and token.kind in ("word", "text") and token.text.lower() not in _WORDS:
            self.at += 1
        value = self.tokens[start : self.at]
        if not value:
            raise self.fail(f"after {name} {sign} comes a value")
        if (token := self.peek()) is not None and token.kind == "compare":
            raise self.fail(f"{name} is compared twice: say {name} > A and {name} < B")
        return self.compared(name, sign, value)

    def column(self) -> str:
        token = self.peek()
        if token is None or token.kind != "word":
            raise self.fail("a column is missing")
        self.at += 1
        return column(token.text, self.columns, "--where")

    def kind(self, name: str) -> type:
        """Of what a column holds: of a sweep's own as declared, of the caller's own as its first value is."""
        return types().get(name) or next((type(cell) for cell in self.columns[name] if cell is not None), str)

    def compared(self, name: str, sign: str, value: list[_Token]) -> Test:
        cells, compare = self.columns[name], _COMPARE[sign]
        text = " ".join(token.text for token in value)
        kind = self.kind(name)
        if len(value) == 1 and value[0].kind == "word" and value[0].text in self.columns:
            other = self.columns[value[0].text]
            if (kind is str) == (self.kind(value[0].text) is str):  # "bound = memory" is the word, not the share of that name
                return lambda i: cells[i] is not None and other[i] is not None and compare(cells[i], other[i])
        if kind is bool:
            if text.lower() not in ("true", "false") or sign not in ("=", "==", "!="):
                raise self.fail(f"{name} is true or false")
            wanted = text.lower() == "true"
            return lambda i: cells[i] is not None and compare(cells[i], wanted)
        if kind is str:
            if sign not in ("=", "==", "!="):
                raise self.fail(f"{name} is text: ask for {name} = {text} or {name} != {text}, where * stands for anything")
            if not re.search(r"[*?\[]", text) and text not in (known := set(map(str, cells))):
                hint = nearest(text, sorted(known)) or nearest(text.lower(), sorted(known))
                self.notes.append(f"no row has {name} = {text or repr('')}{hint}")
            return lambda i: fnmatchcase("" if cells[i] is None else str(cells[i]), text) is (sign != "!=")
        try:
            limit = number(name, text)
        except ValueError as error:
            raise self.fail(f"{name}: {error}") from None
        unit = "s" if name == "host" else of.unit if (of := metric(name)) else ""
        if limit and unit in _UNITS and re.fullmatch(r"[\d.,_eE+]+", text):
            self.notes.append(f"{name} {sign} {text} means {text} {unit}: give a unit to say something else")
        return lambda i: isinstance(cells[i], (int, float)) and compare(cells[i], limit)


def number(name: str, text: str) -> float:
    """A value of a column in its base unit. Raises ValueError."""
    if known := metric(name):
        return metrics.parse(known, text)
    if name == "host":
        return units.parse(text, "s")
    match = re.fullmatch(r"(.*\d)\s*([kKMGT])", text)
    scale = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[match[2]] if match else 1.0
    return units.parse(match[1] if match else text, "1") * scale


def metric(name: str) -> metrics.Metric | None:
    """The metric whose numbers a column holds, or the ends of whose interval."""
    return metrics.BY_NAME.get(name.removesuffix("_low").removesuffix("_high"))


def column(name: str, known: Mapping[str, Any] | Sequence[str], option: str) -> str:
    """A column by its name, or by the name that it has in the JSON of an analysis. Raises UsageError with the nearest."""
    alias = {m.alias: m.name for m in metrics.METRICS if m.alias}
    name = alias.get(name, name) if name not in known else name
    if name not in known:
        raise UsageError(f"{option}: no column {name!r}{nearest(name, list(known))}\ncolumns: {', '.join(known)}")
    return name
