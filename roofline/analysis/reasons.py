"""What set the time, in words: every number is a sum of the kernels' components (`records.Point`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from roofline.classes import CONVS, MATRIX, plural
from roofline.records import Analysis, KernelRow, bound_of_component, by_bound
from roofline.units import percent, seconds, si

# A bound with this share of the time is named; the largest is, whatever its share.
NAMED = 0.20
# Below this share of the time a class of kernel is not worth a sentence, nor a component of the overhead below it of that.
NOTABLE = 0.10


def inside(klass: str) -> str:
    """The kernels of a class inside a sentence."""
    name = plural(klass)
    return name if name[1].isupper() else name[0].lower() + name[1:]


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def what_set_it(a: Analysis) -> str:
    """Every bound with a fifth of the time, and how the largest comes about."""
    t = a.totals
    ranked = sorted(t.time_by_bound, key=lambda b: -t.time_by_bound[b])
    named = [b for b in ranked if t.time_by_bound[b] >= NAMED * t.time_s] or ranked[:1]
    shares = [f"{_called(a, b)} {percent(t.time_by_bound[b], t.time_s)}" for b in named]
    first, *rest = shares
    name, share = first.rsplit(" ", 2)[0], " ".join(first.rsplit(" ", 2)[1:])
    verb = "take" if named[0] == "instructions" else "takes"
    head = listed([f"{name[0].upper()}{name[1:]} {verb} {share} of the time", *rest])
    asked = [b for b in named if b == named[0] or b == "overhead"] if t.time_by_component else []
    whys = [why for b in asked if (why := _WHY[b](a))]
    return f"{head}: {'; '.join(whys)}." if whys else f"{head}."


def _called(a: Analysis, bound: str) -> str:
    return _memory_name(components(a)) if bound == "memory" else bound


def _memory_name(split: Mapping[str, float]) -> str:
    """ "memory (DRAM)": with the levels that the memory's time comes from."""
    levels = {n.partition(":")[2]: v for n, v in split.items() if n.startswith("memory:")}
    whole = sum(levels.values())
    main = [name for name in sorted(levels, key=lambda n: -levels[n]) if levels[name] >= NAMED * whole]
    return f"memory ({listed(main)})" if main else "memory"


def components(a: Analysis) -> dict[str, float]:
    """Seconds of the whole by component; by bound in a document that was written before there were components."""
    return a.totals.time_by_component or {b: v for b, v in a.totals.time_by_bound.items() if v}


# ------------------------------------------------------------------------------------------------ why, by bound


def _ridge(a: Analysis, below: bool) -> str:
    t, ridge = a.totals, a.device.ridge
    if (t.intensity < ridge) != below:
        return ""
    side = "below" if below else "above"
    return f"at {si(t.intensity, digits=3)} FLOP/B the model is {side} the ridge of {si(ridge, digits=3)} FLOP/B"


def _memory(a: Analysis) -> str:
    """Below the ridge; or which kernels are, or move more than their operands."""
    if below := _ridge(a, True):
        return below
    klass, rows, at, ridge = _main(a, "memory")
    lie = f"most of the bytes' time is in {inside(klass)}, which lie at {si(at, digits=3)} FLOP/B"
    if at < ridge:
        return f"{lie}, below the ridge of {si(ridge, digits=3)} FLOP/B"
    reached = {lv.name: lv.reached or lv.bandwidth for lv in a.device.levels}
    moved = sum(k.memory_s * reached.get(k.level, a.device.bandwidth) for k in rows) / max(sum(k.bytes for k in rows), 1)
    if moved < 1.1:
        return f"most of the bytes' time is in {inside(klass)}"
    return (
        f"most of the bytes' time is in {inside(klass)}, whose library kernels move {si(moved, digits=2)} times the bytes of "
        "their operands, in transforms and copies"
    )


