"""Energy of whole passes: sums, limits, and beside boards whose power was measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import roofline

ZEUS = Path(__file__).resolve().parents[3] / "shared" / "data" / "measured" / "energy_zeus_training.csv"


def test_energy_is_the_sum_of_its_kernels() -> None:
    a = roofline.analyze("squeezenet1_1", device="rtx-4090", batch=64)
    found = a.totals.energy
    assert found is not None
    assert found.joules == pytest.approx(sum(k.energy_j or 0 for k in a.kernels))
    assert a.layers[0].energy_j == pytest.approx(found.joules)
    assert sum(op.energy_j or 0 for op in a.ops) == pytest.approx(found.joules)
    assert all(
        k.energy_j is not None and 0 < k.energy_j <= found.limit_w * k.time_s * (1 + 1e-9) for k in a.kernels if k.time_s
    )


def test_a_larger_batch_takes_more() -> None:
    found = [roofline.analyze("squeezenet1_1", device="rtx-4090", batch=b).totals.energy for b in (1, 8, 64, 256)]
    joules = [one.joules for one in found if one]
    assert joules == sorted(joules)
    each = [one.per_sample_j for one in found if one]
    assert each[0] > max(each[1:]), "alone it waits for the host, and idles meanwhile"


def test_a_device_without_power_says_so() -> None:
    a = roofline.analyze("squeezenet1_1", device="apple-m1-gpu")
    assert a.totals.energy is None
    assert "apple-m1-gpu" in a.totals.no_energy
    assert a.kernels[0].energy_j is None
    assert "definition" in roofline.analyze("squeezenet1_1", device="t4", runtime="ideal").totals.no_energy


@pytest.mark.skipif(not ZEUS.exists(), reason="the measured power of V100s is not here")
def test_a_v100_in_training() -> None:
    """ResNet-50 in fp32 (364 images a second, no autocast): measured board power, and the energy of an image."""
    with ZEUS.open() as file:
        rows = [
            r for r in csv.DictReader(line for line in file if line[0] != "#") if r["model"] == "resnet50" and r["at_max_limit"]
        ]
    measured = next(r for r in rows if r["batch"] == "64")
    found = roofline.analyze("resnet50", device="v100-pcie", batch=64, training=True).totals.energy
    assert found is not None
    assert found.watts == pytest.approx(float(measured["avg_power_w"]), rel=0.12)
    images = 1_281_167
    assert found.per_sample_j == pytest.approx(float(measured["avg_power_w"]) * float(measured["epoch_s"]) / images, rel=0.2)
