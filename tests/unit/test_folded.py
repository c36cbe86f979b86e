"""Rows put together where there are too many: sums stay, and what was left out is said."""

from __future__ import annotations

import math

import pytest
from sample import sample

from roofline.analysis.folded import fold, pattern


def test_patterns() -> None:
    assert [pattern(p) for p in ("", "blocks.3.attn", "0.1", "layer1.0")] == ["", "blocks.*.attn", "*.*", "layer1.*"]


def test_few_rows_stay() -> None:
    a = sample()
    found = fold(a)
    assert [row.kernel for row in found.kernels] == a.kernels
    assert {row.number for row in found.kernels} == {1}
    assert [found.layers[row.layer].path for row in found.kernels] == [k.layer for k in a.kernels]
    assert found.notes == []


def test_numbered_siblings_are_one_row_with_their_sums() -> None:
    a = sample(blocks=40)
    found = fold(a, most_layers=60, most_kernels=100)
    rows = {row.path: row for row in found.layers}
    assert len(rows) == len(found.layers) <= 60
    assert rows[""].time_s == a.totals.time_s
    wanted = [k for k in a.kernels if k.layer.startswith("features.") and k.layer.endswith("depthwise.0")]
    assert len(wanted) == 40
    row = rows["features.*.depthwise.*"]
    inside = [k for k in a.kernels if ".depthwise." in k.layer]
    assert (row.kernels, row.flops, row.bytes) == (len(inside), sum(k.flops for k in inside), sum(k.bytes for k in inside))
    assert row.time_s == pytest.approx(math.fsum(k.time_s for k in inside))
    assert row.energy_j == pytest.approx(math.fsum(k.energy_j for k in inside if k.energy_j is not None))
    assert sum(r.number for r in found.kernels) == len(a.kernels)
    assert math.fsum(r.number * r.kernel.time_s for r in found.kernels) == pytest.approx(a.totals.time_s)
    assert [note.split(":")[0].split(" ", 1)[1] for note in found.notes] == ["layers", "kernels"]


def test_rows_that_stay_too_many_are_the_longest() -> None:
    a = sample(blocks=40)
    found = fold(a, most_layers=4, most_kernels=8)
    assert len(found.layers) <= 4
    assert found.layers[0].path == ""
    paths = {row.path for row in found.layers}
    assert all(path == "" or path.rpartition(".")[0] in paths for path in paths)
    assert len(found.kernels) == 8
    assert "of the time together" in found.notes[-1]
    assert all(0 <= row.layer < len(found.layers) for row in found.kernels)
