"""What a person calls a model -> where it is, what it takes, and the module itself.

    mobilenet_v3_large            a reference model of this project
    net.py:Net                    a class, function or module object in a Python file
    package.module:make           the same in an importable package
    torchvision:NAME, timm:NAME   a model of those packages; a bare name is looked up there after the reference models
    hf:NAME                       a transformers class with its default config, or a local config.json
    net.pt2                       a program saved by torch.export
    net.onnx                      an ONNX graph

`resolve` finds a model without importing torch, so that a cached analysis needs none; `build.build` makes the module.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roofline import compat, paths
from roofline.dtypes import INPUTS, INTEGERS
from roofline.errors import SourceError, UnknownNameError, UsageError, nearest
from roofline.request import Ask
from roofline.sources import zoo
from roofline.sources.zoo import ZOOS

DEFAULT_INPUT: dict[str, Any] = {"x": [1, 3, 224, 224]}
# The package that builds the models of a kind.
PACKAGES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers", "exported": "torch", "onnx": "onnx"}
_BLOCK = re.compile(r"^ROOFLINE\b[^=\n]*= (\{.*?^\})", re.MULTILINE | re.DOTALL)


class Input(Struct, frozen=True):
    """One tensor input: `name` is the parameter of forward() that takes it, or its position."""

    name: str
    shape: tuple[int, ...]
    # empty: the analysis' floating dtype
    dtype: str = ""
    # a person wrote this name, so forward() has to have it; any other name may stand for a position
    named: bool = False


class Source(Struct, frozen=True, kw_only=True):
    """A model that can be built: which kind of place it is in, and what it takes."""

    name: str
    # "reference", "file", "module", "torchvision", "timm", "hf", "exported" or "onnx"
    kind: str
    # file path, module name, or model name within its zoo
    where: str
    # callable or attribute in it
    attribute: str = ""
    args: dict[str, Any] = {}
    # `args` without what a person set
    unset: dict[str, Any] = {}
    # None: only the package that builds the model knows them, see `build.inputs`
    inputs: tuple[Input, ...] | None
    # how a person asked for it
    asked: Ask = Ask("")
    # what was assumed, for the notes of the analysis
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people: "models/mobilenet_v2.py", "torchvision 0.29.2"."""
        if self.kind == "reference":
            return f"models/{Path(self.where).name}"
        if self.kind in (*ZOOS, "hf"):
            return f"{PACKAGES[self.kind]} {compat.version(PACKAGES[self.kind])}"
        return self.where

    @property
    def files(self) -> tuple[Path, ...]:
        """Files whose content the model depends on."""
        local = self.kind in ("reference", "file", "exported", "onnx") or self.where.endswith(".json")
        return (Path(self.where),) if local else ()

    @property
    def key(self) -> str:
        """What the trace depends on besides the content of `files`."""
        package = PACKAGES.get(self.kind)
        version = (compat.version(package), compat.place(package)) if package else ""
        asked = self.asked.sizes if self.inputs is None else self.inputs
        return repr((self.kind, self.where, self.attribute, sorted(self.args.items()), version, asked, self.notes))


# ------------------------------------------------------------------------------------------------ finding


def declared(path: Path) -> dict[str, dict[str, Any]]:
    """The ROOFLINE table of a Python file, read as a literal: the file is not run. Empty where it has none."""
    try:
        block = _BLOCK.search(path.read_text(encoding="utf-8"))
        return ast.literal_eval(block.group(1)) if block else {}
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise SourceError(f"{path}: its ROOFLINE table cannot be read as a literal: {error}") from error


@cache
def reference_models() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Name -> (file, entry) of every reference model."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in sorted(paths.models().glob("*.py")):
        for name, entry in declared(path).items():
            found[name] = (path, entry)
    return found


def catalogue(zoos: bool = True) -> list[dict[str, str]]:
    """The models that are known by name, reference models first, then the zoos': name, source, about, paper.

    None of them is imported: the zoos' names are read from their source.
    """
    known = [
        {"name": name, "source": f"models/{path.name}", "about": entry.get("about", ""), "paper": entry.get("paper", "")}
        for name, (path, entry) in reference_models().items()
    ]
    known += [
        {"name": f"{z}:{name}", "source": f"{z} {compat.version(z)}", "about": module, "paper": ""}
        for z in (ZOOS if zoos else ())
        for name, module in zoo.names(z).items()
    ]
    return known


def resolve(ask: Ask) -> Source:
    """Find a model by what a person calls it, with its inputs as asked for. Imports no torch.

    Raises UnknownNameError with the nearest names, UsageError for inputs that cannot be.
    """
    source = _find(ask.model)
    unset = source.args
    if ask.resolution is not None and not ask.inputs:
        unset = unset | zoo.resized(source.kind, source.where, ask.resolution)
    args = unset | {k: _typed(v) for k, v in ask.settings.items()}
    known = zoo.notes(source.kind, source.where, args) if source.kind in ZOOS else ()
    return replace(
        source,
        args=args,
        unset=unset,
        inputs=None if source.inputs is None else sized(source.inputs, ask),
        notes=(*known, *(n for n in source.notes if not (ask.inputs and n == _ASSUMED))),
        asked=ask,
    )


