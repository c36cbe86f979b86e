"""Result files: refused before any work, written whole or not at all."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from sample import sample

from roofline.errors import OutputError, UsageError
from roofline.views import files


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


class TestTargets:
    def test_every_format(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"a{suffix}" for suffix in files.FORMATS] + [tmp_path / "B.PNG"]
        assert files.targets(paths) == paths
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("a.jsn", "did you mean a.json?"),
            ("a.htm", "did you mean a.html?"),
            ("a.xlsx", "has the suffix '.xlsx'"),
            ("a", "has no suffix"),
            ("-", "has no suffix"),
        ],
    )
    def test_suffix(self, tmp_path: Path, name: str, words: str) -> None:
        with pytest.raises(UsageError, match=re.escape(".json, .csv, .md, .png, .svg, .pdf, .html")) as raised:
            files.targets([tmp_path / name])
        assert words in str(raised.value)

    def test_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="given twice"):
            files.targets([Path("a.json"), tmp_path / "a.json"])

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("gone/a.json", "no directory"),
            ("dir.json", "it is a directory"),
            ("file.txt/a.json", "no directory"),
            ("x" * 300 + ".json", "too long"),
            ("loop.json", "cannot write"),
            ("a\0b.json", "cannot write"),
        ],
    )
    def test_place(self, tmp_path: Path, path: str, words: str) -> None:
        (tmp_path / "dir.json").mkdir()
        (tmp_path / "file.txt").write_text("")
        (tmp_path / "loop.json").symlink_to(tmp_path / "loop2.json")
        (tmp_path / "loop2.json").symlink_to(tmp_path / "loop.json")
        with pytest.raises(OutputError, match="cannot write") as raised:
            files.targets([tmp_path / path])
        assert words in str(raised.value)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
    def test_permissions(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text("")
        (tmp_path / "a.json").chmod(0o444)
        with pytest.raises(OutputError, match="permission denied"):
            files.targets([tmp_path / "a.json"])
        tmp_path.chmod(0o555)
        with pytest.raises(OutputError, match="permission denied"):
            files.targets([tmp_path / "b.json"])


class TestWrite:
    def test_all(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_bytes(b"old")
        files.write_all({tmp_path / "a.json": b"new", tmp_path / "b.csv": b""})
        assert (tmp_path / "a.json").read_bytes() == b"new"
        assert (tmp_path / "b.csv").read_bytes() == b""
        assert names(tmp_path) == ["a.json", "b.csv"]

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
    def test_none_if_one_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        (tmp_path / "a.json").write_bytes(b"old")
        real = Path.write_bytes

        def write(self: Path, data: bytes) -> int:
            if data == b"second":
                real(self, b"sec")
                raise error
            return real(self, data)

        monkeypatch.setattr(Path, "write_bytes", write)
        expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError
        with pytest.raises(expected):
            files.write_all({tmp_path / "a.json": b"first", tmp_path / "b.csv": b"second"})
        assert (tmp_path / "a.json").read_bytes() == b"old"
        assert names(tmp_path) == ["a.json"]

    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "a.json").symlink_to(tmp_path / "real" / "a.json")
        files.write_all({tmp_path / "a.json": b"x"})
        assert (tmp_path / "a.json").is_symlink()
        assert (tmp_path / "real" / "a.json").read_bytes() == b"x"

    def test_permissions_are_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_bytes(b"")
        path.chmod(0o640)
        files.write_all({path: b"x"})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def test_the_directory_went_away(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="no directory"):
            files.write_all({tmp_path / "gone" / "a.json": b"x"})


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".json", b"{"),
        (".csv", b"layer,op,"),
        (".md", b"# "),
        (".png", b"\x89PNG"),
        (".svg", b"<?xml"),
        (".pdf", b"%PDF"),
        (".html", b"<!"),
    ],
)
def test_rendered(suffix: str, start: bytes) -> None:
    data = files.render([sample()], Path(f"a{suffix}"), "layer", 2)
    assert data.lower().startswith(start.lower())


def test_csv_rows() -> None:
    assert files.render([sample()], Path("a.csv"), "op", 2).startswith(b"op,class,")
