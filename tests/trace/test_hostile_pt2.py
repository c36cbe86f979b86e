"""A .pt2 file is data: whatever it names, nothing runs, and it says so in one or two lines with exit code 2."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import damage, damaged, edited, rewritten, traced, wrong
from torch import nn

from roofline.cli.terminal import guard
from roofline.errors import SourceError
from roofline.sources.exported import operators, program


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, flag: bool = True) -> torch.Tensor:
        left, right = self.head(self.stem(x).mean((2, 3))).chunk(2, 1)
        return torch.cat([left, right.to(torch.float32)], 1) + torch.arange(8)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "small.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(Small().eval(), (torch.rand(2, 3, 16, 16), True), dynamic_shapes=({0: batch}, None))
        torch.export.save(program, path)
    return path


def text(value: str) -> dict[str, Any]:
    return {"as_string": value}


def node(target: str, *args: dict[str, Any], **kwargs: dict[str, Any]) -> dict[str, Any]:
    """A node as torch.export writes it: arguments by position, then by keyword; its result is called `made`."""
    inputs = [{"name": f"a{i}", "arg": a, "kind": 1} for i, a in enumerate(args)]
    inputs += [{"name": k, "arg": a, "kind": 2} for k, a in kwargs.items()]
    return {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": "made"}}], "metadata": {}}


def with_nodes(archive: Path, target: Path, *nodes: dict[str, Any]) -> str:
    """The archive with nodes before its own."""

    def change(document: dict[str, Any]) -> None:
        graph = document["graph_module"]["graph"]
        graph["nodes"] = [*nodes, *graph["nodes"]]

    return edited(archive, target, change)


def refusal(model: str) -> str:
    """What a person reads, through the same boundary as the command line's. Never a traceback, never another exit code."""
    words: list[str] = []

    def run() -> int:
        try:
            traced(model)
        except SourceError as error:
            words.append(str(error))
            raise
        return 0

    assert guard(run) == 2
    (found,) = words
    assert found.count("\n") <= 1
    assert all(len(line) < 1000 for line in found.split("\n"))
    return found


def test_the_program_itself_is_read(archive: Path) -> None:
    """The flag is part of the graph, and `.to` leaves a node that returns nothing; both are no fault."""
    trace = traced(str(archive))
    assert trace.model.params == 3 * 8 * 9 + 8 + 2 * 8 + 8 * 8 + 8
    assert [i.shape for i in trace.model.inputs] == [(2, 3, 16, 16)]