def shapes(ask: Ask) -> tuple[Input, ...]:
    """The inputs of a module that nothing is known of: as given, else one image."""
    return sized(parsed(DEFAULT_INPUT), ask)


def sized(default: tuple[Input, ...], ask: Ask) -> tuple[Input, ...]:
    """The default inputs as a person asked for them. Raises UsageError for a shape that cannot be."""
    return _sized(_merged(default, given(ask.inputs)), ask.batch, ask.resolution)


def given(inputs: Sequence[str]) -> tuple[Input, ...]:
    """The inputs that a person wrote out. Raises UsageError for text that is no shape."""
    found = [_parse_input(text, i) for i, text in enumerate(inputs)]
    for name in (names := [i.name for i in found if not i.name.isdigit()]):
        if names.count(name) > 1:
            raise UsageError(f"--input {name}: given {names.count(name)} times, and it has one shape")
    return tuple(replace(i, named=not i.name.isdigit()) for i in found)


def _find(model: str) -> Source:
    known = reference_models()
    place, colon, attribute = model.rpartition(":")
    if model in known:
        path, entry = known[model]
        return _declared_source("reference", model, path, entry)
    if place in ZOOS:
        return _zoo(place, attribute)
    if place == "hf":
        return _hf(attribute)
    if model.endswith(PICKLES):
        raise UsageError(
            f"{model}: a pickled model runs code when it is loaded, so it is refused; "
            "name the Python file and class instead (net.py:Net), or torch.export.save it and give the .pt2 file"
        )
    if model.endswith((".pt2", ".onnx")):
        return _graph(model)
    if place.endswith(".py") or model.endswith(".py"):
        return _file(place if place.endswith(".py") else model, attribute if place.endswith(".py") else "")
    if colon and place:
        return Source(
            name=attribute, kind="module", where=place, attribute=attribute, inputs=parsed(DEFAULT_INPUT), notes=(_ASSUMED,)
        )
    for i, z in enumerate(ZOOS):
        if zoo.has(z, model):
            return replace(_zoo(z, model), notes=_ambiguous(model, f"{z}'s", ZOOS[i + 1 :]))
    names = [*known, *(name for z in ZOOS for name in zoo.names(z))]
    near = nearest(model, names, n=3, lead="", show=str)
    hint = f"{near} " if near else ""
    missing = [z for z in ZOOS if not compat.version(z)]
    if missing and model.replace("_", "").isalnum():
        more = f"; the models of {' and '.join(missing)} need them installed: pip install {' '.join(missing)}"
    else:
        more = ""
    raise UnknownNameError(
        f"unknown model {model!r}: {hint}`roofline models` lists the names; a file is given as net.py:Net{more}"
    )


PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def also_known(source: Source) -> tuple[str, ...]:
    """A note where a zoo has a model of a reference model's name; it reads the zoos' files, so ask when tracing only."""
    return _ambiguous(source.name, "the reference model", ZOOS) if source.kind == "reference" else ()


def _ambiguous(name: str, chosen: str, others: Sequence[str]) -> tuple[str, ...]:
    """A note where other zoos know the name too."""
    also = [f"{z}:{name}" for z in others if zoo.defines(z, name)]
    return (f"{name} is {chosen}; say {' or '.join(also)} for the other",) if also else ()


_ASSUMED = "input not declared: 1,3,224,224 assumed; give --input to change it"


def _declared_source(kind: str, name: str, path: Path, entry: Mapping[str, Any]) -> Source:
    return Source(
        name=name, kind=kind, where=str(path), attribute=entry.get("make", name), args=dict(entry.get("args", {})),
        inputs=parsed(entry.get("inputs", DEFAULT_INPUT)),
    )  # fmt: skip


def _file_at(file: str) -> Path:
    """Where a file is. Raises UsageError where there is none, or something that may have no end (a pipe, a device)."""
    try:
        path = Path(file).expanduser().resolve()
        kind = "" if path.is_file() else "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "no file"
    except (OSError, ValueError, RuntimeError):  # a name that no file can have
        kind = "no file"
    if kind:
        raise UsageError(f"no such file: {file}" if kind == "no file" else f"{file} is {kind}, not a file")
    return path


def _file(file: str, attribute: str) -> Source:
    path = _file_at(file)
    table = declared(path)
    if not attribute:
        if len(table) != 1:
            names = ", ".join(table) or "none declared"
            raise UsageError(f"{file}: say which model, as {file}:NAME ({names})")
        attribute = next(iter(table))
    if attribute in table:
        return _declared_source("file", attribute, path, table[attribute])
    return Source(
        name=attribute, kind="file", where=str(path), attribute=attribute, inputs=parsed(DEFAULT_INPUT), notes=(_ASSUMED,)
    )


