"""The recipes of CONTRIBUTING.md, each done once with something made up: one file, one line, and all of it is known."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import roofline
from roofline import cli, cost
from roofline.analysis import metrics
from roofline.cost import registry
from roofline.devices import library, lint
from roofline.errors import UnknownNameError, UsageError
from roofline.isolation import watching
from roofline.records import Analysis
from roofline.request import Ask, Request
from roofline.sources import kinds
from roofline.sources.resolve import resolve
from roofline.sources.source import InPrint, Kind, Source
from roofline.validation.crosscheck import crosscheck
from roofline.views import files

Capture = pytest.CaptureFixture[str]
PACKAGE = Path(roofline.__file__).parent


def document(capsys: Capture, *args: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    assert cli.main([*args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


# ------------------------------------------------------------------------------------------------ a kind of source


class Toy(Kind):
    """`toy:mlp`: all that a kind has to say."""

    name = prefix = "toy"
    meant = "the toy"

    def __init__(self) -> None:
        self.built = 0

    def named(self, name: str) -> Source:
        if name != "mlp":
            raise UnknownNameError(f"there is no toy {name!r}; did you mean mlp?")
        return Source(name=name, kind=self, where=name, inputs=None)

    def names(self) -> Collection[str]:
        return ("mlp",)

    def catalogue(self) -> Iterable[dict[str, str]]:
        return [{"name": "toy:mlp", "source": "a toy", "about": "two layers", "paper": ""}]

    def default(self, source: Source) -> Mapping[str, Any]:
        return {"x": [1, 8]}

    def load(self, source: Source) -> Callable[..., nn.Module]:
        def make(width: int = 32) -> nn.Module:
            self.built += 1
            return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4))

        return make

    def published(self, source: Source) -> Iterable[InPrint]:
        return [InPrint("macs", "384", "the box"), InPrint("params", "1 K", "the box", why="a misprint")]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    kind = Toy()
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, kind))
    # What installed packages ask for counts for all later models of a process: one that another test imported reads the whole
    # environment, of which pytest changes a part with every test.
    monkeypatch.setattr(watching, "_kept", watching.Seen())
    return kind


def test_a_kind_of_source_is_one_file(toy: Toy, cache_dir: Path) -> None:
    assert resolve(Ask("toy:mlp")).kind is toy
    assert resolve(Ask("toy:mlp")).label == "mlp"
    first = roofline.analyze("toy:mlp", device="t4", batch=2)
    assert (first.model.params, first.totals.macs) == (8 * 32 + 32 + 32 * 4 + 4, 2 * (8 * 32 + 32 * 4))
    assert first.model.inputs[0].shape == (2, 8)
    built = toy.built
    assert roofline.analyze("toy:mlp", device="t4", batch=2) == first
    roofline.analyze("toy:mlp", device="rtx-4090", batch=2)  # of the same trace
    assert toy.built == built
    other = roofline.analyze("toy:mlp", device="t4", batch=2, settings={"width": "16"})
    assert other.totals.macs == 2 * (8 * 16 + 16 * 4)
    assert toy.built > built


def test_a_kind_is_refused_in_its_own_words_and_found_by_names_like_its_own(toy: Toy) -> None:
    with pytest.raises(UnknownNameError, match="no toy 'mlq'"):
        roofline.analyze("toy:mlq", device="t4")
    with pytest.raises(UsageError, match="mlp takes no argument 'widht': did you mean width"):
        roofline.analyze("toy:mlp", device="t4", settings={"widht": "1"})
    with pytest.raises(UnknownNameError, match="unknown model 'mlpp': did you mean mlp"):
        resolve(Ask("mlpp"))


def test_the_commands_know_the_kind(toy: Toy, capsys: Capture) -> None:
    assert document(capsys, "models", "toy")["models"][0]["name"] == "toy:mlp"
    assert document(capsys, "analyze", "toy:mlp", "-d", "t4")["totals"]["macs"] == 384
    assert document(capsys, "diff", "toy:mlp", "toy:mlp", "-d", "t4")["diff"]["layers"] == []


def test_the_other_counters_take_the_kind_and_what_is_printed_of_it(toy: Toy) -> None:
    found = crosscheck(Request(Ask("toy:mlp")))
    assert (found.ours, found.fvcore, found.torch) == (384, 384, 384)
    assert [(p.what, p.ours, p.agrees, p.why) for p in found.published] == [
        ("macs", 384, True, ""),
        ("params", 8 * 32 + 32 + 32 * 4 + 4, False, "a misprint"),
    ]


OWN_FILES = {
    "reference.py",
    "python.py",
    "exported/__init__.py",
    "onnx/__init__.py",
    "zoo.py",
    "torchvision.py",
    "timm.py",
    "transformers.py",
    "kinds.py",
}


def test_nothing_outside_its_file_asks_which_kind_a_source_is_of() -> None:
    """No comparison with the name of a kind, no isinstance() of its class, no reading of `kind.name` but for a key."""
    assert len({k.name for k in kinds.KINDS}) == len(kinds.KINDS)
    names, classes = {k.name for k in kinds.KINDS}, {type(k).__name__ for k in kinds.KINDS}
    own = {(PACKAGE / "sources" / name).resolve() for name in OWN_FILES}
    assert all(path.is_file() for path in own)
    asked = []
    for path in PACKAGE.rglob("*.py"):
        if path.resolve() in own:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Compare():
                    told = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
                    kind = any(isinstance(a, ast.Attribute) and a.attr == "kind" for a in ast.walk(node))
                    wrong = bool(kind and told & names)
                case ast.MatchValue(value=ast.Constant(value=str(text))):
                    wrong = text in names
                case ast.Call(func=ast.Name(id="isinstance"), args=[_, of]):
                    wrong = bool({n.id for n in ast.walk(of) if isinstance(n, ast.Name)} & classes)
                case ast.Attribute(attr="name", value=ast.Attribute(attr="kind")):
                    wrong = path.name != "source.py"
                case _:
                    wrong = False
            if wrong:
                asked.append(f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}")
    assert asked == []


# ------------------------------------------------------------------------------------------------ an output


def test_an_output_is_a_renderer_and_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    def render(analyses: Sequence[Analysis], shown: files.Shown) -> bytes:
        return f"{len(analyses)} {analyses[0].model.name} {shown.by}".encode()

    monkeypatch.setitem(files.FORMATS, ".toy", render)
    path = tmp_path / "a.TOY"
    assert cli.main(["analyze", "mobilenet_v1", "-d", "t4", "--by", "op", "-o", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == "1 mobilenet_v1 op"
    capsys.readouterr()
    assert cli.main(["analyze", "mobilenet_v1", "-o", "a.toyy"]) == 2
    refused = capsys.readouterr().err
    assert "did you mean a.toy?" in refused
    assert ", .toy\n" in refused


# ------------------------------------------------------------------------------------------------ a metric


def test_a_metric_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    toy = metrics.Metric("layers", "count", True, lambda a: len(a.layers), noun="layers?", alias="n_layers")
    monkeypatch.setitem(metrics.BY_NAME, "layers", toy)
    saved = tmp_path / "a.json"
    assert cli.main(["analyze", "mobilenet_v1", "-d", "t4", "-o", str(saved)]) == 0
    count = len(json.loads(saved.read_text(encoding="utf-8"))["layers"])
    capsys.readouterr()
    budget = tmp_path / "roofline.toml"
    budget.write_text(f'[[budget]]\nanalysis = "a.json"\nmax_layers = "{count - 1} layers"\n', encoding="utf-8")
    (finding,) = document(capsys, "check", str(budget), code=1)["budgets"][0]["findings"]
    assert (finding["metric"], finding["actual"], finding["limit"]) == ("layers", count, count - 1)
    totals = document(capsys, "diff", str(saved), str(saved), "--fail-on", "n_layers>5%")["diff"]["totals"]
    assert totals[-1] == {"metric": "layers", "base": count, "head": count, "relative": 0.0}
    budget.write_text('[[budget]]\nanalysis = "a.json"\nlayers = 3\n', encoding="utf-8")
    assert cli.main(["check", str(budget)]) == 2
    assert "did you mean 'max_layers'?" in capsys.readouterr().err
    assert cli.main(["diff", "a", "b", "--fail-on", "layerz>5"]) == 2
    assert "did you mean 'layers'?" in capsys.readouterr().err
    for command, name in (
        ("check", "max_kernels, max_time, max_peak_memory, max_energy, max_layers, min_intensity"),
        ("diff", "peak_memory, energy, layers. "),
    ):
        assert cli.main([command, "--help"]) == 0
        assert name in " ".join(capsys.readouterr().out.split()) + " "


# ------------------------------------------------------------------------------------------------ a device


def test_a_device_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    """Dropped into the folder it is found by name and alias, held to physics, listed, and predicted on."""
    folder = tmp_path / "library"
    shutil.copytree(library.LIBRARY, folder)
    text = (folder / "t4.toml").read_text(encoding="utf-8")
    for old, new in (('"t4"', '"toy-100"'), ('"NVIDIA T4"', '"Toy 100"'), ('["tesla-t4"]', '["Toy One Hundred"]')):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "toy-100.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(library, "LIBRARY", folder)
    library._index.cache_clear()
    try:
        found = library.lookup("TOY 100")
        assert library.lookup("toy one hundred") == found
        assert lint.check(found) == []
        assert "toy-100" in {d["name"] for d in document(capsys, "devices")["devices"]}
        assert document(capsys, "analyze", "mobilenet_v1", "-d", "toy-100")["device"]["name"] == "toy-100"
        with pytest.raises(UnknownNameError, match="did you mean toy-100"):
            library.lookup("toy-1000")
    finally:
        library._index.cache_clear()


# ------------------------------------------------------------------------------------------------ an operator

RULES = """
import roofline
from roofline import Work


