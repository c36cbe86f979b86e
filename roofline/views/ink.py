"""What every part of a picture is drawn with: inks, series colours, text that the font can print."""

from __future__ import annotations

from matplotlib.colors import to_hex, to_rgb
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patheffects import withStroke

from roofline.units import seconds as plain_seconds

INK, SOFT, FAINT, GRID = "#16202e", "#566173", "#9aa4b2", "#e7eaef"
# models in a comparison
SERIES = ("#2f6fde", "#f08a00", "#14955f", "#d83a8f", "#7a4fd0", "#13a5c8", "#8a5a2b", "#b8a100")


def printable(text: str) -> str:
    """`text` on one line, each character that the font lacks replaced by "?"."""
    has = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    return "".join(c if ord(c) in has and c.isprintable() else "?" for c in " ".join(text.split()))


def seconds(value: float) -> str:
    """A picture can carry the sign that a terminal may not."""
    return plain_seconds(value).replace("us", "µs")


def halo() -> list[withStroke]:
    """A white rim that keeps text readable on lines and points."""
    return [withStroke(linewidth=2.8, foreground="white")]


def darker(colour: str) -> str:
    """The colour for text: mixed with ink until it reads on white."""
    (r, g, b), (r0, g0, b0) = to_rgb(colour), to_rgb(INK)
    return to_hex((0.62 * r + 0.38 * r0, 0.62 * g + 0.38 * g0, 0.62 * b + 0.38 * b0))