def _compute(a: Analysis) -> str:
    if above := _ridge(a, False):
        return above
    klass, _, at, ridge = _main(a, "compute")
    side = "above" if at >= ridge else "below"
    return (
        f"most of the compute is in {inside(klass)}, which lie at {si(at, digits=3)} FLOP/B, {side} the ridge of "
        f"{si(ridge, digits=3)} FLOP/B"
    )


def _main(a: Analysis, bound: str) -> tuple[str, list[KernelRow], float, float]:
    """The class of kernel with most of the seconds under a bound: its name, kernels and intensity; and its ridge."""
    klass = most(a, bound)
    rows = [k for k in a.kernels if k.klass == klass]
    nbytes = sum(k.bytes for k in rows)
    return klass, rows, sum(k.flops for k in rows) / nbytes if nbytes else 0.0, _ridge_of(a, klass)


def _ridge_of(a: Analysis, klass: str) -> float:
    """FLOP/B where the roof that a class of kernel runs under meets DRAM: matrix units take products alone."""
    if klass in MATRIX:
        return a.device.ridge
    return a.device.peaks.get("vector fp32", a.device.peak_flops) / a.device.bandwidth


def _instructions(a: Analysis) -> str:
    return f"what loops execute beside the FLOPs that count, most of them in {inside(most(a, 'instructions'))}"


def most(a: Analysis, bound: str) -> str:
    """The class of kernel with most of the seconds under a bound."""
    found: dict[str, float] = defaultdict(float)
    for k in a.kernels:
        found[k.klass] += by_bound(k.time_by_component)[bound]
    return max(found, key=lambda c: found[c])


def _overhead(a: Analysis) -> str:
    return waiting(a) if a.device.kind == "gpu" else _dispatch(a)


def hidden(row: KernelRow) -> float:
    """Seconds that a kernel works while the host is behind anyway: they are the host's, and no faster kernel saves them."""
    host = row.time_by_component.get("host", 0.0)
    return max(host - row.overhead_s, 0.0) if host else 0.0


def waiting(a: Analysis) -> str:
    """A GPU's overhead: what it waits for the host, and what is hidden behind that; or how long starting takes."""
    t, found = a.totals, components(a)
    host, launch, drain = (found.get(name, 0.0) for name in ("host", "launch", "drain"))
    if host < max(launch, drain):
        every = f"the {t.kernels:,} kernels{inner(a)}"
        first, second = (every, "them") if launch >= drain else ("them", every)
        return _costs([(launch, f"starting {first}"), (drain, f"filling and emptying the GPU for {second}")])
    issued = sum("host" in k.time_by_component for k in a.kernels)
    behind = sum(map(hidden, a.kernels))
    # the number that `explain` tells: what starting takes is in it
    idle = t.waiting_s
    most = "" if host - behind > 0.98 * idle else "most of it "
    words = (
        f"for {_part(idle, t.time_s)} the GPU stands idle, {most}waiting for Python, which needs {seconds(host / issued)} "
        f"to issue {f'each of {_of(issued, t.kernels)}' if t.kernels > 1 else 'the kernel'}"
    )
    if behind < 0.005 * t.time_s:
        return words
    return f"{words}; the {seconds(behind)} that it works meanwhile are hidden behind that"


def stepped(a: Analysis) -> bool:
    """Whether most of the overhead is that of recurrent layers, which start kernels or call a library at each step."""
    return most(a, "overhead") == "rnn"


def inner(a: Analysis) -> str:
    """After a number of kernels: what else is started or called."""
    return " and those of each step of a recurrent layer" if stepped(a) else ""


def _part(some: float, whole: float) -> str:
    """ "2.5 of 2.78 ms"."""
    (number, unit), (other, same) = seconds(some).split(" "), seconds(whole).split(" ")
    return f"{number} of {other} {unit}" if unit == same else f"{number} {unit} of {other} {same}"


def _of(some: int, whole: int) -> str:
    return f"the {whole:,} kernels" if some == whole else f"the first {some:,} of {whole:,} kernels"


