"""The cache never answers with the past: every row changes one thing that an analysis depends on, and the change is seen.

Each row runs in processes of its own, as a person runs the program: analyse twice, change, analyse again. Truth is the number
of parameters by arithmetic (width squared), and whether the model was traced says whether the cache answered.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import roofline
from roofline import paths, pipeline

HEAD = "import json, os, sys\nfrom pathlib import Path\nfrom torch import nn\n\n"
NET = HEAD + "def Net():\n    width = {width}\n    return nn.Embedding(width, width)\n"


class Row(NamedTuple):
    """`net` finds the width, 4 at first and 8 after `change`; `files` lie beside it at first."""

    net: str
    files: dict[str, str]
    change: Callable[[Path, dict[str, str]], object]
    # False: what it asks for cannot be known, so nothing is kept
    kept: bool = True
    cwd: str = ""


def put(name: str, text: str) -> Callable[[Path, dict[str, str]], object]:
    return lambda folder, env: [(folder / name).parent.mkdir(parents=True, exist_ok=True), (folder / name).write_text(text)]


def same_marks(name: str, text: str) -> Callable[[Path, dict[str, str]], object]:
    """Other content, same size and time of modification, as tar and rsync leave it."""

    def change(folder: Path, env: dict[str, str]) -> None:
        stat = (folder / name).stat()
        (folder / name).write_text(text)
        assert (folder / name).stat().st_size == stat.st_size
        os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return change


def variable(name: str, value: str | None) -> Callable[[Path, dict[str, str]], object]:
    return lambda folder, env: env.update({name: value}) if value is not None else env.pop(name)


def first_on_path(name: str) -> Callable[[Path, dict[str, str]], object]:
    return lambda folder, env: env.update(PYTHONPATH=f"{folder / name}{os.pathsep}{env['PYTHONPATH']}")


def gone(name: str) -> Callable[[Path, dict[str, str]], object]:
    return lambda folder, env: (folder / name).unlink()


def packed(folder: Path, env: dict[str, str]) -> None:
    """site-packages/wide 1 -> 2."""
    put("site-packages/wide/core.py", "WIDTH = 8\n")(folder, env)
    shutil.rmtree(folder / "site-packages/wide-1.dist-info")
    put("site-packages/wide-2.dist-info/METADATA", "Name: wide\nVersion: 2\n")(folder, env)


FILE = {"width.py": "WIDTH = 4\n"}
PACKAGE = {
    "site-packages/wide/__init__.py": "from .core import WIDTH\n",
    "site-packages/wide/core.py": "WIDTH = 4\n",
    "site-packages/wide-1.dist-info/METADATA": "Name: wide\nVersion: 1\n",
}
USE = HEAD + "from {0} import WIDTH\ndef Net():\n    return nn.Embedding(WIDTH, WIDTH)\n"
DATA = {"width.txt": "4"}
BESIDE = "Path(__file__).with_name('width.txt')"
ROWS = {
    "the file itself": Row(NET.format(width=4), {}, put("net.py", NET.format(width=8))),
    "the file, same size and time": Row(NET.format(width=4), {}, same_marks("net.py", NET.format(width=8))),
    "a module beside it": Row(USE.format("width"), FILE, put("width.py", "WIDTH = 8\n")),
    "a module, same size and time": Row(USE.format("width"), FILE, same_marks("width.py", "WIDTH = 8\n")),
    "a module of a package": Row(USE.format("pkg.width"), {"pkg/__init__.py": "", "pkg/width.py": "WIDTH = 4\n"},
                                 put("pkg/width.py", "WIDTH = 8\n")),
    "a package comes before a module": Row(USE.format("width"), FILE, put("width/__init__.py", "WIDTH = 8\n")),
    "a module of a namespace package": Row(USE.format("pkg.width"), {"pkg/width.py": "WIDTH = 4\n"},
                                           put("pkg/width.py", "WIDTH = 8\n")),
    "a module imported in the build": Row(NET.format(width="__import__('width').WIDTH"), FILE, put("width.py", "WIDTH = 8\n")),
    "a module imported by name": Row(NET.format(width="__import__('importlib').import_module('width').WIDTH"), FILE,
                                     put("width.py", "WIDTH = 8\n")),
    "an optional module appears": Row(HEAD + "try:\n    from extra import WIDTH\nexcept ImportError:\n    WIDTH = 4\n"
                                      "def Net():\n    return nn.Embedding(WIDTH, WIDTH)\n", {},
                                      put("extra.py", "WIDTH = 8\n")),
    "an optional package is installed": Row(
        NET.format(width="8 if __import__('importlib').util.find_spec('wide') else 4"), {"site-packages/x.txt": ""},
        put("site-packages/wide/__init__.py", "")),
    "another checkout first on PYTHONPATH": Row(
        USE.format("other.width"), {"a/other/width.py": "WIDTH = 4\n", "b/other/width.py": "WIDTH = 8\n"}, first_on_path("b")),
    "a module appears earlier on PYTHONPATH": Row(
        USE.format("other"), {"a/other.py": "WIDTH = 4\n", "early/x.txt": ""}, put("early/other.py", "WIDTH = 8\n")),
    "a package in site-packages upgraded": Row(USE.format("wide"), PACKAGE, packed),
    "a package in site-packages edited": Row(USE.format("wide"), PACKAGE, put("site-packages/wide/core.py", "WIDTH = 8\n")),
    "a package, same size and time": Row(USE.format("wide"), PACKAGE, same_marks("site-packages/wide/core.py", "WIDTH = 8\n")),
    "a variable": Row(NET.format(width="int(os.environ.get('WIDTH', 4))"), {}, variable("WIDTH", "8")),
    "a variable by getenv": Row(NET.format(width="int(os.getenv('WIDTH', '4'))"), {}, variable("WIDTH", "8")),
    "a variable that is there": Row(NET.format(width="8 if 'WIDTH' in os.environ else 4"), {}, variable("WIDTH", "")),
    "a variable that goes": Row(NET.format(width="4 if 'START' in os.environ else 8"), {}, variable("START", None)),
    "a variable in a module": Row(USE.format("width"), {"width.py": "import os\nWIDTH = int(os.environ.get('WIDTH') or 4)\n"},
                                  variable("WIDTH", "8")),
    "a variable as bytes": Row(NET.format(width="int(os.environb.get(b'WIDTH', b'4'))"), {}, variable("WIDTH", "8")),
    "the whole environment": Row(NET.format(width="4 + 4 * any(k == 'WIDTH' for k in dict(os.environ))"), {},
                                 variable("WIDTH", "8")),
    "a variable in a path": Row(NET.format(width="8 if os.path.expandvars('$WIDTH') == '8' else 4"), {},
                                variable("WIDTH", "8")),
    "a file": Row(NET.format(width=f"int({BESIDE}.read_text())"), DATA, put("width.txt", "8")),
    "a file, same size and time": Row(NET.format(width=f"int({BESIDE}.read_text())"), DATA, same_marks("width.txt", "8")),
    "a file by os.open": Row(NET.format(width=f"int(os.read(os.open({BESIDE}, os.O_RDONLY), 9))"), DATA, put("width.txt", "8")),
    "a relative file": Row(NET.format(width="int(open('width.txt').read())"), DATA, put("width.txt", "8")),
    "a relative file in another directory": Row(
        NET.format(width="int(open('../net.py').name and open('width.txt').read())"),
        {"one/width.txt": "4", "two/width.txt": "8"}, lambda folder, env: env.update(CWD=str(folder / "two")), cwd="one"),
    "the directory itself": Row(NET.format(width="8 if os.getcwd().endswith('two') else 4"), {"one/x": "", "two/x": ""},
                                lambda folder, env: env.update(CWD=str(folder / "two")), cwd="one"),
    "a file that is a link": Row(NET.format(width=f"int({BESIDE}.read_text())"), {"a.txt": "4", "b.txt": "8", "width.txt": "4"},
                                 lambda folder, env: [(folder / "width.txt").unlink(),
                                                      (folder / "width.txt").symlink_to("b.txt")]),
    "an optional file appears": Row(NET.format(width=f"int({BESIDE}.read_text()) if {BESIDE}.exists() else 4"), {},
                                    put("width.txt", "8")),
    "an optional file is tried": Row(HEAD + f"def Net():\n    try:\n        width = int({BESIDE}.read_text())\n"
                                     "    except OSError:\n        width = 4\n    return nn.Embedding(width, width)\n",
                                     {}, put("width.txt", "8")),
    "an optional file by os.path": Row(NET.format(width=f"8 if os.path.isfile({BESIDE}) else 4"), {}, put("width.txt", "8")),
    "an optional file by os.access": Row(NET.format(width=f"8 if os.access({BESIDE}, os.R_OK) else 4"), {},
                                         put("width.txt", "8")),
    "an optional file by os.stat": Row(HEAD + f"def Net():\n    try:\n        width = 4 + 4 * (os.stat({BESIDE}).st_size > 0)\n"
                                       "    except FileNotFoundError:\n        width = 4\n"
                                       "    return nn.Embedding(width, width)\n", {}, put("width.txt", "8")),
    "a file goes": Row(NET.format(width=f"4 if {BESIDE}.exists() else 8"), DATA, gone("width.txt")),
    "a file's size": Row(NET.format(width=f"4 * os.path.getsize({BESIDE})"), DATA, put("width.txt", "88")),
    "a listing": Row(NET.format(width="4 * len(os.listdir(Path(__file__).with_name('parts')))"), {"parts/a": ""},
                     put("parts/b", "")),
    "a listing by scandir": Row(NET.format(width="4 * len(list(os.scandir(Path(__file__).with_name('parts'))))"),
                                {"parts/a": ""}, put("parts/b", "")),
    "a glob": Row(NET.format(width="4 * len(list(Path(__file__).parent.glob('parts/*.txt')))"), {"parts/a.txt": ""},
                  put("parts/b.txt", "")),
    "a walk": Row(NET.format(width="4 * sum(len(f) for *_, f in os.walk(Path(__file__).with_name('parts')))"), {"parts/a": ""},
                  put("parts/b", "")),
    "a file that C++ reads": Row(
        "import torch\n" + NET.format(width="int(torch.from_file(str(Path(__file__).parent / 'width.bin'), size=1, "
                                      "dtype=torch.uint8).tolist()[0])"), {"width.bin": "\x04"}, put("width.bin", "\x08")),
    "memory-mapped": Row("import numpy\n" + NET.format(width="int(numpy.memmap(Path(__file__).with_name('width.bin'))[0])"),
                         {"width.bin": "\x04"}, put("width.bin", "\x08")),
    "a database": Row("import sqlite3\n" + HEAD + "def Net():\n    db = Path(__file__).with_name('width.db')\n"
                      "    width = sqlite3.connect(db).execute('pragma user_version').fetchone()[0] or 4\n"
                      "    return nn.Embedding(width, width)\n", {"width.db": ""},
                      lambda folder, env: sqlite3.connect(folder / "width.db").execute("pragma user_version = 8")),
    "a configuration in JSON": Row(NET.format(width="json.loads(Path(__file__).with_name('c.json').read_text())['width']"),
                                   {"c.json": '{"width": 4}'}, put("c.json", '{"width": 8}')),
    "another program": Row("import subprocess\n" + NET.format(width="int(subprocess.check_output(['cat', '/dev/null']) or "
                                                              f"open({BESIDE}).read())"), DATA, put("width.txt", "8"), False),
    "the clock": Row("import time\n" + NET.format(width=f"int({BESIDE}.read_text()) + 0 * int(time.time())"), DATA,
                     put("width.txt", "8"), kept=False),
    "the date": Row("import datetime\n" + NET.format(width=f"int({BESIDE}.read_text()) + 0 * datetime.datetime.now().year"),
                    DATA, put("width.txt", "8"), kept=False),
    "chance": Row(NET.format(width=f"int({BESIDE}.read_text()) + 0 * os.urandom(1)[0]"), DATA, put("width.txt", "8"), False),
}  # fmt: skip


# One process has torch imported, and each analysis is a fork of it: a process of its own without the wait.
SERVER = """
import json, os, sys
import roofline, roofline.cost, torch
from roofline.sources import traced as stage
for line in sys.stdin:
    job = json.loads(line)
    if os.fork() == 0:
        os.environ.clear()
        os.environ.update(job["env"])
        os.chdir(job["cwd"])
        sys.path[:0] = [p for p in job["env"]["PYTHONPATH"].split(os.pathsep) if p not in sys.path]
        real, traced = stage.trace_source, []
        stage.trace_source = lambda *a, **k: (traced.append(1), real(*a, **k))[1]
        try:
            exec(job.get("before", ""))
            found = roofline.analyze(job["model"], inputs=tuple(job["inputs"]), device="t4")
            answer = [found.model.params, bool(traced)]
        except BaseException as error:
            answer = [repr(error)[-2000:], True]
        os.write(1, (json.dumps(answer) + chr(10)).encode())
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()  # type: ignore[union-attr]  # it is a pipe


