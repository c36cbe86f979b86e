"""Models side by side on devices: a row for each, and what the ratios between them are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from msgspec import Struct, field

from roofline.records.analysis import Interval, Shown, ToolInfo
from roofline.records.explanation import Run, Sentence


class Compared(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One model on one device at one batch. Base units."""

    # key of `Comparison.runs`
    run: str
    model: str
    device: str
    batch: int
    params: int
    macs: int
    flops: int
    bytes: int
    intensity: float
    time_s: float
    # samples (tokens of a language model) per second, and how many times that of the first model there
    throughput: float
    speed_up: float | None = None
    # the 80 % intervals of time_s and of speed_up; what both rest on of the device cancels in the second
    interval: Interval | None = None
    speed_up_between: tuple[float, float] | None = None
    peak_memory_bytes: int
    # J of a sample and their 80 % interval; None where the device's power is not known
    energy_j: float | None = None
    energy_between: tuple[float, float] | None = None
    bound: str
    # None: the device's memory is not known
    fits: bool | None = None
    # from the caller's own table
    own: dict[str, float | str] = {}
    # the numbers of `Comparison.pareto` by their names, in base units; without those that the model has not
    by: dict[str, float] = {}
    # not beaten in all of `Comparison.pareto` by another model on this device at this batch
    front: bool | None = None


class Failed(Struct, frozen=True):
    """What could not be analysed, and why."""

    model: str
    device: str
    batch: int | None
    exit_code: int
    why: str


class Comparison(Shown, frozen=True, kw_only=True):
    """The answer of `roofline compare`."""

    SCHEMA: ClassVar[int] = 1
    VIEWS: ClassVar[dict[str, Callable[[Any], str]]] = {}

    schema: int = 1
    runs: dict[str, Run]
    rows: list[Compared]
    failed: list[Failed]
    sentences: list[Sentence]
    # what the front was asked for by: "time", "accuracy"
    pareto: tuple[str, ...] = ()
    # of each of these: whether less of it is better
    least: tuple[bool, ...] = ()
    notes: list[str] = field(default_factory=list)
    # None: nothing could be analysed
    tool: ToolInfo | None = None
