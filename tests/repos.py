"""Repositories of git that tests make."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(at: Path, *args: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *args], cwd=at, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(at: Path, message: str) -> str:
    git(at, "add", "-A")
    git(at, "commit", "-q", "--allow-empty", "-m", message)
    return git(at, "rev-parse", "HEAD")
