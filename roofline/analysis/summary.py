"""From kernels and their points to an Analysis: totals, and the same numbers by layer, by op and by kernel.

Totals are sums of the kernel rows. A layer's numbers include its children's, so the root's row equals the totals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

from roofline.analysis import idle
from roofline.analysis.memory import Peak
from roofline.classes import MATRIX
from roofline.devices.device import Device
from roofline.records import (
    Analysis,
    Coverage,
    DeviceInfo,
    Energy,
    IdlePart,
    Interval,
    Kernel,
    KernelRow,
    LayerRow,
    LevelInfo,
    MemoryCourse,
    OpRow,
    Point,
    Setting,
    ToolInfo,
    Totals,
    Trace,
    UnknownOp,
    by_bound,
)
from roofline.timemodel import energy, uncertainty
from roofline.timemodel.constants import Constants
from roofline.timemodel.roof import dtype_key, reached
from roofline.timemodel.roof import peak as unit_peak


class _Sum:
    """A running total of kernels."""

    __slots__ = ("bytes", "classes", "components", "energy", "flops", "kernels", "macs", "squares", "time", "weight_bytes")

    def __init__(self) -> None:
        self.flops = self.macs = self.bytes = self.weight_bytes = self.kernels = 0
        self.time = self.squares = 0.0
        self.energy: float | None = None
        self.components: dict[str, float] = {}
        self.classes: dict[str, float] = {}

    def add(self, row: KernelRow) -> None:
        self.flops += row.flops
        self.macs += row.macs
        self.bytes += row.bytes
        self.weight_bytes += row.weight_bytes
        self.kernels += 1
        time = row.time_s
        self.time += time
        self.squares += time * time
        self.classes[row.klass] = self.classes.get(row.klass, 0.0) + time
        if row.energy_j is not None:
            self.energy = (self.energy or 0.0) + row.energy_j
        components = self.components
        for name, part in row.time_by_component.items():
            components[name] = components.get(name, 0.0) + part

    def merge(self, other: _Sum) -> None:
        self.flops += other.flops
        self.macs += other.macs
        self.bytes += other.bytes
        self.weight_bytes += other.weight_bytes
        self.kernels += other.kernels
        self.time += other.time
        self.squares += other.squares
        for name, part in other.classes.items():
            self.classes[name] = self.classes.get(name, 0.0) + part
        if other.energy is not None:
            self.energy = (self.energy or 0.0) + other.energy
        components = self.components
        for name, part in other.components.items():
            components[name] = components.get(name, 0.0) + part

    @property
    def mix(self) -> uncertainty.Mix:
        return uncertainty.Mix(self.classes, self.squares)

    @property
    def by_bound(self) -> dict[str, float]:
        return by_bound(self.components)

    @property
    def bound(self) -> str:
        """Where most of the time goes; an empty string where nothing ran."""
        return self.bounds()[0]

    def bounds(self) -> tuple[str, dict[str, float]]:
        """`bound` and `by_bound`, worked out once."""
        split = by_bound(self.components)
        largest = max(split, key=split.__getitem__) if self.components else "memory"
        return largest if self.kernels else "", split

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes if self.bytes else 0.0


def summarise(
    trace: Trace,
    kernels: Sequence[Kernel],
    points: Sequence[Point],
    device: Device,
    peak: Peak,
    *,
    runtime: str,
    tool: ToolInfo,
    notes: Iterable[str] = (),
    constants: Constants | None = None,
) -> Analysis:
    """Fill every field of the document from one trace on one device."""
    paths = [layer.path for layer in trace.layers]
    missing = energy.unknown(device, runtime)
    board = None if missing else energy.board(device)
    spent = energy.of_points(board, kernels, points) if board else []
    joules: Iterable[float | None] = (one.joules for one in spent) if board else repeat(None, len(kernels))
    rows = [_kernel_row(k, p, paths[k.layer], j) for k, p, j in zip(kernels, points, joules, strict=True)]
    total, by_layer, by_op = _Sum(), [_Sum() for _ in trace.layers], dict[tuple[str, str], _Sum]()
    for row, kernel in zip(rows, kernels, strict=True):
        total.add(row)
        by_layer[kernel.layer].add(row)
        by_op.setdefault((row.op, row.klass), _Sum()).add(row)
    sure = None if runtime == "ideal" else uncertainty.Sure.of(device, runtime, trace.mode == "training")
    layers = _layer_rows(trace, by_layer, peak, sure)
    time, never_ran = total.time, idle.parts(trace)
    between = sure.interval(time, total.components, total.mix) if sure and time else None
    spending = energy.summary(board, spent, time, trace.batch, between) if board else None
    return Analysis(
        schema=Analysis.SCHEMA,
        tool=tool,
        model=trace.model,
        setting=_setting(trace, device, runtime),
        device=_device_info(device, kernels, trace.dtype, runtime, constants),
        totals=_totals(total, rows, trace, peak, between, missing, spending),
        coverage=_coverage(rows, never_ran),
        layers=layers,
        ops=_op_rows(by_op),
        kernels=rows,
        notes=[*trace.notes, *idle.notes(never_ran), *notes],
        memory=MemoryCourse(
            ops=len(trace.ops),
            at=[at for at, _, _ in peak.course],
            layers=[paths[layer] for _, layer, _ in peak.course],
            bytes=[nbytes for _, _, nbytes in peak.course],
        ),
    )


def _totals(
    total: _Sum,
    rows: Sequence[KernelRow],
    trace: Trace,
    peak: Peak,
    between: Interval | None,
    no_energy: str,
    spending: Energy | None,
) -> Totals:
    time = total.time
    return Totals(
        flops=total.flops,
        macs=total.macs,
        bytes=total.bytes,
        weight_bytes=total.weight_bytes,
        intensity=total.intensity,
        kernels=total.kernels,
        time_s=time,
        throughput=trace.batch / time if time else 0.0,
        bound=total.bound,
        time_by_bound=total.by_bound,
        time_by_component=_ordered(total.components),
        waiting_s=sum(row.overhead_s for row in rows),
        peak_memory_bytes=peak.total,
        peak_memory=peak.by_kind,
        peak_layer=trace.layers[peak.layer].path,
        achieved_flops=total.flops / time if time else 0.0,
        interval=between,
        no_energy=no_energy,
        energy=spending,
    )


def _op_rows(by_op: Mapping[tuple[str, str], _Sum]) -> list[OpRow]:
    """The rows of operators, the one with the most time first."""
    return [
        OpRow(
            op=op,
            klass=klass,
            kernels=s.kernels,
            flops=s.flops,
            macs=s.macs,
            bytes=s.bytes,
            intensity=s.intensity,
            time_s=s.time,
            bound=s.bound,
            time_by_bound=s.by_bound,
            energy_j=s.energy,
        )
        for (op, klass), s in sorted(by_op.items(), key=lambda item: -item[1].time)
    ]


def _layer_rows(trace: Trace, by_layer: list[_Sum], peak: Peak, sure: uncertainty.Sure | None) -> list[LayerRow]:
    """A row for each module, of the sums of what ran in itself: each is merged into its parent's."""
    params, trainable = [layer.params for layer in trace.layers], [layer.trainable or 0 for layer in trace.layers]
    held = [peak.by_layer.get(i, 0) for i in range(len(trace.layers))]
    for i in range(len(trace.layers) - 1, 0, -1):  # children come after their parents
        parent = trace.layers[i].parent
        by_layer[parent].merge(by_layer[i])
        params[parent] += params[i]
        trainable[parent] += trainable[i]
        held[parent] += held[i]
    return [
        LayerRow(
            path=layer.path, type=layer.type, params=n, flops=s.flops, macs=s.macs, bytes=s.bytes, weight_bytes=s.weight_bytes,
            intensity=s.intensity, time_s=s.time, bound=bound, kernels=s.kernels, time_by_bound=split,
            calls=layer.calls, trainable=None if layer.trainable is None else train, output=layer.output, kernel=layer.kernel,
            memory_bytes=alive, energy_j=s.energy, low_s=low, high_s=high,
        )
        for layer, s, n, train, alive in zip(trace.layers, by_layer, params, trainable, held, strict=True)
        for bound, split in (s.bounds(),)
        for low, high in (sure.between(s.time, s.components, s.mix) if sure and s.time else (None, None),)
    ]  # fmt: skip


