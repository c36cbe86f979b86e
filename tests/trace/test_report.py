"""`roofline report`, and what a page says of what would help: tiny nets, a page of them, and what fails beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofline import cli

Capture = pytest.CaptureFixture[str]
NETS = """
from torch import nn

def small():
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))

def broken():
    raise RuntimeError("no such thing")

"""


def data(page: Path) -> dict[str, object]:
    text = page.read_text(encoding="utf-8")
    found: dict[str, object] = json.loads(text.split('id="data">')[1].split("</script>")[0])
    return found


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    return file


def test_one_page_of_all_and_what_failed(nets: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    asked = [
        "report",
        "squeezenet1_0",
        f"{nets}:broken",
        "-d",
        "t4",
        "-d",
        "i9-10940x",
        "-b",
        "1",
        "-b",
        "4",
        "-o",
        str(folder),
    ]
    assert cli.main([*asked, "--no-advice"]) == 3
    said = capsys.readouterr()
    assert "4 of 8 could not be analysed" in said.err
    assert "no such thing" in said.err
    assert "4 analyses of 1 model" in said.out
    assert sorted(f.name for f in folder.iterdir()) == ["analyses.json", "index.html", "mine.txt", "squeezenet1_0.png"]
    page = data(folder / "index.html")
    switches = page["switches"]
    assert isinstance(switches, dict)
    assert switches["device"] == ["NVIDIA T4", "Intel Core i9-10940X"]
    assert switches["batch"] == ["1", "4"]
    runs = page["runs"]
    assert isinstance(runs, list)
    saved = json.loads((folder / "analyses.json").read_text())["analyses"]
    assert [run["totals"]["time_s"] for run in runs] == [a["totals"]["time_s"] for a in saved]
    (missing,) = page["missing"]  # type: ignore[misc]  # a list of one
    assert missing["where"] == "on t4, batch 1; on i9-10940x, batch 1; on t4, batch 4 and 1 more"
    # a page of ours may be written over, another's is not
    (folder / "index.html").write_text("<html>mine</html>")
    assert cli.main(["report", "squeezenet1_0", "-d", "t4", "-o", str(folder)]) == 2
    assert "was not written by roofline" in capsys.readouterr().err
    assert (folder / "index.html").read_text() == "<html>mine</html>"


def test_nothing_to_show_writes_nothing(nets: Path, tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["report", f"{nets}:broken", "-d", "t4", "-o", str(tmp_path / "out")]) == 3
    assert not (tmp_path / "out").exists()
    for more, why in [
        (["-b", "2", "-b", "2"], "--batch 2: given twice"),
        (["--dtype", "amp", "--dtype", "amp"], "--dtype amp"),
    ]:
        assert cli.main(["report", "resnet18", "-d", "t4", *more, "-o", str(tmp_path / "out")]) == 2
        assert why in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["report", "resnet18", "-d", "t4", "-o", str(tmp_path / "file")]) == 2


def test_a_page_says_what_would_help(nets: Path, tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "x.html"
    asked = ["analyze", f"{nets}:small", "--input", "1,64", "-d", "t4", "-o", str(page)]
    assert cli.main(asked) == 0
    (told,) = data(page)["told"]  # type: ignore[misc]  # a list of one
    assert told["savings"]["t4"]
    assert {"name", "effort", "times", "before", "after", "each", "note"} == set(told["savings"]["t4"][0])
    assert cli.main([*asked, "--no-advice"]) == 0
    (told,) = data(page)["told"]  # type: ignore[misc]  # a list of one
    assert told["savings"] == {"t4": []}
    capsys.readouterr()
    assert cli.main([*asked[:-2], "--no-advice"]) == 2
    assert "--no-advice is about a page" in capsys.readouterr().err
