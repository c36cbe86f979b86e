"""Numbers in print: what papers and other projects say of models."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

MODELS = Path(__file__).resolve().parents[2] / "models"
# a row for each printed number of a reference model: models/published.toml says what the fields mean
PAPERS: list[dict[str, Any]] = tomllib.loads((MODELS / "published.toml").read_text(encoding="utf-8"))["published"]


def printed(value: str | int) -> tuple[float, float]:
    """A printed number and half a unit of its last digit."""
    if isinstance(value, int):
        return value, 0.0
    number, unit = value.split()
    scale = {"M": 1e6, "G": 1e9}[unit]
    digits = len(number.partition(".")[2])
    return float(number) * scale, 0.5 * scale * 10**-digits


class Weights(NamedTuple):
    """Parameters, GMAC and input as torchvision prints them in the metadata of its weights (`num_params`, `_ops`)."""

    params: int
    gmac: float
    input: tuple[int, ...]
    # the name of the weights, where it is not the default
    weights: str = ""


def agrees(macs: int, gmac: float) -> bool:
    """Equal to the three decimals of a GMAC that torchvision prints, or within 0.5 %."""
    return abs(macs / 1e9 - gmac) <= 0.000501 or abs(macs / 1e9 / gmac - 1) <= 0.005


IMAGE = (1, 3, 224, 224)
TORCHVISION = {
    "mobilenet_v3_large": Weights(5_483_032, 0.217, IMAGE),
    "resnet18": Weights(11_689_512, 1.814, IMAGE),
    "resnet50": Weights(25_557_032, 4.089, IMAGE),
    "resnext50_32x4d": Weights(25_028_904, 4.23, IMAGE),
    # auxiliary heads removed
    "googlenet": Weights(6_624_904, 1.498, IMAGE),
    "inception_v3": Weights(27_161_264, 5.713, (1, 3, 299, 299)),
    "vit_b_16": Weights(86_567_656, 17.564, IMAGE),
    "vit_b_16 at 384": Weights(86_859_496, 55.484, (1, 3, 384, 384), "IMAGENET1K_SWAG_E2E_V1"),
    "swin_t": Weights(28_288_354, 4.491, IMAGE),
    "lraspp_mobilenet_v3_large": Weights(3_221_538, 2.086, (1, 3, 520, 520)),
    "deeplabv3_mobilenet_v3_large": Weights(11_029_328, 10.452, (1, 3, 520, 520)),
    "r2plus1d_18": Weights(31_505_325, 40.519, (1, 3, 16, 112, 112)),
    "mvit_v2_s": Weights(34_537_744, 64.224, (1, 3, 16, 224, 224)),
    "raft_small": Weights(990_162, 47.655, (1, 3, 512, 512)),
}
