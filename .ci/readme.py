"""Run what the README tells people to type: each `$ roofline ...` line of its console blocks, and each Python block.

    python readme.py README.md

Everything runs in one fresh folder, in order, with the environment that runs this script. A line that is meant to fail ends
in `# exits with 1`. Exits 1 at the first that does not do as the README says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(console|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"\s+# exits with (\d)$")
FILE = re.compile(r"\A# (\S+\.(?:toml|py))\n")


def steps(text: str) -> list[tuple[str, str]]:
    """("run", shell line), ("python", code) and ("file", text whose first line is `# name`), in the order of the page."""
    found: list[tuple[str, str]] = []
    for kind, body in BLOCK.findall(text):
        if FILE.match(body):
            found.append(("file", body))
        elif kind == "python":
            found.append(("python", body))
        elif kind == "console":
            found += [("run", line[2:]) for line in body.splitlines() if line.startswith("$ roofline ")]
    return found


def main() -> int:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        for kind, body in steps(Path(sys.argv[1]).read_text(encoding="utf-8")):
            if kind == "file":
                name = FILE.match(body)
                assert name is not None
                (Path(folder) / name[1]).write_text(body, encoding="utf-8")
                continue
            expected = EXIT.search(body)
            command = [sys.executable, "-c", body] if kind == "python" else ["sh", "-c", EXIT.sub("", body)]
            print(f"-- {body.splitlines()[0]}", flush=True)
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != (int(expected[1]) if expected else 0):
                print(f"exit code {done.returncode}\n{done.stdout}{done.stderr}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
