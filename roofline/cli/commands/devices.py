"""`roofline devices`: the GPUs and CPUs that can be given to -d."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from roofline.cli.options import Debug, Json
from roofline.cli.terminal import out, out_json, painter
from roofline.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from roofline.devices.device import Device

SHORT = "The GPUs and CPUs that can be given to -d."
ORDER = 6


class Kind(StrEnum):
    gpu = "gpu"
    cpu = "cpu"


class Order(StrEnum):
    """Columns to list devices by (listing.ORDERS)."""

    name = "name"
    fp32 = "fp32"
    half = "half"
    dram = "dram"
    ridge = "ridge"
    power = "power"
    year = "year"


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            show_default=False,
            help="A device to show in full, several to compare, or parts of names to list.",
        ),
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only GPUs or only CPUs.", show_default=False)] = None,
    sort: Annotated[
        Order | None,
        typer.Option("--sort", help="What to list them by; numbers: largest first.  [default: name]", show_default=False),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The devices that can be given to -d: dense peaks, memory levels, overheads, each number with its source.

    \b
    roofline devices                 all of them
    roofline devices rtx-4090        one in full
    roofline devices t4 a10 l4       side by side, with ratios to the first
    roofline devices a100 --json     every one with a100 in its name
    roofline devices --kind gpu --sort dram
    roofline devices cpu             this machine
    roofline devices my-board.toml   a file of your own (checked as it is read)
    """
    from roofline.devices.library import everything as library
    from roofline.views import listing

    matched = [_matching(name) for name in names or []]
    one = [d.name for each, exact in matched if exact for d in each]
    if twice := next((name for name in one if one.count(name) > 1), ""):
        raise UsageError(f"{twice}: given twice")
    exact = bool(matched) and all(one for _, one in matched)
    every = [d for each, _ in matched for d in each] if names else library()
    found = [d for d in {d.name: d for d in every}.values() if kind is None or d.kind == kind.value]
    if not found:
        said = ", ".join(map(repr, names or []))
        raise UnknownNameError(f"no {kind.value if kind else 'device'} found" + (f" for {said}" if said else ""))
    if sort is not None and len(found) == 1:
        raise UsageError(f"--sort orders a list, and {found[0].name} is one device: leave it out")
    if sort is Order.name:
        found.sort(key=lambda d: d.name)
    elif sort is not None:
        found.sort(key=lambda d: -listing.ORDERS[sort.value](d))
    if json:
        out_json(found[0] if exact and len(found) == 1 else {"devices": found})
    elif exact:
        out(listing.device(found[0], painter()) if len(found) == 1 else listing.compare(found, painter()))
    else:
        out(listing.devices(found, painter()))


def _matching(name: str) -> tuple[list[Device], bool]:
    """The device of that name (and True), else those with `name` in their name or title."""
    from roofline.devices.library import everything as library
    from roofline.devices.library import lookup

    try:
        return [lookup(name)], True
    except UnknownNameError:
        plain = _squeeze(name)
        found = [d for d in library() if plain and any(plain in _squeeze(text) for text in (d.name, d.title, *d.aliases))]
        if not found:
            raise
        return found, False


def _squeeze(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
