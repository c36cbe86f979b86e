"""Regenerate the gallery: what the program says of the reference models, beside this file.

    python reports/make.py            write totals.json, README.md, mobilenet.md, claims.md and the charts
    python reports/make.py --check    write nothing; exit 1 where one of the texts would change
    ... --quick                       leaves out the claim about detectors, whose traces take half of the time

The charts are PNG (an SVG of two hundred marks with readable labels takes a megabyte) and not compared: their bytes
depend on the version of matplotlib.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import roofline
from roofline import units
from roofline.analysis import explain
from roofline.records import BOUNDS, Analysis
from roofline.views import batches, chart, sheet

import claims

HERE = Path(__file__).resolve().parent
MODELS = (
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "ghostnet", "efficientnet_b0", "resnet50", "vgg16",
    "vit_b_16",
)  # fmt: skip
# device, batch, dtype: one image at a time and a full batch on GPUs, one image on a desktop CPU, a server's, a board
SETTINGS = (
    ("rtx-4090", 1, "amp"),
    ("rtx-4090", 256, "amp"),
    ("h100-sxm", 256, "amp"),
    ("t4", 256, "amp"),
    ("i9-10940x", 1, "fp32"),
    ("epyc-9654", 1, "fp32"),
    ("raspberry-pi-5", 1, "fp32"),
    ("apple-m4-gpu", 256, "fp32"),
)
CHARTS = ("mobilenet_v3_large", "vgg16")
FIELDS = ("flops", "macs", "bytes", "weight_bytes", "kernels", "time_s", "throughput", "bound", "peak_memory_bytes")
HEAD = """\
# Gallery

Made by `python reports/make.py`; a test regenerates it and compares. Every time is a prediction from the device's data
sheet: nothing here was run on these devices. [docs/time-model.md](../docs/time-model.md) says how far to trust it.

[Why is MobileNet cheap in FLOPs, yet not fast on a GPU?](mobilenet.md) is the question that this project grew out of;
[claims.md](claims.md) settles thirteen sentences that articles repeat. [Pictures](../docs/pictures.md) says how to read the charts.
"""
# The founding question: device, batch, dtype, runtime
QUESTION = (
    ("rtx-4090", 1, "amp", "eager"),
    ("rtx-4090", 32, "amp", "eager"),
    ("rtx-4090", 1024, "amp", "eager"),
    ("i9-10940x", 1, "fp32", "compiled"),
)
ASKED = ("mobilenet_v3_large", "resnet50", "vgg16")
# timm's published tables (results/ of huggingface/pytorch-image-models): throughput of MobileNetV3-Large over ResNet-50
MEASURED = {("rtx-4090", 1024): 3.4, ("i9-10940x", 1): 2.6}
QUESTION_HEAD = """\
# Why is MobileNet cheap in FLOPs, yet not fast on a GPU?

Made by `python reports/make.py`; a test regenerates it and compares. Times are predictions from data sheets:
`roofline analyze MODEL -d DEVICE --batch N --dtype D --runtime R` gives each of them. Measured ratios are from timm's published
tables (RTX 4090 eager under autocast, batch 1024; i9-10940X compiled, batch 1).

![MobileNetV3-Large on the roofs of an RTX 4090 and of an i9-10940X](mobilenet.png)

![Throughput by batch](mobilenet-batch.png)
"""
ANSWER = """## The answer

FLOPs are not what a MobileNet spends its time on. With {fewer} times fewer MACs than ResNet-50 it still writes and reads wide
activations, so it moves only {less} times fewer bytes ({own} beside {other} at batch 1024). Its {intensity} FLOP/B lie far below
the RTX 4090's ridge of {ridge} FLOP/B, so bytes set the pace, and the predicted gain is {many} times (measured: {seen}) where FLOPs
promise {fewer}. Element-wise kernels and normalisations, {flops} % of its FLOPs, take {time} % of its time. Compiled, they are
fused: the models then move {fused} and {fused_other}, and the predicted gain is {compiled} times.

At batch 1 not even the bytes count. {kernels} kernels beside {kernels_other} have to be issued one by one, the device waits most of
the time, and the deeper MobileNet comes out at {one} times ResNet-50's throughput.

