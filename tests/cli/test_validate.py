"""`roofline validate` on tables that the tests write: our own predictions times known factors, so every error is known."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli

from roofline import cli
from roofline.devices import library
from roofline.timemodel.constants import shipped
from roofline.validation import fit, leave_out, validate
from roofline.validation.accuracy import Prediction
from roofline.validation.model_tables import Row, Setting

Capture = pytest.CaptureFixture[str]
HEADER = ("model", "infer_img_size", "infer_batch_size", "infer_step_time", "param_count")
ROWS = (
    ("resnet10t", 64, 8),
    ("resnet10t", 64, 64),
    ("resnet18", 64, 32),
    ("resnet18", 64, 128),
    ("mobilenetv2_050", 64, 128),
    ("regnetx_002", 64, 256),
    ("resnet10t", 96, 128),
    ("resnet18", 96, 256),
)
# measured / predicted
FACTORS = (1.25, 0.8, 1.0, 2.0, 1.1, 0.95, 0.5, 1.02)
ERRORS = sorted(abs(1 / f - 1) for f in FACTORS)


@pytest.fixture(autouse=True)
def shipped_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--constants` holds for the rest of a process: here, for one test."""
    monkeypatch.setenv("ROOFLINE_CONSTANTS", "")


def predictions(target: str, how: Setting, rows: Sequence[tuple[str, int, int]] = ROWS) -> list[Prediction]:
    found, skipped = validate.predict([Row(m, s, b, 1.0) for m, s, b in rows], how, library.lookup(target), jobs=1)
    assert skipped == []
    return found


@pytest.fixture(scope="module")
def t4() -> list[Prediction]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOFLINE_CONSTANTS", "")
        return predictions("t4", Setting("fp32", "nchw", "eager"))


