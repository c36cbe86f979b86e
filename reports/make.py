"""Regenerate the gallery: what the program says of the reference models, beside this file.

    python reports/make.py            write totals.json, README.md and the charts
    python reports/make.py --check    write nothing; exit 1 where totals.json or README.md would change

The charts are PNG (an SVG of two hundred marks with readable labels takes a megabyte) and not compared: their bytes
depend on the version of matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import roofline
from roofline import units, verdict
from roofline.records import Analysis
from roofline.views import chart

HERE = Path(__file__).resolve().parent
MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet50", "vgg16")
# device, batch, dtype: one image at a time and a full batch on a GPU, one image on a desktop CPU and on a board
SETTINGS = (("rtx-4090", 1, "amp"), ("rtx-4090", 256, "amp"), ("i9-10940x", 1, "fp32"), ("raspberry-pi-4", 1, "fp32"))
CHARTS = ("mobilenet_v3_large", "vgg16")
FIELDS = ("flops", "macs", "bytes", "weight_bytes", "kernels", "time_s", "throughput", "bound", "peak_memory_bytes")
HEAD = """\
# Gallery

Made by `python reports/make.py`; a test regenerates it and compares. Every time is a prediction from the device's data
sheet: nothing here was run on these devices. [docs/time-model.md](../docs/time-model.md) says how far to trust it.
"""


def analyses(model: str) -> list[Analysis]:
    return [roofline.analyze(model, device=device, batch=batch, dtype=dtype) for device, batch, dtype in SETTINGS]


def rounded(value: Any) -> Any:
    """Five digits: floating sums may differ in the last one between machines."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def totals(found: dict[str, list[Analysis]]) -> str:
    rows = [
        {"model": model, "device": a.setting.device, "batch": a.setting.batch, "dtype": a.setting.dtype, "params": a.model.params}
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
            "| model | parameters | MACs | traffic | FLOP/B | time | samples/s | compute | memory | overhead |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for model in MODELS:
            a = found[model][i]
            t = a.totals
            shares = " | ".join(f"{100 * t.time_by_bound[b] / t.time_s:.0f} %" for b in ("compute", "memory", "overhead"))
            lines.append(
                f"| {model} | {units.count(a.model.params)} | {units.count(t.macs)} | {units.si(t.bytes, 'B')} "
                f"| {t.intensity:.3g} | {units.seconds(t.time_s)} | {t.throughput:,.4g} | {shares} |"
            )
        lines += ["", *(f"- **{model}**: {verdict.verdict(found[model][i])[1]}" for model in CHARTS), ""]
    lines += ["## Charts\n", *(f"![{model} on the roofline]({model}.png)\n" for model in CHARTS)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    found = {model: analyses(model) for model in MODELS}
    texts = {HERE / "totals.json": totals(found), HERE / "README.md": page(found)}
    if "--check" in sys.argv[1:]:
        stale = [p.name for p, text in texts.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
        if stale:
            print(f"the gallery is out of date ({', '.join(stale)}): run python reports/make.py", file=sys.stderr)
        return bool(stale)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    for model in CHARTS:
        chart.draw([found[model][1], found[model][2]], HERE / f"{model}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
