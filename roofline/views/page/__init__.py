"""The HTML page: one file that opens anywhere, offline, with its style, script, charting library and data inside.

The script draws everything from the data; without one the page still says what was analysed and why it takes as long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import jinja2
import msgspec
from markupsafe import Markup

from roofline.advice import brief, explanation
from roofline.advice.report import Missing, Told
from roofline.analysis.explain import compare, hosts, label
from roofline.records import Analysis, ToolInfo
from roofline.units import seconds, si
from roofline.views.page.document import document
from roofline.views.style import BOUND_COLOUR

# The charting library: one file of Apache ECharts as it is published, its licences beside it.
LIBRARY = "echarts-6.1.0.min.js"
# Our own code, in this order.
SCRIPTS = (
    "words.js",
    "shared.js",
    "data.js",
    "state.js",
    "grid.js",
    "roof.js",
    "parts.js",
    "course.js",
    "answer.js",
    "page.js",
)


def render(analyses: Sequence[Analysis], told: Sequence[Told] = (), missing: Sequence[Missing] = ()) -> str:
    """The page for one analysis, or for several with switches between them.

    `told` are those that an explanation is at hand for; it says of all others what can be said without another analysis.
    `missing` is what could not be analysed. Raises ValueError for no analysis at all.
    """
    if not analyses:
        raise ValueError("a page needs at least one analysis")
    groups = _groups(analyses, told)
    ranking = " ".join(filter(None, (compare(analyses), _sentence(hosts(analyses)))))
    return frame(
        "page.html.j2",
        SCRIPTS,
        title=_title(analyses),
        tool=analyses[0].tool,
        data=document(groups, missing) | {"ranking": ranking},
        analyses=[(label(a, analyses), a) for a in analyses],
        verdict=[micro(text) for text in brief.said(analyses[0])],
        ranking=micro(ranking),
        missing=missing,
    )


def frame(template: str, scripts: Sequence[str], *, title: str, tool: ToolInfo, data: object, **more: object) -> str:
    """A page of ours: the template filled, with the style, the charting library, our scripts in this order, and their data."""
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            tool=tool,
            data=script_json(data),
            bound_colours=BOUND_COLOUR,
            style=asset("page.css"),
            script=Markup("\n").join(asset(name) for name in scripts),
            library=library(),
            **more,
        )
    )


def _groups(analyses: Sequence[Analysis], told: Sequence[Told]) -> list[Told]:
    """All analyses with what is said of each, in their order: those of one model and setting are told of together."""
    known = {id(a) for one in told for a in one.analyses}
    found: list[Told | list[Analysis]] = []
    for a in analyses:
        if id(a) in known:
            one = next(one for one in told if any(a is x for x in one.analyses))
            if not any(one is x for x in found):
                found.append(one)
            continue
        for group in found:
            if isinstance(group, list) and _beside(a, group):
                group.append(a)
                break
        else:
            found.append([a])
    return [Told(one, explanation.told(one)) if isinstance(one, list) else one for one in found]


def _beside(a: Analysis, group: Sequence[Analysis]) -> bool:
    return _alike(a) == _alike(group[0]) and a.device.name not in {x.device.name for x in group}


def _alike(a: Analysis) -> tuple[object, ...]:
    """What analyses share that are told of together: all but the device."""
    s = a.setting
    asked = a.language.asked if a.language else {}
    inputs = [(i.name, i.shape, i.dtype) for i in a.model.inputs]
    return (
        a.model.name,
        a.model.source,
        s.batch,
        s.dtype,
        s.channels_last,
        s.fold_bn,
        s.runtime,
        s.mode,
        s.optimizer,
        s.set,
        inputs,
        asked,
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


@cache
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("roofline.views", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(si=lambda v, unit="", digits=3: si(v, unit, digits), seconds=lambda v: micro(seconds(v)))
    return env


def asset(name: str) -> Markup:
    """One of our own files that stand in a page as they are."""
    return Markup(resources.files("roofline.views.page").joinpath(name).read_text(encoding="utf-8"))


@cache
def library() -> Markup:
    """The charting library, to stand in a script element."""
    return Markup(resources.files("roofline.views").joinpath("vendor", LIBRARY).read_text(encoding="utf-8"))


def micro(text: str) -> str:
    """A page can carry the sign that a terminal may not."""
    return re.sub(r"(?<=\d )u([sJ])\b", r"µ\1", text)


def script_json(value: object) -> Markup:
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
