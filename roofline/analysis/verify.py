"""Whether a saved analysis is as the program wrote it: everything that follows from something else in it is worked out again.

A number changed by hand no longer agrees with its kernels, and a gate must not take it. No torch, no printing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roofline.errors import UsageError
from roofline.records import BOUNDS, RUNTIMES, Analysis, KernelRow, above, by_bound
from roofline.timemodel import uncertainty

# Sums are made in another order than the program made them.
_CLOSE = 1e-9
# A difference of two times may come out below zero by rounding.
_ROUNDING_S = 1e-12
# What is added up over kernels, in every kind of row.
_SUMS = ("flops", "macs", "bytes", "weight_bytes", "time_s")


class Mismatch(NamedTuple):
    """A field, what stands there, and what it should be by `why`."""

    field: str
    value: Any
    why: str
    expected: Any = None

    def text(self, where: str) -> str:
        value = f"{self.value:.6g}" if isinstance(self.value, float) else repr(self.value)[:60]
        said = f"{self.field} is {value}, but {self.why}"
        if self.expected is not None:
            said += f" {self.expected:.6g}" if isinstance(self.expected, float) else f" {self.expected!r:.60}"
        again = f"make it again with: roofline analyze MODEL -o {Path(where).name}"
        return f"{where}: {said[:400]}: the file was edited\n{again}"


# Above this a number is without end: a document may hold integers of any length.
_LARGEST = 1e300


def check_text(data: bytes, where: str) -> None:
    """No key twice, and no number that cannot be. Raises UsageError with the field."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"{where}: the key {twice!r:.60} stands twice in one table: the file was edited\nmake it again")
        return found

    try:
        document = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # the decoder that follows says more, where it fails too
        raise UsageError(f"{where}: not an analysis: {error}"[:300]) from error
    for name, number in _numbers(document, ""):
        least = -_LARGEST if name.startswith("totals.interval.common") else -_ROUNDING_S if name.endswith("_s") else 0
        if abs(number) > _LARGEST or math.isnan(number) or number < least:
            raise UsageError(Mismatch(name, number, "it cannot be below zero or without end").text(where))


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{i}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def check(analysis: Analysis, where: str) -> None:
    """Everything in it agrees. Raises UsageError with the first field that does not."""
    wrong = next(_mismatches(analysis), None)
    if wrong is not None:
        raise UsageError(wrong.text(where))


def _mismatches(a: Analysis) -> Iterator[Mismatch]:
    yield from _setting(a)
    yield from _kernels(a)
    yield from _totals(a)
    yield from _layers(a)
    yield from _ops(a)
    yield from _coverage(a)
    yield from _measured(a)
    yield from _language(a)


def _differ(a: float, b: float) -> bool:
    return not math.isclose(a, b, rel_tol=_CLOSE, abs_tol=1e-15)


def _same(field: str, value: Any, expected: Any, why: str) -> Iterator[Mismatch]:
    different = _differ(value, expected) if isinstance(value, float) or isinstance(expected, float) else value != expected
    if different:
        yield Mismatch(field, value, why, expected)


def _over(a: float, b: float) -> float:
    return a / b if b else 0.0


def _among(field: str, value: str, known: Sequence[str]) -> Iterator[Mismatch]:
    if value not in known:
        yield Mismatch(field, value, f"it is one of {', '.join(map(str, known))}")


def _setting(a: Analysis) -> Iterator[Mismatch]:
    s, d = a.setting, a.device
    yield from _among("setting.runtime", s.runtime, RUNTIMES)
    yield from _among("setting.mode", s.mode, ("inference", "training"))
    yield from _same("setting.device", s.device, d.name, "device.name is")
    if d.peak_flops not in d.peaks.values():
        yield Mismatch("device.peak_flops", d.peak_flops, "it is one of device.peaks")
    yield from _same("device.ridge", d.ridge, _over(d.peak_flops, d.bandwidth), "device.peak_flops / device.bandwidth is")
    if d.levels:
        yield from _same("device.bandwidth", d.bandwidth, d.levels[-1].bandwidth, f"its {d.levels[-1].name} has")
    trains = any(k.phase != "forward" for k in a.kernels)
    if trains and s.mode != "training":
        yield Mismatch("setting.mode", s.mode, "it has kernels of a backward pass")
    if bool(s.optimizer) and s.mode != "training":
        yield Mismatch("setting.optimizer", s.optimizer, "setting.mode is", s.mode)


