"""Which files a model that a person wrote depends on: what it imports, and what it reads while it is built.

The cache keeps these beside an analysis, so that an edit of a helper module or of a config file is seen. Files of the
standard library and of installed packages are left out: those change with their version.
"""

from __future__ import annotations

import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_INSTALLED = ("site-packages", "dist-packages")
_state: dict[str, set[str] | None] = {"opened": None}
_hooked: list[bool] = []
_STARTED = time.time()


class Changed(Exception):
    """A module was edited after this process had imported it: what was built may not be what its file says now."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    opened = _state["opened"]
    if opened is not None and event == "open":
        path, mode = arguments[0], arguments[1] or "r"
        if isinstance(path, str) and not set(mode) & set("wax+"):
            opened.add(path)


@contextmanager
def watched() -> Iterator[set[str]]:
    """Collects the paths that are opened for reading meanwhile. Python's audit hooks cannot be removed: ours sleeps."""
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked.append(True)
    opened: set[str] = set()
    _state["opened"] = opened
    try:
        yield opened
    finally:
        _state["opened"] = None


def own_files(opened: set[str], package: str = "") -> list[Path]:
    """The files among `opened` and the imported modules that are a person's own, and those of `package`.

    Raises Changed where one of the modules was imported earlier and has been written to since this process started.
    """
    top = package.partition(".")[0]
    read = {Path(file) for file in opened if not file.endswith(".pyc")}
    modules = [
        (name, Path(file))
        for name, module in list(sys.modules.items())
        if isinstance(file := getattr(module, "__file__", None), str)
    ]
    imported = {path for name, path in modules if path.is_file() and ((top and name.partition(".")[0] == top) or _own(path))}
    for path in imported - read:
        if path.stat().st_mtime > _STARTED:
            raise Changed(f"{path} was edited after it had been imported")
    return sorted(imported | {path for path in read if path.is_file() and _own(path)})


def _own(path: Path) -> bool:
    path = path.absolute()
    ours = Path(__file__).resolve().parent
    system = (Path(sysconfig.get_path("stdlib")), Path("/proc"), Path("/sys"), Path("/dev"), Path("/etc"), ours)
    return not any(part in _INSTALLED for part in path.parts) and not any(path.is_relative_to(place) for place in system)