MARK = "MARK"  # stands for the path of a file that is not there, and must not be afterwards
LIBRARY = "LIBRARY"  # stands for a file that a loader would have to read
ONLY = "aten, prims, .* only"
ATTACKS: list[tuple[str, dict[str, Any], str]] = [
    # torch.ops' own methods and attributes
    ("load", node("torch.ops.load_library.__call__", text(LIBRARY)), ONLY),
    ("load self", node("torch.ops.load_library.__func__", text("self"), text(LIBRARY)), ONLY),
    ("import", node("torch.ops.import_module.__call__", text("antigravity")), ONLY),
    ("loaded", node("torch.ops.loaded_libraries.add", text("x")), ONLY),
    ("dict", node("torch.ops.__dict__.update", text("x")), ONLY),
    ("class", node("torch.ops.__class__.__call__", text("x")), ONLY),
    ("init", node("torch.ops.__init__.__globals__", text("x")), ONLY),
    ("namespace method", node("torch.ops.aten.__getattr__.__call__", text("from_file")), "not known here"),
    ("namespace class", node("torch.ops.aten.__class__.__init__", text("x")), "not known here"),
    ("namespace dir", node("torch.ops.aten._dir.append", text("x")), "not known here"),
    ("packet method", node("torch.ops.aten.add.__call__", {"as_int": 1}), "not known here"),
    ("packet attribute", node("torch.ops.aten.add._op", {"as_int": 1}), "not known here"),
    ("packet qualname", node("torch.ops.aten.add._qualified_op_name"), "not known here"),
    # deeper and other paths
    ("os", node("torch.os.system", text(f"touch {MARK}")), "not known here"),
    ("builtins", node("builtins.eval", text(f"open('{MARK}', 'w')")), "not known here"),
    ("operator", node("_operator.methodcaller", text("system")), "not known here"),
    ("attrgetter", node("_operator.attrgetter", text("__class__")), "not known here"),
    ("math", node("math.factorial", {"as_int": 10**6}), "not known here"),
    ("torch.load", node("torch.load", text(LIBRARY)), "not known here"),
    ("torch.hub", node("torch.hub.load", text("/"), text("x")), "not known here"),
    ("five", node("torch.ops.aten.add.Tensor.__globals__", text("x")), "not known here"),
    ("newline", node("torch.ops.aten.from_file.default\n", text(MARK)), "not known here|refused"),
    ("wide letters", node("torch.ops.\uff41ten.from_file.default", text(MARK)), "not known here|refused"),
    # operators that reach a file, a library, the terminal, the network or other Python
    ("from_file", node("torch.ops.aten.from_file.default", text(MARK), {"as_bool": True}, {"as_int": 16}), "more than compute"),
    ("from_file out", node("torch.ops.aten.from_file.out", text(MARK), {"as_bool": True}, {"as_int": 16}), "more than compute"),
    ("from_file packet", node("torch.ops.aten.from_file", text(MARK), {"as_bool": True}, {"as_int": 16}), "more than compute"),
    ("print", node("torch.ops.aten._print.default", text("\x1b[2J")), "more than compute"),
    ("save", node("torch.ops.aten.save.default", {"as_int": 1}, text(MARK)), "not known here"),
    ("seed", node("torch.ops.aten.manual_seed.default", {"as_int": 1}), "more than compute"),
    ("set", node("torch.ops.aten.set_.source_Tensor", {"as_tensor": {"name": "x"}}), "more than compute"),
    ("resize", node("torch.ops.aten.resize_.default", {"as_tensor": {"name": "x"}}, {"as_ints": [2**40]}), "more than compute"),
    ("tests", node("torch.ops.aten._test_string_default.default", {"as_tensor": {"name": "x"}}), "more than compute"),
    ("image", node("torch.ops.image.read_file.default", text("/etc/passwd")), ONLY),
    ("image write", node("torch.ops.image.write_file.default", text(MARK), {"as_tensor": {"name": "x"}}), ONLY),
    ("inductor", node("torch.ops.inductor.accumulate_grad_.default", {"as_tensor": {"name": "x"}}), ONLY),
    ("profiler", node("torch.ops.profiler._record_function_enter.default", text("x")), ONLY),
    ("c10d", node("torch.ops._c10d_functional.wait_tensor.default", {"as_tensor": {"name": "x"}}), ONLY),
    ("rpc", node("torch.ops.aten.to_here.default", {"as_tensor": {"name": "x"}}), "not known here"),
    ("debugprims", node("torch.ops.debugprims.load_tensor.default", text(MARK), {"as_ints": [1]}), ONLY),
    ("prim", node("torch.ops.prim.Print.default", text("x")), ONLY),
    ("script text", node("torch.ops.aten.format.default", text("{}"), {"as_int": 1}), "not known here"),
    ("class argument", node("torch.ops.quantized.linear.default", {"as_tensor": {"name": "x"}}), "W_prepack.*nothing"),
    ("class result", node("torch.ops.quantized.linear_prepack.default", {"as_tensor": {"name": "x"}}), "neither tensors nor"),
    ("higher order", node("torch.ops.higher_order.run_with_rng_state", text("x")), "control flow"),
    ("callback", node("torch.ops.higher_order.triton_kernel_wrapper_mutation", text("x")), "control flow"),
    # arithmetic on anything but numbers
    ("key", node("torch.sym_max", {"as_int": 1}, {"as_int": 2}, key={"as_tensor": {"name": "x"}}), "numbers only"),
    ("two keys", node("torch.sym_max", {"as_ints": [1]}, key={"as_string": "x"}, default={"as_int": 1}), "numbers only"),
    ("text", node("_operator.add", text("a"), text("b")), "numbers only"),
    ("format", node("_operator.mod", text("%s"), {"as_tensor": {"name": "x"}}), "numbers only"),
    ("repeat", node("_operator.mul", {"as_ints": [0]}, {"as_int": 10**12}), "numbers only"),
    ("tensor", node("_operator.add", {"as_tensor": {"name": "x"}}, {"as_int": 1}), "numbers only"),
    ("item", node("_operator.getitem", {"as_ints": [1]}, text("x")), "numbers only"),
    ("sum", node("torch.sym_sum", {"as_strings": ["a"]}), "numbers only"),
    # arguments that the schema does not take
    ("text for a tensor", node("torch.ops.aten.relu.default", text("x")), "'self' is Tensor, which"),
    ("another keyword", node("torch.ops.aten.relu.default", {"as_tensor": {"name": "x"}}, key=text("x")), "no argument 'key'"),
    ("twice", node("torch.ops.aten.relu.default", {"as_tensor": {"name": "x"}}, self={"as_tensor": {"name": "x"}}), "twice"),
    ("object", node("torch.ops.aten.relu.default", {"as_custom_obj": {"name": "x", "class_fqn": "os.system"}}), "not known"),
    ("operator argument", node("torch.ops.aten.relu.default", {"as_operator": "torch.os.system"}), "not known here"),
]


