"""Quick conversion of command-line values. Typer 0.29 converts with pydantic, whose import takes as long as our whole answer.

Texts, paths, choices and whole numbers are converted here; whatever is not plainly right goes to typer's own conversion,
which words the error. Other versions of typer do not have the hook and convert as they always did.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer


class Quick:
    """Stands in for typer's converter of one parameter."""

    def __init__(self, annotation: Any, lowest: float | None) -> None:
        self._many = get_origin(annotation) is list
        self._type = get_args(annotation)[0] if self._many else annotation
        self._lowest = lowest

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self._convert(value)
        except ValueError:
            param._runtime_param = None
            return param.get_runtime_param().coerce(value, param=param, ctx=ctx)

    def _convert(self, value: Any) -> Any:
        """Raises ValueError for what typer has to look at."""
        if value is None:
            return () if self._many else None
        if not self._many:
            return self._one(value)
        if isinstance(value, str):
            raise ValueError
        return [self._one(item) for item in value]

    def _one(self, value: Any) -> Any:
        if isinstance(value, self._type):
            return value
        if not isinstance(value, str):
            raise ValueError
        found = self._type(value)
        if self._lowest is not None and found < self._lowest:
            raise ValueError
        return found


def quicken(command: Any, parent: typer.Context | None = None) -> None:
    """Give every parameter of `command` and its subcommands the quick conversion, where this typer has a place for it."""
    context = typer.Context(command, parent=parent, **command.context_settings)
    for sub in getattr(command, "commands", {}).values():
        quicken(sub, context)
    for param in command.get_params(context):  # with --help, which `command.params` is without
        descriptor = getattr(param, "type_descriptor", None)
        if descriptor is None or not hasattr(param, "_runtime_param"):
            continue
        annotation = descriptor.annotation
        leaf = get_args(annotation)[0] if get_origin(annotation) is list else annotation
        if leaf in (str, int, bool) or (isinstance(leaf, type) and issubclass(leaf, (Path, Enum))):
            param._runtime_param = Quick(annotation, getattr(descriptor.parameter_info, "min", None))
