"""What a fit does with constants that its tables tell, and with those that they do not."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from roofline.devices.library import lookup
from roofline.timemodel.constants import shipped
from roofline.validation import fit, leave_out
from roofline.validation.model_tables import AS_NAMED


def test_what_no_row_tells_stays_and_what_rows_tell_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "loss", lambda data, numbers: abs(log(numbers.element / 1.0)))
    near = shipped().gpu
    found, loss = fit.minimise([], replace(near, residency=0.9), lambda text: None, near)
    assert found.element == pytest.approx(1.0, rel=0.03)
    assert near.element < 0.8
    assert loss == pytest.approx(abs(log(found.element)))
    assert found.residency == pytest.approx(near.residency, rel=0.03), "back to where it was known"
    assert found.gemm == near.gemm


def test_a_device_left_out_learns_from_forwards_alone(tmp_path: Path) -> None:
    card = lookup("rtx-3090")
    forward, step = (tmp_path / f"benchmark-{what}-amp-nchw-pt112-cu113-rtx3090.csv" for what in ("infer", "train"))
    for path in (forward, step):
        path.write_text("model,infer_img_size,infer_batch_size,infer_step_time\nresnet50,224,64,60\n", encoding="utf-8")
    pairs = [(forward, card), (step, card)]
    assert leave_out._learnt(pairs, AS_NAMED) == [(forward, card)]
    assert leave_out._learnt(pairs[1:], AS_NAMED) == pairs[1:], "where there is nothing else"


def test_a_table_of_few_rows_counts_by_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rows that are off by e beside forty that are right: (1 / 1.3 * 8 / 40) / (1 + 8 / 40)."""
    monkeypatch.setattr(fit, "predicted", lambda m, numbers: np.ones(len(m.seconds)))
    few, many = (fit.Measured(None, seconds, lookup("t4"), None) for seconds in (np.full(8, np.e), np.ones(40)))  # type: ignore[arg-type]  # no kernels
    found = fit.loss([few, many], shipped().gpu)
    assert found == pytest.approx(0.2 / 1.3 / 1.2)
    assert fit.loss([few, many._replace(seconds=np.ones(115))], shipped().gpu) == pytest.approx(found), "a whole table is one"
