"""What an analysis says in words and figures, wherever it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from roofline.analysis.reasons import what_set_it
from roofline.classes import plural
from roofline.records import Analysis, Interval
from roofline.units import binary, count, joules, percent, seconds, share, si


def reason(analysis: Analysis) -> str:
    """The one sentence that says what set the time; empty where nothing ran."""
    return what_set_it(analysis) if analysis.kernels and analysis.totals.time_s > 0 else ""


def rate(throughput: float, what: str = "samples") -> str:
    """Samples per second: "493 samples/s", "1,984 samples/s", "1.2 M samples/s"."""
    if 1000 <= throughput < 1e6:
        return f"{throughput:,.0f} {what}/s"
    return f"{count(throughput)} {what}/s"


def pace(a: Analysis) -> str:
    """What the pass delivers: samples per second, of a language model tokens per second."""
    return rate(a.language.tokens_per_s, "tokens") if a.language else rate(a.totals.throughput)


def _pass(a: Analysis) -> str:
    """What was predicted: "one pass over 32 samples", "one token after 128"."""
    if a.language:
        n, before = a.language.sequences, a.language.context - (a.language.mode == "decode")
        each = f" for each of {n:,} sequences" if n > 1 else ""
        return f"one token{each} after {before:,}" if a.language.mode == "decode" else f"reading {before:,} tokens{each}"
    step = "a training step" if a.setting.mode == "training" else "one pass"
    return f"{step} over {'1 sample' if a.setting.batch == 1 else f'{a.setting.batch:,} samples'}"


def fits(a: Analysis) -> str:
    """Only where it does not: what it needs, what there is, and what would fit."""
    t = a.totals
    if t.fits is not False:
        return ""
    words = (
        f"It does not fit: {_pass(a)} needs {binary(t.peak_memory_bytes)}, and {a.device.title or a.device.name} has "
        f"{binary(a.device.memory)}"
    )
    if t.largest_batch:
        return f"{words}; the largest batch that fits is {t.largest_batch:,}."
    held = {kind: t.peak_memory.get(kind, 0) for kind in ("parameters", "buffers")}
    if sum(held.values()) > a.device.memory:
        return f"{words}; its parameters alone take {binary(sum(held.values()))}."
    return f"{words}; not one sample fits." if t.largest_batch == 0 and a.setting.batch > 1 else f"{words}."


def measured(a: Analysis) -> str:
    """What a run of it said, and which class of kernel the prediction misses most."""
    m = a.measurement
    if m is None:
        return ""
    ratio = a.totals.time_s / m.time_s
    verb = f"is {share(abs(ratio - 1))} too {'low' if ratio < 1 else 'high'}" if abs(ratio - 1) >= 0.005 else "is right"
    how = f"median of {m.undisturbed or m.runs} runs" if m.whole else "sum of its operators, on a busy machine"
    words = f"It took {seconds(m.time_s)} here ({rate(m.throughput)}, {how}, {_threads(m.threads)}): the prediction {verb}."
    if m.gap and abs(m.gap[0].measured_s - m.gap[0].predicted_s) >= 0.01 * m.time_s:
        g = m.gap[0]
        words += f" {plural(g.klass)} are furthest off: {seconds(g.predicted_s)} predicted, {seconds(g.measured_s)} measured."
    return words


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number != 1)}"


def unknown(a: Analysis) -> str:
    ops = a.coverage.unknown_ops
    if not ops:
        return ""
    names = ", ".join(f"{u.op} x{u.count}" for u in ops[:3]) + (f" and {len(ops) - 3} more" if len(ops) > 3 else "")
    return f"FLOPs are a lower bound: no rule knows {names}. Their bytes are counted."


# A host that nobody measured or published, and the one that was asked for, as the header says it.
_HOSTS = {"assumed": "assumed", "estimated": "estimated", "memory": "from memory", "given": "as given"}


def ceilings(a: Analysis) -> str:
    """Where the device's numbers come from; its host beside them, where that is no better than a guess."""
    s = a.setting
    # "estimated ceilings" says it already of a machine that was only detected
    known = "" if s.tier == "estimated" else _HOSTS.get(s.host_status, "")
    host = f", host {seconds(s.host_s)} {known}" if s.host_s is not None and known else ""
    return "measured here" if a.measurement else f"{s.tier} ceilings{host}"


def facts(a: Analysis) -> list[str]:
    """The setting in words: batch, dtype, runtime, mode, tier."""
    s = a.setting
    return [f"batch {s.batch}", s.numbers, s.runtime, s.mode, ceilings(a)]


def hosts(analyses: Sequence[Analysis]) -> str:
    """Which GPU an assumed host favours in a comparison; empty where they have the same, or nothing was assumed."""
    gpus = [a for a in analyses if a.device.kind == "gpu" and a.setting.host_s]
    found = {a.device.name: (a.setting.host_s or 0.0, a.setting.host_status) for a in gpus}
    if len({host for host, _ in found.values()}) < 2 or not any(status in _HOSTS for _, status in found.values()):
        return ""
    least = min(host for host, _ in found.values())
    each = ", ".join(f"{name} {seconds(host)} {_HOSTS.get(status, status)}" for name, (host, status) in found.items())
    favoured = " and ".join(name for name, (host, _) in found.items() if host == least)
    return (
        f"hosts differ ({each}), which favours {favoured} wherever the GPU waits for its host; "
        f"--host {seconds(least).replace(' ', '')} puts the same machine around all"
    )