On the CPU arithmetic is dear (its ridge is {cpu_ridge} FLOP/B), so fewer MACs do help: the work alone takes {work} in place of
ResNet-50's {work_other}. What keeps the gain at {cpu} times (measured: {seen_cpu}) is again not arithmetic: {waits} % of MobileNet's
time is dispatch, and starting the cores together. So it reaches
{reached} % of the peak; the measured times give about 3 %. A runtime with cheaper dispatch would show more of its advantage."""


def analyses(model: str) -> list[Analysis]:
    return [roofline.analyze(model, device=device, batch=batch, dtype=dtype) for device, batch, dtype in SETTINGS]


def rounded(value: Any) -> Any:
    """Five digits: floating sums may differ in the last one between machines."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def totals(found: dict[str, list[Analysis]]) -> str:
    rows = [
        {
            "model": model,
            "device": a.setting.device,
            "batch": a.setting.batch,
            "dtype": a.setting.dtype,
            "params": a.model.params,
        }
        | {field: rounded(getattr(a.totals, field)) for field in FIELDS}
        | {"time_by_bound": {k: rounded(v) for k, v in a.totals.time_by_bound.items()}}
        for model, each in found.items()
        for a in each
    ]
    return json.dumps(rows, indent=1) + "\n"


def page(found: dict[str, list[Analysis]]) -> str:
    lines = [HEAD]
    for i, (_, batch, dtype) in enumerate(SETTINGS):
        lines += [
            f"## {found[MODELS[0]][i].device.title}, batch {batch}, {dtype}\n",
            "| model | parameters | MACs | traffic | FLOP/B | time | samples/s | compute | instructions | memory | overhead |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for model in MODELS:
            a = found[model][i]
            t = a.totals
            shares = " | ".join(f"{100 * t.time_by_bound[b] / t.time_s:.0f} %" for b in BOUNDS)
            lines.append(
                f"| {model} | {units.count(a.model.params)} | {units.count(t.macs)} | {units.si(t.bytes, 'B')} "
                f"| {t.intensity:.3g} | {units.seconds(t.time_s)} | {t.throughput:,.4g} | {shares} |"
            )
        lines += ["", *(f"- **{model}**: {explain.reason(found[model][i])}" for model in CHARTS), ""]
    lines += ["## Charts\n", *(f"![{model} on the roofline]({model}.png)\n" for model in CHARTS)]
    return "\n".join(lines).rstrip() + "\n"


def question() -> str:
    """The founding question, with what the program computes for it."""
    lines = [QUESTION_HEAD]
    every = []
    for device, batch, dtype, runtime in QUESTION:
        found = {m: roofline.analyze(m, device=device, batch=batch, dtype=dtype, runtime=runtime) for m in ASKED}
        every.append(found)
        mobile, resnet = found["mobilenet_v3_large"], found["resnet50"]
        lines += [
            f"## {mobile.device.title}, batch {batch}, {dtype}, {runtime}\n",
            "| model | MACs | FLOP/B | time | samples/s | of the peak | compute | instructions | memory | overhead | where the time goes |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        for model, a in found.items():
            t = a.totals
            shares = " | ".join(f"{100 * t.time_by_bound[b] / t.time_s:.0f} %" for b in BOUNDS)
            spent: dict[str, float] = {}
            for k in a.kernels:
                spent[k.klass] = spent.get(k.klass, 0.0) + k.time_s / t.time_s
            most = ", ".join(
                f"{klass.replace('_', ' ')} {100 * share:.0f} %"
                for klass, share in sorted(spent.items(), key=lambda i: -i[1])[:3]
            )
            lines.append(
                f"| {model} | {units.count(t.macs)} | {t.intensity:.3g} | {units.seconds(t.time_s)} | {t.throughput:,.4g} "
                f"| {100 * t.achieved_flops / a.device.peak_flops:.2g} % | {shares} | {most} |"
            )
        ratio = mobile.totals.throughput / resnet.totals.throughput
        fewer = resnet.totals.macs / mobile.totals.macs
        said = f", measured {MEASURED[device, batch]:g}" if (device, batch) in MEASURED else ""
        lines += [
            "",
            f"With {fewer:.3g} times fewer MACs, MobileNetV3-Large has {ratio:.2g} times ResNet-50's throughput{said}.",
            "",
        ]
    return "\n".join([*lines, answer(every)])


def answer(every: list[dict[str, Analysis]]) -> str:
    """What the tables say, in words with their numbers."""
    mobile, resnet = ([found[m].totals for found in every] for m in ("mobilenet_v3_large", "resnet50"))
    cpu, many = (every[i]["mobilenet_v3_large"] for i in (3, 2))
    fused = [roofline.analyze(m, device="rtx-4090", batch=1024, dtype="amp", runtime="compiled").totals for m in ASKED[:2]]
    gains = [f"{a.throughput / b.throughput:.2g}" for a, b in zip(mobile, resnet, strict=True)]
    work = [units.seconds(sum(k.time_s - k.overhead_s for k in every[3][m].kernels)) for m in ASKED[:2]]
    numbers = {
        "fewer": f"{resnet[2].macs / mobile[2].macs:.0f}",
        "less": f"{resnet[2].bytes / mobile[2].bytes:.1f}",
        "own": units.si(mobile[2].bytes, "B"), "other": units.si(resnet[2].bytes, "B"),
        "intensity": f"{mobile[2].intensity:.1f}", "ridge": f"{many.device.peak_flops / many.device.bandwidth:.0f}",
        "one": gains[0], "many": gains[2], "cpu": gains[3],
        "seen": MEASURED["rtx-4090", 1024], "seen_cpu": MEASURED["i9-10940x", 1],
        "flops": f"{share(many, 'flops', 'pointwise', 'norm'):.0f}", "time": f"{share(many, 'time_s', 'pointwise', 'norm'):.0f}",
        "fused": units.si(fused[0].bytes, "B"), "fused_other": units.si(fused[1].bytes, "B"),
        "compiled": f"{fused[0].throughput / fused[1].throughput:.1f}",
        "kernels": mobile[0].kernels, "kernels_other": resnet[0].kernels,
        "cpu_ridge": f"{cpu.device.peak_flops / cpu.device.bandwidth:.0f}", "work": work[0], "work_other": work[1],
        "waits": f"{100 * mobile[3].time_by_bound['overhead'] / mobile[3].time_s:.0f}",
        "reached": f"{100 * mobile[3].achieved_flops / cpu.device.peak_flops:.1f}",
    }  # fmt: skip
    paragraphs = ANSWER.format(**numbers).split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(p.split()), 120) for p in paragraphs) + "\n"


