"""Budget files: what is read, what is refused and in which words, and what a limit decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from sample import sample

from roofline.analysis import budgets as gate
from roofline.analysis import metrics
from roofline.errors import BudgetFileError
from roofline.request import Ask, Pass, Place, Request
from roofline.views import checked


def write(path: Path, text: str, name: str = "roofline.toml") -> Path:
    file = path / name
    file.write_text(text)
    return file


def one(path: Path, lines: str) -> gate.Budget:
    (budget,) = gate.load_budgets(write(path, f"[[budget]]\n{lines}\n"))
    return budget


def asked(budget: gate.Budget) -> Request:
    assert budget.request is not None
    return budget.request


def test_a_whole_budget(tmp_path: Path) -> None:
    budget = one(
        tmp_path,
        """
        model = "resnet50"
        name = "backbone"
        device = "rtx-4090"
        batch = 8
        inputs = ["x=1,3,64,64", "ids=1,128:int64"]
        resolution = 192
        dtype = "amp"
        runtime = "compiled"
        training = true
        optimizer = "adamw"
        host = 1e-5
        set = { width_mult = 0.5, dilated = true, tail = "half", stages = [3, 4] }
        allow_unknown = true
        max_flops = "1 GFLOP"
        max_macs = "4.2 G"
        max_params = "25.6 M"
        max_bytes = "1 GB"
        max_weight_bytes = 1000
        max_time = "5 ms"
        max_peak_memory = "100 MiB"
        max_kernels = 200
        min_intensity = 12.5
        min_throughput = "1.5 k"
        """,
    )
    assert budget.label == "backbone"
    request = asked(budget)
    settings = {"width_mult": "0.5", "dilated": "true", "tail": "half", "stages": "[3,4]"}
    assert request.ask == Ask("resnet50", ("x=1,3,64,64", "ids=1,128:int64"), 8, 192, settings)
    assert request.what == Pass("amp", training=True, optimizer="adamw")
    assert request.place == Place("rtx-4090", "compiled", 1e-5)
    assert budget.allow_unknown
    assert {limit.key: limit.value for limit in budget.limits} == {
        "max_flops": 1e9,
        "max_macs": 4.2e9,
        "max_params": 25.6e6,
        "max_bytes": 1e9,
        "max_weight_bytes": 1000.0,
        "max_time": 0.005,
        "max_peak_memory": 104857600.0,
        "max_kernels": 200.0,
        "min_intensity": 12.5,
        "min_throughput": 1500.0,
    }


def test_defaults(tmp_path: Path) -> None:
    budget = one(tmp_path, 'model = "vgg16"\nmax_time = 1')
    request = asked(budget)
    assert (request.ask, request.what, request.place) == (Ask("vgg16"), Pass(), Place())
    assert budget.label == "vgg16"
    assert [(limit.key, limit.line) for limit in budget.limits] == [("max_time", 3)]


def test_several_and_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = "".join(f'[[tool.roofline.budget]]\nmodel = "{name}"\nmax_macs = 1\n' for name in "ab")
    file = write(tmp_path, '[project]\nname = "x"\n' + budgets, "pyproject.toml")
    assert [asked(b).ask.model for b in gate.load_budgets(file)] == ["a", "b"]
    monkeypatch.chdir(tmp_path)
    assert gate.budget_file() == Path("pyproject.toml")
    write(tmp_path, "")
    assert gate.budget_file() == Path("roofline.toml")
    assert gate.budget_file(Path("other.toml")) == Path("other.toml")


def test_no_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, '[project]\nname = "x"\n', "pyproject.toml")
    with pytest.raises(BudgetFileError, match="no budget file"):
        gate.budget_file()


def test_files_are_meant_beside_the_budget_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("")
    (tmp_path / "board.toml").write_text("")
    budget = one(tmp_path, 'model = "net.py:Net"\ndevice = "board.toml"\nmax_macs = 1')
    assert asked(budget).ask.model == f"{tmp_path / 'net.py'}:Net"
    assert asked(budget).place.device == str(tmp_path / "board.toml")
    assert asked(one(tmp_path, 'model = "gone.py:Net"\nmax_macs = 1')).ask.model == "gone.py:Net"
    assert one(tmp_path, 'analysis = "a/b.json"\nmax_macs = 1').analysis == str(tmp_path / "a" / "b.json")


M = 'model = "m"\n'
L = "max_macs = 1\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "", "no [[budget]] in it"),
        ("budget = 3", "", "no [[budget]] in it"),
        ("budget = [3]", "", "budget 1: expected a table, got 3"),
        ("[[budgets]]\nmodel = 1", ":1", "unknown key 'budgets'; did you mean 'budget'?"),
        ("[[budget]]\n" + M + "max_flop = 1", ":3", "unknown key 'max_flop'; did you mean 'max_flops'?"),
        ("[[budget]]\n" + M + L + "[[budget]]\n" + M + "\ntime = 1", ":7", "unknown key 'time'; did you mean 'max_time'"),
        ("[[budget]]\n" + L, ":1", "give one of model"),
        ("[[budget]]\n" + M + 'analysis = "a.json"\n' + L, ":2", "give one of model"),
        ("[[budget]]\n" + M, ":1", "no limit in it"),
        ("[[budget]]\nmodel = 3\n" + L, ":2", "model: expected text, got 3"),
        ("[[budget]]\n" + M + "batch = 0\n" + L, ":3", "batch: expected a whole number of at least 1, got 0"),
        ("[[budget]]\n" + M + "batch = true\n" + L, ":3", "batch: expected a whole number"),
        ("[[budget]]\n" + M + 'batch = "8"\n' + L, ":3", "batch: expected a whole number"),
        ("[[budget]]\n" + M + 'dtype = "fp61"\n' + L, ":3", "dtype: expected one of fp32, tf32"),
        ("[[budget]]\n" + M + 'runtime = "eagre"\n' + L, ":3", "did you mean 'eager'?"),
        (
            "[[budget]]\n" + M + 'optimizer = "admm"\n' + L,
            ":3",
            "expected one of sgd, adam, adamw, got 'admm'; did you",
        ),
        ("[[budget]]\n" + M + "prefill = 0\n" + L, ":3", "prefill: expected a whole number of at least 1, got 0"),
        ("[[budget]]\n" + M + 'decode = "8"\n' + L, ":3", "decode: expected a whole number of at least 1, got '8'"),
        ("[[budget]]\n" + M + "prefil = 8\n" + L, ":3", "unknown key 'prefil'; did you mean 'prefill'?"),
        ("[[budget]]\n" + M + "training = 1\n" + L, ":3", "training: expected true or false, got 1"),
        ("[[budget]]\n" + M + "inputs = [3]\n" + L, ":3", "inputs: expected shapes as text"),
        ("[[budget]]\n" + M + 'set = "a=1"\n' + L, ":3", "set: expected a table"),
        ("[[budget]]\n" + M + 'max_time = "5 MB"', ":3", "max_time: expected a number in s"),
        ("[[budget]]\n" + M + 'max_params = "5 apples"', ":3", "max_params: expected a number like 250"),
        ("[[budget]]\n" + M + 'max_params = "1.2.3"', ":3", "max_params: expected a number like 250"),
        ("[[budget]]\n" + M + "max_macs = -1", ":3", "max_macs: expected a number of at least 0"),
        ("[[budget]]\n" + M + "max_macs = true", ":3", "max_macs: expected"),
        ("[[budget]]\n" + M + "max_macs = nan", ":3", "max_macs: expected"),
        ('[[budget]]\nanalysis = "a.json"\nbatch = 2\n' + L, ":3", "the saved analysis a.json has settled it"),
        ("[[budget]\n", "", "not TOML: "),
        ("[tool.roofline.budgets.m]\nmacs = 1", "", "unknown key 'tool'; [tool.roofline...] is for pyproject.toml, here"),
    ],
)
def test_refused(tmp_path: Path, text: str, place: str, words: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(BudgetFileError) as raised:
        gate.load_budgets(file)
    message = str(raised.value)
    assert message.startswith(f"{file}{place}: ")
    assert words in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_not_a_text_file(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "roofline.toml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(BudgetFileError, match=r"roofline\.toml: "):
        gate.load_budgets(file)
    with pytest.raises(BudgetFileError, match="no such file"):
        gate.load_budgets(tmp_path / "gone.toml")


def limits(tmp_path: Path, *lines: str) -> gate.Budget:
    return one(tmp_path, "\n".join([M, *lines]))


def test_limits_are_inclusive(tmp_path: Path) -> None:
    a = sample()
    t = a.totals
    energy = metrics.metric("energy").of(a)
    exact = [
        f"max_params = {a.model.params}",
        f"max_macs = {t.macs}",
        f"max_flops = {t.flops}",
        f"max_bytes = {t.bytes}",
        f"max_kernels = {t.kernels}",
        f"max_time = {t.time_s!r}",
        f"max_peak_memory = {t.peak_memory_bytes}",
        f"max_energy = {energy!r}",
        f"min_intensity = {t.intensity!r}",
        f"min_throughput = {t.throughput!r}",
        f"max_weight_bytes = {t.weight_bytes}",
    ]
    verdict = gate.check(limits(tmp_path, *exact), a)
    assert verdict.ok
    assert all(f.ok and f.actual == f.limit for f in verdict.findings)
    assert len(verdict.findings) == len(exact) == len(metrics.METRICS)

    tight = [
        f"max_params = {a.model.params - 1}",
        f"max_macs = {t.macs - 1}",
        f"max_flops = {t.flops - 1}",
        f"max_bytes = {t.bytes - 1}",
        f"max_kernels = {t.kernels - 1}",
        f"max_time = {t.time_s * 0.999!r}",
        f"max_peak_memory = {t.peak_memory_bytes - 1}",
        f"min_intensity = {t.intensity * 1.001!r}",
        f"min_throughput = {t.throughput * 1.001!r}",
        f"max_weight_bytes = {t.weight_bytes - 1}",
        f"max_energy = {energy * 0.999!r}",
    ]
    verdict = gate.check(limits(tmp_path, *tight), a)
    assert not verdict.ok
    assert not any(f.ok for f in verdict.findings)


def test_one_broken_limit_breaks_the_budget(tmp_path: Path) -> None:
    verdict = gate.check(limits(tmp_path, "max_params = 1", "max_time = 10"), sample())
    assert not verdict.ok
    assert {f.key: f.ok for f in verdict.findings} == {"max_params": False, "max_time": True}


def test_an_op_without_a_rule_breaks_what_depends_on_it(tmp_path: Path) -> None:
    a = sample(unknown=True)
    lines = ["max_flops = 1e18", "max_time = 1e9", "max_params = 1e18", "max_bytes = 1e18"]
    verdict = gate.check(limits(tmp_path, *lines), a)
    assert {f.key: f.ok for f in verdict.findings} == {
        "max_flops": False,
        "max_time": False,
        "max_params": True,
        "max_bytes": True,
    }
    assert "mylib.warp" in next(f.why for f in verdict.findings if f.key == "max_flops")
    assert gate.check(limits(tmp_path, "allow_unknown = true", *lines), a).ok


def test_a_pass_that_does_not_fit_is_said(tmp_path: Path) -> None:
    a = sample()
    small = replace(
        a, device=replace(a.device, memory=2**30), totals=replace(a.totals, peak_memory_bytes=3 * 2**30, fits=False)
    )
    verdict = gate.check(limits(tmp_path, "max_params = 1e12"), small)
    assert verdict.ok  # it is no limit
    assert verdict.note == f"It does not fit: one pass over 1 sample needs 3 GiB, and {a.device.title} has 1 GiB."
    name = verdict.budget
    assert f"note  {name}  {a.setting.device}  {verdict.note}\n1 limit kept\n" in checked.verdicts([verdict])
    assert checked.github([replace(verdict, file="roofline.toml")]) == (
        f"::warning file=roofline.toml,line=1,title=roofline budget::{name} on {a.setting.device}: {verdict.note}\n"
    )
    assert gate.check(limits(tmp_path, "max_params = 1e12"), a).note == ""


def test_parse_counts() -> None:
    macs = metrics.metric("macs")
    for text, value in (
        ("216.6 M", 216.6e6),
        ("216.6 MMACs", 216.6e6),
        ("4.089G", 4.089e9),
        ("5.483032 M", 5483032),
        ("0.0041 k", 4.1),
        ("1,000", 1000.0),
        ("1e6", 1e6),
        ("1.5e3 k", 1.5e6),
        (7, 7.0),
        ("7", 7.0),
    ):
        assert metrics.parse(macs, text) == value
    assert metrics.parse(metrics.metric("throughput"), "250 samples/s") == 250


def test_bytes_that_are_moved_are_in_units_of_1000_and_bytes_that_are_held_in_units_of_1024() -> None:
    """In every view alike; a number without unit says what it is of, and each text can stand in a budget."""
    shown = {
        "bytes": (136e6, "136 MB"), "weight_bytes": (22.03e6, "22.03 MB"), "peak_memory": (28.5 * 2**20, "28.5 MiB"),
        "params": (5_483_000, "5.483 M"), "macs": (216.6e6, "216.6 M"), "flops": (453.5e6, "453.5 MFLOP"),
        "intensity": (3.334, "3.334 FLOP/B"), "throughput": (1_037.0, "1.037 k/s"), "kernels": (185, "185"),
        "time": (7.72e-3, "7.72 ms"), "energy": (0.249, "249 mJ"),
    }  # fmt: skip
    assert shown.keys() == metrics.BY_NAME.keys()
    for name, (value, words) in shown.items():
        of = metrics.metric(name)
        assert metrics.text(of, value) == words
        assert metrics.parse(of, words) == pytest.approx(value, rel=1e-9)


def test_names_of_the_json_are_understood() -> None:
    assert metrics.metric("time_s").name == "time"
    assert metrics.metric("peak_memory_bytes").name == "peak_memory"


def test_metrics_read_the_right_fields() -> None:
    a = sample()
    a = replace(a, totals=replace(a.totals, time_s=0.5, throughput=2.0))
    assert {m.name: m.of(a) for m in metrics.METRICS} == {
        "params": a.model.params,
        "macs": a.totals.macs,
        "flops": a.totals.flops,
        "bytes": a.totals.bytes,
        "weight_bytes": a.totals.weight_bytes,
        "intensity": a.totals.intensity,
        "kernels": a.totals.kernels,
        "time": 0.5,
        "throughput": 2.0,
        "peak_memory": a.totals.peak_memory_bytes,
        "energy": 100.0 * sample().totals.time_s,
    }
