"""The committed gallery is what the program says today."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MAKE = Path(__file__).resolve().parent.parent / "reports" / "make.py"


def test_the_gallery_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(MAKE), "--check", "--quick"], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr


def test_what_was_measured_here_says_where_and_how_sure() -> None:
    """Every claim has its pairs or a reason; ends are around their middle; the machine, its threads and the day are named."""
    found = json.loads((MAKE.parent / "measured.json").read_text(encoding="utf-8"))
    text = " ".join((MAKE.parent / "claims.md").read_text(encoding="utf-8").split())
    for row in found["rows"]:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["undisturbed"] <= row["runs"] >= 2 * 3 * found["rounds"]
    assert all(str(found[name]) in text for name in ("machine", "torch", "date"))
    assert f"{found['threads']} thread" in text
    asked = subprocess.run(
        [sys.executable, str(MAKE.with_name("measured.py")), "--claims", "2"], capture_output=True, text=True, check=False
    )
    assert (asked.returncode, "layers, multiply-adds and parameters are counted" in asked.stderr) == (2, True)


def test_every_claim_is_settled() -> None:
    text = (MAKE.parent / "claims.md").read_text(encoding="utf-8")
    sections = text.split("\n## Claim ")[1:]
    assert [int(s.split()[0]) for s in sections] == list(range(1, 14))
    for section in sections:
        for part in ("- **Claimed**: ", "- **Computed**: ", "- **Measured**: ", "- **Measured here**: ", "- **Verdict: "):
            (said,) = [line for line in section.splitlines() if line.startswith(part)]
            assert len(said) > len(part) + 20
        assert "`roofline " in section
