"""Files that people name: what is no file, has no end, or is nested without end, is refused in one line with its limit."""

from __future__ import annotations

import ast
import os
import re
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from roofline import files
from roofline.analysis import budgets, diff, document
from roofline.cli import terminal
from roofline.devices import file as device_file
from roofline.devices.library import lookup
from roofline.errors import BudgetFileError, RooflineError
from roofline.gate import published, revisions
from roofline.request import Ask
from roofline.sources.resolve import resolve
from roofline.sources.source import file_at
from roofline.sweeps import query
from roofline.timemodel import constants
from roofline.validation import model_tables

READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("device.toml", device_file.read),
    ("roofline.toml", budgets.load_budgets),
    ("constants.toml", constants.read),
    ("saved.json", diff.read_analyses),
    ("loaded.json", document.load),
    ("table.csv", model_tables.lines),
    ("net.onnx", lambda path: file_at(str(path))),
    ("net.pt2", lambda path: file_at(str(path))),
    ("net.py", lambda path: file_at(str(path))),
]


@pytest.mark.parametrize(("name", "read"), READERS, ids=[r[0] for r in READERS])
@pytest.mark.skipif(sys.platform == "win32", reason="no pipes by name")
def test_what_has_no_end_is_not_waited_for(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    begin = time.perf_counter()
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(RooflineError, match=r"it is a pipe, not a file|is a pipe or a device, not a file"):
        read(path)
    path.unlink()
    for endless in ("/dev/zero", "/dev/null"):
        path.symlink_to(endless)
        with pytest.raises(RooflineError, match=r"it is a device, not a file|is a pipe or a device, not a file"):
            read(path)
        path.unlink()
    path.mkdir()
    with pytest.raises(RooflineError) as caught:
        read(path)
    assert caught.value.exit_code == 2
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
    ("name", "read", "limit"),
    [(n, r, files.ANALYSIS if n.endswith(("json", "csv")) else files.TOML) for n, r in READERS[:6]],
    ids=[r[0] for r in READERS[:6]],
)
def test_size_has_a_limit(tmp_path: Path, name: str, read: Callable[[Path], object], limit: int) -> None:
    """A file with a hole in it: large, and nothing on the disk."""
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(limit + 1)
    with pytest.raises(RooflineError, match=f"it is larger than {limit // 2**20} MiB, the limit for such a file"):
        read(path)


DEEP = ["[" * 3000 + "]" * 3000, "[" * 100 + "]" * 100, "{a=" * 90 + "1" + "}" * 90]


@pytest.mark.parametrize("value", DEEP, ids=["lists", "a hundred", "tables"])
@pytest.mark.parametrize(("name", "read"), READERS[:3], ids=[r[0] for r in READERS[:3]])
def test_toml_has_a_depth(tmp_path: Path, name: str, read: Callable[[Path], object], value: str) -> None:
    path = tmp_path / name
    path.write_text(f"x = {value}\n", encoding="utf-8")
    with pytest.raises(RooflineError, match="tables or lists nested more than 64 deep"):
        read(path)
    path.write_text(".".join("a" * 5000) + " = 1\n", encoding="utf-8")
    with pytest.raises(RooflineError, match="tables or lists nested more than 64 deep"):
        read(path)


def test_toml_reads_numbers_of_digits_without_end_as_an_error() -> None:
    assert files.toml("x = [[1]]") == {"x": [[1]]}
    with pytest.raises(tomllib.TOMLDecodeError, match="digits"):
        files.toml("x = " + "9" * 5000)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"analyses":' * 3000, '{"schema": ' + "9" * 5000 + "}", '"\\ud800"', "\xff"])
@pytest.mark.parametrize(("name", "read"), READERS[3:5], ids=[r[0] for r in READERS[3:5]])
def test_json_that_is_none(tmp_path: Path, name: str, read: Callable[[Path], object], text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RooflineError) as caught:
        read(path)
    assert caught.value.exit_code == 2
    assert all(len(line) < 1000 for line in str(caught.value).split("\n"))


@pytest.mark.parametrize("name", ["a\x00b.pt2", "n" * 300 + ".onnx", "gone.py"])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(RooflineError, match="no such file"):
        file_at(name)


def test_a_saved_analysis_is_typed_data() -> None:
    """No name in it is looked up: a type, class or module that it names is an unknown field, or text in a field of text."""
    evil = b'{"__class__": "os.system", "py/object": "subprocess.Popen", "schema": 1}'
    with pytest.raises(RooflineError, match="is not an analysis"):
        document.from_json(evil)


# Where code is run because a person named it, and where modules of torch and transformers are imported by names of ours.
RUNS = {
    "sources/loading.py": {"importlib.import_module"},
    "isolation/modules.py": {
        "loader.exec_module",
        "super().exec_module",
    },  # a person's, and ours that their code is first to want
    "isolation/postponed.py": {"super().exec_module", "importlib.import_module"},  # a file of torchvision, by its name here
    "isolation/watching.py": {"compile"},
    "compat.py": {"importlib.import_module"},
    "cli/app.py": {"importlib.import_module"},  # a command, among the files of our own folder
    "cost/__init__.py": {"import_module"},  # families of rules, by names of ours
    "isolation/supervision.py": {"ctypes.CDLL(None).prctl"},  # a child ends with its parent
    "sources/calls.py": {"torch.load", "np.load"},  # values of --input: SAFELY
}
# How files of values are read: no object in them is made.
SAFELY = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}


