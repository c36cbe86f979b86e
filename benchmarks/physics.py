"""Physics over the whole gallery: every reference model x pass x device x runtime, and what must hold of each.

    python benchmarks/physics.py [MODEL ...] [--jobs N] [--every N]

For each combination:
- no kernel above its roof (the product's own warnings stay silent), and none with multiply-accumulates and no compute time;
- the components of a kernel add up to its time, and totals are sums of kernels;
- the whole is no faster than the arithmetic it executes at the highest clock;
- twice the batch does not take less time;
- the device with better peaks, bandwidths, caches or host (1.7 times, one of them in turn) does not take more.

Twice the batch may make a model that is compiled for a CPU faster all the same: Inductor decides by the elements for each
thread whether a loop is shared, and over which dimension (kernels/inductor/sharing.py). On one core, where nothing is
shared, it must not: then it is counted apart, and does not fail.

Passes: inference in fp32, amp and fp16, training in fp32 and amp, and a decoded token of three small language models. A
dtype that a device lacks is left out and counted. `--every N` takes each N-th combination.

Exit code: 0 all hold, 1 some do not; each kind is printed with its first cases.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from roofline.analysis import physics
from roofline.devices.device import Device, Number, Peak
from roofline.devices.library import everything, lookup
from roofline.devices.threads import working
from roofline.errors import UsageError
from roofline.kernels import build as kernels
from roofline.records import Kernel, Point, Trace
from roofline.request import Ask, Pass, Place, Request
from roofline.sources.reference import reference_models
from roofline.sources.resolve import resolve
from roofline.sources.traced import trace_module, trace_source
from roofline.timemodel import roof

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tests" / "golden"))
BETTER = 1.7
PASSES = (Pass("fp32"), Pass("amp"), Pass("fp16"), Pass("fp32", training=True), Pass("amp", training=True))
RUNTIMES = ("eager", "compiled")
# a trace depends on the kind of device alone
SOME = {"gpu": "t4", "cpu": "i9-10940x"}
TIGHT = 1 + 1e-9
# what begins the name of a finding that a rule of Inductor's explains
RULE = "[Inductor's sharing]"


class Found(NamedTuple):
    """Something that does not hold."""

    what: str
    where: str


def better(d: Device, part: int) -> tuple[str, Device]:
    """The device with one thing better: peaks, bandwidths, cache sizes or the host."""

    def scaled(table: dict[str, Peak]) -> dict[str, Peak]:
        return {name: replace(peak, value=peak.value * BETTER) for name, peak in table.items()}

    def less(number: Number) -> Number:
        return replace(number, value=number.value / BETTER)

    if part == 0:
        cores = tuple(replace(c, per_clock=c.per_clock * BETTER) for c in d.cores)
        return "peaks", replace(d, tensor=scaled(d.tensor), vector=scaled(d.vector), cores=cores)
    if part == 1:
        return "bandwidths", replace(d, levels=tuple(replace(x, bandwidth=x.bandwidth * BETTER) for x in d.levels))
    if part == 2:
        return "caches", replace(d, levels=tuple(replace(x, size=int(x.size * BETTER)) for x in d.levels))
    return "host", replace(d, host=less(d.host), launch=less(d.launch))


def traces(name: str, kind: str) -> Iterator[tuple[str, Pass, Trace, Trace | None]]:
    """Pass, trace at batch 2, trace at twice that; of a decoded token the one trace."""
    target = lookup(SOME[kind])
    if name.startswith("hf:"):
        import nets  # type: ignore[import-not-found]  # beside the tests

        what = Pass("fp16", decode=64)
        asked = Request(Ask(nets.language(name[3:])), what, Place(target))
        yield "decode", what, trace_module(asked, target), None
        return
    for what in PASSES:
        one, two = (trace_source(resolve(Ask(name, batch=batch)), target, what) for batch in (2, 4))
        yield f"{what.dtype}{' training' if what.training else ''}", what, one, two


def holds(trace: Trace, rows: tuple[Kernel, ...], points: list[Point], device: Device) -> Iterator[str]:
    yield from physics.notes(rows, points, device, [layer.path for layer in trace.layers])
    for k, p in zip(rows, points, strict=True):
        if abs(sum(p.components.values()) - p.time_s) > 1e-9 * p.time_s + 1e-15:
            yield f"the parts of {k.op} do not add up to its time"
        if k.macs and not p.compute_s:
            yield f"{k.op} multiplies for free"
    clock = max(1.0, device.sustained.value, device.sustained_vector.value if device.sustained_vector else 0.0)
    executed = sum(k.flops * p.executed for k, p in zip(rows, points, strict=True))
    if sum(p.time_s for p in points) < executed / (clock * physics.TOLERANCE * max(device.peaks().values())):
        yield "the whole is faster than its arithmetic"


class Tally:
    """What came of one model."""

    def __init__(self, name: str, every: int) -> None:
        self.name, self.every = name, every
        self.tried = self.out = self.turn = 0
        self.found: list[Found] = []

    def run(self) -> Tally:
        for kind in SOME:
            for title, what, one, two in traces(self.name, kind):
                for runtime in RUNTIMES:
                    rows = tuple(kernels.build(one, runtime, kind))
                    twice = tuple(kernels.build(two, runtime, kind)) if two else ()
                    for device in everything():
                        self.turn += device.kind == kind
                        if device.kind == kind and self.turn % self.every == 0:
                            self.case(
                                f"{self.name}, {title}, {device.name}, {runtime}", one, rows, twice, device, what, runtime
                            )
        return self

    def case(
        self,
        where: str,
        trace: Trace,
        rows: tuple[Kernel, ...],
        twice: tuple[Kernel, ...],
        device: Device,
        what: Pass,
        runtime: str,
    ) -> None:
        def whole(rows: tuple[Kernel, ...], device: Device) -> float:
            return sum(
                p.time_s for p in roof.place(rows, device, setting=what.dtype or "fp32", runtime=runtime, footprint=10**9)
            )

        try:
            points = roof.place(rows, device, setting=what.dtype or "fp32", runtime=runtime, footprint=10**9)
        except UsageError:  # no such dtype on it
            self.out += 1
            return
        self.tried += 1
        self.found += [Found(text, where) for text in holds(trace, rows, points, device)]
        now = sum(p.time_s for p in points)
        part, other = better(device, self.tried % 4)
        if (then := whole(rows, other)) > now * TIGHT:
            self.found.append(Found(f"slower with better {part}", f"{where}: {then / now:.4f} times"))
        if twice and (then := whole(twice, device)) < now / TIGHT:
            because = ""
            if runtime == "compiled" and device.kind == "cpu":
                alone = working(device, 1)
                because = f"{RULE} " if whole(rows, alone) <= whole(twice, alone) * TIGHT else ""
            self.found.append(Found(f"{because}twice the batch is faster", f"{where}: {then / now:.4f} times"))


def over(name: str, every: int) -> Tally:
    return Tally(name, every).run()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="instead of all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="each N-th combination")
    asked = parser.parse_args()
    import nets

    names = asked.models or [*reference_models(), *(f"hf:{name}" for name in nets.LANGUAGE)]
    start, tried, out = time.monotonic(), 0, 0
    all_found: list[Found] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for one in pool.map(over, names, [asked.every] * len(names)):
            tried, out, all_found = tried + one.tried, out + one.out, all_found + one.found
            wrong = sum(not found.what.startswith(RULE) for found in one.found)
            print(f"{one.name}: {one.tried} combinations, {wrong} do not hold", file=sys.stderr, flush=True)
    kinds = Counter(one.what for one in all_found)
    for kind, count in kinds.most_common():
        print(f"{count} times: {kind}")
        for case in [x for x in all_found if x.what == kind][:5]:
            print(f"    {case.where}")
    bad = [one for one in all_found if not one.what.startswith(RULE)]
    print(
        f"{tried:,} combinations of {len(names)} models: {len(bad)} do not hold, {len(all_found) - len(bad)} more are "
        f"Inductor's sharing among threads; {out:,} left out, no such dtype ({time.monotonic() - start:.0f} s)"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
