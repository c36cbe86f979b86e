"""`roofline report`, and what a page says of what would help: tiny nets, a page of them, and what fails beside them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from sample import sample

from roofline import cli
from roofline.cli.commands.report import _by_model
from roofline.views import files

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


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    asked = ["report", "squeezenet1_0", "--no-advice", "-o", str(folder), "-d"]
    assert cli.main([*asked, "t4"]) == 0
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    real = Path.write_bytes

    def write(self: Path, content: bytes) -> int:
        if self.parent != folder:
            return real(self, content)
        real(self, content[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write)
    capsys.readouterr()
    assert cli.main([*asked, "rtx-4090"]) == 2
    said = f"roofline: error: cannot write {folder / 'index.html'}: No space left on device\nno file was written\n"
    assert capsys.readouterr().err.endswith(said)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_pictures_are_called_as_models_are_whatever_the_script(tmp_path: Path) -> None:
    """Also where two names become one, where nothing is left of one, and where a letter takes three or four bytes."""
    models = ["模" * 200, "𠀀" * 200, "نموذج", "<b>a</b>", "a b", "a-b", "🦙", "../../x", "."]
    a = sample()
    found = _by_model([replace(a, model=replace(a.model, name=name, source=str(i))) for i, name in enumerate(models)])
    assert len(found) == len(models)
    assert [name for name in found if name.isascii()] == ["b-a-b", "a-b", "a-b-", "model", "x", "model-"]
    files.write_all({tmp_path / f"{name}.png": b"x" for name in found})
    assert len(list(tmp_path.iterdir())) == len(models)
    # a name as long as a file's can be
    files.write_all({tmp_path / f"{'n' * 251}.csv": b"x"})
