"""The action: its shell steps with the environment of GitHub faked, and the comment beside a server that answers as GitHub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO
from repos import commit, git
from sample import sample

from roofline import cli
from roofline.gate import MARKED, github, mark
from roofline.views import text

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

PULL = {"number": 7, "base": {"sha": "a" * 40}, "head": {"sha": "b" * 40}, "labels": [], "body": None}
RED = f"{mark()}\n### roofline\n\n| ❌ | m |\n"
GREEN = f"{mark()}\n### roofline\n\n2 limits kept.\n"


@pytest.mark.parametrize(
    ("event", "base", "why"),
    [
        ({"pull_request": PULL}, "a" * 40, ""),
        ({"pull_request": PULL | {"labels": [{"name": github.LABEL}]}}, "a" * 40, "label 'roofline: accepted'"),
        (
            {"pull_request": PULL | {"labels": [{"name": "bug"}], "body": "x\n\nRoofline-Accept:  SE, #3 \ny"}},
            "a" * 40,
            "SE, #3",
        ),
        ({"pull_request": PULL | {"body": "roofline-accept:\nnothing"}}, "a" * 40, ""),
        ({"ref": "refs/heads/main", "head_commit": {"message": "wider\n\nroofline-accept: yes"}}, "", "yes"),
        ({"ref": "refs/heads/main", "head_commit": None}, "", ""),
        ({"merge_group": {"base_sha": "c" * 40, "head_sha": "d" * 40}}, "c" * 40, ""),
        ({"pull_request": None, "merge_group": None}, "", ""),
    ],
    ids=["pull", "label", "line", "empty line", "push", "push of nothing", "merge queue", "nulls"],
)
def test_what_an_event_says(event: dict[str, Any], base: str, why: str) -> None:
    assert github.base(event) == base
    assert github.accepted(event) == why
    assert github.accepted(event, "roofline-accept: a commit says so") == (why or "a commit says so")


def test_in_a_merge_queue_a_commit_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The event has no label and no text: the messages from the base of the group to its head say it, older ones do not."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main")
    commits = []
    for n, message in enumerate(("one\n\nroofline-accept: long ago", "two", "three\n\nroofline-accept: SE, #7")):
        (tmp_path / "a").write_text(str(n))
        git(tmp_path, "add", "a")
        git(tmp_path, "commit", "-q", "-m", message)
        commits.append(git(tmp_path, "rev-parse", "HEAD").strip())
    for head, why in ((commits[1], ""), (commits[2], "SE, #7")):
        event = tmp_path / "event.json"
        event.write_text(json.dumps({"merge_group": {"base_sha": commits[0], "head_sha": head}}))
        monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
        assert github.main(["accepted"]) == 0
        assert capsys.readouterr().out.strip() == why
        assert github.main(["base"]) == 0
        assert capsys.readouterr().out.strip() == commits[0]


class GitHub(ThreadingHTTPServer):
    """Comments of one issue, and whether this token may write."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.comments: dict[int, str] = {1: "looks good"}
        self.said: list[tuple[str, str]] = []
        self.may_write = True


class Answers(BaseHTTPRequestHandler):
    server: GitHub

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length))["body"] if length else ""
        path = self.path.partition("?")[0].removeprefix("/repos/me/net/")
        self.server.said.append((self.command, path))
        if self.command != "GET" and not self.server.may_write:
            self.send_error(403)
            return
        found: Any = None
        if self.command == "GET":
            found = [{"id": i, "body": b} for i, b in self.server.comments.items()]
            found = {"head": {"sha": "b" * 40}} if path.startswith("pulls/") else found
        elif self.command == "POST":
            self.server.comments[max(self.server.comments) + 1] = body
        elif self.command == "PATCH":
            self.server.comments[int(path.rpartition("/")[2])] = body
        else:
            del self.server.comments[int(path.rpartition("/")[2])]
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    made = GitHub()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("GITHUB_API_URL", f"http://127.0.0.1:{made.server_address[1]}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/net")
    monkeypatch.setenv("no_proxy", "*")
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_one_comment_is_updated_in_place_and_removed_when_mended(server: GitHub, tmp_path: Path) -> None:
    report = tmp_path / "r.md"
    event = {"pull_request": PULL}
    for body, done, comments in (
        (GREEN, "all is green, and there is no comment", ["looks good"]),
        (RED, "commented", ["looks good", RED]),
        (RED + "more", "the comment was updated", ["looks good", RED + "more"]),
        (GREEN, "all is green: the comment was removed", ["looks good"]),
    ):
        report.write_text(body, encoding="utf-8")
        assert github.comment(event, report) == done
        assert list(server.comments.values()) == comments
    assert github.comment({"ref": "refs/heads/main"}, report) == "no pull request, so there is no comment"


