"""`make lock`: resolve every dependency anew, for all Pythons and systems at once, and write locks/.

    locks/packages.txt   everything but torch, the build tools included: `make` and CI install under it (`pip install -c`)
    locks/torch.txt      torch, torchvision and what torch alone brings, for an environment that is the same to the last file

Torch stands apart since machines cap it: under packages.txt alone, the newest torch that the machine permits is installed. It
stays at the version below until the machines that run the checks may go further. Needs uv (`pip install uv`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
LOCKS = REPO / "locks"
TORCH = ("torch==2.14.1", "torchvision==0.29.1")
# what builds the source distributions among the dependencies (fvcore, iopath), and us: installed first, see the Makefile
TOOLS = ("setuptools", "wheel", "hatchling", "editables", "uv")
OF_TORCH = re.compile(r"(torch|torchvision|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
HEAD = "# written by `make lock` ({})\n"


def compiled(*more: str, capped: bool = True) -> list[str]:
    """The lines of a universal resolution, without comments."""
    with tempfile.TemporaryDirectory() as name:
        tools, cap = Path(name) / "tools.in", Path(name) / "cap.txt"
        tools.write_text("\n".join(TOOLS), encoding="utf-8")
        cap.write_text("\n".join(TORCH if capped else ()), encoding="utf-8")
        command = [
            shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv", "pip", "compile", "--quiet", "--universal",
            "--python-version", "3.11", "--no-annotate", "--no-header", "--extra", "dev", "--extra", "peers",
            "-c", str(cap), *more, "pyproject.toml", str(tools),
        ]  # fmt: skip
        return subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def main() -> int:
    lines = compiled()
    packages = [line for line in lines if not OF_TORCH.match(line)]
    LOCKS.mkdir(exist_ok=True)
    for name, kept, what in (
        ("packages.txt", packages, "everything but torch"),
        ("torch.txt", [line for line in lines if OF_TORCH.match(line)], "torch and what it brings"),
    ):
        (LOCKS / name).write_text(HEAD.format(what) + "\n".join(kept) + "\n", encoding="utf-8")
    newer = next(line for line in compiled("-c", "locks/packages.txt", capped=False) if line.startswith("torch=="))
    print(f"locked {len(lines)} packages with {' and '.join(TORCH)}; the rest of the lock also takes {newer}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
