"""The options that several commands take, each declared once: name, type, help, and what is made of its text.

A command takes one as a parameter (`json: Json = False`), or a group of them at once (`what: PassOptions`): the fields of a
group become the command's options, in that place (see `groups`). The fields of AskOptions, PassOptions and PlaceOptions
have the names of `request.Ask`, `Pass` and `Place`. An option of one command alone stands in that command's file.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from roofline import units
from roofline.cli import terminal
from roofline.cli.groups import Group
from roofline.dtypes import SETTINGS
from roofline.errors import UsageError
from roofline.views.files import FORMATS


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
Working = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Cores at work of the CPUs given, a thread each; `-d NAME@N` says it of one.  [default: all]",
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
        help="Input shape 1,3,224,224; named x=1,3,224,224; with a dtype and a range ids=1,128:int64:0..32000; values t=5, "
        "lengths=[5,3,2], x=@file.npz; a list maps=[1,8,16,16; 1,16,8,8]; a dict. Repeat for several inputs.",
        show_default=False,
    ),
]
Resolution = Annotated[int | None, typer.Option("--resolution", min=1, metavar="N", help="Height and width of image inputs.")]
DTYPE = "|".join(SETTINGS)
DtypeOption = Annotated[
    Dtype | None,
    typer.Option(
        "--dtype",
        metavar=DTYPE,
        help="Precision; amp is what torch.autocast makes of the model.  [default: as built]",
        show_default=False,
    ),
]
RuntimeOption = Annotated[
    Runtime | None,
    typer.Option(
        "--runtime",
        metavar="eager|compiled|ideal",
        help="How ops become kernels: eager (one each), compiled (fused as torch.compile does), ideal (every tensor moves "
        "once).  [default: eager]",
        show_default=False,
    ),
]
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
Turns = Annotated[
    int | None,
    typer.Option(
        "--turns",
        min=1,
        metavar="N",
        show_default=False,
        help="Of each loop where data decide how often it turns.  [default: 1]",
    ),
]
ChannelsLast = Annotated[
    bool,
    typer.Option("--channels-last", help="Weights and inputs that are images lie channels-last (NHWC) in memory."),
]
FoldBn = Annotated[
    bool, typer.Option("--fold-bn", help="Batch norms are folded into the convolutions and linear layers before them.")
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
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="A,B,...",
        show_default=False,
        help="Columns of the table, also in .csv and .md files: output,params,trainable,memory,time (a wrong name lists all).",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="ARG=VALUE", help="Argument of the model: width_mult=0.5. Repeat.", show_default=False),
]
_FORMATS = tuple(FORMATS)
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help=f"Also write a file: {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}. Repeat for several.",
        show_default=False,
    ),
]

TableOutput = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Also write a table (.csv, .json, .md), a picture (.png, .svg, .pdf) or a page (.html). Repeat.",
        show_default=False,
    ),
]


class Picture(StrEnum):
    """What `-o x.png` shows."""

    roofline = "roofline"
    layers = "layers"
    batch = "batch"
    memory = "memory"


PictureOption = Annotated[
    Picture | None, typer.Option("--picture", help="What a picture file shows.  [default: roofline]", show_default=False)
]
Chart = Annotated[bool, typer.Option("--chart", help="Also draw the roofline in the terminal.")]
SizeOption = Annotated[
    str | None,
    typer.Option("--size", metavar="SIZE", help="Of pictures: slide, column, 1600x900, 88x60mm, 6x4in.", show_default=False),
]
Dark = Annotated[bool, typer.Option("--dark", help="Pictures on dark paper.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")]
NoAdvice = Annotated[
    bool, typer.Option("--no-advice", help="Leave out of a page what would help, which takes further analyses.")
]
# read by main(), which is where errors end
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, metavar="N", help="CPU threads.  [default: PyTorch's own number]", show_default=False),
]
TimeLimit = Annotated[
    str | None,
    typer.Option("--time-limit", metavar="T", help="How long a model's code may take to build and trace it.  [default: 600 s]"),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit", metavar="SIZE", help="How much memory it may take, like 4GiB.  [default: nine tenths of what is free]"
    ),
]
Hold = Annotated[
    bool, typer.Option("--hold", help="Take the right of way over other programs, half of the time (Linux, needs the right).")
]
Force = Annotated[bool, typer.Option("--force", help="Give numbers also from a machine that is too busy for good ones.")]


def pairs(texts: Iterable[str], option: str = "--set", example: str = "width_mult=0.5") -> dict[str, str]:
    """--set width_mult=0.5 -> {"width_mult": "0.5"}; the source gives the values their types."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{option} {text!r}: expected ARG=VALUE, such as {option} {example}")
        if name.strip() in found:
            raise UsageError(f"{option} {name.strip()}: given twice")
        found[name.strip()] = value.strip()
    return found


