"""timm: a model by the name that timm.create_model takes, with the tag of its weights or without; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from roofline import compat
from roofline.sources.source import Source
from roofline.sources.zoo import Zoo


class Timm(Zoo):
    """`timm:resnet50`, `timm:resnet50.a1_in1k`."""

    name = prefix = package = "timm"
    meant = "timm's"

    def has(self, name: str) -> bool:
        return super().has(name.partition(".")[0])

    def source(self, name: str, args: Mapping[str, Any]) -> Source:
        """A model to build with these arguments, for a caller that brings its inputs."""
        return Source(name=name, kind=self, where=name, args=dict(args), unset=dict(args), inputs=())

    def default(self, source: Source) -> Mapping[str, Any]:
        channels, height, width = size(source.where)
        wanted = source.args.get("img_size")
        if wanted is not None:
            height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        return {"x": [1, source.args.get("in_chans", channels), height, width]}

    def load(self, source: Source) -> Callable[..., Any]:
        timm, resolution = compat.load("timm"), source.asked.resolution
        config = timm.get_pretrained_cfg(source.where, allow_unregistered=True)
        # some fix their input size when they are built
        fixed = {"img_size": resolution} if resolution and config is not None and config.fixed_input_size else {}
        return lambda **args: timm.create_model(source.where, pretrained=False, **(fixed | args))


TIMM = Timm()


def size(name: str) -> tuple[int, int, int]:
    """Channels, height and width of the images that a model takes where nobody says a size."""
    config = compat.load("timm").get_pretrained_cfg(name, allow_unregistered=True)
    return config.input_size if config is not None else (3, 224, 224)
