"""A made-up comparison of models on two devices, for tests of the views."""

from __future__ import annotations

from roofline.records import Interval, ToolInfo
from roofline.records.comparison import Compared, Comparison, Failed

TOOL = ToolInfo("0", "2")
# model, device, time, accuracy, whether it is on the front; on b the last does not fit
ROWS = [
    ("small", "a", 1e-3, 60.0, True),
    ("middle", "a", 2e-3, 70.0, True),
    ("slow", "a", 9e-3, 65.0, False),
    ("large", "a", 5e-3, 80.0, True),
    ("small", "b", 1e-2, 60.0, True),
    ("large", "b", 8e-2, 80.0, None),
]


def row(model: str, device: str, time: float, accuracy: float, front: bool | None) -> Compared:
    return Compared(
        run=f"{model} on {device}",
        model=model,
        device=device,
        batch=1,
        params=2,
        macs=3,
        flops=7,
        bytes=4,
        intensity=7 / 4,
        time_s=time,
        throughput=1 / time,
        peak_memory_bytes=5,
        bound="memory",
        own={"accuracy": accuracy},
        front=front,
        by={"time": time, "accuracy": accuracy},
        fits=front is not None,
        interval=Interval(low_s=time / 2, high_s=time * 4, own=0.1, common=(0.1, 0.0, 0.0)),
    )


def compared(rows: list[Compared] | None = None, names: tuple[str, ...] = ("time", "accuracy")) -> Comparison:
    least = tuple(name == "time" for name in names)
    rows = [row(*one) for one in ROWS] if rows is None else rows
    failed = [Failed("<b>lost", "a", None, 3, "it says <no>")]
    return Comparison(runs={}, rows=rows, failed=failed, sentences=[], pareto=names, least=least, tool=TOOL)
