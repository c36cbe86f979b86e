"""Another revision of the code that is here, in a worktree of its own while it is needed; the checkout stays as it is."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

from msgspec import Struct

from roofline.errors import UsageError, nearest

_RANGE = re.compile(r"(?P<base>[^.:\s][^:\s]*?)(?P<dots>\.\.\.?)(?P<head>[^.:\s/][^:\s]*|)")
_SUFFIXES = (".json", ".py", ".onnx", ".pt2")
# seconds that a git command may take
_PATIENCE = 300


class Revision(Struct, frozen=True):
    """A commit of a repository."""

    # as asked for: "v1.2", "main" (its merge base with HEAD)
    name: str
    commit: str
    # the root of the checkout, and where in it the working directory is; "." where that is elsewhere
    root: str
    inside: str

    @property
    def title(self) -> str:
        """ "v1.2 (1a2b3c4)"."""
        return f"{self.name} ({self.commit[:7]})" if not self.commit.startswith(self.name) else self.commit[:7]


def is_range(text: str) -> bool:
    """`main...HEAD`, `v1.2..`: two revisions, and no file or model."""
    return bool(_RANGE.fullmatch(text)) and not text.lower().endswith(_SUFFIXES) and not os.path.exists(text)


def is_revision(text: str) -> bool:
    """`HEAD`, `v1.2`: one revision of the repository here, and no file, model with a prefix or saved analysis."""
    if not re.fullmatch(r"[^-:\s][^:\s]*", text) or text.lower().endswith(_SUFFIXES) or os.path.exists(text):
        return False
    try:
        revision(text)
    except UsageError:
        return False
    return True


def pair(text: str) -> tuple[Revision, Revision | None]:
    """Both sides of a range; `a...b` starts at their merge base, and a range without an end ends in the checkout as it is.

    Raises UsageError for what is no revision, or where the history is not all here.
    """
    found = _RANGE.fullmatch(text)
    assert found is not None
    head = revision(found["head"]) if found["head"] else None
    if found["dots"] == "...":
        return merge_base(found["base"], found["head"] or "HEAD"), head
    return revision(found["base"]), head


def revision(name: str, at: str = ".") -> Revision:
    """A branch, tag or commit of the repository around the folder `at`. Raises UsageError that says what there is."""
    root, inside = _place(at)
    done = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", at=root)
    if done.returncode and not _must("rev-list", "--all", "--max-count=1", at=root).strip():
        raise UsageError(f"no revision {name!r}: this repository has no commit yet")
    if done.returncode:
        shallow = f"\n{_DEEPER}" if _shallow(root) else ""
        names = _must("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes", at=root).split()
        raise UsageError(f"no revision {name!r} in this repository{nearest(name, names)}{shallow}")
    return Revision(name, done.stdout.strip(), root, inside)


_DEEPER = "the history here is shallow: fetch it all (`git fetch --unshallow`; in GitHub Actions: fetch-depth: 0)"


def merge_base(name: str, other: str = "HEAD", at: str = ".") -> Revision:
    """Where the history of `other` left that of `name`. Raises UsageError where they share none, or it was not fetched."""
    one, two = revision(name, at), revision(other, at)
    done = git("merge-base", one.commit, two.commit, at=one.root)
    if done.returncode or not done.stdout.strip():
        why = _DEEPER if _shallow(one.root) else "they share no history"
        raise UsageError(f"{name} and {other} have no merge base here\n{why}")
    return Revision(name, done.stdout.strip(), one.root, one.inside)


def last_change(file: Path) -> Revision | None:
    """The commit that a file is as it is here since; None where it is in none, or is not as in HEAD.

    Raises UsageError where that commit may not have been fetched.
    """
    if not file.exists():
        return None
    top = git("rev-parse", "--show-toplevel", at=str(file.resolve().parent))
    if top.returncode:
        return None
    root = top.stdout.strip()
    path = str(file.resolve())
    if git("diff", "--quiet", "HEAD", "--", path, at=root).returncode:
        return None
    commit, _, before = git("log", "-1", "--format=%H %P", "--", path, at=root).stdout.strip().partition(" ")
    # where the history here begins, every file looks new
    if commit and not before and _shallow(root):
        raise UsageError(f"{file}: the commit that made it is not here\n{_DEEPER}")
    return Revision(commit[:7], commit, root, _inside(root)) if commit else None


def renamed(file: str, which: Revision) -> str:
    """How a file, by its way from the root, was called in a revision, as git tells by content; empty where it was not there."""
    done = git("diff", "--name-status", "-z", "--find-renames", "--diff-filter=R", which.commit, at=which.root)
    names = done.stdout.split("\0")
    return next((old for _, old, new in zip(names[::3], names[1::3], names[2::3], strict=False) if new == file), "")


def told(error: Exception, place: Path, which: Revision) -> str:
    """An error's words, with files by their way in the repository and not by that of a worktree that is gone."""
    tree = os.path.normpath(place / os.path.relpath(os.curdir, which.inside))
    return str(error).replace(f"{place}{os.sep}", "").replace(f"{tree}{os.sep}", "")


def dirty() -> bool:
    """Whether the checkout has changes that no commit has, among the files that git knows."""
    return bool(_must("status", "--porcelain", "--untracked-files=no", at=_place()[0]).strip())


