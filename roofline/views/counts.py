"""`roofline crosscheck` as aligned plain text: totals of each counter, what is in print, and the layers where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofline import units
from roofline.errors import safe
from roofline.views.listing import PLAIN, Painter, columns

if TYPE_CHECKING:
    from roofline.validation.crosscheck import Crosscheck, Published, Row


def render(c: Crosscheck, paint: Painter = PLAIN, top: int | None = 20, everything: bool = False) -> str:
    """The comparison in words and tables; `everything` lists the layers that agree too."""
    head = f"{paint(safe(c.model), 'bold')} ({safe(c.source)}), input {', '.join(c.inputs) or 'none'}: multiply-accumulates"
    out = [head, "", *_totals(c, paint)]
    if c.fvcore is not None and c.fvcore_other:
        out.append(f"fvcore's own total has {c.fvcore_other:,} more, for norms, pooling and interpolation: no products")
    out += [f"{tool} gave no count: {safe(why)}" for tool, why in c.failed.items()]
    if c.published:
        out += ["", *_published(c.published, paint)]
    out += ["", *_layers(c, paint, top, everything)]
    out += [f"note: {safe(note)}" for note in c.notes]
    return "\n".join(out) + "\n"


def _totals(c: Crosscheck, paint: Painter) -> list[str]:
    rows = [["ours", f"{c.ours:,}", ""]]
    for tool, count in (("fvcore", c.fvcore), ("FlopCounterMode", c.torch)):
        if count is not None:
            rows.append([tool, f"{count:,}", _against(count, c.ours)])
    return columns(["COUNTER", "MACS", ""], rows, "lrl", paint).splitlines()


def _against(count: int, ours: int) -> str:
    if count == ours:
        return "equal"
    return f"{units.share(count / ours, 1)} of ours" if ours else "differs"


def _published(found: list[Published], paint: Painter) -> list[str]:
    rows = [[p.what, p.value, f"{p.ours:,}", "agrees" if p.agrees else "differs", p.source] for p in found]
    lines = columns(["IN PRINT", "VALUE", "OURS", "", "WHERE"], rows, "lrrll", paint).splitlines()
    return lines + [f"{p.what} {p.value}: {safe(p.why)}" for p in found if p.why and not p.agrees]


def _layers(c: Crosscheck, paint: Painter, top: int | None, everything: bool) -> list[str]:
    differing = c.differing
    shown = c.rows if everything else differing
    if not shown:
        return [f"every one of {len(c.rows)} layers with products agrees"] if c.rows else ["no layer has products"]
    listed = shown[:top] if top else shown
    rows = [[row.layer or "(model)", row.op, f"{row.ours:,}", _number(row.fvcore), _number(row.torch)] for row in listed]
    lines = columns(["LAYER", "OP", "OURS", "FVCORE", "FLOPCOUNTER"], rows, "llrrr", paint).splitlines()
    if len(shown) > len(listed):
        lines.append(f"... and {len(shown) - len(listed)} more (--top lists more, --json all)")
    return [f"{len(differing)} of {len(c.rows)} layers with products differ", *lines, "", *_reasons(differing)]


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _reasons(rows: list[Row]) -> list[str]:
    """Each reason once, with how many layers it explains."""
    counted: dict[str, int] = {}
    for row in rows:
        for why in row.why.split("; "):
            counted[why] = counted.get(why, 0) + 1
    return [f"{count} {'layer' if count == 1 else 'layers'}: {safe(why)}" for why, count in counted.items() if why]
