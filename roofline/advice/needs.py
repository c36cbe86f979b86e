"""What a model needs, how long that takes on each device, and on which number of the device most of that hangs."""

from __future__ import annotations

from collections.abc import Sequence

from roofline.advice import doubt
from roofline.advice.terms import Book, at_least, pace_of, say
from roofline.analysis.explain import between
from roofline.records import Analysis
from roofline.records.explanation import Sentence


def _title(a: Analysis) -> str:
    """The device, as its maker calls it and as it is asked for; later sentences have the short name alone."""
    title, name = a.device.title, a.device.name
    return f"{title} ({name})" if title and title != name else name


def _called(a: Analysis) -> str:
    """What was asked, in words: "one pass over 1 sample", "a token after 128 others"."""
    if a.language:
        n = f" for each of {a.language.sequences:,} sequences" if a.language.sequences > 1 else ""
        if a.language.mode == "decode":
            return f"one token{n} after {a.language.context - 1:,} others"
        return f"reading {a.language.context:,} tokens{n}"
    step = "a training step" if a.setting.mode == "training" else "one pass"
    return f"{step} over {'1 sample' if a.setting.batch == 1 else f'{a.setting.batch:,} samples'}"


def _again(a: Analysis) -> str:
    """The same in short, where it has been said: "one pass", "one token"."""
    if a.language:
        each = " of each" if a.language.sequences > 1 else ""
        return f"one token{each}" if a.language.mode == "decode" else f"reading the prompt{each}"
    return "a training step" if a.setting.mode == "training" else "one pass"


def takes(book: Book, names: Sequence[str]) -> list[Sentence]:
    """What the model needs, how long that takes on each device, and what the answer hangs on."""
    run = names[0]
    a = book.runs[run]
    if not a.kernels:
        return say(
            "{model} launches no kernel in this setting, so there is nothing to predict.",
            model=a.model.name,
        )
    found = say(
        f"{{model}} needs {_flops(a)}, holds "
        f"{'{params}' if a.model.params else 'no'} parameters, "
        "and its kernels move {bytes}: {intensity}.",
        model=a.model.name,
        called=_called(a),
        flops=book.of(run, "FLOP", "totals.flops"),
        macs=book.of(run, "count", "totals.macs"),
        params=book.of(run, "count", "model.params"),
        bytes=book.of(run, "B", "totals.bytes"),
        intensity=book.of(run, "FLOP/B", "totals.flops", "totals.bytes"),
    )
    for name in names:
        found += _takes_on(book, name)
    for name in names[1:]:
        found += _beside(book, names[0], name)
    for name in names:
        found += _hangs_on(book, name)
    return found


def _flops(a: Analysis) -> str:
    least = "at least " if a.coverage.unknown_ops else ""
    if not a.totals.flops and not least:
        return "no arithmetic for {called}"
    macs = "{macs} multiply-accumulates, 2 FLOPs each" if a.totals.macs else "none of them a multiply-accumulate"
    return f"{least}{{flops}} for {{called}} ({macs})"


def _takes_on(book: Book, run: str) -> list[Sentence]:
    a = book.runs[run]
    pace = pace_of(a)
    sure = a.totals.interval
    about = "" if a.setting.tier in ("calibrated", "measured") else " about"
    cases = f" (in 8 of 10 cases {between(sure)})" if sure else ""
    text = f"On {{device}} {_again(a)} should take{about} {{time}}{cases}, {{rate}}"
    if a.totals.fits is False:
        text = f"On {{device}} it does not fit: it needs {{need}}, and there is {{memory}}{_instead(a)}. "
        text += f"If it did, it would take{about} {{time}}, {{rate}}"
    return say(
        text + ".",
        device=_title(a),
        time=book.of(run, "s", "totals.time_s"),
        rate=book.of(run, pace.unit, pace.rate),
        need=book.of(run, "MiB", "totals.peak_memory_bytes"),
        memory=book.of(run, "MiB", "device.memory"),
        largest=book.of(run, "count", "totals.largest_batch"),
        held=book.of(run, "MiB", "totals.peak_memory.parameters"),
    )


def _instead(a: Analysis) -> str:
    """What would fit."""
    t = a.totals
    if t.largest_batch:
        return "; the largest batch that fits is {largest}"
    if t.peak_memory.get("parameters", 0) > a.device.memory:
        return "; its parameters alone take {held}"
    return "; not one sample fits" if t.largest_batch == 0 and a.setting.batch > 1 else ""


def _beside(book: Book, one: str, other: str) -> list[Sentence]:
    """How much faster the one is than the other, beside the ratio of what they could do at most."""
    a, b = book.runs[one], book.runs[other]
    fast, slow = (one, other) if a.totals.time_s <= b.totals.time_s else (other, one)
    times = book.ratio("times", slow, fast, "totals.time_s")
    same = a.device.fingerprint == b.device.fingerprint and a.device.name == b.device.name
    sure = doubt.times_between(times.value, a.totals.interval, b.totals.interval, same_device=same)
    return say(
        doubt.beside("fast", "slow", sure) + "; the peak of {fast} is {peaks} that of {slow}, its memory bandwidth {memories}.",
        fast=fast,
        slow=slow,
        times=times,
        peaks=book.ratio("times", fast, slow, "device.peak_flops"),
        memories=book.ratio("times", fast, slow, "device.bandwidth"),
    )


def _hangs_on(book: Book, run: str) -> list[Sentence]:
    """The number of the device on which most of the time rests, and how it is known."""
    a = book.runs[run]
    parts = a.totals.time_by_component
    if not parts:
        return []
    largest = max(parts, key=lambda name: parts[name])
    share = book.of(run, "share", f"totals.time_by_component.{largest}", "totals.time_s")
    if largest == "host" and a.setting.host_s and a.setting.runtime == "eager":
        status = {"memory": "from memory", "given": "as given"}.get(a.setting.host_status, a.setting.host_status)
        what, other = (
            ("the host needs to issue an operator", "--host")
            if a.device.kind == "gpu"
            else ("Python and PyTorch need to dispatch an operator", "a device file of your own (roofline calibrate)")
        )
        return say(
            "On {device} most hangs on one number, the {host} that {what} ({status}): {share} of the time rests on it; {other} "
            "sets another.",
            what=what,
            other=other,
            when=(at_least(share, 0.5),),
            device=run,
            host=book.of(run, "s", "setting.host_s"),
            status=status,
            share=share,
        )
    if largest == "compute":
        return say(
            "On {device} most hangs on its {dtype} peak of {peak} ({tier}): {share} of the time rests on it.",
            when=(at_least(share, 0.5),),
            device=a.device.name,
            dtype=a.device.peak_dtype or a.setting.dtype,
            peak=book.of(run, "FLOP/s", "device.peak_flops"),
            tier=a.setting.tier,
            share=share,
        )
    if largest.startswith("memory:"):
        level = largest.partition(":")[2]
        return say(
            "On {device} most hangs on the bandwidth of its {level}, {bandwidth} ({tier}): {share} of the time rests on it.",
            when=(at_least(share, 0.5),),
            device=a.device.name,
            level=level,
            tier=a.setting.tier,
            share=share,
            bandwidth=book.of(run, "B/s", f"levels.{level}.bandwidth"),
        )
    return []
