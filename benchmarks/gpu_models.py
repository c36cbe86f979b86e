"""Run models and kinds of load on a GPU, and hold what is predicted of them to what was measured.

    python benchmarks/gpu_models.py measure OUT [--seconds 300] [--part loads|models] [--skip N]     needs a CUDA device
    python benchmarks/gpu_models.py check [--rows] [--only resnet50]                                needs none
    python benchmarks/gpu_models.py tables OUT                                                      needs none

`measure` runs torch alone and writes rows.csv, loads.csv and kernels.jsonl.gz into OUT. A row is a step of a model: the median
of the wall clock over steps issued one after the other, peak memory as torch's allocator counts it, board power and clock
meanwhile as NVML says, and what the kernels of one step took by torch's profiler. kernels.jsonl.gz has these by operator and
shapes.
`check` predicts the rows that were measured on an H200 (measured/h200-models.csv, in three runs; the models after its 97th row
were run after the rules of docs/time-model.md, "Kernels seen on an H200", had been written, and tell how far those carry).
`tables` writes those of images with 16 and more in a batch as tables that `roofline validate` takes: a file a setting, without
fp32.
"""

from __future__ import annotations

import argparse
import csv
import gc
import gzip
import itertools
import json
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COLUMNS = (
    "model",
    "size",
    "batch",
    "mode",
    "dtype",
    "layout",
    "runtime",
    "ms",
    "spread",
    "busy_ms",
    "kernels",
    "peak_mb",
    "watts",
    "mhz",
    "params",
)
# dtype setting -> what the module is cast to, and whether products and convolutions of fp32 take TF32
DTYPES = {
    "fp32": (torch.float32, False),
    "tf32": (torch.float32, True),
    "fp16": (torch.float16, False),
    "bf16": (torch.bfloat16, False),
    "amp": (torch.float32, False),
}


class Case(NamedTuple):
    """One setting of a model; `size` is the edge of its images, or the length of its sequence."""

    model: str
    size: int
    batch: int
    mode: str = "infer"
    dtype: str = "amp"
    layout: str = "nchw"
    runtime: str = "eager"


# ------------------------------------------------------------------------------------------------ what is run

SEEN = (
    "resnet50",
    "vit_base_patch16_224",
    "mobilenetv3_large_100",
    "convnext_tiny",
    "efficientnet_b0",
    "swin_tiny_patch4_window7_224",
    "regnety_032",
    "densenet121",
    "resnext50_32x4d",
    "vgg16",
    "mixer_b16_224",
    "resnet18",
    "mobilenetv2_100",
    "resnet152",
    "convnext_base",
    "vit_small_patch16_224",
    "vit_large_patch16_224",
    "efficientnet_b4",
    "seresnet50",
    "ghostnetv2_100",
    "edgenext_small",
    "mobilevit_s",
    "dm_nfnet_f0",
    "hrnet_w18",
    "inception_v3",
    "xception41",
    "coatnet_0_rw_224",
    "maxvit_tiny_tf_224",
    "beit_base_patch16_224",
    "cait_s24_224",
    "levit_256",
    "mnasnet_100",
    "poolformer_s12",
    "dla34",
    "ecaresnet50d",
    "rexnet_100",
    "twins_svt_small",
    "efficientvit_b1",
    "repvgg_b0",
    "gmlp_s16_224",
)
TEXT = {
    "bert": ((128, 32), (512, 8)),
    "gpt2": ((1024, 4),),
    "llama": ((2048, 1), (512, 4)),
}
SIZES = {
    "inception_v3": 299,
    "xception41": 299,
    "efficientnet_b4": 320,
    "mobilevit_s": 256,
    "edgenext_small": 256,
    "dm_nfnet_f0": 192,
}


