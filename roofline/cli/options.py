"""The arguments and options that several commands share, and the values that they take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from roofline.dtypes import SETTINGS


class Dtype(StrEnum):
    fp32 = "fp32"
    tf32 = "tf32"
    fp16 = "fp16"
    bf16 = "bf16"
    amp = "amp"
    fp64 = "fp64"
    # refused, with a better reason than that it is not among the others
    int8 = "int8"


class Runtime(StrEnum):
    eager = "eager"
    compiled = "compiled"
    ideal = "ideal"


class Layout(StrEnum):
    nchw = "nchw"
    nhwc = "nhwc"


class Optimizer(StrEnum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"


class By(StrEnum):
    layer = "layer"
    op = "op"
    kernel = "kernel"


class Here(StrEnum):
    cpu = "cpu"
    gpu = "gpu"


class Kind(StrEnum):
    gpu = "gpu"
    cpu = "cpu"


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        help="A name that `roofline models` lists (resnet50, timm:vit_tiny_patch16_224), a file and a name in it (net.py:Net), "
        "a module and a callable (package.module:make), a transformers class or configuration (hf:BertModel), a .pt2 or .onnx "
        "file.",
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "-d",
        "--device",
        metavar="DEVICE",
        help="Name or file of a device (see `roofline devices`), cpu for this machine, gpu for its first CUDA device. "
        "Repeat for several.  [default: cpu]",
        show_default=False,
    ),
]
OneDevice = Annotated[
    str | None,
    typer.Option("-d", "--device", metavar="DEVICE", help="Device to analyse on.  [default: cpu]", show_default=False),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="TIME",
        help="What the machine around a GPU needs to issue one operator, such as 10us; the same for all devices given.  "
        "[default: the device file's]",
        show_default=False,
    ),
]
Batch = Annotated[
    int | None, typer.Option("-b", "--batch", min=1, metavar="N", help="Batch size.  [default: the model's, mostly 1]")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="Input shape 1,3,224,224; named x=1,3,224,224; with a dtype ids=1,128:int64. Repeat for several inputs.",
        show_default=False,
    ),
]
Resolution = Annotated[int | None, typer.Option("--resolution", min=1, metavar="N", help="Height and width of image inputs.")]
DTYPE = "|".join(SETTINGS)
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", metavar=DTYPE, help="Precision; amp is what torch.autocast makes of the model.")
]
_RUNTIME_HELP = (
    "How ops become kernels: eager (one each), compiled (fused as torch.compile does), ideal (every tensor moves once)."
)
RuntimeOption = Annotated[Runtime, typer.Option("--runtime", metavar="eager|compiled|ideal", help=_RUNTIME_HELP)]
Training = Annotated[bool, typer.Option("--training", help="A training step: forward, backward, optimizer.")]
OptimizerOption = Annotated[
    Optimizer | None,
    typer.Option("--optimizer", help="Of the training step; sgd has momentum.  [default: adam]", show_default=False),
]
Prefill = Annotated[
    int | None,
    typer.Option("--prefill", min=1, metavar="N", show_default=False, help="A language model reading a prompt of N tokens."),
]
Decode = Annotated[
    int | None,
    typer.Option("--decode", min=1, metavar="N", show_default=False, help="One token more, after N in its KV cache."),
]
ByOption = Annotated[By | None, typer.Option("--by", help="Rows of the table.  [default: layer]", show_default=False)]
Depth = Annotated[
    int | None,
    typer.Option("--depth", min=0, metavar="N", help="Deepest level of layers in the table.  [default: 2]", show_default=False),
]
Top = Annotated[
    int | None,
    typer.Option("--top", min=1, metavar="N", help="Only the N rows with the most time.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="ARG=VALUE", help="Argument of the model: width_mult=0.5. Repeat.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")]
# read by main(), which is where errors end
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, metavar="N", help="CPU threads.  [default: PyTorch's own number]", show_default=False),
]
Hold = Annotated[
    bool, typer.Option("--hold", help="Take the right of way over other programs, half of the time (Linux, needs the right).")
]
Force = Annotated[bool, typer.Option("--force", help="Give numbers also from a machine that is too busy for good ones.")]
