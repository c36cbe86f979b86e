"""A made-up but plausible Analysis for tests of the views: a MobileNet-like chain on a GPU or a CPU.

Times follow the plain roofline (no calibration), so every invariant of the record holds: rows add up to totals.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from roofline.records import (
    Analysis,
    Coverage,
    DeviceInfo,
    Energy,
    InputInfo,
    KernelRow,
    LanguageInfo,
    LayerRow,
    LevelInfo,
    MemoryCourse,
    ModelInfo,
    OpRow,
    Setting,
    ToolInfo,
    Totals,
    UnknownOp,
    bound_of,
    by_bound,
)
from roofline.timemodel.uncertainty import bounds

GPU = DeviceInfo(
    name="rtx-3090",
    title="NVIDIA GeForce RTX 3090",
    kind="gpu",
    peaks={
        "tensor tf32/fp32": 35.6e12,
        "tensor fp16/fp32": 71e12,
        "tensor fp16/fp16": 142e12,
        "tensor bf16/fp32": 71e12,
        "vector fp64": 556e9,
        "vector fp32": 35.6e12,
        "vector fp16": 35.58e12,
    },
    peak_flops=71e12,
    bandwidth=936e9,
    ridge=71e12 / 936e9,
    levels=[LevelInfo("L2", 6 * 2**20, 2.3e12), LevelInfo("DRAM", 24 * 2**30, 936e9)],
)
CPU = DeviceInfo(
    name="i9-10940x",
    title="Intel Core i9-10940X",
    kind="cpu",
    peaks={"vector fp64": 0.72e12, "vector fp32": 1.43e12},
    peak_flops=1.43e12,
    bandwidth=94e9,
    ridge=1.43e12 / 94e9,
    levels=[
        LevelInfo("L2", 14 * 2**20, 1.4e12),
        LevelInfo("L3", 19 * 2**20, 330e9),
        LevelInfo("DRAM", 64 * 2**30, 94e9),
    ],
)
EFFICIENCY = {"conv": 0.55, "gemm": 0.6, "depthwise_conv": 0.08, "attention": 0.5}
OVERHEAD = {"gpu": 6e-6, "cpu": 2.5e-6}
# W that the device of a sample takes, whatever it does
WATTS = 100.0


def language(mode: str, context: int) -> LanguageInfo:
    """One pass of a language model that is not the sample's: for tests of what is said about passes."""
    return LanguageInfo(
        mode=mode,
        sequences=1,
        tokens=1,
        context=context,
        flops_per_token=2,
        macs_per_token=1,
        weight_bytes=2,
        cache_bytes=4,
        cache_read_bytes=4,
        cache_written_bytes=1,
        cache_bytes_per_token=1,
        tokens_per_s=10.0,
    )


@dataclass
class Net:
    """Collects kernels while a chain of layers is written down."""

    device: DeviceInfo
    batch: int
    dtype: str
    rows: list[KernelRow] = field(default_factory=list)
    params: Counter[str] = field(default_factory=Counter)
    types: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return {"float32": 4, "float16": 2}[self.dtype]

    def module(self, path: str, type_: str, params: int = 0) -> None:
        self.types[path] = type_
        self.params[path] += params

    def kernel(
        self,
        layer: str,
        op: str,
        klass: str,
        shape: tuple[int, ...],
        flops: int,
        macs: int,
        nbytes: int,
        weights: int = 0,
        known: bool = True,
    ) -> None:
        matmul = klass in ("conv", "gemm", "attention")
        eff = EFFICIENCY.get(klass, 1.0)
        peak = self.device.peak_flops if matmul else self.device.peaks["vector fp32"]
        fits = [lv for lv in self.device.levels if lv.name == "DRAM" or nbytes < 0.5 * lv.size]
        level = fits[0]
        compute_s, memory_s = flops / (peak * eff), nbytes / (level.bandwidth * 0.8)
        overhead_s = OVERHEAD[self.device.kind]
        work = max(compute_s, memory_s)
        # a GPU's host runs ahead, so the slower of the two sets the pace; a CPU pays both
        time_s = max(work, overhead_s) if self.device.kind == "gpu" else work + overhead_s
        roof = f"memory:{level.name}" if compute_s <= memory_s else "compute" if matmul else "instructions"
        if self.device.kind == "gpu":
            split = {"host": time_s} if overhead_s > work else {roof: time_s}
        else:
            split = {roof: work, "host": 0.6 * overhead_s, "launch": 0.4 * overhead_s}
        beside = time_s - work
        self.rows.append(
            KernelRow(
                layer=layer,
                op=op,
                klass=klass,
                shape=shape,
                dtype=self.dtype,
                flops=flops,
                macs=macs,
                bytes=nbytes,
                weight_bytes=weights,
                intensity=flops / nbytes if nbytes else 0.0,
                time_s=time_s,
                bound=bound_of(split),
                level=level.name,
                efficiency=eff,
                compute_s=compute_s,
                memory_s=memory_s,
                overhead_s=beside,
                known=known,
                time_by_component=split,
                energy_j=WATTS * time_s,
            )
        )

    def conv(self, path: str, c: int, o: int, hw: int, k: int, stride: int = 1, groups: int = 1) -> int:
        out = hw // stride
        weights = o * c // groups * k * k
        macs = self.batch * out * out * weights
        self.module(path, "Conv2d", weights)
        klass = "depthwise_conv" if groups == c and groups > 1 else "conv"
        moved = self.batch * (c * hw * hw + o * out * out) + weights
        self.kernel(path, "conv2d", klass, (self.batch, o, out, out), 2 * macs, macs, moved * self.width, weights * self.width)
        return out

    def pointwise(
        self, path: str, type_: str, op: str, klass: str, c: int, hw: int, flops: int = 1, params: int = 0, known: bool = True
    ) -> None:
        n = self.batch * c * hw * hw
        self.module(path, type_, params)
        moved = (2 * n + params) * self.width
        self.kernel(path, op, klass, (self.batch, c, hw, hw), flops * n, 0, moved, params * self.width, known)

    def linear(self, path: str, i: int, o: int) -> None:
        self.module(path, "Linear", i * o + o)
        macs = self.batch * i * o
        weights = i * o + o
        moved = (self.batch * (i + o) + weights) * self.width
        self.kernel(path, "linear", "gemm", (self.batch, o), 2 * macs + self.batch * o, macs, moved, weights * self.width)


