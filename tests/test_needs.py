"""Where a test lies says what it needs: tests/unit no torch, tests/trace torch, tests/cli the program, tests/page a browser."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
UNIT = sorted((TESTS / "unit").glob("*.py"))

# Collected as pytest does; while they run, tests/unit/conftest.py takes torch away.
COLLECT = """
import importlib.util, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch", name="torch")

sys.meta_path.insert(0, NoTorch())
sys.path[:0] = sys.argv[1].split(",")
for file in sys.argv[2:]:
    spec = importlib.util.spec_from_file_location("collected", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""


def test_tests_of_units_are_collected_without_torch() -> None:
    places = f"{TESTS.parent},{TESTS},{TESTS / 'unit'}"
    done = subprocess.run([sys.executable, "-c", COLLECT, places, *map(str, UNIT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


TRIES = """
import sys
import {first}
import pytest


@pytest.mark.parametrize("name", ["torch", "torch.nn", "roofline.tracing.trace"])
def test_torch_is_not_there(name):
    assert "torch" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="belongs into tests/trace"):
        __import__(name)


def test_what_needs_none_is():
    import numpy, roofline.cost
    assert numpy.ones(2).sum() == 2
"""
AFTER = """
import torch
import roofline.tracing.trace

def test_torch_is_as_it_was():
    import torch as again
    assert again is torch
    assert again.ones(2).sum() == 2
    assert roofline.tracing.trace.trace(torch.nn.ReLU(), [torch.empty(2)]).ops
"""


@pytest.mark.parametrize("first", ["torch", "roofline.tracing.trace", "json"])
def test_a_test_of_a_unit_gets_no_torch_and_the_next_test_has_it(first: str, tmp_path: Path) -> None:
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "conftest.py").write_text((TESTS / "unit" / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "unit" / "test_tries.py").write_text(TRIES.format(first=first), encoding="utf-8")
    (tmp_path / "test_after.py").write_text(AFTER, encoding="utf-8")
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    files = [str(tmp_path / "unit" / "test_tries.py"), str(tmp_path / "test_after.py")]
    done = subprocess.run([*tests, *files], capture_output=True, text=True, check=False)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted((TESTS / "oracles").glob("*.py")), ids=lambda path: path.stem)
def test_an_oracle_owes_nothing_to_roofline(path: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    assert "roofline" not in found
