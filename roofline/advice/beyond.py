"""What lies beyond the pass that was asked for: what larger batches change, and what no analysis of the case can know."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from roofline.advice.alternatives import LARGEST, larger, to_run
from roofline.advice.sentences import share_of
from roofline.advice.terms import Book, say
from roofline.classes import MATRIX
from roofline.records import BOUNDS, Analysis, bound_of_component
from roofline.records.explanation import Sentence


def batches(book: Book, name: str, keys: Sequence[str]) -> list[Sentence]:
    """What larger batches change on a device; `keys` are its runs, batches ascending."""
    if len(keys) < 2:
        return []
    first, last = keys[0], keys[-1]
    decode = (language := book.runs[first].language) is not None and language.mode == "decode"
    each = "token" if decode else "sequence" if language else "sample"
    a, b = book.runs[first], book.runs[last]
    one, many = (book.of(key, "s", "totals.time_s", "setting.batch") for key in (first, last))
    # where caches hold what a middle batch passes on, a larger one is no faster
    best = min(keys, key=lambda key: book.runs[key].totals.time_s / book.runs[key].setting.batch)
    between, least = "", book.of(best, "s", "totals.time_s", "setting.batch")
    if least.value < 0.95 * min(one.value, many.value):
        between = ", {least} in one of {best}"
    cause = _grown(book.runs[best], b)
    # a reader who expects a larger batch to pay asks why it does not
    slower = ", where {cause} takes {part} of the time" if many.value > 1.05 * least.value else ""
    found = say(
        f"On {{device}} a {{each}} takes {{one}} in a batch of {{small}}{between} and {{many}} in one of {{large}}{slower}.",
        each=each,
        device=a.device.name,
        small=str(a.setting.batch),
        large=str(b.setting.batch),
        best=str(book.runs[best].setting.batch),
        one=one,
        least=least,
        many=many,
        cause=_called(cause, b.device.kind),
        part=share_of(book, last, _path(cause)),
    )
    for before, after in pairwise(keys):
        was, now = _cause(book.runs[before]), _cause(book.runs[after])
        if was != now:
            until = "in" if before == first else "up to"
            found += say(
                f"On {{device}} {{was}} takes the largest part {until} a batch of {{small}} ({{part}}); at {{large}} it is "
                "{now} ({other}).",
                device=a.device.name,
                was=_called(was, a.device.kind),
                now=_called(now, a.device.kind),
                small=str(book.runs[before].setting.batch),
                large=str(book.runs[after].setting.batch),
                part=share_of(book, before, _path(was)),
                other=share_of(book, after, _path(now)),
            )
    return found


_CAUSES = {
    "compute": "arithmetic",
    "memory": "moving bytes",
    "instructions": "executing instructions that are no FLOPs",
    "host": "issuing operators",
    "launch": "starting kernels",
    "drain": "filling and emptying the GPU",
    "pages": "getting fresh memory from the system page by page",
}
# A CPU issues nothing to another, and what it starts are threads.
_CPU_CAUSES = {**_CAUSES, "host": "dispatching operators", "launch": "starting threads"}


def _called(cause: str, kind: str) -> str:
    return (_CAUSES if kind == "gpu" else _CPU_CAUSES)[cause]


def _parts(a: Analysis) -> dict[str, float]:
    """Seconds of each bound or, of overhead, component."""
    parts = {n: v for n, v in a.totals.time_by_bound.items() if n != "overhead"}
    return parts | {n: v for n, v in a.totals.time_by_component.items() if bound_of_component(n) == "overhead"}


def _cause(a: Analysis) -> str:
    """The largest part of the time."""
    parts = _parts(a)
    return max(parts, key=lambda name: parts[name])


def _grown(small: Analysis, large: Analysis) -> str:
    """The part that takes most more of a sample's time in the larger batch."""
    before = _parts(small)
    more = {n: v / large.setting.batch - before.get(n, 0.0) / small.setting.batch for n, v in _parts(large).items()}
    return max(more, key=lambda name: more[name])


def _path(cause: str) -> str:
    return f"totals.time_by_bound.{cause}" if cause in BOUNDS else f"totals.time_by_component.{cause}"


def unknown(book: Book, names: Sequence[str], helpful: Sequence[str]) -> list[str]:
    """What no analysis of this case can know."""
    runs = [book.runs[name] for name in names]
    found = ["what else runs on the machine, and what reading and preparing the data takes"]
    if {"amp", "bf16", "fp16", "tf32"} & set(helpful):
        found.append("whether the model stays accurate enough in another type")
    if {"compile", "graphs"} & set(helpful):
        found.append("how long compiling takes, and whether changing shapes make it compile again")
    if any(a.setting.host_status in ("assumed", "memory", "estimated") and a.device.kind == "gpu" for a in runs):
        found.append("the machine around the GPU: what its Python needs to issue an operator is assumed (--host sets it)")
    products = any(k.klass in MATRIX for a in runs for k in a.kernels)
    if products and any("int8" in key for a in runs for key in a.device.peaks):
        found.append("what int8 would bring: that takes a quantised model, which can be analysed by its name")
    tried = [max([a.setting.batch, *larger(a)]) for a in runs if to_run(a)]
    if tried and max(tried) < LARGEST:
        found.append(f"what batches above {max(tried):,} would bring: the model has to run to be traced, and would take long")
    if unknown_ops := dict.fromkeys(op.op for a in runs for op in a.coverage.unknown_ops):
        found.append(
            f"the FLOPs of {', '.join(list(unknown_ops)[:3])}: no rule knows them, and their time is that of their bytes"
        )
    return found
