"""Parts of a model that a pass never ran: their parameters are counted, and no cost of theirs is.

A text given to a model of text and images leaves its image tower idle, evaluation leaves out auxiliary heads, a router its
unused experts. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from roofline.records import IdlePart, Trace

# Parts that a note names one by one, and from which share of the model's parameters a single parameter of a part that did run
# is worth a word: mask tokens and the like are below it.
NAMED, SINGLE = 4, 0.01
_NUMBER = r"(?<![^.])\d+(?![^.])"


def parts(trace: Trace) -> list[IdlePart]:
    """The modules none of whose parameters any operator of the pass read, largest first; of nested ones the outermost.

    Parts that only differ in numbers are one, `blocks.*.experts.*`. A parameter that was read under another name (tied,
    or by a function that takes `layer.weight`) was read. Parameters of a part that ran otherwise stand by their own name.
    """
    stored: dict[str, list[tuple[str, int, bool]]] = {}
    read: set[int] = set()
    for op in trace.ops:
        if op.phase != "optimizer":
            read.update(op.inputs)
    idle = False
    for i, storage in enumerate(trace.storages):
        if storage.kind == "parameter":
            unread = i not in read
            idle |= unread
            stored.setdefault(storage.name.rpartition(".")[0], []).append((storage.name, storage.nbytes, unread))
    return _merged(list(_outermost(trace, stored)), trace.model.params) if idle else []


def _outermost(trace: Trace, stored: dict[str, list[tuple[str, int, bool]]]) -> Iterator[tuple[str, str, int]]:
    """(path, type of module or empty, parameters) of idle modules and of idle parameters elsewhere."""
    layers = trace.layers
    below, idle = [layer.params for layer in layers], [0] * len(layers)
    for i, layer in enumerate(layers):
        own = stored.get(layer.path, [])
        nbytes = sum(n for _, n, _ in own)
        idle[i] = round(layer.params * sum(n for _, n, unread in own if unread) / nbytes) if nbytes else 0
    for i in range(len(layers) - 1, 0, -1):  # children come after their parents
        below[layers[i].parent] += below[i]
        idle[layers[i].parent] += idle[i]
    inside: set[int] = set()  # idle modules, and what is in them
    for i, layer in enumerate(layers):
        if layer.parent in inside:
            inside.add(i)
        elif i and below[i] and idle[i] == below[i]:
            inside.add(i)
            yield layer.path, layer.type, below[i]
        elif own := stored.get(layer.path, []):
            nbytes = sum(n for _, n, _ in own)
            yield from ((name, "", round(layer.params * n / nbytes)) for name, n, unread in own if unread)


def _merged(found: Sequence[tuple[str, str, int]], total: int) -> list[IdlePart]:
    groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for path, kind, params in found:
        groups.setdefault((re.sub(_NUMBER, "*", path), kind), []).append((path, params))
    out = []
    for (pattern, kind), members in groups.items():
        params = sum(n for _, n in members)
        path = pattern if len(members) > 1 else members[0][0]
        out.append(IdlePart(path=path, type=kind, params=params, share=params / total if total else 0.0, count=len(members)))
    return sorted(out, key=lambda part: -part.params)


def notes(found: Sequence[IdlePart]) -> list[str]:
    """One sentence that names them, the small ones together; none where all ran."""
    said = [part for part in found if part.type or part.share >= SINGLE]
    if not said:
        return []
    texts = [f"{part.path} ({part.params:,} parameters, {_percent(part.share)})" for part in said[:NAMED]]
    if rest := said[NAMED:]:
        params, share = sum(part.params for part in rest), sum(part.share for part in rest)
        texts.append(f"{len(rest)} smaller parts ({params:,}, {_percent(share)})")
    return [f"never ran in this pass, so their cost is not counted: {', '.join(texts)}"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "under 0.1 %"
