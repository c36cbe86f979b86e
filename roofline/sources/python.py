"""A person's own code: a class, function or module object in a Python file, or in a module that can be imported.

A file may declare its models in a ROOFLINE table, which is read without running it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Mapping
from importlib.util import decode_source
from pathlib import Path
from typing import Any

from roofline import files
from roofline.cache.places import package_of
from roofline.errors import SourceError, UsageError
from roofline.sources.inputs import ASSUMED, DEFAULT_INPUT, parsed
from roofline.sources.source import Kind, Source, file_at

_BLOCK = re.compile(r"^ROOFLINE\b[^=\n]*= (\{.*?^\})", re.MULTILINE | re.DOTALL)


def declared(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> entry, read as a literal: the file is not run. Empty where it has no table."""
    try:
        text = decode_source(files.content(path, files.CONFIG))  # in the encoding that its first lines may name
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, SyntaxError) as error:
        raise SourceError(
            f"{path} is no Python source: {error}\nsave it as UTF-8, or name its encoding in its first line"
        ) from error
    try:
        block = _BLOCK.search(text)
        return ast.literal_eval(block.group(1)) if block else {}
    except (SyntaxError, ValueError) as error:
        raise SourceError(f"{path}: its ROOFLINE table cannot be read as a literal: {error}") from error


def modules_of(path: Path) -> list[str]:
    """Names of the classes of a file that look like modules, in order, else of its public functions: the file is not run."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    found: list[str] = []
    for node in body:
        bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.ClassDef) and any(base.endswith(("Module", "Model")) or base in found for base in bases):
            found.append(node.name)
    return found or [node.name for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def source_of(kind: Kind, name: str, path: Path, entry: Mapping[str, Any], bare: bool = False) -> Source:
    """The model that an entry of the table describes."""
    return Source(
        name=name,
        kind=kind,
        where=str(path),
        attribute=entry.get("make", name),
        args=dict(entry.get("args", {})),
        inputs=parsed(entry.get("inputs", DEFAULT_INPUT)),
        bare=bare,
    )


class File(Kind):
    """`net.py:Net`; or `net.py` alone, where its ROOFLINE table has one entry."""

    name = "file"
    code = "person"

    def find(self, text: str) -> Source | None:
        place, _, attribute = text.rpartition(":")
        if place.endswith(".py"):
            return self._in(place, attribute)
        return self._in(text, "") if text.endswith(".py") else None

    def _in(self, file: str, attribute: str) -> Source:
        path = file_at(file)
        table = declared(path)
        if not attribute:
            if len(table) != 1:
                names = list(table) or modules_of(path)
                shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
                example = f"{file}:{names[0] if names else 'NAME'}"
                raise UsageError(f"{file}: say which model, as {example}" + (f" (it has {shown})" if shown else ""))
            attribute = next(iter(table))
        if attribute in table:
            return source_of(self, attribute, path, table[attribute])
        return _undeclared(self, str(path), attribute)

    def files(self, source: Source) -> tuple[Path, ...]:
        return (Path(source.where),)

    def places(self, source: Source) -> list[str]:
        """Its own folder, as with `python net.py`, and the working directory."""
        path = Path(source.where)
        root, dotted = package_of(path)
        # a file of a package sees its neighbours through the package; a script sees them directly
        found = [str(root)] if dotted else [str(path.parent), str(root)]
        return list(dict.fromkeys([*found, os.getcwd()]))

    def load(self, source: Source) -> Any:
        from roofline.sources import loading

        return loading.from_file(source)

    def example(self, source: Source) -> Callable[..., Any] | None:
        from roofline.sources import loading

        return loading.example(source)

    def remarks(self, source: Source, made: Any) -> tuple[str, ...]:
        from roofline.sources import loading

        return loading.unread(made, source)


class Module(Kind):
    """`package.module:make`: the same in an importable module."""

    name = "module"
    code = "person"

    def find(self, text: str) -> Source | None:
        place, colon, attribute = text.rpartition(":")
        if colon and place.endswith(".ipynb"):
            file = place.removesuffix("ipynb") + "py"
            raise UsageError(
                f"{place} is a notebook: jupyter nbconvert --to script {place} makes a file of its cells, "
                f"which is named as {file}:{attribute}"
            )
        return _undeclared(self, place, attribute) if colon and place else None

    def places(self, source: Source) -> list[str]:
        """The working directory, as with `python -m`."""
        return [os.getcwd()]

    def load(self, source: Source) -> Any:
        from roofline.sources import loading

        return loading.from_module(source)

    def example(self, source: Source) -> Callable[..., Any] | None:
        from roofline.sources import loading

        return loading.example(source)

    def remarks(self, source: Source, made: Any) -> tuple[str, ...]:
        from roofline.sources import loading

        return loading.unread(made, source)


def _undeclared(kind: Kind, where: str, attribute: str) -> Source:
    return Source(name=attribute, kind=kind, where=where, attribute=attribute, inputs=parsed(DEFAULT_INPUT), notes=(ASSUMED,))


FILE, MODULE = File(), Module()
