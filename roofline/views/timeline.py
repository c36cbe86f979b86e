"""The predicted timeline as a trace for Perfetto or chrome://tracing, to lay beside a recorded one.

The format is the JSON of Chrome's Trace Event Format: complete events ("X") with a start and a duration in microseconds.
A process for each analysis; in it a thread for the device, one for the modules, and one for the host where it issues kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from roofline.analysis.explain import facts
from roofline.records import Analysis, KernelRow

DEVICE, MODULES, HOST = 1, 2, 3
_US = 1e6


def render(analyses: Sequence[Analysis]) -> bytes:
    """One document; several analyses start at the same time."""
    events = [event for i, a in enumerate(analyses, 1) for event in _events(a, i)]
    about = {"displayTimeUnit": "ms", "otherData": {"predicted": "by roofline, not recorded"}, "traceEvents": events}
    return msgspec.json.encode(about) + b"\n"


def _events(a: Analysis, pid: int) -> Iterator[dict[str, Any]]:
    title = f"{a.model.name} on {a.device.title or a.device.name}, {', '.join(facts(a)[:-1])} (predicted)"
    yield _meta("process_name", pid, 0, title)
    gpu = a.device.kind == "gpu"
    yield _meta("thread_name", pid, DEVICE, "kernels on the GPU" if gpu else "kernels")
    yield _meta("thread_name", pid, MODULES, "modules")
    at, spans = 0.0, []
    for k in a.kernels:
        # a GPU stands idle while it waits for its host; a CPU's overhead is its own work
        start = at + (k.overhead_s if gpu else 0.0)
        at += k.time_s
        yield _slice(k.op, pid, DEVICE, start, at - start, _facts(k))
        spans.append((k.layer, start, at))
    for path, start, end in _modules(spans):
        yield _slice(path.rpartition(".")[2] or a.model.name, pid, MODULES, start, end - start, {"module": path})
    host = a.setting.host_s if gpu and a.setting.runtime == "eager" else None
    if host:
        yield _meta("thread_name", pid, HOST, "Python and PyTorch issue")
        for i, k in enumerate(a.kernels):
            yield _slice(k.op, pid, HOST, i * host, host, {"module": k.layer})


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


def _meta(name: str, pid: int, tid: int, text: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": {"name": text}}


def _slice(name: str, pid: int, tid: int, start: float, duration: float, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": start * _US, "dur": duration * _US, "args": args}
