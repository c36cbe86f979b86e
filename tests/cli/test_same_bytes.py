"""The same question gives the same bytes: under another hash seed, in another folder and locale, with and without a cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunCli

NET = """
from torch import nn

def net(width=8):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 3))
"""
BUDGETS = """
[defaults]
on = "t4"
inputs = "1,3,16,16"
[budgets.net]
model = "net.py:net"
macs = "100 k"
time = { warn = "1 us" }
flops = "+1 %"
[budgets.wide]
model = "net.py:net"
set = { width = 9 }
params = { max = 1, min = "9 M" }
[budgets.gone]
model = "net.py:nett"
macs = 1
[budgets.none]
model = "not.py:net"
macs = 1
"""
REPORTS = ["r.json", "r.md", "r.xml", "r.sarif", "badge.json", "r.html"]


@pytest.mark.parametrize(
    ("args", "reports", "code"),
    [
        (["analyze", "net.py:net", "--input", "1,3,16,16", "-d", "t4", "--json"], [], 0),
        (["check", "--json"], REPORTS[:5], 2),
        (
            ["diff", "net.py:net", "vgg.py:net", "--input", "1,3,16,16", "-d", "t4", "--json"],
            [REPORTS[0], REPORTS[1], REPORTS[5]],
            0,
        ),
    ],
    ids=["analyze", "check", "diff"],
)
def test_the_same_bytes(args: list[str], reports: list[str], code: int, tmp_path: Path, run_cli: RunCli) -> None:
    """No time, no absolute path, one order."""
    found = []
    for folder, seed, locale, more in (("a", "1", "C", ["--no-cache"]), ("b/c", "2", "de_DE.UTF-8", []), ("b/c", "3", "C", [])):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "net.py").write_text(NET)
        (place / "vgg.py").write_text(NET.replace("width, 3)", "width, 5)"))
        (place / "roofline.toml").write_text(BUDGETS)
        env = {"PYTHONHASHSEED": seed, "LC_ALL": locale, "LANG": locale, "ROOFLINE_CACHE_DIR": str(tmp_path / "cache")}
        written = [word for name in reports for word in ("-o", name)]
        done = run_cli(*args, *written, *more, cwd=place, env=env)
        assert done.returncode == code, done.stderr
        texts = [done.stdout, *((place / name).read_text(encoding="utf-8") for name in reports)]
        assert str(tmp_path) not in "".join(texts)
        assert "net.py" in done.stdout
        found.append(texts)
    assert found[1] == found[2]
    assert found[0] == found[1]
