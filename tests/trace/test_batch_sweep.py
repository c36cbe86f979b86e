"""benchmarks/batch_sweep.py: where the flat, launch-bound part of a latency curve ends, and how high it lies."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks import batch_sweep
from roofline.devices import library
from roofline.validation.model_tables import Row, Setting
from roofline.validation.validate import predict

REPO = Path(__file__).resolve().parent.parent.parent
# NVIDIA's published latencies on a T4: data to test against that stands beside the checkout and is no part of it
T4 = REPO.parent / "shared" / "data" / "batch_latency_t4.csv"

Sweeps = dict[tuple[str, str], dict[str, Any]]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(*args: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = batch_sweep.main([str(arg) for arg in args])
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def t4(tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """Every model and precision of the PyTorch rows; autocast ran channels-last there, as the scripts beside the table say."""
    if not T4.is_file():
        pytest.skip(f"no table of measured latencies at ../{T4.relative_to(REPO.parent)} beside the checkout")
    file = tmp_path_factory.mktemp("sweep") / "sweeps.json"
    done = run(T4, "-d", "t4", "--where", "framework=PyTorch", "--layout", "amp=nhwc", "--json", file)
    assert done.code in (0, 1), done.err
    return {(s["model"], s["dtype"]): s for s in json.loads(file.read_text(encoding="utf-8"))}


ALL = [(m, d) for m in ("resnet50", "resnext101_32x4d", "seresnext101_32x4d") for d in ("fp32", "amp")]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "dtype"), ALL)
def test_the_knee_is_right_within_a_factor_of_two(model: str, dtype: str, t4: Sweeps) -> None:
    s = t4[model, dtype]
    assert s["batches"] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    # that what was measured has a flat part, and an end of it
    assert 2 < s["knee_measured"] < 32
    assert 0.5 <= s["ratio"] <= 2, s


@pytest.mark.slow
@pytest.mark.parametrize(("model", "dtype"), ALL)
def test_every_batch_of_the_flat_part_is_within_20_percent(model: str, dtype: str, t4: Sweeps) -> None:
    s = t4[model, dtype]
    assert len(s["flat"]) >= 2
    assert max(map(abs, s["errors"][: len(s["flat"])])) <= 0.20, s


@pytest.mark.slow
@pytest.mark.parametrize(("model", "dtype"), ALL)
def test_the_level_of_the_flat_part_is_within_20_percent(model: str, dtype: str, t4: Sweeps) -> None:
    assert abs(t4[model, dtype]["level_error"]) <= 0.20


@pytest.mark.slow
@pytest.mark.parametrize(("model", "dtype"), ALL)
def test_the_label_of_the_bound_changes_within_a_factor_of_two(model: str, dtype: str, t4: Sweeps) -> None:
    """The word in the table: from `overhead` to another."""
    s = t4[model, dtype]
    first = next(b for b, bound in zip(s["batches"], s["bounds"], strict=True) if bound != "overhead")
    assert 0.5 <= first / s["knee_measured"] <= 2


class TestMadeUp:
    """On a table of our own predictions times a factor, where every answer is known."""

    def table(self, folder: Path, factor: float) -> Path:
        rows = [Row("resnet10t", 64, batch, 1.0) for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
        found, skipped = predict(rows, Setting("fp32", "nchw", "eager"), library.lookup("t4"), jobs=1)
        assert not skipped
        path = folder / "latency.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["framework", "model", "precision", "batch", "latency_avg"])
            for p in found:
                out.writerow(["ours", "ResNet-10t", "FP32", float(p.batch), f"{p.predicted_s * factor * 1e3} ms"])
                out.writerow(["theirs", "ResNet-10t", "FP32", p.batch, "1"])
            out.writerow(["ours", "ResNet-10t", "FP32+X", 1, "1 ms"])
            out.writerow(["ours", "NoNet", "FP32", 1, "1 ms"])
            out.writerow(["ours", "resnet18", "FP32", 1, "1 ms"])
        return path

    def test_a_factor_moves_the_level_and_not_the_knee(self, tmp_path: Path) -> None:
        file = tmp_path / "out.json"
        path = self.table(tmp_path, 1.1)
        done = run(path, "-d", "t4", "--where", "framework=ours", "--size", 64, "--json", file)
        assert done.code == 0, done.err
        (s,) = json.loads(file.read_text(encoding="utf-8"))
        assert (s["model"], s["dtype"], s["layout"]) == ("resnet10t", "fp32", "nchw")
        assert s["ratio"] == pytest.approx(1)
        assert s["level_error"] == pytest.approx(1 / 1.1 - 1)
        assert s["flat"][0] == 1
        assert len(s["bounds"]) == len(s["batches"]) == 9
        left_out = done.out.split("left out:")[1]
        assert "FP32+X" in left_out
        assert "no model of timm reads like 'NoNet'" in left_out
        assert "resnet18 fp32: 1 batches: too few" in left_out

    def test_out_of_the_bars_is_exit_code_1(self, tmp_path: Path) -> None:
        done = run(self.table(tmp_path, 1.3), "-d", "t4", "--where", "framework=ours", "--size", 64)
        assert done.code == 1, done.err
        assert "| -23 % | -23 % | no |" in done.out

    def test_two_times_for_one_batch_are_refused(self, tmp_path: Path) -> None:
        done = run(self.table(tmp_path, 1.0), "-d", "t4", "--size", 64)
        assert done.code == 2
        assert "at batch 1 is there twice: choose with --where" in done.err


def test_the_knee_of_a_known_curve() -> None:
    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    times = [max(10.0, 2.5 * b) for b in batches]
    assert batch_sweep.flat(times) == 3
    assert batch_sweep.knee(batches, times) == 4
    # a slope that is twice as steep ends it at half the batch
    assert batch_sweep.knee(batches, [max(10.0, 5.0 * b) for b in batches]) == 2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("resnet50v1.5", "resnet50"),
        ("resnext101-32x4d", "resnext101_32x4d"),
        ("se-resnext101-32x4d", "seresnext101_32x4d"),
        ("EfficientNet-B0", "efficientnet_b0"),
        ("mobilenetv2_100", "mobilenetv2_100"),
    ],
)
def test_names_of_models(theirs: str, ours: str) -> None:
    assert batch_sweep.timm_name(theirs) == ours
