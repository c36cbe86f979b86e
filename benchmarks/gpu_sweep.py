"""Time single operators on a GPU over dtypes, layouts and sizes, and hold the time model to what was measured.

    python benchmarks/gpu_sweep.py measure [--out rows.csv] [--seconds 200]      needs a CUDA device
    python benchmarks/gpu_sweep.py check [-d h200-sxm] [--rows]                  needs none: predicted / measured by operator

A row is one call: median time between events around it, of ten calls that are queued behind a sleeping kernel, so that the
host is not seen. The rows of an H100 and an H200 are in measured/h100-h200.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roofline.devices.device import Device
from roofline.devices.library import lookup
from roofline.kernels.build import build
from roofline.timemodel import roof
from roofline.tracing.trace import trace

MEASURED = Path(__file__).resolve().parent / "measured" / "h100-h200.csv"
DEVICES = {"h100-sxm": "h100_us", "h200-sxm": "h200_us"}
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "tf32": torch.float32}
# what two events around a call add to its kernel and its launch, microseconds: the shortest calls take 3.4
EVENT_US = 1.5

Sizes = dict[str, int]


class Case(NamedTuple):
    """One call of an operator. Its sizes: n elements; or b, c, h (an image, `last` for channels-last); and so on."""

    op: str
    dtype: str
    sizes: Sizes

    @property
    def text(self) -> str:
        return " ".join(f"{k}={v}" for k, v in self.sizes.items())


# ------------------------------------------------------------------------------------------------ what is called

ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "neg": lambda x: x.neg(),
    "relu_": lambda x: x.relu_(),
    "mul_scalar": lambda x: x * 2.0,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
IMAGES = ((64, 112), (256, 56), (512, 28), (1024, 14), (2048, 7), (24, 56), (16, 112), (960, 7))
# in, out, taps, stride, side, groups
CONVOLUTIONS = (
    (64, 64, 1, 1, 56, 1),
    (64, 256, 1, 1, 56, 1),
    (256, 64, 1, 1, 56, 1),
    (64, 64, 3, 1, 56, 1),
    (128, 512, 1, 1, 28, 1),
    (512, 128, 1, 1, 28, 1),
    (128, 128, 3, 1, 28, 1),
    (256, 256, 3, 1, 14, 1),
    (1024, 256, 1, 1, 14, 1),
    (512, 512, 3, 1, 7, 1),
    (2048, 512, 1, 1, 7, 1),
    (512, 1024, 1, 2, 28, 1),
    (128, 128, 3, 2, 56, 1),
    (3, 64, 7, 2, 224, 1),
    (3, 64, 3, 1, 224, 1),
    (3, 32, 3, 2, 224, 1),
    (3, 96, 4, 4, 224, 1),
    (3, 768, 16, 16, 224, 1),
    (128, 128, 3, 1, 56, 32),
    (256, 256, 3, 1, 28, 32),
    (224, 224, 3, 1, 28, 4),
    (96, 96, 7, 1, 56, 96),
    (384, 384, 7, 1, 14, 384),
    (64, 64, 3, 1, 112, 64),
    (144, 144, 3, 1, 56, 144),
    (144, 144, 3, 2, 56, 144),
    (240, 240, 5, 1, 14, 240),
    (960, 960, 3, 1, 7, 960),
    (16, 64, 1, 1, 112, 1),
    (24, 72, 1, 1, 56, 1),
    (80, 200, 1, 1, 14, 1),
    (160, 960, 1, 1, 7, 1),
    (58, 58, 1, 1, 28, 1),
    (232, 232, 1, 1, 7, 1),
)
# rows, columns, inner
PRODUCTS = (
    (25216, 768, 768),
    (25216, 3072, 768),
    (25216, 768, 3072),
    (8192, 8192, 8192),
    (128, 1000, 2048),
    (8192, 50257, 768),
    (8192, 50264, 768),
    (8192, 50304, 768),
    (8192, 50258, 768),
    (8192, 50260, 768),
    (8192, 768, 50257),
    (8192, 769, 768),
    (8192, 768, 769),
    (8192, 1001, 1024),
    (8192, 1001, 1023),
    (1, 4096, 4096),
    (1, 14336, 4096),
    (16, 4096, 4096),
    (64, 4096, 4096),
    (401408, 96, 96),
    (401408, 288, 96),
    (401408, 384, 96),
    (401408, 96, 384),
    (100352, 192, 192),
    (4096, 4096, 4096),
    (2048, 2048, 2048),
    (1024, 1024, 1024),
    (512, 512, 512),
)
BATCHED = (
    (24576, 49, 49, 32),
    (24576, 49, 32, 49),
    (1536, 197, 197, 64),
    (1536, 197, 64, 197),
    (768, 128, 128, 64),
    (96, 512, 512, 64),
)
# batch, heads, queries and keys, width, causal
ATTENTION = ((128, 12, 197, 64, 0), (64, 12, 128, 64, 1), (1, 32, 2048, 128, 1), (1, 32, 8192, 128, 1), (8, 16, 1024, 64, 0))


def cases() -> Iterator[Case]:
    for d in ("fp16", "fp32"):
        for exponent in (16, 20, 23, 25, 27):
            for op in ("neg", "relu_", "add", "add_", "mul_scalar", "gelu", "hardswish", "silu", "sigmoid", "tanh"):
                yield Case(op, d, {"n": 2**exponent})
    for d in ("fp16", "fp32"):
        for (c, h), last, b in itertools.product(IMAGES, (0, 1), (128, 16)):
            for op in ("batch_norm", "batch_norm_train", "max_pool", "adaptive_avg", "avg_pool", "mul_channel", "cat"):
                if b == 128 or op in ("batch_norm", "max_pool", "adaptive_avg", "avg_pool"):
                    yield Case(op, d, {"b": b, "c": c, "h": h, "last": last})
        for width in (96, 192, 384, 768, 1024, 4096):
            for elements in (2**24, 2**26):
                for op in ("layer_norm", "softmax"):
                    yield Case(op, d, {"rows": elements // width, "width": width})
        for width in (49, 128, 197, 512):
            yield Case("softmax", d, {"rows": 2**25 // width, "width": width})
        for op in ("roll", "permute_copy", "layer_norm_perm", "window_copy"):
            yield Case(op, d, {"b": 128, "h": 56, "c": 96})
        yield Case("qkv_copy", d, {"b": 128, "h": 12, "l": 197, "e": 64})
        yield Case("embedding", d, {"v": 50257, "e": 768, "b": 64, "l": 128})
    for d in ("fp16", "tf32", "fp32"):
        for (c, o, k, s, h, g), last in itertools.product(CONVOLUTIONS, (0, 1)):
            if d != "fp32" or not last:
                yield Case("conv", d, {"b": 64, "c": c, "o": o, "k": k, "s": s, "h": h, "g": g, "last": last})
    for d in ("fp16", "bf16", "tf32", "fp32"):
        for m, n, k in PRODUCTS:
            if d != "fp32" or n <= 50000:
                yield Case("linear", d, {"m": m, "n": n, "k": k})
        for b, m, n, k in BATCHED:
            for op in ("bmm", "bmm_t"):
                yield Case(op, d, {"b": b, "m": m, "n": n, "k": k})
    for d in ("fp16", "bf16", "fp32"):
        for b, h, length, e, causal in ATTENTION:
            if d != "fp32" or length <= 4000:
                yield Case("sdpa", d, {"b": b, "h": h, "l": length, "e": e, "causal": causal})


class Call(nn.Module):
    """A function of its inputs, and of weights that are parameters to it."""

    def __init__(self, function: Callable[..., Tensor], inputs: list[Tensor], weights: list[Tensor]) -> None:
        super().__init__()
        self.function, self.inputs = function, inputs
        self.weights = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, *self.weights)


def call(case: Case, device: str) -> Call:
    """The call of a case, with tensors on a device ("meta" has none of their values)."""
    dtype, s = _DTYPES[case.dtype], case.sizes

    def r(*shape: int) -> Tensor:
        x = torch.empty(shape, device=device, dtype=dtype) if device == "meta" else torch.randn(shape, device=device).to(dtype)
        return x.contiguous(memory_format=torch.channels_last) if s.get("last") and len(shape) == 4 else x

    def ones(n: int) -> Tensor:
        return torch.ones(n, device=device, dtype=dtype)

    if case.op in ELEMENTWISE:
        return Call(ELEMENTWISE[case.op], [r(s["n"])], [])
    if case.op in ("add", "add_"):
        return Call(Tensor.add if case.op == "add" else Tensor.add_, [r(s["n"]), r(s["n"])], [])
    if case.op in ("linear", "bmm", "bmm_t", "sdpa", "conv", "embedding"):
        return _product(case, r, device)
    if "width" in s:
        x, w = r(s["rows"], s["width"]), ones(s["width"])
        if case.op == "softmax":
            return Call(lambda x: x.softmax(-1), [x], [])
        return Call(lambda x, w: F.layer_norm(x, w.shape, w, w), [x], [w])
    if case.op in ("roll", "permute_copy", "layer_norm_perm", "window_copy", "qkv_copy"):
        return _moved(case, r, ones)
    x, w, m = r(s["b"], s["c"], s["h"], s["h"]), ones(s["c"]), torch.zeros(s["c"], device=device, dtype=dtype)
    if case.op == "batch_norm":
        return Call(lambda x, w, m: F.batch_norm(x, m, w, w, m), [x], [w, m])
    if case.op == "batch_norm_train":
        return Call(lambda x, w, m: F.batch_norm(x, None, None, w, m, training=True), [x], [w, m])
    if case.op == "mul_channel":
        return Call(lambda x, m: x * m.view(1, -1, 1, 1), [x], [m])
    images: dict[str, Callable[[Tensor], Tensor]] = {
        "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
        "adaptive_avg": lambda x: F.adaptive_avg_pool2d(x, 1),
        "avg_pool": lambda x: F.avg_pool2d(x, 2, 2),
        "cat": lambda x: torch.cat([x, x], 1),
    }
    return Call(images[case.op], [x], [])


def _product(case: Case, r: Callable[..., Tensor], device: str) -> Call:
    s = case.sizes
    if case.op == "linear":
        return Call(F.linear, [r(s["m"], s["k"])], [r(s["n"], s["k"])])
    if case.op == "bmm":
        return Call(torch.bmm, [r(s["b"], s["m"], s["k"]), r(s["b"], s["k"], s["n"])], [])
    if case.op == "bmm_t":
        return Call(lambda x, y: torch.bmm(x, y.transpose(1, 2)), [r(s["b"], s["m"], s["k"]), r(s["b"], s["n"], s["k"])], [])
    if case.op == "embedding":
        index = torch.zeros(s["b"], s["l"], device=device, dtype=torch.int64)
        if device != "meta":
            index.random_(s["v"])
        return Call(F.embedding, [index], [r(s["v"], s["e"])])
    if case.op == "sdpa":
        q = r(s["b"], s["h"], s["l"], s["e"])
        return Call(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=bool(s["causal"])), [q], [])
    k, stride = s["k"], s["s"]
    pad = k // 2 if stride != k else 0
    image, weight = r(s["b"], s["c"], s["h"], s["h"]), r(s["o"], s["c"] // s["g"], k, k)
    return Call(lambda x, w: F.conv2d(x, w, None, stride, pad, 1, s["g"]), [image], [weight])


def _moved(case: Case, r: Callable[..., Tensor], ones: Callable[[int], Tensor]) -> Call:
    """Copies that change the order of elements, as windowed attention makes them, of images with the channels innermost."""
    s = case.sizes
    if case.op == "qkv_copy":
        heads = r(s["b"], s["l"], 3, s["h"], s["e"])
        return Call(lambda x: x.permute(2, 0, 3, 1, 4)[0].contiguous(), [heads], [])
    b, h, c = s["b"], s["h"], s["c"]
    x = r(b, h, h, c)
    if case.op == "roll":
        return Call(lambda x: torch.roll(x, (3, 3), (1, 2)), [x], [])
    if case.op == "permute_copy":
        return Call(lambda x: x.permute(0, 3, 1, 2).contiguous(), [x], [])
    if case.op == "layer_norm_perm":
        return Call(lambda x, w: F.layer_norm(x.permute(0, 3, 1, 2).permute(0, 2, 3, 1), w.shape, w, w), [x], [ones(c)])
    windows = (b, h // 7, 7, h // 7, 7, c)
    return Call(lambda x: x.view(windows).permute(0, 1, 3, 2, 4, 5).reshape(-1, 49, c), [x], [])


# ------------------------------------------------------------------------------------------------ on a GPU


def microseconds(made: Call, calls: int = 10) -> float:
    """The median time between events around single calls, issued while the device sleeps."""
    cuda: Any = torch.cuda
    for _ in range(2):
        made(*made.inputs)
    cuda.synchronize()
    marks = [cuda.Event(enable_timing=True) for _ in range(calls + 1)]
    cuda._sleep(4_000_000)
    marks[0].record()
    for mark in marks[1:]:
        made(*made.inputs)
        mark.record()
    cuda.synchronize()
    return statistics.median(float(a.elapsed_time(b)) * 1e3 for a, b in itertools.pairwise(marks))


def measure(out: TextIO, seconds: float) -> None:
    end = time.monotonic() + seconds
    torch.backends.cudnn.benchmark = False
    table = csv.writer(out)
    table.writerow(("op", "dtype", "sizes", "us"))
    with torch.inference_mode():
        for case in cases():
            if time.monotonic() > end:
                print(f"stopped after {seconds:g} s", file=sys.stderr)
                return
            fast = case.dtype == "tf32"
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
            try:
                made = call(case, "cuda")
                took = microseconds(made)
            except RuntimeError as error:
                print(f"{case.op} {case.dtype} {case.text}: {error}", file=sys.stderr)
                continue
            table.writerow((case.op, case.dtype, case.text, f"{took:.3f}"))
            out.flush()


# ------------------------------------------------------------------------------------------------ against the time model


class Row(NamedTuple):
    """A case, and its measured microseconds by device."""

    case: Case
    measured: dict[str, float]


def rows(path: Path = MEASURED) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [
        Row(
            Case(line["op"], line["dtype"], {k: int(v) for k, _, v in (pair.partition("=") for pair in line["sizes"].split())}),
            {device: float(line[column]) for device, column in DEVICES.items() if line.get(column)},
        )
        for line in lines
    ]


def predicted(case: Case, *devices: Device) -> list[float]:
    """Microseconds between the events around a call, without the host, on each device."""
    made = call(case, "meta")
    setting = case.dtype
    found = trace(made, made.inputs, dtype=setting, device_kind="gpu")
    launched = build(found, "eager", "gpu")
    moved = sum(kernel.bytes for kernel in launched)
    out = []
    for device in devices:
        # the tensors of a call are those of the call before: what they move since is all that the call moves
        points = roof.place(launched, device, setting=setting, runtime="eager", footprint=moved)
        work = sum(point.time_s - point.overhead_s for point in points)
        out.append((work + len(points) * device.launch.value) * 1e6 + EVENT_US)
    return out


def check(names: list[str], each: bool) -> int:
    targets = [lookup(name) for name in names]
    groups: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows():
        ratios = [p / row.measured[d.name] for p, d in zip(predicted(row.case, *targets), targets, strict=True)]
        groups.setdefault((row.case.op, row.case.dtype), []).append(ratios)
        if each:
            told = "  ".join(f"{row.measured[d.name]:9.1f} us {r:5.2f}" for r, d in zip(ratios, targets, strict=True))
            print(f"{row.case.op:16} {row.case.dtype:5} {told}  {row.case.text}")
    print("| operator | rows | " + " | ".join(f"{n}: predicted / measured, median | 10 to 90 %" for n in names) + " |")
    print("| --- | ---: |" + " ---: | --- |" * len(names))
    for (op, dtype), found in groups.items():
        cells = []
        for column in zip(*found, strict=True):
            low, middle, high = quantiles(list(column))
            cells.append(f"{middle:.2f} | {low:.2f} to {high:.2f}")
        print(f"| {op} {dtype} | {len(found)} | " + " | ".join(cells) + " |")
    return 0


def quantiles(ratios: list[float]) -> tuple[float, float, float]:
    """The lowest tenth, the median, the highest tenth."""
    tenths = statistics.quantiles(ratios, n=10, method="inclusive") if len(ratios) > 1 else ratios * 9
    return tenths[0], statistics.median(ratios), tenths[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("measure", help="time the operators on this machine's GPU")
    first.add_argument("--out", type=Path, help="file to write (default: standard output)")
    first.add_argument("--seconds", type=float, default=300.0, help="stop after that long (default: 300)")
    second = commands.add_parser("check", help="compare the time model with the measured rows")
    second.add_argument("-d", "--device", action="append", choices=DEVICES, help="(default: both)")
    second.add_argument("--rows", action="store_true", help="print every row")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.command == "check":
        return check(args.device or list(DEVICES), args.rows)
    if not torch.cuda.is_available():
        parser.error("no CUDA device here")
    if args.out is None:
        measure(sys.stdout, args.seconds)
    else:
        with args.out.open("w", encoding="utf-8", newline="") as file:
            measure(file, args.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
