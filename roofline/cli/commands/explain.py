"""`roofline explain`: why a model is as fast as it is, and what would help."""

from __future__ import annotations

from typing import Annotated

import typer

from roofline.cli.options import (
    AskOptions,
    Debug,
    Devices,
    Json,
    LimitOptions,
    Model,
    NoCache,
    PassOptions,
    PlaceOptions,
    Working,
)
from roofline.cli.steps import counted, devices_named, foreign
from roofline.cli.terminal import out, out_json, painter

SHORT = "Why a model is as fast as it is, and what would help."
ORDER = 2


def run(  # long: an option each
    model: Model,
    *,
    device: Devices = None,
    threads: Working = None,
    place: PlaceOptions,
    ask: AskOptions,
    what: PassOptions,
    evidence: Annotated[bool, typer.Option("--evidence", help="Print the layers and kernels under each sentence.")] = False,
    json: Json = False,
    no_cache: NoCache = False,
    limits: LimitOptions,
    debug: Debug = False,
) -> None:
    """Why MODEL takes as long as it does: what it takes, where it goes, why, and what would help, on one device or several.

    Whatever is said to help was analysed with that done. With a GPU and a CPU it says what makes the difference.

    \b
    roofline explain mobilenet_v3_large -d rtx-4090 -d i9-10940x
    roofline explain resnet50 -d t4 -b 32 --evidence
    roofline explain hf:LlamaForCausalLM -d h100-sxm --dtype bf16 --decode 1024
    """
    limits.apply()
    from roofline.advice import explanation
    from roofline.views.explanation import render

    given = {**place.given(), **ask.given(), **what.given()}
    devices = devices_named(counted(device or ["cpu"], threads))
    with foreign(model) as report:
        asker = explanation.Asker(model, given, not no_cache, report)
        found = explanation.explain(asker, devices)
    if json:
        out_json(found)
    else:
        out(render(found, painter(), asker.book.runs if evidence else None))
