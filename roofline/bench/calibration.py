"""What every calibration is made of: samples within a time, a line through them, a busy machine refused, and the file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from roofline import units
from roofline.bench import sampling
from roofline.bench.sampling import Sample
from roofline.devices import host
from roofline.devices.device import Device
from roofline.errors import RooflineError, UsageError

# Seconds of measuring, about; more samples are waited for on a busy machine, fewer towards the end.
SECONDS = 13.0
# A key number whose quartiles are further apart than this fraction of it says that the machine was busy.
LIMIT = 0.3

Report = Callable[[str], None]


class TooBusy(RooflineError):
    """Others use this machine so much that the numbers would say nothing about it."""


class Calibration(Struct, frozen=True):
    """The measured device, and how well it could be measured."""

    device: Device
    # the largest spread of a key number; samples taken, and those in which no thread had to wait
    spread: float
    samples: int
    undisturbed: int
    seconds: float


class Fit(NamedTuple):
    """T = a + V/b: seconds, and B/s."""

    a: float
    b: float


def fit(points: Sequence[tuple[float, float]]) -> Fit:
    """The line through (bytes, seconds): the median of the slopes between any two points, and of the intercepts.

    Where time does not grow with size, the rate of the largest, without an intercept.
    """
    slopes = sorted((t2 - t1) / (v2 - v1) for (v1, t1), (v2, t2) in combinations(sorted(points), 2))
    slope = sampling.quantile(slopes, 0.5) if slopes else 0.0
    if slope <= 0:
        v, t = max(points)
        return Fit(0.0, v / t)
    return Fit(max(sampling.quantile(sorted(t - v * slope for v, t in points), 0.5), 0.0), 1 / slope)


class Bench:
    """Takes samples, within what is left of the time."""

    def __init__(self, waiting: sampling.Waiting, report: Report, seconds: float = SECONDS) -> None:
        self.waiting, self.report = waiting, report
        self.start = time.perf_counter()
        self.end = self.start + seconds
        self.taken = self.clean = 0
        self.key: dict[str, Sample] = {}

    def __call__(
        self,
        calls: Callable[[], object] | Sequence[Callable[[], object]],
        number: int = 1,
        between: Callable[[], object] | None = None,
    ) -> Sample:
        left = max(self.end - time.perf_counter(), 0.0)
        got = sampling.sample(calls, self.waiting, limit=0.04 + left / 30, number=number, between=between)
        self.taken += got.taken
        self.clean += min(got.clean, got.taken)
        return got

    def busy(self) -> str:
        """What shows that the machine was busy; empty if nothing does."""
        for name, s in self.key.items():
            if s.disturbed or s.spread > LIMIT:
                return (
                    f"the samples of {name} spread by {units.share(s.spread)} (limit {units.share(LIMIT)}), "
                    f"and in {s.clean} of {s.taken} no thread had to wait for a core"
                )
        return ""


def finish(bench: Bench, device: Device, *, force: bool, notes: Sequence[str] = ()) -> Calibration:
    """Refuse what was measured on a busy machine, else say in the notes how it was measured."""
    problem = bench.busy()
    if problem and not force:
        raise TooBusy(f"this machine is too busy to be measured: {problem}\nstop what else runs here, or use --force")
    lost = 1 - bench.clean / max(bench.taken, 1)
    said = [
        *([f"Measured on a busy machine, with --force: {problem}."] if problem else []),
        *([f"In {units.share(lost)} of the samples other programs held a core; those were left out."] if lost >= 0.05 else []),
        *notes,
        *device.notes,
    ]
    spread = max((s.spread for s in bench.key.values()), default=0.0)
    took = time.perf_counter() - bench.start
    return Calibration(replace(device, notes=tuple(said)), spread, bench.taken, bench.clean, took)


def default_file() -> Path:
    """Where `-d cpu` looks. Raises UsageError where ROOFLINE_HOST_FILE is set to nothing, which means: none."""
    named = os.environ.get("ROOFLINE_HOST_FILE")
    if named == "":
        raise UsageError("ROOFLINE_HOST_FILE is empty, so `-d cpu` reads no file\nunset it, or name a file with -o")
    return Path(named) if named else host.default_file()
