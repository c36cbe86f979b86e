"""Quick conversion of command-line values. Typer 0.29 converts with pydantic, whose import takes as long as our whole answer.

Texts, paths, choices and whole numbers are converted here; whatever is not plainly right goes to typer's own conversion,
which words the error. Other versions of typer do not have the hook and convert as they always did.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer

from roofline.errors import UsageError


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


def refuse_repeats(command: Any) -> None:
    """Let `command` and its subcommands refuse an option that takes one value and is given twice: the last would win."""
    for sub in getattr(command, "commands", {}).values():
        refuse_repeats(sub)
    command.make_parser = _Once(command.make_parser)


class _Once:
    """Stands in for a command's make_parser(): the parser that it makes looks at what was repeated."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, ctx: Any) -> Any:
        parser = self._make(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            before = list(args)
            options, rest, order = parse(args=args)
            single = [p for p in order if p.param_type_name == "option" and not p.multiple and not p.is_flag]
            for param in single:
                if single.count(param) > 1:
                    values = ", ".join(_values(before, param.opts))
                    raise UsageError(f"{param.opts[-1]}: given {single.count(param)} times ({values}), and it takes one value")
            return options, rest, order

        parser.parse_args = parse_args
        return parser


def _values(args: list[str], names: list[str]) -> list[str]:
    """What stands behind an option on the command line: `-b 1`, `-b1`, `--batch=1`."""
    found = []
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        short = next((n for n in names if len(n) == 2 and arg.startswith(n) and arg != n), "")
        if name in names:
            found.append(value if equals else "".join(args[i + 1 : i + 2]))
        elif short:
            found.append(arg.removeprefix(short))
    return found
