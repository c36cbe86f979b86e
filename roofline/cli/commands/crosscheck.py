"""`roofline crosscheck`: our counts beside those of others."""

from __future__ import annotations

from typing import Annotated

import typer

from roofline.cli.options import AskOptions, Debug, Json, LimitOptions, Model
from roofline.cli.steps import foreign
from roofline.cli.terminal import out, out_json, painter
from roofline.errors import UsageError
from roofline.request import made

SHORT = "Our counts beside fvcore's, torch's and published ones."
ORDER = 8


def run(
    model: Model,
    *,
    ask: AskOptions,
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="N", help="At most N layers.  [default: 20]", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the layers where all agree.")] = False,
    json: Json = False,
    limits: LimitOptions,
    debug: Debug = False,
) -> None:
    """Multiply-accumulates of every layer as we, fvcore and torch's FlopCounterMode count them, and the numbers in print.

    The model runs here once, on random weights. fvcore counts one FLOP for a multiply-accumulate.

    \b
    roofline crosscheck mobilenet_v3_large
    roofline crosscheck torchvision:vit_b_16 --all
    roofline crosscheck timm:sequencer2d_s --json
    """
    limits.apply()
    from roofline.views import counts

    if json and (top is not None or everything):
        raise UsageError(f"{'--all' if everything else '--top'} is about the table, and --json has every layer: leave one out")
    with foreign(model) as report:
        from roofline.validation.crosscheck import crosscheck

        found = crosscheck(made(model, ask.given(), progress=report))
    if json:
        out_json(found)
    else:
        out(counts.render(found, painter(), top or 20, everything))
