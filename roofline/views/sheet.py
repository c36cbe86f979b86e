"""The sheet that every picture is drawn on: its size, its inks, its fonts, and the file that it becomes.

A picture is laid out on a sheet of fixed width, on which text has its own size in points, and then scaled to the size that
was asked for; so a slide and a column of a paper hold the same picture, and a narrow one leaves out what would not be read.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roofline.analysis.explain import facts
from roofline.errors import UsageError
from roofline.records import Analysis
from roofline.views.ink import THEMES, Theme, families

Format = Literal["png", "svg", "pdf"]
Mode = Literal["light", "dark"]
# Inches that a picture is laid out on: beside a panel of figures, and without one.
WIDE, NARROW = 12.6, 5.4
DPI = 150
# What is narrower leaves the panel out, in inches.
LEAST_WIDE = 6.5
SIZES = {"slide": (1920 / DPI, 1080 / DPI), "column": (3.35, 2.75)}
_UNITS = {"": 1 / DPI, "px": 1 / DPI, "in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4}
LEAST, MOST = 2.0, 60.0


class Size(NamedTuple):
    """Inches that a picture has in the end."""

    width: float
    height: float

    @property
    def narrow(self) -> bool:
        return self.width < LEAST_WIDE

    @property
    def sheet(self) -> tuple[float, float]:
        """Inches that it is laid out on."""
        wide = NARROW if self.narrow else WIDE
        return wide, wide * self.height / self.width


DEFAULT = Size(WIDE, 7.4)


def size(text: str | None) -> Size:
    """ "slide", "column", or WxH: "1600x900" (pixels of a PNG), "88x60mm", "6x4in". Raises UsageError."""
    if text is None:
        return DEFAULT
    known = SIZES.get(text.strip().lower())
    if known:
        return Size(*known)
    match = re.fullmatch(r"([\d.]+)\s*[x×]\s*([\d.]+)\s*(px|in|cm|mm|)", text.strip().lower())
    try:
        found = Size(*(float(n) * _UNITS[match[3]] for n in match.group(1, 2))) if match else None
    except ValueError:
        found = None
    if found is None:
        raise UsageError(f"--size {text}: expected slide, column, or WIDTHxHEIGHT such as 1600x900 (pixels), 88x60mm or 6x4in")
    if not all(LEAST <= n <= MOST for n in found) or not 1 / 4 <= found.height / found.width <= 4:
        raise UsageError(
            f"--size {text}: {found.width:.3g} x {found.height:.3g} inches; sides of {LEAST:g} to {MOST:g} inches "
            f"({LEAST * DPI:g} to {MOST * DPI:g} pixels) can be drawn, one at most four times the other"
        )
    return found


class Sheet(NamedTuple):
    """A figure to draw on, with its inks; `narrow` ones have no room for a panel beside the picture."""

    figure: Figure
    theme: Theme
    narrow: bool

    @property
    def inches(self) -> tuple[float, float]:
        wide, high = self.figure.get_size_inches()
        return float(wide), float(high)


@contextmanager
def sheet(asked: Size, mode: Mode, words: str, *, wide: float = 1.0, high: float = 1.0) -> Iterator[Sheet]:
    """An empty figure under our settings; `words` is all text of people, whose characters the fonts must have.

    `wide` and `high` stretch a sheet of the default size, `high` a column too, for pictures of more than one panel.
    """
    theme = THEMES[mode]
    stretched = asked
    if asked in (DEFAULT, SIZES["column"]):
        stretched = Size(asked.width * wide, asked.height * high)
    width, height = stretched.sheet
    if asked == DEFAULT:
        width, height = stretched
    elif wide > 1 and not asked.narrow:
        width, height = width * wide, height * wide
    with matplotlib.rc_context(_settings(theme, families(words))):
        figure = Figure(figsize=(width, height), dpi=DPI * stretched.width / width, facecolor=theme.paper)
        FigureCanvasAgg(figure)
        yield Sheet(figure, theme, asked.narrow)


def _settings(theme: Theme, fonts: list[str]) -> dict[Any, Any]:
    return {
        "font.family": fonts,
        "font.size": 10.5,
        "text.color": theme.ink,
        "axes.facecolor": "none",
        "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.soft,
        "xtick.color": theme.soft,
        "ytick.color": theme.soft,
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "svg.hashsalt": "roofline",
        # text stays text: it can be searched, copied, and read by a screen reader
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
    }


def content(made: Sheet, form: Format, title: str) -> bytes:
    """The picture as a file's content. The same picture gives the same bytes."""
    out = io.BytesIO()
    hidden = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    metadata: dict[str, Any] = {"Title": title, **hidden}
    made.figure.savefig(out, format=form, metadata=metadata, facecolor=made.theme.paper)
    raw = out.getvalue()
    return _scaled(raw, made.figure) if form == "svg" else raw


