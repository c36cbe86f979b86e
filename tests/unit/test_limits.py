"""Limits: every metric at its limit and one unit beyond, absolute and as a change; how budgets are written; what is refused."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sample import hostile, sample

from roofline import units
from roofline.analysis import budgets, changes, limits, schema
from roofline.analysis.declared import OPTIONS, keys
from roofline.analysis.limits import Base
from roofline.analysis.metrics import BY_NAME, METRICS, exact, parse
from roofline.errors import BudgetFileError
from roofline.gate import baseline
from roofline.records import Analysis
from roofline.views import checked, gate, reports


def load(path: Path, text: str, name: str = "roofline.toml") -> list[budgets.Budget]:
    file = path / name
    file.write_text(text, encoding="utf-8")
    return budgets.load_budgets(file)


def next_after(value: float, of: str, up: bool) -> float:
    """One unit beyond: of what is counted in whole numbers one, of others the next float."""
    if float(value).is_integer() and BY_NAME[of].unit != "s":
        return value + (1 if up else -1)
    return math.nextafter(value, math.inf if up else 0)


@pytest.mark.parametrize("metric", [m.name for m in METRICS])
@pytest.mark.parametrize("kind", ["absolute", "part", "amount"])
@pytest.mark.parametrize("side", ["max", "min"])
@pytest.mark.parametrize("level", ["fail", "warn"])
def test_at_the_limit_and_one_unit_beyond(metric: str, kind: str, side: str, level: str, tmp_path: Path) -> None:
    a = sample()
    actual = BY_NAME[metric].of(a)
    beyond = next_after(actual, metric, side == "min")
    for bound, ok in ((actual, True), (beyond, False)):
        # so that the base and its change are the bound: a third of it, and that twice again; or the bound and nothing
        base = {"absolute": None, "part": bound, "amount": bound}[kind]
        written = {"absolute": repr(bound), "part": '"+0 %"', "amount": '"-0"'}[kind]
        key = f"{'warn_' if level == 'warn' else ''}{side}_{metric}"
        (budget,) = load(tmp_path, f'[[budget]]\nmodel = "m"\n{key} = {written}\n')
        numbers = {} if base is None else {metric: base}
        verdict = budgets.check(budget, a, Base(numbers=numbers, where="then"))
        (finding,) = verdict.findings
        assert finding.ok is ok
        assert finding.limit == bound
        assert verdict.ok is (ok or level == "warn")
        assert limits.exit_code([verdict]) == int(not ok and level == "fail")
        shown = checked.verdicts([verdict])
        assert ("FAIL" in shown, "warn  " in shown) == (not ok and level == "fail", not ok and level == "warn")


@pytest.mark.parametrize(
    ("change", "base", "bound"),
    [
        ("+2 %", 50, 51),
        ("+15 %", 20, 23),
        ("+1.9 %", 1000, 1019),
        ("-5 %", 200, 190),
        ("+100 k", 7, 100_007),
        ("-100", 150, 50),
        ("+0%", 3, 3),
        ("+ 10 %", 10, 11),
    ],
)
def test_a_change_is_exact(change: str, base: float, bound: float) -> None:
    of = BY_NAME["macs"]
    assert limits.bound(limits.limit("macs", of, change, "max"), base) == bound


def test_both_directions(tmp_path: Path) -> None:
    for text in ("±2 %", "+-2 %", "+/-2 %"):
        (budget,) = load(tmp_path, f'[budgets.m]\nmacs = "{text}"\n')
        assert [(one.side, one.change) for one in budget.limits] == [("max", "+2 %"), ("min", "-2 %")]


def test_without_a_base_it_passes_and_says_so(tmp_path: Path) -> None:
    (budget,) = load(tmp_path, '[budgets.m]\nmacs = "+2 %"\n')
    verdict = budgets.check(budget, sample())
    assert verdict.ok
    assert verdict.findings[0].limit is None
    assert "roofline check --update" in verdict.findings[0].why


def test_accepted_changes_break_nothing_and_absolute_limits_do(tmp_path: Path) -> None:
    (budget,) = load(tmp_path, '[budgets.m]\nmacs = "+2 %"\nparams = 1\n')
    verdict = budgets.check(budget, sample(), Base(numbers={"macs": 1}, where="v1"), "on purpose")
    assert [(f.key, f.broken, f.accepted) for f in verdict.findings] == [("params", True, False), ("macs", False, True)]
    assert any("accepted (on purpose): macs" in note for note in verdict.notes)


# ------------------------------------------------------------------------------------------------ how it is written


def test_a_note_of_many_models_is_said_once(tmp_path: Path) -> None:
    found = [
        replace(budgets.check(budget, sample()), notes=("the same", "the same"))
        for budget in load(tmp_path, '[budgets.many]\nmodels = ["a", "b", "c"]\nparams = "9 G"\n')
    ]
    assert checked.verdicts(found).count("the same") == 1
    assert "note  a and 2 more  rtx-3090  the same" in checked.verdicts(found)
    assert gate.markdown(found).count("the same") == 1
    assert "- a and 2 more on rtx-3090: the same" in gate.markdown(found)


@pytest.mark.parametrize(
    ("limits_", "base", "accepted", "said"),
    [
        ("params = '9 G'\nmacs = '9 T'", None, "", "2 limits kept"),
        ("params = '9 G'\nwarn_max_macs = 1", None, "", "1 of 2 limits kept, 1 warned"),
        ("params = 1\nwarn_max_macs = 1\nkernels = 10_000", None, "", "1 of 3 limits broken, 1 warned"),
        ("params = '9 G'\nmacs = '+1 %'", None, "", "1 of 2 limits kept, 1 without a base"),
        ("params = '9 G'\nmacs = '+1 %'", 1, "on purpose", "1 of 2 limits kept, 1 accepted"),
        ("params = '9 G'\nwarn_max_macs = '+1 %'", 1, "on purpose", "1 of 2 limits kept, 1 accepted"),
        ("params = '9 G'\nmacs = '+1 %'", 1, "", "1 of 2 limits broken"),
    ],
)
def test_what_limits_come_to(limits_: str, base: float | None, accepted: str, said: str, tmp_path: Path) -> None:
    """A limit that only warns, is accepted or has no base is not called kept: in the table, the report and the badge."""
    (budget,) = load(tmp_path, f"[budgets.m]\n{limits_}\n")
    held = Base(numbers={"macs": base}, where="v1") if base is not None else limits.NO_BASE
    found = [budgets.check(budget, sample(), held, accepted)]
    assert checked.verdicts(found).splitlines()[-1] == said
    assert gate.markdown(found).endswith(f"\n{said}.\n")
    badge = json.loads(gate.FORMATS[".badge.json"](tmp_path / "badge.json", gate.document(found), found))
    assert badge["message"] == ("1 broken" if "broken" in said else said)
    assert badge["color"] == {"broken": "red", "warned": "yellow", "accepted": "yellow"}.get(
        said.split()[-1], "brightgreen"
    ) or (badge["color"] == "red" and "broken" in said)


def test_the_short_form(tmp_path: Path) -> None:
    text = """
