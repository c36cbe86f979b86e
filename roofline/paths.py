"""Where our own files lie, and what their content is: all that hangs on the place of a file of ours.

Nothing else in the package asks for its own `__file__`, so a module can move without anything going wrong in silence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# the devices that are shipped, a TOML file each; and the tables beside them, whose names begin with `_`
LIBRARY = PACKAGE / "devices" / "library"
# of the time model
CONSTANTS = PACKAGE / "timemodel" / "constants.toml"
UNCERTAINTY = PACKAGE / "timemodel" / "uncertainty.toml"
ENERGY = PACKAGE / "timemodel" / "energy.toml"
# what an installed package carries of the checkout around it
SHARED = PACKAGE / "_share"

# Their content is part of a key in another way: a device as it was read, the page and the charts as they are drawn anew.
_APART = frozenset({LIBRARY, PACKAGE / "views", SHARED})
# What comes after the trace: a change of the time model leaves traces valid. A file or folder that is not named here counts.
_AFTER = frozenset({"analysis", "bench", "cli", "cost", "devices", "kernels", "timemodel", "units.py", "validation"})
# ... but for this one, which traces the rows of tables of measured times
_TRACES = os.path.join("validation", "timm_benchmark.py")


@cache
def models() -> Path:
    """The reference models: inside the installed package, or beside it in a checkout."""
    shared = SHARED / "models"
    return shared if shared.is_dir() else PACKAGE.parent / "models"


def is_ours(path: str) -> bool:
    """Whether a file is this package's own; the reference models that it carries are as anybody's."""
    return path.startswith(f"{PACKAGE}{os.sep}") and not path.startswith(f"{SHARED}{os.sep}")


def is_shared(path: str) -> bool:
    """Whether a file is one of those that an installed package carries."""
    return path.startswith(f"{SHARED}{os.sep}")


def code_files(package: Path = PACKAGE) -> Iterator[str]:
    """Every .py and .toml file of the package, relative to it, in whichever folder: those apart that a key holds otherwise."""
    apart = {str(package / path.relative_to(PACKAGE)) for path in _APART}

    def inside(folder: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.is_dir():
                    if entry.path not in apart and entry.name != "__pycache__":
                        yield from inside(entry.path)
                elif entry.name.endswith((".py", ".toml")):
                    yield os.path.relpath(entry.path, package)

    return inside(str(package))


def _traces(name: str) -> bool:
    return name == _TRACES or (name.split(os.sep)[0] not in _AFTER)


@cache
def code_state(after: bool = True, package: Path = PACKAGE) -> str:
    """The content of this program's files; without `after`, of those that a trace depends on."""
    from hashlib import sha256  # it loads OpenSSL, which a list of devices need not hold

    whole = sha256()
    for name in code_files(package):
        if after or _traces(name):
            with open(os.path.join(package, name), "rb") as file:
                whole.update(name.encode() + b"\0" + sha256(file.read()).digest())
    return whole.hexdigest()