def _scaled(raw: bytes, figure: Figure) -> bytes:
    """An SVG at the size that was asked for, with fonts that most machines have behind ours."""
    scale = figure.dpi / DPI
    text = raw.decode()
    for name, value in zip(("width", "height"), figure.get_size_inches(), strict=True):
        text = re.sub(rf'(<svg [^>]*?){name}="[\d.]+pt"', rf'\g<1>{name}="{value * 72 * scale:.6g}pt"', text, count=1)
    return re.sub(r"(font: [^;\"]*'DejaVu Sans')", r"\1, Verdana, sans-serif", text).encode()


def header(made: Sheet, title: str, lines: list[tuple[str, str]], *, room: float) -> None:
    """A title, and lines of text with their colours under it. `room` is the fraction of the width that is free."""
    part, narrow = made.figure, made.narrow
    high = made.inches[1]
    left = 0.03 if narrow else 0.02
    at = 1 - 0.33 / high
    words = part.text(left, at, title, fontsize=12.5 if narrow else 17, fontweight="bold", va="center")
    shrink(words, room, part)
    at -= (0.19 if narrow else 0.235) / high
    for text, colour in lines:
        words = part.text(left, at, text, fontsize=9 if narrow else 10.5, color=colour, va="top", linespacing=1.35)
        shrink(words, room + 0.01, part)
        at -= (0.20 + 0.21 * text.count("\n")) / high + 0.03 / high


def shrink(text: Any, room: float, part: Figure) -> None:
    """Makes a text smaller where it is wider than a fraction of the part."""
    # a font's width does not go with its size to the pixel
    for _ in range(8):
        if (wide := text.get_window_extent().width) <= room * part.bbox.width:
            return
        text.set_fontsize(text.get_fontsize() * min(0.985, room * part.bbox.width / wide))


def wrapped(text: str, columns: int, lines: int = 2) -> str:
    """At most `lines` lines of about `columns` characters; an ellipsis where there is more."""
    return "\n".join(textwrap.wrap(re.sub(r"\bus\b", "µs", text), columns, max_lines=lines, placeholder=" …"))


def columns_of(inches: float, points: float = 10.5) -> int:
    """About how many characters of a size fit into a width."""
    return max(20, math.floor(inches * 72 / (0.56 * points)))


def shared(group: Sequence[Analysis]) -> str:
    """The settings that all have in common, and that the numbers are predictions."""
    settings = [facts(a) for a in group]
    common = [fact[0] for fact in zip(*settings, strict=True) if len(set(fact)) == 1]
    return " · ".join([*common, *(["predicted"] if not any(a.measurement for a in group) else [])])


def roomy(made: Sheet, tall: float, least: float, panels: int) -> None:
    """Raises UsageError where a panel is less than `least` inches tall on the sheet, which no picture could show."""
    if tall < least:
        wide, high = (n * made.figure.dpi / DPI for n in made.inches)
        many = f" for {panels} devices" if panels > 1 else ""
        raise UsageError(
            f"--size: {wide:.3g} x {high:.3g} inches have no room{many}\n"
            f"give a greater height{', fewer devices' if panels > 1 else ''}, or slide or column"
        )


def tool(a: Analysis) -> str:
    """By what a picture was made."""
    return f"roofline {a.tool.roofline}, torch {a.tool.torch}"


def footer(made: Sheet, notes: list[str], tool: str) -> None:
    """What the marks mean, at the lower left, and who drew it."""
    part, theme, narrow = made
    high = made.inches[1]
    if not narrow:
        part.text(0.985, 0.13 / high, tool, ha="right", fontsize=8, color=theme.faint)
    text = part.text(
        0.03 if narrow else 0.02,
        0.09 / high,
        "\n".join(notes),
        va="bottom",
        fontsize=7.6 if narrow else 8.5,
        color=theme.soft,
        linespacing=1.3,
    )
    shrink(text, 0.95 if narrow else 0.80, part)


def keys(made: Sheet, x: float, y: float, colours: Mapping[str, str], points: float = 8.5) -> None:
    """Words with their colours in a line from a point (fractions of the sheet), and in lines below where that is full."""
    start, wide = x, made.figure.bbox.width
    for word, colour in colours.items():
        mark = made.figure.text(x, y, "■", color=made.theme.mark(colour), fontsize=points, va="center")
        text = made.figure.text(x, y, word, color=made.theme.ink, fontsize=points, va="center")
        square, taken = 1.25 * points / 72 / made.inches[0], text.get_window_extent().width / wide
        if x + square + taken > 0.985 and x > start:
            x, y = start, y - 1.45 * points / 72 / made.inches[1]
        mark.set_position((x, y))
        text.set_position((x + square, y))
        x += square + taken + 0.02