[tool.roofline.defaults]
device = "t4"
bytes = "+2 %"

[tool.roofline.budgets.mobilenet_v3_large]
macs = "217 M"
time = { on = "v100-sxm2", max = "3 ms", warn = "2.8 ms" }

[tool.roofline.budgets.many]
models = ["a", "b"]
max_params = "9 M"
bytes = "1 GB"

[[tool.roofline.budgets.resnet50.at]]
dtype = "fp16"
throughput = "1 k"

[[tool.roofline.budgets.resnet50.at]]
batch = 32
min_throughput = 3
"""
    found = load(tmp_path, text, "pyproject.toml")
    said = [(b.key, [(one.key, one.side, one.level, one.value) for one in b.limits]) for b in found]
    assert said == [
        ("mobilenet_v3_large on t4", [("macs", "max", "fail", 217e6), ("bytes", "max", "fail", 0.02)]),
        ("mobilenet_v3_large on v100-sxm2", [("time.max", "max", "fail", 0.003), ("time.warn", "max", "warn", 0.0028)]),
        ("a on t4", [("max_params", "max", "fail", 9e6), ("bytes", "max", "fail", 1e9)]),
        ("b on t4", [("max_params", "max", "fail", 9e6), ("bytes", "max", "fail", 1e9)]),
        ("resnet50 on t4, dtype=fp16", [("throughput", "min", "fail", 1000.0)]),
        ("resnet50 on t4, batch=32", [("min_throughput", "min", "fail", 3.0)]),
    ]
    assert [b.line for b in found] == [6, 6, 10, 10, 15, 19]
    assert [b.label for b in budgets.chosen(found, ["many"])] == ["a", "b"]
    assert [b.key for b in budgets.chosen(found, ["a", "resnet*"])] == [found[2].key, found[4].key, found[5].key]


def test_settings_of_one_model_are_told_apart(tmp_path: Path) -> None:
    """In the table, and by what reads JUnit, which knows a test by its class and name."""
    from roofline.gate.patterns import told_apart

    text = """
