"""What `action.yml` asks in a job of GitHub Actions: what a pull request starts from, whether its rise is accepted, a comment.

    python -m roofline.gate.github base | accepted | comment REPORT.md

The event and the repository are read from the job's environment; the comment needs GITHUB_TOKEN with `pull-requests: write`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roofline.errors import RooflineError, UsageError
from roofline.gate import MARKED
from roofline.gate.revisions import git

LABEL = "roofline: accepted"
_LINE = re.compile(r"^roofline-accept:[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
# characters that GitHub takes in a comment, with room
_MOST = 60_000


def event() -> dict[str, Any]:
    """The event of this job. Raises UsageError outside of GitHub Actions."""
    path = os.environ.get("GITHUB_EVENT_PATH", "")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"GITHUB_EVENT_PATH {path!r}: no event of GitHub Actions can be read there: {error}") from None
    return found if isinstance(found, dict) else {}


def base(of: Mapping[str, Any]) -> str:
    """The commit that a pull request goes into, or that a group of a merge queue stands on; empty for other events."""
    pull, group = of.get("pull_request") or {}, of.get("merge_group") or {}
    return str((pull.get("base") or {}).get("sha") or group.get("base_sha") or "")


def accepted(of: Mapping[str, Any], messages: str = "") -> str:
    """Why a rise is intended: a label of the pull request, or a line `roofline-accept: why` in its text or in `messages`.

    The event of a merge queue has neither label nor text, so there only messages say it.
    """
    pull = of.get("pull_request") or {}
    if any(label.get("name") == LABEL for label in pull.get("labels") or []):
        return f"label {LABEL!r}"
    texts = [pull.get("body") or "", (of.get("head_commit") or {}).get("message") or "", messages]
    found = next((m for m in map(_LINE.search, texts) if m), None)
    return " ".join(found[1].split())[:200] if found else ""


def _messages(of: Mapping[str, Any]) -> str:
    """Those of the commits of the pull request or of the merge queue's group, where they are here."""
    pull, group = of.get("pull_request") or {}, of.get("merge_group") or {}
    head = (pull.get("head") or {}).get("sha") or group.get("head_sha") or ""
    if not base(of) or not head:
        return ""
    done = git("log", "--format=%B", f"{base(of)}..{head}", at=".")
    return done.stdout if done.returncode == 0 else ""


def comment(of: Mapping[str, Any], report: Path, number_file: Path | None = None) -> str:
    """Write the report as the one comment of ours, or delete that where all is green; what was done, in a line."""
    text = report.read_text(encoding="utf-8")
    mark = text.partition("\n")[0]
    if not MARKED.fullmatch(mark):
        raise UsageError(f"{report}: no report of `roofline check -o {report.name}`")
    number = _number(of, number_file)
    if not number:
        return "no pull request, so there is no comment"
    try:
        return _put(number, mark, text[:_MOST], quiet=not re.search(r"^(\| (❌|⚠️|accepted)|- ❌)", text, re.MULTILINE))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):  # a fork's token may not write
            return f"no right to comment here (HTTP {error.code}): the step summary has the report"
        raise UsageError(f"GitHub answered {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"GitHub cannot be reached: {error}") from None


def _number(of: Mapping[str, Any], file: Path | None) -> int:
    """The pull request. In a `workflow_run` its number comes from the job that was run on the fork's code, so it is checked."""
    if "workflow_run" not in of:
        return int(of.get("pull_request", {}).get("number", 0))
    text = file.read_text(encoding="utf-8").strip() if file else ""
    if not text:  # of a push
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise UsageError(f"{file}: expected the number of a pull request")
    pull = _ask("GET", f"pulls/{int(text)}")
    if pull["head"]["sha"] != of["workflow_run"]["head_sha"]:
        raise UsageError(f"#{int(text)} is not the pull request that this run is of")
    return int(text)


def _put(number: int, mark: str, text: str, quiet: bool) -> str:
    page, found = 1, None
    while found is None:
        some = _ask("GET", f"issues/{number}/comments?per_page=100&page={page}")
        found = next((one for one in some if str(one.get("body", "")).splitlines()[:1] == [mark]), None)
        if len(some) < 100:
            break
        page += 1
    if quiet:
        if found is None:
            return "all is green, and there is no comment"
        _ask("DELETE", f"issues/comments/{found['id']}")
        return "all is green: the comment was removed"
    if found is None:
        _ask("POST", f"issues/{number}/comments", {"body": text})
        return "commented"
    _ask("PATCH", f"issues/comments/{found['id']}", {"body": text})
    return "the comment was updated"


def _ask(method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
    root = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    asked = urllib.request.Request(
        f"{root}/repos/{os.environ.get('GITHUB_REPOSITORY', '')}/{path}",
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {os.environ.get('GITHUB_TOKEN', '')}", "Accept": "application/vnd.github+json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        data = answer.read()
    return json.loads(data) if data else None


def main(args: Sequence[str]) -> int:
    """Run one of the questions; exit code 2 with a line where it cannot be answered."""
    try:
        of = event()
        if list(args) == ["base"]:
            print(base(of))
        elif list(args) == ["accepted"]:
            print(accepted(of, _messages(of)))
        elif len(args) in (2, 3) and args[0] == "comment":
            print(comment(of, Path(args[1]), Path(args[2]) if len(args) == 3 else None))
        else:
            raise UsageError("expected base, accepted, or comment REPORT.md [NUMBER_FILE]")
    except (RooflineError, OSError) as error:
        print(f"roofline: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
