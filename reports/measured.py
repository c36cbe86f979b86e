"""The claims that a clock can settle, measured on this machine by what `roofline measure` measures.

    python reports/measured.py                     every pair, a few minutes; prints what came out, and writes nothing
    ... --claims 8 --claims 12                     only these
    ... --threads 1 --seconds 4 --rounds 5         how it runs: threads (all cores), seconds a run, rounds
    ... --write                                    keeps them in measured.json, which claims.md shows (python reports/make.py)

Machines differ and are busy, so what is said of a pair is a ratio: both models run in turn, round after round, and the ratio of
each round counts, of which the median and the ends are kept. Models have random weights; eager PyTorch, fp32, batch 1.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path(__file__).resolve().parent / "measured.json"


class Pair(NamedTuple):
    """Two requests of one claim, and what the ratio of their times is called: `{ratio}` is replaced."""

    claim: int
    said: str
    slow: dict[str, Any]
    fast: dict[str, Any]


def _of(model: str, **options: Any) -> dict[str, Any]:
    return {"model": model, **options}


_WIDE = {"cin": 256, "cout": 256, "kernel": 3, "padding": 1}
_VIEW = {"inputs": ["1,3,512,512"]}
_SEGMENT = "torchvision:lraspp_mobilenet_v3_large"
PAIRS = (
    Pair(
        1, "the standard 3x3 convolution of 256 channels takes {ratio} times as long as the separable one",
        _of("models/separable.py:standard_conv", settings=_WIDE, inputs=["1,256,14,14"]),
        _of("models/separable.py:separable_conv", settings=_WIDE, inputs=["1,256,14,14"]),
    ),
    Pair(4, "ResNet-50 takes {ratio} times as long as MobileNetV1", _of("resnet50"), _of("mobilenet_v1")),
    Pair(4, "VGG-16 takes {ratio} times as long as MobileNetV1", _of("vgg16"), _of("mobilenet_v1")),
    Pair(
        7, "with DLA-34 CenterNet takes {ratio} times as long as with MobileNetV1",
        _of("models/centernet.py:centernet_dla34", **_VIEW), _of("models/centernet.py:centernet_mobilenet_v1", **_VIEW),
    ),
    Pair(
        7, "with MobileNetV2 {ratio} times",
        _of("models/centernet.py:centernet_mobilenet_v2", **_VIEW), _of("models/centernet.py:centernet_mobilenet_v1", **_VIEW),
    ),
    Pair(8, "ResNet-50 takes {ratio} times as long as MobileNetV3-Large", _of("resnet50"), _of("mobilenet_v3_large")),
    Pair(
        9, "MobileNetV3-Large takes {ratio} times as long as with `reduced_tail`",
        _of("mobilenet_v3_large"), _of("mobilenet_v3_large", settings={"reduced_tail": True}),
    ),
    Pair(
        10, "in fp32 MobileNetV3-Large takes {ratio} times as long as in int8, with PyTorch's own kernels for x86",
        _of("torchvision:mobilenet_v3_large"), _of("torchvision:quantized_mobilenet_v3_large", settings={"quantize": True}),
    ),
    Pair(
        11, "Faster R-CNN with ResNet-50 takes {ratio} times as long as with MobileNetV3-Large",
        _of("torchvision:fasterrcnn_resnet50_fpn"), _of("torchvision:fasterrcnn_mobilenet_v3_large_fpn"),
    ),
    Pair(
        11, "FCN ResNet-50 takes {ratio} times as long as DeepLabV3 with MobileNetV3-Large",
        _of("torchvision:fcn_resnet50"), _of("torchvision:deeplabv3_mobilenet_v3_large"),
    ),
    Pair(11, "LR-ASPP at its usual size takes {ratio} times as long as at 320 px", _of(_SEGMENT), _of(_SEGMENT, resolution=320)),
    Pair(
        12, "a convolution takes {ratio} times as long as the Ghost module in its place",
        _of("models/ghostnet.py:plain_module", inputs=["1,256,56,56"]), _of("models/ghostnet.py:ghost_module", inputs=["1,256,56,56"]),
    ),
    Pair(12, "GhostNet takes {ratio} times as long as MobileNetV3-Large", _of("ghostnet"), _of("mobilenet_v3_large")),
    Pair(13, "ResNet-50 with squeeze-and-excitation takes {ratio} times as long as without", _of("se_resnet50"), _of("resnet50_v1")),
)  # fmt: skip
# Rounds further apart than this say little.
ROUGH = 1.5
# Why the others cannot be settled by a clock here.
NOT_HERE = {
    2: "no time in it: layers, multiply-adds and parameters are counted.",
    3: "it is a claim about GPUs, and was measured on one (above).",
    5: "a definition, and no clock shows bytes.",
    6: "no time in it: a shape.",
}


class Measured(Struct, frozen=True, kw_only=True):
    """The ratio of a pair: its median and ends over the rounds, and what is predicted for this machine."""

    claim: int
    said: str
    ratio: float
    low: float
    high: float
    predicted: float
    # of all runs, those in which no thread waited for a core
    runs: int
    undisturbed: int


class Session(Struct, frozen=True, kw_only=True):
    """What was measured, where and how."""

    machine: str
    threads: int
    torch: str
    date: str
    rounds: int
    seconds: float
    rows: list[Measured]


def kept() -> Session | None:
    """What claims.md shows."""
    return msgspec.json.decode(KEPT.read_bytes(), type=Session) if KEPT.is_file() else None


def where(session: Session) -> str:
    """The machine and how it ran, in words."""
    threads = "1 thread" if session.threads == 1 else f"{session.threads} threads"
    clean, runs = sum(row.undisturbed for row in session.rows), sum(row.runs for row in session.rows)
    alone = f"nothing else ran beside {clean:,} of its {runs:,} runs"
    return f"{session.machine}, {threads}, torch {session.torch}, {session.date}; {alone}"


def told(session: Session, claim: int) -> str:
    """The line of a claim: what was measured, or why nothing was."""
    rows = [row for row in session.rows if row.claim == claim]
    if not rows:
        return f"Nothing to measure: {NOT_HERE[claim]}" if claim in NOT_HERE else f"Not yet: `python reports/measured.py --claims {claim} --write`"
    parts = [
        f"{row.said.format(ratio=_digits(row.ratio))} ({_digits(row.low)} to {_digits(row.high)}; predicted {_digits(row.predicted)}"
        f"{'; the rounds differ too much to settle it' if row.high > ROUGH * row.low else ''})"
        for row in rows
    ]
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}. (`python reports/measured.py --claims {claim}`)"


def _digits(ratio: float) -> str:
    """How many times; near one, as two digits after the point."""
    return f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def session(pairs: list[Pair], threads: int, seconds: float, rounds: int) -> Session:
    """Measures pairs in turn. What it does stands on stderr."""
    import torch

    rows = []
    for pair in pairs:
        print(f"claim {pair.claim}: {pair.slow['model']} beside {pair.fast['model']}", file=sys.stderr, flush=True)
        both = [[_once(ask, threads, seconds) for ask in (pair.slow, pair.fast)] for _ in range(rounds)]
        ratios = [slow[0] / fast[0] for slow, fast in both]
        rows.append(
            Measured(
                claim=pair.claim,
                said=pair.said,
                ratio=round(median(ratios), 3),
                low=round(min(ratios), 3),
                high=round(max(ratios), 3),
                predicted=round(both[0][0][1] / both[0][1][1], 3),
                runs=sum(one[2] for each in both for one in each),
                undisturbed=sum(one[3] for each in both for one in each),
            )
        )
        print(
            "  " + rows[-1].said.format(ratio=_digits(rows[-1].ratio)),
            [round(r, 2) for r in ratios],
            file=sys.stderr,
            flush=True,
        )
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return Session(
        machine=_machine(), threads=threads, torch=torch.__version__.partition("+")[0], date=str(today), rounds=rounds,
        seconds=seconds, rows=rows,
    )  # fmt: skip


def _once(ask: dict[str, Any], threads: int, seconds: float) -> tuple[float, float, int, int]:
    """Seconds measured and predicted, runs, and those undisturbed."""
    from roofline.bench.measure import measure
    from roofline.request import made

    given = {**ask, "device": _device(threads)}
    model = given.pop("model")
    model = str(ROOT / model) if model.startswith("models/") else model
    found = measure(made(model, given, cache=False), threads=threads, seconds=seconds, force=True)
    assert found.measurement is not None
    return found.measurement.time_s, found.totals.time_s, found.measurement.runs, found.measurement.undisturbed


def _cores() -> int:
    from roofline.devices import library

    return int(library.lookup("cpu").units.value)


def _device(threads: int) -> str:
    return "cpu" if threads == _cores() else f"cpu@{threads}"


def _machine() -> str:
    """Its own name for its processor, and how many cores of it are here."""
    from roofline.devices import library

    device, system = library.lookup("cpu"), Path("/proc/cpuinfo")
    virtual = system.is_file() and " hypervisor" in system.read_text(encoding="utf-8")
    return f"{int(device.units.value)} cores of an {device.title}{' (a virtual machine)' if virtual else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description="The claims that a clock can settle, measured on this machine.")
    parser.add_argument("--claims", type=int, action="append", metavar="N", help="only this claim; may be given again")
    parser.add_argument("--threads", type=int, help="threads to run with (all cores)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each run, about (3)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair runs (3)")
    parser.add_argument(
        "--write", action="store_true", help="keep them in measured.json, in place of what it has of these claims"
    )
    asked = parser.parse_args()
    pairs = [pair for pair in PAIRS if not asked.claims or pair.claim in asked.claims]
    if not pairs:
        print(
            "nothing to measure in these claims: "
            + "; ".join(f"{n}, {NOT_HERE.get(n, 'there is none')}" for n in asked.claims),
            file=sys.stderr,
        )
        return 2
    found = session(pairs, asked.threads or _cores(), asked.seconds, asked.rounds)
    print(where(found))
    for claim in dict.fromkeys(pair.claim for pair in pairs):
        print(f"claim {claim}: {told(found, claim)}")
    if asked.write:
        before = kept()
        same = before is not None and msgspec.structs.replace(before, rows=[]) == msgspec.structs.replace(found, rows=[])
        old = [row for row in before.rows if row.claim not in {pair.claim for pair in pairs}] if before and same else []
        if before and not same and len(pairs) < len(PAIRS):
            print("measured.json is of another machine, day or setting: measure all claims to replace it", file=sys.stderr)
            return 2
        rows = sorted([*old, *found.rows], key=lambda row: row.claim)
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(found, rows=rows)), indent=1)
        KEPT.write_bytes(text + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
