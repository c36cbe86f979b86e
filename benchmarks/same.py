"""Proof that a change keeps every number: the same questions to two revisions, and their JSON compared byte for byte.

    python benchmarks/same.py REV [OTHER] [--models N] [--jobs N] [--only PATTERN] [--ignore PATH] [--show N] [--errors]

REV is checked out into a temporary git worktree, which is removed afterwards; OTHER likewise, and without it stands the working
tree as it is, uncommitted changes included. The list is the same for both: every reference model in `models/`, N models of
torchvision and timm (a seeded sample, 200 of them), language models of transformers with few layers, a Python file, a module,
a .pt2 and an .onnx file, each under three or more combinations of device, runtime, pass, dtype and batch, which rotate along
the list; requests that are refused; and commands of the README and their likes, with text where they print text. An error is
a document too: its type and its words.

A process answers many questions in turn (`--jobs` of them at a time, half for each tree), with a fresh cache folder: so a model
is traced once for a pass and kind of device, and what comes out of the cache is compared as well.

Left out of the comparison by name (VOLATILE): `tool.roofline`, the version. The documents hold no time of day and no seconds
spent. The path of a tree reads `<tree>` in both. `--ignore 'setting.constants'` leaves out more.

Exit code: 0 every document is the same, 1 some differ (for each, the first path with both values, and then how many of which
kind), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

REPO = Path(__file__).resolve().parent.parent
# paths in a document that may differ: wildcards as in file names, * for every index
VOLATILE = ("tool.roofline",)
SEED = 9

# ------------------------------------------------------------------------------------------------ comparing


class Difference(NamedTuple):
    """Where two documents part: "kernels[3].time_s", what kind of difference it is, and what stands there."""

    path: str
    kind: str
    old: Any
    new: Any

    @property
    def group(self) -> str:
        """The path without its indices, and the kind: what differences are counted by."""
        return re.sub(r"\[[0-9]+\]", "[]", self.path) + ": " + self.kind


def differences(old: Any, new: Any, ignored: Sequence[str] = VOLATILE, path: str = "") -> Iterator[Difference]:
    """Every difference between two parsed documents, in the order of the old one; 1 and 1.0 and true are three values."""
    if any(fnmatchcase(path, pattern) for pattern in ignored):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            at = f"{path}.{key}" if path else key
            if key in old and key in new:
                yield from differences(old[key], new[key], ignored, at)
            elif not any(fnmatchcase(at, pattern) for pattern in ignored):
                yield Difference(at, "gone" if key in old else "added", old.get(key), new.get(key))
        if old.keys() == new.keys() and list(old) != list(new):
            yield Difference(path, "order of keys", list(old), list(new))
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield Difference(path, "length", len(old), len(new))
        for i, (left, right) in enumerate(zip(old, new, strict=False)):
            found = differences(left, right, ignored, f"{path}[{i}]")
            if len(old) == len(new):
                yield from found
            elif first := next(found, None):
                yield first  # what follows an item that was put in or left out is no news
                break
    elif type(old) is not type(new):
        yield Difference(path, "type", old, new)
    elif old != new:
        yield Difference(path, "value", old, new)


def compare(old: bytes, new: bytes, ignored: Sequence[str] = VOLATILE) -> list[Difference]:
    """The differences between two JSON documents as text; what is spelled otherwise and means the same is one, too."""
    if old == new:
        return []
    left, right = json.loads(old), json.loads(new)
    found = list(differences(left, right, ignored))
    if not found and not any(differences(left, right, ())):
        at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        found.append(Difference(f"byte {at}", "spelling", old[at - 20 : at + 20].decode(), new[at - 20 : at + 20].decode()))
    return found


# ------------------------------------------------------------------------------------------------ what is asked

GPUS = ("t4", "rtx-3090", "h100-sxm", "rtx-4090", "a100-sxm-80gb", "jetson-orin-nano", "mi300x", "v100-sxm2")
CPUS = ("i9-10940x", "epyc-7763", "graviton3", "raspberry-pi-4", "ryzen-9-7950x", "xeon-8480")
RUNTIMES = ("eager", "compiled", "ideal")
DTYPES = ("fp32", "amp", "fp16", "bf16", "tf32", "fp64")
# devices without a peak in a dtype: refused, and so asked about in fp32 here
_OLD = ("i9-10940x", "epyc-7763", "raspberry-pi-4")
WITHOUT: dict[str, tuple[str, ...]] = {
    "tf32": ("t4", "v100-sxm2", *CPUS),
    "bf16": ("t4", "v100-sxm2", *_OLD),
    "fp16": ("ryzen-9-7950x", *_OLD),
    "amp": _OLD,
}
OPTIMIZERS = ("adam", "sgd", "adamw")
BATCHES = (None, 8, 1, 32, None, 3)
# traced on real tensors, seconds each (two of the kind are asked about by name), and too deep for a list of two hundred
SLOW = (
    "*rcnn*",
    "retinanet*",
    "fcos*",
    "ssd*",
    "quantized_*",
    "raft_large",
    "swin3d_[bs]",
    "efficientnet_b7",
    "efficientnet_l2*",
    "maxvit_*",
    "*gigantic*",
    "*giant*",
    "dm_nfnet_f[3-6]",
    "resnetrs[234]*",
    "mobilenetv5*",
    "focalnet_*l_*",
    "tiny_vit_21m_512",
)
REAL = ("torchvision:ssdlite320_mobilenet_v3_large", "torchvision:quantized_mobilenet_v2")
LANGUAGE = {
    "hf:LlamaForCausalLM": {"num_hidden_layers": "2"},
    "hf:MixtralForCausalLM": {"num_hidden_layers": "2"},
    "hf:GemmaForCausalLM": {"num_hidden_layers": "2"},
    "hf:GPT2LMHeadModel": {"n_layer": "2"},
    "hf:GPTNeoXForCausalLM": {"num_hidden_layers": "2"},
}
OTHERS = {
    "hf:BertModel": {"num_hidden_layers": "2"},
    "hf:T5ForConditionalGeneration": {"num_layers": "2"},
    "hf:ViTModel": {"num_hidden_layers": "2"},
    "hf:WhisperForConditionalGeneration": {},
    "hf:config.json": {},
}
# a model of one's own in every form; "module:" is the nn.Module itself
OWN: dict[str, dict[str, Any]] = {
    "net.py:Net": {"inputs": ["1,3,64,64"], "settings": {"width": "32"}},
    "net:Net": {"inputs": ["x=1,3,48,48"]},
    "module:Net": {"inputs": ["2,3,64,64"]},
    "net.pt2": {},
    "net.onnx": {"inputs": ["x=3,4,8,8"]},
}
REFUSED: list[dict[str, Any]] = [
    {"model": "mobilenet_v9", "device": "t4"},
    {"model": "resnet50", "device": "rtx-4091"},
    {"model": "resnet50", "device": "t4", "dtype": "int8"},
    {"model": "resnet50", "device": "t4", "runtime": "fast"},
    {"model": "resnet50", "device": "t4", "decode": 8},
    {"model": "resnet50", "device": "t4", "batch": 0},
    {"model": "resnet50", "device": "t4", "training": True, "prefill": 8},
    {"model": "resnet50", "device": "t4", "inputs": ["1,3"]},
    {"model": "resnet50", "device": "t4", "inputs": ["1,5,224,224"]},
    {"model": "resnet50", "device": "t4", "settings": {"depth": "3"}},
    {"model": "net.py:Other", "device": "t4"},
    {"model": "net.pt2", "device": "t4", "settings": {"width": "3"}},
    {"model": "net.onnx", "device": "t4", "training": True},
    {"model": "hf:LlamaForCausalML", "device": "t4"},
    {"model": "missing.onnx", "device": "t4"},
]
# the README's own questions beside its commands
README: list[dict[str, Any]] = [
    {"model": "torchvision:swin_t", "device": "rtx-3090", "batch": 16, "dtype": "amp", "runtime": "compiled"},
    {"model": "timm:convnext_tiny", "device": "a100-sxm-80gb", "batch": 64, "training": True, "dtype": "amp"},
    {"model": "hf:LlamaForCausalLM", "device": "h100-sxm", "dtype": "bf16", "decode": 8192},
]
COMMANDS = (
    "analyze mobilenet_v3_large -d rtx-4090 --depth 1",
    "analyze resnet50 -d rtx-4090 -d t4 -b 32 --json",
    "analyze mobilenet_v1 --set width_mult=0.5 --resolution 160 -d raspberry-pi-4",
    "analyze vgg16 -d h100-sxm --by op --json",
    "analyze net.py:Net --input 1,3,64,64 --set width=128 -d t4 --by kernel --top 5",
    "analyze net.py:Net --input 1,3,64,64 -d nothing-like-it",
    "diff mobilenet_v2 mobilenet_v3_large -d t4 -b 8 --json",
    "diff mobilenet_v2 mobilenet_v3_large -d t4 -b 8",
    "check roofline.toml --json",
    "devices --json",
    "devices rtx-4090",
    "devices i9-10940x --json",
    "models --json",
    "models mobilenet",
    "--help",
    "analyze --help",
)


class Group(NamedTuple):
    """Questions to one model, asked in a row by one process; without a model, commands."""

    name: str
    asked: list[dict[str, Any]]


def combinations(turn: int, batches: bool = True) -> list[dict[str, Any]]:
    """Two devices of one kind, which share a trace, and a second trace: training, or inference on the other kind."""

    def device(kind: bool, i: int) -> str:
        return (GPUS if kind else CPUS)[(turn + i) % len(GPUS if kind else CPUS)]

    gpu, training = turn % 3 > 0, turn % 2 > 0
    first = {"dtype": DTYPES[turn % len(DTYPES)], "batch": BATCHES[turn // 2 % len(BATCHES)] if batches else None}
    step = {"training": True, "optimizer": OPTIMIZERS[turn // 4 % 3]} if training else {}
    second = {"dtype": DTYPES[(turn + 1) % len(DTYPES)], "batch": 4 if batches else None} | step
    runtimes = [RUNTIMES[(turn // 2 + i) % 3] for i in range(3)]
    asked: list[dict[str, Any]] = [
        {"device": device(gpu, 0), "runtime": runtimes[0], **first},
        {"device": device(gpu, 3), "runtime": runtimes[1], **first},
        {"device": device(turn % 4 == 1 if training else not gpu, 0), "runtime": runtimes[2], **second},
    ]
    return [a | {"dtype": "fp32"} if a["device"] in WITHOUT.get(a["dtype"], ()) else a for a in asked]


def zoo(count: int) -> list[str]:
    """`count` models, a quarter of them torchvision's; a smaller count asks for the first of the same list."""
    if not count:
        return []
    import timm
    from torchvision.models import list_models

    chance = random.Random(SEED)
    picked: list[str] = []
    wanted = {"torchvision": count // 4, "timm": count - count // 4}
    for package, names in (("torchvision", list_models()), ("timm", timm.list_models())):
        known = sorted(n for n in names if not any(fnmatchcase(n, slow) for slow in SLOW))
        chance.shuffle(known)
        picked += [f"{package}:{name}" for name in known[: wanted[package]]]
    return picked


def questions(count: int) -> list[Group]:
    """The whole list, the same at every call."""
    references = [f.stem for f in sorted((REPO / "models").glob("*.py"))]
    listed = subprocess.run(
        [sys.executable, "-m", "roofline", "models", "--json"], cwd=REPO, capture_output=True, check=True, text=True
    ).stdout
    names = [m["name"] for m in json.loads(listed)["models"] if Path(m["source"]).stem in references]
    groups = [Group(name, combinations(i)) for i, name in enumerate([*names, *zoo(count)])]
    for i, (name, settings) in enumerate(LANGUAGE.items()):
        passes: list[dict[str, Any]] = [{"decode": 300}, {"prefill": 100}, {}]
        asked = [more | {"settings": settings} | a for a, more in zip(passes, combinations(2 * i, False), strict=True)]
        asked.append({"device": CPUS[i % len(CPUS)], "training": True, "settings": settings})
        groups.append(Group(name, asked))
    for i, (name, settings) in enumerate(OTHERS.items()):
        groups.append(Group(name, [{"settings": settings} | c for c in combinations(i, False)]))
    for i, name in enumerate(REAL):
        groups.append(Group(name, [a | {"dtype": "fp32"} for a in combinations(2 * i, False)[:2]]))
    for i, (name, more) in enumerate(OWN.items()):
        asked = [c | more for c in combinations(2 * i, False)]
        fixed = [{k: v for k, v in a.items() if k != "dtype"} for a in asked] if name == "net.onnx" else asked
        groups.append(Group(name, fixed))
    groups += [Group("README", README), Group("refused", REFUSED), Group("commands", [{"command": line} for line in COMMANDS])]
    return groups


NET = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))
"""
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
BUDGETS = """\
[[budget]]
model = "mobilenet_v3_large"
device = "rtx-4090"
batch = 32
max_macs = "7 G"
max_time = "1 us"