def _dispatch(a: Analysis) -> str:
    """A CPU's overhead: the same cores dispatch and compute, so nothing waits."""
    found = components(a)
    host, launch, pages = (found.get(name, 0.0) for name in ("host", "launch", "pages"))
    what = "operator" if a.setting.runtime == "eager" else "kernel"
    called = f"{a.totals.kernels:,} {what}{'s' * (a.totals.kernels > 1)}{inner(a)}"
    return _costs(
        [
            (host, f"dispatching {called} in Python and PyTorch"),
            (launch, "starting threads"),
            (pages, "getting fresh memory from the system page by page"),
        ]
    )


def _costs(parts: Sequence[tuple[float, str]]) -> str:
    """ "dispatching ... takes 3.4 ms and starting threads 2.4 ms": the larger ones, largest first."""
    whole = sum(v for v, _ in parts)
    kept = [(v, words) for v, words in sorted(parts, key=lambda p: -p[0]) if v and v >= NOTABLE * whole]
    return listed([f"{words}{'' if i else ' takes'} {seconds(v)}" for i, (v, words) in enumerate(kept)])


_WHY = {"compute": _compute, "instructions": _instructions, "memory": _memory, "overhead": _overhead}


# ------------------------------------------------------------------------------------------------ where it goes


def reached(a: Analysis, rows: Iterable[KernelRow], time: float) -> str:
    """ ", at 64 % of the fp32 peak": of the roof that holds most of the kernels' time."""
    rows = list(rows)
    split: dict[str, float] = defaultdict(float)
    for k in rows:
        for name, part in k.time_by_component.items():
            split[name] += part
    if not split:
        return ""
    bounds = by_bound(split)
    bound = max(bounds, key=lambda b: bounds[b])
    name = max((n for n in split if bound_of_component(n) == bound), key=lambda n: split[n])
    mostly = bounds[bound] >= 0.5 * time
    if bound == "compute" and mostly and rows[0].klass in MATRIX:
        return f", at {of_peak(a, rows, time)}"
    if bound == "memory" and mostly:
        level = name.partition(":")[2]
        bandwidth = next((lv.bandwidth for lv in a.device.levels if lv.name == level), a.device.bandwidth)
        # what a nearer level serves counts as traffic too, and library calls move more than their operands
        moved = sum(k.bytes for k in rows) / time
        if 0.5 * bandwidth <= moved <= bandwidth:
            return f", at {percent(moved, bandwidth)} of the {level} bandwidth"
    if bound == "overhead" and split[name] >= 0.8 * bounds[bound]:
        return f", {percent(split[name], time)} of it {_OVERHEADS.get(name, bound)}"
    word = {"instructions": "their instructions", "memory": _memory_name(split)}.get(bound, bound)
    return f", {percent(bounds[bound], time)} of it {word}"


_OVERHEADS = {"host": "dispatch", "launch": "starting", "pages": "page faults", "drain": "filling and emptying the GPU"}


def of_peak(a: Analysis, rows: Iterable[KernelRow], time: float, its: str = "the") -> str:
    """ "64 % of the fp32 peak": of what is executed, which may be less than the FLOPs that count."""
    counted = executed = 0.0
    rows = list(rows)
    for k in rows:
        counted += k.flops
        executed += k.flops * k.executed
    words = f"{percent(executed, time * a.device.peak_flops)} of {its} {peak_name(a)}"
    if executed > 0.95 * counted:
        return words
    some = percent(executed, counted)
    if all(k.klass in CONVS for k in rows if k.executed < 1):
        return f"{words} (Winograd's algorithm executes {some} of its FLOPs)"
    return f"{words} ({some} of the FLOPs are executed: what a mask hides is left out)"


def peak_name(a: Analysis) -> str:
    """ "fp32 peak": of the type that the products run in. Autocast itself has no peak."""
    return f"{a.device.peak_dtype or a.setting.dtype} peak"
