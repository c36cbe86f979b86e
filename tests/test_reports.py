"""The committed gallery is what the program says today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MAKE = Path(__file__).resolve().parent.parent / "reports" / "make.py"


def test_the_gallery_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(MAKE), "--check", "--quick"], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr


def test_every_claim_is_settled() -> None:
    text = (MAKE.parent / "claims.md").read_text(encoding="utf-8")
    sections = text.split("\n## Claim ")[1:]
    assert [int(s.split()[0]) for s in sections] == list(range(1, 14))
    for section in sections:
        for part in ("- **Claimed**: ", "- **Computed**: ", "- **Measured**: ", "- **Verdict: "):
            (said,) = [line for line in section.splitlines() if line.startswith(part)]
            assert len(said) > len(part) + 20
        assert "`roofline " in section
