"""Every architecture of transformers by its class name and default configuration -> a table in docs/conformance.md.

    python benchmarks/transformers_zoo.py                     the class without a head of every architecture, about 600
    python benchmarks/transformers_zoo.py --heads             every class of every list of the installed release, about 1,500
    python benchmarks/transformers_zoo.py --only 'Llava*'     some classes again; the rest is kept from the state file
    python benchmarks/transformers_zoo.py --heads --every 3   a third of them
    python benchmarks/transformers_zoo.py --write             the page's part alone, from the state file; with --heads theirs

Each class is analysed in a process of its own, forked from one that has imported everything, with a limit of 4 GiB and 30 s of
processor time. What came of it is one of: `whole` (every part with parameters ran), `part` (a note names what did not run),
`refused` (one sentence), and what must not be: `failed` (no sentence of ours), `limit`. The state (one JSON line a class)
lies in build/transformers_zoo.jsonl, that of all classes in build/transformers_heads.jsonl, so an interrupted sweep goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from apart import forked, told

import roofline
from roofline import compat

REPO = Path(__file__).resolve().parent.parent
STATE = {False: REPO / "build" / "transformers_zoo.jsonl", True: REPO / "build" / "transformers_heads.jsonl"}
PAGE = REPO / "docs" / "conformance.md"
MARKS = {
    False: ("<!-- transformers -->", "<!-- end transformers -->"),
    True: ("<!-- transformers with heads -->", "<!-- end transformers with heads -->"),
}
SECONDS, MEMORY = 30, 4 * 2**30


def names(heads: bool) -> list[str]:
    """Classes of transformers' own lists, each once: those without a head, or all."""
    from transformers.models.auto import modeling_auto

    lists = {name: value for name, value in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")}
    if not heads:
        lists = {name: lists[name] for name in ("MODEL_MAPPING_NAMES",)}
    found: dict[str, None] = {}
    for name, table in lists.items():
        if not name.startswith("MODEL_"):  # of configurations, tokenizers
            continue
        for value in table.values():
            found.update(dict.fromkeys([value] if isinstance(value, str) else value))
    return sorted(found)


# ------------------------------------------------------------------------------------------------ one class


def looked_at(name: str) -> dict[str, Any]:
    """What a person gets who asks for the class: counts, notes, inputs, or the error."""
    start = time.process_time()
    try:
        a = roofline.analyze(f"hf:{name}", device="h100-sxm", cache=False)
    except roofline.RooflineError as error:
        row: dict[str, Any] = {"error": str(error), "kind": type(error).__name__}
    except BaseException as error:
        row = {"crash": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-1500:]}
    else:
        row = {
            "params": a.model.params,
            "macs": a.totals.macs,
            "notes": a.notes,
            "inputs": [f"{i.name} {'x'.join(map(str, i.shape))} {i.dtype}" for i in a.model.inputs],
            "unknown": {u.op: u.count for u in a.coverage.unknown_ops},
        }
    return row | {"seconds": round(time.process_time() - start, 2)}


def apart(name: str, limit: float = SECONDS) -> dict[str, Any]:
    """`looked_at` in a process of its own, with its peak memory; one over a limit is ended."""
    pid, read = forked(partial(_measured, name))
    start, ended, most = time.monotonic(), "", 0
    os.set_blocking(read, False)
    text = b""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        text += _drained(read)
        if done:
            break
        most, used = max(most, _resident(pid)), _seconds(pid)
        if most > MEMORY or used > limit or time.monotonic() - start > 10 * limit:
            ended = f"over {MEMORY >> 30} GiB" if most > MEMORY else f"over {limit:.0f} s, {used:.0f} s of them computing"
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            break
        time.sleep(0.05)
    os.close(read)
    if ended:
        return {"limit": ended, "peak": most, "seconds": round(time.monotonic() - start, 1)}
    return told(text, status)


