"""`roofline measure`: a model run here, measured beside predicted."""

from __future__ import annotations

from typing import Annotated

import typer

from roofline.cli.options import (
    AskOptions,
    ChannelsLast,
    Debug,
    DtypeOption,
    FoldBn,
    Here,
    HereOptions,
    LimitOptions,
    Model,
    ViewOptions,
)
from roofline.cli.steps import View, foreign, publish
from roofline.errors import UsageError
from roofline.request import made

SHORT = "Run a model here: measured beside predicted, kernel by kernel."
ORDER = 10


def run(  # long: an option each
    model: Model,
    *,
    device: Annotated[Here, typer.Option("-d", "--device", help="Where to run it.")] = Here.cpu,
    ask: AskOptions,
    dtype: DtypeOption = None,
    channels_last: ChannelsLast = False,
    fold_bn: FoldBn = False,
    view: ViewOptions,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, metavar="S", help="How long to run it, about; longer on a busy machine.")
    ] = 6.0,
    here: HereOptions,
    limits: LimitOptions,
    debug: Debug = False,
) -> None:
    """Run MODEL on this machine with random weights and put measured beside predicted: per layer, op or kernel.

    The prediction is that of `analyze -d cpu`, best after `roofline calibrate`. Eager inference; the time of each kernel
    is net of what timing costs, so that the kernels add up to a run without it.

    \b
    roofline measure mobilenet_v3_large
    roofline measure resnet50 -b 8 --by op -o resnet50.png
    roofline measure net.py:Net --input 1,3,64,64 --json
    """
    limits.apply()
    from roofline.views import files

    targets = files.targets(view.output or [])
    shown = View.of(view, targets)
    if shown.look.picture in ("batch", "memory"):
        raise UsageError(f"--picture {shown.look.picture} is computed and not measured: ask `roofline analyze` for it")
    here.only_cpu(device)
    given = {**ask.given(), "device": device.value, "channels_last": channels_last, "fold_bn": fold_bn}
    given |= {"dtype": dtype.value} if dtype else {}
    with foreign(model) as report:
        from roofline.bench.measure import measure

        request = made(model, given, cache=False, progress=report)
        found = measure(request, threads=here.threads, seconds=seconds, hold=here.hold, force=here.force)
    publish([found], targets, shown)
