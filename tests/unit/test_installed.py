"""Installed packages that a model hangs on: looked at once a moment, and an edit after that look is seen by who compares."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roofline.cache import dependencies
from roofline.cache.dependencies import Group, Record
from roofline.isolation import installed

NAME = "roofline_test_package"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a package that is imported."""
    file = tmp_path / "site-packages" / NAME / "__init__.py"
    file.parent.mkdir(parents=True)
    file.write_text("width = 4\n")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.setattr(installed, "_last", [])
    for kept in ("_imported", "_packages", "_where"):
        monkeypatch.setattr(installed, kept, {})
    importlib.import_module(NAME)
    yield file
    del sys.modules[NAME]


def group(found: list[Group], file: Path) -> Group:
    return next(g for g in found if g.folder == str(file.parent))


def test_a_look_holds_for_a_moment(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = installed.groups((), time.time_ns())
    assert installed.groups((), time.time_ns()) is first
    monkeypatch.setattr(installed, "_LOOK_AGAIN_NS", 0)
    again = installed.groups((), time.time_ns())
    assert again is not first
    assert group(again, package).sha256 == group(first, package).sha256


def test_a_module_that_came_is_looked_at_at_once(package: Path) -> None:
    first = installed.groups((), time.time_ns())
    package.with_name("more.py").write_text("depth = 2\n")
    importlib.import_module(f"{NAME}.more")
    try:
        assert group(installed.groups((), time.time_ns()), package).files == ["__init__.py", "more.py"]
    finally:
        del sys.modules[f"{NAME}.more"]
    assert group(first, package).files == ["__init__.py"]


def test_an_edit_after_the_look_is_seen(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = group(installed.groups((), time.time_ns()), package)
    assert dependencies.holds(Record(groups=[found]))
    package.write_text("width = 8\n")
    assert group(installed.groups((), time.time_ns()), package) is found
    assert not dependencies.holds(Record(groups=[found]))
    monkeypatch.setattr(installed, "_LOOK_AGAIN_NS", 0)
    with pytest.raises(installed.Changed, match="edited after it had been imported"):
        installed.groups((), time.time_ns())


def test_what_is_asked_at_once_is_asked_of_one_moment(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("A = 1\n")
    mark = dependencies.mark_of(str(module))
    digest = dependencies.together(["module.py"], [str(module)], [mark.marks])
    known = Record(groups=[Group(str(tmp_path), ["module.py"], [mark.marks], mark.at, digest)])
    with dependencies.at_once():
        assert dependencies.holds(known)
        module.write_text("A = 12\n")
        assert dependencies.holds(known)
    with dependencies.at_once():
        assert not dependencies.holds(known)
        assert not dependencies.holds(known)
