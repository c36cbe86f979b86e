"""Run both benchmarks and put what they print into docs/benchmarks.md, between its markers. For an idle machine.

python benchmarks/publish.py [--processes 3] [--runs 7]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


def printed(script: str, *args: str) -> str:
    """What a benchmark prints. Raises CalledProcessError where it fails."""
    done = subprocess.run([sys.executable, str(HERE / script), *args], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def between(text: str, marker: str, content: str) -> str:
    """`text` with what stands between <!-- marker --> and <!-- /marker --> replaced."""
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(\n<!-- /{marker} -->)", re.DOTALL)
    changed, found = pattern.subn(lambda match: match[1] + content + match[2], text)
    if found != 1:
        raise SystemExit(f"{PAGE}: expected one pair of <!-- {marker} --> markers, found {found}")
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", default="3", help="of each tool and model in peers.py")
    parser.add_argument("--runs", default="7", help="of each command in startup.py")
    options = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    text = between(text, "startup", printed("startup.py", "--runs", options.runs))
    text = between(text, "peers", printed("peers.py", "--processes", options.processes))
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