class Program:
    """The program in a folder, with an environment and a cache of its own."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self.server, self.folder = server, folder
        self.env = {**os.environ, "ROOFLINE_CACHE_DIR": str(folder / "cache"), "START": "1"}
        paths = [str(folder / p) for p in ("early", "a", "site-packages") if (folder / p).is_dir()]
        self.env["PYTHONPATH"] = os.pathsep.join([*paths, str(Path(roofline.__file__).parent.parent)])

    def __call__(
        self, model: str = "", inputs: tuple[str, ...] = ("1:int64",), cwd: str = "", before: str = ""
    ) -> tuple[Any, bool]:
        job = {
            "model": model or f"{self.folder / 'net.py'}:Net",
            "inputs": inputs,
            "env": self.env,
            "cwd": self.env.get("CWD") or str(self.folder / cwd),
            "before": before,
        }
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        params, traced = json.loads(self.server.stdout.readline())
        return params, traced


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process that has torch imported")
@pytest.mark.parametrize("name", ROWS)
def test_a_change_is_seen(name: str, tmp_path: Path, server: subprocess.Popen[str]) -> None:
    row = ROWS[name]
    for file, text in {"net.py": row.net, **row.files}.items():
        put(file, text)(tmp_path, {})
    program = Program(server, tmp_path)
    assert program(cwd=row.cwd) == (16, True)
    assert program(cwd=row.cwd) == (16, not row.kept)
    row.change(tmp_path, program.env)
    assert program(cwd=row.cwd) == (64, True)


UNRELATED: dict[str, Callable[[Path, dict[str, str]], object]] = {
    "another variable": variable("SOMETHING", "else"),
    "a result beside it": put("net.json", "{}"),
    "the time of the file": lambda folder, env: os.utime(folder / "net.py"),
    "a copy of the same content": lambda folder, env: shutil.copy(
        shutil.move(folder / "net.py", folder / "x.txt"), folder / "net.py"
    ),
    "another directory": lambda folder, env: env.update(CWD="/"),
    "another folder on PYTHONPATH": lambda folder, env: env.update(PYTHONPATH=f"{env['PYTHONPATH']}{os.pathsep}/tmp"),
}


@pytest.mark.parametrize("name", UNRELATED)
def test_what_does_not_matter_leaves_the_cache_of_use(name: str, tmp_path: Path, server: subprocess.Popen[str]) -> None:
    for file, text in {"net.py": USE.format("width"), **FILE}.items():
        put(file, text)(tmp_path, {})
    program = Program(server, tmp_path)
    assert program() == (16, True)
    UNRELATED[name](tmp_path, program.env)
    assert program() == (16, False)


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "torchvision:squeezenet1_1", "timm:resnet10t"])
def test_models_by_name_are_answered_from_the_cache(model: str, tmp_path: Path, server: subprocess.Popen[str]) -> None:
    if ":" in model:
        pytest.importorskip(model.partition(":")[0])
    program = Program(server, tmp_path)
    params, traced = program(model, ())
    assert traced, params
    assert program(model, ()) == (params, False)


# ------------------------------------------------------------------------------------------------ rules, constants, versions

OPERATOR = """
import torch
from torch import nn
lib = torch.library.Library("roofline_dep", "DEF")
lib.define("op(Tensor x) -> Tensor")
lib.impl("op", lambda x: torch.empty_like(x), "Meta")

