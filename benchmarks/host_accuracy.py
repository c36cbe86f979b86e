"""Predicted beside measured on this machine: 20 models of torchvision and timm at batch 1 and 8, fp32, eager.

    roofline calibrate && python benchmarks/host_accuracy.py [--models NAME ...] [--batches 1 8] [--seconds 3] [--hold]
                                                             [--save FILE] [--saved FILE]

Every model is built with random weights, run, and timed; the prediction is that of `roofline analyze -d cpu`, and knows nothing
of these runs. `--save` keeps the measurements, and `--saved` predicts again beside kept ones without running anything.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import roofline
from roofline import units
from roofline.bench.measure import measure
from roofline.devices import library
from roofline.errors import RooflineError
from roofline.records import Analysis
from roofline.request import Ask, Request

MODELS = (
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_large",
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:resnext50_32x4d",
    "torchvision:vgg16",
    "torchvision:alexnet",
    "torchvision:densenet121",
    "torchvision:squeezenet1_1",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:googlenet",
    "torchvision:efficientnet_b0",
    "torchvision:regnet_y_800mf",
    "torchvision:convnext_tiny",
    "torchvision:vit_b_16",
    "torchvision:swin_t",
    "timm:ghostnet_100",
    "timm:deit_tiny_patch16_224",
    "timm:mixer_s32_224",
    "timm:resnet26d",
)
# the project's own bar: median error at most
BAR = 0.15

# model, batch -> seconds, and seconds by class of kernel
Measured = dict[str, Any]


def run(model: str, batch: int, seconds: float, hold: bool) -> tuple[Analysis, Measured]:
    """One model measured, with its prediction."""
    found = measure(Request(Ask(model, batch=batch), progress=progress), seconds=seconds, hold=hold, force=True)
    of = found.measurement
    assert of is not None
    kept = {
        "model": model,
        "batch": batch,
        "time_s": of.time_s,
        "spread": of.spread,
        "whole": of.whole,
        "classes": {g.klass: g.measured_s for g in of.gap},
        "kernels": [[k.layer, k.op, k.measured_s] for k in found.kernels],
    }
    return found, kept


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr)


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def report(rows: list[tuple[Analysis, Measured]]) -> float:
    """The table and its medians, as Markdown; returns the median error."""
    print(line(["model", "batch", "predicted", "measured", "error", "largest gap"]))
    print(line(["---", "---:", "---:", "---:", "---:", "---"]))
    errors: dict[int, list[float]] = defaultdict(list)
    by_class: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for found, seen in rows:
        predicted: dict[str, float] = defaultdict(float)
        for k in found.kernels:
            predicted[k.klass] += k.time_s
        for name, took in seen["classes"].items():
            by_class[name][0] += predicted[name] / seen["time_s"]
            by_class[name][1] += took / seen["time_s"]
        worst = max(seen["classes"], key=lambda c: abs(seen["classes"][c] - predicted[c]))
        error = found.totals.time_s / seen["time_s"] - 1
        errors[seen["batch"]].append(error)
        mark = "" if seen["whole"] else " (sum of ops)"
        print(
            line(
                [
                    seen["model"],
                    str(seen["batch"]),
                    f"{found.totals.time_s * 1e3:.2f} ms",
                    f"{seen['time_s'] * 1e3:.2f} ms{mark}",
                    units.change(error, 0),
                    f"{worst} {1e3 * (predicted[worst] - seen['classes'][worst]):+.2f} ms",
                ]
            )
        )
    every = [e for found_errors in errors.values() for e in found_errors]
    print()
    for batch, of in [*errors.items(), ("all", every)]:
        spread = sorted(map(abs, of))
        worse = spread[round(0.9 * (len(spread) - 1))]
        print(
            f"batch {batch}: median error {units.share(statistics.median(spread), 1)}, "
            f"90th percentile {units.share(worse, 1)}, "
            f"median of predicted/measured {1 + statistics.median(of):.2f}"
        )
    print("\nshare of a model's measured time, mean over the models:")
    for name, (p, m) in sorted(by_class.items(), key=lambda item: -item[1][1]):
        print(f"  {name:15s} predicted {units.share(p / len(rows), 1):>6}  measured {units.share(m / len(rows), 1):>6}")
    return statistics.median(map(abs, every))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 8))
    parser.add_argument("--seconds", type=float, default=3.0, help="of running for each model and batch")
    parser.add_argument("--hold", action="store_true", help="as in `roofline measure --hold`")
    parser.add_argument("--save", type=Path, help="keep the measurements here")
    parser.add_argument("--saved", type=Path, help="predict beside measurements kept by --save")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    target = library.this_machine()
    print(f"{target.title}, {target.tier} ceilings\n")
    if target.tier != "calibrated":
        print("not calibrated: run `roofline calibrate` first\n", file=sys.stderr)
    rows = []
    if args.saved:
        for seen in json.loads(args.saved.read_text(encoding="utf-8")):
            rows.append((roofline.analyze(seen["model"], device=target, batch=seen["batch"]), seen))
    else:
        for model in args.models:
            for batch in args.batches:
                try:
                    rows.append(run(model, batch, args.seconds, args.hold))
                except RooflineError as error:
                    print(f"{model} at batch {batch}: {error}", file=sys.stderr)
                if args.save:
                    args.save.write_text(json.dumps([seen for _, seen in rows]), encoding="utf-8")
        progress("")
    if not rows:
        return 1
    return 0 if report(rows) <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
