"""The commands in this process, on a made-up analysis: what is asked of analyze(), what is printed and written."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from sample import language, sample

import roofline
from roofline import cli, pipeline
from roofline.devices.device import Device
from roofline.devices.library import lookup
from roofline.errors import ModelError
from roofline.fingerprints import device_digest
from roofline.records import Analysis
from roofline.request import Ask, Pass, Place, Request
from roofline.views import text

Calls = list[Request]
Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def calls(monkeypatch: Patch) -> Calls:
    """Instead of an analysis a sample that carries the setting asked for; keeps what was asked."""
    made: Calls = []

    def run(request: Request) -> Analysis:
        device = request.place.device
        assert isinstance(device, (Device, str))
        device = lookup(device) if isinstance(device, str) else device
        made.append(replace(request, place=replace(request.place, device=device.name)))
        a = sample("cpu" if device.kind == "cpu" else "gpu", batch=request.ask.batch or 1, name=request.ask.model)
        return replace(a, setting=replace(a.setting, device=device.name, dtype=request.what.dtype or a.setting.dtype))

    monkeypatch.setattr(pipeline, "run", run)
    return made


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_analyze_passes_everything_on(calls: Calls) -> None:
    args = (
        "analyze net.py:Net -d rtx-4090 -b 8 --input x=1,3,64,64 --input ids=1,128:int64 --resolution 192 --dtype amp "
        "--runtime ideal --training --set width_mult=0.5 --set name=a=b --no-cache --json "
        "--optimizer sgd"
    )
    assert cli.main(args.split()) == 0
    (call,) = calls
    assert call.ask == Ask("net.py:Net", ("x=1,3,64,64", "ids=1,128:int64"), 8, 192, {"width_mult": "0.5", "name": "a=b"})
    assert call.what == Pass("amp", training=True, optimizer="sgd")
    assert call.place == Place("rtx-4090", "ideal")
    assert not call.cache


def test_analyze_defaults(calls: Calls) -> None:
    assert cli.main(["analyze", "m", "-d", "t4", "--json"]) == 0
    (call,) = calls
    assert (call.ask, call.what, call.place, call.cache) == (Ask("m"), Pass(), Place("t4"), True)


def test_json_is_one_document_and_nothing_else(calls: Calls, capsys: Capture) -> None:
    assert cli.main(["analyze", "m", "-d", "t4", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["schema"] == 1
    assert document["model"]["name"] == "m"
    assert captured.err == ""


def test_several_devices(calls: Calls, capsys: Capture) -> None:
    assert cli.main(["analyze", "m", "-d", "t4", "-d", "RTX 4090", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [a["setting"]["device"] for a in document["analyses"]] == ["t4", "rtx-4090"]


def test_what_the_model_prints_stays_out_of_the_result(monkeypatch: Patch, capsys: Capture) -> None:
    def run(request: Request) -> Analysis:
        print("hello from the model")
        return sample()

    monkeypatch.setattr(pipeline, "run", run)
    assert cli.main(["analyze", "m", "-d", "t4", "--json"]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert captured.err == "hello from the model\n"


def test_table(calls: Calls, capsys: Capture) -> None:
    assert cli.main(["analyze", "m", "-d", "t4"]) == 0
    captured = capsys.readouterr()
    assert "features" in captured.out
    assert "\x1b" not in captured.out
    assert max(len(line) for line in captured.out.splitlines()) <= 80
    assert captured.err == ""


def test_by_and_top(calls: Calls, capsys: Capture) -> None:
    assert cli.main(["analyze", "m", "-d", "t4", "--by", "kernel", "--top", "3"]) == 0
    by_kernel = capsys.readouterr().out
    assert cli.main(["analyze", "m", "-d", "t4", "--by", "op"]) == 0
    by_op = capsys.readouterr().out
    assert "hardswish_" in by_op
    assert by_kernel != by_op


def test_every_file_is_written(calls: Calls, tmp_path: Path, capsys: Capture) -> None:
    files = [tmp_path / f"a{suffix}" for suffix in (".json", ".csv", ".md", ".png", ".svg", ".pdf", ".html")]
    args = [arg for f in files for arg in ("-o", str(f))]
    assert cli.main(["analyze", "m", "-d", "t4", *args]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"roofline: wrote {f}" for f in files]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(f.stat().st_size > 500 for f in files)
    assert "features" in captured.out


def test_nothing_is_written_if_one_cannot_be_rendered(
    calls: Calls, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    from roofline.views import chart

    def draw(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chart, "picture", draw)
    assert cli.main(["analyze", "m", "-d", "t4", "-o", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.png")]) == 2
    captured = capsys.readouterr()
    assert captured.err == "roofline: error: the chart cannot be drawn: No space left on device\n"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["analyze"], 2, "Missing argument 'MODEL'"),
        (["analyse", "m"], 2, "analyze"),
        (["analyze", "m", "--bacth", "2"], 2, "--batch"),
        (["analyze", "m", "-b", "0"], 2, "--batch"),
        (["analyze", "m", "-b", "two"], 2, "--batch"),
        (["analyze", "m", "--dtype", "fp61"], 2, "fp61"),
        (["analyze", "m", "--by", "layers"], 2, "layers"),
        (["analyze", "m", "--set", "width"], 2, "expected ARG=VALUE"),
        (["analyze", "m", "--set", "a=1", "--set", "a=2"], 2, "--set a: given twice"),
        (["analyze", "m", "-d", "rtx-4091"], 2, "rtx-4090"),
        (["analyze", "m", "-d", "t4", "-d", "T4"], 2, "given twice"),
        (["explain", "m", "-d", "t4", "-d", "tesla-t4"], 2, "-d tesla-t4: given twice (t4)"),
        (["compare", "m", "-d", "rtx-4090", "-d", "t4", "-d", "T4"], 2, "-d T4: given twice (t4)"),
        (["report", "m", "-d", "t4", "-d", "t4", "-o", "there"], 2, "given twice"),
        (["analyze", "m", "-d", "t4", "-o", "a.jsn"], 2, "a.json"),
        (["analyze", "m", "-d", "t4", "-o", "gone/a.json"], 2, "no directory"),
        (["analyze", "m", "-d", "t4", "-d", "rtx-3090", "-o", "a.csv"], 2, "CSV"),
        (["check", "gone.toml"], 2, "no such file"),
        (["check"], 2, "no budget file"),
        (["diff", "gone.json", "m"], 2, "no such file"),
        (["diff", "m"], 2, "Missing argument 'HEAD'"),
        (["diff", "m", "n", "--fail-on", "tiem>1%"], 2, "did you mean 'time'"),
        (["devices", "rtx-4091"], 2, "rtx-4090"),
        (["devices", "t4", "--kind", "cpu"], 2, "no cpu found for 't4'"),
        (["models", "mobilenet_v9"], 2, "mobilenet_v"),
        (["cache", "cleer"], 2, "clear"),
        (["cache"], 2, "Missing command"),
    ],
)
def test_wrong_usage_takes_one_or_two_lines(
    args: list[str], code: int, words: str, calls: Calls, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(args) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("roofline: error: ")
    assert 1 <= len(lines(captured.err)) <= 2
    assert words in captured.err
    assert "Traceback" not in captured.err
    # it is refused before any work is done
    assert calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["", "analyze", "check", "diff", "devices", "models", "cache", "cache info", "cache clear"])
def test_help(command: str, capsys: Capture) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Usage: roofline")
    assert captured.err == ""
    assert max(len(line) for line in captured.out.splitlines()) <= 100
    assert cli.main([*command.split(), "-h"]) == 0


def test_no_arguments_is_help(capsys: Capture) -> None:
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    for command in ("analyze", "check", "diff", "devices", "models", "cache"):
        assert f"  {command} " in out


def test_version(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"roofline {roofline.__version__}\n"


class TestFailures:
    """What analyze() may raise, and what becomes of it."""

    def run(self, error: BaseException, monkeypatch: Patch, *more: str) -> int:
        def run(request: Request) -> Analysis:
            raise error

        monkeypatch.setattr(pipeline, "run", run)
        return cli.main(["analyze", "m", "-d", "t4", *more])

    def test_the_model_failed(self, monkeypatch: Patch, capsys: Capture) -> None:
        assert self.run(ModelError("block.2: wrong shape\ninputs: [1, 3]"), monkeypatch) == 3
        assert capsys.readouterr().err == "roofline: error: block.2: wrong shape\ninputs: [1, 3]\n"

    def test_debug(self, monkeypatch: Patch, capsys: Capture) -> None:
        assert self.run(ModelError("no"), monkeypatch, "--debug") == 3
        assert "Traceback" in capsys.readouterr().err

    def test_the_model_ended_the_program(self, monkeypatch: Patch, capsys: Capture) -> None:
        assert self.run(SystemExit(0), monkeypatch) == 3
        assert capsys.readouterr().err == "roofline: error: m: its code ended the program (sys.exit(0))\n"

    def test_interrupt(self, monkeypatch: Patch, capsys: Capture) -> None:
        assert self.run(KeyboardInterrupt(), monkeypatch) == 130
        assert capsys.readouterr().err == "roofline: interrupted\n"

    def test_a_fault_of_ours_is_not_a_broken_budget(self, monkeypatch: Patch, capsys: Capture) -> None:
        assert self.run(ZeroDivisionError("division\nby zero"), monkeypatch) == 70
        err = capsys.readouterr().err
        assert err.startswith("roofline: internal error: ZeroDivisionError: division by zero\n")
        assert len(lines(err)) == 2

    def test_warnings_are_one_line(self, monkeypatch: Patch, capsys: Capture) -> None:
        def run(request: Request) -> Analysis:
            warnings.warn("the cache\nis gone", RuntimeWarning, stacklevel=1)
            return sample()

        monkeypatch.setattr(pipeline, "run", run)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert cli.main(["analyze", "m", "-d", "t4", "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == "roofline: warning: the cache is gone\n"
        json.loads(captured.out)


def test_strict(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(pipeline, "run", lambda request: sample(unknown=True))
    assert cli.main(["analyze", "m", "-d", "t4", "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["analyze", "m", "-d", "t4", "--json", "--strict"]) == 1
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert "mylib.warp (1 in extra)" in captured.err
    assert len(lines(captured.err)) == 2
    monkeypatch.setattr(pipeline, "run", lambda request: sample())
    assert cli.main(["analyze", "m", "-d", "t4", "--json", "--strict"]) == 0


class TestCheck:
    def write(self, tmp_path: Path, limit: str) -> str:
        file = tmp_path / "budget.toml"
        file.write_text(f'[[budget]]\nmodel = "m"\ndevice = "t4"\nbatch = 2\nset = {{ width = 0.5 }}\n{limit}\nmax_time = 10\n')
        return str(file)

    def test_kept(self, calls: Calls, tmp_path: Path, capsys: Capture) -> None:
        assert cli.main(["check", self.write(tmp_path, 'max_params = "1 G"')]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert lines(captured.out)[-1] == "2 limits kept"
        (call,) = calls
        assert (call.ask, call.place) == (Ask("m", batch=2, settings={"width": "0.5"}), Place("t4"))

    def test_broken(self, calls: Calls, tmp_path: Path, capsys: Capture) -> None:
        file = self.write(tmp_path, "max_params = 1")
        assert cli.main(["check", file]) == 1
        captured = capsys.readouterr()
        assert captured.err == f"roofline: {file}: broken: m (max_params)\n"
        table = lines(captured.out)
        assert table[1].startswith("FAIL  m ")
        assert table[2].startswith("ok ")
        assert table[-1] == "1 of 2 limits broken"
        assert "::error" not in captured.out

    def test_json(self, calls: Calls, tmp_path: Path, capsys: Capture) -> None:
        assert cli.main(["check", self.write(tmp_path, "max_params = 1"), "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["ok"] is False
        (budget,) = document["budgets"]
        assert {f["key"]: f["ok"] for f in budget["findings"]} == {"max_params": False, "max_time": True}

    def test_annotations(self, calls: Calls, tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
        file = self.write(tmp_path, "max_params = 1")
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        assert cli.main(["check", file]) == 1
        (line,) = (line for line in lines(capsys.readouterr().out) if line.startswith("::"))
        assert line.startswith(f"::error file={file},line=6,title=roofline budget::m on t4: max_params: is ")

    def test_a_saved_analysis(self, calls: Calls, tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "saved.json").write_bytes(text.to_json(sample()))
        file = tmp_path / "roofline.toml"
        file.write_text('[[budget]]\nanalysis = "saved.json"\nmax_kernels = 84\n')
        assert cli.main(["check", str(file)]) == 0
        assert calls == []
        file.write_text('[[budget]]\nanalysis = "saved.json"\nmax_kernels = 83\n')
        assert cli.main(["check", str(file)]) == 1


class TestCheckDocs:
    def test_cells(self, calls: Calls, tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
        page = tmp_path / "page.md"
        page.write_text("<!-- roofline: device=t4 -->\n| Model | Kernels |\n|---|---|\n| m | 84 |\n| n | 85 |\n")
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        assert cli.main(["check", "--docs", str(page), "--dtype", "fp16"]) == 1
        captured = capsys.readouterr()
        said = "n, Kernels: says 85, is 84"
        assert lines(captured.out) == [
            f"{page}:5: {said}",
            "1 of 2 cells drifted.",
            f"::error file={page},line=5,title=roofline table::{said}",
        ]
        assert captured.err == f"roofline: {page}: 1 of 2 cells drifted; --update writes what is computed\n"
        assert [(call.ask.model, call.place.device, call.what.dtype) for call in calls] == [
            ("m", "t4", "fp16"),
            ("n", "t4", "fp16"),
        ]
        assert cli.main(["check", "--docs", str(page), "--update"]) == 0
        assert page.read_text().endswith("| m | 84 |\n| n | 84 |\n")
        capsys.readouterr()
        assert cli.main(["check", "--docs", str(page), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["cells"][1]["now"] == "84"

    def test_only_some_models_and_reports(self, calls: Calls, tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
        monkeypatch.chdir(tmp_path)
        table = "<!-- roofline: device=t4 -->\n| Model | Kernels |\n|---|---|\n| m | 1 |\n| net | 84 |\n| netto | 85 |\n"
        Path("page.md").write_text(table)
        wanted = ["-o", "r.json", "-o", "r.md", "-o", "r.xml", "-o", "r.sarif"]
        assert cli.main(["check", "--docs", "page.md", "--only", "net*", *wanted]) == 1
        assert [call.ask.model for call in calls] == ["net", "netto"]
        said = "netto, Kernels: says 85, is 84"
        root = ElementTree.parse("r.xml").getroot()
        assert [(c.get("classname"), c.get("name"), [e.get("message") for e in c]) for c in root.iter("testcase")] == [
            ("page.md", "line 5: net, Kernels", []),
            ("page.md", "line 6: netto, Kernels", [said]),
        ]
        (result,) = json.loads(Path("r.sarif").read_text())["runs"][0]["results"]
        place = result["locations"][0]["physicalLocation"]
        assert result["message"]["text"] == said
        assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("page.md", 6)
        assert "| ❌ | page.md:6 | netto | Kernels | 85 | 84 |" in Path("r.md").read_text()
        assert json.loads(Path("r.json").read_text())["exit_code"] == 1
        # what was not asked for is left as it is
        assert cli.main(["check", "--docs", "page.md", "--only", "netto", "--update"]) == 0
        assert Path("page.md").read_text() == table.replace("| 85 |", "| 84 |")
        capsys.readouterr()
        assert cli.main(["check", "--docs", "page.md", "--only", "nett"]) == 2
        assert "--only nett: no row of a marked table is of that model; did you mean 'netto'?" in capsys.readouterr().err
        assert cli.main(["check", "--docs", "page.md", "-o", "r.jsonl"]) == 2
        assert "a report is one of .json, .md, .xml, .sarif" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--docs"], "name the files"),
            (["--docs", "page.md", "--since", "v1"], "--since is about budgets"),
            (["--docs", "page.md"], "no cell of a marked table in page.md"),
            (["--docs", "roofline.toml"], "--docs reads Markdown"),
            (["roofline.toml", "page.md"], "--docs takes several Markdown files"),
        ],
    )
    def test_refused(self, more: list[str], words: str, tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "page.md").write_text("| Model | Kernels |\n|---|---|\n| m | 84 |\n")
        assert cli.main(["check", *more]) == 2
        assert words in capsys.readouterr().err


def _of_the_library(analysis: Analysis) -> Analysis:
    """As if it had been asked for by its batch, on the device that the library has under its name."""
    known = device_digest(lookup(analysis.setting.device))
    setting = replace(analysis.setting, asked=True, asked_batch=analysis.setting.batch)
    return replace(analysis, setting=setting, device=replace(analysis.device, fingerprint=known))


def _pass(analysis: Analysis, mode: str, context: int) -> Analysis:
    """The analysis as one pass of a language model."""
    totals = analysis.totals
    tokens = analysis.setting.batch * (context if mode == "prefill" else 1)
    info = replace(
        language(mode, context),
        sequences=analysis.setting.batch,
        tokens=tokens,
        flops_per_token=totals.flops // tokens,
        macs_per_token=totals.macs // tokens,
        weight_bytes=totals.weight_bytes,
        cache_written_bytes=tokens,
        tokens_per_s=tokens / totals.time_s,
    )
    return replace(analysis, language=info)


class TestDiff:
    def test_saved(self, calls: Calls, tmp_path: Path, capsys: Capture) -> None:
        base, head = tmp_path / "base.json", tmp_path / "head.json"
        base.write_bytes(text.to_json(sample()))
        head.write_bytes(text.to_json(sample(blocks=14)))
        assert cli.main(["diff", str(base), str(head)]) == 0
        assert "+  features.7 " in capsys.readouterr().out
        assert cli.main(["diff", str(base), str(head), "--fail-on", "params>0"]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("roofline: params>0: ")
        assert "+  features.7 " in captured.out
        assert cli.main(["diff", str(base), str(base), "--fail-on", "params>0"]) == 0
        assert "no difference" in capsys.readouterr().out
        assert cli.main(["diff", str(base), str(head), "--json", "--fail-on", "params>0"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["failed"]
        assert {c["metric"] for c in document["diff"]["totals"]} >= {"params", "macs", "time"}
        assert calls == []

    def test_options_do_not_apply_to_saved_analyses(self, calls: Calls, tmp_path: Path, capsys: Capture) -> None:
        base = tmp_path / "base.json"
        base.write_bytes(text.to_json(sample()))
        assert cli.main(["diff", str(base), str(base), "-b", "2"]) == 2
        assert "batch cannot be set" in capsys.readouterr().err

    def test_a_model_beside_a_saved_analysis_takes_its_setting(self, calls: Calls, tmp_path: Path) -> None:
        base = tmp_path / "base.json"
        base.write_bytes(text.to_json(_of_the_library(sample(batch=4))))
        assert cli.main(["diff", str(base), "mobilenet_v1"]) == 0
        assert cli.main(["diff", "mobilenet_v1", str(base), "-d", "t4", "--dtype", "bf16"]) == 0
        assert [(c.place.device, c.ask.batch, c.what.dtype, c.place.runtime) for c in calls] == [
            ("rtx-3090", 4, "fp16", "eager"),
            ("t4", 4, "bf16", "eager"),
        ]

    def test_a_saved_training_step_gives_its_optimizer(self, calls: Calls, tmp_path: Path) -> None:
        a = _of_the_library(sample())
        base = tmp_path / "base.json"
        base.write_bytes(text.to_json(replace(a, setting=replace(a.setting, mode="training", optimizer="sgd"))))
        assert cli.main(["diff", str(base), "m"]) == 0
        (call,) = calls
        assert call.what == Pass("fp16", training=True, optimizer="sgd")

    def test_a_saved_pass_of_a_language_model_is_asked_for_again(self, calls: Calls, tmp_path: Path) -> None:
        base = tmp_path / "base.json"
        for mode, context, tokens in (("prefill", 512, 512), ("decode", 8193, 8192)):
            base.write_bytes(text.to_json(_pass(_of_the_library(sample()), mode, context)))
            assert cli.main(["diff", str(base), "m"]) == 0
            assert calls.pop().what == Pass("fp16", **{mode: tokens})
        assert cli.main(["diff", str(base), "m", "--training"]) == 0
        assert calls.pop().what == Pass("fp16", training=True)
        assert cli.main(["diff", str(base), "m", "--prefill", "64"]) == 0
        assert calls.pop().what == Pass("fp16", prefill=64)

    def test_two_models(self, calls: Calls, capsys: Capture) -> None:
        assert cli.main(["diff", "a", "b", "-d", "t4", "-b", "2", "--set", "w=1"]) == 0
        assert [c.ask for c in calls] == [Ask(name, batch=2, settings={"w": "1"}) for name in "ab"]
        assert {c.place.device for c in calls} == {"t4"}

    def test_a_file_with_several_analyses(self, calls: Calls, tmp_path: Path, capsys: Capture) -> None:
        base = tmp_path / "base.json"
        base.write_bytes(text.many_to_json([sample(), sample("cpu")]))
        assert cli.main(["diff", str(base), "m"]) == 2
        assert "holds 2 analyses (rtx-3090, i9-10940x)" in capsys.readouterr().err


class TestLists:
    def test_devices(self, capsys: Capture) -> None:
        assert cli.main(["devices"]) == 0
        out = capsys.readouterr().out
        first = [line.split()[0] for line in lines(out)]
        assert first[0] == "NAME"
        assert {"h100-sxm", "rtx-4090", "t4", "i9-10940x", "raspberry-pi-5"} <= set(first)

    def test_kind(self, capsys: Capture) -> None:
        assert cli.main(["devices", "--kind", "cpu", "--json"]) == 0
        assert {d["kind"] for d in json.loads(capsys.readouterr().out)["devices"]} == {"cpu"}

    def test_one(self, capsys: Capture) -> None:
        assert cli.main(["devices", "--kind", "gpu", "--sort", "dram", "--json"]) == 0
        speeds = [d["levels"][-1]["bandwidth"] for d in json.loads(capsys.readouterr().out)["devices"]]
        assert speeds == sorted(speeds, reverse=True)
        assert len(set(speeds)) > 10
        assert cli.main(["devices", "T4", "a10"]) == 0
        lines = {line[:18].strip(): line.split() for line in capsys.readouterr().out.splitlines()}
        assert lines[""] == ["t4", "a10"]
        # 600 GB/s beside 320
        assert lines["DRAM"] == ["DRAM", "320", "GB/s", "600", "GB/s", "1.88x"]
        assert lines["units"] == ["units", "40", "72", "1.80x"]
        assert cli.main(["devices", "T4", "rtx 30", "--json"]) == 0
        assert [d["name"] for d in json.loads(capsys.readouterr().out)["devices"]][:2] == ["t4", "rtx-3050"]
        assert cli.main(["devices", "RTX4090"]) == 0
        out = capsys.readouterr().out
        assert "(rtx-4090)" in out
        assert "165.2 TFLOP/s" in out
        assert cli.main(["devices", "RTX4090", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "rtx-4090"

    def test_part_of_a_name(self, capsys: Capture) -> None:
        assert cli.main(["devices", "epyc"]) == 0
        names = [line.split()[0] for line in lines(capsys.readouterr().out)[1:]]
        assert "epyc-9654" in names
        assert all("epyc" in name for name in names)

    def test_models(self, capsys: Capture) -> None:
        assert cli.main(["models"]) == 0
        names = [line.split()[0] for line in lines(capsys.readouterr().out)]
        assert {"MODEL", "mobilenet_v3_large", "resnet50", "vgg16"} <= set(names)
        assert cli.main(["models", "mobilenet_v3", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["models"]
        assert "mobilenet_v3_large" in [m["name"] for m in found]
        assert "vgg16" not in [m["name"] for m in found]


def test_cache(cache_dir: Path, capsys: Capture) -> None:
    from roofline.cache import digest
    from roofline.cache.store import Cache

    Cache().store("trace", digest("a"), b"x" * 100)
    assert cli.main(["cache", "info"]) == 0
    out = capsys.readouterr().out
    assert lines(out)[0] == str(cache_dir)
    assert "1 entry, " in out
    assert cli.main(["cache", "clear"]) == 0
    assert "removed 1 entry" in capsys.readouterr().out
    assert cli.main(["cache", "info"]) == 0
    assert "0 entries" in capsys.readouterr().out


def test_no_stdout(monkeypatch: Patch, calls: Calls) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["analyze", "m", "-d", "t4"]) == 0
    sys.stdout.close()


def test_conversion_does_not_wait_for_pydantic() -> None:
    """Typer's own conversion imports it, which takes as long as a cached analysis."""
    import subprocess

    program = """
import sys
from roofline import cli, pipeline
code = cli.main(["devices", "t4", "--kind", "gpu", "--json"])
sys.exit("imported pydantic" if "pydantic" in sys.modules else code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
