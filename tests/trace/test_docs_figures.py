"""Figures that a page gives for a command, beside what the command gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import roofline

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_t4_of_the_time_model() -> None:
    page = (DOCS / "time-model.md").read_text(encoding="utf-8")
    single, half, host = (
        float(re.search(words, page)[1])  # type: ignore[index]  # a page without the words fails here, as it should
        for words in (r"gives ([\d.]+) ms for ResNet-50", r"and ([\d.]+) ms under autocast", r"(\d+) us on the T4")
    )
    a = roofline.analyze("resnet50", device="t4")
    b = roofline.analyze("resnet50", device="t4", dtype="amp")
    assert a.totals.time_s * 1e3 == pytest.approx(single, abs=0.006)
    assert b.totals.time_s * 1e3 == pytest.approx(half, abs=0.06)
    assert a.setting.host_s == pytest.approx(host * 1e-6)
