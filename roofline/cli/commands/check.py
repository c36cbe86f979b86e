"""`roofline check`: models held to their budgets."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from roofline.analysis.metrics import by_limit
from roofline.cli import published
from roofline.cli.groups import Group
from roofline.cli.options import Debug, Json, LimitOptions, NoCache, OneDevice, PassOptions, PlaceOptions
from roofline.cli.saved import one
from roofline.cli.steps import many, taken
from roofline.cli.terminal import note, out, out_json, painter
from roofline.errors import RooflineError, UsageError

if TYPE_CHECKING:
    from roofline.analysis.budgets import Budget
    from roofline.analysis.limits import Verdict
    from roofline.gate.bases import Bases
    from roofline.records import Analysis
    from roofline.request import Request

_T = TypeVar("_T")

SHORT = "Hold models to their budgets; exit 1 if one is broken."
ORDER = 4
# what is worse where there is more of it, and then the rest
LISTS = {"limits": lambda: sorted(by_limit(), key=lambda key: not by_limit()[key].cost)}


class AgainstOptions(Group, frozen=True):
    """What changes are measured from, and what is taken as intended."""

    since: Annotated[
        str | None,
        typer.Option("--since", metavar="REV", show_default=False, help="Changes are from this tag, branch or commit of git."),
    ] = None
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="REV", show_default=False, help="Changes are from the merge base with this branch."),
    ] = None
    accept: Annotated[
        str | None,
        typer.Option(
            "--accept",
            metavar="WHY",
            show_default=False,
            help="Limits on changes break nothing, for a reason that is told.",
        ),
    ] = None
    update: Annotated[bool, typer.Option("--update", help="Show what changed, and write it into the baseline.")] = False


class ReportOptions(Group, frozen=True):
    """Which budgets, and what the verdicts are written as."""

    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", show_default=False, help="Only this budget or model; a pattern has *. Repeat."),
    ] = None
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first budget that is broken or fails.")] = False
    json: Json = False
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            show_default=False,
            help="Also write a report: .json, .md, .xml (JUnit), .sarif; of budgets .jsonl (history), badge.json too. Repeat.",
        ),
    ] = None
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of FILE, for editors, and check nothing.")] = (
        False
    )
    github: Annotated[
        bool, typer.Option("--github", help="Also print broken limits as GitHub annotations (on by itself in GitHub Actions).")
    ] = False


def run(  # long: the help of the command
    file: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="Budget file, or a folder: all in it and below.  [default: roofline.toml, else pyproject.toml]",
        ),
    ] = None,
    *,
    docs: Annotated[
        bool,
        typer.Option("--docs", help="FILE... is Markdown: hold the cells of its marked tables to what is computed."),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, metavar="N", show_default=False, help="Models at a time.  [default: the cores, at most 4]"
        ),
    ] = None,
    device: OneDevice = None,
    place: PlaceOptions,
    what: PassOptions,
    against: AgainstOptions,
    report: ReportOptions,
    no_cache: NoCache = False,
    limits: LimitOptions,
    debug: Debug = False,
) -> None:
    """Hold models to their budgets: exit 0 if every limit is kept, 1 if one is broken.

    A model that fails costs its own line, and the others are checked. The exit code is then the
    gravest: 3 where a model failed, else 2 where one could not be asked for, else 1 or 0.

    FILE is TOML, one [[budget]] for each model and setting ([[tool.roofline.budget]] in pyproject.toml):

    \b
    [[budget]]
    model = "mobilenet_v3_large"     # or analysis = "saved.json"
    device = "rtx-4090"              # host, batch, inputs, resolution, dtype, runtime, training,
    batch = 32                       # optimizer, prefill, decode, set = { width_mult = 0.5 }
    max_macs = "7 G"
    max_params = "5.5 M"
    max_time = "5 ms"
    max_peak_memory = "500 MiB"

    or, shorter, a table with its name; a limit may be a change, from a baseline that --update writes:

    \b
    [budgets.mobilenet_v3_large]     # [tool.roofline.budgets.mobilenet_v3_large] in pyproject.toml
    macs = "217 M"
    bytes = "+2 %"
    time = { on = "t4", max = "3 ms", warn = "2.8 ms" }

    An option stands for what a budget does not say itself.

    With --docs the numbers of published tables are held to what is computed, and mended by --update:

    \b
    <!-- roofline: device=t4 batch=32 -->
    | Model    | MACs    | Time    |
    | -------- | ------- | ------- |
    | resnet50 | 130.9 G | 31.7 ms |

    \b
    Limits: {limits}. A limit on FLOPs or time is broken where an op has no FLOP rule, unless allow_unknown = true.
    """
    limits.apply()
    from roofline.analysis import budgets
    from roofline.analysis import limits as rules
    from roofline.gate.patterns import told_apart
    from roofline.views import checked, gate

    json = report.json
    if json and report.github:
        raise UsageError("--github prints annotations beside the table, and --json one document: leave one of them out")
    _alone(against, report.fail_fast)
    given = {**({"device": device} if device else {}), **place.given(), **what.given()}
    if docs:
        _without(against, report)
        published.tables(
            file or (),
            given,
            only=report.only or (),
            output=report.output or (),
            update=against.update,
            json=json,
            github=report.github,
            cache=not no_cache,
            jobs=jobs,
            failed=_failed(debug),
        )
        return
    named = _one(file or ())
    if report.schema:
        from roofline.analysis.schema import schema

        out_json(schema(inside=named is not None and named.name == "pyproject.toml"))
        return
    targets = gate.targets(report.output or ())
    where = str(named or "")
    annotates = not json and (report.github or os.environ.get("GITHUB_ACTIONS") == "true")
    with _reported(where, targets, annotates):
        paths = budgets.budget_files(named)
        read, refused = _each(paths, lambda path: _read(path, given, cache=not no_cache), len(paths) == 1)
        wanted = budgets.chosen(told_apart([b for some in read.values() for b in some]), report.only or ()) if read else []
        bases, notes, more = _bases(against, wanted, jobs, len(paths) == 1)
    refused += more
    wanted = [b for b in wanted if b.file not in {v.budget for v in more}]
    found, analyses = _checked(wanted, bases, against.accept or "", report.fail_fast, jobs, _failed(debug))
    skipped = len(wanted) - len(found)
    found = refused + found
    if against.update:
        notes += _update(found, analyses, bool(report.only), json)
    document = gate.document(found, skipped, notes, where)
    if json:
        out_json(document)
    else:
        out(checked.verdicts(found, painter(), skipped))
        if annotates:
            out(checked.github(found))
        for text in notes:
            note(text)
    gate.write(targets, document, found)
    if document["exit_code"]:
        raise rules.failure(found, str(paths[0] if len(paths) == 1 else named))


@contextmanager
def _reported(where: str, targets: Sequence[Path], annotates: bool) -> Iterator[None]:
    """Around what all budgets wait for: what is wrong there is in the reports too, where nobody reads what a job prints."""
    try:
        yield
    except RooflineError as error:
        from roofline.gate.run import refused
        from roofline.views import checked, gate

        found = [refused(where or "roofline.toml", error)]
        if annotates:
            out(checked.github(found))
        gate.write(targets, gate.document(found, named=where), found)
        raise


def _each(paths: Sequence[Path], do: Callable[[Path], _T], alone: bool) -> tuple[dict[Path, _T], list[Verdict]]:
    """What it gives for each file, and verdicts on those that are refused; where one is `alone`, that is raised."""
    from roofline.gate.run import refused

    found: dict[Path, _T] = {}
    failed = []
    for path in paths:
        try:
            found[path] = do(path)
        except RooflineError as error:
            if alone:
                raise
            failed.append(refused(str(path), error))
    return found, failed


def _read(path: Path, given: dict[str, Any], *, cache: bool) -> list[Budget]:
    from roofline.analysis.budgets import load_budgets
    from roofline.gate.patterns import expanded

    return expanded(load_budgets(path, given, cache=cache))


def _failed(debug: bool) -> Callable[[Exception], None]:
    """What is told of every exception that costs a line of its own."""
    return traceback.print_exception if debug else lambda error: None


def _one(named: Sequence[Path]) -> Path | None:
    """The budget file. Raises UsageError for several."""
    if len(named) > 1:
        what = "--docs takes several Markdown files" if named[1].suffix.lower() == ".md" else "a folder stands for all in it"
        raise UsageError(f"{named[0]} and {named[1]}: name one budget file; {what}")
    return named[0] if named else None


def _without(against: AgainstOptions, report: ReportOptions) -> None:
    """Raises UsageError for options that say nothing of tables."""
    options: dict[str, Any] = {"since": against.since, "against": against.against, "accept": against.accept}
    options |= {"fail-fast": report.fail_fast, "schema": report.schema}
    for name, value in options.items():
        if value:
            raise UsageError(f"--{name} is about budgets, and --docs checks tables: leave one of them out")


def _alone(against: AgainstOptions, fail_fast: bool) -> None:
    """Raises UsageError for options of which one would have no effect."""
    given = [f"--{name}" for name in ("since", "against", "update") if getattr(against, name)]
    if len(given) > 1:
        raise UsageError(f"{given[0]} beside {given[1]}: changes are from one base, and --update makes it; leave one out")
    if against.update and fail_fast:
        raise UsageError("--fail-fast beside --update: a baseline is made of all, and not of those before the first that fails")
    if against.accept is not None and not against.accept.strip():
        raise UsageError('--accept: say why, such as --accept "attention in every block, #123"')


def _bases(
    against: AgainstOptions, wanted: Sequence[Budget], jobs: int | None, alone: bool
) -> tuple[Bases, list[str], list[Verdict]]:
    """What changes are from, by the place of a budget, notes about that, and verdicts on files whose baseline is refused."""
    from roofline.analysis.budgets import baseline_of
    from roofline.analysis.limits import Base
    from roofline.gate import bases, revisions

    def analyse(asked: Sequence[Request]) -> Iterator[Analysis | Exception]:
        return many(asked, jobs)

    if against.update:
        return {b.place: Base(why="this baseline is made now") for b in wanted}, [], []
    asking = bases.needed(wanted)
    name = against.since or against.against
    if name and not asking:
        return {}, [f"no limit is on a change, so nothing was measured from {name}"] if wanted else [], []
    if name:
        at = str(Path(asking[0].file).parent)
        which = revisions.revision(name, at) if against.since else revisions.merge_base(name, at=at)
        return bases.at_revision(which, asking, analyse), [], []
    files = [Path(file) for file in dict.fromkeys(b.file for b in asking)]
    known, refused = _each(
        files,
        lambda path: bases.of_baseline(baseline_of(path), [b for b in asking if b.file == str(path)], analyse),
        alone,
    )
    found = {key: base for some, _ in known.values() for key, base in some.items()}
    return found, [said for _, said in known.values() if said], refused


def _checked(
    wanted: Sequence[Budget],
    bases: Bases,
    accept: str,
    fail_fast: bool,
    jobs: int | None,
    failed: Callable[[Exception], None],
) -> tuple[list[Verdict], dict[tuple[str, str], tuple[Budget, Analysis]]]:
    """The verdicts, and the analyses that could be made, by the place of their budget."""
    from roofline.gate.run import verdicts

    answers = many([b.request for b in wanted if b.request], jobs)

    def analyse(budget: Budget) -> Analysis:
        return taken(answers) if budget.request else one(Path(budget.analysis))

    found: list[Verdict] = []
    analyses: dict[tuple[str, str], tuple[Budget, Analysis]] = {}
    for budget, (verdict, analysis) in zip(
        wanted, verdicts(wanted, analyse, bases, accepted=accept, failed=failed), strict=False
    ):
        found.append(verdict)
        if analysis is not None:
            analyses[budget.place] = budget, analysis
        if fail_fast and not verdict.ok:
            break
    return found, analyses


def _update(
    found: Sequence[Verdict], analyses: dict[tuple[str, str], tuple[Budget, Analysis]], some: bool, silent: bool
) -> list[str]:
    """Write the baselines; what is said about it."""
    from roofline.analysis.budgets import baseline_of
    from roofline.gate import baseline
    from roofline.views import checked, files

    said: list[str] = []
    contents: dict[Path, bytes] = {}
    for path in dict.fromkeys(budget.file for budget, _ in analyses.values()):
        target = baseline_of(Path(path))
        failed = any(v.error for v in found if v.file == path)
        try:
            before = baseline.read(target)
        except UsageError as error:
            note(f"{str(error).splitlines()[0]}: it is written anew")
            before = None
        same = before is not None and before.made_with == baseline.made_with()
        old: dict[str, Any] = dict(before.budgets) if before is not None else {}
        # what was not asked for, or could not be made, stays; but not beside numbers of another program
        keep = old if same and (some or failed) else {}
        if (some or failed) and old and not same:
            raise UsageError(f"{target}: made with other versions, so all of it has to be made again, and not a part")
        new = {b.key: baseline.entry(a) for b, a in analyses.values() if b.file == path and b.request is not None}
        if not silent:
            was, now = ({key: entry.totals for key, entry in side.items()} for side in (old, keep | new))
            out(checked.baseline(was, now, painter()))
        contents[target] = baseline.text(keep | new).encode()
        said.append(f"wrote {target}")
    files.write_all(contents)
    return said