def _kernels(a: Analysis) -> Iterator[Mismatch]:
    known = {row.path for row in a.layers}
    for i, k in enumerate(a.kernels):
        at = f"kernels[{i}]"
        yield from _among(f"{at}.bound", k.bound, BOUNDS)
        if k.layer not in known:
            yield Mismatch(f"{at}.layer", k.layer, "layers has no such path")
        yield from _same(f"{at}.intensity", k.intensity, _over(k.flops, k.bytes), "its flops / bytes are")
        if k.weight_bytes > k.bytes:
            yield Mismatch(f"{at}.weight_bytes", k.weight_bytes, "its bytes are", k.bytes)
        if 2 * k.macs > k.flops:
            yield Mismatch(f"{at}.macs", k.macs, "its flops, two for each, are", k.flops)
        if k.overhead_s > k.time_s * (1 + _CLOSE):
            yield Mismatch(f"{at}.overhead_s", k.overhead_s, "its time_s is", k.time_s)
        if k.time_by_component:
            parts = sum(k.time_by_component.values())
            yield from _same(f"{at}.time_s", k.time_s, parts, "its time_by_component adds up to")
            yield from _largest(f"{at}.bound", k.bound, by_bound(k.time_by_component))


def _largest(field: str, bound: str, split: dict[str, float]) -> Iterator[Mismatch]:
    if bound in split and split[bound] < max(split.values()) * (1 - _CLOSE):
        yield Mismatch(field, bound, "most of its time is", max(split, key=lambda name: split[name]))


def _split(kernels: Sequence[KernelRow]) -> dict[str, float]:
    """Seconds under each bound; a kernel of an older version is under one bound as a whole."""
    out = dict.fromkeys(BOUNDS, 0.0)
    for k in kernels:
        for name, part in (by_bound(k.time_by_component) if k.time_by_component else {k.bound: k.time_s}).items():
            out[name] = out.get(name, 0.0) + part
    return out


def _row(at: str, row: Any, kernels: Sequence[KernelRow], whose: str = "its kernels") -> Iterator[Mismatch]:
    """What a row of any kind says of its kernels."""
    yield from _same(f"{at}.kernels", row.kernels, len(kernels), f"{whose} are")
    for name in _SUMS:
        if hasattr(row, name):
            yield from _same(f"{at}.{name}", getattr(row, name), sum(getattr(k, name) for k in kernels), f"{whose} add up to")
    if getattr(row, "energy_j", None) is not None:
        yield from _same(f"{at}.energy_j", row.energy_j, sum(k.energy_j or 0.0 for k in kernels), f"{whose} add up to")
    yield from _same(f"{at}.intensity", row.intensity, _over(row.flops, row.bytes), "its flops / bytes are")
    split = _split(kernels)
    for name, part in row.time_by_bound.items():
        yield from _same(f"{at}.time_by_bound.{name}", part, split.get(name, 0.0), f"{whose} add up to")
    if row.time_by_bound:
        yield from _same(f"{at}.time_by_bound", sum(row.time_by_bound.values()), row.time_s, "its time_s is")
    if kernels:
        yield from _among(f"{at}.bound", row.bound, BOUNDS)
        yield from _largest(f"{at}.bound", row.bound, split)


