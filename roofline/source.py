"""What a person calls a model -> where it is, what it takes, and the module itself.

    mobilenet_v3_large            a reference model of this project
    net.py:Net                    a class, function or module object in a Python file
    package.module:make           the same in an importable package
    torchvision:NAME, timm:NAME   a model of those packages; a bare name is looked up there after the reference models

`resolve` finds a model without importing torch, so that a cached analysis needs none; `build.build` makes the module.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from msgspec import Struct

from roofline.records import SourceError, UnknownNameError, UsageError

DEFAULT_INPUT: dict[str, Any] = {"x": [1, 3, 224, 224]}
ZOOS = ("torchvision", "timm")
_BLOCK = re.compile(r"^ROOFLINE\b[^=\n]*= (\{.*?^\})", re.MULTILINE | re.DOTALL)
_INT_TYPES = {"int64", "int32", "int16", "int8", "uint8", "bool"}
_DTYPES = _INT_TYPES | {"float64", "float32", "float16", "bfloat16", "complex64"}


class Input(Struct, frozen=True):
    """One tensor input: `name` is the parameter of forward() that takes it, or its position."""

    name: str
    shape: tuple[int, ...]
    # empty: the analysis' floating dtype
    dtype: str = ""


class Source(Struct, frozen=True, kw_only=True):
    """A model that can be built: which kind of place it is in, and what it takes."""

    name: str
    # "reference", "file", "module", "torchvision" or "timm"
    kind: str
    # file path, module name, or model name within its zoo
    where: str
    # callable or attribute in it
    attribute: str = ""
    args: dict[str, Any] = {}
    inputs: tuple[Input, ...]
    # what was assumed, for the notes of the analysis
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people: "models/mobilenet_v2.py", "torchvision 0.29.2"."""
        if self.kind == "reference":
            return f"models/{Path(self.where).name}"
        if self.kind in ZOOS:
            return f"{self.kind} {package_version(self.kind)}"
        return self.where

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path(self.where),) if self.kind in ("reference", "file") else ()

    @property
    def key(self) -> str:
        """What the module depends on besides the content of `files`."""
        version = package_version(self.kind) if self.kind in ZOOS else ""
        return repr((self.kind, self.where, self.attribute, sorted(self.args.items()), version))


# ------------------------------------------------------------------------------------------------ finding


