"""Models that fail, in `analyze` and in a gate of several; saved analyses made again in their whole setting."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from roofline.cli import main

Capture = pytest.CaptureFixture[str]
RunCli = Callable[..., "subprocess.CompletedProcess[str]"]

GOOD = """
from torch import nn

class Good(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x)
"""
BAD = """
import os, signal, sys, torch
from torch import nn

class Mine(BaseException):
    pass

class Key(KeyboardInterrupt):
    pass

class Hostile(Exception):
    def __str__(self):
        raise ValueError("no words")

class Loud(Exception):
    def __str__(self):
        return "a\\n" * 9 + "\\x1b[31m" + "b" * 100_000

def hook(*_):
    raise OSError("from a hook")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        BUILD

    def forward(self, x):
        FORWARD
        return self.a(x)
LINE
"""
# how it fails -> what the line says
FAILS = {
    "undefined_name": "NameError: name 'undefined_name' is not defined",
    "raise Mine('of its own')": "Mine: of its own",
    "raise Key('like Ctrl-C')": "Key: like Ctrl-C",
    "raise StopIteration": "StopIteration",
    "assert len(sys.argv) < 0": "AssertionError (at: assert len(sys.argv) < 0)",
    "raise MemoryError('too much')": "MemoryError: too much",
    "def f(): return f()\n        f()": "RecursionError",
    "raise GeneratorExit": "GeneratorExit",
    "raise Hostile": "Hostile (and its message raises ValueError)",
    "raise Loud": "Loud: a",
    "raise KeyError('gone')": "KeyError: gone",
    "sys.exit(0)": "its code ended the program (sys.exit(0))",
    "sys.exit(2)": 'as a parser of a command line does: what the file does as a program goes below if __name__ == "__main__":',
    "exit()": "its code ended the program (sys.exit(None))",
    "next(iter(()))": "StopIteration",
    "1 / 0": "ZeroDivisionError: division by zero",
    "assert False, 'wrong'": "AssertionError: wrong",
    "raise SyntaxError('made up')": "SyntaxError: made up",
    "raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])": "ExceptionGroup: two",
    "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')": "UnicodeDecodeError",
}


def bad(folder: Path, *, build: str = "pass", forward: str = "pass", line: str = "") -> Path:
    text = BAD.replace("BUILD", build).replace("FORWARD", forward).replace("LINE", line)
    (folder / "net.py").write_text(text)
    return folder / "net.py"


def analyze(file: Path, *more: str) -> int:
    return main(["analyze", f"{file}:Net", "--input", "1,4", "-d", "t4", *more])


@pytest.mark.parametrize("when", ["line", "build", "forward"])
@pytest.mark.parametrize("how", FAILS)
def test_a_model_that_fails(tmp_path: Path, capsys: Capture, how: str, when: str) -> None:
    file = bad(tmp_path, **{when: how.replace("\n        ", "\n") if when == "line" else how})
    assert analyze(file) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert FAILS[how] in err
    assert "net.py:" in err
    assert "roofline: error: " in err
    assert len(err.splitlines()) <= 2
    assert max(map(len, err.splitlines())) < 1000
    assert "\x1b" not in err


CLASS = "class Net(nn.Module):\n    def __init__(self):\n        {0}\n"
MAKES = "def Net():\n    m = nn.Linear(4, 4)\n    {0}\n    return m\n"
ODD = {
    "no __init__": (CLASS.format("pass"), "does not call super().__init__()"),
    "a layer without __init__": (
        CLASS.format("pass").replace("Net", "In") + MAKES.format("m = nn.Sequential(); m._modules['a'] = In()"),
        "its layer a (In) has no parts",
    ),
    "no __init__ and a layer": (CLASS.format("self.a = nn.Linear(4, 4)"), "cannot assign module before Module.__init__() call"),
    "inside itself": (
        CLASS.format("super().__init__(); self.b = nn.Sequential(); self.b.c = self"),
        "a module is inside itself: b.c is the model itself",
    ),
    "a hook": (MAKES.format("m.register_forward_pre_hook(hook)"), "OSError: from a hook"),
    "a later hook": (MAKES.format("m.register_forward_hook(hook)"), "OSError: from a hook"),
    "no forward": ("class Net(nn.Module):\n    pass\n", "NotImplementedError"),
}


@pytest.mark.parametrize("name", ODD)
def test_models_that_are_not_whole(tmp_path: Path, capsys: Capture, name: str) -> None:
    text, words = ODD[name]
    assert analyze(bad(tmp_path, line=text)) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "the model failed" in err


ENDS = {
    "_exit": ("os._exit(0)", "its code ended the program (os._exit(0))"),
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)", "its code ended the program (os.kill("),
    "execv": ("os.execv('/bin/true', ['true'])", "its code ended the program (os.execv("),
    "C": ("import ctypes; ctypes.CDLL(None).exit(0)", "its code ended the program (exit of the C library)"),
    "posix": ("import posix; posix._exit(0)", "its code ended the program (os._exit(0))"),
}


@pytest.mark.skipif(os.name != "posix", reason="ways to end a process on POSIX")
@pytest.mark.parametrize("how", ENDS)
def test_a_gate_is_not_green_because_the_model_left(tmp_path: Path, run_cli: RunCli, how: str) -> None:
    change, words = ENDS[how]
    when = {"_exit": "build", "kill": "line", "execv": "forward", "posix": "line", "C": "build"}[how]
    bad(tmp_path, **{when: change})
    (tmp_path / "roofline.toml").write_text('[[budget]]\nmodel = "net.py:Net"\ninputs = "1,4"\ndevice = "t4"\nmax_params = 1\n')
    done = run_cli("check", cwd=tmp_path, timeout=240)
    assert done.returncode == 3, done
    assert words in done.stdout


def test_one_model_that_fails_does_not_hide_the_others(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad(tmp_path, forward="1 / 0")
    (tmp_path / "good.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)

    def budget(model: str, limit: int, device: str = "t4") -> str:
        return f'[[budget]]\nmodel = "{model}"\ninputs = "1,4"\ndevice = "{device}"\nmax_params = {limit}\n'

    def run(*budgets: str, more: tuple[str, ...] = ()) -> tuple[int, str, str]:
        (tmp_path / "roofline.toml").write_text("".join(budgets))
        code = main(["check", *more])
        return code, *capsys.readouterr()

    good, broken, failing = budget("good.py:Good", 20), budget("good.py:Good", 19), budget("net.py:Net", 20)
    unknown = budget("good.py:Goood", 20)
    assert run(good)[0] == 0
    assert run(good, broken)[0] == 1
    code, out, err = run(failing, good, broken, unknown, more=("--github",))
    assert code == 3
    lines = out.splitlines()
    assert sum(line.startswith("ok") for line in lines) == 1
    assert any(line.startswith("FAIL  Good") or line.startswith("FAIL  good.py:Good") for line in lines)
    assert any("not checked: the model failed in Net with input shapes [1x4]: ZeroDivisionError" in line for line in lines)
    assert any("has no 'Goood': did you mean Good" in line for line in lines)
    assert any("1 of 2 limits broken, 2 of 4 budgets not checked" in line for line in lines)
    annotations = [line for line in lines if line.startswith("::error")]
    assert len(annotations) == 3
    assert any("line=1," in line and "not checked" in line for line in annotations)
    assert "broken: good.py:Good (max_params); not checked: net.py:Net, good.py:Goood" in err
    assert run(good, unknown)[0] == 2
    assert run(unknown, failing)[0] == 3
    code, out, _ = run(failing, good, more=("--json",))
    document = json.loads(out)
    assert code == 3
    assert [v["ok"] for v in document["budgets"]] == [False, True]
    assert "ZeroDivisionError" in document["budgets"][0]["error"]


# ------------------------------------------------------------------------------------------------ a saved analysis made again

WIDE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a = nn.Conv2d(3, width, 3)

    def forward(self, x, ids=None):
        return self.a(x).sum() + (0 if ids is None else ids.sum())
"""
HOW = {
    "plain": (),
    "inputs": ("--input", "2,3,17,19"),
    "resolution": ("--resolution", "33"),
    "batch": ("-b", "5"),
    "settings": ("--set", "width=21"),
    "two inputs of other lengths": ("--input", "x=1,3,32,32", "--input", "ids=7:int64"),
    "all": ("-b", "2", "--resolution", "40", "--set", "width=5", "--dtype", "fp16", "--runtime", "compiled"),
    "training": ("--input", "2,3,17,19", "--training", "--optimizer", "sgd"),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_an_unchanged_model_is_unchanged(tmp_path: Path, capsys: Capture, how: str, old: bool) -> None:
    if old and how in ("settings", "all"):
        pytest.skip("documents of older versions do not hold the arguments of the model")
    (tmp_path / "net.py").write_text(WIDE)
    net, base = f"{tmp_path}/net.py:Net", tmp_path / "base.json"
    assert main(["analyze", net, "-d", "t4", *HOW[how], "-o", str(base)]) == 0
    if old:  # as version 0.1.0 wrote it
        document = json.loads(base.read_text())
        for name in ("asked", "asked_batch", "inputs", "resolution", "set", "constants"):
            del document["setting"][name]
        del document["device"]["fingerprint"]
        base.write_text(json.dumps(document))
    capsys.readouterr()
    assert main(["diff", str(base), net, "--fail-on", "macs>0", "--fail-on", "macs<0", "--fail-on", "time>0.1%", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["diff"]
    assert all(c["base"] == pytest.approx(c["head"], rel=1e-12) for c in found["totals"])
    assert found["settings"] == []


def test_another_device_of_the_same_name(tmp_path: Path, capsys: Capture) -> None:
    from roofline.paths import LIBRARY

    (tmp_path / "net.py").write_text(WIDE)
    net, base, mine = f"{tmp_path}/net.py:Net", tmp_path / "base.json", tmp_path / "t4.toml"
    shutil.copy(LIBRARY / "t4.toml", mine)
    text = mine.read_text()
    assert 'bandwidth = "320 GB/s"' in text or "320" in text
    mine.write_text(text.replace("320", "160"))
    assert main(["analyze", net, "-d", str(mine), "-o", str(base)]) == 0
    capsys.readouterr()
    assert main(["diff", str(base), net]) == 2
    err = capsys.readouterr().err
    assert "made with other numbers than those of the device 't4' here" in err
    assert main(["diff", str(base), net, "-d", str(mine), "--fail-on", "time>0.1%"]) == 0
    assert "numbers of the device" not in capsys.readouterr().out
    # by name, when that is asked for: and it says so
    assert main(["diff", str(base), net, "-d", "t4"]) == 0
    assert "setting differs: numbers of the device: " in capsys.readouterr().out


def test_constants_that_differ_are_named(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from roofline.timemodel import constants

    (tmp_path / "net.py").write_text(WIDE)
    net, base, own = f"{tmp_path}/net.py:Net", tmp_path / "base.json", tmp_path / "own.toml"
    own.write_text(f"[gpu]\ndrain = {constants.shipped().gpu.drain * 0.9}\n")
    assert main(["analyze", net, "-d", "t4", "-o", str(base)]) == 0
    monkeypatch.setenv("ROOFLINE_CONSTANTS", str(own))
    capsys.readouterr()
    assert main(["diff", str(base), net]) == 0
    assert "setting differs: constants: " in capsys.readouterr().out


def test_an_edited_analysis_in_a_gate(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(WIDE)
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "net.py:Net", "-d", "t4", "-o", "base.json"]) == 0
    (tmp_path / "roofline.toml").write_text('[[budget]]\nanalysis = "base.json"\nmax_time = "1 h"\n')
    assert main(["check"]) == 0
    document = json.loads((tmp_path / "base.json").read_text())
    document["totals"]["time_s"] /= 10
    (tmp_path / "base.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert main(["check"]) == 2
    assert "totals.time_s is" in capsys.readouterr().out
    assert main(["diff", "base.json", "net.py:Net"]) == 2
    assert "base.json: totals.time_s is" in capsys.readouterr().err