def _totals(a: Analysis) -> Iterator[Mismatch]:
    t = a.totals
    yield from _row("totals", t, a.kernels)
    yield from _same("totals.throughput", t.throughput, _over(a.setting.batch, t.time_s), "setting.batch / time_s is")
    yield from _same("totals.achieved_flops", t.achieved_flops, _over(t.flops, t.time_s), "its flops / time_s are")
    yield from _same("totals.peak_memory_bytes", t.peak_memory_bytes, sum(t.peak_memory.values()), "peak_memory adds up to")
    if t.interval is not None:
        sd = math.hypot(*t.interval.common, t.interval.own)
        for end, expected in zip(("low_s", "high_s"), uncertainty.bounds(t.time_s, sd), strict=True):
            yield from _same(f"totals.interval.{end}", getattr(t.interval, end), expected, "time_s, common and own give")
    yield from _energy(a)
    if a.memory is not None and a.memory.bytes:
        most = max(a.memory.bytes)
        yield from _same("totals.peak_memory_bytes", t.peak_memory_bytes, most, "the most of memory.bytes is")
    if t.peak_layer not in {row.path for row in a.layers}:
        yield Mismatch("totals.peak_layer", t.peak_layer, "layers has no such path")
    if t.time_by_component:
        sums: dict[str, float] = {}
        for k in a.kernels:
            for name, part in k.time_by_component.items():
                sums[name] = sums.get(name, 0.0) + part
        for name in t.time_by_component.keys() | sums.keys():
            value, expected = t.time_by_component.get(name, 0.0), sums.get(name, 0.0)
            yield from _same(f"totals.time_by_component.{name}", value, expected, "its kernels add up to")
        yield from _same("totals.waiting_s", t.waiting_s, sum(k.overhead_s for k in a.kernels), "overhead_s adds up to")


def _energy(a: Analysis) -> Iterator[Mismatch]:
    found = a.totals.energy
    if found is None:
        return
    yield from _same("totals.energy.joules", found.joules, sum(k.energy_j or 0.0 for k in a.kernels), "its kernels add up to")
    yield from _same("totals.energy.watts", found.watts, _over(found.joules, a.totals.time_s), "joules / time_s are")
    yield from _same("totals.energy.per_sample_j", found.per_sample_j, _over(found.joules, a.setting.batch), "a sample has")
    if found.watts > found.limit_w * (1 + _CLOSE):
        yield Mismatch("totals.energy.watts", found.watts, "the device takes at most", found.limit_w)
    for end, expected in zip(("low_j", "high_j"), uncertainty.bounds(found.joules, found.sd), strict=True):
        yield from _same(f"totals.energy.{end}", getattr(found, end), expected, "joules and sd give")


def _layers(a: Analysis) -> Iterator[Mismatch]:
    if not a.layers or a.layers[0].path:
        yield Mismatch("layers", len(a.layers), "the first of them is the model itself, with the empty path")
        return
    inside: dict[str, list[KernelRow]] = {}
    children: dict[str, int] = {}
    held: dict[str, int] = {}
    for i, row in enumerate(a.layers):
        if row.path in inside:
            yield Mismatch(f"layers[{i}].path", row.path, "another layer has it")
        inside[row.path] = []
    for row in a.layers[1:]:
        parent = next(path for path in above(row.path) if path in inside)
        children[parent] = children.get(parent, 0) + row.params
        held[parent] = held.get(parent, 0) + row.memory_bytes
    for k in a.kernels:
        for path in (k.layer, *above(k.layer)):
            if path in inside:
                inside[path].append(k)
            if not path:
                break
    for i, row in enumerate(a.layers):
        yield from _row(f"layers[{i}]", row, inside[row.path])
        if children.get(row.path, 0) > row.params:
            yield Mismatch(f"layers[{i}].params", row.params, "the layers in it have", children[row.path])
        if held.get(row.path, 0) > row.memory_bytes:
            yield Mismatch(f"layers[{i}].memory_bytes", row.memory_bytes, "the layers in it hold", held[row.path])
        if row.trainable is not None and row.trainable > row.params:
            yield Mismatch(f"layers[{i}].trainable", row.trainable, "of parameters it has", row.params)
    if a.layers[0].memory_bytes:  # documents of older versions have none
        yield from _same("layers[0].memory_bytes", a.layers[0].memory_bytes, a.totals.peak_memory_bytes, "the peak is")
    yield from _same("model.params", a.model.params, a.layers[0].params, "layers[0].params is")