@pytest.mark.parametrize(("attack", "words"), [a[1:] for a in ATTACKS], ids=[a[0] for a in ATTACKS])
def test_nothing_runs(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: dict[str, Any],
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    mark, library = tmp_path / "ran", tmp_path / "library.so"
    library.write_bytes(b"no library")
    written = json.dumps(attack).replace(MARK, str(mark)).replace(LIBRARY, str(library))
    model = with_nodes(archive, tmp_path / "hostile.pt2", json.loads(written))
    loaded, seed = set(torch.ops.loaded_libraries), torch.initial_seed()
    assert re.search(words, refusal(model))
    assert not mark.exists()
    assert set(torch.ops.loaded_libraries) == loaded
    assert torch.initial_seed() == seed
    assert "antigravity" not in sys.modules
    assert capfd.readouterr().out == ""  # a refused file prints its refusal, on stderr, and nothing else
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hostile.pt2", "library.so"]


def test_every_operator_that_takes_text_takes_it_for_a_reason() -> None:
    """Every schema that this torch has: text goes into arguments that choose an algorithm, never into a name of a file."""
    allowed, texts = 0, set()
    for schema in torch._C._jit_get_all_schemas():
        space, _, name = schema.name.partition("::")
        try:
            function = operators.operator_of(f"torch.ops.{space}.{name}.{schema.overload_name or 'default'}", "f.pt2")
        except SourceError:
            continue
        allowed += 1
        assert space in ("aten", "prims", "quantized", "quantized_decomposed", "torchvision")
        for argument in function._schema.arguments:
            kind = str(argument.type)
            assert not any(word in kind for word in ("Storage", "Stream", "Any", "Dict", "RRef", "Future", "__torch__")), schema
            if "str" in kind:
                texts.add(argument.name)
        words = {"file", "filename", "load", "save", "print", "callback", "rpc", "store", "seed"}
        assert not set(name.split("_")) & words, schema
    assert allowed > 2000
    assert not [t for t in texts if "file" in t or "path" in t or "name" in t.replace("api_name", "") or "module" in t]


def test_tensors_without_memory_only(archive: Path, tmp_path: Path) -> None:
    """A factory gets the program's device, whatever the file says, and a number alone makes no tensor: this one has 8 TB."""
    size = {"as_ints": [2**40]}
    cpu = {"as_device": {"type": "cpu", "index": None}}
    for i, made in enumerate(
        (
            node("torch.ops.aten.zeros.default", size),
            node("torch.ops.aten.full.default", size, {"as_int": 1}, device=cpu),
            node("torch.ops.aten.to.device", {"as_tensor": {"name": "x"}}, cpu, {"as_scalar_type": 7}),
        )
    ):
        assert traced(with_nodes(archive, tmp_path / f"{i}.pt2", made)).ops
    lone = node("torch.ops.aten.repeat.default", {"as_int": 1}, size)
    assert "it is given no tensor" in refusal(with_nodes(archive, tmp_path / "lone.pt2", lone))
    with pytest.raises(SourceError, match="never run on real tensors"):
        program.load(str(archive))(torch.rand(2, 3, 16, 16))


MADE = {"as_tensor": {"name": "made"}}
COSTLY: list[tuple[str, list[dict[str, Any]], str]] = [
    ("power", [node("_operator.pow", {"as_int": 9}, {"as_int": 10**8})], "beyond 64 bits"),
    ("product", [node("_operator.mul", {"as_int": 10**4000}, {"as_int": 10**4000})], "beyond 64 bits"),
    ("root", [node("_operator.pow", {"as_int": -1}, {"as_float": 0.5})], "no number"),
    ("infinity", [node("torch.sym_int", {"as_float": float("inf")})], "cannot convert float infinity"),
    ("unbind", [node("torch.ops.aten.zeros.default", {"as_ints": [10**9]}),
                node("torch.ops.aten.unbind.int", MADE)], "65,536 are the most"),
    ("split", [node("torch.ops.aten.zeros.default", {"as_ints": [10**9]}),
               node("torch.ops.aten.split.Tensor", MADE, {"as_int": 1})], "65,536 are the most"),
    ("chunk", [node("torch.ops.aten.zeros.default", {"as_ints": [10**9]}),
               node("torch.ops.aten.chunk.default", MADE, {"as_int": 10**9})], "65,536 are the most"),
    ("digits", [node("torch.ops.aten.zeros.default", {"as_ints": [10**400]})], "cannot be called as the graph says"),
    ("too large", [node("torch.ops.aten.zeros.default", {"as_ints": [2**62, 2**62]})], "cannot be called as the graph says"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "words"), [c[1:] for c in COSTLY], ids=[c[0] for c in COSTLY])
def test_a_small_file_asks_for_little(archive: Path, tmp_path: Path, nodes: list[dict[str, Any]], words: str) -> None:
    begin = time.perf_counter()
    assert words in refusal(with_nodes(archive, tmp_path / "costly.pt2", *nodes))
    assert time.perf_counter() - begin < 10


def test_archives_that_unpack_to_much(archive: Path, tmp_path: Path) -> None:
    """129 MiB of nothing in 130 kB; and few bytes of very many values, whose objects take a hundred times as much."""

    def graph(name: str, change: Callable[[bytes], bytes]) -> str:
        return rewritten(archive, tmp_path / name, lambda n, d: change(d) if n.endswith("models/model.json") else d)

    big = graph("big.pt2", lambda d: b" " * (129 * 2**20) + d)
    assert Path(big).stat().st_size < 400_000
    assert "unpacks to 135,2" in refusal(big)
    assert "the limit for a graph is 134,217,728" in refusal(big)
    many = graph("many.pt2", lambda d: b"[" + b"[]," * 5_000_000 + b"0]")
    assert "holds more than 8,000,000 values, the limit for a graph" in refusal(many)
    assert "is not readable as JSON" in refusal(graph("deep.pt2", lambda d: b"[" * 100_000))


def test_modules_inside_modules_have_an_end(archive: Path, tmp_path: Path) -> None:
    path = ".".join("a" * 5000)

    def deep_weight(document: dict[str, Any]) -> None:
        spec = next(s for s in document["graph_module"]["signature"]["input_specs"] if "parameter" in s)
        spec["parameter"]["parameter_name"] = path + ".weight"

    def deep_config(document: dict[str, Any]) -> None:
        document["config"][path + ".weight"] = next(iter(document["config"].values()))

    once = edited(archive, tmp_path / "once.pt2", deep_weight)
    model = edited(Path(once), tmp_path / "deep.pt2", deep_config, "model_weights_config.json")
    assert "more than 100 modules deep, the limit for a program" in refusal(model)

    def deep_stack(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][0]["metadata"]["nn_module_stack"] = f"k,{path},torch.nn.Linear"

    assert traced(edited(archive, tmp_path / "stack.pt2", deep_stack)).ops  # a place that cannot be shown is the program itself


def test_nothing_in_the_archive_is_unpickled(archive: Path, tmp_path: Path) -> None:
    """Weights, constants and example inputs are pickles: they are not opened, so what they hold does not matter."""
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(mark), "w")

    import pickle

    bomb = pickle.dumps(Bomb())
    model = rewritten(archive, tmp_path / "pickles.pt2", lambda n, d: d if n.endswith(("json", "version")) else bomb)
    with zipfile.ZipFile(model, "a") as more:
        assert "small/data/sample_inputs/model.pt" in more.namelist()
        more.writestr("small/data/constants/custom_obj_0", bomb)
    assert traced(model).ops
    assert not mark.exists()


