"""One of the analyses that an answer rests on: how it is asked for, and what the answer keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from roofline import pipeline
from roofline.advice.terms import pace_of, value
from roofline.devices import library
from roofline.devices.device import Device
from roofline.errors import ModelError, RooflineError, UsageError
from roofline.records import Analysis
from roofline.records.explanation import Run, Term
from roofline.request import made


def check_host(devices: Sequence[Device], given: Mapping[str, Any]) -> None:
    """Raises UsageError for a host that is none, and where no device is a GPU, which alone has one."""
    library.with_host(devices, given.get("host"), given.get("runtime", "eager"))


def on(device: Device, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options there: a host is the machine around a GPU, and a CPU beside one goes without."""
    return {name: value for name, value in options.items() if name != "host" or device.kind == "gpu"}


def ask(
    model: Any, device: Device, options: Mapping[str, Any], cache: bool, progress: Callable[[str], None] | None
) -> Analysis:
    """The analysis of a model on a device. Raises what `roofline.analyze` does."""
    return pipeline.run(made(model, {**options, "device": device}, cache=cache, progress=progress))


def kept(a: Analysis, title: str, options: Mapping[str, Any]) -> Run:
    """What an answer keeps of it; `options` ask for it again."""
    samples = int(value(a, Term("", pace_of(a).number)))
    return Run({**options, "device": a.device.name}, title, a.totals.time_s, samples)


def why(error: RooflineError) -> str:
    """What an analysis ended with, in a line."""
    return str(error).replace("\n", "; ")


def failure(lost: Sequence[tuple[int, str]], asked: int, where: str) -> RooflineError | None:
    """What to raise where some of `asked` could not be analysed: (exit code, what and why) of each; the code is the gravest.

    `where` the others are told.
    """
    if not lost:
        return None
    more = f" (and {len(lost) - 1} more, {where})" if len(lost) > 1 else ""
    kind = ModelError if any(code == ModelError.exit_code for code, _ in lost) else UsageError
    return kind(f"{len(lost)} of {asked} could not be analysed{more}: {lost[0][1]}")