def _measured(name: str) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    row = looked_at(name)
    row["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return row


def _drained(pipe: int) -> bytes:
    out = b""
    try:
        while part := os.read(pipe, 1 << 16):
            out += part
    except BlockingIOError:
        pass
    return out


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def _seconds(pid: int) -> float:
    """Of processor time: others may share the machine."""
    try:
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


def verdict(row: dict[str, Any]) -> str:
    if "limit" in row:
        return "limit"
    if "crash" in row or row.get("unknown"):
        return "failed"
    if "error" in row:
        return "refused"
    return "part" if any("never ran" in note and _worth(note) for note in row["notes"]) else "whole"


def _worth(note: str) -> bool:
    """Whether a part of more than a thousandth of the parameters is idle, and not a mask token."""
    return any(not share.startswith("under") for share in re.findall(r", ([^,()]+ %)\)", note))


# ------------------------------------------------------------------------------------------------ the state, the page


def state(file: Path) -> dict[str, dict[str, Any]]:
    if not file.exists():
        return {}
    rows = [json.loads(text) for text in file.read_text().splitlines()]
    return {row["class"]: row for row in rows}


def sweep(todo: Iterable[str], file: Path) -> None:
    import torch

    import roofline.cost
    import roofline.kernels.build
    import roofline.pipeline
    import roofline.sources.build
    import roofline.tracing.trace  # what each process would import again

    compat.load("transformers").PreTrainedModel  # noqa: B018
    roofline.cost.asked_packages()
    torch.set_num_threads(1)
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as out:
        for name in todo:
            row = {"class": name} | apart(name)
            out.write(json.dumps(row) + "\n")
            out.flush()
            said = str(row.get("error") or row.get("crash") or row.get("limit") or f"{row['macs'] / 1e9:,.3f} G MAC")
            print(
                f"{verdict(row):8} {name:44} {row.get('seconds', 0):6.1f} s  {said[:150]}".replace("\n", " / "),
                file=sys.stderr,
                flush=True,
            )


def page(rows: dict[str, dict[str, Any]], total: int, heads: bool) -> str:
    """The table of what is not whole, below the counts."""
    begin, end = MARKS[heads]
    which = "classes of every list, heads and all" if heads else "classes without a head"
    title = "classes with heads" if heads else "classes by name"
    sample = f" --every {round(total / len(rows))}" if len(rows) < total - len(rows) else ""
    found = Counter(verdict(row) for row in rows.values())
    met = ", ".join(f"{p} {compat.version(p)}" for p in ("transformers", "torch"))
    seconds = max((row.get("seconds", 0.0) for row in rows.values()), default=0.0)
    peak = max((row.get("peak", 0) for row in rows.values()), default=0) / 2**30
    kinds = ("whole", "part", "refused", "limit", "failed")
    lines = [
        begin,
        f"## transformers: {title}, with their default configurations",
        "",
        f"`python benchmarks/transformers_zoo.py{' --heads' * heads}{sample}`: {len(rows)} of the {total} {which} ({met}),",
        f"each in a process of its own. At most {seconds:.0f} s of processor time and {peak:.1f} GiB. `whole`: every part with",
        "parameters ran, but for those under a thousandth of them; `part`: a note names what never ran; `refused`: in one",
        "sentence, most often",
        "because a default configuration is not whole.",
        "",
        "| whole | part | refused | over a limit | failed otherwise |",
        "| ---: | ---: | ---: | ---: | ---: |",
        f"| {' | '.join(str(found[kind]) for kind in kinds)} |",
        "",
        "| class | | inputs assumed, what never ran; or the reason |",
        "| --- | --- | --- |",
    ]
    for name, row in sorted(rows.items()):
        if (what := verdict(row)) != "whole":
            note = next((n.partition(": ")[2] for n in row.get("notes", ()) if "never ran" in n), "")
            text = (
                f"{', '.join(row['inputs'])}: {note}" if note else row.get("error") or row.get("limit") or row.get("crash", "")
            )
            text = " ".join(text.replace("the model failed", "failed").split("\n")[0].split()).replace("|", "/")
            lines.append(f"| {name} | {what} | {text[:200]} |")
    return "\n".join([*lines, end, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="CLASS")
    parser.add_argument("--heads", action="store_true", help="every class of every list")
    parser.add_argument("--only", metavar="PATTERN", help="these again")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: each N-th class")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--write", action="store_true", help="the page alone")
    asked = parser.parse_args()
    file = asked.state or STATE[asked.heads]
    if not asked.write:
        known = state(file)
        todo = asked.names or names(asked.heads)[:: asked.every]
        if asked.only:
            todo = [name for name in todo if fnmatch(name, asked.only)]
        elif not asked.names:
            todo = [name for name in todo if name not in known]
        sweep(todo, file)
    rows = state(file)
    if asked.write:
        begin, end = MARKS[asked.heads]
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
        after = rest.partition(end)[2].lstrip()
        parts = [before.rstrip(), page(rows, len(names(asked.heads)), asked.heads).rstrip(), after.rstrip()]
        PAGE.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    print(Counter(verdict(row) for row in rows.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
