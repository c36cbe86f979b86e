"""Physics over the whole gallery: every reference model x pass x device x runtime, and what must hold of each.

    python benchmarks/physics.py [MODEL ...] [--jobs N] [--every N]

For each combination:
- no kernel above its roof (what the product warns of), and none with multiply-accumulates and no compute time;
- the components of a kernel add up to its time, and those of a pass to its own;
- the whole is no faster than the arithmetic it executes at the highest clock;
- twice the batch does not take less time;
- the device with better peaks, bandwidths, caches or host (1.7 times, one of them in turn) does not take more.

Twice the batch may make a model that is compiled for a CPU faster all the same: Inductor decides by the elements for each
thread whether a loop is shared, and over which dimension (kernels/inductor/sharing.py). On one core, where nothing is
shared, it must not: then it is counted apart, and does not fail.

Passes: inference in fp32, amp and fp16, training in fp32 and amp, and a decoded token of three small language models. A
dtype that a device lacks is left out and counted. `--every N` takes each N-th pass under a runtime, on all devices.

All devices of a kind are priced at once, as a sweep prices them (timemodel/many.py), and kernels are held to their roofs by
arrays: the tests hold these to the times of single kernels, to the last digit.

Exit code: 0 all hold, 1 some do not; each kind is printed with its first cases.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from roofline.analysis import physics
from roofline.classes import MATRIX, PRODUCTS
from roofline.devices.device import Device, Number, Peak
from roofline.devices.library import everything, lookup
from roofline.devices.threads import working
from roofline.errors import UsageError
from roofline.kernels import build as kernels
from roofline.records import Kernel, Trace
from roofline.request import Ask, Pass, Place, Request
from roofline.sources.reference import reference_models
from roofline.sources.resolve import resolve
from roofline.sources.traced import trace_module, trace_source
from roofline.timemodel import fleet, models
from roofline.timemodel.columns import Columns, plain
from roofline.timemodel.constants import shipped
from roofline.timemodel.fleet import Fleet
from roofline.timemodel.many import Batch, Passes, Timed

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tests" / "golden"))
BETTER = 1.7
PASSES = (Pass("fp32"), Pass("amp"), Pass("fp16"), Pass("fp32", training=True), Pass("amp", training=True))
RUNTIMES = ("eager", "compiled")
# a trace depends on the kind of device alone
SOME = {"gpu": "t4", "cpu": "i9-10940x"}
TIGHT = 1 + 1e-9
# bytes alive at the peak, the same for all
FOOTPRINT = 10**9
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


class Looked(Batch):
    """Passes on many devices, and beside their times what of their kernels no device can do: `physics.faults` by arrays."""

    def __init__(self, passes: Passes, kind: str) -> None:
        super().__init__(passes, kind)
        of: dict[int, Kernel] = {}
        for numbers, inverse in zip(passes.numbers, self.inverse, strict=True):
            of.update(zip(inverse.tolist(), [passes.found[number].kernel for number in numbers], strict=True))
        self.of = [of[at] for at in range(self.kernels)]
        self.flops, self.macs, self.bytes = (
            np.array([getattr(k, name) for k in self.of], dtype=float) for name in ("flops", "macs", "bytes")
        )
        self.product = np.array([k.klass in PRODUCTS for k in self.of], dtype=bool)
        # by name of a device: what does not hold, and the first kernel of which; FLOPs that each kernel executes
        self.wrong: dict[str, list[tuple[str, str]]] = {}
        self.executed: dict[str, Any] = {}

    def _enter(self, costs: Any, rows: slice, devices: Fleet, alive: Any) -> None:
        super()._enter(costs, rows, devices, alive)
        model, shape = models.of(devices.targets[0].family), (len(devices.targets), self.kernels)
        compute, executed, top = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for group in self.groups:
            tops = devices.tops(group.kernel)
            machine = devices.at(tops) if group.klass in MATRIX else devices.machine
            f = replace(group.features, footprint=alive[:, group.passes])
            compute[:, group.at] = plain(model.work(group.klass, f, devices.table, machine, Columns).compute)
            executed[:, group.at] = self.flops[group.at] * plain(
                model.executed(group.klass, f, devices.table, machine, Columns)
            )
            top[:, group.at] = fleet.row(tops)
        own = [target.device for target in devices.targets]
        clock = fleet.row([highest(device) for device in own])
        fastest = fleet.row([max(x.bandwidth for x in device.levels) + device.bandwidth for device in own])
        time, memory = costs.work[rows] + costs.start[rows], costs.memory[rows]
        parts = sum(part[rows] for part in (*costs.of_work.values(), *costs.of_start.values()))
        multiplies = (self.macs > 0) | (self.product & (self.flops > 0))
        found = {
            "fewer FLOPs than two for each multiply-accumulate": np.broadcast_to(self.flops < 2 * self.macs, shape),
            "a kernel multiplies for free": multiplies & (compute == 0),
            "a kernel is faster than the peak": (compute > 0) & (executed > clock * top * compute),
            "a kernel is faster than the fastest memory": self.bytes > clock * fastest * memory,
            "the parts of a kernel do not add up to its time": np.abs(parts - time) > 1e-9 * time + 1e-15,
        }
        for i, device in enumerate(own):
            wrong = [(what, each[i].nonzero()[0]) for what, each in found.items()]
            self.wrong[device.name] = [(what, self.of[at[0]].op) for what, at in wrong if len(at)]
            self.executed[device.name] = executed[i]

    def holds(self, device: Device, timed: Timed) -> Iterator[tuple[str, str]]:
        """What does not, of the first pass and all kernels on a device: a kind, and what tells more."""
        yield from self.wrong[device.name]
        executed = float(self.executed[device.name][self.inverse[0]].sum())
        if timed.time < executed / (highest(device) * max(device.peaks().values())):
            yield "the whole is faster than its arithmetic", ""
        if abs(sum(timed.bounds) - timed.time) > 1e-9 * timed.time + 1e-15:
            yield "the parts of a pass do not add up to its time", ""


def highest(device: Device) -> float:
    """The highest clock that a board may keep, as a multiple of the one that it is rated at, and what is rounded in it."""
    sustained = (device.sustained, device.sustained_vector)
    return max(1.0, *(number.value for number in sustained if number is not None)) * physics.TOLERANCE


@cache
def improved(kind: str, turn: int) -> tuple[list[Device], list[Device], list[str]]:
    """The devices of a kind; each with something better, and what that is."""
    own = [device for device in everything() if device.kind == kind]
    parts, others = zip(*(better(device, (turn + i) % 4) for i, device in enumerate(own)), strict=True)
    return own, list(others), list(parts)


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
                    self.turn += 1
                    if self.turn % self.every == 0:
                        passes = [tuple(kernels.build(trace, runtime, kind)) for trace in (one, two) if trace]
                        self.case(f"{self.name}, {title}, {runtime}", passes, what.dtype or "fp32", runtime, kind)
        return self

    def case(self, title: str, passes: list[tuple[Kernel, ...]], setting: str, runtime: str, kind: str) -> None:
        """A pass, and that of twice the batch where there is one, on every device of a kind."""

        def times(batch: Batch, devices: list[Device]) -> list[list[Timed | UsageError]]:
            return batch.times(devices, [[FOOTPRINT] * len(devices)] * len(batch.inverse), setting, runtime, shipped())

        entered, (devices, others, parts) = Passes(passes), improved(kind, self.turn % 4)
        if not entered.exact:
            raise SystemExit(f"{title}: whole numbers that no float holds")
        looked = Looked(entered, kind)
        now, *twice = times(looked, devices)
        (then,) = times(Batch(Passes(passes[:1]), kind), others)
        for i, (device, part) in enumerate(zip(devices, parts, strict=True)):
            timed, after, where = now[i], then[i], f"{title}, {device.name}"
            if isinstance(timed, UsageError) or isinstance(after, UsageError):  # no such dtype on it
                self.out += 1
                continue
            self.tried += 1
            self.found += [Found(what, f"{where}: {more}") for what, more in looked.holds(device, timed)]
            if after.time > timed.time * TIGHT:
                self.found.append(Found(f"slower with better {part}", f"{where}: {after.time / timed.time:.4f} times"))
            larger = twice[0][i] if twice else None
            if isinstance(larger, Timed) and larger.time < timed.time / TIGHT:
                because = ""
                if runtime == "compiled" and kind == "cpu":
                    (one,), (two,) = times(Batch(entered, kind), [working(device, 1)])
                    shared = isinstance(one, Timed) and isinstance(two, Timed) and one.time <= two.time * TIGHT
                    because = f"{RULE} " if shared else ""
                self.found.append(
                    Found(f"{because}twice the batch is faster", f"{where}: {larger.time / timed.time:.4f} times")
                )


def over(name: str, every: int) -> Tally:
    return Tally(name, every).run()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="instead of all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="each N-th pass")
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
