"""Models of packages that build on torch, as their READMEs build and call them -> a table in docs/conformance.md.

    pip install diffusers torch_geometric ...                 any of the packages below: those that are absent are skipped
    python benchmarks/packages.py                             every model, from Python and by the command line's way
    python benchmarks/packages.py --only 'diffusers*'         some again; the rest is kept from the state file
    python benchmarks/packages.py --write                     the page's part alone, from the state file

Each model is analysed in a process of its own, as a module with its arguments and as `file.py:Net` with an `example()`. MACs
and parameters are set beside an independent count: torch's FlopCounterMode over a real run of the same call; what torch does
not count (recurrent layers) is from our own. What came of it is one of `whole` (equal, every part with parameters ran),
`part` (equal, and a note names what did not run), `differs`, and `refused` (one sentence). The state (one JSON line a model)
lies in build/packages.jsonl.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from apart import forked, told
from package_models import MODELS

import roofline

REPO = Path(__file__).resolve().parent.parent
STATE = REPO / "build" / "packages.jsonl"
PAGE = REPO / "docs" / "conformance.md"
BEGIN, END = "<!-- packages -->", "<!-- end packages -->"
# distribution -> what is imported before processes are forked for its models, and what tells whether it is here
IMPORTS = {
    "diffusers": "diffusers.models",
    "torch_geometric": "torch_geometric.nn",
    "openai-whisper": "whisper",
    "torchaudio": "torchaudio.models",
    "speechbrain": "speechbrain.nnet.CNN",
    "kornia": "kornia",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "ultralytics": "ultralytics.nn.tasks",
    "open_clip_torch": "open_clip",
    "monai": "monai.networks.nets",
}
# where counts are known to differ, and why
REASONS = {"diffusers VQModel": "327,680 of them of distances as one product, which torch's counter does not see"}
# operators with MACs that torch's counter does not know
BEYOND = ("dot", "lstm", "gru", "rnn_tanh", "rnn_relu")

# ------------------------------------------------------------------------------------------------ one model


def counted(name: str) -> dict[str, Any]:
    """Parameters and MACs as torch counts them in a real run."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    made = MODELS[name]
    net = made.build().eval()
    args, kwargs = made.call()
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    net.requires_grad_(False)  # torch's counter hooks on to the gradients of what has some, and fails at a bare parameter
    # attention as products: the kernel of a CPU is not in torch's count
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(*args, **kwargs)
    return {"params": sum(p.numel() for p in net.parameters()), "macs": counter.get_total_flops() // 2}


def python(name: str) -> dict[str, Any]:
    """What a person gets who gives the module and its call."""
    import torch

    torch.manual_seed(0)
    made = MODELS[name]
    net = made.build().eval()
    args, kwargs = made.call()
    return _told(roofline.analyze(net, args=args, kwargs=kwargs, device="h100-sxm"))


def by_name(name: str) -> dict[str, Any]:
    """What a person gets at the command line who has the model in a file that offers its call."""
    folder = STATE.parent / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.py"
    file.write_text(
        f"import sys\n\nsys.path.insert(0, {str(REPO / 'benchmarks')!r})\nfrom package_models import MODELS\n\n\n"
        f"def Net():\n    return MODELS[{name!r}].build()\n\n\ndef example():\n    return MODELS[{name!r}].call()\n"
    )
    return _told(roofline.analyze(f"{file}:Net", device="h100-sxm", cache=False))


def _told(a: roofline.Analysis) -> dict[str, Any]:
    return {
        "params": a.model.params,
        "macs": a.totals.macs,
        "beyond": sum(op.macs for op in a.ops if op.op in BEYOND),
        "notes": list(a.notes),
        "unknown": {u.op: u.count for u in a.coverage.unknown_ops},
    }


WAYS = {"counted": counted, "python": python, "by_name": by_name}


def looked_at(way: str, name: str) -> dict[str, Any]:
    start = time.process_time()
    try:
        row = WAYS[way](name)
    except roofline.RooflineError as error:
        row = {"error": str(error)}
    except BaseException as error:  # a model's own, or a fault of ours
        row = {"crash": f"{type(error).__name__}: {error}"}
    return row | {"seconds": round(time.process_time() - start, 2)}


def apart(way: str, name: str) -> dict[str, Any]:
    """`looked_at` in a process of its own."""
    pid, read = forked(partial(looked_at, way, name))
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    return told(text, status)


def verdict(row: dict[str, Any]) -> tuple[str, str]:
    """What came of a model, and why it is not whole."""
    ours, theirs = [row["python"], row["by_name"]], row["counted"]
    if "crash" in theirs:
        return "broken", f"the call itself fails: {theirs['crash']}"
    for found in ours:
        if "crash" in found:
            return "failed", found["crash"]
        if "error" in found:
            return "refused", found["error"]
        if found["unknown"]:
            return "differs", f"without a rule: {', '.join(found['unknown'])}"
        if found["params"] != theirs["params"]:
            return "differs", f"{found['params']:,} parameters, not {theirs['params']:,}"
        # of an LSTM torch's counter may see the products or not, by how the machine runs it
        macs = found["macs"]
        if theirs["macs"] not in (macs, macs - found.get("beyond", 0)):
            reason = f": {REASONS[row['name']]}" if row["name"] in REASONS else ""
            return "differs", f"{macs:,} MACs, not {theirs['macs']:,}{reason}"
    idle = next((n.partition(": ")[2] for found in ours for n in found["notes"] if "never ran" in n), "")
    return ("part", f"never ran: {idle}") if idle else ("whole", "")


# ------------------------------------------------------------------------------------------------ the state, the page


def state(file: Path) -> dict[str, dict[str, Any]]:
    if not file.exists():
        return {}
    rows = [json.loads(text) for text in file.read_text().splitlines()]
    return {row["name"]: row for row in rows if row["name"] in MODELS}


def here(package: str) -> bool:
    return importlib.util.find_spec(IMPORTS[package].partition(".")[0]) is not None


def sweep(todo: Iterable[str], file: Path) -> None:
    import torch

    torch.set_num_threads(1)
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as out:
        for name in todo:
            package = name.partition(" ")[0]
            importlib.import_module(IMPORTS[package])
            row: dict[str, Any] = {"name": name, "version": metadata.version(package)}
            row |= {way: apart(way, name) for way in WAYS}
            out.write(json.dumps(row) + "\n")
            out.flush()
            what, why = verdict(row)
            print(f"{what:8} {name:50} {why[:150]}".replace("\n", " / "), file=sys.stderr, flush=True)


KINDS = ("whole", "part", "differs", "refused", "failed")


def page(rows: dict[str, dict[str, Any]]) -> str:
    """A row for each package, and one for each model that is not whole."""
    by: dict[str, list[dict[str, Any]]] = {}
    for name in MODELS:
        if name in rows:
            by.setdefault(name.partition(" ")[0], []).append(rows[name])
    total = Counter(verdict(row)[0] for row in rows.values())
    lines = [
        BEGIN,
        "## Packages that build on torch",
        "",
        f"`python benchmarks/packages.py`: {len(rows)} models of {len(by)} packages, each built and called as its README does,",
        "given as a module with its arguments and as a file with an `example()`. MACs and parameters are set beside those of",
        "torch's own counter over a real run of the same call: `whole` is equal to the last one and ran every part, `part` is",
        "equal and names what never ran, `refused` is one sentence. Each is a small size of its architecture.",
        "",
        "| package | version | models | whole | part | differs | refused | failed otherwise |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for package, found in by.items():
        kinds = Counter(verdict(row)[0] for row in found)
        names = ", ".join(row["name"].partition(" ")[2] for row in found)
        version = found[-1].get("version") or metadata.version(package)
        lines.append(f"| {package} | {version} | {names} | {' | '.join(str(kinds[k]) for k in KINDS)} |")
    lines += [
        f"| all | | {len(rows)} | {' | '.join(str(total[k]) for k in KINDS)} |",
        "",
        "| model | | why |",
        "| --- | --- | --- |",
    ]
    for name, row in sorted(rows.items()):
        what, why = verdict(row)
        if why:
            text = " ".join(why.split()).replace("|", "/")
            lines.append(f"| {name} | {what} | {text[:200]} |")
    return "\n".join([*lines, END, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="PATTERN", help="these again")
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--write", action="store_true", help="the page alone")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if not asked.write:
        absent = [package for package in IMPORTS if not here(package)]
        known = {} if asked.only else state(asked.state)
        todo = [n for n in MODELS if n not in known and n.partition(" ")[0] not in absent]
        sweep([n for n in todo if fnmatch(n, asked.only or "*")], asked.state)
        print("".join(f"{package} is not installed: its models are skipped\n" for package in absent), end="", file=sys.stderr)
    rows = state(asked.state)
    if asked.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before.rstrip()}\n\n{page(rows)}{after.lstrip()}", encoding="utf-8")
    print(Counter(verdict(row)[0] for row in rows.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
