"""The sentences of an explanation. Each carries its numbers, and is there only where its conditions hold."""

from __future__ import annotations

from collections.abc import Sequence

from roofline.advice.terms import Book, at_least, below, say
from roofline.analysis.reasons import inner, inside, listed, most, stepped
from roofline.classes import CONVS, MATRIX
from roofline.records.explanation import Evidence, Number, Sentence, Term

# A share of the time that is worth a sentence.
NAMED = 0.20
# A device whose peak is used to this share computes; with less, something else sets the time.
USED = 0.15
# A class of kernel with this share of the time of one of two devices is among those that are set side by side.
PART = 0.05
# Of the time, what is most of it.
MOSTLY = 0.50
# An intensity is on one side of the ridge where they differ by this factor.
CLEAR = 1.25


def _led(book: Book, run: str, bound: str) -> tuple[Number, str] | None:
    """The share of a bound, and the class of kernel with most of it; None where it is not worth a sentence."""
    share = share_of(book, run, f"totals.time_by_bound.{bound}")
    return (share, most(book.runs[run], bound)) if share.value >= NAMED else None


# ------------------------------------------------------------------------------------------------ why


def why(book: Book, names: Sequence[str]) -> list[Sentence]:
    """What set the time on each device, and what makes the difference between them."""
    found: list[Sentence] = []
    names = [name for name in names if book.runs[name].totals.time_s > 0]
    founding = len({book.runs[name].device.kind for name in names}) > 1
    for name in names:
        # the floor that issuing sets stands before the causes, the largest of which comes first
        found += [*_ceiling(book, name), *_waiting(book, name)[:-1], *led(book, name), *_caches(book, name)]
        found += (founding and _folk(book, name)) or _plain(book, name)
    for name in names[1:]:
        found += [*_difference(book, names[0], name), *_founding(book, names[0], name)]
    # what is said of a GPU beside one CPU is said of it beside another
    return list({s.text: s for s in found}.values())


def _ceiling(book: Book, run: str) -> list[Sentence]:
    """How far from the peak it ends."""
    a = book.runs[run]
    return say(
        "At the {dtype} peak of {device} ({peak}) the arithmetic alone would take {alone}; the whole takes {times} that.",
        when=(at_least(times := book.of(run, "times", "device.peak_flops", "totals.achieved_flops"), 1.0),),
        dtype=a.device.peak_dtype or a.setting.dtype,
        device=a.device.name,
        peak=book.of(run, "FLOP/s", "device.peak_flops"),
        alone=book.of(run, "s", "totals.flops", "device.peak_flops"),
        times=times,
    )


def led(book: Book, run: str) -> list[Sentence]:
    """What set the time on a device: of each cause with a fifth of it, how that comes about, the largest first."""
    found = [*_waiting(book, run)[-1:], *_dispatching(book, run), *_memory(book, run), *_compute(book, run)]
    return sorted([*found, *_instructions(book, run)], key=lambda s: -s.numbers["share"].value)


def _caches(book: Book, run: str) -> list[Sentence]:
    """What share of the traffic nearer levels serve."""
    a = book.runs[run]
    found: list[Sentence] = []
    for level in a.device.levels[:-1]:
        share = book.of(run, "share", "kernels.bytes", "totals.bytes", {"level": level.name})
        found += say(
            "On {device} kernels with {share} of the traffic read and write through the {level} ({size}), which holds what "
            f"they pass on{'; the others go to {dram}' if share.value < 0.9995 else ''}.",
            when=(at_least(share, NAMED),),
            device=a.device.name,
            share=share,
            level=level.name,
            size=book.of(run, "MiB", f"levels.{level.name}.size"),
            dram=a.device.levels[-1].name,
        )
    return found


def share_of(book: Book, run: str, what: str) -> Number:
    return book.of(run, "share", what, "totals.time_s")


def _host(book: Book, run: str) -> Number:
    """The share of the time for which the host sets the pace."""
    return share_of(book, run, "totals.time_by_component.host")


def _waiting(book: Book, run: str) -> list[Sentence]:
    a = book.runs[run]
    share = _host(book, run)
    if a.device.kind != "gpu":
        return []
    return _floor(book, run, share) + say(
        "On {device} the host sets the pace for {share} of the time: Python and PyTorch issue "
        f"{'{kernels} kernels one by one, ' if a.totals.kernels > 1 else '{kernels} kernel, '}"
        "and the GPU stands idle for {idle} of {time}. In those {share} faster arithmetic or memory would save nothing.",
        when=(at_least(share, NAMED),),
        evidence=(Evidence(run),),
        device=a.device.name,
        share=share,
        kernels=book.of(run, "count", "kernels"),
        idle=book.of(run, "s", "totals.waiting_s"),
        time=book.of(run, "s", "totals.time_s"),
    )


