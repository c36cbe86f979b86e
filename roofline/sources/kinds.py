"""The kinds of source, in the order in which they are asked what a text means. A new kind is a file and a line here."""

from __future__ import annotations

from roofline.sources.checkpoints import CHECKPOINT
from roofline.sources.exported import EXPORTED
from roofline.sources.onnx import ONNX
from roofline.sources.python import FILE, MODULE
from roofline.sources.reference import REFERENCE
from roofline.sources.source import Kind
from roofline.sources.timm import TIMM
from roofline.sources.torchvision import TORCHVISION
from roofline.sources.transformers import TRANSFORMERS

# What a suffix or a colon tells goes before what has to be looked up among a package's names: "resnet50.pt" is a file.
KINDS: tuple[Kind, ...] = (REFERENCE, EXPORTED, ONNX, CHECKPOINT, FILE, MODULE, TORCHVISION, TIMM, TRANSFORMERS)
