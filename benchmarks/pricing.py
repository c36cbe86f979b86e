"""What a sweep's pricing takes: ms for a model in a setting on a device, of one process, when the trace is in the cache.

    python benchmarks/pricing.py [MODEL...] [--batch 1,32] [--runtime eager] [--sample 12] [--profile] [--json FILE]

Without names, so many models of timm, drawn with a fixed seed. Every model is traced first, which is not counted; then its rows
are asked for as a process of `roofline sweep` asks, on all devices that are shipped. Processor time is counted, not the clock.
"""

from __future__ import annotations

import argparse
import cProfile
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

# ms for a model and device
BAR = 0.3


def drawn(count: int) -> list[str]:
    """So many models of timm."""
    return [f"timm:{name}" for name in sorted(random.Random(0).sample(sorted(zoo.names("timm")), count))]


def tasks(model: str, batches: list[int], runtime: str) -> list[Task]:
    """A task for each batch of a model, on every device."""
    known = plan.digests(library.everything())
    made = []
    for batch in batches:
        setting = {"batch": batch, "runtime": runtime}
        made.append(Task(model, (setting,), (tuple(enumerate(plan.keys(model, setting, known))),)))
    return made


def priced(models: list[str], batches: list[int], runtime: str, profile: cProfile.Profile | None) -> dict[str, list[float]]:
    """Model -> ms a device of each batch."""
    devices, found = library.everything(), dict[str, list[float]]()
    for model in models:
        for task in tasks(model, batches, runtime):
            work.rows(task, devices)  # traced, and what is known of the process' first is known
            if profile:
                profile.enable()
            start = time.process_time()
            rows = work.rows(task, devices)
            spent = time.process_time() - start
            if profile:
                profile.disable()
            failed = [row.error for row in rows if row.status not in ("ok", "refused")]
            if failed:
                raise SystemExit(f"{model}: {failed[0]}")
            found.setdefault(model, []).append(spent / len(rows) * 1e3)
    return found


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
    found = priced(args.models or drawn(args.sample), batches, args.runtime, profile)
    for model, each in found.items():
        print(f"{model:48}", *(f"{ms:7.3f}" for ms in each))
    flat = [ms for each in found.values() for ms in each]
    mean, devices = statistics.mean(flat), len(library.everything())
    print(f"{mean:.3f} ms a model and device in the mean, {max(flat):.3f} at most, {devices} devices; asked: {BAR} ms")
    if args.json:
        args.json.write_text(json.dumps({"ms": found, "mean": mean, "devices": devices}, indent=1) + "\n", encoding="utf-8")
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