def write(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def lines(found: Sequence[Prediction], factors: Sequence[float]) -> list[tuple[object, ...]]:
    """Lines of one of timm's tables, with times in ms."""
    return [(p.model, p.size, p.batch, repr(p.predicted_s * f * 1e3), "") for p, f in zip(found, factors, strict=True)]


@pytest.fixture
def table(t4: list[Prediction], tmp_path: Path) -> Path:
    # param_count left out: it says whether a model was timed re-parameterised
    return write(tmp_path / "times-fp32-nchw.csv", [row[:-1] for row in lines(t4, FACTORS)], HEADER[:-1])


def document(capsys: Capture, *args: object) -> Any:
    capsys.readouterr()
    assert cli.main(["validate", *map(str, args), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: Capture, *args: object) -> str:
    """What is said of a wrong use, in one or two lines."""
    assert cli.main(["validate", *map(str, args)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) <= 2
    return captured.err


class TestErrors:
    def test_json(self, table: Path, t4: list[Prediction], capsys: Capture) -> None:
        v = document(capsys, table, "-d", "t4")
        assert set(v) == {
            "table", "device", "tier", "runtime", "dtype", "layout", "rows", "skipped", "median_ape", "mean_ape", "p90_ape",
            "spearman", "median_ratio", "baselines", "worst", "impossible", "by_class",
        }  # fmt: skip
        assert (v["table"], v["device"], v["tier"], v["rows"], v["skipped"]) == (table.name, "t4", "datasheet", 8, [])
        assert (v["dtype"], v["layout"], v["runtime"]) == ("fp32", "nchw", "eager")
        assert v["median_ape"] == pytest.approx(float(np.median(ERRORS)))
        assert v["mean_ape"] == pytest.approx(float(np.mean(ERRORS)))
        assert v["p90_ape"] == pytest.approx(float(np.percentile(ERRORS, 90)))
        assert v["median_ratio"] == pytest.approx(float(np.median([1 / f for f in FACTORS])))
        ours = np.array([p.predicted_s for p in t4])
        ranks = [np.argsort(np.argsort(x)) for x in (ours, ours * FACTORS)]
        assert v["spearman"] == pytest.approx(float(np.corrcoef(*ranks)[0, 1]))
        assert v["spearman"] < 1, "the factors were to change the order"

    def test_each_row_is_predicted_as_it_was_measured(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        """Rows of two dtypes in one file: every one is our own prediction in its dtype, so no error is left."""
        halves = predictions("t4", Setting("amp", "nchw", "eager"))
        both = [
            (*row[:4], dtype) for found, dtype in ((t4, "fp32"), (halves, "amp")) for row in lines(found, [1.0] * len(found))
        ]
        path = write(tmp_path / "times.csv", both[::3], (*HEADER[:-1], "dtype"))
        one, other = document(capsys, path, "-d", "t4")["validations"]
        assert [(v["table"], v["dtype"], v["rows"]) for v in (one, other)] == [
            ("times.csv (fp32)", "fp32", 3),
            ("times.csv (amp)", "amp", 3),
        ]
        assert max(one["mean_ape"], other["mean_ape"]) < 1e-9
        assert document(capsys, path, "-d", "t4", "--dtype", "fp32")["mean_ape"] > 0.1
        assert "give a table of each" in refused(capsys, path, "-d", "t4", "-o", tmp_path / "x.png")

    def test_the_baselines_are_those_of_a_plain_roofline_and_of_flops(
        self, table: Path, t4: list[Prediction], capsys: Capture
    ) -> None:
        baselines = document(capsys, table, "-d", "t4")["baselines"]
        assert set(baselines) == {"roofline", "flops"}
        measured = np.array([p.predicted_s for p in t4]) * FACTORS
        for name, theirs in (("roofline", [p.roofline_s for p in t4]), ("flops", [p.flops_s for p in t4])):
            assert set(baselines[name]) == {"median_ape", "mean_ape", "p90_ape", "spearman", "median_ratio"}
            assert baselines[name]["mean_ape"] == pytest.approx(float(np.mean(abs(theirs - measured) / measured)))
        assert all(0 < p.flops_s < p.roofline_s for p in t4)

    def test_the_worst_rows_come_first_with_where_to_look(self, table: Path, capsys: Capture) -> None:
        worst = document(capsys, table, "-d", "t4")["worst"]
        off = [max(w["ratio"], 1 / w["ratio"]) for w in worst]
        assert off == sorted(off, reverse=True)
        assert off == pytest.approx(sorted((max(f, 1 / f) for f in FACTORS), reverse=True))
        assert {w["model"] for w in worst[:2]} == {"resnet18", "resnet10t"}  # half and twice
        for w in worst:
            assert w["ratio"] == pytest.approx(w["predicted_s"] / w["measured_s"])
            assert w["why"].startswith("predicted as ")
            assert "% " in w["why"]

    def test_text(self, table: Path, capsys: Capture) -> None:
        assert cli.main(["validate", str(table), "-d", "t4"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        text = captured.out.splitlines()
        assert text[0] == f"{table.name} on t4 (datasheet tier): fp32, nchw, eager"
        assert text[1] == "8 rows predicted, 0 skipped"
        assert text[3].split() == ["median", "mean", "90th", "pct", "Spearman", "pred/meas"]
        (ours,) = (line for line in text if line.strip().startswith("this model"))
        numbers = [float(np.median(ERRORS)), float(np.mean(ERRORS)), float(np.percentile(ERRORS, 90))]
        assert ours.replace(" %", "%").split()[2:5] == [f"{n:.1%}" for n in numbers]
        assert any(line.strip().startswith("plain roofline") for line in text)
        assert any(line.strip().startswith("FLOPs over peak") for line in text)
        worst = text[text.index("worst rows, predicted / measured, and what the prediction is made of:") + 1 :][: len(ROWS)]
        assert {line.split()[0] for line in worst} == {model for model, _, _ in ROWS}
        assert all("-bound: " in line for line in worst)
        assert "x2.00" in worst[0] or "x0.50" in worst[0]
        assert "skipped:" not in text
        assert max(map(len, text)) <= 128

    def test_a_class_of_kernel_counts_where_it_takes_a_quarter(
        self, table: Path, t4: list[Prediction], capsys: Capture
    ) -> None:
        by_class = document(capsys, table, "-d", "t4")["by_class"]
        for klass in {k for p in t4 for k in p.shares}:
            heavy = [1 / f for p, f in zip(t4, FACTORS, strict=True) if p.shares.get(klass, 0) >= 0.25]
            assert (klass in by_class) == bool(heavy)
            if heavy:
                assert by_class[klass]["rows"] == len(heavy)
                assert by_class[klass]["median_ratio"] == pytest.approx(float(np.median(heavy)))
        assert "conv" in by_class

    def test_a_measurement_beyond_the_peak_is_impossible(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        three = t4[:3]
        # 1.5 times the peak, just below it, and as predicted
        factors = [three[0].flops_s / three[0].predicted_s / 1.5, three[1].flops_s / three[1].predicted_s * 1.01, 1.0]
        path = write(tmp_path / "a.csv", lines(three, factors))
        (found,) = document(capsys, path, "-d", "t4")["impossible"]
        assert (found["model"], found["batch"]) == (three[0].model, three[0].batch)
        assert found["times_peak"] == pytest.approx(1.5)
        assert cli.main(["validate", str(path), "-d", "t4"]) == 0
        out = capsys.readouterr().out
        assert "measured faster than the device's peak allows" in out
        assert "1.50 times the peak" in out


class TestSetting:
    @pytest.mark.parametrize(
        ("name", "options", "expected"),
        [
            ("times-amp-nhwc-pt240.csv", (), ("amp", "nhwc", "eager")),
            ("times-amp-channels-last.csv", (), ("amp", "nhwc", "eager")),
            ("times-fp16-nchw-dynamo.csv", (), ("fp16", "nchw", "compiled")),
            ("last-times.csv", (), ("fp32", "nchw", "eager")),
            (
                "times-amp-nhwc-dynamo.csv",
                ("--dtype", "fp32", "--layout", "nchw", "--runtime", "eager"),
                ("fp32", "nchw", "eager"),
            ),
            ("times.csv", ("--dtype", "amp", "--layout", "nhwc", "--runtime", "compiled"), ("amp", "nhwc", "compiled")),
        ],
    )
    def test_from_the_file_name_and_by_options(
        self, name: str, options: tuple[str, ...], expected: tuple[str, str, str], tmp_path: Path, capsys: Capture
    ) -> None:
        """The setting is not only printed: the prediction is the one in it."""
        row = ("resnet10t", 64, 64)
        (there,) = predictions("t4", Setting(*expected), [row])
        path = write(tmp_path / name, lines([there], [1.0]))
        v = document(capsys, path, "-d", "t4", *options)
        assert (v["dtype"], v["layout"], v["runtime"]) == expected
        assert v["mean_ape"] == pytest.approx(0, abs=1e-9)

    def test_settings_differ(self) -> None:
        """What makes the test above able to fail."""
        hows = [("fp32", "nchw", "eager"), ("amp", "nchw", "eager"), ("amp", "nhwc", "eager"), ("amp", "nhwc", "compiled")]
        # a large batch: a small one is launch-bound in any layout
        times = [predictions("t4", Setting(*how), [("resnet10t", 64, 256)])[0].predicted_s for how in hows]
        assert len(set(times)) == 4

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--dtype", "bf16"), "t4 has no bf16 peak: the nearest it has is fp16"),
            (("--dtype", "int8"), "cannot be traced in 'int8'"),
            (("--dtype", "fp61"), "fp61"),
            (("--layout", "hwcn"), "hwcn"),
            (("--limit", "0"), "--limit"),
        ],
    )
    def test_refused(self, options: tuple[str, ...], words: str, table: Path, capsys: Capture) -> None:
        assert words in refused(capsys, table, "-d", "t4", *options)

    def test_a_device_is_needed_and_known(self, table: Path, capsys: Capture) -> None:
        assert "has no column 'device'" in refused(capsys, table)
        assert "rtx-4090" in refused(capsys, table, "-d", "rtx-4091")


class TestRows:
    def test_each_names_its_device(self, tmp_path: Path, capsys: Capture) -> None:
        """By name or alias; what is no device is skipped once, with the nearest name."""
        row = ("resnet10t", 64, 64)
        seconds = {
            name: predictions(name, Setting("fp32", "nchw", "eager"), [row])[0].predicted_s for name in ("t4", "rtx-3090")
        }
        named = [("t4", "t4"), ("Tesla T4", "t4"), ("RTX 3090", "rtx-3090"), ("rtx-3091", "t4"), ("", "t4")]
        rows = [(*row, repr(seconds[name] * 1e3), called) for called, name in named]
        mine = write(tmp_path / "mine.csv", rows, ("model", "size", "batch", "ms", "device"))
        one, other = document(capsys, mine)["validations"]
        assert [(v["device"], v["rows"]) for v in (one, other)] == [("t4", 2), ("rtx-3090", 1)]
        assert one["mean_ape"] == pytest.approx(0, abs=1e-9)
        assert other["mean_ape"] == pytest.approx(0, abs=1e-9)
        assert "unknown device 'rtx-3091'" in str(one["skipped"])
        assert "rtx-3090" in str(one["skipped"])
        assert "the row names no device" in str(one["skipped"])
        assert (len(one["skipped"]), other["skipped"]) == (2, [])
        assert document(capsys, mine, "-d", "t4")["rows"] == 5, "an option holds for all rows"
        assert "give -d once for each table" in refused(capsys, mine, "--fit", tmp_path / "fit.toml")

    def test_none_of_them_known(self, tmp_path: Path, capsys: Capture) -> None:
        mine = write(tmp_path / "mine.csv", [("resnet18", 1, "rtx-4091")], ("model", "ms", "device"))
        assert "rtx-4090" in refused(capsys, mine)

    def test_a_sample_is_repeatable(self, table: Path, capsys: Capture) -> None:
        def sample(seed: int) -> list[tuple[str, int, int]]:
            v = document(capsys, table, "-d", "t4", "--limit", 3, "--seed", seed)
            assert v["rows"] == 3
            return sorted((w["model"], w["size"], w["batch"]) for w in v["worst"])

        first = [sample(seed) for seed in range(4)]
        assert [sample(seed) for seed in range(4)] == first
        assert len({str(s) for s in first}) > 1
        assert document(capsys, table, "-d", "t4", "--limit", 99)["rows"] == len(ROWS)

    def test_columns_of_other_names_and_units(self, t4: list[Prediction], table: Path, tmp_path: Path, capsys: Capture) -> None:
        rows = [(p.model, p.size, p.batch, repr(p.predicted_s * f * 1e6)) for p, f in zip(t4, FACTORS, strict=True)]
        mine = write(tmp_path / "mine.csv", rows, ("net", "pixels", "n", "latency_us"))
        columns = ("model=net", "size=pixels", "batch=n", "us=latency_us")
        v = document(capsys, mine, "-d", "t4", *(arg for c in columns for arg in ("--column", c)))
        theirs = document(capsys, table, "-d", "t4")
        assert {k: v[k] for k in ("rows", "spearman")} == {k: theirs[k] for k in ("rows", "spearman")}
        assert v["mean_ape"] == pytest.approx(theirs["mean_ape"])

    def test_a_missing_column_is_named_with_the_nearest(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        path = write(tmp_path / "a.csv", lines(t4, FACTORS), (*HEADER[:3], "infer_time", HEADER[4]))
        said = refused(capsys, path, "-d", "t4")
        assert "a.csv has no column 'infer_step_time'; is it 'infer_time'? then give --column ms=infer_time" in said
        assert document(capsys, path, "-d", "t4", "--column", "ms=infer_time")["rows"] == len(ROWS)
        assert "did you mean 'infer_time'?" in refused(capsys, path, "-d", "t4", "--column", "ms=infer_tim")
        assert "unknown column" in refused(capsys, path, "-d", "t4", "--column", "times=infer_time")
        assert "expected ARG=VALUE" in refused(capsys, path, "-d", "t4", "--column", "ms")

    def test_what_cannot_be_predicted_is_listed(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        bad = [
            ("resnet_9000", 64, 8, 1.0, ""),
            ("resnet18", 64, 8, "n/a", ""),
            ("resnet18", "inf", 8, 1.0, ""),
            ("resnet18", 64, 0, 1.0, ""),
            ("resnet18", 64, 8, -3.0, ""),
        ]
        path = write(tmp_path / "a.csv", [*lines(t4[:1], [1.25]), *bad])
        # a comment and an empty line move all others down, and the lines are those of the file
        path.write_text("# made up\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
        v = document(capsys, path, "-d", "t4")
        assert v["rows"] == 1
        assert v["mean_ape"] == pytest.approx(0.2)
        why = [(s["model"], s["why"]) for s in v["skipped"]]
        assert [model for model, _ in why] == ["resnet18"] * 4 + ["resnet_9000"]
        assert [text.partition(":")[0] for _, text in why[:4]] == ["line 6", "line 7", "line 8", "line 9"]
        assert "unknown model 'resnet_9000'" in why[4][1]
        assert cli.main(["validate", str(path), "-d", "t4"]) == 0
        out = capsys.readouterr().out
        assert "1 rows predicted, 5 skipped" in out
        assert "  resnet_9000: unknown model" in out

    def test_a_table_with_nothing_to_predict_says_why(self, tmp_path: Path, capsys: Capture) -> None:
        path = write(tmp_path / "a.csv", [("resnet18", 64, 0, 1.0, ""), ("resnet_9000", 64, 8, 1.0, "")])
        assert "no row could be predicted; resnet_9000: unknown model" in refused(capsys, path, "-d", "t4")
        assert "cannot read the table" in refused(capsys, tmp_path / "gone.csv", "-d", "t4")
        assert "holds no rows" in refused(capsys, write(tmp_path / "b.csv", []), "-d", "t4")

    def test_any_model_may_have_been_measured_channels_last(self, tmp_path: Path, capsys: Capture) -> None:
        found = {}
        for layout in ("nchw", "nhwc"):
            path = write(tmp_path / f"amp-{layout}.csv", [("torchvision:resnet18", 224, 256, 20.0, "")])
            found[layout] = document(capsys, path, "-d", "a100-sxm-80gb")["worst"][0]["predicted_s"]
        assert found["nhwc"] < found["nchw"]

    def test_a_file_of_ones_own_is_predicted_as_it_is_now(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.chdir(tmp_path)
        net = "from torch import nn\n\nclass Net(nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, {}, 3)\n"
        path = write(tmp_path / "mine.csv", [("net.py:Net", 64, 64, 1.0, "")])
        found = []
        for width in (32, 512):
            (tmp_path / "net.py").write_text(net.format(width), encoding="utf-8")
            found.append(document(capsys, path, "-d", "t4", "--own-models")["worst"][0]["predicted_s"])
        assert found[1] > 4 * found[0]

    def test_a_table_runs_no_code_unless_it_is_said_to_be_ones_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        """A table is data: it may have come from anywhere, and so may the folder that it is read in."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        mark = tmp_path / "ran"
        (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n", encoding="utf-8")
        for model in ("evil.py:Net", "evil:Net", f"{tmp_path}/evil.py:Net", "os:getcwd"):
            words = refused(capsys, write(tmp_path / "a.csv", [(model, 64, 8, 1.0, "")]), "-d", "t4")
            assert f"{model} is code, which a table does not run; give --own-models if the table is your own" in words
        assert not mark.exists()
        assert "evil" not in sys.modules

    def test_processes_change_nothing(self, t4: list[Prediction], tmp_path: Path, run_cli: RunCli) -> None:
        path = write(tmp_path / "many.csv", lines(t4, FACTORS) * 5)
        one, two = (run_cli("validate", str(path), "-d", "t4", "--jobs", jobs, "--json") for jobs in ("1", "2"))
        assert one.returncode == 0, one.stderr
        assert json.loads(one.stdout)["rows"] == 40
        assert two.stdout == one.stdout


class TestScatter:
    @pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG\r\n\x1a\n"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
    def test_written(self, suffix: str, magic: bytes, table: Path, tmp_path: Path, capsys: Capture) -> None:
        chart = tmp_path / f"scatter{suffix}"
        assert cli.main(["validate", str(table), "-d", "t4", "-o", str(chart)]) == 0
        assert capsys.readouterr().out.startswith(table.name)
        data = chart.read_bytes()
        assert data.startswith(magic)
        if suffix == ".png":
            from matplotlib import image

            pixels = image.imread(chart)
            assert pixels.shape[:2] == (900, 960)
            assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20

    def test_on_dark_paper(self, table: Path, tmp_path: Path, capsys: Capture) -> None:
        from matplotlib import image

        corners = []
        for more in ([], ["--dark"]):
            chart = tmp_path / "x.png"
            assert cli.main(["validate", str(table), "-d", "t4", "-o", str(chart), *more]) == 0
            corners.append(image.imread(chart)[0, 0, :3].mean())
        assert corners[0] > 0.9
        assert corners[1] < 0.2
        capsys.readouterr()
        assert "--dark is about pictures, and none is written" in refused(capsys, table, "-d", "t4", "--dark")

    def test_refused_before_any_work(
        self, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.setattr(validate, "predict", lambda *_, **__: pytest.fail("predicted first"))
        before = sorted(tmp_path.iterdir())
        assert "a plot ends in .png, .svg or .pdf" in refused(capsys, table, "-d", "t4", "-o", tmp_path / "a.jpg")
        assert "no directory" in refused(capsys, table, "-d", "t4", "-o", tmp_path / "gone" / "a.png")
        assert "one table" in refused(capsys, table, table, "-d", "t4", "-o", tmp_path / "a.png")
        assert sorted(tmp_path.iterdir()) == before


class TestConstants:
    def test_used(self, table: Path, tmp_path: Path, capsys: Capture) -> None:
        plain = document(capsys, table, "-d", "t4")["median_ratio"]
        file = tmp_path / "slow.toml"
        file.write_text(f"[gpu]\ndrain = {100 * shipped().gpu.drain}\n", encoding="utf-8")
        assert document(capsys, table, "-d", "t4", "--constants", file)["median_ratio"] > 1.2 * plain

    def test_refused(self, table: Path, tmp_path: Path, capsys: Capture) -> None:
        file = tmp_path / "mine.toml"
        assert "cannot read the constants" in refused(capsys, table, "-d", "t4", "--constants", file)
        file.write_text("[gpu]\nspeed_of_everything = 1\n", encoding="utf-8")
        assert "[gpu] has unknown constants: speed_of_everything" in refused(capsys, table, "-d", "t4", "--constants", file)
        for text, said in (
            ("[gpu]\nconv = 'x'\n", "[gpu] conv: expected a number from 1e-06 to 1 (a fraction), got 'x'"),
            ("[gpu]\nconv = 0\n", "[gpu] conv: expected a number from 1e-06 to 1 (a fraction), got 0"),
            ("gpu = 1\n", "'gpu' is no table of constants"),
            ("[gpus]\nconv = 1\n", "'gpus' is no table of constants; did you mean 'gpu'?"),
        ):
            file.write_text(text, encoding="utf-8")
            assert said in refused(capsys, table, "-d", "t4", "--constants", file)
        file.write_text("[gpu\n", encoding="utf-8")
        assert "cannot read the constants" in refused(capsys, table, "-d", "t4", "--constants", file)

    def test_fitted(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        """A machine half as fast as ours is fitted, written, and read back."""
        large = [p for p in t4 if p.batch >= 64]
        path = write(tmp_path / "slow-fp32.csv", lines(large, [2.0, 1.9, 2.1, 2.05, 2.0, 1.95]))
        before = document(capsys, path, "-d", "t4")
        file = tmp_path / "fitted.toml"
        assert cli.main(["validate", str(path), "-d", "t4", "--fit", str(file)]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"wrote {file}: use it with --constants {file}" in captured.err
        losses = [float(line.split()[-1]) for line in captured.err.splitlines() if "loss" in line]
        assert losses == sorted(losses, reverse=True)
        assert file.read_text(encoding="utf-8").startswith('[gpu]\nsource = "roofline validate --fit on slow-fp32.csv (t4)"\n')
        after = document(capsys, path, "-d", "t4", "--constants", file)
        assert before["mean_ape"] == pytest.approx(0.5, abs=0.03)
        assert after["mean_ape"] < before["mean_ape"] / 3

    def test_a_fit_is_refused_before_any_work(
        self, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.setattr(validate, "trace", lambda *_, **__: pytest.fail("traced first"))
        assert "to a .toml file" in refused(capsys, table, "-d", "t4", "--fit", tmp_path / "a.json")
        assert "no directory" in refused(capsys, table, "-d", "t4", "--fit", tmp_path / "gone" / "a.toml")
        assert "--json" in refused(capsys, table, "-d", "t4", "--fit", tmp_path / "a.toml", "--json")
        both = (table, table, "-d", "t4", "-d", "i9-10940x", "--fit", tmp_path / "a.toml")
        assert "one kind at a time" in refused(capsys, *both)


class TestLeaveOut:
    def test_each_device_by_the_other(
        self, t4: list[Prediction], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        """Tables that the shipped constants made: fits from round values come near them, and say who was left out."""
        monkeypatch.setattr(leave_out, "ROUNDS", 1)
        monkeypatch.setattr(fit, "ROUNDS", 1)
        other = predictions("rtx-3090", Setting("fp32", "nchw", "eager"), ROWS[3:6])
        a = write(tmp_path / "a.csv", lines(t4[3:6], [1.0] * 3))
        b = write(tmp_path / "b.csv", lines(other, [1.0] * 3))
        file = tmp_path / "report.md"
        found = document(capsys, a, b, "-d", "t4", "-d", "rtx-3090", "--leave-out", "-o", file)
        assert [(one["device"], one["table"], one["rows"]) for one in found["left_out"]] == [
            ("t4", "a.csv", 3),
            ("rtx-3090", "b.csv", 3),
        ]
        for one in found["left_out"]:
            assert 0.5 < one["ours"]["median_ratio"] < 2
            assert one["ours"]["median_ape"] < one["baselines"]["flops"]["median_ape"]
            assert 0 < one["half_width"] < 0.5
        assert set(found["clusters"]) == {"device", "class", "family"}
        assert "| rtx-3090 | b.csv | 3 |" in file.read_text()

    def test_refused(self, table: Path, tmp_path: Path, capsys: Capture) -> None:
        both = (table, table, "-d", "t4", "-d", "rtx-3090", "--leave-out")
        assert "no device can be left out" in refused(capsys, table, "-d", "t4", "--leave-out")
        assert "--fit beside --leave-out" in refused(capsys, *both, "--fit", tmp_path / "a.toml")
        assert "--jobs beside --leave-out" in refused(capsys, *both, "--jobs", 2)
        assert "ends in .json, .csv, .md" in refused(capsys, *both, "-o", tmp_path / "a.png")


class TestSeveral:
    def test_each_with_its_device(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        how = Setting("fp32", "nchw", "eager")
        other = predictions("rtx-3090", how, ROWS[:3])
        a = write(tmp_path / "a.csv", lines(t4[:2], [1.25, 1.25]))
        b = write(tmp_path / "b.csv", lines(other, [0.8, 0.8, 0.8]))
        first, second = document(capsys, a, b, "-d", "t4", "-d", "rtx-3090")["validations"]
        assert (first["table"], first["device"], first["rows"]) == ("a.csv", "t4", 2)
        assert (second["table"], second["device"], second["rows"]) == ("b.csv", "rtx-3090", 3)
        assert (first["mean_ape"], second["mean_ape"]) == (pytest.approx(0.2), pytest.approx(0.25))
        assert cli.main(["validate", str(a), str(b), "-d", "t4", "-d", "rtx-3090"]) == 0
        out = capsys.readouterr().out
        assert "a.csv on t4" in out
        assert "b.csv on rtx-3090" in out

    def test_one_device_for_all(self, table: Path, capsys: Capture) -> None:
        found = document(capsys, table, table, "-d", "t4")["validations"]
        assert [v["device"] for v in found] == ["t4", "t4"]

    def test_another_number_of_devices(self, table: Path, capsys: Capture) -> None:
        said = refused(capsys, table, table, table, "-d", "t4", "-d", "rtx-3090")
        assert "3 tables and 2 devices" in said
        assert "2 devices" in refused(capsys, table, "-d", "t4", "-d", "rtx-3090")


class TestOperators:
    CONV = ("device", "N", "Cin", "Cout", "k", "HW_in", "stride", "pad", "ms")

    def test_convolutions(self, tmp_path: Path, capsys: Capture) -> None:
        rows = [
            ("Tesla T4", 8, 64, 128, 3, 56, 1, 1, 5.0),
            ("Tesla T4", 8, 64, 128, 1, 56, 1, 0, 1.0),
            ("Tesla T4", 8, 64, 128, 3, 56, 1, 1, 0.05),  # mostly launch: left out
            ("Tesla V100-PCIE-32GB", 8, 64, 128, 3, 56, 1, 1, 1.0),  # not this device
            ("Tesla T4", 8, 64, 128, 9, 4, 1, 0, 1.0),  # does not fit
            ("Tesla T4", 8, 64, "many", 3, 56, 1, 1, 1.0),
            ("Tesla T4", 8, 64, 128, 3, 56, 1, 1, "fast"),
        ]
        path = write(tmp_path / "conv.csv", rows, self.CONV)
        v = document(capsys, path, "-d", "t4")
        assert (v["rows"], v["dtype"], v["layout"], v["runtime"]) == (2, "fp32", "nchw", "eager")
        assert sorted(w["model"] for w in v["worst"]) == ["conv2d line 2", "conv2d line 3"]
        assert [s["why"].partition(":")[0] for s in v["skipped"]] == ["line 6", "line 7", "line 8"]
        # 2 FLOPs x 8 images x 56^2 pixels x 64 x 128 x 9 taps on 8.14 TFLOP/s
        share = 2 * 8 * 56**2 * 64 * 128 * 9 / 8.14e12 / 5e-3
        fast = write(tmp_path / "fast.csv", [(*rows[0][:-1], 5.0 * share / 2)], self.CONV)
        (impossible,) = document(capsys, fast, "-d", "t4")["impossible"]
        assert impossible["times_peak"] == pytest.approx(2, rel=0.01)
        other = document(capsys, path, "-d", "v100-pcie")
        assert other["rows"] == 1
        assert "no rows over 0.1 ms for rtx-3090; it has Tesla T4" in refused(capsys, path, "-d", "rtx-3090")

    def test_products_and_elementwise(self, tmp_path: Path, capsys: Capture) -> None:
        gemm = write(
            tmp_path / "gemm.csv",
            [("bmm", 16, 512, 512, 512, 1.0), ("linear", 1, 4096, 1024, 4096, 8.0), ("qr", 1, 8, 8, 8, 1.0)],
            ("op", "B", "M", "N", "K", "ms"),
        )
        v = document(capsys, gemm, "-d", "t4")
        assert (v["rows"], set(v["by_class"])) == (2, {"gemm"})
        assert [(s["model"], s["why"].partition(";")[0]) for s in v["skipped"]] == [
            ("qr", "line 4: unknown operator 'qr' in the table")
        ]
        vec = write(
            tmp_path / "vec.csv",
            [("add", 4096, 4096, 0.9), ("ln", 4096, 1024, 0.2), ("softmax", 4096, 1024, 0.2), ("sort", 64, 64, 1.0)],
            ("op", "B", "H", "ms"),
        )
        v = document(capsys, vec, "-d", "t4")
        assert (v["rows"], set(v["by_class"])) == (3, {"pointwise", "norm", "softmax"})
        ((skipped, why),) = [(s["model"], s["why"]) for s in v["skipped"]]
        assert skipped == "sort"
        assert "unknown operator 'sort'" in why
        # three tensors of 64 MiB at 320 GB/s take 0.63 ms; near that, a prediction of 0.9 is not far
        (add,) = (w for w in v["worst"] if w["model"] == "add line 2")
        assert 0.63e-3 < add["predicted_s"] < 1e-3
        assert document(capsys, vec, "-d", "t4", "--limit", 2)["rows"] == 2

    def test_refused(self, tmp_path: Path, capsys: Capture) -> None:
        path = write(tmp_path / "conv.csv", [("", 8, 64, 128, 3, 56, 1, 1, 5.0)], self.CONV)
        assert "in fp32: --dtype amp cannot be" in refused(capsys, path, "-d", "t4", "--dtype", "amp")
        assert "in eager: --runtime compiled" in refused(capsys, path, "-d", "t4", "--runtime", "compiled")
        assert "leave --column out" in refused(capsys, path, "-d", "t4", "--column", "ms=ms")
        assert document(capsys, path, "-d", "t4", "--dtype", "fp32")["rows"] == 1
        less = write(tmp_path / "less.csv", [(8, 64, 128, 3, 5.0)], ("N", "Cin", "Cout", "k", "ms"))
        assert "no column 'HW_in'" in refused(capsys, less, "-d", "t4")


class TestUndefined:
    """What has no meaning is n/a and null, and what was assumed is said."""

    def table(self, folder: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER[:-1]) -> Path:
        return write(folder / "times-fp32.csv", rows, header)

    @pytest.mark.parametrize(("rows", "rho"), [(1, None), (2, None), (3, 1.0)])
    def test_no_rank_below_three_rows(
        self, rows: int, rho: float | None, t4: list[Prediction], tmp_path: Path, capsys: Capture
    ) -> None:
        path = self.table(tmp_path, [row[:-1] for row in lines(t4[:rows], [1.0] * rows)])
        v = document(capsys, path, "-d", "t4")
        assert v["spearman"] == rho
        assert (v["baselines"]["flops"]["spearman"] is None) == (rho is None)
        assert v["median_ape"] == pytest.approx(0, abs=1e-9)  # one row has an error, and no order
        assert cli.main(["validate", str(path), "-d", "t4"]) == 0
        (ours,) = (line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("this model"))
        assert ours.split()[-2] == ("n/a" if rho is None else "1.0000")

    def test_equal_measurements_have_no_order(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        path = self.table(tmp_path, [(p.model, p.size, p.batch, 5.0) for p in t4[:4]])
        assert document(capsys, path, "-d", "t4")["spearman"] is None

    def test_equal_predictions_have_no_order(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        """One model four times: that rows repeat is said too."""
        p = t4[0]
        path = self.table(tmp_path, [(p.model, p.size, p.batch, t) for t in (5.0, 6.0, 7.0, 8.0)])
        v = document(capsys, path, "-d", "t4")
        assert (v["rows"], v["spearman"]) == (4, None)
        assert v["notes"] == ["3 rows repeat the model, size and batch of another; each counts"]

    def test_without_sizes_each_model_has_its_own(self, tmp_path: Path, capsys: Capture) -> None:
        """resnet10t takes 176 pixels in timm, test_resnet.r160_in1k 160, and mobilenet_v3_small, a reference model, 224."""
        import timm

        names = ["resnet10t", "test_resnet.r160_in1k", "mobilenet_v3_small"]
        edges = [timm.get_pretrained_cfg(n).input_size[-1] for n in names[:2]] + [224]
        assert edges[:2] == [176, 160]
        path = self.table(tmp_path, [(n, 16, 5.0) for n in names], ("model", "infer_batch_size", "infer_step_time"))
        v = document(capsys, path, "-d", "t4")
        assert v["skipped"] == []
        assert {w["model"]: w["size"] for w in v["worst"]} == dict(zip(names, edges, strict=True))
        assert v["notes"] == ["no column of sizes (--column size=...): each model is taken at its own default"]
        sized = self.table(tmp_path, [(n, e, 16, 5.0) for n, e in zip(names, edges, strict=True)])
        same = document(capsys, sized, "-d", "t4")
        assert {w["model"]: w["predicted_s"] for w in v["worst"]} == {w["model"]: w["predicted_s"] for w in same["worst"]}
        assert "notes" not in same

    def test_a_time_in_another_unit_is_suspected(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        seconds = [(p.model, p.size, p.batch, p.predicted_s) for p in t4[:3]]  # where the column says ms
        (said,) = document(capsys, self.table(tmp_path, seconds), "-d", "t4")["notes"]
        assert said.startswith("predictions are 1e+03 times the measurements: is the time in another unit")

    def test_no_row_at_all(self, tmp_path: Path, capsys: Capture) -> None:
        path = self.table(tmp_path, [("nobody_net", 64, 8, 1.0), ("resnet18", 64, 8, "nan")])
        assert "times-fp32.csv: no row could be predicted; nobody_net: " in refused(capsys, path, "-d", "t4")

    def test_a_model_without_a_kernel_is_skipped(self, t4: list[Prediction], tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "none.py").write_text("from torch import nn\n\ndef none():\n    return nn.Identity()\n", encoding="utf-8")
        rows = [(f"{tmp_path / 'none.py'}:none", 64, 8, 1.0), *(row[:-1] for row in lines(t4[:1], [1.0]))]
        v = document(capsys, self.table(tmp_path, rows), "-d", "t4", "--own-models")
        assert v["rows"] == 1
        assert v["skipped"][0]["why"].endswith("launches no kernel at batch 8, so there is no time to compare")


class TestTraining:
    COLUMNS = ("model", "train_img_size", "train_batch_size", "train_step_time", "param_count")

    def test_timms_tables_of_training_steps(self, tmp_path: Path, capsys: Capture) -> None:
        """By the file's name and its own columns: a step takes about three forwards."""
        row = ("resnet10t", 96, 256)
        (step,) = predictions("t4", Setting("amp", "nhwc", "eager", training=True), [row])
        (forward,) = predictions("t4", Setting("amp", "nhwc", "eager"), [row])
        assert 2.5 < step.predicted_s / forward.predicted_s < 5
        path = write(tmp_path / "benchmark-train-amp-nhwc-pt240.csv", lines([step], [1.0]), self.COLUMNS)
        v = document(capsys, path, "-d", "t4")
        assert (v["mode"], v["rows"], v["layout"]) == ("training", 1, "nhwc")
        assert v["mean_ape"] == pytest.approx(0, abs=1e-9)
        mine = write(tmp_path / "mine-amp-nhwc.csv", lines([step], [1.0]))
        assert document(capsys, mine, "-d", "t4", "--training")["mean_ape"] == pytest.approx(0, abs=1e-9)

    def test_an_old_pytorch_has_no_fused_attention(self, tmp_path: Path, capsys: Capture) -> None:
        row = ("vit_tiny_patch16_224", 224, 16)
        (apart,) = predictions("t4", Setting("fp16", "nchw", "eager", torch=(1, 12)), [row])
        (fused,) = predictions("t4", Setting("fp16", "nchw", "eager"), [row])
        assert ("attention" in apart.shares, "attention" in fused.shares) == (False, True)
        path = write(tmp_path / "times-fp16-nchw-pt112-cu113.csv", lines([apart], [1.0]))
        assert document(capsys, path, "-d", "t4")["mean_ape"] == pytest.approx(0, abs=1e-9)

    def test_attention_that_no_fused_kernel_takes_was_in_halves_until_2_4(self, tmp_path: Path, capsys: Capture) -> None:
        """NesT's has five dimensions: halves move half the bytes, and no masked rows are looked for."""
        row = ("nest_tiny", 224, 64)
        (new,) = predictions("rtx-3090", Setting("amp", "nchw", "eager"), [row])
        (old,) = predictions("rtx-3090", Setting("amp", "nchw", "eager", torch=(2, 4)), [row])
        assert 1.5 < new.predicted_s / old.predicted_s < 2.2
        path = write(tmp_path / "times-amp-nchw-pt240-cu124.csv", lines([old], [1.0]))
        assert document(capsys, path, "-d", "rtx-3090")["mean_ape"] == pytest.approx(0, abs=1e-9)
        # ... and attention of four dimensions is whole in both
        (new,) = predictions("rtx-3090", Setting("amp", "nchw", "eager"), [("vit_tiny_patch16_224", 224, 16)])
        (old,) = predictions("rtx-3090", Setting("amp", "nchw", "eager", torch=(2, 4)), [("vit_tiny_patch16_224", 224, 16)])
        assert new.predicted_s == old.predicted_s
