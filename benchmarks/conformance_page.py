"""docs/conformance.md from the state that conformance.py leaves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from roofline import compat, units
from roofline.sources import zoo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from oracles.published import agrees

# What the published counts of two-stage detectors saw: their cost depends on how many boxes the images gave.
SEEN = {
    "fasterrcnn_mobilenet_v3_large_320_fpn:COCO_V1": ("no proposal", {"rpn_score_thresh": "1.0"}),
    "fasterrcnn_mobilenet_v3_large_fpn:COCO_V1": ("no proposal", {"rpn_score_thresh": "1.0"}),
    "fasterrcnn_resnet50_fpn:COCO_V1": ("1,000 proposals", {"rpn_nms_thresh": "1.0"}),
    "keypointrcnn_resnet50_fpn:COCO_LEGACY": (
        "1,000 proposals, no person",
        {"rpn_nms_thresh": "1.0", "box_score_thresh": "1.0"},
    ),
    "keypointrcnn_resnet50_fpn:COCO_V1": (
        "1,000 proposals, one person",
        {"rpn_nms_thresh": "1.0", "box_score_thresh": "0.0", "box_detections_per_img": "1"},
    ),
    "maskrcnn_resnet50_fpn:COCO_V1": ("1,000 proposals, no object", {"rpn_nms_thresh": "1.0", "box_score_thresh": "1.0"}),
}


MEASURED = [
    "## Peak memory, predicted and measured",
    "",
    "`python benchmarks/memory.py`: each model run for real on the CPU, the bytes as PyTorch's allocator reported them to its",
    "profiler. Recurrent layers and the fused encoder path are not in it: [passes.md](passes.md) says what is not modelled.",
    "",
]


def page(state: dict[str, dict[str, Any]], table: list[dict[str, str]], memory: str = "") -> str:
    """docs/conformance.md from the state, and from timm's own table where one is given."""
    vision = list(vision_entries(state))
    ours = [row for key, row in state.items() if key.startswith("timm:") and "@" not in key]
    timm_faults = [row for row in ours if "error" in row or row["unknown"]]
    exact = sum(e.params_agree for e in vision)
    close = sum(e.close for e in vision)
    lines = [
        "# Conformance",
        "",
        "Every model of torchvision and timm through the tracer, beside what is published of them. Made by",
        "`python benchmarks/conformance.py`; nothing here is written by hand. "
        f"torch {compat.version('torch')}, torchvision {compat.version('torchvision')}, "
        f"timm {compat.version('timm')}.",
        "",
        "| | |",
        "| --- | --- |",
        f"| torchvision's published weights | {len(vision)} |",
        f"| ... parameters exact | {exact} as built, {sum(e.float_agree for e in vision)} more (quantized) before folding |",
        f"| ... MACs as printed, or within 0.5 % | {close} as traced by default, "
        f"{sum(e.seen_agree and not e.close for e in vision)} more (detectors) with the boxes that the published count saw |",
        f"| ... operators without a rule | {sum(bool(e.row.get('unknown')) for e in vision)} |",
        f"| timm's models | {len(ours)} |",
        f"| ... failures, models with an operator without a rule | {sum('error' in r for r in ours)}, "
        f"{sum(bool(r.get('unknown')) for r in ours)} |",
        "",
    ]
    if timm_faults:
        lines += [f"- {r['model']}: {r.get('error') or r['unknown']}" for r in timm_faults] + [""]
    if memory:
        lines += MEASURED + memory.strip().split("\n") + [""]
    lines += vision_section(vision)
    if table:
        lines += table_section(state, table)
    lines += timm_section(ours)
    return "\n".join(lines)


class Entry(NamedTuple):
    """One weights entry of torchvision: what it publishes, and what we count."""

    model: str
    weights: str
    params: int
    gmac: float
    row: dict[str, Any]
    # traced with the boxes that the published count saw; in floating point
    seen: dict[str, Any] | None
    floating: dict[str, Any] | None

    @property
    def params_agree(self) -> bool:
        return bool(self.row["params"] == self.params)

    @property
    def float_agree(self) -> bool:
        return self.floating is not None and bool(self.floating["params"] == self.params)

    @property
    def close(self) -> bool:
        return agrees(self.row["macs"], self.gmac)

    @property
    def seen_agree(self) -> bool:
        return self.seen is not None and agrees(self.seen["macs"], self.gmac)


def vision_entries(state: dict[str, dict[str, Any]]) -> Iterator[Entry]:
    from torchvision.models import get_model_weights

    for name in zoo.names("torchvision"):
        for w in get_model_weights(name):
            key = f"torchvision:{name}:{w.name}"
            row = state.get(key)
            if row is None or "error" in row:
                raise SystemExit(f"{key}: {row['error'] if row else 'not counted yet'}")
            yield Entry(
                name, w.name, w.meta["num_params"], w.meta["_ops"], row, state.get(key + ":seen"), state.get(key + ":float")
            )


