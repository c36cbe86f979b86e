"""The disk cache: what it returns, when it refuses, and what it survives."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from roofline.cache import digest, framed
from roofline.cache.store import Cache, default_root

KEY = digest("model", "setting")


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, warned: list[str]) -> Cache:
    return Cache(tmp_path / "cache", warn=warned.append)


def entries(cache: Cache) -> list[Path]:
    return sorted(p for p in cache.root.rglob("*") if p.is_file() and p.name != "tally")


def test_round_trip(cache: Cache) -> None:
    assert cache.load("trace", KEY) is None
    payload = bytes(range(256)) * 100 + b"\n\n"
    cache.store("trace", KEY, payload)
    assert cache.load("trace", KEY) == payload
    assert cache.load("analysis", KEY) is None
    assert cache.load("trace", digest("other")) is None
    assert Cache(cache.root).load("trace", KEY) == payload


def test_empty_payload(cache: Cache) -> None:
    cache.store("trace", KEY, b"")
    assert cache.load("trace", KEY) == b""


def test_a_later_store_replaces(cache: Cache) -> None:
    cache.store("trace", KEY, b"old")
    cache.store("trace", KEY, b"new")
    assert cache.load("trace", KEY) == b"new"
    assert len(entries(cache)) == 1


def test_disabled_neither_reads_nor_writes(cache: Cache) -> None:
    cache.store("trace", KEY, b"x")
    off = Cache(cache.root, enabled=False)
    assert off.load("trace", KEY) is None
    off.store("trace", digest("2"), b"y")
    assert len(entries(cache)) == 1


def test_digest_keeps_its_parts_apart() -> None:
    assert digest("ab", b"c") == sha256(b"2:ab1:c").hexdigest() == sha256(framed("ab") + framed("c")).hexdigest()
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("é") == digest("é".encode())
    assert len(digest()) == 64


class TestFiles:
    """Entries that depend on the content of files."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        path = tmp_path / "net.py"
        path.write_text("width = 1\n")
        return path

    def test_unchanged(self, cache: Cache, source: Path) -> None:
        cache.store("trace", KEY, b"x", [source])
        assert cache.load("trace", KEY) == b"x"

    def test_changed(self, cache: Cache, source: Path) -> None:
        cache.store("trace", KEY, b"x", [source])
        source.write_text("width = 10\n")
        assert cache.load("trace", KEY) is None

    @pytest.mark.parametrize("age", [0, 3600], ids=["just written", "an hour old"])
    def test_changed_with_the_same_size_and_time(self, cache: Cache, source: Path, age: int) -> None:
        stat = source.stat()
        times = (stat.st_atime_ns - age * 10**9, stat.st_mtime_ns - age * 10**9)
        os.utime(source, ns=times)
        cache.store("trace", KEY, b"x", [source])
        source.write_text("width = 2\n")
        os.utime(source, ns=times)
        assert cache.load("trace", KEY) is None

    def test_touched_but_equal(self, cache: Cache, source: Path) -> None:
        cache.store("trace", KEY, b"x", [source])
        os.utime(source, (1, 1))
        assert cache.load("trace", KEY) == b"x"

    def test_changed_and_changed_back(self, cache: Cache, source: Path) -> None:
        cache.store("trace", KEY, b"x", [source])
        source.write_text("width = 10\n")
        assert cache.load("trace", KEY) is None
        source.write_text("width = 1\n")
        assert cache.load("trace", KEY) == b"x"

    def test_removed(self, cache: Cache, source: Path) -> None:
        cache.store("trace", KEY, b"x", [source])
        source.unlink()
        assert cache.load("trace", KEY) is None

    def test_gone_before_the_store(self, cache: Cache, source: Path, warned: list[str]) -> None:
        source.unlink()
        cache.store("trace", KEY, b"x", [source])
        assert cache.load("trace", KEY) is None
        assert warned == []

    def test_a_relative_name_means_the_same_file_elsewhere(
        self, cache: Cache, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(source.parent)
        cache.store("trace", KEY, b"x", [Path("net.py")])
        monkeypatch.chdir("/")
        assert cache.load("trace", KEY) == b"x"


class TestDamage:
    @pytest.mark.parametrize("keep", [0, 5, 17, 40, 100, -1], ids=lambda n: f"first {n} bytes")
    def test_truncated(self, cache: Cache, warned: list[str], keep: int) -> None:
        cache.store("trace", KEY, b"payload" * 50)
        (path,) = entries(cache)
        path.write_bytes(path.read_bytes()[:keep])
        assert cache.load("trace", KEY) is None
        assert not path.exists()
        assert len(warned) == 1
        assert str(path) in warned[0]
        assert "\n" not in warned[0]
        cache.store("trace", KEY, b"again")
        assert cache.load("trace", KEY) == b"again"

    def test_every_flipped_byte_is_seen(self, cache: Cache) -> None:
        cache.store("trace", KEY, b"payload")
        (path,) = entries(cache)
        whole = path.read_bytes()
        for i in range(len(whole)):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
            assert cache.load("trace", KEY) in (None, b"payload")

    @pytest.mark.parametrize(
        "content",
        [
            b"roofline cache 2\nnull\n",
            b"roofline cache 2\n[]\n",
            b'roofline cache 2\n{"files": 3}\n',
            b'roofline cache 2\n{"files": [], "bytes": "0"}\n',
            b"roofline cache 2\n\xff\xfe\n",
            b"\x80\x04\x95",
        ],
    )
    def test_foreign_content(self, cache: Cache, content: bytes) -> None:
        cache.store("trace", KEY, b"payload")
        (path,) = entries(cache)
        path.write_bytes(content)
        assert cache.load("trace", KEY) is None

    def test_a_directory_where_the_entry_should_be(self, cache: Cache, warned: list[str]) -> None:
        cache.store("trace", KEY, b"payload")
        (path,) = entries(cache)
        path.unlink()
        path.mkdir()
        assert cache.load("trace", KEY) is None
        cache.store("trace", KEY, b"payload")
        assert len(warned) == 1


class TestUnwritable:
    def test_a_file_in_the_place_of_the_directory(self, tmp_path: Path, warned: list[str]) -> None:
        (tmp_path / "cache").write_text("mine")
        cache = Cache(tmp_path / "cache", warn=warned.append)
        cache.store("trace", KEY, b"x")
        cache.store("trace", digest("2"), b"x")
        assert cache.load("trace", KEY) is None
        assert len(warned) == 1
        assert (tmp_path / "cache").read_text() == "mine"
        assert cache.clear() == (0, 0)
        assert cache.info().entries == 0

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a directory that nobody can write")
    def test_read_only(self, warned: list[str]) -> None:
        cache = Cache(Path("/proc/self/cache"), warn=warned.append)
        cache.store("trace", KEY, b"x")
        assert cache.load("trace", KEY) is None
        assert len(warned) == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_disk_full(self, cache: Cache, warned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        real = Path.write_bytes

        def full(self: Path, data: bytes) -> int:
            real(self, data[: len(data) // 2])
            return real(Path("/dev/full"), data)

        monkeypatch.setattr(Path, "write_bytes", full)
        cache.store("trace", KEY, b"x" * 100)
        cache.store("trace", digest("2"), b"x" * 100)
        assert len(warned) == 1
        assert "No space left" in warned[0]
        assert entries(cache) == []
        assert cache.load("trace", KEY) is None

    def test_without_a_callback_it_is_a_python_warning(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("mine")
        with pytest.warns(RuntimeWarning, match="cannot be written"):
            Cache(tmp_path / "cache").store("trace", KEY, b"x")


class TestUpkeep:
    def test_info_and_clear(self, cache: Cache) -> None:
        cache.store("trace", digest("1"), b"x" * 1000)
        cache.store("trace", digest("2"), b"x" * 1000)
        cache.store("analysis", digest("1"), b"x" * 10)
        info = cache.info()
        assert info.entries == 3
        assert {kind: n for kind, (n, _) in info.kinds.items()} == {"analysis": 1, "trace": 2}
        on_disk = sum(p.stat().st_size for p in entries(cache))
        assert info.nbytes == on_disk
        assert cache.clear() == (3, on_disk)
        assert cache.info().entries == 0
        assert cache.clear() == (0, 0)

    def test_clear_leaves_what_is_not_ours(self, cache: Cache, tmp_path: Path) -> None:
        cache.store("trace", KEY, b"x")
        mine = cache.root / "thesis.txt"
        mine.write_text("mine")
        deep = entries(cache)[0].with_name("notes.txt")
        deep.write_text("mine")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "a.entry").write_text("mine")
        (cache.root / "v2" / "link").symlink_to(outside)
        assert cache.clear()[0] == 1
        assert mine.exists()
        assert deep.exists()
        assert (outside / "a.entry").exists()

    def test_the_oldest_go_first(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path, limit=10_000)
        for i in range(8):
            cache.store("trace", digest(str(i)), b"x" * 1000)
            path = cache._path("trace", digest(str(i)))
            os.utime(path, (1_000_000 + i, 1_000_000 + i))
        assert cache.load("trace", digest("0")) is not None  # now the latest used
        for i in range(8, 11):
            cache.store("trace", digest(str(i)), b"x" * 1000)
        assert cache.info().nbytes <= 10_000
        assert cache.load("trace", digest("1")) is None
        assert cache.load("trace", digest("0")) is not None
        assert cache.load("trace", digest("10")) is not None

    def test_entries_are_counted_once_a_day_not_at_every_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        walks = []
        files = Cache._files
        monkeypatch.setattr(Cache, "_files", lambda self: (walks.append(1), files(self))[1])
        for i in range(5):  # five processes, as far as the cache can tell
            Cache(tmp_path).store("trace", f"{i:064x}", b"x" * 100)
        assert len(walks) == 1
        tally = next(tmp_path.rglob("tally"))
        assert len(tally.read_text().splitlines()) == 5
        for damaged in ("", "what\n", "1 2 3\n", "0 100\n"):  # the last one: counted in 1970
            walks.clear()
            tally.write_text(damaged)
            Cache(tmp_path).store("trace", "a" * 64, b"x" * 100)
            assert len(walks) == 1

    def test_what_other_processes_add_counts(self, tmp_path: Path) -> None:
        caches = [Cache(tmp_path, limit=10_000) for _ in range(40)]
        for i, each in enumerate(caches):
            each.store("trace", f"{i:064x}", b"x" * 500)
        assert Cache(tmp_path, limit=10_000).info().nbytes <= 10_000

    def test_what_is_larger_than_the_limit_is_not_kept(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path, limit=100)
        cache.store("trace", KEY, b"x" * 101)
        assert cache.load("trace", KEY) is None

    def test_leftovers_of_a_killed_process_go(self, cache: Cache) -> None:
        cache.store("trace", KEY, b"x")
        left = entries(cache)[0].with_suffix(".123.456.tmp")
        left.write_bytes(b"half")
        os.utime(left, (1, 1))
        # when entries are counted next, a day later at most
        next(cache.root.rglob("tally")).unlink()
        Cache(cache.root).store("trace", digest("2"), b"x")
        assert not left.exists()
        assert cache.info().entries == 2


def test_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROOFLINE_CACHE_DIR", str(tmp_path))
    assert default_root() == tmp_path
    assert Cache().root == tmp_path
    monkeypatch.delenv("ROOFLINE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "roofline" in str(default_root())


_WRITER = """
import sys
from hashlib import sha256
from pathlib import Path
from roofline.cache.store import Cache
cache = Cache(Path(sys.argv[1]))
for i in range(200):
    cache.store("trace", "k" * 64, sys.argv[2].encode() * 5000)
    found = cache.load("trace", "k" * 64)
    assert found is not None and len(found) == 5000 and len(set(found)) == 1, found
"""


def test_two_processes_at_once(cache: Cache) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", _WRITER, str(cache.root), letter], stderr=subprocess.PIPE)
        for letter in "ab"
    ]
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, err.decode()
    assert len(entries(cache)) == 1


def test_two_threads_at_once(cache: Cache, warned: list[str]) -> None:
    def write(letter: bytes) -> None:
        for _ in range(50):
            cache.store("trace", KEY, letter * 2000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = cache.load("trace", KEY)
    assert found in (b"a" * 2000, b"b" * 2000)
    assert warned == []
    assert len(entries(cache)) == 1
