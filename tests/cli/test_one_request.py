"""One request everywhere: the same options give the same numbers through analyze, check, diff, validate and Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import roofline
from roofline import cli
from roofline.records import Analysis

Capture = pytest.CaptureFixture[str]

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3)
        self.conv = nn.Conv2d(64, 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.relu(self.stem(x)))


ROOFLINE = {
    "Net": {"inputs": {"x": [2, 3, 128, 128]}},
}
"""
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}

NETWORK, DECODER = "net.py:Net", "hf:config.json"
# the model, the options of a pass and a place, and the same as lines of a budget and as arguments in Python
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fp64": (NETWORK, {"dtype": "fp64"}),
    "compiled amp": (NETWORK, {"runtime": "compiled", "dtype": "amp"}),
    "ideal": (NETWORK, {"runtime": "ideal"}),
    "host": (NETWORK, {"host": "99 us"}),
    "training": (NETWORK, {"training": True}),
    "training with sgd": (NETWORK, {"training": True, "optimizer": "sgd", "dtype": "amp"}),
    "prefill": (DECODER, {"prefill": 64, "dtype": "bf16"}),
    "decode": (DECODER, {"decode": 200, "runtime": "compiled"}),
}


def written(given: dict[str, Any]) -> list[str]:
    """As options of the command line."""
    return [arg for name, value in given.items() for arg in ([f"--{name}"] if value is True else [f"--{name}", str(value)])]


def lines(given: dict[str, Any]) -> str:
    """As lines of a budget."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET, encoding="utf-8")
    Path("config.json").write_text(json.dumps(LLAMA), encoding="utf-8")


def asked(capsys: Capture, *args: str, code: int = 0) -> Any:
    found = cli.main([*args, "--json"])
    out, err = capsys.readouterr()
    assert found == code, err
    return json.loads(out)


def of_totals(document: dict[str, Any]) -> dict[str, float]:
    totals = document["totals"]
    return {"flops": totals["flops"], "time": totals["time_s"], "peak_memory": totals["peak_memory_bytes"]}


def of_verdict(document: dict[str, Any]) -> dict[str, float]:
    (verdict,) = document["budgets"]
    return {finding["metric"]: finding["actual"] for finding in verdict["findings"]}


LIMITS = 'max_flops = "1 PFLOP"\nmax_time = "1 s"\nmax_peak_memory = "1 TiB"\n'


@pytest.mark.parametrize("case", CASES)
def test_every_command_answers_the_same(case: str, capsys: Capture) -> None:
    model, given = CASES[case]
    options = ["-d", "rtx-4090", *written(given)]
    document = asked(capsys, "analyze", model, *options, "-o", "saved.json")
    expected = of_totals(document)
    plain = asked(capsys, "analyze", model, "-d", "rtx-4090")
    assert of_totals(plain) != expected

    python: Analysis = roofline.analyze(model, device="rtx-4090", **given)
    assert (python.totals.flops, python.totals.time_s) == (expected["flops"], expected["time"])

    Path("said.toml").write_text(f'[[budget]]\nmodel = "{model}"\ndevice = "rtx-4090"\n{lines(given)}{LIMITS}')
    Path("bare.toml").write_text(f'[[budget]]\nmodel = "{model}"\n{LIMITS}')
    assert of_verdict(asked(capsys, "check", "said.toml")) == expected
    assert of_verdict(asked(capsys, "check", "bare.toml", *options)) == expected

    for base, more in ((model, options), ("saved.json", [])):
        found = asked(capsys, "diff", base, model, *more)["diff"]
        assert found["settings"] == []
        totals = {change["metric"]: (change["base"], change["head"]) for change in found["totals"]}
        assert {name: totals[name] for name in expected} == {name: (value, value) for name, value in expected.items()}


def test_a_table_is_predicted_in_the_same_way(capsys: Capture) -> None:
    Path("times.csv").write_text("model,batch,size,ms\nnet.py:Net,2,128,1.0\n")
    columns = [arg for name in ("model", "batch", "size", "ms") for arg in ("--column", f"{name}={name}")]
    found = asked(capsys, "validate", "times.csv", "-d", "rtx-4090", "--dtype", "fp64", "--own-models", *columns)
    assert found["dtype"] == "fp64"
    expected = of_totals(asked(capsys, "analyze", NETWORK, "-d", "rtx-4090", "--dtype", "fp64"))
    assert found["worst"][0]["predicted_s"] == pytest.approx(expected["time"])


def test_what_a_budget_says_stands_against_the_options(capsys: Capture) -> None:
    """Of two passes at once neither would be made: a budget that says one keeps it, with its own optimizer."""
    adamw = {"training": True, "optimizer": "adamw"}
    # what each says, and what it is checked in
    parts = [({"decode": 200}, {"decode": 200}), ({**adamw, "optimizer": "sgd"},) * 2, ({"training": True}, adamw), ({}, adamw)]
    models = (DECODER, NETWORK, NETWORK, NETWORK)
    Path("roofline.toml").write_text(
        "".join(f'[[budget]]\nmodel = "{m}"\n{lines(p)}max_time = 1\n' for m, (p, _) in zip(models, parts, strict=True))
    )
    found = asked(capsys, "check", "-d", "t4", "--training", "--optimizer", "adamw", "--dtype", "fp16")["budgets"]
    assert [v["mode"] for v in found] == ["inference", "training", "training", "training"]
    times = [v["findings"][0]["actual"] for v in found]
    assert times[1] < times[2] == times[3]
    for time, model, (_, part) in zip(times, models, parts, strict=True):
        document = asked(capsys, "analyze", model, "-d", "t4", "--dtype", "fp16", *written(part))
        assert time == document["totals"]["time_s"]


@pytest.mark.parametrize(
    ("budget", "options", "words"),
    [
        ('runtime = "ideal"\n', ["--runtime", "compiled"], "--runtime: no budget in roofline.toml takes it"),
        ("training = true\n", ["--decode", "8"], "--decode: no budget in roofline.toml takes it"),
        ("", ["--optimizer", "sgd"], "--optimizer: no budget in roofline.toml takes it"),
        ('device = "t4"\n', ["-d", "a10"], "--device: no budget in roofline.toml takes it"),
    ],
)
def test_an_option_that_no_budget_takes_is_refused(budget: str, options: list[str], words: str, capsys: Capture) -> None:
    Path("roofline.toml").write_text(f'[[budget]]\nmodel = "{NETWORK}"\n{budget}max_flops = 1e15\n')
    assert cli.main(["check", *options]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"optimizer": "sgd"}, "optimizer 'sgd' is that of a training step"),
        ({"prefill": 8, "decode": 8}, "three different passes"),
        ({"prefill": 8, "inputs": ["1,8:int64"]}, "inputs (--input) beside prefill"),
        ({"prefill": 8}, "is not a causal language model"),
        ({"host": "9 us", "runtime": "ideal"}, "the ideal runtime has no host"),
    ],
)
def test_what_cannot_be_asked_costs_its_own_budget(keys: dict[str, Any], words: str, capsys: Capture) -> None:
    good = f'[[budget]]\nmodel = "{NETWORK}"\ndevice = "t4"\nmax_flops = 1e15\n'
    Path("roofline.toml").write_text(good + good + lines(keys))
    bad, fine = asked(capsys, "check", code=2)["budgets"][::-1]
    assert words in bad["error"]
    assert fine["ok"]
