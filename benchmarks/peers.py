"""Our whole analysis beside the tools that count FLOPs: time, memory, and whether the count is right.

    python benchmarks/peers.py [--models resnet50 ...] [--tools roofline ...] [--processes 3] [--json FILE] [--check]

Every measurement is made in a process of its own, tools taken in turn, and the medians over processes are printed; one
process of each tool goes before and does not count. A tool gets the model in the form that suits it best: on the meta device
(no weights, no arithmetic) where it works there, else on the CPU. Timed is the call on a built model; what the tool imports
lazily in its first call belongs to that call. Memory is the highest resident size from the end of the imports to the end of
the last call: the model, if it holds weights, included.

The count is what the tool calls its total, in MACs (the total halved where the tool counts two FLOPs to a multiply-add),
beside the count that torchvision publishes with the weights, which holds convolutions and matrix products only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

MODELS = ("mobilenet_v3_large", "resnet50", "vit_b_16")
# a count this close to the published one is right; that one is printed with three decimals of a GMAC
TOLERANCE = 0.005
# the project's own bar: our time as a fraction of FlopCounterMode's on the first call and on later ones
BAR_FIRST, BAR_REPEAT = 0.5, 0.2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

Call = Callable[[], float]


# --- one adapter per tool: (model, image) -> a call that analyses the model and returns MACs ---------------------------
# The adapter's body is import time; the function that it returns is what is timed.


def use_roofline(model: Any, image: Any) -> Call:
    import roofline

    return lambda: roofline.analyze(model, args=[image], device="cpu", cache=False).totals.macs


def use_flop_counter(model: Any, image: Any) -> Call:
    from oracles import counter

    return lambda: counter.flops(lambda: model(image)) / 2


def use_fvcore(model: Any, image: Any) -> Call:
    from fvcore.nn import FlopCountAnalysis

    def call() -> float:
        analysis = FlopCountAnalysis(model, image)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return float(analysis.total())

    return call


def use_torchinfo(model: Any, image: Any) -> Call:
    import torchinfo

    device = image.device
    return lambda: float(torchinfo.summary(model, input_data=image, device=device, verbose=0).total_mult_adds)


def use_ptflops(model: Any, image: Any) -> Call:
    from ptflops import get_model_complexity_info

    def call() -> float:
        macs, _ = get_model_complexity_info(
            model,
            tuple(image.shape[1:]),
            input_constructor=lambda _: image,
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
        )
        return float(macs)

    return call


def use_calflops(model: Any, image: Any) -> Call:
    from calflops import calculate_flops

    def call() -> float:
        _, macs, _ = calculate_flops(model, args=[image], print_results=False, output_as_string=False)
        return float(macs)

    return call


def use_thop(model: Any, image: Any) -> Call:
    import thop

    return lambda: float(thop.profile(model, inputs=(image,), verbose=False)[0])


# tool -> (adapter, device on which its model is built): meta where the tool's count is the same there as on the CPU.
# fvcore traces with torch.jit, which fails on meta; ptflops counts vit_b_16 twice there.
TOOLS: dict[str, tuple[Callable[[Any, Any], Call], str]] = {
    "roofline": (use_roofline, "meta"),
    "FlopCounterMode": (use_flop_counter, "meta"),
    "fvcore": (use_fvcore, "cpu"),
    "torchinfo": (use_torchinfo, "meta"),
    "ptflops": (use_ptflops, "cpu"),
    "calflops": (use_calflops, "meta"),
    "thop": (use_thop, "meta"),
}


# --- in the child: one tool, one model ---------------------------------------------------------------------------------


def resident_peak() -> int:
    """Highest resident size of this process so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Set the kernel's high-water mark back to what is resident now, where it can be (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def child(tool: str, name: str, device: str, repeats: int) -> dict[str, Any]:
    """Build the model, call the tool once and then `repeats` times. Seconds, bytes, MACs."""
    warnings.simplefilter("ignore")
    import torch
    import torchvision

    adapter = TOOLS[tool][0]
    with contextlib.redirect_stdout(io.StringIO()):
        adapter(torch.nn.Identity(), torch.empty(1, 3, 224, 224, device="meta"))  # imports the tool
        forget_peak()
        before = resident_peak()
        with torch.device(device):
            model = torchvision.models.get_model(name).eval()
            image = torch.zeros(1, 3, 224, 224)
        call = adapter(model, image)
        start = time.perf_counter()
        macs = call()
        first = time.perf_counter() - start
        again, later = macs, [first]
        for _ in range(repeats):
            start = time.perf_counter()
            again = call()
            later.append(time.perf_counter() - start)
    return {
        "first_s": first,
        "repeat_s": statistics.median(later[1:] or later),
        "memory": resident_peak() - before,
        "macs": macs,
        "macs_again": again,
    }


