"""Standard deviations from devices that were left out: what a table of known spread gives."""

from __future__ import annotations

import random
from math import exp, hypot

import msgspec
import pytest
from msgspec.structs import replace

from roofline.devices.library import lookup
from roofline.errors import UsageError
from roofline.files import toml
from roofline.timemodel import uncertainty
from roofline.timemodel.uncertainty import Doubt, Mix, Sure
from roofline.validation import spread
from roofline.validation.accuracy import Prediction
from roofline.validation.spread import Left

CLOCK = (1.0, 0.0, 0.0)


def table(device: str, middle: float, sd: float, rows: int = 200, classes: tuple[str, ...] = ("conv",), **how: object) -> Left:
    """Rows whose logarithms of measured / predicted are normal around a middle; by the clock alone."""
    draw = random.Random(f"{device} {middle} {sd}")
    found = [
        Prediction(
            f"m{i}",
            224,
            1,
            exp(middle + draw.gauss(0, sd)),
            1.0,
            1.0,
            1.0,
            {classes[i % len(classes)]: 1.0},
            "compute",
            rests=CLOCK,
        )
        for i in range(rows)
    ]
    return Left(lookup(device), str(how.get("runtime", "eager")), bool(how.get("training")), found)


def test_the_spread_of_a_table_is_the_models_own() -> None:
    """Around the middle of each table: that is the device's."""
    found = spread.doubts([table("t4", 0.3, 0.1), table("rtx-4090", -0.2, 0.1)])
    assert found.model["gpu_eager"] == pytest.approx(0.1, rel=0.15)
    before = uncertainty.shipped().model
    assert {k: v for k, v in found.model.items() if k != "gpu_eager"} == {k: v for k, v in before.items() if k != "gpu_eager"}
    assert "t4 eager (200 rows)" in found.source


def test_runtimes_and_training_are_apart() -> None:
    found = spread.doubts(
        [table("t4", 0.0, 0.05), table("t4", 0.0, 0.2, runtime="compiled"), table("t4", 0.0, 0.3, training=True)]
    )
    assert found.model["gpu_eager"] < 0.1 < found.model["gpu_compiled"] < 0.25 < found.model["training"]


def test_of_training_steps_eight_of_ten_lie_in_the_whole_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two devices whose steps are off alike beyond their forwards."""
    tables = [
        table(name, middle + step, 0.05, training=bool(step))
        for name, middle in (("t4", 0.05), ("rtx-4090", -0.05))
        for step in (0.0, 0.2)
    ]
    found = spread.doubts(tables)
    assert found.device == spread.doubts([one for one in tables if not one.training]).device
    assert found.model["training"] > 2 * found.model["gpu_eager"]
    monkeypatch.setattr(uncertainty, "shipped", lambda: found)
    steps = [one for one in tables if one.training]
    inside = 0
    for one in steps:
        sure = Sure.of(one.device, "eager", True)
        for p in one.rows:
            low, high = sure.between(p.predicted_s, {"compute": 1.0}, Mix(p.shares, p.single))
            inside += low <= p.measured_s <= high
    assert inside / sum(len(one.rows) for one in steps) == pytest.approx(0.8, abs=0.01)


def test_middles_further_off_widen_the_device() -> None:
    names = ("t4", "rtx-3090", "rtx-4090", "h100-sxm", "v100-sxm2", "p100-pcie")
    near = spread.doubts([table(name, 0.01, 0.05) for name in names])
    far = spread.doubts([table(name, 0.4, 0.05) for name in names])
    before = uncertainty.shipped().device
    assert near.device["gpu"] < before["gpu"] < far.device["gpu"]
    assert near.device["cpu"] == far.device["cpu"] == before["cpu"]
    # a single device says less than six do
    assert before["gpu"] > spread.doubts([table("t4", 0.01, 0.05)]).device["gpu"] > near.device["gpu"]


def test_a_class_that_is_further_off_has_more() -> None:
    sure, unsure = table("t4", 0.0, 0.05), table("t4", 0.0, 0.3, classes=("grouped_conv",))
    found = spread.doubts([replace(sure, rows=[*sure.rows, *unsure.rows])]).classes["gpu"]
    assert found["grouped_conv"] > 1.2 > 1 > found["conv"]


def test_eight_of_ten_rows_lie_within(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the numbers that the tables gave, on other draws of the same spread."""
    names = ("t4", "rtx-3090", "rtx-4090", "h100-sxm", "v100-sxm2", "p100-pcie")
    draw = random.Random(1)
    middles = {name: draw.gauss(0, 0.05) for name in names}
    found = spread.doubts([table(name, middles[name], 0.1) for name in names])
    monkeypatch.setattr(uncertainty, "shipped", lambda: found)
    inside = total = 0
    for name in names:
        one = table(name, middles[name], 0.1000001)
        sure = Sure.of(one.device, "eager", False)
        for p in one.rows:
            low, high = sure.between(p.predicted_s, {"compute": 1.0}, Mix(p.shares, p.single))
            inside += low <= p.measured_s <= high
            total += 1
    assert 0.75 < inside / total < 0.95


def test_what_is_written_is_read_again() -> None:
    found = spread.doubts([table("t4", 0.1, 0.1)])
    again = msgspec.convert(toml(spread.text(found)), Doubt)
    assert again.source == found.source
    assert again.model["gpu_eager"] == pytest.approx(found.model["gpu_eager"], rel=0.01)
    assert again.classes.keys() == found.classes.keys()


def test_nothing_left_out_tells_nothing() -> None:
    with pytest.raises(UsageError, match="no device was left out"):
        spread.doubts([])


def test_a_part_is_less_sure_than_the_whole() -> None:
    """By hand: of one class its own factor, of two the mean of their squares; single kernels add what does not even out."""
    doubt = uncertainty.shipped()
    base, known, single = doubt.model["gpu_eager"], doubt.classes["gpu"], doubt.kernel["gpu"]
    assert uncertainty.own("gpu", "eager", False) == base
    sure = Sure.of(lookup("t4"), "eager", False)
    one = sure.own(Mix({"conv": 2.0}, 4.0))
    assert one == pytest.approx(hypot(base * known["conv"], single))
    mean = (known["conv"] ** 2 + known["norm"] ** 2) / 2
    assert sure.own(Mix({"conv": 1.0, "norm": 1.0}, 0.0)) == pytest.approx(base * mean**0.5)
    many = sure.own(Mix({"conv": 2.0}, 4.0 / 100))
    assert base * known["conv"] < many < one
