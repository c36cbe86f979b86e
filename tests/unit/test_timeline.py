"""The predicted timeline: kernels in a row that add up to the time, modules around them, the host before them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sample import sample

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