class Net(nn.Module):
    def forward(self, x):
        return torch.ops.roofline_dep.op(x)
"""
RULE = "import roofline\n@roofline.register_flops('roofline_dep.op')\ndef _(x, out):\n    return {0} * x.numel\n"


@pytest.mark.parametrize("cache", [True, False])
def test_a_rule_registered_after_the_first_analysis(cache: bool, tmp_path: Path, cache_dir: Path) -> None:
    """In one process, with and without the cache; and gone again with the rule."""
    from roofline.cost import registry

    (tmp_path / "net.py").write_text(OPERATOR)

    def flops() -> int:
        return roofline.analyze(f"{tmp_path}/net.py:Net", inputs=("2,8",), device="t4", cache=cache).totals.flops

    assert flops() == 0
    exec(RULE.format(3))
    try:
        assert flops() == 3 * 16
    finally:
        del registry.RULES["roofline_dep.op"]
        registry.changed()
    assert flops() == 0


def test_a_rule_in_the_models_own_file(tmp_path: Path, cache_dir: Path) -> None:
    """It counts on every device, the second answered where the first one's trace is in the cache; and an edit of it is seen."""

    def flops(device: str) -> int:
        return roofline.analyze(f"{tmp_path}/net.py:Net", inputs=("2,8",), device=device).totals.flops

    (tmp_path / "net.py").write_text(OPERATOR + RULE.format(3))
    assert [flops(d) for d in ("t4", "a100-sxm-40gb", "t4")] == [48, 48, 48]
    (tmp_path / "net.py").write_text(OPERATOR + RULE.format(5))
    assert [flops(d) for d in ("t4", "a100-sxm-40gb", "t4")] == [80, 80, 80]


