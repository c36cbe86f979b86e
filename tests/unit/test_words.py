"""The words that everybody uses have one table each."""

from __future__ import annotations

import re
from pathlib import Path

from roofline import classes, cost, dtypes
from roofline.cost.registry import RULES
from roofline.errors import close
from roofline.views.style import CLASSES

PACKAGE = Path(classes.__file__).parent


def test_every_class_has_a_name_and_a_colour() -> None:
    cost.complete()
    assert set(CLASSES) == classes.KLASSES
    assert {rule.klass for rule in RULES.values()} <= classes.KLASSES
    assert classes.CALLS | classes.PRODUCTS <= classes.KLASSES
    assert len({n.title for n in classes.NAMES.values()}) == len({n.plural for n in classes.NAMES.values()}) == len(CLASSES)


def test_names_of_dtypes_lead_to_each_other() -> None:
    assert set(dtypes.SHORT) | set(dtypes.TORCH.values()) | dtypes.INPUTS <= set(dtypes.DTYPE_BITS)
    assert all(dtypes.SHORT[dtypes.TORCH[p]] == p for p in dtypes.PEAKS if p in dtypes.TORCH and p != "tf32")
    assert set(dtypes.SETTINGS) == set(dtypes.TORCH) - {"int8"}
    assert set(dtypes.SHORT.values()) <= set(dtypes.PEAKS) == set(dtypes.PEAK_BITS)


def test_no_second_table() -> None:
    """A dict from "float32" to "fp32" or back, or the title of a class, stands in one file."""
    tables = re.compile(r'"float32": "fp32"|"fp32": \(?"float32"|"grouped convolution"')
    found = {p.name for p in PACKAGE.rglob("*.py") if tables.search(p.read_text(encoding="utf-8"))}
    assert found == {"dtypes.py", "classes.py"}


def test_the_nearest_names_are_told_once_each() -> None:
    """Reference models and torchvision's share names."""
    assert close("mobilnet_v2", ["mobilenet_v2", "resnet50", "mobilenet_v2", "mobilenet_v1"], n=3) == [
        "mobilenet_v2",
        "mobilenet_v1",
    ]