def test_types_and_symbols_of_a_file_are_names_only(archive: Path, tmp_path: Path) -> None:
    """Expressions, example classes and module types are text to us: no sympy, no import."""
    mark = tmp_path / "ran"

    def change(document: dict[str, Any]) -> None:
        evil = f"__import__('os').system('touch {mark}')"
        written = json.dumps(document["graph_module"])
        assert '"expr_str": "' in written
        for holder in _every(document):
            if "expr_str" in holder:
                holder["expr_str"] = evil
            if "nn_module_stack" in holder:
                holder["nn_module_stack"] = f"L__self__,,{evil};L__self___stem,stem,antigravity.Thing"
        document["range_constraints"] = {evil: {"min_val": 1, "max_val": 2}}
        call = document["graph_module"]["module_call_graph"][0]["signature"]
        thing = {"type": "antigravity.Thing", "context": evil, "children_spec": []}
        call["in_spec"] = call["out_spec"] = json.dumps([1, thing])

    trace = traced(edited(archive, tmp_path / "symbols.pt2", change))
    assert {layer.type for layer in trace.layers if layer.path == "stem"} == {"Thing"}
    assert not mark.exists()
    assert "antigravity" not in sys.modules


def _every(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _every(inner)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["bytes", "document", "text"])
def test_damage(archive: Path, tmp_path: Path, way: str) -> None:
    """100 files each (`benchmarks/fuzz.py` makes thousands), cut, flipped or with wrong values: read, or refused in words."""
    path = tmp_path / "damaged.pt2"

    def write(r: random.Random) -> None:
        if way == "bytes":
            path.write_bytes(damaged(archive.read_bytes(), r))
        elif way == "document":
            member = r.choice(["models/model.json"] * 4 + ["model_weights_config.json"])
            edited(archive, path, lambda d: wrong(d, r), member)
        else:
            rewritten(archive, path, lambda n, d: damaged(d, r) if n.endswith("models/model.json") else d)

    assert damage(path, write) > 30


