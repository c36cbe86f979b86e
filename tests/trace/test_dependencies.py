"""An edit of anything that a person's model depends on is seen, although its analysis is cached."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

import roofline
from roofline import dependencies

MODEL = """
import json
from pathlib import Path
from torch import nn
from widths import FACTOR

def make():
    width = json.loads(Path(__file__).with_name("config.json").read_text())["width"]
    return nn.Linear(8, FACTOR * width)
"""


def analysed(path: Path) -> int:
    return roofline.analyze(f"{path}:make", inputs=("1,8",), device="t4").totals.macs


@pytest.fixture
def model(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "widths", raising=False)  # as in a new process
    (tmp_path / "net.py").write_text(MODEL)
    (tmp_path / "widths.py").write_text("FACTOR = 2\n")
    (tmp_path / "config.json").write_text('{"width": 10}')
    # other tests of this process have left modules behind that were written after it started
    monkeypatch.setattr(dependencies, "_STARTED", time.time() + 0.01)
    time.sleep(0.02)
    return tmp_path / "net.py"


def test_config_file_that_the_model_reads(model: Path) -> None:
    assert analysed(model) == 8 * 20
    assert analysed(model) == 8 * 20
    model.with_name("config.json").write_text('{"width": 30}')
    assert analysed(model) == 8 * 60


def test_module_that_the_model_imports(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert analysed(model) == 8 * 20
    model.with_name("widths.py").write_text("FACTOR = 20\n")
    monkeypatch.delitem(sys.modules, "widths")
    assert analysed(model) == 8 * 200


def test_module_edited_after_it_was_imported_is_not_kept(model: Path) -> None:
    """This process still holds the old one: what it finds must not be filed under the new text."""
    os.utime(model.with_name("config.json"))
    assert analysed(model) == 8 * 20
    model.with_name("widths.py").write_text("FACTOR = 20\n")
    assert analysed(model) == 8 * 20  # the old module, as Python has it
    sys.modules.pop("widths")
    assert analysed(model) == 8 * 200


def test_the_model_itself(model: Path) -> None:
    assert analysed(model) == 8 * 20
    model.write_text(MODEL.replace("FACTOR *", "3 *"))
    assert analysed(model) == 8 * 30


def test_an_unchanged_model_is_answered_from_the_cache(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roofline import pipeline

    assert analysed(model) == 8 * 20

    def never(*_: object, **__: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(pipeline, "trace_source", never)
    assert analysed(model) == 8 * 20
