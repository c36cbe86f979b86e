"""torchvision: a model in its published form, as its default weights configure it (frozen batch norms, auxiliary heads removed,
class counts), with nothing downloaded. `weights=NAME` among the arguments names another of its forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from roofline import compat
from roofline.errors import UnknownNameError
from roofline.sources.source import InPrint, Source
from roofline.sources.zoo import Zoo

# Frames of a video clip, as torchvision counted its published operations.
FRAMES = 16
# Pixels of an optical-flow pair likewise (a multiple of 8, at least 128).
FLOW = 512
_TWO_STAGE = ("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos")
_DETECTION = (*_TWO_STAGE, "ssd")


class Torchvision(Zoo):
    """`torchvision:resnet50`."""

    name = prefix = package = "torchvision"
    meant = "torchvision's"

    def resized(self, name: str, resolution: int) -> dict[str, Any]:
        if name.startswith("vit_"):
            return {"image_size": resolution}
        if name.startswith(_TWO_STAGE):
            return {"min_size": resolution}
        return {}

    def notes(self, source: Source) -> tuple[str, ...]:
        """What the model does with its images before anything else."""
        name = source.where
        if name.startswith(_TWO_STAGE):
            size = source.args.get("min_size", 320 if "320" in name else 800)
            return (f"the model resizes its images to a shorter side of {size} px itself",)
        if name.startswith("ssd"):
            size = 300 if "ssd300" in name else 320
            return (f"the model resizes its images to {size} x {size} px itself",)
        return ()

    def published(self, source: Source) -> Iterable[InPrint]:
        """What torchvision prints of the model's weights."""
        weights = _weights(source.where, source.args)
        if weights is None:
            return
        folded = source.where.startswith("quantized_")
        why = "counted before batch norms were folded into the quantized weights" if folded else ""
        where = f"torchvision, {weights}"
        yield InPrint("params", f"{weights.meta['num_params']}", where, why)
        yield InPrint("macs", f"{weights.meta['_ops']} G", where)

    def default(self, source: Source) -> Mapping[str, Any]:
        return _inputs(source.where, source.args)

    def load(self, source: Source) -> Callable[..., Any]:
        def make(**args: Any) -> Any:
            return _made(source.where, args)

        return make


TORCHVISION = Torchvision()


def _inputs(name: str, args: Mapping[str, Any]) -> dict[str, list[int]]:
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


def _made(name: str, args: dict[str, Any]) -> Any:
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
    nn.Module.load_state_dict = (  # type: ignore[method-assign]  # put back below
        lambda self, state, *a, **k: None if state is empty else load(self, state, *a, **k)
    )
    try:
        yield
    finally:
        WeightsEnum.get_state_dict = fetch
        nn.Module.load_state_dict = load  # type: ignore[method-assign]  # put back below