@cache
def models_dir() -> Path:
    """The reference models: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    shared = here / "_share" / "models"
    return shared if shared.is_dir() else here.parent / "models"


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
    for path in sorted(models_dir().glob("*.py")):
        for name, entry in declared(path).items():
            found[name] = (path, entry)
    return found


def catalogue() -> list[dict[str, str]]:
    """The models that are known by name without importing anything: name, source, about."""
    return [
        {"name": name, "source": f"models/{path.name}", "about": entry.get("about", ""), "paper": entry.get("paper", "")}
        for name, (path, entry) in reference_models().items()
    ]


@cache
def package_version(package: str) -> str:
    """The installed version of a package, without importing it; empty where it is not installed."""
    spec = util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for file in ("version.py", "_version.py", "__init__.py"):
            path = Path(place) / file
            if path.is_file() and (
                found := re.search(r"^_*version_*\b[^=\n]*=\s*['\"]([^'\"]+)", path.read_text(encoding="utf-8"), re.M)
            ):
                return found.group(1)
    return "unknown" if spec else ""


def resolve(
    model: str,
    *,
    settings: Mapping[str, str] | None = None,
    inputs: Sequence[str] = (),
    batch: int | None = None,
    resolution: int | None = None,
) -> Source:
    """Find a model by what a person calls it, with its inputs as asked for. Imports no torch.

    Raises UnknownNameError with the nearest names, UsageError for inputs that cannot be.
    """
    source = _find(model)
    args = source.args | {k: _typed(v) for k, v in (settings or {}).items()}
    notes = () if inputs else source.notes
    shapes = _shapes(source.inputs, inputs, batch, resolution)
    return Source(
        name=source.name,
        kind=source.kind,
        where=source.where,
        attribute=source.attribute,
        args=args,
        inputs=shapes,
        notes=notes,
    )


def shapes(inputs: Sequence[str], batch: int | None = None, resolution: int | None = None) -> tuple[Input, ...]:
    """The inputs of a module that nothing is known of: as given, else one image."""
    return _shapes(_inputs(DEFAULT_INPUT), inputs, batch, resolution)


def _shapes(default: tuple[Input, ...], given: Sequence[str], batch: int | None, resolution: int | None) -> tuple[Input, ...]:
    return _sized(_merged(default, tuple(_parse_input(text, i) for i, text in enumerate(given))), batch, resolution)


def _find(model: str) -> Source:
    known = reference_models()
    if model in known:
        path, entry = known[model]
        return _declared_source("reference", model, path, entry)
    place, colon, attribute = model.rpartition(":")
    if place in ZOOS:
        return _zoo(place, attribute)
    if Path(model).suffix == ".pt" or Path(model).suffix == ".pth":
        raise UsageError(
            f"{model}: a pickled model runs code when it is loaded, so it is refused; "
            "name the Python file and class instead (net.py:Net), or torch.export.save it and give the .pt2 file"
        )
    if place.endswith(".py") or model.endswith(".py"):
        return _file(place if place.endswith(".py") else model, attribute if place.endswith(".py") else "")
    if colon and place:
        return Source(
            name=attribute, kind="module", where=place, attribute=attribute, inputs=_inputs(DEFAULT_INPUT), notes=(_ASSUMED,)
        )
    for zoo in ZOOS:
        if package_version(zoo) and (found := _zoo_has(zoo, model)):
            return found
    names = [*known, *(name for zoo in ZOOS for name in _zoo_names(zoo))]
    near = difflib.get_close_matches(model, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownNameError(f"unknown model {model!r}: {hint}`roofline models` lists the names; a file is given as net.py:Net")


_ASSUMED = "input not declared: 1,3,224,224 assumed; give --input to change it"


def _declared_source(kind: str, name: str, path: Path, entry: Mapping[str, Any]) -> Source:
    return Source(
        name=name, kind=kind, where=str(path), attribute=entry.get("make", name), args=dict(entry.get("args", {})),
        inputs=_inputs(entry.get("inputs", DEFAULT_INPUT)),
    )  # fmt: skip


def _file(file: str, attribute: str) -> Source:
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"no such file: {file}")
    table = declared(path)
    if not attribute:
        if len(table) != 1:
            names = ", ".join(table) or "none declared"
            raise UsageError(f"{file}: say which model, as {file}:NAME ({names})")
        attribute = next(iter(table))
    if attribute in table:
        return _declared_source("file", attribute, path, table[attribute])
    return Source(
        name=attribute, kind="file", where=str(path), attribute=attribute, inputs=_inputs(DEFAULT_INPUT), notes=(_ASSUMED,)
    )


def _zoo_names(zoo: str) -> Iterator[str]:
    """Model names of a zoo, where its package has been imported already (importing one takes seconds)."""
    if zoo in sys.modules:
        from roofline import build

        yield from build.zoo_names(zoo)


def _zoo_has(zoo: str, name: str) -> Source | None:
    from roofline import build

    return _zoo(zoo, name) if name in build.zoo_names(zoo) else None


def _zoo(zoo: str, name: str) -> Source:
    if not package_version(zoo):
        raise UsageError(f"{zoo}:{name} needs the package {zoo}, which is not installed: pip install 'roofline[vision]'")
    from roofline import build

    if name not in build.zoo_names(zoo):
        near = difflib.get_close_matches(name, build.zoo_names(zoo), n=3, cutoff=0.5)
        raise UnknownNameError(f"{zoo} has no model {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    return Source(name=name, kind=zoo, where=name, inputs=_inputs(build.zoo_inputs(zoo, name)))


# ------------------------------------------------------------------------------------------------ inputs and settings


def _inputs(table: Mapping[str, Any]) -> tuple[Input, ...]:
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
    if dtype and dtype not in _DTYPES:
        near = difflib.get_close_matches(dtype, sorted(_DTYPES), n=1)
        raise UsageError(
            f"--input {text!r}: unknown dtype {dtype!r}"
            + (f"; did you mean {near[0]}?" if near else f"; use one of {', '.join(sorted(_DTYPES))}")
        )
    return Input(name.strip() or str(position), sizes, dtype)


def _merged(default: tuple[Input, ...], given: tuple[Input, ...]) -> tuple[Input, ...]:
    """Inputs as given; a named one replaces the default of that name and leaves the others."""
    if not given:
        return default
    named = {i.name: i for i in given if not i.name.isdigit()}
    if named and len(named) == len(given) and {d.name for d in default} & set(named):
        return tuple(named.pop(d.name, d) for d in default) + tuple(named.values())
    return given


def _sized(inputs: tuple[Input, ...], batch: int | None, resolution: int | None) -> tuple[Input, ...]:
    out = []
    for i in inputs:
        shape = i.shape
        if resolution is not None and len(shape) >= 3:
            shape = (*shape[:-2], resolution, resolution)
        if batch is not None and shape:
            shape = (batch, *shape[1:])
        out.append(Input(i.name, shape, i.dtype))
    if resolution is not None and not any(len(i.shape) >= 3 for i in inputs):
        raise UsageError("--resolution needs an input with height and width; give --input instead")
    return tuple(out)


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
