"""The pages for people: their links lead somewhere, and what they promise by name exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# files of ours that a page names in code type: `docs/flops.md`, `benchmarks/peers.py`
NAMED = re.compile(r"`((?:docs|benchmarks|tests|models|roofline)/[\w./-]+\.\w+)`")
TARGET = re.compile(r"\bmake ([a-z][a-z-]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in NAMED.findall(text) if "NAME" not in name and not (REPO / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    """Only lines of code blocks that start with `make` are commands."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("make ")]
    assert {name for line in commands for name in TARGET.findall(line)} <= targets


def test_readme_opens_with_the_two_commands() -> None:
    lines = (REPO / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line.split("#")[0].strip() for line in lines[:8] if line.startswith("make ")]
    assert commands == ["make demo", "make test"]


@pytest.mark.skipif(
    "ROOFLINE_README_LATER" in os.environ, reason="this run puts the README's commands to the wheel, further on"
)
def test_the_readme_shows_what_its_commands_print() -> None:
    """Every command of the README is run, and what it shows under one is what comes out. `--write` mends the page."""
    script = REPO / ".ci" / "readme.py"
    run = subprocess.run([sys.executable, script, REPO / "README.md"], capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, f"{run.stderr}\nto mend it: python .ci/readme.py README.md --write"