[defaults]
inputs = "1,3,8,8"
[budgets.net]
on = "t4"
macs = 1
time = { on = "a100-sxm4-80gb", max = "1 s" }
at = [{ batch = 32, macs = 1 }, { batch = 32, dtype = "fp16", macs = 1 }]
[budgets.other]
model = "net"
on = "t4"
macs = 1
"""
    found = told_apart(load(tmp_path, text))
    assert [b.label for b in found] == ["net", "net", "net, batch=32", "net, batch=32, dtype=fp16", "other"]
    assert [b.label for b in budgets.chosen(found, ["net"])] == [b.label for b in found]
    assert [b.label for b in budgets.chosen(found, ["net, batch=32"])] == ["net, batch=32"]
    verdicts = [
        budgets.check(b, replace(sample(), setting=replace(sample().setting, device=b.request.place.device))) for b in found
    ]
    suites = ElementTree.fromstring(gate.FORMATS[".xml"](tmp_path, gate.document(verdicts), verdicts))
    assert len({suite.get("name") for suite in suites}) == 5


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[budgets.m]\nmacz = 1\n", 2, "budgets.m: unknown key 'macz'; did you mean 'macs'?"),
        ('[budgets.m]\ntime = { max = "3 MB" }\n', 2, "budgets.m: time.max: expected a number in s"),
        ('[budgets.m]\ntime = { maxx = "3 ms" }\n', 2, "time: unknown key 'maxx'; did you mean 'max'?"),
        ('[budgets.m]\ntime = { on = "t4" }\n', 2, "time: no limit in it"),
        ("[budgets.m]\nmacs = 1\nmax_macs = 2\n", 3, "max_macs: macs says the same limit already"),
        ('[budgets.m]\nmacs = "2 %"\n', 2, 'a change from the baseline has a sign: "+2 %"'),
        ('[budgets.m]\nmacs = "+x %"\n', 2, "macs: expected"),
        ('[budgets.m]\nmacs = "+-"\n', 2, "macs: expected"),
        ('[budgets.m]\nmacs = "+nan"\n', 2, "macs: expected"),
        ('[budgets.m]\nmacs = "-100.1 %"\n', 2, "a fall of at most 100 %, which leaves 0"),
        ('[budgets.m]\nmax_macs = "5483,032"\n', 2, "max_macs: expected a number like 250"),
        ('[budgets.m]\nmax_time = "1e-400 ms"\n', 2, "out of range"),
        ('[budgets.m]\nmax_macs = "1e-400"\n', 2, "in range"),
        ('[budgets.m]\nmax_bytes = "20 KIB"\n', 2, "did you mean 'KiB'?"),
        ('[budgets.m]\nmax_bytes = "5 ms"\n', 2, "'ms' is a unit of s"),
        ("[budgets.m]\nmodels = []\nmacs = 1\n", 2, "models: expected a list of texts"),
        ("[budgets.m]\nat = 3\nmacs = 1\n", 2, "at: expected tables"),
        ('[budgets.m]\nmacs = 1\non = ["t4", "p100"]\n', 3, 'of several each its own limit: time = [{ on = "t4"'),
        ("[[budgets.m.at]]\nbatch = 3\n", 1, "budgets.m.at 1: no limit in it"),
        ("[defaults]\nmodel = 'x'\n", 2, "defaults: unknown key 'model'"),
        (
            'baseline = "x.toml"\n[budgets.m]\nmacs = 1\nallow_unknown = 3\n',
            4,
            "allow_unknown: expected true, false or operators",
        ),
    ],
)
def test_refused(text: str, line: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetFileError) as raised:
        load(tmp_path, text)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'roofline.toml'}:{line}: ")
    assert words in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize(
    ("short", "long", "said"),
    [
        ("peak_memory = '10 KB'", 10_000, "9.766 KiB"),
        ("peak_memory = '10 KiB'", 10_240, "10 KiB"),
        ("bytes = '10 KB'", 10_000, "10 kB"),
        ("bytes = '10 KiB'", 10_240, "10.24 kB"),
        ("time = 5", 5, "5 s"),
        ("time = '5 ms'", 0.005, "5 ms"),
    ],
)
def test_units_that_look_alike_are_told_apart(short: str, long: float, said: str, tmp_path: Path) -> None:
    """In what is held, and in what a person reads as the limit."""
    (budget,) = load(tmp_path, f"[budgets.m]\n{short}\n")
    assert budget.limits[0].value == long
    assert f" {said} " in checked.verdicts([budgets.check(budget, sample())])


def test_how_windows_writes_a_file(tmp_path: Path) -> None:
    """With the mark that its editors put first, and its ends of lines; the line of an error is the same."""
    file = tmp_path / "roofline.toml"
    text = "[budgets.m]\nmacs = 1\n"
    for content in (f"\ufeff{text}", text.replace("\n", "\r\n"), f"\ufeff{text}".replace("\n", "\r\n")):
        file.write_bytes(content.encode())
        assert [b.label for b in budgets.load_budgets(file)] == ["m"]
        file.write_bytes(content.replace("macs", "mcas").encode())
        with pytest.raises(BudgetFileError, match=r"toml:2: budgets\.m: unknown key 'mcas'"):
            budgets.load_budgets(file)


def test_values_of_set_keep_their_types(tmp_path: Path) -> None:
    from roofline.request import typed

    text = "{ flags = [true, false], off = '0', none = 'none', n = 3, w = 0.5, t = 'a b' }"
    (budget,) = load(tmp_path, f"[[budget]]\nmodel = 'm'\nmax_macs = 1\nset = {text}\n")
    assert budget.request is not None
    said = {name: typed(value) for name, value in budget.request.ask.settings.items()}
    assert said == {"flags": [True, False], "off": "0", "none": "none", "n": 3, "w": 0.5, "t": "a b"}
    assert [type(v) for v in said["flags"]] == [bool, bool]


def test_budget_files_of_one_folder_have_baselines_of_their_own(tmp_path: Path) -> None:
    """What `--update` writes for one would take away the numbers of the other."""
    text = "[budgets.m]\nmacs = 1\n"
    for name, expected in (("roofline.toml", "roofline"), ("edge.toml", "edge"), ("pyproject.toml", "roofline")):
        (tmp_path / name).write_text(text.replace("[budgets", "[tool.roofline.budgets") if "py" in name else text)
        assert budgets.baseline_of(tmp_path / name) == tmp_path / f"{expected}-baseline.json"
    (tmp_path / "edge.toml").write_text(f'baseline = "x.json"\n{text}')
    assert budgets.baseline_of(tmp_path / "edge.toml") == tmp_path / "x.json"


def test_all_files_below_a_folder(tmp_path: Path) -> None:
    for place in ("", "a", "b/c", ".hidden", "node_modules/x"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "roofline.toml").write_text("[budgets.m]\nmacs = 1\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "pyproject.toml").write_text("[tool.roofline.budgets.m]\nmacs = 1\n")
    found = [p.relative_to(tmp_path).as_posix() for p in budgets.budget_files(tmp_path)]
    assert found == ["roofline.toml", "a/roofline.toml", "b/c/roofline.toml", "d/pyproject.toml"]


@given(st.integers(0, 10**13), st.sampled_from(["", "k", "M", "G"]), st.integers(0, 6))
def test_counts_round_trip(digits: int, prefix: str, decimals: int) -> None:
    scale = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[prefix]
    text = f"{digits // 10**decimals}.{digits % 10**decimals:0{decimals}d} {prefix}" if decimals else f"{digits} {prefix}"
    assert exact(BY_NAME["macs"], text) == Fraction(digits, 10**decimals) * scale


@given(st.integers(1, 10**6), st.sampled_from(["B", "KB", "KiB", "MB", "MiB", "GB", "GiB"]))
def test_bytes_round_trip(number: int, unit: str) -> None:
    scale = {"K": 1, "M": 2, "G": 3}.get(unit[0], 0)
    assert parse(BY_NAME["bytes"], f"{number} {unit}") == number * (1024 if "i" in unit else 1000) ** scale
    assert units.exact(f"{number}.5 {unit}", "B") == Fraction(2 * number + 1, 2) * (1024 if "i" in unit else 1000) ** scale


# ------------------------------------------------------------------------------------------------ the schema


def valid(value: Any, of: dict[str, Any], root: dict[str, Any]) -> bool:
    """As much of JSON Schema as ours uses."""
    if "$ref" in of:
        return valid(value, root["$defs"][of["$ref"].rpartition("/")[2]], root)
    if "anyOf" in of:
        return any(valid(value, one, root) for one in of["anyOf"])
    if "enum" in of:
        return value in of["enum"]
    kinds = {"string": str, "object": dict, "array": list, "boolean": bool, "integer": int, "number": (int, float)}
    types = [of["type"]] if isinstance(of["type"], str) else of["type"]
    if not any(isinstance(value, kinds[t]) and (t == "boolean") == isinstance(value, bool) for t in types):
        return False
    if isinstance(value, dict):
        known, more = of.get("properties", {}), of.get("additionalProperties", True)
        return all(
            valid(v, known[k], root) if k in known else more if isinstance(more, bool) else valid(v, more, root)
            for k, v in value.items()
        )
    if isinstance(value, list):
        return len(value) >= of.get("minItems", 0) and all(valid(v, of["items"], root) for v in value)
    return not isinstance(value, int) or value >= of.get("minimum", value)


VALUES: dict[str, tuple[Any, Any]] = {  # of each key one that is good, and one that is not
    "model": ("m", 3), "models": (["a"], []), "analysis": ("a.json", 3), "name": ("x", 3), "device": ("t4", 3), "on": ("t4", 3),
    "host": ("10 us", []), "batch": (8, 0), "inputs": (["1,3"], 3), "resolution": (8, "8"), "dtype": ("fp16", "fp61"),
    "runtime": ("ideal", "idle"), "training": (True, 1), "optimizer": ("sgd", "sdg"), "prefill": (8, 0), "decode": (8, "8"),
    "turns": (3, 0), "channels_last": (True, "yes"), "fold_bn": (True, 1), "set": ({"a": 1}, "a=1"),
    "allow_unknown": (["a"], 3), "at": ([{"macs": 1}], 3),
}  # fmt: skip


@pytest.mark.parametrize(("short", "key"), [(s, k) for s in (False, True) for k in keys(s, False, False)])
def test_the_schema_and_the_loader_agree(short: bool, key: str, tmp_path: Path) -> None:
    root = schema.schema()
    for value, good in zip(VALUES.get(key, (3, True)), (True, False), strict=True):
        table: dict[str, Any] = {"warn_min_bytes": 1000, **({} if key in ("model", "models", "analysis") else {"model": "m"})}
        if key == "optimizer":
            table["training"] = True
        table[key] = value
        document = {"budgets": {"m": table}} if short else {"budget": [table]}
        assert valid(document, root, root) is good
        text = "[budgets.m]\n" if short else "[[budget]]\n"
        text += "".join(f"{k} = {toml(v)}\n" for k, v in table.items())
        try:
            load(tmp_path, text)
            read = True
        except BudgetFileError:
            read = False
        assert read is good, text
    assert not valid({"budgets": {"m": {f"{key}x": 1}}}, root, root)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


def test_every_option_of_a_request_has_a_value_here() -> None:
    assert set(OPTIONS) <= set(VALUES)


# ------------------------------------------------------------------------------------------------ reports and baselines


def broken(a: Analysis, tmp_path: Path) -> limits.Verdict:
    (budget,) = load(tmp_path, '[budgets.m]\nmacs = 1\nflops = "+1 %"\nwarn_max_params = 1\nbytes = "9 TB"\n')
    return budgets.check(budget, a, Base(numbers={"flops": 1.0}, where="v1"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('macs = { max = "217 M", warn = "220 M" }', "macs.warn is 220 M, beyond macs.max of 217 M"),
        ('max_time = "3 ms"\nwarn_max_time = "3.1 ms"', "warn_max_time is 3.1 ms, beyond max_time of 3 ms"),
        ('throughput = { min = "100", warn_min = "90" }', "throughput.warn_min is 90/s, beyond throughput.min of 100/s"),
        ('macs = { max = "+2 %", warn = "+3 %" }', r"macs.warn is \+3 %, beyond macs.max of \+2 %"),
        ('macs = { min = "-2 %", warn_min = "-3 %" }', "macs.warn_min is -3 %, beyond macs.min of -2 %"),
        # the nearer warns; of an amount and a part nobody knows which is nearer; nor of two settings
        ('macs = { max = "217 M", warn = "217 M" }', None),
        ('macs = { max = "+2 %", warn = "+1 %" }', None),
        ('throughput = { min = "90", warn_min = "100" }', None),
        ('macs = { max = "+2 %", warn = "+3 k" }', None),
        ('macs = [{ max = "217 M" }, { warn = "220 M", batch = 2 }]', None),
    ],
)
def test_a_warning_that_comes_after_failure_is_refused(said: str, words: str | None, tmp_path: Path) -> None:
    file = tmp_path / "roofline.toml"
    file.write_text(f"[budgets.mobilenet_v2]\n{said}\n")
    if words is None:
        assert budgets.load_budgets(file)
        return
    with pytest.raises(BudgetFileError, match=words):
        budgets.load_budgets(file)


def test_reports_name_files_by_their_way_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As code scanning wants it: from the root, in a URI, whichever folder this runs in; without a repository from here."""
    place = tmp_path / "packages" / "mein netz"
    place.mkdir(parents=True)
    (tmp_path / ".git").write_text("gitdir: elsewhere\n")  # as in a worktree
    result = reports.Result("macs", "error", "x", [("roofline.toml", 3), ("../ü.py", 4)])
    monkeypatch.chdir(place)
    (one,) = json.loads(reports.sarif([result], {"macs": "x"}))["runs"][0]["results"]
    found = [p["physicalLocation"]["artifactLocation"]["uri"] for p in one["locations"] + one["relatedLocations"]]
    assert found == ["packages/mein%20netz/roofline.toml", "packages/%C3%BC.py"]


