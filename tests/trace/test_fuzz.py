"""A few hundred mutants of each kind of file; `benchmarks/fuzz.py` tries thousands."""

from __future__ import annotations

from pathlib import Path
from random import Random

import fuzzing
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import roofline
from roofline.analysis import document

SOME = settings(
    max_examples=100,
    derandomize=True,
    deadline=10_000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def tried(target: fuzzing.Target, folder: Path) -> None:
    seen: list[bool] = []

    @SOME
    @given(st.integers(0, 2**32))
    def one(seed: int) -> None:
        seen.append(bool(target.judge(target.write(folder, Random(seed)))))

    one()
    assert sum(seen) > 20  # most mutants of a kind are refused, or nothing was tried
    assert not all(seen)


def test_device_files(tmp_path: Path) -> None:
    tried(fuzzing.device(), tmp_path)


def test_budgets(tmp_path: Path) -> None:
    tried(fuzzing.budget(), tmp_path)


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
def test_saved_analyses(tmp_path: Path, runtime: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    result = roofline.analyze(net, args=(torch.empty(2, 3, 8, 8),), device="t4", runtime=runtime, cache=False)
    tried(fuzzing.saved(document.to_json(result)), tmp_path)


def test_onnx_files(tmp_path: Path) -> None:
    graphs = pytest.importorskip("graphs", reason="onnx is not installed", exc_type=ImportError)
    tried(fuzzing.onnx(graphs.small_graph()), tmp_path)