@roofline.register_flops("recipe.twice", kind="pointwise")
def twice(x, *, out):
    # [n] -> [n]
    return Work(out.numel, 0)
"""


@pytest.fixture
def own_rules() -> Iterator[None]:
    before = dict(registry.RULES)
    yield
    registry.RULES.clear()
    registry.RULES.update(before)
    cost._found.clear()


@torch.library.custom_op("recipe::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Twice(nn.Module):
    """Its only operator is one that nobody knows."""

    def forward(self, x: torch.Tensor) -> Any:
        return twice(x)


@pytest.mark.usefixtures("own_rules")
def test_an_operator_is_a_rule_in_one_file(tmp_path: Path) -> None:
    before = roofline.analyze(Twice(), device="t4", inputs=["3,5"])
    assert [u.op for u in before.coverage.unknown_ops] == ["recipe.twice"]
    path = tmp_path / "rules_of_a_recipe.py"
    path.write_text(RULES, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
        after = roofline.analyze(Twice(), device="t4", inputs=["3,5"])
    finally:
        del sys.modules[path.stem]
    assert after.coverage.unknown_ops == []
    assert after.totals.flops == 3 * 5
    assert after.kernels[0].klass == "pointwise"


# ------------------------------------------------------------------------------------------------ what is written of them


def test_every_recipe_names_files_that_are_there_and_a_test_that_does_it() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| an? ", line)]
    assert [row[0] for row in rows] == ["an operator", "a device", "a kind of source", "an output", "a metric", "a command"]
    for _, touched, done in rows:
        places = [p for p in re.findall(r"`([^`]+)`", touched) if p.startswith("roofline/")]
        assert places
        assert all((PACKAGE.parent / place).exists() for place in places)
        file, _, name = done.strip("`").partition("::")
        assert f"\ndef {name}(" in (PACKAGE.parent / file).read_text(encoding="utf-8")