def _ops(a: Analysis) -> Iterator[Mismatch]:
    groups: dict[tuple[str, str], list[KernelRow]] = {}
    for k in a.kernels:
        groups.setdefault((k.op, k.klass), []).append(k)
    seen = set()
    for i, row in enumerate(a.ops):
        key = (row.op, row.klass)
        if key in seen or key not in groups:
            yield Mismatch(
                f"ops[{i}].op", row.op, "another row has it" if key in seen else "no kernel is of that operator and class"
            )
            continue
        seen.add(key)
        yield from _row(f"ops[{i}]", row, groups[key])
    for op, klass in groups.keys() - seen:
        yield Mismatch("ops", len(a.ops), f"it has no row for {op} ({klass})")


def _coverage(a: Analysis) -> Iterator[Mismatch]:
    unknown: dict[str, list[str]] = {}
    for k in a.kernels:
        if not k.known:
            unknown.setdefault(k.op, []).append(k.layer)
    known = 1 - _over(sum(map(len, unknown.values())), len(a.kernels))
    yield from _same("coverage.flops_known", a.coverage.flops_known, known, "by its kernels it is")
    if a.coverage.bytes_known > 1:
        yield Mismatch("coverage.bytes_known", a.coverage.bytes_known, "it is a fraction")
    found = {u.op: u for u in a.coverage.unknown_ops}
    yield from _same("coverage.unknown_ops", sorted(found), sorted(unknown), "by its kernels they are")
    for i, u in enumerate(a.coverage.unknown_ops):
        places = unknown.get(u.op, [])
        yield from _same(f"coverage.unknown_ops[{i}].count", u.count, len(places), "its kernels are")
        yield from _same(f"coverage.unknown_ops[{i}].layers", sorted(set(u.layers)), sorted(set(places)), "its kernels are in")


def _measured(a: Analysis) -> Iterator[Mismatch]:
    m = a.measurement
    if m is None:
        return
    yield from _same("measurement.throughput", m.throughput, _over(a.setting.batch, m.time_s), "setting.batch / time_s is")
    yield from _same(
        "measurement.time_s", m.time_s, _sum(k.measured_s for k in a.kernels), "measured_s of its kernels adds up to"
    )
    for i, row in enumerate(a.layers):
        mine = (k.measured_s for k in a.kernels if not row.path or f"{k.layer}.".startswith(f"{row.path}."))
        yield from _same(f"layers[{i}].measured_s", row.measured_s or 0.0, _sum(mine), "its kernels add up to")
    for i, op in enumerate(a.ops):
        of = (k.measured_s for k in a.kernels if (k.op, k.klass) == (op.op, op.klass))
        yield from _same(f"ops[{i}].measured_s", op.measured_s or 0.0, _sum(of), "its kernels add up to")
    for i, gap in enumerate(m.gap):
        rows = [k for k in a.kernels if k.klass == gap.klass]
        yield from _same(f"measurement.gap[{i}].kernels", gap.kernels, len(rows), "kernels of that class are")
        yield from _same(f"measurement.gap[{i}].predicted_s", gap.predicted_s, _sum(k.time_s for k in rows), "they add up to")
        yield from _same(f"measurement.gap[{i}].measured_s", gap.measured_s, _sum(k.measured_s for k in rows), "they add up to")


def _sum(values: Iterable[float | None]) -> float:
    return float(sum(v or 0.0 for v in values))


def _language(a: Analysis) -> Iterator[Mismatch]:
    info, t = a.language, a.totals
    if info is None:
        return
    yield from _among("language.mode", info.mode, ("prefill", "decode"))
    yield from _same("language.sequences", info.sequences, a.setting.batch, "setting.batch is")
    each = info.context if info.mode == "prefill" else 1
    yield from _same("language.tokens", info.tokens, info.sequences * each, "sequences by tokens of each are")
    tokens = info.tokens or 1
    yield from _same("language.flops_per_token", info.flops_per_token, t.flops // tokens, "totals.flops / tokens are")
    yield from _same("language.macs_per_token", info.macs_per_token, t.macs // tokens, "totals.macs / tokens are")
    yield from _same("language.weight_bytes", info.weight_bytes, t.weight_bytes, "totals.weight_bytes are")
    each = info.cache_written_bytes // tokens
    yield from _same("language.cache_bytes_per_token", info.cache_bytes_per_token, each, "cache_written_bytes / tokens are")
    yield from _same("language.tokens_per_s", info.tokens_per_s, _over(info.tokens, t.time_s), "tokens / time_s are")
