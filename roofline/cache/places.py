"""Whose a file is: Python's, an installed package's, this program's, or a person's own; and where a model's modules are."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from roofline import paths

_INSTALLED = ("site-packages", "dist-packages")
# without sysconfig, whose import and tables take longer than all else that a cached answer needs
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARIES = (
    os.path.dirname(os.__file__),
    *(os.path.join(prefix, sys.platlibdir, _VERSION) for prefix in (sys.base_exec_prefix, sys.exec_prefix)),
)
_STDLIB = tuple({os.path.join(place, "") for path in _LIBRARIES for place in (path, os.path.realpath(path))})
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/")
_RELATIVE = r"^\s*from\s+(\.+)"


@cache
def kind_of(file: str) -> str:
    """ "python" (also what has no file), "torch", "installed", "ours", "system" or "own"."""
    if not file or file.startswith("<"):
        return "python"
    path = os.path.abspath(file)
    parts = path.split(os.sep)
    for word in _INSTALLED:
        if word in parts:
            top = parts[parts.index(word) + 1 : parts.index(word) + 2]
            return "torch" if top == ["torch"] else "installed"
    if paths.is_ours(path):
        return "ours"
    if paths.is_shared(path):
        return "own"
    if path.startswith(_STDLIB):
        return "python"
    if path.startswith(_SYSTEM):
        return "system"
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    return "torch" if torch and path.startswith(os.path.dirname(torch) + os.sep) else "own"


def package_of(path: Path) -> tuple[Path, str]:
    """Where a Python file has to be imported from, and by which name, so that its relative imports work; ("", "") parts apart.

    A file without relative imports is a script: it is imported from its own folder, by no dotted name.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    level = max((len(dots) for dots in re.findall(_RELATIVE, text, re.MULTILINE)), default=0)
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").is_file() or len(names) <= level:
        if root == root.parent:
            break
        names.insert(0, root.name)
        root = root.parent
    return root, ".".join(names) if level else ""


def origin(module: Any) -> str:
    """The file of a module, the folder of a namespace package, or nothing."""
    file = module.__dict__.get("__file__") if isinstance(module, ModuleType) else None
    if isinstance(file, str):
        return file
    try:
        return str(next(iter(module.__path__))) + os.sep
    except Exception:  # no package, or something that only stands in for a module
        return ""


def where(spec: ModuleSpec | None) -> str | None:
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), "")


def beside(name: str, spec: ModuleSpec | None, places: Sequence[str]) -> ModuleSpec | None:
    """Of a top-level module that Python finds: what lies beside the model, where the other is somebody's own and only on the
    caller's path. A folder without __init__.py would lose to any module of its name."""
    found = where(spec)
    if found is None or kind_of(found) != "own" or found.startswith(tuple(os.path.join(place, "") for place in places)):
        return spec
    return PathFinder.find_spec(name, list(places)) or spec


def locate(name: str, places: Sequence[str]) -> str | None:
    """Where `import name` would find it now, were the model loaded again."""
    path = list(sys.path)
    sys.path[:0] = places
    try:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, None, None) if find else None
            if spec is not None:
                return where(beside(name, spec, places))
    except Exception:  # somebody's finder
        return None
    finally:
        sys.path[:] = path
    return None
