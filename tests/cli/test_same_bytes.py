"""The same question gives the same bytes: under another hash seed, in another folder and locale, with and without a cache."""

from __future__ import annotations

from pathlib import Path

from conftest import RunCli

NET = "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))\n"


def test_the_same_bytes(tmp_path: Path, run_cli: RunCli) -> None:
    found = []
    for folder, seed, locale, more in (("a", "1", "C", ["--no-cache"]), ("b/c", "2", "de_DE.UTF-8", []), ("b/c", "3", "C", [])):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "net.py").write_text(NET)
        env = {"PYTHONHASHSEED": seed, "LC_ALL": locale, "LANG": locale, "ROOFLINE_CACHE_DIR": str(tmp_path / "cache")}
        done = run_cli("analyze", "net.py:net", "--input", "1,3,16,16", "-d", "t4", "--json", *more, cwd=place, env=env)
        assert done.returncode == 0, done.stderr
        assert str(tmp_path) not in done.stdout
        assert '"source": "net.py"' in done.stdout
        found.append(done.stdout)
    assert found[1] == found[2]
    assert found[0] == found[1]
