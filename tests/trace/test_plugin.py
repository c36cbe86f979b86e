"""What runs, counted operator by operator; and the fixture and mark for pytest, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import nn

import roofline

REPO = Path(__file__).parents[2]


def net() -> nn.Sequential:
    """MACs: 3 * 8 * 9 * 30 * 30 = 194,400; 8 * 16 * 9 * 28 * 28 = 903,168; 16 * 10 = 160."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 16, 3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


X = torch.zeros(1, 3, 32, 32)
WHOLE = 194_400 + 903_168 + 160


@pytest.mark.parametrize("grad", [False, True])
def test_at_the_budget_and_one_beyond(grad: bool) -> None:
    model = net()
    ran: list[str] = []
    model[5].register_forward_hook(lambda *_: ran.append("head"))
    with torch.set_grad_enabled(grad):
        with roofline.budget(macs=WHOLE) as counted:
            model(X)
        assert counted.macs == WHOLE
        assert not counted.unknown
        assert ran == ["head"]
        with pytest.raises(roofline.BudgetExceeded, match=r"macs may be .* in 5 \(Linear\)"), roofline.budget(macs=WHOLE - 1):
            model(X)
        assert ran == ["head"]  # the operator has not run
        where = r"conv.* in 2\.0 \(Conv2d\) with \[1x8x30x30, 16x8x3x3"
        with pytest.raises(roofline.BudgetExceeded, match=where), roofline.budget(macs="0.5 M"):
            model(X)
        model(X)  # nothing is left behind
    # a pool of everything runs as a mean, which divides once more
    assert counted.flops == pytest.approx(roofline.analyze(model, args=[X], device="t4").totals.flops, rel=1e-4)


def test_one_budget_inside_another() -> None:
    """Each operator counts once in both, and the narrower of the two stops it."""
    model = net()
    with roofline.budget(macs="1 G", kernels=1000) as outer:
        with roofline.budget(macs=WHOLE) as inner:
            model(X)
        model(X)
    assert (inner.macs, outer.macs, outer.kernels) == (WHOLE, 2 * WHOLE, 2 * inner.kernels)
    for macs, narrower in ((WHOLE, WHOLE - 1), (WHOLE - 1, WHOLE)):
        with (
            pytest.raises(roofline.BudgetExceeded, match=r"in 5 \(Linear\)"),
            roofline.budget(macs=macs),
            roofline.budget(macs=narrower),
        ):
            model(X)


def test_a_backward_counts_too() -> None:
    model = net()
    with roofline.budget(macs="1 G") as counted:
        model(X).sum().backward()
    # the gradient of every weight, and of every input but the first's
    assert counted.macs == WHOLE + WHOLE + WHOLE - 194_400


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "give a limit"),
        ({"mac": 1}, "did you mean 'macs'?"),
        ({"macs": "1 B"}, "expected a number"),
        ({"macs": -1}, "at least 0"),
    ],
)
def test_refused(limits: dict[str, str], words: str) -> None:
    with pytest.raises(roofline.RooflineError, match=words.replace("?", r"\?")):
        roofline.budget(**limits)


TESTS = """
import sys
import unittest
import pytest

assert "torch" not in sys.modules, "collecting imports torch"

def make():
    from torch import nn
    return nn.Linear(8, 4)

def test_kept(roofline_budget):
    roofline_budget(make(), "1,8", macs=32, params="36", device="t4", time="3 ms")

def test_broken(roofline_budget):
    roofline_budget(make(), ["1,8"], macs=31, device="t4")

@pytest.mark.roofline_budget(make, "1,8", macs=32, device="t4")
def test_mark():
    pass

@pytest.mark.roofline_budget(make, "1,8", macs=31, device="t4")
def test_broken_mark():
    raise SystemError("this is not reached")

def test_tensors(roofline_budget):
    import torch
    roofline_budget(make(), (torch.zeros(2, 8),), macs=64, device="t4")

def test_unknown(roofline_budget):
    roofline_budget(make(), "1,8", macz=32)

def test_unit(roofline_budget):
    roofline_budget(make(), "1,8", macs="2 ms")

def test_shapes(roofline_budget):
    roofline_budget(make(), "1,7", macs=32, device="t4")

@pytest.mark.roofline_budget(macs=2)
def test_nothing():
    raise SystemError("this is not reached")

class TestOld(unittest.TestCase):
    @pytest.mark.roofline_budget(make, "1,8", macs=31, device="t4")
    def test_method(self):
        raise SystemError("this is not reached")
"""


@pytest.mark.parametrize("processes", [0, 2])
def test_the_plugin(processes: int, tmp_path: Path) -> None:
    """In one process, and with pytest-xdist in several."""
    if processes:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    (tmp_path / "test_net.py").write_text(TESTS)
    entry = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["pytest11"]
    assert entry == {"roofline": "roofline.pytest_plugin"}
    # an environment that has not been installed anew has no entry point
    own = [] if metadata.entry_points(group="pytest11", name="roofline") else ["-p", "roofline.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", *own, "-q", "--strict-markers", "-p", "no:cacheprovider", "-n", str(processes)]
    command = command if processes else command[:-2]
    env = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "PYTEST_ADDOPTS": ""}
    for name in ("CI", "BUILD_NUMBER"):  # where one is set, pytest prints each message a second time, in its summary
        env.pop(name, None)
    done = subprocess.run([*command, "test_net.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "7 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "FAIL  Linear  t4      macs   32      31" in done.stdout
    assert "did you mean 'macs'?" in done.stdout
    assert "this is not reached" not in done.stdout
    assert "UsageError: roofline_budget: macs: expected a number like 250" in done.stdout
    assert "the mark takes a model and its inputs" in done.stdout
    assert done.stdout.count("FAIL  Linear  t4      macs   32      31") == 3
    # what is wrong is told in a line or two, and not in frames of ours
    assert "roofline/pytest_plugin.py" not in done.stdout
    assert "roofline/pipeline.py" not in done.stdout