def _floor(book: Book, run: str, share: Number) -> list[Sentence]:
    """What issuing alone takes: not every operator costs the host the same."""
    a = book.runs[run]
    host = a.setting.host_s
    issued = [k.issue_s for k in a.kernels]
    if a.setting.runtime != "eager" or not host or not sum(issued):
        return []
    text = "issuing {kernels} of them at {host} each takes {floor} on {device}"
    others = [(min(issued) < 0.99 * host, "less for a cast"), (max(issued) > 1.01 * host, "more for one of a backward pass")]
    if named := [words for there, words in others if there]:
        text = f"issuing {{kernels}} of them takes {{floor}} on {{device}} ({{host}} for an operator, {listed(named)})"
    if len(issued) == 1:
        text = "issuing it takes {floor} on {device}"
    return say(
        f"However short its kernel{'s' * (len(issued) > 1)}, {text}: no pass is faster.",
        when=(at_least(share, NAMED),),
        device=a.device.name,
        kernels=book.of(run, "count", "kernels"),
        host=book.of(run, "s", "setting.host_s"),
        floor=book.of(run, "s", "kernels.issue_s"),
    )


def _dispatching(book: Book, run: str) -> list[Sentence]:
    """A CPU dispatches and computes on the same cores; a GPU that does not wait starts and drains."""
    a = book.runs[run]
    if a.device.kind == "gpu":
        share = share_of(book, run, "totals.time_by_bound.overhead")
        host = _host(book, run)
        what = f"{{kernels}} {'kernels, most of them' if a.totals.kernels > 1 else 'kernel,'} too short to fill the GPU"
        if stepped(a):
            what = "kernels that are too short to fill the GPU, several for each step of a recurrent layer"
        return say(
            f"On {{device}} {{share}} of the time goes into starting {what}, and into filling and emptying it.",
            when=(at_least(share, NAMED), below(host, NAMED)),
            evidence=(Evidence(run),),
            device=a.device.name,
            share=share,
            kernels=book.of(run, "count", "kernels"),
        )
    share = share_of(book, run, "totals.time_by_bound.overhead")
    what = "operators" if a.setting.runtime == "eager" else "kernels"
    parts = {
        f"dispatching {a.totals.kernels:,} {what if a.totals.kernels > 1 else what[:-1]}{inner(a)}": "host",
        "starting threads": "launch",
        "getting fresh memory from the system page by page": "pages",
    }
    times = {text: book.of(run, "s", f"totals.time_by_component.{name}") for text, name in parts.items()}
    kept = sorted((t for t in times if times[t].value >= 0.1 * share.value * a.totals.time_s), key=lambda t: -times[t].value)
    words = [f"{text}{'' if i else ' takes'} {{part{i}}}" for i, text in enumerate(kept)]
    return say(
        "On {device} {share} of the time is overhead that faster arithmetic would not save: " + listed(words) + ".",
        when=(at_least(share, NAMED),),
        evidence=(Evidence(run),),
        device=a.device.name,
        share=share,
        **{f"part{i}": times[text] for i, text in enumerate(kept)},
    )


def _memory(book: Book, run: str) -> list[Sentence]:
    a = book.runs[run]
    if (led := _led(book, run, "memory")) is None:
        return []
    share, klass = led
    levels = {n.partition(":")[2]: v for n, v in a.totals.time_by_component.items() if n.startswith("memory:")}
    level = max(levels, key=lambda name: levels[name])
    mostly = "mostly " if levels[level] < 0.995 * sum(levels.values()) else ""
    where = {"class": klass}
    flops, nbytes = (sum(getattr(k, what) for k in a.kernels if k.klass == klass) for what in ("flops", "bytes"))
    text = f"On {{device}} moving bytes ({mostly}{{level}}) takes {{share}} of the time, most of it in {{klass}}"
    if nbytes and flops / nbytes < a.device.ridge:
        text += ": they do {intensity}"
        # the ridge is that of the units for products, where the device has such
        text += ", and only from {ridge} on arithmetic would be the limit" if klass in MATRIX else ""
    return say(
        text + ".",
        when=(at_least(share, NAMED),),
        evidence=(Evidence(run, where),),
        device=run,
        share=share,
        level=level,
        klass=inside(klass),
        intensity=_intensity(book, run, where),
        ridge=book.of(run, "FLOP/B", "device.ridge"),
    )