def _zoo(name_of_zoo: str, name: str) -> Source:
    _needs(name_of_zoo, name)
    if not zoo.has(name_of_zoo, name):
        raise UnknownNameError(f"{name_of_zoo} has no model {name!r}{nearest(name, zoo.names(name_of_zoo), n=3, show=str)}")
    return Source(name=name, kind=name_of_zoo, where=name, inputs=None)


def _needs(kind: str, name: str) -> None:
    """Raise UsageError where the package that builds this kind is missing or too old."""
    compat.needs(PACKAGES[kind], name)


def _hf(name: str) -> Source:
    """A class name or a local config.json: nothing else, since a name of the hub would be a download."""
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".json" or "/" in name:
        if not path.is_file():
            raise UsageError(
                f"hf:{name}: no such file; nothing is downloaded, so give a local config.json "
                "or a class name (hf:LlamaForCausalLM)"
            )
        _needs("hf", name)
        return Source(name=path.resolve().parent.name, kind="hf", where=str(path.resolve()), inputs=None)
    _needs("hf", name)
    if not name.isidentifier():
        raise UsageError(f"hf:{name} is neither a class name (hf:LlamaForCausalLM) nor a config.json")
    return Source(name=name, kind="hf", where=name, inputs=None)


def _graph(file: str) -> Source:
    path = _file_at(file)
    kind = "exported" if path.suffix == ".pt2" else "onnx"
    if kind == "onnx":
        _needs("onnx", file)
    return Source(name=path.stem, kind=kind, where=str(path), inputs=None)


# ------------------------------------------------------------------------------------------------ inputs and settings


def parsed(table: Mapping[str, Any]) -> tuple[Input, ...]:
    """Inputs from a table of name -> shape, as a list of sizes or as text with a dtype."""
    out = []
    for name, value in table.items():
        if isinstance(value, str):
            out.append(_parse_input(f"{name}={value}", 0))
        else:
            out.append(Input(name, tuple(value)))
    return tuple(out)


def _parse_input(text: str, position: int) -> Input:
    """`1,3,224,224`, `x=1,3,224,224`, `ids=1,128:int64`."""
    name, equals, rest = text.rpartition("=")
    shape, _, dtype = rest.partition(":")
    try:
        sizes = tuple(int(s) for s in re.split(r"[,x]", shape.strip()) if s.strip() or shape.strip())
    except ValueError:
        sizes = ()
    if (not sizes and shape.strip()) or any(s < 1 for s in sizes) or (equals and not name.strip().isidentifier()):
        raise UsageError(f"--input {text!r} is not a shape; write 1,3,224,224 or x=1,3,224,224 or ids=1,128:int64")
    dtype = dtype.strip()
    if dtype and dtype not in INPUTS:
        hint = nearest(dtype, sorted(INPUTS), cutoff=0.6, show=str) or f"; use one of {', '.join(sorted(INPUTS))}"
        raise UsageError(f"--input {text!r}: unknown dtype {dtype!r}{hint}")
    return Input(name.strip() or str(position), sizes, dtype)


def _merged(default: tuple[Input, ...], given: tuple[Input, ...]) -> tuple[Input, ...]:
    """Inputs as given; a named one replaces the default of that name and leaves the others."""
    if not given:
        return default
    if len(given) > 1 and default == parsed(DEFAULT_INPUT):
        return given  # the image that stands for what nothing is known of
    named = {i.name: i for i in given if not i.name.isdigit()}
    if named and len(named) == len(given) and {d.name for d in default} & set(named):
        # a declared name is taken as declared, whatever forward() calls it
        known = tuple(replace(named.pop(d.name), named=d.named) if d.name in named else d for d in default)
        return known + tuple(named.values())
    return given


def _sized(inputs: tuple[Input, ...], batch: int | None, resolution: int | None) -> tuple[Input, ...]:
    out = []
    for i in inputs:
        shape = i.shape
        if resolution is not None and _is_image(i):
            shape = (*shape[:-2], resolution, resolution)
        if batch is not None and shape:
            shape = (batch, *shape[1:])
        out.append(replace(i, shape=shape))
    if resolution is not None and not any(map(_is_image, inputs)):
        raise UsageError(f"--resolution is for images, and the input is {_shapes(inputs)}; give its shape with --input")
    if batch is not None and not any(i.shape for i in inputs):
        raise UsageError(f"--batch is the first size of an input, and the input is {_shapes(inputs)}; give it with --input")
    return tuple(out)


def _is_image(i: Input) -> bool:
    """Whether its last two sizes are height and width: [n, c, h, w], a clip of frames, or one image without a batch."""
    return i.dtype not in INTEGERS - {"uint8"} and (len(i.shape) >= 4 or (len(i.shape) == 3 and i.shape[0] == 3))


def _shapes(inputs: Sequence[Input]) -> str:
    return " and ".join(f"{i.name} [{', '.join(map(str, i.shape))}]" for i in inputs) or "none"


def _typed(value: str) -> Any:
    """`0.75` -> float, `true` -> bool, `none` -> None, `[1,2]` -> list, anything else stays text."""
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