def cases() -> Iterator[Case]:
    def image(models: tuple[str, ...], batch: int, **how: str) -> Iterator[Case]:
        for name in models:
            yield Case(name, SIZES.get(name, 224), batch, **how)

    yield from image(SEEN[:20], 192, mode="train")
    yield from image(SEEN[:20], 256)
    for name, settings in TEXT.items():
        for length, batch in settings:
            for dtype in ("bf16", "amp", "tf32"):
                yield Case(name, length, batch, dtype=dtype)
            yield Case(name, length, batch, mode="train", dtype="amp")
            yield Case(name, length, batch, mode="train", dtype="bf16")
    yield from image(SEEN[:12], 192, mode="train", layout="nhwc")
    yield from image(SEEN[:12], 256, layout="nhwc")
    yield from image(SEEN[20:], 192, mode="train")
    yield from image(SEEN[20:], 256)
    yield from image(SEEN[:10], 1)
    yield from image(SEEN[:10], 64, dtype="fp32")
    yield from image(SEEN[:6], 32, dtype="fp32", mode="train")
    yield from image(SEEN[:8], 128, dtype="tf32")
    yield from image(SEEN[:8], 128, dtype="bf16", layout="nhwc")
    yield from image(SEEN[:8], 1, dtype="fp16")
    yield from image(SEEN[:6], 1, mode="train")
    yield from image(SEEN[:4], 16)
    yield from image(SEEN[:4], 512)
    for name in (
        "resnet50",
        "vit_base_patch16_224",
        "mobilenetv3_large_100",
        "convnext_tiny",
        "efficientnet_b0",
        "swin_tiny_patch4_window7_224",
    ):
        yield Case(name, 224, 256, runtime="compiled")
    for name in ("resnet50", "vit_base_patch16_224", "efficientnet_b0"):
        yield Case(name, 224, 192, mode="train", runtime="compiled")


def built(case: Case, place: str = "cuda") -> tuple[nn.Module, list[Tensor]]:
    """The module on the GPU, as it was built but for its dtype, and its inputs."""
    kind = DTYPES[case.dtype][0]
    with torch.device(place):
        if case.model in TEXT:
            module, inputs = _text(case)
        else:
            import timm

            module = timm.create_model(case.model)
            inputs = [torch.randn(case.batch, 3, case.size, case.size)]
    module = module.to(kind)
    inputs = [x.to(kind) if x.is_floating_point() else x for x in inputs]
    if case.layout == "nhwc":
        module = module.to(memory_format=torch.channels_last)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    return module.train(case.mode == "train"), inputs


def _text(case: Case) -> tuple[nn.Module, list[Tensor]]:
    import transformers as t

    tokens = torch.randint(1000, (case.batch, case.size))
    if case.model == "bert":
        return t.BertModel(t.BertConfig()), [tokens]
    if case.model == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(use_cache=False)), [tokens]
    small = t.LlamaConfig(
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        vocab_size=32000,
        use_cache=False,
    )
    return t.LlamaForCausalLM(small), [tokens]


def step(case: Case) -> tuple[Callable[[], object], int]:
    """One step, and the parameters of the module."""
    module, inputs = built(case)
    auto: Callable[[], Any] = (lambda: torch.autocast("cuda")) if case.dtype == "amp" else nullcontext
    called: Callable[..., Any] = torch.compile(module) if case.runtime == "compiled" else module
    params = sum(p.numel() for p in module.parameters())
    if case.mode == "infer":

        def forward() -> object:
            with torch.inference_mode(), auto():
                return called(*inputs)

        return forward, params
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)

    def train() -> object:
        with auto():
            out = called(*inputs)
            loss: Any = out.sum() if isinstance(out, Tensor) else torch.stack([x.sum().float() for x in _floats(out)]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return None

    return train, params


def _floats(out: Any) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out] if out.is_floating_point() else []
    values = out.values() if hasattr(out, "values") else out
    return [x for value in values if value is not None for x in _floats(value)]


# ------------------------------------------------------------------------------------------------ the clock, the board

cuda: Any = torch.cuda


class Board:
    """Power and clock of the first GPU while something runs, sampled by a thread."""

    def __init__(self) -> None:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]  # there where a GPU is

        pynvml.nvmlInit()
        self.nvml, self.handle = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)

    def watch(self, run: Callable[[], None]) -> tuple[float, float, float]:
        """(seconds, joules by the board's counter, median MHz of the SMs)."""
        clocks: list[int] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.01):
                clocks.append(self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM))

        thread = threading.Thread(target=look)
        cuda.synchronize()
        before, start = self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle), time.perf_counter()
        thread.start()
        run()
        cuda.synchronize()
        took = time.perf_counter() - start
        joules = (self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) - before) / 1e3
        stop.set()
        thread.join()
        return took, joules, statistics.median(clocks) if clocks else 0.0


def timed(call: Callable[[], object], board: Board, seconds: float) -> tuple[list[float], float, float]:
    """Seconds of each step (of the wall clock, several in a row where they are short), average watts, MHz."""
    for _ in range(3):
        call()
    cuda.synchronize()
    start = time.perf_counter()
    call()
    cuda.synchronize()
    once = max(time.perf_counter() - start, 1e-5)
    number = max(int(0.03 / once), 1)
    rounds = min(max(int(seconds / (number * once)), 4), 40)
    times: list[float] = []

    def run() -> None:
        for _ in range(rounds):
            begun = time.perf_counter()
            for _ in range(number):
                call()
            cuda.synchronize()
            times.append((time.perf_counter() - begun) / number)

    took, joules, mhz = board.watch(run)
    return times, joules / took, mhz


