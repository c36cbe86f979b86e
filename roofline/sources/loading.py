"""A person's Python, run: the file or module that a source names, and the callable in it. Imports torch."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from roofline.cache import places
from roofline.errors import BuildError, RooflineError, SourceError, nearest
from roofline.isolation import failures, modules
from roofline.sources.source import Source


def from_file(source: Source) -> Any:
    """What the source names in its file, which is run: as a module of its own with its folder importable, as with
    `python file.py`; one with relative imports as a part of its package."""
    path = Path(source.where)
    name = places.package_of(path)[1]

    def run() -> ModuleType:
        if name:
            return importlib.import_module(name)
        return modules.run_file(path)

    return _named(_run(source, run), source)


def from_module(source: Source) -> Any:
    """What the source names in a module, which is imported."""
    return _named(_run(source, lambda: importlib.import_module(source.where)), source)


def example(source: Source) -> Callable[..., Any] | None:
    """The function `example` of the file or module that was run for a source: it gives the arguments of its models. None where
    it has none of its own."""
    path = Path(source.where)
    name = (places.package_of(path)[1] or modules.name_of(path)) if path.suffix == ".py" else source.where
    own = vars(sys.modules[name]).get("example") if name in sys.modules else None
    return own if inspect.isfunction(own) and own.__module__ == name else None


def _named(module: ModuleType, source: Source) -> Any:
    try:
        found: Any = module
        for part in source.attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        names = [
            n
            for n, v in vars(module).items()
            if callable(v) and not n.startswith("_") and getattr(v, "__module__", "") == module.__name__
        ]
        hint = (
            nearest(source.attribute, names, cutoff=0.6, lead="", show=str) or f"it has {', '.join(names) or 'no public names'}"
        )
        raise SourceError(f"{failures.shown(source.where)} has no {source.attribute!r}: {hint}") from None
    if not callable(found):
        raise SourceError(
            f"{failures.shown(source.where)}:{source.attribute} is a {type(found).__name__}; "
            "name an nn.Module class, instance or a function that returns one"
        )
    return found


def _run(source: Source, run: Callable[[], ModuleType]) -> ModuleType:
    where = source.where
    try:
        with modules.inside(source.places) as loaded:
            return modules.once(loaded, where, run)
    except RooflineError:
        raise
    except SyntaxError as error:
        if error.lineno is None:  # raised by hand
            raise BuildError(
                f"the model failed: {where} could not be loaded: {failures.said(error)}{failures.place(error)}"
            ) from error
        raise SourceError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except ImportError as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (where == missing or where.startswith(missing + ".")):
            file = f"{where.replace('.', '/')}.py"
            raise SourceError(f"no module {missing!r} to import; is it installed, or did you mean the file {file}?") from None
        raise SourceError(f"{where} could not be loaded: {failures.said(error)}{failures.place(error)}") from error
    except BaseException as error:
        if failures.interrupted(error) or isinstance(error, SystemExit):
            raise
        words = f"{failures.said(error)}{failures.place(error)}"
        raise BuildError(f"the model failed: {where} could not be loaded: {words}") from error


def unread(make: Any, source: Source) -> tuple[str, ...]:
    """A note for `--set` with a name that only a catch-all takes: nobody can tell whether it is read there."""
    if isinstance(make, nn.Module):
        return ()
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return ()
    rest = next((p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD), "")
    own = [p.name for p in parameters.values() if p.name != rest]
    out = []
    for key in source.args if rest else ():
        if key not in own:
            hint = nearest(key, own, cutoff=0.6, show=str)
            out.append(f"--set {key}: {source.name} has no such argument, it went into **{rest} and may not be read{hint}")
    return tuple(out)