# --- times beside torch's own estimate of them -------------------------------------------------------------------------

# seconds of a forward on an H100 SXM5, 128 images in fp16, row-major (torch 2.11, measured with CUDA events)
MEASURED = {
    "resnet50": 0.0143,
    "mobilenet_v3_large": 0.00599,
    "densenet121": 0.01984,
    "swin_t": 0.0193,
    "convnext_tiny": 0.01255,
    "vit_b_16": 0.01317,
    "hf:gpt2": 0.03054,
}
BATCH = 128


def estimated(name: str) -> float | str:
    """Seconds by torch.distributed._tools.runtime_estimator, the plain roofline of a GPU by name; or why there are none.

    It asks for an accelerator to be there, and reads nothing of it where the GPU is named.
    """
    import torch
    import torchvision
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        from torch.distributed._tools.runtime_estimator import RuntimeEstimator

        mode = RuntimeEstimator("NVIDIA H100")
    except (ImportError, TypeError) as error:
        return f"not in torch {torch.__version__}: {error}"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        here = mock.patch.object(torch.accelerator, "is_available", return_value=True)
        # what draws until it fits asks for values
        drawn = mock.patch.object(torch.nn.init, "trunc_normal_")
        with contextlib.redirect_stdout(io.StringIO()), FakeTensorMode(), here, drawn, torch.no_grad():
            model = torchvision.models.get_model(name).eval()
            with mode(estimate_mode_type="operator-level-cost-model"):
                model(torch.zeros(BATCH, 3, 224, 224))
    finally:
        torch.set_default_dtype(before)
    return float(mode.total_runtime) / 1e3


def times(names: Sequence[str]) -> None:
    """Predicted times of a forward on an H100 beside torch's estimate, and the measured one."""
    import roofline

    print("\n### Times on an H100, batch 128, fp16\n\n| model | measured | roofline | torch's runtime_estimator |")
    print("| --- | ---: | ---: | ---: |")
    for name in names:
        a = roofline.analyze(f"torchvision:{name}", device="h100-sxm", batch=BATCH, dtype="fp16")
        theirs, known = estimated(name), MEASURED.get(name)
        shown = theirs if isinstance(theirs, str) else f"{theirs * 1e3:.2f} ms"
        print(f"| {name} | {f'{known * 1e3:.2f} ms' if known else ''} | {a.totals.time_s * 1e3:.2f} ms | {shown} |")


# --- in the parent -----------------------------------------------------------------------------------------------------


def measure(tool: str, name: str, device: str, repeats: int) -> dict[str, Any]:
    """Run `child` in a fresh process. A tool that fails gives {"error": its last line}."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        job = [sys.executable, __file__, "--child", tool, name, device, str(repeats), str(answer)]
        # bytecode files as after an install, also where the environment forbids to write them
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(job, env=environment, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode or not answer.exists():
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return {"error": lines[-1]}
        result: dict[str, Any] = json.loads(answer.read_text())
        return result


def published_macs(names: Sequence[str]) -> dict[str, float]:
    """What torchvision prints beside its weights (`_ops`: GMAC at 224 x 224), read in a process of its own."""
    code = (
        "import json, sys, torchvision.models as m;"
        "print(json.dumps({n: 1e9 * m.get_model_weights(n).DEFAULT.meta['_ops'] for n in sys.argv[1:]}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians over processes, or the first error."""
    for run in runs:
        if "error" in run:
            return run
    merged = {key: statistics.median(run[key] for run in runs) for key in ("first_s", "repeat_s", "memory")}
    return merged | {"macs": runs[0]["macs"], "steady": all(r["macs"] == r["macs_again"] == runs[0]["macs"] for r in runs)}


