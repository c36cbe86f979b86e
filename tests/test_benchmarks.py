"""The benchmark scripts run, and the counts that ours prints there are the published ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "published"),
    # torchvision's `_ops` of the weights, in GMAC; other models: `make bench`
    [("mobilenet_v3_large", 0.217)],
)
def test_peers_counts_ours_right(model: str, published: float, tmp_path: Path) -> None:
    answer = tmp_path / "peers.json"
    done = subprocess.run(
        [
            sys.executable,
            str(BENCHMARKS / "peers.py"),
            "--models",
            model,
            "--tools",
            "roofline",
            "--processes",
            "1",
            "--repeats",
            "1",
            "--json",
            str(answer),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(answer.read_text(encoding="utf-8"))
    ours = document["tools"][model]["roofline"]
    assert document["published"][model] == pytest.approx(published * 1e9)
    assert ours["macs"] == pytest.approx(published * 1e9, rel=0.003)
    assert ours["steady"], "the count changed when the call was repeated"
    assert "| right |" in done.stdout


def test_fits_without_a_device_start_from_round_values() -> None:
    from roofline.timemodel import constants
    from roofline.validation import leave_out

    shipped = constants.shipped().gpu
    start = leave_out.rounded(shipped)
    ranges = constants.ranges(shipped)
    fractions = {name for name, (_, most) in ranges.items() if most == 1}
    assert {"gemm", "stream", "residency"} < fractions < ranges.keys()
    high = {name for name in fractions if getattr(shipped, name) >= 0.2}
    assert {getattr(start, name) for name in high} == {0.8}
    assert fractions - high, "no fraction is of another order"
    assert all(0.5 <= getattr(start, name) / getattr(shipped, name) <= 2 for name in ranges.keys() - high)
    assert sum(getattr(start, name) == getattr(shipped, name) for name in ranges) < len(ranges) / 3


OLD: dict[str, Any] = {
    "tool": {"roofline": "0.1.0", "torch": "2.14"},
    "notes": ["one", "two"],
    "kernels": [{"op": "conv2d", "time_s": 1e-5}, {"op": "relu", "time_s": 2.0}],
}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"tool": {"roofline": "0.2.0", "torch": "2.14"}}, []),
        ({"tool": {"roofline": "0.2.0", "torch": "2.15"}}, [("tool.torch", "value", "tool.torch: value")]),
        (
            {"kernels": [{"op": "conv2d", "time_s": 1e-5}, {"op": "relu", "time_s": 2.0000000000000004}]},
            [("kernels[1].time_s", "value", "kernels[].time_s: value")],
        ),
        (
            {"kernels": [{"op": "conv2d", "time_s": 1e-5}, {"op": "relu", "time_s": 2}]},
            [("kernels[1].time_s", "type", "kernels[].time_s: type")],
        ),
        (
            {"kernels": [{"op": "conv2d"}, {"op": "relu", "time_s": 2.0, "level": "L2"}]},
            [("kernels[0].time_s", "gone", "kernels[].time_s: gone"), ("kernels[1].level", "added", "kernels[].level: added")],
        ),
        ({"notes": ["zero", "one", "two"]}, [("notes", "length", "notes: length"), ("notes[0]", "value", "notes[]: value")]),
        ({"notes": None}, [("notes", "type", "notes: type")]),
        (
            {"kernels": [{"time_s": 1e-5, "op": "conv2d"}, {"op": "relu", "time_s": 2.0}]},
            [("kernels[0]", "order of keys", "kernels[]: order of keys")],
        ),
    ],
)
def test_no_difference_between_documents_is_missed(change: dict[str, Any], found: list[tuple[str, str, str]]) -> None:
    from benchmarks import same

    told = same.compare(json.dumps(OLD).encode(), json.dumps(OLD | change).encode())
    assert [(d.path, d.kind, d.group) for d in told] == found


def test_documents_that_only_mean_the_same_differ() -> None:
    from benchmarks import same

    assert [d.kind for d in same.compare(b'{"time_s": 1e-05}', b'{"time_s": 0.00001}')] == ["spelling"]
    assert [d.kind for d in same.compare(b'{"a": 1}', b'{"a":1}')] == ["spelling"]


def test_every_model_is_compared_under_three_combinations() -> None:
    from benchmarks import same

    groups = same.questions(0)
    assert len(groups) > 60
    assert min(len(g.asked) for g in groups if not g.name.endswith(same.REAL)) >= 3
    for g in groups:
        assert len({json.dumps(a) for a in g.asked}) == len(g.asked), f"{g.name} is asked the same twice"
    models = [a for g in groups if g.name not in ("commands", "refused", "README") for a in g.asked]
    assert {a["runtime"] for a in models if "runtime" in a} == set(same.RUNTIMES)
    assert {a["dtype"] for a in models if "dtype" in a} == set(same.DTYPES)
    assert {a["device"] for a in models} == {*same.GPUS, *same.CPUS}
    assert {a["optimizer"] for a in models if "optimizer" in a} == set(same.OPTIMIZERS)
    for step in ({"training": True}, {}):
        kinds = {a["device"] in same.GPUS for a in models if step.items() <= a.items()}
        assert kinds == {True, False}, "a pass is asked for on one kind of device only"


COUNTED = {"params": 36, "macs": 100}
FOUND: dict[str, Any] = {**COUNTED, "beyond": 0, "notes": [], "unknown": {}}
IDLE = {**FOUND, "notes": ["never ran in this pass, so their cost is not counted: head (4 parameters, 11.1 %)"]}


@pytest.mark.parametrize(
    ("found", "what", "why"),
    [
        (FOUND, "whole", ""),
        (IDLE, "part", "never ran: head (4 parameters, 11.1 %)"),
        ({**FOUND, "macs": 160, "beyond": 60}, "whole", ""),
        ({**FOUND, "macs": 160, "beyond": 59}, "differs", "160 MACs, not 100"),
        ({**FOUND, "params": 35}, "differs", "35 parameters, not 36"),
        ({**FOUND, "unknown": {"mine.op": 1}}, "differs", "without a rule: mine.op"),
        ({"error": "it is sparse"}, "refused", "it is sparse"),
        ({"crash": "KeyError: 'x'"}, "failed", "KeyError: 'x'"),
    ],
)
def test_what_came_of_a_model_of_a_package(found: dict[str, Any], what: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import package_models
    import packages

    assert {name.partition(" ")[0] for name in package_models.MODELS} == set(packages.IMPORTS)
    name = next(iter(package_models.MODELS))
    row = {"name": name, "version": "1.2", "counted": COUNTED, "python": FOUND, "by_name": found}
    assert packages.verdict(row) == (what, why)
    assert packages.verdict({**row, "python": found, "by_name": FOUND}) == (what, why)
    package, _, model = name.partition(" ")
    shown = packages.page({name: row})
    counts = " | ".join(str(int(kind == what)) for kind in packages.KINDS)
    assert f"| {package} | 1.2 | {model} | {counts} |" in shown
    assert (f"| {name} | {what} | {why} |" in shown) == bool(why)
