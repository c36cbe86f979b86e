"""`roofline models`: the models that can be given by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from roofline.cli.options import Debug, Json
from roofline.cli.terminal import out, out_json, painter
from roofline.errors import UnknownNameError

SHORT = "The models that can be given by name."
ORDER = 7


def run(
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUERY]...", show_default=False, help="Words to look for in names, sources and descriptions."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The models that can be given by name: the reference models, and with QUERY those of torchvision and timm too.

    \b
    roofline models
    roofline models mobilenet
    roofline models timm: convnext
    """
    from roofline.sources.resolve import catalogue
    from roofline.views import listing

    text = " ".join(query or ())
    everything = catalogue(zoos=bool(query))
    words = text.lower().split()
    found = [m for m in everything if all(word in " ".join(m.values()).lower() for word in words)]
    if not found:
        raise UnknownNameError(f"no model matches {text!r}{_nearest(text, [m['name'] for m in everything])}")
    if json:
        out_json({"models": found})
    else:
        out(listing.models(found, painter()))


def _nearest(name: str, known: Sequence[str]) -> str:
    from roofline.errors import nearest

    return nearest(name, known) + "\n`roofline models` lists them all"