def _chain(net: Net, blocks: int) -> None:
    """Stem, `blocks` separable blocks (three convolutions where it is deep enough to expand), head."""
    net.module("", "MobileNet")
    net.module("features", "Sequential")
    net.module("features.0", "ConvBNReLU")
    hw = net.conv("features.0.0", 3, 32, 224, 3, stride=2)
    net.pointwise("features.0.1", "BatchNorm2d", "batch_norm", "norm", 32, hw, 2, 64)
    net.pointwise("features.0.2", "ReLU", "relu_", "pointwise", 32, hw)
    c = 32
    shrink = {max(1, blocks * i // 5) for i in range(1, 5)}
    for i in range(1, blocks + 1):
        stride = 2 if i in shrink else 1
        out = min(1024, c * 2) if stride == 2 or i == 1 else c
        base = f"features.{i}"
        net.module(base, "SeparableBlock")
        net.module(f"{base}.depthwise", "ConvBNReLU")
        hw = net.conv(f"{base}.depthwise.0", c, c, hw, 3, stride, groups=c)
        net.pointwise(f"{base}.depthwise.1", "BatchNorm2d", "batch_norm", "norm", c, hw, 2, 2 * c)
        net.pointwise(f"{base}.depthwise.2", "ReLU", "relu_", "pointwise", c, hw)
        net.module(f"{base}.pointwise", "ConvBNReLU")
        hw = net.conv(f"{base}.pointwise.0", c, out, hw, 1)
        net.pointwise(f"{base}.pointwise.1", "BatchNorm2d", "batch_norm", "norm", out, hw, 2, 2 * out)
        net.pointwise(f"{base}.pointwise.2", "Hardswish", "hardswish_", "pointwise", out, hw, 4)
        c = out
    net.module("avgpool", "AdaptiveAvgPool2d")
    n = net.batch * c
    net.kernel("avgpool", "adaptive_avg_pool2d", "pool", (net.batch, c, 1, 1), n * hw * hw, 0, n * (hw * hw + 1) * net.width)
    net.kernel("", "clone", "layout", (net.batch, c), 0, 0, 2 * n * net.width)
    net.linear("classifier", c, 1000)


def _components(rows: Iterable[KernelRow]) -> Counter[str]:
    found: Counter[str] = Counter()
    for r in rows:
        found.update(r.time_by_component)  # type: ignore[arg-type]  # a Counter of seconds
    return found


def _bound(rows: Iterable[KernelRow]) -> tuple[str, dict[str, float]]:
    by = by_bound(_components(rows))
    return max(by, key=lambda b: by[b]), by


def _energy(seconds: float, batch: int) -> Energy:
    joules, sd = WATTS * seconds, 0.1
    low, high = bounds(joules, sd)
    return Energy(joules=joules, low_j=low, high_j=high, per_sample_j=joules / batch, watts=WATTS, limit_w=3 * WATTS, sd=sd)


def sample(
    kind: Literal["gpu", "cpu"] = "gpu", blocks: int = 13, batch: int = 1, name: str = "mobilenet_v1", unknown: bool = False
) -> Analysis:
    """`blocks` = 13 gives 84 kernels; 1 gives 12; 66 gives 402."""
    device = GPU if kind == "gpu" else CPU
    net = Net(device, batch, "float16" if kind == "gpu" else "float32")
    _chain(net, blocks)
    if unknown:
        net.module("extra", "Custom")
        net.kernel("extra", "mylib.warp", "other", (batch, 7), 0, 0, 4096, known=False)
    rows = net.rows
    layers = []
    for path, type_ in net.types.items():
        inside = [r for r in rows if path == "" or r.layer == path or r.layer.startswith(path + ".")]
        flops, nbytes = sum(r.flops for r in inside), sum(r.bytes for r in inside)
        layers.append(
            LayerRow(
                path=path,
                type=type_,
                flops=flops,
                macs=sum(r.macs for r in inside),
                bytes=nbytes,
                params=sum(n for p, n in net.params.items() if path == "" or p == path or p.startswith(path + ".")),
                weight_bytes=sum(r.weight_bytes for r in inside),
                intensity=flops / nbytes if nbytes else 0.0,
                time_s=sum(r.time_s for r in inside),
                bound=_bound(inside)[0],
                kernels=len(inside),
                time_by_bound=_bound(inside)[1],
                energy_j=WATTS * sum(r.time_s for r in inside),
            )
        )
    groups: dict[tuple[str, str], list[KernelRow]] = defaultdict(list)
    for r in rows:
        groups[r.op, r.klass].append(r)
    ops = [
        OpRow(
            op=op,
            klass=klass,
            kernels=len(g),
            flops=sum(r.flops for r in g),
            macs=sum(r.macs for r in g),
            bytes=sum(r.bytes for r in g),
            intensity=sum(r.flops for r in g) / sum(r.bytes for r in g),
            time_s=sum(r.time_s for r in g),
            bound=_bound(g)[0],
            time_by_bound=_bound(g)[1],
            energy_j=WATTS * sum(r.time_s for r in g),
        )
        for (op, klass), g in groups.items()
    ]
    root = layers[0]
    bound, by = _bound(rows)
    params = root.params
    image, widest = batch * 3 * 224 * 224 * net.width, batch * 32 * 112 * 112 * 8
    peak = {"parameters": params * net.width, "inputs": image, "activations": widest}
    lost = [r for r in rows if not r.known]
    alive = [sum(peak.values()) - (i % 7) * 4096 for i in range(len(rows) + 1)]
    return Analysis(
        memory=MemoryCourse(ops=len(rows), at=[*range(len(rows) + 1)], layers=["", *(r.layer for r in rows)], bytes=alive),
        schema=Analysis.SCHEMA,
        tool=ToolInfo(roofline="0.1.0", torch="2.9.0"),
        model=ModelInfo(
            name=name,
            source=f"models/{name}.py",
            params=params,
            param_bytes=params * net.width,
            buffers=0,
            buffer_bytes=0,
            inputs=(InputInfo((batch, 3, 224, 224), net.dtype, "x"),),
        ),
        setting=Setting(
            batch=batch,
            dtype="fp16" if kind == "gpu" else "fp32",
            runtime="eager",
            mode="inference",
            device=device.name,
            tier="datasheet" if kind == "gpu" else "estimated",
        ),
        device=device,
        totals=Totals(
            flops=root.flops,
            macs=root.macs,
            bytes=root.bytes,
            weight_bytes=root.weight_bytes,
            intensity=root.intensity,
            kernels=len(rows),
            time_s=root.time_s,
            throughput=batch / root.time_s,
            bound=bound,
            time_by_bound=by,
            peak_memory_bytes=sum(peak.values()),
            peak_memory=peak,
            peak_layer="features.1.pointwise.0",
            achieved_flops=root.flops / root.time_s,
            time_by_component=dict(_components(rows)),
            waiting_s=sum(r.overhead_s for r in rows),
            energy=_energy(root.time_s, batch),
        ),
        coverage=Coverage(
            flops_known=1 - len(lost) / len(rows), bytes_known=1.0, unknown_ops=[UnknownOp(r.op, 1, [r.layer]) for r in lost]
        ),
        layers=layers,
        ops=sorted(ops, key=lambda o: -o.time_s),
        kernels=rows,
        notes=["Host and launch cost are the datasheet defaults of the device file."],
    )


def hostile() -> Analysis:
    """Names that would break out of HTML, Markdown, CSV, mathtext or a terminal, were they let."""
    bad = '</script><script>alert("x")</script>&<b>|`$x_1$\x1b[31m\n日=1'
    a = sample(unknown=True)
    return msgspec.structs.replace(
        a,
        model=msgspec.structs.replace(a.model, name=bad, source=bad),
        layers=[msgspec.structs.replace(r, path=r.path and f"{r.path}{bad}", type=bad) for r in a.layers],
        kernels=[msgspec.structs.replace(k, layer=bad, op=bad) for k in a.kernels],
        ops=[msgspec.structs.replace(o, op=bad) for o in a.ops],
        notes=[bad],
        device=msgspec.structs.replace(a.device, title=bad, notes=[bad]),
    )
