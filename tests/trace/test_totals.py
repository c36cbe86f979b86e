"""What a model costs does not hang on the versions that are installed: totals of many small models, held in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))

import totals


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype")
@pytest.mark.parametrize("name", totals.names())
def test_totals_are_those_of_every_version(name: str) -> None:
    table = totals.known()
    for what, found in totals.totals(name):
        assert found == totals.expected(table, name, what), f"{name}, {what}: `python tests/golden/totals.py` compares all"


def test_a_difference_says_where_and_why() -> None:
    for entry in totals.known()["differs"]:
        assert set(entry) == {"model", "passes", "where", "add", "why"}
        assert entry["where"].keys() <= {"torch", "transformers"}
        assert len(entry["why"]) > 20
        assert set(entry["passes"]) <= totals.known()["totals"][entry["model"]].keys()


def test_a_difference_counts_under_its_versions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "totals": {"net": {"inference": {"kernels": 3, "flops": 10}}},
        "differs": [{"model": "net", "passes": ["inference"], "where": {"torch": "<2.14"}, "add": {"flops": 5}, "why": ""}],
    }
    for met, flops in (("2.9.1+cu128", 15), ("2.13.0", 15), ("2.14.0", 10), ("2.15.0+cpu", 10)):
        monkeypatch.setattr(totals.compat, "version", lambda package, met=met: met)
        assert totals.expected(table, "net", "inference") == {"kernels": 3, "flops": flops}
