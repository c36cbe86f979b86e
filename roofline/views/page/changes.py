"""The page of a difference: what was added, removed, moved, what grew and shrank, and what stayed the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roofline.analysis.changes import LayerChange
from roofline.analysis.diff import Diff
from roofline.analysis.folded import MOST_LAYERS
from roofline.analysis.metrics import BY_NAME, percent, text
from roofline.records import Analysis, LayerRow
from roofline.units import seconds
from roofline.views import diffs
from roofline.views.checked import named
from roofline.views.page import frame, micro

NUMBERS = ("params", "flops", "bytes", "time_s")
SCRIPTS = ("words.js", "shared.js", "grid.js", "changes.js")


def render(found: Diff, base: Analysis, head: Analysis, failed: Sequence[str] = ()) -> str:
    """The page of `found`, the difference between `base` and `head`; `failed`: conditions that it meets."""
    rows = [_change(c) for c in found.layers if not c.inherited]
    changed = {c.path for c in found.layers} | {c.base_path for c in found.layers}
    same = [_same(row) for row in head.layers if row.kernels and row.path not in changed]
    moved = [(BY_NAME[c.metric], c) for c in found.totals if c.base != c.head]
    return frame(
        "changes.html.j2",
        SCRIPTS,
        title=f"{found.base} → {found.head}",
        tool=head.tool,
        data={"rows": [*rows, *same[: max(0, MOST_LAYERS - len(rows))]], "markdown": diffs.markdown(found, failed)},
        setting=found.setting,
        failed=failed,
        differ=found.settings,
        effect=_effect(found),
        totals=[(c.metric, micro(text(of, c.base)), micro(text(of, c.head)), _signed(c.relative)) for of, c in moved],
    )


def _signed(relative: float | None) -> str:
    """A change with the minus of the other columns."""
    return percent(relative).replace("-", "−")


def _effect(found: Diff) -> str:
    if found.same:
        return "No difference."
    if found.effect:
        return micro(f"{found.effect[0].upper()}{found.effect[1:]}.")
    time = next(c for c in found.totals if c.metric == "time")
    return micro(
        f"The time is {'the same' if time.base == time.head else f'{seconds(time.head)} instead of {seconds(time.base)}'}."
    )


def _change(c: LayerChange) -> dict[str, Any]:
    path, kind = named(c)
    return {"path": path, "type": kind, "what": _what(c)} | {name: getattr(c, name) for name in NUMBERS}


def _what(c: LayerChange) -> str:
    """A changed layer grew or shrank: by its time, where that stayed by its FLOPs, its bytes, its parameters."""
    if c.what != "changed":
        return "moved" if c.what == "renamed" else c.what
    for base, head in (c.time_s, c.flops, c.bytes, c.params):
        if base != head:
            return "grew" if head > base else "shrank"
    return "same"


def _same(row: LayerRow) -> dict[str, Any]:
    numbers = {name: (getattr(row, name), getattr(row, name)) for name in NUMBERS}
    return {"path": row.path or "(the model itself)", "type": row.type, "what": "same", **numbers}