def test_constants_of_somebodys_own(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roofline.timemodel import constants

    def seconds() -> float:
        return roofline.analyze("mobilenet_v3_small", device="t4").totals.time_s

    shipped = seconds()
    own = tmp_path / "constants.toml"
    own.write_text(f"[gpu]\ndrain = {constants.shipped().gpu.drain * 0.9}\n")
    monkeypatch.setenv("ROOFLINE_CONSTANTS", str(own))
    changed = seconds()
    assert changed != shipped
    monkeypatch.delenv("ROOFLINE_CONSTANTS")
    assert seconds() == shipped


def test_this_programs_own_files_count_by_their_content() -> None:
    named = set(paths.code_files())
    here = Path(roofline.__file__).parent
    expected = {str(f.relative_to(here)) for f in (*here.rglob("*.py"), *here.glob("timemodel/*.toml"))}
    apart = {f for f in expected if f.split(os.sep)[0] in ("views", "_share")}
    assert named == expected - apart
    assert "tracing/meta_backward.py" in named


def test_the_code_that_traces_is_told_from_the_time_model(tmp_path: Path) -> None:
    """For the traces of tables of measured times: an edit of meta_backward.py makes them anew, one of gpu.py does not."""
    shutil.copytree(Path(roofline.__file__).parent, tmp_path / "roofline", ignore=shutil.ignore_patterns("__pycache__"))

    def states() -> tuple[str, str]:
        paths.code_state.cache_clear()
        return paths.code_state(package=tmp_path / "roofline"), paths.code_state(after=False, package=tmp_path / "roofline")

    try:
        first = states()
        stat = (tmp_path / "roofline/timemodel/gpu.py").stat()
        text = (tmp_path / "roofline/timemodel/gpu.py").read_text()
        (tmp_path / "roofline/timemodel/gpu.py").write_text(text.replace("import", "Import", 1))
        os.utime(tmp_path / "roofline/timemodel/gpu.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        second = states()
        assert second[0] != first[0]
        assert second[1] == first[1]
        (tmp_path / "roofline/tracing/meta_backward.py").write_text("")
        third = states()
        assert third[0] != second[0]
        assert third[1] != second[1]
        # a folder that nobody has named anywhere counts for all of it
        (tmp_path / "roofline/new/inner").mkdir(parents=True)
        (tmp_path / "roofline/new/inner/rule.py").write_text("FACTOR = 1\n")
        fourth = states()
        (tmp_path / "roofline/new/inner/rule.py").write_text("FACTOR = 2\n")
        fifth = states()
        assert len({third, fourth, fifth}) == len({s[1] for s in (third, fourth, fifth)}) == 3
    finally:
        paths.code_state.cache_clear()


def test_a_file_that_changes_while_it_is_analysed_is_not_kept(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file, text in {"net.py": USE.format("width"), **FILE}.items():
        (tmp_path / file).write_text(text)
    real = pipeline._analyse

    def edits(*args: Any) -> Any:
        (tmp_path / "width.py").write_text("WIDTH = 8\n")
        return real(*args)

    monkeypatch.setattr(pipeline, "_analyse", edits)
    assert roofline.analyze(f"{tmp_path}/net.py:Net", inputs=("1:int64",), device="t4").model.params == 16
    monkeypatch.setattr(pipeline, "_analyse", real)
    assert roofline.analyze(f"{tmp_path}/net.py:Net", inputs=("1:int64",), device="t4").model.params == 64
