"""Measure this machine: what its arithmetic, its memory levels and its overheads reach, as a device file.

Every number is the median of short samples in which no thread had to wait for a core (see `sampling`). A level's bandwidth is
the slope of T = a + V/b over pieces of several sizes, so that the fixed cost of a call is not taken for slow memory; its
intercept, less the cost of a call, is what starting and ending a parallel region costs.

The detected or published numbers stay in the file as `nominal`, and each measured one has its `spread`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from roofline.bench import sampling
from roofline.bench.calibration import Bench, Calibration, Fit, Report, finish, fit
from roofline.bench.sampling import Sample
from roofline.devices import host
from roofline.devices.device import Device, Level, Number, Peak, Scaling
from roofline.dtypes import TENSOR_KEYS, TORCH
from roofline.errors import UsageError

# Bytes of the buffer behind the DRAM bandwidth: at least, and at most as a fraction of the memory.
DRAM_BYTES, DRAM_SHARE = 256 * 2**20, 1 / 8
# Elements that PyTorch gives to one thread before it starts another.
GRAIN = 32768
# A level nearer than DRAM has to be this much faster to be one of its own.
FASTER = 1.3


def calibrate(
    *, threads: int | None = None, hold: bool = False, force: bool = False, progress: Report = lambda text: None
) -> Calibration:
    """Measure the CPU of this machine with `threads` threads (default: PyTorch's own number, within the CPU quota).

    `hold` gives this process the right of way on its cores for half of the time, where the system allows it.

    Raises TooBusy where the key numbers spread by more than LIMIT, unless `force`.
    """
    progress("looking at this machine")
    base = host.detect()
    progress("importing torch")
    import torch

    before = torch.get_num_threads()
    used = _threads(threads, before, base)
    try:
        with sampling.Waiting() as waiting, torch.inference_mode():
            bench = Bench(waiting, progress)
            found = _Cpu(bench, base, used, hold).run()
    finally:
        torch.set_num_threads(before)
    return finish(bench, found, force=force, notes=_quota_note(base, before, used))


def _threads(asked: int | None, torchs: int, base: Device) -> int:
    """As asked; else PyTorch's own number, or what a CPU quota leaves of it."""
    if asked is None:
        return max(1, min(torchs, math.floor(base.units.value + 1e-9)))
    if asked < 1 or asked > max(base.threads, 1):
        raise UsageError(f"--threads {asked}: this machine runs 1 to {max(base.threads, 1)} at a time")
    return asked


def _quota_note(base: Device, torchs: int, used: int) -> list[str]:
    if used >= torchs:
        return []
    return [f"Measured with {used} of the {torchs} threads that PyTorch would start; set OMP_NUM_THREADS={used} to run so."]


# ------------------------------------------------------------------------------------------------ the CPU


class _Cpu:
    """The steps of one calibration, with what the later ones need of the earlier."""

    def __init__(self, bench: Bench, base: Device, threads: int, hold: bool) -> None:
        import torch

        self.torch, self.bench, self.base, self.threads, self.hold = torch, bench, base, threads, hold
        caches = {level.name: level.size for level in base.levels[:-1]}
        self.l2 = caches.get("L2", 0)
        # bytes read and written by the largest of the pieces that bandwidths are measured with
        self.piece = int(0.6 * self.l2) if self.l2 else threads * 2**20
        memory = base.levels[-1].size or 2**33
        wanted = max(DRAM_BYTES, 4 * max(caches.values(), default=0), 2 * _visible_cache())
        elements = int(min(wanted, memory * DRAM_SHARE)) // 8
        self.source = torch.ones(elements)
        self.target = torch.ones(elements)

    def run(self) -> Device:
        scaling = []
        for threads in _ladder(self.threads):
            self.bench.report(f"{threads} {'thread' if threads == 1 else 'threads'}: GEMM and DRAM")
            self.torch.set_num_threads(threads)
            with sampling.pinned(threads, self._burst, self.bench.waiting, self.hold):
                gemm = self.gemm("fp32")
                dram, samples = self.stream(len(self.source) * 8)
                scaling.append(Scaling(threads, _round(gemm[0]), _round(dram.b)))
                if threads == self.threads:
                    self.bench.key |= {"the fp32 GEMM": gemm[1], "DRAM": samples[-1]}
                    return self._all(gemm, dram, samples, scaling)
        raise AssertionError("the ladder ends at the number of threads")

    def _burst(self) -> None:
        self.torch.neg(self.source[: 2**21], out=self.target[: 2**21])

    def _all(self, gemm: tuple[float, Sample], dram: Fit, dram_samples: Sequence[Sample], scaling: Sequence[Scaling]) -> Device:
        base = self.base
        tensor, vector = dict(base.tensor), dict(base.vector)
        vector["fp32"] = _peak(gemm, base.vector["fp32"])
        for dtype in ("bf16", "fp16", "fp64", "int8"):
            self.bench.report(f"GEMM in {dtype}")
            got = self.gemm(dtype)
            key = TENSOR_KEYS[dtype][0]
            table, name = (tensor, key) if key in tensor else (vector, dtype)
            if not got[1].disturbed:
                table[name] = _peak(got, table.get(name))
        self.bench.report("overheads")
        fixed = self.fixed()
        # what is run over and over finds its caches warm, and so does its fixed cost
        warm = {name: self.bench(call, number=5).median for name, call in self.tiny(8).items()}
        launch = self.launch()
        levels = self.levels(dram, dram_samples)
        flops, moved = self.rates(warm)
        self.bench.report("overheads again")
        # a neighbour on the same host slows all of a phase without anyone waiting for a core: the better of two phases
        fixed = {name: min(fixed[name], again, key=lambda n: n.value) for name, again in self.fixed().items()}
        version = self.torch.__version__
        words = f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        return replace(
            base,
            tier="calibrated",
            tensor=tensor,
            vector=vector,
            levels=levels,
            scaling=tuple(scaling),
            fixed=fixed,
            flops=flops,
            bytes=moved,
            units=replace(base.units, value=float(min(base.units.value, self.threads))),
            launch=Number(_round(launch), "calibrate", "measured", base.launch.value),
            host=replace(fixed["pointwise"], nominal=base.host.value),
            notes=(
                f"Measured by roofline calibrate on {date.today()} with torch {version} on {words}.",
                *_kept(base, tensor, vector),
            ),
            sources={**base.sources, "calibrate": f"roofline calibrate on this machine, torch {version}, {words}"},
        )

    # ---------------------------------------------------------------- arithmetic

    def gemm(self, dtype: str) -> tuple[float, Sample]:
        """FLOP/s of the best of growing square products, and its sample."""
        best: tuple[float, Sample] | None = None
        for n in (256, 512, 1024, 2048, 4096):
            if dtype == "int8":
                a = self.torch.ones(n, n, dtype=self.torch.int8)
                got = self.bench(_bound(self.torch._int_mm, a, a))
            else:
                a = self.torch.ones(n, n, dtype=getattr(self.torch, TORCH[dtype]))
                got = self.bench(_bound(self.torch.mm, a, a, out=self.torch.empty_like(a)))
            rate = 2 * n**3 / got.median
            if best is None or (best[1].disturbed, -best[0]) > (got.disturbed, -rate):
                best = rate, got
            # a longer sample is rarely undisturbed, and larger products are hardly faster
            if got.median > 5e-4 or got.disturbed:
                break
        assert best is not None
        return best

    # ---------------------------------------------------------------- memory

    def ring(self, footprint: int, piece: int) -> list[Callable[[], object]]:
        """Copies (one byte read for each written) of piece after piece of `footprint` bytes in all."""
        elements = max(piece // 8, 1)
        count = max(min(footprint // 8, len(self.source)) // elements, 1)
        pairs = [slice(i * elements, (i + 1) * elements) for i in range(count)]
        return [_bound(self.torch.neg, self.source[at], out=self.target[at]) for at in pairs]

    def stream(self, footprint: int) -> tuple[Fit, list[Sample]]:
        """The line over three sizes of piece in a working set of `footprint` bytes."""
        sizes = [self.piece // 4, self.piece // 2, self.piece]
        samples = [self.bench(self.ring(footprint, size)) for size in sizes]
        good = [(size, s) for size, s in zip(sizes, samples, strict=True) if not s.disturbed]
        return fit([(float(size), s.median) for size, s in good or zip(sizes, samples, strict=True)]), samples

    def launch(self) -> float:
        """Seconds to start and end a parallel region: as many elements for each thread, on one and on all of them."""
        if self.threads == 1:
            return 0.0
        one, each = (self.bench(self.ring(n * 8, n * 8), number=10) for n in (GRAIN, GRAIN * self.threads))
        return max(each.median - one.median, 0.0)

    def levels(self, dram: Fit, dram_samples: Sequence[Sample]) -> tuple[Level, ...]:
        """Every level that is faster than DRAM."""
        found: list[Level] = []
        for level in self.base.levels[:-1]:
            self.bench.report(f"bandwidth of {level.name}")
            if level.name == "L2":
                got, samples = self.stream(self.piece)
                size = level.size
            else:
                size, got, samples = self.last_cache(level, dram)
            if got.b > FASTER * dram.b:
                found.append(_level(level, got, samples, size))
        levels = [*found, _level(self.base.levels[-1], dram, dram_samples, self.base.levels[-1].size)]
        # what a small cache gives drowns in the call around it on some machines; it is no slower than what lies behind it
        for i in range(len(levels) - 2, -1, -1):
            levels[i] = replace(levels[i], bandwidth=max(levels[i].bandwidth, levels[i + 1].bandwidth))
        return tuple(levels)

    def last_cache(self, level: Level, dram: Fit) -> tuple[int, Fit, list[Sample]]:
        """The capacity of L3 as this process finds it (a shared one is not all ours), and its line.

        It ends where the rate falls below the geometric mean of its own and DRAM's.
        """
        least = size = int(1.5 * max(self.l2, self.piece))
        top, kept, below = 0.0, 0, 0
        while size <= len(self.source) * 4 and below < 2:
            got = self.bench(self.ring(size, self.piece // 2))
            rate = self.piece / 2 / max(got.median - dram.a, 1e-9)
            if not got.disturbed:
                top = max(top, rate)
                # once may be a neighbour's doing
                inside = rate >= math.sqrt(top * dram.b)
                kept, below = (size, 0) if inside else (kept, below + 1)
            size = int(size * 1.4)
        if not kept:
            return level.size, dram, []
        middle = int(least**0.75 * kept**0.25)
        return kept >> 20 << 20, *self.stream(middle)

    # ---------------------------------------------------------------- classes of kernel

    def fixed(self) -> dict[str, Number]:
        """Seconds of an op on next to nothing, by class, as in a model: its caches hold what ran before it."""
        sets = [self.tiny(width) for width in range(8, 40, 4)]
        others = self.source[: max(self.l2, 2**20) // 4]
        touch = _bound(self.torch.neg, others, out=others)
        found = {}
        for name in sets[0]:
            found[name] = _number(self.bench([calls[name] for calls in sets], between=touch))
        return found

    def tiny(self, width: int) -> dict[str, Callable[[], object]]:
        """One op of each class on a few elements in `width` channels, called as models call it."""
        nn, torch = self.torch.nn, self.torch
        # PyTorch gives a single small image to its own convolution, and everything else to oneDNN
        image, two, row = torch.ones(1, width, 4, 4), torch.ones(2, width, 4, 4), torch.ones(1, width)
        head = torch.ones(1, 1, 4, width)
        modules: dict[str, tuple[Any, Any]] = {
            "conv": (nn.Conv2d(width, width, 3, padding=1), two),
            "conv_small": (nn.Conv2d(width, width, 3, padding=1), image),
            "grouped_conv": (nn.Conv2d(width, width, 3, groups=2), two),
            "depthwise_conv": (nn.Conv2d(width, width, 3, groups=width), two),
            "gemm": (nn.Linear(width, width), row),
            "norm": (nn.BatchNorm2d(width), image),
            "layer_norm": (nn.LayerNorm(width), row),
            "softmax": (nn.Softmax(-1), row),
            "pointwise": (nn.ReLU(), row),
            "gelu": (nn.GELU(), row),
            "hardswish": (nn.Hardswish(), row),
            "pool": (nn.MaxPool2d(2), image),
            "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d(1), image),
        }
        calls: dict[str, Callable[[], object]] = {name: _bound(m.eval(), x) for name, (m, x) in modules.items()}
        return calls | {
            "attention": lambda: nn.functional.scaled_dot_product_attention(head, head, head),
            "layout": lambda: image.transpose(1, 2).contiguous(),
            "reduction": lambda: image.mean(1),
            "cat": lambda: torch.cat((row, row)),
        }

    def rates(self, warm: Mapping[str, float]) -> tuple[dict[str, Number], dict[str, Number]]:
        """FLOP/s, and B/s, of a large well-shaped op of each class, its fixed cost taken off."""
        flops: dict[str, Number] = {}
        moved: dict[str, Number] = {}
        for name, (call, work, unit) in self.large().items():
            self.bench.report(f"rate of {name}")
            got = self.bench(call)
            if got.disturbed:
                continue
            start = warm.get(name, warm["gemm"])
            rate = _round(work / max(got.median - start, 0.1 * got.median))
            (flops if unit == "FLOP/s" else moved)[name] = Number(rate, "calibrate", "measured", 0.0, _round(got.spread, 2))
        return flops, moved

    def large(self) -> dict[str, tuple[Callable[[], object], float, str]]:
        """(call, FLOPs or bytes, unit) by class: middle layers of common networks at batch 1."""
        torch, nn = self.torch, self.torch.nn

        def over(m: Any, *shape: int, ratio: float = 1.0, values: bool = False) -> tuple[Callable[[], object], float, str]:
            x = torch.rand(*shape) if values else torch.ones(*shape)
            return _bound(m.eval(), x), 4.0 * x.numel() * (1 + ratio), "B/s"

        heads = torch.ones(1, 12, 196, 64)
        linear = nn.Linear(768, 768)
        image = torch.ones(1, 64, 56, 56)
        return {
            "gemm": (_bound(linear, torch.ones(1, 196, 768)), 2.0 * 196 * 768 * 768, "FLOP/s"),
            "attention": (
                lambda: nn.functional.scaled_dot_product_attention(heads, heads, heads),
                4.0 * 12 * 196 * 196 * 64,
                "FLOP/s",
            ),
            "norm": over(nn.BatchNorm2d(64), 1, 64, 56, 56),
            "layer_norm": over(nn.LayerNorm(768), 1, 196, 768),
            "softmax": over(nn.Softmax(-1), 12, 196, 196),
            "pointwise": over(nn.ReLU(), 1, 64, 56, 56),
            "gelu": over(nn.GELU(), 1, 196, 768),
            "hardswish": over(nn.Hardswish(), 1, 64, 56, 56),
            # a maximum branches on its values, and equal ones are foreseen
            "pool": over(nn.MaxPool2d(3, 2, 1), 1, 64, 56, 56, ratio=0.25, values=True),
            "adaptive_avg_pool2d": over(nn.AdaptiveAvgPool2d(1), 1, 512, 14, 14, ratio=0.0),
            "layout": (lambda: image.permute(0, 2, 3, 1).contiguous(), 8.0 * image.numel(), "B/s"),
        }


def _visible_cache() -> int:
    """Bytes of the last cache that Linux shows: a virtual machine's is the host's, and may keep a large buffer by chance."""
    from roofline.devices.system import _read, _size

    return max((_size(_read(path / "size")) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")), default=0)


def _ladder(threads: int) -> list[int]:
    """1, 2, 4, ... and `threads`."""
    steps = [1]
    while steps[-1] * 2 < threads:
        steps.append(steps[-1] * 2)
    return sorted({*steps, threads})


def _bound(call: Callable[..., object], *args: Any, **kwargs: Any) -> Callable[[], object]:
    return lambda: call(*args, **kwargs)


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def _number(s: Sample, nominal: Number | None = None) -> Number:
    return Number(_round(s.median), "calibrate", "measured", nominal.value if nominal else 0.0, _round(s.spread, 2))


def _peak(got: tuple[float, Sample], nominal: Peak | None) -> Peak:
    return Peak(
        _round(got[0]), "calibrate", "measured", nominal=nominal.value if nominal else 0.0, spread=_round(got[1].spread, 2)
    )


def _level(base: Level, got: Fit, samples: Sequence[Sample], size: int) -> Level:
    measured = size != base.size
    spreads = sorted(s.spread for s in samples)
    return replace(
        base,
        bandwidth=_round(got.b),
        source="calibrate",
        status="measured",
        nominal=base.bandwidth,
        size=size,
        spread=_round(sampling.quantile(spreads, 0.5), 2) if spreads else 0.0,
        size_nominal=base.size if measured else 0,
        size_source="calibrate" if measured else base.size_source,
        size_status="measured" if measured else base.size_status,
    )


def _kept(base: Device, tensor: Mapping[str, Peak], vector: Mapping[str, Peak]) -> list[str]:
    """Which peaks are still estimates."""
    old = [
        f"{kind} {key}"
        for kind, table in (("tensor", tensor), ("vector", vector))
        for key, peak in table.items()
        if peak.status != "measured"
    ]
    return [f"Not measured, still estimates: {', '.join(old)}."] if old else []
