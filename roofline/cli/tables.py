"""What `validate` has to be told of tables of measured times: the options of their rows, of a sample and of files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from roofline.cli.groups import Group
from roofline.cli.options import DTYPE, Dark, Dtype, Runtime


class Layout(StrEnum):
    nchw = "nchw"
    nhwc = "nhwc"


class TableOptions(Group, frozen=True):
    """What the tables do not say of themselves."""

    dtype: Annotated[
        Dtype | None,
        typer.Option("--dtype", metavar=DTYPE, help="Measured in.  [default: by file name]", show_default=False),
    ] = None
    layout: Annotated[
        Layout | None, typer.Option("--layout", help="nhwc: channels last.  [default: by file name]", show_default=False)
    ] = None
    runtime: Annotated[
        Runtime | None, typer.Option("--runtime", help="[default: by file name; dynamo is compiled]", show_default=False)
    ] = None
    training: Annotated[bool, typer.Option("--training", help="Rows are training steps, of SGD.  [default: by file name]")] = (
        False
    )
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="OURS=THEIRS",
            help="Name of a column: model, size, batch, params, and s, ms or us. Repeat.",
            show_default=False,
        ),
    ] = None
    own: Annotated[
        bool, typer.Option("--own-models", help="Rows may name code of your own (net.py:Net), which is then run.")
    ] = False

    def given(self) -> bool:
        """Whether any was."""
        return self != TableOptions()


class SampleOptions(Group, frozen=True):
    """Which rows, and by how many processes."""

    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="A sample of N rows.", show_default=False)
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of the sample.  [default: 0]", show_default=False)
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Processes.  [default: cores, at most 4]", show_default=False),
    ] = None


class FileOptions(Group, frozen=True):
    """Constants that are read or fitted, and the plot."""

    plot: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Scatter plot: .png, .svg or .pdf; of --leave-out the report: .json, .csv or .md.",
            show_default=False,
        ),
    ] = None
    dark: Dark = False
    leave_out: Annotated[
        bool,
        typer.Option("--leave-out", help="Predict each device by constants fitted to the others' tables (takes minutes)."),
    ] = False
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            "--uncertainty",
            metavar="FILE",
            help="With --leave-out: what its rows say of how sure predictions are, as TOML.",
            show_default=False,
        ),
    ] = None
    fit: Annotated[
        Path | None,
        typer.Option(
            "--fit", metavar="FILE", help="Fit the model's constants to all the tables into a TOML file.", show_default=False
        ),
    ] = None
    constants: Annotated[
        Path | None,
        typer.Option("--constants", metavar="FILE", help="Use these instead of the shipped ones.", show_default=False),
    ] = None