@pytest.mark.parametrize("a", [sample(), hostile()], ids=["sample", "hostile"])
def test_reports(a: Analysis, tmp_path: Path) -> None:
    failed = replace(broken(a, tmp_path), error="a\n::error::b\x1b[31m<x>", findings=[], exit_code=3, ok=False)
    found = [broken(a, tmp_path), failed]
    made = {suffix: make(tmp_path / f"r{suffix}", gate.document(found), found) for suffix, make in gate.FORMATS.items()}
    suites = ElementTree.fromstring(made[".xml"])
    assert suites.tag == "testsuites"
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("5", "2", "1")
    assert [len(s.findall("testcase")) for s in suites] == [4, 1]
    sarif = json.loads(made[".sarif"])
    results = sarif["runs"][0]["results"]
    assert [(r["ruleId"], r["level"]) for r in results] == [
        ("params", "warning"),
        ("macs", "error"),
        ("flops", "error"),
        ("analysis", "error"),
    ]
    assert all(r["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1 for r in results)
    assert {r["ruleId"] for r in results} <= {rule["id"] for rule in sarif["runs"][0]["tool"]["driver"]["rules"]}
    assert [json.loads(line)["ok"] for line in made[".jsonl"].splitlines()] == [False, False]
    text = made[".md"].decode()
    assert "2 of 4 limits broken, 1 warned, 1 of 2 budgets not checked." in text
    assert "<x>" not in text
    assert "\x1b" not in text
    commands = checked.github(found)
    assert [line[:9] for line in commands.splitlines()] == ["::warning", "::error f", "::error f", "::error f"]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("metric", ["energy", "time", "flops", "bytes"])
def test_what_brought_a_sum_there_adds_up_to_it(metric: str, batch: int) -> None:
    """A budget of energy is that of a sample, and so are the layers that it names."""
    a = sample(batch=batch)
    assert sum(changes.parts(a, metric).values()) == pytest.approx(BY_NAME[metric].of(a))


def test_a_baseline_reads_back_and_is_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "made_with", lambda: {"constants": "c", "roofline": "0", "torch": "2"})
    a = sample()
    file = tmp_path / "b.json"
    entries = {"z": baseline.entry(a), "a": baseline.entry(sample(blocks=2))}
    file.write_text(baseline.text(entries))
    found = baseline.read(file)
    assert found is not None
    assert list(json.loads(file.read_text())["budgets"]) == ["a", "z"]
    entry = found.budgets["z"]
    for i, name in enumerate(baseline.ROW):
        assert sum(row[i] for row in entry.parts.values()) == pytest.approx(entry.totals[name])
    assert baseline.text(dict(reversed(entries.items()))) == file.read_text()
    assert len(file.read_text().splitlines()) < 100
    assert msgspec.json.decode(file.read_bytes())["schema"] == 1