def profiled(call: Callable[[], object]) -> list[dict[str, Any]]:
    """What the kernels of one step took, by operator and shapes: microseconds, how many, their names."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True) as seen:
        call()
        cuda.synchronize()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for event in seen.events() or ():
        if not event.kernels:
            continue
        key = (event.name, str(event.input_shapes))
        row = found.setdefault(key, {"op": key[0], "shapes": key[1], "us": 0.0, "calls": 0, "kernels": {}})
        row["calls"] += 1
        for kernel in event.kernels:
            row["us"] += kernel.duration
            name = kernel.name[:120]
            row["kernels"][name] = row["kernels"].get(name, 0) + 1
    return list(found.values())


def models(out: Path, board: Board, end: float, skip: int = 0) -> None:
    torch.backends.cudnn.benchmark = False
    with (out / "rows.csv").open("w", newline="") as file, gzip.open(out / "kernels.jsonl.gz", "wt") as deep:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for case in itertools.islice(cases(), skip, None):
            if time.monotonic() > end:
                print("stopped: the time is up", file=sys.stderr)
                return
            begun = time.monotonic()
            try:
                row, kernels = _row(case, board)
            except Exception as error:  # whatever one model fails of, the others are measured
                print(f"{case}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                continue
            finally:
                gc.collect()
                cuda.empty_cache()
            table.writerow(row)
            file.flush()
            deep.write(json.dumps({"case": case, "kernels": kernels}) + "\n")
            print(f"{time.monotonic() - begun:5.1f} s  {' '.join(map(str, row))}", file=sys.stderr)


def _row(case: Case, board: Board) -> tuple[tuple[Any, ...], list[dict[str, Any]]]:
    fast = DTYPES[case.dtype][1]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
    if case.dtype == "amp":  # its convolutions and products are in half precision; what is left is as torch comes
        torch.backends.cudnn.allow_tf32 = True
    call, params = step(case)
    for _ in range(2):
        call()
    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    call()
    cuda.synchronize()
    peak = cuda.max_memory_allocated() / 1e6
    times, watts, mhz = timed(call, board, 0.4)
    kernels = profiled(call)
    ordered = sorted(times)
    middle = statistics.median(ordered)
    spread = (ordered[int(0.75 * (len(ordered) - 1))] - ordered[int(0.25 * (len(ordered) - 1))]) / middle
    busy, count = sum(k["us"] for k in kernels) / 1e3, sum(sum(k["kernels"].values()) for k in kernels)
    return (
        *case,
        f"{middle * 1e3:.4f}",
        f"{spread:.3f}",
        f"{busy:.4f}",
        count,
        f"{peak:.1f}",
        f"{watts:.0f}",
        f"{mhz:.0f}",
        params,
    ), kernels


# ------------------------------------------------------------------------------------------------ loads


def loads(out: Path, board: Board, end: float) -> None:
    """One kind of kernel after the other for a second each: what it reaches, and what power and clock are held meanwhile."""
    with (out / "loads.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("load", "dtype", "us", "flops", "bytes", "watts", "mhz"))
        for load, dtype, flops, moved, make in _loads():
            if time.monotonic() > end:
                return
            try:
                call = make()
                call()
                cuda.synchronize()
                start = time.perf_counter()
                call()
                cuda.synchronize()
                number = max(int(0.9 / max(time.perf_counter() - start, 1e-5)), 3)
                took, joules, mhz = board.watch(lambda call=call, number=number: _again(call, number))  # type: ignore[misc]  # bound now
            except Exception as error:
                print(f"{load} {dtype}: {error}", file=sys.stderr)
                continue
            finally:
                cuda.empty_cache()
            row = (
                load,
                dtype,
                f"{took / number * 1e6:.2f}",
                f"{flops:.4g}",
                f"{moved:.4g}",
                f"{joules / took:.0f}",
                f"{mhz:.0f}",
            )
            table.writerow(row)
            file.flush()
            print(*row, file=sys.stderr)


def _again(call: Callable[[], object], number: int) -> None:
    for _ in range(number):
        call()


def _loads() -> Iterator[tuple[str, str, float, float, Callable[[], Callable[[], object]]]]:
    def r(*shape: int, kind: torch.dtype) -> Tensor:
        return torch.randn(shape, device="cuda").to(kind)

    def product(n: int, kind: torch.dtype, fast: bool) -> Callable[[], object]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
        a, b = r(n, n, kind=kind), r(n, n, kind=kind)
        return lambda: a @ b

    kinds = {**{name: DTYPES[name] for name in ("fp16", "bf16", "tf32", "fp32")}, "fp64": (torch.float64, False)}
    yield "idle", "", 0, 0, lambda: lambda: time.sleep(0.1)
    for name, (kind, fast) in kinds.items():
        for n in (2048, 8192):
            size = kind.itemsize
            yield f"product {n}", name, 2 * n**3, 3 * n * n * size, partial(product, n, kind, fast)
    for name, kind in (("fp16", torch.float16), ("fp32", torch.float32)):
        for elements, label in ((2**29, "copy in DRAM"), (2**22, "copy in L2")):

            def copy(elements: int = elements, kind: torch.dtype = kind) -> Callable[[], object]:
                x = r(elements, kind=kind)
                y = torch.empty_like(x)
                return lambda: [torch.neg(x, out=y) for _ in range(1 if elements > 2**25 else 20)]

            n = 1 if elements > 2**25 else 20
            yield label, name, 0, n * 2 * elements * kind.itemsize, copy

        def gelu(kind: torch.dtype = kind) -> Callable[[], object]:
            x = r(2**28, kind=kind)
            return lambda: F.gelu(x)

        yield "gelu", name, 0, 2 * 2**28 * kind.itemsize, gelu

        def norm(kind: torch.dtype = kind) -> Callable[[], object]:
            x, w = r(2**18, 1024, kind=kind), torch.ones(1024, device="cuda", dtype=kind)
            return lambda: F.layer_norm(x, (1024,), w, w)

        yield "layer_norm", name, 0, 2 * 2**28 * kind.itemsize, norm
    for name, (kind, fast) in kinds.items():
        if name == "fp64":
            continue
        for label, (c, o, k, h, g) in {
            "conv 3x3": (256, 256, 3, 28, 1),
            "conv 1x1": (256, 1024, 1, 14, 1),
            "conv depthwise": (256, 256, 3, 56, 256),
            "conv grouped": (256, 256, 3, 28, 32),
        }.items():
            for last in (False, True):

                def conv(
                    kind: torch.dtype = kind,
                    fast: bool = fast,
                    c: int = c,
                    o: int = o,
                    k: int = k,
                    h: int = h,
                    g: int = g,
                    last: bool = last,
                ) -> Callable[[], object]:
                    torch.backends.cudnn.allow_tf32 = fast
                    x, w = r(128, c, h, h, kind=kind), r(o, c // g, k, k, kind=kind)
                    if last:
                        x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
                    return lambda: F.conv2d(x, w, None, 1, k // 2, 1, g)

                flops = 2 * 128 * o * h * h * (c // g) * k * k
                moved = (128 * (c + o) * h * h + o * c // g * k * k) * kind.itemsize
                yield f"{label}{' nhwc' if last else ''}", name, flops, moved, conv
    for causal in (False, True):
        for width, length in ((64, 1024), (128, 4096)):

            def attention(causal: bool = causal, width: int = width, length: int = length) -> Callable[[], object]:
                q = r(2**16 // length, 16, length, width, kind=torch.bfloat16)
                return lambda: F.scaled_dot_product_attention(q, q, q, is_causal=causal)

            flops = 4 * 2**16 * 16 * length * width
            yield f"attention {width}x{length}{' causal' if causal else ''}", "bf16", flops, 4 * 2**17 * 16 * width, attention


# ------------------------------------------------------------------------------------------------ against the time model

MEASURED = Path(__file__).resolve().parent / "measured" / "h200-models.csv"


class Predicted(NamedTuple):
    """Seconds of a step, and of its kernels without the host; bytes at the peak; the ends of the 80 % interval."""

    time_s: float
    busy_s: float
    peak: int
    low_s: float
    high_s: float


def predicted(case: Case, device: str = "h200-sxm") -> Predicted:
    """What roofline says of a case."""
    import roofline

    module, inputs = built(case, "meta")
    dtype = case.dtype if case.dtype in ("amp", "tf32", "fp32") else None
    step: dict[str, Any] = {"training": True, "optimizer": "sgd"} if case.mode == "train" else {}
    found = roofline.analyze(module, args=inputs, dtype=dtype, device=device, runtime=case.runtime, **step)
    busy = sum(t for k in found.kernels for name, t in k.time_by_component.items() if name not in ("host", "launch"))
    sure = found.totals.interval
    low, high = (sure.low_s, sure.high_s) if sure else (0.0, 0.0)
    return Predicted(found.totals.time_s, busy, found.totals.peak_memory_bytes, low, high)


def measured() -> list[dict[str, str]]:
    """The rows that were measured on an H200."""
    with MEASURED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def tables(out: Path) -> None:
    """The measured rows of images, in files whose names say the setting as those of timm's tables do.

    Forwards are of models as `analyze` takes them (timm:NAME): not fused, without the fast norms of timm's own benchmark.
    """
    files: dict[str, list[dict[str, str]]] = {}
    for row in measured():
        if row["model"] not in TEXT and int(row["batch"]) >= 16 and row["dtype"] != "fp32":
            compiled = "-dynamo" if row["runtime"] == "compiled" else ""
            name = f"benchmark-{row['mode']}-{row['dtype']}-{row['layout']}-pt2110-cu130-h200{compiled}.csv"
            files.setdefault(name, []).append(row)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        with (out / name).open("w", encoding="utf-8", newline="") as file:
            to, mode = csv.writer(file), rows[0]["mode"]
            to.writerow(["model", f"{mode}_img_size", f"{mode}_batch_size", f"{mode}_step_time", "param_count"])
            kind = "timm:" if mode == "infer" else ""
            to.writerows([kind + r["model"], r["size"], r["batch"], r["ms"], int(r["params"]) / 1e6] for r in rows)
        print(f"{name}: {len(rows)} rows")


def check(only: str, each: bool) -> None:
    """Predicted / measured by kind of row: time, kernels on the device alone, peak memory."""
    rows = measured()
    groups: dict[str, list[tuple[float, float, float]]] = {}
    within: dict[str, list[bool]] = {}
    for row in rows:
        case = Case(row["model"], int(row["size"]), int(row["batch"]), *(row[name] for name in COLUMNS[3:7]))
        if only not in case.model:
            continue
        found = predicted(case)
        ratios = (
            found.time_s * 1e3 / float(row["ms"]),
            found.busy_s * 1e3 / float(row["busy_ms"]),
            found.peak / 1e6 / float(row["peak_mb"]),
        )
        later = "later" if rows.index(row) >= 97 else "first"
        kind = f"{case.mode} {case.dtype} {case.layout} {case.runtime}{' batch 1' if case.batch == 1 else ''}, {later}"
        groups.setdefault(kind, []).append(ratios)
        within.setdefault(kind, []).append(found.low_s <= float(row["ms"]) / 1e3 <= found.high_s)
        if each:
            print(
                f"{case.model:30} {kind:44} {float(row['ms']):9.2f} ms  " + "  ".join(f"{r:5.2f}" for r in ratios), flush=True
            )
    print("| rows | | time: median error | predicted / measured | kernels alone | peak memory | in the 80 % interval |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind, found_ratios in groups.items():
        times, alone, memory = (list(column) for column in zip(*found_ratios, strict=True))
        error = statistics.median(max(r, 1 / r) - 1 for r in times)
        middles = " | ".join(f"{statistics.median(column):.2f}" for column in (times, alone, memory))
        print(f"| {kind} | {len(times)} | {error * 100:.1f} % | {middles} | {sum(within[kind])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("measure", help="run models and loads on this machine's GPU")
    first.add_argument("out", type=Path)
    first.add_argument("--seconds", type=float, default=300.0)
    first.add_argument("--part", choices=("loads", "models"))
    first.add_argument("--skip", type=int, default=0, help="so many of the models' settings, which are measured already")
    second = commands.add_parser("check", help="predict the rows that were measured on an H200")
    second.add_argument("--rows", action="store_true", help="print every row")
    second.add_argument("--only", default="", help="models whose names hold this")
    third = commands.add_parser("tables", help="write them as tables for roofline validate")
    third.add_argument("out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.command == "tables":
        tables(given.out)
        return
    if given.command == "check":
        check(given.only, given.rows)
        return
    if not torch.cuda.is_available():
        parser.error("no CUDA device here")
    given.out.mkdir(parents=True, exist_ok=True)
    board, end = Board(), time.monotonic() + given.seconds
    if given.part in (None, "loads"):
        loads(given.out, board, end)
    if given.part in (None, "models"):
        models(given.out, board, end, given.skip)


if __name__ == "__main__":
    main()
