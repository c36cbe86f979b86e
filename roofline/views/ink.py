"""What every part of a picture is drawn with: inks in light and dark, series colours, text that a font here can print."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

from matplotlib.colors import to_hex, to_rgb
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from roofline.units import seconds as plain_seconds
from roofline.views.style import LIGHTER

FAMILY = "DejaVu Sans"


class Theme(NamedTuple):
    """The inks of a picture: its paper, text, second text, thin lines, grid; and how far marks go toward white."""

    paper: str
    ink: str
    soft: str
    faint: str
    grid: str
    lighter: float
    # how much a region under a roof is tinted
    tint: float

    def mark(self, colour: str) -> str:
        """A colour of `style` for a mark or a bar on this paper."""
        return _mixed(colour, "#ffffff", self.lighter)

    def words(self, colour: str) -> str:
        """The same for text: mixed with ink until it reads."""
        return _mixed(self.mark(colour), self.ink, 0.38)


LIGHT = Theme("#ffffff", "#16202e", "#566173", "#9aa4b2", "#e7eaef", 0.0, 0.055)
DARK = Theme("#10151c", "#e9eef5", "#aab5c3", "#6d7988", "#262e39", LIGHTER, 0.13)
THEMES: dict[Literal["light", "dark"], Theme] = {"light": LIGHT, "dark": DARK}


def _mixed(colour: str, other: str, part: float) -> str:
    (r, g, b), (r1, g1, b1) = to_rgb(colour), to_rgb(other)
    return to_hex(((1 - part) * r + part * r1, (1 - part) * g + part * g1, (1 - part) * b + part * b1))


def printable(text: str) -> str:
    """`text` on one line, each character that no font here has replaced by "?"."""
    return "".join(c if c.isprintable() and _family(ord(c)) else "?" for c in " ".join(text.split()))


def families(texts: str) -> list[str]:
    """The fonts that print `texts` between them, our own first."""
    return list(dict.fromkeys([FAMILY, *(family for c in dict.fromkeys(texts) if (family := _family(ord(c))))]))


def _family(code: int) -> str:
    """The first family that has a character, "" where none has."""
    return FAMILY if code in _own() else _fallback(code)


@cache
def _own() -> frozenset[int]:
    return _characters(findfont(FontProperties(family=FAMILY)))


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a font file that freetype cannot read
        return frozenset()


@cache
def _fallback(code: int) -> str:
    # the last resort of matplotlib has a box for everything
    fonts = [f for f in fontManager.ttflist if f.style == "normal" and "Last Resort" not in f.name]
    return next((f.name for f in fonts if code in _characters(f.fname)), "")


def seconds(value: float) -> str:
    """A picture can carry the sign that a terminal may not."""
    return plain_seconds(value).replace("us", "µs")


def behind(theme: Theme) -> dict[str, Any]:
    """A patch of paper that keeps text readable on lines and points. An outline would turn SVG text into shapes."""
    return {"facecolor": theme.paper, "alpha": 0.6, "edgecolor": "none", "pad": 0.6}
