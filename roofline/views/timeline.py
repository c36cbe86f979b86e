"""The predicted timeline as a trace for Perfetto or chrome://tracing, to lay beside a recorded one.

The format is the JSON of Chrome's Trace Event Format: complete events ("X") with a start and a duration in microseconds, and
flows ("s", "f") between them. A process for each analysis; in it a thread for the host where it issues kernels, with a flow to
each, one for the modules and one for the device. Slices of a thread nest: readers count whole nanoseconds, and drop a slice
that overlaps another by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import msgspec

from roofline.analysis.explain import facts
from roofline.records import Analysis, KernelRow

HOST, MODULES, DEVICE = 1, 2, 3


def render(analyses: Sequence[Analysis]) -> bytes:
    """One document; several analyses start at the same time."""
    # Perfetto takes numbers for flows, and knows each once
    flows = count(1)
    events = [event for i, a in enumerate(analyses, 1) for event in _events(a, i, flows)]
    about = {"displayTimeUnit": "ms", "otherData": {"predicted": "by roofline, not recorded"}, "traceEvents": events}
    return msgspec.json.encode(about) + b"\n"


def _events(a: Analysis, pid: int, flows: Iterator[int]) -> Iterator[dict[str, Any]]:
    title = f"{a.model.name} on {a.device.title or a.device.name}, {', '.join(facts(a)[:-1])} (predicted)"
    gpu = a.device.kind == "gpu"
    host = a.setting.host_s if gpu and a.setting.runtime == "eager" else None
    threads = {MODULES: "modules", DEVICE: "kernels on the GPU" if gpu else "kernels"}
    yield _meta("process_name", pid, 0, name=title)
    for tid, name in (({HOST: "Python and PyTorch issue"} if host else {}) | threads).items():
        yield _meta("thread_name", pid, tid, name=name)
        yield _meta("thread_sort_index", pid, tid, sort_index=tid)
    at, issued, spans = 0.0, 0.0, []
    for k in a.kernels:
        # a GPU stands idle while it waits for its host; a CPU's overhead is its own work
        start = at + (k.overhead_s if gpu else 0.0)
        at += k.time_s
        yield _slice(k.op, pid, DEVICE, start, at, _facts(k))
        if host:
            # a document of an older version does not say what each takes
            called, issued = issued, issued + (k.issue_s or host)
            yield _slice(k.op, pid, HOST, called, issued, {"module": k.layer})
            link = {"cat": "launch", "name": "launch", "id": next(flows), "pid": pid}
            yield {"ph": "s", "tid": HOST, "ts": _us(called)} | link
            yield {"ph": "f", "bp": "e", "tid": DEVICE, "ts": _us(start)} | link
        spans.append((k.layer, start, at))
    # around comes before inside
    for path, start, end in sorted(_modules(spans), key=lambda span: (span[1], -span[2], len(span[0]))):
        yield _slice(path.rpartition(".")[2] or a.model.name, pid, MODULES, start, end, {"module": path})


def _facts(k: KernelRow) -> dict[str, Any]:
    return {
        "module": k.layer,
        "class": k.klass,
        "shape": list(k.shape),
        "dtype": k.dtype,
        "FLOPs": k.flops,
        "bytes": k.bytes,
        "bound": k.bound,
        "level": k.level,
        "phase": k.phase,
    }


def _modules(spans: Sequence[tuple[str, float, float]]) -> Iterator[tuple[str, float, float]]:
    """Every module from its first kernel to its last in a row, those inside within it."""
    open_: list[tuple[str, float]] = []
    end = 0.0
    for layer, start, done in spans:
        parts = layer.split(".") if layer else []
        wanted = ["", *(".".join(parts[: i + 1]) for i in range(len(parts)))]
        same = 0
        while same < min(len(open_), len(wanted)) and open_[same][0] == wanted[same]:
            same += 1
        while len(open_) > same:
            path, began = open_.pop()
            yield path, began, end
        open_ += [(path, start) for path in wanted[same:]]
        end = done
    while open_:
        path, began = open_.pop()
        yield path, began, end


def _meta(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": args}


def _slice(name: str, pid: int, tid: int, start: float, end: float, args: dict[str, Any]) -> dict[str, Any]:
    where = {"ph": "X", "name": name, "cat": {HOST: "host", MODULES: "module"}.get(tid, "kernel"), "pid": pid, "tid": tid}
    return where | {"ts": _us(start), "dur": _microseconds(_ns(end) - _ns(start)), "args": args}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _us(seconds: float) -> float:
    return _microseconds(_ns(seconds))


def _microseconds(ns: int) -> float:
    """The number that is that many nanoseconds for who multiplies by 1000 and cuts what is behind the point, too."""
    found = ns / 1000
    return found if int(found * 1000) == ns else math.nextafter(found, math.inf)
