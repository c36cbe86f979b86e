"""Groups of options: a command takes several with one parameter, typed and declared in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from msgspec import Struct


class Group(Struct, frozen=True):
    """Options that belong together; each field is one, as typer declares it, with its default."""


def flat(run: Callable[..., None]) -> Callable[..., None]:
    """`run` as typer reads it: in the place of a parameter that is a Group, its fields."""
    groups: dict[str, type[Group]] = {}
    parameters: list[Parameter] = []
    for parameter in inspect.signature(run, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            groups[parameter.name] = kind
            defaults = dict(zip(kind.__struct_fields__, kind.__struct_defaults__, strict=True))
            parameters += [
                Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name], annotation=option)
                for name, option in _options(kind).items()
            ]
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))

    def call(**values: Any) -> None:
        made = {name: kind(**{key: values.pop(key) for key in kind.__struct_fields__}) for name, kind in groups.items()}
        run(**values, **made)

    call.__name__, call.__doc__ = run.__name__, run.__doc__
    # typer reads both
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # a function may carry one
    return call


def _options(kind: type[Group]) -> dict[str, Any]:
    """The annotation of every field, in their order."""
    found = {name: option for c in reversed(kind.__mro__) for name, option in inspect.get_annotations(c, eval_str=True).items()}
    return {name: found[name] for name in kind.__struct_fields__}
