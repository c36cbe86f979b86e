"""Totals of models that must not depend on the torch, Python or transformers that is installed.

    python tests/golden/totals.py           compare with totals.json; exits 1 where they differ
    python tests/golden/totals.py --write   write totals.json anew: when counts are meant to change

What one release truly does otherwise is kept under "differs" with the versions and the reason, and survives `--write`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import nets

import roofline
from roofline import compat
from roofline.records import Analysis

FILE = Path(__file__).resolve().parent / "totals.json"
PASSES: dict[str, dict[str, Any]] = {
    "inference": {"device": "t4"},
    "amp": {"device": "t4", "dtype": "amp"},
    "training": {"device": "t4", "training": True},
    "training on a CPU": {"device": "i9-10940x", "training": True, "optimizer": "sgd"},
}
Totals = dict[str, int]


def names() -> list[str]:
    """The models that can be counted here."""
    found = [*nets.MODELS, *nets.REFERENCE]
    if compat.version("transformers") and not compat.older(compat.version("transformers"), compat.FLOORS["transformers"]):
        found += nets.LANGUAGE
    return found


def totals(name: str) -> Iterator[tuple[str, Totals]]:
    """Pass -> totals of one model."""
    if name in nets.LANGUAGE:
        for asked in ({"prefill": 32}, {"decode": 32}):
            yield next(iter(asked)), _of(roofline.analyze(nets.language(name), device="t4", cache=False, **asked))
        return
    for what, asked in PASSES.items():
        if name in nets.REFERENCE:
            yield what, _of(roofline.analyze(name, cache=False, batch=2, resolution=nets.REFERENCE[name], **asked))
        else:
            make, args = nets.MODELS[name]
            yield what, _of(roofline.analyze(make(), args=args, cache=False, **asked))


def _of(a: Analysis) -> Totals:
    t = a.totals
    return {
        "kernels": t.kernels,
        "flops": t.flops,
        "macs": t.macs,
        "bytes": t.bytes,
        "params": a.model.params,
        "peak": t.peak_memory_bytes,
    }


def known() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"totals": {}, "differs": []}


def expected(table: dict[str, Any], name: str, what: str) -> Totals:
    """What the file says of one pass under the versions that are installed."""
    found: Totals = table["totals"][name][what]
    for entry in table["differs"]:
        if entry["model"] == name and what in entry["passes"] and all(_within(p, v) for p, v in entry["where"].items()):
            found = found | {key: found[key] + more for key, more in entry["add"].items()}
    return found


def _within(package: str, wanted: str) -> bool:
    """`<2.10` or `>=2.10` of an installed package."""
    sign, version = re.fullmatch(r"(<|>=)([\d.]+)", wanted).groups()
    return compat.older(compat.version(package), version) == (sign == "<")


def main() -> int:
    table = known()
    found = {name: dict(totals(name)) for name in names()}
    if sys.argv[1:] == ["--write"]:
        table["totals"] |= found
        lines = [
            f"  {json.dumps(name)}: {{\n" + ",\n".join(f"   {json.dumps(w)}: {json.dumps(t)}" for w, t in of.items()) + "\n  }"
            for name, of in table["totals"].items()
        ]
        differs = [f"  {json.dumps(entry)}" for entry in table["differs"]]
        text = '{\n "totals": {\n' + ",\n".join(lines) + '\n },\n "differs": [\n' + ",\n".join(differs) + "\n ]\n}\n"
        FILE.write_text(text, encoding="utf-8")
        return 0
    wrong = 0
    for name, of in found.items():
        for what, now in of.items():
            want = expected(table, name, what)
            if now != want:
                wrong += 1
                print(f"{name}, {what}: " + ", ".join(f"{k} {now[k]:,} for {want[k]:,}" for k in now if now[k] != want[k]))
    met = ", ".join(f"{p} {compat.version(p)}" for p in ("torch", "transformers"))
    print(f"{sum(map(len, found.values()))} passes of {len(found)} models, {wrong} differ ({met})")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
