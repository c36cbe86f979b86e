"""The HTML page: one file that opens anywhere, offline, with its style, script and data inside.

Everything but the interactive chart and the kernel table is plain HTML, so the page reads without a script too.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from roofline.analysis.explain import ceilings, compare, hosts, label, rate, totals, verdict
from roofline.records import Analysis, KernelRow, LayerRow
from roofline.units import binary, count, percent, seconds, si
from roofline.views.style import BOUND_COLOUR, class_style, fullest, kept, roofs, slopes

# Layers open at first; deeper ones fold away.
OPEN_DEPTH = 2


def render(analyses: Sequence[Analysis]) -> str:
    """The page for one analysis, or for several with a table that compares them. Needs at least one."""
    if not analyses:
        raise ValueError("a page needs at least one analysis")
    views = [_view(a, i, analyses) for i, a in enumerate(analyses)]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            views=views,
            title=_title(analyses),
            ranking=" ".join(filter(None, (compare(analyses), _sentence(hosts(analyses))))),
            tool=analyses[0].tool,
            data=_script_json([_data(a) for a in analyses]),
            bound_colours=BOUND_COLOUR,
        )
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


@cache
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("roofline", "views"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        si=lambda v, unit="", digits=3: si(v, unit, digits),
        count=count,
        binary=binary,
        rate=rate,
        seconds=_seconds,
        percent=percent,
        micro=_micro,
    )
    return env


def _seconds(value: float) -> str:
    return _micro(seconds(value))


def _micro(text: str) -> str:
    """A page can carry the sign that a terminal may not."""
    return re.sub(r"(?<=\d )us\b", "µs", text)


def _script_json(value: object) -> Markup:
    """JSON that cannot end the script element it stands in, whatever a model is called."""
    text = msgspec.json.encode(value).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _title(analyses: Sequence[Analysis]) -> str:
    models = list(dict.fromkeys(a.model.name for a in analyses))
    devices = list(dict.fromkeys(a.device.title or a.device.name for a in analyses))
    model = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"{model} on {devices[0] if len(devices) == 1 else f'{len(devices)} devices'}"


def _view(a: Analysis, index: int, analyses: Sequence[Analysis]) -> dict[str, Any]:
    """What the template prints of one analysis."""
    t = a.totals
    longest = max(x.totals.time_s for x in analyses)
    return {
        "id": f"a{index}",
        "a": a,
        "label": label(a, analyses),
        "device": a.device.title or a.device.name,
        "ceilings": ceilings(a),
        "sentences": verdict(a),
        "cards": totals(a),
        "bounds": [(b, v, 100 * v / t.time_s) for b, v in fullest(t.time_by_bound)] if t.time_s else [],
        "relative": 100 * t.time_s / longest if longest else 0.0,
        "classes": _classes(a),
        "layers": _layers(a),
        "ops": [(o, class_style(o.klass)) for o in sorted(a.ops, key=lambda o: -o.time_s)],
        "silent": [k for k in a.kernels if not k.flops],
        "silent_s": math.fsum(k.time_s for k in a.kernels if not k.flops),
        "memory": sorted(((k, v) for k, v in t.peak_memory.items() if v), key=lambda kv: -kv[1]),
        "whole": t.time_s or 1.0,
    }


def _classes(a: Analysis) -> list[dict[str, Any]]:
    groups: dict[str, list[KernelRow]] = defaultdict(list)
    for k in a.kernels:
        groups[k.klass].append(k)
    rows = [
        {
            "key": klass,
            "style": class_style(klass),
            "kernels": len(g),
            "time_s": math.fsum(k.time_s for k in g),
            "flops": sum(k.flops for k in g),
        }
        for klass, g in groups.items()
    ]
    return sorted(rows, key=lambda r: -float(str(r["time_s"])))


def _layers(a: Analysis) -> list[dict[str, Any]]:
    """Layers that ran, with their place in the tree."""
    ran = [r for r in a.layers if r.kernels or not r.path]
    paths = {r.path for r in ran}
    holders = {_parent(r.path, paths) for r in ran if r.path}
    return [
        {
            "row": r,
            "depth": _depth(r.path, paths),
            "parent": _parent(r.path, paths) if r.path else None,
            "name": _short(r, paths),
            "leaf": r.path not in holders,
            "open": _depth(r.path, paths) < OPEN_DEPTH,
            "shown": _depth(r.path, paths) <= OPEN_DEPTH,
        }
        for r in ran
    ]


def _parent(path: str, paths: set[str]) -> str:
    """The nearest listed path above."""
    while path:
        path = path.rpartition(".")[0]
        if path in paths:
            return path
    return ""


def _depth(path: str, paths: set[str]) -> int:
    depth = 0
    while path:
        path = _parent(path, paths)
        depth += 1
    return depth


def _short(row: LayerRow, paths: set[str]) -> str:
    above = _parent(row.path, paths)
    return row.path[len(above) + 1 :] if above else row.path


def _data(a: Analysis) -> dict[str, Any]:
    """What the script draws."""
    d = a.device
    return {
        "model": a.model.name,
        "device": d.title or d.name,
        "peak": d.peak_flops,
        "bandwidth": d.bandwidth,
        "ridge": d.ridge,
        "kept": kept(d),
        "roofs": roofs(d.peaks, a.setting.dtype, {k.dtype for k in a.kernels}, d.peak_flops),
        "levels": slopes(d),
        "total": [a.totals.intensity, a.totals.achieved_flops, a.totals.time_s],
        "classes": {k.klass: class_style(k.klass) for k in a.kernels},
        # field order is that of K in the script
        "kernels": [
            (k.layer, k.op, k.klass, "x".join(map(str, k.shape)), k.dtype, k.flops, k.macs, k.bytes, k.weight_bytes,
             k.intensity, k.time_s, k.bound, k.level, k.efficiency, k.compute_s, k.memory_s, k.overhead_s, k.known, k.phase,
             k.time_by_component)
            for k in a.kernels
        ],
    }  # fmt: skip
