"""The committed gallery is what the program says today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MAKE = Path(__file__).resolve().parent.parent / "reports" / "make.py"


def test_the_gallery_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(MAKE), "--check"], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