# ------------------------------------------------------------------------------------------------ groups


class Asked(Group, frozen=True):
    """Options of a request: `given` has those that were given, by their names in `roofline.request`."""

    def given(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {
            name: value.value if isinstance(value, StrEnum) else value
            for name, value in found.items()
            if value not in (None, False, (), {})
        }


class PlaceOptions(Asked, frozen=True):
    """Where: apart from the device, of which some commands take several."""

    host: Host = None
    runtime: RuntimeOption = None


class AskOptions(Asked, frozen=True):
    """The model's inputs and arguments."""

    batch: Batch = None
    inputs: Inputs = None
    resolution: Resolution = None
    settings: Settings = None

    def given(self) -> dict[str, Any]:
        found = {**super().given(), "inputs": tuple(self.inputs or ()), "settings": pairs(self.settings or ())}
        return {name: value for name, value in found.items() if value}


class PassOptions(Asked, frozen=True):
    """Which pass of the model."""

    dtype: DtypeOption = None
    training: Training = False
    optimizer: OptimizerOption = None
    prefill: Prefill = None
    decode: Decode = None
    turns: Turns = None
    channels_last: ChannelsLast = False
    fold_bn: FoldBn = False


class ViewOptions(Group, frozen=True):
    """What results are shown as, and the files that are written too."""

    by: ByOption = None
    depth: Depth = None
    top: Top = None
    columns: ColumnsOption = None
    json: Json = False
    output: Output = None
    picture: PictureOption = None
    size: SizeOption = None
    dark: Dark = False


class HereOptions(Group, frozen=True):
    """How this machine is measured."""

    threads: Threads = None
    hold: Hold = False
    force: Force = False

    def given(self) -> bool:
        """Whether any was."""
        return self != HereOptions()

    def only_cpu(self, device: Here) -> None:
        """Raises UsageError for an option about a CPU's threads beside -d gpu."""
        for option, given in (("--threads", self.threads is not None), ("--hold", self.hold)):
            if given and device is Here.gpu:
                raise UsageError(f"{option} is about the threads of a CPU, and -d gpu runs on the GPU: leave it out")


class LimitOptions(Group, frozen=True):
    """What the code of a model may take, where it runs in a process of its own: see `isolation.supervision`."""

    time_limit: TimeLimit = None
    memory_limit: MemoryLimit = None

    def apply(self) -> None:
        """Watch over the models of this process if it is the command line's own. Raises UsageError for what is no limit."""
        from roofline.isolation import supervision

        time_s = None if self.time_limit is None else limit("--time-limit", self.time_limit, "s")
        memory = None if self.memory_limit is None else limit("--memory-limit", self.memory_limit, "B")
        if terminal.OWN_PROCESS:
            supervision.start(supervision.Limits(time_s or supervision.TIME_LIMIT_S, memory))


def limit(option: str, text: str, unit: Literal["s", "B"]) -> float:
    """What an option allows, in the base unit. Raises UsageError for what is no such quantity, and for nothing."""
    try:
        value = units.parse(text, unit)
    except ValueError as e:
        raise UsageError(f"{option}: {e}") from e
    if value <= 0:
        raise UsageError(f"{option}: expected more than 0, got {text!r}")
    return value
