"""The time model beside models that ran on an H200 (benchmarks/gpu_models.py): what their kernels take, without the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import gpu_models
from roofline import compat
from roofline.cache.store import Cache
from roofline.devices import library
from roofline.validation import model_tables, validate

ROWS = gpu_models.measured()

# model, mode, layout, dtype, batch, runtime: what only a rule of its own gets right, and the band of predicted / measured
CASES = {
    # BatchNorm waits for its channels; depthwise kernels that are PyTorch's own, and their gradients
    ("mobilenetv3_large_100", "train", "nchw", "amp", "192", "eager"): (0.85, 1.15),
    ("resnet18", "train", "nchw", "amp", "192", "eager"): (0.85, 1.15),
    # channels-last: BatchNorm in cuDNN's kernels for it, gradients of groups' weights
    ("resnet50", "train", "nhwc", "amp", "192", "eager"): (0.92, 1.08),
    ("resnext50_32x4d", "train", "nhwc", "amp", "192", "eager"): (0.95, 1.05),
    # groups of 24 channels are spread over 32
    ("regnety_032", "infer", "nhwc", "amp", "256", "eager"): (0.85, 1.15),
    # gradients of LayerNorm and attention, sums down columns
    ("vit_small_patch16_224", "train", "nchw", "amp", "192", "eager"): (0.85, 1.15),
    # gradients of average pools
    ("inception_v3", "train", "nchw", "amp", "192", "eager"): (0.85, 1.15),
    # code that torch.compile generates
    ("resnet50", "infer", "nchw", "amp", "256", "compiled"): (0.85, 1.15),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case))
def test_kernels_of_a_model_take_what_they_took_on_an_h200(case: tuple[str, ...]) -> None:
    pytest.importorskip("timm", reason="the tables are of its models")
    names = ("model", "mode", "layout", "dtype", "batch", "runtime")
    row = next(row for row in ROWS if tuple(row[name] for name in names) == case)
    asked = gpu_models.Case(row["model"], int(row["size"]), int(row["batch"]), *(row[n] for n in gpu_models.COLUMNS[3:7]))
    low, high = CASES[case]
    try:
        found = gpu_models.predicted(asked)
    except (NotImplementedError, RuntimeError) as error:
        if not compat.older(compat.version("timm"), "1.0.31"):
            raise
        pytest.skip(f"timm {compat.version('timm')} makes this model from values: {str(error)[:80]}")
    assert low < found.busy_s * 1e3 / float(row["busy_ms"]) < high


def test_the_rows_are_the_benchmarks_own() -> None:
    assert {row["model"] for row in ROWS} == {*gpu_models.SEEN, *gpu_models.TEXT}
    assert len(ROWS) > 190


def test_they_are_tables_that_validate_reads(tmp_path: Path) -> None:
    gpu_models.tables(tmp_path)
    found = [
        (model_tables.setting(path.name, model_tables.AS_NAMED), len(model_tables.read(path).rows))
        for path in tmp_path.iterdir()
    ]
    assert sorted(rows for _, rows in found) == [5, 8, 8, 12, 12, 40, 48]
    assert {(how.dtype, how.layout, how.runtime, how.training) for how, rows in found if rows in (5, 40, 48)} == {
        ("amp", "nchw", "compiled", False),
        ("amp", "nchw", "eager", True),
        ("amp", "nchw", "eager", False),
    }


def test_forwards_are_predicted_with_the_norms_that_they_ran_with(tmp_path: Path) -> None:
    """An H200 took 183 us for a norm of 256 x 197 x 1024 under autocast: 2.3 TB/s in fp32. timm's own takes halves."""
    pytest.importorskip("timm", reason="the tables are of its models")
    gpu_models.tables(tmp_path)
    (table,) = tmp_path.glob("benchmark-infer-amp-nchw-*-h200.csv")
    (part,) = model_tables.parts(table, model_tables.AS_NAMED)
    row = next(row for row in part.table.rows if row.model.endswith("vit_small_patch16_224"))
    found = validate.trace(row, validate.asked(row, part.how, library.lookup("h200-sxm")), Cache(enabled=False))
    norms = {found.specs[op.spec].outputs[0].dtype for op in found.ops if found.specs[op.spec].name == "aten.layer_norm"}
    assert norms == {"float32"}
