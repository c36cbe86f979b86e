"""A repository with a history: `diff` and `check` say what each change did, and to which layer, by the merge base."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from repos import commit, git

from roofline import cli

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")

# 1 MAC an element of the output: conv a 8*3*9*14*14 = 42,336, b 8*8*9*12*12 = 82,944, c 16*8*9*10*10 = 115,200
NET = """
import torch
from torch import nn

class SE(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(n, 2, 1), nn.Conv2d(2, n, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))

class Block(nn.Module):
    def __init__(self, i, o, se=False):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3)
        self.norm = nn.BatchNorm2d(o)
        if se:
            self.se = SE(o)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.se(x) if hasattr(self, "se") else x

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Block(3, 8), Block(8, 8), Block(8, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.c(self.b(self.a(x)))
        return self.head(torch.relu(x).mean((2, 3)))
"""
CHANGES = {
    "nothing": (),
    "widen": (("Block(8, 16)", "Block(8, 20)"), ("nn.Linear(16", "nn.Linear(20")),
    "se": (("Block(8, 8)", "Block(8, 8, se=True)"),),
    "rename": (("self.a, self.b, self.c =", "self.a, self.middle, self.c ="), ("self.b(", "self.middle(")),
    "activation": (("head(torch.relu(x)", "head(nn.functional.gelu(x)"),),
    "move": (
        (
            "self.a, self.b, self.c = Block(3, 8),",
            "self.a, self.rest = Block(3, 8), nn.Module()\n        self.rest.b, self.c =",
        ),
        ("self.b(", "self.rest.b("),
    ),
    "break": (("super().__init__()\n        self.a", "super().__init__()\n        raise ValueError('no')\n        self.a"),),
}


def changed(name: str) -> str:
    text = NET
    for old, new in CHANGES[name]:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A branch for each change, all from one commit that main has left behind, and `v1` there."""
    repo = tmp_path_factory.mktemp("repo") / "net"
    repo.mkdir()
    git(repo, "init", "-q")
    (repo / "net.py").write_text(NET)
    (repo / "roofline.toml").write_text(
        '[defaults]\ndevice = "t4"\ninputs = "1,3,16,16"\n[budgets.net]\nmodel = "net.py:Net"\n'
        'macs = "+1 %"\nflops = "+1 %"\nparams = "±0 %"\n'
    )
    commit(repo, "first")
    git(repo, "tag", "v1")
    for name in CHANGES:
        git(repo, "checkout", "-q", "-b", name, "v1")
        (repo / "net.py").write_text(changed(name))
        commit(repo, name)
    git(repo, "checkout", "-q", "main")
    (repo / "net.py").write_text(NET.replace("Block(3, 8)", "Block(3, 8, se=True)"))
    commit(repo, "main moves on")
    return repo


@pytest.fixture
def repo(history: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In it; what a test checks out or writes is undone."""
    monkeypatch.chdir(history)
    yield history
    git(history, "reset", "-q", "--hard")
    git(history, "clean", "-qfdx")
    git(history, "checkout", "-q", "main")
    assert git(history, "worktree", "list").count("\n") == 0, "a worktree was left"


def run(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = cli.main(list(args))
    return code, *capsys.readouterr()


# branch -> (what, layer, type) of each line of the difference
LINES: dict[str, set[tuple[str, str, str]]] = {
    "nothing": set(),
    "widen": {("changed", "c.conv", "Conv2d"), ("changed", "c.norm", "BatchNorm2d"), ("changed", "head", "Linear")},
    "se": {("added", "b.se", "SE")},
    "rename": {("renamed", "middle", "Block")},
    "activation": {("changed", "", "Net")},
    "move": {("moved", "rest.b", "Block")},
}


@pytest.mark.parametrize("name", LINES)
def test_what_a_branch_did(name: str, repo: Path, capsys: Capture) -> None:
    before = (git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD"))
    args = ("diff", f"main...{name}", "net.py:Net", "-d", "t4", "--input", "1,3,16,16")
    code, out, err = run(capsys, *args, "--json")
    assert code == 0, err
    found = json.loads(out)["diff"]
    lines = [c for c in found["layers"] if not c["inherited"]]
    seen = {(c["what"], c["path"], c["type"]) for c in lines if not c["time_alone"]}
    if name == "widen":  # functional operators between the layers follow
        seen = {line for line in seen if line[1] not in ("", "c")}
    assert seen - {("added", "rest", "Module")} == LINES[name]
    totals = {c["metric"]: c["head"] - c["base"] for c in found["totals"]}
    for metric in ("flops", "macs", "bytes", "kernels"):
        assert sum(c[metric][1] - c[metric][0] for c in lines) == totals[metric]
    assert sum(c["time_s"][1] - c["time_s"][0] for c in lines) == pytest.approx(totals["time"], rel=1e-6, abs=1e-12)
    assert (git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD")) == before
    assert found["setting"] == "t4, batch 1, fp32, eager, inference"
    assert found["settings"] == []


# branch -> exit code, the limits that are broken, and the layer that is named for the first
VERDICTS: dict[str, tuple[int, list[str], str]] = {
    "nothing": (0, [], ""),
    "rename": (0, [], ""),
    "move": (0, [], ""),
    "widen": (1, ["params", "macs", "flops"], "c.conv"),
    "se": (1, ["params"], "b.se"),
    "activation": (1, ["flops"], ""),
    "break": (3, [], ""),
}


@pytest.mark.parametrize("name", VERDICTS)
@pytest.mark.parametrize("base", ["--against", "--since"])
def test_the_gate_names_the_layer(name: str, base: str, repo: Path, capsys: Capture) -> None:
    git(repo, "checkout", "-q", name)
    code, out, err = run(capsys, "check", base, {"--since": "v1", "--against": "main"}[base], "--json")
    expected, broken, layer = VERDICTS[name]
    document = json.loads(out)
    assert (code, document["exit_code"]) == (expected, expected), err
    (verdict,) = document["budgets"]
    failed = [f for f in verdict["findings"] if not f["ok"]]
    assert [f["key"] for f in failed] == broken
    if failed:
        assert failed[0]["layers"][0]["path"] == layer
        assert verdict["source_line"] == changed(name).splitlines().index("class Net(nn.Module):") + 1
    assert ("no" in verdict["error"]) == (name == "break")


def test_ten_small_steps_do_not_slip_through(repo: Path, capsys: Capture) -> None:
    """Against the last commit each is nothing; against the tag they are what they are."""
    git(repo, "checkout", "-q", "-B", "drift", "v1")
    (repo / "net.py").write_text(NET.replace("Linear(16, 10)", "Linear(16, 80)"))
    commit(repo, "one")
    (repo / "net.py").write_text(NET.replace("Linear(16, 10)", "Linear(16, 81)"))
    toml = (repo / "roofline.toml").read_text().replace('"±0 %"', '"+2 %"')
    (repo / "roofline.toml").write_text(toml)
    commit(repo, "two")
    assert run(capsys, "check", "--since", "HEAD~1")[0] == 0
    code, out, _ = run(capsys, "check", "--since", "v1")
    assert code == 1
    assert "net params: of it head +1.2" in out


def test_a_rise_is_accepted(repo: Path, capsys: Capture) -> None:
    git(repo, "checkout", "-q", "se")
    code, out, _ = run(capsys, "check", "--against", "main", "--accept", "attention, #12")
    assert code == 0
    assert "accepted (attention, #12): params" in out
    assert "took  net" in out


class TestBaseline:
    def test_made_kept_broken_and_mended(self, repo: Path, capsys: Capture) -> None:
        git(repo, "checkout", "-q", "-B", "base", "v1")
        code, out, _ = run(capsys, "check")
        assert code == 0
        assert "no baseline: `roofline check --update` makes one" in out or "not in" in out
        assert run(capsys, "check", "--update")[0] == 0
        first = (repo / "roofline-baseline.json").read_bytes()
        assert run(capsys, "check", "--update")[0] == 0
        assert (repo / "roofline-baseline.json").read_bytes() == first
        assert run(capsys, "check")[0] == 0
        (repo / "net.py").write_text(changed("se"))
        code, out, _ = run(capsys, "check")
        assert code == 1
        assert "net params: of it b.se +42" in out  # 8 * 2 + 2 and 2 * 8 + 8
        code, out, _ = run(capsys, "check", "--update")
        assert "net.py:Net on t4" in out
        assert "params" in out
        assert run(capsys, "check")[0] == 0

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            (lambda t: t.replace('"macs": 24', '"macs": 23'), "so it was edited"),
            (lambda t: t.replace('    "net', '<<<<<<< HEAD\n    "net'), ":5: a merge has left its marks"),
            (lambda t: t.replace('"schema": 1', '"schema": 2'), "schema 2, but schema 1 is read here"),
            (lambda t: t[:200], "not a baseline"),
            (lambda t: t.replace('"totals"', '"total"'), "not a baseline"),
        ],
    )
    def test_not_as_it_was_written(self, edit: Any, words: str, repo: Path, capsys: Capture) -> None:
        git(repo, "checkout", "-q", "-B", "base", "v1")
        run(capsys, "check", "--update")
        file = repo / "roofline-baseline.json"
        text = file.read_text()
        file.write_text(edit(text))
        assert file.read_text() != text
        code, _, err = run(capsys, "check")
        assert code == 2
        assert words in err
        assert "roofline check --update" in err

    def test_of_other_versions_it_is_analysed_again(self, repo: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        from roofline.gate import baseline

        git(repo, "checkout", "-q", "-B", "base", "v1")
        with monkeypatch.context() as patch:
            patch.setattr(baseline, "made_with", lambda: {"constants": "x", "roofline": "0.0.9", "torch": "2.9.0"})
            run(capsys, "check", "--update")
        code, _, err = run(capsys, "check")
        assert code == 2
        assert "made with constants x, and here is" in err
        assert "or commit it" in err
        commit(repo, "baseline")
        (repo / "net.py").write_text(changed("widen"))
        code, out, err = run(capsys, "check")
        assert code == 1
        assert "its models were analysed again as they were in" in err
        assert "net macs: of it c.conv +28.8 k" in out  # 4 * 8 * 9 * 10 * 10


def test_a_file_that_moved_is_compared_with_what_it_was(repo: Path, capsys: Capture) -> None:
    """A package that is moved and widened in one commit: the gate finds its file by content, as git does."""
    git(repo, "checkout", "-q", "--detach", "v1")
    (repo / "my nets").mkdir()
    git(repo, "mv", "net.py", "my nets/wide.py")
    (repo / "my nets" / "wide.py").write_text(changed("widen"))
    (repo / "roofline.toml").write_text((repo / "roofline.toml").read_text().replace("net.py", "my nets/wide.py"))
    commit(repo, "moved and widened")
    code, out, _ = run(capsys, "check", "--since", "v1")
    assert code == 1
    assert "net macs: of it c.conv +28.8 k" in out  # 4 * 8 * 9 * 10 * 10
    assert ", where it was net.py" in out
    code, out, _ = run(capsys, "diff", "v1..HEAD", "my nets/wide.py:Net", "-d", "t4", "--input", "1,3,16,16")
    assert code == 0
    assert "c.conv" in out


def test_a_base_with_a_fault_is_named_as_it_lies_in_the_repository(repo: Path, capsys: Capture) -> None:
    """Not by the folder of a worktree that is gone, another one in every run."""
    git(repo, "checkout", "-q", "--detach", "v1")
    (repo / "net.py").write_text(NET + "def (\n")
    commit(repo, "broken")
    (repo / "net.py").write_text(NET)
    commit(repo, "mended")
    code, out, _ = run(capsys, "check", "--since", "HEAD~1")
    assert code == 0
    assert re.search(r"no base: at HEAD~1 \(\w+\): net\.py, line \d+: invalid syntax", out)
    code, _, err = run(capsys, "diff", "HEAD~1..HEAD", "net.py:Net", "-d", "t4", "--input", "1,3,16,16")
    assert code == 2
    assert re.search(r"error: at HEAD~1 \(\w+\): net\.py, line \d+: invalid syntax", err)


def test_a_repository_without_a_commit_says_so(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    code, _, err = run(capsys, "diff", "HEAD..", "net.py:Net")
    assert code == 2
    assert "no revision 'HEAD': this repository has no commit yet" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("diff", "mian...HEAD", "net.py:Net"), "no revision 'mian' in this repository; did you mean 'main'?"),
        (("diff", "main...HEAD", "gone.py:Net"), "gone.py is not in main"),
        (("diff", "main..v9", "net.py:Net"), "no revision 'v9'"),
        (("diff", "main...HEAD", "base.json"), "a saved analysis is of one revision"),
        (("check", "--since", "v2"), "no revision 'v2' in this repository; did you mean 'v1'?"),
        (("check", "--since", "v1", "--update"), "--since beside --update"),
        (("check", "--update", "--fail-fast"), "--fail-fast beside --update: a baseline is made of all"),
        (("check", "--only", "ent"), "--only ent: no budget is called so; did you mean 'net'?"),
        (("check", "--accept", " "), "--accept: say why"),
        (("check", "-o", "x.junit"), "-o x.junit: a report is one of"),
    ],
)
def test_refused(args: tuple[str, ...], words: str, repo: Path, capsys: Capture) -> None:
    code, _, err = run(capsys, *args)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) <= 2


def test_a_shallow_clone_says_what_to_do(repo: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", "--no-single-branch", f"file://{repo}", "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    code, _, err = run(capsys, "diff", "origin/se...HEAD", "net.py:Net", "-d", "t4", "--input", "1,3,16,16")
    assert code == 2
    assert "fetch-depth: 0" in err


def test_a_dirty_checkout_and_the_checkout_itself(repo: Path, capsys: Capture) -> None:
    (repo / "net.py").write_text(changed("widen"))
    args = ("net.py:Net", "-d", "t4", "--input", "1,3,16,16", "--fail-on", "params>0")
    code, _, err = run(capsys, "diff", "v1..HEAD", *args)
    assert code == 1  # main has moved on
    assert "the checkout has changes that are not in HEAD; v1.. compares the checkout itself" in err
    code, out, _ = run(capsys, "diff", "v1..", *args)
    assert code == 1
    assert "c.conv" in out


def test_one_revision_is_compared_with_the_files_as_they_are(repo: Path, capsys: Capture) -> None:
    (repo / "net.py").write_text(changed("widen"))
    code, out, err = run(capsys, "diff", "v1", "net.py:Net", "-d", "t4", "--input", "1,3,16,16")
    assert code == 0
    assert "v1 is a revision: it is compared with the files as they are here, as v1.. would be" in err
    assert "c.conv" in out
    code, _, err = run(capsys, "diff", "v3", "net.py:Net", "-d", "t4")
    assert code == 2
    assert "unknown model 'v3'" in err


def test_a_submodule_is_that_of_the_revision(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lib", "app"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "-q")
    lib, app = tmp_path / "lib", tmp_path / "app"
    (lib / "net.py").write_text(NET)
    commit(lib, "one")
    git(app, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(lib), "sub")
    commit(app, "with it")
    (app / "sub" / "net.py").write_text(changed("se"))
    commit(app / "sub", "two")
    commit(app, "its next")
    (app / "sub" / "net.py").write_text(changed("widen"))
    monkeypatch.chdir(app)
    before = (git(app, "status", "--porcelain"), git(app / "sub", "rev-parse", "HEAD"))
    args = ("sub/net.py:Net", "-d", "t4", "--input", "1,3,16,16", "--json")
    for revisions, what in (("HEAD~1..HEAD", "b.se"), ("HEAD~1..", "c.conv")):
        code, out, _ = run(capsys, "diff", revisions, *args)
        assert code == 0
        assert what in {line["path"] for line in json.loads(out)["diff"]["layers"]}
    assert (git(app, "status", "--porcelain"), git(app / "sub", "rev-parse", "HEAD")) == before
    assert git(app / "sub", "worktree", "list").count("\n") == 0


def test_a_model_of_one_side_alone_has_no_base(repo: Path, capsys: Capture) -> None:
    (repo / "new.py").write_text(NET)
    (repo / "roofline.toml").write_text(
        '[budgets.new]\nmodel = "new.py:Net"\ndevice = "t4"\ninputs = "1,3,16,16"\nmacs = "+0 %"\nparams = "9 k"\n'
    )
    code, out, _ = run(capsys, "check", "--since", "v1")
    assert code == 0
    assert "new.py is not in v1" in out


def test_as_a_hook_of_git(repo: Path, tmp_path: Path) -> None:
    """What pre-commit runs, with the variables that git sets for a hook: a commit that breaks a budget is not made."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (hook,) = yaml.safe_load((Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    entry = hook["entry"].replace("roofline", f'"{sys.executable}" -m roofline')
    script = repo / ".git" / "hooks" / "pre-commit"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!/bin/sh\nexec {entry} --against v1\n")
    script.chmod(0o755)
    where = f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    try:
        for name, code in (("widen", 1), ("rename", 0)):
            git(repo, "checkout", "-q", "-B", "hooked", "v1")
            (repo / "net.py").write_text(changed(name))
            command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-a", "-m", name]
            done = subprocess.run(
                command, cwd=repo, env={**os.environ, "PYTHONPATH": where}, capture_output=True, text=True, check=False
            )
            assert done.returncode == code, done.stderr
            assert ("of it c.conv +28.8 k" in done.stdout + done.stderr) == bool(code)
            git(repo, "reset", "-q", "--hard")
    finally:
        script.unlink()


def test_the_first_that_fails_ends_it(repo: Path, capsys: Capture) -> None:
    """And what is left out is counted; `--only` takes what matches."""
    text = '[defaults]\ndevice = "t4"\ninputs = "1,3,16,16"\n'
    for name, most in (("a", "1 G"), ("b", 1), ("c", 1), ("ab", "1 G")):
        text += f'\n[budgets.{name}]\nmodel = "net.py:Net"\nmacs = {json.dumps(most)}\n'
    (repo / "roofline.toml").write_text(text)
    code, out, _ = run(capsys, "check", "--fail-fast", "--json")
    document = json.loads(out)
    assert (code, document["skipped"]) == (1, 2)
    assert [b["budget"] for b in document["budgets"]] == ["a", "b"]
    code, out, _ = run(capsys, "check", "--fail-fast")
    assert out.splitlines()[-1] == "1 of 2 limits broken, 2 left out after the first that failed"
    code, out, _ = run(capsys, "check", "--only", "a*", "--json")
    assert (code, [b["budget"] for b in json.loads(out)["budgets"]]) == (0, ["a", "ab"])


@pytest.mark.parametrize("which", ["gitlab", "shell"])
def test_the_examples_of_the_documents(which: str, repo: Path, tmp_path: Path) -> None:
    """Each as it stands in docs/gate.md, on a branch that adds nothing and, for the shell, on one that does."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    part = text[text.index("## GitLab" if which == "gitlab" else "## Any shell") :]
    block = part.split("```")[1].partition("\n")[2]
    script = "\n".join(yaml.safe_load(block)["roofline"]["script"]) if which == "gitlab" else block
    program = tmp_path / "bin" / "roofline"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m roofline "$@"\n')
    program.chmod(0o755)
    branch, code = ("rename", 0) if which == "gitlab" else ("se", 1)
    git(repo, "checkout", "-q", branch)
    env = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": git(repo, "rev-parse", "v1"),
        "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "CI_COMMIT_SHA": "abc",
    }
    done = subprocess.run(["bash", "-c", script], cwd=repo, env=env, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == code, done
    if which == "gitlab":
        assert 'failures="0"' in (repo / "roofline.xml").read_text()
    else:
        assert "b.se" in (repo / "report.md").read_text()
        assert json.loads((repo / "badge.json").read_text())["color"] == "red"
        assert json.loads((repo / "history.jsonl").read_text())["commit"] == "abc"