[[budget]]
model = "mobilenet_v9"
max_params = "5.5 M"
"""


def furnish(folder: Path) -> None:
    """The files that the questions name, made once for both trees."""
    import warnings

    import onnx
    import torch
    from onnx import TensorProto, helper

    (folder / "net.py").write_text(NET, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "roofline.toml").write_text(BUDGETS, encoding="utf-8")
    names: dict[str, Any] = {}
    exec(NET, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(names["Net"](16).eval(), (torch.rand(2, 3, 16, 16),)), folder / "net.pt2")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], group=2),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "k"], ["y"], transB=1),
    ]
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [6, 2, 3, 3], [0.5] * 108),
        helper.make_tensor("k", TensorProto.FLOAT, [10, 6], [0.5] * 60),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 8, 8])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", given, out, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(folder / "net.onnx"))


# ------------------------------------------------------------------------------------------------ one process of a tree


def work(listed: Path, out: Path, tree: Path) -> None:
    """Answer a list of questions with the package in `tree`: a file for each, and its number on stdout when it is there."""
    import torch

    import roofline

    if not Path(str(roofline.__file__)).is_relative_to(tree):
        raise SystemExit(f"{roofline.__file__} is not in {tree}")
    torch.set_num_threads(1)
    for number, model, asked in json.loads(listed.read_bytes()):
        document = command(asked["command"]) if "command" in asked else answer(model, dict(asked))
        (out / f"{number}.json").write_bytes(document.replace(str(tree).encode(), b"<tree>"))
        print(number, flush=True)


def answer(model: str, asked: dict[str, Any]) -> bytes:
    """The document of one analysis, or of the error that it gave."""
    import roofline
    from roofline.analysis import to_json

    model = asked.pop("model", model)
    try:
        if model.startswith("module:"):
            import importlib

            sys.path.insert(0, os.getcwd())
            found = getattr(importlib.import_module("net"), model.removeprefix("module:"))()
            sys.path.pop(0)
            return to_json(roofline.analyze(found, **asked))
        return to_json(roofline.analyze(model, **asked))
    except Exception as error:  # a fault is a document like a refusal: the other revision must have it, too
        return json.dumps({"error": type(error).__name__, "words": str(error)}).encode()


def command(line: str) -> bytes:
    """What a command prints: the JSON, or the lines of text; and how it exits."""
    done = subprocess.run([sys.executable, "-P", "-m", "roofline", *line.split()], capture_output=True, text=True, check=False)
    printed = json.loads(done.stdout) if "--json" in line and done.stdout else done.stdout.splitlines()
    return json.dumps({"exit": done.returncode, "stdout": printed, "stderr": done.stderr.splitlines()}).encode()


# ------------------------------------------------------------------------------------------------ both trees


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A revision of this repository in a worktree of its own."""
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), revision], cwd=REPO, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=REPO, check=True)


