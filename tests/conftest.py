"""Shared fixtures: no test sees the user's cache, calibration or terminal, and every subprocess inherits that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPO = Path(__file__).resolve().parent.parent

# Shapes are drawn anew from the same seed in every run: a red test stays red.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repeatable")

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests where no CUDA driver answers, without importing torch."""
    if any(item.get_closest_marker("gpu") for item in items) and not shutil.which("nvidia-smi"):
        skip = pytest.mark.skip(reason="no CUDA device (nvidia-smi not found)")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own for each worker: the cache there, no calibration, plain 80-column text, two threads at most."""
    root = tmp_path_factory.mktemp("roofline-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOFLINE_CACHE_DIR", str(root / "cache"))
        patch.setenv("ROOFLINE_HOST_FILE", "")  # none: this machine is detected
        patch.setenv("COLUMNS", "80")
        patch.setenv("MPLBACKEND", "Agg")
        patch.setenv("OMP_NUM_THREADS", "2")
        for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
            patch.delenv(name, raising=False)
        yield root


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    root = tmp_path / "cache"
    monkeypatch.setenv("ROOFLINE_CACHE_DIR", str(root))
    return root


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """`run_cli("analyze", "resnet50", cwd=..., env={...})`: the program as a user starts it, in a process of its own."""

    def run(
        *args: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "roofline", *args],
            cwd=cwd or REPO,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    return run
