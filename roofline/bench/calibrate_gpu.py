"""Measure the first CUDA device: products by dtype, copies in L2 and DRAM, launch and host cost. Times are the device's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn

from roofline.bench import sampling
from roofline.bench.calibration import SECONDS, Bench, Calibration, Report, finish, fit
from roofline.bench.sampling import Sample
from roofline.devices import library
from roofline.devices.device import Device, Level, Number, Peak
from roofline.dtypes import TENSOR_KEYS, TORCH
from roofline.errors import UnknownNameError, UsageError

# dtype setting -> (torch's dtype, the key of its unit)
PRODUCTS = {
    name: (TORCH[name], "" if name == "fp32" else TENSOR_KEYS[name][0])
    for name in ("fp32", "tf32", "fp16", "bf16", "int8", "fp64")
}
SIZES = (4096, 8192)
REPEATS = 12
# kernels in the queue whose launches are timed
QUEUE = 400
# blocks of convolution, norm and activation through which the host is timed
BLOCKS = 24
# cycles for which the device waits so that the queue is full before it starts
SLEEP = 40_000_000


def calibrate(*, force: bool = False, progress: Report = lambda text: None) -> Calibration:
    """Raises UsageError without a CUDA device, TooBusy where the key numbers spread too much and `force` is not set."""
    if not torch.cuda.is_available():
        raise UsageError("no CUDA device is here to measure; `roofline calibrate` without -d measures the CPU")
    base = _base()
    precision = torch.get_float32_matmul_precision()
    try:
        with sampling.Waiting() as waiting, torch.inference_mode():
            bench = Bench(waiting, progress)
            found = _measure(bench, base, progress)
    finally:
        torch.set_float32_matmul_precision(precision)
    return finish(bench, found, force=force)


def _base() -> Device:
    """The library's entry of this GPU; one with what CUDA tells where it has none."""
    found = torch.cuda.get_device_properties(0)
    try:
        return library.lookup("gpu")
    except UnknownNameError:
        told = "cuda"
        unknown = Number(1.0, told, "assumed")
        return Device(
            name="gpu",
            title=found.name,
            kind="gpu",
            vendor="NVIDIA",
            arch=f"sm_{found.major}{found.minor}",
            tensor={},
            vector={"fp32": Peak(1.0)},
            units=Number(float(found.multi_processor_count), told, "read"),
            clock=unknown,
            levels=(
                Level("L2", int(found.L2_cache_size), 1.0, size_source=told, size_status="read"),
                Level("DRAM", int(found.total_memory), 1.0, size_source=told, size_status="read"),
            ),
            launch=Number(0.0),
            host=Number(0.0),
            notes=("Not in the device library; its clock is not known.",),
            sources={told: "CUDA's properties of the device"},
        )


def _measure(bench: Bench, base: Device, progress: Report) -> Device:
    tensor, vector = dict(base.tensor), dict(base.vector)
    for dtype, (kind, key) in PRODUCTS.items():
        progress(f"products in {dtype}")
        got = _product(bench, dtype, getattr(torch, kind))
        if got is None:
            continue
        rate, sample = float(_four(got[0])), got[1]
        table, name = (tensor, key) if key and (key in tensor or dtype != "fp64") else (vector, dtype)
        old = table[name].value if name in table and table[name].value > 1 else 0.0
        table[name] = Peak(rate, "calibrate", "measured", nominal=old, spread=round(sample.spread, 3))
        if dtype == "fp32":
            bench.key["the fp32 GEMM"] = sample
    levels = tuple(_level(bench, base, level, progress) for level in base.levels)
    progress("launches")
    launch, host = _launch(bench), _host(bench)
    version = torch.__version__
    return replace(
        base,
        name=f"{base.name}-here",
        aliases=(),
        tier="calibrated",
        tensor=tensor,
        vector=vector,
        levels=levels,
        sustained=Number(1.0, "calibrate", "measured", base.sustained.value),
        sustained_vector=None,
        reached=Number(1.0, "calibrate", "measured", base.reached.value),
        launch=Number(launch, "calibrate", "measured", base.launch.value),
        host=Number(host, "calibrate", "measured", base.host.value),
        notes=(f"Measured by roofline calibrate on {date.today()} with torch {version}.", *base.notes),
        sources={**base.sources, "calibrate": f"roofline calibrate on this machine, torch {version}"},
    )


