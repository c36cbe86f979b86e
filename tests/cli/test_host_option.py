"""--host: what the machine around a GPU needs to issue one operator, said in the header and the same for a whole comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofline import cli
from roofline.devices.library import lookup, with_host
from roofline.errors import UsageError

Capture = pytest.CaptureFixture[str]

NET = """
from torch import nn

def ten():
    return nn.Sequential(*[nn.ReLU() for _ in range(10)])
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    return f"{tmp_path / 'net.py'}:ten"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("0", "'0' is no time to issue an operator in"),
        ("-5 us", "'-5 us' is no time"),
        ("10", "'10' is no time"),
        ("1e-400 us", "out of range"),
        ("1 h", "'1 h' is no time"),
        ("nan", "expected a number in s"),
        ("", "expected a number in s"),
        ("10 parsec", "'parsec' is no unit"),
        ("10 GB/s", "'GB/s' is a unit of B/s"),
        (True, "expected a number in s"),
        (float("inf"), "expected a number in s"),
    ],
)
def test_what_is_no_time_is_refused(host: str | float, words: str) -> None:
    with pytest.raises(UsageError, match=r"^host ") as error:
        with_host([lookup("t4")], host, "eager")
    assert words in str(error.value)


def test_a_cpu_is_its_own_host() -> None:
    with pytest.raises(UsageError, match="i9-10940x is a CPU, which is its own host"):
        with_host([lookup("i9-10940x")], "10 us", "eager")
    gpu, cpu = with_host([lookup("t4"), lookup("i9-10940x")], "10 us", "eager")
    assert (gpu.host.value, gpu.host.status) == (pytest.approx(10e-6), "given")
    assert cpu == lookup("i9-10940x")


def test_the_ideal_runtime_has_none() -> None:
    with pytest.raises(UsageError, match="the ideal runtime has no host"):
        with_host([lookup("t4")], "10 us", "ideal")


def test_ten_tiny_kernels_wait_for_ten_steps_of_the_host(net: str, capsys: Capture) -> None:
    """The host issues ten operators that take next to no time: 10 x 100 us, from a cache that held the device file's before."""
    base = ["analyze", net, "-d", "rtx-4090", "-d", "gh200-96gb", "--input", "8,8", "--json"]
    times = {}
    for option in ([], ["--host", "100us"], ["--host", "100us"]):
        assert cli.main([*base, *option]) == 0
        found = json.loads(capsys.readouterr().out)["analyses"]
        times[bool(option)] = [a["totals"]["time_s"] for a in found]
        assert [a["setting"]["host_s"] for a in found] == pytest.approx([1e-4, 1e-4] if option else [15e-6, 27e-6])
        assert [a["setting"]["host_status"] for a in found] == (["given"] * 2 if option else ["assumed", "memory"])
    assert times[True] == pytest.approx([1e-3, 1e-3], rel=0.02)
    assert times[False] == pytest.approx([10 * 15e-6, 10 * 27e-6], rel=0.1)


def test_the_header_says_what_was_assumed_and_a_comparison_whom_it_favours(net: str, capsys: Capture) -> None:
    base = ["analyze", net, "-d", "rtx-4090", "-d", "gh200-96gb", "--input", "8,8"]
    assert cli.main(base) == 0
    out, err = capsys.readouterr()
    assert "datasheet ceilings, host 15 us assumed" in out
    assert "datasheet ceilings, host 27 us from memory" in out
    assert "hosts differ (rtx-4090 15 us assumed, gh200-96gb 27 us from memory), which favours rtx-4090" in err
    assert cli.main([*base, "--host", "10 us"]) == 0
    out, err = capsys.readouterr()
    assert out.count("host 10 us as given") == 2
    assert "hosts differ" not in err


def test_a_budget_and_a_difference_take_it(net: str, tmp_path: Path, capsys: Capture) -> None:
    budget = '[[budget]]\nmodel = "net.py:ten"\ninputs = ["8,8"]\ndevice = "t4"\nmax_time = "500 us"\n'
    for more, code in (('host = "20 us"\n', 0), ('host = "100 us"\n', 1), ('host = "ten"\n', 2), ("host = true\n", 2)):
        (tmp_path / "roofline.toml").write_text(budget + more, encoding="utf-8")
        assert cli.main(["check", str(tmp_path / "roofline.toml")]) == code
    assert 'expected a time such as "10 us", got True' in capsys.readouterr().err
    saved = str(tmp_path / "base.json")
    assert cli.main(["analyze", net, "-d", "t4", "--input", "8,8", "--host", "100us", "-o", saved]) == 0
    capsys.readouterr()
    assert cli.main(["diff", saved, net, "--input", "8,8", "--json"]) == 0  # the host that was saved is taken again
    assert json.loads(capsys.readouterr().out)["diff"]["settings"] == []
    assert cli.main(["diff", saved, net, "--input", "8,8", "--host", "20us", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["diff"]
    assert found["settings"] == ["host: 100 us given -> 20 us given"]
    time = next(c for c in found["totals"] if c["metric"] == "time")
    assert time["relative"] == pytest.approx(-0.8, abs=0.03)
