"""The model zoos: torchvision and timm. Names are read from the packages' source, so listing them imports neither.

A torchvision model is built in its published form: as its default weights configure it (frozen batch norms, auxiliary
heads removed, class counts), with nothing downloaded. `weights=NAME` among the arguments names another of its forms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from roofline import compat
from roofline.errors import UnknownNameError

ZOOS = ("torchvision", "timm")
# Frames of a video clip, as torchvision counted its published operations.
FRAMES = 16
# Pixels of an optical-flow pair likewise (a multiple of 8, at least 128).
FLOW = 512
_TWO_STAGE = ("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos")
_DETECTION = (*_TWO_STAGE, "ssd")


@cache
def _entry() -> re.Pattern[str]:
    """`@register_model` or `@register_model(name="...")`, other decorators, and the function below."""
    return re.compile(
        r"""^@(?:_\w+\.)?register_model\b (?:\( (?:name=)? (?:["'](\w+)["'])? \))? [^\n]*\n
            (?:[@)\ ][^\n]*\n)* def\ (\w+)""",
        re.MULTILINE | re.VERBOSE,
    )


@cache
def names(zoo: str) -> dict[str, str]:
    """Every model name of a zoo -> the module file that registers it, sorted; empty where the package is missing."""
    spec = util.find_spec(zoo)
    found: dict[str, str] = {}
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for path in (Path(place) / "models").rglob("*.py"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for given, function in _entry().findall(text):
                found[given or function] = path.stem
    return dict(sorted(found.items()))


@cache
def defines(zoo: str, name: str) -> bool:
    """Whether a function of that name stands in the zoo's models: `has` without parsing what registers it."""
    spec = util.find_spec(zoo)
    wanted = f"\ndef {name}(".encode()
    places = (spec.submodule_search_locations or ()) if spec else ()
    files = [
        os.path.join(folder, file)
        for place in places for folder, _, inside in os.walk(os.path.join(place, "models")) for file in inside
        if file.endswith(".py")
    ]  # fmt: skip
    # resnet50 is most likely in resnet.py: those first that the name begins with
    files.sort(key=lambda path: not name.startswith(os.path.basename(path).removesuffix(".py")))
    return any(wanted in _bytes(path) for path in files)


def _bytes(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def has(zoo: str, name: str) -> bool:
    """Whether the zoo builds a model of that name; a timm name may carry the tag of its weights."""
    return (name.partition(".")[0] if zoo == "timm" else name) in names(zoo)


def resized(zoo: str, name: str, resolution: int) -> dict[str, Any]:
    """The builder's arguments for inputs of `resolution` pixels, where the model's construction depends on them."""
    if zoo == "torchvision" and name.startswith("vit_"):
        return {"image_size": resolution}
    if zoo == "torchvision" and name.startswith(_TWO_STAGE):
        return {"min_size": resolution}
    return {}


# ------------------------------------------------------------------------------------------------ inputs


def inputs(zoo: str, name: str, args: Mapping[str, Any]) -> dict[str, list[int]]:
    """The input that the model was published with: names of forward()'s parameters -> shapes."""
    return _timm_inputs(name, args) if zoo == "timm" else _torchvision_inputs(name, args)


def _timm_inputs(name: str, args: Mapping[str, Any]) -> dict[str, list[int]]:
    timm = compat.load("timm")
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    channels, height, width = config.input_size if config is not None else (3, 224, 224)
    size = args.get("img_size")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
    return {"x": [1, args.get("in_chans", channels), height, width]}


def _torchvision_inputs(name: str, args: Mapping[str, Any]) -> dict[str, list[int]]:
    if name.startswith("raft"):
        return {"image1": [1, 3, FLOW, FLOW], "image2": [1, 3, FLOW, FLOW]}
    if name.startswith(_DETECTION):
        size = 300 if "ssd300" in name else 320 if "320" in name else args.get("min_size", 800)
        return {"images": [1, 3, size, size]}
    weights = _weights(name, args)
    options = getattr(weights.transforms, "keywords", {}) if weights is not None else {}
    size = options.get("crop_size") or options.get("resize_size") or 224
    if isinstance(args.get("image_size"), int):
        size = args["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if getattr(getattr(weights.transforms if weights else None, "func", None), "__name__", "") == "VideoClassification":
        return {"x": [1, 3, FRAMES, height, width]}
    return {"x": [1, 3, height, width]}


def published(name: str, args: Mapping[str, Any]) -> tuple[str, int, float] | None:
    """What torchvision prints of a model's weights: (entry, parameters, GMAC); None where it has none."""
    weights = _weights(name, args)
    return (str(weights), weights.meta["num_params"], weights.meta["_ops"]) if weights is not None else None


def notes(zoo: str, name: str, args: Mapping[str, Any]) -> tuple[str, ...]:
    """What the model does with its images before anything else."""
    if zoo == "torchvision" and name.startswith(_TWO_STAGE):
        size = args.get("min_size", 320 if "320" in name else 800)
        return (f"the model resizes its images to a shorter side of {size} px itself",)
    if zoo == "torchvision" and name.startswith("ssd"):
        size = 300 if "ssd300" in name else 320
        return (f"the model resizes its images to {size} x {size} px itself",)
    return ()


# ------------------------------------------------------------------------------------------------ building


def maker(zoo: str, name: str, resolution: int | None = None) -> Callable[..., Any]:
    """The callable that builds the model from keyword arguments, for inputs of `resolution` pixels where that matters."""
    if zoo == "timm":
        timm = compat.load("timm")
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        sized = {"img_size": resolution} if resolution and config is not None and config.fixed_input_size else {}
        return lambda **args: timm.create_model(name, pretrained=False, **(sized | args))

    def make(**args: Any) -> Any:
        return _torchvision(name, args)

    return make


def _weights(name: str, args: Mapping[str, Any]) -> Any:
    """The weights entry whose form is meant: named by `weights`, else the default; None where there is none."""
    models = compat.load("torchvision").models
    entries = models.get_model_weights(models.get_model_builder(name))
    wanted = args.get("weights", "DEFAULT")
    if wanted is None or not len(entries):
        return None
    if wanted == "DEFAULT":
        return entries["DEFAULT"] if "DEFAULT" in entries.__members__ else next(iter(entries))
    if wanted not in entries.__members__:
        raise UnknownNameError(f"{name} has no weights {wanted!r}; it has {', '.join(w.name for w in entries)}")
    return entries[wanted]


def _torchvision(name: str, args: dict[str, Any]) -> Any:
    import inspect

    builder = compat.load("torchvision").models.get_model_builder(name)
    rest = {k: v for k, v in args.items() if k != "weights"}
    if name.startswith("quantized_"):
        rest = {"quantize": True} | rest
    weights = _weights(name, args)
    if weights is not None and name.startswith("quantized_") and not rest["quantize"]:
        weights = weights.meta["unquantized"]
    with _no_downloads():
        if weights is None:
            if "weights_backbone" in inspect.signature(builder).parameters:
                rest = {"weights_backbone": None} | rest
            return builder(weights=None, **rest)
        try:
            return builder(weights=weights, **rest)
        except ValueError as error:
            # other arguments than those of the weights: then it has none, only its backbone has
            if "expected value" not in str(error) or "weights" in args:
                raise
            return builder(weights=None, **rest)


@contextmanager
def _no_downloads() -> Iterator[None]:
    """A builder that asks for weights gets none, and loads none."""
    from torch import nn
    from torchvision.models import WeightsEnum

    fetch, load = WeightsEnum.get_state_dict, nn.Module.load_state_dict
    empty: dict[str, Any] = {}
    WeightsEnum.get_state_dict = lambda self, *_, **__: empty
    nn.Module.load_state_dict = lambda self, state, *a, **k: None if state is empty else load(self, state, *a, **k)  # type: ignore[method-assign]
    try:
        yield
    finally:
        WeightsEnum.get_state_dict = fetch
        nn.Module.load_state_dict = load  # type: ignore[method-assign]