def _elapsed(call: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Seconds on the device of each of some calls, issued while it waits."""
    call()
    marks = [_event() for _ in range(repeats + 1)]
    torch.cuda._sleep(SLEEP // 4)  # type: ignore[no-untyped-call]  # torch's own
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)]


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own


def _sampled(bench: Bench, times: list[float]) -> Sample:
    bench.taken += len(times)
    bench.clean += len(times)
    return sampling.summary(times, times)


def _product(bench: Bench, dtype: str, kind: torch.dtype) -> tuple[float, Sample] | None:
    """FLOP/s of the better of two sizes; None where the device has no such product or the time is up."""
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    best: tuple[float, Sample] | None = None
    for n in SIZES:
        if bench.start + 0.6 * SECONDS < time.perf_counter():
            break
        try:
            a = _values(n, n, kind=kind)
            # int8 wants its second factor by columns
            b = a.t() if kind is torch.int8 else a
            product = torch._int_mm if kind is torch.int8 else torch.mm
            times = _elapsed(lambda a=a, b=b, product=product: product(a, b))  # type: ignore[misc]  # bound now
        except RuntimeError:
            return best
        got = _sampled(bench, times)
        rate = 2 * n**3 / got.median
        if best is None or rate > best[0]:
            best = rate, got
        # half-rate double precision: a larger one would take seconds
        if got.median > 0.1:
            break
    return best


def _level(bench: Bench, base: Device, level: Level, progress: Report) -> Level:
    """The line T = a + V/b of copies that fit the level; DRAM's are at least eight times the last cache."""
    progress(f"bandwidth of {level.name}")
    caches = [x.size for x in base.levels[:-1]]
    if level.name == "DRAM":
        top = int(min(max(8 * max(caches, default=0), 2**30), (level.size or 2**33) / 4))
    else:
        top = int(0.5 * level.size)
    points, samples = [], []
    for size in (top // 4, top // 2, top):
        a = _values(max(size // 8, 1))
        b = torch.empty_like(a)
        samples.append(_sampled(bench, _elapsed(lambda a=a, b=b: torch.neg(a, out=b))))  # type: ignore[misc]  # bound now
        points.append((float(a.numel() * 8), samples[-1].median))
    spread = max(s.spread for s in samples)
    if level.name == "DRAM":
        bench.key["DRAM"] = samples[-1]
    return replace(
        level,
        bandwidth=float(_four(fit(points).b)),
        source="calibrate",
        status="measured",
        spread=round(spread, 3),
        nominal=level.bandwidth if level.bandwidth > 1 else 0.0,
    )


def _four(value: float) -> str:
    """Four digits: more would be noise."""
    return f"{value:.4g}"


def _launch(bench: Bench) -> float:
    """Seconds between the starts of two tiny kernels in a full queue."""
    x = torch.ones(32, device="cuda")
    times = []
    for _ in range(REPEATS):
        first, last = _event(), _event()
        torch.cuda._sleep(SLEEP)  # type: ignore[no-untyped-call]  # torch's own
        first.record()
        for _ in range(QUEUE):
            x.neg()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) / 1e3 / QUEUE)
    return float(_four(_sampled(bench, times).median))


def _host(bench: Bench) -> float:
    """Seconds that the host needs to issue one operator of a model: of modules called one after the other, as models call them.

    A bare element-wise operator takes a quarter of that, and no model is made of those: the module's call, a convolution's
    choice of algorithm and a norm's arguments are what a model at batch 1 waits for.
    """
    blocks = [layer for _ in range(BLOCKS) for layer in (nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))]
    model = nn.Sequential(*blocks).eval().to("cuda")
    x = _values(1, 8, 4, 4)
    times = []
    for turn in range(REPEATS + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        model(x)
        if turn >= 3:  # the first ones choose algorithms and fill caches
            times.append((time.perf_counter() - start) / len(blocks))
    torch.cuda.synchronize()
    return float(_four(_sampled(bench, times).median))


def _values(*shape: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    """Random numbers: on ones and zeros a device draws less power, clocks higher and computes up to an eighth faster."""
    if kind is torch.int8:
        return torch.randint(-127, 128, shape, dtype=kind, device="cuda")
    return torch.randn(*shape, device="cuda").to(kind)
