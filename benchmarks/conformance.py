"""Every model of torchvision and timm through the tracer, beside what is published of them -> docs/conformance.md.

    python benchmarks/conformance.py                       both zoos (about half an hour), then the page
    python benchmarks/conformance.py torchvision           one zoo
    python benchmarks/conformance.py timm --only 'vit*'    some models again; the rest is kept from the state file
    python benchmarks/conformance.py --write               the page alone, from the state file

One process, one model in memory at a time, progress on stderr. The state (one JSON line per model) lies in
build/conformance.jsonl. `--timm-table FILE` names one of timm's own benchmark tables (results/benchmark-infer-*.csv in its
repository): its `param_count` and `infer_gmacs` are then compared with ours. `--memory FILE` takes in what
`python benchmarks/memory.py > FILE` printed.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from conformance_page import SEEN, page

from roofline.devices.library import lookup
from roofline.errors import RooflineError
from roofline.kernels import build as kernels
from roofline.kernels import facts
from roofline.records import Kernel, Trace
from roofline.request import Ask
from roofline.sources import zoo
from roofline.sources.resolve import resolve
from roofline.sources.timm import TIMM
from roofline.sources.timm import size as image_size
from roofline.sources.traced import trace_source

REPO = Path(__file__).resolve().parent.parent
STATE = REPO / "build" / "conformance.jsonl"
PAGE = REPO / "docs" / "conformance.md"
# Keep at least this many remembered ops between models; beyond it the memory is dropped.
FORGET = 20_000


# ------------------------------------------------------------------------------------------------ measuring


def count(name: str, settings: dict[str, str], resolution: int | None) -> dict[str, Any]:
    """Trace one model and count it: parameters, MACs, FLOPs, bytes, unknown ops; or the error that it gave."""
    start = time.perf_counter()
    row: dict[str, Any] = {"model": name, "settings": settings, "resolution": resolution}
    try:
        found = resolve(Ask(name, settings=settings, resolution=resolution))
        trace = trace_source(found, lookup("t4"))
        launched = kernels.build(trace)
    except RooflineError as error:
        row |= {"error": str(error)}
    else:
        unknown: dict[str, int] = {}
        for k in launched:
            if not k.known:
                unknown[k.op] = unknown.get(k.op, 0) + 1
        row |= {
            "params": trace.model.params,
            "macs": sum(k.macs for k in launched),
            "flops": sum(k.flops for k in launched),
            "bytes": sum(k.bytes for k in launched),
            "inputs": ["x".join(map(str, i.shape)) for i in trace.model.inputs],
            "unknown": unknown,
            "notes": trace.notes,
            "theirs": fvcore_terms(trace, launched),
        }
    return row | {"seconds": round(time.perf_counter() - start, 2)}


def fvcore_terms(trace: Trace, launched: tuple[Kernel, ...]) -> dict[str, int]:
    """What sets fvcore's number, the one in timm's tables, apart from ours: elements that it adds, products that it misses.

    From fvcore's own handlers: a batch norm counts 1 or 2 per element, other norms 4 or 5, a global pool 1 per input element,
    bilinear interpolation 4 and nearest 1 per output element; LSTMs and convolutions with padding="same" count nothing.
    """
    terms = {"norms": 0, "pools": 0, "rnn": 0, "same": 0, "attention": 0}
    for k in launched:
        spec = trace.specs[trace.ops[k.ops[0]].spec]
        numel = math.prod(k.shape)
        if k.op == "batch_norm":
            # in training (weight standardisation uses it so) 5 with a scale and 4 without, else 2 and 1
            scaled, training = spec.args[1] is not None, bool(spec.args[5])
            terms["norms"] += numel * (4 * training + 1 - training + scaled)
        elif k.op in ("group_norm", "layer_norm", "instance_norm"):
            terms["norms"] += 5 * numel
        elif k.op == "adaptive_avg_pool2d":
            terms["pools"] += spec.inputs[0].numel
        elif k.op.startswith("upsample"):
            terms["pools"] += numel * (4 if "bilinear" in k.op else 1)
        elif k.klass in ("rnn", "attention"):
            terms[k.klass] += k.macs
        elif k.op == "conv2d" and len(spec.args) > 4 and isinstance(spec.args[4], str):
            terms["same"] += k.macs
    return terms


def forget() -> None:
    """Free what the tracer and the cost rules remember of earlier models."""
    from roofline.tracing import memo

    gc.collect()
    if len(memo.calls) > FORGET:
        memo.calls.clear()
        memo.metas.clear()
        facts._facts.clear()


class Todo(NamedTuple):
    """One trace to make, under the key that the state holds it by."""

    key: str
    model: str
    settings: Mapping[str, str] = MappingProxyType({})
    resolution: int | None = None


def sweep(rows: Iterator[Todo], state: dict[str, dict[str, Any]], resume: bool) -> None:
    """Count every (key, model, settings), writing the state after each."""
    STATE.parent.mkdir(exist_ok=True)
    todo = [r for r in rows if not (resume and r.key in state and "error" not in state[r.key] and not state[r.key]["unknown"])]
    started = time.perf_counter()
    for i, (key, model, settings, resolution) in enumerate(todo, 1):
        row = {"key": key} | count(model, dict(settings), resolution)
        state[key] = row
        with STATE.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        what = row.get("error") or (f"unknown: {row['unknown']}" if row["unknown"] else f"{row['macs'] / 1e9:.3f} GMAC")
        spent = time.perf_counter() - started
        print(f"[{i}/{len(todo)}, {spent:.0f} s] {key}: {what} ({row['seconds']} s)", file=sys.stderr, flush=True)
        forget()


def load_state() -> dict[str, dict[str, Any]]:
    """The last row of each key."""
    if not STATE.is_file():
        return {}
    rows = (json.loads(line) for line in STATE.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}


def timm_rows(only: str, table: list[dict[str, str]]) -> Iterator[Todo]:
    """Every model with its own input, and with the inputs of the table where those are others."""
    for name in zoo.names("timm"):
        if fnmatch(name, only):
            yield Todo(f"timm:{name}", f"timm:{name}")
    done: set[str] = set()
    for row in table:
        name = row["model"].partition(".")[0]
        if TIMM.has(name) and fnmatch(name, only):
            size = int(row["infer_img_size"])
            if f"timm:{name}@{size}" not in done and size != image_size(name)[-1]:
                done.add(f"timm:{name}@{size}")
                yield Todo(f"timm:{name}@{size}", f"timm:{name}", {}, size)


def torchvision_rows(only: str) -> Iterator[Todo]:
    """One row per published weights entry, in the form and with the input of those weights; and the models without any.

    Two-stage detectors once more with the number of boxes that the published count saw, quantized models once more in floating
    point, which is where their parameters were counted.
    """
    from torchvision.models import get_model_weights

    for name in zoo.names("torchvision"):
        if not fnmatch(name, only):
            continue
        entries = list(get_model_weights(name))
        for w in entries:
            key = f"torchvision:{name}:{w.name}"
            yield Todo(key, f"torchvision:{name}", {"weights": w.name})
            if f"{name}:{w.name}" in SEEN:
                yield Todo(key + ":seen", f"torchvision:{name}", {"weights": w.name, **SEEN[f"{name}:{w.name}"][1]})
            if name.startswith("quantized_"):
                settings = {"weights": w.name, "quantize": "false"} | ({"aux_logits": "true"} if "inception" in name else {})
                yield Todo(key + ":float", f"torchvision:{name}", settings)
        if not entries:
            yield Todo(f"torchvision:{name}:", f"torchvision:{name}")


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(line for line in file if not line.startswith("#")) if row.get("infer_gmacs")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("zoo", nargs="?", choices=["torchvision", "timm"])
    parser.add_argument("--only", default="*", help="models whose name matches this pattern")
    parser.add_argument("--resume", action="store_true", help="skip models that the state holds without a fault")
    parser.add_argument("--write", action="store_true", help="write the page from the state alone")
    parser.add_argument("--timm-table", type=Path, help="a benchmark-infer-*.csv of timm's repository")
    parser.add_argument("--memory", type=Path, help="what benchmarks/memory.py printed: the page's measured section")
    args = parser.parse_args()
    memory = args.memory.read_text(encoding="utf-8") if args.memory else ""
    table = read_table(args.timm_table) if args.timm_table else []
    state = load_state()
    if not args.write:
        import torch

        torch.set_num_threads(1)
        if args.zoo != "timm":
            sweep(torchvision_rows(args.only), state, args.resume)
        if args.zoo != "torchvision":
            sweep(timm_rows(args.only, table), state, args.resume)
    # the part on transformers is transformers_zoo.py's
    theirs = "".join(PAGE.read_text(encoding="utf-8").partition("<!-- transformers -->")[1:]) if PAGE.exists() else ""
    PAGE.write_text(page(state, table, memory).rstrip() + f"\n\n{theirs}".rstrip() + "\n", encoding="utf-8")
    print(f"wrote {PAGE.relative_to(REPO)}", file=sys.stderr)


if __name__ == "__main__":
    main()
