"""Exports of torchvision's models, each as `.pt2` and as ONNX by both exporters, beside an analysis of the module itself.

    python benchmarks/exports.py [MODEL ...] [-o FOLDER]

An export counts as right where its MACs are those of the module. What differs on purpose is said: an exporter works out what
depends on weights alone; a detector's proposals are counted at the most that there can be. The new exporter needs onnxscript
(the old one onnx), and is left out, saying so, where it is missing. Files that are in FOLDER are taken from there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import torch

import roofline
from roofline.errors import RooflineError

IMAGE = (1, 3, 224, 224)
SMALL = (1, 3, 320, 320)
PLAIN = (
    "alexnet",
    "vgg11",
    "resnet18",
    "resnext50_32x4d",
    "densenet121",
    "googlenet",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
)
SEGMENTATION = ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]
DETECTION = ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"]
# name -> (place in torchvision.models, shape of its input)
MODELS: dict[str, tuple[str, tuple[int, ...]]] = {
    **{name: (name, IMAGE) for name in PLAIN},
    **{name: (f"segmentation.{name}", IMAGE) for name in SEGMENTATION},
    **{name: (f"detection.{name}", SMALL) for name in DETECTION},
}
# suffix of the file -> the exporter
WAYS = ("pt2", "dynamo.onnx", "old.onnx")


def made(place: str) -> torch.nn.Module:
    """The model with random weights."""
    import torchvision

    at: Any = torchvision.models
    for part in place.split("."):
        at = getattr(at, part)
    torch.manual_seed(0)
    options: dict[str, Any] = {"weights_backbone": None} if "." in place else {}
    if place == "googlenet":
        options = {"init_weights": True, "aux_logits": False}
    module: torch.nn.Module = at(**options)
    return module.eval()


def export(module: torch.nn.Module, x: torch.Tensor, path: Path, way: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "pt2":
            torch.export.save(torch.export.export(module, (x,)), path)
        else:
            torch.onnx.export(module, (x,), str(path), dynamo=way.startswith("dynamo"), verbose=False)


def analysed(model: Any, **options: Any) -> tuple[str, list[str]]:
    """MACs, or the refusal; and what its notes say of data."""
    try:
        result = roofline.analyze(model, device="t4", cache=False, **options)
    except RooflineError as error:
        return f"refused: {' '.join(str(error).split())[:160]}", []
    unknown = [u.op for u in result.coverage.unknown_ops]
    return f"{result.totals.macs:,}" + (f" (unknown: {', '.join(unknown)})" if unknown else ""), [
        n for n in result.notes if "depends on data" in n
    ]


def row(name: str, folder: Path, progress: Callable[[str], None]) -> list[str]:
    """The model's name, MACs of the module, and of each export."""
    place, shape = MODELS[name]
    module, x = made(place), torch.rand(shape)
    own, _ = analysed(module, args=([x[0]],) if place.startswith("detection") else (x,))
    cells = [name, own]
    for way in WAYS:
        path = folder / f"{name}.{way}"
        progress(f"{name}: {way}")
        if not path.exists():
            if way == "dynamo.onnx" and util.find_spec("onnxscript") is None:
                cells.append("left out: onnxscript is not installed")
                continue
            try:
                export(module, x, path, way)
            except Exception as error:  # the exporter's own limits
                path.unlink(missing_ok=True)
                cells.append(f"not exported by torch: {type(error).__name__}")
                continue
        found, notes = analysed(str(path))
        cells.append("the same" if found == own else found + (f"; at most, {len(notes)} notes" if notes else ""))
    return cells


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="of those that stand in this file; all where none is named")
    parser.add_argument("-o", "--folder", type=Path)
    asked = parser.parse_args()
    wrong = [m for m in asked.models if m not in MODELS]
    if wrong:
        parser.error(f"unknown: {', '.join(wrong)}; it has {', '.join(MODELS)}")
    with tempfile.TemporaryDirectory() as made_here:
        folder = asked.folder or Path(made_here)
        os.makedirs(folder, exist_ok=True)
        print("| model | MACs of the module | `.pt2` | ONNX, dynamo | ONNX, old exporter |\n| --- | --- | --- | --- | --- |")
        for name in asked.models or MODELS:
            print(f"| {' | '.join(row(name, folder, lambda text: print(text, file=sys.stderr)))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