class Kept(nn.Module):
    """Boxes of a detector's, as many as do not overlap."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return boxes[torch.ops.torchvision.nms(boxes, scores, 0.5)] * 2


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 4, 5)

    def forward(self, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return self.head(torch.ops.torchvision.roi_align(x, boxes, 1.0, 2, 2, 2, False).flatten(1))


class Found(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0.5] * 2


def exported(net: nn.Module, path: Path, *args: torch.Tensor) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, args), path)
    return str(path)


def test_operators_of_torchvision_are_known_to_who_did_not_import_it(tmp_path: Path) -> None:
    """7 boxes: 7 x 5 x 12 MACs of the head; in a process that has torch alone."""
    pytest.importorskip("torchvision")
    model = exported(Pooled(), tmp_path / "pooled.pt2", torch.rand(1, 3, 8, 8), torch.rand(7, 5))
    code = f"import roofline; print(roofline.analyze({model!r}, device='t4', cache=False).totals.macs)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == f"{7 * 5 * 12}\n", done.stderr


def test_what_depends_on_values_is_said_in_our_words(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    found = exported(Found(), tmp_path / "found.pt2", torch.rand(3, 4))
    kept = exported(Kept(), tmp_path / "kept.pt2", torch.rand(6, 4), torch.rand(6))
    for model, words in ((found, r"index.Tensor: nonzero\(\)"), (kept, r"nms.default: nms\(\)")):
        with pytest.raises(
            SourceError, match=f"{words}: how much it finds depends on values, which a file does not hold\nname the"
        ):
            traced(model)