def vision_section(entries: list[Entry]) -> list[str]:
    lines = [
        "## torchvision: every published weights entry",
        "",
        "Input, class count and form are those of the weights (`--set weights=NAME`), with nothing downloaded. `=`: parameters",
        "equal, MACs equal to the three decimals of a GMAC that torchvision prints, or within 0.5 %.",
        "",
        "| model | weights | input | parameters | | GMAC | printed | |",
        "| --- | --- | --- | ---: | --- | ---: | ---: | --- |",
    ]
    for e in entries:
        params = "=" if e.params_agree else f"{e.params:,} before folding" if e.float_agree else f"printed {e.params:,}"
        macs = "=" if e.close else "= with its boxes" if e.seen_agree else units.change(e.row["macs"] / 1e9 / e.gmac - 1)
        lines.append(
            f"| {e.model} | {e.weights} | {', '.join(e.row['inputs'])} | {e.row['params']:,} | {params} "
            f"| {e.row['macs'] / 1e9:.3f} | {e.gmac} | {macs} |"
        )
    lines += [
        "",
        "### Detectors in two stages",
        "",
        "Their second stage runs once for each box that the first one proposes, so the count depends on the image. By default",
        "they are traced on real tensors with random weights and a fixed seed, and the analysis says how many boxes it saw;",
        "another machine's arithmetic can move that number. The published counts saw other boxes. With as many, the counts are",
        "equal:",
        "",
        "| model | boxes of the published count | as | GMAC | printed |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for e in entries:
        if e.seen is not None:
            what, settings = SEEN[f"{e.model}:{e.weights}"]
            how = " ".join(f"`--set {k}={v}`" for k, v in settings.items())
            lines.append(f"| {e.model} {e.weights} | {what} | {how} | {e.seen['macs'] / 1e9:.3f} | {e.gmac} |")
    return [
        *lines,
        "",
        "### Quantized models",
        "",
        "Quantizing folds each batch norm into the convolution before it, so its scale is gone as a parameter. torchvision",
        "prints the count of the floating-point model; with `--set quantize=false` ours is the same number in every row,",
        "that of inception_v3 with the auxiliary head (`--set aux_logits=true`), which its printed count includes.",
        "",
    ]


# Why timm's tables print another number, by evidence: the first line that brings ours to theirs within rounding or 0.6 %.
REASONS = {
    "rounding": "the table's two decimals of a GMAC: ours rounds to its number",
    "form": "the table timed another form: its parameter count is not that of the model as timm builds it now "
    "(re-parameterised nets are fused there)",
    "norms": "the table's counter adds the elements of norms, global pools and interpolations to its MACs",
    "rnn": "the table's counter has no rule for LSTMs",
    "same": "the table's counter has no rule for convolutions with padding='same'",
    "differential": "the table was counted without fused attention, where differential attention meets the values once; the "
    "fused form that runs by default meets them twice",
    "other": "not explained",
}


def table_section(state: dict[str, dict[str, Any]], table: list[dict[str, str]]) -> list[str]:
    found: dict[str, list[str]] = {reason: [] for reason in REASONS}
    compared = within = params = 0
    for entry in table:
        name, size = entry["model"].partition(".")[0], entry["infer_img_size"]
        row = state.get(f"timm:{name}@{size}") or state.get(f"timm:{name}")
        if row is None or "error" in row or row["inputs"][0].rpartition("x")[2] != size:
            continue
        compared += 1
        printed = float(entry["infer_gmacs"])
        params += abs(row["params"] / 1e6 - float(entry["param_count"])) <= 0.0051
        if abs(row["macs"] / 1e9 / printed - 1) <= 0.02:
            within += 1
            continue
        found[reason(row, printed, float(entry["param_count"]))].append(name)
    lines = [
        "## timm: beside its own benchmark tables",
        "",
        "timm prints `infer_gmacs`, fvcore's number in units of 10 MMAC, for most models at the resolution of their weights.",
        f"Of {compared:,} rows for models that timm still has, {within:,} are within 2 % of ours, and {params:,} have our",
        "parameters to the 10,000 that it prints. The others, by the reason that the figures themselves show:",
        "",
        "| rows | why | models |",
        "| ---: | --- | --- |",
    ]
    for key, names in found.items():
        if names:
            listed = list(dict.fromkeys(names))
            lines.append(f"| {len(names)} | {REASONS[key]} | {', '.join(listed)} |")
    return [*lines, ""]


def reason(row: dict[str, Any], printed: float, params: float) -> str:
    """Which of REASONS turns our count into the printed one."""
    ours = row["macs"] / 1e9
    terms = {k: v / 1e9 for k, v in row["theirs"].items()}

    def is_theirs(value: float) -> bool:
        return abs(value - printed) <= max(0.0051, 0.006 * printed)

    added = ours + terms["norms"] + terms["pools"]
    if abs(row["params"] / 1e6 - params) > 0.0051:
        return "form"
    if is_theirs(ours):
        return "rounding"
    if is_theirs(added):
        return "norms"
    if terms["attention"] and is_theirs(added - terms["attention"] / 3):
        return "differential"
    return next((k for k in ("rnn", "same") if terms[k] and is_theirs(added - terms[k])), "other")


def timm_section(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## timm: every model",
        "",
        "At the default input, batch 1, fp32, as timm builds it. FLOPs count every operator; bytes are what eager kernels",
        "move.",
        "",
        "| model | input | parameters | GMAC | GFLOP | MB moved |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for r in sorted(rows, key=lambda r: str(r["model"])):
        if "error" in r:
            lines.append(f"| {r['model'][5:]} | {r['error']} | | | | |")
        else:
            lines.append(
                f"| {r['model'][5:]} | {', '.join(r['inputs'])} | {r['params']:,} | {r['macs'] / 1e9:.3f} "
                f"| {r['flops'] / 1e9:.3f} | {r['bytes'] / 1e6:.1f} |"
            )
    return [*lines, ""]
