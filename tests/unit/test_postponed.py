"""A library is imported when its function is called; a file that wants more than that function gets the library itself."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from roofline.isolation import postponed

SLOW = 'def is_compile_supported(device):\n    return f"{device}!"\n\n\ncounters = 3\n'


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `slow_package` with the function in its module `utils`, and a place for who imports it."""
    (tmp_path / "slow_package").mkdir()
    (tmp_path / "slow_package" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "slow_package" / "utils.py").write_text(SLOW, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(postponed, "_PACKAGE", "slow_package")
    monkeypatch.setattr(postponed, "_MODULE", "slow_package.utils")
    monkeypatch.setattr(postponed, "_WHERE", "who_asks")
    for name in ("who_asks", "slow_package", "slow_package.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)  # both undone in the end: whatever the test imports goes
    importlib.invalidate_caches()
    return tmp_path


def imported(folder: Path, text: str) -> ModuleType:
    (folder / "who_asks.py").write_text(text, encoding="utf-8")
    with postponed.imports():
        found = importlib.import_module("who_asks")
    assert postponed._FINDER not in sys.meta_path
    return found


def test_it_is_imported_when_its_function_is_called(library: Path) -> None:
    module = imported(library, "from slow_package.utils import is_compile_supported")
    assert not {"slow_package", "slow_package.utils"} & set(sys.modules)
    assert module.is_compile_supported("cuda") == "cuda!"
    assert "slow_package.utils" in sys.modules


@pytest.mark.parametrize(
    "text",
    [
        "from slow_package.utils import counters, is_compile_supported",
        "import slow_package.utils as it\ncounters, is_compile_supported = it.counters, it.is_compile_supported",
        "from slow_package import utils\nfrom slow_package.utils import counters, is_compile_supported",
    ],
)
def test_who_wants_more_of_it_gets_it_all(library: Path, text: str) -> None:
    module = imported(library, text)
    assert module.counters == 3
    assert module.is_compile_supported is sys.modules["slow_package.utils"].is_compile_supported


def test_what_is_there_already_is_taken(library: Path) -> None:
    real = importlib.import_module("slow_package.utils")
    assert (
        imported(library, "from slow_package.utils import is_compile_supported").is_compile_supported
        is real.is_compile_supported
    )


def test_a_file_that_fails_fails_as_it_would(library: Path) -> None:
    with pytest.raises(ImportError, match="no_such_thing"):
        imported(library, "from slow_package.utils import no_such_thing")
    with pytest.raises(ZeroDivisionError):
        imported(library, "from slow_package.utils import is_compile_supported\n1 / 0")