def share(a: Analysis, what: str, *classes: str) -> float:
    """Per cent of the kernels' `what` in some classes."""
    return 100 * sum(getattr(k, what) for k in a.kernels if k.klass in classes) / sum(getattr(k, what) for k in a.kernels)


def main() -> int:
    found = {model: analyses(model) for model in MODELS}
    settled = HERE / "claims.md"
    quick = "--quick" in sys.argv[1:]
    texts = {
        HERE / "totals.json": totals(found),
        HERE / "README.md": page(found),
        HERE / "mobilenet.md": question(),
        settled: claims.page(quick, settled.read_text(encoding="utf-8") if quick else ""),
    }
    if "--check" in sys.argv[1:]:
        stale = [p.name for p, text in texts.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
        if stale:
            print(f"the gallery is out of date ({', '.join(stale)}): run python reports/make.py", file=sys.stderr)
        return bool(stale)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    for model in CHARTS:
        chart.draw([found[model][1], found[model][4]], HERE / f"{model}.png")
    pair = [roofline.analyze("mobilenet_v3_large", device=device) for device in ("rtx-4090", "i9-10940x")]
    small = sheet.size("1260x740")
    (HERE / "mobilenet.png").write_bytes(chart.picture(pair, size=small))
    sweeps = [
        [roofline.analyze("mobilenet_v3_large", device=device, batch=2**n) for n in range(10)]
        for device in ("rtx-4090", "t4", "i9-10940x")
    ]
    (HERE / "mobilenet-batch.png").write_bytes(batches.picture(sweeps, "png", size=small, mode="light"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
