"""The installed packages that a model hangs on: those that are imported, with the content of their modules."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import NamedTuple

from roofline.cache.dependencies import Group, marks_of, together
from roofline.cache.places import kind_of, origin

_STARTED = time.time_ns()
# the real one, while others are watched
_stat = os.stat
# Packages that the numbers do not hang on: torch (its version is in every key), what it imports itself, and this program's.
_BASE = frozenset({
    "torch", "torchgen", "functorch", "triton", "numpy", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock",
    "fsspec", "typing_extensions", "setuptools", "pkg_resources", "_distutils_hack", "nvidia", "msgspec", "typer", "click",
    "rich", "pygments", "markdown_it", "mdurl", "platformdirs", "shellingham", "matplotlib", "optree", "cuda", "pip",
    "annotated_doc", "tqdm", "packaging",
})  # fmt: skip


class Changed(Exception):
    """What a model depends on cannot be known, or has changed meanwhile: what was found must not be kept."""


# When the modules of installed packages were imported at the latest, in ns.
_imported: dict[str, int] = {}


def changed_at(marks: tuple[int, ...]) -> int:
    """When a file was last changed: a time of modification can be set to anything, but elsewhere there is no other."""
    return marks[2] if os.name == "posix" else marks[1]


class _Package(NamedTuple):
    """The modules of a package that are imported, as they were found last."""

    files: list[str]
    folder: str
    names: list[str]
    marks: list[tuple[int, ...]]
    sha256: str


_packages: dict[str, _Package] = {}
# module by name -> itself, its package, and its file where it is an installed one that numbers hang on
_where: dict[str, tuple[ModuleType, str, str]] = {}
# What was imported when it was looked at last, and what was found.
_last: list[tuple[dict[str, list[str]], list[Group]]] = []
_LOOK_AGAIN_NS = 1_000_000_000


def groups(before: Collection[str], since: int) -> list[Group]:
    """All of them. `before`: the modules that were imported at the time `since`, in ns.

    Of what was looked at a moment ago that look holds: it says when it was, and who compares sees an edit since then. Raises
    Changed where one was edited after it had been imported.
    """
    packages, new = _imported_now(before)
    if _last and _last[0][0] == packages and all(time.time_ns() - group.at < _LOOK_AGAIN_NS for group in _last[0][1]):
        return _last[0][1]
    found = list(_looked_at(packages, new, since))
    _last[:] = [(packages, found)]
    return found


def _imported_now(before: Collection[str]) -> tuple[dict[str, list[str]], set[str]]:
    """Package -> the files of its modules, and which of all these were imported since."""
    packages: dict[str, list[str]] = {}
    new = set()
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType):
            continue
        found = _where.get(name)
        _, top, file = found if found is not None and found[0] is module else _placed(name, module)
        if file:
            packages.setdefault(top, []).append(file)
            if name not in before:
                new.add(file)
    return packages, new


def _placed(name: str, module: ModuleType) -> tuple[ModuleType, str, str]:
    top, file = name.partition(".")[0], origin(module)
    kind = kind_of(file)
    counts = top not in _BASE and file and not file.endswith(os.sep) and kind == "installed"
    found = (module, top, file if counts else "")
    if file and kind != "own":  # those go with their model
        _where[name] = found
    return found


def _looked_at(packages: Mapping[str, list[str]], new: set[str], since: int) -> Iterator[Group]:
    for top, modules in packages.items():
        files = sorted(set(modules))
        known = _packages.get(top)
        if known is not None and known.files == files:
            folder, names = known.folder, known.names
        else:
            folder = os.path.commonpath([os.path.dirname(f) for f in files])
            names = [os.path.relpath(f, folder) for f in files]
        try:
            marks = [marks_of(_stat(f)) for f in files]
            for file, mark in zip(files, marks, strict=True):
                if changed_at(mark) > _imported.setdefault(file, since if file in new else _STARTED):
                    raise Changed(f"{file} was edited after it had been imported")
            same = known is not None and known.names is names and known.marks == marks
            digest = known.sha256 if known is not None and same else together(names, files, marks)
        except OSError as error:
            raise Changed(str(error)) from error
        _packages[top] = _Package(files, folder, names, marks, digest)
        yield Group(folder, names, marks, time.time_ns(), digest)