def test_a_fork_may_not_write_and_the_workflow_run_does(server: GitHub, tmp_path: Path) -> None:
    report, number = tmp_path / "r.md", tmp_path / "number"
    report.write_text(RED, encoding="utf-8")
    server.may_write = False
    assert "no right to comment here (HTTP 403)" in github.comment({"pull_request": PULL}, report)
    server.may_write = True
    number.write_text("7\n")
    assert github.comment({"workflow_run": {"head_sha": "b" * 40}}, report, number) == "commented"
    # the number is the fork's word
    with pytest.raises(github.UsageError, match="not the pull request that this run is of"):
        github.comment({"workflow_run": {"head_sha": "c" * 40}}, report, number)
    number.write_text("\n")  # as the first workflow writes it for a push
    assert "no pull request" in github.comment({"workflow_run": {"head_sha": "b" * 40}}, report, number)
    for bad in ("7; rm", "../1", "٧"):
        number.write_text(bad, encoding="utf-8")
        with pytest.raises(github.UsageError, match="number of a pull request"):
            github.comment({"workflow_run": {"head_sha": "b" * 40}}, report, number)
    report.write_text("hello")
    with pytest.raises(github.UsageError, match="no report of"):
        github.comment({"pull_request": PULL}, report)


def steps() -> dict[str, dict[str, Any]]:
    action = yaml.safe_load((REPO / "action.yml").read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    return {step["name"]: step for step in action["runs"]["steps"] if "run" in step}


def shell(name: str, at: Path, event: dict[str, Any], **more: str) -> subprocess.CompletedProcess[str]:
    """A step of the action as a runner runs it, its expressions filled in."""
    (at / "event.json").write_text(json.dumps(event))
    env = {
        **os.environ,
        "PYTHON": sys.executable,
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_PATH": str(at / "event.json"),
        "GITHUB_OUTPUT": str(at / "output"),
        "GITHUB_STEP_SUMMARY": str(at / "summary.md"),
        "RUNNER_TEMP": str(at),
        "FILE": "",
        "AGAINST": "",
        "GITHUB_TOKEN": "t",
        "PYTHONPATH": f"{REPO}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        **more,
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps()[name]["run"]]
    return subprocess.run(command, cwd=at, env=env, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120)


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_the_steps_of_the_action(server: GitHub, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_bytes(text.to_json(sample()))
    (tmp_path / "roofline.toml").write_text('[[budget]]\nanalysis = "saved.json"\nmax_kernels = 83\n')
    done = shell("check", tmp_path, {"pull_request": PULL})
    assert done.returncode == 1, done
    assert "::error file=roofline.toml,line=3,title=roofline budget::" in done.stdout
    assert "no limit is on a change" in done.stderr
    assert (tmp_path / "output").read_text() == f"report={tmp_path / 'roofline.md'}\n"
    assert "1 of 1 limit broken." in (tmp_path / "summary.md").read_text()
    done = shell("comment", tmp_path, {"pull_request": PULL})
    assert (done.returncode, done.stdout) == (0, "commented\n"), done
    assert list(server.comments.values())[-1] == (tmp_path / "roofline.md").read_text()


@pytest.mark.skipif(not shutil.which("bash") or not shutil.which("git"), reason="bash or git is not installed")
def test_the_steps_of_the_action_by_event(server: GitHub, tmp_path: Path) -> None:
    """A branch makes a layer wider, and main has moved on: 3*8*9 = 216 parameters and 8, then 3*9*9 = 243 and 9."""
    repo, text_ = tmp_path / "net", "from torch import nn\n\ndef net():\n    return nn.Conv2d(3, 8, 3)\n"
    repo.mkdir()
    git(repo, "init", "-q")
    (repo / "net.py").write_text(text_)
    (repo / "roofline.toml").write_text('[budgets.net]\nmodel = "net.py:net"\non = "t4"\ninputs = "1,3,8,8"\nparams = "+1 %"\n')
    commit(repo, "first")
    git(repo, "checkout", "-q", "-b", "wide")
    (repo / "net.py").write_text(text_.replace("8, 3)", "9, 3)"))
    head = commit(repo, "wide")
    git(repo, "checkout", "-q", "main")
    (repo / "net.py").write_text(text_.replace("8, 3)", "7, 3)"))
    base = commit(repo, "main moves on")
    git(repo, "checkout", "-q", "wide")
    pull = PULL | {"base": {"sha": base}, "head": {"sha": head, "repo": {"fork": True}}}
    broken, wide = "::error file=roofline.toml,line=5,title=roofline budget::net on t4: params: is 252", "+1 % of 224"
    for name, event, code, said in (
        ("pull request", {"pull_request": pull}, 1, (broken, wide, "::notice file=net.py,line=3,")),
        (
            "label",
            {"pull_request": pull | {"labels": [{"name": github.LABEL}]}},
            0,
            (wide, f"accepted (label '{github.LABEL}'): params"),
        ),
        ("line", {"pull_request": pull | {"body": "roofline-accept: more room, #3"}}, 0, ("accepted (more room, #3): params",)),
        (
            "push",
            {"ref": "refs/heads/main", "head_commit": {"message": "wide"}},
            0,
            ("no baseline: `roofline check --update`",),
        ),
    ):
        done = shell("check", repo, event)
        assert done.returncode == code, (name, done)
        assert all(words in done.stdout for words in said), (name, done.stdout)
        comment = {"push": "no pull request, so there is no comment", "pull request": "commented"}
        assert shell("comment", repo, event).stdout.strip() == comment.get(name, "the comment was updated")
    server.may_write = False  # of a fork
    (repo / "summary.md").unlink()
    assert shell("check", repo, {"pull_request": pull}).returncode == 1
    assert "| ❌ | net | t4 | params | 252 | 226.2 | +1 % of 224 |" in (repo / "summary.md").read_text(encoding="utf-8")
    done = shell("comment", repo, {"pull_request": pull})
    assert (done.returncode, "no right to comment here (HTTP 403)" in done.stdout) == (0, True)
    commit(repo, "wider\n\nroofline-accept: said in a commit")
    done = shell("check", repo, {"pull_request": pull | {"head": {"sha": git(repo, "rev-parse", "HEAD")}}})
    assert (done.returncode, "accepted (said in a commit): params" in done.stdout) == (0, True), done


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_the_action_installs_itself_and_what_is_asked_for(tmp_path: Path) -> None:
    pip = tmp_path / "python"
    pip.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    pip.chmod(0o755)
    done = shell("install", tmp_path, {}, PYTHON=str(pip), PACKAGES="torchvision timm", GITHUB_ACTION_PATH="/an action")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-3:] == ["/an action", "torchvision", "timm"]
    assert done.stdout.splitlines()[:3] == ["-m", "pip", "install"]


BAD = "[budgets.m]\nmacs = 1\nmacz = 2\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_a_file_that_cannot_be_read_is_told_where_a_pull_request_is_read(server: GitHub, tmp_path: Path) -> None:
    """A fork has the exit code, the mark on the line and the summary; the comment says it too, and goes when that is mended."""
    (tmp_path / "roofline.toml").write_text(BAD)
    done = shell("check", tmp_path, {"pull_request": PULL})
    assert done.returncode == 2, done
    assert "::error file=roofline.toml,line=3,title=roofline budget::roofline.toml: not checked: " in done.stdout
    assert "did you mean 'macs'?" in (tmp_path / "summary.md").read_text()
    assert shell("comment", tmp_path, {"pull_request": PULL}).stdout == "commented\n"
    assert "did you mean 'macs'?" in list(server.comments.values())[-1]
    (tmp_path / "saved.json").write_bytes(text.to_json(sample()))
    (tmp_path / "roofline.toml").write_text('[[budget]]\nanalysis = "saved.json"\nmax_kernels = 84\n')
    assert shell("check", tmp_path, {"pull_request": PULL}).returncode == 0
    assert "was removed" in shell("comment", tmp_path, {"pull_request": PULL}).stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_packages_have_a_comment_each(server: GitHub, tmp_path: Path) -> None:
    """Where the action is used for each, one that is green does not take away what another says."""
    (tmp_path / "saved.json").write_bytes(text.to_json(sample()))
    for name, most in (("a", 83), ("b", 84), ("c d", 83)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "roofline.toml").write_text(f'[[budget]]\nanalysis = "../saved.json"\nmax_kernels = {most}\n')
    said = []
    for name in ("a", "b", "c d", "a", "b"):
        shell("check", tmp_path, {"pull_request": PULL}, FILE=name)
        said.append(shell("comment", tmp_path, {"pull_request": PULL}).stdout.strip())
    assert said == [
        "commented",
        "all is green, and there is no comment",
        "commented",
        "the comment was updated",
        "all is green, and there is no comment",
    ]
    heads = [body.splitlines()[:2] for body in list(server.comments.values())[1:]]
    assert heads == [[mark(name), f"### roofline: {name}"] for name in ("a", "c d")]


def test_a_mark_is_one_line_that_ends_where_it_ends() -> None:
    for name in ("a-->b", "a\nb", "--", "größe/x.toml", "a -- b"):
        assert MARKED.fullmatch(mark(name))
        assert mark(name).count("--") == 2


def test_one_file_of_several_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It costs its own line, and so does one whose baseline was left in the middle of a merge; the others are checked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved.json").write_bytes(text.to_json(sample()))
    ours = '[[budget]]\nanalysis = "../saved.json"\nmax_kernels = 83\n'
    for name, content in (("a", BAD), ("b", ours), ("c", ours + 'max_macs = "+1 %"\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "roofline.toml").write_text(content)
    (tmp_path / "c" / "roofline-baseline.json").write_text("{\n<<<<<<< HEAD\n")
    assert cli.main(["check", ".", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert [(Path(b["file"]).as_posix(), b["line"], bool(b["error"])) for b in document["budgets"]] == [
        ("a/roofline.toml", 3, True),
        ("c/roofline-baseline.json", 2, True),
        ("b/roofline.toml", 1, False),
    ]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path.parent))
    assert cli.main(["check", "."]) == 2
    here = tmp_path.name
    out = capsys.readouterr().out
    assert f"::error file={here}/a/roofline.toml,line=3," in out
    assert f"::error file={here}/c/roofline-baseline.json,line=2," in out
    assert f"::error file={here}/b/roofline.toml,line=3," in out


def test_the_pre_commit_hook() -> None:
    (hook,) = yaml.safe_load((REPO / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"].split() == ["roofline", "check"]
    assert hook["pass_filenames"] is False