def _setting(trace: Trace, device: Device, runtime: str) -> Setting:
    return Setting(
        batch=trace.batch,
        dtype=trace.dtype,
        runtime=runtime,
        mode=trace.mode,
        device=device.name,
        tier=device.tier,
        host_s=None if runtime == "ideal" else device.host.value,
        host_status="" if runtime == "ideal" else device.host.status,
        built=trace.built,
    )


def _kernel_row(k: Kernel, p: Point, layer: str, joules: float | None) -> KernelRow:
    nbytes = k.bytes
    return KernelRow(
        layer=layer,
        op=k.op,
        klass=k.klass,
        shape=k.shape,
        dtype=k.dtype,
        flops=k.flops,
        macs=k.macs,
        bytes=nbytes,
        weight_bytes=k.weight_bytes,
        intensity=k.flops / nbytes if nbytes else 0.0,
        time_s=p.time_s,
        bound=p.bound,
        level=p.level,
        efficiency=p.efficiency,
        compute_s=p.compute_s,
        memory_s=p.memory_s,
        overhead_s=p.overhead_s,
        known=k.known,
        phase=k.phase,
        time_by_component=p.components.copy(),
        executed=p.executed,
        energy_j=joules,
        issue_s=p.issue_s,
    )


def _ordered(components: dict[str, float]) -> dict[str, float]:
    """Largest first."""
    return dict(sorted(components.items(), key=lambda item: -item[1]))


