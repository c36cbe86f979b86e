"""Models that end, hang or eat the process that looks at them: one line each, and the others are answered for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "roofline"]
pytestmark = pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="where a process may fork and wait so: Linux")

NETS = """
import ctypes, os, time
from pathlib import Path
import torch
from torch import nn

class Fine(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
    def forward(self, x):
        return self.conv(x)

class Crashes(Fine):
    def forward(self, x):
        ctypes.string_at(0)

class Hangs(Fine):
    def forward(self, x):
        while True:
            pass

class Eats(Fine):
    def __init__(self):
        super().__init__()
        held = []
        while True:
            held.append(b"x" * (64 << 20))

class Also(Fine):
    pass

class Waits(Fine):
    def __init__(self):
        super().__init__()
        Path("pid").write_text(str(os.getpid()))
        time.sleep(60)
"""


def ended(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The program, run to its end."""
    return subprocess.run([*PROGRAM, *args], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_each_costs_its_own_line(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    models = [f"nets.py:{name}" for name in ("Crashes", "Fine", "Hangs", "Eats", "Also")]
    done = ended(tmp_path, "compare", *models, "-d", "t4", "-b", "3", "--time-limit", "3 s", "--memory-limit", "1GiB")
    assert done.returncode == 3, done.stderr
    # lines are broken at hyphens too
    said = [" ".join(part.split()).replace("- ", "-") for part in done.stdout.split("\n- ") if part.startswith("nets.py")]
    assert [part.split()[0] for part in said] == ["nets.py:Crashes", "nets.py:Hangs", "nets.py:Eats"]
    assert "its code crashed the process (SIGSEGV: a segmentation fault)" in said[0]
    assert "took longer than 3 s, the limit; does its code wait or loop?" in said[1]
    assert "of memory here, and 1 GiB is the limit; give it another with --memory-limit" in said[2]
    # the table is there, with the model that works, and nothing that was printed came out twice
    assert done.stdout.count("Params") == 1
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("nets.py")]
    assert rows == ["nets.py:Fine", "nets.py:Also"]


def test_a_model_that_is_measured_has_not_ended_the_program(tmp_path: Path, cache_dir: Path) -> None:
    """It is traced, and then run, under one watch."""
    (tmp_path / "nets.py").write_text(NETS)
    given = ("--input", "1,3,8,8", "--seconds", "0.1", "--force")
    done = ended(tmp_path, "measure", "nets.py:Fine", *given)
    assert done.returncode == 0, done.stderr
    assert "measured here" in done.stdout
    assert "error" not in done.stderr
    crashed = ended(tmp_path, "measure", "nets.py:Crashes", *given)
    assert crashed.returncode == 3
    assert "its code crashed the process (SIGSEGV: a segmentation fault)" in crashed.stderr


def test_models_of_a_check_cost_their_own_line(tmp_path: Path, cache_dir: Path) -> None:
    """In several processes, which is what `check` works in: more crashes than watchers can wait for one another."""
    names = ["Crashes", "Fine", "Hangs", "Crashes2", "Crashes3", "Crashes4", "Crashes5", "Also"]
    more = "".join(f"\nclass Crashes{i}(Crashes):\n    pass\n" for i in range(2, 6))
    (tmp_path / "nets.py").write_text(f"{NETS}{more}\nprint('a net that prints')\n")
    models = ", ".join(f'"nets.py:{name}"' for name in names)
    (tmp_path / "roofline.toml").write_text(
        f'[budgets.all]\nmodels = [{models}]\ndevice = "t4"\ninputs = ["1,3,4,4"]\nmacs = 384\n'
    )
    done = ended(tmp_path, "check", "--json", "--jobs", "2", "--time-limit", "2 s")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)["budgets"]
    assert [b["budget"] for b in found] == [f"nets.py:{name}" for name in names]
    assert [b["ok"] for b in found] == [name in ("Fine", "Also") for name in names]
    said = {b["budget"].partition(":")[2]: b["error"] for b in found if b["error"]}
    assert all("its code crashed the process (SIGSEGV" in text for name, text in said.items() if "Crashes" in name)
    assert "took longer than 2 s, the limit; does its code wait or loop?" in said["Hangs"]


def test_sigterm_reaches_the_model_and_nothing_stays(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    command = [*PROGRAM, "analyze", "nets.py:Waits", "--input=1,3,8,8", "-d", "t4", "-o", "a.json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        pid = tmp_path / "pid"
        deadline = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = int(pid.read_text())
        assert child != process.pid
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["nets.py", "pid"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--time-limit", "5 GiB"], "--time-limit: expected a number in s"),
        (["--time-limit", "0"], "--time-limit: expected more than 0"),
        (["--memory-limit", "-1"], "--memory-limit: expected"),
        (["--memory-limit", "much"], "--memory-limit: expected a number in B"),
    ],
)
def test_limits_that_are_none(option: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    from roofline.cli import main

    assert main(["analyze", "mobilenet_v2", "-d", "t4", *option]) == 2
    assert words in capsys.readouterr().err
