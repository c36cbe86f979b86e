"""The program as a person starts it, in a process of its own: exit codes, pipes, Ctrl-C, bad input, what it imports."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAM = [sys.executable, "-m", "roofline"]

NET = """
import os
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

class Broken(Net):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(5, 6, 1))

    def forward(self, x):
        return self.inner(x)

class Raises(Net):
    def forward(self, x):
        raise KeyError("weights of a colleague")

class Prints(Net):
    def forward(self, x):
        print("hello from the model")
        os.system("echo hello from its shell")
        return super().forward(x)
"""

SHAPE = "--input=1,3,32,32"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> Path:
    """An analysis of a reference model as JSON; the cache now holds it too."""
    path = tmp_path_factory.mktemp("saved") / "v3.json"
    done = run_cli("analyze", "mobilenet_v3_large", "-d", "t4", "-o", str(path))
    assert done.returncode == 0, done.stderr
    return path


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One or two lines on stderr with these words, nothing on stdout."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("roofline: error: ")
    assert 1 <= len(done.stderr.splitlines()) <= 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


# ------------------------------------------------------------------------------------------------ the main job


def test_the_main_job(saved: Path) -> None:
    document = json.loads(saved.read_bytes())
    assert document["model"]["params"] == 5_483_032
    assert document["totals"]["macs"] == pytest.approx(216.6e6, rel=5e-4)
    for key in ("flops", "macs", "bytes", "weight_bytes"):
        assert document["totals"][key] == sum(k[key] for k in document["kernels"])
    assert document["totals"]["time_s"] == pytest.approx(sum(k["time_s"] for k in document["kernels"]))


def test_cached_and_fresh_agree(saved: Path, run_cli: RunCli) -> None:
    again = run_cli("analyze", "mobilenet_v3_large", "-d", "t4", "--json")
    fresh = run_cli("analyze", "mobilenet_v3_large", "-d", "t4", "--json", "--no-cache")
    assert again.returncode == fresh.returncode == 0
    assert again.stderr == fresh.stderr == ""
    assert json.loads(again.stdout) == json.loads(fresh.stdout) == json.loads(saved.read_bytes())


def test_this_machine_is_the_default(saved: Path, run_cli: RunCli) -> None:
    done = run_cli("analyze", "mobilenet_v3_large", "--json", env={"ROOFLINE_HOST_FILE": ""})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["kind"] == "cpu"


def test_check_and_diff(saved: Path, tmp_path: Path, run_cli: RunCli) -> None:
    budget = tmp_path / "roofline.toml"
    lines = '[[budget]]\nmodel = "mobilenet_v3_large"\ndevice = "t4"\nmax_params = "5.483032 M"\n'
    budget.write_text(lines)
    assert run_cli("check", cwd=tmp_path).returncode == 0
    budget.write_text(lines + "max_macs = 1\n")
    done = run_cli("check", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert done.stderr == "roofline: roofline.toml: broken: mobilenet_v3_large (max_macs)\n"

    done = run_cli("diff", str(saved), "mobilenet_v3_large", "--fail-on", "time>0")
    assert done.returncode == 0, done.stderr
    assert "no difference" in done.stdout


# ------------------------------------------------------------------------------------------------ bad input


def test_unknown_model(run_cli: RunCli) -> None:
    done = run_cli("analyze", "mobilenet_v3_lage", "-d", "t4")
    refused(done, 2, "mobilenet_v3_lage", "mobilenet_v3_large", "roofline models")


def test_gpu_where_there_is_none(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("analyze", "resnet50", "-d", "gpu", env={"PATH": str(tmp_path)})
    refused(done, 2, "no CUDA device", "roofline devices")


def test_unknown_setting(run_cli: RunCli) -> None:
    refused(run_cli("analyze", "mobilenet_v3_large", "-d", "t4", "--set", "width_mul=0.5"), 2, "width_mul", "width_mult")
    failed = run_cli("analyze", "mobilenet_v3_large", "-d", "t4", "--set", "width_mult=half", "--set", "num_classes=10")
    refused(failed, 2, "mobilenet_v3_large cannot be built with --set width_mult=half: ", "models/mobilenet_v3.py")


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda text: "", []), (lambda text: text.replace("bandwidth =", "bandwith ="), ["bandwith", "bandwidth"])],
    ids=["empty", "unknown key in a level"],
)
def test_device_file(change: Callable[[str], str], words: list[str], tmp_path: Path, run_cli: RunCli) -> None:
    import roofline

    original = Path(roofline.__file__).with_name("devices").joinpath("library/t4.toml").read_text()
    file = tmp_path / "board.toml"
    file.write_text(change(original))
    refused(run_cli("analyze", "resnet50", "-d", str(file)), 2, "board.toml", *words)
    refused(run_cli("devices", str(file)), 2, "board.toml", *words)


def test_device_file_that_is_not_there(tmp_path: Path, run_cli: RunCli) -> None:
    refused(run_cli("analyze", "resnet50", "-d", str(tmp_path / "gone.toml")), 2, "gone.toml")


def test_a_model_that_raises(net: Path, run_cli: RunCli) -> None:
    done = run_cli("analyze", f"{net}:Broken", SHAPE, "-d", "t4")
    refused(done, 3, "inner.1", "1x4x32x32")
    refused(run_cli("analyze", f"{net}:Raises", SHAPE, "-d", "t4"), 3, "weights of a colleague")


def test_an_input_that_does_not_fit(net: Path, run_cli: RunCli) -> None:
    refused(run_cli("analyze", f"{net}:Net", "--input=1,4,32,32", "-d", "t4"), 3, "conv", "1x4x32x32")
    refused(run_cli("analyze", "resnet50", "--input=1,3,banana", "-d", "t4"), 2, "banana")
    refused(run_cli("analyze", "resnet50", "--input=1,3,0,-5", "-d", "t4"), 2, "-5")
    refused(run_cli("analyze", "resnet50", "--input=1,3,32,32:float31", "-d", "t4"), 2, "float31")


def test_a_file_without_that_name(net: Path, run_cli: RunCli) -> None:
    refused(run_cli("analyze", f"{net}:Nett", SHAPE, "-d", "t4"), 2, "Nett", "Net")
    refused(run_cli("analyze", str(net.with_name("gone.py")) + ":Net", SHAPE, "-d", "t4"), 2, "gone.py")
    net.write_text("class Net(:\n")
    refused(run_cli("analyze", f"{net}:Net", SHAPE, "-d", "t4"), 2, "net.py", "line 1")
    net.write_text("import not_installed_anywhere\n")
    refused(run_cli("analyze", f"{net}:Net", SHAPE, "-d", "t4"), 2, "not_installed_anywhere")


def test_what_a_model_prints(net: Path, run_cli: RunCli) -> None:
    done = run_cli("analyze", f"{net}:Prints", SHAPE, "-d", "t4", "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert "hello from the model" in done.stderr
    assert "hello from its shell" in done.stderr


def test_a_changed_model_file_is_analysed_anew(net: Path, run_cli: RunCli) -> None:
    def params() -> Any:
        done = run_cli("analyze", f"{net}:Net", SHAPE, "-d", "t4", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["model"]["params"]

    # 3x3 kernels over 3 channels and a bias each; 10 rows of weights and a bias each
    assert params() == 8 * (27 + 1) + 10 * (8 + 1)
    net.write_text(NET.replace("width: int = 8", "width: int = 9"))
    assert params() == 9 * (27 + 1) + 10 * (9 + 1)


@pytest.mark.parametrize("place", ["gone/a.json", "dir.json", "/proc/a.json"])
def test_an_output_that_cannot_be_written(place: str, saved: Path, tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "dir.json").mkdir()
    done = run_cli("analyze", "mobilenet_v3_large", "-d", "t4", "-o", "first.csv", "-o", place, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"roofline: error: cannot write {place}: ")
    assert len(done.stderr.splitlines()) <= 2
    assert [p.name for p in tmp_path.iterdir()] == ["dir.json"]


# ------------------------------------------------------------------------------------------------ cache


def test_a_corrupt_cache(cache_dir: Path, run_cli: RunCli) -> None:
    args = ("analyze", "mobilenet_v3_small", "-d", "t4", "--json")
    first = run_cli(*args)
    assert first.returncode == 0, first.stderr
    files = [p for p in cache_dir.rglob("*") if p.is_file()]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-10])
    second = run_cli(*args)
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert all("was damaged and has been removed" in line for line in second.stderr.splitlines())
    assert second.stderr.startswith("roofline: warning: ")
    assert run_cli(*args).stderr == ""


def test_a_cache_that_cannot_be_written(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "file").write_text("")
    done = run_cli("analyze", "mobilenet_v3_small", "-d", "t4", "--json", env={"ROOFLINE_CACHE_DIR": str(tmp_path / "file")})
    assert done.returncode == 0
    json.loads(done.stdout)
    assert len(done.stderr.splitlines()) == 1
    assert "going on without it" in done.stderr


def test_no_cache_and_clear(cache_dir: Path, run_cli: RunCli) -> None:
    assert run_cli("analyze", "mobilenet_v3_small", "-d", "t4", "--json", "--no-cache").returncode == 0
    assert not cache_dir.exists()
    assert run_cli("analyze", "mobilenet_v3_small", "-d", "t4", "--json").returncode == 0
    assert cache_dir.exists()
    assert run_cli("cache", "clear").returncode == 0
    assert [p for p in cache_dir.rglob("*") if p.is_file()] == []


def test_two_at_once(cache_dir: Path) -> None:
    command = [*PROGRAM, "analyze", "mobilenet_v3_small", "-d", "t4", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert results[0][0] == results[1][0]
    assert results[0][1] == results[1][1] == b""


# ------------------------------------------------------------------------------------------------ terminals, pipes, Ctrl-C


@pytest.mark.parametrize("args", ["analyze mobilenet_v3_large -d t4", "devices", "models", "--help"])
def test_a_pipe_gets_plain_text(args: str, saved: Path, run_cli: RunCli) -> None:
    done = run_cli(*args.split(), env={"TERM": "xterm-256color"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert done.stderr == ""


def terminal(args: list[str], env: dict[str, str]) -> str:
    """What the program shows on a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([*PROGRAM, *args], stdin=follower, stdout=follower, stderr=follower, env={**os.environ, **env})
    os.close(follower)
    shown = b""
    while True:
        try:
            block = os.read(leader, 65536)
        except OSError:  # the program has ended
            break
        if not block:
            break
        shown += block
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def test_a_terminal_gets_colours(saved: Path) -> None:
    args = ["analyze", "mobilenet_v3_large", "-d", "t4"]
    assert "\x1b[" in terminal(args, {"TERM": "xterm-256color"})
    assert "\x1b[1m" in terminal(["devices"], {"TERM": "xterm-256color"})
    assert "\x1b[1m" not in terminal(["devices"], {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "\x1b[1m" not in terminal(["devices"], {"TERM": "dumb"})


def test_an_ascii_terminal(saved: Path, run_cli: RunCli) -> None:
    done = run_cli("analyze", "mobilenet_v3_large", "-d", "t4", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_a_reader_that_goes_away(saved: Path) -> None:
    command = [*PROGRAM, "analyze", "mobilenet_v3_large", "-d", "t4", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before the program has anything to say
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert errors == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "args",
    ["--help", "devices", "analyze mobilenet_v3_large -d t4 --json", "analyze mobilenet_v3_large -d t4"],
)
def test_a_full_disk_behind_stdout(args: str, saved: Path) -> None:
    command = [*PROGRAM, *args.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.stderr == "roofline: error: cannot write to stdout: No space left on device\n"
    assert done.returncode == 2


def test_stdout_closed(saved: Path) -> None:
    command = " ".join([*PROGRAM, "analyze mobilenet_v3_large -d t4 >&-"])
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SLOW = """
import time
from pathlib import Path

class Net:
    def __init__(self):
        Path(__file__).with_name("started").touch()
        time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    command = [*PROGRAM, "analyze", "slow.py:Net", SHAPE, "-d", "t4", "-o", "a.json", "-o", "a.png"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err == "roofline: interrupted\n"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["slow.py", "started"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told by Linux' /proc")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["check", "--jobs", "2", "-o", "r.xml", "-o", "r.json"], id="forks"),
        pytest.param(["sweep", "slow.py:Net", "-d", "t4", "--input", "1,8", "-o", "z.csv", "--workers", "2"], id="spawned"),
    ],
)
def test_ctrl_c_ends_every_process(command: list[str], tmp_path: Path, cache_dir: Path) -> None:
    """As a terminal sends it, to all of them: a line or two, nothing written, and no process is left."""
    (tmp_path / "slow.py").write_text(SLOW)
    budget = '[[budget]]\nname = "{0}"\nmodel = "slow.py:Net"\ndevice = "t4"\ninputs = ["{0},8"]\nmax_params = 1\n'
    (tmp_path / "roofline.toml").write_text("".join(budget.format(n) for n in range(1, 6)))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*PROGRAM, *command], cwd=tmp_path, start_new_session=True, **pipes) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(_at_work(tmp_path)) > 1
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=30)
    anew = "roofline: stopped before anything was whole; the same command begins anew\n" if command[0] == "sweep" else ""
    assert (process.returncode, *said) == (130, "", f"{anew}roofline: interrupted\n")
    deadline = time.monotonic() + 10
    while (left := _at_work(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    parts = {"__pycache__", "z.csv.parts"}
    assert {p.name for p in tmp_path.iterdir()} - parts == {"roofline.toml", "slow.py", "started"}


def _at_work(folder: Path) -> list[int]:
    """Processes that were started in a folder and have not ended."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if (process / "cwd").readlink() == folder and state != "Z":
                found.append(int(process.name))
    return found


def test_a_thread_that_a_model_left_is_not_waited_for() -> None:
    text = """
import atexit, threading, time
from roofline.cli import terminal
atexit.register(print, "at exit")
terminal.leave(1)
print("nobody is there")
threading.Thread(target=time.sleep, args=(600,)).start()
terminal.leave(3)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "nobody is there\nat exit\n"), done.stderr
