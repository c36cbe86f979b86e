"""The predicted timeline: kernels in a row that add up to the time, modules around them, the host before them."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oracles import trace_events
from sample import sample

from roofline.records import Analysis
from roofline.views import files, timeline


def read(*found: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(timeline.render(found))["traceEvents"]
    return events


def slices(events: list[dict[str, Any]], thread: int, pid: int = 1) -> list[dict[str, Any]]:
    return [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == (pid, thread)]


def test_kernels_follow_each_other_and_end_with_the_pass() -> None:
    a = sample()
    found = slices(read(a), timeline.DEVICE)
    assert [e["name"] for e in found] == [k.op for k in a.kernels]
    for before, after in pairwise(found):
        assert after["ts"] >= before["ts"] + before["dur"] - 1e-9
    assert found[-1]["ts"] + found[-1]["dur"] == pytest.approx(a.totals.time_s * 1e6)
    assert sum(e["args"]["FLOPs"] for e in found) == a.totals.flops


def test_modules_lie_around_their_kernels() -> None:
    events = read(sample())
    modules = slices(events, timeline.MODULES)
    whole = max(modules, key=lambda e: e["dur"])
    assert whole["args"]["module"] == ""
    for kernel in slices(events, timeline.DEVICE):
        around = [
            m
            for m in modules
            if m["args"]["module"] == kernel["args"]["module"]
            and m["ts"] <= kernel["ts"] + 1e-9
            and kernel["ts"] + kernel["dur"] <= m["ts"] + m["dur"] + 1e-9
        ]
        assert len(around) == 1


def issued() -> Analysis:
    """On a GPU, whose host needs 6 us for each kernel."""
    a = sample("gpu")
    return msgspec.structs.replace(a, setting=msgspec.structs.replace(a.setting, host_s=6e-6))


def ns(value: float) -> int:
    """As Perfetto's reader of JSON turns microseconds into its own unit: what is behind the point is cut."""
    return int(value * 1000)


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_slices_nest_to_the_nanosecond_and_the_outer_comes_first(kind: Any) -> None:
    """A reader drops a slice that ends behind the one around it, or starts before the last one ended."""
    events = read(issued() if kind == "gpu" else sample(kind, 66))
    for thread in (timeline.HOST, timeline.MODULES, timeline.DEVICE):
        open_: list[int] = []
        last = 0
        for start, end in ((ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])) for e in slices(events, thread)):
            assert start >= last
            last = start
            while open_ and open_[-1] <= start:
                open_.pop()
            assert not open_ or (thread == timeline.MODULES and end <= open_[-1])
            open_.append(end)


def test_the_host_takes_for_each_kernel_what_its_row_says() -> None:
    a = issued()
    rows = [msgspec.structs.replace(k, issue_s=(4e-6, 10e-6)[i % 2]) for i, k in enumerate(a.kernels)]
    found = slices(read(msgspec.structs.replace(a, kernels=rows)), timeline.HOST)
    assert [e["dur"] for e in found[:4]] == pytest.approx([4, 10, 4, 10])
    for before, after in pairwise(found):
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"])


def test_each_kernel_of_a_gpu_has_a_flow_from_where_its_host_issued_it() -> None:
    a = issued()
    events = read(a, sample("cpu"))
    begin, end = ([e for e in events if e["ph"] == ph] for ph in "sf")
    assert len(begin) == len(end) == len(a.kernels)
    assert len({e["id"] for e in begin}) == len(begin)
    for s, f, host, kernel in zip(begin, end, slices(events, timeline.HOST), slices(events, timeline.DEVICE), strict=True):
        assert (s["id"], s["name"], s["cat"]) == (f["id"], f["name"], f["cat"])
        assert (s["tid"], s["ts"]) == (timeline.HOST, host["ts"])
        assert (f["tid"], f["ts"], f["bp"]) == (timeline.DEVICE, kernel["ts"], "e")
    assert not slices(events, timeline.HOST, 2)


def test_threads_are_named_and_sorted_the_host_first() -> None:
    meta = [e for e in read(issued()) if e["ph"] == "M"]
    order = {e["tid"]: e["args"]["sort_index"] for e in meta if e["name"] == "thread_sort_index"}
    named = {e["tid"]: e["args"]["name"] for e in meta if e["name"] == "thread_name"}
    assert [named[tid] for tid in sorted(order, key=lambda tid: order[tid])] == [
        "Python and PyTorch issue",
        "modules",
        "kernels on the GPU",
    ]


def test_a_module_that_is_called_twice_has_two_slices() -> None:
    spans = [("a.x", 0.0, 1.0), ("b", 1.0, 2.0), ("a.x", 2.0, 3.0)]
    found = sorted(timeline._modules(spans))
    assert found == [("", 0.0, 3.0), ("a", 0.0, 1.0), ("a", 2.0, 3.0), ("a.x", 0.0, 1.0), ("a.x", 2.0, 3.0), ("b", 1.0, 2.0)]


def test_two_analyses_are_two_processes_and_the_suffix_is_of_two_parts() -> None:
    events = read(sample(), sample())
    assert {e["pid"] for e in events} == {1, 2}
    assert files.suffix_of(Path("x.trace.json")) == ".trace.json"
    assert files.suffix_of(Path("resnet.v2.json")) == ".json"
    assert files.render([sample()], Path("x.TRACE.JSON"), "layer", 2).startswith(b'{"displayTimeUnit"')


def test_a_trace_is_what_readers_of_the_format_take() -> None:
    """Held to the published format. Perfetto's own reader (52.0) finds all slices of such a file and a flow for each kernel of
    a GPU, and counts no error."""
    jsonschema = pytest.importorskip("jsonschema", reason="check-jsonschema is not installed")
    check = jsonschema.Draft7Validator(trace_events.SCHEMA)
    document = json.loads(timeline.render([issued(), sample("cpu"), issued()]))
    check.validate(document)
    flows = [e for e in document["traceEvents"] if e["ph"] in "sf"]
    # each once where it begins and once where it ends, over all processes
    assert Counter(Counter(e["id"] for e in flows).values()) == {2: len(flows) // 2}
    flow = flows[0]
    for field, wrong in (("id", "1.0"), ("ts", "0"), ("bp", "x")):
        changed = {**flow, field: wrong}
        assert not check.is_valid({"traceEvents": [changed]}), field
    assert not check.is_valid({"traceEvents": [{"ph": "X", "name": "x", "pid": 1, "tid": 1, "ts": 0, "dur": -1}]})
    assert not check.is_valid([flow])
