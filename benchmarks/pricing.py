"""What a sweep's pricing takes: ms for a model in a setting on a device, of one process, when the traces are in the cache.

    python benchmarks/pricing.py [MODEL...] [--batch 1,32] [--runtime eager] [--sample 12] [--profile] [--json FILE]

Without names, so many models of timm, drawn with a fixed seed. Every model is traced first, which is not counted; then its rows
are asked for as a process of `roofline sweep` asks, in all batches on all devices that are shipped. Processor time is counted,
not the clock, and the least of three times is taken: the machine may be busy.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import random
import statistics
import time
from pathlib import Path

from roofline.devices import library
from roofline.sources import zoo
from roofline.sweeps import plan, work
from roofline.sweeps.plan import Task

# ms for a model, setting and device
BAR = 0.3
TIMES = 3


def drawn(count: int) -> list[str]:
    """So many models of timm."""
    return [f"timm:{name}" for name in sorted(random.Random(0).sample(sorted(zoo.names("timm")), count))]


def task(model: str, batches: list[int], runtime: str) -> Task:
    """A model in every batch on every device."""
    known = plan.digests(library.everything())
    settings = tuple({"batch": batch, "runtime": runtime} for batch in batches)
    return Task(model, settings, tuple(tuple(enumerate(plan.keys(model, setting, known))) for setting in settings))


def priced(model: str, batches: list[int], runtime: str, profile: cProfile.Profile | None) -> float:
    """ms for each row of a model."""
    devices, wanted = library.everything(), task(model, batches, runtime)
    rows = work.rows(wanted, devices)  # traced, and what is known of the process' first is known
    failed = [row.error for row in rows if row.status not in ("ok", "refused")]
    if failed:
        raise SystemExit(f"{model}: {failed[0]}")
    gc.collect()
    spent = []
    for _ in range(TIMES):
        if profile:
            profile.enable()
        start = time.process_time()
        work.rows(wanted, devices)
        spent.append(time.process_time() - start)
        if profile:
            profile.disable()
    return min(spent) / len(rows) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--batch", default="1,32")
    parser.add_argument("--runtime", default="eager")
    parser.add_argument("--sample", type=int, default=12)
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    profile = cProfile.Profile() if args.profile else None
    batches = [int(batch) for batch in args.batch.split(",")]
    found = {}
    for model in args.models or drawn(args.sample):
        found[model] = priced(model, batches, args.runtime, profile)
        print(f"{model:48} {found[model]:7.3f}")
    mean, devices = statistics.mean(found.values()), len(library.everything())
    print(f"{mean:.3f} ms a row in the mean, {max(found.values()):.3f} at most, {devices} devices; asked: {BAR} ms")
    if args.json:
        args.json.write_text(json.dumps({"ms": found, "mean": mean, "devices": devices}, indent=1) + "\n", encoding="utf-8")
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
