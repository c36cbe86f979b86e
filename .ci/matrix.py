"""The tests on the oldest packages, a part of them on the locked and the newest; each leg in an environment of its own.

    python .ci/matrix.py                      every leg; prints a table
    python .ci/matrix.py --write              and puts it into docs/compatibility.md (`make matrix`)
    python .ci/matrix.py newest --report      one leg; whatever comes of it, the exit code is 0 (CI)

oldest: the lowest versions that pyproject.toml permits, on the oldest Python here; locked: those of locks/, on every Python
here; newest: what the index offers today, on the newest Python. uv (https://docs.astral.sh/uv) makes the environments and
removes them after their leg; downloads stay in its cache. The newest torch is several GB: a leg whose packages cannot be had in
time is skipped, and says so.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parent.parent
PAGE = REPO / "docs" / "compatibility.md"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PACKAGES = ("torch", "torchvision", "timm", "transformers")
# what meets other people's code: every metadata rule against torch itself, totals of every kind of model, dropout, prefill and
# decode, the refusals of what is too old, predicted times
CANARY = (
    "tests/trace/test_metadata.py",
    "tests/trace/test_totals.py",
    "tests/trace/test_dropout.py",
    "tests/trace/test_language.py",
    "tests/trace/test_compat.py",
    "tests/frozen/test_times.py",
)
# The ranges of pyproject.toml are true at their lower end where everything passes there; the other end moves, and CI meets it.
TESTS = {"oldest": ("tests",)}
BINARY = ("--only-binary", ":all:", "--no-binary", "fvcore", "--no-binary", "iopath")
RESOLUTION = {
    "oldest": ("--resolution", "lowest-direct"),
    "locked": ("-c", "locks/packages.txt", "-c", "locks/torch.txt"),
    "newest": (),
}


class Row(NamedTuple):
    """One leg: its versions, and what came of it."""

    leg: str
    python: str
    versions: tuple[str, ...]
    outcome: str
    seconds: float

    def line(self) -> str:
        return f"| {' | '.join((self.leg, self.python, *self.versions, self.outcome, f'{self.seconds:.0f}'))} |"


class Skipped(Exception):
    """The packages of a leg could not be had."""


def uv(*command: str, limit: float | None = None) -> str:
    """What a command of uv printed. Raises Skipped with its last word."""
    path = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv") or "uv"
    try:
        done = subprocess.run([path, *command], cwd=REPO, capture_output=True, text=True, timeout=limit, check=False)
    except FileNotFoundError:
        raise Skipped("uv is not installed: pip install uv") from None
    except subprocess.TimeoutExpired:
        raise Skipped(f"its packages could not be had in {limit:.0f} s") from None
    if done.returncode:
        words = [line.strip(" ×╰─▶│\n") for line in done.stderr.splitlines() if line.strip()]
        raise Skipped(f"its packages could not be installed: {' '.join(words)[:300]}")
    return done.stdout.strip()


def pythons() -> list[str]:
    """The supported Pythons on this machine, as paths, oldest first; those that are not here are named."""
    found = []
    for version in PYTHONS:
        try:
            found.append(uv("python", "find", "--no-python-downloads", "--no-project", version))
        except Skipped as why:
            if "uv is not" in str(why):
                raise
            print(f"Python {version} is not run: {why}"[:200], flush=True)
    return found


def run(leg: str, python: str, paths: Sequence[str], install_limit: float, limit: float) -> Row:
    """One leg. Raises Skipped where it cannot be had."""
    with tempfile.TemporaryDirectory(prefix="roofline-matrix-") as name:
        interpreter = str(Path(name) / "venv" / "bin" / "python")
        uv("venv", "--quiet", "--python", python, str(Path(name) / "venv"))
        uv("pip", "install", "--quiet", "--python", interpreter, *BINARY, *RESOLUTION[leg],
           "--build-constraint", "locks/packages.txt", "-e", ".[test]", limit=install_limit)  # fmt: skip
        ask = (
            "import json, platform, sys; from importlib.metadata import version as v; "
            "print(json.dumps([platform.python_version(), *map(v, sys.argv[1:])]))"
        )
        found = subprocess.run([interpreter, "-c", ask, *PACKAGES], capture_output=True, text=True, check=True).stdout
        start = time.monotonic()
        tests = [interpreter, "-m", "pytest", "-q", "-n", "2", "-m", "not slow", "-p", "no:cacheprovider", *paths]
        try:
            done = subprocess.run(tests, cwd=REPO, capture_output=True, text=True, timeout=limit, check=False)
            failures = re.findall(r"^(?:FAILED|ERROR) .*$", done.stdout, re.MULTILINE)
            counts = re.findall(r"\d+ (?:passed|failed|errors?)\b", done.stdout.strip().splitlines()[-1] if done.stdout else "")
            outcome = ", ".join(counts) or f"no test ran (exit code {done.returncode})"
            print("\n".join(failures[:20] if counts else [done.stdout[-2000:], done.stderr[-2000:]]), flush=True)
        except subprocess.TimeoutExpired:
            outcome = f"failed: not done after {limit:.0f} s"
        took = time.monotonic() - start
    version, *versions = json.loads(found)
    return Row(leg, version, tuple(versions), outcome, took)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("legs", nargs="*", choices=[*RESOLUTION, []], metavar="LEG", help="oldest, locked, newest; or all")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(REPO)}")
    parser.add_argument("--report", action="store_true", help="exit with 0 whatever comes of it")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="instead of those of the leg")
    parser.add_argument("--install-limit", type=float, default=3600.0, metavar="SECONDS", help="for the packages of a leg")
    parser.add_argument("--limit", type=float, default=3600.0, metavar="SECONDS", help="for the tests of a leg")
    asked = parser.parse_args()
    rows: list[Row] = []
    try:
        found = pythons()
        places = {"oldest": found[:1], "locked": found, "newest": found[-1:]}
        for leg in asked.legs or RESOLUTION:
            for python in places[leg]:
                try:
                    rows.append(run(leg, python, asked.tests or TESTS.get(leg, CANARY), asked.install_limit, asked.limit))
                    print(rows[-1].line(), flush=True)
                except Skipped as why:
                    print(f"{leg} on {python}: skipped, {why}", flush=True)
    except Skipped as why:
        print(f"skipped, {why}")
    head = ("packages", "Python", *PACKAGES, "tests", "seconds")
    table = "\n".join([f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(row.line() for row in rows)])
    print(table)
    if asked.write and rows:
        text = PAGE.read_text(encoding="utf-8")
        text = re.sub(r"(<!-- matrix -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table + m[2], text, flags=re.DOTALL)
        PAGE.write_text(text, encoding="utf-8")
    bad = not rows or any("failed" in row.outcome or "error" in row.outcome or "no test" in row.outcome for row in rows)
    return int(bad and not asked.report)


if __name__ == "__main__":
    sys.exit(main())
