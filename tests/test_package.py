"""What people get: the public names, the version, the wheel and what is in it, used away from the checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import roofline

REPO = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# --- public names ------------------------------------------------------------------------------------------------------


def test_public_names() -> None:
    assert {"analyze", "Analysis", "Device", "register_flops", "__version__"} <= set(roofline.__all__)
    assert len(set(roofline.__all__)) == len(roofline.__all__)


@pytest.mark.parametrize("name", roofline.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(roofline, name) is not None


def test_star_import_gives_exactly_the_public_names() -> None:
    space: dict[str, object] = {}
    exec("from roofline import *", space)
    assert set(space) - {"__builtins__"} == set(roofline.__all__)


def test_a_wrong_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="analyse"):
        roofline.analyse  # noqa: B018  (the access is the test)


def test_one_version_everywhere() -> None:
    assert roofline.__version__ == PROJECT["version"]
    top = re.search(r"^## (\d+\.\d+\.\d+)", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert top is not None
    assert top[1] == PROJECT["version"]


def imported_packages(path: Path) -> set[str]:
    """Top-level names of every import in a file, wherever it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", sorted((REPO / "roofline").rglob("*.py")), ids=lambda path: path.name)
def test_every_imported_package_is_declared(path: Path) -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    declared = {re.split(r"[<>=\[ ]", entry)[0].lower() for group in groups for entry in group}
    assert imported_packages(path) <= declared | set(sys.stdlib_module_names) | {"roofline"}


# --- make and the source distribution ----------------------------------------------------------------------------------


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    """Only Pythons that are too old are on the path."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "make", "mkdir", "touch"):
        (tools / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    for name in ("python3", "python"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    for target in ("demo", "test", "matrix"):
        done = subprocess.run(
            ["make", "-C", str(REPO), target, f"VENV={tmp_path / 'venv'}"],
            env={"PATH": str(tools)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 2
        words = "roofline needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3"
        assert done.stderr.splitlines()[0] == words
        assert not (tmp_path / "venv").exists()


def test_everything_is_locked_but_torch() -> None:
    names = {
        file: {line.split("==")[0] for line in (REPO / "locks" / file).read_text(encoding="utf-8").splitlines() if "==" in line}
        for file in ("packages.txt", "torch.txt")
    }
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = {re.split(r"[<>=\[ ]", entry)[0].lower().replace("_", "-") for group in groups for entry in group} - {"roofline"}
    assert wanted <= names["packages.txt"] | names["torch.txt"]
    assert {"torch", "torchvision"} <= names["torch.txt"]
    assert not any(re.match("torch(vision)?$|nvidia-|triton", name) for name in names["packages.txt"])
    # what builds the source distributions among them, fvcore and iopath
    assert {"setuptools", "wheel", "hatchling", "editables"} <= names["packages.txt"]


def test_the_source_distribution_holds_its_tests_and_what_they_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(REPO)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = (p for p in tmp_path.iterdir() if p.is_dir())
    for folder in ("roofline", "models", "tests", "docs", "benchmarks", "reports", "locks", ".ci"):
        here = {p.relative_to(REPO) for p in (REPO / folder).rglob("*") if p.is_file()}
        here = {p for p in here if not {"__pycache__", "demo"} & set(p.parts) and p.suffix not in (".pyc", ".log", ".tmp")}
        assert here
        assert here <= {p.relative_to(root) for p in (root / folder).rglob("*")}, folder
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    # the README's commands take long, and are run on the checkout
    some = ["tests/test_docs.py", "-k", "not readme_shows"]
    for more in (["--collect-only"], some):
        done = subprocess.run([*tests, *more], cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# --- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout with the build tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPO)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_carries_the_package_and_nothing_beside_it(contents: set[str]) -> None:
    assert {name.split("/")[0] for name in contents} == {"roofline", f"roofline-{PROJECT['version']}.dist-info"}
    assert "roofline/py.typed" in contents


@pytest.mark.parametrize(
    ("folder", "pattern", "inside"),
    [
        ("roofline", "**/*.py", "roofline"),
        ("roofline", "**/*.j2", "roofline"),
        ("roofline/views/page", "*.[jc]s*", "roofline/views/page"),
        ("roofline/views/vendor", "*", "roofline/views/vendor"),
        ("roofline/devices/library", "*.toml", "roofline/devices/library"),
        ("models", "*", "roofline/_share/models"),
    ],
)
def test_wheel_carries_every_file(contents: set[str], folder: str, pattern: str, inside: str) -> None:
    files = [path for path in (REPO / folder).glob(pattern) if path.is_file() and path.suffix != ".pyc"]
    assert files
    assert {f"{inside}/{path.relative_to(REPO / folder).as_posix()}" for path in files} <= contents


def test_wheel_metadata(wheel: Path, contents: set[str]) -> None:
    info = f"roofline-{PROJECT['version']}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_string(archive.read(f"{info}/METADATA").decode())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) >= {"vision", "hf", "onnx"}
    assert "roofline = roofline.cli:main" in entry_points
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, the program finds its devices and its reference models in itself."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "ROOFLINE_CACHE_DIR": str(tmp_path / "cache")}
    origin = "import roofline, sys; print(roofline.__file__, file=sys.stderr); from roofline.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", origin, "analyze", "mobilenet_v3_large", "--device", "rtx-4090", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stderr.splitlines()[0]
    document = json.loads(done.stdout)
    # the parameters that torchvision publishes for mobilenet_v3_large
    assert document["model"]["params"] == 5_483_032
    assert str(REPO) not in document["model"]["source"]
