"""A difference between two analyses as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence

from roofline import units
from roofline.analysis.diff import Diff
from roofline.analysis.metrics import BY_NAME, percent, text
from roofline.views.checked import named, shift
from roofline.views.gate import cell


def markdown(d: Diff, failed: Sequence[str] = (), top: int = 20) -> str:
    """The setting, every metric that changed, and the `top` layers with the most effect."""
    lines = [f"### {cell(d.base)} → {cell(d.head)}", "", *([cell(d.setting), ""] if d.setting else [])]
    lines += [f"- setting differs: {cell(line)}" for line in d.settings]
    lines += [f"- **{cell(line)}**" for line in failed]
    if d.same:
        return "\n".join([*lines, "No difference."]) + "\n"
    lines += [f"- {cell(d.effect)}"] if d.effect else []
    lines += ["", "| | base | head | change |", "| --- | ---: | ---: | ---: |"]
    for c in d.totals:
        of = BY_NAME[c.metric]
        if c.base != c.head:
            lines.append(f"| {c.metric} | {text(of, c.base)} | {text(of, c.head)} | {percent(c.relative)} |")
    layers, shifted = d.shown
    if layers:
        lines += ["", "| | layer | type | FLOPs | time |", "| --- | --- | --- | ---: | ---: |"]
        for one in layers[:top]:
            flops, time = " → ".join(map(units.si, one.flops)), " → ".join(map(units.seconds, one.time_s))
            lines.append(f"| {one.what} | {' | '.join(map(cell, named(one)))} | {flops} | {time} |")
        if len(layers) > top:
            lines.append(f"\n... and {len(layers) - top} more")
    if shifted:
        lines += ["", f"{len(shifted)} layers do what they did, and take {shift(shifted)} for what runs around them."]
    return "\n".join(lines) + "\n"
