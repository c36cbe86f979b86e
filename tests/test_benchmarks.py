"""The benchmark scripts run, and the counts that ours prints there are the published ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "published"),
    # torchvision's `_ops` of the weights, in GMAC
    [("mobilenet_v3_large", 0.217), ("resnet50", 4.089), ("vit_b_16", 17.564)],
)
def test_peers_counts_ours_right(model: str, published: float, tmp_path: Path) -> None:
    answer = tmp_path / "peers.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "peers.py"), "--models", model, "--tools", "roofline", "--processes", "1",
         "--repeats", "1", "--json", str(answer)],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(answer.read_text(encoding="utf-8"))
    ours = document["tools"][model]["roofline"]
    assert document["published"][model] == pytest.approx(published * 1e9)
    assert ours["macs"] == pytest.approx(published * 1e9, rel=0.003)
    assert ours["steady"], "the count changed when the call was repeated"
    assert "| right |" in done.stdout


def test_fits_without_a_device_start_from_round_values() -> None:
    from benchmarks import leave_out
    from roofline import fitting, roof

    shipped = roof.constants("gpu")
    start = leave_out.rounded(shipped)
    assert start.keys() == shipped.keys()
    assert {start[name] for name in start.keys() & fitting.FRACTIONS} == {0.8}
    assert all(0.5 <= start[name] / shipped[name] <= 2 for name in start.keys() - fitting.FRACTIONS)
    assert sum(start[name] == shipped[name] for name in start) < len(start) / 3
