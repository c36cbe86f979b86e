"""Do what the README tells people to do, and compare what it shows with what comes out.

    python readme.py README.md            run everything; exits 1 at the first that does not do as the README says
    python readme.py README.md --write    run everything, and put the output of now under the commands that show any

Each `$ roofline ...` line of a console block is run, in order, in one fresh folder with the environment that runs this script;
lines under it are its output, to be matched exactly (trailing blanks apart). A command that is meant to fail ends in
`# exits with 1`. A block whose first line is `# name.py` or `# name.toml` is written to that file; another Python block is run.
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


class Differs(Exception):
    """The README says one thing and the program does another."""


def run(command: list[str], folder: Path, expected: int = 0) -> str:
    """Standard output, without trailing blanks."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        raise Differs(f"exit code {done.returncode}, not {expected}\n{done.stdout}{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip("\n")


def console(body: str, folder: Path, write: bool) -> str:
    """Run the commands of a console block. Returns the block with the output of now where it shows output."""
    lines: list[str] = []
    for step in re.split(r"^(?=\$ )", body, flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        lines.append(command)
        if not command.startswith("$ roofline "):
            lines += shown.splitlines()
            continue
        print(f"-- {command[2:]}", flush=True)
        code = EXIT.search(command)
        now = run(["sh", "-c", EXIT.sub("", command[2:])], folder, int(code[1]) if code else 0)
        if shown.strip():
            if now != shown.strip("\n") and not write:
                raise Differs(f"the README shows other output; `--write` puts this there:\n{now}")
            lines += now.splitlines()
    return "\n".join(lines) + "\n"


def main() -> int:
    readme, write = Path(sys.argv[1]), sys.argv[2:] == ["--write"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def block(match: re.Match[str]) -> str:
            kind, body = match.groups()
            if file := FILE.match(body):
                (folder / file[1]).write_text(body, encoding="utf-8")
            elif kind == "python":
                print(f"-- {body.splitlines()[0]} ...", flush=True)
                run([sys.executable, "-c", body], folder)
            elif kind == "console":
                body = console(body, folder, write)
            return f"```{kind}\n{body}```"

        try:
            text = BLOCK.sub(block, readme.read_text(encoding="utf-8"))
        except Differs as problem:
            print(problem, file=sys.stderr)
            return 1
    if write:
        readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