def row(tool: str, device: str, found: dict[str, Any], published: float) -> str:
    """One line of the Markdown table."""
    if "error" in found:
        return f"| {tool} | {device} | fails: {found['error']} | | | | |"
    off = found["macs"] / published - 1
    verdict = "right" if abs(off) <= TOLERANCE else f"off by {100 * off:+.1f} %"
    if not found["steady"]:
        verdict += ", changes when repeated"
    return (
        f"| {tool} | {device} | {found['first_s'] * 1e3:,.0f} ms | {found['repeat_s'] * 1e3:,.1f} ms "
        f"| {found['memory'] / 2**20:,.0f} MiB | {found['macs'] / 1e9:.4f} G | {verdict} |"
    )


def report(name: str, cells: dict[str, dict[str, Any]], published: float) -> list[str]:
    """The table of one model, and our time beside FlopCounterMode's. Returns what misses the bar."""
    print(f"\n### {name}\n\nPublished: {published / 1e9:.3f} GMAC\n")
    print("| tool | model on | first call | repeated | memory | MACs | against the published count |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for tool, found in cells.items():
        print(row(tool, found["device"], found, published))
    ours, rival = cells.get("roofline"), cells.get("FlopCounterMode")
    if not ours or not rival:
        return []
    if "error" in ours:
        return [f"{name}: roofline fails: {ours['error']}"]
    if "error" in rival:
        return [f"{name}: FlopCounterMode fails: {rival['error']}"]
    first, repeat = ours["first_s"] / rival["first_s"], ours["repeat_s"] / rival["repeat_s"]
    print(f"\nroofline takes {first:.2f} of FlopCounterMode's time on the first call, {repeat:.2f} on repeated calls.")
    misses = []
    if first > BAR_FIRST:
        misses.append(f"{name}: first call {first:.2f} of FlopCounterMode's, more than {BAR_FIRST}")
    if repeat > BAR_REPEAT:
        misses.append(f"{name}: repeated calls {repeat:.2f} of FlopCounterMode's, more than {BAR_REPEAT}")
    if abs(ours["macs"] / published - 1) > TOLERANCE or not ours["steady"]:
        misses.append(f"{name}: our count is not right")
    return misses


def versions(tools: Sequence[str]) -> str:
    from importlib.metadata import version

    packages = [tool for tool in tools if tool != "FlopCounterMode"]
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", *packages))


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        tool, name, device, repeats, answer = sys.argv[2:]
        Path(answer).write_text(json.dumps(child(tool, name, device, int(repeats))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME", help="of torchvision, at 224 x 224")
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--device", choices=("meta", "cpu"), help="build every model there, instead of each tool's best")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes for each tool and model (default 3)")
    parser.add_argument("--repeats", type=int, default=5, help="calls after the first in each process (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--check", action="store_true", help="exit 1 where we miss our own bar")
    parser.add_argument("--times", action="store_true", help="predicted times beside torch's own estimate, and nothing else")
    options = parser.parse_args()
    if options.times:
        times(options.models)
        return 0

    published = published_macs(options.models)
    print(f"{versions(options.tools)}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"Medians of {options.processes} processes, {options.repeats} repeated calls in each.")
    for tool in options.tools:  # one process each that does not count: files into memory, bytecode onto the disk
        measure(tool, options.models[0], options.device or TOOLS[tool][1], 0)
    everything: dict[str, dict[str, dict[str, Any]]] = {}
    misses: list[str] = []
    for name in options.models:
        runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in options.tools}
        for _ in range(options.processes):
            for tool in options.tools:  # in turn, so that a busy minute falls on all of them
                device = options.device or TOOLS[tool][1]
                runs[tool].append(measure(tool, name, device, options.repeats) | {"device": device})
        cells = {tool: middle(found) | {"device": found[0]["device"]} for tool, found in runs.items()}
        everything[name] = cells
        misses += report(name, cells, published[name])
    if options.json:
        options.json.write_text(json.dumps({"published": published, "tools": everything}, indent=2) + "\n")
    for miss in misses:
        print(miss, file=sys.stderr)
    return 1 if misses and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