def _intensity(book: Book, run: str, where: dict[str, str]) -> Number:
    return book.number("FLOP/B", Term(run, "kernels.flops", where), Term(run, "kernels.bytes", where))


def _compute(book: Book, run: str) -> list[Sentence]:
    if (led := _led(book, run, "compute")) is None:
        return []
    share, klass = led
    where = {"class": klass}
    rate = book.number("FLOP/s", Term(run, "kernels.flops", where), Term(run, "kernels.time_s", where))
    rows = [k for k in book.runs[run].kernels if k.klass == klass]
    fewer = "Winograd's algorithm executes fewer" if klass in CONVS else "what a mask hides is left out"
    # what is counted may be done at more than the peak
    counted = sum(k.flops * k.executed for k in rows) < 0.95 * sum(k.flops for k in rows)
    return say(
        "On {device} arithmetic takes {share} of the time, most of it in {klass}, which run at {rate} of {peak}"
        f"{f' (of the FLOPs that count; {fewer})' if counted else ''}.",
        when=(at_least(share, NAMED),),
        evidence=(Evidence(run, where),),
        device=run,
        share=share,
        klass=inside(klass),
        rate=rate,
        peak=book.of(run, "FLOP/s", "device.peak_flops"),
    )


def _instructions(book: Book, run: str) -> list[Sentence]:
    a = book.runs[run]
    if (led := _led(book, run, "instructions")) is None:
        return []
    share, klass = led
    return say(
        "On {device} {share} of the time goes into instructions beside the FLOPs that count (loads, compares, index "
        "arithmetic), most of them in {klass}.",
        when=(at_least(share, NAMED),),
        evidence=(Evidence(run, {"class": klass}),),
        device=a.device.name,
        share=share,
        klass=inside(klass),
    )


# what each bound is called
BOUND = {
    "compute": "arithmetic",
    "memory": "moving bytes",
    "instructions": "instructions that are no FLOPs",
    "overhead": "overhead",
}
# those of which several take
TAKES = {"instructions": "take"}


def _plain(book: Book, run: str) -> list[Sentence]:
    """Where the roofline of the whole model names another cause than its kernels do."""
    a = book.runs[run]
    intensity, ridge = book.of(run, "FLOP/B", "totals.flops", "totals.bytes"), book.of(run, "FLOP/B", "device.ridge")
    says = "memory" if intensity.value < ridge.value else "compute"
    largest = a.totals.bound
    bounds = a.totals.time_by_bound
    # near the ridge a roofline says neither, and of two that take about the same neither is to blame alone
    if 1 / CLEAR < intensity.value / ridge.value < CLEAR or bounds.get(says, 0.0) * CLEAR > bounds[largest]:
        return []
    side = "below" if says == "memory" else "above"
    word = {"memory": "memory", "compute": "the arithmetic"}[says]
    return say(
        "A roofline of the whole model would blame {word} on {device} ({intensity}, {side} the ridge of {ridge}, from where on "
        f"arithmetic is the limit); kernel by kernel, {{bound}} {TAKES.get(largest, 'takes')} the largest part, {{share}}.",
        word=word,
        device=a.device.name,
        intensity=intensity,
        side=side,
        ridge=ridge,
        bound=BOUND[largest],
        share=share_of(book, run, f"totals.time_by_bound.{largest}"),
    )