def test_the_library_has_no_other_way_to_run_what_it_reads() -> None:
    """docs/security.md says so: every call in every module by name."""
    here = Path(files.__file__).parent
    forbidden = re.compile(
        r"(builtins\.)?(eval|exec|compile|__import__)|pickle\..*|.*\bexec_module|.*\bimport_module|runpy\..*|yaml\..*|ctypes\..*"
        r"|(torch|np|numpy)\.load|torch\.(jit|export|hub|package)\.load.*|.*\bload_library|.*sympify|.*\bos\.(system|popen|exec\w*)"
    )
    found: dict[str, set[str]] = {}
    for path in here.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and forbidden.fullmatch(name := ast.unparse(call.func)):
                constant = len(call.args) == 1 and isinstance(call.args[0], ast.Constant)  # a module of ours or a package's
                if safely := SAFELY.get(name):
                    assert safely in map(ast.unparse, call.keywords), path
                if not constant and name != "re.compile":
                    found.setdefault(path.relative_to(here).as_posix(), set()).add(name)
    assert found == RUNS


@pytest.mark.parametrize(("name", "read"), READERS, ids=[r[0] for r in READERS])
def test_names_that_no_file_can_have(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    for odd in (f"a\0{name}", f"{'x' * 300}{name}"):
        with pytest.raises(RooflineError):
            read(tmp_path / odd)


LONG = "x" * 300
NAMES: list[Callable[[], object]] = [
    lambda: lookup(LONG),
    lambda: resolve(Ask(f"hf:{LONG}")),
    lambda: resolve(Ask(f"hf:{LONG}/config.json")),
    lambda: resolve(Ask(LONG)),
    lambda: published.pages([Path(f"{LONG}.md")]),
    lambda: query._files(Path(LONG)),
    lambda: revisions.is_revision(LONG),
    lambda: budgets.beside(f"{LONG}.py:Net", Path()),
]


@pytest.mark.parametrize("ask", NAMES)
def test_names_longer_than_a_file_system_takes(ask: Callable[[], object]) -> None:
    """Refused as any name that is none, or left to whoever reads it; never the system's error."""
    with suppress(RooflineError):
        ask()


def test_what_the_system_says_of_a_long_name_is_an_error_of_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.guard(lambda: len(os.listdir(LONG))) == 2
    assert capsys.readouterr().err.startswith("roofline: error: no file can have a name so long: xxxx")


@pytest.mark.parametrize(
    "text", ['model = "a\\n::error::b.pt2"', 'model = "a\\u001b[2Jb"', 'device = "a\\u0000.toml"', '"a\\tb" = 1']
)
def test_a_budget_names_nothing_that_a_log_or_terminal_obeys(tmp_path: Path, text: str) -> None:
    """A line of its own that begins with `::error::` is an annotation where GitHub shows the log."""
    path = tmp_path / "roofline.toml"
    path.write_text(f'[[budget]]\nname = "n"\n{text}\nmax_params = "1 M"\n')
    with pytest.raises(BudgetFileError, match="a line end or another control character in '"):
        budgets.load_budgets(path)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "net.py", "model.safetensors", "model.pt"])
def test_a_pointer_of_git_lfs_is_not_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(RooflineError, match=f"{name} is a pointer of Git LFS and not the file itself\nfetch it: git lfs pull"):
        file_at(str(path))


def test_what_a_name_brings_into_a_line_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes, carriage returns and bells of a stranger's file name or budget are shown as signs; no line is endless."""
    terminal.note("error: no such file: a\x1b[31m\rb\x07\u202e.pt2\nwhat to do\t" + "y" * 5000)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "roofline: error: no such file: a?[31m b??.pt2"
    assert second.startswith("what to do yyy")
    assert second.endswith("...")
    assert len(second) < 1000
