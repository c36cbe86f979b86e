"""How long the program takes to answer, as a ratio to `python -c "import torch"` in the same environment and run.

    python benchmarks/startup.py [--model mobilenet_v3_large] [--runs 7] [--json FILE] [--check]

Whole processes are timed, as a user waits for them, in turn so that a busy minute falls on all of them; medians are printed.
Memory is the highest resident size of the process. "First" has an empty cache, "cached" finds the analysis there; both
follow one warm-up of every command, so Python's own bytecode files are in place.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = "import torch"
# of the time of `import torch`; and bytes above its peak memory
BARS = {"roofline --help": 0.15, "analyze, cached": 0.15, "analyze, first": 1.3}
MEMORY_ABOVE = 80 * 2**20


@dataclass(frozen=True)
class Run:
    seconds: float
    # highest resident size in bytes
    peak: int


def once(command: list[str], cache: Path) -> Run:
    """Run the command to its end with this cache folder. Raises CalledProcessError with its stderr where it fails."""
    environment = {**os.environ, "ROOFLINE_CACHE_DIR": str(cache)}
    # bytecode files as after an install, also where the environment forbids to write them
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, stderr=err.read().decode().strip())
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def program() -> list[str]:
    """The installed console script of this environment."""
    script = Path(sys.executable).with_name("roofline")
    return [str(script)] if script.exists() else [sys.executable, "-m", "roofline"]


def measure(model: str, runs: int) -> dict[str, list[Run]]:
    """Every command `runs` times, in turn, after one warm-up."""
    analyze = [*program(), "analyze", model, "--device", "cpu", "--json"]
    commands = {
        BASE: [sys.executable, "-c", "import torch"],
        "roofline --help": [*program(), "--help"],
        "analyze, cached": analyze,
        "analyze, first": analyze,
    }
    found: dict[str, list[Run]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"
        for number in range(-1, runs):
            for name, command in commands.items():
                # each "first" gets a folder that nothing has written to
                run = once(command, Path(folder) / f"fresh{number}" if name == "analyze, first" else warm)
                if number >= 0:
                    found[name].append(run)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="mobilenet_v3_large")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    options = parser.parse_args()

    try:
        found = measure(options.model, options.runs)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd)}: exit code {error.returncode}\n{error.stderr}", file=sys.stderr)
        return 2
    seconds = {name: statistics.median(run.seconds for run in runs) for name, runs in found.items()}
    peak = {name: statistics.median(run.peak for run in runs) for name, runs in found.items()}
    print(f"Medians of {options.runs} runs in turn; model {options.model}.\n")
    print("| command | time | of `import torch` | bar | peak memory |")
    print("| --- | ---: | ---: | ---: | ---: |")
    missed: list[str] = []
    rows: dict[str, dict[str, Any]] = {}
    for name, value in seconds.items():
        ratio, bar = value / seconds[BASE], BARS.get(name)
        print(f"| {name} | {value * 1e3:,.0f} ms | {ratio:.2f} | {bar or ''} | {peak[name] / 2**20:,.0f} MiB |")
        rows[name] = {"seconds": value, "ratio": ratio, "peak": peak[name]}
        if bar is not None and ratio > bar:
            missed.append(f"{name}: {ratio:.2f} of `import torch`, more than {bar}")
        if peak[name] > peak[BASE] + MEMORY_ABOVE:
            missed.append(f"{name}: {(peak[name] - peak[BASE]) / 2**20:.0f} MiB above `import torch`, more than 80")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    for line in missed:
        print(line, file=sys.stderr)
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