def label(a: Analysis, among: Sequence[Analysis]) -> str:
    """The shortest name that tells `a` from the others: what they do not all share."""
    own, others = _marks(a), [_marks(x) for x in among]
    parts = [mark for i, mark in enumerate(own) if len({other[i] for other in others}) > 1]
    return " · ".join(parts) or f"{own[0]} on {own[1]}"


def _marks(a: Analysis) -> list[str]:
    return [a.model.name, a.device.title or a.device.name, *facts(a)[:-1], f"{a.setting.tier} ceilings"]


def compare(analyses: Sequence[Analysis]) -> str:
    """One sentence that ranks several analyses by time per sample; empty for fewer than two, or where nothing ran."""
    ran = [a for a in analyses if a.totals.throughput > 0]
    if len(ran) < 2:
        return ""
    tokens = all(a.language for a in ran)
    speed = [a.language.tokens_per_s if tokens and a.language else a.totals.throughput for a in ran]
    # what does not fit cannot be the fastest
    ranked = sorted(zip(speed, ran, strict=True), key=lambda pair: (pair[1].totals.fits is False, -pair[0]))
    best, first = ranked[0]

    def name(a: Analysis) -> str:
        return label(a, ran) + (" (does not fit)" if a.totals.fits is False else "")

    slower = [f"{name(a)} takes {si(best / v, digits=2)} times as long" for v, a in ranked[1:5]]
    rest = f", and {len(ranked) - 5} more" if len(ranked) > 5 else ""
    each = "token" if tokens else "sample"
    return f"Per {each}, {name(first)} is the fastest ({seconds(1 / best)}); {', '.join(slower)}{rest}."


def between(found: Interval) -> str:
    """ "10.4 to 14.9 ms"; both units where they differ."""
    (low, unit), (high, same) = (seconds(value).split(" ") for value in (found.low_s, found.high_s))
    return f"{low} to {high} {same}" if unit == same else f"{low} {unit} to {high} {same}"


def with_interval(time_s: float, found: Interval | None) -> str:
    """ "12.3 ms (10.4 to 14.9)"; units where they are not all the same."""
    time = seconds(time_s)
    if found is None:
        return time
    units = {seconds(value).split(" ")[1] for value in (found.low_s, time_s, found.high_s)}
    return f"{time} ({between(found).removesuffix(f' {units.pop()}') if len(units) == 1 else between(found)})"


def _energy(a: Analysis) -> list[tuple[str, str, str]]:
    """Of a sample, with its interval and the average power; or why it is not known. Not in what older versions wrote."""
    found = a.totals.energy
    if found is None:
        return [("Energy", "unknown", a.totals.no_energy)] if a.totals.no_energy else []
    part = found.per_sample_j / found.joules
    low, high = (joules(part * end) for end in (found.low_j, found.high_j))
    if low.split(" ")[1] == high.split(" ")[1] == joules(found.per_sample_j).split(" ")[1]:
        low = low.split(" ")[0]
        high = high.split(" ")[0]
    power = f"{si(found.watts, 'W', 3)} of at most {si(found.limit_w, 'W', 3)}"
    return [("Energy", joules(found.per_sample_j), f"({low} to {high}) a sample; {power}")]


def totals(a: Analysis) -> list[tuple[str, str, str]]:
    """The figures that head every view: (name, value, what it means or is made of)."""
    time = seconds(a.totals.time_s)
    sure = with_interval(a.totals.time_s, a.totals.interval).removeprefix(time).strip()
    t, m = a.totals, a.model
    peak = ", ".join(
        f"{k.replace('_', ' ')} {binary(v)}" for k, v in sorted(t.peak_memory.items(), key=lambda kv: -kv[1])[:2] if v
    )
    trains = f", {m.trainable:,} of them trainable" if m.trainable is not None and m.trainable != m.params else ""
    if t.fits is False:
        peak = f"of {binary(a.device.memory)}: does not fit"
    return [
        ("Time", time, f"{sure} {pace(a)}".strip()),
        ("FLOPs", si(t.flops, "FLOP"), f"{si(t.achieved_flops, 'FLOP/s', 3)} reached"),
        ("MACs", si(t.macs), "of convolution, matmul, attention, RNN"),
        ("Traffic", si(t.bytes, "B"), f"{si(t.weight_bytes, 'B', 3)} of it weights"),
        ("Intensity", f"{si(t.intensity, digits=3)} FLOP/B", f"ridge {si(a.device.ridge, digits=3)} FLOP/B"),
        ("Parameters", count(m.params), f"{binary(m.param_bytes)}, {m.params:,}{trains}"),
        ("Peak memory", binary(t.peak_memory_bytes), peak),
        *_energy(a),
        ("Kernels", f"{t.kernels:,}", f"{percent(a.coverage.flops_known, 1.0)} with known FLOPs"),
    ]
