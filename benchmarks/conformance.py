"""Every model of torchvision and timm through the tracer, beside what is published of them -> docs/conformance.md.

    python benchmarks/conformance.py                       both zoos (about half an hour), then the page
    python benchmarks/conformance.py torchvision           one zoo
    python benchmarks/conformance.py timm --only 'vit*'    some models again; the rest is kept from the state file
    python benchmarks/conformance.py --write               the page alone, from the state file

One process, one model in memory at a time, progress on stderr. The state (one JSON line per model) lies in
build/conformance.jsonl. `--timm-table FILE` names one of timm's own benchmark tables (results/benchmark-infer-*.csv in its
repository): its `param_count` and `infer_gmacs` are then compared with ours.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from roofline import kernels, pipeline, source, zoo
from roofline.device import lookup
from roofline.records import RooflineError

REPO = Path(__file__).resolve().parent.parent
STATE = REPO / "build" / "conformance.jsonl"
# Keep at least this many remembered ops between models; beyond it the memory is dropped.
FORGET = 20_000


# ------------------------------------------------------------------------------------------------ measuring


def count(name: str, settings: dict[str, str] | None = None, inputs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Trace one model and count it: parameters, MACs, FLOPs, bytes, unknown ops; or the error that it gave."""
    start = time.perf_counter()
    row: dict[str, Any] = {"model": name, "settings": settings or {}}
    try:
        found = source.resolve(name, settings=settings or {}, inputs=inputs)
        trace = pipeline.trace_source(found, lookup("t4"))
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
        }
    return row | {"seconds": round(time.perf_counter() - start, 2)}


def forget() -> None:
    """Free what the tracer and the cost rules remember of earlier models."""
    from roofline import recorder

    gc.collect()
    if len(recorder._memo) > FORGET:
        recorder._memo.clear()
        recorder._metas.clear()
        kernels._facts.clear()


def sweep(rows: Iterator[tuple[str, str, dict[str, str]]], state: dict[str, dict[str, Any]], resume: bool) -> None:
    """Count every (key, model, settings), writing the state after each."""
    STATE.parent.mkdir(exist_ok=True)
    todo = [r for r in rows if not (resume and r[0] in state and "error" not in state[r[0]] and not state[r[0]]["unknown"])]
    started = time.perf_counter()
    for i, (key, model, settings) in enumerate(todo, 1):
        row = {"key": key} | count(model, settings)
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


def timm_rows(only: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    for name in zoo.names("timm"):
        if fnmatch(name, only):
            yield f"timm:{name}", f"timm:{name}", {}


def torchvision_rows(only: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """One row per published weights entry, in the form and with the input of those weights; and the models without any."""
    from torchvision.models import get_model_weights

    for name in zoo.names("torchvision"):
        if not fnmatch(name, only):
            continue
        entries = list(get_model_weights(name))
        for w in entries:
            yield f"torchvision:{name}:{w.name}", f"torchvision:{name}", {"weights": w.name}
        if not entries:
            yield f"torchvision:{name}:", f"torchvision:{name}", {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("zoo", nargs="?", choices=["torchvision", "timm"])
    parser.add_argument("--only", default="*", help="models whose name matches this pattern")
    parser.add_argument("--resume", action="store_true", help="skip models that the state holds without a fault")
    parser.add_argument("--write", action="store_true", help="write the page from the state alone")
    args = parser.parse_args()
    state = load_state()
    if not args.write:
        import torch

        torch.set_num_threads(1)
        if args.zoo != "timm":
            sweep(torchvision_rows(args.only), state, args.resume)
        if args.zoo != "torchvision":
            sweep(timm_rows(args.only), state, args.resume)


if __name__ == "__main__":
    main()