@contextmanager
def checked_out(which: Revision) -> Iterator[Path]:
    """Work in that revision: its files are the working directory, and what `import` finds in the checkout it finds there.

    It is a worktree in a temporary folder, gone in the end. Raises UsageError where it cannot be made. Submodules are those of
    the revision, from their checkouts here.
    """
    folder = Path(tempfile.mkdtemp(prefix="roofline-"))
    tree = folder / Path(which.root).name
    try:
        _must("worktree", "add", "--detach", "--quiet", "--force", str(tree), which.commit, at=which.root)
        made = _submodules(which, tree)
        place = tree / which.inside
        if not place.is_dir():
            raise UsageError(f"{which.title} has no folder {which.inside}, in which this is asked")
        try:
            with chdir(place), _imported(which.root, tree):
                yield place
        finally:
            for home, sub in made:
                git("worktree", "remove", "--force", "--force", str(sub), at=str(home))
    finally:
        git("worktree", "remove", "--force", "--force", str(tree), at=which.root)
        shutil.rmtree(folder, ignore_errors=True)
        git("worktree", "prune", at=which.root)


@contextmanager
def _imported(root: str, tree: Path) -> Iterator[None]:
    """Imports from the checkout (a folder of PYTHONPATH, a package that is installed from here) are from the worktree."""
    path, finders = list(sys.path), list(sys.meta_path)
    sys.path[:] = [_there(entry, root, tree) or entry for entry in path]
    # of what is not found by sys.path: editable installs bring a finder of their own
    sys.meta_path[:] = [
        f if f is PathFinder or (isinstance(f, type) and f.__module__ == "_frozen_importlib") else _Finder(f, root, tree)
        for f in finders
    ]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:], sys.meta_path[:] = path, finders
        importlib.invalidate_caches()


def _there(file: str | None, root: str, tree: Path) -> str:
    """Where a file or folder of the checkout is in the worktree; empty where it is of no commit, as an environment is."""
    if not file or not os.path.isabs(file):
        return ""
    way = os.path.relpath(os.path.realpath(file), os.path.realpath(root))
    return str(tree / way) if not way.startswith("..") and (tree / way).exists() else ""


class _Finder:
    """Another finder of modules, with the worktree in the place of the checkout."""

    def __init__(self, finder: Any, root: str, tree: Path) -> None:
        self._finder, self._root, self._tree = finder, root, tree

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec: ModuleSpec | None = self._finder.find_spec(name, path, target)
        if spec is None:
            return None
        places = spec.submodule_search_locations
        if places is not None:
            places = [_there(place, self._root, self._tree) or place for place in places]
        if there := _there(spec.origin, self._root, self._tree):
            return spec_from_file_location(name, there, submodule_search_locations=places)
        spec.submodule_search_locations = places
        return spec


def _submodules(which: Revision, tree: Path) -> list[tuple[Path, Path]]:
    """Those of a revision, each checked out in its place from the one that is here: (where it came from, where it is)."""
    made = []
    for line in _must("ls-tree", "-r", "-z", which.commit, at=which.root).split("\0"):
        about, _, path = line.partition("\t")
        mode, _, commit = about.partition(" commit ")
        if mode != "160000":
            continue
        home = Path(which.root) / path
        if (home / ".git").exists():
            done = git("worktree", "add", "--detach", "--quiet", "--force", str(tree / path), commit.strip(), at=str(home))
            if done.returncode:
                raise UsageError(
                    f"the submodule {path} has no commit {commit.strip()[:7]} here, which {which.title} needs\n"
                    f"fetch it: git -C {path} fetch origin {commit.strip()}"
                )
            made.append((home, tree / path))
    return made


# ------------------------------------------------------------------------------------------------ git


def _place(at: str = ".") -> tuple[str, str]:
    """The root of the checkout around a folder, and the way from there to the working directory. Raises UsageError."""
    done = git("rev-parse", "--show-toplevel", at=at)
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        why = f": {reason[0]}" if reason and "not a git repository" not in reason[0] else ""
        where = "here" if at == "." else f"around {at}"
        raise UsageError(f"no git repository {where}, so there are no revisions to compare{why}")
    root = done.stdout.strip()
    return root, _inside(root)


def _inside(root: str) -> str:
    way = os.path.relpath(os.path.realpath(os.getcwd()), os.path.realpath(root))
    return "." if way.startswith("..") else way


def _shallow(root: str) -> bool:
    return git("rev-parse", "--is-shallow-repository", at=root).stdout.strip() == "true"


def git(*args: str, at: str) -> subprocess.CompletedProcess[str]:
    """git, without a person's hooks and questions. Raises UsageError where it is not installed, or does not end."""
    # in a hook, git says by its variables which repository and index it means; hooks of the repository would run here too
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in ("GIT_SSH", "GIT_SSH_COMMAND")}
    # git looks for the folder where it is told to stop only by a variable
    if ceiling := os.environ.get("GIT_CEILING_DIRECTORIES"):
        env["GIT_CEILING_DIRECTORIES"] = ceiling
    env |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(
            ["git", "-c", f"core.hooksPath={os.devnull}", *args],
            cwd=at,
            env=env,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError("git is not installed, and revisions are compared by it") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"git {args[0]} took more than {_PATIENCE} s") from None


def _must(*args: str, at: str) -> str:
    done = git(*args, at=at)
    if done.returncode:
        raise UsageError(f"git {args[0]}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout
