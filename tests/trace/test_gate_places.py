"""The gate where models lie in packages: what is imported is that of the revision, from wherever the check is asked."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from repos import commit, git

from roofline import cli

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")

# a 3x3 convolution of 3 to 8 channels on 8x8: 3*8*9*6*6 = 7,776 MACs; a 5x5 one: 3*8*25*4*4 = 9,600
SMALL, LARGE = 7_776, 9_600
BLOCKS = "from torch import nn\n\ndef block(i, o):\n    return nn.Sequential(nn.Conv2d(i, o, 3), nn.ReLU())\n"
NET = "from vision.blocks import block\n\ndef net():\n    return block(3, 8)\n"
BUDGET = '[budgets.net]\nmodel = "net.py:net"\non = "t4"\ninputs = "1,3,8,8"\nmacs = "+1 %"\n'
ASKED = ("-d", "t4", "--input", "1,3,8,8")


class Editable:
    """As a tool installs a package from its checkout: by a finder of its own, and not by sys.path."""

    def __init__(self, package: Path) -> None:
        self.package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.package.name:
            return None
        places = [str(self.package)]
        return spec_from_file_location(name, self.package / "__init__.py", submodule_search_locations=places)


@pytest.fixture
def mono(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in `packages/vision/src`, and a model in `zoo/` that imports it; a branch makes the package's block larger."""
    repo = tmp_path / "mono"
    package = repo / "packages" / "vision" / "src" / "vision"
    package.mkdir(parents=True)
    (repo / "zoo").mkdir()
    git(repo, "init", "-q")
    (package / "__init__.py").write_text("")
    (package / "blocks.py").write_text(BLOCKS)
    (repo / "zoo" / "net.py").write_text(NET)
    (repo / "zoo" / "roofline.toml").write_text(BUDGET)
    commit(repo, "first")
    git(repo, "checkout", "-q", "-b", "large")
    (package / "blocks.py").write_text(BLOCKS.replace("3)", "5)"))
    commit(repo, "large")
    monkeypatch.chdir(repo)
    return repo


@pytest.fixture(params=["path", "finder"])
def installed(request: pytest.FixtureRequest, mono: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with the package installed from the checkout."""
    source = mono / "packages" / "vision" / "src"
    if request.param == "path":
        monkeypatch.syspath_prepend(str(source))
    else:
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable(source / "vision")])
    return mono


def run(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = cli.main(list(args))
    return code, *capsys.readouterr()


def macs(document: str) -> list[float]:
    return [n for c in json.loads(document)["diff"]["totals"] if c["metric"] == "macs" for n in (c["base"], c["head"])]


@pytest.mark.parametrize("model", ["zoo/net.py:net", "vision.blocks:block"])
def test_a_package_that_is_installed_from_the_checkout_is_that_of_the_revision(
    model: str, installed: Path, capsys: Capture
) -> None:
    more = ("--set", "i=3", "--set", "o=8") if "block:" in model or model.startswith("vision") else ()
    code, out, err = run(capsys, "diff", "main...HEAD", model, *ASKED, *more, "--json")
    assert code == 0, err
    assert macs(out) == [SMALL, LARGE]
    assert "vision" not in sys.modules
    found, finders = list(sys.path), list(sys.meta_path)
    assert str(installed) in " ".join(found) + " ".join(str(vars(f).get("package", "")) for f in finders)


@pytest.mark.parametrize("base", ["--against", "--since"])
@pytest.mark.parametrize("place", [".", "..", "packages/vision"])
def test_the_gate_from_anywhere(base: str, place: str, mono: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the budget file's repository, and not of the folder's in which it is asked."""
    monkeypatch.syspath_prepend(str(mono / "packages" / "vision" / "src"))
    monkeypatch.chdir(mono / place)
    where = os.path.relpath(mono / "zoo", mono / place)
    code, out, err = run(capsys, "check", where, base, "main", "--json")
    assert code == 1, err
    (finding,) = json.loads(out)["budgets"][0]["findings"]
    assert (finding["base"], finding["actual"]) == (SMALL, LARGE)


@pytest.mark.parametrize("how", ["revision", "baseline"])
def test_packages_that_call_their_models_alike_have_bases_of_their_own(how: str, mono: Path, capsys: Capture) -> None:
    """a/net.py and b/net.py are `net.py:net` in the budget file beside each: 3*8*9*6*6 MACs, and twice as many."""
    for name, width in (("a", 8), ("b", 16)):
        (mono / name).mkdir()
        (mono / name / "net.py").write_text(f"from torch import nn\n\ndef net():\n    return nn.Conv2d(3, {width}, 3)\n")
        (mono / name / "roofline.toml").write_text(BUDGET.replace("+1 %", "±0 %"))
    shutil.rmtree(mono / "zoo")
    assert run(capsys, "check", ".", "--update")[0] == 0
    commit(mono, "two packages")
    code, out, err = run(capsys, "check", ".", *(("--since", "HEAD") if how == "revision" else ()), "--json")
    assert code == 0, err
    assert [verdict["budget"] for verdict in json.loads(out)["budgets"]] == ["a: net", "b: net"]
    bases = [finding["base"] for verdict in json.loads(out)["budgets"] for finding in verdict["findings"]]
    assert bases == [SMALL, SMALL, 2 * SMALL, 2 * SMALL]


def test_numbers_of_other_versions_from_elsewhere(mono: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are analysed again as they were, also where the working directory is in no repository."""
    from roofline.gate import baseline

    monkeypatch.syspath_prepend(str(mono / "packages" / "vision" / "src"))
    git(mono, "checkout", "-q", "main")
    with monkeypatch.context() as patch:
        patch.setattr(baseline, "made_with", lambda: {"constants": "x", "roofline": "0.0.9", "torch": "2.9.0"})
        assert run(capsys, "check", "zoo", "--update")[0] == 0
    commit(mono, "baseline")
    git(mono, "checkout", "-q", "large")
    git(mono, "merge", "-q", "main", "-m", "both")
    monkeypatch.chdir(mono.parent)
    code, out, _ = run(capsys, "check", "mono/zoo", "--json")
    assert code == 1
    (finding,) = json.loads(out)["budgets"][0]["findings"]
    assert (finding["base"], finding["actual"]) == (SMALL, LARGE)
    # where the history begins every file looks new, and the base would be what is checked
    git(mono.parent, "clone", "-q", "--depth", "1", f"file://{mono}", "shallow")
    code, _, err = run(capsys, "check", "shallow/zoo")
    assert code == 2
    assert "the commit that made it is not here" in err
    assert "fetch-depth: 0" in err


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (
            ("def net():", "def other():\n    return block(3, 9)\n\ndef net():", "net.py:net", "net.py:other"),
            "zoo/net.py has no 'other'",
        ),
        (
            ("def net():", "def net(wide=False):", "net.py:net", 'net.py:net"\nset = { wide = true }#'),
            "net takes no argument 'wide'",
        ),
    ],
    ids=["a new function", "a new argument"],
)
def test_what_the_base_did_not_have_is_no_base(
    edit: tuple[str, ...], why: str, mono: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes with a note, which names no folder that is gone."""
    monkeypatch.syspath_prepend(str(mono / "packages" / "vision" / "src"))
    for name, old, new in (("net.py", *edit[:2]), ("roofline.toml", *edit[2:])):
        file = mono / "zoo" / name
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
    first, second = (run(capsys, "check", "zoo", "--against", "main", "--json") for _ in range(2))
    assert first[0] == 0, first
    (finding,) = json.loads(first[1])["budgets"][0]["findings"]
    assert finding["why"].startswith("no base: at main (")
    assert why in finding["why"]
    assert first[1] == second[1]


def test_a_file_outside_of_the_repository_has_no_revisions(
    mono: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(mono / "packages" / "vision" / "src"))
    shutil.move(mono / "zoo" / "net.py", mono.parent / "net.py")
    (mono / "zoo" / "roofline.toml").write_text(BUDGET.replace("net.py", "../../net.py"))
    code, out, _ = run(capsys, "check", "zoo", "--against", "main", "--json")
    assert code == 0
    (finding,) = json.loads(out)["budgets"][0]["findings"]
    assert "net.py is not in the repository, so it is the same at main" in finding["why"]
    code, _, err = run(capsys, "diff", "main...HEAD", f"{mono.parent / 'net.py'}:net", *ASKED)
    assert code == 2
    assert "is not in the repository" in err
    monkeypatch.chdir(mono.parent)
    shutil.copytree(mono / "zoo", "apart")
    code, _, err = run(capsys, "check", "apart", "--against", "main")
    assert code == 2
    assert "no git repository around apart" in err


def test_a_difference_says_at_which_side_a_model_fails(mono: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(mono / "packages" / "vision" / "src"))
    (mono / "zoo" / "net.py").write_text(NET.replace("net()", "netz()"))
    commit(mono, "called otherwise")
    for model, side in (("net", "HEAD"), ("netz", "main")):
        code, _, err = run(capsys, "diff", "main...HEAD", f"zoo/net.py:{model}", *ASKED)
        assert code == 2
        assert f"error: at {side} (" in err
        assert f"): zoo/net.py has no '{model}'" in err