def _difference(book: Book, one: str, other: str) -> list[Sentence]:
    """The classes of kernel that gain most and least from the faster device."""
    a, b = book.runs[one], book.runs[other]
    fast, slow = (one, other) if a.totals.time_s <= b.totals.time_s else (other, one)
    times: dict[str, list[float]] = {}
    for i, run in enumerate((fast, slow)):
        for k in book.runs[run].kernels:
            times.setdefault(k.klass, [0.0, 0.0])[i] += k.time_s
    wholes = [book.runs[run].totals.time_s for run in (fast, slow)]
    gains = {
        klass: t[1] / t[0]
        for klass, t in times.items()
        if all(t) and any(part >= PART * whole for part, whole in zip(t, wholes, strict=True))
    }
    # where the host sets the pace of both, a kind of kernel takes what issuing it does
    paced = [r for r in (one, other) if book.runs[r].device.kind == "gpu" and _host(book, r).value >= MOSTLY]
    if len(gains) < 2 or len(paced) == 2:
        return []
    most, least = max(gains, key=lambda c: gains[c]), min(gains, key=lambda c: gains[c])
    if gains[most] < 1.5 * gains[least]:
        return []
    little = "least" if gains[least] >= 1 else "lose"
    return say(
        f"From {{slow}} to {{fast}} {{most}} gain most ({{up}} as fast) and {{least}} {little} ({{down}} as fast), "
        "of what takes 5 % of the time on either.",
        slow=book.runs[slow].device.name,
        fast=book.runs[fast].device.name,
        most=inside(most),
        least=inside(least),
        up=book.ratio("times", slow, fast, "kernels.time_s", {"class": most}),
        down=book.ratio("times", slow, fast, "kernels.time_s", {"class": least}),
        evidence=(Evidence(fast, {"class": least}), Evidence(slow, {"class": most})),
    )


def _founding(book: Book, one: str, other: str) -> list[Sentence]:
    """A GPU beside a CPU: what few FLOPs bring on either."""
    kinds = {book.runs[run].device.kind: run for run in (one, other)}
    if len(kinds) < 2 or not book.runs[one].totals.flops:
        return []
    gpu, cpu = kinds["gpu"], kinds["cpu"]
    reached = [book.of(run, "share", "totals.achieved_flops", "device.peak_flops") for run in (gpu, cpu)]
    little = below(reached[0], 0.5 * reached[1].value)
    spent = [share_of(book, run, "totals.time_by_bound.compute") for run in (gpu, cpu)]
    arithmetic = spent[1]
    pays = "the CPU spends its time on arithmetic, so fewer FLOPs pay there"
    if arithmetic.value < MOSTLY:
        pays = "of the CPU's time arithmetic takes {arithmetic}, so fewer FLOPs pay more there"
    found = say(
        f"The same FLOPs reach {{low}} of the peak of {{gpu}} and {{high}} of that of {{cpu}}: {pays}, and most of the GPU is "
        "unused.",
        when=(little, at_least(reached[1], USED), below(spent[0], min(MOSTLY, arithmetic.value))),
        low=reached[0],
        high=reached[1],
        gpu=gpu,
        cpu=cpu,
        arithmetic=arithmetic,
    )
    # below its peak, as where power or thin products hold it down, arithmetic may take a GPU's time all the same
    found += say(
        "The same FLOPs reach {low} of the peak of {gpu} and {high} of that of {cpu}, yet arithmetic takes {one} of the GPU's "
        "time and {other} of the CPU's, so fewer FLOPs pay on both.",
        when=(little, at_least(spent[0], MOSTLY), at_least(spent[1], MOSTLY)),
        low=reached[0],
        high=reached[1],
        gpu=gpu,
        cpu=cpu,
        one=spent[0],
        other=spent[1],
    )
    return found + say(
        "The same FLOPs reach {low} of the peak of {gpu} and {high} of that of {cpu}: it waits for arithmetic on neither, so "
        "fewer FLOPs alone would make it little faster.",
        when=(below(reached[0], USED), below(reached[1], USED), below(spent[0], NAMED), below(spent[1], NAMED)),
        low=reached[0],
        high=reached[1],
        gpu=gpu,
        cpu=cpu,
    )


def _folk(book: Book, run: str) -> list[Sentence]:
    """Whether a GPU is memory-bound, as people have it of models that do few FLOPs for each byte."""
    a = book.runs[run]
    intensity, ridge = book.of(run, "FLOP/B", "totals.flops", "totals.bytes"), book.of(run, "FLOP/B", "device.ridge")
    memory = share_of(book, run, "totals.time_by_bound.memory")
    if a.device.kind != "gpu" or intensity.value * CLEAR >= ridge.value:
        return []
    holds = "holds here: bytes take {memory} of the time."
    if a.totals.bound != "memory":
        part = "holds in part" if memory.value >= NAMED else "does not hold here"
        holds = part + ": bytes take {memory} of the time, {bound} {most}."
    return say(
        "The folk answer, that it is memory-bound on {gpu} since it does little arithmetic for each byte ({intensity}, below "
        "the ridge of {ridge}, from where on arithmetic is the limit), " + holds,
        gpu=run,
        intensity=intensity,
        ridge=ridge,
        memory=memory,
        bound=BOUND[a.totals.bound],
        most=share_of(book, run, f"totals.time_by_bound.{a.totals.bound}"),
    )