def _device_info(
    device: Device, kernels: Sequence[Kernel], dtype: str, runtime: str, constants: Constants | None
) -> DeviceInfo:
    """The compute roof of the analysis is that of its heaviest matrix kernel, else fp32 on the vector units."""
    heaviest = max((k for k in kernels if k.klass in MATRIX), key=lambda k: k.flops, default=None)
    peak_flops = unit_peak(device, heaviest, dtype) if heaviest else device.peak("fp32", "vector")
    top, bandwidths = reached(device, peak_flops, dtype, runtime, constants)
    key = dtype_key(heaviest, dtype) if heaviest else "fp32"
    return DeviceInfo(
        name=device.name,
        title=device.title,
        kind=device.kind,
        peaks=device.peaks(),
        peak_flops=peak_flops,
        bandwidth=device.bandwidth,
        ridge=peak_flops / device.bandwidth,
        levels=[LevelInfo(x.name, x.size, x.bandwidth, b) for x, b in zip(device.levels, bandwidths, strict=True)],
        notes=[*device.notes, *(() if key in ("fp32", "fp64") else device.notes_below_fp32)],
        peak_dtype=key,
        reached_flops=top,
        memory=device.levels[-1].size,
    )


def _coverage(rows: Sequence[KernelRow], never_ran: list[IdlePart]) -> Coverage:
    unknown: dict[str, dict[str, int]] = {}
    for row in rows:
        if not row.known:
            places = unknown.setdefault(row.op, {})
            places[row.layer] = places.get(row.layer, 0) + 1
    missing = sum(sum(places.values()) for places in unknown.values())
    return Coverage(
        flops_known=1 - missing / len(rows) if rows else 1.0,
        bytes_known=1 - sum(1 for row in rows if not row.known and not row.bytes) / len(rows) if rows else 1.0,
        unknown_ops=[UnknownOp(op, sum(places.values()), list(places)) for op, places in unknown.items()],
        never_ran=never_ran,
    )
