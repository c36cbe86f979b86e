"""All that a report shows: models on devices, in every setting asked for; what fails costs its own place and no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from roofline.advice import explanation, runs
from roofline.advice.explanation import Asker
from roofline.devices.device import Device
from roofline.errors import RooflineError
from roofline.records import Analysis
from roofline.records.explanation import Explanation


class Told(NamedTuple):
    """Analyses of one model and setting, each on a device of its own, and what is said of them."""

    analyses: Sequence[Analysis]
    explanation: Explanation


class Missing(NamedTuple):
    """What was asked for and could not be analysed."""

    model: str
    # "on t4, batch 8"
    where: str
    why: str
    exit_code: int = 2


class Report(NamedTuple):
    """`asked`: how many analyses there should have been."""

    told: list[Told]
    missing: list[Missing]
    asked: int

    @property
    def analyses(self) -> list[Analysis]:
        return [a for one in self.told for a in one.analyses]


def gather(
    models: Sequence[str],
    devices: Sequence[Device],
    settings: Mapping[str, Sequence[Any]],
    given: Mapping[str, Any],
    *,
    advise: bool = True,
    cache: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Every model on every device in every combination of `settings` ({"batch": (1, 8), "dtype": ("amp",)}).

    With `advise`, what would help is looked for in the first setting of each model, and analysed.
    """
    runs.check_host(devices, given)
    told: list[Told] = []
    missing: list[Missing] = []
    combined = [dict(zip(settings, values, strict=True)) for values in product(*settings.values())]
    for model in models:
        for number, setting in enumerate(combined):
            asker = Asker(model, {**given, **setting}, cache, progress)
            there = []
            for device in devices:
                try:
                    asker.run(device.name, device, {})
                    there.append(device)
                except RooflineError as error:
                    where = ", ".join([f"on {device.name}", *(f"{name} {value}" for name, value in setting.items())])
                    missing.append(Missing(model, where, runs.why(error), error.exit_code))
            if there:
                analyses = [asker.book.runs[device.name] for device in there]
                first = advise and number == 0
                told.append(Told(analyses, explanation.explain(asker, there) if first else explanation.told(analyses)))
    return Report(told, missing, len(models) * len(combined) * len(devices))


def failure(found: Report) -> RooflineError | None:
    """What to raise where something could not be analysed: its exit code is the gravest of theirs."""
    lost = [(one.exit_code, f"{one.model} {one.where}: {one.why}") for one in found.missing]
    return runs.failure(lost, found.asked, "on the page")
