"""Mutants of files that a person may hand over: none may give a traceback, exit code 70, nonsense, an endless line, or hang.

    python benchmarks/fuzz.py [device budget onnx saved program weights] [--count 3000] [--seconds 20] [--seed N]

Hypothesis draws the seeds: the same ones in every run, others with --seed. Prints for each kind how many were refused and how
many were read, and the slowest; a mutant that does not hold is shown with its seed, and the exit code is 1. onnx is left out
where onnx is not installed. A few hundred of each are in tests/trace (test_fuzz, test_hostile_pt2, test_checkpoints).
"""

from __future__ import annotations

import argparse
import atexit
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import fuzzing
import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import roofline
from roofline.analysis import document


def saved() -> fuzzing.Target:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    result = roofline.analyze(net, args=(torch.empty(2, 3, 8, 8),), device="t4", cache=False)
    return fuzzing.saved(document.to_json(result))


def graph() -> fuzzing.Target:
    from graphs import small_graph

    return fuzzing.onnx(small_graph())


def exported() -> fuzzing.Target:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    path = Path(tempfile.mkdtemp()) / "whole.pt2"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (torch.rand(2, 3, 8, 8),)), path)
    return fuzzing.program(path)


def weights() -> fuzzing.Target:
    from checkpoints import gguf, safetensors

    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(made)
        safetensors(folder / "w.safetensors")
        gguf(folder / "w.gguf")
        script = torch.jit.trace(nn.Linear(3, 4), torch.rand(1, 3))  # type: ignore[no-untyped-call]  # torch's own
        torch.jit.save(script, str(folder / "script.pt"))
        torch.save(nn.Linear(3, 4), folder / "model.pth")
        return fuzzing.weights({path.name: path.read_bytes() for path in folder.iterdir()})


KINDS: dict[str, Callable[[], fuzzing.Target]] = {
    "device": fuzzing.device,
    "budget": fuzzing.budget,
    "onnx": graph,
    "saved": saved,
    "program": exported,
    "weights": weights,
}


def tried(name: str, target: fuzzing.Target, count: int, seconds: float, start: int | None) -> bool:
    """Whether all of `count` mutants held; prints what came of them."""
    refused, slowest, seen = 0, (0.0, 0), 0

    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**48))
    def one(seed: int) -> None:
        nonlocal refused, slowest, seen
        begin = time.perf_counter()
        refused += bool(target.judge(target.write(folder, Random(seed))))
        slowest = max(slowest, (time.perf_counter() - begin, seed))
        seen += 1
        assert slowest[0] < seconds, f"seed {seed} took {slowest[0]:.1f} s"

    held = True
    if start is not None:
        one = hypothesis.seed(start)(one)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try:
            one()
        except Exception as error:  # whatever it is, it is what is looked for
            held = False
            print(f"{name}: does not hold: {type(error).__name__}: {str(error)[:2000]}\n{getattr(error, '__notes__', '')}")
    longest = f"slowest {slowest[0]:.2f} s (seed {slowest[1]})"
    print(f"{name}: {seen:,} mutants, {refused:,} refused, {seen - refused:,} read, {longest}", flush=True)
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="which; all where none is named")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=20.0, help="longer than this is a hang")
    parser.add_argument("--seed", type=int, help="other mutants")
    asked: Any = parser.parse_args()
    good = True
    for name in asked.kinds or KINDS:
        try:
            target = KINDS[name]()
        except ImportError as error:
            print(f"{name}: left out, {error}")
            continue
        good &= tried(name, target, asked.count, asked.seconds, asked.seed)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
