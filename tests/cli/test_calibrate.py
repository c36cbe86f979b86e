"""`roofline calibrate` and `roofline measure` as a user starts them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofline.cli import main
from roofline.devices.file import read

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ROOFLINE_HOST_FILE", "")
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:Net"


def test_calibrate_writes_a_file_that_cpu_then_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from roofline.bench import calibration

    monkeypatch.setattr(calibration, "SECONDS", 0.5)
    path = tmp_path / "new" / "host.toml"
    monkeypatch.setenv("ROOFLINE_HOST_FILE", str(path))
    assert main(["calibrate", "--force", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert "vector fp32" in out
    assert "DRAM" in out
    assert f"wrote {path}" in err
    assert read(path).tier == "calibrated"
    assert [p.name for p in path.parent.iterdir()] == ["host.toml"]  # nothing half-written beside it

    assert main(["devices", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "calibrated numbers" in shown
    assert "before" in shown
    assert "A TINY ONE" in shown

    assert main(["devices", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tier"] == "calibrated"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-o", "host.json"], "a device file ends in .toml"),
        (["-o", "/nowhere/at/all/host.toml"], "no directory"),
        (["-d", "gpu"], "name the file"),
        (["--threads", "100000"], "this machine runs 1 to"),
        (["-d", "tpu"], "cpu"),
    ],
)
def test_calibrate_refuses_before_it_measures(
    args: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROOFLINE_HOST_FILE", str(tmp_path / "host.toml"))
    assert main(["calibrate", *args]) == 2
    assert words in capsys.readouterr().err


def test_a_busy_machine_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from roofline.bench import calibration
    from roofline.bench.sampling import Sample

    monkeypatch.setattr(calibration, "SECONDS", 0.1)
    monkeypatch.setattr(calibration.Bench, "__call__", lambda self, calls, number=1, between=None: Sample(1e-3, 0.9, 10, 1))
    path = tmp_path / "host.toml"
    path.write_text("as it was")
    assert main(["calibrate", "--threads", "1", "-o", str(path)]) == 2
    assert "too busy" in capsys.readouterr().err
    assert path.read_text() == "as it was"


def test_measure_prints_measured_beside_predicted(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", net, "--input", "1,3,32,32", "--seconds", "0.2", "--force"]) == 0
    out = capsys.readouterr().out
    assert "measured here" in out
    assert "It took" in out
    for words in ("Predicted", "Measured", "P/M", "Where the gap is"):
        assert words in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_measure_json_and_files(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"out.{suffix}" for suffix in ("csv", "md", "svg", "html")]
    outputs = [part for f in files for part in ("-o", str(f))]
    assert main(["measure", net, "--input", "1,3,32,32", "--seconds", "0.2", "--force", "--json", *outputs]) == 0
    document = json.loads(capsys.readouterr().out)
    whole = document["measurement"]["time_s"]
    assert document["setting"]["tier"] == "measured"
    assert sum(k["measured_s"] for k in document["kernels"]) == pytest.approx(whole)
    assert document["layers"][0]["measured_s"] == pytest.approx(whole)
    assert "measured_s" in files[0].read_text().splitlines()[0]
    assert "| Measured |" in files[1].read_text()
    assert all(f.stat().st_size for f in files)


def test_an_analysis_has_no_measured_column(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.csv"
    assert main(["analyze", net, "--input", "1,3,32,32", "-o", str(path)]) == 0
    assert "Measured" not in capsys.readouterr().out
    assert "measured_s" not in path.read_text()


def test_measure_of_what_cannot_run(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", net, "--input", "1,5,32,32", "--seconds", "0.2"]) == 3
    assert "conv" in capsys.readouterr().err
    assert main(["measure", net, "-d", "rtx-4090"]) == 2
    capsys.readouterr()


def test_known_times_set_a_device_file(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of the user's own net: the file is a device like any other, and says what it rests on."""
    table, mine = tmp_path / "times.csv", tmp_path / "mine.toml"
    table.write_text(f"model,batch,size,dtype,ms\n{net},64,128,fp32,2.6\n{net},1,64,fp32,0.2\n", encoding="utf-8")
    asked = ["calibrate", "--from", str(table), "-d", "t4", "-o", str(mine)]
    assert main(asked) == 2
    assert "is code, which a table does not run" in capsys.readouterr().err
    assert main([*asked, "--own-models"]) == 0
    out, err = capsys.readouterr()
    assert "fitted to 2 known times: clock kept" in out
    assert f"use it with -d {mine}" in err
    device = read(mine)
    assert (device.name, device.tier, device.host.status) == ("mine", "fitted", "fitted")

    assert main(["analyze", net, "-d", str(mine), "--input", "1,3,64,64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["setting"]["tier"] == "fitted"
    assert any("fitted to 2 known times" in note.lower() for note in found["device"]["notes"])

    known = f"{net} --input 1,3,64,64 = 0.4 ms"
    assert main(["analyze", net, "-d", "t4", "--input", "1,3,64,64", "--known", known, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["totals"]["time_s"] == pytest.approx(0.4e-3, rel=0.1)
    assert "itted to 1 known time: " in str(found["device"]["notes"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["calibrate", "-d", "rtx-4090"], 2, "known times set any device: give them with --from"),
        (["calibrate", "--dtype", "amp"], 2, "give --from"),
        (["calibrate", "--from", "none.csv", "-d", "t4"], 2, "name the device file to write"),
        (["calibrate", "--from", "none.csv", "-d", "t4", "-o", "a.toml", "--hold"], 2, "measures nothing"),
        (["analyze", "NET", "-d", "t4", "-d", "v100", "--known", "NET = 1 ms"], 2, "a time is of one device"),
        (["analyze", "NET", "-d", "t4", "--known", "no_such_net = 1 ms"], 2, "known time of no_such_net: unknown model"),
        (["analyze", "NET", "-d", "t4", "--known", "NET --input 1,5,8,8 = 1 ms"], 3, "known time of "),
    ],
)
def test_known_times_that_cannot_be(
    net: str, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([a.replace("NET", net) for a in arguments]) == code
    assert words in " ".join(capsys.readouterr().err.split())
