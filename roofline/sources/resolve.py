"""What a person calls a model -> where it is and what it takes. Imports no torch, so that a cached analysis needs none.

mobilenet_v3_large            a reference model of this project
net.py:Net                    a class, function or module object in a Python file
package.module:make           the same in an importable package
torchvision:NAME, timm:NAME   a model of those packages; a bare name is looked up there after the reference models
hf:NAME                       a transformers class with its default config, or a local config.json
net.pt2                       a program saved by torch.export
net.onnx                      an ONNX graph
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from roofline import compat
from roofline.errors import UnknownNameError, UsageError, nearest
from roofline.request import Ask, typed
from roofline.sources import kinds
from roofline.sources.inputs import ASSUMED, sized
from roofline.sources.source import Source


def resolve(ask: Ask) -> Source:
    """Find a model by what a person calls it, with its inputs as asked for. Imports no torch.

    Raises UnknownNameError with the nearest names, UsageError for inputs that cannot be.
    """
    found = _find(ask.model)
    unset = found.args
    if ask.resolution is not None and not ask.inputs:
        unset = unset | found.kind.resized(found.where, ask.resolution)
    args = unset | {k: typed(v) for k, v in ask.settings.items()}
    found = replace(found, args=args, unset=unset, asked=ask)
    return replace(
        found,
        inputs=None if found.inputs is None else sized(found.inputs, ask),
        notes=(*found.kind.notes(found), *(n for n in found.notes if not (ask.inputs and n == ASSUMED))),
    )


def _find(model: str) -> Source:
    prefix, _, name = model.rpartition(":")
    for kind in kinds.KINDS:
        if prefix and prefix == kind.prefix:
            return kind.named(name)
    for kind in kinds.KINDS:
        if (found := kind.find(model)) is not None:
            return found
    _no_model(model)
    if ("-" in model or model.count("/") == 1) and not model.endswith((".py", ".json")):  # as models of the hub are called
        raise UnknownNameError(
            f"unknown model {model!r}: nothing is downloaded, so a model of the Hugging Face hub is given by its class "
            "(hf:BertModel) or its config.json (hf:config.json)\n`roofline models` lists the names"
        )
    near = nearest(model, [name for kind in kinds.KINDS for name in kind.names()], n=3, lead="", show=str)
    hint = f"{near} " if near else ""
    missing = [kind.package for kind in kinds.KINDS if kind.meant and kind.package and not compat.version(kind.package)]
    if missing and model.replace("_", "").isalnum():
        more = f"; the models of {' and '.join(missing)} need them installed: pip install {' '.join(missing)}"
    else:
        more = ""
    raise UnknownNameError(
        f"unknown model {model!r}: {hint}`roofline models` lists the names; a file is given as net.py:Net{more}"
    )


def also_known(source: Source) -> tuple[str, ...]:
    """A note where a later kind has a model of the same bare name; it reads packages' files, so ask when tracing only."""
    if not source.bare:
        return ()
    later = kinds.KINDS[kinds.KINDS.index(source.kind) + 1 :]
    also = [f"{kind.prefix}:{source.name}" for kind in later if kind.defines(source.name)]
    return (f"{source.name} is {source.kind.meant}; say {' or '.join(also)} for the other",) if also else ()


def catalogue(zoos: bool = True) -> list[dict[str, str]]:
    """The models that are known by name, reference models first, then the packages': name, source, about, paper.

    None of them is imported: names are read from their source.
    """
    return [row for kind in kinds.KINDS if zoos or not kind.package for row in kind.catalogue()]


def _no_model(text: str) -> None:
    """Raises UsageError for a place on this disk that is none of a model, by what is there."""
    path = Path(text)
    try:
        folder, file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return
    if folder and (os.sep in text or text.startswith(".")):
        raise UsageError(
            f"{text} is a folder without a config.json: give the Python file of a model (net.py:Net), or a file that holds one"
        )
    if file and path.suffix == ".json":
        raise UsageError(
            f"{text} is no model: an analysis that was saved is for `roofline diff`, "
            f"and a configuration of transformers is given as hf:{text}"
        )
    if file and path.suffix:
        raise UsageError(f"{text} is no file of a model: one is given as net.py:Net, net.pt2, net.onnx or hf:config.json")
    if not file and not folder and (path.suffix == ".json" or text.startswith((".", os.sep, "~"))):
        raise UsageError(f"no such file: {text}")
