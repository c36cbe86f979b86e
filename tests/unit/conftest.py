"""Tests here need no torch: while one runs, torch is not there, whatever else this process has imported."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent


class NoTorch:
    """A finder that says that torch is not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("a test in tests/unit asked for torch: it belongs into tests/trace", name="torch")
        return None


def needs_torch(name: str, module: ModuleType) -> bool:
    """torch itself, and our modules that hold something of it: they would have to be imported again."""
    space = name.partition(".")[0]
    if space == "roofline":
        held = (getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in list(vars(module).values()))
        return any(str(h).partition(".")[0] == "torch" for h in held)
    return space == "torch"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if HERE not in item.path.parents:  # pytest asks for tests of all folders
        return (yield)
    hidden = {}
    if "torch" in sys.modules:
        hidden = {n: m for n, m in list(sys.modules.items()) if isinstance(m, ModuleType) and needs_torch(n, m)}
    for name in hidden:
        del sys.modules[name]
    finder = NoTorch()
    sys.meta_path.insert(0, finder)
    try:
        return (yield)
    finally:
        sys.meta_path.remove(finder)
        sys.modules.update(hidden)
