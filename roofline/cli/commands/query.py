"""`roofline query`: which rows of a sweep meet a condition, the best first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roofline.cli.options import Dark, Debug, Json, SizeOption, TableOutput
from roofline.cli.steps import paper, table_files
from roofline.cli.terminal import note, out, painter
from roofline.views import files

if TYPE_CHECKING:
    from roofline.sweeps.query import Found

SHORT = "Ask the rows of a sweep."
ORDER = 3.6
# Rows that a terminal is shown where nobody says how many; a pipe gets all.
_SCREEN = 40


def run(  # long: an option each
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", show_default=False, help="Files or folders that `roofline sweep` wrote.")
    ],
    *,
    condition: Annotated[
        str | None,
        typer.Option("--where", metavar="CONDITION", help="Such as 'params < 10 M and time < 5 ms and device = t4'."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="NAME,...", help="The better first; min:NAME and max:NAME say which that is."),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="Only the first N.", show_default=False)] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            "--pareto", metavar="A,B", help="Only what no other of its device and setting beats in both: time,accuracy."
        ),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE.csv", help="Your own numbers: a column of models, then columns with a name each."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="NAME,...", help="What to show.  [default: what tells the rows apart]")
    ] = None,
    output: TableOutput = None,
    size: SizeOption = None,
    dark: Dark = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The rows of a sweep that meet a condition. Numbers have units; * in a text stands for anything.

    \b
    roofline query zoo.parquet --where "params < 10 M and time < 5 ms" --sort throughput --top 20
    roofline query zoo.parquet --where "device = t4 and batch = 1" --with accuracy.csv --pareto time,accuracy -o front.png
    roofline query zoo/ --where "status != ok" -o failures.csv
    """
    from roofline.analysis import own as numbers
    from roofline.sweeps import query
    from roofline.views import rows

    targets = table_files(output, "an answer")
    look = paper(size, dark, {path.suffix.lower() for path in targets})
    question = query.Question(
        where=condition or "",
        sort=sort or "",
        top=top,
        pareto=pareto or "",
        own=numbers.table(str(own)) if own else None,
        columns=tuple(name.strip() for name in columns.split(",")) if columns else (),
    )
    found = query.ask(paths, question)
    contents = {path: _content(found, path, look) for path in targets}
    most = _SCREEN if top is None and sys.stdout.isatty() else None
    out(rows.to_json(found) if json else rows.render(found, painter(), most))
    files.write_all(contents)
    for path in contents:
        note(f"wrote {path}")


def _content(found: Found, path: Path, look: files.Look) -> bytes:
    from roofline.views import rows, scatter

    suffix = path.suffix.lower()
    if suffix in files.FRONTS:
        from roofline.views.page import front

        return files.fronted(path, scatter.of_rows(found), lambda: front.of_rows(found), look)
    return rows.to_json(found) if suffix == ".json" else (rows.to_csv if suffix == ".csv" else rows.to_markdown)(found).encode()