@dataclass
class Side:
    """One tree at work: its processes write documents into `out` and put (side, number) into `said`, at their end None."""

    name: str
    tree: Path
    out: Path
    said: queue.Queue[tuple[str, int | None]]
    failed: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()

    def start(self, chunk: int, listed: Path, cwd: Path) -> threading.Thread:
        environment = os.environ | {
            "PYTHONPATH": str(self.tree),
            "ROOFLINE_CACHE_DIR": str(self.out / f"cache{chunk}"),
            "ROOFLINE_HOST_FILE": "",
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "80",
            "NO_COLOR": "1",
        }
        asked = [sys.executable, "-P", __file__, "--work", str(listed), str(self.out), str(self.tree)]
        errors = (self.out / f"stderr{chunk}").open("w+", encoding="utf-8")
        process = subprocess.Popen(asked, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.processes.append(process)

        def listen() -> None:
            assert process.stdout
            with process, errors:
                for line in process.stdout:
                    if line.strip().isdecimal():
                        self.said.put((self.name, int(line)))
                if process.wait():
                    errors.seek(0)
                    self.failed.append(f"{self.name}: exit {process.returncode}\n{errors.read()[-2000:]}")
            self.said.put((self.name, None))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        return thread


def run(sides: Sequence[Side], groups: list[Group], jobs: int, folder: Path, told: Callable[[str, list[bytes]], None]) -> None:
    """Put every question to both sides; `told` gets each pair of documents as soon as both are there."""
    numbered = iter(range(sum(len(g.asked) for g in groups)))
    lists: list[list[tuple[int, str, dict[str, Any]]]] = [[] for _ in range(max(1, jobs // len(sides)))]
    names: dict[int, str] = {}
    for i, group in enumerate(groups):
        for number, asked in zip(islice(numbered, len(group.asked)), group.asked, strict=True):
            lists[i % len(lists)].append((number, group.name, asked))
            names[number] = f"{group.name} " + " ".join(f"{k}={v}" for k, v in asked.items() if v is not None)
    said = sides[0].said
    running = 0
    for chunk, part in enumerate(lists):
        listed = folder / f"list{chunk}.json"
        listed.write_text(json.dumps(part), encoding="utf-8")
        for side in sides:
            side.start(chunk, listed, folder)
            running += 1
    there: Counter[int] = Counter()
    while running:
        _, came = said.get()
        if came is None:
            running -= 1
            continue
        there[came] += 1
        if there[came] == len(sides):
            files = [side.out / f"{came}.json" for side in sides]
            told(names.pop(came), [f.read_bytes() for f in files])
            for file in files:
                file.unlink()
    for name in names.values():  # a process of one side ended before
        told(name, [b"null", b'"no answer"'])


@dataclass
class Verdict:
    """What came of it, and progress on stderr on the way."""

    total: int
    ignored: Sequence[str]
    show: int
    done: int = 0
    differ: int = 0
    errors: list[str] = field(default_factory=list)
    groups: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.perf_counter)
    _shown: float = 0.0

    def __call__(self, name: str, documents: list[bytes]) -> None:
        self.done += 1
        if any(d.startswith(b'{"error"') for d in documents):
            self.errors.append(f"{name}: {json.loads(documents[0])}")
        found = compare(documents[0], documents[1], self.ignored)
        if found:
            self.differ += 1
            self.groups.update({d.group for d in found})
            if self.differ <= self.show:
                first = found[0]
                print(
                    f"{name}\n  {first.path} ({first.kind}): {short(first.old)} -> {short(first.new)}"
                    + (f", and {len(found) - 1} more" if found[1:] else ""),
                    flush=True,
                )
        now = time.perf_counter()
        if now - self._shown > 2 or self.done == self.total:
            self._shown = now
            spent = f"{self.done}/{self.total}, {now - self.started:.0f} s"
            print(f"[{spent}, {self.differ} differ] {name}", file=sys.stderr, flush=True)


def short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + " ..."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rev", metavar="REV", help="revision to compare with")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="revision that is compared; without it, the working tree")
    parser.add_argument("--models", type=int, default=200, metavar="N", help="models of torchvision and timm (200)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time, half for each tree (2)")
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="models whose name matches, 'refused' and 'commands' too"
    )
    parser.add_argument("--ignore", action="append", default=[], metavar="PATH", help="also leave out this path; repeat")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="documents whose first difference is printed (20)")
    parser.add_argument("--errors", action="store_true", help="also list the errors that are documents")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that worktrees are removed
    said: queue.Queue[tuple[str, int | None]] = queue.Queue()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="same-")))
        sides = []
        for name, revision in (("old", args.rev), ("new", args.other)):
            try:
                tree = stack.enter_context(checkout(revision, root / f"{name}-tree")) if revision else REPO
            except subprocess.CalledProcessError:
                return 2  # git said why
            (root / name).mkdir()
            sides.append(Side(name, tree, root / name, said))
            stack.callback(sides[-1].stop)
        (root / "work").mkdir()
        furnish(root / "work")
        groups = [g for g in questions(args.models) if fnmatchcase(g.name, args.only)]
        verdict = Verdict(sum(len(g.asked) for g in groups), [*VOLATILE, *args.ignore], args.show)
        run(sides, groups, args.jobs, root / "work", verdict)
    for text in sides[0].failed + sides[1].failed:
        print(text, file=sys.stderr)
    for text in verdict.errors if args.errors else ():
        print(f"{text}", file=sys.stderr)
    for group, count in verdict.groups.most_common():
        print(f"{count:5d} x {group}")
    spent = time.perf_counter() - verdict.started
    print(
        f"{verdict.done} documents of {len(groups)} models in {spent:.0f} s ({len(verdict.errors)} of them errors), "
        f"{verdict.differ} differ"
    )
    return 1 if verdict.differ or any(side.failed for side in sides) else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*map(Path, sys.argv[2:5]))
        sys.exit(0)
    sys.exit(main())
